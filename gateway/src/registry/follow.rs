//! How does the table keep up with the registry?
//!
//! ```text
//!   list ──► fold ──► publish ──► watch ──changes──► fold ──► publish
//!    ▲                             │ └── presence of gateways: nothing to publish
//!    └── back-off 100 ms → 5 s ◄── lost, or 10 min over
//! ```
//!
//! Losing the registry changes nothing: the last table stays, and only the next *successful* listing
//! can take something out of it. The revision advances on events and on the store's own word, never
//! on a timeout.

use super::{
    Change, Entry, Error, Listing, Registry, Update,
    fold::{Entries, Fold},
    keys::Prefix,
};
use crate::table::{Source, Table};
use rand::Rng as _;
use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Back-off after a loss, with full jitter: from here …
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// … doubling up to here.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A watch is not trusted for ever: list and compare this often, ± 20 %.
const RELIST: Duration = Duration::from_secs(600);

/// How fresh the table is.
#[derive(Debug, Clone, Default)]
pub struct Freshness {
    /// Revision up to which every change is known, presence of gateways included; 0: none yet.
    pub revision: i64,
    /// When the registry last said so.
    pub confirmed: Option<Instant>,
    /// What went wrong since; `None` while all is well.
    pub error: Option<Error>,
}

/// Lets others see what the follower knows. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Status {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    prefix: Prefix,
    freshness: Freshness,
    entries: Entries,
}

impl Status {
    /// How fresh the table is.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.known().freshness.clone()
    }

    /// Every entry below the prefix, as last heard of.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.known().entries.values().cloned().collect()
    }

    /// Gateways that are present, as last heard of.
    #[must_use]
    pub fn gateways(&self) -> u32 {
        let known = self.known();
        let present = known.entries.keys().filter(|key| known.prefix.is_presence(key)).count();
        u32::try_from(present).unwrap_or(u32::MAX)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the table until `shutdown`: the status, and the future that does the work.
///
/// `publish` gets the first table after the first successful listing and another one after each
/// change; `base` is part of each of them.
pub fn follow(
    registry: Arc<dyn Registry>,
    prefix: Prefix,
    base: Table,
    source: Source,
    publish: impl FnMut(Arc<Table>),
    shutdown: CancellationToken,
) -> (Status, impl Future<Output = ()>) {
    let status = Status::default();
    status.known().prefix = prefix.clone();
    let follower = Follower {
        registry,
        fold: Fold::new(prefix.clone(), base, source),
        prefix,
        status: status.clone(),
        publish,
        published: false,
    };
    let run = async move { shutdown.run_until_cancelled(follower.run()).await.unwrap_or_default() };
    (status, run)
}

struct Follower<P> {
    registry: Arc<dyn Registry>,
    prefix: Prefix,
    fold: Fold,
    status: Status,
    publish: P,
    published: bool,
}

impl<P: FnMut(Arc<Table>)> Follower<P> {
    async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let error = match self.round(&mut backoff).await {
                Ok(()) => continue,
                Err(error) => error,
            };
            // Said once a loss, not once a try.
            match self.status.known().freshness.error.replace(error.clone()) {
                None => tracing::warn!(%error, "the registry is lost; the last table stays in force"),
                Some(_) => tracing::debug!(%error, "the registry is still lost"),
            }
            tokio::time::sleep(jittered(backoff, 0.0..1.0)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Lists and watches until it is time to list again, or the watch is lost.
    async fn round(&mut self, backoff: &mut Duration) -> Result<(), Error> {
        let root = self.prefix.root();
        let listing = self.registry.list(&root).await?;
        let revision = listing.revision;
        self.relisted(listing);
        let mut updates = self.registry.watch(&root, revision).await?;
        let relist = tokio::time::sleep(jittered(RELIST, 0.8..1.2));
        tokio::pin!(relist);
        loop {
            let update = tokio::select! {
                update = updates.recv() => update,
                () = &mut relist => return Ok(()),
            };
            let changed = self.take(update, &mut updates)?;
            // Only a watch that delivers proves that the registry is back.
            *backoff = BACKOFF_MIN;
            if changed {
                self.publish();
            }
        }
    }

    /// Replaces everything by a listing; what is not in it is gone.
    fn relisted(&mut self, listing: Listing) {
        let changed = {
            let mut known = self.status.known();
            if listing.revision < known.freshness.revision {
                let was = known.freshness.revision;
                tracing::warn!(
                    was,
                    is = listing.revision,
                    "the registry went back: it was restored or replaced"
                );
            }
            let fresh =
                listing.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect::<Entries>();
            let stale = std::mem::replace(&mut known.entries, fresh);
            let was_lost = known.freshness.error.is_some();
            known.freshness =
                Freshness { revision: listing.revision, confirmed: Some(Instant::now()), error: None };
            if was_lost {
                tracing::info!(revision = listing.revision, "the registry is back");
            }
            let shown = |(key, _): &(&String, &Entry)| !self.prefix.is_presence(key);
            !stale.iter().filter(shown).eq(known.entries.iter().filter(shown))
        };
        if changed || !self.published {
            self.publish();
        }
    }

    /// Takes an update and what else has arrived by now: many changes make one table.
    fn take(&mut self, first: Option<Update>, updates: &mut mpsc::Receiver<Update>) -> Result<bool, Error> {
        let mut changed = false;
        let mut next =
            first.unwrap_or_else(|| Update::Lost(Error::Unreachable("the watch ended".to_owned())));
        let mut known = self.status.known();
        loop {
            match next {
                Update::Heartbeat => {}
                Update::Lost(error) if changed => {
                    // What came before the loss is true: show it, then list again.
                    drop(known);
                    self.publish();
                    return Err(error);
                }
                Update::Lost(error) => return Err(error),
                Update::Changes { revision, changes } => {
                    known.freshness.revision = known.freshness.revision.max(revision);
                    changed |= apply(changes, &mut known.entries, &self.prefix);
                }
            }
            known.freshness.confirmed = Some(Instant::now());
            known.freshness.error = None;
            match updates.try_recv() {
                Ok(update) => next = update,
                Err(_) => return Ok(changed),
            }
        }
    }

    fn publish(&mut self) {
        self.published = true;
        let table = {
            let known = self.status.known();
            self.fold.table(&known.entries, known.freshness.revision)
        };
        (self.publish)(Arc::new(table));
    }
}

/// So that many gateways do not come back at the same instant.
fn jittered(delay: Duration, range: Range<f64>) -> Duration {
    delay.mul_f64(rand::rng().random_range(range))
}

/// Whether the table changes.
fn apply(changes: Vec<Change>, entries: &mut Entries, prefix: &Prefix) -> bool {
    let mut changed = false;
    for change in changes {
        let key = match change {
            Change::Put(entry) => {
                let key = entry.key.clone();
                entries.insert(key.clone(), entry);
                key
            }
            Change::Delete { key } => {
                entries.remove(&key);
                key
            }
        };
        changed |= !prefix.is_presence(&key);
    }
    changed
}

#[cfg(test)]
mod tests;

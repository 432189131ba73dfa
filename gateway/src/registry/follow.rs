//! How does the table keep up with the registry?
//!
//! ```text
//!   list ──► fold ──► publish ──► watch ──changes──► fold ──► publish
//!    ▲                             │ └── presence of gateways: nothing to publish
//!    └── back-off 100 ms → 5 s ◄── lost, or 10 min over
//! ```
//!
//! Losing the registry changes nothing: the last table stays, and only the next *successful* listing
//! can take something out of it. A gateway that starts while the registry is away begins with the copy
//! on its disk ([`super::last_known_good`]). The revision advances on events and on the store's own word, never
//! on a timeout.

use super::{
    Change, Entry, Error, Listing, Registry, Update,
    fold::{Entries, Fold},
    keys::Prefix,
    last_known_good::Saved,
};
use crate::{
    identity::Trust,
    table::{Source, Table},
};
use rand::Rng as _;
use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use suiyue_proto::identity::files::now;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Back-off after a loss, with full jitter: from here …
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// … doubling up to here.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A watch is not trusted for ever: list and compare this often, ± 20 %.
const RELIST: Duration = Duration::from_secs(600);
/// A registry that is away for this long needs a person.
const ALARM: Duration = Duration::from_secs(3600);

/// How fresh the table is.
#[derive(Debug, Clone, Default)]
pub struct Freshness {
    /// Revision up to which every change is known, presence of gateways included; 0: none yet.
    pub revision: i64,
    /// When the registry last said so.
    pub confirmed: Option<Instant>,
    /// What went wrong since; `None` while all is well.
    pub error: Option<Error>,
    /// When the copy was written that the table was made from, in milliseconds since 1970; `None` once
    /// the registry itself was heard.
    pub copied_unix_ms: Option<i64>,
}

impl Freshness {
    /// Time since the registry last said that it is so, as far back as the copy on disk goes.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let copied = self.copied_unix_ms.map(|at| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            now.saturating_sub(Duration::from_millis(u64::try_from(at).unwrap_or(0)))
        });
        self.confirmed.map(|at| at.elapsed()).or(copied)
    }

    /// When the registry last said that it is so, in milliseconds since 1970, by this machine's clock;
    /// `None`: never.
    #[must_use]
    pub fn heard_unix_ms(&self) -> Option<i64> {
        let heard = self.confirmed.map(|at| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(now.saturating_sub(at.elapsed()).as_millis()).unwrap_or(i64::MAX)
        });
        heard.or(self.copied_unix_ms)
    }
}

/// Lets others see what the follower knows. Clones see the same.
#[derive(Debug, Clone)]
pub struct Status {
    known: Arc<Mutex<Known>>,
    /// Counts up with every table that was made from what the registry said.
    changes: watch::Sender<u64>,
}

impl Default for Status {
    fn default() -> Self {
        Self { known: Arc::default(), changes: watch::Sender::new(0) }
    }
}

#[derive(Debug, Default)]
struct Known {
    prefix: Prefix,
    freshness: Freshness,
    entries: Entries,
    cluster: u64,
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

    /// The entry of a key, as last heard of.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<Entry> {
        self.known().entries.get(key).cloned()
    }

    /// Gateways that are present, as last heard of.
    #[must_use]
    pub fn gateways(&self) -> u32 {
        let known = self.known();
        let present = known.entries.keys().filter(|key| known.prefix.is_presence(key)).count();
        u32::try_from(present).unwrap_or(u32::MAX)
    }

    /// Tells when the registry said something new; presence of gateways is nothing new.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What is known now, for the disk.
    pub(super) fn saved(&self, unix_ms: i64) -> Saved {
        let known = self.known();
        Saved {
            cluster: known.cluster,
            revision: known.freshness.revision,
            unix_ms,
            entries: known.entries.clone(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a follower starts with.
pub struct Start {
    /// The registry.
    pub registry: Arc<dyn Registry>,
    /// Where its keys begin.
    pub prefix: Prefix,
    /// Part of every table: what stands in the configuration.
    pub base: Table,
    /// How tables from this registry are labelled.
    pub source: Source,
    /// The copy on disk, from the last time.
    pub copy: Option<Saved>,
    /// How certificates are judged; `None`: there are none.
    pub trust: Option<Trust>,
}

/// Keeps the table until `shutdown`: the status, and the future that does the work.
///
/// `publish` gets a table made from the copy at once, if there is one, another one after the first
/// successful listing, and another one after each change.
pub fn follow(
    start: Start,
    publish: impl FnMut(Arc<Table>),
    shutdown: CancellationToken,
) -> (Status, impl Future<Output = ()>) {
    let Start { registry, prefix, base, source, copy, trust } = start;
    let status = Status::default();
    status.known().prefix = prefix.clone();
    let follower = Follower {
        registry,
        fold: Fold::new(prefix.clone(), base, source).trusting(trust),
        prefix,
        status: status.clone(),
        publish,
        complained: BTreeSet::new(),
        listed: false,
        alarmed: false,
    };
    let run = async move { shutdown.run_until_cancelled(follower.run(copy)).await.unwrap_or_default() };
    (status, run)
}

struct Follower<P> {
    registry: Arc<dyn Registry>,
    prefix: Prefix,
    fold: Fold,
    status: Status,
    publish: P,
    /// Keys that cannot be used, with the reasons, which the log names already.
    complained: BTreeSet<(String, String)>,
    /// The registry itself was heard.
    listed: bool,
    /// It was said that the registry is away for long.
    alarmed: bool,
}

impl<P: FnMut(Arc<Table>)> Follower<P> {
    async fn run(mut self, copy: Option<Saved>) {
        if let Some(copy) = copy {
            self.begin_with(copy);
        }
        let started = Instant::now();
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
            self.alarm(started, &error);
            if self.fold.due() <= now() {
                self.publish();
            }
            tokio::time::sleep(jittered(backoff, 0.0..1.0)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Publishes what the registry said the last time, labelled.
    fn begin_with(&mut self, copy: Saved) {
        tracing::info!(
            revision = copy.revision,
            unix_ms = copy.unix_ms,
            "the table is the last known good one, until the registry answers"
        );
        {
            let mut known = self.status.known();
            known.freshness.revision = copy.revision;
            known.freshness.copied_unix_ms = Some(copy.unix_ms);
            known.cluster = copy.cluster;
            known.entries = copy.entries;
        }
        self.publish();
    }

    /// A person must act when the registry is away for long: calls go on, changes do not.
    fn alarm(&mut self, started: Instant, error: &Error) {
        let heard = self.status.freshness().confirmed.unwrap_or(started);
        if !self.alarmed && heard.elapsed() >= ALARM {
            self.alarmed = true;
            tracing::error!(%error, "the registry has been away for an hour: calls go on, changes are not seen");
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
                () = instant(self.fold.due()) => {
                    self.publish();
                    continue;
                }
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
            let cluster = self.registry.cluster();
            if known.cluster != 0 && known.cluster != cluster {
                tracing::warn!(was = known.cluster, is = cluster, "another cluster of etcd answers");
            }
            known.cluster = cluster;
            known.freshness = Freshness {
                revision: listing.revision,
                confirmed: Some(Instant::now()),
                ..Freshness::default()
            };
            if was_lost {
                tracing::info!(revision = listing.revision, "the registry is back");
            }
            let shown = |(key, _): &(&String, &Entry)| !self.prefix.is_presence(key);
            !stale.iter().filter(shown).eq(known.entries.iter().filter(shown))
        };
        self.alarmed = false;
        let first = !std::mem::replace(&mut self.listed, true);
        if changed || first {
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
        let mut table = {
            let known = self.status.known();
            self.fold.table(&known.entries, known.freshness.revision)
        };
        self.complain(&table);
        if self.listed {
            self.status.changes.send_modify(|count| *count += 1);
        } else {
            table.source = Source::LastKnownGood;
        }
        (self.publish)(Arc::new(table));
    }

    /// Names what has newly become unusable.
    fn complain(&mut self, table: &Table) {
        let now: BTreeSet<_> =
            table.quarantined.iter().map(|bad| (bad.key.clone(), bad.reason.clone())).collect();
        for (key, reason) in now.difference(&self.complained) {
            tracing::warn!(key, reason, "a key of the registry cannot be used");
        }
        self.complained = now;
    }
}

/// Until an instant of the wall clock, in seconds since 1970-01-01 UTC.
async fn instant(unix_s: i64) {
    // Clocks are set: a far instant is looked at again every hour.
    while let Ok(left @ 1..) = u64::try_from(unix_s.saturating_sub(now())) {
        tokio::time::sleep(Duration::from_secs(left.min(3600))).await;
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

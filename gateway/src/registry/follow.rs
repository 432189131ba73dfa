//! How does the table keep up with the registry?
//!
//! ```text
//!   list ──► books ──► fold ──► publish ──► watch ──changes──► books ──► fold ──► publish
//!    ▲                                       │ └── presence of gateways: nothing to publish
//!    └──────── back-off 100 ms → 5 s ◄────── lost, or 10 min over
//! ```
//!
//! Losing the registry changes nothing: the last table stays, and an absence is applied as far as the
//! guard believes it ([`super::guard`]). A gateway that starts while the registry is away begins with the
//! copy on its disk ([`super::last_known_good`]), or else with that of another gateway
//! ([`super::peers`]). The revision advances on events and on the store's own word, never on a timeout.
//!
//! After every loss everything is listed again, even where the watch could go on from its revision: a
//! store that was wiped and has grown past that revision would go on just as well, and nobody would
//! notice.

mod status;

pub use status::{ALARMS, Alarm, Freshness, Present, Status};

use super::{
    Change, Error, Listing, Registry, Update,
    books::Books,
    fold::Fold,
    keys::{Key, Part, Prefix},
    last_known_good::Saved,
    peers::Peers,
};
use crate::{
    identity::Trust,
    table::{Source, Table},
};
use rand::Rng as _;
use status::ALARM;
use std::{collections::BTreeSet, ops::Range, sync::Arc, time::Duration};
use suiyue_proto::identity::files::now;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Back-off after a loss, with full jitter: from here …
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// … doubling up to here.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A watch is not trusted for ever: list and compare this often, ± 20 %.
const RELIST: Duration = Duration::from_secs(600);

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
    /// Gateways that are asked when there is neither a registry nor a copy.
    pub peers: Peers,
}

/// Keeps the table until `shutdown`: the status, and the future that does the work.
///
/// `publish` gets a table made from the copy before this returns, if there is one, another one after the
/// first successful listing, and another one after each change.
pub fn follow(
    start: Start,
    publish: impl FnMut(Arc<Table>),
    shutdown: CancellationToken,
) -> (Status, impl Future<Output = ()>) {
    let Start { registry, prefix, base, source, copy, trust, peers } = start;
    let fixed: Vec<_> = base.nodes.values().flat_map(|node| node.scopes.iter().copied()).collect();
    let status = Status::new(prefix.clone(), Books::new(prefix.clone(), fixed));
    let mut follower = Follower {
        registry,
        fold: Fold::new(prefix.clone(), base, source).trusting(trust),
        prefix,
        status: status.clone(),
        publish,
        peers,
        begun: None,
        complained: BTreeSet::new(),
        alarmed: false,
    };
    let copied = copy.is_some();
    if let Some(copy) = copy {
        follower.begin_with(copy, Source::LastKnownGood);
    }
    let run = async move { shutdown.run_until_cancelled(follower.run(copied)).await.unwrap_or_default() };
    (status, run)
}

struct Follower<P> {
    registry: Arc<dyn Registry>,
    prefix: Prefix,
    fold: Fold,
    status: Status,
    publish: P,
    peers: Peers,
    /// What the table was made from before the registry was heard.
    begun: Option<Source>,
    /// Keys that cannot be used, with the reasons, which the log names already.
    complained: BTreeSet<(String, String)>,
    /// It was said that the registry is away for long.
    alarmed: bool,
}

impl<P: FnMut(Arc<Table>)> Follower<P> {
    /// `copied`: there was a copy on disk, and nobody else has to be asked.
    async fn run(mut self, copied: bool) {
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
            self.alarm(&error);
            if !copied && self.status.books(Books::revision) == 0 {
                self.ask_peers(&error).await;
            }
            let until = Instant::now() + jittered(backoff, 0.0..1.0);
            while self.idle(until).await == Idle::Changed {
                self.publish();
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Publishes what the registry said the last time, labelled.
    fn begin_with(&mut self, copy: Saved, source: Source) {
        let (revision, unix_ms) = (copy.revision, copy.unix_ms);
        {
            let mut known = self.status.known();
            let Saved { cluster, revision, unix_ms, entries, held } = copy;
            if !known.books.begin(entries, held, (cluster, revision), Instant::now()) {
                return;
            }
            known.freshness.revision = revision;
            known.freshness.copied_unix_ms = Some(unix_ms);
            known.waiting = None;
        }
        tracing::info!(revision, unix_ms, ?source, "this is the table until the registry answers");
        self.begun = Some(source);
        self.publish();
    }

    /// Neither a registry nor a copy: another gateway may know.
    async fn ask_peers(&mut self, error: &Error) {
        match self.peers.newest(&self.prefix).await {
            Ok(saved) => self.begin_with(saved, Source::Peer),
            Err(peers) => {
                let waiting = format!("{error}; there is no copy on disk; {peers}");
                let new = self.status.known().waiting.replace(waiting.clone()) != Some(waiting.clone());
                if new {
                    tracing::warn!(waiting, "there is no table yet");
                }
            }
        }
    }

    /// A person must act when the registry is away for long: calls go on, changes do not.
    fn alarm(&mut self, error: &Error) {
        let away = self.status.known().away();
        if !self.alarmed && away >= ALARM {
            self.alarmed = true;
            tracing::error!(%error, "the registry has been away for an hour: calls go on, changes are not seen");
        }
    }

    /// Waits until then, or until an operator or the clock has changed what is applied.
    async fn idle(&self, until: Instant) -> Idle {
        let next = self.status.books(Books::next);
        let due = next.map_or(until, |next| next.min(until));
        // A certificate that ends while the table is frozen closes its connections all the same.
        let frozen = self.status.books(|books| books.freeze().is_some());
        tokio::select! {
            () = self.status.ordered.notified() => return Idle::Changed,
            () = instant(self.fold.due()), if !frozen => return Idle::Changed,
            () = tokio::time::sleep_until(due) => {}
        }
        let now = Instant::now();
        if self.status.known().books.tick(now) {
            tracing::warn!("entries were held for long enough: their absence is applied");
            return Idle::Changed;
        }
        if now >= until { Idle::Over } else { Idle::Nothing }
    }

    /// Lists and watches until it is time to list again, or the watch is lost.
    async fn round(&mut self, backoff: &mut Duration) -> Result<(), Error> {
        let root = self.prefix.root();
        let listing = self.registry.list(&root).await?;
        let revision = listing.revision;
        self.relisted(listing);
        let mut updates = self.registry.watch(&root, revision).await?;
        let relist = Instant::now() + jittered(RELIST, 0.8..1.2);
        loop {
            let update = tokio::select! {
                update = updates.recv() => update,
                idle = self.idle(relist) => match idle {
                    Idle::Over => return Ok(()),
                    Idle::Nothing => continue,
                    Idle::Changed => {
                        self.publish();
                        continue;
                    }
                },
            };
            let changed = self.take(update, &mut updates)?;
            // Only a watch that delivers proves that the registry is back.
            *backoff = BACKOFF_MIN;
            if changed {
                self.publish();
            }
        }
    }

    /// Compares everything with a listing.
    fn relisted(&mut self, listing: Listing) {
        let cluster = self.registry.cluster();
        let (listed, first) = {
            let mut known = self.status.known();
            let revision = listing.revision;
            let listed = known.books.list(listing, cluster, Instant::now());
            let was_lost = known.freshness.error.is_some();
            known.freshness = Freshness { revision, confirmed: Some(Instant::now()), ..Freshness::default() };
            known.waiting = None;
            if was_lost {
                tracing::info!(revision, "the registry is back");
            }
            (listed, !std::mem::replace(&mut known.listed, true))
        };
        if let Some(restored) = listed.restored {
            let held = self.status.held().len();
            tracing::error!(why = %restored, held,
                "the registry was restored or replaced: what was known before is held until `suiyue registry accept`");
        }
        self.alarmed = false;
        if listed.changed || listed.restored.is_some() || first {
            self.publish();
        }
    }

    /// Takes an update and what else has arrived by now: many changes make one table.
    fn take(&mut self, first: Option<Update>, updates: &mut mpsc::Receiver<Update>) -> Result<bool, Error> {
        let mut changed = false;
        let mut next =
            first.unwrap_or_else(|| Update::Lost(Error::Unreachable("the watch ended".to_owned())));
        loop {
            match self.note(next) {
                Ok(more) => changed |= more,
                Err(error) if changed => {
                    // What came before the loss is true: show it, then list again.
                    self.publish();
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
            match updates.try_recv() {
                Ok(update) => next = update,
                Err(_) => return Ok(changed),
            }
        }
    }

    /// Enters one update into the books; whether what is applied has changed.
    fn note(&self, update: Update) -> Result<bool, Error> {
        let mut known = self.status.known();
        let mut changed = false;
        match update {
            Update::Heartbeat => {}
            Update::Lost(error) => return Err(error),
            Update::Changes { revision, changes, before } => {
                for change in &changes {
                    if let Change::Put(entry) = change {
                        known.note_clock(entry);
                    }
                }
                let held = known.books.held().len();
                let taken = known.books.take(revision, changes, &before, Instant::now());
                changed = taken.map_err(|missed| Error::Unreachable(missed.to_string()))?;
                known.freshness.revision = known.freshness.revision.max(revision);
                let now = known.books.held().len();
                if now > held {
                    tracing::warn!(
                        held = now,
                        "entries vanished from the registry unexplained: they are held"
                    );
                }
            }
        }
        known.freshness.confirmed = Some(Instant::now());
        known.freshness.error = None;
        Ok(changed)
    }

    fn publish(&mut self) {
        let (mut table, listed) = {
            let known = self.status.known();
            // A freeze began with a table: that one stays. Who is revoked is out all the same: connections
            // are held to the roll.
            if known.books.freeze().is_some() {
                self.fold.learn(known.books.heard());
                return;
            }
            // Of trust the registry's own word counts at once, whatever is held: a record can only be replaced
            // by a newer one, and who is revoked must be out.
            if !known.books.held().is_empty() {
                self.fold.learn(known.books.heard());
            }
            let mut table = self.fold.table(&known.books.applied(), known.freshness.revision);
            table.hash = known.books.digest().hex();
            table.histories = known.books.histories();
            table.stale = stale(&self.prefix, &known.books, &table);
            (table, known.listed)
        };
        self.complain(&table);
        if listed {
            self.status.changes.send_modify(|count| *count += 1);
        } else if let Some(begun) = self.begun {
            table.source = begun;
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

/// What happened while nothing came from the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Idle {
    /// What is applied has changed.
    Changed,
    /// Nothing, and the time is not over.
    Nothing,
    /// The time is over.
    Over,
}

/// Endpoints of which something is held: their own entry, or what their node has declared.
fn stale(prefix: &Prefix, books: &Books, table: &Table) -> BTreeSet<(Arc<str>, Arc<str>)> {
    let mut stale = BTreeSet::new();
    for key in books.held().keys() {
        let Ok(Key::Node { region, node, part }) = prefix.parse(key) else { continue };
        let Some(node) = table.nodes.get(node.as_str()).filter(|node| node.region == region) else {
            continue;
        };
        let held = node.endpoints.iter().filter(|endpoint| match &part {
            Part::Live(name) => **name == *endpoint.name,
            Part::Spec | Part::Keys => true,
            Part::Intent | Part::Gone(_) => false,
        });
        stale.extend(held.map(|endpoint| (node.name.clone(), endpoint.name.clone())));
    }
    stale
}

/// So that many gateways do not come back at the same instant.
fn jittered(delay: Duration, range: Range<f64>) -> Duration {
    delay.mul_f64(rand::rng().random_range(range))
}

#[cfg(test)]
mod tests;

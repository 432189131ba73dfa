//! Where are all the statuses?
//!
//! In memory: 16 bytes of subject and one of level a holder, in hash tables that take 21 to 42
//! bytes a holder, depending on how full they are. Only a decided status carries more.
//! A region is split into shards, so that a reader never waits for more than one short write.
//! Decisions are applied by their place in the log: whatever the order of arrival, the last place
//! wins.

use crate::population::{Holder, Subject, half, mix};
use crate::store::{Decision, Place};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use suiyue_proto::region::Code;
use suiyue_proto::sy1::Level;
use tokio::sync::broadcast;

const SHARDS: usize = 64;
// Changes of one holder that a slow watcher may lag behind before it is given the latest only.
const WATCH_LAG: usize = 16;

/// The status of a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// The level.
    pub level: Level,
    /// When it was decided or loaded, in milliseconds since 1970-01-01 UTC.
    pub decided_unix_ms: i64,
    /// Why; empty for a status that was loaded.
    pub reason: String,
    /// The deciding entry of the log; `None` for a status that was loaded.
    pub place: Option<Place>,
}

impl Current {
    /// The status that a decision makes.
    #[must_use]
    pub fn decided(place: Place, decision: &Decision) -> Self {
        Self {
            level: decision.level,
            decided_unix_ms: decision.decided_unix_ms,
            reason: decision.reason.clone(),
            place: Some(place),
        }
    }
}

/// Subjects are HMACs, so any eight of their bytes would hash well; mixing both halves costs little
/// and also serves subjects that are not.
#[derive(Debug, Default)]
struct SubjectHasher(u64);

impl Hasher for SubjectHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Ok(subject) = bytes.try_into() {
            self.0 = fold(subject);
        } else {
            self.0 = bytes.iter().fold(self.0, |hash, byte| mix(hash ^ u64::from(*byte)));
        }
    }

    // The length that precedes an array says nothing.
    fn write_usize(&mut self, _: usize) {}
}

fn fold(subject: &Subject) -> u64 {
    mix(u64::from_le_bytes(half(subject, 0)) ^ u64::from_le_bytes(half(subject, 8)).rotate_left(29))
}

type BySubject<T> = HashMap<Subject, T, BuildHasherDefault<SubjectHasher>>;

#[derive(Debug, Default)]
struct Shard {
    levels: BySubject<Level>,
    decided: BySubject<Decided>,
    watchers: BySubject<broadcast::Sender<Current>>,
}

#[derive(Debug)]
struct Decided {
    place: Place,
    decided_unix_ms: i64,
    reason: Box<str>,
}

#[derive(Debug)]
struct Region {
    shards: Box<[RwLock<Shard>]>,
    loaded_unix_ms: AtomicI64,
}

/// All holders of all regions in scope.
#[derive(Debug)]
pub struct Table {
    regions: BTreeMap<Code, Region>,
}

impl Table {
    /// A table with room for these regions and no others.
    #[must_use]
    pub fn new(scopes: &[Code]) -> Self {
        let shards = || (0..SHARDS).map(|_| RwLock::default()).collect();
        let region = || Region { shards: shards(), loaded_unix_ms: AtomicI64::new(0) };
        Self { regions: scopes.iter().map(|code| (*code, region())).collect() }
    }

    /// Makes room for holders that are about to be loaded.
    pub fn reserve(&self, region: Code, holders: u64) {
        let Some(region) = self.regions.get(&region) else { return };
        let each = usize::try_from(holders).unwrap_or(usize::MAX) / SHARDS;
        for shard in &region.shards {
            write(shard).levels.reserve(each + each / 32);
        }
    }

    /// Adds a holder, or replaces the loaded level. Holders of other regions are passed over.
    pub fn load(&self, holder: &Holder) {
        if let Some(shard) = self.shard(holder.region, &holder.subject) {
            write(shard).levels.insert(holder.subject, holder.level);
        }
    }

    /// The region is loaded.
    pub fn loaded(&self, region: Code, now_unix_ms: i64) {
        if let Some(region) = self.regions.get(&region) {
            region.loaded_unix_ms.store(now_unix_ms, Ordering::Release);
        }
    }

    /// Holders of a region.
    #[must_use]
    pub fn holders(&self, region: Code) -> usize {
        let shards = self.regions.get(&region).map_or(&[][..], |region| &region.shards);
        shards.iter().map(|shard| read(shard).levels.len()).sum()
    }

    /// The level alone: what showing and verifying need.
    #[must_use]
    pub fn level(&self, region: Code, subject: &Subject) -> Option<Level> {
        read(self.shard(region, subject)?).levels.get(subject).copied()
    }

    /// The whole status.
    #[must_use]
    pub fn current(&self, region: Code, subject: &Subject) -> Option<Current> {
        let loaded = self.regions.get(&region)?.loaded_unix_ms.load(Ordering::Acquire);
        read(self.shard(region, subject)?).current(subject, loaded)
    }

    /// Applies a decision unless a later one is known. A holder that is not loaded is added: the
    /// authority has decided about it.
    pub fn apply(&self, place: Place, decision: &Decision) {
        let Some(shard) = self.shard(decision.region, &decision.subject) else { return };
        let mut shard = write(shard);
        if shard.decided.get(&decision.subject).is_some_and(|known| known.place >= place) {
            return;
        }
        shard.levels.insert(decision.subject, decision.level);
        let decided = Decided {
            place,
            decided_unix_ms: decision.decided_unix_ms,
            reason: decision.reason.as_str().into(),
        };
        shard.decided.insert(decision.subject, decided);
        if let Some(watchers) = shard.watchers.get(&decision.subject) {
            // Nobody left to tell is no failure.
            let _ = watchers.send(Current::decided(place, decision));
        }
    }

    /// Follows a holder; `None` for an unknown one.
    #[must_use]
    pub fn watch(self: &Arc<Self>, region: Code, subject: &Subject) -> Option<Watch> {
        let loaded = self.regions.get(&region)?.loaded_unix_ms.load(Ordering::Acquire);
        let mut shard = write(self.shard(region, subject)?);
        let first = shard.current(subject, loaded)?;
        let watchers = shard.watchers.entry(*subject).or_insert_with(|| broadcast::Sender::new(WATCH_LAG));
        let changes = watchers.subscribe();
        Some(Watch { table: Arc::clone(self), region, subject: *subject, first: Some(first), changes })
    }

    fn shard(&self, region: Code, subject: &Subject) -> Option<&RwLock<Shard>> {
        // Bits that the hash table inside the shard hardly uses.
        let at = (fold(subject) >> 32) as usize % SHARDS;
        self.regions.get(&region)?.shards.get(at)
    }
}

impl Shard {
    fn current(&self, subject: &Subject, loaded_unix_ms: i64) -> Option<Current> {
        let level = *self.levels.get(subject)?;
        Some(match self.decided.get(subject) {
            Some(decided) => Current {
                level,
                decided_unix_ms: decided.decided_unix_ms,
                reason: decided.reason.to_string(),
                place: Some(decided.place),
            },
            None => Current { level, decided_unix_ms: loaded_unix_ms, reason: String::new(), place: None },
        })
    }
}

/// Follows one holder; dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    table: Arc<Table>,
    region: Code,
    subject: Subject,
    first: Option<Current>,
    changes: broadcast::Receiver<Current>,
}

impl Watch {
    /// The status now, and then each change; `None` when the holder is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Current> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        match self.changes.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.changes = self.changes.resubscribe();
                self.table.current(self.region, &self.subject)
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(shard) = self.table.shard(self.region, &self.subject) else { return };
        let mut shard = write(shard);
        // This one still counts while it is being dropped.
        if shard.watchers.get(&self.subject).is_some_and(|watchers| watchers.receiver_count() <= 1) {
            shard.watchers.remove(&self.subject);
        }
    }
}

// A panic while a shard was locked cannot leave it half changed: every change is one insertion.
fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::population;

    fn region() -> Code {
        Code::new(440_100).unwrap()
    }

    fn table(holders: u64) -> Arc<Table> {
        let table = Arc::new(Table::new(&[region()]));
        table.reserve(region(), holders);
        (0..holders).for_each(|i| table.load(&population::holder(region(), i, 1)));
        table.loaded(region(), 77);
        table
    }

    fn decision(subject: Subject, level: Level) -> Decision {
        Decision {
            request_id: [1; 16],
            region: region(),
            subject,
            level,
            reason: "why".to_owned(),
            decided_unix_ms: 99,
        }
    }

    fn place(epoch: u64, seq: u64) -> Place {
        Place { epoch, seq }
    }

    #[test]
    fn every_loaded_holder_is_found_and_nobody_else() {
        let table = table(5000);
        assert_eq!(table.holders(region()), 5000);
        for i in 0..5000 {
            let holder = population::holder(region(), i, 1);
            assert_eq!(table.level(region(), &holder.subject), Some(holder.level));
        }
        assert_eq!(table.level(region(), &[0; 16]), None);
        assert_eq!(table.level(Code::new(610_100).unwrap(), &[0; 16]), None);
    }

    #[test]
    fn the_last_place_wins_whatever_the_order_of_arrival() {
        let table = table(10);
        let subject = population::subject(region(), 3, 1);
        assert_eq!(table.current(region(), &subject).unwrap().decided_unix_ms, 77);
        table.apply(place(2, 1), &decision(subject, Level::Red));
        table.apply(place(1, 9), &decision(subject, Level::Yellow));
        let current = table.current(region(), &subject).unwrap();
        assert_eq!((current.level, current.place), (Level::Red, Some(place(2, 1))));
        assert_eq!((current.reason.as_str(), current.decided_unix_ms), ("why", 99));
    }

    #[tokio::test]
    async fn a_watch_tells_each_change_and_a_slow_one_the_latest() {
        let table = table(10);
        let subject = population::subject(region(), 3, 1);
        let mut watch = table.watch(region(), &subject).unwrap();
        assert_eq!(watch.next().await.unwrap().place, None);
        for seq in 1..=3 {
            table.apply(place(1, seq), &decision(subject, Level::Red));
        }
        for seq in 1..=3 {
            assert_eq!(watch.next().await.unwrap().place, Some(place(1, seq)));
        }
        for seq in 4..=40 {
            table.apply(place(1, seq), &decision(subject, Level::Green));
        }
        assert_eq!(watch.next().await.unwrap().place, Some(place(1, 40)));
        assert!(table.watch(region(), &[0; 16]).is_none());
        drop(watch);
        assert!(read(table.shard(region(), &subject).unwrap()).watchers.is_empty());
    }
}

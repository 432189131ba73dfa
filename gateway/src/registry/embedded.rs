//! What stands in for etcd inside one process?
//!
//! A map with revisions, leases and a bounded history: enough for a gateway alone, the demo and the
//! tests, with the semantics of etcd that the fold and the registrar depend on. There is no task:
//! leases run out whenever somebody looks, and every watch wakes up for the next one that will.
//! Nothing is kept after the process ends.

use super::{Change, Entry, Error, Listing, Outcome, Registry, Txn, Update};
use futures_util::future::{BoxFuture, FutureExt as _};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// Changes that are remembered for watches; a watch that is further behind must list again.
const HISTORY: usize = 8192;
/// How often a watch is told that there was nothing new, as etcd is asked to.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Updates that a slow watcher may have waiting.
const QUEUE: usize = 64;

/// The registry inside this process. Clones share the content.
#[derive(Debug, Clone)]
pub struct Embedded {
    store: Arc<Mutex<Store>>,
    /// Carries the newest revision: watches wait on it.
    newest: watch::Sender<i64>,
}

#[derive(Debug)]
struct Store {
    revision: i64,
    /// Changes up to this revision are forgotten.
    compacted: i64,
    entries: BTreeMap<String, Entry>,
    history: VecDeque<(i64, Change)>,
    leases: BTreeMap<i64, Lease>,
    next_lease: i64,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    until: Instant,
    keys: BTreeSet<String>,
}

impl Default for Embedded {
    fn default() -> Self {
        Self::new()
    }
}

impl Embedded {
    /// An empty one, at revision 1 like a new etcd.
    #[must_use]
    pub fn new() -> Self {
        let store = Store {
            revision: 1,
            compacted: 0,
            entries: BTreeMap::new(),
            history: VecDeque::new(),
            leases: BTreeMap::new(),
            next_lease: 1,
        };
        Self { store: Arc::new(Mutex::new(store)), newest: watch::Sender::new(1) }
    }

    /// Forgets the history: watches from before must list again.
    pub fn compact(&self) {
        let mut store = self.store();
        store.compacted = store.revision;
        store.history.clear();
    }

    /// The store as of now, with leases that have run out already ended.
    fn store(&self) -> MutexGuard<'_, Store> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.expire(Instant::now());
        self.announce(&store);
        store
    }

    fn announce(&self, store: &Store) {
        self.newest.send_if_modified(|newest| std::mem::replace(newest, store.revision) != store.revision);
    }

    fn write(&self, txn: &Txn) -> Result<Outcome, Error> {
        let mut store = self.store();
        let outcome = store.apply(txn);
        self.announce(&store);
        outcome
    }

    /// Sends what changes below `prefix` after `after` until the receiver is gone.
    async fn feed(self, prefix: String, mut after: i64, updates: mpsc::Sender<Update>) {
        let mut newest = self.newest.subscribe();
        loop {
            newest.mark_unchanged();
            let (found, wake) = {
                let store = self.store();
                (store.since(&prefix, after), store.leases.values().map(|lease| lease.until).min())
            };
            let update = match found {
                Ok((revision, changes)) => {
                    after = revision;
                    (!changes.is_empty()).then_some(Update::Changes { revision, changes, before: Vec::new() })
                }
                Err(error) => Some(Update::Lost(error)),
            };
            let lost = matches!(update, Some(Update::Lost(_)));
            if let Some(update) = update
                && (updates.send(update).await.is_err() || lost)
            {
                return;
            }
            let next_expiry = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender lives in `self`, so this cannot end while we wait.
                _ = newest.changed() => {}
                () = next_expiry => {}
                () = tokio::time::sleep(HEARTBEAT) => if updates.send(Update::Heartbeat).await.is_err() { return },
                () = updates.closed() => return,
            }
        }
    }
}

impl Store {
    fn expire(&mut self, now: Instant) {
        while let Some((&id, _)) = self.leases.iter().find(|(_, lease)| lease.until <= now) {
            self.end_lease(id);
        }
    }

    /// All keys of a lease go in one revision, as in etcd.
    fn end_lease(&mut self, id: i64) -> bool {
        let Some(lease) = self.leases.remove(&id) else { return false };
        if !lease.keys.is_empty() {
            self.revision += 1;
            for key in lease.keys {
                self.entries.remove(&key);
                self.remember(Change::Delete { key });
            }
        }
        true
    }

    fn remember(&mut self, change: Change) {
        self.history.push_back((self.revision, change));
        // A revision is forgotten as a whole: half of one must never look complete.
        while self.history.len() > HISTORY {
            let Some(&(oldest, _)) = self.history.front() else { return };
            if oldest == self.revision {
                return;
            }
            self.compacted = oldest;
            while self.history.front().is_some_and(|(revision, _)| *revision == oldest) {
                self.history.pop_front();
            }
        }
    }

    fn apply(&mut self, txn: &Txn) -> Result<Outcome, Error> {
        let present = |key: &String| self.entries.get(key).map_or(0, |entry| entry.mod_revision);
        if txn.expect.iter().any(|(key, revision)| present(key) != *revision) {
            let entries = txn.expect.iter().filter_map(|(key, _)| self.entries.get(key).cloned());
            return Ok(Outcome::Conflict(entries.collect()));
        }
        if txn.puts.iter().any(|(_, _, lease)| *lease != 0 && !self.leases.contains_key(lease)) {
            return Err(Error::LeaseGone);
        }
        let mut seen = BTreeSet::new();
        if !txn.puts.iter().map(|(key, _, _)| key).chain(&txn.deletes).all(|key| seen.insert(key)) {
            return Err(Error::Refused("a key is written twice in one transaction".to_owned()));
        }
        let deletes = txn.deletes.iter().filter(|key| self.entries.contains_key(*key)).collect::<Vec<_>>();
        if txn.puts.is_empty() && deletes.is_empty() {
            return Ok(Outcome::Committed(self.revision));
        }
        self.revision += 1;
        for key in deletes {
            self.detach(key);
            self.entries.remove(key);
            self.remember(Change::Delete { key: key.clone() });
        }
        for (key, value, lease) in &txn.puts {
            self.detach(key);
            if let Some(lease) = self.leases.get_mut(lease) {
                lease.keys.insert(key.clone());
            }
            let created = self.entries.get(key).map_or(self.revision, |entry| entry.created);
            let entry = Entry {
                key: key.clone(),
                value: value.clone(),
                created,
                mod_revision: self.revision,
                lease: *lease,
            };
            self.entries.insert(key.clone(), entry.clone());
            self.remember(Change::Put(entry));
        }
        Ok(Outcome::Committed(self.revision))
    }

    /// Takes a key off the lease it hangs on.
    fn detach(&mut self, key: &str) {
        let lease = self.entries.get(key).map_or(0, |entry| entry.lease);
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.keys.remove(key);
        }
    }

    fn since(&self, prefix: &str, after: i64) -> Result<(i64, Vec<Change>), Error> {
        if after < self.compacted {
            return Err(Error::Compacted);
        }
        if after > self.revision {
            return Err(Error::Refused(format!("revision {after} is in the future")));
        }
        let start = self.history.partition_point(|(revision, _)| *revision <= after);
        let below = |change: &Change| match change {
            Change::Put(entry) => entry.key.starts_with(prefix),
            Change::Delete { key } => key.starts_with(prefix),
        };
        let changes = self.history.range(start..).map(|(_, change)| change).filter(|change| below(change));
        Ok((self.revision, changes.cloned().collect()))
    }
}

impl Registry for Embedded {
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Error>> {
        async move {
            let store = self.store();
            let below =
                store.entries.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
            let entries = below.map(|(_, entry)| entry.clone()).collect();
            Ok(Listing { revision: store.revision, entries })
        }
        .boxed()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: i64,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<Update>, Error>> {
        async move {
            let (sender, receiver) = mpsc::channel(QUEUE);
            // Owned by the receiver: the task ends when it is dropped.
            tokio::spawn(self.clone().feed(prefix.to_owned(), after, sender));
            Ok(receiver)
        }
        .boxed()
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, Error>> {
        async move { self.write(&txn) }.boxed()
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<i64, Error>> {
        async move {
            let mut store = self.store();
            let id = store.next_lease;
            store.next_lease += 1;
            store.leases.insert(id, Lease { ttl, until: Instant::now() + ttl, keys: BTreeSet::new() });
            Ok(id)
        }
        .boxed()
    }

    fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let mut store = self.store();
            let lease = store.leases.get_mut(&lease).ok_or(Error::LeaseGone)?;
            lease.until = Instant::now() + lease.ttl;
            Ok(())
        }
        .boxed()
    }

    fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let mut store = self.store();
            let ended = store.end_lease(lease);
            self.announce(&store);
            if ended { Ok(()) } else { Err(Error::LeaseGone) }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;

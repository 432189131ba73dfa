//! What was heard of the registry, and what of it is applied?
//!
//! ```text
//!   listings, changes ──► heard ──► guard: absences ──► applied ──► table
//!                                                         ▲
//!                              a freeze keeps it as it is ┘
//! ```
//!
//! Two sets of entries, which are the same nearly always. *Heard* is the registry's own word, complete
//! up to a revision. *Applied* is what the table is made from: what was heard, and what the guard holds
//! ([`super::guard`]). While an operator has frozen the gateway, applied stays as it was, and heard goes
//! on. A freeze lasts until it is undone, or until the process ends: a restart must not depend on
//! somebody's remembering it.
//!
//! Pure: no I/O, the instant comes in.

use super::{
    Change, Entry, Listing,
    digest::Digest,
    fold::Entries,
    guard::{Guard, Held},
    keys::Prefix,
};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};
use suiyue_proto::region::Code;
use tokio::time::Instant;

/// An event does not follow on what is in the books: a change was missed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a change of {key} was missed: it was written at revision {is}, and {heard} was heard of")]
pub struct Missed {
    /// The key.
    pub key: String,
    /// Revision of the entry in the books; 0: none.
    pub heard: i64,
    /// Revision of the entry that the event replaces; 0: none.
    pub is: i64,
}

/// Why a listing is taken for that of a restored registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Restored {
    /// Another cluster answers.
    #[error("another cluster of etcd answers: {is:x}, not {was:x}")]
    Cluster {
        /// Before.
        was: u64,
        /// Now.
        is: u64,
    },
    /// Its revision is lower than one that was heard of.
    #[error("the registry went back from revision {was} to {is}")]
    Revision {
        /// Before.
        was: i64,
        /// Now.
        is: i64,
    },
    /// A key was written at a lower revision than the one that was heard of.
    #[error("a key of the registry went back from revision {was} to {is}")]
    Entry {
        /// Before.
        was: i64,
        /// Now.
        is: i64,
    },
}

/// What an operator has ordered.
#[derive(Debug, Clone)]
pub struct Freeze {
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: i64,
    /// Why.
    pub reason: String,
    applied: Arc<Entries>,
}

/// What a listing brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// What is applied has changed, or what of it is held.
    pub changed: bool,
    /// It is the listing of a registry that was restored or replaced.
    pub restored: Option<Restored>,
}

/// The books of one gateway.
#[derive(Debug, Clone, Default)]
pub struct Books {
    prefix: Prefix,
    heard: Entries,
    digest: Digest,
    guard: Guard,
    revision: i64,
    cluster: u64,
    /// Restores that were seen.
    histories: u64,
    /// The last restore, until an operator accepts it.
    restored: Option<Restored>,
    freeze: Option<Freeze>,
}

impl Books {
    /// Empty ones. `fixed`: regions that nodes of the configuration serve.
    #[must_use]
    pub fn new(prefix: Prefix, fixed: impl IntoIterator<Item = Code>) -> Self {
        Self { guard: Guard::new(prefix.clone(), fixed), prefix, ..Self::default() }
    }

    /// The registry's word.
    #[must_use]
    pub fn heard(&self) -> &Entries {
        &self.heard
    }

    /// Revision up to which every change was heard; 0: nothing yet.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Cluster that was heard; 0: not known.
    #[must_use]
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// How often the registry was restored or replaced since the start: revisions of different
    /// histories cannot be compared.
    #[must_use]
    pub fn histories(&self) -> u64 {
        self.histories
    }

    /// A restore that no operator has accepted yet.
    #[must_use]
    pub fn restored(&self) -> Option<Restored> {
        self.restored
    }

    /// The freeze in force.
    #[must_use]
    pub fn freeze(&self) -> Option<&Freeze> {
        self.freeze.as_ref()
    }

    /// What is held, by key; presence of gateways among it.
    #[must_use]
    pub fn held(&self) -> &BTreeMap<String, Held> {
        self.guard.held()
    }

    /// When [`tick`](Self::tick) has something to do next.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.guard.next()
    }

    /// What the table is made from.
    #[must_use]
    pub fn applied(&self) -> Cow<'_, Entries> {
        match &self.freeze {
            Some(freeze) => Cow::Borrowed(&freeze.applied),
            None => self.guard.applied(&self.heard),
        }
    }

    /// Hash of what the table is made from: presence and goodbyes are no part of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        if let Some(freeze) = &self.freeze {
            return Digest::of(freeze.applied.values().filter(|entry| !self.prefix.is_silent(&entry.key)));
        }
        let mut digest = self.digest;
        for (key, held) in self.guard.held() {
            if self.prefix.is_silent(key) {
                continue;
            }
            if let Some(heard) = self.heard.get(key) {
                digest.remove(heard);
            }
            digest.add(&held.entry);
        }
        digest
    }

    /// Begins with what a copy says. Nothing is replaced that is newer; whether it was taken.
    pub fn begin(
        &mut self,
        entries: Entries,
        held: Entries,
        (cluster, revision): (u64, i64),
        now: Instant,
    ) -> bool {
        if self.revision > 0 {
            return false;
        }
        self.replace(entries);
        self.guard.resume(held, now);
        (self.cluster, self.revision) = (cluster, revision);
        true
    }

    fn replace(&mut self, entries: Entries) -> Entries {
        self.digest = Digest::of(entries.values().filter(|entry| !self.prefix.is_silent(&entry.key)));
        std::mem::replace(&mut self.heard, entries)
    }

    /// Takes a listing: what is not in it is gone, as far as the guard believes it.
    pub fn list(&mut self, listing: Listing, cluster: u64, now: Instant) -> Listed {
        // The past is not for the table, and there is much of it.
        let entries = listing.entries.into_iter().filter(|entry| !self.prefix.is_history(&entry.key));
        let fresh: Entries = entries.map(|entry| (entry.key.clone(), entry)).collect();
        let restored = self.is_restored(&fresh, listing.revision, cluster);
        let before = self.guard.applied(&self.heard).into_owned();
        let held: Vec<String> = self.guard.held().keys().cloned().collect();
        let old = self.replace(fresh);
        if restored.is_some() {
            self.restored = restored;
            self.histories += 1;
            self.guard.restored(&before, &self.heard, now);
        } else {
            for (key, entry) in &self.heard {
                if old.get(key).is_none_or(|old| old.mod_revision != entry.mod_revision) {
                    self.guard.put(entry);
                }
            }
            let gone =
                old.into_iter().filter(|(key, _)| !self.heard.contains_key(key)).map(|(_, entry)| entry);
            self.guard.absent(gone.collect(), &self.heard, now);
        }
        (self.revision, self.cluster) = (listing.revision, cluster);
        let shown = |(key, _): &(&String, &Entry)| !self.prefix.is_silent(key);
        let applied = self.guard.applied(&self.heard);
        // What is held now is the same entry, but it is stale: whoever wrote it must hear of that.
        let changed = !before.iter().filter(shown).eq(applied.iter().filter(shown))
            || !self.guard.held().keys().eq(held.iter());
        Listed { changed, restored }
    }

    /// A registry that was restored from an old snapshot, wiped, or replaced by another one. The
    /// cluster's id alone does not tell: a wiped etcd that starts with the same flags has the same id.
    fn is_restored(&self, fresh: &Entries, revision: i64, cluster: u64) -> Option<Restored> {
        if self.revision == 0 {
            return None;
        }
        if self.cluster != 0 && cluster != 0 && self.cluster != cluster {
            return Some(Restored::Cluster { was: self.cluster, is: cluster });
        }
        if revision < self.revision {
            return Some(Restored::Revision { was: self.revision, is: revision });
        }
        let went_back = |(key, old): (&String, &Entry)| {
            let new = fresh.get(key)?;
            (new.mod_revision < old.mod_revision)
                .then_some(Restored::Entry { was: old.mod_revision, is: new.mod_revision })
        };
        self.heard.iter().find_map(went_back)
    }

    /// Takes changes; whether what is applied has changed. `before` has for every change the revision of
    /// the entry that it replaced (0: there was none, below 0: not told), or is empty.
    ///
    /// # Errors
    /// [`Missed`]: the books are not to be trusted, and everything must be listed again. Nothing was taken.
    pub fn take(
        &mut self,
        revision: i64,
        changes: Vec<Change>,
        before: &[i64],
        now: Instant,
    ) -> Result<bool, Missed> {
        self.check(&changes, before)?;
        let mut changed = false;
        let mut gone = Vec::new();
        for change in changes {
            match change {
                Change::Put(Entry { key, .. }) | Change::Delete { key } if self.prefix.is_history(&key) => {}
                Change::Put(entry) => {
                    let silent = self.prefix.is_silent(&entry.key);
                    self.guard.put(&entry);
                    if !silent {
                        changed = true;
                        self.digest.add(&entry);
                    }
                    let old = self.heard.insert(entry.key.clone(), entry);
                    if let Some(old) = old.filter(|_| !silent) {
                        self.digest.remove(&old);
                    }
                }
                Change::Delete { key } => {
                    let Some(old) = self.heard.remove(&key) else { continue };
                    if !self.prefix.is_silent(&key) {
                        changed = true;
                        self.digest.remove(&old);
                    }
                    gone.push(old);
                }
            }
        }
        self.revision = self.revision.max(revision);
        // After all changes: a goodbye stands in the same revision as the absence that it explains.
        self.guard.absent(gone, &self.heard, now);
        Ok(changed)
    }

    fn check(&self, changes: &[Change], before: &[i64]) -> Result<(), Missed> {
        let mut seen = BTreeMap::new();
        for (change, &is) in changes.iter().zip(before) {
            let (key, now) = match change {
                Change::Put(entry) => (&entry.key, entry.mod_revision),
                Change::Delete { key } => (key, 0),
            };
            // Entries about the past are in no book.
            if self.prefix.is_history(key) {
                continue;
            }
            let heard = seen.insert(key, now);
            let heard = heard.unwrap_or_else(|| self.heard.get(key).map_or(0, |entry| entry.mod_revision));
            if is >= 0 && is != heard {
                return Err(Missed { key: key.clone(), heard, is });
            }
        }
        Ok(())
    }

    /// Lets go of what was held for long enough; whether anything was.
    pub fn tick(&mut self, now: Instant) -> bool {
        self.guard.tick(now)
    }

    /// Applies the absences that are held, and believes a restored registry. What was held.
    pub fn accept(&mut self) -> BTreeMap<String, Held> {
        self.restored = None;
        self.guard.accept()
    }

    /// What a copy on disk, or another gateway, should begin with: what is applied, and apart from it
    /// what is held without a limit of time. What is held for a time is judged again by who begins with it.
    #[must_use]
    pub fn copy(&self) -> (Entries, Entries) {
        if let Some(freeze) = &self.freeze {
            return (Entries::clone(&freeze.applied), Entries::new());
        }
        let mut entries = self.heard.clone();
        let mut held = Entries::new();
        for (key, kept) in self.guard.held().iter().filter(|(key, _)| !self.prefix.is_silent(key)) {
            let into = if kept.until.is_some() { &mut entries } else { &mut held };
            into.insert(key.clone(), kept.entry.clone());
        }
        (entries, held)
    }

    /// Keeps what is applied as it is; whether that is new.
    pub fn freeze_now(&mut self, reason: String, unix_ms: i64) -> bool {
        if self.freeze.is_some() {
            return false;
        }
        let applied = Arc::new(self.applied().into_owned());
        self.freeze = Some(Freeze { since_unix_ms: unix_ms, reason, applied });
        true
    }

    /// Goes on with what was heard meanwhile; whether it was frozen.
    pub fn thaw(&mut self) -> bool {
        self.freeze.take().is_some()
    }

    /// Keys by which what is applied differs from what the guard would let through: what a freeze keeps out.
    #[must_use]
    pub fn kept_out(&self) -> usize {
        let Some(freeze) = &self.freeze else { return 0 };
        differing(&freeze.applied, &self.guard.applied(&self.heard), &self.prefix).count()
    }
}

/// Keys of entries that are not in both, or not the same in both, in order. Presence and goodbyes are left out.
pub fn differing<'a>(
    one: &'a Entries,
    other: &'a Entries,
    prefix: &'a Prefix,
) -> impl Iterator<Item = (Option<&'a Entry>, Option<&'a Entry>)> {
    let here = one.iter().filter_map(|(key, entry)| {
        let there = other.get(key);
        (there != Some(entry)).then_some((Some(entry), there))
    });
    let there = other.iter().filter(|(key, _)| !one.contains_key(*key)).map(|(_, entry)| (None, Some(entry)));
    here.chain(there).filter(|(one, other): &(Option<&Entry>, Option<&Entry>)| {
        one.or(*other).is_some_and(|entry| !prefix.is_silent(&entry.key))
    })
}

#[cfg(test)]
mod tests;

//! Is what an operator replaces still what the operator had read?
//!
//! A policy or an intent is one key and one message. It is replaced by compare-and-swap on the revision
//! that the caller had read, together with an entry of the audit, which also tells what became of a write
//! without an answer. The same message twice is written once.

use super::{apps::not_written, dump};
use crate::{
    audit::{Audit, What, actor::Deed},
    registry::{
        Entry, Error, Outcome, Registry, Txn,
        keys::{Key, Prefix},
    },
};
use bytes::Bytes;
use prost::Message;
use suiyue_proto::reason::Reason;
use tonic::Status;

/// One replacement of the value of a key.
pub(super) struct Swap<M> {
    /// The key.
    pub(super) key: Key,
    /// The new value.
    pub(super) value: M,
    /// Revision that the caller had read; 0: the key was not there.
    pub(super) expected: i64,
    /// Why it is refused when something else stands there.
    pub(super) changed: Reason,
}

/// What else a replacement expects, and uses up.
#[derive(Debug, Default)]
pub(super) struct Also {
    /// Keys with their revisions.
    pub(super) expect: Vec<(String, i64)>,
    /// Keys that go.
    pub(super) deletes: Vec<String>,
}

/// What stands in the registry, as this replacement sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Present {
    /// The new value, written at this revision.
    Same(i64),
    /// The one that the caller had read.
    AsRead,
}

impl<M: Message + Default + PartialEq> Swap<M> {
    /// What stands there now.
    ///
    /// # Errors
    /// [`Reason::RegistryUnavailable`].
    pub(super) async fn read(
        &self,
        registry: &dyn Registry,
        prefix: &Prefix,
    ) -> Result<Option<Entry>, Status> {
        let key = prefix.key(&self.key);
        let listing = registry.list(&key).await.map_err(|error| away(&self.key, &error))?;
        Ok(listing.entries.into_iter().find(|entry| entry.key == key))
    }

    /// What the present entry means for this one.
    ///
    /// # Errors
    /// [`Swap::changed`]: it is neither the new value nor the one that was read.
    pub(super) fn judge(&self, present: Option<&Entry>) -> Result<Present, Status> {
        let same = |entry: &&Entry| M::decode(entry.value.clone()).is_ok_and(|value| value == self.value);
        if let Some(entry) = present.filter(same) {
            return Ok(Present::Same(entry.mod_revision));
        }
        let revision = present.map_or(0, |entry| entry.mod_revision);
        if revision == self.expected {
            return Ok(Present::AsRead);
        }
        let (is, was) = (revision.to_string(), self.expected.to_string());
        Err(self.changed.with(&[("revision", &is), ("expected_revision", &was)]))
    }

    /// Writes it over what was read: the revision, and whether we wrote it. A write without an answer may
    /// have happened, so whoever asked must not be told that it has not: the audit finds out by its entry.
    ///
    /// # Errors
    /// It was changed meanwhile, the registry is away, or nobody knows.
    pub(super) async fn write(
        &self,
        prefix: &Prefix,
        (audit, deed): (&Audit, &Deed),
        before: Option<Entry>,
        also: Also,
    ) -> Result<(i64, bool), Status> {
        let (key, value) = (prefix.key(&self.key), Bytes::from(self.value.encode_to_vec()));
        let mut txn = Txn {
            expect: vec![(key.clone(), self.expected)],
            puts: vec![(key.clone(), value.clone(), 0)],
            deletes: also.deletes,
        };
        txn.expect.extend(also.expect.into_iter().filter(|(other, _)| *other != key));
        let what = What {
            key: self.key.to_string(),
            replaced: self.expected,
            before: before.map(|entry| dump::value(&self.key, entry.value)),
            after: Some(dump::value(&self.key, value)),
        };
        match audit.commit(deed, &what, &txn).await {
            Ok(Outcome::Committed(revision)) => Ok((revision, true)),
            Ok(Outcome::Conflict(present)) => {
                let find = |key: &String| present.iter().find(|entry| entry.key == *key);
                match self.judge(find(&key))? {
                    Present::Same(revision) => Ok((revision, false)),
                    Present::AsRead => {
                        let is = |key: &String| find(key).map_or(0, |entry| entry.mod_revision);
                        let changed = txn.expect.iter().find(|(key, expected)| is(key) != *expected);
                        let root = prefix.root();
                        let changed = changed.and_then(|(key, _)| key.strip_prefix(&root));
                        Err(Reason::PlanStale.with(&[("key", changed.unwrap_or("unknown"))]))
                    }
                }
            }
            Err(failure) => Err(not_written(&failure)),
        }
    }
}

fn away(key: &Key, error: &Error) -> Status {
    tracing::warn!(%key, %error, "a key cannot be read for an operator");
    Reason::RegistryUnavailable.status()
}

//! Who changed what, and can that be hidden?
//!
//! Every change that an operator makes is written together with an entry about it, in one transaction: a
//! change without its entry cannot be. Entries are hash-chained ([`chain`]), the head stands beside them,
//! and every gateway remembers the head it has seen on its own disk ([`keeper`]), out of reach of who owns
//! the registry.
//!
//! ```text
//!   head ──read──► entry after it ──commit──► the change, the entry, the head: all or nothing
//!     ▲                                │
//!     └── another entry was first ─────┘   (the change itself is judged by its own expectations)
//! ```
//!
//! What became of a transaction without an answer is told by its entry: if it stands there, all of it was
//! written; if the head has moved without it, it never will be.

pub mod actor;
pub mod chain;
pub mod keeper;
pub mod ulid;

use crate::clock::unix_ms;
use crate::registry::{
    Entry, Error, Outcome, Registry, Txn,
    keys::{Key, Prefix},
};
use actor::Deed;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use chain::Head;
use rand::Rng as _;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use suiyue_proto::v1;
use ulid::Ulid;

/// Times that a change is tried while others are first. Within a gateway changes go one after the other, so
/// that as many gateways would have to race.
const TRIES: u32 = 100;
/// Bytes of a value's text that an entry keeps.
const MAX_TEXT: usize = 4096;

/// A value before or after a change.
#[derive(Debug, Clone, Default)]
pub struct Value {
    /// As it stands in the registry.
    pub bytes: Bytes,
    /// For a person.
    pub text: String,
}

/// What is changed.
#[derive(Debug, Clone, Default)]
pub struct What {
    /// The key, without the prefix.
    pub key: String,
    /// Revision of the value before; 0: there was none.
    pub replaced: i64,
    /// The value before.
    pub before: Option<Value>,
    /// The value after.
    pub after: Option<Value>,
}

/// Why a change was not written, or may not be.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] Error),
    /// What stands at the head is no head.
    #[error("the head of the audit cannot be read")]
    Broken,
}

/// Writes changes with their entries. Clones write one after the other.
#[derive(Clone)]
pub struct Audit {
    registry: Arc<dyn Registry>,
    prefix: Prefix,
    gateway: Arc<str>,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Refused attempts that were not written down.
    unwritten: Arc<AtomicU64>,
}

/// A head with the revision it was read at; 0: there is none.
type Found = (Option<Head>, i64);

impl Audit {
    /// The audit of this gateway's operators.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, prefix: Prefix, gateway: &str) -> Self {
        Self { registry, prefix, gateway: gateway.into(), turn: Arc::default(), unwritten: Arc::default() }
    }

    /// Writes a change with an entry about it. Conflicts are those of the change's own expectations, with the
    /// present entries of its keys.
    ///
    /// # Errors
    /// [`Error::Unknown`] only where it may still be written later.
    pub async fn commit(&self, deed: &Deed, what: &What, change: &Txn) -> Result<Outcome, Failure> {
        let entry = self.entry(deed, what, v1::AuditOutcome::Written);
        self.write(&entry, change).await
    }

    /// Writes an entry about what is done to this gateway alone: no other key of the registry changes.
    ///
    /// # Errors
    /// As [`Audit::commit`].
    pub async fn noted(&self, deed: &Deed, text: &str) -> Result<(), Failure> {
        let after = Value { bytes: Bytes::copy_from_slice(text.as_bytes()), text: text.to_owned() };
        let what = What { after: Some(after), ..What::default() };
        self.commit(deed, &what, &Txn::default()).await.map(drop)
    }

    /// Writes an entry about an attempt that was refused.
    ///
    /// # Errors
    /// As [`Audit::commit`].
    pub async fn refused(&self, deed: &Deed, reason: &str) -> Result<(), Failure> {
        let mut entry = self.entry(deed, &What::default(), v1::AuditOutcome::Refused);
        entry.refusal = reason.to_owned();
        entry.refused_unwritten = self.unwritten.swap(0, Relaxed);
        self.write(&entry, &Txn::default()).await.map(drop).inspect_err(|_| {
            self.unwritten.fetch_add(entry.refused_unwritten + 1, Relaxed);
        })
    }

    /// An attempt was refused, and there were too many to write them all down.
    pub fn left_out(&self) {
        self.unwritten.fetch_add(1, Relaxed);
    }

    fn entry(&self, deed: &Deed, what: &What, outcome: v1::AuditOutcome) -> v1::AuditEntry {
        let digest_of = |value: &Option<Value>| {
            let hash = value.as_ref().map(|value| digest(&SHA256, &value.bytes));
            hash.map_or_else(Bytes::new, |hash| Bytes::copy_from_slice(hash.as_ref()))
        };
        let text = |value: &Option<Value>| value.as_ref().map_or_else(String::new, |value| cut(&value.text));
        v1::AuditEntry {
            unix_ms: unix_ms(),
            gateway: self.gateway.to_string(),
            actor: deed.actor.name.clone(),
            role: deed.actor.role.as_str().to_owned(),
            authenticated: deed.actor.authenticated,
            method: deed.method.to_owned(),
            reason: deed.reason.clone(),
            key: what.key.clone(),
            outcome: outcome.into(),
            replaced_revision: what.replaced,
            before_sha256: digest_of(&what.before),
            after_sha256: digest_of(&what.after),
            before: text(&what.before),
            after: text(&what.after),
            ..Default::default()
        }
    }

    async fn write(&self, entry: &v1::AuditEntry, change: &Txn) -> Result<Outcome, Failure> {
        let _turn = self.turn.lock().await;
        let mut found = self.head().await?;
        for attempt in 0..TRIES {
            let id = Ulid::new(entry.unix_ms, rand::random(), found.0.as_ref().map(|head| head.id));
            let (record, head) = chain::append(found.0.as_ref(), entry.clone(), id);
            let keys = [self.prefix.key(&Key::AuditHead), self.prefix.key(&Key::Audit(id))];
            let mut txn = change.clone();
            txn.expect.extend([(keys[0].clone(), found.1), (keys[1].clone(), 0)]);
            let message = prost::Message::encode_to_vec(&head.message());
            txn.puts.extend([(keys[0].clone(), message.into(), 0), (keys[1].clone(), record.clone(), 0)]);
            match self.registry.commit(txn).await {
                Ok(Outcome::Committed(revision)) => return Ok(Outcome::Committed(revision)),
                Ok(Outcome::Conflict(present)) => {
                    if broken(change, &present) {
                        let own = |entry: &Entry| change.expect.iter().any(|(key, _)| *key == entry.key);
                        return Ok(Outcome::Conflict(present.into_iter().filter(own).collect()));
                    }
                }
                Err(Error::Unknown(error)) => {
                    if let Some(revision) = self.resolve(&keys, &record, found.1, error).await? {
                        return Ok(Outcome::Committed(revision));
                    }
                }
                Err(error) => return Err(error.into()),
            }
            // Another gateway's entry was first. Longer, the more of them there are.
            let pause = rand::rng().random_range(0..=u64::from(attempt.min(10)));
            tokio::time::sleep(Duration::from_millis(pause)).await;
            found = self.head().await?;
        }
        Err(Error::Unreachable("others wrote to the audit all the time".to_owned()).into())
    }

    /// What became of a transaction without an answer: its revision, or `None` where it can never be written.
    async fn resolve(
        &self,
        [head, entry]: &[String; 2],
        record: &Bytes,
        head_revision: i64,
        error: String,
    ) -> Result<Option<i64>, Failure> {
        let read = async |key: &str| match self.read(key).await {
            Ok(found) => Ok(found),
            Err(_) => Err(Error::Unknown(error.clone())),
        };
        // The head first: where it has moved before the entry is looked for, the entry is there or never comes.
        let moved = read(head).await?.map_or(0, |head| head.mod_revision) != head_revision;
        match read(entry).await? {
            Some(found) if found.value == *record => Ok(Some(found.mod_revision)),
            _ if moved => Ok(None),
            _ => Err(Error::Unknown(error).into()),
        }
    }

    async fn head(&self) -> Result<Found, Failure> {
        let Some(entry) = self.read(&self.prefix.key(&Key::AuditHead)).await? else { return Ok((None, 0)) };
        let head = Head::decode(&entry.value).ok_or(Failure::Broken)?;
        Ok((Some(head), entry.mod_revision))
    }

    async fn read(&self, key: &str) -> Result<Option<Entry>, Error> {
        let listing = self.registry.list(key).await?;
        Ok(listing.entries.into_iter().find(|entry| entry.key == *key))
    }
}

/// An expectation of the change itself does not hold.
fn broken(change: &Txn, present: &[Entry]) -> bool {
    let revision = |key: &str| present.iter().find(|entry| entry.key == *key).map_or(0, |e| e.mod_revision);
    change.expect.iter().any(|(key, expected)| revision(key) != *expected)
}

/// The text, cut to what an entry keeps; the digest tells what was cut.
fn cut(text: &str) -> String {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;

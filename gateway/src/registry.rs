//! How does the table follow the registry?
//!
//! [`Registry`] is the little that we need of a key-value store with revisions and leases. Two
//! implementations: [`etcd`] and [`embedded`]. Everything above it (keys, fold, registrar) is the
//! same for both. [`follow`] keeps the table: it lists, folds, publishes and watches.
//!
//! Every write is compare-and-swap ([`Txn::expect`]): a blind put that timed out has been seen to land
//! seconds later over a newer value.

pub mod embedded;
pub mod etcd;
pub mod keys;
pub mod manifest;
pub mod policy;
pub mod shift;

pub mod books;
pub mod digest;
pub mod fold;
pub mod follow;
pub mod guard;
pub mod last_known_good;
mod notary;
pub mod peers;

pub(crate) use notary::MAX_DECLARATIONS;

#[cfg(test)]
pub(crate) mod suite;

use futures_util::future::BoxFuture;
use std::time::Duration;

/// One key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Full key, prefix included.
    pub key: String,
    /// Value, protobuf.
    pub value: bytes::Bytes,
    /// Revision of its last change.
    pub mod_revision: i64,
    /// Lease that it hangs on; 0: none.
    pub lease: i64,
}

/// Everything below a prefix at one revision.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Revision of the store that this is true at.
    pub revision: i64,
    /// The entries, by key.
    pub entries: Vec<Entry>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key has this value now.
    Put(Entry),
    /// The key is gone.
    Delete {
        /// The key.
        key: String,
    },
}

/// What a watch says.
#[derive(Debug)]
pub enum Update {
    /// Changes of one or more revisions, in order; complete up to `revision`. Without changes it is
    /// the store's own word that there were none up to there.
    Changes {
        /// Revision that the changes are complete up to.
        revision: i64,
        /// The changes.
        changes: Vec<Change>,
        /// For every change the revision of the entry that it replaced; 0: there was none, below 0: the
        /// store does not say. Empty where the store never does.
        before: Vec<i64>,
    },
    /// The store confirmed that there was nothing newer.
    Heartbeat,
    /// The watch cannot go on from where it was: list again, then watch again.
    Lost(Error),
}

/// Writes that happen together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    /// Keys with the `mod_revision` they must have; 0: the key must not exist.
    pub expect: Vec<(String, i64)>,
    /// Keys to put: key, value, lease (0: none).
    pub puts: Vec<(String, bytes::Bytes, i64)>,
    /// Keys to delete.
    pub deletes: Vec<String>,
}

/// What became of a [`Txn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was written, at this revision.
    Committed(i64),
    /// Nothing was written: a key had another revision. The present entries of `expect` keys.
    Conflict(Vec<Entry>),
}

/// What can go wrong with the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Trying again later may help.
    #[error("the registry cannot be reached: {0}")]
    Unreachable(String),
    /// A write may or may not have happened: read to find out.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
    /// Changes that were asked for are forgotten: list again.
    #[error("the registry has compacted the changes that were asked for")]
    Compacted,
    /// The lease is gone: grant another one.
    #[error("the lease is gone")]
    LeaseGone,
    /// The store refused it; trying again will not help.
    #[error("the registry refused it: {0}")]
    Refused(String),
}

/// A key-value store with revisions and leases.
///
/// All methods are cancel safe in the sense that dropping the future leaves the store consistent; a
/// dropped `commit` may or may not have been written.
pub trait Registry: Send + Sync + 'static {
    /// What stands below `prefix`.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Error>>;
    /// Changes below `prefix` after revision `after`. The receiver ends after [`Update::Lost`];
    /// dropping it ends the watch.
    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: i64,
    ) -> BoxFuture<'a, Result<tokio::sync::mpsc::Receiver<Update>, Error>>;
    /// Writes, if every expectation holds.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, Error>>;
    /// Makes a lease that lives for `ttl` (whole seconds, at least 1) after each keep-alive.
    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<i64, Error>>;
    /// Renews a lease. [`Error::LeaseGone`] when it has run out.
    fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>>;
    /// Ends a lease and deletes its keys.
    fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>>;
    /// The cluster that answered last, where the store has such a thing; 0: not known.
    fn cluster(&self) -> u64 {
        0
    }
}

//! What must survive, and when is it safe?
//!
//! A [`Store`] is a durable log: it takes records in batches, gives each its place `(epoch, seq)`,
//! and returns once all of them are durable. Places order records; clocks never do. The epoch rises
//! at every start, so that a place is never given twice.
//! A record is unique by its id: the second one is answered with the receipt of the first.
//! [`writer`] forms the batches. Reads of statuses are served from memory, never from here.

pub mod memory;
pub mod record;
pub mod redb;
pub mod writer;

#[cfg(test)]
mod tests;

pub use record::{Decision, Record, Scan};

/// The place of a record in the log: ordered by epoch, then by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Raised at every start of the node.
    pub epoch: u64,
    /// Position within the epoch, from 1.
    pub seq: u64,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Where it stands.
    pub place: Place,
    /// When it was stored, in milliseconds since 1970-01-01 UTC.
    pub stored_unix_ms: i64,
    /// Now, or earlier.
    pub outcome: Outcome,
}

/// Was the record new?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was stored now.
    Stored,
    /// Its id was stored before; a decision comes with what was decided then.
    Duplicate(Option<Decision>),
}

/// Why the store did not take a batch. Nothing of it may be acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The medium refused to write, sync or read.
    #[error("the store failed: {0}")]
    Medium(String),
    /// What stands there is no log of ours.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// A durable log. All calls block.
pub trait Store: Send + Sync + 'static {
    /// The epoch of this start.
    fn epoch(&self) -> u64;

    /// Makes a batch durable, in order, and returns a receipt a record.
    ///
    /// # Errors
    /// [`Error`]: none of the batch is certain to be durable, and none may be acknowledged.
    fn append(&self, batch: &[Record], now_unix_ms: i64) -> Result<Vec<Receipt>, Error>;

    /// Visits every decision in the order of places.
    ///
    /// # Errors
    /// [`Error`]: the log cannot be read.
    fn decisions(&self, visit: &mut dyn FnMut(Place, Decision)) -> Result<(), Error>;
}

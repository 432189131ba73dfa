//! Which intent stands in the registry, and how is it replaced?
//!
//! By compare-and-swap on the revision that the caller had read. A write whose outcome is unknown is
//! resolved by reading, and reported as unknown where that says nothing.

use super::step;
use crate::registry::{Entry, Error, Outcome, Registry, Txn, fold};
use prost::Message as _;
use suiyue_proto::{reason::Reason, v1};
use tonic::Status;

/// One replacement of an intent.
pub(super) struct Swap {
    pub(super) key: String,
    pub(super) intent: v1::NodeIntent,
    /// Revision that the caller had read; 0: no intent.
    pub(super) expected: i64,
}

/// What an intent in the registry means for a replacement.
pub(super) enum Present {
    /// The same intent, written at this revision.
    Same(i64),
    /// The one that the caller had read.
    AsRead,
}

/// What stands in the registry.
pub(super) struct Stored(Option<Entry>);

impl From<Option<Entry>> for Stored {
    fn from(entry: Option<Entry>) -> Self {
        Self(entry)
    }
}

impl Stored {
    /// Revision of its last change; 0: there is none.
    pub(super) fn revision(&self) -> i64 {
        self.0.as_ref().map_or(0, |entry| entry.mod_revision)
    }

    /// The intent as it counts: none is ACTIVE, one that is not understood suspends its node.
    pub(super) fn intent(&self) -> v1::NodeIntent {
        let suspended = || v1::NodeIntent { stage: v1::Stage::Suspended.into(), ..Default::default() };
        let intent = match &self.0 {
            None => v1::NodeIntent::default(),
            Some(entry) => v1::NodeIntent::decode(entry.value.clone()).unwrap_or_else(|_| suspended()),
        };
        let (stage, canary_percent) = step::told(fold::stage_of(&intent));
        v1::NodeIntent { stage: stage.into(), canary_percent, ..intent }
    }
}

impl Swap {
    /// What stands there now.
    ///
    /// # Errors
    /// [`Reason::RegistryUnavailable`].
    pub(super) async fn read(&self, registry: &dyn Registry) -> Result<Stored, Status> {
        let listing = registry.list(&self.key).await.map_err(|error| away(&error))?;
        Ok(Stored(listing.entries.into_iter().find(|entry| entry.key == self.key)))
    }

    /// Writes it: the revision, and whether we wrote it.
    ///
    /// # Errors
    /// The intent was changed meanwhile, the registry is away, or nobody knows.
    pub(super) async fn write(&self, registry: &dyn Registry) -> Result<(i64, bool), Status> {
        let txn = Txn {
            expect: vec![(self.key.clone(), self.expected)],
            puts: vec![(self.key.clone(), self.intent.encode_to_vec().into(), 0)],
            deletes: Vec::new(),
        };
        match registry.commit(txn).await {
            Ok(Outcome::Committed(revision)) => Ok((revision, true)),
            Ok(Outcome::Conflict(present)) => match self.judge(&Stored(present.into_iter().next()))? {
                Present::Same(revision) => Ok((revision, false)),
                Present::AsRead => Err(Reason::WriteUnknown.status()),
            },
            // It may be written, so whoever asked must not be told that it is not.
            Err(Error::Unknown(error)) => match self.judge(&self.resolve(registry, &error).await?)? {
                Present::Same(revision) => Ok((revision, true)),
                // It may still be on its way.
                Present::AsRead => Err(Reason::WriteUnknown.status()),
            },
            Err(error) => Err(away(&error)),
        }
    }

    /// What stands there after a write without an answer.
    async fn resolve(&self, registry: &dyn Registry, write: &str) -> Result<Stored, Status> {
        self.read(registry).await.map_err(|_| {
            tracing::warn!(write, "what became of the write of an intent is not known");
            Reason::WriteUnknown.status()
        })
    }

    /// What the present intent means for this one.
    ///
    /// # Errors
    /// [`Reason::IntentChanged`]: it is neither the same nor the one that was read.
    pub(super) fn judge(&self, present: &Stored) -> Result<Present, Status> {
        let same = |entry: &&Entry| {
            v1::NodeIntent::decode(entry.value.clone()).is_ok_and(|intent| intent == self.intent)
        };
        if let Some(entry) = present.0.as_ref().filter(same) {
            return Ok(Present::Same(entry.mod_revision));
        }
        let revision = present.revision();
        if revision == self.expected {
            return Ok(Present::AsRead);
        }
        let (is, was) = (revision.to_string(), self.expected.to_string());
        Err(Reason::IntentChanged.with(&[("revision", &is), ("expected_revision", &was)]))
    }
}

fn away(error: &Error) -> Status {
    tracing::warn!(%error, "an intent could not be written");
    Reason::RegistryUnavailable.status()
}

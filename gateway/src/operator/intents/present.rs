//! Which intent stands in the registry, and how is it replaced?
//!
//! By compare-and-swap on the revision that the caller had read, together with an entry of the audit,
//! which also tells what became of a write without an answer.

use super::{
    super::{apps::not_written, dump},
    step,
};
use crate::{
    audit::{Audit, What, actor::Deed},
    registry::{Entry, Error, Outcome, Registry, Txn, fold, keys::Key},
};
use bytes::Bytes;
use prost::Message as _;
use suiyue_proto::{reason::Reason, v1};
use tonic::Status;

/// One replacement of an intent.
pub(super) struct Swap {
    pub(super) key: String,
    /// The same without the prefix.
    pub(super) short: Key,
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

    /// Writes it with its entry of the audit: the revision, and whether we wrote it.
    ///
    /// # Errors
    /// The intent was changed meanwhile, the registry is away, or nobody knows.
    pub(super) async fn write(
        &self,
        (audit, deed): (&Audit, &Deed),
        before: &Stored,
    ) -> Result<(i64, bool), Status> {
        let value: Bytes = self.intent.encode_to_vec().into();
        let txn = Txn {
            expect: vec![(self.key.clone(), self.expected)],
            puts: vec![(self.key.clone(), value.clone(), 0)],
            deletes: Vec::new(),
        };
        let what = What {
            key: self.short.to_string(),
            replaced: self.expected,
            before: before.0.as_ref().map(|entry| dump::value(&self.short, entry.value.clone())),
            after: Some(dump::value(&self.short, value)),
        };
        match audit.commit(deed, &what, &txn).await {
            Ok(Outcome::Committed(revision)) => Ok((revision, true)),
            Ok(Outcome::Conflict(present)) => match self.judge(&Stored(present.into_iter().next()))? {
                Present::Same(revision) => Ok((revision, false)),
                Present::AsRead => Err(Reason::WriteUnknown.status()),
            },
            Err(failure) => Err(not_written(&failure)),
        }
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
    tracing::warn!(%error, "an intent could not be read");
    Reason::RegistryUnavailable.status()
}

//! Which intent stands in the registry, as it counts?

use super::step;
use crate::registry::{Entry, fold};
use prost::Message as _;
use suiyue_proto::v1;

/// What stands in the registry.
pub(super) struct Stored(pub(super) Option<Entry>);

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

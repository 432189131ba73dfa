//! What does a new table say of this registration?
//!
//! That it stands, that another one took its place, or that the registry has lost it: then everything is
//! written again.

use super::{End, RESTATE_EVERY, Session};
use crate::{registrar::admission::name_taken, table::Table};
use suiyue_proto::region::Code;

/// What a table says of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Ours,
    Another,
    /// A node of that region was made at another gateway at the same time, and was first.
    NameOf(Code),
    Nothing,
    /// The registry has lost it, or may have: the table holds it.
    Stale,
}

impl Session {
    /// There is a new table.
    pub(super) async fn look_at(&mut self, table: &Table) -> Result<(), End> {
        match self.seen_in(table) {
            Seen::Another => Err(End::Superseded),
            Seen::NameOf(region) => Err(End::Refused(Box::new(name_taken(region)))),
            Seen::Stale if self.may_restate(table) => self.restate().await,
            Seen::Ours | Seen::Nothing | Seen::Stale => Ok(()),
        }
    }

    /// Not more often than the registry needs to tell of the last time.
    pub(super) fn may_restate(&mut self, table: &Table) -> bool {
        let new = std::mem::replace(&mut self.history, table.histories) != table.histories;
        new || self.restated_at.is_none_or(|at| at.elapsed() >= RESTATE_EVERY)
    }

    /// What a table that is as new as our last write says of this endpoint.
    pub(super) fn seen_in(&self, table: &Table) -> Seen {
        // A registry that was restored has other revisions, and may have less than before.
        if table.histories != self.history || table.stale.contains(&self.names) {
            return Seen::Stale;
        }
        if table.revision < self.mod_revision {
            return Seen::Ours;
        }
        let owner = table.names.get(&self.names.0).copied();
        if let Some(owner) = owner.filter(|owner| *owner != self.admitted.checked.region) {
            return Seen::NameOf(owner);
        }
        let node = table.nodes.get(self.admitted.manifest.node.as_str());
        let endpoint =
            node.and_then(|node| node.endpoints.iter().find(|e| *e.name == *self.admitted.endpoint));
        match endpoint {
            Some(endpoint) if endpoint.incarnation == self.live.incarnation => Seen::Ours,
            Some(_) => Seen::Another,
            None => Seen::Nothing,
        }
    }
}

//! How does a registration end?
//!
//! An entry is deleted if it is still ours, however long the registry takes; what the node says decides
//! whether its absence is explained.

use super::{RETRY, Session, unavailable};
use crate::{
    registrar::record::{self, Written},
    registry::Error,
};
use std::time::Duration;
use suiyue_proto::v1::{Farewell, register_response::Message};
use tokio::{sync::mpsc, time::timeout};

/// A node that says goodbye waits this long for the farewell.
const FAREWELL_WITHIN: Duration = Duration::from_secs(2);

/// How an entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// The node said so: the absence is explained.
    Goodbye,
    /// Nobody knows why the node is gone.
    Silently,
}

impl Session {
    /// The node leaves of its own will: its entry goes at once.
    pub(super) async fn part(&mut self) {
        if timeout(FAREWELL_WITHIN, self.remove(Leave::Goodbye)).await.is_ok() {
            self.tell(Message::Farewell(Farewell {})).await;
        } else {
            self.say(Err(unavailable())).await;
            self.remove(Leave::Goodbye).await;
        }
    }

    /// The stream broke, but the node may be well and on its way to another gateway.
    pub(super) async fn linger(&mut self) {
        // Nobody reads answers any more: the caller's side of the stream is let go of.
        self.answers = mpsc::channel(1).0;
        tokio::select! {
            () = tokio::time::sleep(self.shared.settings.lease_ttl) => {}
            () = self.superseded.cancelled() => return,
            () = self.shared.draining.cancelled() => return,
        }
        self.remove(Leave::Silently).await;
    }

    /// Deletes the entry if it is still ours, however long the registry takes. When this gateway
    /// finishes meanwhile, the entry goes with its lease.
    pub(super) async fn remove(&mut self, leave: Leave) {
        let shared = self.shared.clone();
        loop {
            if self.superseded.is_cancelled()
                || shared.sessions.is_held(&self.place.live, self.live.incarnation, self.since)
            {
                return;
            }
            let Err(error) = self.delete(leave).await else { return };
            tracing::debug!(%error, "an entry was not deleted; it is tried again");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.superseded.cancelled() => return,
                () = shared.draining.cancelled() => return,
            }
        }
    }

    /// Deletes the entry once; one that left of its own will leaves a mark.
    async fn delete(&self, leave: Leave) -> Result<Written, Error> {
        let registry = &*self.shared.registry;
        if leave == Leave::Silently {
            return record::delete(registry, &self.place.live, &self.live, self.mod_revision).await;
        }
        let lease = self.shared.departures.lease(registry).await?;
        let depart = record::depart(registry, &self.place, &self.live, self.mod_revision, lease);
        let departed = depart.await;
        if matches!(departed, Err(Error::LeaseGone)) {
            self.shared.departures.doubt(lease).await;
        }
        departed
    }
}

//! Which session of this gateway looks after which live entry?
//!
//! Of two sessions for one entry the one that wrote later stays; the other one is told.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// Who holds which live entry at this gateway.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    holders: Mutex<HashMap<String, Holder>>,
}

/// When an entry was taken: revisions are comparable within one history of the registry only, so the
/// restores that were seen before count first.
pub(super) type Since = (u64, i64);

/// A session that looks after an entry.
#[derive(Debug)]
pub(super) struct Holder {
    /// Incarnation of the endpoint.
    pub(super) incarnation: u64,
    /// When it took the entry.
    pub(super) since: Since,
    /// Tells the session that another one took over.
    pub(super) superseded: CancellationToken,
}

impl Sessions {
    /// Makes a session the holder; of two the one that wrote later.
    pub(super) fn enter(&self, key: &str, holder: Holder) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        match holders.get(key) {
            Some(present) if present.since > holder.since => holder.superseded.cancel(),
            _ => {
                if let Some(former) = holders.insert(key.to_owned(), holder) {
                    former.superseded.cancel();
                }
            }
        }
    }

    /// The session is over.
    pub(super) fn leave(&self, key: &str, since: Since) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.get(key).is_some_and(|holder| holder.since == since) {
            holders.remove(key);
        }
    }

    /// The holder has written its entry again.
    pub(super) fn renew(&self, key: &str, former: Since, since: Since) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = holders.get_mut(key).filter(|holder| holder.since == former) {
            holder.since = since;
        }
    }

    /// Another session of this gateway looks after an entry with this incarnation.
    pub(super) fn is_held(&self, key: &str, incarnation: u64, since: Since) -> bool {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.get(key).is_some_and(|holder| holder.incarnation == incarnation && holder.since != since)
    }
}

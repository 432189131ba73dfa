//! For which regions is this node ready, and is it leaving?
//!
//! A region is ready once its holders are loaded. Not ready is said in three places: in health, in
//! the registration, and as UNAVAILABLE to a call, never as an unknown holder.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use suiyue_proto::region::Code;
use tokio::sync::watch;

/// What others are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Ready regions, and since when their data stands, in milliseconds since 1970-01-01 UTC.
    pub ready: BTreeMap<Code, i64>,
    /// Everything that the configuration names is loaded.
    pub loaded: bool,
    /// The node is finishing.
    pub draining: bool,
}

/// Readiness of every region in scope.
#[derive(Debug)]
pub struct Readiness {
    // Read by every call: 0 means not ready.
    as_of: BTreeMap<Code, AtomicI64>,
    state: watch::Sender<State>,
}

impl Readiness {
    /// Nothing is ready yet.
    #[must_use]
    pub fn new(scopes: &[Code]) -> Self {
        let as_of = scopes.iter().map(|region| (*region, AtomicI64::new(0))).collect();
        Self { as_of, state: watch::Sender::new(State::default()) }
    }

    /// The region's data is loaded, complete up to this instant.
    pub fn mark_ready(&self, region: Code, as_of_unix_ms: i64) {
        if let Some(as_of) = self.as_of.get(&region) {
            as_of.store(as_of_unix_ms, Ordering::Release);
            self.state.send_modify(|state| {
                state.ready.insert(region, as_of_unix_ms);
            });
        }
    }

    /// The data of a ready region are complete up to a later instant. Nobody is woken for it.
    pub fn refresh(&self, region: Code, as_of_unix_ms: i64) {
        if let Some(as_of) = self.as_of.get(&region)
            && as_of.load(Ordering::Acquire) != 0
        {
            as_of.store(as_of_unix_ms, Ordering::Release);
        }
    }

    /// The region's data cannot be had any more, for a time.
    pub fn mark_unready(&self, region: Code) {
        if let Some(as_of) = self.as_of.get(&region) {
            as_of.store(0, Ordering::Release);
            self.state.send_if_modified(|state| state.ready.remove(&region).is_some());
        }
    }

    /// Everything that the configuration names is loaded. A region without a holder stays unready.
    pub fn mark_loaded(&self) {
        self.state.send_if_modified(|state| !std::mem::replace(&mut state.loaded, true));
    }

    /// The node is finishing. Calls are still answered.
    pub fn drain(&self) {
        self.state.send_modify(|state| state.draining = true);
    }

    /// Regions that this node answers for, ready or not.
    pub fn scopes(&self) -> impl Iterator<Item = Code> + '_ {
        self.as_of.keys().copied()
    }

    /// The region is in scope.
    #[must_use]
    pub fn in_scope(&self, region: Code) -> bool {
        self.as_of.contains_key(&region)
    }

    /// Since when the region's data stands; `None` while it is not ready.
    #[must_use]
    pub fn as_of(&self, region: Code) -> Option<i64> {
        self.as_of.get(&region).map(|as_of| as_of.load(Ordering::Acquire)).filter(|as_of| *as_of != 0)
    }

    /// Follows the changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }
}

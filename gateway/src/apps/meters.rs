//! How much has each app called?
//!
//! A [`Meter`] is what an app's calls share: its bucket, its calls in flight, and for each worker a line of
//! counters with one writer. It outlives snapshots, and goes when the app does.

use super::quota::{Bucket, InFlight};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

/// What became of an app's call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Answered OK.
    Ok = 0,
    /// Ended otherwise, after it was let in.
    Error = 1,
    /// Refused: outside of the grant.
    Denied = 2,
    /// Refused: over the calls a second.
    OverRate = 3,
    /// Refused: over the calls in flight.
    OverInFlight = 4,
}

impl Outcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Error, Self::Denied, Self::OverRate, Self::OverInFlight];

    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Denied => "denied",
            Self::OverRate => "over_rate",
            Self::OverInFlight => "over_in_flight",
        }
    }
}

/// Why a caller is nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stranger {
    /// It shows nothing, and anonymous calls are not taken.
    Anonymous = 0,
    /// What it shows is of no app that may call.
    Unknown = 1,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane([AtomicU64; 5]);

impl Lane {
    fn count(&self, at: usize) {
        let counter = &self.0[at];
        counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

/// What the calls of one app share.
#[derive(Debug)]
pub struct Meter {
    /// Its calls a second.
    pub bucket: Bucket,
    /// Its calls in flight.
    pub in_flight: InFlight,
    lanes: Box<[Lane]>,
}

impl Meter {
    fn new(workers: usize) -> Self {
        let lanes = (0..workers).map(|_| Lane::default()).collect();
        Self { bucket: Bucket::default(), in_flight: InFlight::default(), lanes }
    }

    /// Counts a call. Only the worker of this index may say so.
    pub fn count(&self, worker: usize, outcome: Outcome) {
        self.lanes[worker].count(outcome as usize);
    }

    /// Calls so far, in the order of [`Outcome::ALL`].
    #[must_use]
    pub fn read(&self) -> [u64; 5] {
        sums(&self.lanes)
    }
}

fn sums(lanes: &[Lane]) -> [u64; 5] {
    std::array::from_fn(|at| lanes.iter().map(|lane| lane.0[at].load(Relaxed)).sum())
}

/// The meters of all apps.
#[derive(Debug)]
pub struct Meters {
    /// Live gateways, this one among them.
    pub gateways: Arc<AtomicU32>,
    apps: Mutex<BTreeMap<Arc<str>, Arc<Meter>>>,
    strangers: Box<[Lane]>,
    start: Instant,
}

impl Meters {
    /// Meters for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            gateways: Arc::new(AtomicU32::new(1)),
            apps: Mutex::default(),
            strangers: (0..workers).map(|_| Lane::default()).collect(),
            start: Instant::now(),
        }
    }

    /// The meter of an app, which is there from then on.
    #[must_use]
    pub fn of(&self, app: &Arc<str>) -> Arc<Meter> {
        let new = || Arc::new(Meter::new(self.strangers.len()));
        self.apps().entry(app.clone()).or_insert_with(new).clone()
    }

    /// The meter of an app that has called.
    #[must_use]
    pub fn find(&self, app: &str) -> Option<Arc<Meter>> {
        self.apps().get(app).cloned()
    }

    /// Forgets apps that are not registered any more: there are never more meters than apps.
    pub fn retain(&self, registered: impl Fn(&str) -> bool) {
        self.apps().retain(|app, _| registered(app));
    }

    /// Counts a call of nobody. Only the worker of this index may say so.
    pub fn stranger(&self, worker: usize, who: Stranger) {
        self.strangers[worker].count(who as usize);
    }

    /// Calls of nobody that were refused: anonymous, unknown.
    #[must_use]
    pub fn strangers(&self) -> [u64; 2] {
        let [anonymous, unknown, ..] = sums(&self.strangers);
        [anonymous, unknown]
    }

    /// Everybody's numbers, by name.
    #[must_use]
    pub fn read(&self) -> Vec<(Arc<str>, Arc<Meter>)> {
        self.apps().iter().map(|(app, meter)| (app.clone(), meter.clone())).collect()
    }

    /// The instant in nanoseconds, as buckets count.
    #[must_use]
    pub fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    fn apps(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Meter>>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up_and_apps_that_go_are_forgotten() {
        let meters = Meters::new(2);
        let gate = meters.of(&"gate".into());
        gate.count(0, Outcome::Ok);
        gate.count(1, Outcome::Ok);
        gate.count(1, Outcome::OverInFlight);
        assert_eq!(meters.find("gate").unwrap().read(), [2, 0, 0, 0, 1]);
        meters.stranger(0, Stranger::Unknown);
        assert_eq!(meters.strangers(), [0, 1]);
        meters.retain(|app| app != "gate");
        assert!(meters.find("gate").is_none() && meters.read().is_empty());
        for (n, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, n);
        }
    }
}

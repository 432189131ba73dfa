//! Is an endpoint fit to be called?
//!
//! [`Vitals`] is the one record of an endpoint that control task and workers share. Workers read its
//! state at the pick, count calls in flight, and turn it to suspect the moment a connection breaks;
//! the control task owns every other transition.
//!
//! ```text
//!            connection lost                two checks in a row pass
//!   OK ───────────────────────► SUSPECT ─────────────────────────────► OK
//!    └── three checks fail ──► EJECTED ──── two checks in a row pass ──┘
//! ```
//! SUSPECT is where an endpoint starts, too: it is used where nobody else can answer. One check that
//! cannot even connect ejects a suspect at once.

pub mod check;

use crate::table;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Fitness of an endpoint, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// In rotation.
    Ok = 0,
    /// Doubtful or not checked yet: used where nobody else can answer.
    Suspect = 1,
    /// Out of rotation.
    Ejected = 2,
}

/// What control task and workers know of one incarnation of one endpoint.
#[derive(Debug)]
pub struct Vitals {
    /// Index into every worker's connection pools; unique among live endpoints.
    pub slot: usize,
    /// Name of the node, for logs and metrics.
    pub node: Arc<str>,
    /// Name, address and check of the endpoint. Its readiness may change with the table: read it there.
    pub endpoint: table::Endpoint,
    state: AtomicU8,
    in_flight: AtomicU32,
    /// Peak-EWMA latency in microseconds, as of `sampled_ms`.
    latency_us: AtomicU32,
    /// When it was last fed, in milliseconds after `born`.
    sampled_ms: AtomicU32,
    born: Instant,
    since: Mutex<(Instant, &'static str)>,
    changed: Arc<Notify>,
    /// Wakes the checker: something is wrong, look now.
    pub(crate) look: Notify,
}

/// Without calls a latency halves in this time (e-fold 10 s): a past peak is forgiven.
const HALF_LIFE_MS: u32 = 7_000;
/// Latency assumed of an endpoint that has not answered yet: 30 ms.
const SEED_US: u32 = 30_000;

impl Vitals {
    /// A clean record.
    #[must_use]
    pub fn new(slot: usize, node: Arc<str>, endpoint: table::Endpoint, changed: Arc<Notify>) -> Self {
        let state = if endpoint.check == table::Check::None { State::Ok } else { State::Suspect };
        Self {
            slot,
            node,
            endpoint,
            state: AtomicU8::new(state as u8),
            in_flight: AtomicU32::new(0),
            latency_us: AtomicU32::new(SEED_US),
            sampled_ms: AtomicU32::new(0),
            born: Instant::now(),
            since: Mutex::new((Instant::now(), "not checked yet")),
            changed,
            look: Notify::new(),
        }
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        match self.state.load(Relaxed) {
            0 => State::Ok,
            1 => State::Suspect,
            _ => State::Ejected,
        }
    }

    /// May new calls go there, other things being equal?
    #[must_use]
    pub fn in_rotation(&self) -> bool {
        self.state.load(Relaxed) == State::Ok as u8
    }

    /// Since when the state is what it is, and why.
    #[must_use]
    pub fn since(&self) -> (Instant, &'static str) {
        *self.since.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Enters a state; true if it was another one before.
    pub fn enter(&self, state: State, why: &'static str) -> bool {
        let before = self.state.swap(state as u8, Relaxed);
        if before == state as u8 {
            return false;
        }
        *self.since.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = (Instant::now(), why);
        tracing::info!(node = %self.node, endpoint = %self.endpoint.name, ?state, why, "endpoint changed state");
        self.changed.notify_one();
        true
    }

    /// A worker lost its connection, or could not open one: doubt the endpoint until a check says more.
    pub fn doubt(&self, why: &'static str) {
        if self.state() == State::Ok {
            self.enter(State::Suspect, why);
        }
        self.look.notify_one();
    }

    /// A call starts.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// A call ends; `answered` is its latency, and now, if it was answered with something that says how
    /// long work takes there.
    pub fn end(&self, answered: Option<(Duration, Instant)>) {
        self.in_flight.fetch_sub(1, Relaxed);
        let Some((latency, now)) = answered else { return };
        let sample = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        let old = self.latency(now);
        self.sampled_ms.store(self.age_ms(now), Relaxed);
        // A peak counts at once; below it the average follows by a sixteenth a call. Lost updates of
        // concurrent workers do not matter for a choice between two.
        let new = if sample > old { sample } else { old - (old - sample) / 16 };
        self.latency_us.store(new, Relaxed);
    }

    /// Calls in flight from all workers.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// What a further call costs there.
    #[must_use]
    pub fn cost(&self, now: Instant) -> u64 {
        u64::from(self.latency(now)) * (u64::from(self.in_flight()) + 1)
    }

    /// Latency in microseconds, at least 1, after what was forgiven since the last sample.
    fn latency(&self, now: Instant) -> u32 {
        let quiet = self.age_ms(now).saturating_sub(self.sampled_ms.load(Relaxed));
        (self.latency_us.load(Relaxed) >> (quiet / HALF_LIFE_MS).min(31)).max(1)
    }

    fn age_ms(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.born).as_millis()).unwrap_or(u32::MAX)
    }
}

/// Follows the verdicts of active checks: three bad ones in a row eject, two good ones restore.
#[derive(Debug, Default)]
pub struct Streak {
    good: u32,
    bad: u32,
}

/// Bad checks in a row that eject.
const DOWN: u32 = 3;
/// Good checks in a row that bring a doubtful endpoint back.
const UP: u32 = 2;

impl Streak {
    /// The state after one more check, given the state before. `fresh`: never checked before, one good
    /// check is enough; `refused`: nobody listens there.
    pub fn after(&mut self, before: State, verdict: check::Verdict, fresh: bool) -> State {
        if verdict == check::Verdict::Serving {
            self.bad = 0;
            self.good += 1;
            return if fresh || self.good >= UP { State::Ok } else { before };
        }
        self.good = 0;
        self.bad += 1;
        let at_once = verdict == check::Verdict::Refused && before != State::Ok;
        if self.bad >= DOWN || at_once { State::Ejected } else { before }
    }
}

#[cfg(test)]
mod tests {
    use super::{check::Verdict, *};

    #[track_caller]
    fn check(start: State, verdicts: &[Verdict], expected: State) {
        let mut streak = Streak::default();
        let end = verdicts.iter().fold(start, |state, &v| streak.after(state, v, false));
        assert_eq!(end, expected);
    }

    #[test]
    fn checks_eject_after_three_and_restore_after_two() {
        use {State::*, Verdict::*};
        check(Ok, &[Failing, Failing], Ok);
        check(Ok, &[Failing, Failing, Failing], Ejected);
        check(Ok, &[Failing, Failing, Serving, Failing], Ok);
        check(Ejected, &[Serving], Ejected);
        check(Ejected, &[Serving, Serving], Ok);
        check(Ejected, &[Serving, Failing, Serving], Ejected);
        check(Suspect, &[Refused], Ejected);
        check(Suspect, &[Failing], Suspect);
        check(Ok, &[Refused], Ok);
    }

    #[test]
    fn a_broken_connection_makes_a_suspect_and_latency_follows_peaks() {
        let endpoint = table::Endpoint {
            name: "a".into(),
            address: "127.0.0.1:1".into(),
            incarnation: 1,
            ready: Vec::new(),
            draining: false,
            check: table::Check::None,
        };
        let vitals = Vitals::new(0, "n".into(), endpoint, Arc::default());
        assert!(vitals.in_rotation());
        vitals.doubt("connection lost");
        assert_eq!((vitals.state(), vitals.since().1), (State::Suspect, "connection lost"));
        let now = vitals.born;
        vitals.begin();
        vitals.end(Some((Duration::from_millis(200), now)));
        assert_eq!(vitals.cost(now), 200_000);
        assert_eq!(vitals.cost(now + Duration::from_secs(15)), 50_000, "a past peak is forgiven");
        vitals.begin();
        vitals.end(Some((Duration::ZERO, now)));
        assert!(vitals.cost(now) < 200_000);
    }
}

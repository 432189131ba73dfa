//! Is an endpoint fit to be called?
//!
//! [`Vitals`] is the one record of an endpoint that control task and workers share. Workers read state
//! and weight at the pick, count what became of their calls in a [`Lane`] of their own, and turn an
//! endpoint from OK to suspect the moment something breaks. The control task ([`crate::control`]) alone
//! makes every other step, by the rules of [`record`].
//!
//! ```text
//!                connection lost, stalled, five failures in a row (a worker sees it)
//!       ┌────────────────────────────────────────────────────────────┐
//!       │                                                            ▼
//!      OK ◄── two checks in a row pass ─────────────────────────  SUSPECT ◄── start
//!      ▲ │                                                           │
//!      │ │ it trips: five failures of its own making in a row ·      │ it trips ·
//!      │ │ success < 80 % · stalls again · checks fail               │ checks fail
//!      │ ▼                                                           ▼
//!      │ EJECTED ◄───────────────────────────────────────────────────┘
//!      │ │   ▲  5 s × 2ⁿ, at most 120 s, ± 20 %
//!      │ │   └────────── a probe fails ──────────┐
//!      │ └── its time is over ──► HALF-OPEN ─────┤ one call a second
//!      └──────────── ramp 10 → 100 % ◄───────────┘ three succeed, or checks pass for 30 s
//! ```
//! - A suspect is used where nobody else can answer; so is a half-open endpoint beyond its one call.
//! - What checks took out comes back by checks; what calls took out comes back by calls: a passing check
//!   never ends an ejection early, and a check without an answer does not eject an endpoint whose calls
//!   succeed, nor one that is alone.
//! - Nobody else has room: an endpoint that trips stays OK with a tenth of its weight.
//! - More than half of the nodes fail together ([`isolation`]): nobody is ejected.
//! - Slow ([`slow`]) is no state: the weight drops to 0.05 while another has room.
//!
//! What counts as a failure stands in [`outcome`], how many are too many in [`window`].

pub mod check;
pub mod isolation;
pub mod lane;
pub mod outcome;
pub mod ramp;
pub mod record;
pub mod slow;
pub mod window;

pub use lane::{Lane, Tally};
pub use outcome::{Given, Outcome};

use crate::{identity::dial::Dialer, table};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use window::Counted;

/// Fitness of an endpoint, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// In rotation.
    Ok = 0,
    /// Back on trial: one call a second.
    HalfOpen = 1,
    /// Doubtful or not checked yet: used where nobody else can answer.
    Suspect = 2,
    /// Out of rotation.
    Ejected = 3,
}

/// Why a worker doubts an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Doubt {
    /// A connection broke.
    ConnectionLost = 0,
    /// None can be opened.
    CannotConnect = 1,
    /// A connection with overdue calls does not even answer a ping.
    Stalled = 2,
    /// Several calls in a row failed.
    Failures = 3,
}

impl Doubt {
    const fn why(self) -> &'static str {
        match self {
            Self::ConnectionLost => "connection lost",
            Self::CannotConnect => "cannot connect",
            Self::Stalled => "a connection is stalled",
            Self::Failures => "five failures in a row",
        }
    }

    const fn of(number: u8) -> Self {
        match number {
            0 => Self::ConnectionLost,
            1 => Self::CannotConnect,
            2 => Self::Stalled,
            _ => Self::Failures,
        }
    }
}

/// Weight of an endpoint that is well.
pub const FULL_WEIGHT: u32 = 1000;

/// What workers read at the pick, in a cache line that is hardly ever written.
#[derive(Debug)]
#[repr(align(128))]
struct Shown {
    state: AtomicU8,
    /// Of [`FULL_WEIGHT`].
    weight: AtomicU32,
    /// A half-open endpoint may get a call.
    probe: AtomicBool,
    /// It refuses hardly anything, and its node is below its capacity.
    room: AtomicBool,
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
    /// How connections to it are secured; `None`: in the clear.
    pub dialer: Option<Dialer>,
    shown: Shown,
    lanes: Box<[Lane]>,
    /// Raised with every doubt: checks that began before it do not settle it.
    doubts: AtomicU32,
    doubt: AtomicU8,
    stalls: AtomicU32,
    since: Mutex<(Instant, &'static str)>,
    report: Mutex<check::Report>,
    changed: Arc<Notify>,
    /// Wakes the checker: something is wrong, look now.
    pub(crate) look: Notify,
}

impl Vitals {
    /// A clean record for so many workers.
    #[must_use]
    pub fn new(
        slot: usize,
        node: Arc<str>,
        endpoint: table::Endpoint,
        changed: Arc<Notify>,
        workers: usize,
    ) -> Self {
        let state = if endpoint.check == table::Check::None { State::Ok } else { State::Suspect };
        let now = Instant::now();
        Self {
            slot,
            node,
            endpoint,
            dialer: None,
            shown: Shown {
                state: AtomicU8::new(state as u8),
                weight: AtomicU32::new(FULL_WEIGHT),
                probe: AtomicBool::new(false),
                room: AtomicBool::new(true),
            },
            lanes: (0..workers).map(|_| Lane::new(now)).collect(),
            doubts: AtomicU32::new(0),
            doubt: AtomicU8::new(0),
            stalls: AtomicU32::new(0),
            since: Mutex::new((now, "not checked yet")),
            report: Mutex::default(),
            changed,
            look: Notify::new(),
        }
    }

    /// The same, reached over TLS.
    #[must_use]
    pub fn reached_by(self, dialer: Option<Dialer>) -> Self {
        Self { dialer, ..self }
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        match self.shown.state.load(Relaxed) {
            0 => State::Ok,
            1 => State::HalfOpen,
            2 => State::Suspect,
            _ => State::Ejected,
        }
    }

    /// May a new call go there, other things being equal? A half-open endpoint takes one a second.
    #[must_use]
    pub fn open(&self) -> bool {
        match self.state() {
            State::Ok => true,
            State::HalfOpen => self.shown.probe.load(Relaxed),
            State::Suspect | State::Ejected => false,
        }
    }

    /// A half-open endpoint that waits for a call.
    #[must_use]
    pub fn wants_probe(&self) -> bool {
        self.state() == State::HalfOpen && self.shown.probe.load(Relaxed)
    }

    /// Takes the one call of a half-open endpoint; false: another one was faster.
    #[must_use]
    pub fn take_probe(&self) -> bool {
        self.shown.probe.swap(false, Relaxed)
    }

    /// Weight in the draw among the endpoints of a node, 1 to [`FULL_WEIGHT`].
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.shown.weight.load(Relaxed)
    }

    /// It has room for calls that another node refused.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.shown.room.load(Relaxed)
    }

    /// What a worker has seen of it.
    ///
    /// # Panics
    /// Without such a worker.
    #[must_use]
    pub fn lane(&self, worker: usize) -> &Lane {
        &self.lanes[worker]
    }

    /// Since when the state is what it is, and why.
    #[must_use]
    pub fn since(&self) -> (Instant, &'static str) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker saw something break: doubt the endpoint until more is known.
    pub fn doubt(&self, doubt: Doubt) {
        if doubt == Doubt::Stalled {
            self.stalls.fetch_add(1, Relaxed);
        }
        self.doubt.store(doubt as u8, Relaxed);
        self.doubts.fetch_add(1, Relaxed);
        let (ok, suspect) = (State::Ok as u8, State::Suspect as u8);
        let _ = self.shown.state.compare_exchange(ok, suspect, Relaxed, Relaxed);
        self.changed.notify_one();
        self.look.notify_one();
    }

    /// Doubts so far.
    #[must_use]
    pub fn doubts(&self) -> u32 {
        self.doubts.load(Relaxed)
    }

    /// Attempts in flight from all workers.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.lanes.iter().map(Lane::in_flight).sum()
    }

    /// What the workers counted, added up.
    #[must_use]
    pub fn counted(&self, now: Instant) -> Counted {
        let mut sum = Counted::default();
        for (index, lane) in self.lanes.iter().enumerate() {
            sum.tally += lane.tally();
            sum.run = sum.run.max(lane.run());
            // Connections of different workers are different, whatever their numbers.
            sum.callers |= lane.callers(now).rotate_left(u32::try_from(index * 23 % 64).unwrap_or(0));
        }
        sum
    }

    /// Median latency over the workers that know one.
    #[must_use]
    pub fn median(&self, now: Instant) -> Duration {
        let known = self.lanes.iter().map(|lane| lane.median(now)).filter(|m| !m.is_zero());
        let (sum, n) = known.fold((Duration::ZERO, 0), |(sum, n), median| (sum + median, n + 1));
        sum.checked_div(n).unwrap_or_default()
    }

    /// What the checker found, for the control task.
    pub(crate) fn report(&self, report: check::Report) {
        let mut last = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != report {
            *last = report;
            self.changed.notify_one();
        }
    }

    /// What the control task needs for a step.
    pub(crate) fn seen(&self, now: Instant) -> record::Seen {
        record::Seen {
            state: self.state(),
            counted: self.counted(now),
            median: self.median(now),
            stalls: self.stalls.load(Relaxed),
            doubts: self.doubts(),
            doubt: Doubt::of(self.doubt.load(Relaxed)).why(),
            check: *self.report.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Shows the workers where it stands. For the control task only.
    pub(crate) fn show(&self, stand: &record::Stand, before: State, room: bool, now: Instant) {
        let state = stand.state as u8;
        // A doubt that came during the step is newer than the step: the next one deals with it.
        let _ = self.shown.state.compare_exchange(before as u8, state, Relaxed, Relaxed);
        let weight = (stand.weight * f64::from(FULL_WEIGHT)).round().clamp(1.0, f64::from(FULL_WEIGHT));
        self.shown.weight.store(weight as u32, Relaxed);
        self.shown.room.store(room && stand.room, Relaxed);
        if stand.probe || stand.state != State::HalfOpen {
            self.shown.probe.store(stand.probe, Relaxed);
        }
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.1 != stand.why || stand.state != before {
            *since = (now, stand.why);
            let (state, why) = (stand.state, stand.why);
            tracing::info!(node = %self.node, endpoint = %self.endpoint.name, ?state, why,
                "endpoint changed state");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

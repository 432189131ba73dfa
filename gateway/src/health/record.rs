//! Which state is an endpoint in, and why?
//!
//! [`Record::step`] is the state machine, pure: counters, check reports and the clock come in, the
//! [`Stand`] of the endpoint comes out. The control task takes a step for every endpoint four times a
//! second, and at once when a worker or a checker has something to say. The diagram is in [`super`].

use super::{
    State,
    check::{Report, Standing},
    ramp::Ramp,
    slow::Slow,
    window::{Counted, Trip, Window},
};
use std::time::{Duration, Instant};

/// First ejection; each further one takes twice as long.
const EJECTION: Duration = Duration::from_secs(5);
/// No ejection is longer.
const EJECTION_MAX: Duration = Duration::from_secs(120);
/// In rotation for so long: the next ejection is a first one again.
const STEADY: Duration = Duration::from_secs(120);
/// Time between two calls to a half-open endpoint.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Successes that close it.
const PROBES: u64 = 3;
/// Half-open for so long without enough calls, and without a failure: passing checks close it.
const UNASKED: Duration = Duration::from_secs(30);
/// Stalls within [`STALL_SPAN`] that trip, where checks can tell a process from its kernel.
const STALLS: usize = 2;
const STALL_SPAN: Duration = Duration::from_secs(10);
const STALL_GAP: Duration = Duration::from_secs(1);
/// Weight of an endpoint that fails, and that nobody can stand in for.
const SPARED: f64 = 0.1;
/// A spared endpoint with few calls has proved itself after this time at the earliest.
const CLEAN_AFTER: Duration = Duration::from_secs(10);
/// Weight of a slow endpoint while another has room.
const SLOW: f64 = 0.05;

/// What the control task reads of an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The state, which a worker may have turned to suspect.
    pub state: State,
    /// What the workers counted.
    pub counted: Counted,
    /// Median latency.
    pub median: Duration,
    /// Connections that stalled so far.
    pub stalls: u32,
    /// Doubts of workers so far.
    pub doubts: u32,
    /// Why a worker doubted it last.
    pub doubt: &'static str,
    /// What the checks say.
    pub check: Report,
}

/// What does not depend on the endpoint alone.
#[derive(Debug, Clone, Copy)]
pub struct Around {
    /// Somebody else can take its calls, and has room.
    pub others: bool,
    /// Nobody may be ejected now.
    pub frozen: bool,
    /// Somebody else carried its calls while it was away: it returns in steps.
    pub ramp: Option<Ramp>,
    /// 0.8 to 1.2.
    pub jitter: f64,
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stand {
    /// The state.
    pub state: State,
    /// Why.
    pub why: &'static str,
    /// Weight in the draw inside its node, 0 to 1.
    pub weight: f64,
    /// Its part of the node's health, 0 to 1.
    pub health: f64,
    /// A call may go to it although it is half-open.
    pub probe: bool,
    /// It refuses hardly anything.
    pub room: bool,
    /// What has just happened.
    pub event: Option<Event>,
}

/// What happened to an endpoint, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Calls failed: it is out.
    Tripped(Trip),
    /// Checks failed: it is out.
    CheckedOut,
    /// Calls failed, but nobody else has room: it carries on with little weight.
    Spared(Trip),
    /// Its time is over: single calls may try.
    HalfOpened,
    /// A probe failed: it is out again.
    ProbeFailed,
    /// It is back in rotation.
    Returned,
    /// It has become slow.
    Slowed,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Passive {
    Closed,
    Ejected { until: Instant, cause: Trip },
    HalfOpen { good: u64, bad: u64, stalls: u32, since: Instant, next: Instant },
}

/// One endpoint as the control task knows it.
#[derive(Debug)]
pub struct Record {
    passive: Passive,
    /// Checks took it out.
    down: bool,
    /// Ejections in a row.
    ejections: u32,
    /// It trips, but nobody can stand in for it: since when it last tripped.
    spared: Option<Instant>,
    /// In rotation since.
    since: Option<Instant>,
    ramp: Option<Instant>,
    window: Window,
    slow: Slow,
    stalls: Vec<Instant>,
    stalls_seen: u32,
    /// Calls alone can tell a living process from a kernel that accepts for it.
    blind_checks: bool,
    why: &'static str,
}

impl Record {
    /// A clean record. `blind_checks`: checks end in the kernel, or there are none.
    #[must_use]
    pub fn new(blind_checks: bool, now: Instant) -> Self {
        Self {
            passive: Passive::Closed,
            down: false,
            ejections: 0,
            spared: None,
            since: None,
            ramp: None,
            window: Window::new(now),
            slow: Slow::default(),
            stalls: Vec::new(),
            stalls_seen: 0,
            blind_checks,
            why: "not checked yet",
        }
    }

    /// Judges the endpoint anew.
    pub fn step(&mut self, seen: &Seen, around: &Around, now: Instant) -> Stand {
        self.window.feed(seen.counted, now);
        let slowed = self.slow.feed(seen.median, self.window.calls(), now);
        let stalled = self.stalls(seen.stalls, now);
        let was_in = seen.state == State::Ok;
        let passive = self.passive_step(seen, stalled, around, now);
        let active = self.active_step(seen, around);
        let state = self.state(seen, around);
        let mut event = passive.or(active);
        if state == State::Ok {
            if !was_in && self.since.is_none() {
                self.ramp = around.ramp.map(|_| now);
                event = event.or(Some(Event::Returned));
            }
            let since = *self.since.get_or_insert(now);
            if now.saturating_duration_since(since) >= STEADY {
                self.ejections = 0;
            }
        } else if state != State::Suspect {
            // A short suspicion is no absence.
            self.since = None;
        }
        if slowed && event.is_none() {
            event = Some(Event::Slowed);
        }
        self.stand(state, around, event, now)
    }

    fn stand(&mut self, state: State, around: &Around, event: Option<Event>, now: Instant) -> Stand {
        let ramp = match (self.ramp, around.ramp) {
            (Some(since), Some(ramp)) => ramp.at(since, now),
            _ => None,
        };
        if ramp.is_none() {
            self.ramp = None;
        }
        let slow = if self.slow.is() && around.others { SLOW } else { 1.0 };
        let spared = if self.spared.is_some() { SPARED } else { 1.0 };
        let refused = self.window.refused();
        let fit = match state {
            State::Ok => slow * spared,
            // Frozen: what looks lost is thought to be well.
            State::Suspect if around.frozen => 1.0,
            State::HalfOpen | State::Suspect | State::Ejected => 0.0,
        };
        let probe = match &mut self.passive {
            Passive::HalfOpen { next, .. } if state == State::HalfOpen && now >= *next => {
                *next = now + PROBE_EVERY;
                true
            }
            _ => false,
        };
        Stand {
            state,
            why: self.why,
            weight: (ramp.unwrap_or(1.0) * slow * spared * (1.0 - refused)).max(0.01),
            health: fit,
            probe,
            room: state == State::Ok && refused < 0.1 && !self.slow.is() && self.spared.is_none(),
            event,
        }
    }

    fn passive_step(&mut self, seen: &Seen, stalled: bool, around: &Around, now: Instant) -> Option<Event> {
        match self.passive {
            Passive::Closed => {
                let trip = if stalled { Some(Trip::Stalled) } else { self.window.trip() };
                let Some(trip) = trip else {
                    // Enough calls without a trip, or few in some time: it has proved itself.
                    let calm = self.spared.is_some_and(|at| now.saturating_duration_since(at) >= CLEAN_AFTER);
                    if self.window.proves_health() || (calm && self.window.is_clean()) {
                        self.spared = None;
                    }
                    return None;
                };
                if around.frozen {
                    return None;
                }
                self.window.clear();
                if around.others {
                    self.eject(trip, around, now);
                    return Some(Event::Tripped(trip));
                }
                let event = self.spared.is_none().then_some(Event::Spared(trip));
                (self.spared, self.why) = (Some(now), trip.why());
                event
            }
            Passive::Ejected { until, .. } if now >= until => {
                let tally = seen.counted.tally;
                self.passive = Passive::HalfOpen {
                    good: tally.good,
                    bad: tally.own + tally.lost,
                    stalls: seen.stalls,
                    since: now,
                    next: now,
                };
                self.why = "half-open: single calls try it";
                Some(Event::HalfOpened)
            }
            Passive::Ejected { cause, .. } if !around.others => {
                // Whoever stood in for it is gone.
                (self.passive, self.spared, self.why) = (Passive::Closed, Some(now), cause.why());
                Some(Event::Spared(cause))
            }
            Passive::Ejected { .. } => None,
            Passive::HalfOpen { good, bad, stalls, since, .. } => {
                let tally = seen.counted.tally;
                // One app's garbage is no failed probe.
                if tally.own + tally.lost > bad || seen.stalls != stalls {
                    self.window.clear();
                    self.eject(Trip::InARow, around, now);
                    self.why = "a probe failed";
                    return Some(Event::ProbeFailed);
                }
                if tally.good >= good + PROBES {
                    self.window.clear();
                    (self.passive, self.spared, self.why) = (Passive::Closed, None, "probes succeeded");
                } else if seen.check.standing == Standing::Up
                    && now.saturating_duration_since(since) >= UNASKED
                {
                    // Others carry everything, so that hardly a call tries it: the checks must do, and a
                    // ramp follows.
                    self.window.clear();
                    (self.passive, self.spared, self.why) = (Passive::Closed, None, "checks pass");
                }
                None
            }
        }
    }

    fn eject(&mut self, cause: Trip, around: &Around, now: Instant) {
        let time = (EJECTION * 2u32.saturating_pow(self.ejections.min(10))).min(EJECTION_MAX);
        self.ejections += 1;
        self.spared = None;
        self.passive = Passive::Ejected { until: now + time.mul_f64(around.jitter), cause };
        self.why = cause.why();
    }

    fn active_step(&mut self, seen: &Seen, around: &Around) -> Option<Event> {
        let was = self.down;
        self.down = match seen.check.standing {
            Standing::Fresh | Standing::Up => false,
            // It says itself that it leaves, or nobody is there.
            Standing::Leaving | Standing::Gone => was || !around.frozen,
            // The passive signal wins: calls succeed, whatever the checks say. And where nobody else can
            // answer, calls find out more than a check that got no word.
            Standing::Failing => was || !(around.frozen || !around.others || self.calls_succeed()),
        };
        if self.down && !was {
            self.why = seen.check.standing.why();
            return Some(Event::CheckedOut);
        }
        None
    }

    fn calls_succeed(&self) -> bool {
        self.window.proves_health() || self.window.answers()
    }

    fn state(&mut self, seen: &Seen, around: &Around) -> State {
        if self.down {
            return State::Ejected;
        }
        match self.passive {
            Passive::Ejected { .. } => State::Ejected,
            Passive::HalfOpen { .. } => State::HalfOpen,
            Passive::Closed => {
                let vouched = seen.check.vouched == Some(seen.doubts);
                // Nobody else has room, and it is known to be no better: doubting it helps nobody.
                let alone = self.spared.is_some() && !around.others;
                let proven = matches!(seen.state, State::Ok | State::HalfOpen);
                if proven || vouched || alone {
                    if seen.state != State::Ok && self.spared.is_none() {
                        self.why = "in rotation";
                    }
                    State::Ok
                } else {
                    if seen.doubts > 0 {
                        self.why = seen.doubt;
                    }
                    State::Suspect
                }
            }
        }
    }

    /// Its connections have stalled too often.
    fn stalls(&mut self, total: u32, now: Instant) -> bool {
        // Every worker has a connection of its own: what stalls within a second is one stall.
        let fresh = self.stalls.last().is_none_or(|last| now.saturating_duration_since(*last) > STALL_GAP);
        if total != self.stalls_seen && fresh {
            self.stalls.push(now);
        }
        self.stalls_seen = total;
        self.stalls.retain(|at| now.saturating_duration_since(*at) < STALL_SPAN);
        let limit = if self.blind_checks { 1 } else { STALLS };
        let tripped = self.stalls.len() >= limit;
        if tripped {
            self.stalls.clear();
        }
        tripped
    }

    /// It was in rotation until a moment ago, or is.
    #[must_use]
    pub const fn was_in_rotation(&self) -> bool {
        self.since.is_some()
    }

    /// The gateway's own network was the culprit: what was ejected lately goes back to being suspected.
    pub fn pardon(&mut self) {
        if self.passive != Passive::Closed {
            self.passive = Passive::Closed;
            self.ejections = self.ejections.saturating_sub(1);
        }
        self.down = false;
        self.window.clear();
        self.why = "the gateway's own network is suspect";
    }
}

#[cfg(test)]
mod tests;

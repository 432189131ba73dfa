//! How does a call go from one attempt to the next?
//!
//! [`Course`] remembers where it has been and what it may still do, asks [`retry::decide`] about every
//! failure, and pays for retries: from the budget of the region at the node where the call began, and
//! only while fewer than a fifth of the calls in flight are retries.

use super::{
    Call, Stop,
    attempt::{self, Ask, Chosen, Interrupt, Tried},
};
use crate::{
    admission::bulkhead::Place,
    health::State,
    retry::{self, Decision, Failure, Progress, Scope, budget::Budget},
    snapshot::Resolved,
    telemetry::rules::Rule,
    worker::Worker,
};
use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};
use suiyue_proto::{
    method::Class,
    priority::{Priority, places},
    reason::Reason,
    region::Code,
};

/// Lets a call into its region: counts it, and finds a place among the calls in flight.
///
/// # Errors
/// The region has as many calls in flight as it may, or as calls of this class may share.
pub fn enter<'a>(
    worker: &'a Worker,
    resolved: &Resolved,
    region: Code,
    class: Class,
) -> Result<Place<'a>, Reason> {
    resolved.demand.count(worker.index, class);
    let workers = worker.metrics.connections.len().max(1);
    let ceiling = resolved.in_flight_max.map(|max| max.div_ceil(u32::try_from(workers).unwrap_or(1)));
    let (load, limit) = (worker.load.in_flight(), worker.limits.in_flight);
    let part = ceiling.map(|all| u32::try_from(places(all as usize, class)).unwrap_or(all));
    worker.bulkhead.admit(region, load, places(limit, class), part).ok_or_else(|| {
        // A scan would get in.
        let shed = worker.bulkhead.admit(region, load, limit, ceiling).is_some();
        let (rule, reason) = match shed {
            true => (Rule::Shed, Reason::ShedLowPriority),
            false => (Rule::Bulkhead, Reason::RegionOverloaded),
        };
        worker.metrics.rules.count(worker.index, rule);
        reason
    })
}

/// A call waits so long on a stalled connection before it goes where it may not be answered either.
const PATIENCE: Duration = Duration::from_millis(600);

/// Retries in flight on one worker that are always allowed: a fifth of few is nothing, and the budget
/// bounds them as well.
const FEW: usize = 16;
/// Calls in flight for each further one.
const PER_RETRY: usize = 5;

/// A retry in flight: counts until dropped.
struct Retrying(Rc<Worker>);

impl Drop for Retrying {
    fn drop(&mut self) {
        self.0.retrying.set(self.0.retrying.get() - 1);
    }
}

/// One call's way.
pub struct Course<'a> {
    resolved: &'a Resolved,
    tried: Tried,
    progress: Progress,
    scope: Scope,
    /// Of the node where the call began.
    budget: Option<&'a Arc<Budget>>,
    /// The first attempt did not go where the plan says.
    astray: bool,
    last: Reason,
    /// The last endpoint refused without processing.
    refused: bool,
    /// It leaves a dead connection: it must go somewhere.
    moves: bool,
    retrying: Cell<Option<Retrying>>,
}

impl<'a> Course<'a> {
    /// A call that goes nowhere yet.
    #[must_use]
    pub fn new(call: &mut Call, resolved: &'a Resolved) -> Self {
        // Without a subject the call goes anywhere, but always by the same key.
        call.asked.subject.get_or_insert_with(|| call.worker.random());
        Self {
            resolved,
            tried: Tried::default(),
            progress: Progress {
                idempotency: call.asked.method.idempotency,
                kept: true,
                attempts: 0,
                moved_after_sending: false,
                shed: false,
            },
            scope: Scope::Anywhere,
            budget: None,
            astray: false,
            last: Reason::NoNodeAvailable,
            refused: false,
            moves: false,
            retrying: Cell::new(None),
        }
    }

    /// The endpoint of the next attempt.
    ///
    /// # Errors
    /// Nobody is left: why the last attempt failed.
    pub fn next(&mut self, call: &Call) -> Result<Chosen<'a>, Reason> {
        // An endpoint that refused without processing may be asked again where it is the only one.
        let find = |tried: &Tried| self.find(call, tried, self.scope, self.moves);
        let again = || self.refused.then(|| find(&Tried::default())).flatten();
        let chosen = find(&self.tried).or_else(again).ok_or(self.last)?;
        if self.tried.is_empty() {
            chosen.target.budget.deposit(call.worker.index);
            self.budget = Some(&chosen.target.budget);
            self.astray = !chosen.planned;
        }
        self.tried.push(chosen);
        self.progress.attempts += 1;
        Ok(chosen)
    }

    fn find(&self, call: &Call, tried: &Tried, scope: Scope, last_resort: bool) -> Option<Chosen<'a>> {
        let key = call.asked.subject.unwrap_or_default();
        let method = &call.asked.method;
        // The plan fails open for these, but it is made for whoever comes next.
        let last_resort = last_resort && method.class <= Class::Show;
        let ask = Ask { access: method.access, key, tried, scope, last_resort };
        attempt::choose(self.resolved, &ask, call.dice())
    }

    /// The node would send this call away, and need not be asked. True: the call may go on elsewhere.
    ///
    /// # Errors
    /// [`Reason::ShedLowPriority`]: it may not.
    pub fn is_shed(&self, call: &Call, chosen: &Chosen<'_>) -> Result<bool, Reason> {
        let priority = || Priority::new(call.asked.method.class, call.level());
        if !chosen.vitals.word.refuses(priority, call.now) {
            return Ok(false);
        }
        call.worker.metrics.rules.count(call.worker.index, Rule::Shed);
        // As if it had been asked.
        if self.pays(call, Failure::Exhausted) { Ok(true) } else { Err(Reason::ShedLowPriority) }
    }

    /// The number of the attempt as the caller is told: 1 is the plan's own pick and nothing else.
    #[must_use]
    pub fn shown(&self) -> u8 {
        self.progress.attempts + u8::from(self.astray)
    }

    /// Not all of what was sent is at hand any more, or it is again.
    pub fn kept(&mut self, kept: bool) {
        self.progress.kept = kept;
    }

    /// Another attempt may follow if none is answered in time.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(retry::decide(Failure::Timeout, self.progress, true), Decision::Retry(_))
    }

    /// The call may leave a stalled connection.
    #[must_use]
    pub fn may_move(&self) -> bool {
        retry::decide(Failure::Stalled, self.progress, true) == Decision::Move
    }

    /// There is somewhere to go for a call that was `sent` on a stalled connection. At first only to who
    /// is well: a node that is merely late answers sooner than one that is doubted as well.
    #[must_use]
    pub fn can_move(&self, call: &Call, sent: Instant) -> bool {
        let patient = call.now.saturating_duration_since(sent) < PATIENCE;
        let found = self.find(call, &self.tried, Scope::Anywhere, !patient);
        found.is_some_and(|to| !patient || (to.vitals.state() == State::Ok && to.vitals.has_room()))
    }

    /// Pays for a retry after a failure; false if there must be none.
    #[must_use]
    pub fn pays(&self, call: &Call, failure: Failure) -> bool {
        let worker = &call.worker;
        let places = places(worker.limits.in_flight, call.asked.method.class);
        let progress = Progress { shed: worker.load.in_flight() > places, ..self.progress };
        let Decision::Retry(scope) = retry::decide(failure, progress, true) else { return false };
        let Some(budget) = self.budget.filter(|budget| budget.is_open(worker.index)) else {
            return false;
        };
        if self.find(call, &self.tried, scope, false).is_none() {
            return false;
        }
        let counted = self.retrying.take().or_else(|| Retrying::begin(worker));
        let paid = counted.is_some() && budget.spend(worker.index);
        self.retrying.set(counted.filter(|_| paid));
        paid
    }

    /// Gets ready for the next attempt after a failure; retries were paid for before.
    ///
    /// # Errors
    /// That was the last attempt.
    pub fn failed(&mut self, call: &Call, failure: Failure) -> Result<Wait, Reason> {
        self.last = match failure {
            Failure::NotSent | Failure::Refused => Reason::NoNodeAvailable,
            Failure::Timeout => Reason::DeadlineExceeded,
            Failure::Exhausted => Reason::ShedLowPriority,
            Failure::Lost | Failure::Stalled | Failure::Unavailable => Reason::UpstreamLost,
        };
        self.refused = failure == Failure::Refused;
        match retry::decide(failure, self.progress, true) {
            Decision::GiveUp => Err(self.last),
            Decision::Move => {
                self.progress.moved_after_sending |= matches!(failure, Failure::Lost | Failure::Stalled);
                (self.scope, self.moves) = (Scope::Anywhere, true);
                if let Some(budget) = self.budget {
                    budget.moved(call.worker.index);
                }
                Ok(None)
            }
            Decision::Retry(scope) => {
                (self.scope, self.moves) = (scope, false);
                let delay = retry::delay(self.progress.attempts, call.worker.random());
                Ok((!delay.is_zero()).then_some(delay))
            }
        }
    }
}

/// Time to wait before the next attempt.
pub type Wait = Option<Duration>;

/// Waits before a third attempt.
///
/// # Errors
/// The caller hung up.
#[cold]
pub async fn pause(call: &mut Call, delay: Duration) -> Result<(), Stop> {
    let mut timer = Some(call.worker.wheel.arm(call.now + delay));
    match call.wait(&mut timer, |_| Poll::<()>::Pending).await {
        Ok(()) | Err(Interrupt::TimeUp) => Ok(()),
        Err(Interrupt::Gone) => Err(Stop::Gone),
    }
}

impl Retrying {
    /// Counts a retry, if not too many calls in flight are retries.
    fn begin(worker: &Rc<Worker>) -> Option<Self> {
        let limit = (worker.load.in_flight() / PER_RETRY).max(FEW);
        if worker.retrying.get() >= limit {
            worker.metrics.rules.count(worker.index, Rule::RetryCeiling);
            return None;
        }
        worker.retrying.set(worker.retrying.get() + 1);
        Some(Self(worker.clone()))
    }
}

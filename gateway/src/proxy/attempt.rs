//! Which endpoint is tried, and how does one try end?
//!
//! [`choose`] takes the plan's pick, and where that cannot be called at this moment the next best:
//! another candidate in tier order, a suspect, and an ejected one only where the plan fails open. Only
//! the plan's own pick is attempt 1: whatever goes elsewhere says attempt 2, so that `explain` can
//! reproduce every first attempt. [`Try`] is one call in flight at one endpoint.

use super::intake;
use crate::{
    admission::shedding,
    balancer,
    clock::unix_ms,
    health::{Doubt, Given, Outcome, State, Vitals, outcome, window},
    http2::{self, Fields, client::RequestHead},
    plan::Reason as PlanReason,
    proxy::{
        Call, Stop,
        answer::{self, Origin},
    },
    retry::{self, Failure, MAX_ATTEMPTS, Scope},
    snapshot::{Resolved, Target},
    telemetry::{AnswerReason, End, rules::Rule},
    timer::Timer,
    upstream::{Line, NotSent, Pool},
    worker::View,
};
use http::{HeaderName, HeaderValue};
use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};
use suiyue_proto::{
    metadata,
    method::{Access, Shape},
    reason::Reason,
    region::Code,
    verdict::Tally,
};

/// Answers must be on their way this long before the caller's deadline.
pub const MARGIN: Duration = Duration::from_millis(10);

/// Where an attempt goes.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    /// The candidate.
    pub target: &'a Target,
    /// Its endpoint.
    pub vitals: &'a Arc<Vitals>,
    /// Why.
    pub reason: AnswerReason,
    /// It is what the plan picks for the subject.
    pub planned: bool,
}

/// What a choice between equals depends on.
#[derive(Clone, Copy)]
pub struct Dice {
    /// 64 random bits.
    pub random: u64,
    /// Latencies are forgiven up to now.
    pub now: Instant,
    /// Whose calls in flight count.
    pub worker: usize,
}

/// Endpoints that were tried: slot and tier.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tried {
    places: [(u32, u8); MAX_ATTEMPTS as usize],
    len: u8,
}

impl Tried {
    /// One more was tried.
    pub fn push(&mut self, chosen: Chosen<'_>) {
        if let Some(place) = self.places.get_mut(usize::from(self.len)) {
            *place = (chosen.vitals.slot as u32, chosen.target.tier);
            self.len += 1;
        }
    }

    fn places(&self) -> &[(u32, u8)] {
        &self.places[..usize::from(self.len)]
    }

    /// Nothing was tried yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What is looked for.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Authority methods go to tier 0 only.
    pub access: Access,
    /// The subject's key.
    pub key: u64,
    /// None of these.
    pub tried: &'a Tried,
    /// Where it may be.
    pub scope: Scope,
    /// Better an ejected endpoint than none.
    pub last_resort: bool,
}

impl Ask<'_> {
    fn admits(&self, target: &Target) -> bool {
        let other_tier = || self.tried.places().iter().all(|(_, tier)| *tier != target.tier);
        !(self.access == Access::Authority && target.tier > 0)
            && (self.scope == Scope::Anywhere || other_tier())
    }

    /// The best of a target's endpoints that is at least as fit as `worst`.
    fn find<'a>(&self, target: &'a Target, dice: Dice, worst: State) -> Option<&'a Arc<Vitals>> {
        let endpoints = &target.endpoints;
        if self.tried.is_empty() {
            // Its one call a second says whether it is back.
            let probe = endpoints.iter().find(|vitals| vitals.wants_probe());
            if let Some(vitals) = probe.filter(|vitals| vitals.take_probe()) {
                return Some(vitals);
            }
        }
        let weight = |i: usize| {
            let vitals = &endpoints[i];
            let fit = vitals.state() <= worst
                && self.tried.places().iter().all(|(slot, _)| *slot as usize != vitals.slot)
                && (self.scope != Scope::OtherTierWithRoom || vitals.has_room());
            if fit { vitals.weight() } else { 0 }
        };
        let cost = |i: usize| endpoints[i].lane(dice.worker).cost(dice.now);
        balancer::choose(endpoints.len(), dice.random, weight, cost).map(|at| &endpoints[at])
    }
}

/// The endpoint for the next attempt; `None`: nobody is left.
pub fn choose<'a>(resolved: &'a Resolved, ask: &Ask<'_>, dice: Dice) -> Option<Chosen<'a>> {
    let pick = resolved.route.pick(ask.key);
    let picked = pick.map(|pick| &resolved.targets[pick.candidate]).filter(|target| ask.admits(target));
    let planned = pick.map_or(AnswerReason::Failover, |pick| answer::reason_of(pick.reason));
    let chosen = |(target, vitals): (&'a Target, &'a Arc<Vitals>)| {
        let own = ask.tried.is_empty() && picked.is_some_and(|picked| std::ptr::eq(picked, target));
        let reason = match target.reason {
            _ if !ask.tried.is_empty() => AnswerReason::Retry,
            _ if own => planned,
            PlanReason::FailOpen => AnswerReason::FailOpen,
            _ => AnswerReason::Failover,
        };
        Chosen { target, vitals, reason, planned: own }
    };
    let at = |target: &'a Target, worst| Some((target, ask.find(target, dice, worst)?));
    if let Some(found) = picked.and_then(|target| at(target, State::Ok)) {
        return Some(chosen(found));
    }
    let desperate = |target: &&'a Target| target.reason == PlanReason::FailOpen;
    // Nobody is healthy, and the plan says to try this one all the same.
    let tried_anyway = picked.filter(desperate).and_then(|target| worsening(target, at));
    tried_anyway.or_else(|| fallback(resolved, ask, picked, at)).map(chosen)
}

/// The fittest endpoint of a target, however unfit.
fn worsening<'a, T>(target: &'a Target, at: impl Fn(&'a Target, State) -> Option<T>) -> Option<T> {
    [State::Suspect, State::Ejected].into_iter().find_map(|worst| at(target, worst))
}

/// Somebody who can be called although the plan's pick cannot.
fn fallback<'a, T>(
    resolved: &'a Resolved,
    ask: &Ask<'_>,
    picked: Option<&'a Target>,
    at: impl Fn(&'a Target, State) -> Option<T>,
) -> Option<T> {
    // One with old data comes after all that have fresh ones.
    let stale = |t: &&'a Target| t.reason == PlanReason::Stale;
    let allowed = || resolved.targets.iter().filter(|t| ask.admits(t) && !t.reason.excludes());
    let others = || allowed().filter(move |t| !stale(t)).chain(allowed().filter(stale));
    // Nobody is in rotation, but somebody was not checked yet or is only suspected: better than nobody.
    let unsettled = || resolved.targets.iter().filter(|t| ask.admits(t) && t.reason == PlanReason::Unhealthy);
    let anybody = || others().chain(unsettled()).filter(|_| ask.last_resort);
    others()
        .find_map(|target| at(target, State::Ok))
        .or_else(|| picked.into_iter().chain(others()).find_map(|target| at(target, State::Suspect)))
        .or_else(|| {
            let desperate = others().filter(|target| target.reason == PlanReason::FailOpen);
            desperate.into_iter().find_map(|target| at(target, State::Ejected))
        })
        .or_else(|| unsettled().find_map(|target| at(target, State::Suspect)))
        .or_else(|| anybody().find_map(|target| at(target, State::Ejected)))
}

/// Why waiting ended before what was waited for.
#[derive(Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The caller hung up.
    Gone,
    /// The time of this attempt is over.
    TimeUp,
}

/// One call in flight at one endpoint. Dropping it before it has ended takes it out of the counts, and
/// its stream is reset.
pub struct Try {
    /// The connections it went out on.
    pub pool: Rc<Pool>,
    /// When it was sent.
    pub sent: Instant,
    /// Any number of the caller's connection.
    caller: u32,
    finished: bool,
}

impl Try {
    fn begin(pool: Rc<Pool>, caller: u32, now: Instant) -> Self {
        pool.lane().begin();
        Self { pool, sent: now, caller, finished: false }
    }

    /// It has ended, and this is what that says.
    pub fn end(&mut self, outcome: Outcome, now: Instant) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let run = self.pool.lane().end(outcome, self.caller, now);
        if outcome == Outcome::Own && run == window::IN_A_ROW {
            self.pool.vitals.doubt(Doubt::Failures);
        }
    }

    /// An answer came. What fails or refuses is fast, and says nothing about how long work takes.
    pub fn answered(&mut self, outcome: Outcome, now: Instant) {
        if matches!(outcome, Outcome::Good | Outcome::Soft) {
            self.pool.lane().sample(now.saturating_duration_since(self.sent), true, now);
        }
        self.end(outcome, now);
    }

    /// It has too much to do, and says up to where it takes calls.
    pub fn hear(&self, headers: &Fields, now: Instant) {
        let told = headers.get(&metadata::ADMIT).and_then(|value| value.to_str().ok());
        if let Some(Ok(cursor)) = told.map(str::parse) {
            self.pool.vitals.word.hear(cursor, now);
        }
    }

    /// None came in the time that it was given.
    pub fn silent(&mut self, given: Given, now: Instant) {
        self.pool.lane().sample(now.saturating_duration_since(self.sent), false, now);
        self.end(outcome::of_silence(given), now);
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        self.end(Outcome::Unjudged, self.sent);
    }
}

impl Call {
    /// Waits for `ready`, but no longer than the timer, and only while the caller is there.
    ///
    /// # Errors
    /// [`Interrupt`], when something else came first.
    pub async fn wait<T>(
        &mut self,
        timer: &mut Option<Timer>,
        mut ready: impl FnMut(&mut std::task::Context<'_>) -> Poll<T>,
    ) -> Result<T, Interrupt> {
        let mut waited = false;
        let result = poll_fn(|cx| {
            if let Poll::Ready(value) = ready(cx) {
                return Poll::Ready(Ok(value));
            }
            waited = true;
            if self.respond.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Interrupt::Gone));
            }
            match timer {
                Some(timer) => timer.poll_fired(cx).map(|()| Err(Interrupt::TimeUp)),
                None => Poll::Pending,
            }
        })
        .await;
        if waited {
            self.now = Instant::now();
        }
        result
    }

    /// Sends one attempt, the way `start` does it. `Ok(None)`: nothing was sent.
    ///
    /// # Errors
    /// The caller hung up, or less time is left than an answer takes.
    pub async fn open<T>(
        &mut self,
        view: &View,
        vitals: &Arc<Vitals>,
        mut start: impl FnMut(&Pool, Rc<Line>, RequestHead<'_>) -> Result<T, NotSent>,
    ) -> Result<Option<(Try, T)>, Stop> {
        self.trace.attempt(vitals, self.now);
        self.trace.write(&mut self.asked.headers);
        let Some(pool) = view.pool(vitals) else { return Ok(None) };
        self.has_time(pool)?;
        let attempt = Try::begin(pool.clone(), self.caller(), self.now);
        // A connection that was told to go away is found out here; the next one takes the call.
        for _ in 0..2 {
            let Some(line) = pool.line() else { break };
            let extra = self.extra(pool)?;
            if let Ok(sent) = start(pool, line, self.head(pool, extra.as_slice())) {
                return Ok(Some((attempt, sent)));
            }
        }
        let Some(line) = self.connected(pool).await? else { return Ok(None) };
        let extra = self.extra(pool)?;
        Ok(start(pool, line, self.head(pool, extra.as_slice())).ok().map(|sent| (attempt, sent)))
    }

    /// What an attempt usually takes must be left.
    fn has_time(&self, pool: &Pool) -> Result<(), Reason> {
        let Some(deadline) = self.asked.deadline else { return Ok(()) };
        let method = &self.asked.method;
        let median = if method.shape == Shape::Unary { pool.lane().median(self.now) } else { Duration::ZERO };
        let least = retry::least_time(median, intake::default_timeout(method.class));
        if deadline.saturating_duration_since(self.now) >= least {
            return Ok(());
        }
        self.worker.metrics.rules.count(self.worker.index, Rule::TooLate);
        Err(Reason::DeadlineExceeded)
    }

    /// Had the node as much time as the method's class allows?
    #[must_use]
    pub fn given(&self, attempt: &Try) -> Given {
        let waited = self.now.saturating_duration_since(attempt.sent);
        let p99 = self.worker.paces.p99(&self.asked.method);
        let enough = retry::had_time(waited, intake::default_timeout(self.asked.method.class), p99);
        if enough { Given::Enough } else { Given::Short }
    }

    /// Any number of the caller's connection.
    fn caller(&self) -> u32 {
        // An address; its lowest bits are equal everywhere.
        (Rc::as_ptr(&self.cut) as usize >> 3) as u32
    }

    /// Random bits and the clock, for a choice.
    #[must_use]
    pub fn dice(&self) -> Dice {
        Dice { random: self.worker.random(), now: self.now, worker: self.worker.index }
    }

    /// Waits for a connection to the endpoint.
    #[cold]
    async fn connected(&mut self, pool: &Rc<Pool>) -> Result<Option<Rc<Line>>, Stop> {
        let mut timer = self.asked.deadline.map(|at| self.worker.wheel.arm(at));
        let mut opening = Box::pin(pool.connected());
        let line = self.wait(&mut timer, |cx| opening.as_mut().poll(cx)).await;
        match line {
            Ok(line) => Ok(line.ok()),
            Err(Interrupt::Gone) => Err(Stop::Gone),
            Err(Interrupt::TimeUp) => Err(Reason::DeadlineExceeded.into()),
        }
    }

    /// Counts the end of the call at the node that answered.
    pub fn count(&mut self, attempt: &Try, origin: Origin<'_>, code: u8) {
        let end = End {
            region: self.asked.region.map_or(0, Code::get),
            class: self.asked.method.class,
            tier: origin.target.tier,
            reason: origin.reason,
            code,
            retried: origin.attempt > 1,
            streamed: self.asked.method.shape != Shape::Unary,
        };
        let latency = self.now.saturating_duration_since(self.start);
        let (pool, worker) = (&attempt.pool, &self.worker);
        pool.series.count(&worker.metrics, worker.index, &pool.vitals.node, end, latency);
        self.trace.answered(&pool.vitals.node, end, self.now);
        self.ended(code);
    }

    /// The call has ended with this gRPC status: its app's numbers follow when it is dropped.
    pub fn ended(&self, code: u8) {
        if let Some(app) = &self.app {
            app.ended(code);
        }
    }

    /// The app may ask about this region; the metadata's was judged when it was let in.
    ///
    /// # Errors
    /// It may not.
    pub fn may_ask(&self, region: Code) -> Result<(), Reason> {
        self.app.as_ref().map_or(Ok(()), |app| app.region(region))
    }

    /// Takes what the node judged out of its answer, and counts it.
    pub fn take_verdicts(&self, attempt: &Try, headers: &mut Fields) {
        let Some(value) = headers.remove(&metadata::VERDICT) else { return };
        let Some(tally) = Tally::parse(value.as_bytes()) else { return };
        let region = self.asked.region.map_or(0, Code::get);
        let (pool, worker) = (&attempt.pool, &self.worker);
        pool.series.count_verdicts(&worker.metrics, worker.index, (&pool.vitals.node, region), tally);
    }

    /// The request as the node gets it: the caller's metadata, with the time that is left now.
    fn head<'a>(&'a self, pool: &'a Pool, extra: &'a [(HeaderName, HeaderValue)]) -> RequestHead<'a> {
        RequestHead {
            authority: &pool.authority,
            path: &self.asked.path,
            headers: &self.asked.headers,
            extra,
        }
    }

    /// Where the call stands in its class.
    #[must_use]
    pub fn level(&self) -> u8 {
        shedding::level(self.asked.subject.unwrap_or_default(), unix_ms())
    }

    /// What only the node is told: the time that it has, and while it sends calls away, the call's level.
    fn extra(&self, pool: &Pool) -> Result<Extra, Reason> {
        let timeout = self.timeout()?;
        if !pool.vitals.word.is_told(self.now) {
            return Ok(Extra::Timeout(timeout));
        }
        let level = shedding::field(self.level());
        Ok(match timeout {
            Some(timeout) => Extra::Both([timeout, level]),
            None => Extra::Level(level),
        })
    }

    /// The time that the node is given.
    fn timeout(&self) -> Result<Option<(HeaderName, HeaderValue)>, Reason> {
        let Some(deadline) = self.asked.deadline else { return Ok(None) };
        let left = deadline.saturating_duration_since(self.now).saturating_sub(MARGIN);
        if left.is_zero() {
            return Err(Reason::DeadlineExceeded);
        }
        Ok(Some((metadata::GRPC_TIMEOUT, self.worker.timeouts.value(left))))
    }
}

/// Metadata that only the node gets.
enum Extra {
    Timeout(Option<(HeaderName, HeaderValue)>),
    Level((HeaderName, HeaderValue)),
    Both([(HeaderName, HeaderValue); 2]),
}

impl Extra {
    fn as_slice(&self) -> &[(HeaderName, HeaderValue)] {
        match self {
            Self::Timeout(timeout) => timeout.as_slice(),
            Self::Level(level) => std::slice::from_ref(level),
            Self::Both(both) => both,
        }
    }
}

/// What a broken stream means: was the call processed, may it have been, or not? A lost connection is one
/// failure in a row, however many calls were on it: who attends to it says so.
pub fn failure_of(error: &http2::Error, attempt: &mut Try, now: Instant) -> Failure {
    let refused =
        error.is_remote() && error.is_reset() && error.reason() == Some(http2::Reason::REFUSED_STREAM);
    if refused || (error.is_remote() && error.is_go_away()) {
        return Failure::Refused;
    }
    if error.is_io() || error.is_go_away() {
        attempt.pool.vitals.doubt(Doubt::ConnectionLost);
        attempt.end(Outcome::Lost, now);
    } else {
        attempt.end(blame(error), now);
    }
    Failure::Lost
}

/// Whose making is a broken stream? Where the node says that the request is malformed, perhaps the
/// caller's: nobody shall eject a node by what it sends.
fn blame(error: &http2::Error) -> Outcome {
    let complains = error.is_remote() && error.reason() == Some(http2::Reason::PROTOCOL_ERROR);
    if complains { Outcome::Soft } else { Outcome::Own }
}

/// Writes `grpc-timeout`, and remembers the last one: calls of one class mostly have the same.
#[derive(Debug, Default)]
pub struct Timeouts(RefCell<Option<(u128, HeaderValue)>>);

impl Timeouts {
    /// The value for a time, in milliseconds where eight digits suffice.
    fn value(&self, left: Duration) -> HeaderValue {
        let millis = left.as_millis().max(1);
        let mut last = self.0.borrow_mut();
        if let Some((_, value)) = last.as_ref().filter(|(known, _)| *known == millis) {
            return value.clone();
        }
        let text = if millis <= 99_999_999 {
            format!("{millis}m")
        } else {
            format!("{}S", left.as_secs().min(99_999_999))
        };
        let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
            .expect("digits and a letter are a header value");
        *last = Some((millis, value.clone()));
        value
    }
}

#[cfg(test)]
mod tests;

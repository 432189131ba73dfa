//! Which endpoint is tried, and how does one try end?
//!
//! [`choose`] takes the plan's pick, and where that endpoint cannot be called at this moment the next
//! best: another endpoint of the node, another candidate in tier order, a suspect, and an ejected one
//! only where the plan fails open. [`Try`] is one call in flight at one endpoint.

use crate::{
    balancer,
    health::{State, Vitals},
    plan::Reason as PlanReason,
    proxy::{
        Call, Stop,
        answer::{self, Origin},
    },
    retry::Failure,
    snapshot::{Resolved, Target},
    telemetry::{AnswerReason, End},
    timer::Timer,
    upstream::{Line, Opened, Pool},
    worker::View,
};
use http::{HeaderValue, Request, Uri, Version, uri};
use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};
use suiyue_proto::{metadata, method::Access, reason::Reason, region::Code};

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
}

/// What a choice between equals depends on.
#[derive(Clone, Copy)]
pub struct Dice {
    /// 64 random bits.
    pub random: u64,
    /// Latencies are forgiven up to now.
    pub now: Instant,
}

/// The endpoint for the next attempt, none of those already tried; `None`: nobody is left.
pub fn choose<'a>(
    resolved: &'a Resolved,
    access: Access,
    key: u64,
    dice: Dice,
    tried: &[usize],
) -> Option<Chosen<'a>> {
    let open = |target: &Target| !(access == Access::Authority && target.tier > 0);
    let pick_of = resolved.route.pick(key);
    let picked = pick_of.map(|pick| &resolved.targets[pick.candidate]).filter(|target| open(target));
    let in_rotation = |target: &'a Target| pick(target, dice, tried, State::Ok);
    if let (Some(pick), Some(target)) = (pick_of, picked)
        && let Some(vitals) = in_rotation(target)
    {
        let planned = answer::reason_of(pick.reason);
        let reason = if tried.is_empty() { planned } else { AnswerReason::Retry };
        return Some(Chosen { target, vitals, reason });
    }
    // One with old data comes after all that have fresh ones.
    let stale = |t: &&'a Target| t.reason == PlanReason::Stale;
    let allowed = || resolved.targets.iter().filter(|t| open(t) && !t.reason.excludes());
    let others = allowed().filter(move |t| !stale(t)).chain(allowed().filter(stale));
    let fallback = others
        .clone()
        .find_map(|target| Some((target, in_rotation(target)?)))
        .or_else(|| {
            others.clone().find_map(|target| Some((target, pick(target, dice, tried, State::Suspect)?)))
        })
        .or_else(|| {
            let desperate = others.filter(|target| target.reason == PlanReason::FailOpen);
            let target = picked.filter(|t| t.reason == PlanReason::FailOpen).into_iter().chain(desperate);
            target.clone().find_map(|target| Some((target, pick(target, dice, tried, State::Ejected)?)))
        });
    let (target, vitals) = fallback.or_else(|| unsettled(resolved, &open, dice, tried))?;
    let reason = match (tried.is_empty(), target.reason) {
        (false, _) => AnswerReason::Retry,
        (true, PlanReason::FailOpen) => AnswerReason::FailOpen,
        (true, _) => AnswerReason::Failover,
    };
    Some(Chosen { target, vitals, reason })
}

/// Nobody is in rotation, but somebody was not checked yet or is only suspected: better than nobody.
fn unsettled<'a>(
    resolved: &'a Resolved,
    open: &impl Fn(&Target) -> bool,
    dice: Dice,
    tried: &[usize],
) -> Option<(&'a Target, &'a Arc<Vitals>)> {
    resolved
        .targets
        .iter()
        .filter(|t| open(t) && (t.reason == PlanReason::Unhealthy || !t.reason.excludes()))
        .find_map(|target| Some((target, pick(target, dice, tried, State::Suspect)?)))
}

/// An endpoint of a node that is at least as fit as `worst`.
fn pick<'a>(target: &'a Target, dice: Dice, tried: &[usize], worst: State) -> Option<&'a Arc<Vitals>> {
    let endpoints = &target.endpoints;
    let usable = |i: usize| endpoints[i].state() <= worst && !tried.contains(&endpoints[i].slot);
    balancer::choose(endpoints.len(), dice.random, usable, |i| endpoints[i].cost(dice.now))
        .map(|at| &endpoints[at])
}

/// Why waiting ended before what was waited for.
#[derive(Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The caller hung up.
    Gone,
    /// The time of this attempt is over.
    TimeUp,
}

/// One call in flight at one endpoint. Dropping it before it is [`Try::done`] takes it out of the counts,
/// and h2 resets the stream.
pub struct Try {
    /// The connections it went out on.
    pub pool: Rc<Pool>,
    /// When it was sent.
    pub sent: Instant,
    finished: bool,
}

impl Try {
    fn begin(pool: Rc<Pool>, now: Instant) -> Self {
        pool.vitals.begin();
        Self { pool, sent: now, finished: false }
    }

    /// The node answered with this gRPC status. UNAVAILABLE comes fast and says nothing about work.
    pub fn done(&mut self, now: Instant, code: u8) {
        if !self.finished {
            self.finished = true;
            let latency = (now.saturating_duration_since(self.sent), now);
            self.pool.vitals.end(Some(latency).filter(|_| code != tonic::Code::Unavailable as u8));
        }
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        if !self.finished {
            self.pool.vitals.end(None);
        }
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

    /// Opens the stream of one attempt. `Ok(None)`: nothing was sent.
    ///
    /// # Errors
    /// The caller hung up, or less time is left than an answer takes.
    pub async fn open(&mut self, view: &View, vitals: &Arc<Vitals>) -> Result<Option<(Try, Opened)>, Stop> {
        let Some(pool) = view.pool(vitals) else { return Ok(None) };
        let attempt = Try::begin(pool.clone(), self.now);
        // A connection that was told to go away is found out here; the next one takes the call.
        for _ in 0..2 {
            let Some(line) = pool.line() else { break };
            if let Ok(opened) = pool.start(line, self.request(pool)?, false) {
                return Ok(Some((attempt, opened)));
            }
        }
        let Some(line) = self.connected(pool).await? else { return Ok(None) };
        Ok(pool.start(line, self.request(pool)?, false).ok().map(|opened| (attempt, opened)))
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
    pub fn count(&self, attempt: &Try, origin: Origin<'_>, code: u8) {
        let end = End {
            region: self.asked.region.map_or(0, Code::get),
            class: self.asked.method.class,
            tier: origin.target.tier,
            reason: origin.reason,
            code,
            retried: origin.attempt > 1,
        };
        let latency = self.now.saturating_duration_since(self.start);
        let (pool, worker) = (&attempt.pool, &self.worker);
        pool.series.count(&worker.metrics, worker.index, &pool.vitals.node, end, latency);
    }

    /// The request as the node gets it: the caller's metadata, with the time that is left now.
    fn request(&self, pool: &Pool) -> Result<Request<()>, Reason> {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(uri::Scheme::HTTP);
        parts.authority = Some(pool.authority.clone());
        parts.path_and_query = Some(self.asked.path.clone());
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Reason::MethodUnknown)?;
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.asked.headers.clone();
        if let Some(deadline) = self.asked.deadline {
            let left = deadline.saturating_duration_since(self.now).saturating_sub(MARGIN);
            if left.is_zero() {
                return Err(Reason::DeadlineExceeded);
            }
            request.headers_mut().insert(metadata::GRPC_TIMEOUT, self.worker.timeouts.value(left));
        }
        Ok(request)
    }
}

/// What a broken stream means: was the call processed, may it have been, or not?
pub fn failure_of(error: &h2::Error, attempt: &Try) -> Failure {
    let refused = error.is_remote() && error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    if refused || (error.is_remote() && error.is_go_away()) {
        return Failure::Refused;
    }
    if error.is_io() || error.is_go_away() {
        attempt.pool.vitals.doubt("connection lost");
    }
    Failure::Lost
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
mod tests {
    use super::*;
    use crate::table::{Check, Endpoint};

    fn target(slot: usize, reason: PlanReason) -> Target {
        let endpoint = Endpoint {
            name: "a".into(),
            address: "127.0.0.1:1".into(),
            incarnation: 0,
            ready: Vec::new(),
            draining: false,
            check: Check::None,
        };
        let vitals = Vitals::new(slot, "n".into(), endpoint, Arc::default());
        Target {
            node: "n".into(),
            node_value: HeaderValue::from_static("n"),
            tier: slot as u8,
            reason,
            endpoints: vec![Arc::new(vitals)],
        }
    }

    #[test]
    fn one_with_old_data_is_tried_after_all_others() {
        let reasons = [PlanReason::Stale, PlanReason::Drained, PlanReason::Standby];
        let targets = reasons.into_iter().enumerate().map(|(slot, reason)| target(slot, reason));
        let resolved = Resolved { targets: targets.collect(), ..Resolved::default() };
        let next = |tried: &[usize]| {
            let dice = Dice { random: 7, now: Instant::now() };
            choose(&resolved, Access::Public, 7, dice, tried)
                .map(|chosen| (chosen.vitals.slot, chosen.reason))
        };
        assert_eq!(next(&[]), Some((2, AnswerReason::Failover)));
        assert_eq!(next(&[2]), Some((0, AnswerReason::Retry)));
        assert_eq!(next(&[2, 0]), None, "never to one that is drained");
    }
}

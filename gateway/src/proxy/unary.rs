//! How does a unary call survive the loss of a node?
//!
//! The request message is kept until the answer is complete (64 KiB at most), and the answer's headers
//! are held back until its end or 64 KiB: a node that dies in mid-answer costs nothing, because nothing
//! was promised downstream yet. [`course`] leads it from attempt to attempt.

use super::{
    Call, Stop,
    answer::{self, Origin},
    attempt::{self, Chosen, Interrupt, Try},
    course::{self, Course},
    message::{self, Peek},
    stream,
};
use crate::{
    health::{Outcome, outcome},
    http2::{self, Fields, RecvStream, Response, client::RequestHead, server::ResponseHead},
    retry::{self, Failure},
    timer::Timer,
    upstream::{Lease, Pool, Sent},
    worker::View,
};
use bytes::{Bytes, BytesMut};
use std::time::{Duration, Instant};
use suiyue_proto::{
    metadata,
    reason::Reason,
    region::{self, Code},
};

/// A unary request must be complete within this time.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// Bytes of an answer that are held back.
const HELD: usize = 64 << 10;
/// Bytes that are handed over whether or not the caller has opened its window.
const PINNED: usize = 16 << 10;

/// An answer, held back: complete, unless its body is longer than [`HELD`].
#[derive(Default)]
struct Held {
    head: Option<Response<()>>,
    body: Bytes,
    /// What is still to come; `None` once the trailers are there.
    rest: Option<RecvStream>,
    trailers: Option<Fields>,
}

impl Held {
    fn status(&self) -> u8 {
        let headers = self.head.as_ref().map(|head| &head.headers);
        headers.map_or(2, |headers| answer::status_of(headers, self.trailers.as_ref()))
    }

    /// The failure that the answer is, if it is one that another node may not have.
    fn invites(&self) -> Option<Failure> {
        if self.rest.is_some() {
            return None;
        }
        match tonic::Code::from_i32(self.status().into()) {
            tonic::Code::Unavailable if !self.pushback() => Some(Failure::Unavailable),
            tonic::Code::ResourceExhausted => Some(Failure::Exhausted),
            _ => None,
        }
    }

    /// The node says itself when to come back.
    fn pushback(&self) -> bool {
        let told = |map: &Fields| map.contains_key(&metadata::PUSHBACK);
        self.head.as_ref().is_some_and(|head| told(&head.headers)) || self.trailers.as_ref().is_some_and(told)
    }
}

/// One attempt that was answered: the stream stays counted until the answer is passed on.
struct Answered {
    held: Held,
    attempt: Try,
    lease: Lease,
}

/// Serves a unary call.
///
/// # Errors
/// Why there was no answer to pass on.
pub async fn serve(call: &mut Call, view: &View, body: RecvStream) -> Result<(), Stop> {
    let message = collect(call, body).await?;
    let code = region_of(call, &message)?;
    call.asked.region = Some(code);
    call.may_ask(code)?;
    let resolved = view.route(code, call.asked.method.class)?;
    let worker = call.worker.clone();
    let _place = course::enter(&worker, resolved, code, call.asked.method.class)?;
    let mut course = Course::new(call, resolved);
    loop {
        let chosen = course.next(call)?;
        let failure = match attempt(call, view, chosen, &message, &course).await? {
            Ok(answered) => return deliver(call, view, chosen, course.shown(), answered).await,
            Err(failure) => failure,
        };
        call.trace.failed(failure, call.now);
        if let Some(delay) = course.failed(call, failure)? {
            // Boxed: few calls wait here, and all would carry the room for it.
            Box::pin(course::pause(call, delay)).await?;
        }
    }
}

/// Reads the one message of the request.
async fn collect(call: &mut Call, mut body: RecvStream) -> Result<Bytes, Stop> {
    let limit = call.worker.limits.request_bytes + message::PREFIX;
    let due = call.start + REQUEST_LIMIT;
    let mut timer = None;
    let mut message = Bytes::new();
    while !body.is_end_stream() {
        let chunk = match futures_util::FutureExt::now_or_never(body.data()) {
            Some(chunk) => chunk,
            None => {
                let timer = timer.get_or_insert_with(|| {
                    Some(call.worker.wheel.arm(call.asked.deadline.map_or(due, |at| at.min(due))))
                });
                match call.wait(timer, |cx| body.poll_data(cx)).await {
                    Ok(chunk) => chunk,
                    Err(Interrupt::Gone) => return Err(Stop::Gone),
                    Err(Interrupt::TimeUp) => return Err(Reason::RequestIncomplete.into()),
                }
            }
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|_| Stop::Gone)?;
        body.release(chunk.len());
        message = joined(message, chunk);
        if message.len() > limit || message::framed_len(&message).is_some_and(|n| n > limit) {
            return Err(Reason::MessageTooLarge.into());
        }
    }
    if message::framed_len(&message) != Some(message.len()) {
        return Err(Reason::FramingInvalid.into());
    }
    Ok(message)
}

/// The routing region: the metadata's, else field 1, else the default.
fn region_of(call: &Call, message: &[u8]) -> Result<Code, Stop> {
    if let Some(code) = call.asked.region {
        return Ok(code);
    }
    let code = match message::peek(message) {
        Ok(Peek::Region(code)) => code,
        // Bytes that another method gives to field 1 are no region: the default applies.
        Ok(_) => call.worker.default_region.ok_or(Reason::RegionRequired)?,
        Err(reason) => return Err(reason.into()),
    };
    Ok(region::resolve(code)?)
}

/// One attempt: the outer error ends the call, the inner one the attempt. A retry is paid for here, before
/// the attempt is given up.
async fn attempt(
    call: &mut Call,
    view: &View,
    chosen: Chosen<'_>,
    message: &Bytes,
    course: &Course<'_>,
) -> Result<Result<Answered, Failure>, Stop> {
    if course.is_shed(call, &chosen)? {
        return Ok(Err(Failure::Exhausted));
    }
    let send = |pool: &Pool, line, head: RequestHead<'_>| pool.send(line, head, message.clone());
    let Some((mut attempt, mut sent)) = call.open(view, chosen.vitals, send).await? else {
        return Ok(Err(Failure::NotSent));
    };
    let mut held = Held::default();
    if let Err(failed) = hold(call, &mut sent, &mut held, &attempt, course).await {
        if matches!(failed, Failed::Late | Failed::TryAnother | Failed::Stalled) {
            sent.lease.gave_up(attempt.sent, call.now);
        }
        return match failed {
            Failed::Gone => Err(Stop::Gone),
            Failed::Broken(error) => Ok(Err(attempt::failure_of(&error, &mut attempt, call.now))),
            Failed::Late => {
                attempt.silent(call.given(&attempt), call.now);
                Err(Reason::DeadlineExceeded.into())
            }
            Failed::TryAnother => {
                attempt.silent(call.given(&attempt), call.now);
                Ok(Err(Failure::Timeout))
            }
            // That the connection stalled counts once, not for every call on it.
            Failed::Stalled => Ok(Err(Failure::Stalled)),
        };
    }
    let status = judge(call, &held, &mut attempt);
    // The node was given less time than the caller gave us, and tonic calls the end of it CANCELLED.
    let left = call.asked.deadline.map(|at| at.saturating_duration_since(call.now));
    if left.is_some_and(|left| left <= 2 * attempt::MARGIN) && status == tonic::Code::Cancelled as u8 {
        return Err(Reason::DeadlineExceeded.into());
    }
    // Only where a token and another endpoint are at hand: else the node's own answer is better.
    let invites = match held.invites() {
        Some(failure) if course.pays(call, failure) => Some(failure),
        _ => None,
    };
    Ok(invites.map_or(Ok(Answered { held, attempt, lease: sent.lease }), Err))
}

/// Counts what the answer says about the endpoint; its status.
fn judge(call: &Call, held: &Held, attempt: &mut Try) -> u8 {
    let status = held.status();
    let outcome = match &held.rest {
        // A long answer: the status is still to come, but it answers.
        Some(_) => Outcome::Good,
        None => outcome::of_answer(status, held.pushback(), call.given(attempt)),
    };
    if outcome == Outcome::Good {
        call.worker.paces.sample(&call.asked.method, call.now.saturating_duration_since(attempt.sent));
    }
    if let Some(head) = held.head.as_ref().filter(|_| outcome == Outcome::Refused) {
        attempt.hear(&head.headers, call.now);
    }
    attempt.answered(outcome, call.now);
    status
}

/// Why there is no answer.
enum Failed {
    /// The caller hung up.
    Gone,
    /// The deadline passed.
    Late,
    /// The time for one try passed, and another one is paid for.
    TryAnother,
    /// The connection is stalled, and the call may move.
    Stalled,
    /// The stream or the connection broke.
    Broken(http2::Error),
}

/// Holds the answer back, until its end or [`HELD`] bytes. When the time for one try is over and there is
/// no token for another, it goes on waiting until the deadline.
async fn hold(
    call: &mut Call,
    sent: &mut Sent,
    held: &mut Held,
    attempt: &Try,
    course: &Course<'_>,
) -> Result<(), Failed> {
    let mut alarms = Alarms::of(call, attempt, course);
    loop {
        let mut timer = alarms.next(call).map(|at| call.worker.wheel.arm_in(at, sent.lease.group()));
        match receive(call, &mut timer, sent, held).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => return Err(Failed::Broken(error)),
            Err(Interrupt::Gone) => return Err(Failed::Gone),
            Err(Interrupt::TimeUp) => {
                if let Some(failed) = alarms.ring(call, &sent.lease, attempt, course) {
                    return Err(failed);
                }
            }
        }
    }
}

/// A call that cannot leave its stalled connection looks again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// When an attempt has waited too long, short of the caller's deadline.
struct Alarms {
    /// Longer than usual: is anybody there?
    overdue: Option<Instant>,
    /// The time for one try is over.
    per_try: Option<Instant>,
}

impl Alarms {
    fn of(call: &Call, attempt: &Try, course: &Course<'_>) -> Self {
        let p99 = call.worker.paces.p99(&call.asked.method);
        let left = call.asked.deadline.map(|at| at.saturating_duration_since(call.now));
        let per_try = left.filter(|_| course.may_retry()).map(|left| call.now + retry::per_try(left, p99));
        Self { overdue: Some(retry::overdue(attempt.sent, p99)), per_try }
    }

    fn next(&self, call: &Call) -> Option<Instant> {
        [self.overdue, self.per_try, call.asked.deadline].into_iter().flatten().min()
    }

    /// One of them rings, or the connection was found stalled.
    fn ring(&mut self, call: &Call, lease: &Lease, attempt: &Try, course: &Course<'_>) -> Option<Failed> {
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= call.now).is_some();
        if lease.is_stalled() && course.may_move() {
            if course.can_move(call, attempt.sent) {
                return Some(Failed::Stalled);
            }
            // Nobody can be called at this moment: that may change.
            self.overdue = Some(call.now + LOOK_AGAIN);
        }
        if call.asked.deadline.is_some_and(|at| at <= call.now) {
            return Some(Failed::Late);
        }
        if due(&mut self.per_try) && course.pays(call, Failure::Timeout) {
            return Some(Failed::TryAnother);
        }
        if due(&mut self.overdue) {
            lease.overdue(attempt.sent);
        }
        None
    }
}

/// Receives what is there, and goes on where it was interrupted.
async fn receive(
    call: &mut Call,
    timer: &mut Option<Timer>,
    sent: &mut Sent,
    held: &mut Held,
) -> Result<Result<(), http2::Error>, Interrupt> {
    if held.head.is_none() {
        let response = call.wait(timer, |cx| sent.response.poll_response(cx)).await?;
        match response {
            Ok(response) => {
                sent.lease.answered();
                let Response { status, headers, body } = response;
                held.head = Some(Response { status, headers, body: () });
                held.rest = Some(body);
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    let Some(stream) = &mut held.rest else { return Ok(Ok(())) };
    while !stream.is_end_stream() {
        let chunk = match call.wait(timer, |cx| stream.poll_data(cx)).await? {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Ok(Err(error)),
            None => break,
        };
        stream.release(chunk.len());
        held.body = joined(std::mem::take(&mut held.body), chunk);
        if held.body.len() > HELD {
            return Ok(Ok(()));
        }
    }
    match call.wait(timer, |cx| stream.poll_trailers(cx)).await? {
        Ok(trailers) => held.trailers = trailers,
        Err(error) => return Ok(Err(error)),
    }
    held.rest = None;
    Ok(Ok(()))
}

/// Two pieces in one. Nothing is copied where the first is empty, as in most calls.
fn joined(begin: Bytes, more: Bytes) -> Bytes {
    if begin.is_empty() {
        return more;
    }
    let mut whole = begin.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    whole.extend_from_slice(&more);
    whole.freeze()
}

/// Sends the held answer downstream, and the rest of a long one after it.
async fn deliver(
    call: &mut Call,
    view: &View,
    chosen: Chosen<'_>,
    attempts: u8,
    answered: Answered,
) -> Result<(), Stop> {
    let Answered { held, attempt, lease: _lease } = answered;
    let mut code = held.status();
    let Held { head, body, rest, trailers } = held;
    let mut head = head.ok_or(Reason::UpstreamProtocol)?;
    call.take_verdicts(&attempt, &mut head.headers);
    if code == tonic::Code::ResourceExhausted as u8 {
        head.headers.remove(&metadata::ADMIT);
    }
    let (node, plan) = (&attempt.pool.node, view.plan.as_ref());
    let origin = Origin { target: chosen.target, node, reason: chosen.reason, attempt: attempts, plan };
    let stamp = origin.stamp();
    let head = ResponseHead { status: head.status, headers: &head.headers, extra: stamp.as_slice() };
    if rest.is_some() || body.len() > PINNED {
        let mut out = call.respond.send_response(head, false).map_err(|_| Stop::Gone)?;
        code = stream::finish(call, &mut out, body, rest, trailers).await?;
        call.now = Instant::now();
    } else {
        call.respond.send_whole(head, body, trailers).map_err(|_| Stop::Gone)?;
    }
    call.count(&attempt, origin, code);
    Ok(())
}

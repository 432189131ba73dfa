//! How does a unary call survive the loss of a node?
//!
//! The request message is kept until the answer is complete (64 KiB at most), and the answer's headers
//! are held back until its end or 64 KiB: a node that dies in mid-answer costs nothing, because nothing
//! was promised downstream yet. [`retry`] decides about every failed attempt.

use super::{
    Call, Stop,
    answer::{self, Origin},
    attempt::{self, Chosen, Dice, Interrupt, Try},
    message::{self, Peek},
    stream,
};
use crate::{
    retry::{self, Decision, Failure, Progress},
    snapshot::Resolved,
    timer::Timer,
    upstream::{Lease, Opened},
    worker::View,
};
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Response};
use std::{
    pin::Pin,
    time::{Duration, Instant},
};
use suiyue_proto::{
    reason::Reason,
    region::{self, Code},
};

/// A unary request must be complete within this time.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// Bytes of an answer that are held back.
const HELD: usize = 64 << 10;
/// Bytes that are handed to h2 whether or not the caller has opened its window.
const PINNED: usize = 16 << 10;

/// Endpoints that were tried, by slot.
#[derive(Default)]
struct Tried {
    slots: [usize; retry::MAX_ATTEMPTS as usize],
    len: usize,
}

impl Tried {
    fn push(&mut self, slot: usize) {
        if let Some(place) = self.slots.get_mut(self.len) {
            *place = slot;
            self.len += 1;
        }
    }

    fn as_slice(&self) -> &[usize] {
        &self.slots[..self.len]
    }
}

/// An answer, held back: complete, unless its body is longer than [`HELD`].
#[derive(Default)]
struct Held {
    head: Option<Response<()>>,
    body: Bytes,
    /// What is still to come; `None` once the trailers are there.
    rest: Option<RecvStream>,
    trailers: Option<HeaderMap>,
}

impl Held {
    fn status(&self) -> u8 {
        let headers = self.head.as_ref().map(Response::headers);
        headers.map_or(2, |headers| answer::status_of(headers, self.trailers.as_ref()))
    }

    /// The node says itself when to come back.
    fn pushback(&self) -> bool {
        let told = |map: &HeaderMap| map.contains_key("grpc-retry-pushback-ms");
        self.head.as_ref().is_some_and(|head| told(head.headers()))
            || self.trailers.as_ref().is_some_and(told)
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
    let resolved = view.snapshot.route(code, call.asked.method.class).ok_or(Reason::RegionNotJoined)?;
    call.worker.budget.borrow_mut().deposit();
    let key = call.asked.subject.unwrap_or_else(|| call.worker.random());
    let mut progress = Progress {
        idempotency: call.asked.method.idempotency,
        kept: true,
        attempts: 0,
        moved_after_sending: false,
    };
    let mut tried = Tried::default();
    let mut last = Reason::NoNodeAvailable;
    let mut refused = false;
    loop {
        // An endpoint that refused without processing may be asked again where it is the only one.
        let again = || refused.then(|| next(call, resolved, key, &Tried::default())).flatten();
        let chosen = next(call, resolved, key, &tried).or_else(again).ok_or(last)?;
        tried.push(chosen.vitals.slot);
        progress.attempts += 1;
        let another = retry::decide(Failure::Timeout, progress) == Decision::Spend
            && next(call, resolved, key, &tried).is_some();
        let failure = match attempt(call, view, chosen, &message, another).await? {
            Ok(answered) => return deliver(call, view, chosen, progress.attempts, answered).await,
            Err(failure) => failure,
        };
        last = match failure {
            Failure::NotSent | Failure::Refused => Reason::NoNodeAvailable,
            Failure::Timeout => Reason::DeadlineExceeded,
            Failure::Lost | Failure::Unavailable => Reason::UpstreamLost,
        };
        refused = failure == Failure::Refused;
        call.trace.failed(failure, call.now);
        match retry::decide(failure, progress) {
            Decision::Move => progress.moved_after_sending |= failure == Failure::Lost,
            // Paid where it was decided to end the attempt.
            Decision::Spend => {}
            Decision::GiveUp => return Err(last.into()),
        }
    }
}

fn next<'a>(call: &Call, resolved: &'a Resolved, key: u64, tried: &Tried) -> Option<Chosen<'a>> {
    let dice = Dice { random: call.worker.random(), now: call.now };
    attempt::choose(resolved, call.asked.method.access, key, dice, tried.as_slice())
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
        let _ = body.flow_control().release_capacity(chunk.len());
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

/// One attempt: the outer error ends the call, the inner one the attempt. `another`: a retry may follow,
/// for which a budget token is taken here, before the attempt is given up.
async fn attempt(
    call: &mut Call,
    view: &View,
    chosen: Chosen<'_>,
    message: &Bytes,
    another: bool,
) -> Result<Result<Answered, Failure>, Stop> {
    let Some((mut attempt, mut opened)) = call.open(view, chosen.vitals).await? else {
        return Ok(Err(Failure::NotSent));
    };
    if opened.body.send_data(message.clone(), true).is_err() {
        return Ok(Err(Failure::Lost));
    }
    let mut held = Held::default();
    if let Err(failed) = hold(call, &mut opened, &mut held, another).await {
        return match failed {
            Failed::Gone => Err(Stop::Gone),
            Failed::Broken(error) => Ok(Err(attempt::failure_of(&error, &attempt))),
            Failed::Late => {
                opened.lease.doubt();
                Err(Reason::DeadlineExceeded.into())
            }
            Failed::TryAnother => {
                opened.lease.doubt();
                Ok(Err(Failure::Timeout))
            }
        };
    }
    let status = held.status();
    attempt.done(call.now, status);
    // The node was given less time than the caller gave us, and tonic calls the end of it CANCELLED.
    let left = call.asked.deadline.map(|at| at.saturating_duration_since(call.now));
    if left.is_some_and(|left| left <= 2 * attempt::MARGIN) && status == tonic::Code::Cancelled as u8 {
        return Err(Reason::DeadlineExceeded.into());
    }
    // Only where a token and another endpoint are at hand: else the node's own answer is better.
    let retriable = status == tonic::Code::Unavailable as u8 && held.rest.is_none() && !held.pushback();
    if retriable && another && call.worker.budget.borrow_mut().spend(call.now) {
        return Ok(Err(Failure::Unavailable));
    }
    Ok(Ok(Answered { held, attempt, lease: opened.lease }))
}

/// Time for one try where another may follow: half of what is left.
fn per_try(now: Instant, deadline: Instant) -> Instant {
    now + deadline.saturating_duration_since(now) / 2
}

/// Why there is no answer.
enum Failed {
    /// The caller hung up.
    Gone,
    /// The deadline passed.
    Late,
    /// The time for one try passed, and another one is paid for.
    TryAnother,
    /// The stream or the connection broke.
    Broken(h2::Error),
}

/// Holds the answer back, until its end or [`HELD`] bytes. When the time for one try is over and there is
/// no token for another, it goes on waiting until the deadline.
async fn hold(call: &mut Call, opened: &mut Opened, held: &mut Held, another: bool) -> Result<(), Failed> {
    let deadline = call.asked.deadline;
    let mut trying = another;
    let mut timer = deadline.map(|at| call.worker.wheel.arm(if trying { per_try(call.now, at) } else { at }));
    loop {
        match receive(call, &mut timer, opened, held).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => return Err(Failed::Broken(error)),
            Err(Interrupt::Gone) => return Err(Failed::Gone),
            Err(Interrupt::TimeUp) if !trying => return Err(Failed::Late),
            Err(Interrupt::TimeUp) => {
                if call.worker.budget.borrow_mut().spend(call.now) {
                    return Err(Failed::TryAnother);
                }
                trying = false;
                timer = deadline.map(|at| call.worker.wheel.arm(at));
            }
        }
    }
}

/// Receives what is there, and goes on where it was interrupted.
async fn receive(
    call: &mut Call,
    timer: &mut Option<Timer>,
    opened: &mut Opened,
    held: &mut Held,
) -> Result<Result<(), h2::Error>, Interrupt> {
    if held.head.is_none() {
        let response = call.wait(timer, |cx| Pin::new(&mut opened.response).poll(cx)).await?;
        match response {
            Ok(response) => {
                let (head, stream) = response.into_parts();
                held.head = Some(Response::from_parts(head, ()));
                held.rest = Some(stream);
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
        let _ = stream.flow_control().release_capacity(chunk.len());
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
    call.take_verdicts(&attempt, head.headers_mut());
    let plan = view.snapshot.generation_value.as_ref();
    let origin = Origin { target: chosen.target, reason: chosen.reason, attempt: attempts, plan };
    origin.stamp(head.headers_mut());
    let empty = body.is_empty() && trailers.is_none() && rest.is_none();
    let mut out = call.respond.send_response(head, empty).map_err(|_| Stop::Gone)?;
    if rest.is_some() || body.len() > PINNED {
        code = stream::finish(call, &mut out, body, rest, trailers).await?;
        call.now = Instant::now();
    } else if !empty {
        if !body.is_empty() {
            out.send_data(body, trailers.is_none()).map_err(|_| Stop::Gone)?;
        }
        if let Some(trailers) = trailers {
            out.send_trailers(trailers).map_err(|_| Stop::Gone)?;
        }
    }
    call.count(&attempt, origin, code);
    Ok(())
}

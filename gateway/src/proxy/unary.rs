//! How does a unary call survive the loss of a node?
//!
//! The request message is kept until the answer is complete (64 KiB at most), and the answer's headers
//! are held back until its end or 64 KiB: a node that dies in mid-answer costs nothing, because nothing
//! was promised downstream yet. [`retry`] decides about every failed attempt.

use super::{
    Call, Stop,
    answer::{self, Origin},
    attempt::{self, Chosen, Interrupt, Try},
    message::{self, Peek},
    stream,
};
use crate::{
    retry::{self, Decision, Failure, Progress},
    snapshot::Resolved,
    telemetry::{AnswerReason, End},
    timer::Timer,
    upstream::Opened,
    worker::View,
};
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Response};
use std::time::{Duration, Instant};
use suiyue_proto::{
    reason::Reason,
    region::{self, Code},
};

/// A unary request must be complete within this time.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// Bytes of an answer that are held back.
const HELD: usize = 64 << 10;

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
struct Held {
    head: Response<()>,
    body: Bytes,
    trailers: Option<HeaderMap>,
    /// The rest of a long answer.
    rest: Option<RecvStream>,
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
    loop {
        let chosen = next(call, resolved, key, &tried).ok_or(last)?;
        tried.push(chosen.vitals.slot);
        progress.attempts += 1;
        let another = progress.idempotency.replayable()
            && progress.attempts < retry::MAX_ATTEMPTS
            && call.worker.budget.borrow().is_open()
            && next(call, resolved, key, &tried).is_some();
        let failure = match attempt(call, view, chosen, &message, progress, another).await? {
            Ok((held, attempt)) => {
                return deliver(call, view, chosen, progress.attempts, held, attempt).await;
            }
            Err(failure) => failure,
        };
        last = match failure {
            Failure::NotSent | Failure::Refused => Reason::NoNodeAvailable,
            Failure::Timeout => Reason::DeadlineExceeded,
            Failure::Lost | Failure::Unavailable => Reason::UpstreamLost,
        };
        match retry::decide(failure, progress) {
            Decision::Move => progress.moved_after_sending |= failure == Failure::Lost,
            Decision::Spend if call.worker.budget.borrow_mut().spend(Instant::now()) => {}
            Decision::Spend | Decision::GiveUp => return Err(last.into()),
        }
    }
}

fn next<'a>(call: &Call, resolved: &'a Resolved, key: u64, tried: &Tried) -> Option<Chosen<'a>> {
    attempt::choose(resolved, call.asked.method.access, key, call.worker.random(), tried.as_slice())
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

/// One attempt: the outer error ends the call, the inner one the attempt.
async fn attempt(
    call: &mut Call,
    view: &View,
    chosen: Chosen<'_>,
    message: &Bytes,
    progress: Progress,
    another: bool,
) -> Result<Result<(Held, Try), Failure>, Stop> {
    let Some((mut attempt, mut opened)) = call.open(view, chosen.vitals).await? else {
        return Ok(Err(Failure::NotSent));
    };
    if opened.body.send_data(message.clone(), true).is_err() {
        return Ok(Err(Failure::Lost));
    }
    let deadline = call.asked.deadline;
    let try_until = deadline.map(|at| if another { per_try(call.now, at) } else { at });
    let mut timer = try_until.map(|at| call.worker.wheel.arm(at));
    let held = match hold(call, &mut timer, &mut opened).await {
        Ok(held) => held,
        Err(Failed::Gone) => return Err(Stop::Gone),
        Err(Failed::TimeUp) if deadline.is_some_and(|at| call.now >= at) => {
            return Err(Reason::DeadlineExceeded.into());
        }
        Err(Failed::TimeUp) => return Ok(Err(Failure::Timeout)),
        Err(Failed::Broken(error)) => return Ok(Err(failure_of(&error, &attempt))),
    };
    attempt.done(call.now);
    let status = answer::status_of(held.head.headers(), held.trailers.as_ref());
    // The node was given less time than the caller gave us, and tonic calls the end of it CANCELLED.
    let late = deadline.is_some_and(|at| at.saturating_duration_since(call.now) <= 2 * attempt::MARGIN);
    if late && status == tonic::Code::Cancelled as u8 {
        return Err(Reason::DeadlineExceeded.into());
    }
    let pushback = |map: &HeaderMap| map.contains_key("grpc-retry-pushback-ms");
    // Only where a budget token and another endpoint are at hand: else the node's own answer is better.
    let may_retry = status == tonic::Code::Unavailable as u8
        && held.rest.is_none()
        && !pushback(held.head.headers())
        && !held.trailers.as_ref().is_some_and(pushback);
    if may_retry && another && retry::decide(Failure::Unavailable, progress) == Decision::Spend {
        return Ok(Err(Failure::Unavailable));
    }
    Ok(Ok((held, attempt)))
}

/// Time for one try where another may follow: half of what is left.
fn per_try(now: Instant, deadline: Instant) -> Instant {
    now + deadline.saturating_duration_since(now) / 2
}

enum Failed {
    Gone,
    TimeUp,
    Broken(h2::Error),
}

impl From<Interrupt> for Failed {
    fn from(interrupt: Interrupt) -> Self {
        match interrupt {
            Interrupt::Gone => Self::Gone,
            Interrupt::TimeUp => Self::TimeUp,
        }
    }
}

/// Waits for the answer and holds it back, up to [`HELD`] bytes.
async fn hold(call: &mut Call, timer: &mut Option<Timer>, opened: &mut Opened) -> Result<Held, Failed> {
    let response = call.wait(timer, |cx| std::pin::Pin::new(&mut opened.response).poll(cx)).await?;
    let (head, mut stream) = response.map_err(Failed::Broken)?.into_parts();
    let head = Response::from_parts(head, ());
    let mut body = Bytes::new();
    while !stream.is_end_stream() {
        let Some(chunk) = call.wait(timer, |cx| stream.poll_data(cx)).await? else { break };
        let chunk = chunk.map_err(Failed::Broken)?;
        let _ = stream.flow_control().release_capacity(chunk.len());
        body = joined(body, chunk);
        if body.len() > HELD {
            return Ok(Held { head, body, trailers: None, rest: Some(stream) });
        }
    }
    let trailers = call.wait(timer, |cx| stream.poll_trailers(cx)).await?.map_err(Failed::Broken)?;
    Ok(Held { head, body, trailers, rest: None })
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

/// What a broken stream means: was the call processed, may it have been, or not?
fn failure_of(error: &h2::Error, attempt: &Try) -> Failure {
    let refused = error.is_remote() && error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    if refused || (error.is_remote() && error.is_go_away()) {
        return Failure::Refused;
    }
    if error.is_io() || error.is_go_away() {
        attempt.pool.vitals.doubt("connection lost");
    }
    Failure::Lost
}

/// Sends the held answer downstream, and the rest of a long one after it.
async fn deliver(
    call: &mut Call,
    view: &View,
    chosen: Chosen<'_>,
    attempts: u8,
    mut held: Held,
    attempt: Try,
) -> Result<(), Stop> {
    let code = answer::status_of(held.head.headers(), held.trailers.as_ref());
    let origin = Origin {
        target: chosen.target,
        reason: chosen.reason,
        attempt: attempts,
        plan: view.snapshot.generation_value.as_ref(),
    };
    origin.stamp(held.head.headers_mut());
    let end = End {
        region: call.asked.region.map_or(0, Code::get),
        class: call.asked.method.class,
        tier: chosen.target.tier,
        reason: chosen.reason,
        code,
        retried: attempts > 1 || chosen.reason == AnswerReason::Retry,
    };
    let empty = held.body.is_empty() && held.trailers.is_none() && held.rest.is_none();
    let mut out = call.respond.send_response(held.head, empty).map_err(|_| Stop::Gone)?;
    if let Some(rest) = held.rest {
        stream::finish(call, &mut out, held.body, rest).await?;
    } else if !empty {
        if !held.body.is_empty() {
            out.send_data(held.body, held.trailers.is_none()).map_err(|_| Stop::Gone)?;
        }
        if let Some(trailers) = held.trailers {
            out.send_trailers(trailers).map_err(|_| Stop::Gone)?;
        }
    }
    let pool = &attempt.pool;
    pool.series.count(
        &call.worker.metrics,
        call.worker.index,
        &pool.vitals.node,
        end,
        call.now.saturating_duration_since(call.start),
    );
    Ok(())
}

//! How does a streaming call pass through?
//!
//! One task pumps both directions ([`pump`]). A sender gets capacity back only after its bytes were
//! handed to the other side within that side's window, so that a slow reader slows its writer and
//! nothing piles up here. A stream that was not answered yet may move to another endpoint while
//! everything sent so far is kept (64 KiB); afterwards it is never replayed.

pub mod pump;

use super::{
    Call, Stop,
    answer::{self, Origin},
    attempt::{self, Chosen, Interrupt, Try},
    course::{self, Course},
    message::{self, Peek},
};
use crate::{
    health::{Given, outcome},
    http2::{Fields, RecvStream, SendStream, server::ResponseHead},
    retry::Failure,
    timer::Timer,
    upstream::{Opened, Pool},
    worker::View,
};
use bytes::{Bytes, BytesMut};
use pump::{Down, Idle, Up};
use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use suiyue_proto::{
    reason::Reason,
    region::{self, Code},
};

/// The region must be readable within this time.
const REGION_LIMIT: Duration = Duration::from_secs(2);

/// How one attempt at a stream ended.
enum Ended {
    /// The answer was passed on to its end; its gRPC status.
    Complete(u8),
    /// It was ended by us after its headers went out; the status that the caller got.
    Cut(u8),
    /// It broke before anything of an answer went out.
    Failed(Failure),
}

/// Serves a call with streams.
///
/// # Errors
/// Why there was no answer to pass on; never after the answer's headers went out.
pub async fn serve(call: &mut Call, view: &View, body: RecvStream) -> Result<(), Stop> {
    let mut up = Up::new(body, call.worker.limits.request_bytes);
    let code = region_of(call, &mut up).await?;
    call.asked.region = Some(code);
    call.may_ask(code)?;
    let resolved = view.route(code, call.asked.method.class)?;
    let worker = call.worker.clone();
    let _place = course::enter(&worker, resolved, code, call.asked.method.class)?;
    let mut course = Course::new(call, resolved);
    loop {
        let chosen = course.next(call)?;
        let failure = match call.open(view, chosen.vitals, Pool::start).await? {
            None => Failure::NotSent,
            Some((attempt, opened)) => {
                match run(call, view, chosen, course.shown(), &mut up, attempt, opened).await? {
                    Ended::Complete(_) | Ended::Cut(_) => return Ok(()),
                    Ended::Failed(failure) => failure,
                }
            }
        };
        call.trace.failed(failure, call.now);
        course.kept(up.restart());
        if let Some(delay) = course.failed(call, failure)? {
            // Boxed: few calls wait here, and all would carry the room for it.
            Box::pin(course::pause(call, delay)).await?;
        }
    }
}

/// The routing region: the metadata's, else field 1 of the first message, else the default.
async fn region_of(call: &mut Call, up: &mut Up) -> Result<Code, Stop> {
    if let Some(code) = call.asked.region {
        return Ok(code);
    }
    let mut timer = Some(call.worker.wheel.arm(call.start + REGION_LIMIT));
    let mut begin = BytesMut::new();
    let code = loop {
        match message::peek(&begin)? {
            Peek::Region(code) => break code,
            Peek::None => break call.worker.default_region.ok_or(Reason::RegionRequired)?,
            Peek::More if begin.len() > call.worker.limits.request_bytes => {
                return Err(Reason::MessageTooLarge.into());
            }
            Peek::More => {}
        }
        match call.wait(&mut timer, |cx| up.poll_read(cx)).await {
            Ok(Ok(Some(chunk))) => begin.extend_from_slice(&chunk),
            Ok(Ok(None)) => break call.worker.default_region.ok_or(Reason::RegionRequired)?,
            Ok(Err(pump::Broken::TooLarge)) => return Err(Reason::MessageTooLarge.into()),
            Ok(Err(_)) | Err(Interrupt::Gone) => return Err(Stop::Gone),
            Err(Interrupt::TimeUp) => return Err(Reason::RegionRequired.into()),
        }
    };
    up.unread(begin.freeze());
    Ok(region::resolve(code)?)
}

/// One attempt at one endpoint, counted.
async fn run(
    call: &mut Call,
    view: &View,
    chosen: Chosen<'_>,
    attempts: u8,
    up: &mut Up,
    mut attempt: Try,
    opened: Opened,
) -> Result<Ended, Stop> {
    let pool = attempt.pool.clone();
    let origin = Origin {
        target: chosen.target,
        node: &pool.node,
        reason: chosen.reason,
        attempt: attempts,
        plan: view.plan.as_ref(),
    };
    let ended = pass(call, origin, up, &mut attempt, opened).await;
    call.now = Instant::now();
    let code = match &ended {
        Ok(Ended::Complete(code)) => {
            // How long a stream lasts says nothing about the node.
            attempt.end(outcome::of_answer(*code, false, Given::Short), call.now);
            *code
        }
        Ok(Ended::Cut(code)) => *code,
        Err(Stop::Gone) => tonic::Code::Cancelled as u8,
        Ok(Ended::Failed(_)) => return ended,
        // Counted where it is refused.
        Err(Stop::Refuse(_)) => return ended,
    };
    call.count(&attempt, origin, code);
    ended
}

/// Pumps both ways: first up only, until the answer's headers come, then both.
async fn pass(
    call: &mut Call,
    origin: Origin<'_>,
    up: &mut Up,
    attempt: &mut Try,
    opened: Opened,
) -> Result<Ended, Stop> {
    let Opened { lease, mut response, body: mut to } = opened;
    let mut timer = call.asked.deadline.map(|at| call.worker.wheel.arm(at));
    let mut idle = Idle::new(call.worker.wheel.clone());
    let cut = call.cut.clone();
    let headers = call.wait(&mut timer, |cx| {
        let up = up.poll_pump(cx, &mut to, &mut idle);
        if let Poll::Ready(answer) = response.poll_response(cx) {
            return Poll::Ready(Ok(answer));
        }
        match up {
            Poll::Ready(Err(pump::Broken::Reader)) => Poll::Ready(Err(Stop::Gone)),
            Poll::Ready(Err(pump::Broken::TooLarge)) => Poll::Ready(Err(Reason::MessageTooLarge.into())),
            // The node closed its side: its answer, or the loss of it, follows.
            Poll::Ready(Err(pump::Broken::Writer) | Ok(())) | Poll::Pending => {
                idle.poll(cx).map(|()| Err(Reason::StreamIdle.into()))
            }
        }
    });
    let Some(answered) = cut.run_until_cancelled(headers).await else {
        return Err(Reason::ConnectionAge.into());
    };
    let mut response = match answered {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(error))) => return Ok(Ended::Failed(attempt::failure_of(&error, attempt, Instant::now()))),
        Ok(Err(stop)) => return Err(stop),
        Err(Interrupt::Gone) => return Err(Stop::Gone),
        Err(Interrupt::TimeUp) => return Err(Reason::DeadlineExceeded.into()),
    };
    lease.answered();
    let from = response.body;
    call.take_verdicts(attempt, &mut response.headers);
    let only_headers = from.is_end_stream();
    let code = answer::status_of(&response.headers, None);
    let (headers, stamp) = (&response.headers, origin.stamp());
    let head = ResponseHead { status: response.status, headers, extra: stamp.as_slice() };
    let mut out = call.respond.send_response(head, only_headers).map_err(|_| Stop::Gone)?;
    if only_headers {
        return Ok(Ended::Complete(code));
    }
    up.forget();
    let down = Down::new(Some(from), Bytes::new(), None);
    let both = both(up, &mut to, down, &mut out, &mut timer, &mut idle);
    let result = cut.run_until_cancelled(both).await.unwrap_or_else(|| Err(Reason::ConnectionAge.into()));
    let own = result.is_ok();
    let code = conclude(result, &mut out)?;
    Ok(if own { Ended::Complete(code) } else { Ended::Cut(code) })
}

/// Pumps both ways until the answer is complete, or something ends it.
async fn both(
    up: &mut Up,
    to: &mut SendStream,
    mut down: Down,
    out: &mut SendStream,
    timer: &mut Option<Timer>,
    idle: &mut Idle,
) -> Result<u8, Stop> {
    poll_fn(|cx| {
        match up.poll_pump(cx, to, idle) {
            Poll::Ready(Err(pump::Broken::Reader)) => return Poll::Ready(Err(Stop::Gone)),
            Poll::Ready(Err(pump::Broken::TooLarge)) => {
                return Poll::Ready(Err(Reason::MessageTooLarge.into()));
            }
            Poll::Ready(Err(pump::Broken::Writer) | Ok(())) | Poll::Pending => {}
        }
        poll_answer(cx, &mut down, out, timer, idle)
    })
    .await
}

/// Moves the answer, unless the caller left, the deadline passed, or nothing passes any more.
fn poll_answer(
    cx: &mut Context<'_>,
    down: &mut Down,
    out: &mut SendStream,
    timer: &mut Option<Timer>,
    idle: &mut Idle,
) -> Poll<Result<u8, Stop>> {
    if let Poll::Ready(end) = down.poll_pump(cx, out, idle) {
        return Poll::Ready(end);
    }
    if out.poll_reset(cx).is_ready() {
        return Poll::Ready(Err(Stop::Gone));
    }
    if timer.as_mut().is_some_and(|timer| timer.poll_fired(cx).is_ready()) {
        return Poll::Ready(Err(Reason::DeadlineExceeded.into()));
    }
    idle.poll(cx).map(|()| Err(Reason::StreamIdle.into()))
}

/// Headers are out: what breaks now is told in trailers.
fn conclude(result: Result<u8, Stop>, out: &mut SendStream) -> Result<u8, Stop> {
    match result {
        Err(Stop::Refuse(refusal)) => {
            let reason = match &refusal {
                super::Refusal::Plain(reason) => *reason,
                super::Refusal::Detailed(_) => Reason::UpstreamProtocol,
            };
            out.send_trailers(answer::trailers(reason)).map_err(|_| Stop::Gone)?;
            Ok(reason.code() as u8)
        }
        other => other,
    }
}

/// Passes on an answer that was held back, within the caller's window, and what is still to come of it.
///
/// # Errors
/// The caller hung up.
pub async fn finish(
    call: &Call,
    out: &mut SendStream,
    begin: Bytes,
    rest: Option<RecvStream>,
    trailers: Option<Fields>,
) -> Result<u8, Stop> {
    let mut timer = call.asked.deadline.map(|at| call.worker.wheel.arm(at));
    let mut idle = Idle::new(call.worker.wheel.clone());
    let mut down = Down::new(rest, begin, trailers);
    let result = poll_fn(|cx| poll_answer(cx, &mut down, out, &mut timer, &mut idle)).await;
    conclude(result, out)
}

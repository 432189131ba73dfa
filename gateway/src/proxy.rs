//! What happens to a call, from its headers to its last byte?
//!
//! admit → read what is asked → plan (read once from the snapshot) → pick → attempt → answer.
//!
//! Bytes pass through undecoded. Unary calls ([`unary`]) are kept whole so that they can be sent
//! again; streams ([`stream`]) are pumped both ways with flow control end to end. Whatever happens, the
//! caller gets an answer or a refusal with a reason, or has hung up.

pub mod answer;
pub mod attempt;
pub mod course;
pub mod intake;
pub mod local;
pub mod message;
pub mod stream;
pub mod unary;

use crate::{
    apps::desk::{Caller, Pass},
    http2::{
        RecvStream,
        server::{Accepted, Head, SendResponse},
    },
    telemetry::{AnswerReason, End},
    trace,
    worker::Worker,
};
use intake::{Asked, Refusal};
use std::{rc::Rc, time::Instant};
use suiyue_proto::{
    method::{Class, Shape},
    reason::Reason,
};
use tokio_util::sync::CancellationToken;

/// Why a call ended without an answer of a node.
#[derive(Debug)]
pub enum Stop {
    /// The caller is told why.
    Refuse(Refusal),
    /// The caller hung up, or the connection is gone: nobody to tell.
    Gone,
}

impl<R: Into<Refusal>> From<R> for Stop {
    fn from(refusal: R) -> Self {
        Self::Refuse(refusal.into())
    }
}

/// One call: what was asked, and what is needed to answer it.
pub struct Call {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// When its headers arrived.
    pub start: Instant,
    /// The clock as last read: it stands still while the call does not wait.
    pub now: Instant,
    /// What was asked.
    pub asked: Asked,
    /// Cancelled when the connection must end: streams end with a status then.
    pub cut: Rc<CancellationToken>,
    /// The way back.
    pub respond: SendResponse,
    /// What is noted of it for traces and access log.
    pub trace: trace::Span,
    /// The app that makes it; `None`: nobody, and that is allowed.
    pub app: Option<Pass>,
}

/// Serves one call to its end. `certificate`: the name that the connection's client certificate proves.
pub async fn serve(
    worker: Rc<Worker>,
    cut: Rc<CancellationToken>,
    certificate: Option<Rc<str>>,
    accepted: Accepted,
) {
    let (mut head, body, mut respond) = accepted;
    let start = Instant::now();
    let limits = worker.limits;
    let load = worker.clone();
    let Some(admitted) = load.load.admit(&limits) else {
        refuse(&worker, None, start, &mut respond, &Reason::GatewayOverloaded.into());
        return;
    };
    if let Some(status) = intake::not_grpc(&head) {
        return answer::http(&mut respond, status);
    }
    let mut trace = worker.tracer.begin(&mut head.headers, start, || worker.random());
    let view = worker.view();
    let plan = view.snapshot.generation;
    let (asked, authorization) = match intake::read(&view, &worker.services, worker.subjects, head, start) {
        Ok(Ok(read)) => read,
        Ok(Err(head)) => {
            drop(admitted);
            return Box::pin(own(&worker, start, head, body, respond)).await;
        }
        Err(refusal) => {
            trace.unanswered(refuse(&worker, None, start, &mut respond, &refusal));
            return trace.end(&worker.tracer, None, plan, start);
        }
    };
    let caller = Caller::of(authorization.as_ref(), certificate.as_deref());
    let admitted_app = match view.desk() {
        Some(desk) => desk.admit(caller, &asked.method, asked.region, start),
        None => Err(Reason::AppRequired),
    };
    drop((authorization, certificate));
    let app = match admitted_app {
        Ok(app) => app,
        Err(reason) => {
            trace.unanswered(refuse(&worker, Some(&asked), start, &mut respond, &reason.into()));
            return trace.end(&worker.tracer, Some(&asked.method), plan, start);
        }
    };
    let mut call = Call { worker, start, now: start, asked, cut, respond, trace, app };
    let result = match call.asked.method.shape {
        Shape::Unary => unary::serve(&mut call, &view, body).await,
        _ => Box::pin(stream::serve(&mut call, &view, body)).await,
    };
    if let Err(stop) = result {
        stopped(&mut call, &stop);
    }
    call.trace.end(&call.worker.tracer, Some(&call.asked.method), plan, call.now);
}

/// Answers a call to one of the gateway's own services. They do not compete with the calls to nodes:
/// who watches the gateway's health may do so for hours.
async fn own(worker: &Worker, start: Instant, head: Box<Head>, body: RecvStream, mut respond: SendResponse) {
    let result = match worker.local.admit(&local::limits(&worker.limits)) {
        Some(_admitted) => local::serve(&worker.services, head, body, &mut respond).await,
        None => Err(Reason::GatewayOverloaded),
    };
    if let Err(reason) = result {
        refuse(worker, None, start, &mut respond, &reason.into());
    }
}

/// A call ended without an answer: tells the caller who is still there, and counts.
#[cold]
fn stopped(call: &mut Call, stop: &Stop) {
    let (worker, asked, start) = (&call.worker, Some(&call.asked), call.start);
    let end = match stop {
        Stop::Refuse(refusal) => refuse(worker, asked, start, &mut call.respond, refusal),
        Stop::Gone => {
            let end = unanswered(asked, tonic::Code::Cancelled);
            // Streams count themselves where they were passed on.
            if call.asked.method.shape == Shape::Unary {
                worker.refused.count(&worker.metrics, worker.index, &"".into(), end, start.elapsed());
            }
            end
        }
    };
    call.trace.unanswered(end);
    call.ended(end.code);
}

fn refuse(
    worker: &Worker,
    asked: Option<&Asked>,
    start: Instant,
    respond: &mut SendResponse,
    refusal: &Refusal,
) -> End {
    answer::refuse(respond, refusal, worker.random());
    let end = unanswered(asked, refusal.code());
    worker.refused.count(&worker.metrics, worker.index, &"".into(), end, start.elapsed());
    end
}

/// The end of a call that no node answered.
fn unanswered(asked: Option<&Asked>, code: tonic::Code) -> End {
    End {
        region: asked.and_then(|asked| asked.region).map_or(0, suiyue_proto::region::Code::get),
        class: asked.map_or(Class::Sync, |asked| asked.method.class),
        tier: 0,
        reason: AnswerReason::Refused,
        code: code as u8,
        retried: false,
        streamed: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Arguments = (Rc<Worker>, Rc<CancellationToken>, Option<Rc<str>>, Accepted);

    fn size<F>(_: impl Fn(Arguments) -> F) -> usize {
        std::mem::size_of::<F>()
    }

    #[test]
    fn a_call_in_flight_is_small() {
        // Hundreds of calls in flight should stay in a core's second-level cache.
        let bytes = size(|(worker, cut, certificate, accepted)| serve(worker, cut, certificate, accepted));
        assert!(bytes <= 3072, "{bytes}");
    }
}

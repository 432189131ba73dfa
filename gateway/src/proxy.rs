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
    telemetry::{AnswerReason, End},
    worker::Worker,
};
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::Request;
use intake::{Asked, Refusal};
use std::{rc::Rc, time::Instant};
use suiyue_proto::method::{Class, Shape};
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
    pub respond: SendResponse<Bytes>,
}

/// Serves one call to its end.
pub async fn serve(
    worker: Rc<Worker>,
    cut: Rc<CancellationToken>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let start = Instant::now();
    let limits = worker.limits;
    let load = worker.clone();
    let Some(_admitted) = load.load.admit(&limits) else {
        return refuse(
            &worker,
            None,
            start,
            &mut respond,
            &suiyue_proto::reason::Reason::GatewayOverloaded.into(),
        );
    };
    let (head, body) = request.into_parts();
    if let Some(status) = intake::not_grpc(&head) {
        return answer::http(&mut respond, status);
    }
    let view = worker.view();
    let asked = match intake::read(&view.snapshot, &worker.services, head, start) {
        Ok(Ok(asked)) => asked,
        Ok(Err(head)) => return Box::pin(local::serve(&worker.services, head, body, respond)).await,
        Err(refusal) => return refuse(&worker, None, start, &mut respond, &refusal),
    };
    let mut call = Call { worker, start, now: start, asked, cut, respond };
    let result = match call.asked.method.shape {
        Shape::Unary => unary::serve(&mut call, &view, body).await,
        _ => Box::pin(stream::serve(&mut call, &view, body)).await,
    };
    if let Err(Stop::Refuse(refusal)) = result {
        refuse(&call.worker, Some(&call.asked), start, &mut call.respond, &refusal);
    }
}

fn refuse(
    worker: &Worker,
    asked: Option<&Asked>,
    start: Instant,
    respond: &mut SendResponse<Bytes>,
    refusal: &Refusal,
) {
    answer::refuse(respond, refusal, worker.random());
    let end = End {
        region: asked.and_then(|asked| asked.region).map_or(0, suiyue_proto::region::Code::get),
        class: asked.map_or(Class::Sync, |asked| asked.method.class),
        tier: 0,
        reason: AnswerReason::Refused,
        code: refusal.code() as u8,
        retried: false,
    };
    worker.refused.count(&worker.metrics, worker.index, &"".into(), end, start.elapsed());
}

#[cfg(test)]
mod tests {
    use super::*;

    type Arguments = (Rc<Worker>, Rc<CancellationToken>, Request<RecvStream>, SendResponse<Bytes>);

    fn size<F>(_: impl Fn(Arguments) -> F) -> usize {
        std::mem::size_of::<F>()
    }

    #[test]
    fn a_call_in_flight_is_small() {
        // Hundreds of calls in flight should stay in a core's second-level cache.
        let bytes = size(|(worker, cut, request, respond)| serve(worker, cut, request, respond));
        assert!(bytes <= 3072, "{bytes}");
    }
}

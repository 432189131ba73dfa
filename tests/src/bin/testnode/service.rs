//! What does the test service do with a call?
//!
//! It notes it, waits as told, and answers as told, unless something is wrong with the node
//! ([`crate::faults`]).

use crate::{
    door::Line,
    faults::{Fate, Ills},
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use std::{pin::Pin, sync::Arc, time::Duration};
use suiyue_tests::{
    echo::{Execution, Journal},
    v1::{EchoRequest, EchoResponse, echo_service_server::EchoService},
};
use tonic::{Code, Request, Response, Status, Streaming};

/// The test service.
#[derive(Debug)]
pub(crate) struct Echo {
    node: String,
    delay_ms: u32,
    journal: Journal,
    ills: Arc<Ills>,
}

/// An answer that is cut in its middle has so many bytes more than it should.
const CUT_ANSWER: u32 = 32 << 10;
/// So many bytes of answers still leave when one is cut in its middle.
const CUT_AFTER: u64 = 8 << 10;

type Answers = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

impl Echo {
    pub(crate) fn new(node: &str, delay_ms: u32, journal: Journal, ills: Arc<Ills>) -> Self {
        Self { node: node.to_owned(), delay_ms, journal, ills }
    }

    async fn execute(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let line = request.extensions().get::<Arc<Line>>().cloned();
        // An app's token is for the gateway alone: no test may see one here.
        if request.metadata().contains_key("authorization") {
            return Err(Status::internal("an authorization has reached a node"));
        }
        let mut request = request.into_inner();
        let (longer_ms, fate) = self.ills.of_a_call();
        if let Fate::Refuse(status) = fate {
            self.journal.refused(&request.call_id);
            return Err(status);
        }
        let execution = self.journal.begin(&request.call_id);
        if request.deadly {
            std::process::exit(1);
        }
        let delay = u64::from(self.delay_ms) + u64::from(request.delay_ms) + u64::from(longer_ms);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        execution.end();
        match (fate, line) {
            (Fate::Fail(status), _) => return Err(status),
            (Fate::CutBefore, Some(line)) => {
                line.cut_after(0);
                // This future ends with the connection.
                std::future::pending::<()>().await;
            }
            (Fate::CutWithin, Some(line)) => {
                line.cut_after(CUT_AFTER);
                request.answer_bytes += CUT_ANSWER;
            }
            _ => {}
        }
        Ok(Response::new(answer(&self.node, &request, 1)))
    }
}

fn answer(node: &str, request: &EchoRequest, number: u64) -> EchoResponse {
    let payload = if request.answer_bytes == 0 {
        request.payload.clone()
    } else {
        let mut longer = BytesMut::from(&request.payload[..]);
        longer.resize(longer.len() + request.answer_bytes as usize, b'.');
        longer.freeze()
    };
    EchoResponse { call_id: request.call_id.clone(), node: node.to_owned(), payload, number }
}

#[tonic::async_trait]
impl EchoService for Echo {
    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        self.execute(request).await
    }

    async fn unary_once(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        self.execute(request).await
    }

    async fn client_stream(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<EchoResponse>, Status> {
        let mut messages = request.into_inner();
        let mut execution = self.journal.begin("client-stream");
        let mut last = EchoRequest::default();
        let mut number = 0;
        while let Some(message) = messages.message().await? {
            number += 1;
            execution.rename(&message.call_id);
            last = message;
        }
        execution.end();
        Ok(Response::new(answer(&self.node, &last, number)))
    }

    type ServerStreamStream = Answers;

    async fn server_stream(
        &self,
        request: Request<EchoRequest>,
    ) -> Result<Response<Self::ServerStreamStream>, Status> {
        let request = request.into_inner();
        let execution = self.journal.begin(&request.call_id);
        let node = self.node.clone();
        let state = (Some(execution), 0_u64);
        let answers = stream::unfold(state, move |(execution, number)| {
            let next = send(execution, number, &request, &node);
            async move { next }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    type BidiStream = Answers;

    async fn bidi(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Self::BidiStream>, Status> {
        let execution = self.journal.begin("bidi");
        let node = self.node.clone();
        let state = (request.into_inner(), execution, 0_u64);
        let answers = stream::unfold(state, move |(mut messages, mut execution, number)| {
            let node = node.clone();
            async move {
                match messages.next().await {
                    Some(Ok(message)) => {
                        execution.rename(&message.call_id);
                        let answer = answer(&node, &message, number + 1);
                        Some((Ok(answer), (messages, execution, number + 1)))
                    }
                    // The caller is gone: the execution is dropped as cancelled.
                    Some(Err(_)) => None,
                    None => {
                        execution.end();
                        None
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fail(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let request = request.into_inner();
        self.journal.begin(&request.call_id).end();
        Err(Status::with_details(Code::from_i32(request.code), "as asked", Bytes::from_static(b"detail")))
    }

    async fn hang(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let _execution = self.journal.begin(&request.get_ref().call_id);
        std::future::pending().await
    }

    async fn replicate(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        self.execute(request).await
    }

    async fn unlisted(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        self.execute(request).await
    }
}

type Sent = (Result<EchoResponse, Status>, (Option<Execution>, u64));

/// The next answer of a stream of `request.answers`; after the last one the execution has ended.
fn send(execution: Option<Execution>, number: u64, request: &EchoRequest, node: &str) -> Option<Sent> {
    let execution = execution?;
    if number == u64::from(request.answers) {
        execution.end();
        return None;
    }
    execution.sent(number + 1);
    Some((Ok(answer(node, request, number + 1)), (Some(execution), number + 1)))
}

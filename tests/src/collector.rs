//! Who takes the spans of a gateway under test?
//!
//! An OTLP collector of our own inside the test: it keeps every span. It can be told to hang, so that a
//! test sees that nobody minds. [`Witness`] is the other end of a trace: a node that keeps the headers of
//! the calls it gets.

use crate::eventually::eventually;
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::HeaderMap;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// What a collector does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes it.
    Takes,
    /// Never answers.
    Hangs,
}

/// A running collector; it ends when dropped.
#[derive(Debug)]
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    taking: Taking,
    server: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Taking {
    manner: Manner,
    asked: Arc<AtomicUsize>,
    spans: Arc<Mutex<Vec<Span>>>,
}

#[tonic::async_trait]
impl TraceService for Taking {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.asked.fetch_add(1, Relaxed);
        if self.manner == Manner::Hangs {
            std::future::pending::<()>().await;
        }
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|of| of.scope_spans);
        let spans = scopes.flat_map(|of| of.spans);
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Starts one.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(manner: Manner) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let taking = Taking { manner, asked: Arc::default(), spans: Arc::default() };
        let server = Server::builder()
            .add_service(TraceServiceServer::new(taking.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { server.await.unwrap_or_default() });
        Ok(Self { address, taking, server })
    }

    /// Requests that came so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.taking.asked.load(Relaxed)
    }

    /// Everything taken so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.taking.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the spans of one trace: the gateway's, and those of `attempts` attempts in order.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn trace(&self, trace: u128, attempts: usize) -> anyhow::Result<(Span, Vec<Span>)> {
        eventually("the collector has the trace", async || {
            let mut spans = self.spans();
            spans.retain(|span| span.trace_id == trace.to_be_bytes());
            let (server, mut clients): (Vec<_>, Vec<_>) =
                spans.into_iter().partition(|span| span.kind() == SpanKind::Server);
            ensure!(server.len() == 1 && clients.len() == attempts, "{server:?} {clients:?}");
            clients.sort_by_key(|span| attribute(span, "suiyue.attempt"));
            Ok((server.into_iter().next().context("counted above")?, clients))
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An attribute of a span, as a text.
#[must_use]
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    match value {
        Value::StringValue(text) => Some(text),
        Value::IntValue(n) => Some(n.to_string()),
        other => Some(format!("{other:?}")),
    }
}

/// A node that answers every call with OK and no message, and keeps the headers; it ends when dropped.
#[derive(Debug)]
pub struct Witness {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    server: JoinHandle<()>,
}

impl Witness {
    /// Starts one.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let keep = seen.clone();
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(witness(socket, keep.clone()));
            }
        });
        Ok(Self { address, seen, server })
    }

    /// Headers of the calls so far.
    #[must_use]
    pub fn seen(&self) -> Vec<HeaderMap> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn witness(socket: tokio::net::TcpStream, seen: Arc<Mutex<Vec<HeaderMap>>>) {
    let Ok(mut connection) = h2::server::Builder::new().handshake::<_, Bytes>(socket).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.headers().clone());
        let answer = http::Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "0")
            .header("suiyue-verdict", "pass=2,unknown.subject_unknown");
        if let Ok(answer) = answer.body(()) {
            let _ = respond.send_response(answer, true);
        }
    }
}

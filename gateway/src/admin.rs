//! What does a scrape or a supervisor ask?
//!
//! `GET /metrics` (Prometheus text, or `OpenMetrics` where asked for), `/ready` (200 while the gateway has a table and is not draining)
//! and `/live`, over HTTP/1.1 on the admin port.

use crate::{
    control::Snapshots,
    identity::Trust,
    registry::follow,
    table::Source,
    telemetry::{
        Metrics,
        exposition::{self, Format, Scene},
    },
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, fmt::Write as _, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the admin port shows.
#[derive(Clone)]
pub struct Admin {
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// The snapshots.
    pub snapshots: Snapshots,
    /// The registry as last heard of; `None` for a gateway without one.
    pub followed: Option<follow::Status>,
    /// How certificates are judged; `None`: there are none.
    pub trust: Option<Trust>,
    /// The gateway drains.
    pub draining: CancellationToken,
}

/// Connections that are served at a time.
const CONNECTIONS: usize = 64;

impl Admin {
    /// Serves until `shutdown`.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((socket, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(permit) = room.clone().try_acquire_owned() else { continue };
            let admin = self.clone();
            let shutdown = shutdown.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let response = admin.answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(5))
                    .serve_connection(TokioIo::new(socket), service);
                tokio::select! {
                    _ = connection => {}
                    () = shutdown.cancelled() => {}
                }
                drop(permit);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into());
        }
        match request.uri().path() {
            "/live" => plain(StatusCode::OK, "live\n".into()),
            "/ready" => self.ready(),
            "/metrics" => self.metrics(request.headers()),
            _ => plain(StatusCode::NOT_FOUND, "try /metrics, /ready or /live\n".into()),
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let accept = headers.get(header::ACCEPT).map_or(&b""[..], HeaderValue::as_bytes);
        let format = Format::wanted(accept);
        let scene = Scene {
            metrics: self.metrics.clone(),
            snapshot: self.snapshots.current(),
            rebuilds: self.snapshots.rebuilds.read(),
            expiries: self.trust.as_ref().map_or_else(Vec::new, Trust::expiries),
            age: self.followed.as_ref().and_then(|followed| followed.freshness().age()),
            registry: self.followed.as_ref().map(exposition::Following::from),
        };
        let Ok(text) = exposition::text(scene, format) else {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "the numbers cannot be written\n".into());
        };
        let mut response = plain(StatusCode::OK, text);
        let kind = HeaderValue::from_static(format.content_type());
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let snapshot = self.snapshots.current();
        let mut state = format!(
            "plan {} from {:?} at revision {}, {} nodes",
            snapshot.generation,
            snapshot.table.source,
            snapshot.table.revision,
            snapshot.table.nodes.len()
        );
        if let Some(age) = self.followed.as_ref().and_then(|followed| followed.freshness().age()) {
            let _ = write!(state, ", {} s old", age.as_secs());
        }
        for alarm in self.followed.iter().flat_map(follow::Status::alarms) {
            let _ = write!(state, "; {}: {}", alarm.word, alarm.text);
        }
        state.push('\n');
        if self.draining.is_cancelled() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, format!("draining: {state}"));
        }
        if snapshot.generation == 0 {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "waiting for a table\n".into());
        }
        if snapshot.table.source == Source::Awaited && snapshot.table.nodes.is_empty() {
            let waiting = self.followed.as_ref().and_then(follow::Status::waiting);
            let waiting = waiting.unwrap_or_else(|| "it has not been read yet".to_owned());
            let text = format!("waiting for the registry: {waiting}\n");
            return plain(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        plain(StatusCode::OK, format!("ready: {state}"))
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

//! What does a scrape or a supervisor ask?
//!
//! `GET /metrics` (Prometheus text, or `OpenMetrics` where asked for), `/ready` (200 while the gateway has a table and is not draining)
//! and `/live`, over HTTP/1.1 on the admin port; the web console ([`crate::console`]) is served beside them.
//! With an identity the port also takes TLS, of operators (`entrance`).

mod entrance;

use crate::{
    console::guard::Connection,
    control::Snapshots,
    identity::{Peer, Trust},
    registry::follow,
    table::Source,
    telemetry::{
        Metrics,
        exposition::{self, Format, Scene},
    },
};
use axum::{Router, body::Body};
use entrance::{Entrance, Guest};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, fmt::Write as _, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

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
    /// The console's pages.
    pub console: Router,
}

/// Connections that are served at a time.
const CONNECTIONS: usize = 64;

impl Admin {
    /// Serves until `shutdown`.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let entrance = self.trust.clone().map(Entrance::new);
        let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((socket, peer)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(permit) = room.clone().try_acquire_owned() else { continue };
            let (admin, entrance, shutdown) = (self.clone(), entrance.clone(), shutdown.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = admin.attend(socket, peer, entrance.as_ref()) => {}
                    () = shutdown.cancelled() => {}
                }
                drop(permit);
            });
        }
    }

    /// Serves one connection until it ends, or the certificate that it came with.
    async fn attend(self, socket: TcpStream, peer: SocketAddr, entrance: Option<&Entrance>) {
        let from = Connection { peer, encrypted: false };
        match (entrance::enter(socket, entrance).await, entrance) {
            (Ok(Guest::Plain(socket)), _) => self.serve_all(socket, from, None).await,
            (Ok(Guest::Certified(stream, who)), Some(entrance)) => {
                let from = Connection { encrypted: true, ..from };
                tokio::select! {
                    () = self.serve_all(stream, from, Some(who.clone())) => {}
                    () = entrance.ends(&who) => {}
                }
            }
            (Ok(Guest::Certified(..)), None) => {}
            (Err(error), _) => tracing::debug!(%error, %peer, "a connection to the admin port was refused"),
        }
    }

    async fn serve_all<S>(self, stream: S, from: Connection, who: Option<Peer>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let service =
            hyper::service::service_fn(move |request| self.clone().serve_one(request, from, who.clone()));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(5))
            .serve_connection(TokioIo::new(stream), service);
        // Whoever hangs up has no further use for the reason.
        let _ = connection.await;
    }

    async fn serve_one(
        self,
        mut request: Request<Incoming>,
        from: Connection,
        who: Option<Peer>,
    ) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path();
        if path != "/console" && !path.starts_with("/console/") {
            return Ok(self.answer(&request));
        }
        request.extensions_mut().insert(from);
        if let Some(who) = who {
            request.extensions_mut().insert(who);
        }
        self.console.oneshot(request.map(Body::new)).await
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into());
        }
        match request.uri().path() {
            "/live" => plain(StatusCode::OK, "live\n".into()),
            "/ready" => self.ready(),
            "/metrics" => self.metrics(request.headers()),
            _ => plain(StatusCode::NOT_FOUND, "try /console, /metrics, /ready or /live\n".into()),
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Body> {
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

    fn ready(&self) -> Response<Body> {
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

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

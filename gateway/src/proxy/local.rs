//! Which calls does the gateway answer itself on the data port?
//!
//! Health, reflection, and the public part of the operator API (`ListRegions`). They are tonic
//! services; this module carries our streams to them and back, a few at a time.

use crate::{
    admission::Limits,
    http2::{
        self, Fields, RecvStream, SendStream,
        server::{Head, ResponseHead, SendResponse},
    },
};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{Method, Request, Uri, Version};
use http_body::{Body as _, Frame};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use suiyue_proto::reason::Reason;
use tokio::{sync::mpsc, time::timeout};
use tower::Service as _;

/// A request must have come, and be answered with headers, within this time.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// Calls in flight to nodes for each one that the gateway answers itself.
const SHARE: usize = 20;

/// What is admitted of calls that the gateway answers itself.
pub(super) fn limits(limits: &Limits) -> Limits {
    Limits { in_flight: limits.in_flight.div_ceil(SHARE), ..*limits }
}

/// The services, and the paths that go to them.
#[derive(Clone, Default)]
pub struct Services {
    routes: tonic::service::Routes,
    prefixes: Arc<[&'static str]>,
    paths: Arc<[&'static str]>,
}

impl Services {
    /// Services by prefix (`/package.Service/`) and single methods by path.
    #[must_use]
    pub fn new(routes: tonic::service::Routes, prefixes: &[&'static str], paths: &[&'static str]) -> Self {
        Self { routes, prefixes: prefixes.into(), paths: paths.into() }
    }

    /// The gateway answers this path itself.
    #[must_use]
    pub fn answers(&self, path: &str) -> bool {
        self.prefixes.iter().any(|prefix| path.starts_with(prefix)) || self.paths.contains(&path)
    }
}

/// A request body as tonic reads it: pieces out of a channel, since a stream of ours stays on its thread.
struct Body {
    pieces: mpsc::Receiver<Result<Bytes, http2::Error>>,
    empty: bool,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = http2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, http2::Error>>> {
        self.pieces.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.empty
    }
}

/// Carries the caller's bytes into the channel, as long as somebody reads there.
async fn feed(mut body: RecvStream, pieces: mpsc::Sender<Result<Bytes, http2::Error>>) {
    while let Some(piece) = body.data().await {
        let (len, broken) = (piece.as_ref().map_or(0, Bytes::len), piece.is_err());
        if pieces.send(piece).await.is_err() || broken {
            return;
        }
        body.release(len);
    }
}

/// Lets a tonic service answer.
///
/// # Errors
/// The request did not come in time: nothing was answered.
pub async fn serve(
    services: &Services,
    head: Box<Head>,
    body: RecvStream,
    respond: &mut SendResponse,
) -> Result<(), Reason> {
    let (sender, pieces) = mpsc::channel(1);
    let pieces = Body { pieces, empty: body.is_end_stream() };
    let mut request = Request::new(tonic::body::Body::new(pieces));
    // The path is one of those that we answer.
    *request.uri_mut() = Uri::try_from(head.path.as_bytes()).unwrap_or_default();
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = head.headers.into();
    let answer = std::pin::pin!(answer(services, request, respond));
    let feed = std::pin::pin!(feed(body, sender));
    // The call lasts as long as its answer: the request may end before, or never.
    match select(answer, feed).await {
        Either::Left((answered, _)) => answered,
        Either::Right(((), answer)) => answer.await,
    }
}

async fn answer(
    services: &Services,
    request: Request<tonic::body::Body>,
    respond: &mut SendResponse,
) -> Result<(), Reason> {
    let mut routes = services.routes.clone();
    let called = timeout(REQUEST_LIMIT, routes.call(request)).await;
    let Ok(response) = called.map_err(|_| Reason::RequestIncomplete)?;
    pass(response, respond).await;
    Ok(())
}

/// Passes an answer on, for as long as the caller is there.
async fn pass(response: http::Response<tonic::body::Body>, respond: &mut SendResponse) {
    let (head, mut body) = response.into_parts();
    let only_headers = body.is_end_stream();
    let headers = Fields::from(&head.headers);
    let head = ResponseHead { status: head.status, headers: &headers, extra: &[] };
    let Ok(mut out) = respond.send_response(head, only_headers) else { return };
    if only_headers {
        return;
    }
    loop {
        let frame = tokio::select! {
            frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => frame,
            _ = poll_fn(|cx| out.poll_reset(cx)) => return,
        };
        let Some(Ok(frame)) = frame else {
            let _ = out.send_data(Bytes::new(), true);
            return;
        };
        let sent = match frame.into_data() {
            Ok(data) => send(&mut out, data).await,
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    let _ = out.send_trailers(Fields::from(&trailers));
                    return;
                }
                Err(_) => Some(()),
            },
        };
        if sent.is_none() {
            return;
        }
    }
}

/// Sends within the caller's window; `None`: the caller is gone.
async fn send(out: &mut SendStream, mut data: Bytes) -> Option<()> {
    while !data.is_empty() {
        let n = poll_fn(|cx| out.poll_room(cx, data.len())).await?;
        out.send_data(data.split_to(n), false).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::{Config, client, server};
    use http::HeaderValue;

    /// Serves a health check whose message has come so far; `open`: more of it would follow.
    async fn check(message: Vec<u8>, open: bool) -> (Result<(), Reason>, Option<HeaderValue>) {
        let config =
            Config { stream_window: 1 << 20, connection_window: 1 << 20, streams: 9, header_list: 9000 };
        let (left, right) = tokio::io::duplex(1 << 20);
        let (sender, connection) = client::handshake(left, config);
        tokio::task::spawn_local(connection);
        let (authority, path) =
            (HeaderValue::from_static("test"), HeaderValue::from_static("/grpc.health.v1.Health/Check"));
        let headers = [(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))];
        let headers = headers.into_iter().collect();
        let head = client::RequestHead { authority: &authority, path: &path, headers: &headers, extra: &[] };
        let (response, mut to) = sender.send_request(head, false).unwrap();
        to.send_data(message.into(), !open).unwrap();
        let mut connection = server::handshake(right, config).await.unwrap();
        let (head, body, mut respond) = connection.accept().await.unwrap().unwrap();
        tokio::task::spawn_local(async move { while let Some(Ok(_)) = connection.accept().await {} });
        let (_reporter, health) = tonic_health::server::health_reporter();
        let routes = tonic::service::Routes::new(health.max_decoding_message_size(64 << 10));
        let services = Services::new(routes, &["/grpc.health.v1.Health/"], &[]);
        let result = serve(&services, Box::new(head), body, &mut respond).await;
        if result.is_err() {
            return (result, None);
        }
        let mut response = response.await.unwrap();
        while let Some(Ok(_)) = response.body.data().await {}
        let trailers = response.body.trailers().await.unwrap();
        let status = http::HeaderName::from_static("grpc-status");
        let status = trailers.as_ref().unwrap_or(&response.headers).get(&status).cloned();
        (result, status)
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_bounded_in_time() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                assert_eq!(check(vec![0; 5], false).await, (Ok(()), Some(HeaderValue::from_static("0"))));
                assert_eq!(check(vec![0; 3], true).await, (Err(Reason::RequestIncomplete), None));
            })
            .await;
    }

    #[test]
    fn a_twentieth_is_admitted() {
        let most = |in_flight| limits(&Limits { in_flight, ..Limits::default() }).in_flight;
        assert_eq!((most(20_000), most(1)), (1000, 1));
    }
}

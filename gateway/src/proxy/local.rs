//! Which calls does the gateway answer itself on the data port?
//!
//! Health, reflection, and the public part of the operator API (`ListRegions`). They are tonic
//! services; this module carries our streams to them and back.

use crate::http2::{
    self, Fields, RecvStream, SendStream,
    server::{Head, ResponseHead, SendResponse},
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
};
use tokio::sync::mpsc;
use tower::Service as _;

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
pub async fn serve(services: &Services, head: Box<Head>, body: RecvStream, respond: SendResponse) {
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
    if let Either::Right(((), answer)) = select(answer, feed).await {
        answer.await;
    }
}

async fn answer(services: &Services, request: Request<tonic::body::Body>, mut respond: SendResponse) {
    let mut routes = services.routes.clone();
    let Ok(response) = routes.call(request).await;
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

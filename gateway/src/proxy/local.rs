//! Which calls does the gateway answer itself on the data port?
//!
//! Health, reflection, and the public part of the operator API (`ListRegions`). They are tonic
//! services; this module carries h2's streams to them and back.

use super::stream::pump::poll_room;
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Request, Response, request::Parts};
use http_body::{Body as _, Frame};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
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

/// A request body as tonic reads it.
struct Body(RecvStream);

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let chunk = ready!(self.0.poll_data(cx));
        Poll::Ready(chunk.map(|chunk| {
            let chunk = chunk?;
            self.0.flow_control().release_capacity(chunk.len())?;
            Ok(Frame::data(chunk))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Lets a tonic service answer.
pub async fn serve(
    services: &Services,
    head: Box<Parts>,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let mut routes = services.routes.clone();
    let request = Request::from_parts(*head, tonic::body::Body::new(Body(body)));
    let Ok(response) = routes.call(request).await;
    let (head, mut body) = response.into_parts();
    let only_headers = body.is_end_stream();
    let Ok(mut out) = respond.send_response(Response::from_parts(head, ()), only_headers) else { return };
    if only_headers {
        return;
    }
    loop {
        let frame = tokio::select! {
            frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => frame,
            _ = std::future::poll_fn(|cx| out.poll_reset(cx)) => return,
        };
        let Some(Ok(frame)) = frame else {
            let _ = out.send_data(Bytes::new(), true);
            return;
        };
        let sent = match frame.into_data() {
            Ok(data) => send(&mut out, data).await,
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    let _ = out.send_trailers(trailers);
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
async fn send(out: &mut h2::SendStream<Bytes>, mut data: Bytes) -> Option<()> {
    while !data.is_empty() {
        let n = std::future::poll_fn(|cx| poll_room(cx, out, data.len())).await?;
        out.send_data(data.split_to(n), false).ok()?;
    }
    Some(())
}

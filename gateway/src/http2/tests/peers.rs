//! Clients and servers of both implementations that do the same.

use super::raw::PLAIN;
use crate::http2::{self, Config, Error, Fields, Reason, RecvStream, SendStream, client, server};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use std::future::poll_fn;
use tokio::{io::DuplexStream, task::spawn_local};

/// A whole answer.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

/// Why there is none, in words that both implementations share.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) enum Broken {
    ResetByPeer(u32),
    GoAwayByPeer(u32),
    Other(String),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_remote() && error.is_reset() => Self::ResetByPeer(reason.into()),
            Some(reason) if error.is_remote() && error.is_go_away() => Self::GoAwayByPeer(reason.into()),
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_remote() && error.is_reset() => Self::ResetByPeer(reason.into()),
            Some(reason) if error.is_remote() && error.is_go_away() => Self::GoAwayByPeer(reason.into()),
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Which implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ours,
    H2,
}

pub(super) const PAIRS: [(Kind, Kind); 3] =
    [(Kind::Ours, Kind::Ours), (Kind::Ours, Kind::H2), (Kind::H2, Kind::Ours)];

#[derive(Clone)]
pub(super) enum Client {
    Ours(client::SendRequest),
    H2(h2::client::SendRequest<Bytes>),
}

impl Client {
    pub(super) async fn open(kind: Kind, io: DuplexStream, config: Config) -> Self {
        match kind {
            Kind::Ours => {
                let (sender, connection) = client::handshake(io, config);
                spawn_local(connection);
                Self::Ours(sender)
            }
            Kind::H2 => {
                let (sender, connection) = h2::client::Builder::new()
                    .initial_window_size(config.stream_window)
                    .initial_connection_window_size(config.connection_window)
                    .max_header_list_size(config.header_list)
                    .handshake(io)
                    .await
                    .unwrap();
                spawn_local(connection);
                Self::H2(sender)
            }
        }
    }

    pub(super) async fn call(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Vec<Bytes>,
    ) -> Result<Answer, Broken> {
        match self {
            Self::Ours(sender) => call_ours(sender, path, &Fields::from(&headers), body).await,
            Self::H2(sender) => call_h2(sender.clone(), path, headers, body).await,
        }
    }
}

async fn call_ours(
    sender: &client::SendRequest,
    path: &str,
    headers: &Fields,
    mut body: Vec<Bytes>,
) -> Result<Answer, Broken> {
    let (authority, path) = (HeaderValue::from_static("test"), HeaderValue::from_str(path).unwrap());
    let head = client::RequestHead { authority: &authority, path: &path, headers, extra: &[] };
    let response = if body.len() <= 1 {
        sender.send_whole(head, body.pop().unwrap_or_default())?
    } else {
        let (response, mut to) = sender.send_request(head, false)?;
        spawn_local(async move {
            for piece in body {
                send_ours(&mut to, piece).await?;
            }
            to.send_data(Bytes::new(), true).ok()
        });
        response
    };
    let http2::Response { status, headers, body: mut from } = response.await?;
    let body = read_ours(&mut from).await?;
    let trailers = from.trailers().await?.map(HeaderMap::from);
    Ok(Answer { status, headers: headers.into(), body, trailers })
}

async fn send_ours(to: &mut SendStream, mut data: Bytes) -> Option<()> {
    while !data.is_empty() {
        let n = poll_fn(|cx| to.poll_room(cx, data.len())).await?;
        to.send_data(data.split_to(n), false).ok()?;
    }
    Some(())
}

async fn read_ours(from: &mut RecvStream) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    while let Some(piece) = from.data().await {
        let piece = piece?;
        from.release(piece.len());
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

async fn call_h2(
    sender: h2::client::SendRequest<Bytes>,
    path: &str,
    headers: HeaderMap,
    body: Vec<Bytes>,
) -> Result<Answer, Broken> {
    let mut request = Request::post(format!("http://test{path}")).body(()).unwrap();
    *request.headers_mut() = headers;
    let (response, mut to) = sender.ready().await?.send_request(request, body.is_empty())?;
    let count = body.len();
    for (at, piece) in body.into_iter().enumerate() {
        to.send_data(piece, at + 1 == count)?;
    }
    let (head, mut from) = response.await?.into_parts();
    let body = read_h2(&mut from).await?;
    let trailers = from.trailers().await?;
    Ok(Answer { status: head.status, headers: head.headers, body, trailers })
}

async fn read_h2(from: &mut h2::RecvStream) -> Result<Bytes, h2::Error> {
    let mut body = BytesMut::new();
    while let Some(piece) = from.data().await {
        let piece = piece?;
        from.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// What the server does with a path.
fn answer_to(path: &str, asked: &HeaderMap) -> (HeaderMap, Option<usize>, Option<HeaderMap>) {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    for (name, value) in asked.iter().filter(|(name, _)| name.as_str().starts_with("x-")) {
        headers.append(name, value.clone());
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    match path {
        "/trailers-only" => (headers, None, None),
        "/no-trailers" => (headers, Some(1), None),
        "/trailers-without-data" => (headers, Some(0), Some(trailers)),
        _ => (headers, Some(1), Some(trailers)),
    }
}

pub(super) fn serve(kind: Kind, io: DuplexStream, config: Config) {
    match kind {
        Kind::Ours => drop(spawn_local(async move {
            let mut connection = server::handshake(io, config).await.unwrap();
            while let Some(Ok((head, body, respond))) = connection.accept().await {
                spawn_local(serve_ours(head, body, respond));
            }
        })),
        Kind::H2 => drop(spawn_local(async move {
            let mut connection = h2::server::Builder::new()
                .initial_window_size(config.stream_window)
                .initial_connection_window_size(config.connection_window)
                .max_header_list_size(config.header_list)
                .max_concurrent_streams(config.streams)
                .handshake(io)
                .await
                .unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                spawn_local(serve_h2(request, respond));
            }
        })),
    }
}

async fn serve_ours(
    head: server::Head,
    mut from: RecvStream,
    mut respond: server::SendResponse,
) -> Option<()> {
    let path = head.path.to_str().ok()?;
    match path {
        "/hang" => return poll_fn(|cx| respond.poll_reset(cx).map(|_| None)).await,
        "/reset" => {
            respond.send_reset(Reason::REFUSED_STREAM);
            return None;
        }
        "/early" => return respond.send_response(PLAIN, true).ok().map(|_| ()),
        "/broken" => {
            let mut to = respond.send_response(PLAIN, false).ok()?;
            to.send_data(Bytes::from_static(b"half"), false).ok()?;
            to.send_reset(Reason::INTERNAL_ERROR);
            return None;
        }
        _ => {}
    }
    let (headers, times, trailers) = answer_to(path, &head.headers.clone().into());
    let body = if path == "/pump" { Bytes::new() } else { read_ours(&mut from).await.ok()? };
    let (headers, trailers) = (Fields::from(&headers), trailers.as_ref().map(Fields::from));
    let response = server::ResponseHead { headers: &headers, ..PLAIN };
    let Some(times) = times else { return respond.send_response(response, true).ok().map(|_| ()) };
    if body.len() < 1000 && path != "/pump" {
        let body = if times == 0 { Bytes::new() } else { body };
        return respond.send_whole(response, body, trailers).ok();
    }
    let mut to = respond.send_response(response, false).ok()?;
    if path == "/pump" {
        while let Some(piece) = from.data().await {
            let piece = piece.ok()?;
            let len = piece.len();
            send_ours(&mut to, piece).await?;
            from.release(len);
        }
    }
    send_ours(&mut to, body).await?;
    match trailers {
        Some(trailers) => to.send_trailers(trailers).ok(),
        None => to.send_data(Bytes::new(), true).ok(),
    }
}

async fn serve_h2(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Option<()> {
    let (head, mut from) = request.into_parts();
    match head.uri.path() {
        "/hang" => return poll_fn(|cx| respond.poll_reset(cx).map(|_| None)).await,
        "/reset" => {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            return None;
        }
        "/early" => return respond.send_response(Response::new(()), true).ok().map(|_| ()),
        "/broken" => {
            let mut to = respond.send_response(Response::new(()), false).ok()?;
            to.send_data(Bytes::from_static(b"half"), false).ok()?;
            // It would overtake the data.
            tokio::task::yield_now().await;
            to.send_reset(h2::Reason::INTERNAL_ERROR);
            return None;
        }
        _ => {}
    }
    let (headers, times, trailers) = answer_to(head.uri.path(), &head.headers);
    let body = if head.uri.path() == "/pump" { Bytes::new() } else { read_h2(&mut from).await.ok()? };
    let mut response = Response::new(());
    *response.headers_mut() = headers;
    let mut to = respond.send_response(response, times.is_none()).ok()?;
    let times = times?;
    if head.uri.path() == "/pump" {
        while let Some(piece) = from.data().await {
            let piece = piece.ok()?;
            from.flow_control().release_capacity(piece.len()).ok()?;
            to.send_data(piece, false).ok()?;
        }
    }
    if times > 0 {
        to.send_data(body, trailers.is_none()).ok()?;
    }
    trailers.map_or(Some(()), |trailers| to.send_trailers(trailers).ok())
}

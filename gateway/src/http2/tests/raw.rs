//! A peer that says exactly what a test wants, frame by frame.

use super::super::{
    Config, Error, Fields, Reason, RecvStream, client,
    frame::{HEAD, Head, PREFACE, flag, kind, number},
    server,
};
use super::config;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    task::{JoinHandle, spawn_local},
};

/// `:method POST`, `:scheme http`, `:path /`.
pub(super) const REQUEST: &[u8] = &[0x83, 0x86, 0x84];
/// `:status 200`.
pub(super) const RESPONSE: &[u8] = &[0x88];
pub(super) const END: u8 = flag::END_STREAM;
pub(super) const WHOLE: u8 = flag::END_HEADERS;

/// The headers of an answer without fields.
pub(super) const PLAIN: server::ResponseHead<'static> =
    server::ResponseHead { status: StatusCode::OK, headers: &Fields::new(), extra: &[] };

/// The peer's end.
pub(super) struct Peer {
    io: DuplexStream,
}

/// A frame as bytes.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Head { len: payload.len(), kind, flags, stream }.bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// A literal field with a new name, as a header block has it.
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// What a server does with its calls.
#[derive(Debug, Clone, Copy)]
pub(super) enum Serve {
    /// Nothing.
    Hang,
    /// Answers with so many bytes.
    Bytes(usize),
}

impl Peer {
    /// A client of our server; how the server's connection ended.
    pub(super) fn client(serve: Serve) -> (Self, JoinHandle<Option<Error>>) {
        Self::client_with(serve, config())
    }

    pub(super) fn client_with(serve: Serve, config: Config) -> (Self, JoinHandle<Option<Error>>) {
        let (left, right) = duplex(1 << 20);
        let server = spawn_local(async move {
            let Ok(mut connection) = server::handshake(right, config).await else { return None };
            loop {
                match connection.accept().await {
                    Some(Ok((_, body, respond))) => drop(spawn_local(answer(serve, body, respond))),
                    Some(Err(error)) => return Some(error),
                    None => return None,
                }
            }
        });
        (Self { io: left }, server)
    }

    /// A server of our client, with a connection to make calls on.
    pub(super) fn server() -> (Self, client::SendRequest, JoinHandle<Result<(), Error>>) {
        let (left, right) = duplex(1 << 20);
        let (sender, connection) = client::handshake(right, config());
        (Self { io: left }, sender, spawn_local(connection))
    }

    /// The end of a pipe whose other end the test holds.
    pub(super) const fn over(io: DuplexStream) -> Self {
        Self { io }
    }

    /// Says the preface and empty settings.
    pub(super) async fn greet(&mut self) {
        self.say(PREFACE).await;
        self.frame(kind::SETTINGS, 0, 0, &[]).await;
    }

    /// Sends bytes. The other side may have closed: what it said before counts.
    pub(super) async fn say(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
    }

    pub(super) async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.say(&frame(kind, flags, stream, payload)).await;
    }

    /// Skips the client's preface.
    pub(super) async fn preface(&mut self) {
        let mut preface = [0; PREFACE.len()];
        self.io.read_exact(&mut preface).await.unwrap();
        assert_eq!(&preface, PREFACE);
    }

    /// The next frame; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<(Head, Vec<u8>)> {
        let mut head = [0; HEAD];
        self.io.read_exact(&mut head).await.ok()?;
        let head = Head::parse(&head).unwrap();
        let mut payload = vec![0; head.len];
        self.io.read_exact(&mut payload).await.ok()?;
        Some((head, payload))
    }

    /// The next frame of a kind.
    pub(super) async fn next_of(&mut self, wanted: u8) -> (Head, Vec<u8>) {
        loop {
            let next = self.next().await.expect("the connection ended");
            if next.0.kind == wanted {
                return next;
            }
        }
    }

    /// The reason of the GOAWAY that ends the connection.
    pub(super) async fn goaway(&mut self) -> Reason {
        let (_, payload) = self.next_of(kind::GOAWAY).await;
        number(&[payload[4], payload[5], payload[6], payload[7]]).into()
    }

    /// The reason of the next reset, and its stream.
    pub(super) async fn reset(&mut self) -> (u32, Reason) {
        let (head, payload) = self.next_of(kind::RST_STREAM).await;
        (head.stream, number(&[payload[0], payload[1], payload[2], payload[3]]).into())
    }

    /// The connection still answers.
    pub(super) async fn is_alive(&mut self) {
        self.frame(kind::PING, 0, 0, b"still ok").await;
        loop {
            let (head, payload) = self.next().await.expect("the connection ended");
            assert_ne!(head.kind, kind::GOAWAY, "{payload:?}");
            if head.kind == kind::PING && head.flags & flag::ACK != 0 {
                return;
            }
        }
    }
}

async fn answer(serve: Serve, body: RecvStream, mut respond: server::SendResponse) {
    match serve {
        Serve::Hang => {
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        }
        Serve::Bytes(n) => {
            let trailer = (HeaderName::from_static("x"), HeaderValue::from_static("y"));
            let trailers = [trailer].into_iter().collect();
            let _ = respond.send_whole(PLAIN, Bytes::from(vec![7; n]), Some(trailers));
        }
    }
    drop(body);
}

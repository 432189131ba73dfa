//! How does a test call a gateway, and what exactly came back?
//!
//! Well-behaved callers are tonic clients. A test that sends what no client library would send, or
//! must see the gateway's own answer and not the library's opinion of it, uses [`Connection`]: HTTP/2
//! with the bytes in the test's hands.

use anyhow::Context as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use std::net::SocketAddr;
use suiyue_proto::{metadata, reason::Reason};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// Name of the region's metadata key, as a text.
pub const REGION: &str = "suiyue-region";

/// A connected channel.
///
/// # Errors
/// When nobody listens there.
pub async fn channel(address: SocketAddr) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?.connect().await?)
}

/// A message with the five bytes that gRPC puts before it.
#[must_use]
pub fn framed(message: &impl Message) -> Bytes {
    prefixed(0, &message.encode_to_vec())
}

/// Bytes with a gRPC prefix; `flag` 1 says that they are compressed.
#[must_use]
pub fn prefixed(flag: u8, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(flag);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// A gRPC request without its body.
#[must_use]
pub fn request(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .method("POST")
        .uri(format!("http://suiyue.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        if let Some(present) = request.headers_mut() {
            // Replaces, so that a test can send another content type.
            if let (Ok(name), Ok(value)) =
                (http::HeaderName::try_from(*name), http::HeaderValue::try_from(*value))
            {
                present.insert(name, value);
            }
        }
    }
    request.body(()).unwrap_or_default()
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub http: StatusCode,
    /// First headers.
    pub headers: HeaderMap,
    /// All messages with their prefixes.
    pub body: Bytes,
    /// Trailers; `None` for a trailers-only answer.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// The gRPC status, from the trailers or from a trailers-only answer.
    #[must_use]
    pub fn status(&self) -> Option<tonic::Status> {
        self.trailers
            .as_ref()
            .and_then(tonic::Status::from_header_map)
            .or_else(|| tonic::Status::from_header_map(&self.headers))
    }

    /// The gRPC code.
    #[must_use]
    pub fn code(&self) -> Option<tonic::Code> {
        self.status().map(|status| status.code())
    }

    /// The machine-readable reason.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.status().and_then(|status| Reason::of(&status))
    }

    /// A value of our metadata, e.g. [`metadata::SERVED_BY`].
    #[must_use]
    pub fn meta(&self, name: &http::HeaderName) -> Option<String> {
        let of = |map: &HeaderMap| Some(map.get(name)?.to_str().ok()?.to_owned());
        of(&self.headers).or_else(|| self.trailers.as_ref().and_then(of))
    }

    /// Which attempt was answered.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.meta(&metadata::ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The first message.
    ///
    /// # Errors
    /// When there is none.
    pub fn message<M: Message + Default>(&self) -> anyhow::Result<M> {
        let bytes = self.body.get(5..).with_context(|| format!("no message: {self:?}"))?;
        Ok(M::decode(bytes)?)
    }
}

/// One HTTP/2 connection.
#[derive(Debug, Clone)]
pub struct Connection {
    send: SendRequest<Bytes>,
}

impl Connection {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// When nobody listens there, or it speaks no HTTP/2.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (send, connection) = h2::client::handshake(stream).await?;
        // Ends with the last handle of the connection, or with the peer.
        tokio::spawn(connection);
        Ok(Self { send })
    }

    /// Sends a request with its whole body and reads the whole answer.
    ///
    /// # Errors
    /// What broke the stream or the connection.
    pub async fn call(&self, request: Request<()>, body: Bytes) -> Result<Answer, h2::Error> {
        let (response, mut stream) =
            self.send.clone().ready().await?.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            // The answer says more than an error here, which only says that the peer has reset us.
            let _ = stream.send_data(body, true);
        }
        read(response.await?).await
    }

    /// Sends a request's headers and hands out both halves.
    ///
    /// # Errors
    /// What broke the connection.
    pub async fn start(
        &self,
        request: Request<()>,
    ) -> Result<(h2::client::ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        self.send.clone().ready().await?.send_request(request, false)
    }
}

/// Reads an answer to its end.
///
/// # Errors
/// What broke the stream or the connection.
pub async fn read(response: http::Response<h2::RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.into_parts();
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        stream.flow_control().release_capacity(chunk.len())?;
        body.put_slice(&chunk);
    }
    let trailers = stream.trailers().await?;
    Ok(Answer { http: head.status, headers: head.headers, body: body.freeze(), trailers })
}

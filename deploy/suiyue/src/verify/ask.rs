//! How is a node asked?
//!
//! Over one connection, each call with a deadline that is also enforced here: a node that never answers
//! costs seconds, not the run. Every call can be written down as one line of `grpcurl`.

use super::Unreachable;
use bytes::Bytes;
use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};
use suiyue_gateway::identity::{Trust, dial::Dialer};
use suiyue_node::population::Holder;
use suiyue_proto::{
    identity::Identity,
    reason::Reason,
    region::Code,
    v1::{self, code_service_client::CodeServiceClient, status_service_client::StatusServiceClient},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

const CONNECT: Duration = Duration::from_secs(3);
/// What every call is given.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// A connection to the node.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) channel: Channel,
    pub(super) address: String,
    /// `None`: in the clear.
    dialer: Option<Dialer>,
}

/// A connection, in the clear or over TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Asker {
    /// With an identity over TLS, and the node must show its own.
    pub(super) async fn reach(address: &str, own: Option<&Identity>) -> Result<Self, Unreachable> {
        let failed = |cause: String| Unreachable { address: address.to_owned(), cause };
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|e| failed(e.to_string()))?;
        let endpoint = endpoint.tcp_nodelay(true).connect_timeout(CONNECT);
        let dialer = own.map(|own| Dialer::to_any_node(&Trust::new(own.clone(), None)));
        let channel = match &dialer {
            None => endpoint.connect().await,
            Some(dialer) => dialer.channel(endpoint).await,
        };
        let channel = channel.map_err(|error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            failed(cause.to_string())
        })?;
        Ok(Self { channel, address: address.to_owned(), dialer })
    }

    /// Another connection.
    pub(super) async fn open(&self) -> std::io::Result<Box<dyn Stream>> {
        if let Some(dialer) = &self.dialer {
            return Ok(Box::new(dialer.open(&self.address).await?));
        }
        let socket = TcpStream::connect(&self.address).await?;
        socket.set_nodelay(true)?;
        Ok(Box::new(socket))
    }

    pub(super) async fn show(&self, holder: &Holder) -> Result<v1::ShowCodeResponse, Status> {
        let message = v1::ShowCodeRequest {
            region: holder.region.get(),
            subject: Bytes::copy_from_slice(&holder.subject),
            max_staleness_s: None,
        };
        let mut codes = CodeServiceClient::new(self.channel.clone());
        within(codes.show_code(timed(message))).await
    }

    pub(super) async fn verify(&self, region: Code, code: &str) -> Result<v1::VerifyCodeResponse, Status> {
        self.verify_as(region, code, request_id()).await
    }

    /// With the request id of an earlier call: a retry.
    pub(super) async fn verify_as(
        &self,
        region: Code,
        code: &str,
        request_id: Bytes,
    ) -> Result<v1::VerifyCodeResponse, Status> {
        let message = v1::VerifyCodeRequest {
            region: region.get(),
            code: code.to_owned(),
            request_id,
            max_staleness_s: None,
        };
        let mut codes = CodeServiceClient::new(self.channel.clone());
        within(codes.verify_code(timed(message))).await
    }

    pub(super) async fn batch(
        &self,
        region: Code,
        codes: Vec<String>,
    ) -> Result<v1::VerifyBatchResponse, Status> {
        let message = v1::VerifyBatchRequest {
            region: region.get(),
            codes,
            request_id: request_id(),
            max_staleness_s: None,
        };
        let mut codes = CodeServiceClient::new(self.channel.clone());
        within(codes.verify_batch(timed(message))).await
    }

    pub(super) async fn status(&self, holder: &Holder) -> Result<v1::GetStatusResponse, Status> {
        let message = v1::GetStatusRequest {
            region: holder.region.get(),
            subject: Bytes::copy_from_slice(&holder.subject),
            max_staleness_s: None,
        };
        let mut statuses = StatusServiceClient::new(self.channel.clone());
        within(statuses.get_status(timed(message))).await
    }

    /// A line for `grpcurl`, with the message as protobuf's JSON.
    pub(super) fn grpcurl(&self, method: &str, message: &serde_json::Value) -> String {
        let message = if message.is_null() { String::new() } else { format!("-d '{message}' ") };
        let how = if self.dialer.is_some() { "-insecure -cert FILE -key FILE" } else { "-plaintext" };
        format!("grpcurl {how} {message}{} {method}", self.address)
    }

    pub(super) fn show_line(&self, holder: &Holder) -> String {
        let message = serde_json::json!({
            "region": holder.region.get(), "subject": base64(&holder.subject),
        });
        self.grpcurl("suiyue.v1.CodeService/ShowCode", &message)
    }

    pub(super) fn verify_line(&self, region: Code, code: &str) -> String {
        let message = serde_json::json!({
            "region": region.get(), "code": code, "requestId": base64(&[1; 16]),
        });
        self.grpcurl("suiyue.v1.CodeService/VerifyCode", &message)
    }

    pub(super) fn status_line(&self, holder: &Holder) -> String {
        let message = serde_json::json!({
            "region": holder.region.get(), "subject": base64(&holder.subject),
        });
        self.grpcurl("suiyue.v1.StatusService/GetStatus", &message)
    }
}

/// A message with the deadline in its metadata.
pub(super) fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER);
    request
}

/// The answer, or DEADLINE_EXCEEDED of our own a little after the node's time is over.
pub(super) async fn within<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(ANSWER + Duration::from_millis(500), call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer (said by the caller)")),
    }
}

/// A fresh id, as a device mints it.
pub(super) fn request_id() -> Bytes {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random());
    Bytes::copy_from_slice(id.into_uuid().as_bytes())
}

/// A status for a person: the code, the reason if it is one of ours, the sentence.
pub(super) fn told(status: &Status) -> String {
    let mut text = crate::load::record::code_word(status.code()).to_owned();
    if let Some(reason) = Reason::of(status) {
        let _ = write!(text, " {}", reason.as_str());
    }
    let sentence: String = status.message().chars().filter(|c| !c.is_control()).take(100).collect();
    if !sentence.is_empty() {
        let _ = write!(text, " ({sentence})");
    }
    text
}

/// Bytes as protobuf's JSON has them (RFC 4648, with padding).
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, &byte| (group << 8) | u32::from(byte));
        let group = group << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = (group >> (18 - 6 * at)) & 63;
            text.push(if at <= chunk.len() { char::from(ALPHABET[digit as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_rfc_4648_shows() {
        let check = |bytes: &str, expected: &str| assert_eq!(base64(bytes.as_bytes()), expected);
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foob", "Zm9vYg==");
        check("fooba", "Zm9vYmE=");
        check("foobar", "Zm9vYmFy");
    }
}

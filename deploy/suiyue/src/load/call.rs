//! How does one call go over the wire?
//!
//! A unary gRPC exchange on an h2 stream, no more: request headers, one framed message, the answer's
//! headers, its message, its trailers. A call that provably was not processed (never sent,
//! `REFUSED_STREAM`, above a GOAWAY's last stream) is sent again, as every gRPC client does; nothing
//! else is repeated, so that a failure the gateway should have hidden is seen.

use super::{
    pool::{Lease, Pool},
    record::ServedBy,
};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use prost::Message;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use suiyue_proto::{metadata, region::Code};
use tonic::{Code as GrpcCode, Status};

/// Bytes of an answer that are taken at most.
const MAX_ANSWER: usize = 1 << 20;

/// Times that a call is sent again after `REFUSED_STREAM`: a server that refuses on purpose must not
/// be asked in circles.
const REFUSALS: u32 = 2;

/// Which method is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Show,
    Verify,
    Status,
}

/// A call that is ready to go.
pub(super) struct Outgoing {
    pub(super) target: Target,
    pub(super) region: HeaderValue,
    pub(super) subject: Option<HeaderValue>,
    pub(super) timeout: HeaderValue,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) message: Bytes,
}

/// An answer that ended OK.
pub(super) struct Answer {
    pub(super) served: ServedBy,
    pub(super) message: Bytes,
}

/// A call that did not end OK.
pub(super) enum Failure {
    /// An answer with a status other than OK.
    Status(Box<Status>, ServedBy),
    /// The connection broke, or the stream was reset.
    Lost(&'static str),
    /// The answer is not one gRPC message and a status.
    Malformed,
    /// Certainly not processed, and the connection takes no more calls: goes to another one.
    ConnectionOver,
    /// Certainly not processed, but the connection goes on.
    Refused,
}

/// Names of nodes, each kept once.
#[derive(Default)]
pub(super) struct Names(Mutex<Vec<Arc<str>>>);

impl Names {
    pub(super) fn intern(&self, name: &str) -> Arc<str> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.iter().find(|known| &***known == name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        names.push(Arc::clone(&name));
        name
    }
}

/// Frames a message: no compression, length, bytes.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode(&mut frame).expect("a BytesMut grows as needed");
    frame.freeze()
}

/// The header value of a region.
pub(super) fn region_value(region: Code) -> HeaderValue {
    HeaderValue::try_from(region.to_string()).expect("six digits are a header value")
}

/// The header value of a timeout, in milliseconds.
pub(super) fn timeout_value(timeout: Duration) -> HeaderValue {
    let millis = timeout.as_millis().clamp(1, 99_999_999);
    HeaderValue::try_from(format!("{millis}m")).expect("digits and a letter are a header value")
}

/// Sends a call, again as long as it provably was not processed. Cancel safe: dropping it resets the
/// stream.
pub(super) async fn send(
    pool: &Pool,
    names: &Names,
    call: &Outgoing,
    again: &AtomicU64,
) -> Result<Answer, Failure> {
    let mut refused = 0;
    loop {
        let lease = pool.lease().await;
        match exchange(&lease, names, call).await {
            Err(Failure::ConnectionOver) => pool.retire(&lease),
            Err(Failure::Refused) if refused < REFUSALS => refused += 1,
            other => return other,
        }
        again.fetch_add(1, Ordering::Relaxed);
    }
}

async fn exchange(lease: &Lease, names: &Names, call: &Outgoing) -> Result<Answer, Failure> {
    // Failing here means that the connection takes no more calls: nothing was sent.
    let mut sender = lease.sender.clone().ready().await.map_err(|_| Failure::ConnectionOver)?;
    let request = request(lease, call);
    let (response, mut body) = sender.send_request(request, false).map_err(|_| Failure::ConnectionOver)?;
    drop(sender);
    body.send_data(call.message.clone(), true).map_err(|error| failure(&error))?;
    let response = response.await.map_err(|error| failure(&error))?;
    read(response, names).await
}

fn request(lease: &Lease, call: &Outgoing) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = match call.target {
        Target::Show => lease.targets.show.clone(),
        Target::Verify => lease.targets.verify.clone(),
        Target::Status => lease.targets.status.clone(),
    };
    let headers = request.headers_mut();
    headers.reserve(5);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(metadata::GRPC_TIMEOUT, call.timeout.clone());
    headers.insert(metadata::REGION, call.region.clone());
    if let Some(subject) = &call.subject {
        headers.insert(metadata::SUBJECT, subject.clone());
    }
    if let Some(value) = &call.authorization {
        headers.insert(header::AUTHORIZATION, value.clone());
    }
    request
}

async fn read(response: Response<RecvStream>, names: &Names) -> Result<Answer, Failure> {
    let (head, mut body) = response.into_parts();
    let served = served_by(&head.headers, names);
    if let Some(status) = Status::from_header_map(&head.headers) {
        return ended(status, served, None);
    }
    let mut message: Option<Bytes> = None;
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(|error| failure(&error))?;
        let _ = body.flow_control().release_capacity(chunk.len());
        // Nearly every answer comes in one frame and is kept as it is.
        message = Some(match message {
            None => chunk,
            Some(held) if held.len() + chunk.len() > MAX_ANSWER => return Err(Failure::Malformed),
            Some(held) => [held, chunk].concat().into(),
        });
    }
    let trailers = body.trailers().await.map_err(|error| failure(&error))?;
    let status = trailers.as_ref().and_then(Status::from_header_map).ok_or(Failure::Malformed)?;
    ended(status, served, message)
}

fn ended(status: Status, served: ServedBy, message: Option<Bytes>) -> Result<Answer, Failure> {
    if status.code() != GrpcCode::Ok {
        return Err(Failure::Status(Box::new(status), served));
    }
    let framed = message.ok_or(Failure::Malformed)?;
    let (flag, length) = match framed.get(..5) {
        Some(&[flag, a, b, c, d]) => (flag, u32::from_be_bytes([a, b, c, d]) as usize),
        _ => return Err(Failure::Malformed),
    };
    if flag != 0 || framed.len() != 5 + length {
        return Err(Failure::Malformed);
    }
    Ok(Answer { served, message: framed.slice(5..) })
}

fn served_by(headers: &HeaderMap, names: &Names) -> ServedBy {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    ServedBy {
        node: text(metadata::SERVED_BY).map(|name| names.intern(name)),
        tier: text(metadata::TIER).and_then(|tier| tier.parse().ok()),
        attempt: text(metadata::ATTEMPT).and_then(|attempt| attempt.parse().ok()).unwrap_or(1),
    }
}

fn failure(error: &h2::Error) -> Failure {
    if error.is_remote() && error.is_go_away() {
        return Failure::ConnectionOver;
    }
    if error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) {
        return Failure::Refused;
    }
    if error.is_io() {
        return Failure::Lost("DRIVER_CONNECTION_LOST");
    }
    if error.is_reset() {
        Failure::Lost("DRIVER_STREAM_RESET")
    } else {
        Failure::Lost("DRIVER_CONNECTION_ERROR")
    }
}

//! What is asked?
//!
//! Reads the headers of a call: is it gRPC, which method, how long may it take, which region. Nothing
//! of the body is read here. What a caller may not set is stripped.

use crate::{
    http2::{Fields, server::Head},
    proxy::local::Services,
    subject,
    worker::View,
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use suiyue_proto::{
    metadata,
    method::{Access, Class, Method, Shape},
    reason::Reason,
    region::{self, Code, Unroutable},
};
use tonic::{Code as GrpcCode, Status};

/// Why a call is refused: a reason, and for some the details.
#[derive(Debug)]
pub enum Refusal {
    /// Nothing to add.
    Plain(Reason),
    /// With details for the caller's program.
    Detailed(Box<Status>),
}

impl Refusal {
    /// The gRPC code.
    #[must_use]
    pub fn code(&self) -> GrpcCode {
        match self {
            Self::Plain(reason) => reason.code(),
            Self::Detailed(status) => status.code(),
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::Plain(reason)
    }
}

impl From<Unroutable> for Refusal {
    fn from(unroutable: Unroutable) -> Self {
        match unroutable {
            Unroutable::Unknown(_) => Self::Plain(Reason::RegionUnknown),
            Unroutable::Retired { successor, .. } => {
                Self::Detailed(Box::new(Reason::RegionRetired.with(&[("successor", &successor.to_string())])))
            }
        }
    }
}

/// What is asked.
#[derive(Debug)]
pub struct Asked {
    /// The method.
    pub method: Arc<Method>,
    /// Path of the call, as the caller wrote it.
    pub path: HeaderValue,
    /// Metadata to pass on.
    pub headers: Fields,
    /// By when it must be answered; `None` for streams without `grpc-timeout`.
    pub deadline: Option<Instant>,
    /// Routing region, where the metadata names one.
    pub region: Option<Code>,
    /// Hash of the subject, where the metadata names one.
    pub subject: Option<u64>,
}

/// The HTTP status for a request that is no gRPC at all.
#[must_use]
pub fn not_grpc(head: &Head) -> Option<StatusCode> {
    if head.method != "POST" {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let content_type = head.headers.get(&header::CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    let grpc = content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
    (!grpc).then_some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

/// What is asked, and what the caller shows of who asks.
pub type Read = (Asked, Option<HeaderValue>);

/// Reads what is asked. The headers are given back where the gateway itself answers.
///
/// # Errors
/// The refusal to send.
pub fn read(
    view: &View,
    own: &Services,
    subjects: subject::Key,
    head: Head,
    now: Instant,
) -> Result<Result<Read, Box<Head>>, Refusal> {
    let path = head.path.to_str().map_err(|_| Reason::MethodUnknown)?;
    let method = match view.method(path) {
        Some(method) if matches!(method.access, Access::Public | Access::Authority) => method.clone(),
        _ if own.answers(path) => return Ok(Err(Box::new(head))),
        Some(_) => return Err(Reason::MethodNotPublic.into()),
        None => return Err(view.unless_awaited(Reason::MethodUnknown).into()),
    };
    let Head { path, mut headers, .. } = head;
    let timeout = headers.remove(&metadata::GRPC_TIMEOUT).map(|v| timeout(v.as_bytes())).transpose()?;
    if timeout == Some(Duration::ZERO) {
        return Err(Reason::DeadlineExceeded.into());
    }
    let default = (method.shape == Shape::Unary).then(|| default_timeout(method.class));
    let deadline = timeout.or(default).and_then(|timeout| now.checked_add(timeout));
    let region = named_region(&headers)?;
    let subject = headers.remove(&metadata::SUBJECT).map(|value| subjects.hash(value.as_bytes()));
    // Whatever it holds, it is for the gateway: nodes never see it.
    let authorization = headers.remove(&header::AUTHORIZATION);
    strip(&mut headers);
    Ok(Ok((Asked { method, path, headers, deadline, region, subject }, authorization)))
}

static REGION: HeaderName = metadata::REGION;

/// The routing region that the metadata names.
fn named_region(headers: &Fields) -> Result<Option<Code>, Refusal> {
    let mut values = headers.get_all(&REGION);
    let Some(value) = values.next() else { return Ok(None) };
    let code = value.to_str().ok().and_then(|text| text.parse::<Code>().ok());
    let code = code.filter(|_| values.next().is_none()).ok_or(Reason::RegionMalformed)?;
    Ok(Some(region::resolve(code.get())?))
}

/// Removes what callers may not set. The region stays: the node checks that the message names the same.
/// What speaks of the caller's own hop goes, too: a node's HTTP/2 would break the stream over a
/// `content-length` that is wrong, and the blame would be the node's.
fn strip(headers: &mut Fields) {
    headers.retain(|name| match *name {
        header::CONTENT_LENGTH | header::HOST | header::EXPECT => false,
        _ => !name.as_str().starts_with(metadata::PREFIX) || *name == REGION,
    });
}

/// Default deadline of a unary call.
pub(super) const fn default_timeout(class: Class) -> Duration {
    match class {
        Class::Scan => Duration::from_millis(1_500),
        Class::Show => Duration::from_secs(3),
        Class::Query => Duration::from_secs(10),
        Class::Sync => Duration::from_secs(30),
    }
}

/// Reads `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn timeout(value: &[u8]) -> Result<Duration, Reason> {
    let (unit, digits) = value.split_last().ok_or(Reason::TimeoutMalformed)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Reason::TimeoutMalformed);
    }
    let n = digits.iter().fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    Ok(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return Err(Reason::TimeoutMalformed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_says() {
        let check = |text: &str, expected: Option<Duration>| {
            assert_eq!(timeout(text.as_bytes()).ok(), expected, "{text:?}");
        };
        check("1S", Some(Duration::from_secs(1)));
        check("250m", Some(Duration::from_millis(250)));
        check("99999999u", Some(Duration::from_micros(99_999_999)));
        check("0n", Some(Duration::ZERO));
        check("2H", Some(Duration::from_secs(7200)));
        for bad in ["", "S", "1", "1s", "-1S", "1.5S", "999999999S", "1 S", "１S"] {
            check(bad, None);
        }
    }

    #[test]
    fn only_grpc_is_taken() {
        let head = |content_type: Option<&str>, method: &'static str| {
            let (method, path) = (HeaderValue::from_static(method), HeaderValue::from_static("/a/b"));
            let content_type = content_type.map(|value| (header::CONTENT_TYPE, value.parse().unwrap()));
            Head { method, path, headers: content_type.into_iter().collect() }
        };
        let check = |content_type, expected| {
            assert_eq!(not_grpc(&head(content_type, "POST")), expected, "{content_type:?}");
        };
        check(Some("application/grpc"), None);
        check(Some("application/grpc+proto"), None);
        check(Some("application/grpc;charset=utf-8"), None);
        check(Some("application/grpc-web"), Some(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        check(Some("application/json"), Some(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        check(None, Some(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        let get = not_grpc(&head(Some("application/grpc"), "GET"));
        assert_eq!(get, Some(StatusCode::METHOD_NOT_ALLOWED));
    }

    #[test]
    fn forged_metadata_is_stripped() {
        let mut headers = Fields::new();
        headers.insert(HeaderName::from_static("suiyue-served-by"), HeaderValue::from_static("me"));
        headers.insert(HeaderName::from_static("suiyue-admit"), HeaderValue::from_static("scan.127"));
        headers.insert(HeaderName::from_static("traceparent"), HeaderValue::from_static("00-1-2-01"));
        for name in [header::CONTENT_LENGTH, header::HOST, header::EXPECT] {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        strip(&mut headers);
        assert_eq!(headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["traceparent"]);
    }
}

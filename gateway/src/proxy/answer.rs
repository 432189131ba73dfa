//! What does the caller get?
//!
//! The node's answer with the metadata that says who answered, or a refusal: a trailers-only answer made
//! ahead of time for every reason, so that refusing costs no encoding.

use super::intake::Refusal;
use crate::{plan::Reason as PlanReason, snapshot::Target, telemetry::AnswerReason};
use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use std::sync::LazyLock;
use suiyue_proto::{metadata, reason::Reason};
use tonic::Status;

/// "Come back after so many milliseconds" (gRFC A6).
pub const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Headers of a refusal, by reason.
static REFUSALS: LazyLock<Vec<HeaderMap>> =
    LazyLock::new(|| Reason::ALL.iter().map(|reason| headers_of(&reason.status())).collect());

/// When a caller should come back to whom nobody can answer now: jittered, or all would come at once.
static PUSHBACKS: LazyLock<[HeaderValue; 16]> =
    LazyLock::new(|| std::array::from_fn(|i| HeaderValue::from(500 + 300 * i)));

/// The reason passes with time, and without the caller having done anything wrong.
const fn passes(reason: Reason) -> bool {
    matches!(reason, Reason::NoNodeAvailable | Reason::GatewayOverloaded | Reason::RegionOverloaded)
}

fn headers_of(status: &Status) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    status.add_header(&mut headers).expect("our own sentences and details are valid header values");
    headers
}

/// Refuses a call before any answer went out. A caller that is gone is no error. `random` spreads the
/// callers that are told to come back later.
pub fn refuse(respond: &mut SendResponse<Bytes>, refusal: &Refusal, random: u64) {
    let headers = match refusal {
        Refusal::Plain(reason) if passes(*reason) => {
            let mut headers = REFUSALS[*reason as usize].clone();
            headers.insert(PUSHBACK, PUSHBACKS[random as usize % PUSHBACKS.len()].clone());
            headers
        }
        Refusal::Plain(reason) => REFUSALS[*reason as usize].clone(),
        Refusal::Detailed(status) => headers_of(status),
    };
    let mut response = Response::new(());
    *response.headers_mut() = headers;
    let _ = respond.send_response(response, true);
}

/// Trailers that end an answer which has already begun.
#[must_use]
pub fn trailers(reason: Reason) -> HeaderMap {
    let mut trailers = REFUSALS[reason as usize].clone();
    trailers.remove(header::CONTENT_TYPE);
    trailers
}

/// Answers a request that is no gRPC.
pub fn http(respond: &mut SendResponse<Bytes>, status: StatusCode) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let _ = respond.send_response(response, true);
}

/// Who answered, and why.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The node that answered.
    pub target: &'a Target,
    /// Why it.
    pub reason: AnswerReason,
    /// Which attempt, from 1.
    pub attempt: u8,
    /// Generation of the plan.
    pub plan: Option<&'a HeaderValue>,
}

impl Origin<'_> {
    /// Writes the five keys into an answer's metadata.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        headers.reserve(5);
        headers.insert(metadata::SERVED_BY, self.target.node_value.clone());
        headers.insert(metadata::TIER, digit(self.target.tier));
        headers.insert(metadata::REASON, HeaderValue::from_static(self.reason.as_str()));
        headers.insert(metadata::ATTEMPT, digit(self.attempt));
        if let Some(plan) = self.plan {
            headers.insert(metadata::PLAN, plan.clone());
        }
    }
}

const fn digit(n: u8) -> HeaderValue {
    const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    HeaderValue::from_static(DIGITS[if n > 9 { 9 } else { n as usize }])
}

/// The reason of a first attempt that goes where the plan says.
#[must_use]
pub const fn reason_of(plan: PlanReason) -> AnswerReason {
    match plan {
        PlanReason::Primary => AnswerReason::Primary,
        PlanReason::Policy => AnswerReason::Policy,
        PlanReason::Shift => AnswerReason::Shift,
        PlanReason::Overflow => AnswerReason::Overflow,
        PlanReason::FailOpen => AnswerReason::FailOpen,
        _ => AnswerReason::Failover,
    }
}

/// The gRPC status of an answer: in the trailers, or in the headers of a trailers-only answer. 2
/// (UNKNOWN) where it is missing or malformed.
#[must_use]
pub fn status_of(headers: &HeaderMap, trailers: Option<&HeaderMap>) -> u8 {
    let value =
        trailers.and_then(|t| t.get(metadata::GRPC_STATUS)).or_else(|| headers.get(metadata::GRPC_STATUS));
    match value.map(HeaderValue::as_bytes) {
        Some([digit @ b'0'..=b'9']) => digit - b'0',
        Some([b'1', digit @ b'0'..=b'6']) => 10 + digit - b'0',
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_whole_answer_with_a_machine_readable_reason() {
        for &reason in Reason::ALL {
            let headers = &REFUSALS[reason as usize];
            let status = Status::from_header_map(headers).unwrap();
            assert_eq!(status.code(), reason.code());
            assert_eq!(Reason::of(&status), Some(reason));
            assert!(!trailers(reason).contains_key(header::CONTENT_TYPE));
        }
    }

    #[test]
    fn statuses_are_read_from_trailers_or_headers() {
        let map = |value: &str| {
            let mut map = HeaderMap::new();
            map.insert(metadata::GRPC_STATUS, value.parse().unwrap());
            map
        };
        let none = HeaderMap::new();
        assert_eq!(status_of(&none, Some(&map("0"))), 0);
        assert_eq!(status_of(&map("14"), None), 14);
        assert_eq!(status_of(&none, Some(&map("16"))), 16);
        for bad in ["17", "-1", "00", "x", ""] {
            assert_eq!(status_of(&none, Some(&map(bad))), 2, "{bad}");
        }
        assert_eq!(status_of(&none, None), 2);
    }
}

//! What does the caller get?
//!
//! The node's answer with the metadata that says who answered, or a refusal: a trailers-only answer made
//! ahead of time for every reason, so that refusing costs no encoding.

use super::intake::Refusal;
use crate::{
    http2::{
        Fields,
        server::{ResponseHead, SendResponse},
    },
    plan::Reason as PlanReason,
    snapshot::Target,
    telemetry::AnswerReason,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::{sync::LazyLock, time::Duration};
use suiyue_proto::{metadata, reason::Reason};
use tonic::Status;
use tonic_types::StatusExt as _;

/// Headers of a refusal, by reason.
static REFUSALS: LazyLock<Vec<Fields>> =
    LazyLock::new(|| Reason::ALL.iter().map(|reason| headers_of(&reason.status())).collect());

/// The same of those that pass, with one of several times to come back after: jittered, or all would come
/// at once. For others there is none.
static LATER: LazyLock<Vec<Vec<Fields>>> = LazyLock::new(|| {
    let later = |reason: &Reason| (0..TIMES).map(|n| later(*reason, 500 + 300 * n)).collect();
    Reason::ALL.iter().map(|reason| if passes(*reason) { later(reason) } else { Vec::new() }).collect()
});

/// Times to come back after: 500 to 5,000 ms.
const TIMES: u64 = 16;

/// A refusal with the time to come back after, for programs of every kind: as gRPC's clients read it (gRFC
/// A6), and as `google.rpc.RetryInfo`.
fn later(reason: Reason, millis: u64) -> Fields {
    let mut details = reason.status().get_error_details();
    details.set_retry_info(Some(Duration::from_millis(millis)));
    let mut headers = headers_of(&Status::with_error_details(reason.code(), reason.text(), details));
    headers.insert(metadata::PUSHBACK, HeaderValue::from(millis));
    headers
}

/// The reason passes with time, and without the caller having done anything wrong.
const fn passes(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoNodeAvailable
            | Reason::GatewayOverloaded
            | Reason::RegionOverloaded
            | Reason::ShedLowPriority
            | Reason::QuotaExceeded
    )
}

fn headers_of(status: &Status) -> Fields {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    status.add_header(&mut headers).expect("our own sentences and details are valid header values");
    Fields::from(&headers)
}

/// Refuses a call before any answer went out. A caller that is gone is no error. `random` spreads the
/// callers that are told to come back later.
pub fn refuse(respond: &mut SendResponse, refusal: &Refusal, random: u64) {
    let mut send = |headers: &Fields| {
        let _ = respond.send_response(ResponseHead { status: StatusCode::OK, headers, extra: &[] }, true);
    };
    match refusal {
        Refusal::Plain(reason) if passes(*reason) => {
            send(&LATER[*reason as usize][random as usize % TIMES as usize]);
        }
        Refusal::Plain(reason) => send(&REFUSALS[*reason as usize]),
        Refusal::Detailed(status) => send(&headers_of(status)),
    }
}

/// Trailers that end an answer which has already begun.
#[must_use]
pub fn trailers(reason: Reason) -> Fields {
    let mut trailers = REFUSALS[reason as usize].clone();
    trailers.remove(&header::CONTENT_TYPE);
    trailers
}

/// Answers a request that is no gRPC.
pub fn http(respond: &mut SendResponse, status: StatusCode) {
    let _ = respond.send_response(ResponseHead { status, headers: &Fields::new(), extra: &[] }, true);
}

/// Who answered, and why.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The node that answered.
    pub target: &'a Target,
    /// Its name as metadata.
    pub node: &'a HeaderValue,
    /// Why it.
    pub reason: AnswerReason,
    /// Which attempt, from 1.
    pub attempt: u8,
    /// Generation of the plan.
    pub plan: Option<&'a HeaderValue>,
}

/// The fields that say who answered.
pub struct Stamp([(HeaderName, HeaderValue); 5], usize);

impl Stamp {
    /// To be written into an answer's metadata, instead of what the node says of them.
    #[must_use]
    pub fn as_slice(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0[..self.1]
    }
}

impl Origin<'_> {
    /// The five keys of an answer's metadata; four before there is a plan.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        let plan = self.plan.cloned();
        let len = if plan.is_some() { 5 } else { 4 };
        let fields = [
            (metadata::SERVED_BY, self.node.clone()),
            (metadata::TIER, digit(self.target.tier)),
            (metadata::REASON, HeaderValue::from_static(self.reason.as_str())),
            (metadata::ATTEMPT, digit(self.attempt)),
            (metadata::PLAN, plan.unwrap_or_else(|| digit(0))),
        ];
        Stamp(fields, len)
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

static GRPC_STATUS: HeaderName = metadata::GRPC_STATUS;

/// The gRPC status of an answer: in the trailers, or in the headers of a trailers-only answer. 2
/// (UNKNOWN) where it is missing or malformed.
#[must_use]
pub fn status_of(headers: &Fields, trailers: Option<&Fields>) -> u8 {
    let value = trailers.and_then(|t| t.get(&GRPC_STATUS)).or_else(|| headers.get(&GRPC_STATUS));
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
            let status = Status::from_header_map(&headers.clone().into()).unwrap();
            assert_eq!(status.code(), reason.code());
            assert_eq!(Reason::of(&status), Some(reason));
            assert!(!trailers(reason).contains_key(&header::CONTENT_TYPE));
        }
    }

    #[test]
    fn what_passes_says_when_to_come_back() {
        for &reason in Reason::ALL {
            let later = &LATER[reason as usize];
            assert_eq!(later.len() as u64, if passes(reason) { TIMES } else { 0 });
            for headers in later {
                let millis: u64 =
                    headers.get(&metadata::PUSHBACK).unwrap().to_str().unwrap().parse().unwrap();
                let status = Status::from_header_map(&headers.clone().into()).unwrap();
                let told = status.get_details_retry_info().unwrap().retry_delay;
                assert_eq!(told, Some(Duration::from_millis(millis)));
                assert!((500..=5_000).contains(&millis) && Reason::of(&status) == Some(reason));
            }
        }
        assert!(passes(Reason::QuotaExceeded));
    }

    #[test]
    fn statuses_are_read_from_trailers_or_headers() {
        let map = |value: &str| {
            let field = (metadata::GRPC_STATUS, value.parse().unwrap());
            [field].into_iter().collect::<Fields>()
        };
        let none = Fields::new();
        assert_eq!(status_of(&none, Some(&map("0"))), 0);
        assert_eq!(status_of(&map("14"), None), 14);
        assert_eq!(status_of(&none, Some(&map("16"))), 16);
        for bad in ["17", "-1", "00", "x", ""] {
            assert_eq!(status_of(&none, Some(&map(bad))), 2, "{bad}");
        }
        assert_eq!(status_of(&none, None), 2);
    }
}

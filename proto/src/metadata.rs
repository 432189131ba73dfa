//! Which metadata keys have a meaning here?
//!
//! Requests carry [`REGION`] and [`SUBJECT`]; every other `suiyue-*` key of a caller is stripped.
//! Answers carry the five keys that say who answered and why. [`VERDICT`] goes from a node to the gateway
//! and no further. `traceparent` and `tracestate` are W3C's.

use http::HeaderName;
use std::time::Duration;

/// Request: the region to route by, six digits. Wins over field 1 of the message.
pub const REGION: HeaderName = HeaderName::from_static("suiyue-region");
/// Request: the pseudonymous subject, in lower-case hex; keeps a holder on one node.
pub const SUBJECT: HeaderName = HeaderName::from_static("suiyue-subject");
/// Prefix of all of our keys.
pub const PREFIX: &str = "suiyue-";
/// Answer: name of the node that answered.
pub const SERVED_BY: HeaderName = HeaderName::from_static("suiyue-served-by");
/// Answer: tier of that node (0 the region's own, 1 its province's, 2 a peer).
pub const TIER: HeaderName = HeaderName::from_static("suiyue-tier");
/// Answer: why that node (primary, policy, shift, overflow, failover, retry, `fail_open`).
pub const REASON: HeaderName = HeaderName::from_static("suiyue-reason");
/// Answer: which attempt it was, from 1.
pub const ATTEMPT: HeaderName = HeaderName::from_static("suiyue-attempt");
/// Answer: generation of the plan that routed the first attempt.
pub const PLAN: HeaderName = HeaderName::from_static("suiyue-plan");
/// Answer, node to gateway only: what was judged, as [`crate::verdict::Tally`] writes it. The gateway
/// counts it and takes it out.
pub const VERDICT: HeaderName = HeaderName::from_static(crate::verdict::KEY);
/// Request, gateway to node only: the level of a call in its class, 0 to 127 ([`crate::priority`]).
pub const LEVEL: HeaderName = HeaderName::from_static("suiyue-level");
/// Refusal, node to gateway only: up to where calls are taken, as [`crate::priority::Cursor`] is written.
pub const ADMIT: HeaderName = HeaderName::from_static("suiyue-admit");
/// Refusal: come back after so many milliseconds (gRFC A6).
pub const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// Both: where in which trace a call stands (W3C Trace Context).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Request: what tracing systems add to it (W3C Trace Context).
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Both: deadline of a call, as in the gRPC protocol.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Answer: outcome of a call, as in the gRPC protocol.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Answer: fixed sentence of the outcome, percent-encoded.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Answer: `google.rpc.Status` with `ErrorInfo`, base64 without padding.
pub const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// Request, operators: who changes something, where no certificate says so.
pub const ACTOR: &str = "suiyue-actor";
/// Request, operators: why something is changed, in UTF-8.
pub const CHANGE_REASON: &str = "suiyue-change-reason-bin";

/// Reads [`GRPC_TIMEOUT`]: at most eight digits and a unit (gRPC over HTTP/2, "Requests"); `None`: it is
/// malformed.
#[must_use]
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_says() {
        let check = |text: &str, expected: Option<Duration>| {
            assert_eq!(timeout(text.as_bytes()), expected, "{text:?}");
        };
        check("1S", Some(Duration::from_secs(1)));
        check("250m", Some(Duration::from_millis(250)));
        check("99999999u", Some(Duration::from_micros(99_999_999)));
        check("0n", Some(Duration::ZERO));
        check("1M", Some(Duration::from_secs(60)));
        check("2H", Some(Duration::from_secs(7200)));
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "999999999S", "1 S", "１S"] {
            check(bad, None);
        }
    }
}

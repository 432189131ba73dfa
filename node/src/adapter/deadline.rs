//! Until when does the caller wait?
//!
//! `grpc-timeout` as in the gRPC protocol: at most eight digits and a unit. One that is malformed is a
//! bad call; without one the node's own limit holds.

use std::time::Duration;
use suiyue_proto::{metadata, reason::Reason};
use tokio::time::Instant;
use tonic::{Status, metadata::MetadataMap};

/// When the caller stops waiting, if it says so.
pub(super) fn of(metadata: &MetadataMap) -> Result<Option<Instant>, Status> {
    let Some(value) = metadata.get(metadata::GRPC_TIMEOUT.as_str()) else { return Ok(None) };
    let given = value.to_str().ok().and_then(parse).ok_or_else(|| Reason::TimeoutMalformed.status())?;
    Ok(Instant::now().checked_add(given))
}

fn parse(text: &str) -> Option<Duration> {
    let at = text.len().checked_sub(1)?;
    let (digits, unit) = text.split_at_checked(at)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_says() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse(text), expected.map(Duration::from_millis), "{text:?}");
        };
        check("250m", Some(250));
        check("2S", Some(2_000));
        check("1M", Some(60_000));
        check("1H", Some(3_600_000));
        check("5000u", Some(5));
        check("7000000n", Some(7));
        for bad in ["", "m", "5", "5x", "-5m", "+5m", "123456789m", "5 m", "５m"] {
            check(bad, None);
        }
    }
}

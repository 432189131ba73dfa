//! Where in which trace does a caller stand?
//!
//! Reads, writes and checks `traceparent` and `tracestate` (W3C Trace Context, level 2). What is not
//! exactly as the specification says does not count: a malformed `traceparent` never reaches a node, and
//! no `tracestate` without a good `traceparent`.

use crate::http2::Fields;
use http::HeaderValue;
use suiyue_proto::metadata::{TRACEPARENT, TRACESTATE};

/// The caller records its part of the trace, and asks others to do so.
pub const SAMPLED: u8 = 1;
/// At least 56 bits of the trace id are random.
pub const RANDOM: u8 = 2;
/// Bytes of `tracestate` that are carried: what the specification asks for.
const STATE_BYTES: usize = 512;
/// Members of a `tracestate`.
const STATE_MEMBERS: usize = 32;

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace; never 0.
    pub trace: u128,
    /// The span that is the parent of what comes next; never 0.
    pub span: u64,
    /// [`SAMPLED`] and [`RANDOM`].
    pub flags: u8,
}

impl Context {
    /// What the headers say; `None` without a `traceparent`, and for a malformed or a repeated one.
    #[must_use]
    pub fn of(headers: &Fields) -> Option<Self> {
        let name = TRACEPARENT;
        let mut values = headers.get_all(&name);
        let context = Self::parse(values.next()?.as_bytes())?;
        values.next().is_none().then_some(context)
    }

    /// Reads `version-trace-parent-flags`, lower-case hex. Of a later version than 00 what stands at the
    /// known places counts, as the specification asks.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(55)?;
        let version = hex(&known[..2])?;
        let complete = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more[0] == b'-',
        };
        let dashed = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        if !complete || !dashed {
            return None;
        }
        let (trace, span) = (hex(&known[3..35])?, hex(&known[36..52])? as u64);
        let flags = hex(&known[53..])? as u8;
        (trace != 0 && span != 0).then_some(Self { trace, span, flags: flags & (SAMPLED | RANDOM) })
    }

    /// The caller wants the trace recorded.
    #[must_use]
    pub const fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The value of `traceparent` for what is called from here.
    #[must_use]
    pub fn value(&self) -> HeaderValue {
        let text = format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags);
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).expect("hex and dashes are a header value")
    }
}

/// At most 32 lower-case hex digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |n, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(n << 4 | u128::from(value))
    })
}

/// Removes a `tracestate` that is not as it should be, or longer than what must be carried.
pub fn clean_state(headers: &mut Fields) {
    let (mut members, mut bytes) = (0, 0);
    let good = headers.get_all(&TRACESTATE).all(|value| {
        bytes += value.len();
        value.as_bytes().split(|&byte| byte == b',').all(|member| {
            let member = member.trim_ascii();
            // Empty members are allowed.
            members += usize::from(!member.is_empty());
            member.is_empty() || is_member(member)
        })
    });
    if !good || members > STATE_MEMBERS || bytes > STATE_BYTES {
        headers.remove(&TRACESTATE);
    }
}

/// `key=value` of a `tracestate`.
fn is_member(member: &[u8]) -> bool {
    let Some(at) = member.iter().position(|&byte| byte == b'=') else { return false };
    let (key, value) = (&member[..at], &member[at + 1..]);
    let in_key = |b: &u8| {
        b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'*' | b'/' | b'@')
    };
    let first = key.first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let in_value = |b: &u8| matches!(b, 0x20..=0x7e) && *b != b'=';
    first
        && key.len() <= 256
        && key.iter().all(in_key)
        && (1..=256).contains(&value.len())
        && value.iter().all(in_value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    const SPAN: u64 = 0xb7ad_6b71_6920_3331;
    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[track_caller]
    fn check(text: &str, expected: Option<u8>) {
        let expected = expected.map(|flags| Context { trace: TRACE, span: SPAN, flags });
        assert_eq!(Context::parse(text.as_bytes()), expected, "{text:?}");
    }

    #[test]
    fn only_what_the_specification_allows_is_a_traceparent() {
        check(GOOD, Some(SAMPLED));
        check(&GOOD.replace("-01", "-00"), Some(0));
        check(&GOOD.replace("-01", "-03"), Some(SAMPLED | RANDOM));
        // Flags without a meaning are not passed on.
        check(&GOOD.replace("-01", "-ff"), Some(SAMPLED | RANDOM));
        // A later version may add fields at the end.
        check(&GOOD.replacen("00-", "cc-", 1), Some(SAMPLED));
        check(&(GOOD.replacen("00-", "cc-", 1) + "-what-the-future-brings"), Some(SAMPLED));
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-00"),
            &format!("{GOOD} "),
            &GOOD.replacen("00-", "ff-", 1),
            &(GOOD.replacen("00-", "cc-", 1) + ".more"),
            &GOOD.to_uppercase(),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.replace('-', "_"),
            &GOOD.replace("-01", "-0x"),
            &GOOD.replacen("00-", "0 -", 1),
            &GOOD.replace("0af7", "+af7"),
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn one_traceparent_counts_and_two_do_not() {
        let mut headers = Fields::new();
        assert_eq!(Context::of(&headers), None);
        headers.append(TRACEPARENT, GOOD.parse().unwrap());
        assert_eq!(Context::of(&headers).map(|context| context.trace), Some(TRACE));
        headers.append(TRACEPARENT, GOOD.parse().unwrap());
        assert_eq!(Context::of(&headers), None);
    }

    #[test]
    fn a_tracestate_is_carried_whole_or_not_at_all() {
        let check = |values: &[&str], kept: bool| {
            let mut headers = Fields::new();
            for value in values {
                headers.append(TRACESTATE, value.parse().unwrap());
            }
            clean_state(&mut headers);
            let expected = if kept { values.len() } else { 0 };
            assert_eq!(headers.get_all(&TRACESTATE).count(), expected, "{values:?}");
        };
        check(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], true);
        check(&["a=1", "b@c=2 3"], true);
        check(&["a=1, ,\tb/c*d_e-f=!~"], true);
        check(&[""], true);
        for bad in ["a", "=1", "a=", "A=1", "a=b=c", "a b=1", "_a=1", "a=\u{e9}", "a=1;b=2,c"] {
            check(&[bad], false);
            check(&["good=1", bad], false);
        }
        let many = |n: usize| (0..n).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        check(&[&many(32)], true);
        check(&[&many(33)], false);
        check(&[&format!("a={}", "x".repeat(257))], false);
        check(&[&format!("a={}", "x".repeat(256)), &format!("b={}", "x".repeat(255))], false);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1u128.., span in 1u64.., flags in 0u8..4) {
            let context = Context { trace, span, flags };
            prop_assert_eq!(Context::parse(context.value().as_bytes()), Some(context));
        }

        #[test]
        fn no_input_panics_and_what_is_read_is_written_alike(value in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(context) = Context::parse(&value) {
                prop_assert_eq!(Context::parse(context.value().as_bytes()), Some(context));
            }
        }

        #[test]
        fn one_changed_byte_is_another_context_or_none(at in 0usize..55, byte in any::<u8>()) {
            let mut value = GOOD.as_bytes().to_vec();
            value[at] = byte;
            if let Some(context) = Context::parse(&value) {
                let written = context.value();
                // All but the version and the flags without a meaning comes back byte for byte.
                prop_assert_eq!(&written.as_bytes()[2..53], &value[2..53]);
            }
        }
    }
}

//! What is an entry of the audit called?
//!
//! By a ULID: 48 bits of milliseconds since 1970 and 80 random bits, written in Crockford's base 32, so
//! that the order of the texts is the order of the ids. The id after another one is always greater,
//! whatever the clocks say.

use std::{fmt, str::FromStr};

/// Crockford's base 32: no I, L, O, U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of an id.
const LEN: usize = 26;

/// An id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(u128);

/// The text is no ULID in its canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a ULID is 26 characters of Crockford's base 32, the first at most 7")]
pub struct Malformed;

impl Ulid {
    /// An id made at this instant, greater than `after`: where the clock is behind, the next one.
    #[must_use]
    pub fn new(unix_ms: i64, random: u128, after: Option<Self>) -> Self {
        let ms = u128::try_from(unix_ms).unwrap_or(0) & ((1 << 48) - 1);
        let fresh = Self(ms << 80 | random & ((1 << 80) - 1));
        match after {
            Some(last) if last >= fresh => Self(last.0.saturating_add(1)),
            _ => fresh,
        }
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |at: usize| char::from(DIGITS[(self.0 >> (5 * (LEN - 1 - at))) as usize & 31]);
        f.write_str(&(0..LEN).map(digit).collect::<String>())
    }
}

impl FromStr for Ulid {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        // 26 digits are 130 bits: the first one has three.
        if text.len() != LEN || text.as_bytes()[0] > b'7' {
            return Err(Malformed);
        }
        text.bytes()
            .try_fold(0, |sum: u128, byte| {
                let digit = DIGITS.iter().position(|&digit| digit == byte).ok_or(Malformed)?;
                Ok(sum << 5 | digit as u128)
            })
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_next_id_is_greater_whatever_the_clock_says() {
        let first = Ulid::new(1_700_000_000_000, 5, None);
        for (ms, random) in [(1_700_000_000_000, 5), (1_600_000_000_000, 9), (1_700_000_000_001, 0)] {
            assert!(Ulid::new(ms, random, Some(first)) > first);
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        for bad in [
            "",
            "head",
            "81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01arz3ndektsv4rrffq69g5fav",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
        ] {
            assert_eq!(bad.parse::<Ulid>(), Err(Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn texts_are_in_the_order_of_the_ids(a: u128, b: u128) {
            let (a, b) = (Ulid(a), Ulid(b));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}

//! How does a node tell the gateway what it judged, without the gateway decoding messages?
//!
//! In the answer's metadata, under [`crate::metadata::VERDICT`]: words, separated by commas, each with a
//! count where it stands for more than one code: `pass`, or `pass=97,deny=2,unknown.subject_unknown=1`.
//! The gateway counts them and takes them out of the answer: apps read the message.

use crate::v1::{Verdict, VerdictReason};
use std::fmt;

/// The metadata key, for tonic; [`crate::metadata::VERDICT`] is the same.
pub const KEY: &str = "suiyue-verdict";

/// What a code was judged to be, as far as an operator of the gateway wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Let through.
    Pass,
    /// Check further.
    Caution,
    /// Do not let through.
    Deny,
    /// Not judged, for another reason than the next.
    Unknown,
    /// Not judged: the issuing node does not know the holder (any more).
    SubjectUnknown,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pass, Self::Caution, Self::Deny, Self::Unknown, Self::SubjectUnknown];

    /// The word in metadata and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Caution => "caution",
            Self::Deny => "deny",
            Self::Unknown => "unknown",
            Self::SubjectUnknown => "unknown.subject_unknown",
        }
    }

    /// The kind of a verdict with its reasons.
    #[must_use]
    pub fn of(verdict: Verdict, reasons: &[VerdictReason]) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Caution => Self::Caution,
            Verdict::Deny => Self::Deny,
            Verdict::Unknown | Verdict::Unspecified if reasons.contains(&VerdictReason::SubjectUnknown) => {
                Self::SubjectUnknown
            }
            Verdict::Unknown | Verdict::Unspecified => Self::Unknown,
        }
    }
}

/// How many codes of one answer were judged to be what. Its text is the metadata's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally([u16; Kind::ALL.len()]);

impl Tally {
    /// Codes of one kind in one answer at most: a node that says more is not believed.
    pub const MAX: u16 = 1000;

    /// Counts one code.
    pub fn add(&mut self, kind: Kind) {
        self.0[kind as usize] = self.0[kind as usize].saturating_add(1).min(Self::MAX);
    }

    /// Codes of one kind.
    #[must_use]
    pub const fn of(&self, kind: Kind) -> u16 {
        self.0[kind as usize]
    }

    /// Reads a value; `None` unless all of it is as it should be.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut tally = Self::default();
        for part in value.split(|&byte| byte == b',') {
            let (word, count) = match part.iter().position(|&byte| byte == b'=') {
                Some(at) => (&part[..at], number(&part[at + 1..])?),
                None => (part, 1),
            };
            let kind = Kind::ALL.into_iter().find(|kind| kind.as_str().as_bytes() == word)?;
            if tally.of(kind) != 0 {
                return None;
            }
            tally.0[kind as usize] = count;
        }
        Some(tally)
    }
}

fn number(digits: &[u8]) -> Option<u16> {
    let plain = (1..=4).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let n = digits.iter().filter(|_| plain).fold(0u16, |n, digit| n * 10 + u16::from(digit - b'0'));
    (1..=Tally::MAX).contains(&n).then_some(n)
}

impl FromIterator<Kind> for Tally {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        let mut tally = Self::default();
        kinds.into_iter().for_each(|kind| tally.add(kind));
        tally
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for kind in Kind::ALL {
            match self.of(kind) {
                0 => continue,
                1 => write!(f, "{comma}{}", kind.as_str())?,
                n => write!(f, "{comma}{}={n}", kind.as_str())?,
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<[u16; 5]>) {
        assert_eq!(Tally::parse(text.as_bytes()).map(|tally| tally.0), expected, "{text:?}");
    }

    #[test]
    fn values_are_read_as_a_whole_or_not_at_all() {
        check("pass", Some([1, 0, 0, 0, 0]));
        check("unknown.subject_unknown", Some([0, 0, 0, 0, 1]));
        check("pass=97,deny=2,unknown.subject_unknown=1", Some([97, 0, 2, 0, 1]));
        check("caution=1000", Some([0, 1000, 0, 0, 0]));
        for bad in ["", ",", "pass,", "PASS", "pass=0", "pass=1001", "pass=99999", "pass=", "pass=+1"] {
            check(bad, None);
        }
        for bad in ["pass, deny", "pass,pass", "pass=1,pass=2", "=3", "deny=1=2", "maybe"] {
            check(bad, None);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for n in [0u16, 1, 2, 100] {
            for kind in Kind::ALL {
                let mut tally: Tally = std::iter::repeat_n(kind, n.into()).collect();
                tally.add(Kind::Pass);
                assert_eq!(Tally::parse(tally.to_string().as_bytes()), Some(tally), "{tally}");
            }
        }
    }

    #[test]
    fn a_verdict_has_its_kind() {
        let unknown = |reason| Kind::of(Verdict::Unknown, &[reason]);
        assert_eq!(unknown(VerdictReason::SubjectUnknown), Kind::SubjectUnknown);
        assert_eq!(unknown(VerdictReason::CodeExpired), Kind::Unknown);
        assert_eq!(Kind::of(Verdict::Deny, &[VerdictReason::LevelRed]), Kind::Deny);
        assert_eq!(Kind::of(Verdict::Pass, &[]), Kind::Pass);
    }
}

//! Which kind of call comes next?
//!
//! A mix gives each kind a weight: `show=40,scan=50,cross=10`. The draw is a function of a random
//! number, so that the same seed plays the same calls.

use std::{fmt, str::FromStr};

/// What an app does in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A holder opens the code.
    Show,
    /// A checkpoint verifies a code of its own region.
    Scan,
    /// A checkpoint verifies the code of a visitor from another region.
    Cross,
    /// Somebody asks for a holder's status.
    Query,
}

impl Kind {
    /// All kinds, in the order of reports.
    pub const ALL: [Self; 4] = [Self::Show, Self::Scan, Self::Cross, Self::Query];

    /// The word on the command line and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Show => "show",
            Self::Scan => "scan",
            Self::Cross => "cross",
            Self::Query => "query",
        }
    }
}

/// Weights of the kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    weights: [u32; Kind::ALL.len()],
}

impl Default for Mix {
    fn default() -> Self {
        Self { weights: [40, 50, 10, 0] }
    }
}

/// A mix that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMix {
    /// A part is not `kind=weight`.
    #[error("{0:?} is not KIND=WEIGHT with a weight of 0 to 1000000, as in show=40,scan=50,cross=10")]
    Part(String),
    /// A kind that does not exist.
    #[error("{0:?} is no kind of call; use show, scan, cross or query")]
    Kind(String),
    /// All weights are 0.
    #[error("no kind has a weight above 0")]
    Empty,
}

impl Mix {
    /// The weight of one kind.
    #[must_use]
    pub fn weight(self, kind: Kind) -> u32 {
        self.weights[kind as usize]
    }

    /// Calls that need a code shown earlier occur.
    #[must_use]
    pub fn needs_codes(self) -> bool {
        self.weight(Kind::Scan) + self.weight(Kind::Cross) > 0
    }

    /// The kind that a random number stands for.
    #[must_use]
    pub fn draw(self, random: u32) -> Kind {
        let total: u32 = self.weights.iter().sum();
        let mut rest = random % total.max(1);
        for kind in Kind::ALL {
            let weight = self.weight(kind);
            if rest < weight {
                return kind;
            }
            rest -= weight;
        }
        Kind::Show
    }
}

impl FromStr for Mix {
    type Err = BadMix;

    fn from_str(text: &str) -> Result<Self, BadMix> {
        let mut weights = [0; Kind::ALL.len()];
        for part in text.split(',') {
            let bad = || BadMix::Part(part.to_owned());
            let (word, weight) = part.split_once('=').ok_or_else(bad)?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == word.trim());
            let kind = kind.ok_or_else(|| BadMix::Kind(word.to_owned()))?;
            let weight: u32 = weight.trim().parse().map_err(|_| bad())?;
            if weight > 1_000_000 {
                return Err(bad());
            }
            weights[kind as usize] = weight;
        }
        if weights.iter().all(|&weight| weight == 0) {
            return Err(BadMix::Empty);
        }
        Ok(Self { weights })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let occurs = Kind::ALL.iter().filter(|kind| self.weight(**kind) > 0);
        let parts: Vec<_> = occurs.map(|kind| format!("{}={}", kind.as_str(), self.weight(*kind))).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_follows_the_weights_exactly() {
        let mix: Mix = "show=40,scan=40,cross=10,query=10".parse().unwrap();
        let count = |kind| (0..100).filter(|&n| mix.draw(n) == kind).count();
        assert_eq!(Kind::ALL.map(count), [40, 40, 10, 10]);
    }

    #[test]
    fn a_kind_that_is_not_named_does_not_occur() {
        let mix: Mix = "scan=1".parse().unwrap();
        assert!((0..50).all(|n| mix.draw(n) == Kind::Scan));
        assert_eq!(mix.to_string(), "scan=1");
    }

    #[test]
    fn a_bad_mix_says_what_is_wrong() {
        assert_eq!("show".parse::<Mix>(), Err(BadMix::Part("show".into())));
        assert_eq!("show=x".parse::<Mix>(), Err(BadMix::Part("show=x".into())));
        assert_eq!("open=1".parse::<Mix>(), Err(BadMix::Kind("open".into())));
        assert_eq!("show=0".parse::<Mix>(), Err(BadMix::Empty));
    }
}

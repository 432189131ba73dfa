//! Which region does a division code route to?
//!
//! A region is an administrative division by its six-digit GB/T 2260 code.
//! Provinces and prefectures route as themselves. A county rolls up to its
//! prefecture, or to the province where no prefecture stands between: under
//! the four municipalities, and for the counties numbered 90xx, which their
//! province governs directly. The collective codes ("the districts of Beijing",
//! 110100) are nobody's city and route as their province. All of this is read
//! from `data/divisions.tsv`, never from the digits.
//!
//! A code that is no longer in use is not forwarded silently: the answer is
//! [`Unroutable::Retired`] with the code to use instead (`data/retired.tsv`).
//!
//! The module knows which divisions exist, not which of them anybody serves.

use std::{fmt, str::FromStr, sync::LazyLock};

mod table;

use table::Table;

/// The tables are compiled in and parsed once; a test reads every line.
static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(include_str!("../data/divisions.tsv"), include_str!("../data/retired.tsv"))
});

/// A number that has the form of a division code; it need not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u32);

impl Code {
    /// Takes a number between 110000 (Beijing) and 829999 (the end of Macau).
    #[must_use]
    pub const fn new(code: u32) -> Option<Self> {
        match code {
            110_000..=829_999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The province this code lies in, or `None` if the code is not in use.
    #[must_use]
    pub fn province(self) -> Option<Self> {
        find(self.0).map(|division| division.province)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The range of `Code` has exactly six digits.
        fmt::Display::fmt(&self.0, f)
    }
}

/// The text is not a division code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a division code is six digits between 110000 and 829999, such as 440100")]
pub struct Malformed;

impl FromStr for Code {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        // `u32::from_str` alone would accept "+44010".
        if text.len() != 6 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Malformed);
        }
        text.parse().ok().and_then(Self::new).ok_or(Malformed)
    }
}

/// The three levels of the code, from its front to its back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A province, autonomous region, municipality or special region.
    Province,
    /// A prefecture-level city, prefecture, league or autonomous prefecture;
    /// also the collective codes.
    Prefecture,
    /// A county, district, banner or county-level city.
    County,
}

/// One division that exists today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// Its own code.
    pub code: Code,
    /// Its level.
    pub level: Level,
    /// Its official name.
    pub name_zh: &'static str,
    /// Its conventional English name, ASCII only and not unique.
    pub name_en: &'static str,
    /// The region its requests go to; its own code if it is a region.
    pub rolls_up_to: Code,
    /// The province it lies in; its own code if it is a province.
    pub province: Code,
}

impl Division {
    /// Whether requests are routed to this division itself.
    #[must_use]
    pub fn is_region(&self) -> bool {
        self.rolls_up_to == self.code
    }
}

/// Why a code leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    /// None of the lists behind the table, 1980 to today, has this code.
    #[error("{0} is not an administrative division; use a six-digit GB/T 2260 code, such as 440100")]
    Unknown(u32),
    /// The code was in use once.
    #[error("{code} is no longer in use; use {successor} instead")]
    Retired {
        /// The code that was asked for.
        code: Code,
        /// The code in use today; where the territory was split, that of the
        /// main part. It may be a county and then rolls up in its turn.
        successor: Code,
    },
}

/// The division with this code, if it exists today.
#[must_use]
pub fn find(code: u32) -> Option<&'static Division> {
    TABLE.division(code)
}

/// The region that requests for this code go to.
///
/// # Errors
/// [`Unroutable::Retired`] if the code was in use once, and
/// [`Unroutable::Unknown`] if it never was.
pub fn resolve(code: u32) -> Result<Code, Unroutable> {
    match TABLE.division(code) {
        Some(division) => Ok(division.rolls_up_to),
        None => Err(TABLE.unroutable(code)),
    }
}

/// The province above a routing region; `None` for a province, and for a code
/// that is not a region.
#[must_use]
pub fn parent(region: Code) -> Option<Code> {
    let division = find(region.get())?;
    (division.is_region() && division.level != Level::Province).then_some(division.province)
}

/// Every division that exists today, in the order of the codes.
pub fn all() -> impl Iterator<Item = &'static Division> {
    TABLE.divisions().iter()
}

/// The routing regions below a province, in the order of the codes; none for
/// the municipalities and special regions, and for a code that is not a province.
pub fn children(province: Code) -> impl Iterator<Item = Code> {
    all().filter(move |division| parent(division.code) == Some(province)).map(|division| division.code)
}

#[cfg(test)]
mod tests;

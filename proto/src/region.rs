//! Placeholder with the final interface; the table replaces it.
use std::fmt;
/// A region code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u32);
impl Code {
    /// A code in 110000..=829999.
    pub const fn new(code: u32) -> Option<Self> { if code >= 110_000 && code <= 829_999 { Some(Self(code)) } else { None } }
    /// The number.
    pub const fn get(self) -> u32 { self.0 }
}
impl fmt::Display for Code { fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:06}", self.0) } }
/// Bad text.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no region code: six digits are wanted")]
pub struct Malformed(pub String);
impl std::str::FromStr for Code { type Err = Malformed; fn from_str(s: &str) -> Result<Self, Malformed> { (s.len() == 6).then(|| s.parse().ok().and_then(Self::new)).flatten().ok_or_else(|| Malformed(s.into())) } }
/// Level of a division.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level { /// province
 Province, /// prefecture
 Prefecture, /// county
 County }
/// A division.
#[derive(Debug)]
pub struct Division { /// code
 pub code: Code, /// level
 pub level: Level, /// zh
 pub name_zh: &'static str, /// en
 pub name_en: &'static str, /// routing region
 pub rolls_up_to: Code }
/// Why a code cannot be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    /// Unknown.
    #[error("{0} is no region of GB/T 2260")] Unknown(u32),
    /// Retired.
    #[error("{code} is retired: use {successor}")] Retired { /// the code
 code: u32, /// successor
 successor: Code } }
/// A division by code.
pub fn find(_code: u32) -> Option<&'static Division> { None }
/// The routing region of a code.
pub fn resolve(code: u32) -> Result<Code, Unroutable> { Code::new(code).ok_or(Unroutable::Unknown(code)).map(|c| if c.0 % 10000 / 100 >= 90 { Code(c.0 / 10000 * 10000) } else { Code(c.0 / 100 * 100) }) }
/// The province of a prefecture.
pub fn parent(routing: Code) -> Option<Code> { (routing.0 % 10000 != 0).then(|| Code(routing.0 / 10000 * 10000)) }
/// All divisions.
pub fn all() -> impl Iterator<Item = &'static Division> { std::iter::empty() }
/// Routing regions of a province.
pub fn children(_province: Code) -> impl Iterator<Item = Code> { std::iter::empty() }

//! Which calls go first when there are more than can be answered?
//!
//! By class, and inside a class by one of 128 levels that all calls about one subject share: whoever gets
//! through gets through with all of their calls, where a draw for each call would fail most people some
//! of the time (Zhou et al., "Overload Control for Scaling WeChat Microservices", `SoCC` 2018). A node that
//! has too much to do says up to which priority it takes calls ([`crate::metadata::ADMIT`]); gateways say
//! of each call where it stands ([`crate::metadata::LEVEL`]).

use crate::method::Class;
use std::{fmt, str::FromStr};

/// Levels of one class.
pub const LEVELS: u16 = 128;
/// Priorities that there are.
pub const ALL: u16 = LEVELS * Class::ALL.len() as u16;

/// The part of so many places that calls of a class may fill: at least one.
#[must_use]
pub const fn places(all: usize, class: Class) -> usize {
    let percent = match class {
        Class::Scan => return all,
        Class::Show => 95,
        Class::Query => 70,
        Class::Sync => 50,
    };
    let part = (all / 100) * percent + ((all % 100) * percent).div_ceil(100);
    if part == 0 { 1 } else { part }
}

/// Where a call stands; the lowest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u16);

impl Priority {
    /// Of a class and a level, of which the lowest seven bits count.
    #[must_use]
    pub const fn new(class: Class, level: u8) -> Self {
        Self(class.index() as u16 * LEVELS + level as u16 % LEVELS)
    }

    /// Position among all priorities, 0 to [`ALL`] − 1.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Up to which priority calls are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(u16);

impl Cursor {
    /// Everything is taken.
    pub const OPEN: Self = Self(ALL);
    /// Hardly anything is: somebody must be, or nobody would find out that more can be.
    pub const LEAST: Self = Self(1);

    /// So many priorities are taken, from the first; at least one.
    #[must_use]
    pub const fn new(taken: u16) -> Self {
        Self(if taken < 1 {
            1
        } else if taken > ALL {
            ALL
        } else {
            taken
        })
    }

    /// How many priorities are taken, 1 to [`ALL`].
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The class of the last priority that is taken.
    #[must_use]
    pub const fn class(self) -> Class {
        Class::ALL[(self.0 - 1) as usize / LEVELS as usize]
    }

    /// A call of this priority is taken.
    #[must_use]
    pub const fn admits(self, priority: Priority) -> bool {
        priority.0 < self.0
    }
}

/// The last priority that is taken, as `class.level`.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.class(), (self.0 - 1) % LEVELS)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (class, level) = text.split_once('.').ok_or(())?;
        let class: Class = class.parse().map_err(|_| ())?;
        let plain = (1..=3).contains(&level.len()) && level.bytes().all(|byte| byte.is_ascii_digit());
        let level: u16 = level.parse().ok().filter(|level| plain && *level < LEVELS).ok_or(())?;
        Ok(Self(class.index() as u16 * LEVELS + level + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_wire() {
        for taken in 1..=ALL {
            let cursor = Cursor::new(taken);
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        assert_eq!(Cursor::OPEN.to_string(), "sync.127");
        for bad in ["", "show", "show.", "show.128", "show.-1", "show.+1", "show.0001", "all.1", "show.1.2"] {
            assert_eq!(bad.parse::<Cursor>(), Err(()), "{bad:?}");
        }
    }

    #[test]
    fn classes_come_before_levels() {
        let order = [(Class::Scan, 0), (Class::Scan, 127), (Class::Show, 0), (Class::Sync, 127)];
        let order = order.map(|(class, level)| Priority::new(class, level));
        assert!(order.is_sorted() && order[3].index() == usize::from(ALL) - 1);
        let cursor: Cursor = "scan.127".parse().unwrap();
        assert_eq!(order.map(|priority| cursor.admits(priority)), [true, true, false, false]);
        assert!(order.iter().all(|priority| Cursor::OPEN.admits(*priority)));
        assert_eq!((Cursor::new(0), Cursor::new(u16::MAX)), (Cursor::LEAST, Cursor::OPEN));
    }

    #[test]
    fn lower_classes_fill_a_part_of_the_places() {
        let parts = |all| Class::ALL.map(|class| places(all, class));
        assert_eq!(parts(20_000), [20_000, 19_000, 14_000, 10_000]);
        assert_eq!(parts(10), [10, 10, 7, 5]);
        assert_eq!(parts(1), [1, 1, 1, 1]);
        assert_eq!(parts(0), [0, 1, 1, 1]);
        assert!(parts(usize::MAX).is_sorted_by(|a, b| a >= b));
    }
}

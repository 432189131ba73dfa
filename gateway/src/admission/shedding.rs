//! Who is sent away first, and whom would a node send away anyway?
//!
//! - Of the places for calls in flight the lower classes get a part only ([`places`](suiyue_proto::priority::places)): while a region or
//!   the gateway fills up, uploads go first and scans last.
//! - A node that has too much to do says up to which priority it takes calls ([`Word`]). For as long as
//!   that is fresh no other call is sent to it: refusing here costs a hundredth of refusing there. A word
//!   is believed for a moment only, so that a few calls always get through and hear the next one.
//! - Inside a class calls stand in 128 levels by their subject, drawn anew every hour: nobody is always
//!   last, and whoever gets through gets through with all of their calls.

use crate::plan::mix;
use http::{HeaderName, HeaderValue};
use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use suiyue_proto::{
    metadata,
    priority::{Cursor, LEVELS, Priority},
};

/// A word is believed for this long: half a window of the node's.
const BELIEVED: Duration = Duration::from_millis(50);
/// A node is told the levels of calls for this long after it has last sent one away.
const TOLD: Duration = Duration::from_secs(10);
/// Whoever sends calls away has no room for those of others for this long.
const FULL: Duration = Duration::from_secs(1);
/// Milliseconds of an hour.
const HOUR: i64 = 3_600_000;

/// Where a call about this subject stands in its class, by the key of the pick.
#[must_use]
pub const fn level(key: u64, unix_ms: i64) -> u8 {
    let hour = (unix_ms / HOUR) as u64;
    (mix(key ^ hour.wrapping_mul(0x9e37_79b9_7f4a_7c15)) % LEVELS as u64) as u8
}

/// A level as metadata for a node. It is never kept in a table of fields, which it would fill.
#[must_use]
pub fn field(level: u8) -> (HeaderName, HeaderValue) {
    static VALUES: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
        let value = |level: u16| {
            let mut value = HeaderValue::from(level);
            value.set_sensitive(true);
            value
        };
        (0..LEVELS).map(value).collect()
    });
    (metadata::LEVEL, VALUES[usize::from(level) % VALUES.len()].clone())
}

/// What an endpoint last said of the calls that it takes.
#[derive(Debug)]
pub struct Word {
    /// Milliseconds after `born`, and the cursor in the lowest 16 bits; 0: it has said nothing.
    said: AtomicU64,
    born: Instant,
}

impl Word {
    /// Nothing was said.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { said: AtomicU64::new(0), born: now }
    }

    /// It sends away what stands above this.
    pub fn hear(&self, cursor: Cursor, now: Instant) {
        self.said.store(self.ms(now) << 16 | u64::from(cursor.get()), Relaxed);
    }

    /// A call of this priority need not be sent.
    #[must_use]
    pub fn refuses(&self, priority: impl FnOnce() -> Priority, now: Instant) -> bool {
        self.within(BELIEVED, now).is_some_and(|cursor| !cursor.admits(priority()))
    }

    /// It wants to know the levels of calls.
    #[must_use]
    pub fn is_told(&self, now: Instant) -> bool {
        self.within(TOLD, now).is_some()
    }

    /// Up to where it takes calls, if not all.
    #[must_use]
    pub fn takes_up_to(&self, now: Instant) -> Option<Cursor> {
        self.within(FULL, now).filter(|cursor| *cursor < Cursor::OPEN)
    }

    /// It has more to do than it can.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.within(FULL, now).is_some()
    }

    /// What was said within this time.
    fn within(&self, time: Duration, now: Instant) -> Option<Cursor> {
        let said = self.said.load(Relaxed);
        if said == 0 {
            return None;
        }
        let age = self.ms(now).saturating_sub(said >> 16);
        (u128::from(age) < time.as_millis()).then(|| Cursor::new((said & 0xffff) as u16))
    }

    fn ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX >> 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use suiyue_proto::method::Class;

    #[test]
    fn a_word_is_believed_for_a_moment_and_remembered_for_longer() {
        let born = Instant::now();
        let at = |ms| born + Duration::from_millis(ms);
        let (word, low, high) =
            (Word::new(born), Priority::new(Class::Sync, 0), Priority::new(Class::Scan, 127));
        let says = |ms| {
            let now = at(ms);
            (word.refuses(|| low, now), word.refuses(|| high, now), word.is_full(now), word.is_told(now))
        };
        assert_eq!(says(0), (false, false, false, false));
        word.hear(Cursor::new(128), at(1_000));
        assert_eq!(says(1_049), (true, false, true, true));
        let takes = [1_000, 1_999, 2_000].map(|ms| word.takes_up_to(at(ms)));
        assert_eq!(takes, [Some(Cursor::new(128)), Some(Cursor::new(128)), None]);
        assert_eq!(says(1_050), (false, false, true, true));
        assert_eq!(says(2_000), (false, false, false, true));
        assert_eq!(says(11_000), (false, false, false, false));
        word.hear(Cursor::OPEN, at(12_000));
        assert_eq!(says(12_000), (false, false, true, true), "it only had no place at that moment");
        assert_eq!(word.takes_up_to(at(12_000)), None);
    }

    #[test]
    fn levels_are_spread_stay_for_an_hour_and_are_drawn_anew() {
        let now = 1_800_000_000_000;
        let levels: Vec<u8> = (0..12_800).map(|key| level(mix(key), now)).collect();
        for wanted in 0..LEVELS as u8 {
            let count = levels.iter().filter(|level| **level == wanted).count();
            assert!((50..=150).contains(&count), "{wanted}: {count}");
        }
        let later =
            |ms| (0..12_800).filter(|key| level(mix(*key), now + ms) == levels[*key as usize]).count();
        assert_eq!(later(HOUR / 2), 12_800);
        assert!(later(HOUR) < 300, "{}", later(HOUR));
    }

    #[test]
    fn a_level_is_not_kept_in_tables() {
        let (name, value) = field(127);
        assert_eq!((name, value.to_str().unwrap(), value.is_sensitive()), (metadata::LEVEL, "127", true));
    }
}

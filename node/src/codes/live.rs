//! Whose code is number N?
//!
//! Every live code gets a number when it is issued, and for two minutes (its minute of life, the
//! skew of clocks on both sides) the issuing node can say whose it is. So a level that changed
//! after the code was issued counts at once.
//! The list is bounded: at most [`CAPACITY`] codes are remembered, which is 35,000 a second over
//! two minutes. Beyond that the oldest are forgotten early, and such a code is judged by what was
//! signed. The memory is taken as it is needed, 36 bytes a code.

use crate::population::Subject;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use suiyue_proto::sy1::Claims;

/// Codes that are remembered at most.
pub const CAPACITY: usize = 1 << 22;
const KEEP_S: u32 = 120;
// The low bits of a number name the shard, so that showing codes on many threads does not queue.
const SHARD_BITS: u32 = 4;
const SHARDS: usize = 1 << SHARD_BITS;
const COUNTER_MASK: u32 = u32::MAX >> SHARD_BITS;

#[derive(Debug)]
struct Entry {
    subject: Subject,
    // Numbers come round, and start again with the process: the code id tells codes apart.
    code_id: [u8; 14],
    issued: u32,
}

#[derive(Debug, Default)]
struct Shard {
    // Counter of the front entry.
    base: u32,
    entries: VecDeque<Entry>,
}

/// The live codes of this node.
#[derive(Debug)]
pub struct LiveCodes {
    shards: [Mutex<Shard>; SHARDS],
    capacity: usize,
}

impl Default for LiveCodes {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl LiveCodes {
    /// A list that remembers at most this many codes (rounded to its shards).
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { shards: Default::default(), capacity: (capacity / SHARDS).max(1) }
    }

    /// Gives a code its number. `issued` is in seconds since 2020-01-01.
    pub fn add(&self, subject: Subject, code_id: [u8; 14], issued: u32) -> u32 {
        let at = usize::from(code_id[0]) % SHARDS;
        let mut shard = self.shards[at].lock().unwrap_or_else(PoisonError::into_inner);
        while shard.entries.front().is_some_and(|front| front.issued.saturating_add(KEEP_S) < issued)
            || shard.entries.len() >= self.capacity
        {
            shard.entries.pop_front();
            shard.base = shard.base.wrapping_add(1) & COUNTER_MASK;
        }
        let ahead = u32::try_from(shard.entries.len()).unwrap_or(COUNTER_MASK);
        let counter = shard.base.wrapping_add(ahead) & COUNTER_MASK;
        shard.entries.push_back(Entry { subject, code_id, issued });
        (counter << SHARD_BITS) | u32::try_from(at).unwrap_or(0)
    }

    /// Whose code it is; `None` when it is forgotten or was issued by an earlier process.
    #[must_use]
    pub fn holder(&self, claims: &Claims) -> Option<Subject> {
        let at = (claims.list_index as usize) % SHARDS;
        let shard = self.shards[at].lock().unwrap_or_else(PoisonError::into_inner);
        let offset = (claims.list_index >> SHARD_BITS).wrapping_sub(shard.base) & COUNTER_MASK;
        let entry = shard.entries.get(offset as usize)?;
        (entry.code_id == claims.code_id && entry.issued == claims.issued).then_some(entry.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use suiyue_proto::sy1::{ED25519, Kind, Level};

    fn claims(list_index: u32, code_id: [u8; 14], issued: u32) -> Claims {
        Claims {
            kind: Kind::Live,
            algorithm: ED25519,
            key_id: [0; 4],
            code_id,
            level: Level::Green,
            issued,
            ttl: 6,
            list_index,
        }
    }

    fn id(n: u32) -> [u8; 14] {
        let mut id = [0; 14];
        id[0] = n.to_le_bytes()[0];
        id[4..8].copy_from_slice(&n.to_be_bytes());
        id
    }

    #[test]
    fn a_code_is_known_for_two_minutes() {
        let live = LiveCodes::with_capacity(1024);
        let first = live.add([1; 16], id(0), 1000);
        assert_eq!(live.holder(&claims(first, id(0), 1000)), Some([1; 16]));
        live.add([2; 16], id(256), 1000 + KEEP_S);
        assert_eq!(live.holder(&claims(first, id(0), 1000)), Some([1; 16]));
        live.add([3; 16], id(512), 1001 + KEEP_S);
        assert_eq!(live.holder(&claims(first, id(0), 1000)), None);
    }

    #[test]
    fn a_number_of_an_earlier_process_is_not_mistaken() {
        let live = LiveCodes::with_capacity(1024);
        let number = live.add([1; 16], id(0), 1000);
        assert_eq!(live.holder(&claims(number, id(256), 1000)), None);
        assert_eq!(live.holder(&claims(number ^ 0x8000_0000, id(0), 1000)), None);
    }

    proptest! {
        #[test]
        fn the_list_stays_within_its_bound_and_knows_the_latest(codes in 1u32..2000, capacity in 16usize..256) {
            let live = LiveCodes::with_capacity(capacity);
            let mut numbers = Vec::new();
            for n in 0..codes {
                numbers.push(live.add([n.to_le_bytes()[0]; 16], id(n), 7));
            }
            let kept: usize = live.shards.iter().map(|shard| shard.lock().unwrap().entries.len()).sum();
            prop_assert!(kept <= capacity);
            let last = codes - 1;
            prop_assert_eq!(
                live.holder(&claims(numbers[last as usize], id(last), 7)),
                Some([last.to_le_bytes()[0]; 16])
            );
        }
    }
}

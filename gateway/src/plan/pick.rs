//! Which candidate does a subject's call go to?
//!
//! Weighted rendezvous over the base shares gives the base node; then one independent threshold each for
//! shift and overflow decides whether the subject is among those that are moved. So a change of one
//! number moves only the subjects that it must: raising a shift from 10 % to 20 % only adds some.
//! Pure: the same key gives the same pick on every gateway.

use super::{Candidate, Reason};

/// Where the calls of one region and class go. Shares and `shed` add up to 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Route {
    /// Every candidate, also excluded ones, in the order they are tried.
    pub candidates: Vec<Candidate>,
    /// Calls that shifts and caps move from one candidate to another.
    pub moves: Vec<Move>,
    /// Fraction of the calls that nobody may answer, 0 to 1. Caps alone never shed.
    pub shed: f64,
}

/// A part of one candidate's calls that another one gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Move {
    /// Why.
    pub kind: MoveKind,
    /// Index of the candidate that gives.
    pub from: usize,
    /// Index of the candidate that takes.
    pub to: usize,
    /// Part of what `from` has before moves of this kind, 0 to 1.
    pub fraction: f64,
}

/// Why calls are moved. Every kind has a threshold of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveKind {
    /// An operator's shift: from base shares.
    Shift,
    /// A cap: from what shifts left.
    Overflow,
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Index of the candidate.
    pub candidate: usize,
    /// Why this one.
    pub reason: Reason,
}

impl Route {
    /// The candidate for a call with this key. `None` where nobody may answer.
    #[must_use]
    pub fn pick(&self, key: u64) -> Option<Pick> {
        let mut open = self.candidates.iter().enumerate().filter(|(_, c)| c.base > 0.0);
        let first = open.next()?;
        let best = match open.next() {
            None => first.0,
            Some(second) => {
                let mut best = (first.0, f64::NEG_INFINITY);
                for (index, c) in [first, second].into_iter().chain(open) {
                    let score = score(mix(key ^ BASE_SALT), c.hash, c.base);
                    if score > best.1 {
                        best = (index, score);
                    }
                }
                best.0
            }
        };
        let base = Pick { candidate: best, reason: self.candidates[best].reason };
        if self.moves.is_empty() {
            return Some(base);
        }
        let shifted = self.moved(MoveKind::Shift, key, base);
        Some(self.moved(MoveKind::Overflow, key, shifted))
    }

    /// The pick after moves of a kind.
    fn moved(&self, kind: MoveKind, key: u64, before: Pick) -> Pick {
        let (salt, reason) = match kind {
            MoveKind::Shift => (SHIFT_SALT, Reason::Shift),
            MoveKind::Overflow => (OVERFLOW_SALT, Reason::Overflow),
        };
        let key = mix(key ^ salt);
        let moves = || self.moves.iter().filter(|m| m.kind == kind && m.from == before.candidate);
        if unit(key) >= moves().map(|m| m.fraction).sum() {
            return before;
        }
        let mut best = (before.candidate, f64::NEG_INFINITY);
        for m in moves() {
            let score = score(mix(key), self.candidates[m.to].hash, m.fraction);
            if score > best.1 {
                best = (m.to, score);
            }
        }
        Pick { candidate: best.0, reason }
    }
}

const BASE_SALT: u64 = 0x9e37_79b9_7f4a_7c15;
const SHIFT_SALT: u64 = 0xd1b5_4a32_d192_ed03;
const OVERFLOW_SALT: u64 = 0x8cb9_2ba7_2f3d_8dd7;

/// The hash of a node's name that scores are made with; kept in [`Candidate::hash`].
#[must_use]
pub fn node_hash(name: &str) -> u64 {
    name.as_bytes().chunks(8).fold(mix(name.len() as u64 ^ BASE_SALT), |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash ^ u64::from_le_bytes(word))
    })
}

/// Score of a node for a key: the highest wins, and node `i` wins with probability proportional to its
/// weight (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005).
fn score(key: u64, node: u64, weight: f64) -> f64 {
    -weight / unit(mix(key ^ node)).ln()
}

/// 52 bits into (0, 1); one more would round up to 1. Never 0 and never 1: the logarithm is finite and
/// not zero.
pub(super) fn unit(hash: u64) -> f64 {
    ((hash >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// A 64-bit finalizer (Stafford's variant 13 of the `MurmurHash3` mixer).
#[must_use]
pub const fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

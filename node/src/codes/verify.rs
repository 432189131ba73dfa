//! What should a checkpoint do with this code?
//!
//! Signature first, then time, then level. The node that issued a code judges it by the holder's
//! current status; any other node judges by the level that was signed, at most 90 s ago.
//!
//! | status now, at the issuing node | verdict |
//! |---|---|
//! | as signed | by the level |
//! | another level, not green | by the new level, and the code is revoked |
//! | green again | PASS: the authority no longer objects |
//! | no such holder | UNKNOWN |

use super::live::LiveCodes;
use crate::clock::Clock;
use crate::keys::ring::{Checked, Ring, Signer};
use crate::status::table::Table;
use std::sync::Arc;
use suiyue_proto::region::Code;
use suiyue_proto::sy1::{self, Claims, Level};
use suiyue_proto::v1::{Verdict, VerdictReason};
use suiyue_proto::verdict::Kind;

/// Clocks of issuer and verifier may differ by this much, in seconds.
pub const SKEW_S: i64 = 30;

/// Judges codes.
#[derive(Debug)]
pub struct Verifier {
    /// Keys of the federation.
    pub ring: Arc<Ring>,
    /// The statuses.
    pub table: Arc<Table>,
    /// Codes that this node issued.
    pub live: Arc<LiveCodes>,
    /// The wall clock.
    pub clock: Clock,
    /// What codes of other systems begin with, which this node cannot judge.
    pub foreign: Vec<String>,
}

/// What a judgement rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The code could not be trusted.
    Nothing,
    /// The level that was signed.
    Signed,
    /// The holder's status in this node's table.
    Status,
}

/// What a code is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What the checkpoint should do.
    pub verdict: Verdict,
    /// Why; empty for PASS.
    pub reasons: Vec<VerdictReason>,
    /// Level of the holder, where the code could be trusted.
    pub level: Option<Level>,
    /// When it was issued, in seconds since 1970-01-01 UTC; 0 where not trusted.
    pub issued_unix_s: i64,
    /// When it ends, in seconds since 1970-01-01 UTC; 0 where not trusted.
    pub expires_unix_s: i64,
    /// What it rests on.
    pub basis: Basis,
}

impl Judgement {
    /// What the gateway counts it as.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(self.verdict, &self.reasons)
    }
}

/// What this node knows about the holder of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing: another node issued the code, or it is forgotten.
    NotHere,
    /// The holder is not in the table.
    NoHolder,
    /// The holder's level now.
    Level(Level),
}

impl Verifier {
    /// Codes of the region can be judged here.
    #[must_use]
    pub fn knows(&self, region: Code) -> bool {
        self.ring.knows(region)
    }

    /// Judges a text.
    #[must_use]
    pub fn verify(&self, text: &str) -> Judgement {
        let Ok(code) = sy1::decode(text) else {
            // The holder of another system's code has done nothing wrong.
            return match self.foreign.iter().any(|prefix| text.starts_with(prefix.as_str())) {
                true => refused(Verdict::Unknown, VerdictReason::KeyUnknown),
                false => refused(Verdict::Deny, VerdictReason::SignatureInvalid),
            };
        };
        let known = match self.ring.check(&code) {
            Checked::KeyUnknown => return refused(Verdict::Unknown, VerdictReason::KeyUnknown),
            Checked::Invalid => return refused(Verdict::Deny, VerdictReason::SignatureInvalid),
            Checked::Valid(Signer::Other) => Known::NotHere,
            Checked::Valid(Signer::Own) => match self.live.holder(&code.claims) {
                None => Known::NotHere,
                Some(subject) => {
                    self.table.level(code.region, &subject).map_or(Known::NoHolder, Known::Level)
                }
            },
        };
        judge(&code.claims, known, self.clock.unix_s())
    }
}

fn refused(verdict: Verdict, reason: VerdictReason) -> Judgement {
    Judgement {
        verdict,
        reasons: vec![reason],
        level: None,
        issued_unix_s: 0,
        expires_unix_s: 0,
        basis: Basis::Nothing,
    }
}

/// Judges a code whose signature holds.
#[must_use]
pub fn judge(claims: &Claims, known: Known, now_unix_s: i64) -> Judgement {
    let (issued, expires) = (claims.issued_unix_s(), claims.expires_unix_s());
    let (level, basis) = match known {
        Known::NotHere => (Some(claims.level), Basis::Signed),
        Known::Level(level) => (Some(level), Basis::Status),
        Known::NoHolder => (None, Basis::Status),
    };
    let made = |verdict, reasons| Judgement {
        verdict,
        reasons,
        level,
        issued_unix_s: issued,
        expires_unix_s: expires,
        basis,
    };
    if now_unix_s < issued - SKEW_S {
        return made(Verdict::Unknown, vec![VerdictReason::NotYetValid]);
    }
    if now_unix_s > expires + SKEW_S {
        return made(Verdict::Unknown, vec![VerdictReason::CodeExpired]);
    }
    let Some(level) = level else {
        return made(Verdict::Unknown, vec![VerdictReason::SubjectUnknown]);
    };
    let mut reasons = Vec::new();
    if level != claims.level && level != Level::Green {
        reasons.push(VerdictReason::CodeRevoked);
    }
    match level {
        Level::Green => made(Verdict::Pass, reasons),
        Level::Yellow => {
            reasons.push(VerdictReason::LevelYellow);
            made(Verdict::Caution, reasons)
        }
        Level::Red => {
            reasons.push(VerdictReason::LevelRed);
            made(Verdict::Deny, reasons)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use suiyue_proto::sy1::{ED25519, Kind};

    const ISSUED: u32 = 200_000_000;
    const NOW: i64 = sy1::EPOCH_UNIX_S + ISSUED as i64;

    fn claims(level: Level) -> Claims {
        Claims {
            kind: Kind::Live,
            algorithm: ED25519,
            key_id: [0; 4],
            code_id: [0; 14],
            level,
            issued: ISSUED,
            ttl: 6,
            list_index: 0,
        }
    }

    #[track_caller]
    fn check(signed: Level, known: Known, after_s: i64, verdict: Verdict, reasons: &[VerdictReason]) {
        let judged = judge(&claims(signed), known, NOW + after_s);
        assert_eq!((judged.verdict, judged.reasons.as_slice()), (verdict, reasons));
        assert_eq!((judged.issued_unix_s, judged.expires_unix_s), (NOW, NOW + 60));
    }

    #[test]
    fn the_level_decides() {
        check(Level::Green, Known::NotHere, 0, Verdict::Pass, &[]);
        check(Level::Yellow, Known::NotHere, 0, Verdict::Caution, &[VerdictReason::LevelYellow]);
        check(Level::Red, Known::NotHere, 0, Verdict::Deny, &[VerdictReason::LevelRed]);
        check(Level::Green, Known::Level(Level::Green), 0, Verdict::Pass, &[]);
    }

    #[test]
    fn the_status_of_now_counts_at_the_issuing_node() {
        use VerdictReason::{CodeRevoked, LevelRed, LevelYellow, SubjectUnknown};
        let now = |level| Known::Level(level);
        check(Level::Green, now(Level::Red), 0, Verdict::Deny, &[CodeRevoked, LevelRed]);
        check(Level::Green, now(Level::Yellow), 0, Verdict::Caution, &[CodeRevoked, LevelYellow]);
        check(Level::Red, now(Level::Yellow), 0, Verdict::Caution, &[CodeRevoked, LevelYellow]);
        check(Level::Red, now(Level::Green), 0, Verdict::Pass, &[]);
        check(Level::Green, Known::NoHolder, 0, Verdict::Unknown, &[SubjectUnknown]);
    }

    #[test]
    fn time_is_judged_with_thirty_seconds_of_skew() {
        use VerdictReason::{CodeExpired, NotYetValid};
        check(Level::Green, Known::NotHere, -30, Verdict::Pass, &[]);
        check(Level::Green, Known::NotHere, -31, Verdict::Unknown, &[NotYetValid]);
        check(Level::Green, Known::NotHere, 90, Verdict::Pass, &[]);
        check(Level::Red, Known::NotHere, 91, Verdict::Unknown, &[CodeExpired]);
    }
}

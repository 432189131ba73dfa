//! What does a checkpoint's screen say?
//!
//! One line in Chinese and one in English for each outcome, for a person in a hurry: what to do,
//! then why.

use super::verify::Judgement;
use suiyue_proto::v1::{Verdict, VerdictReason};

/// The lines for a judgement.
#[must_use]
pub fn of(judged: &Judgement) -> (&'static str, &'static str) {
    let has = |reason| judged.reasons.contains(&reason);
    if has(VerdictReason::CodeRevoked) {
        return match judged.verdict {
            Verdict::Deny => ("禁止通行：状态已变为红码", "Stop: the level has changed to red"),
            _ => ("请核查：状态已变为黄码", "Check: the level has changed to yellow"),
        };
    }
    match judged.reasons.first() {
        None => ("请通行：绿码", "Pass: green"),
        Some(VerdictReason::LevelYellow) => ("请核查：黄码", "Check: yellow"),
        Some(VerdictReason::LevelRed) => ("禁止通行：红码", "Stop: red"),
        Some(VerdictReason::SignatureInvalid) => ("禁止通行：无效的码", "Stop: not a valid code"),
        Some(VerdictReason::CodeExpired) => ("码已过期，请刷新后重试", "Expired: ask for a fresh code"),
        Some(VerdictReason::NotYetValid) => {
            ("码尚未生效，请检查设备时间", "Not valid yet: check the clock of the device")
        }
        Some(VerdictReason::KeyUnknown) => {
            ("无法核验：签发方未知，请刷新后重试", "Cannot judge: unknown issuer, ask for a fresh code")
        }
        Some(VerdictReason::SubjectUnknown) => {
            ("无法核验：请重新申领", "Cannot judge: the holder must apply again")
        }
        Some(VerdictReason::NotMapped) => ("无法核验：请人工核查", "Cannot judge: check by hand"),
        Some(_) => ("无法核验，请刷新后重试", "Cannot judge: ask for a fresh code"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::verify::Basis;

    #[test]
    fn every_outcome_has_its_own_lines() {
        use VerdictReason as R;
        let outcomes: [(Verdict, &[R]); 11] = [
            (Verdict::Pass, &[]),
            (Verdict::Caution, &[R::LevelYellow]),
            (Verdict::Deny, &[R::LevelRed]),
            (Verdict::Caution, &[R::CodeRevoked, R::LevelYellow]),
            (Verdict::Deny, &[R::CodeRevoked, R::LevelRed]),
            (Verdict::Deny, &[R::SignatureInvalid]),
            (Verdict::Unknown, &[R::CodeExpired]),
            (Verdict::Unknown, &[R::NotYetValid]),
            (Verdict::Unknown, &[R::KeyUnknown]),
            (Verdict::Unknown, &[R::SubjectUnknown]),
            (Verdict::Unknown, &[R::NotMapped]),
        ];
        let lines: std::collections::HashSet<_> = outcomes
            .iter()
            .map(|(verdict, reasons)| {
                of(&Judgement {
                    verdict: *verdict,
                    reasons: reasons.to_vec(),
                    level: None,
                    issued_unix_s: 0,
                    expires_unix_s: 0,
                    basis: Basis::Nothing,
                })
            })
            .collect();
        assert_eq!(lines.len(), outcomes.len());
    }
}

//! What is a node tried with?
//!
//! Test holders with the levels that their region knows them by, codes whose verdict is known, and the
//! bars that are set.

use serde::Deserialize;
use std::{io::BufRead, time::Duration};
use suiyue_node::population::{self, Holder};
use suiyue_proto::{
    identity::Identity,
    region::Code,
    sy1::Level,
    v1::{Verdict, VerdictReason},
};

/// Holders of each region and level that are asked about.
const OF_A_LEVEL: usize = 3;

/// What a node is tried with.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The node's own port, `host:port`.
    pub address: String,
    /// Who asks, where the node has certificates; nodes let gateways in.
    pub own: Option<Identity>,
    /// Test holders: the first few of every region and level are asked about, the others only by load.
    pub holders: Vec<Holder>,
    /// Codes whose verdict is known.
    pub golden: Vec<Golden>,
    /// 99 % of verifications take at most so long, one after the other and under load.
    pub scan: Duration,
    /// How many of them are timed.
    pub calls: u32,
    /// Load, if it is wanted.
    pub load: Option<Load>,
}

/// Load that is put on a node in four even steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Verifications a second in the last step.
    pub rps: u32,
    /// How long a step lasts.
    pub step: Duration,
}

/// A code whose verdict is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Golden {
    /// Its region.
    pub region: Code,
    /// The text.
    pub code: String,
    /// What a checkpoint should do.
    pub verdict: Verdict,
    /// A reason that must be among those of the answer.
    pub reason: Option<VerdictReason>,
}

impl Trial {
    /// Regions of the holders, in ascending order.
    #[must_use]
    pub fn regions(&self) -> Vec<Code> {
        let mut regions: Vec<_> = self.holders.iter().map(|holder| holder.region).collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    }

    /// Holders of a region and level that are asked about.
    pub(super) fn some(&self, region: Code, level: Level) -> Vec<Holder> {
        let of = self.holders.iter().filter(|holder| holder.region == region && holder.level == level);
        of.take(OF_A_LEVEL).copied().collect()
    }

    /// The generated population of some regions, as a node with this seed loads it.
    #[must_use]
    pub fn generated(regions: &[Code], holders: u64, seed: u64) -> Vec<Holder> {
        let of = |region: &Code| {
            let region = *region;
            (0..holders).map(move |index| population::holder(region, index, seed))
        };
        regions.iter().flat_map(of).collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    region: u32,
    code: String,
    verdict: String,
    reason: Option<String>,
}

/// Reads codes whose verdict is known, one JSON object a line; empty lines are skipped.
///
/// # Errors
/// The file's name, the line, and what is wrong there.
pub fn read_golden(file: &str, input: impl BufRead) -> Result<Vec<Golden>, String> {
    let mut all = Vec::new();
    for (at, line) in input.lines().enumerate() {
        let place = |problem: String| format!("{file}, line {}: {problem}", at + 1);
        let line = line.map_err(|error| place(error.to_string()))?;
        if !line.trim().is_empty() {
            all.push(golden(&line).map_err(place)?);
        }
    }
    Ok(all)
}

fn golden(text: &str) -> Result<Golden, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let region = Code::new(line.region).ok_or_else(|| format!("region {} is no region code", line.region))?;
    let verdict = format!("VERDICT_{}", line.verdict.to_ascii_uppercase());
    let verdict =
        Verdict::from_str_name(&verdict).filter(|verdict| *verdict != Verdict::Unspecified).ok_or_else(
            || format!("verdict {:?} is not known: use pass, caution, deny or unknown", line.verdict),
        )?;
    let reason = |word: String| {
        VerdictReason::from_str_name(&format!("VERDICT_REASON_{}", word.to_ascii_uppercase()))
            .ok_or_else(|| format!("reason {word:?} is not known: use one such as code_expired"))
    };
    Ok(Golden { region, code: line.code, verdict, reason: line.reason.map(reason).transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_codes_are_read_or_refused_with_the_line() {
        let good = r#"{"region":440100,"code":"SY1:440100:X","verdict":"unknown","reason":"code_expired"}"#;
        let read = read_golden("g", format!("{good}\n\n{good}\n").as_bytes()).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].verdict, read[0].reason), (Verdict::Unknown, Some(VerdictReason::CodeExpired)));
        let check = |line: &str, word: &str| {
            let error = read_golden("g", format!("{good}\n{line}").as_bytes()).unwrap_err();
            assert!(error.starts_with("g, line 2: ") && error.contains(word), "{error}");
        };
        check("nonsense", "expected");
        check(r#"{"region":1,"code":"x","verdict":"pass"}"#, "no region code");
        check(r#"{"region":440100,"code":"x","verdict":"maybe"}"#, "use pass");
        check(r#"{"region":440100,"code":"x","verdict":"pass","reason":"mood"}"#, "\"mood\" is not known");
        check(r#"{"region":440100,"code":"x","verdict":"pass","colour":1}"#, "unknown field");
    }

    #[test]
    fn a_few_of_each_level_are_asked_about() {
        let region = Code::new(440_100).unwrap();
        let holders = Trial::generated(&[region], 3000, 1);
        let trial = Trial {
            own: None,
            address: String::new(),
            holders,
            golden: Vec::new(),
            scan: Duration::ZERO,
            calls: 1,
            load: None,
        };
        for level in Level::ALL {
            let some = trial.some(region, level);
            assert!(some.len() == OF_A_LEVEL && some.iter().all(|holder| holder.level == level), "{some:?}");
        }
        assert_eq!(trial.regions(), [region]);
    }
}

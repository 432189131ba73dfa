//! What does the demo say at the end?
//!
//! One document: its fields are those below and keep their meaning. `calls` is `rate x seconds`, and
//! the phases' calls add up to it.

use super::ledger::{Ledger, Phase};
use crate::{
    load::{Finished, tally::Tally},
    verbs::output,
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};
use tokio::time::Instant;

/// The whole play.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Phases in order.
    pub(super) phases: Vec<PhaseReport>,
    /// All calls.
    pub(super) calls: u64,
    /// Calls that did not end OK.
    pub(super) failed: u64,
    /// Calls that ended OK with a verdict that the code's level does not explain.
    pub(super) wrong_verdict: u64,
    /// What went wrong how often, by code and reason.
    pub(super) faults: BTreeMap<String, u64>,
}

/// One phase.
#[derive(Debug, Serialize)]
pub(super) struct PhaseReport {
    /// Its name.
    pub(super) name: &'static str,
    /// How long it lasted.
    pub(super) seconds: f64,
    /// Calls due in it.
    pub(super) calls: u64,
    /// Those that did not end OK.
    pub(super) failed: u64,
    /// Latency from the due time, half of the calls.
    pub(super) p50_ms: f64,
    /// Latency from the due time, 99 % of the calls.
    pub(super) p99_ms: f64,
    /// Calls by the node that answered; `-`: nobody did.
    pub(super) served_by: BTreeMap<String, u64>,
    /// Calls of region 440100 by the node that answered.
    pub(super) guangzhou: BTreeMap<String, u64>,
    /// Of those, the ones due later than 0.5 s after the phase's event (a kill or a return).
    pub(super) guangzhou_settled: BTreeMap<String, u64>,
}

impl Report {
    pub(super) fn new(finished: Finished, begun: Instant, ledger: &Ledger) -> Self {
        let phases = ledger.phases();
        let end = begun + finished.elapsed;
        let ends = phases.iter().skip(1).map(|phase| phase.begun).chain([end]);
        let mut all = Tally::default();
        let mut reports = Vec::new();
        for (phase, end) in phases.iter().zip(ends) {
            all.merge(&phase.tally);
            reports.push(PhaseReport::new(phase, end));
        }
        Self {
            phases: reports,
            calls: all.calls,
            failed: all.failed,
            wrong_verdict: all.wrong_verdict,
            faults: ledger.faults(),
        }
    }

    /// The report as a table.
    pub(super) fn table(&self) -> String {
        let mut table =
            output::table(["phase", "seconds", "calls", "failed", "p50 ms", "p99 ms", "Guangzhou served by"]);
        for phase in &self.phases {
            table.add_row([
                phase.name.to_owned(),
                format!("{:.1}", phase.seconds),
                phase.calls.to_string(),
                phase.failed.to_string(),
                format!("{:.2}", phase.p50_ms),
                format!("{:.2}", phase.p99_ms),
                shares(&phase.guangzhou),
            ]);
        }
        let mut text = format!(
            "{table}\n{} calls, {} failed, {} wrong verdicts\n",
            self.calls, self.failed, self.wrong_verdict
        );
        for (fault, calls) in &self.faults {
            text.push_str(&format!("{calls:>8} x {fault}\n"));
        }
        text
    }
}

impl PhaseReport {
    fn new(phase: &Phase, end: Instant) -> Self {
        let seconds = end.saturating_duration_since(phase.begun).as_secs_f64();
        Self {
            name: phase.name,
            seconds: (seconds * 1000.0).round() / 1000.0,
            calls: phase.tally.calls,
            failed: phase.tally.failed,
            p50_ms: phase.tally.quantile_ms(0.5),
            p99_ms: phase.tally.quantile_ms(0.99),
            served_by: named(&phase.served_by),
            guangzhou: named(&phase.guangzhou),
            guangzhou_settled: named(&phase.guangzhou_settled),
        }
    }
}

fn named(nodes: &BTreeMap<Arc<str>, u64>) -> BTreeMap<String, u64> {
    nodes.iter().map(|(node, &calls)| (node.to_string(), calls)).collect()
}

fn shares(nodes: &BTreeMap<String, u64>) -> String {
    let total: u64 = nodes.values().sum();
    let share = |(node, &calls): (&String, &u64)| {
        // Counts of a demo are far below 2^52.
        #[allow(clippy::cast_precision_loss, reason = "a percentage with one digit")]
        let percent = calls as f64 * 100.0 / total.max(1) as f64;
        format!("{node} {percent:.1} %")
    };
    nodes.iter().map(share).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_document_has_the_promised_fields() {
        let (ledger, begun) = (Ledger::default(), Instant::now());
        ledger.begin("normal");
        tokio::time::advance(Duration::from_secs(4)).await;
        ledger.begin("suikang_killed");
        let finished = Finished { calls: 0, elapsed: Duration::from_secs(10), unprocessed: 0 };
        let json = serde_json::to_value(Report::new(finished, begun, &ledger)).unwrap();
        assert_eq!((&json["calls"], &json["failed"]), (&0.into(), &0.into()));
        let seconds: Vec<_> = [0, 1].map(|n| json["phases"][n]["seconds"].as_f64().unwrap()).to_vec();
        assert_eq!(seconds, [4.0, 6.0]);
        let phase = json["phases"][1].as_object().unwrap();
        let fields = [
            "name",
            "seconds",
            "calls",
            "failed",
            "p50_ms",
            "p99_ms",
            "served_by",
            "guangzhou",
            "guangzhou_settled",
        ];
        assert!(fields.iter().all(|field| phase.contains_key(*field)), "{phase:?}");
    }
}

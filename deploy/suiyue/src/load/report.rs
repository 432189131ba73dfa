//! What does a run print?
//!
//! One [`Report`]: as a JSON document whose fields are listed here and do not change their meaning,
//! or as tables for a person.

use super::{
    Config, Finished,
    tally::{Breakdown, Tally},
};
use crate::verbs::output;
use serde::Serialize;
use std::collections::BTreeMap;

/// A finished run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Calls a second as asked.
    pub rate: u32,
    /// Seconds in which calls were scheduled.
    pub seconds: f64,
    /// The mix as asked, e.g. `show=40,scan=50,cross=10`.
    pub mix: String,
    /// Calls scheduled: rate × seconds, unless the run was stopped.
    pub calls: u64,
    /// Calls that did not end OK, whatever the cause.
    pub failed: u64,
    /// Calls that ended OK with a verdict that the code's level does not explain.
    pub wrong_verdict: u64,
    /// Sends that the driver repeated because the call certainly had not been processed
    /// (GOAWAY, `REFUSED_STREAM`).
    pub unprocessed: u64,
    /// Latency from the due time, all calls.
    #[serde(flatten)]
    pub latency: Latency,
    /// By kind: show, scan, cross, query.
    pub by_class: BTreeMap<String, Line>,
    /// By the region routed by.
    pub by_region: BTreeMap<String, Line>,
    /// By the node that answered.
    pub by_node: BTreeMap<String, Line>,
    /// Calls by the tier that answered.
    pub by_tier: BTreeMap<String, u64>,
    /// Calls by the gateway's attempt that answered.
    pub by_attempt: BTreeMap<String, u64>,
    /// What went wrong how often.
    pub faults: Vec<Fault>,
}

/// Latency in milliseconds, from the due time to the end of the answer.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Half of the calls were at most this slow.
    pub p50_ms: f64,
    /// 90 %.
    pub p90_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// 99.9 %.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Latency {
    fn of(tally: &Tally) -> Self {
        Self {
            p50_ms: tally.quantile_ms(0.5),
            p90_ms: tally.quantile_ms(0.9),
            p99_ms: tally.quantile_ms(0.99),
            p999_ms: tally.quantile_ms(0.999),
            max_ms: tally.max_ms(),
        }
    }
}

/// One class, region or node.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Calls.
    pub calls: u64,
    /// Those that did not end OK.
    pub failed: u64,
    /// Those with a wrong verdict.
    pub wrong_verdict: u64,
    /// Latency.
    #[serde(flatten)]
    pub latency: Latency,
}

impl Line {
    fn of(tally: &Tally) -> Self {
        Self {
            calls: tally.calls,
            failed: tally.failed,
            wrong_verdict: tally.wrong_verdict,
            latency: Latency::of(tally),
        }
    }
}

/// Something that went wrong.
#[derive(Debug, Serialize)]
pub struct Fault {
    /// gRPC code, or `WRONG_VERDICT`.
    pub code: String,
    /// Reason word, or the verdict with its reasons.
    pub reason: String,
    /// How often.
    pub calls: u64,
}

impl Report {
    /// Makes the report of a run.
    #[must_use]
    pub fn new(config: &Config, finished: Finished, breakdown: &Breakdown) -> Self {
        let all = &breakdown.all;
        let numbered = |(key, calls): (&dyn ToString, &u64)| (key.to_string(), *calls);
        let fault = |((code, reason), &calls): (&(String, String), &u64)| Fault {
            code: code.clone(),
            reason: reason.clone(),
            calls,
        };
        Self {
            rate: config.rate,
            seconds: (finished.elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            mix: config.mix.to_string(),
            calls: finished.calls,
            failed: all.failed,
            wrong_verdict: all.wrong_verdict,
            unprocessed: finished.unprocessed,
            latency: Latency::of(all),
            by_class: breakdown.classes.iter().map(|(k, t)| (k.as_str().to_owned(), Line::of(t))).collect(),
            by_region: breakdown.regions.iter().map(|(k, t)| (k.to_string(), Line::of(t))).collect(),
            by_node: breakdown.nodes.iter().map(|(k, t)| (k.to_string(), Line::of(t))).collect(),
            by_tier: breakdown.tiers.iter().map(|(k, n)| numbered((k, n))).collect(),
            by_attempt: breakdown.attempts.iter().map(|(k, n)| numbered((k, n))).collect(),
            faults: breakdown.faults.iter().map(fault).collect(),
        }
    }

    /// The report as tables.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut lines = output::table([
            "", "calls", "failed", "wrong", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms",
        ]);
        let all = (self.calls, self.failed, self.wrong_verdict, self.latency);
        lines.add_row(row("all", all));
        let groups = [("class", &self.by_class), ("region", &self.by_region), ("node", &self.by_node)];
        for (group, members) in groups {
            for (name, line) in members {
                let numbers = (line.calls, line.failed, line.wrong_verdict, line.latency);
                lines.add_row(row(&format!("{group} {name}"), numbers));
            }
        }
        let mut text = format!(
            "{} calls in {:.1} s ({} a second, {}): {} failed, {} wrong verdicts\n{lines}\n",
            self.calls, self.seconds, self.rate, self.mix, self.failed, self.wrong_verdict
        );
        for fault in &self.faults {
            text.push_str(&format!("{:>8} x {} {}\n", fault.calls, fault.code, fault.reason));
        }
        text
    }
}

fn row(name: &str, (calls, failed, wrong, latency): (u64, u64, u64, Latency)) -> Vec<String> {
    let mut cells = vec![name.to_owned(), calls.to_string(), failed.to_string(), wrong.to_string()];
    let quantiles = [latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.max_ms];
    cells.extend(quantiles.map(|ms| format!("{ms:.2}")));
    cells
}

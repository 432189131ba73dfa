//! Does the node carry what it is asked to carry?
//!
//! Only when the trial says so, only with codes of test holders, in four even steps, each bounded in
//! time and in calls in flight; after a step that failed there is no further one. Calls are due at a
//! constant rate, whatever became of the calls before.

use super::{
    ask::{Asker, told},
    codes::{Judged, Shown},
    pace,
    report::{Question, Report},
    trial::Load,
};
use hdrhistogram::Histogram;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use suiyue_proto::sy1::Level;
use suiyue_proto::v1::Verdict;
use tokio::task::JoinSet;

const STEPS: u32 = 4;
/// Calls in flight at most: a call that is due beyond fails.
const IN_FLIGHT: usize = 1_000;

/// What became of the calls of a step.
struct Step {
    took: Histogram<u64>,
    refused: u64,
    wrong: BTreeMap<String, u64>,
}

pub(super) async fn check(asker: &Asker, shown: &[Shown], load: &Load, bar: Duration, report: &mut Report) {
    for number in 1..=STEPS {
        let rps = load.rps * number / STEPS;
        let question = Question {
            name: format!("load {rps}"),
            asked: format!("{rps} verifications a second for {} s", load.step.as_secs()),
            expected: format!("none fails, none is judged wrong, 99 % within {} ms", bar.as_millis()),
            request: String::new(),
        };
        let came = match refreshed(asker, shown).await {
            Err(why) => Err(why),
            Ok(codes) => judged(&step(asker, &codes, rps, load.step).await, bar),
        };
        let failed = came.is_err();
        report.note(question, came);
        if failed {
            return report.skipped("load above", "the step before failed");
        }
    }
}

/// A refusal is an honest answer, but a node that is asked for what it declares should not need it.
fn judged(step: &Step, bar: Duration) -> Result<String, String> {
    let mut came = pace::shown(&step.took);
    if step.refused > 0 {
        came.push_str(&format!(", {} refused (RESOURCE_EXHAUSTED)", step.refused));
    }
    for (what, count) in &step.wrong {
        came.push_str(&format!(", {count} × {what}"));
    }
    let good = step.wrong.is_empty() && step.refused == 0 && pace::within(&step.took, bar);
    if good { Ok(came) } else { Err(came) }
}

/// Fresh codes of the same holders, with their verdicts.
async fn refreshed(asker: &Asker, shown: &[Shown]) -> Result<Vec<(Shown, Verdict)>, String> {
    let mut codes = Vec::with_capacity(shown.len());
    for known in shown {
        let code = asker.show(&known.holder).await.map_err(|status| told(&status))?.code;
        let verdict = match known.holder.level {
            Level::Green => Verdict::Pass,
            Level::Yellow => Verdict::Caution,
            Level::Red => Verdict::Deny,
        };
        codes.push((Shown { holder: known.holder, code }, verdict));
    }
    Ok(codes)
}

async fn step(asker: &Asker, codes: &[(Shown, Verdict)], rps: u32, length: Duration) -> Step {
    let mut step = Step { took: pace::histogram(), refused: 0, wrong: BTreeMap::new() };
    let mut calls = JoinSet::new();
    let began = tokio::time::Instant::now();
    let total = (u64::from(rps) * length.as_millis() as u64) / 1000;
    for number in 0..total {
        let due = began + Duration::from_secs_f64(number as f64 / f64::from(rps));
        tokio::time::sleep_until(due).await;
        while let Some(done) = calls.try_join_next() {
            step.note(done.ok());
        }
        if calls.len() >= IN_FLIGHT {
            step.fail(format!("not sent: {IN_FLIGHT} calls in flight"));
            continue;
        }
        let (asker, (known, verdict)) = (asker.clone(), codes[number as usize % codes.len()].clone());
        calls.spawn(async move {
            let since = Instant::now();
            let answer = asker.verify(known.holder.region, &known.code).await.map(Judged::from);
            (answer, verdict, since.elapsed())
        });
    }
    while let Some(done) = calls.join_next().await {
        step.note(done.ok());
    }
    step
}

type Done = (Result<Judged, tonic::Status>, Verdict, Duration);

impl Step {
    fn note(&mut self, done: Option<Done>) {
        match done {
            Some((Ok(judged), verdict, took)) => {
                pace::record(&mut self.took, took);
                if judged.verdict != verdict {
                    self.fail(format!("wrong: {judged}"));
                }
            }
            Some((Err(status), ..)) if status.code() == tonic::Code::ResourceExhausted => self.refused += 1,
            Some((Err(status), ..)) => self.fail(told(&status)),
            None => self.fail("a call ended in a panic".to_owned()),
        }
    }

    fn fail(&mut self, what: String) {
        *self.wrong.entry(what).or_default() += 1;
    }
}

//! Does the node's clock agree with ours?
//!
//! Codes are judged with ± 30 s of skew, so a node beyond it issues codes that nobody takes. The time of
//! an answer is only known to lie between its request and its arrival: that much is allowed on top.

use super::{
    ask::{Asker, told},
    report::{Question, Report},
};
use std::time::{Duration, Instant, SystemTime};
use suiyue_node::population::Holder;
use suiyue_proto::v1::{Freshness, ShowCodeResponse};

/// How far clocks may be apart.
pub(super) const SKEW_MS: i64 = 30_000;
const SAMPLES: usize = 5;
/// `issued_unix_s` is cut to whole seconds.
const GRAIN_MS: i64 = 1_000;

/// How far a node's clock is ahead of ours, in milliseconds: at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ahead {
    pub(super) least: i64,
    pub(super) most: i64,
}

/// What one answer says of the clock that made it, if it was asked at `asked` (ms since 1970) and came
/// `took` later.
pub(super) fn of_answer(answer: &ShowCodeResponse, asked_ms: i64, took: Duration) -> Ahead {
    let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX / 4) + 1;
    let issued = answer.issued_unix_s.saturating_mul(1000);
    // Made at `issued` or up to a second later by the node's clock, between asking and arrival by ours.
    let mut ahead = Ahead { least: issued - (asked_ms + took_ms), most: issued + GRAIN_MS - asked_ms };
    let served = answer.served.clone().unwrap_or_default();
    if served.freshness() == Freshness::Authoritative {
        // The authority's data are complete up to now, or up to a moment ago.
        ahead.least = ahead.least.max(served.as_of_unix_ms - (asked_ms + took_ms));
    }
    ahead
}

pub(super) async fn check(asker: &Asker, holder: &Holder, report: &mut Report) {
    let question = Question {
        name: "clock".to_owned(),
        asked: format!("times in {SAMPLES} answers to ShowCode"),
        expected: "within 30 s of this machine's clock".to_owned(),
        request: asker.show_line(holder),
    };
    let mut narrowed = None::<Ahead>;
    for _ in 0..SAMPLES {
        let asked_ms = now_ms();
        let began = Instant::now();
        match asker.show(holder).await {
            Err(status) => return report.note(question, Err(told(&status))),
            Ok(answer) => {
                let ahead = of_answer(&answer, asked_ms, began.elapsed());
                narrowed = Some(match narrowed {
                    None => ahead,
                    Some(known) => {
                        Ahead { least: known.least.max(ahead.least), most: known.most.min(ahead.most) }
                    }
                });
            }
        }
    }
    let ahead = narrowed.unwrap_or(Ahead { least: 0, most: 0 });
    let came = format!(
        "ahead by {:.1} s to {:.1} s",
        ahead.least as f64 / 1000.0,
        ahead.most.max(ahead.least) as f64 / 1000.0
    );
    report.note(question, if agrees(ahead) { Ok(came) } else { Err(format!("skewed: {came}")) });
}

/// Even the least is not too far, and the most neither.
pub(super) const fn agrees(ahead: Ahead) -> bool {
    ahead.least <= SKEW_MS && ahead.most >= -SKEW_MS
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

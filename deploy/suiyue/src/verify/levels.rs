//! Does the node know its holders, and does it say their levels right?
//!
//! Each test holder's code is shown and verified, and the status is asked. The levels must be those
//! that the region knows; a whole city that is unknown is a node that has loaded nothing and does not
//! say so.

use super::{
    ask::{Asker, told},
    codes::{Judged, Shown},
    report::{Question, Report},
    trial::Trial,
};
use suiyue_node::population::{Holder, word};
use suiyue_proto::{
    region::Code,
    sy1::Level,
    v1::{self, VerdictReason},
};
use tonic::Status;

/// What came of the test holders of a region.
#[derive(Default)]
struct Seen {
    holders: usize,
    unknown: usize,
    shown: Vec<Shown>,
}

/// Checks the holders of one region; their codes.
pub(super) async fn check(asker: &Asker, trial: &Trial, region: Code, report: &mut Report) -> Vec<Shown> {
    let mut seen = Seen::default();
    for level in Level::ALL {
        let holders = trial.some(region, level);
        if holders.is_empty() {
            report.skipped(&format!("level {region} {}", word(level)), "no test holder of this level");
            continue;
        }
        of_level(asker, (region, level), &holders, &mut seen, report).await;
    }
    let question = Question {
        name: format!("loaded {region}"),
        asked: format!("codes of {} test holders, shown and verified", seen.holders),
        expected: "not all of them unknown: a node without a city's holders answers UNAVAILABLE".to_owned(),
        request: trial
            .holders
            .iter()
            .find(|h| h.region == region)
            .map_or_else(String::new, |h| asker.show_line(h)),
    };
    let came = match seen.holders - seen.unknown {
        0 => Err(format!("all {} are unknown, while health says SERVING", seen.holders)),
        known => Ok(format!("{known} of {} are known", seen.holders)),
    };
    report.note(question, came);
    seen.shown
}

async fn of_level(
    asker: &Asker,
    (region, level): (Code, Level),
    holders: &[Holder],
    seen: &mut Seen,
    report: &mut Report,
) {
    let (mut show, mut verify, mut status) = (Tally::default(), Tally::default(), Tally::default());
    for holder in holders {
        seen.holders += 1;
        let mut unknown = false;
        let shown = asker.show(holder).await;
        unknown |= matches!(&shown, Err(status) if status.code() == tonic::Code::NotFound);
        show.add(asker.show_line(holder), show_came(level, &shown));
        if let Ok(shown) = shown {
            let judged = asker.verify(region, &shown.code).await.map(Judged::from);
            unknown |=
                matches!(&judged, Ok(judged) if judged.reasons.contains(&VerdictReason::SubjectUnknown));
            verify.add(asker.verify_line(region, &shown.code), verify_came(level, &judged));
            seen.shown.push(Shown { holder: *holder, code: shown.code });
        }
        status.add(asker.status_line(holder), status_came(level, asker.status(holder).await));
        seen.unknown += usize::from(unknown);
    }
    let name = word(level);
    let ask = |method: &str, expected: String| Question {
        name: format!("{method} {region} {name}"),
        asked: format!("{method} of {} test holders", holders.len()),
        expected,
        request: String::new(),
    };
    show.note(ask("show", format!("a code with the level {name}, valid for 10 s to 24 h")), report);
    verify.note(ask("verify", format!("{} and the level {name}", expected_verdict(level))), report);
    status.note(ask("status", format!("the level {name}")), report);
}

/// Several calls about one point: the first that failed speaks for all.
#[derive(Default)]
struct Tally {
    good: Option<(String, String)>,
    bad: Option<(String, String)>,
}

impl Tally {
    fn add(&mut self, request: String, came: Result<String, String>) {
        let (slot, came) = match came {
            Ok(came) => (&mut self.good, came),
            Err(came) => (&mut self.bad, came),
        };
        slot.get_or_insert((request, came));
    }

    fn note(self, mut question: Question, report: &mut Report) {
        match (self.bad, self.good) {
            (Some((request, came)), _) => {
                question.request = request;
                report.note(question, Err(came));
            }
            (None, Some((request, came))) => {
                question.request = request;
                report.note(question, Ok(came));
            }
            (None, None) => report.skipped(&question.name, "no code could be shown"),
        }
    }
}

fn level_word(level: i32) -> String {
    let known = u8::try_from(level).ok().and_then(Level::from_number);
    known.map_or_else(|| "no level".to_owned(), |level| word(level).to_owned())
}

fn show_came(level: Level, shown: &Result<v1::ShowCodeResponse, Status>) -> Result<String, String> {
    let shown = shown.as_ref().map_err(told)?;
    let came =
        format!("{}, {} characters, valid {} s", level_word(shown.level), shown.code.len(), shown.ttl_s);
    let good = shown.level == i32::from(level.number())
        && !shown.code.is_empty()
        && (10..=86_400).contains(&shown.ttl_s);
    if good { Ok(came) } else { Err(came) }
}

fn verify_came(level: Level, judged: &Result<Judged, Status>) -> Result<String, String> {
    let judged = judged.as_ref().map_err(told)?;
    let good = judged.verdict == expected_verdict_of(level)
        && judged.level == i32::from(level.number())
        && (level != Level::Green || judged.reasons.is_empty());
    if good { Ok(judged.to_string()) } else { Err(judged.to_string()) }
}

fn status_came(level: Level, came: Result<v1::GetStatusResponse, Status>) -> Result<String, String> {
    let status = came.map_err(|status| told(&status))?.status.unwrap_or_default();
    let came = level_word(status.level);
    if status.level == i32::from(level.number()) { Ok(came) } else { Err(came) }
}

const fn expected_verdict_of(level: Level) -> v1::Verdict {
    match level {
        Level::Green => v1::Verdict::Pass,
        Level::Yellow => v1::Verdict::Caution,
        Level::Red => v1::Verdict::Deny,
    }
}

fn expected_verdict(level: Level) -> &'static str {
    super::codes::verdict_word(expected_verdict_of(level))
}

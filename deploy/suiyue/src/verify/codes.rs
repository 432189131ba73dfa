//! Does the node judge codes right, good ones and bad ones?
//!
//! A bad code is an answer with a verdict, never an error; a code of another region in a call about
//! this one is a bad call.

use super::{
    ask::{Asker, request_id, told},
    report::{Question, Report},
    trial::Golden,
};
use std::fmt;
use suiyue_node::population::Holder;
use suiyue_proto::{
    region::Code,
    sy1,
    v1::{self, Verdict, VerdictReason},
};
use tonic::Status;

/// A code that was shown for a test holder.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) holder: Holder,
    pub(super) code: String,
}

/// What came back about a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) reasons: Vec<VerdictReason>,
    pub(super) level: i32,
}

impl From<v1::CodeResult> for Judged {
    fn from(result: v1::CodeResult) -> Self {
        Self { verdict: result.verdict(), reasons: result.reasons().collect(), level: result.level }
    }
}

impl From<v1::VerifyCodeResponse> for Judged {
    fn from(answer: v1::VerifyCodeResponse) -> Self {
        answer.result.unwrap_or_default().into()
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(verdict_word(self.verdict))?;
        for reason in &self.reasons {
            let name = reason.as_str_name();
            write!(f, " {}", name.strip_prefix("VERDICT_REASON_").unwrap_or(name))?;
        }
        let level = u8::try_from(self.level).ok().and_then(sy1::Level::from_number);
        match level {
            Some(level) => write!(f, ", {}", suiyue_node::population::word(level)),
            None => f.write_str(", no level"),
        }
    }
}

pub(super) fn verdict_word(verdict: Verdict) -> &'static str {
    let name = verdict.as_str_name();
    name.strip_prefix("VERDICT_").unwrap_or(name)
}

/// Not let through, and the reason is among the reasons.
fn refused(judged: Result<Judged, Status>, reason: VerdictReason) -> Result<String, String> {
    let judged = judged.map_err(|status| told(&status))?;
    let closed = matches!(judged.verdict, Verdict::Deny | Verdict::Unknown);
    if closed && judged.reasons.contains(&reason) { Ok(judged.to_string()) } else { Err(judged.to_string()) }
}

/// Checks how codes of one region are judged; `shown` are some that are good.
pub(super) async fn check(asker: &Asker, region: Code, shown: &[&Shown], report: &mut Report) {
    bad_texts(asker, region, shown, report).await;
    other_region(asker, region, report).await;
    unknown_holder(asker, region, report).await;
    let Some(known) = shown.first() else {
        for name in ["retry", "batch"] {
            report.skipped(&format!("{name} {region}"), "no code could be shown");
        }
        return;
    };
    retry(asker, known, report).await;
    batch(asker, known, report).await;
}

async fn bad_texts(asker: &Asker, region: Code, shown: &[&Shown], report: &mut Report) {
    let tampered = shown.first().map(|shown| tampered(&shown.code));
    let texts = [("tampered", tampered), ("no code", Some("https://example.com/not-a-code".to_owned()))];
    for (name, text) in texts {
        let name = format!("{name} {region}");
        let Some(text) = text else {
            report.skipped(&name, "no code could be shown");
            continue;
        };
        let question = Question {
            name,
            asked: "VerifyCode of a text that nobody issued".to_owned(),
            expected: "OK, DENY or UNKNOWN with SIGNATURE_INVALID".to_owned(),
            request: asker.verify_line(region, &text),
        };
        let judged = asker.verify(region, &text).await.map(Judged::from);
        report.note(question, refused(judged, VerdictReason::SignatureInvalid));
    }
}

/// Another letter or digit in the place of the last one.
fn tampered(code: &str) -> String {
    let mut letters: Vec<char> = code.chars().collect();
    if let Some(last) = letters.iter_mut().rev().find(|c| c.is_ascii_alphanumeric()) {
        *last = if *last == '0' { '1' } else { '0' };
    }
    letters.into_iter().collect()
}

/// A text that says that it is of another region.
async fn other_region(asker: &Asker, region: Code, report: &mut Report) {
    let other = if region.get() == 610_100 { 440_100 } else { 610_100 };
    let text = format!("SY1:{other}:{}", "0".repeat(143));
    let question = Question {
        name: format!("other region {region}"),
        asked: format!("VerifyCode of a code of {other} in a call about {region}"),
        expected: "INVALID_ARGUMENT REGION_MISMATCH".to_owned(),
        request: asker.verify_line(region, &text),
    };
    let came = match asker.verify(region, &text).await {
        Err(status) if status.code() == tonic::Code::InvalidArgument => Ok(told(&status)),
        Err(status) => Err(told(&status)),
        Ok(answer) => Err(Judged::from(answer).to_string()),
    };
    report.note(question, came);
}

/// Who is not there, and who may not be asked about, get one answer: no oracle.
async fn unknown_holder(asker: &Asker, region: Code, report: &mut Report) {
    let subject = rand::random();
    let nobody = Holder { region, subject, level: sy1::Level::Green };
    let expected = "NOT_FOUND".to_owned();
    let show = asker.show(&nobody).await.map(|_| "a code".to_owned());
    let status = asker.status(&nobody).await.map(|_| "a status".to_owned());
    for (name, came, request) in [
        ("show unknown", show, asker.show_line(&nobody)),
        ("status unknown", status, asker.status_line(&nobody)),
    ] {
        let question = Question {
            name: format!("{name} {region}"),
            asked: "a subject that nobody has".to_owned(),
            expected: expected.clone(),
            request,
        };
        let came = match came {
            Err(status) if status.code() == tonic::Code::NotFound => Ok(told(&status)),
            Err(status) => Err(told(&status)),
            Ok(came) => Err(came),
        };
        report.note(question, came);
    }
}

/// A retry is never a replay.
async fn retry(asker: &Asker, known: &Shown, report: &mut Report) {
    let region = known.holder.region;
    let id = request_id();
    let first = asker.verify_as(region, &known.code, id.clone()).await.map(Judged::from);
    let second = asker.verify_as(region, &known.code, id).await.map(Judged::from);
    let question = Question {
        name: format!("retry {region}"),
        asked: "VerifyCode twice with one request id".to_owned(),
        expected: "the same verdict".to_owned(),
        request: asker.verify_line(region, &known.code),
    };
    let came = match (first, second) {
        (Ok(first), Ok(second)) if first == second => Ok(first.to_string()),
        (Ok(first), Ok(second)) => Err(format!("first {first}, then {second}")),
        (Err(status), _) | (_, Err(status)) => Err(told(&status)),
    };
    report.note(question, came);
}

/// Results stand in the order of the codes, each judged as alone.
async fn batch(asker: &Asker, known: &Shown, report: &mut Report) {
    let region = known.holder.region;
    let codes = vec![known.code.clone(), tampered(&known.code), known.code.clone()];
    let message = serde_json::json!({
        "region": region.get(), "codes": codes, "requestId": super::ask::base64(&[1; 16]),
    });
    let question = Question {
        name: format!("batch {region}"),
        asked: "VerifyBatch of a good code, a bad one, the good one".to_owned(),
        expected: "three results in this order, as VerifyCode judges them".to_owned(),
        request: asker.grpcurl("suiyue.v1.CodeService/VerifyBatch", &message),
    };
    let alone = asker.verify(region, &known.code).await.map(Judged::from);
    let came = match (alone, asker.batch(region, codes).await) {
        (Ok(alone), Ok(answer)) => {
            let results: Vec<_> = answer.results.into_iter().map(Judged::from).collect();
            let told = results.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let good = matches!(&results[..], [first, bad, last]
                if *first == alone && *last == alone
                    && bad.reasons.contains(&VerdictReason::SignatureInvalid));
            if good { Ok(told) } else { Err(told) }
        }
        (Err(status), _) | (_, Err(status)) => Err(told(&status)),
    };
    report.note(question, came);
}

/// Codes whose verdict is known.
pub(super) async fn golden(asker: &Asker, golden: &[Golden], report: &mut Report) {
    if golden.is_empty() {
        report.skipped("golden", "no codes with known verdicts were given: expired codes were not tried");
    }
    for (at, wanted) in golden.iter().enumerate() {
        let reason = wanted.reason.map_or("", |reason| reason.as_str_name());
        let question = Question {
            name: format!("golden {}", at + 1),
            asked: "VerifyCode of a code with a known verdict".to_owned(),
            expected: format!("{} {reason}", verdict_word(wanted.verdict)).trim().to_owned(),
            request: asker.verify_line(wanted.region, &wanted.code),
        };
        let came = match asker.verify(wanted.region, &wanted.code).await.map(Judged::from) {
            Err(status) => Err(told(&status)),
            Ok(judged) => {
                let good = judged.verdict == wanted.verdict
                    && wanted.reason.is_none_or(|reason| judged.reasons.contains(&reason));
                if good { Ok(judged.to_string()) } else { Err(judged.to_string()) }
            }
        };
        report.note(question, came);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tampered_code_differs_in_its_last_letter_or_digit() {
        let check = |code: &str, expected: &str| assert_eq!(tampered(code), expected);
        check("SY1:440100:AB0", "SY1:440100:AB1");
        check("SK-xyz==", "SK-xy0==");
        check("1", "0");
        check("", "");
    }
}

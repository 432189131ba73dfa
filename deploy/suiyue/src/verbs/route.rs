//! Where do calls go, why, and where would they go if? (`suiyue route explain`)

pub mod shift;

use super::{
    file::{self, Text},
    operator::{Operator, TableDocument, footer},
    output::{self, Format},
    refusal,
};
use crate::{
    cli::{Subject, WhatIf},
    exit::Usage,
};
use anyhow::anyhow;
use serde::Serialize;
use suiyue_proto::{
    method::Class,
    reason::Reason,
    region::Code,
    v1::{self, CandidateInfo, ExplainRouteRequest, ExplainRouteResponse, what_if::Change},
};
use tonic::Status;

/// The document of `route explain -o json`; the fields are those of `ExplainRouteResponse`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The table behind the answer.
    pub table: Option<TableDocument>,
    /// The routing region after roll-up.
    pub region: u32,
    /// The class asked about.
    pub class: String,
    /// One sentence.
    pub summary: String,
    /// Every candidate in the order they would be tried, also the excluded ones.
    pub candidates: Vec<Candidate>,
    /// Fraction of the calls that nobody may answer, 0 to 1.
    pub shed: f64,
    /// Where the asked subject's calls go; null without a subject, and when nobody can answer.
    pub subject_node: Option<String>,
    /// The same with tier and reason.
    pub pick: Option<Pick>,
    /// What was supposed, as on the command line.
    pub what_if: Vec<String>,
    /// The route with all of that; null when nothing was supposed.
    pub supposed: Option<Supposed>,
}

/// A route computed from changed inputs.
#[derive(Debug, Serialize)]
pub struct Supposed {
    /// One sentence.
    pub summary: String,
    /// Every candidate in the order they would be tried, also the excluded ones.
    pub candidates: Vec<Candidate>,
    /// Fraction of the calls that nobody could answer, 0 to 1.
    pub shed: f64,
    /// Where the asked subject's calls would go.
    pub pick: Option<Pick>,
}

/// One candidate; shares are fractions of the region's calls of the class, 0 to 1.
#[derive(Debug, Serialize)]
pub struct Candidate {
    /// The node.
    pub node: String,
    /// 0 the region's own, 1 its province's, 2 peers.
    pub tier: u32,
    /// Share after tiers, health, capacity and weights.
    pub base_share: f64,
    /// Share after shifts.
    pub shifted_share: f64,
    /// What of that it keeps within its cap.
    pub clamped_share: f64,
    /// Share in the end.
    pub share: f64,
    /// Why it gets that, or why it is excluded.
    pub reason: String,
    /// The rule that included or excluded it.
    pub rule: String,
    /// Rules that limit what it gets.
    pub limits: Vec<String>,
    /// It cannot get calls at present.
    pub excluded: bool,
    /// Fraction of its capacity that is healthy, 0 to 1.
    pub health: f64,
    /// Fraction of its usual share while it returns, 0 to 1.
    pub ramp: f64,
    /// Calls a second that it can carry; null: not declared.
    pub capacity_rps: Option<f64>,
    /// Calls a second of this class and higher ones that it gets from this gateway at most; null: no cap.
    pub cap_rps: Option<f64>,
    /// Calls a second that it gets while demand stays as it is.
    pub rps: f64,
}

/// Where the calls of one subject go.
#[derive(Debug, Serialize)]
pub struct Pick {
    /// The node.
    pub node: String,
    /// Its tier.
    pub tier: u32,
    /// Why, as in the metadata `suiyue-reason` of a first attempt.
    pub reason: String,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// The region.
    pub region: Code,
    /// The class.
    pub class: Class,
    /// Whose calls.
    pub subject: Option<Subject>,
    /// An earlier plan; 0: the current one.
    pub plan: u64,
    /// What to suppose.
    pub what_if: Vec<WhatIf>,
}

impl From<&CandidateInfo> for Candidate {
    fn from(info: &CandidateInfo) -> Self {
        Self {
            node: info.node.clone(),
            tier: info.tier,
            base_share: info.base_share,
            shifted_share: info.shifted_share,
            clamped_share: info.clamped_share,
            share: info.share,
            reason: info.reason.clone(),
            rule: info.rule.clone(),
            limits: info.limits.clone(),
            excluded: info.excluded,
            health: info.health,
            ramp: info.ramp,
            capacity_rps: info.capacity_rps,
            cap_rps: info.cap_rps,
            rps: info.rps,
        }
    }
}

impl From<v1::Pick> for Pick {
    fn from(pick: v1::Pick) -> Self {
        Self { node: pick.node, tier: pick.tier, reason: pick.reason }
    }
}

impl Document {
    fn new(answer: ExplainRouteResponse, question: &Question) -> Self {
        let all = |candidates: &[CandidateInfo]| candidates.iter().map(Candidate::from).collect();
        Self {
            table: answer.table.as_ref().map(TableDocument::from),
            region: answer.region,
            class: question.class.as_str().to_owned(),
            summary: answer.summary,
            candidates: all(&answer.candidates),
            shed: answer.shed,
            subject_node: (!answer.subject_node.is_empty()).then_some(answer.subject_node),
            pick: answer.pick.map(Pick::from),
            what_if: question.what_if.iter().map(WhatIf::to_string).collect(),
            supposed: answer.supposed.map(|supposed| Supposed {
                candidates: all(&supposed.candidates),
                summary: supposed.summary,
                shed: supposed.shed,
                pick: supposed.pick.map(Pick::from),
            }),
        }
    }
}

/// Explains a route.
///
/// # Errors
/// [`Usage`] where something is supposed that cannot be, another one when no gateway can be reached, or
/// it refuses.
pub async fn explain(gateways: &[String], question: &Question, format: Format) -> anyhow::Result<()> {
    let (what_if, texts) = supposed(&question.what_if)?;
    let asked = ExplainRouteRequest {
        region: question.region.get(),
        class: question.class.to_proto().into(),
        subject: question.subject.map(|subject| subject.bytes()).unwrap_or_default(),
        plan: question.plan,
        what_if,
    };
    let mut operator = Operator::connect(gateways).await?;
    let answer = operator.explain(asked).await;
    let answer = answer.map_err(|status| refused(&operator, &status, &question.what_if, &texts))?;
    let footer = footer(answer.table.as_ref());
    let document = Document::new(answer, question);
    if format == Format::Json {
        return output::json(&document);
    }
    let text = match &document.supposed {
        None => told(&document),
        Some(supposed) => side_by_side(&document, supposed),
    };
    output::line(&format!("{text}{footer}"))
}

/// The changes as messages, with the texts of those that stand in files.
fn supposed(what_if: &[WhatIf]) -> Result<(Vec<v1::WhatIf>, Vec<Option<Text>>), Usage> {
    let (mut changes, mut texts) = (Vec::new(), Vec::new());
    for given in what_if {
        let (change, text) = match given {
            WhatIf::NodeDown(name) => (Change::NodeDown(name.clone()), None),
            WhatIf::Drain(name) => (Change::Drain(name.clone()), None),
            WhatIf::Shift(path) => {
                let (shift, text) = file::read::<shift::Shift>(path)?;
                (Change::Shift(shift.message()), Some(text))
            }
        };
        changes.push(v1::WhatIf { change: Some(change) });
        texts.push(text);
    }
    Ok((changes, texts))
}

/// What cannot be supposed is a mistake in the command line, or in the file that it names.
fn refused(operator: &Operator, status: &Status, given: &[WhatIf], texts: &[Option<Text>]) -> anyhow::Error {
    let line = operator.refused("ExplainRoute", status);
    if Reason::of(status) != Some(Reason::WhatIfInvalid) {
        return anyhow!(line);
    }
    let field = refusal::detail(status, "field").unwrap_or_default();
    let at = field.strip_prefix("what_if[").and_then(|rest| rest.split_once(']'));
    let at = at.and_then(|(at, rest)| Some((at.parse::<usize>().ok()?, rest)));
    let place = at.and_then(|(at, rest)| match texts.get(at)? {
        Some(text) => Some(text.place(rest.strip_prefix(".shift.").unwrap_or_default())),
        None => Some(format!("--what-if {}", given.get(at)?)),
    });
    Usage(place.map_or(line.clone(), |place| format!("{place}: {line}"))).into()
}

fn told(document: &Document) -> String {
    let mut table =
        output::table(["node", "tier", "base", "shifted", "clamped", "share", "health", "reason", "rule"]);
    for candidate in &document.candidates {
        table.add_row([
            candidate.node.clone(),
            candidate.tier.to_string(),
            percent(candidate.base_share),
            percent(candidate.shifted_share),
            percent(candidate.clamped_share),
            share(candidate),
            percent(candidate.health),
            candidate.reason.clone(),
            rules(candidate),
        ]);
    }
    let subject = document.pick.as_ref().map(|pick| {
        format!("this subject's calls go to {} (tier {}, {})\n", pick.node, pick.tier, pick.reason)
    });
    format!("{}\n{table}\n{}", document.summary, subject.unwrap_or_default())
}

fn side_by_side(document: &Document, supposed: &Supposed) -> String {
    let headings = ["node", "tier", "share", "if", "reason", "if", "rule", "if"];
    let mut table = output::table(headings);
    for now in &document.candidates {
        let then = supposed.candidates.iter().find(|candidate| candidate.node == now.node);
        let of = |tell: fn(&Candidate) -> String| then.map_or("-".to_owned(), tell);
        let rule = rules(now);
        let other = Some(of(rules)).filter(|other| *other != rule);
        table.add_row([
            now.node.clone(),
            now.tier.to_string(),
            share(now),
            of(share),
            now.reason.clone(),
            of(|candidate| candidate.reason.clone()),
            rule,
            other.unwrap_or_else(|| "the same".to_owned()),
        ]);
    }
    let what = document.what_if.join(", ");
    let mut text = format!("now: {}\nif {what}: {}\n{table}\n", document.summary, supposed.summary);
    if let Some(now) = &document.pick {
        let then = supposed.pick.as_ref().map_or("nobody".to_owned(), pick);
        text.push_str(&format!("this subject's calls go to {}; they would go to {then}\n", pick(now)));
    }
    text
}

fn pick(pick: &Pick) -> String {
    format!("{} (tier {}, {})", pick.node, pick.tier, pick.reason)
}

fn share(candidate: &Candidate) -> String {
    if candidate.excluded { "-".to_owned() } else { percent(candidate.share) }
}

/// The rule, and what limits its outcome.
fn rules(candidate: &Candidate) -> String {
    let limits = candidate.limits.iter().map(String::as_str);
    std::iter::once(candidate.rule.as_str()).chain(limits).collect::<Vec<_>>().join("; ")
}

/// A fraction in percent.
#[must_use]
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

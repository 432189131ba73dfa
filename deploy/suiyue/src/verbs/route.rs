//! Where do calls go, and why? (`suiyue route explain`)

use super::{
    operator::{Operator, TableDocument, footer},
    output::{self, Format},
};
use crate::cli::Subject;
use serde::Serialize;
use suiyue_proto::{
    method::Class,
    region::Code,
    v1::{ExplainRouteRequest, ExplainRouteResponse},
};

/// The document of `route explain -o json`.
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
    /// Where the asked subject's calls go; absent without a subject.
    pub subject_node: Option<String>,
}

/// One candidate.
#[derive(Debug, Serialize)]
pub struct Candidate {
    /// The node.
    pub node: String,
    /// 0 the region's own, 1 its province's, 2 peers.
    pub tier: u32,
    /// Fraction of the region's calls it gets, 0 to 1.
    pub share: f64,
    /// Why it gets them, or why it is excluded.
    pub reason: String,
    /// It cannot get calls at present.
    pub excluded: bool,
    /// Fraction of its capacity that is healthy, 0 to 1.
    pub health: f64,
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
}

impl Document {
    fn new(answer: ExplainRouteResponse, class: Class) -> Self {
        let candidates = answer.candidates.into_iter().map(|info| Candidate {
            node: info.node,
            tier: info.tier,
            share: info.share,
            reason: info.reason,
            excluded: info.excluded,
            health: info.health,
        });
        Self {
            table: answer.table.as_ref().map(TableDocument::from),
            region: answer.region,
            class: class.as_str().to_owned(),
            summary: answer.summary,
            candidates: candidates.collect(),
            subject_node: (!answer.subject_node.is_empty()).then_some(answer.subject_node),
        }
    }
}

/// Explains a route.
///
/// # Errors
/// When no gateway can be reached, or it refuses.
pub async fn explain(gateways: &[String], question: Question, format: Format) -> anyhow::Result<()> {
    let asked = ExplainRouteRequest {
        region: question.region.get(),
        class: question.class.to_proto().into(),
        subject: question.subject.map(|subject| subject.bytes()).unwrap_or_default(),
        plan: question.plan,
    };
    let answer = Operator::connect(gateways).await?.explain(asked).await?;
    let footer = footer(answer.table.as_ref());
    let document = Document::new(answer, question.class);
    if format == Format::Json {
        return output::json(&document);
    }
    let mut table = output::table(["node", "tier", "share", "health", "reason"]);
    for candidate in &document.candidates {
        let share = if candidate.excluded { "-".to_owned() } else { percent(candidate.share) };
        table.add_row([
            candidate.node.clone(),
            candidate.tier.to_string(),
            share,
            percent(candidate.health),
            candidate.reason.clone(),
        ]);
    }
    let subject = document.subject_node.as_ref().map(|node| format!("this subject's calls go to {node}\n"));
    output::line(&format!("{}\n{table}\n{}{footer}", document.summary, subject.unwrap_or_default()))
}

fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

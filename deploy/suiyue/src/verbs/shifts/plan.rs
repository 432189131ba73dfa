//! What would a shift do? (`suiyue shift plan`)
//!
//! The document for a program is also the file that is applied and approved: what stands in `plan` is what
//! counts, everything else is read from it again, so that nobody approves other words than are carried out.

use super::Shifts;
use crate::{
    cli::{Account, Moved, OnBreach, PlanShift},
    exit::{Guarded, Usage},
    verbs::{
        operator::{TableDocument, footer},
        output::{self, Format},
    },
};
use anyhow::Context as _;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use std::path::Path;
use suiyue_proto::{
    method::Class,
    v1::{self, ApplyShiftRequest, PlanShiftRequest, PlanShiftResponse, ShiftOrder, ShiftTarget},
};

/// The document of `shift plan -o json`, and the file of a plan.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The table behind the answer.
    pub table: Option<TableDocument>,
    /// What is ordered.
    pub order: Order,
    /// Name of the plan, in hex.
    pub plan_hash: String,
    /// Fraction of the region's calls that moves.
    pub moves: f64,
    /// Above this fraction another person must approve.
    pub two_person_above: f64,
    /// Another person must approve.
    pub needs_approval: bool,
    /// Gateways whose load is in it.
    pub gateways: Vec<String>,
    /// Nodes that answer for the region.
    pub nodes: Vec<Node>,
    /// What stands in the way.
    pub refusals: Vec<String>,
    /// What may not be meant.
    pub warnings: Vec<String>,
    /// What `shift apply` and `shift approve` send, in hex.
    pub plan: String,
}

/// An order in words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Order {
    /// The region.
    pub region: u32,
    /// Classes; empty: all.
    pub classes: Vec<String>,
    /// The node that calls leave.
    pub from: String,
    /// Where they go, with weights.
    pub to: Vec<(String, f64)>,
    /// How much of the node's share moves in the end.
    pub percent: f64,
    /// Points of a step.
    pub step: f64,
    /// Seconds between two steps.
    pub every_s: u32,
    /// Seconds until it walks back.
    pub ttl_s: u32,
    /// Part of its capacity that a target is filled to.
    pub max_utilization: f64,
    /// Points by which more calls may fail.
    pub error_delta: f64,
    /// Factor by which a p99 may be longer.
    pub p99_factor: f64,
    /// `hold` or `rollback`.
    pub on_breach: String,
    /// Why.
    pub reason: String,
    /// The incident.
    pub incident: String,
}

/// What a node would carry.
#[derive(Debug, Serialize)]
pub struct Node {
    /// The node.
    pub node: String,
    /// It is a target.
    pub target: bool,
    /// Calls a second now.
    pub rps_before: f64,
    /// Calls a second with the whole shift.
    pub rps_after: f64,
    /// What it declared; absent: nothing.
    pub rps_max: Option<f64>,
}

impl From<&ShiftOrder> for Order {
    fn from(order: &ShiftOrder) -> Self {
        let class = |class: &i32| {
            Class::from_proto(*class).map_or_else(|| class.to_string(), |class| class.as_str().to_owned())
        };
        Self {
            region: order.region,
            classes: order.classes.iter().map(class).collect(),
            from: order.from.clone(),
            to: order.to.iter().map(|to| (to.target.clone(), to.weight)).collect(),
            percent: order.percent,
            step: order.step.unwrap_or_default(),
            every_s: order.every_s.unwrap_or_default(),
            ttl_s: order.ttl_s.unwrap_or_default(),
            max_utilization: order.max_utilization.unwrap_or_default(),
            error_delta: order.error_delta.unwrap_or_default(),
            p99_factor: order.p99_factor.unwrap_or_default(),
            on_breach: output::word(order.on_breach().as_str_name(), "ON_BREACH_"),
            reason: order.reason.clone(),
            incident: order.incident.clone(),
        }
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let to: Vec<_> = self.to.iter().map(|(node, _)| node.as_str()).collect();
        let classes = if self.classes.is_empty() { "all".to_owned() } else { self.classes.join(" and ") };
        write!(
            f,
            "{} % of {}'s {classes} calls of {} to {}",
            self.percent,
            self.from,
            self.region,
            to.join(" and ")
        )?;
        match self.every_s {
            0 => write!(f, ", at once")?,
            every => write!(f, ", {} points every {every} s", self.step)?,
        }
        write!(f, ", for {}", output::age(u64::from(self.ttl_s) * 1_000))
    }
}

/// Shows what a shift would do.
///
/// # Errors
/// [`Guarded`]: a guard refuses it, or the gateway cannot judge it.
pub async fn plan(flags: &PlanShift) -> anyhow::Result<()> {
    let mut shifts = Shifts::connect(&flags.ask.gateways(), &Account::default()).await?;
    let without = flags.without.clone();
    let asked = PlanShiftRequest { order: Some(order(flags)), at_rps: flags.at_rps, without };
    let answer = shifts.plan(asked).await?;
    let document = document(&answer, &flags.without, flags.at_rps);
    if let Some(path) = &flags.out {
        let text = serde_json::to_string_pretty(&document)?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    match flags.ask.output {
        Format::Json => output::json(&document)?,
        Format::Table => output::line(&format!("{}{}", told(&document), footer(answer.table.as_ref())))?,
    }
    match document.refusals.first() {
        None => Ok(()),
        Some(refusal) => Err(Guarded(format!("a guard refuses the plan: {refusal} [SHIFT_REFUSED]")).into()),
    }
}

/// As it stands in messages.
pub(crate) const fn on_breach(flag: OnBreach) -> v1::OnBreach {
    match flag {
        OnBreach::Hold => v1::OnBreach::Hold,
        OnBreach::Rollback => v1::OnBreach::Rollback,
    }
}

fn order(flags: &PlanShift) -> ShiftOrder {
    ShiftOrder {
        ttl_s: flags.ttl_s,
        reason: flags.reason.clone().unwrap_or_default(),
        incident: flags.incident.clone().unwrap_or_default(),
        ..moved(&flags.moved)
    }
}

/// The part of an order that says what moves.
pub fn moved(moved: &Moved) -> ShiftOrder {
    let to = moved.to.iter().map(|to| ShiftTarget { target: to.node.clone(), weight: to.weight });
    ShiftOrder {
        region: moved.region.get(),
        classes: moved.classes.iter().map(|class| class.to_proto().into()).collect(),
        from: moved.from.clone(),
        to: to.collect(),
        percent: moved.percent,
        step: moved.step,
        every_s: moved.every_s,
        max_utilization: moved.max_utilization,
        error_delta: moved.error_delta,
        p99_factor: moved.p99_factor,
        on_breach: on_breach(moved.on_breach).into(),
        ..ShiftOrder::default()
    }
}

fn document(answer: &PlanShiftResponse, without: &[String], at_rps: f64) -> Document {
    let carried = ApplyShiftRequest {
        order: answer.order.clone(),
        plan_hash: answer.plan_hash.clone(),
        read: answer.read.clone(),
        without: without.to_vec(),
        at_rps,
        ..ApplyShiftRequest::default()
    };
    let nodes = answer.nodes.iter().map(|node| Node {
        node: node.node.clone(),
        target: node.target,
        rps_before: node.rps_before,
        rps_after: node.rps_after,
        rps_max: (node.rps_max > 0.0).then_some(node.rps_max),
    });
    Document {
        table: answer.table.as_ref().map(TableDocument::from),
        order: Order::from(&answer.order.clone().unwrap_or_default()),
        plan_hash: hex(&answer.plan_hash),
        moves: answer.moves,
        two_person_above: answer.two_person_above,
        needs_approval: answer.needs_approval,
        gateways: answer.gateways.clone(),
        nodes: nodes.collect(),
        refusals: answer.refusals.clone(),
        warnings: answer.warnings.clone(),
        plan: hex(&carried.encode_to_vec()),
    }
}

fn told(document: &Document) -> String {
    let mut text =
        format!("plan {}: {}\n", &document.plan_hash[..12.min(document.plan_hash.len())], document.order);
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    let mut table = output::table(["node", "", "calls/s now", "then", "declared", "used now", "then"]);
    for node in &document.nodes {
        let used = |rps: f64| node.rps_max.map_or("-".to_owned(), |max| format!("{:.2}", rps / max));
        table.add_row([
            node.node.clone(),
            if node.target { "target".to_owned() } else { String::new() },
            format!("{:.1}", node.rps_before),
            format!("{:.1}", node.rps_after),
            node.rps_max.map_or("-".to_owned(), |max| format!("{max:.0}")),
            used(node.rps_before),
            used(node.rps_after),
        ]);
    }
    text.push_str(&format!("{table}\n"));
    text.push_str(&format!("{} of the region's calls move", percent(document.moves)));
    let most = percent(document.two_person_above);
    text.push_str(&match document.needs_approval {
        true => format!(": more than {most}, so that another person must approve\n"),
        false => format!("; up to {most} one person may move\n"),
    });
    text.push_str(&format!("loads of {}\n", document.gateways.join(", ")));
    for refusal in &document.refusals {
        text.push_str(&format!("refused: {refusal}\n"));
    }
    for warning in &document.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

/// Reads the file of a plan.
///
/// # Errors
/// [`Usage`]: it cannot be read, or is no plan.
pub fn read(path: &Path) -> Result<ApplyShiftRequest, Usage> {
    #[derive(Deserialize)]
    struct Saved {
        plan: String,
    }
    let wrong = |problem: &str| Usage(format!("{}: {problem}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
    let no_plan = "it is no plan: `suiyue shift plan --out FILE` writes one";
    let saved: Saved = serde_json::from_str(&text).map_err(|_| wrong(no_plan))?;
    let plan = unhex(&saved.plan).and_then(|bytes| ApplyShiftRequest::decode(&bytes[..]).ok());
    plan.filter(|plan| plan.order.is_some()).ok_or_else(|| wrong(no_plan))
}

/// Bytes in hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> PlanShiftResponse {
        PlanShiftResponse {
            order: Some(ShiftOrder {
                region: 440_100,
                from: "suikang".to_owned(),
                to: vec![ShiftTarget { target: "yuekang".to_owned(), weight: 1.0 }],
                percent: 30.0,
                step: Some(10.0),
                every_s: Some(30),
                ttl_s: Some(7_200),
                ..ShiftOrder::default()
            }),
            plan_hash: vec![7; 32].into(),
            read: vec![v1::ReadKey { key: "regions/440100".to_owned(), mod_revision: 5 }],
            nodes: vec![v1::NodeLoad {
                node: "yuekang".to_owned(),
                rps_before: 10.0,
                rps_after: 90.0,
                rps_max: 100.0,
                target: true,
            }],
            moves: 0.3,
            needs_approval: true,
            two_person_above: 0.2,
            ..PlanShiftResponse::default()
        }
    }

    #[test]
    fn a_plan_is_the_same_when_it_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shift.json");
        let document = document(&answer(), &["gw-2".to_owned()], 4_000.0);
        std::fs::write(&path, serde_json::to_string(&document).unwrap()).unwrap();
        let plan = read(&path).unwrap();
        assert_eq!((plan.order, plan.read), (answer().order, answer().read));
        assert_eq!((plan.plan_hash, plan.without), (answer().plan_hash, vec!["gw-2".to_owned()]));
        for wrong in ["", "{}", r#"{"plan":"zz"}"#, r#"{"plan":"0"}"#, r#"{"plan":""}"#, r#"{"plan":"é0"}"#]
        {
            std::fs::write(&path, wrong).unwrap();
            assert!(read(&path).unwrap_err().0.contains("no plan"), "{wrong}");
        }
        assert!(read(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn the_table_names_loads_and_who_must_approve() {
        let text = told(&document(&answer(), &[], 0.0));
        for words in [
            "30 % of suikang's all calls of 440100 to yuekang, 10 points every 30 s, for 2 h",
            "| yuekang   target   10.0          90.0   100        0.10       0.90 |",
            "30.0 % of the region's calls move: more than 20.0 %, so that another person must approve",
        ] {
            assert!(text.contains(words), "{words:?}:\n{text}");
        }
    }
}

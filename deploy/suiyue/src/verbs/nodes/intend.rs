//! How is what is wanted of a node changed? (`suiyue node promote|suspend|drain|undrain`)
//!
//! The present intent is read, changed in one respect, and replaced if it is still the one that was
//! read. What the gateway refuses ends with exit code 3 and the reason.

use super::Intent;
use crate::{
    cli::{self, To},
    exit::Guarded,
    verbs::{
        operator::{Operator, TableDocument, footer},
        output::{self, Format},
        refusal,
        regions::describe::{candidates, goes_to, word},
        route::Candidate,
        shifts::approve,
    },
};
use anyhow::anyhow;
use serde::Serialize;
use std::time::Duration;
use suiyue_proto::{
    reason::Reason,
    v1::{NodeIntent, SetNodeIntentRequest, SetNodeIntentResponse, Stage},
};
use tonic::Status;

const LOOK_AGAIN: Duration = Duration::from_millis(20);
const APPLIED_WITHIN: Duration = Duration::from_secs(2);

/// The document of these verbs with `-o json`; the fields are those of `SetNodeIntentResponse`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The table behind the answer.
    pub table: Option<TableDocument>,
    /// The node.
    pub node: String,
    /// Its own region.
    pub region: u32,
    /// What was wanted of it before.
    pub before: Intent,
    /// What is wanted of it now; with `dry_run` what would be.
    pub intent: Intent,
    /// Revision of the intent now; with `dry_run` of the one that would be replaced.
    pub intent_revision: i64,
    /// Nothing was to be written.
    pub dry_run: bool,
    /// The registry was written.
    pub written: bool,
    /// What is allowed but may not be meant.
    pub warnings: Vec<String>,
    /// What becomes of the calls of its regions and classes; empty for a node that is still to come.
    pub routes: Vec<Change>,
}

/// What becomes of the route of one region and class.
#[derive(Debug, Serialize)]
pub struct Change {
    /// The region.
    pub region: u32,
    /// The class.
    pub class: String,
    /// Every candidate, before.
    pub before: Vec<Candidate>,
    /// Every candidate with the new intent, computed from the same inputs.
    pub after: Vec<Candidate>,
}

/// Trusts a node with more calls.
///
/// # Errors
/// [`Guarded`] where the gateway refuses, another one when no gateway or registry can be reached.
pub async fn promote(flags: &cli::Promote) -> anyhow::Result<()> {
    let region = flags.region.map_or(0, suiyue_proto::region::Code::get);
    let change = |intent: &mut NodeIntent| {
        (intent.stage, intent.canary_percent) = match flags.to {
            Some(to) => stage(to),
            None => next(intent.stage(), intent.canary_percent),
        };
    };
    intend(&flags.intend, region, change).await
}

/// Trusts a node with no calls.
///
/// # Errors
/// As [`promote`].
pub async fn suspend(flags: &cli::Suspend) -> anyhow::Result<()> {
    let change = |intent: &mut NodeIntent| {
        (intent.stage, intent.canary_percent) = (Stage::Suspended.into(), 0);
    };
    intend(&flags.intend, 0, change).await
}

/// Sends a node, or some of its endpoints, no new calls.
///
/// # Errors
/// As [`promote`].
pub async fn drain(flags: &cli::Drain) -> anyhow::Result<()> {
    let change = |intent: &mut NodeIntent| match &flags.endpoints[..] {
        [] => intent.drained = true,
        endpoints => intent.drained_endpoints.extend_from_slice(endpoints),
    };
    intend(&flags.intend, 0, change).await
}

/// Sends them calls again.
///
/// # Errors
/// As [`promote`].
pub async fn undrain(flags: &cli::Drain) -> anyhow::Result<()> {
    let change = |intent: &mut NodeIntent| match &flags.endpoints[..] {
        [] => {
            intent.drained = false;
            intent.drained_endpoints.clear();
        }
        endpoints => intent.drained_endpoints.retain(|name| !endpoints.contains(name)),
    };
    intend(&flags.intend, 0, change).await
}

fn stage(to: To) -> (i32, u32) {
    match to {
        To::Test => (Stage::Test.into(), 0),
        To::Canary1 => (Stage::Canary.into(), 1),
        To::Canary5 => (Stage::Canary.into(), 5),
        To::Canary25 => (Stage::Canary.into(), 25),
        To::Active => (Stage::Active.into(), 0),
    }
}

/// One stage up; who is active stays so.
fn next(now: Stage, percent: u32) -> (i32, u32) {
    stage(match (now, percent) {
        (Stage::Suspended, _) => To::Test,
        (Stage::Test, _) => To::Canary1,
        (Stage::Canary, 1) => To::Canary5,
        (Stage::Canary, 25) | (Stage::Active | Stage::Unspecified, _) => To::Active,
        (Stage::Canary, _) => To::Canary25,
    })
}

async fn intend(
    flags: &cli::Intend,
    region: u32,
    change: impl FnOnce(&mut NodeIntent),
) -> anyhow::Result<()> {
    let mut operator = Operator::connect(&flags.ask.gateways()).await?;
    operator.on_account(&flags.account)?;
    let nodes = operator.nodes(0).await?.nodes;
    let present = nodes.into_iter().find(|node| node.node == flags.node).unwrap_or_default();
    let mut intent = present.intent.unwrap_or_default();
    change(&mut intent);
    let asked = SetNodeIntentRequest {
        node: flags.node.clone(),
        region,
        intent: Some(intent.clone()),
        expected_revision: present.intent_revision,
        dry_run: flags.dry_run,
        force: flags.force,
        without: flags.without.clone(),
    };
    if flags.approve {
        let words = format!("of {}: {}", flags.node, Intent::from(&intent));
        return approve::intent(&flags.ask, &flags.account, asked, &words).await;
    }
    let answer = operator.set_intent(asked).await.map_err(|status| {
        let status = if flags.dry_run { status } else { refusal::heard(status) };
        refused(&operator, &status)
    })?;
    if answer.written {
        applied(&mut operator, answer.intent_revision).await;
    }
    let document = document(&answer, flags, &intent);
    if flags.ask.output == Format::Json {
        return output::json(&document);
    }
    output::line(&format!("{}{}", told(&document), footer(answer.table.as_ref())))
}

/// Waits, for a moment at most, until the gateway goes by it: what is asked of it next is then answered by
/// what was just said.
async fn applied(operator: &mut Operator, revision: i64) {
    let read = async {
        while let Ok(answer) = operator.nodes(0).await {
            if answer.table.is_some_and(|table| table.revision >= revision) {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if tokio::time::timeout(APPLIED_WITHIN, read).await.is_err() {
        tracing::warn!(revision, "it is written, but the gateway has not read it yet");
    }
}

/// Exit code 3 where the gateway looked at it and refused.
fn refused(operator: &Operator, status: &Status) -> anyhow::Error {
    let line = operator.refused("SetNodeIntent", status);
    match Reason::of(status) {
        Some(
            Reason::NodeUnknown
            | Reason::EndpointUnknown
            | Reason::IntentInvalid
            | Reason::IntentChanged
            | Reason::StageSkipped
            | Reason::ReasonRequired
            | Reason::RoleInsufficient
            | Reason::AuditBroken
            | Reason::NobodyLeft
            | Reason::ShiftRefused
            | Reason::ApprovalNeeded
            | Reason::ApprovalOwn
            | Reason::PlanStale
            | Reason::GatewaySilent
            | Reason::RegionNotRouted
            | Reason::RegionUnknown
            | Reason::RegionRetired
            | Reason::RegistryNone,
        ) => Guarded(line).into(),
        _ => anyhow!(line),
    }
}

fn document(answer: &SetNodeIntentResponse, flags: &cli::Intend, intent: &NodeIntent) -> Document {
    let mut routes = Vec::new();
    for region in &answer.routes {
        routes.extend(region.before.iter().map(|route| Change {
            region: region.region,
            class: word(route.class),
            before: candidates(&region.before, route.class),
            after: candidates(&region.after, route.class),
        }));
    }
    Document {
        table: answer.table.as_ref().map(TableDocument::from),
        node: flags.node.clone(),
        region: answer.region,
        before: Intent::from(&answer.before.clone().unwrap_or_default()),
        intent: Intent::from(intent),
        intent_revision: answer.intent_revision,
        dry_run: flags.dry_run,
        written: answer.written,
        warnings: answer.warnings.clone(),
        routes,
    }
}

fn told(document: &Document) -> String {
    let Document { node, before, intent, intent_revision, .. } = document;
    let mut text = match (document.written, document.dry_run && before != intent) {
        (true, _) => format!("{node} was {before}, is {intent}; revision {intent_revision}\n"),
        (false, true) => format!("dry run: {node} is {before}, can be {intent}\n"),
        (false, false) => format!("nothing written: {node} is {before}\n"),
    };
    let mut table = output::table(["region", "class", "calls go to", "afterwards"]);
    for change in &document.routes {
        let region = change.region.to_string();
        table.add_row([region, change.class.clone(), goes_to(&change.before), goes_to(&change.after)]);
    }
    if !document.routes.is_empty() {
        text.push_str(&format!("{table}\n"));
    }
    for warning in &document.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_stage_is_one_up() {
        let check = |now: (Stage, u32), expected: To| assert_eq!(next(now.0, now.1), stage(expected));
        check((Stage::Suspended, 0), To::Test);
        check((Stage::Test, 0), To::Canary1);
        check((Stage::Canary, 1), To::Canary5);
        check((Stage::Canary, 0), To::Canary25);
        check((Stage::Canary, 5), To::Canary25);
        check((Stage::Canary, 25), To::Active);
        check((Stage::Active, 0), To::Active);
        check((Stage::Unspecified, 0), To::Active);
    }

    #[test]
    fn an_intent_is_told_in_words() {
        let check = |intent: NodeIntent, expected: &str| {
            assert_eq!(Intent::from(&intent).to_string(), expected);
        };
        check(NodeIntent::default(), "active");
        check(NodeIntent { stage: Stage::Canary.into(), ..Default::default() }, "canary-5");
        check(
            NodeIntent { stage: Stage::Canary.into(), canary_percent: 25, ..Default::default() },
            "canary-25",
        );
        let drained_endpoints = vec!["a-1".to_owned(), "a-2".to_owned()];
        let intent = NodeIntent { drained: true, drained_endpoints, ..Default::default() };
        check(intent, "active, drained, drained endpoints: a-1 a-2");
    }
}

//! May this file be a region's policy, and what does it change? (`suiyue region set`)
//!
//! The file names the revision it was made from, or the present one is read first; the gateway replaces
//! exactly that one. What the gateway refuses is told with the line of the file where it stands.

use super::{
    describe::{candidates, goes_to, word},
    file::Policy,
};
use crate::{
    cli::SetPolicy,
    exit::{Guarded, Usage},
    verbs::{
        file::{self, Text},
        operator::{Operator, TableDocument, footer},
        output::{self, Format},
        refusal,
        route::Candidate,
        shifts::approve,
    },
};
use anyhow::anyhow;
use serde::Serialize;
use suiyue_proto::{
    reason::Reason,
    v1::{SetRegionPolicyRequest, SetRegionPolicyResponse},
};
use tonic::Status;

/// The document of `region set -o json`; the fields are those of `SetRegionPolicyResponse`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The table behind the checks and the routes.
    pub table: Option<TableDocument>,
    /// The region.
    pub region: u32,
    /// Revision of the policy now; with `dry_run` of the one that would be replaced.
    pub policy_revision: i64,
    /// Nothing was to be written.
    pub dry_run: bool,
    /// The registry was written.
    pub written: bool,
    /// What is allowed but may not be meant.
    pub warnings: Vec<String>,
    /// Routes of every class, highest first; empty: nobody serves the region.
    pub routes: Vec<Change>,
}

/// What becomes of the route of one class.
#[derive(Debug, Serialize)]
pub struct Change {
    /// The class.
    pub class: String,
    /// Every candidate, before.
    pub before: Vec<Candidate>,
    /// Every candidate with the new policy, computed from the same inputs.
    pub after: Vec<Candidate>,
}

impl Document {
    fn new(answer: &SetRegionPolicyResponse, dry_run: bool) -> Self {
        let routes = answer.before.iter().map(|route| Change {
            class: word(route.class),
            before: candidates(&answer.before, route.class),
            after: candidates(&answer.after, route.class),
        });
        Self {
            table: answer.table.as_ref().map(TableDocument::from),
            region: answer.region,
            policy_revision: answer.policy_revision,
            dry_run,
            written: answer.written,
            warnings: answer.warnings.clone(),
            routes: routes.collect(),
        }
    }
}

/// Replaces the policy of a region.
///
/// # Errors
/// [`Usage`] where the file is wrong, [`Guarded`] where the gateway refuses what it says, another one
/// when no gateway or registry can be reached.
pub async fn set(flags: &SetPolicy) -> anyhow::Result<()> {
    let (policy, text) = file::read::<Policy>(&flags.file)?;
    let region = flags.region.get();
    if let Some(other) = policy.region.filter(|&other| other != region) {
        let place = text.place("region");
        return Err(Usage(format!("{place}: region: the file is of {other}, not of {region}")).into());
    }
    let mut operator = Operator::connect(&flags.ask.gateways()).await?;
    operator.on_account(&flags.account)?;
    let expected_revision = match policy.revision {
        Some(revision) => revision,
        None => operator.describe(region).await?.policy_revision,
    };
    let asked = SetRegionPolicyRequest {
        region,
        policy: Some(policy.message()),
        expected_revision,
        dry_run: flags.dry_run,
        allow_unregistered: flags.allow_unregistered,
        force: flags.force,
        without: flags.without.clone(),
    };
    if flags.approve {
        let words = format!("of {region}: {}", flags.file.display());
        return approve::policy(&flags.ask, &flags.account, asked, &words).await;
    }
    let answer = operator.set_policy(asked).await.map_err(|status| {
        let status = if flags.dry_run { status } else { refusal::heard(status) };
        refused(&operator, &status, &text)
    })?;
    let document = Document::new(&answer, flags.dry_run);
    if flags.ask.output == Format::Json {
        return output::json(&document);
    }
    output::line(&format!("{}{}", told(&document), footer(answer.table.as_ref())))
}

/// Exit code 3 where the gateway looked at the file and refused, with the line of the field.
fn refused(operator: &Operator, status: &Status, text: &Text) -> anyhow::Error {
    let line = operator.refused("SetRegionPolicy", status);
    match Reason::of(status) {
        Some(Reason::PolicyInvalid) => {
            let detail = |key| refusal::detail(status, key).unwrap_or_default();
            let (field, problem, expected) = (detail("field"), detail("problem"), detail("expected"));
            let place = text.place(&field);
            Guarded(format!("{place}: {field}: expected {expected} [POLICY_INVALID {problem}]")).into()
        }
        Some(
            Reason::PolicyChanged
            | Reason::ShiftRefused
            | Reason::ApprovalNeeded
            | Reason::ApprovalOwn
            | Reason::PlanStale
            | Reason::GatewaySilent
            | Reason::RegionNotRouted
            | Reason::RegionUnknown
            | Reason::RegionRetired
            | Reason::RegistryNone
            | Reason::ReasonRequired
            | Reason::RoleInsufficient
            | Reason::AuditBroken,
        ) => Guarded(line).into(),
        _ => anyhow!(line),
    }
}

fn told(document: &Document) -> String {
    let Document { region, policy_revision, .. } = document;
    let mut text = match (document.written, document.dry_run) {
        (true, _) => format!("the policy of {region} is written, revision {policy_revision}\n"),
        (false, true) if *policy_revision == 0 => {
            format!("dry run: the policy of {region} can be set; there is none yet\n")
        }
        (false, true) => {
            format!("dry run: the policy of {region} can be set; revision {policy_revision} stands there\n")
        }
        (false, false) => {
            format!("nothing written: the same policy of {region} stands there, revision {policy_revision}\n")
        }
    };
    if !document.routes.is_empty() {
        let mut table = output::table(["class", "calls go to", "with this policy"]);
        for change in &document.routes {
            table.add_row([change.class.clone(), goes_to(&change.before), goes_to(&change.after)]);
        }
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
    fn a_gateway_that_does_not_answer_may_have_written() {
        let check = |status: Status, expected| assert_eq!(Reason::of(&refusal::heard(status)), expected);
        // What the client itself says when its ten seconds are over.
        check(Status::cancelled("Timeout expired"), Some(Reason::WriteUnknown));
        check(Status::unavailable("connection reset"), Some(Reason::WriteUnknown));
        check(Reason::RegistryUnavailable.status(), Some(Reason::RegistryUnavailable));
        check(Status::unimplemented(""), None);
    }
}

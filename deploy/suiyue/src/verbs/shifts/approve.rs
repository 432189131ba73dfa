//! Says another person yes to a drain, a stage or a policy? (`node drain --approve`, `region set --approve`)
//!
//! The gateway is asked what the change would do, and what it names that plan is what is approved: the same
//! request of somebody else then passes, once, while nothing has changed.

use super::{Shifts, plan::hex};
use crate::{
    cli::{Account, Ask},
    exit::Guarded,
    verbs::{
        audit::utc,
        operator::Operator,
        output::{self, Format},
    },
};
use serde::Serialize;
use suiyue_proto::v1::{ApproveShiftRequest, SetNodeIntentRequest, SetRegionPolicyRequest};

/// The document of these verbs with `-o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// Name of the plan, in hex.
    pub plan_hash: String,
    /// Fraction of a region's calls that moves.
    pub moves: f64,
    /// Until when, in milliseconds since 1970.
    pub until_unix_ms: i64,
}

/// Approves what is to be wanted of a node.
///
/// # Errors
/// As [`super::run`].
pub async fn intent(
    ask: &Ask,
    account: &Account,
    asked: SetNodeIntentRequest,
    words: &str,
) -> anyhow::Result<()> {
    let mut operator = Operator::connect(&ask.gateways()).await?;
    let rehearsal = SetNodeIntentRequest { dry_run: true, ..asked.clone() };
    let answer = operator.set_intent(rehearsal).await;
    let answer = answer.map_err(|status| Guarded(operator.refused("SetNodeIntent", &status)))?;
    let (plan_hash, intent) = (answer.plan_hash, Some(asked));
    let approval = ApproveShiftRequest { plan_hash, intent, ..Default::default() };
    approve(ask, account, approval, (answer.moves, words)).await
}

/// Approves a policy.
///
/// # Errors
/// As [`super::run`].
pub async fn policy(
    ask: &Ask,
    account: &Account,
    asked: SetRegionPolicyRequest,
    words: &str,
) -> anyhow::Result<()> {
    let mut operator = Operator::connect(&ask.gateways()).await?;
    let rehearsal = SetRegionPolicyRequest { dry_run: true, ..asked.clone() };
    let answer = operator.set_policy(rehearsal).await;
    let answer = answer.map_err(|status| Guarded(operator.refused("SetRegionPolicy", &status)))?;
    let (plan_hash, policy) = (answer.plan_hash, Some(asked));
    let approval = ApproveShiftRequest { plan_hash, policy, ..Default::default() };
    approve(ask, account, approval, (answer.moves, words)).await
}

async fn approve(
    ask: &Ask,
    account: &Account,
    approval: ApproveShiftRequest,
    (moves, words): (f64, &str),
) -> anyhow::Result<()> {
    if approval.plan_hash.is_empty() {
        return Err(Guarded("there is nothing to approve: it stands like that already".to_owned()).into());
    }
    let plan_hash = hex(&approval.plan_hash);
    let mut shifts = Shifts::connect(&ask.gateways(), account).await?;
    let until_unix_ms = shifts.approve(approval).await?.until_unix_ms;
    if ask.output == Format::Json {
        return output::json(&Document { plan_hash, moves, until_unix_ms });
    }
    let (until, percent) = (utc(until_unix_ms), moves * 100.0);
    output::line(&format!(
        "approved until {until}, for once: {percent:.1} % of calls move with what is wanted {words}"
    ))
}

//! What is a gateway told to make of the registry? (`suiyue registry freeze`, `suiyue registry accept`)

use super::status::Held;
use crate::{
    cli::{Account, Ask},
    verbs::{
        operator::Operator,
        output::{self, Format},
    },
};
use serde::Serialize;
use suiyue_proto::v1::{
    AcceptRegistryRequest, AcceptRegistryResponse, FreezeRegistryRequest, FreezeRegistryResponse,
};

/// The document of `registry freeze -o json`.
#[derive(Debug, Serialize)]
pub struct Frozen {
    /// The gateway.
    pub gateway: String,
    /// Nothing was changed: it is what would happen.
    pub dry_run: bool,
    /// It is frozen now, or would be.
    pub frozen: bool,
    /// Something changed, or would.
    pub changed: bool,
    /// Keys that the end of the freeze changes.
    pub differing: u64,
    /// It stands in the audit.
    pub audited: bool,
}

/// The document of `registry accept -o json`.
#[derive(Debug, Serialize)]
pub struct Accepted {
    /// The gateway.
    pub gateway: String,
    /// Nothing was changed: it is what would happen.
    pub dry_run: bool,
    /// What was held.
    pub accepted: Vec<Held>,
    /// Nodes that are gone with it.
    pub nodes_gone: Vec<String>,
    /// Regions that nobody serves any more.
    pub regions_empty: Vec<u32>,
}

/// Freezes a gateway, or ends it.
///
/// # Errors
/// When no gateway can be reached, or it refuses.
pub async fn freeze(ask: &Ask, account: &Account, order: FreezeRegistryRequest) -> anyhow::Result<()> {
    let dry_run = order.dry_run;
    let mut operator = Operator::connect(&ask.gateways()).await?;
    operator.on_account(account)?;
    let answer = operator.freeze(order).await?;
    match ask.output {
        Format::Json => output::json(&Frozen {
            gateway: answer.gateway.clone(),
            dry_run,
            frozen: answer.frozen,
            changed: answer.changed,
            differing: answer.differing,
            audited: answer.audited,
        }),
        Format::Table => output::line(&frozen(&answer, dry_run)),
    }
}

fn frozen(answer: &FreezeRegistryResponse, dry_run: bool) -> String {
    let FreezeRegistryResponse { gateway, differing, .. } = answer;
    let would = if dry_run { "dry run: " } else { "" };
    let unaudited = if dry_run || answer.audited { "" } else { "; the audit could not be written" };
    match (answer.frozen, answer.changed) {
        (true, true) => format!(
            "{would}{gateway} is FROZEN: it applies nothing that the registry says, until `--off` or its restart{unaudited}"
        ),
        (true, false) => format!("{would}{gateway} is frozen already; {differing} keys are kept out"),
        (false, true) => format!("{would}{gateway} goes on: {differing} keys that were kept out are applied"),
        (false, false) => format!("{would}{gateway} is not frozen"),
    }
}

/// Accepts what a gateway holds back.
///
/// # Errors
/// When no gateway can be reached, or it refuses.
pub async fn accept(ask: &Ask, account: &Account, order: AcceptRegistryRequest) -> anyhow::Result<()> {
    let dry_run = order.dry_run;
    let mut operator = Operator::connect(&ask.gateways()).await?;
    operator.on_account(account)?;
    let answer = operator.accept(order).await?;
    match ask.output {
        Format::Json => output::json(&Accepted {
            gateway: answer.gateway.clone(),
            dry_run,
            accepted: answer.accepted.iter().map(Held::from).collect(),
            nodes_gone: answer.nodes_gone.clone(),
            regions_empty: answer.regions_empty.clone(),
        }),
        Format::Table => output::line(&accepted(&answer, dry_run)),
    }
}

fn accepted(answer: &AcceptRegistryResponse, dry_run: bool) -> String {
    let AcceptRegistryResponse { gateway, accepted, nodes_gone, regions_empty } = answer;
    if accepted.is_empty() {
        return format!("{gateway} holds nothing");
    }
    let head = if dry_run { "dry run: would accept" } else { "accepted" };
    let mut text = format!("{head} the absence of {} keys at {gateway}", accepted.len());
    for held in accepted {
        text.push_str(&format!("\n  {} ({})", held.key, held.cause));
    }
    if !nodes_gone.is_empty() {
        text.push_str(&format!("\nnodes without an endpoint: {}", nodes_gone.join(", ")));
    }
    if !regions_empty.is_empty() {
        let codes: Vec<_> = regions_empty.iter().map(u32::to_string).collect();
        text.push_str(&format!("\nregions that nobody serves: {}", codes.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use suiyue_proto::v1::HeldEntry;

    #[test]
    fn a_freeze_is_told_loudly_and_its_end_with_what_it_lets_in() {
        let answer = |frozen, changed| FreezeRegistryResponse {
            gateway: "gw-1".to_owned(),
            frozen,
            changed,
            differing: 7,
            audited: false,
        };
        let text = super::frozen(&answer(true, true), false);
        assert!(text.contains("gw-1 is FROZEN") && text.contains("audit could not be written"), "{text}");
        assert!(super::frozen(&answer(true, false), false).contains("already; 7 keys"));
        assert!(super::frozen(&answer(false, true), true).starts_with("dry run: gw-1 goes on: 7 keys"));
        assert!(super::frozen(&answer(false, false), false).contains("is not frozen"));
    }

    #[test]
    fn what_is_accepted_is_named_with_what_is_lost() {
        let held = HeldEntry { key: "/a".to_owned(), cause: "too_many".to_owned(), ..Default::default() };
        let mut answer = AcceptRegistryResponse {
            gateway: "gw-1".to_owned(),
            accepted: vec![held],
            nodes_gone: vec!["suikang".to_owned()],
            regions_empty: vec![440_100],
        };
        let text = accepted(&answer, true);
        for part in ["dry run", "/a (too_many)", "suikang", "440100"] {
            assert!(text.contains(part), "{text}");
        }
        answer.accepted.clear();
        assert_eq!(accepted(&answer, false), "gw-1 holds nothing");
    }
}

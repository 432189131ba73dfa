//! What is ordered past the registry? (`suiyue breakglass …`)
//!
//! The gateway of this machine is asked over its unix socket: no certificate, no network, no etcd. Each
//! answer begins with how little was done: this gateway only, one of so many.

use super::{
    audit::utc,
    output::{self, Format},
    refusal,
    shifts::plan::{self, Order},
};
use crate::{
    cli::{At, Bounds, Break, BreakNode, Breakglass, CancelBreak},
    exit::{Guarded, Usage},
};
use anyhow::anyhow;
use serde::Serialize;
use std::{path::Path, time::Duration};
use suiyue_proto::{
    reason::Reason,
    v1::{
        BreakglassAction, BreakglassScope, CancelBreakglassRequest, ListBreakglassRequest,
        OrderBreakglassRequest, breakglass_action::What, breakglass_service_client::BreakglassServiceClient,
        order_breakglass_request,
    },
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// The gateway waits 2 s for the loads of others, and for its disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The document of these verbs with `-o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The one gateway that is changed.
    pub gateway: String,
    /// How many there are, as the registry last said.
    pub gateways: u32,
    /// The others: id and control address.
    pub others: Vec<(String, String)>,
    /// Milliseconds since the registry was heard; absent: there is none.
    pub registry_age_ms: Option<u64>,
    /// Entries that the audit does not have yet.
    pub untold: u32,
    /// Nothing was to be done.
    pub dry_run: bool,
    /// The actions: the one that was ordered, those that were ended, or those in force.
    pub actions: Vec<Action>,
    /// Actions whose place it takes.
    pub replaces: Vec<String>,
    /// What nodes carry at the gateways that answer: node, calls a second before and after, what it declared.
    pub nodes: Vec<(String, f64, f64, Option<f64>)>,
    /// What may not be meant, and guards that were overruled.
    pub warnings: Vec<String>,
}

/// One action.
#[derive(Debug, Serialize)]
pub struct Action {
    /// Its id.
    pub id: String,
    /// `drain`, `undrain` or `shift`.
    pub kind: String,
    /// The node that is drained or not.
    pub node: Option<String>,
    /// What is shifted.
    pub shift: Option<Order>,
    /// Where a shift stands, 0 to 100.
    pub percent: Option<f64>,
    /// The breach that holds it or took it back.
    pub breach: Option<String>,
    /// When it began.
    pub began: String,
    /// When nothing is left of it.
    pub ends: String,
    /// The user that ordered it.
    pub user: String,
    /// The name that they gave.
    pub says: Option<String>,
    /// Why.
    pub reason: String,
    /// A guard was overruled.
    pub forced: bool,
    /// Part of this gateway's calls of a region that it moved by the preview.
    pub moves: f64,
}

/// Runs one of the verbs.
///
/// # Errors
/// [`Guarded`] where the gateway refuses, another one when nobody answers at the socket.
pub async fn run(verb: &Breakglass) -> anyhow::Result<()> {
    use order_breakglass_request::What;
    match verb {
        Breakglass::Drain(flags) => node(flags, What::Drain(flags.node.clone())).await,
        Breakglass::Undrain(flags) => node(flags, What::Undrain(flags.node.clone())).await,
        Breakglass::Shift(flags) => {
            order(What::Shift(plan::moved(&flags.moved)), &flags.bounds, &flags.order).await
        }
        Breakglass::Cancel(flags) => cancel(flags).await,
        Breakglass::List { at } => list(at).await,
    }
}

async fn node(flags: &BreakNode, what: order_breakglass_request::What) -> anyhow::Result<()> {
    order(what, &flags.bounds, &flags.order).await
}

async fn connect(socket: &Path) -> anyhow::Result<BreakglassServiceClient<Channel>> {
    let Some(path) = socket.to_str() else {
        return Err(Usage("--socket: a path in UTF-8".to_owned()).into());
    };
    let absolute = std::path::absolute(path)?;
    let endpoint = Endpoint::from_shared(format!("unix:{}", absolute.display()))
        .map_err(|_| Usage(format!("--socket: {path:?} cannot be used")))?
        .timeout(ANSWER_WITHIN);
    let channel = endpoint.connect().await.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        anyhow!("no gateway answers at {path}: {cause}: check --socket, and that you are its user or root")
    })?;
    Ok(BreakglassServiceClient::new(channel))
}

async fn order(what: order_breakglass_request::What, bounds: &Bounds, flags: &Break) -> anyhow::Result<()> {
    let asked = OrderBreakglassRequest {
        what: Some(what),
        ttl_s: seconds(bounds.ttl_s)?,
        reason: flags.reason.clone(),
        actor: flags.actor.clone().unwrap_or_default(),
        force: bounds.force,
        dry_run: flags.dry_run,
    };
    let answer = connect(&flags.at.socket).await?.order_breakglass(asked).await;
    let answer = answer.map_err(|status| refused(&status))?.into_inner();
    let mut document = document(answer.scope, flags.dry_run, answer.action.as_slice());
    let most = |rps_max: f64| (rps_max > 0.0).then_some(rps_max);
    document.nodes =
        answer.nodes.into_iter().map(|n| (n.node, n.rps_before, n.rps_after, most(n.rps_max))).collect();
    (document.replaces, document.warnings) = (answer.replaces, answer.warnings);
    let head = if flags.dry_run { "dry run: this can be done" } else { "in force" };
    tell(&flags.at, head, &document)
}

/// 0 would be the gateway's default.
fn seconds(ttl_s: u32) -> Result<u32, Usage> {
    if ttl_s > 0 { Ok(ttl_s) } else { Err(Usage("--ttl-s: 1 to 1800 seconds are wanted".to_owned())) }
}

async fn cancel(flags: &CancelBreak) -> anyhow::Result<()> {
    let order = &flags.order;
    let asked = CancelBreakglassRequest {
        id: flags.id.clone().unwrap_or_default(),
        reason: order.reason.clone(),
        actor: order.actor.clone().unwrap_or_default(),
        dry_run: order.dry_run,
    };
    let answer = connect(&order.at.socket).await?.cancel_breakglass(asked).await;
    let answer = answer.map_err(|status| refused(&status))?.into_inner();
    let head = match (answer.actions.is_empty(), order.dry_run) {
        (true, _) => "nothing is in force",
        (false, true) => "dry run: this would end",
        (false, false) => "cancelled",
    };
    tell(&order.at, head, &document(answer.scope, order.dry_run, &answer.actions))
}

async fn list(at: &At) -> anyhow::Result<()> {
    let answer = connect(&at.socket).await?.list_breakglass(ListBreakglassRequest {}).await;
    let answer = answer.map_err(|status| refused(&status))?.into_inner();
    let head = if answer.actions.is_empty() { "nothing is in force" } else { "in force" };
    tell(at, head, &document(answer.scope, false, &answer.actions))
}

/// Exit code 3 where the gateway looked at it and refused.
fn refused(status: &Status) -> anyhow::Error {
    let line = refusal::describe(status);
    match Reason::of(status) {
        Some(Reason::BreakglassUnwritten) | None => anyhow!(line),
        Some(_) => Guarded(line).into(),
    }
}

fn document(scope: Option<BreakglassScope>, dry_run: bool, actions: &[BreakglassAction]) -> Document {
    let scope = scope.unwrap_or_default();
    Document {
        gateway: scope.gateway,
        gateways: scope.gateways,
        others: scope.others.into_iter().map(|other| (other.id, other.control_address)).collect(),
        registry_age_ms: scope.registry_age_ms,
        untold: scope.untold,
        dry_run,
        actions: actions.iter().map(Action::from).collect(),
        replaces: Vec::new(),
        nodes: Vec::new(),
        warnings: Vec::new(),
    }
}

impl From<&BreakglassAction> for Action {
    fn from(action: &BreakglassAction) -> Self {
        let actor = action.actor.clone().unwrap_or_default();
        let (kind, node, shift) = match &action.what {
            Some(What::Drain(node)) => ("drain", Some(node.clone()), None),
            Some(What::Undrain(node)) => ("undrain", Some(node.clone()), None),
            Some(What::Shift(shift)) => ("shift", None, Some(shift)),
            None => ("unknown", None, None),
        };
        Self {
            id: action.id.clone(),
            kind: kind.to_owned(),
            node,
            shift: shift.and_then(|shift| shift.order.as_ref()).map(Order::from),
            percent: shift.map(|_| action.percent),
            breach: shift.and_then(|shift| shift.breach.as_ref()).map(super::shifts::list::breach),
            began: utc(action.start_unix_ms),
            ends: utc(action.ends_unix_ms),
            user: if actor.user.is_empty() { format!("uid-{}", actor.uid) } else { actor.user },
            says: (!actor.says.is_empty()).then_some(actor.says),
            reason: action.reason.clone(),
            forced: action.forced,
            moves: action.moves,
        }
    }
}

impl Action {
    fn line(&self) -> String {
        let what = match (&self.node, &self.shift) {
            (Some(node), _) => format!("{} {node}", self.kind),
            (None, Some(order)) => format!("shift {order}, now {:.0} %", self.percent.unwrap_or(0.0)),
            (None, None) => self.kind.clone(),
        };
        let says = self.says.as_ref().map_or_else(String::new, |says| format!(" (says {says})"));
        let breach = self.breach.as_ref().map_or_else(String::new, |breach| format!("; {breach}"));
        let forced = if self.forced { ", by force" } else { "" };
        format!(
            "{}: {what}, until {}{forced}, by {}{says}: {}{breach}",
            self.id, self.ends, self.user, self.reason
        )
    }
}

fn tell(at: &At, head: &str, document: &Document) -> anyhow::Result<()> {
    if at.output == Format::Json {
        return output::json(document);
    }
    output::line(&text(head, document))
}

fn text(head: &str, document: &Document) -> String {
    let Document { gateway, gateways, .. } = document;
    let mut text = format!("{head} (this gateway only, {gateway}: 1 of {gateways})\n");
    for action in &document.actions {
        text.push_str(&format!("  {}\n", action.line()));
    }
    for replaced in &document.replaces {
        text.push_str(&format!("it takes the place of {replaced}\n"));
    }
    for (node, before, after, most) in &document.nodes {
        let most = most.map_or_else(String::new, |most| format!(" of the {most:.0} that it declared"));
        text.push_str(&format!("{node}: {before:.1} calls/s, then {after:.1}{most}\n"));
    }
    for warning in &document.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    for (id, address) in &document.others {
        text.push_str(&format!("not changed: {id}, whose control port is {address}\n"));
    }
    match (document.registry_age_ms, document.untold) {
        (None, _) => text.push_str("there is no registry, and no audit\n"),
        (Some(_), 0) => text.push_str("the audit has it all\n"),
        (Some(age), count) => {
            let age = output::age(age);
            text.push_str(&format!("{count} entries wait for the audit; the registry was heard {age} ago\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_begins_with_how_little_was_done() {
        let scope = BreakglassScope {
            gateway: "gw-1".to_owned(),
            gateways: 2,
            others: vec![suiyue_proto::v1::BreakglassGateway {
                id: "gw-2".to_owned(),
                control_address: "10.0.0.2:8441".to_owned(),
            }],
            registry_age_ms: Some(61_000),
            untold: 1,
        };
        let actor = suiyue_proto::v1::BreakglassActor { uid: 7, says: "li".to_owned(), ..Default::default() };
        let action = BreakglassAction {
            id: "bg-1".to_owned(),
            what: Some(What::Drain("suikang".to_owned())),
            ends_unix_ms: 900_000,
            actor: Some(actor),
            reason: "etcd is away".to_owned(),
            ..BreakglassAction::default()
        };
        let text = text("in force", &document(Some(scope), false, &[action]));
        assert_eq!(
            text,
            "in force (this gateway only, gw-1: 1 of 2)\n  \
             bg-1: drain suikang, until 1970-01-01T00:15:00Z, by uid-7 (says li): etcd is away\n\
             not changed: gw-2, whose control port is 10.0.0.2:8441\n\
             1 entries wait for the audit; the registry was heard 61 s ago\n"
        );
    }

    #[test]
    fn no_time_at_all_is_no_default() {
        assert!(seconds(0).is_err() && seconds(1).is_ok());
    }
}

//! Which gateways are there, and how does one leave? (`suiyue gateway list|drain`)

use super::{
    operator::Operator,
    output::{self, Format},
    refusal,
};
use crate::{
    cli::{Ask, DrainGateway},
    exit::{Guarded, Usage},
};
use anyhow::anyhow;
use serde::Serialize;
use std::time::SystemTime;
use suiyue_proto::{
    reason::Reason,
    v1::{DrainGatewayRequest, GatewayEntry, ListGatewaysResponse},
};
use tonic::Status;

/// The document of `gateway list -o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The gateway that answered.
    pub gateway: String,
    /// The gateways, by id.
    pub gateways: Vec<Gateway>,
}

/// A gateway.
#[derive(Debug, Serialize)]
pub struct Gateway {
    /// Its id.
    pub id: String,
    /// Its control port.
    pub control_address: String,
    /// Its admin port.
    pub admin_address: String,
    /// `serving`, `draining` or `silent`.
    pub state: &'static str,
    /// Why it does not answer; absent: it does.
    pub silent: Option<String>,
    /// Part of all calls, 0 to 1; absent: not known, or nobody has any.
    pub share: Option<f64>,
    /// Calls a second.
    pub rps: Option<f64>,
    /// Version of its program.
    pub version: Option<String>,
    /// Milliseconds since it was started.
    pub uptime_ms: Option<u64>,
    /// Plan in force.
    pub plan: Option<u64>,
    /// Registry revision of its table.
    pub revision: Option<i64>,
    /// Milliseconds since the registry confirmed its table; absent: it has none, or has not heard of it.
    pub registry_age_ms: Option<u64>,
    /// Keys that it holds although the registry has them no more.
    pub stale: Option<u32>,
    /// An operator has frozen it.
    pub frozen: Option<bool>,
    /// Break-glass actions in force there.
    pub breakglass: Option<u32>,
}

/// The document of `gateway drain -o json`.
#[derive(Debug, Serialize)]
pub struct Drained {
    /// The gateway.
    pub gateway: String,
    /// Gateways that stay.
    pub others: Vec<String>,
    /// Nothing was to be done.
    pub dry_run: bool,
    /// It leaves since now; false also where it was leaving already.
    pub begun: bool,
}

/// Lists them.
///
/// # Errors
/// When no gateway can be reached, or it refuses.
pub async fn list(ask: &Ask) -> anyhow::Result<()> {
    let answer = Operator::connect(&ask.gateways()).await?.gateways().await?;
    let document = document(answer, now_ms());
    if ask.output == Format::Json {
        return output::json(&document);
    }
    output::line(&told(&document))
}

/// Makes one leave.
///
/// # Errors
/// [`Guarded`] where the gateway refuses, [`Usage`] where none has this id, another one when it cannot be
/// reached.
pub async fn drain(flags: &DrainGateway) -> anyhow::Result<()> {
    let mut operator = Operator::connect(&flags.ask.gateways()).await?;
    let known = operator.gateways().await?;
    let Some(meant) = known.gateways.iter().find(|gateway| gateway.id == flags.id) else {
        let ids: Vec<_> = known.gateways.iter().map(|gateway| gateway.id.as_str()).collect();
        return Err(Usage(format!("no gateway {:?}: there are {}", flags.id, ids.join(", "))).into());
    };
    if meant.id != known.gateway {
        operator = Operator::connect(std::slice::from_ref(&meant.control_address)).await?;
    }
    operator.on_account(&flags.account)?;
    let asked = DrainGatewayRequest { gateway: flags.id.clone(), force: flags.force, dry_run: flags.dry_run };
    let answer = operator.drain_gateway(asked).await.map_err(|status| {
        let status = if flags.dry_run { status } else { refusal::heard(status) };
        refused(&operator, &status)
    })?;
    let (gateway, others, begun) = (answer.gateway, answer.others, answer.begun);
    let document = Drained { gateway, others, dry_run: flags.dry_run, begun };
    if flags.ask.output == Format::Json {
        return output::json(&document);
    }
    let stay = if document.others.is_empty() { "nobody".to_owned() } else { document.others.join(", ") };
    let gateway = &document.gateway;
    output::line(&match (begun, flags.dry_run) {
        (true, _) => format!("{gateway} leaves; {stay} stays"),
        (false, true) => format!("dry run: {gateway} can leave; {stay} stays"),
        (false, false) => format!("{gateway} was leaving already; {stay} stays"),
    })
}

/// Exit code 3 where the gateway looked at it and refused.
fn refused(operator: &Operator, status: &Status) -> anyhow::Error {
    let line = operator.refused("DrainGateway", status);
    match Reason::of(status) {
        Some(
            Reason::GatewayLast
            | Reason::GatewayOther
            | Reason::ReasonRequired
            | Reason::RoleInsufficient
            | Reason::AuditBroken,
        ) => Guarded(line).into(),
        _ => anyhow!(line),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn document(answer: ListGatewaysResponse, now: i64) -> Document {
    let gateways = answer.gateways.into_iter().map(|gateway| told_of(gateway, now)).collect();
    Document { gateway: answer.gateway, gateways }
}

fn told_of(gateway: GatewayEntry, now: i64) -> Gateway {
    let said = gateway.state;
    let state = match &said {
        None => "silent",
        Some(said) if said.draining => "draining",
        Some(_) => "serving",
    };
    let uptime = |started: i64| u64::try_from(now.saturating_sub(started)).unwrap_or(0);
    Gateway {
        id: gateway.id,
        control_address: gateway.control_address,
        admin_address: gateway.admin_address,
        state,
        silent: (!gateway.silent.is_empty()).then_some(gateway.silent),
        share: gateway.share,
        rps: said.as_ref().map(|said| said.rps),
        version: said.as_ref().map(|said| said.version.clone()),
        uptime_ms: said.as_ref().map(|said| uptime(said.started_unix_ms)),
        plan: said.as_ref().map(|said| said.plan),
        revision: said.as_ref().map(|said| said.revision),
        registry_age_ms: said.as_ref().and_then(|said| said.registry_age_ms),
        stale: said.as_ref().map(|said| said.stale),
        frozen: said.as_ref().map(|said| said.frozen),
        breakglass: said.as_ref().map(|said| said.breakglass),
    }
}

fn told(document: &Document) -> String {
    let headings =
        ["gateway", "state", "control", "admin", "version", "up", "plan", "registry", "share", "calls/s"];
    let mut table = output::table(headings);
    let dash = || "-".to_owned();
    let mut notes = String::new();
    for gateway in &document.gateways {
        table.add_row([
            gateway.id.clone(),
            gateway.state.to_owned(),
            gateway.control_address.clone(),
            gateway.admin_address.clone(),
            gateway.version.clone().unwrap_or_else(dash),
            gateway.uptime_ms.map_or_else(dash, output::age),
            gateway.plan.map_or_else(dash, |plan| plan.to_string()),
            registry(gateway),
            gateway.share.map_or_else(dash, |share| format!("{:.1} %", share * 100.0)),
            gateway.rps.map_or_else(dash, |rps| format!("{rps:.0}")),
        ]);
        if let Some(silent) = &gateway.silent {
            notes.push_str(&format!("{} does not answer: {silent}\n", gateway.id));
        }
        if let Some(count @ 1..) = gateway.breakglass {
            notes.push_str(&format!("{}: {count} break-glass actions in force there only\n", gateway.id));
        }
    }
    format!("{table}\n{notes}")
}

/// `2 s old`, with what else is to be known of its table.
fn registry(gateway: &Gateway) -> String {
    let Some(age) = gateway.registry_age_ms else { return "-".to_owned() };
    let mut text = format!("{} old", output::age(age));
    if let Some(stale @ 1..) = gateway.stale {
        text.push_str(&format!(", {stale} held"));
    }
    if gateway.frozen == Some(true) {
        text.push_str(", frozen");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use suiyue_proto::v1::GatewayState;

    #[test]
    fn each_gateway_is_told_with_what_it_says_of_itself() {
        let state = GatewayState {
            version: "0.1.0".to_owned(),
            started_unix_ms: 1_000,
            registry_age_ms: Some(2_000),
            stale: 3,
            frozen: true,
            draining: true,
            breakglass: 1,
            ..GatewayState::default()
        };
        let entry = |id: &str, state: Option<GatewayState>, silent: &str| GatewayEntry {
            id: id.to_owned(),
            silent: silent.to_owned(),
            share: state.as_ref().map(|_| 1.0),
            state,
            ..GatewayEntry::default()
        };
        let gateways = vec![entry("gw-1", Some(state), ""), entry("gw-2", None, "connection refused")];
        let answer = ListGatewaysResponse { gateway: "gw-1".to_owned(), gateways };
        let document = document(answer, 121_000);
        assert_eq!((document.gateways[0].state, document.gateways[1].state), ("draining", "silent"));
        assert_eq!(document.gateways[0].uptime_ms, Some(120_000));
        let text = told(&document);
        for part in [
            "draining",
            "2 min",
            "2 s old, 3 held, frozen",
            "100.0 %",
            "gw-2 does not answer: connection refused",
            "gw-1: 1 break-glass actions in force there only",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}

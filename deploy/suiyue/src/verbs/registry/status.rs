//! How well do gateways follow the registry? (`suiyue registry status`)
//!
//! Every gateway of the list is asked, not the first that answers: whether they agree is the question.

use crate::{
    exit::Exit,
    verbs::{
        operator::{Operator, TableDocument},
        output::{self, Format},
    },
};
use serde::Serialize;
use suiyue_proto::v1::{HeldEntry, RegistryStatusResponse};

/// The document of `registry status -o json`: one a gateway.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The address that was asked.
    pub address: String,
    /// Why it could not be asked; absent: it answered.
    pub error: Option<String>,
    /// What it said.
    pub status: Option<Status>,
}

/// How one gateway follows.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Its table.
    pub table: Option<TableDocument>,
    /// Cluster of etcd, in hex; absent: not known.
    pub cluster: Option<String>,
    /// Revision up to which it has heard of every change.
    pub heard_revision: i64,
    /// Keys that it has heard of.
    pub entries: u64,
    /// What is wrong with the connection to the registry; absent: nothing.
    pub lost: Option<String>,
    /// What is held.
    pub held: Vec<Held>,
    /// What a person should look at.
    pub alarms: Vec<Alarm>,
    /// The freeze in force.
    pub frozen: Option<Frozen>,
    /// Gateways that are present.
    pub gateways: Vec<Gateway>,
    /// When its last copy was written, in milliseconds since 1970; absent: none since its start.
    pub copied_unix_ms: Option<i64>,
}

/// A key that is held.
#[derive(Debug, Serialize)]
pub struct Held {
    /// The key.
    pub key: String,
    /// `too_many`, `region_empty` or `restored`.
    pub cause: String,
    /// For so long, in milliseconds.
    pub age_ms: u64,
    /// And for so long still; absent: until an operator accepts.
    pub left_ms: Option<u64>,
}

/// Something that a person should look at.
#[derive(Debug, Serialize)]
pub struct Alarm {
    /// One word.
    pub alarm: String,
    /// One sentence.
    pub text: String,
}

/// A freeze.
#[derive(Debug, Serialize)]
pub struct Frozen {
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: i64,
    /// Why.
    pub reason: String,
    /// Keys that its end would change.
    pub differing: u64,
}

/// A gateway that is present.
#[derive(Debug, Serialize)]
pub struct Gateway {
    /// Its id.
    pub gateway: String,
    /// Its control port.
    pub control_address: String,
    /// Its admin port.
    pub admin_address: String,
    /// What it has applied, as it said last.
    pub applied_revision: i64,
    /// Hash of that.
    pub table_hash: String,
    /// How far its clock is ahead; absent: not known yet.
    pub clock_offset_ms: Option<i64>,
}

impl From<&HeldEntry> for Held {
    fn from(held: &HeldEntry) -> Self {
        Self { key: held.key.clone(), cause: held.cause.clone(), age_ms: held.age_ms, left_ms: held.left_ms }
    }
}

impl From<&RegistryStatusResponse> for Status {
    fn from(answer: &RegistryStatusResponse) -> Self {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let gateways = answer.gateways.iter().map(|gateway| Gateway {
            gateway: gateway.gateway.clone(),
            control_address: gateway.control_address.clone(),
            admin_address: gateway.admin_address.clone(),
            applied_revision: gateway.applied_revision,
            table_hash: gateway.table_hash.clone(),
            clock_offset_ms: gateway.clock_offset_ms,
        });
        let alarms = answer.alarms.iter().map(|a| Alarm { alarm: a.alarm.clone(), text: a.text.clone() });
        let frozen = answer.frozen.as_ref().map(|frozen| Frozen {
            since_unix_ms: frozen.since_unix_ms,
            reason: frozen.reason.clone(),
            differing: frozen.differing,
        });
        Self {
            table: answer.table.as_ref().map(TableDocument::from),
            cluster: some(&answer.cluster),
            heard_revision: answer.heard_revision,
            entries: answer.entries,
            lost: some(&answer.lost),
            held: answer.held.iter().map(Held::from).collect(),
            alarms: alarms.collect(),
            frozen,
            gateways: gateways.collect(),
            copied_unix_ms: (answer.copied_unix_ms > 0).then_some(answer.copied_unix_ms),
        }
    }
}

/// Asks every gateway of the list.
///
/// # Errors
/// When stdout cannot be written. A gateway that cannot be asked is named, and the exit code is 1.
pub async fn status(gateways: &[String], format: Format) -> anyhow::Result<Exit> {
    let mut documents = Vec::with_capacity(gateways.len());
    for address in gateways {
        let answer = match Operator::connect(std::slice::from_ref(address)).await {
            Ok(mut operator) => operator.registry_status().await,
            Err(error) => Err(error),
        };
        let (error, status) = match answer {
            Ok(answer) => (None, Some(Status::from(&answer))),
            Err(error) => (Some(format!("{error:#}")), None),
        };
        documents.push(Document { address: address.clone(), error, status });
    }
    match format {
        Format::Json => output::json(&documents)?,
        Format::Table => output::line(&text(&documents))?,
    }
    let all = documents.iter().all(|document| document.error.is_none());
    Ok(if all { Exit::Done } else { Exit::Bad })
}

fn text(documents: &[Document]) -> String {
    let headings =
        ["gateway", "source", "revision", "age", "table hash", "keys", "stale", "quarantined", "alarms"];
    let mut table = output::table(headings);
    for document in documents {
        table.add_row(row(document));
    }
    let mut text = table.to_string();
    for document in documents {
        let Some(status) = &document.status else { continue };
        let gateway = status.table.as_ref().map_or(document.address.as_str(), |table| &table.gateway);
        for line in lines(status) {
            text.push_str(&format!("\n{gateway}: {line}"));
        }
    }
    if let [Document { status: Some(status), .. }] = documents {
        text.push_str(&format!("\n{}", present(&status.gateways)));
    }
    text
}

fn row(document: &Document) -> [String; 9] {
    let dash = || "-".to_owned();
    let Some(status) = &document.status else {
        let why = document.error.clone().unwrap_or_default();
        return [document.address.clone(), why, dash(), dash(), dash(), dash(), dash(), dash(), dash()];
    };
    let Some(table) = &status.table else {
        return [document.address.clone(), dash(), dash(), dash(), dash(), dash(), dash(), dash(), dash()];
    };
    let frozen = if table.frozen { " FROZEN" } else { "" };
    [
        table.gateway.clone(),
        format!("{}{frozen}", table.source),
        table.revision.to_string(),
        output::age(table.age_ms),
        table.table_hash.as_deref().map_or_else(dash, short),
        status.entries.to_string(),
        status.held.len().to_string(),
        table.quarantined.len().to_string(),
        status.alarms.len().to_string(),
    ]
}

/// Enough to tell tables apart.
fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// Alarms first, then what is held.
fn lines(status: &Status) -> Vec<String> {
    let mut lines: Vec<_> =
        status.alarms.iter().map(|alarm| format!("ALARM {}: {}", alarm.alarm, alarm.text)).collect();
    if let Some(lost) = &status.lost {
        lines.push(format!("the registry does not answer: {lost}"));
    }
    lines.extend(status.held.iter().map(|held| {
        let left = held
            .left_ms
            .map_or_else(|| "until it is accepted".to_owned(), |ms| format!("for {} more", output::age(ms)));
        format!("held {}: {} for {}, {left}", held.key, held.cause, output::age(held.age_ms))
    }));
    let quarantined = status.table.iter().flat_map(|table| &table.quarantined);
    lines.extend(quarantined.map(|bad| format!("quarantined {}: {}", bad.key, bad.reason)));
    lines
}

fn present(gateways: &[Gateway]) -> String {
    let mut table = output::table(["present", "control", "admin", "applied", "table hash", "clock"]);
    for gateway in gateways {
        let clock = gateway.clock_offset_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:+} ms"));
        table.add_row([
            gateway.gateway.clone(),
            gateway.control_address.clone(),
            gateway.admin_address.clone(),
            gateway.applied_revision.to_string(),
            short(&gateway.table_hash),
            clock,
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use suiyue_proto::v1::{self, TableInfo, TableSource};

    fn answered() -> Document {
        let answer = RegistryStatusResponse {
            entries: 6,
            held: vec![HeldEntry {
                key: "/a".into(),
                cause: "restored".into(),
                age_ms: 61_000,
                left_ms: None,
            }],
            alarms: vec![v1::Alarm { alarm: "entries_held".into(), text: "1 key is held".into() }],
            table: Some(TableInfo {
                gateway: "gw-1".into(),
                source: TableSource::Peer.into(),
                revision: 42,
                table_hash: "00112233445566778899aabbccddeeff".into(),
                frozen: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        Document { address: "a:1".into(), error: None, status: Some(Status::from(&answer)) }
    }

    #[test]
    fn a_gateway_is_told_with_its_alarms_and_what_it_holds() {
        let text = text(&[answered()]);
        for part in [
            "gw-1",
            "peer FROZEN",
            "42",
            "001122334455 ",
            "gw-1: ALARM entries_held: 1 key is held",
            "gw-1: held /a: restored for 61 s, until it is accepted",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_gateway_that_cannot_be_asked_stands_between_the_others() {
        let dead = Document { address: "b:1".into(), error: Some("connection refused".into()), status: None };
        let text = text(&[dead, answered()]);
        assert!(
            text.contains("b:1") && text.contains("connection refused") && text.contains("gw-1"),
            "{text}"
        );
    }
}

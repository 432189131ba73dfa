//! Who changed what, and is the audit whole? (`suiyue audit …`)
//!
//! The chain is checked here, over the records as they stand in the registry: no gateway has to be believed
//! about them.

use super::{
    operator::Operator,
    output::{self, Format},
};
use crate::cli::{self, Ask, Reach};
use anyhow::{anyhow, bail};
use serde::Serialize;
use suiyue_gateway::audit::chain::{self, Bad, Head, Stored};
use suiyue_proto::v1::{AuditEntry, AuditOutcome, ReadAuditRequest};

/// Runs one of the verbs.
///
/// # Errors
/// When no gateway can be reached, or the chain is broken.
pub async fn run(verb: &cli::Audit) -> anyhow::Result<()> {
    match verb {
        cli::Audit::Tail { ask, last, follow } => tail(ask, *last, *follow).await,
        cli::Audit::Verify { reach, output } => verify(reach, *output).await,
    }
}

/// One entry, as a line of `audit tail -o json`.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Its number.
    pub sequence: u64,
    /// Clock of the gateway, in milliseconds since 1970-01-01 UTC.
    pub unix_ms: i64,
    /// The gateway.
    pub gateway: String,
    /// Who.
    pub actor: String,
    /// In which role.
    pub role: String,
    /// A certificate proves actor and role.
    pub authenticated: bool,
    /// Name of the method.
    pub method: String,
    /// Key that was changed.
    pub key: String,
    /// Why.
    pub reason: String,
    /// `written` or `refused`.
    pub outcome: String,
    /// Reason of a refusal.
    pub refusal: String,
    /// Revision at which it was written.
    pub revision: i64,
    /// Revision that was replaced; 0: there was none.
    pub replaced_revision: i64,
    /// The value before.
    pub before: String,
    /// The value after.
    pub after: String,
    /// Refused attempts that were not written down.
    pub refused_unwritten: u64,
    /// What is wrong with the record; empty: nothing by itself.
    pub fault: String,
}

impl Entry {
    fn new(stored: &Stored, revision: i64) -> Self {
        match chain::read(stored) {
            Ok(link) => Self::of(link.entry, revision),
            Err(fault) => Self {
                fault: fault.as_str().to_owned(),
                ..Self::of(AuditEntry { id: stored.id.clone(), ..Default::default() }, revision)
            },
        }
    }

    fn of(entry: AuditEntry, revision: i64) -> Self {
        let outcome = match entry.outcome() {
            AuditOutcome::Written => "written",
            AuditOutcome::Refused => "refused",
            AuditOutcome::Unspecified => "unspecified",
        };
        Self {
            id: entry.id,
            sequence: entry.sequence,
            unix_ms: entry.unix_ms,
            gateway: entry.gateway,
            actor: entry.actor,
            role: entry.role,
            authenticated: entry.authenticated,
            method: entry.method,
            key: entry.key,
            reason: entry.reason,
            outcome: outcome.to_owned(),
            refusal: entry.refusal,
            revision,
            replaced_revision: entry.replaced_revision,
            before: entry.before,
            after: entry.after,
            refused_unwritten: entry.refused_unwritten,
            fault: String::new(),
        }
    }

    fn lines(&self) -> String {
        if !self.fault.is_empty() {
            return format!("{}: this record is bad: {}", self.id, self.fault);
        }
        let proof = if self.authenticated { "" } else { ", unauthenticated" };
        let what = if self.outcome == "refused" {
            format!("was refused {} [{}]", self.method, self.refusal)
        } else {
            format!("{} {}", self.method, self.key)
        };
        let mut text = format!(
            "{} {} {} ({}{proof}) {what} at {}",
            self.sequence,
            utc(self.unix_ms),
            self.actor,
            self.role,
            self.gateway
        );
        for (name, value) in [("because", &self.reason), ("before", &self.before), ("after", &self.after)] {
            if !value.is_empty() {
                text.push_str(&format!("\n    {name:<8}{value}"));
            }
        }
        if self.refused_unwritten > 0 {
            text.push_str(&format!(
                "\n    before it {} refused attempts were not written down",
                self.refused_unwritten
            ));
        }
        text
    }
}

pub(super) use suiyue_gateway::clock::utc;

async fn tail(ask: &Ask, last: u32, follow: bool) -> anyhow::Result<()> {
    let mut operator = Operator::connect(&ask.gateways()).await?;
    let mut records = operator.audit(ReadAuditRequest { last, follow }).await?;
    let mut any = false;
    loop {
        let answer =
            records.message().await.map_err(|status| anyhow!(operator.refused("ReadAudit", &status)))?;
        let Some(answer) = answer else { break };
        if answer.record.is_empty() {
            continue;
        }
        any = true;
        let entry = Entry::new(&Stored { id: answer.id, value: answer.record }, answer.revision);
        match ask.output {
            Format::Json => output::line(&serde_json::to_string(&entry)?)?,
            Format::Table => output::line(&entry.lines())?,
        }
    }
    if !any && ask.output == Format::Table {
        output::line("the audit is empty: nothing was changed yet")?;
    }
    if follow { bail!("the gateway has ended the stream: run it again") } else { Ok(()) }
}

/// The document of `audit verify -o json`.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Nothing is wrong, and everybody was asked.
    pub good: bool,
    /// Records in the chain, where it is whole.
    pub records: Option<u64>,
    /// The first bad entry.
    pub bad: Option<Broken>,
    /// What each gateway remembers.
    pub gateways: Vec<Remembered>,
}

/// The first bad entry.
#[derive(Debug, Serialize)]
pub struct Broken {
    /// Its number.
    pub sequence: u64,
    /// Its id.
    pub id: String,
    /// `altered`, `unlinked`, `moved`, `unreadable`, `head_missing`, `head_elsewhere` or `forgotten`.
    pub fault: String,
    /// What that means.
    pub text: String,
    /// The gateway that remembers otherwise.
    pub gateway: Option<String>,
}

impl From<Bad> for Broken {
    fn from(bad: Bad) -> Self {
        Self {
            sequence: bad.sequence,
            id: bad.id,
            fault: bad.fault.as_str().to_owned(),
            text: bad.fault.text().to_owned(),
            gateway: (!bad.gateway.is_empty()).then_some(bad.gateway),
        }
    }
}

/// What one gateway remembers.
#[derive(Debug, Serialize)]
pub struct Remembered {
    /// Where it was asked.
    pub address: String,
    /// Its name; absent: it could not be asked.
    pub gateway: Option<String>,
    /// Number of the last entry that it has seen; 0: none.
    pub sequence: u64,
    /// It is kept on its disk.
    pub on_disk: bool,
    /// What is wrong there.
    pub problem: Option<String>,
}

async fn verify(reach: &Reach, format: Format) -> anyhow::Result<()> {
    let addresses = reach.gateways();
    let (mut gateways, mut known) = (Vec::new(), Vec::new());
    // Asked before the chain is read: it may grow meanwhile, and must not seem to have shrunk.
    for address in &addresses {
        let (told, head) = ask(address).await;
        known.extend(told.gateway.clone().zip(head));
        gateways.push(told);
    }
    let (stored, head) = read(&addresses).await?;
    let result = chain::verify(&stored, head.as_deref(), &known);
    let whole = gateways.iter().all(|told| told.problem.is_none());
    let verdict = Verdict {
        good: result.is_ok() && whole,
        records: result.as_ref().ok().copied(),
        bad: result.err().map(Broken::from),
        gateways,
    };
    match format {
        Format::Json => output::json(&verdict)?,
        Format::Table => output::line(&told(&verdict))?,
    }
    if verdict.good { Ok(()) } else { bail!("the audit cannot be relied on") }
}

/// What a gateway remembers.
async fn ask(address: &str) -> (Remembered, Option<Head>) {
    let asked = async { Operator::connect(&[address.to_owned()]).await?.remembered().await };
    match asked.await {
        Ok(answer) => {
            let head = answer.head.as_ref().and_then(Head::of);
            let told = Remembered {
                address: address.to_owned(),
                gateway: Some(answer.gateway),
                sequence: head.as_ref().map_or(0, |head| head.sequence),
                on_disk: answer.on_disk,
                problem: (!answer.problem.is_empty()).then_some(answer.problem),
            };
            (told, head)
        }
        Err(error) => {
            let problem = Some(format!("it could not be asked: {error:#}"));
            let address = address.to_owned();
            (Remembered { address, gateway: None, sequence: 0, on_disk: false, problem }, None)
        }
    }
}

/// The whole chain, in the order of its keys, and its head.
async fn read(addresses: &[String]) -> anyhow::Result<(Vec<Stored>, Option<bytes::Bytes>)> {
    let mut operator = Operator::connect(addresses).await?;
    let mut records = operator.audit(ReadAuditRequest { last: 0, follow: false }).await?;
    let (mut stored, mut head, mut ended) = (Vec::new(), None, false);
    while let Some(answer) =
        records.message().await.map_err(|status| anyhow!(operator.refused("ReadAudit", &status)))?
    {
        if answer.id.is_empty() {
            ended = true;
            head = (!answer.head.is_empty()).then_some(answer.head);
        } else {
            stored.push(Stored { id: answer.id, value: answer.record });
        }
    }
    if !ended {
        bail!("the gateway did not give the whole audit");
    }
    Ok((stored, head))
}

fn told(verdict: &Verdict) -> String {
    let mut text = match (&verdict.bad, verdict.records) {
        (Some(bad), _) => {
            let id = if bad.id.is_empty() { String::new() } else { format!(" ({})", bad.id) };
            let by = bad
                .gateway
                .as_ref()
                .map_or_else(String::new, |gateway| format!(" [remembered by {gateway}]"));
            format!("BROKEN at entry {}{id}: {}{by}\n", bad.sequence, bad.text)
        }
        (None, records) => format!("the chain is whole: {} entries\n", records.unwrap_or(0)),
    };
    for gateway in &verdict.gateways {
        let name = gateway.gateway.as_deref().unwrap_or("?");
        let place = if gateway.on_disk { "on its disk" } else { "in memory only" };
        let line = match (&gateway.problem, gateway.sequence) {
            (Some(problem), _) => format!("gateway {name} at {}: {problem}\n", gateway.address),
            (None, 0) => format!("gateway {name} remembers nothing yet\n"),
            (None, sequence) => format!("gateway {name} remembers entry {sequence}, {place}\n"),
        };
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_in_utc() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_795_766_399_999, "2026-11-27T07:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(unix_ms), expected);
        }
    }

    #[test]
    fn an_entry_reads_as_a_sentence() {
        let entry = AuditEntry {
            sequence: 7,
            actor: "li".to_owned(),
            role: "operator".to_owned(),
            method: "SetApp".to_owned(),
            key: "apps/gate".to_owned(),
            gateway: "gw-1".to_owned(),
            reason: "new gates".to_owned(),
            ..Default::default()
        };
        let text = Entry::of(entry.clone(), 9).lines();
        assert!(text.contains("li (operator, unauthenticated) SetApp apps/gate at gw-1"), "{text}");
        assert!(text.contains("because new gates") && !text.contains("before"), "{text}");
        let refused =
            AuditEntry { outcome: AuditOutcome::Refused.into(), refusal: "APP_INVALID".to_owned(), ..entry };
        assert!(Entry::of(refused, 9).lines().contains("was refused SetApp [APP_INVALID]"));
    }
}

//! What is wrong, since when, and what is being done about it? (`suiyue status`)
//!
//! Every gateway of the list is asked twice, a second apart; [`findings`] judges what each says, and the same
//! finding of several is one. Worst first, a screen at most of what is usual; nothing here changes anything.

pub mod findings;

use super::{
    output::{self, Format},
    survey::{Heard, Line},
    top::picture::{Gateway, Picture, between},
};
use crate::exit::Exit;
use findings::{Finding, Level};
use futures_util::future::join_all;
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// Failures are counted over this time.
const BETWEEN: Duration = Duration::from_secs(1);

/// The document of `status -o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The worst level of all findings; absent: there are none.
    pub worst: Option<Level>,
    /// The findings, worst first.
    pub findings: Vec<Finding>,
    /// The gateways that were asked.
    pub gateways: Vec<Gateway>,
    /// Regions that somebody serves, as the first gateway that answers says.
    pub regions: usize,
    /// Nodes, as it says.
    pub nodes: usize,
}

/// Asks and prints.
///
/// # Errors
/// When stdout cannot be written. If no gateway answers, that is the finding.
pub async fn status(addresses: &[String], format: Format) -> anyhow::Result<Exit> {
    let mut lines: Vec<Line> = addresses.iter().cloned().map(Line::new).collect();
    let first = join_all(lines.iter_mut().map(Line::ask)).await;
    tokio::time::sleep(BETWEEN).await;
    // Who was silent is asked again, too: it may have been a moment.
    let second = join_all(lines.iter_mut().map(Line::ask)).await;
    let document = document(addresses, &first, second);
    match format {
        Format::Json => output::json(&document)?,
        Format::Table => output::line(&text(&document))?,
    }
    Ok(if document.worst.is_some_and(|worst| worst < Level::Notice) { Exit::Bad } else { Exit::Done })
}

fn document(
    addresses: &[String],
    first: &[Result<Heard, String>],
    second: Vec<Result<Heard, String>>,
) -> Document {
    let mut found = Vec::new();
    let answering = second.iter().filter(|answer| answer.is_ok()).count();
    for (address, (before, now)) in addresses.iter().zip(first.iter().zip(&second)) {
        match now {
            Ok(now) => {
                let lately = before.as_ref().ok().and_then(|before| between(before, now));
                found.extend(findings::of(now, lately.as_ref()));
            }
            Err(why) => found.push(findings::silent(address, why, answering)),
        }
    }
    found.extend(findings::disagreement(second.iter().flatten()));
    let findings = findings::merged(found);
    let heard = second.iter().flatten().next();
    let regions = heard.map_or(0, |heard| heard.traffic.regions.iter().filter(|r| served(r)).count());
    let nodes = heard.map_or(0, |heard| heard.nodes.nodes.len());
    let mut picture = Picture::new(addresses);
    for (index, answer) in second.into_iter().enumerate() {
        picture.take(index, answer, Instant::now());
    }
    let worst = findings.iter().map(|finding| finding.level).min();
    Document { worst, findings, gateways: picture.gateways(), regions, nodes }
}

/// Somebody serves it, and not only did.
fn served(region: &suiyue_proto::v1::RegionTraffic) -> bool {
    region.nodes.iter().any(|node| node.candidate)
}

fn text(document: &Document) -> String {
    let answering = document.gateways.iter().filter(|gateway| gateway.error.is_none()).count();
    let scope = format!(
        "{} regions, {} nodes, {answering} of {} gateways answer",
        document.regions,
        document.nodes,
        document.gateways.len()
    );
    let mut text = match document.worst {
        None => format!("Nothing is wrong: {scope}."),
        Some(_) => format!("{}: {scope}.", counted(&document.findings)),
    };
    for finding in &document.findings {
        let since = finding.since_ms.map_or_else(|| "-".to_owned(), output::age);
        let word = finding.level.as_str().to_uppercase();
        text.push_str(&format!("\n\n{word:<8}  {since:>7}  {}: {}", finding.about, finding.what));
        text.push_str(&format!("\n{:19}{}", "", finding.doing));
        if document.gateways.len() > 1 && !finding.gateways.is_empty() {
            text.push_str(&format!("\n{:19}seen by {}", "", finding.gateways.join(", ")));
        }
    }
    text
}

/// `1 critical, 2 warnings`.
fn counted(findings: &[Finding]) -> String {
    let of = |level, one: &str, many: &str| {
        let count = findings.iter().filter(|finding| finding.level == level).count();
        (count > 0).then(|| format!("{count} {}", if count == 1 { one } else { many }))
    };
    let parts = [
        of(Level::Critical, "critical", "critical"),
        of(Level::Warning, "warning", "warnings"),
        of(Level::Notice, "notice", "notices"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;

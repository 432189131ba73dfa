//! What stands in the registry, and what do gateways make of it?
//!
//! `dump` is here; `status`, `diff` and the orders `freeze` and `accept` are below.

pub mod diff;
pub mod orders;
pub mod status;

use super::{
    operator::{Operator, TableDocument, footer},
    output::{self, Format},
};
use serde::Serialize;

/// The document of `registry dump -o json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// The table behind the answer.
    pub table: Option<TableDocument>,
    /// Every key below the prefix.
    pub entries: Vec<Entry>,
}

/// One key.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Revision of its last change.
    pub mod_revision: i64,
    /// Lease it hangs on, in hex as `etcdctl lease list` prints it; absent: none.
    pub lease: Option<String>,
    /// The value as text.
    pub text: String,
    /// The value could not be decoded; `text` says why.
    pub invalid: bool,
    /// The registry has it no more, or otherwise: it is held.
    pub stale: bool,
}

/// Prints every key.
///
/// # Errors
/// When no gateway can be reached, or it refuses.
pub async fn dump(gateways: &[String], format: Format) -> anyhow::Result<()> {
    let answer = Operator::connect(gateways).await?.dump().await?;
    let entries = answer.entries.into_iter().map(|entry| Entry {
        key: entry.key,
        mod_revision: entry.mod_revision,
        lease: (entry.lease != 0).then(|| format!("{:x}", entry.lease)),
        text: entry.text,
        invalid: entry.invalid,
        stale: entry.stale,
    });
    let document =
        Document { table: answer.table.as_ref().map(TableDocument::from), entries: entries.collect() };
    if format == Format::Json {
        return output::json(&document);
    }
    let mut table = output::table(["key", "revision", "lease", "value"]);
    for entry in &document.entries {
        let mark = match (entry.invalid, entry.stale) {
            (true, _) => "INVALID: ",
            (false, true) => "STALE: ",
            (false, false) => "",
        };
        let text = format!("{mark}{}", entry.text);
        let lease = entry.lease.clone().unwrap_or_else(|| "-".to_owned());
        table.add_row([entry.key.clone(), entry.mod_revision.to_string(), lease, text]);
    }
    output::line(&format!("{table}\n{}", footer(answer.table.as_ref())))
}

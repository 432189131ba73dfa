//! What has a gateway applied that etcd has not, or another gateway? (`suiyue registry diff`)

use crate::{
    exit::Exit,
    verbs::{
        operator::Operator,
        output::{self, Format},
    },
};
use serde::Serialize;
use std::collections::BTreeMap;
use suiyue_proto::v1::{Difference, DumpRegistryResponse, RegistryEntry};

/// The document of `registry diff -o json`: one a comparison.
#[derive(Debug, Serialize)]
pub struct Document {
    /// What is compared: a gateway, at the revision that it has applied.
    pub one: Side,
    /// With what: the registry, or another gateway.
    pub other: Side,
    /// Keys that differ.
    pub differences: Vec<Line>,
}

/// A side of a comparison.
#[derive(Debug, Serialize)]
pub struct Side {
    /// The gateway's name, or `registry`.
    pub name: String,
    /// Its revision.
    pub revision: i64,
}

/// A key that differs.
#[derive(Debug, Serialize)]
pub struct Line {
    /// The key.
    pub key: String,
    /// Revision of the entry on the one side; 0: it is not there.
    pub one_revision: i64,
    /// Revision of the entry on the other side; 0: it is not there.
    pub other_revision: i64,
    /// Its value on the one side, as text.
    pub one: String,
    /// Its value on the other side, as text.
    pub other: String,
    /// It is held on the one side.
    pub held: bool,
}

impl From<Difference> for Line {
    fn from(found: Difference) -> Self {
        Self {
            key: found.key,
            one_revision: found.applied_revision,
            other_revision: found.registry_revision,
            one: found.applied,
            other: found.registry,
            held: found.held,
        }
    }
}

/// One gateway against etcd, or several against the first of them.
///
/// # Errors
/// When a gateway cannot be asked.
pub async fn diff(gateways: &[String], format: Format) -> anyhow::Result<Exit> {
    let documents = match gateways {
        [one] => vec![against_registry(one).await?],
        _ => among(gateways).await?,
    };
    match format {
        Format::Json => output::json(&documents)?,
        Format::Table => {
            for document in &documents {
                output::line(&text(document))?;
            }
        }
    }
    let same = documents.iter().all(|document| document.differences.is_empty());
    Ok(if same { Exit::Done } else { Exit::Bad })
}

async fn against_registry(gateway: &String) -> anyhow::Result<Document> {
    let answer = Operator::connect(std::slice::from_ref(gateway)).await?.diff().await?;
    Ok(Document {
        one: Side { name: answer.gateway, revision: answer.applied_revision },
        other: Side { name: "registry".to_owned(), revision: answer.registry_revision },
        differences: answer.differences.into_iter().map(Line::from).collect(),
    })
}

async fn among(gateways: &[String]) -> anyhow::Result<Vec<Document>> {
    let mut dumps = Vec::with_capacity(gateways.len());
    for gateway in gateways {
        dumps.push(Operator::connect(std::slice::from_ref(gateway)).await?.dump().await?);
    }
    let Some((first, others)) = dumps.split_first() else { return Ok(Vec::new()) };
    Ok(others.iter().map(|other| compare(first, other)).collect())
}

fn compare(one: &DumpRegistryResponse, other: &DumpRegistryResponse) -> Document {
    // Presence says nothing about where calls go, and changes all the time.
    let by_key = |dump: &'_ DumpRegistryResponse| -> BTreeMap<String, RegistryEntry> {
        let entries = dump.entries.iter().filter(|entry| !entry.key.contains("/gateways/"));
        entries.map(|entry| (entry.key.clone(), entry.clone())).collect()
    };
    let (here, there) = (by_key(one), by_key(other));
    let keys: std::collections::BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    let line = |key: &String| {
        let (one, other) = (here.get(key), there.get(key));
        let is = |entry: Option<&RegistryEntry>| entry.map(|e| (e.mod_revision, e.text.clone(), e.stale));
        (is(one) != is(other)).then(|| Line {
            key: key.clone(),
            one_revision: one.map_or(0, |entry| entry.mod_revision),
            other_revision: other.map_or(0, |entry| entry.mod_revision),
            one: one.map(|entry| entry.text.clone()).unwrap_or_default(),
            other: other.map(|entry| entry.text.clone()).unwrap_or_default(),
            held: one.is_some_and(|entry| entry.stale),
        })
    };
    let side = |dump: &DumpRegistryResponse| Side {
        name: dump.table.as_ref().map(|table| table.gateway.clone()).unwrap_or_default(),
        revision: dump.table.as_ref().map_or(0, |table| table.revision),
    };
    Document { one: side(one), other: side(other), differences: keys.into_iter().filter_map(line).collect() }
}

fn text(document: &Document) -> String {
    let (one, other) = (&document.one, &document.other);
    let sides = format!(
        "{} (applied at revision {}) and {} (at revision {})",
        one.name, one.revision, other.name, other.revision
    );
    if document.differences.is_empty() {
        return format!("{sides}: the same");
    }
    let mut table = output::table(["key", &one.name, &other.name, "held"]);
    let cell = |revision: i64, text: &str| match revision {
        0 => "-".to_owned(),
        _ => format!("{revision}: {text}"),
    };
    for line in &document.differences {
        let held = if line.held { "yes" } else { "" };
        table.add_row([
            line.key.clone(),
            cell(line.one_revision, &line.one),
            cell(line.other_revision, &line.other),
            held.to_owned(),
        ]);
    }
    format!("{sides}: {} keys differ\n{table}", document.differences.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use suiyue_proto::v1::TableInfo;

    fn dump(gateway: &str, entries: &[(&str, i64, &str)]) -> DumpRegistryResponse {
        let entry = |(key, mod_revision, text): &(&str, i64, &str)| RegistryEntry {
            key: (*key).to_owned(),
            mod_revision: *mod_revision,
            text: (*text).to_owned(),
            ..Default::default()
        };
        let table = Some(TableInfo { gateway: gateway.to_owned(), revision: 9, ..Default::default() });
        DumpRegistryResponse { table, entries: entries.iter().map(entry).collect() }
    }

    #[test]
    fn two_gateways_are_compared_by_key() {
        let presence = "/suiyue/v1/gateways/gw-1";
        let one = dump("gw-1", &[("/a", 1, "x"), ("/b", 2, "x"), ("/c", 3, "x"), (presence, 4, "x")]);
        let other = dump("gw-2", &[("/a", 1, "x"), ("/b", 5, "y"), ("/d", 6, "x")]);
        let document = compare(&one, &other);
        let keys: Vec<_> =
            document.differences.iter().map(|d| (d.key.as_str(), d.one_revision, d.other_revision)).collect();
        assert_eq!(keys, [("/b", 2, 5), ("/c", 3, 0), ("/d", 0, 6)]);
        let text = text(&document);
        assert!(text.contains("3 keys differ") && text.contains("5: y"), "{text}");
        assert!(super::text(&compare(&one, &one)).ends_with("the same"));
    }
}

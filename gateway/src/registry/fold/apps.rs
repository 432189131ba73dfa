//! Which grants do these entries make?
//!
//! Grants are checked once a revision, and while no entry of an app changes the result stays the very same
//! one: workers keep what they know of tokens by it.

use super::undecodable;
use crate::{
    apps::grant::{self, Grant, Grants},
    registry::Entry,
    table::Quarantined,
};
use prost::Message as _;
use std::{collections::HashMap, sync::Arc};
use suiyue_proto::v1;

/// The grants as last folded, with the revisions they were made from: while those stay, the grants do.
#[derive(Debug, Default)]
pub(super) struct Apps {
    from: Vec<(String, i64)>,
    checked: HashMap<String, (i64, Result<Grant, String>)>,
    pub(super) grants: Arc<Grants>,
    pub(super) quarantined: Vec<Quarantined>,
}

impl Apps {
    /// Reads the grants anew if one has changed. Of two apps with one credential the first written has it.
    pub(super) fn fold(&mut self, entries: &[(String, &Entry)]) {
        let from = entries.iter().map(|(name, entry)| (name, entry.mod_revision));
        if self.from.iter().map(|(name, revision)| (name, *revision)).eq(from.clone()) {
            return;
        }
        self.from = from.map(|(name, revision)| (name.clone(), revision)).collect();
        self.quarantined.clear();
        let mut grants = Grants::default();
        let mut checked = HashMap::with_capacity(entries.len());
        let mut oldest_first = entries.iter().collect::<Vec<_>>();
        oldest_first.sort_by_key(|(_, entry)| entry.mod_revision);
        for (name, entry) in oldest_first {
            let read = match self.checked.remove(name) {
                Some((revision, read)) if revision == entry.mod_revision => read,
                _ => read_app(name, &entry.value),
            };
            checked.insert(name.clone(), (entry.mod_revision, read.clone()));
            let added = read.and_then(|grant| {
                grants.add(grant).map_err(|other| format!("it has a token or certificate of the app {other}"))
            });
            if let Err(reason) = added {
                self.quarantined.push(Quarantined { key: entry.key.clone(), reason });
            }
        }
        self.checked = checked;
        self.grants = Arc::new(grants);
    }
}

fn read_app(name: &str, value: &[u8]) -> Result<Grant, String> {
    let grant = v1::AppGrant::decode(value).map_err(|error| undecodable(&error))?;
    grant::check(name, &grant).map_err(|invalid| invalid.to_string())
}

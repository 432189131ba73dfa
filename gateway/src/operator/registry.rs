//! How well does this gateway follow the registry, and what may an operator change about that?
//!
//! Status and comparison read the follower's books; a freeze and the acceptance of held absences change
//! them, for this gateway only. The registry gets an entry of the audit and nothing else, before it is done:
//! without the entry nothing is applied. A freeze alone applies nothing, and is there for the day on which
//! the registry cannot be written: then the log tells of it.

use super::{Operator, apps::not_written, dump};
use crate::{
    audit::actor::Deed,
    registry::{
        Entry,
        books::{self, Books},
        fold::Entries,
        follow::{Present, Status as Followed},
        guard::Held,
        keys::{Key, Part},
    },
    table::{Node, Table},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use suiyue_proto::{reason::Reason, v1};
use tokio::time::Instant;
use tonic::Status;

/// Characters of a reason.
const MAX_REASON: usize = 200;
/// An order waits no longer for its entry.
const NOTE_WITHIN: Duration = Duration::from_secs(3);

impl Operator {
    fn followed(&self) -> Result<&Followed, Status> {
        self.followed.as_ref().ok_or_else(|| Reason::RegistryNone.status())
    }

    pub(super) fn following(&self) -> Result<v1::RegistryStatusResponse, Status> {
        let followed = self.followed()?;
        let freshness = followed.freshness();
        let (cluster, entries, kept_out) =
            followed.books(|books| (books.cluster(), books.heard().len(), books.kept_out()));
        let alarm = |alarm: crate::registry::follow::Alarm| v1::Alarm {
            alarm: alarm.word.to_owned(),
            text: alarm.text,
        };
        let frozen = followed.frozen().map(|freeze| v1::Frozen {
            since_unix_ms: freeze.since_unix_ms,
            reason: freeze.reason,
            differing: kept_out as u64,
        });
        Ok(v1::RegistryStatusResponse {
            gateway: self.gateway.clone(),
            cluster: if cluster == 0 { String::new() } else { format!("{cluster:x}") },
            heard_revision: freshness.revision,
            entries: entries as u64,
            lost: freshness.error.map(|error| error.to_string()).unwrap_or_default(),
            held: told(&followed.held()),
            alarms: followed.alarms().into_iter().map(alarm).collect(),
            frozen,
            gateways: followed.present().into_iter().map(gateway).collect(),
            copied_unix_ms: followed.copied_unix_ms(),
            table: Some(self.table_info(&self.snapshots.current())),
        })
    }

    /// What is applied here against what the registry says at this moment. A change that is on its way
    /// shows, too.
    pub(super) async fn diff(&self) -> Result<v1::DiffRegistryResponse, Status> {
        let followed = self.followed()?;
        let registry = self.registry.as_ref().ok_or_else(|| Reason::RegistryNone.status())?;
        let listing = registry.list(&self.prefix.root()).await.map_err(|error| {
            tracing::debug!(%error, "the registry cannot be compared with");
            Reason::RegistryUnavailable.status()
        })?;
        // The audit is in no table.
        let there = listing.entries.into_iter().filter(|entry| !self.prefix.is_audit(&entry.key));
        let there: Entries = there.map(|entry| (entry.key.clone(), entry)).collect();
        let here = followed.books(|books| books.applied().into_owned());
        let held = followed.held();
        let text =
            |entry: Option<&Entry>| entry.map(|e| dump::text(&self.prefix, e).text).unwrap_or_default();
        let revision = |entry: Option<&Entry>| entry.map_or(0, |entry| entry.mod_revision);
        let differences = books::differing(&here, &there, &self.prefix).map(|(applied, registry)| {
            let key = applied.or(registry).map(|entry| entry.key.clone()).unwrap_or_default();
            v1::Difference {
                held: held.contains_key(&key),
                key,
                applied_revision: revision(applied),
                registry_revision: revision(registry),
                applied: text(applied),
                registry: text(registry),
            }
        });
        Ok(v1::DiffRegistryResponse {
            gateway: self.gateway.clone(),
            applied_revision: self.snapshots.current().table.revision,
            registry_revision: listing.revision,
            differences: differences.collect(),
        })
    }

    /// Writes into the audit what is about to be done here.
    async fn note(&self, deed: &Deed, text: &str) -> Result<(), Status> {
        let audit = self.audit.as_ref().ok_or_else(|| Reason::RegistryNone.status())?;
        match tokio::time::timeout(NOTE_WITHIN, audit.noted(deed, text)).await {
            Ok(noted) => noted.map_err(|failure| not_written(&failure)),
            Err(_) => Err(Reason::RegistryUnavailable.status()),
        }
    }

    pub(super) async fn freeze(
        &self,
        deed: &Deed,
        asked: &v1::FreezeRegistryRequest,
    ) -> Result<v1::FreezeRegistryResponse, Status> {
        if asked.dry_run {
            deed.rehearse();
        }
        let followed = self.followed()?;
        if !asked.off {
            reason(&asked.reason, Needed::Yes)?;
        }
        let differing = followed.books(Books::kept_out) as u64;
        let mut changed = followed.frozen().is_some() == asked.off;
        let mut audited = false;
        if changed && !asked.dry_run {
            let deed = deed.because(asked.reason.trim());
            let what = if asked.off { format!("{differing} keys are let in") } else { "frozen".to_owned() };
            let noted = self.note(&deed, &what).await;
            audited = noted.is_ok();
            changed = if asked.off {
                noted?;
                followed.thaw()
            } else {
                followed.freeze(asked.reason.trim())
            };
        }
        Ok(v1::FreezeRegistryResponse {
            gateway: self.gateway.clone(),
            frozen: !asked.off,
            changed,
            differing,
            audited,
        })
    }

    pub(super) async fn accept(
        &self,
        deed: &Deed,
        asked: &v1::AcceptRegistryRequest,
    ) -> Result<v1::AcceptRegistryResponse, Status> {
        if asked.dry_run {
            deed.rehearse();
        }
        let followed = self.followed()?;
        reason(&asked.reason, Needed::No)?;
        if followed.frozen().is_some() {
            return Err(Reason::RegistryFrozen.status());
        }
        let table = self.snapshots.current().table.clone();
        let (nodes_gone, regions_empty) = followed.books(|books| self.lost(&table, books.heard()));
        let mut accepted = followed.held();
        if !asked.dry_run {
            let restored = followed.books(|books| books.restored().is_some());
            if restored || !accepted.is_empty() {
                let keys: Vec<&str> = accepted.keys().map(String::as_str).collect();
                let (deed, what) = (deed.because(asked.reason.trim()), keys.join(" "));
                self.note(&deed, &format!("accepted {what}")).await?;
            }
            accepted = followed.accept(asked.reason.trim());
        }
        Ok(v1::AcceptRegistryResponse {
            gateway: self.gateway.clone(),
            accepted: told(&accepted),
            nodes_gone,
            regions_empty,
        })
    }

    /// Nodes of the table that the registry alone would not have any more, and the regions that they
    /// leave empty.
    fn lost(&self, table: &Table, heard: &Entries) -> (Vec<String>, Vec<u32>) {
        let stays = |node: &Node| {
            let key = |part| {
                let (region, node) = (node.region, node.name.to_string());
                self.prefix.key(&Key::Node { region, node, part })
            };
            let live = |name: &str| heard.contains_key(&key(Part::Live(name.to_owned())));
            node.is_static
                || (heard.contains_key(&key(Part::Spec)) && node.endpoints.iter().any(|e| live(&e.name)))
        };
        let (stay, go): (Vec<_>, Vec<_>) =
            table.nodes.values().filter(|node| !node.endpoints.is_empty()).partition(|node| stays(node));
        let served: BTreeSet<u32> =
            stay.iter().flat_map(|node| &node.scopes).map(|code| code.get()).collect();
        let empty: BTreeSet<u32> = go.iter().flat_map(|node| &node.scopes).map(|code| code.get()).collect();
        let names = go.iter().map(|node| node.name.to_string()).collect();
        (names, empty.difference(&served).copied().collect())
    }
}

/// Whether an order must be reasoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needed {
    Yes,
    No,
}

fn reason(text: &str, needed: Needed) -> Result<(), Status> {
    let missing = needed == Needed::Yes && text.trim().is_empty();
    if missing || text.chars().count() > MAX_REASON || text.chars().any(char::is_control) {
        let expected = format!("1 to {MAX_REASON} characters, none of them a control character");
        return Err(Reason::FieldInvalid.with(&[("field", "reason"), ("expected", &expected)]));
    }
    Ok(())
}

fn told(held: &BTreeMap<String, Held>) -> Vec<v1::HeldEntry> {
    let now = Instant::now();
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let told = held.iter().map(|(key, held)| v1::HeldEntry {
        key: key.clone(),
        cause: held.cause.as_str().to_owned(),
        age_ms: millis(now.saturating_duration_since(held.since)),
        left_ms: held.until.map(|until| millis(until.saturating_duration_since(now))),
    });
    told.collect()
}

fn gateway(present: Present) -> v1::GatewayInfo {
    v1::GatewayInfo {
        gateway: present.id,
        control_address: present.said.control_address,
        admin_address: present.said.admin_address,
        applied_revision: present.said.applied_revision,
        table_hash: present.said.table_hash,
        clock_offset_ms: present.offset_ms,
    }
}

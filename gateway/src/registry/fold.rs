//! What table do these entries make?
//!
//! A pure function of the entries and the static part of the configuration; what it remembers between
//! calls are only checked manifests, by key and revision. What cannot be used is quarantined with a
//! reason and disturbs nothing else: there is no error here. With an anchor in the configuration only what
//! is signed comes here at all (`registry/notary.rs`). (An operator's order that is not understood
//! suspends its node.) When two entries contradict each other
//! the one that every gateway finds first wins: a name belongs to the first region by key, a foreign
//! method to the spec that was written first.

mod apps;

use super::{
    Entry,
    keys::{Key, Part, Prefix},
    manifest::{self, Checked},
    notary::Notary,
    policy, shift,
};
use crate::identity::{SpiffeId, Trust};
use crate::table::{
    CEILINGS, Check, Endpoint, Intent, Node, Policy, Quarantined, Shift, Source, Stage, Table,
};
use apps::Apps;
use prost::Message;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use suiyue_proto::{
    method::{self, Method},
    region::Code,
    v1,
};

/// Everything below the prefix, by full key.
pub type Entries = BTreeMap<String, Entry>;

/// Turns entries into tables.
#[derive(Debug)]
pub struct Fold {
    prefix: Prefix,
    base: Table,
    source: Source,
    own: Vec<Arc<Method>>,
    checked: Memo,
    apps: Apps,
    /// How certificates are judged; `None`: there are none.
    trust: Option<Trust>,
    /// Lets only signed entries through; `None`: no anchor is configured.
    notary: Option<Notary>,
}

/// Manifests that were checked before, with the revision they were read at.
type Memo = HashMap<String, (i64, Result<Arc<Checked>, String>)>;

/// The entries by the region and name in their keys.
type Groups<'a> = BTreeMap<(Code, String), Parts<'a>>;

/// Nodes, intents of nodes of the configuration, apps.
type Sorted<'a> = (Groups<'a>, Vec<(Code, String, &'a Entry)>, Vec<(String, &'a Entry)>);

/// The entries of one node, as they were found.
#[derive(Default)]
struct Parts<'a> {
    spec: Option<&'a Entry>,
    keys: Option<&'a Entry>,
    intent: Option<&'a Entry>,
    live: Vec<(String, &'a Entry)>,
}

/// A node while it is put together.
struct Draft<'a> {
    manifest: Arc<Checked>,
    spec: &'a Entry,
    parts: Parts<'a>,
}

impl Fold {
    /// `base` holds what stands in the configuration: it is part of every table, and its names and
    /// methods cannot be taken by the registry.
    #[must_use]
    pub fn new(prefix: Prefix, base: Table, source: Source) -> Self {
        let own = method::own().into_iter().map(Arc::new).collect();
        let (checked, apps) = (Memo::new(), Apps::default());
        Self { prefix, base, source, own, checked, apps, trust: None, notary: None }
    }

    /// Nodes have certificates, and where an anchor is configured nothing counts that they did not sign.
    #[must_use]
    pub fn trusting(self, trust: Option<Trust>) -> Self {
        let notary = trust.clone().filter(|trust| trust.root().is_some()).map(Notary::new);
        Self { trust, notary, ..self }
    }

    /// When the table changes without any change of an entry, because a certificate ends, in seconds since
    /// 1970-01-01 UTC.
    #[must_use]
    pub fn due(&self) -> i64 {
        self.notary.as_ref().map_or(i64::MAX, Notary::due)
    }

    /// Takes what these entries say of trust, and nothing else: who is revoked is out at once, also while
    /// the table stays as it is.
    pub fn learn(&mut self, entries: &Entries) {
        if let Some(notary) = &mut self.notary {
            notary.learn(&self.prefix, entries);
        }
    }

    /// The table that the entries make at this revision, now.
    pub fn table(&mut self, entries: &Entries, revision: i64) -> Table {
        self.table_at(entries, revision, suiyue_proto::identity::files::now())
    }

    /// The same at another instant, in seconds since 1970-01-01 UTC: certificates have their time.
    pub fn table_at(&mut self, entries: &Entries, revision: i64, unix_s: i64) -> Table {
        let Some(notary) = &mut self.notary else { return self.fold(entries, revision) };
        let passed = notary.judge(&self.prefix, entries, unix_s);
        let mut table = self.fold(&passed.entries, revision);
        table.quarantined.extend(passed.quarantined);
        table
    }

    fn fold(&mut self, entries: &Entries, revision: i64) -> Table {
        let mut table = Table { source: self.source, revision, ..self.base.clone() };
        for own in &self.own {
            table.methods.insert(own.path.as_str().into(), own.clone());
        }
        let (groups, intents, apps) = self.group(entries, &mut table);
        self.apps.fold(&apps);
        table.apps = self.apps.grants.clone();
        table.quarantined.extend(self.apps.quarantined.iter().cloned());
        let drafts = self.drafts(groups, &mut table);
        let drafts = claim_methods(drafts, &mut table);
        for draft in &drafts {
            let node = assemble(draft, self.trust.as_ref(), &mut table);
            table.nodes.insert(node.name.clone(), Arc::new(node));
        }
        for (region, name, entry) in intents {
            direct_static(region, &name, entry, &mut table);
        }
        table
    }

    /// Sorts the entries by node; policies and what is none of ours are dealt with at once.
    fn group<'a>(&self, entries: &'a Entries, table: &mut Table) -> Sorted<'a> {
        let mut groups = Groups::new();
        let (mut intents, mut apps) = (Vec::new(), Vec::new());
        for entry in entries.values() {
            match self.prefix.parse(&entry.key) {
                Err(bad) => quarantine(table, entry, bad.to_string()),
                // The follower keeps the past out; here it would say nothing. Of trust the notary has taken
                // what it could believe; without an anchor it means nothing.
                Ok(Key::Gateway(_) | Key::Trust(_) | Key::Audit(_) | Key::AuditHead) => {}
                Ok(Key::ShiftLog(_) | Key::ShiftApproval(_)) => {}
                Ok(Key::App(name)) => apps.push((name, entry)),
                Ok(Key::Shift { region, from }) => match read_shift(region, &from, &entry.value) {
                    Ok(shift) => table.shifts.push(Arc::new(shift)),
                    Err(reason) => quarantine(table, entry, reason),
                },
                Ok(Key::Region(code)) => match read_policy(code, &entry.value) {
                    Ok(policy) => drop(table.policies.insert(code, policy)),
                    Err(reason) => quarantine(table, entry, reason),
                },
                Ok(Key::Node { region, node, part }) => {
                    if part == Part::Intent && self.base.nodes.contains_key(node.as_str()) {
                        intents.push((region, node, entry));
                        continue;
                    }
                    let parts = groups.entry((region, node)).or_default();
                    match part {
                        Part::Spec => parts.spec = Some(entry),
                        Part::Keys => parts.keys = Some(entry),
                        Part::Intent => parts.intent = Some(entry),
                        Part::Live(endpoint) => parts.live.push((endpoint, entry)),
                        // A goodbye explains an absence (`guard`), and is none.
                        Part::Gone(_) => {}
                    }
                }
            }
        }
        (groups, intents, apps)
    }

    /// Nodes whose spec can be used; of two with one name the first by key.
    fn drafts<'a>(&mut self, groups: Groups<'a>, table: &mut Table) -> Vec<Draft<'a>> {
        let mut names = BTreeMap::<String, Code>::new();
        let mut drafts = Vec::with_capacity(groups.len());
        let mut checked = Memo::with_capacity(groups.len());
        for ((region, name), parts) in groups {
            let Some(spec) = parts.spec else {
                discard(table, &parts, "its node has no spec");
                continue;
            };
            let result = match self.checked.remove(&spec.key) {
                Some((revision, result)) if revision == spec.mod_revision => result,
                _ => read_spec(&spec.value, region, &name, &self.own).map(Arc::new),
            };
            checked.insert(spec.key.clone(), (spec.mod_revision, result.clone()));
            let result = result.and_then(|manifest| match names.get(&name) {
                _ if self.base.nodes.contains_key(name.as_str()) => {
                    Err("the configuration has a node of this name".to_owned())
                }
                Some(taken) => Err(format!("the name belongs to a node of region {taken}")),
                None => Ok(manifest),
            });
            match result {
                Ok(manifest) => {
                    names.insert(name, region);
                    drafts.push(Draft { manifest, spec, parts });
                }
                Err(reason) => {
                    quarantine(table, spec, reason);
                    discard(table, &parts, "its node's spec cannot be used");
                }
            }
        }
        // Entries that are gone are forgotten.
        self.checked = checked;
        drafts
    }
}

/// Takes the foreign methods in the order in which the specs were written, so that a newcomer cannot
/// change how a method of an older node is treated.
fn claim_methods<'a>(mut drafts: Vec<Draft<'a>>, table: &mut Table) -> Vec<Draft<'a>> {
    drafts.sort_by(|a, b| (a.spec.mod_revision, &a.spec.key).cmp(&(b.spec.mod_revision, &b.spec.key)));
    let mut usable = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let other = |method: &&Arc<Method>| {
            table.methods.get(method.path.as_str()).is_some_and(|known| known != *method)
        };
        if let Some(method) = draft.manifest.methods.iter().find(other) {
            let reason = format!("{} is declared differently elsewhere", method.path);
            quarantine(table, draft.spec, reason);
            discard(table, &draft.parts, "its node's spec cannot be used");
            continue;
        }
        for method in &draft.manifest.methods {
            let path = Arc::<str>::from(method.path.as_str());
            table.methods.entry(path.clone()).or_insert_with(|| method.clone());
            table.declared_by.entry(path).or_default().push(draft.manifest.name.clone());
        }
        usable.push(draft);
    }
    usable
}

fn assemble(draft: &Draft<'_>, trust: Option<&Trust>, table: &mut Table) -> Node {
    let Draft { manifest, parts, .. } = draft;
    let (intent, drained) = parts.intent.map_or_else(Default::default, |entry| {
        let (intent, drained, complaint) = read_intent(&entry.value);
        if let Some(reason) = complaint {
            quarantine(table, entry, reason);
        }
        (intent, drained)
    });
    if let Some(entry) = parts.keys {
        take_keys(entry, &manifest.scopes, table);
    }
    let mut endpoints = Vec::with_capacity(parts.live.len());
    for (name, entry) in &parts.live {
        match read_live(name, &entry.value, &manifest.scopes) {
            Ok((endpoint, complaint)) => {
                let draining = endpoint.draining || drained.contains(name);
                let identity = certified(trust, manifest, &entry.value);
                endpoints.push(Endpoint { draining, identity, ..endpoint });
                if let Some(reason) = complaint {
                    quarantine(table, entry, reason);
                }
            }
            Err(reason) => quarantine(table, entry, reason),
        }
    }
    Node {
        name: manifest.name.clone(),
        region: manifest.region,
        role: manifest.role,
        scopes: manifest.scopes.clone(),
        rps_max: manifest.rps_max,
        ceilings: CEILINGS,
        intent,
        is_static: false,
        endpoints,
    }
}

/// Whom the endpoint's certificate must name: with an anchor every endpoint has one, without one those
/// that declare it.
fn certified(trust: Option<&Trust>, manifest: &Checked, live: &[u8]) -> Option<Arc<SpiffeId>> {
    let trust = trust?;
    let declares = || v1::LiveEndpoint::decode(live).is_ok_and(|live| live.signed.is_some());
    let id = || SpiffeId::node(&trust.federation(), manifest.region, &manifest.name);
    (trust.root().is_some() || declares()).then(|| Arc::new(id()))
}

/// Operators may drain a node of the configuration too.
fn direct_static(region: Code, name: &str, entry: &Entry, table: &mut Table) {
    let Some(node) = table.nodes.get(name) else { return };
    if node.region != region {
        let reason = format!("the configuration has this node in region {}", node.region);
        return quarantine(table, entry, reason);
    }
    let (intent, drained, complaint) = read_intent(&entry.value);
    let mut node = Node { intent, ..Node::clone(node) };
    for endpoint in &mut node.endpoints {
        endpoint.draining |= drained.iter().any(|name| **name == *endpoint.name);
    }
    table.nodes.insert(node.name.clone(), Arc::new(node));
    if let Some(reason) = complaint {
        quarantine(table, entry, reason);
    }
}

fn take_keys(entry: &Entry, scopes: &[Code], table: &mut Table) {
    let keys = match v1::NodeKeys::decode(entry.value.clone()) {
        Ok(keys) => keys.keys,
        Err(error) => return quarantine(table, entry, undecodable(&error)),
    };
    for key in keys {
        match manifest::verifying_key(&key, scopes) {
            Ok(()) => table.keys.push(key),
            Err(invalid) => quarantine(table, entry, invalid.to_string()),
        }
    }
}

fn read_spec(value: &[u8], region: Code, name: &str, own: &[Arc<Method>]) -> Result<Checked, String> {
    let spec = v1::NodeSpec::decode(value).map_err(|error| undecodable(&error))?;
    let manifest = spec.manifest.ok_or("it has no manifest")?;
    if manifest.region != region.get() || manifest.node != name {
        return Err("the manifest is of another node than the key".to_owned());
    }
    manifest::check(&manifest, own).map_err(|invalid| invalid.to_string())
}

/// The intent, the endpoints that are drained, and what of it cannot be read. There is an order that is
/// not understood: the node is suspended until it is, and whatever else the order says holds.
fn read_intent(value: &[u8]) -> (Intent, Vec<String>, Option<String>) {
    let decoded = v1::NodeIntent::decode(value).map_err(|error| undecodable(&error));
    let (stage, intent) = match decoded {
        Ok(intent) => (read_stage(&intent), intent),
        Err(reason) => (Err(reason), v1::NodeIntent::default()),
    };
    let (stage, complaint) = match stage {
        Ok(stage) => (stage, None),
        Err(reason) => (Stage::Suspended, Some(reason)),
    };
    (Intent { stage, drained: intent.drained }, intent.drained_endpoints, complaint)
}

/// The stage that an intent puts its node into, also one that is not understood.
pub(crate) fn stage_of(intent: &v1::NodeIntent) -> Stage {
    read_stage(intent).unwrap_or(Stage::Suspended)
}

/// The stage of an intent, or why it is not understood.
pub(crate) fn read_stage(intent: &v1::NodeIntent) -> Result<Stage, String> {
    Ok(match v1::Stage::try_from(intent.stage) {
        Ok(v1::Stage::Unspecified | v1::Stage::Active) => Stage::Active,
        Ok(v1::Stage::Test) => Stage::Test,
        Ok(v1::Stage::Suspended) => Stage::Suspended,
        Ok(v1::Stage::Canary) => match intent.canary_percent {
            0 => Stage::Canary(5),
            percent @ (1 | 5 | 25) => Stage::Canary(percent as u8),
            other => return Err(format!("canary_percent is 1, 5 or 25, not {other}")),
        },
        Err(_) => return Err(format!("this version knows no stage {}", intent.stage)),
    })
}

/// The endpoint, and what of it was left out.
fn read_live(name: &str, value: &[u8], scopes: &[Code]) -> Result<(Endpoint, Option<String>), String> {
    let live = v1::LiveEndpoint::decode(value).map_err(|error| undecodable(&error))?;
    manifest::address(&live.address).map_err(|invalid| invalid.to_string())?;
    let report = live.report.unwrap_or_default();
    let mut ready = Vec::with_capacity(report.ready.len());
    let mut complaint = None;
    for region in report.ready {
        match scopes.iter().find(|scope| scope.get() == region.region) {
            Some(&scope) => ready.push((scope, region.as_of_unix_ms)),
            None => complaint = Some(format!("ready for {}, which it has no scope for", region.region)),
        }
    }
    let endpoint = Endpoint {
        name: name.into(),
        address: live.address.into(),
        incarnation: live.incarnation,
        ready,
        draining: report.draining,
        check: Check::Grpc,
        identity: None,
    };
    Ok((endpoint, complaint))
}

fn read_policy(code: Code, value: &[u8]) -> Result<Policy, String> {
    manifest::routing_region("region", code.get()).map_err(|invalid| invalid.to_string())?;
    let policy = v1::RegionPolicy::decode(value).map_err(|error| undecodable(&error))?;
    policy::check(&policy).map_err(|invalid| invalid.to_string())
}

fn read_shift(region: Code, from: &str, value: &[u8]) -> Result<Shift, String> {
    let shift = v1::Shift::decode(value).map_err(|error| undecodable(&error))?;
    shift::check(&shift, region, from).map_err(|invalid| invalid.to_string())
}

fn undecodable(error: &prost::DecodeError) -> String {
    format!("the value cannot be decoded: {error}")
}

fn quarantine(table: &mut Table, entry: &Entry, reason: String) {
    table.quarantined.push(Quarantined { key: entry.key.clone(), reason });
}

/// Quarantines what hangs on a spec. An intent may be written before its node comes.
fn discard(table: &mut Table, parts: &Parts<'_>, reason: &str) {
    for entry in parts.keys.into_iter().chain(parts.live.iter().map(|(_, entry)| *entry)) {
        quarantine(table, entry, reason.to_owned());
    }
}

#[cfg(test)]
mod tests;

//! Which absences do we believe?
//!
//! The registry can lose an entry for reasons that have nothing to do with the endpoint: a lease runs
//! out because its gateway was cut off, etcd is wiped, somebody deletes a prefix. Taking all of that out
//! of the table would make the registry the outage. So an *unexplained* absence is applied only while
//! few nodes vanish that way; otherwise the entries are **held**: they stay in the table, marked
//! stale, for as long as a quarter of an hour, or until an operator accepts the absence. Health decides
//! about held endpoints as about all others, so that holding a dead one costs nothing.
//!
//! Held is
//! - all that vanished within 60 s, as soon as that makes more than three and more than a fifth of
//!   the nodes, or of the endpoints;
//! - a node whose absence leaves a region empty: no other node with that scope has an endpoint, not
//!   even one of another province or of the configuration;
//! - whatever we knew better than a registry that was restored or replaced ([`Guard::restored`]):
//!   that lasts until an operator accepts it, or somebody writes the key again.
//!
//! **An absence is explained by a goodbye.** The registrar deletes the live entry and writes
//! `gone/{endpoint}` in one transaction; the mark hangs on a lease of its own and outlives the time
//! between two listings. It explains the absence of every live entry that is older than itself. Other
//! ways were thought of and are worse: a mark inside the live entry, put before the delete, is lost to
//! whoever lists after it; asking etcd whether the entry's lease still lives (a lease that lives means
//! that somebody deleted the key) needs a call in the middle of a fold, says nothing once the gateway
//! with the lease is gone too, and lies after a restore, which brings leases back without their keys.
//! A key that somebody deletes by hand has no mark: one node may go that way, a whole region may not.
//!
//! Pure: entries, changes and the instant come in.

use super::{
    Entry,
    fold::Entries,
    keys::{Key, Part, Prefix},
    manifest,
};
use prost::Message as _;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use suiyue_proto::{region::Code, v1};
use tokio::time::Instant;

/// Absences within this time count together.
const WINDOW: Duration = Duration::from_secs(60);
/// So many may vanish unexplained, whatever the size of the federation.
const ALWAYS_TAKEN: usize = 3;
/// Or one in so many.
const ONE_IN: usize = 5;
/// How long an absence is held back.
pub const HOLD: Duration = Duration::from_secs(15 * 60);
/// After a restore gateways put their presence again within seconds; until then they are still counted.
const PRESENCE_HOLD: Duration = Duration::from_secs(30);

/// Why an entry is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Too many vanished at once.
    TooMany,
    /// A region would be left empty.
    RegionEmpty,
    /// The registry was restored or replaced.
    Restored,
}

impl Cause {
    /// One word, for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::RegionEmpty => "region_empty",
            Self::Restored => "restored",
        }
    }
}

/// An entry that stays although the registry has it no more, or has another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// As it was.
    pub entry: Entry,
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub since: Instant,
    /// Until when; `None`: until it is accepted or written again.
    pub until: Option<Instant>,
}

/// Decides which absences are applied.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    prefix: Prefix,
    /// Regions that nodes of the configuration serve: these are never left empty.
    fixed: BTreeSet<u32>,
    /// Unexplained absences of the last minute, held or not.
    recent: BTreeMap<String, (Instant, Entry)>,
    held: BTreeMap<String, Held>,
}

impl Guard {
    /// One that has seen nothing yet. `fixed`: regions that need nobody from the registry.
    #[must_use]
    pub fn new(prefix: Prefix, fixed: impl IntoIterator<Item = Code>) -> Self {
        let fixed = fixed.into_iter().map(Code::get).collect();
        Self { prefix, fixed, ..Self::default() }
    }

    /// What is held, by key.
    #[must_use]
    pub fn held(&self) -> &BTreeMap<String, Held> {
        &self.held
    }

    /// What the table is made from: what the registry has, and what is held.
    #[must_use]
    pub fn applied<'a>(&self, heard: &'a Entries) -> Cow<'a, Entries> {
        if self.held.is_empty() {
            return Cow::Borrowed(heard);
        }
        let mut applied = heard.clone();
        applied.extend(self.held.iter().map(|(key, held)| (key.clone(), held.entry.clone())));
        Cow::Owned(applied)
    }

    /// An entry was written: that is the newest word about it.
    pub fn put(&mut self, entry: &Entry) {
        self.forget(&entry.key);
        // A goodbye that is said while the absence is held.
        if let Ok(Key::Node { region, node, part: Part::Gone(endpoint) }) = self.prefix.parse(&entry.key) {
            self.forget(&self.prefix.key(&Key::Node { region, node, part: Part::Live(endpoint) }));
        }
    }

    fn forget(&mut self, key: &str) {
        self.held.remove(key);
        self.recent.remove(key);
    }

    /// These entries are in the registry no more; `heard` is what it has now.
    pub fn absent(&mut self, gone: Vec<Entry>, heard: &Entries, now: Instant) {
        self.recent.retain(|_, (at, _)| now.saturating_duration_since(*at) < WINDOW);
        let mut news = false;
        for entry in gone {
            if !self.held.contains_key(&entry.key) && self.is_unexplained(&entry, heard) {
                news = true;
                self.recent.insert(entry.key.clone(), (now, entry));
            }
        }
        if news {
            self.judge(heard, now);
        }
    }

    /// What concerns no node of the registry (policies, orders, presence) was deleted by somebody who
    /// meant it, or ran out as it should.
    fn is_unexplained(&self, entry: &Entry, heard: &Entries) -> bool {
        let Ok(Key::Node { region, node, part }) = self.prefix.parse(&entry.key) else { return false };
        match part {
            Part::Spec | Part::Keys => true,
            Part::Intent | Part::Gone(_) => false,
            Part::Live(endpoint) => {
                let goodbye = self.prefix.key(&Key::Node { region, node, part: Part::Gone(endpoint) });
                heard.get(&goodbye).is_none_or(|goodbye| goodbye.mod_revision < entry.mod_revision)
            }
        }
    }

    /// Holds what must not be applied.
    fn judge(&mut self, heard: &Entries, now: Instant) {
        let after = Census::of(&self.prefix, heard.values());
        let missing = self.recent.values().map(|(_, entry)| entry);
        let held = self.held.values().map(|held| &held.entry);
        let missing = missing.chain(held.filter(|entry| !self.recent.contains_key(&entry.key)));
        let before = after.with(&self.prefix, missing.filter(|entry| !heard.contains_key(&entry.key)));
        let lost: BTreeSet<NodeKey> =
            self.recent.keys().filter_map(|key| node_of(&self.prefix, key)).collect();
        let lost: Vec<&NodeKey> = lost.iter().filter(|node| before.has(node) && !after.has(node)).collect();
        let endpoints = self.recent.keys().filter(|key| is_live(&self.prefix, key)).count();
        let (cause, held): (_, Vec<String>) =
            if too_many(lost.len(), before.nodes()) || too_many(endpoints, before.endpoints) {
                (Cause::TooMany, self.recent.keys().cloned().collect())
            } else {
                let empty = self.emptied(&lost, &before, &after);
                let bereft = |node: &NodeKey| before.scopes(node).any(|scope| empty.contains(&scope));
                let bereft: BTreeSet<_> = lost.into_iter().filter(|node| bereft(node)).cloned().collect();
                let of_them =
                    |key: &&String| node_of(&self.prefix, key).is_some_and(|node| bereft.contains(&node));
                (Cause::RegionEmpty, self.recent.keys().filter(of_them).cloned().collect())
            };
        for key in held {
            let entry = self.recent[&key].1.clone();
            let held = Held { entry, cause, since: now, until: Some(now + HOLD) };
            self.held.entry(key).or_insert(held);
        }
    }

    /// Regions of the lost nodes that nobody else serves.
    fn emptied(&self, lost: &[&NodeKey], before: &Census<'_>, after: &Census<'_>) -> BTreeSet<u32> {
        let mut regions: BTreeSet<u32> = lost.iter().flat_map(|node| before.scopes(node)).collect();
        regions.retain(|region| !self.fixed.contains(region));
        for node in after.nodes.keys().filter(|node| after.has(node)) {
            if regions.is_empty() {
                break;
            }
            for scope in after.scopes(node) {
                regions.remove(&scope);
            }
        }
        regions
    }

    /// The registry was restored or replaced: whatever we had applied and it has not, or has otherwise,
    /// is held. Of two words about an endpoint the later one counts, by the clocks of the gateways that
    /// wrote them. What only the registry knows is taken.
    pub fn restored(&mut self, before: &Entries, heard: &Entries, now: Instant) {
        self.recent.clear();
        self.held.clear();
        for (key, old) in before {
            let until = match self.prefix.parse(key) {
                Ok(Key::Node { part: Part::Gone(_), .. }) => continue,
                Ok(Key::Gateway(_)) if heard.contains_key(key) => continue,
                Ok(Key::Gateway(_)) => Some(now + PRESENCE_HOLD),
                _ => None,
            };
            let better = match heard.get(key) {
                None => false,
                Some(new) => new.value == old.value || (is_live(&self.prefix, key) && is_later(new, old)),
            };
            if !better {
                let held = Held { entry: old.clone(), cause: Cause::Restored, since: now, until };
                self.held.insert(key.clone(), held);
            }
        }
    }

    /// Holds what a copy says was held: its cause is not known any more.
    pub fn resume(&mut self, held: Entries, now: Instant) {
        let held = held
            .into_iter()
            .map(|(key, entry)| (key, Held { entry, cause: Cause::Restored, since: now, until: None }));
        self.held.extend(held);
    }

    /// Lets go of what was held for long enough; whether anything was.
    pub fn tick(&mut self, now: Instant) -> bool {
        let before = self.held.len();
        let recent = &mut self.recent;
        self.held.retain(|key, held| {
            let stays = held.until.is_none_or(|until| until > now);
            if !stays {
                recent.remove(key);
            }
            stays
        });
        self.held.len() != before
    }

    /// When [`tick`](Self::tick) has something to do next.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.until).min()
    }

    /// Lets go of all that is held, and returns it.
    pub fn accept(&mut self) -> BTreeMap<String, Held> {
        self.recent.clear();
        std::mem::take(&mut self.held)
    }
}

/// More than three, and more than a fifth.
const fn too_many(lost: usize, of: usize) -> bool {
    lost > ALWAYS_TAKEN && lost * ONE_IN > of
}

/// A node by region and name.
type NodeKey = (Code, String);

fn node_of(prefix: &Prefix, key: &str) -> Option<NodeKey> {
    match prefix.parse(key) {
        Ok(Key::Node { region, node, .. }) => Some((region, node)),
        _ => None,
    }
}

fn is_live(prefix: &Prefix, key: &str) -> bool {
    matches!(prefix.parse(key), Ok(Key::Node { part: Part::Live(_), .. }))
}

fn is_later(new: &Entry, old: &Entry) -> bool {
    let written = |entry: &Entry| v1::LiveEndpoint::decode(entry.value.clone()).ok();
    match (written(new), written(old)) {
        (Some(new), Some(old)) => {
            new.incarnation == old.incarnation || new.written_unix_ms > old.written_unix_ms
        }
        (new, _) => new.is_some(),
    }
}

/// Who is there.
#[derive(Debug, Clone, Default)]
struct Census<'a> {
    nodes: BTreeMap<NodeKey, (Option<&'a Entry>, usize)>,
    endpoints: usize,
}

impl<'a> Census<'a> {
    fn of(prefix: &Prefix, entries: impl Iterator<Item = &'a Entry>) -> Self {
        Self::default().with(prefix, entries)
    }

    fn with(&self, prefix: &Prefix, entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut census = self.clone();
        for entry in entries {
            let Ok(Key::Node { region, node, part }) = prefix.parse(&entry.key) else { continue };
            match part {
                Part::Spec => census.nodes.entry((region, node)).or_default().0 = Some(entry),
                Part::Live(_) => {
                    census.nodes.entry((region, node)).or_default().1 += 1;
                    census.endpoints += 1;
                }
                Part::Keys | Part::Intent | Part::Gone(_) => {}
            }
        }
        census
    }

    /// It can be called: it has declared what it is, and has an endpoint.
    fn has(&self, node: &NodeKey) -> bool {
        self.nodes.get(node).is_some_and(|(spec, endpoints)| spec.is_some() && *endpoints > 0)
    }

    fn nodes(&self) -> usize {
        self.nodes.values().filter(|(spec, endpoints)| spec.is_some() && *endpoints > 0).count()
    }

    fn scopes(&self, node: &NodeKey) -> impl Iterator<Item = u32> + use<> {
        let spec = self.nodes.get(node).and_then(|(spec, _)| *spec);
        let manifest = spec.and_then(|spec| manifest::stored(&spec.value).ok());
        manifest.map(|manifest| manifest.scopes).unwrap_or_default().into_iter()
    }
}

#[cfg(test)]
mod tests;

//! What is a region's policy, and may it be replaced by this one?
//!
//! Describing reads the snapshot and what the follower knows. Setting checks, then writes to the
//! registry by compare-and-swap on the revision that the caller had read; the table changes when the
//! fold has read it from there, at this gateway as at every other.
//!
//! ```text
//!   routed? → usable by itself? → do its nodes fit? → same as stored? → still the one that was read?
//!           → dry run ends here → compare-and-swap
//! ```

use super::{
    Operator,
    moving::{Asked, How, Judged},
    routes, routing, routing_exactly,
    swap::{Present, Swap},
    what_if,
};
use crate::{
    audit::actor::Deed,
    plan::{MAX_LAG, NOTHING_HEALTHY},
    registry::{
        keys::Key,
        policy::{self, Invalid, Problem},
    },
    snapshot::Snapshot,
    table::{Node, Policy, Role, Table},
};
use prost::Message as _;
use std::{sync::Arc, time::Duration};
use suiyue_proto::{
    method::Class,
    reason::Reason,
    region::{self, Code},
    v1,
};
use tonic::Status;

/// The tier in which a node answers for a region by itself; `None`: only as a peer, if at all.
pub(super) fn tier_of(node: &Node, code: Code) -> Option<u32> {
    if !node.scopes.contains(&code) {
        return None;
    }
    if node.region == code {
        return Some(0);
    }
    (node.role == Role::Province && Some(node.region) == region::parent(code)).then_some(1)
}

impl Operator {
    pub(super) fn describe(
        &self,
        asked: &v1::DescribeRegionRequest,
    ) -> Result<v1::DescribeRegionResponse, Status> {
        let code = routing(asked.region)?;
        let snapshot = self.snapshots.current();
        let key = self.prefix.key(&Key::Region(code));
        let entry = self.followed.as_ref().and_then(|followed| followed.entry(&key));
        let decoded = entry.as_ref().map(|entry| v1::RegionPolicy::decode(entry.value.clone()));
        let problem = snapshot.table.quarantined.iter().find(|q| q.key == key).map(|q| q.reason.clone());
        let revision = entry.map_or(0, |entry| entry.mod_revision);
        let read = snapshot.table.revision >= revision
            && (revision > 0 || !snapshot.table.policies.contains_key(&code));
        let division = region::find(code.get());
        let own = snapshot.table.policies.get(&code).cloned().unwrap_or_default();
        Ok(v1::DescribeRegionResponse {
            table: Some(self.table_info(&snapshot)),
            region: code.get(),
            name_zh: division.map_or_else(String::new, |division| division.name_zh.to_owned()),
            name_en: division.map_or_else(String::new, |division| division.name_en.to_owned()),
            policy: decoded.and_then(Result::ok),
            policy_revision: revision,
            policy_in_force: read && problem.is_none(),
            policy_problem: problem.unwrap_or_default(),
            rules: rules(&own),
            nodes: nodes(&snapshot.table, code, &own),
            routes: routes::by_class(&snapshot.table, &snapshot.plans, code),
            two_person_above: self.one_person(Some(&own)),
        })
    }

    pub(super) async fn set_policy(
        &self,
        deed: &Deed,
        asked: v1::SetRegionPolicyRequest,
    ) -> Result<v1::SetRegionPolicyResponse, Status> {
        if asked.dry_run {
            deed.rehearse();
        }
        let code = routing_exactly(asked.region)?;
        let registry = self.registry.as_ref().ok_or_else(|| Reason::RegistryNone.status())?;
        let audit = self.audit.as_ref().ok_or_else(|| Reason::RegistryNone.status())?;
        let policy = asked.policy.clone().unwrap_or_default();
        let checked = policy::check(&policy).map_err(|invalid| refusal(&invalid))?;
        let snapshot = self.snapshots.current();
        let unregistered = if asked.allow_unregistered { Unregistered::Warn } else { Unregistered::Refuse };
        let warnings = fit(code, &checked, &snapshot.table, unregistered).map_err(|i| refusal(&i))?;
        let after = after(&snapshot, code, checked.clone())?;
        let (key, expected) = (Key::Region(code), asked.expected_revision);
        let swap = Swap { key, value: policy, expected, changed: Reason::PolicyChanged };
        let present = swap.read(&**registry, &self.prefix).await?;
        let standing = swap.judge(present.as_ref())?;
        let mut judged = Judged::default();
        if standing == Present::AsRead {
            let one_person = self.one_person(snapshot.table.policies.get(&code));
            let raises = self.one_person(Some(&checked)) > one_person;
            let how = How { force: asked.force, dry_run: asked.dry_run };
            let (key, regions) = (&swap.key, &[code][..]);
            let asked = self.policy_asked(&snapshot, (&asked, &swap.value), checked, (key, regions));
            judged = self.judge(&snapshot, asked, how, raises, deed).await?;
        }
        let also = judged.also();
        let (policy_revision, written) = match standing {
            Present::Same(revision) => (revision, false),
            Present::AsRead if asked.dry_run => (expected, false),
            Present::AsRead => swap.write(&self.prefix, (audit, deed), present, also).await?,
        };
        if written {
            tracing::info!(region = %code, revision = policy_revision, "policy of a region was replaced");
        }
        Ok(v1::SetRegionPolicyResponse {
            table: Some(self.table_info(&snapshot)),
            region: code.get(),
            policy_revision,
            written,
            warnings,
            before: routes::by_class(&snapshot.table, &snapshot.plans, code),
            after,
            plan_hash: judged.hash.into(),
            moves: judged.moves,
            needs_approval: judged.needs_approval,
            refusals: judged.refusals,
        })
    }

    fn policy_asked<'a>(
        &self,
        snapshot: &Snapshot,
        (asked, policy): (&'a v1::SetRegionPolicyRequest, &v1::RegionPolicy),
        checked: Policy,
        (key, regions): (&'a Key, &'a [Code]),
    ) -> Asked<'a> {
        let subject = v1::SetRegionPolicyRequest {
            region: asked.region,
            policy: Some(policy.clone()),
            expected_revision: asked.expected_revision,
            without: asked.without.clone(),
            ..Default::default()
        };
        let routed =
            snapshot.inputs.is_some() && regions.iter().all(|c| snapshot.plans.regions.contains_key(c));
        let after = routed.then(|| what_if::with_policy(snapshot, regions[0], checked));
        let (subject, key) = (subject.encode_to_vec(), (key, asked.expected_revision));
        Asked { subject, key, regions, after, without: &asked.without }
    }

    /// Name of the plan that a policy is approved by.
    ///
    /// # Errors
    /// The policy cannot be used.
    pub(super) fn policy_plan(
        &self,
        snapshot: &Snapshot,
        asked: &v1::SetRegionPolicyRequest,
    ) -> Result<Vec<u8>, Status> {
        let code = routing_exactly(asked.region)?;
        let policy = asked.policy.clone().unwrap_or_default();
        let checked = policy::check(&policy).map_err(|invalid| refusal(&invalid))?;
        let (key, regions) = (Key::Region(code), [code]);
        let asked = self.policy_asked(snapshot, (asked, &policy), checked, (&key, &regions));
        Ok(self.plan_of(&asked, &snapshot.table).1)
    }
}

/// Where calls would go; nobody serves the region: nowhere, before and after.
fn after(snapshot: &Snapshot, code: Code, policy: Policy) -> Result<Vec<v1::ClassRoute>, Status> {
    if !snapshot.plans.regions.contains_key(&code) {
        return Ok(Vec::new());
    }
    let (table, signals) = what_if::with_policy(snapshot, code, policy);
    Ok(routes::by_class(&snapshot.table, &what_if::plan(snapshot, &table, &signals)?, code))
}

/// The rules in force, defaults filled in.
fn rules(policy: &Policy) -> Vec<v1::ClassRule> {
    let rule = |class: Class| {
        let at = class.index();
        let lag = policy.max_lag[at].or(MAX_LAG[at]);
        let nothing = policy::nothing_healthy(policy.nothing_healthy[at].unwrap_or(NOTHING_HEALTHY[at]));
        v1::ClassRule {
            class: class.to_proto().into(),
            max_lag_s: lag.map(|lag| u32::try_from(lag.as_secs()).unwrap_or(u32::MAX)),
            nothing_healthy: nothing.into(),
        }
    };
    Class::ALL.map(rule).into()
}

/// Who may answer, by tier and name; also peers that are not registered.
fn nodes(table: &Table, code: Code, policy: &Policy) -> Vec<v1::RegionNode> {
    let own =
        table.nodes.values().filter_map(|node| Some((tier_of(node, code)?, &node.name, &Class::ALL[..])));
    let peers = policy.peers.iter().map(|(name, classes)| (2, name, &classes[..]));
    let is_own = |name: &Arc<str>| table.nodes.get(name).is_some_and(|node| tier_of(node, code).is_some());
    let mut all: Vec<_> = own.chain(peers.filter(|(_, name, _)| !is_own(name))).collect();
    all.sort_by_key(|&(tier, name, _)| (tier, name));
    let told = all.into_iter().map(|(tier, name, classes)| {
        let node = table.nodes.get(name);
        let weight =
            policy.weights.iter().find(|(named, _)| named == name).map_or(0.0, |(_, weight)| *weight);
        v1::RegionNode {
            node: name.to_string(),
            tier,
            region: node.map_or(0, |node| node.region.get()),
            role: node.map_or(v1::Role::Unspecified, |node| super::role(node.role)).into(),
            classes: classes.iter().map(|class| class.to_proto().into()).collect(),
            weight: (!policy.weights.is_empty()).then_some(weight),
            endpoints: node.map_or(0, |node| u32::try_from(node.endpoints.len()).unwrap_or(u32::MAX)),
        }
    });
    told.collect()
}

/// How far a node stands is written to the registry every 30 s while nothing else changes, and takes a
/// while to be heard.
const HEARSAY: Duration = Duration::from_secs(40);

/// What a name means that no node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unregistered {
    /// A slip.
    Refuse,
    /// A node that is still to come.
    Warn,
}

/// Whether the nodes of a policy can do what it says of them; what may not be meant, a sentence each.
fn fit(
    code: Code,
    policy: &Policy,
    table: &Table,
    unregistered: Unregistered,
) -> Result<Vec<String>, Invalid> {
    let mut warnings = Vec::new();
    let mut find = |field: String, name: &str| match (table.nodes.get(name), unregistered) {
        (None, Unregistered::Refuse) => {
            policy::invalid(field, Problem::NodeUnknown, format!("a registered node, which {name} is not"))
        }
        (None, Unregistered::Warn) => {
            warnings.push(format!("{field}: {name} is not registered: it counts when it comes"));
            Ok(None)
        }
        (Some(node), _) => Ok(Some(node)),
    };
    for (at, (name, _)) in policy.peers.iter().enumerate() {
        let field = format!("peers[{at}].node");
        if find(field.clone(), name)?.is_some_and(|node| tier_of(node, code).is_some()) {
            let expected = format!("a node that does not answer for {code} anyway, as {name} does");
            return policy::invalid(field, Problem::PeerIsOwn, expected);
        }
    }
    for (at, (name, _)) in policy.weights.iter().enumerate() {
        let field = format!("weights[{at}].node");
        let is_peer = policy.peers.iter().any(|(peer, _)| peer == name);
        // A peer that is not registered has been complained of above.
        if is_peer && !table.nodes.contains_key(name) {
            continue;
        }
        if find(field.clone(), name)?.is_some_and(|node| tier_of(node, code).is_none()) && !is_peer {
            let expected =
                format!("a node of {code} or its province that answers for it, or a peer of this policy");
            return policy::invalid(field, Problem::NodeNoCandidate, expected);
        }
    }
    let own = table.nodes.values().filter(|node| tier_of(node, code).is_some());
    if own.clone().next().is_none() {
        warnings.push(format!("nobody serves {code} yet"));
    }
    if !policy.weights.is_empty() {
        let forgotten = own.filter(|node| !policy.weights.iter().any(|(name, _)| *name == node.name));
        let sentence = "has no weight: it gets only what those with a weight cannot take";
        warnings.extend(forgotten.map(|node| format!("weights: {} {sentence}", node.name)));
    }
    let tight = Class::ALL.into_iter().filter(|c| policy.max_lag[c.index()].is_some_and(|l| l < HEARSAY));
    let sentence = "below 40 s a node may count as old between two of its reports";
    warnings.extend(tight.map(|class| format!("classes.{class}.max_lag_s: {sentence}")));
    Ok(warnings)
}

fn refusal(invalid: &Invalid) -> Status {
    Reason::PolicyInvalid.with(&[
        ("field", &invalid.field),
        ("problem", invalid.problem.as_str()),
        ("expected", &invalid.expected),
    ])
}

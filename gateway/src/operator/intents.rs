//! What do operators want of a node, and may they want this?
//!
//! An intent is stage, drain and drained endpoints, one key of its own. Setting checks, then writes to
//! the registry by compare-and-swap on the revision that the caller had read; calls move when the fold
//! has read it from there, at this gateway as at every other.
//!
//! ```text
//!   SUSPENDED → TEST → CANARY 1 % → 5 % → 25 % → ACTIVE       up: one step at a time, or by force
//!       ▲________|_________|_______|______|________|          down: any number of steps
//!
//!   sound by itself? → node and endpoints there? → still the one that was read? → no stage skipped?
//!           → somebody left who answers? → dry run ends here → compare-and-swap
//! ```

mod present;
mod step;

use super::{
    Operator,
    moving::{Asked, How, Judged},
    policies::tier_of,
    routes, routing_exactly,
    swap::{Present, Swap},
    what_if,
};
use crate::{
    audit::actor::Deed,
    plan::{self, Plans, Route},
    registry::{
        fold,
        keys::{Key, Part, is_name},
    },
    snapshot::Snapshot,
    table::{Intent, Node, Stage},
};
use present::Stored;
use prost::Message as _;
use suiyue_proto::{
    method::Class,
    reason::Reason,
    region::{self, Code},
    v1,
};
use tonic::Status;

/// Endpoints that may be drained one by one; a node has a few.
const MAX_DRAINED: usize = 64;

impl Operator {
    /// Adds what operators want of the node. Intent and revision are those of one entry, so that who
    /// changes the intent and names the revision changes what it has read.
    pub(super) fn with_intent(&self, info: v1::NodeInfo, snapshot: &Snapshot, node: &Node) -> v1::NodeInfo {
        let key = self.prefix.key(&intent_key(node.region, &node.name));
        let stored = Stored(self.followed.as_ref().and_then(|followed| followed.entry(&key)));
        let problem = snapshot.table.quarantined.iter().find(|q| q.key == key).map(|q| q.reason.clone());
        v1::NodeInfo {
            intent: Some(stored.intent()),
            intent_revision: stored.revision(),
            intent_problem: problem.unwrap_or_default(),
            ..info
        }
    }

    pub(super) async fn set_intent(
        &self,
        deed: &Deed,
        asked: v1::SetNodeIntentRequest,
    ) -> Result<v1::SetNodeIntentResponse, Status> {
        if asked.dry_run {
            deed.rehearse();
        }
        let audit = self.audit.as_ref().ok_or_else(|| Reason::RegistryNone.status())?;
        let registry = self.registry.as_ref().ok_or_else(|| Reason::RegistryNone.status())?;
        let snapshot = self.snapshots.current();
        let (intent, wanted) = sound(asked.intent.clone().unwrap_or_default())?;
        let node = snapshot.table.nodes.get(asked.node.as_str()).map(|node| &**node);
        let code = region_of(&asked, node, intent)?;
        let (key, expected) = (intent_key(code, &asked.node), asked.expected_revision);
        let swap = Swap { key, value: wanted, expected, changed: Reason::IntentChanged };
        let stored = Stored(swap.read(&**registry, &self.prefix).await?);
        let standing = swap.judge(stored.0.as_ref())?;
        let before = stored.intent();
        let effect = match node {
            Some(node) => effect(&snapshot, node, intent, (&before, &swap.value), asked.force)?,
            None => Effect::to_come(&asked.node),
        };
        let mut judged = Judged::default();
        if let Some(node) = node.filter(|_| standing == Present::AsRead) {
            let how = How { force: asked.force, dry_run: asked.dry_run };
            let regions = regions(&snapshot, node);
            let asked = intent_asked(&snapshot, (&asked, &swap.value), (node, intent), (&swap.key, &regions));
            judged = self.judge(&snapshot, asked, how, false, deed).await?;
        }
        let also = judged.also();
        let (intent_revision, written) = match standing {
            Present::Same(revision) => (revision, false),
            Present::AsRead if asked.dry_run => (expected, false),
            Present::AsRead => swap.write(&self.prefix, (audit, deed), stored.0, also).await?,
        };
        if written {
            let (stage, drained) = (swap.value.stage().as_str_name(), intent.drained);
            let revision = intent_revision;
            tracing::info!(node = asked.node, region = %code, stage, drained, revision, "a node's intent is set");
        }
        Ok(v1::SetNodeIntentResponse {
            table: Some(self.table_info(&snapshot)),
            region: code.get(),
            intent_revision,
            written,
            warnings: effect.warnings,
            before: Some(before),
            routes: effect.routes,
            plan_hash: judged.hash.into(),
            moves: judged.moves,
            needs_approval: judged.needs_approval,
            refusals: judged.refusals,
        })
    }

    /// Name of the plan that an intent of a registered node is approved by.
    ///
    /// # Errors
    /// The intent cannot be used.
    pub(super) fn intent_plan(
        &self,
        snapshot: &Snapshot,
        asked: &v1::SetNodeIntentRequest,
    ) -> Result<Vec<u8>, Status> {
        let (intent, wanted) = sound(asked.intent.clone().unwrap_or_default())?;
        let node = snapshot.table.nodes.get(asked.node.as_str());
        let node = node.ok_or_else(|| Reason::NodeUnknown.with(&[("node", &asked.node)]))?;
        let (key, regions) = (intent_key(node.region, &asked.node), regions(snapshot, node));
        let asked = intent_asked(snapshot, (asked, &wanted), (node, intent), (&key, &regions));
        Ok(self.plan_of(&asked, &snapshot.table).1)
    }
}

/// What is judged of an intent. The region of a registered node is known, and need not be named.
fn intent_asked<'a>(
    snapshot: &Snapshot,
    (asked, wanted): (&'a v1::SetNodeIntentRequest, &v1::NodeIntent),
    (node, intent): (&Node, Intent),
    (key, regions): (&'a Key, &'a [Code]),
) -> Asked<'a> {
    let subject = v1::SetNodeIntentRequest {
        node: asked.node.clone(),
        intent: Some(wanted.clone()),
        expected_revision: asked.expected_revision,
        without: asked.without.clone(),
        ..Default::default()
    };
    let after = || what_if::with_intent(snapshot, &node.name, intent, &wanted.drained_endpoints);
    Asked {
        subject: subject.encode_to_vec(),
        key: (key, asked.expected_revision),
        regions,
        after: snapshot.inputs.is_some().then(after),
        without: &asked.without,
    }
}

fn intent_key(region: Code, node: &str) -> Key {
    Key::Node { region, node: node.to_owned(), part: Part::Intent }
}

/// The intent as the table will have it, and as it is stored: nothing in it is left to a default.
fn sound(mut wanted: v1::NodeIntent) -> Result<(Intent, v1::NodeIntent), Status> {
    let stage = match fold::read_stage(&wanted) {
        Ok(stage) => stage,
        Err(_) if v1::Stage::try_from(wanted.stage).is_err() => {
            return Err(invalid("stage", "TEST, CANARY, ACTIVE or SUSPENDED"));
        }
        Err(_) => return Err(invalid("canary_percent", "1, 5 or 25")),
    };
    if wanted.canary_percent != 0 && !matches!(stage, Stage::Canary(_)) {
        return Err(invalid("canary_percent", "nothing in another stage than CANARY"));
    }
    if wanted.drained_endpoints.len() > MAX_DRAINED {
        return Err(invalid("drained_endpoints", &format!("at most {MAX_DRAINED}")));
    }
    for (at, name) in wanted.drained_endpoints.iter().enumerate() {
        if !is_name(name) {
            let field = format!("drained_endpoints[{at}]");
            return Err(invalid(&field, "1 to 63 characters of a-z, 0-9 and '-'"));
        }
    }
    let (told, percent) = step::told(stage);
    (wanted.stage, wanted.canary_percent) = (told.into(), percent);
    wanted.drained_endpoints.sort_unstable();
    wanted.drained_endpoints.dedup();
    Ok((Intent { stage, drained: wanted.drained }, wanted))
}

/// The region of the node's key: of a registered node its own; of one that is still to come the named one.
fn region_of(asked: &v1::SetNodeIntentRequest, node: Option<&Node>, intent: Intent) -> Result<Code, Status> {
    match (node, asked.region) {
        (None, 0) => Err(Reason::NodeUnknown.with(&[("node", &asked.node)])),
        (None, number) => {
            let code = routing_exactly(number)?;
            if !is_name(&asked.node) {
                return Err(invalid("node", "1 to 63 characters of a-z, 0-9 and '-'"));
            }
            if !intent.drained && !matches!(intent.stage, Stage::Test | Stage::Suspended) {
                let expected = "TEST or SUSPENDED for a node that is still to come";
                return Err(invalid("stage", expected));
            }
            Ok(code)
        }
        (Some(node), number) if number == 0 || number == node.region.get() => Ok(node.region),
        (Some(node), _) => {
            let region = node.region.to_string();
            Err(Reason::NodeUnknown.with(&[("node", &asked.node), ("region_of_the_node", &region)]))
        }
    }
}

/// An endpoint that is drained already may stay so after it is gone.
fn endpoints_known(node: &Node, wanted: &v1::NodeIntent, before: &v1::NodeIntent) -> Result<(), Status> {
    let known = |name: &&String| {
        before.drained_endpoints.contains(name) || node.endpoints.iter().any(|there| *there.name == ***name)
    };
    match wanted.drained_endpoints.iter().find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => Err(Reason::EndpointUnknown.with(&[("node", &node.name), ("endpoint", name)])),
    }
}

/// What an intent does.
struct Effect {
    /// What is allowed but may not be meant, a sentence each.
    warnings: Vec<String>,
    /// Where calls of the node's regions go, before and after.
    routes: Vec<v1::IntentRoutes>,
}

impl Effect {
    fn to_come(name: &str) -> Self {
        let warnings = vec![format!("{name} is not registered: the intent counts when it comes")];
        Self { warnings, routes: Vec::new() }
    }
}

/// What the second of two intents does to a registered node, or why it may not.
fn effect(
    snapshot: &Snapshot,
    node: &Node,
    intent: Intent,
    (before, wanted): (&v1::NodeIntent, &v1::NodeIntent),
    force: bool,
) -> Result<Effect, Status> {
    endpoints_known(node, wanted, before)?;
    if !force {
        step::allowed(fold::stage_of(before), intent.stage)?;
    }
    // Before its first plan a gateway routes nothing that could be moved.
    if snapshot.inputs.is_none() {
        return Ok(Effect { warnings: Vec::new(), routes: Vec::new() });
    }
    let (table, signals) = what_if::with_intent(snapshot, &node.name, intent, &wanted.drained_endpoints);
    let after = what_if::plan(snapshot, &table, &signals)?;
    let regions = regions(snapshot, node);
    let warnings = left(&snapshot.plans, &after, &regions, force)?;
    let routes = regions.into_iter().map(|code| v1::IntentRoutes {
        region: code.get(),
        before: routes::by_class(&snapshot.table, &snapshot.plans, code),
        after: routes::by_class(&snapshot.table, &after, code),
    });
    Ok(Effect { warnings, routes: routes.collect() })
}

/// Regions whose calls the node may get, a peer's too.
fn regions(snapshot: &Snapshot, node: &Node) -> Vec<Code> {
    let routed = snapshot.plans.regions.keys().copied();
    let named = |code: &Code| {
        let policy = snapshot.table.policies.get(code);
        policy.is_some_and(|policy| policy.peers.iter().any(|(peer, _)| *peer == node.name))
    };
    let mut regions: Vec<_> = routed.filter(|code| tier_of(node, *code).is_some() || named(code)).collect();
    regions.sort_unstable();
    regions
}

/// Refuses to leave calls without anybody who answers them, unless by force: then it is a warning each.
fn left(before: &Plans, after: &Plans, regions: &[Code], force: bool) -> Result<Vec<String>, Status> {
    let mut warnings = Vec::new();
    for &code in regions {
        let answered = |plans: &Plans, class: Class| {
            plans.regions.get(&code).is_some_and(|routes| somebody(&routes[class.index()]))
        };
        let lost = |class: &Class| answered(before, *class) && !answered(after, *class);
        let Some(class) = Class::ALL.into_iter().find(lost) else { continue };
        if !force {
            let (region, class) = (code.to_string(), class.to_string());
            return Err(Reason::NobodyLeft.with(&[("region", &region), ("class", &class)]));
        }
        let name = region::find(code.get()).map_or("", |division| division.name_en);
        warnings.push(format!("nobody is left who answers {class} calls of {code} {name}"));
    }
    Ok(warnings)
}

/// Somebody healthy gets calls.
fn somebody(route: &Route) -> bool {
    route.candidates.iter().any(|c| c.share > 0.0 && c.reason != plan::Reason::FailOpen)
}

fn invalid(field: &str, expected: &str) -> Status {
    Reason::IntentInvalid.with(&[("field", field), ("expected", expected)])
}

//! How is every endpoint, and with it every node?
//!
//! The [`Fleet`] keeps a record and a checker for each endpoint of the table. [`Fleet::judge`] lets each
//! record take a step ([`crate::health::record`]), tells the workers, and adds up what the plan needs to
//! know of the nodes. Endpoints are judged one after the other, so that of two that fail together the
//! second one knows that the first is gone.

use super::{
    demand::Rate,
    meters::Meters,
    ramp::{Presence, Ramps},
};
use crate::{
    health::{
        State, Vitals, check,
        isolation::{self, Isolation},
        ramp::Ramp,
        record::{Around, Record, Stand},
    },
    identity::{SpiffeId, Trust, dial::Dialer},
    plan::{MIN_RAMP, NodeSignal},
    retry::budget::Budget,
    snapshot,
    table::{Check, Endpoint, Node, Stage, Table},
    telemetry::Metrics,
};
use rand::Rng as _;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use suiyue_proto::region::Code;
use tokio::{sync::Notify, task::JoinHandle};

/// What makes a record the same: another incarnation or address starts with a clean one.
type Identity = (Arc<str>, Arc<str>, u64, Arc<str>);

/// Beyond this part of its capacity a node has no room for what others refuse.
const ROOM: f64 = 0.8;
/// A half-open node gets a share that brings so many calls a second, of which one may pass.
const PROBE_RPS: f64 = 3.0;

pub(super) struct Fleet {
    workers: usize,
    metrics: Arc<Metrics>,
    changed: Arc<Notify>,
    endpoints: BTreeMap<Identity, Tracked>,
    slots: Vec<bool>,
    isolation: Isolation,
    ramps: Ramps,
    /// There were endpoints at some time.
    begun: bool,
    ramp: Ramp,
    use_of: BTreeMap<Arc<str>, Rate>,
    trust: Option<Trust>,
}

struct Tracked {
    vitals: Arc<Vitals>,
    record: Record,
    stand: Option<Stand>,
    checker: JoinHandle<()>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.checker.abort();
    }
}

impl Fleet {
    pub(super) fn new(workers: usize, ramp: Duration, metrics: Arc<Metrics>) -> Self {
        Self {
            workers,
            metrics,
            changed: Arc::default(),
            endpoints: BTreeMap::new(),
            slots: Vec::new(),
            isolation: Isolation::default(),
            ramps: Ramps::new(ramp),
            begun: false,
            ramp: Ramp::endpoint(ramp),
            use_of: BTreeMap::new(),
            trust: None,
        }
    }

    /// Endpoints that have a certificate are called over TLS.
    pub(super) fn trusting(self, trust: Option<Trust>) -> Self {
        Self { trust, ..self }
    }

    /// Told when a worker or a checker has something to say.
    pub(super) fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    pub(super) fn vitals(&self) -> Vec<Arc<Vitals>> {
        self.endpoints.values().map(|tracked| tracked.vitals.clone()).collect()
    }

    /// Makes the tracked endpoints those of the table.
    pub(super) fn follow(&mut self, table: &Table) {
        let wanted: BTreeMap<Identity, (&Arc<Node>, &Endpoint)> = table
            .nodes
            .values()
            .flat_map(|node| {
                node.endpoints.iter().map(move |endpoint| (identity(node, endpoint), (node, endpoint)))
            })
            .collect();
        let slots = &mut self.slots;
        self.endpoints.retain(|id, tracked| {
            let keep = wanted.contains_key(id);
            if !keep {
                slots[tracked.vitals.slot] = false;
            }
            keep
        });
        for (id, (node, endpoint)) in wanted {
            if !self.endpoints.contains_key(&id) {
                let tracked = self.track(node, endpoint);
                self.endpoints.insert(id, tracked);
            }
        }
        if !self.begun && !self.endpoints.is_empty() {
            self.begun = true;
            self.ramps.begin(Instant::now());
        }
        self.ramps.retain(|node| table.nodes.contains_key(node));
        self.use_of.retain(|node, _| table.nodes.contains_key(node));
    }

    fn track(&mut self, node: &Node, endpoint: &Endpoint) -> Tracked {
        let slot = self.slots.iter().position(|taken| !taken).unwrap_or_else(|| {
            self.slots.push(false);
            self.slots.len() - 1
        });
        self.slots[slot] = true;
        let changed = self.changed.clone();
        let vitals = Vitals::new(slot, node.name.clone(), endpoint.clone(), changed, self.workers);
        let dialer = self.trust.as_ref().zip(endpoint.identity.as_ref());
        let dialer = dialer.map(|(trust, id)| Dialer::new(trust, SpiffeId::clone(id)));
        let vitals = Arc::new(vitals.reached_by(dialer));
        let checker = tokio::spawn(check::watch(vitals.clone(), node.region));
        let record = Record::new(endpoint.check != Check::Grpc, Instant::now());
        Tracked { vitals, record, stand: None, checker }
    }

    /// Judges every endpoint, and gives the plan's signals of all nodes.
    pub(super) fn judge(
        &mut self,
        table: &Table,
        demand: &BTreeMap<Code, [f64; 4]>,
        gateways: u32,
        now: Instant,
    ) -> BTreeMap<Arc<str>, NodeSignal> {
        let own_use = self.own_use(table, now);
        let frozen = self.is_frozen(table, now);
        let ids: Vec<Identity> = self.endpoints.keys().cloned().collect();
        for id in ids {
            let Some(node) = table.nodes.get(&id.0) else { continue };
            let around = Around {
                others: self.has_others(table, node, &id, demand),
                frozen,
                ramp: (!self.ramps.is_young(now)).then_some(self.ramp),
                jitter: rand::rng().random_range(0.8..1.2),
            };
            let room = node.rps_max.is_none_or(|max| {
                let part = f64::from(max) / f64::from(gateways.max(1));
                own_use.get(&id.0).is_none_or(|&rps| rps < ROOM * part)
            });
            if let Some(tracked) = self.endpoints.get_mut(&id) {
                tracked.step(&around, room, &self.metrics, now);
            }
        }
        table
            .nodes
            .values()
            .map(|node| (node.name.clone(), self.signal(node, &own_use, demand, now)))
            .collect()
    }

    /// Calls a second to every node.
    fn own_use(&mut self, table: &Table, now: Instant) -> BTreeMap<Arc<str>, f64> {
        let mut totals: BTreeMap<&Arc<str>, u64> = table.nodes.keys().map(|node| (node, 0)).collect();
        for tracked in self.endpoints.values() {
            if let Some(total) = totals.get_mut(&tracked.vitals.node) {
                *total += tracked.vitals.counted(now).tally.all();
            }
        }
        let use_of = &mut self.use_of;
        totals
            .into_iter()
            .map(|(node, total)| {
                let rate = use_of.entry(node.clone()).or_insert_with(|| Rate::new(now));
                (node.clone(), rate.feed(total, now))
            })
            .collect()
    }

    /// More than half of the nodes fail together: it is us.
    fn is_frozen(&mut self, table: &Table, now: Instant) -> bool {
        let mut fit: BTreeMap<&Arc<str>, bool> = BTreeMap::new();
        for node in table.nodes.values() {
            for tracked in node.endpoints.iter().filter(|e| !e.draining).filter_map(|e| self.of(node, e)) {
                *fit.entry(&node.name).or_default() |= tracked.vitals.state() <= State::HalfOpen;
            }
        }
        let verdict = self.isolation.look(fit.into_iter(), now);
        self.metrics.rules.isolated(verdict != isolation::Verdict::Connected);
        if verdict == isolation::Verdict::Began {
            tracing::error!(
                freeze_s = isolation::FREEZE.as_secs(),
                "more than half of the nodes failed together: this gateway's own network is suspect; \
                 nobody is ejected for now"
            );
            for tracked in self.endpoints.values_mut() {
                tracked.record.pardon();
            }
        }
        verdict != isolation::Verdict::Connected
    }

    /// Somebody else has room for the calls of an endpoint: another endpoint of its node, or another node
    /// for each region that is asked about at all.
    fn has_others(
        &self,
        table: &Table,
        node: &Node,
        id: &Identity,
        demand: &BTreeMap<Code, [f64; 4]>,
    ) -> bool {
        let sibling = node.endpoints.iter().any(|endpoint| {
            endpoint.name != id.1
                && !endpoint.draining
                && self.of(node, endpoint).is_some_and(Tracked::has_room)
        });
        if sibling {
            return true;
        }
        let Some(own) = node.endpoints.iter().find(|endpoint| endpoint.name == id.1) else { return false };
        let asked: Vec<Code> = own.ready.iter().map(|(code, _)| *code).collect();
        let wanted: Vec<Code> = asked.iter().copied().filter(|code| demand.contains_key(code)).collect();
        let codes = if wanted.is_empty() { asked } else { wanted };
        !codes.is_empty() && codes.into_iter().all(|code| self.stands_in(table, node, code))
    }

    /// Another node can answer for a region.
    fn stands_in(&self, table: &Table, node: &Node, code: Code) -> bool {
        table.nodes.values().any(|other| {
            other.name != node.name
                && !other.intent.drained
                && !matches!(other.intent.stage, Stage::Test | Stage::Suspended)
                && other.scopes.contains(&code)
                && other.endpoints.iter().any(|endpoint| {
                    !endpoint.draining
                        && endpoint.ready.iter().any(|(ready, _)| *ready == code)
                        && self.of(other, endpoint).is_some_and(Tracked::has_room)
                })
        })
    }

    fn of(&self, node: &Node, endpoint: &Endpoint) -> Option<&Tracked> {
        self.endpoints.get(&identity(node, endpoint))
    }

    fn signal(
        &mut self,
        node: &Node,
        own_use: &BTreeMap<Arc<str>, f64>,
        demand: &BTreeMap<Code, [f64; 4]>,
        now: Instant,
    ) -> NodeSignal {
        let present: Vec<&Endpoint> = node.endpoints.iter().filter(|e| !e.draining).collect();
        let mut ready = BTreeMap::new();
        for &(code, as_of) in present.iter().flat_map(|e| &e.ready) {
            // The oldest counts: any of them may answer.
            ready.entry(code).and_modify(|oldest: &mut i64| *oldest = as_of.min(*oldest)).or_insert(as_of);
        }
        let (mut health, mut probing, mut presence) = (0.0, 0.0, Presence::Gone);
        for tracked in present.iter().filter_map(|endpoint| self.of(node, endpoint)) {
            let Some(stand) = tracked.stand else { continue };
            health += stand.health / present.len() as f64;
            match stand.state {
                State::HalfOpen => probing += 1.0 / present.len() as f64,
                State::Suspect if tracked.record.was_in_rotation() && presence == Presence::Gone => {
                    presence = Presence::Doubted;
                }
                State::Ok | State::Suspect | State::Ejected => {}
            }
        }
        if health > 0.0 {
            presence = Presence::Fit;
        }
        let mut ramp = self.ramps.of(&node.name, presence, now);
        let is_probing = health <= 0.0 && probing > 0.0;
        if is_probing {
            // A share just large enough that the one call a second comes by, of all regions together.
            let rps: f64 = ready.keys().filter_map(|code| demand.get(code)).flatten().sum();
            (health, ramp) = (probing, (PROBE_RPS / rps.max(1.0)).clamp(MIN_RAMP, 0.5));
        }
        let own_use = own_use.get(&node.name).copied().unwrap_or(0.0);
        NodeSignal { health, ramp, probing: is_probing, ready, own_use }
    }
}

impl Tracked {
    fn has_room(&self) -> bool {
        self.vitals.state() == State::Ok && self.vitals.has_room()
    }

    fn step(&mut self, around: &Around, room: bool, metrics: &Metrics, now: Instant) {
        let seen = self.vitals.seen(now);
        let stand = self.record.step(&seen, around, now);
        self.vitals.show(&stand, seen.state, room, now);
        if let Some(event) = stand.event {
            metrics.rules.event(&self.vitals.node, event);
        }
        self.stand = Some(stand);
    }
}

/// What the routes of a snapshot point to.
pub(super) struct Parts<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) meters: &'a mut Meters,
}

impl snapshot::Parts for Parts<'_> {
    fn vitals(&self, node: &Arc<str>, endpoint: &Arc<str>) -> Option<Arc<Vitals>> {
        // The table has one incarnation of an endpoint, and so does the fleet.
        let from = (node.clone(), endpoint.clone(), 0, Arc::from(""));
        let (_, tracked) =
            self.fleet.endpoints.range(from..).next().filter(|(id, _)| id.0 == *node && id.1 == *endpoint)?;
        Some(tracked.vitals.clone())
    }

    fn budget(&mut self, region: Code, node: &Arc<str>) -> Arc<Budget> {
        self.meters.budget_of(region, node)
    }

    fn demand(&mut self, region: Code) -> Arc<super::demand::Demand> {
        self.meters.demand_of(region)
    }
}

fn identity(node: &Node, endpoint: &Endpoint) -> Identity {
    (node.name.clone(), endpoint.name.clone(), endpoint.incarnation, endpoint.address.clone())
}

#[cfg(test)]
mod tests;

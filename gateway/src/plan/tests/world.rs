//! What is the plan asked about in these tests?
//!
//! A small federation that every test changes a little: Guangzhou's suikang, the province's yuekang,
//! which also stands in for Shaoguan, and xian, a peer for scans.

use crate::{
    plan::{NodeSignal, Now, Plans, Previous, Route, Signals},
    table::{CEILINGS, Intent, Node, Policy, Role, Shift, Stage, Table},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};
use suiyue_proto::{method::Class, region::Code};

/// Milliseconds since 1970.
pub(crate) const NOW: i64 = 1_800_000_000_000;

pub(crate) const GUANGDONG: u32 = 440_000;
pub(crate) const GUANGZHOU: u32 = 440_100;
pub(crate) const SHAOGUAN: u32 = 440_200;
pub(crate) const XIAN: u32 = 610_100;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

pub(crate) fn code(n: u32) -> Code {
    Code::new(n).unwrap()
}

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) table: Table,
    pub(crate) signals: Signals,
    pub(crate) previous: Previous,
    pub(crate) wall_ms: i64,
    /// The registry was heard so long ago.
    pub(crate) silent_ms: i64,
}

impl World {
    /// Nobody.
    pub(crate) fn empty() -> Self {
        let signals = Signals { gateways: 1, ..Signals::default() };
        Self { table: Table::default(), signals, previous: Previous::default(), wall_ms: NOW, silent_ms: 0 }
    }

    /// Everybody is there and healthy; no capacity is declared, no demand known.
    pub(crate) fn new() -> Self {
        Self::empty()
            .join("suikang", Role::City, &[GUANGZHOU])
            .join("yuekang", Role::Province, &[GUANGDONG, GUANGZHOU, SHAOGUAN])
            .join("xian", Role::City, &[XIAN])
            .policy(|p| p.peers = vec![("xian".into(), vec![Class::Scan])])
    }

    /// A node; its own region is the first of its scopes.
    pub(crate) fn join(mut self, name: &str, role: Role, scopes: &[u32]) -> Self {
        let scopes: Vec<Code> = scopes.iter().map(|&n| code(n)).collect();
        let ready: BTreeMap<Code, i64> = scopes.iter().map(|&code| (code, NOW)).collect();
        self.signals
            .nodes
            .insert(name.into(), NodeSignal { health: 1.0, ramp: 1.0, probing: false, ready, own_use: 0.0 });
        let node = Node {
            name: name.into(),
            region: scopes[0],
            role,
            scopes,
            rps_max: None,
            ceilings: CEILINGS,
            intent: Intent::default(),
            is_static: false,
            endpoints: Vec::new(),
        };
        self.table.nodes.insert(name.into(), Arc::new(node));
        self
    }

    pub(crate) fn node(mut self, name: &str, change: impl FnOnce(&mut Node)) -> Self {
        let mut node = Node::clone(&self.table.nodes[name]);
        change(&mut node);
        self.table.nodes.insert(name.into(), Arc::new(node));
        self
    }

    pub(crate) fn rps_max(self, name: &str, rps: u32) -> Self {
        self.node(name, |n| n.rps_max = Some(rps))
    }

    pub(crate) fn drain(self, name: &str) -> Self {
        self.node(name, |n| n.intent.drained = true)
    }

    pub(crate) fn stage(self, name: &str, stage: Stage) -> Self {
        self.node(name, |n| n.intent.stage = stage)
    }

    pub(crate) fn signal(mut self, name: &str, change: impl FnOnce(&mut NodeSignal)) -> Self {
        change(self.signals.nodes.get_mut(name).unwrap());
        self
    }

    pub(crate) fn health(self, name: &str, health: f64) -> Self {
        self.signal(name, |s| s.health = health)
    }

    pub(crate) fn ramp(self, name: &str, ramp: f64) -> Self {
        self.signal(name, |s| s.ramp = ramp)
    }

    /// Its data about Guangzhou are so old.
    pub(crate) fn lag(self, name: &str, seconds: i64) -> Self {
        self.signal(name, |s| {
            s.ready.insert(code(GUANGZHOU), NOW - seconds * 1000);
        })
    }

    /// Changes Guangzhou's policy.
    pub(crate) fn policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(self.table.policies.entry(code(GUANGZHOU)).or_default());
        self
    }

    pub(crate) fn weights(self, weights: &[(&str, f64)]) -> Self {
        let weights = weights.iter().map(|&(name, weight)| (name.into(), weight)).collect();
        self.policy(|p| p.weights = weights)
    }

    pub(crate) fn demand(mut self, region: u32, class: Class, rps: f64) -> Self {
        self.signals.demand.entry(code(region)).or_default()[class.index()] = rps;
        self
    }

    /// A shift of all classes of Guangzhou in full force.
    pub(crate) fn shift(self, from: &str, to: &[(&str, f64)], percent: f64) -> Self {
        self.order(|s| {
            s.from = from.into();
            s.to = to.iter().map(|&(name, weight)| (name.into(), weight)).collect();
            s.percent = percent;
        })
    }

    pub(crate) fn order(mut self, change: impl FnOnce(&mut Shift)) -> Self {
        let mut shift = a_shift();
        shift.id = format!("s{}", self.table.shifts.len() + 1).into();
        change(&mut shift);
        self.table.shifts.push(Arc::new(shift));
        self
    }

    pub(crate) fn plan(&self) -> Plans {
        let heard_ms = self.wall_ms - self.silent_ms;
        let now = Now { monotonic: *START, wall_ms: self.wall_ms, heard_ms };
        crate::plan::plan(&self.table, &self.signals, &self.previous, now)
    }

    pub(crate) fn route(&self, region: u32, class: Class) -> Route {
        self.plan().regions[&code(region)][class.index()].clone()
    }
}

/// From suikang to yuekang, 50 % at once, for an hour from now on.
pub(crate) fn a_shift() -> Shift {
    Shift {
        id: "s1".into(),
        region: code(GUANGZHOU),
        classes: Vec::new(),
        from: "suikang".into(),
        to: vec![("yuekang".into(), 1.0)],
        percent: 50.0,
        step: 0.0,
        every: Duration::ZERO,
        start_ms: NOW,
        expires_at_ms: NOW + 3_600_000,
        held_ms: None,
        back: Default::default(),
        guards: Default::default(),
    }
}

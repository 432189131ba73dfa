//! How long does a plan take, and how long does a request look for its node?
//!
//! The federation of the benches: all provinces and prefectures and so many counties that there are 400
//! regions; a node with a declared capacity in each, those of the provinces stand in for their cities; a
//! peer for scans and a shift in every tenth region. `quiet`: demand below capacity; `busy`: every city at twice its capacity.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};
use suiyue_gateway::{
    control::demand::Demand,
    health::Vitals,
    plan::{Inputs, NodeSignal, Now, Plans, Previous, Signals, mix, plan},
    retry::budget::Budget,
    snapshot::{Parts, Snapshot},
    table::{CEILINGS, Intent, Node, Policy, Role, Shift, Table},
};
use suiyue_proto::{
    method::Class,
    region::{self, Code},
};

/// No endpoint is tracked, and all regions share a counter and a budget.
struct Nobody(Arc<Budget>, Arc<Demand>);

impl Nobody {
    fn new() -> Self {
        Self(Arc::new(Budget::new(2)), Arc::new(Demand::new(2)))
    }
}

impl Parts for Nobody {
    fn vitals(&self, _: &Arc<str>, _: &Arc<str>) -> Option<Arc<Vitals>> {
        None
    }

    fn budget(&mut self, _: Code, _: &Arc<str>) -> Arc<Budget> {
        self.0.clone()
    }

    fn demand(&mut self, _: Code) -> Arc<Demand> {
        self.1.clone()
    }
}

const REGIONS: usize = 400;
const CITY_RPS: u32 = 1_000;
const NOW_MS: i64 = 1_800_000_000_000;

struct World {
    table: Table,
    signals: Signals,
    now: Now,
}

impl World {
    /// `load`: demand of every region as a part of its city's capacity.
    fn new(load: f64) -> Self {
        let mut world = Self {
            table: Table::default(),
            signals: Signals { gateways: 4, ..Signals::default() },
            now: Now { monotonic: Instant::now(), wall_ms: NOW_MS, heard_ms: NOW_MS },
        };
        let counties = region::all().filter(|d| !d.is_region());
        let regions = region::all().filter(|d| d.is_region()).chain(counties);
        let regions: Vec<Code> = regions.map(|d| d.code).take(REGIONS).collect();
        assert_eq!(regions.len(), REGIONS);
        let mut provinces: BTreeMap<Code, Vec<Code>> = BTreeMap::new();
        for &code in &regions {
            let is_province = code.province() == Some(code);
            if is_province {
                provinces.entry(code).or_default();
            } else {
                if let Some(province) = region::parent(code) {
                    provinces.entry(province).or_default().push(code);
                }
                world.join(&format!("city-{code}"), Role::City, vec![code], CITY_RPS);
            }
            let rps = f64::from(CITY_RPS) / 4.0 * load;
            world.signals.demand.insert(code, [0.4, 0.3, 0.2, 0.1].map(|part| part * rps));
        }
        for (province, mut scopes) in provinces {
            scopes.insert(0, province);
            world.join(&format!("province-{province}"), Role::Province, scopes, 5 * CITY_RPS);
        }
        for (n, &code) in regions.iter().enumerate().filter(|(n, _)| n % 10 == 0) {
            world.direct(code, regions[(n + 50) % REGIONS]);
        }
        world
    }

    fn join(&mut self, name: &str, role: Role, scopes: Vec<Code>, rps: u32) {
        let name: Arc<str> = name.into();
        let ready = scopes.iter().map(|&code| (code, NOW_MS)).collect();
        let signal =
            NodeSignal { health: 1.0, ramp: 1.0, probing: false, ready, own_use: f64::from(rps) / 4.0 };
        self.signals.nodes.insert(name.clone(), signal);
        let region = scopes[0];
        let node = Node {
            name: name.clone(),
            region,
            role,
            scopes,
            rps_max: Some(rps),
            ceilings: CEILINGS,
            intent: Intent::default(),
            is_static: false,
            endpoints: Vec::new(),
        };
        self.table.nodes.insert(name, Arc::new(node));
    }

    /// A peer and a shift for a region.
    fn direct(&mut self, code: Code, other: Code) {
        let peer: Arc<str> = format!("city-{other}").into();
        let peers = vec![(peer, vec![Class::Scan])];
        self.table.policies.insert(code, Policy { peers, ..Policy::default() });
        let Some(province) = region::parent(code) else { return };
        self.table.shifts.push(Arc::new(Shift {
            id: format!("shift-{code}").into(),
            region: code,
            classes: Vec::new(),
            from: format!("city-{code}").into(),
            to: vec![(format!("province-{province}").into(), 1.0)],
            percent: 20.0,
            step: 10.0,
            every: Duration::from_secs(30),
            start_ms: NOW_MS - 600_000,
            expires_at_ms: NOW_MS + 600_000,
            held_ms: None,
            back: Default::default(),
            guards: Default::default(),
        }));
    }

    fn plan(&self, previous: &Previous) -> Plans {
        plan(&self.table, &self.signals, previous, self.now)
    }
}

fn rebuild(c: &mut Criterion) {
    let mut group = c.benchmark_group("rebuild of 400 regions x 4 classes");
    for (name, load) in [("quiet", 0.5), ("busy", 2.0)] {
        let world = World::new(load);
        let previous = Previous { plans: Arc::new(world.plan(&Previous::default())) };
        group.bench_function(name, |b| b.iter_with_large_drop(|| world.plan(black_box(&previous))));
    }
    let world = World::new(2.0);
    let (table, previous) = (Arc::new(world.table.clone()), Previous::default());
    let inputs = Arc::new(Inputs { signals: world.signals.clone(), previous, now: world.now });
    group.bench_function("busy, with its snapshot", |b| {
        let fresh = || (table.clone(), inputs.clone());
        let make = |(table, inputs): (Arc<Table>, Arc<Inputs>)| {
            let plans = Arc::new(plan(&table, &inputs.signals, &inputs.previous, inputs.now));
            Snapshot::new(table, (plans, inputs), 1, Vec::new(), &mut Nobody::new())
        };
        b.iter_batched(fresh, make, BatchSize::LargeInput);
    });
    group.finish();
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("look-up and pick");
    for (name, load) in [("quiet", 0.5), ("busy", 2.0)] {
        let world = World::new(load);
        let (table, previous) = (Arc::new(world.table.clone()), Previous::default());
        let plans = Arc::new(world.plan(&previous));
        let codes: Vec<Code> = plans.regions.keys().copied().collect();
        let inputs = Arc::new(Inputs { signals: world.signals.clone(), previous, now: world.now });
        let snapshot = Snapshot::new(table, (plans, inputs), 1, Vec::new(), &mut Nobody::new());
        let mut n = 0u64;
        group.bench_function(name, |b| {
            b.iter(|| {
                n += 1;
                let key = mix(n);
                let class = Class::ALL[(key >> 62) as usize];
                let route = snapshot.route(codes[key as usize % codes.len()], class)?;
                route.route.pick(black_box(key))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, rebuild, pick);
criterion_main!(benches);

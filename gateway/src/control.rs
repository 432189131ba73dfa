//! Who turns table and health into the snapshot that workers read?
//!
//! One task. It owns the endpoints' records and their checkers (`fleet`), and the counters that outlive
//! a snapshot (`meters`). It makes a plan at once when the table or an endpoint's state changes
//! (changes within 5 ms make one plan), four times a second when only the load does, and publishes. The
//! last 64 snapshots are kept so that `explain` can answer about a plan that an answer named.

pub mod demand;
mod fleet;
mod meters;
mod ramp;

use crate::{
    clock::unix_ms,
    identity::Trust,
    plan::{self, Inputs, News, Now, Previous, Signals},
    shifts::{Clocks, Holds},
    snapshot::Snapshot,
    table::Table,
    telemetry::{Metrics, histogram::Histogram},
};
use fleet::Fleet;
use meters::Meters;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

/// Changes within this time make one plan.
const COALESCE: Duration = Duration::from_millis(5);
/// Counters are looked at, and load changes make a plan, this often.
const TICK: Duration = Duration::from_millis(250);
/// Data grow old without any other change: a plan is made anew at least this often. Measured numbers
/// are shown to those who ask this often.
const REPLAN: Duration = Duration::from_secs(1);
/// Snapshots that `explain` can go back to.
const HISTORY: usize = 64;

/// The snapshots of a gateway, for readers on the control side.
#[derive(Clone)]
pub struct Snapshots {
    current: watch::Receiver<Arc<Snapshot>>,
    history: Arc<Mutex<VecDeque<Arc<Snapshot>>>>,
    /// How long it took to make them, those included that changed nothing.
    pub rebuilds: Arc<Histogram>,
    /// Shifts that this gateway holds by itself: the next plan goes by them.
    pub holds: Holds,
}

impl Snapshots {
    /// The snapshot in force.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.borrow().clone()
    }

    /// Waits for a snapshot that knows the federation. Cancel safe.
    pub async fn known(&self) {
        // Without a control task nothing will come any more, and the gateway ends.
        let _ = self.current.clone().wait_for(|snapshot| snapshot.is_known()).await;
    }

    /// Follows the snapshots, for a worker.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.clone()
    }

    /// An earlier snapshot, while it is kept.
    #[must_use]
    pub fn generation(&self, generation: u64) -> Option<Arc<Snapshot>> {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.iter().find(|snapshot| snapshot.generation == generation).cloned()
    }

    /// Generations of the oldest and the newest snapshot that are kept; 0 while there is none.
    #[must_use]
    pub fn kept(&self) -> (u64, u64) {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = |snapshot: Option<&Arc<Snapshot>>| snapshot.map_or(0, |s| s.generation);
        (generation(history.front()), generation(history.back()))
    }
}

/// The control task.
pub struct Control {
    tables: watch::Receiver<Arc<Table>>,
    publisher: watch::Sender<Arc<Snapshot>>,
    history: Arc<Mutex<VecDeque<Arc<Snapshot>>>>,
    metrics: Arc<Metrics>,
    gateways: Arc<AtomicU32>,
    heard_ms: Arc<AtomicI64>,
    fleet: Fleet,
    meters: Meters,
    generation: u64,
    /// What the last plan was made from, and when.
    last: Option<(Arc<Table>, Signals, Instant)>,
    /// When a snapshot was last shown.
    shown: Instant,
    rebuilds: Arc<Histogram>,
    clocks: Clocks,
    holds: Holds,
}

/// What a control task is given at its start.
pub struct Setup {
    /// Tables, as they change.
    pub tables: watch::Receiver<Arc<Table>>,
    /// A node that returns gets its share back within this time.
    pub ramp: Duration,
    /// Workers that count.
    pub workers: usize,
    /// Counters, shared with scrapes.
    pub metrics: Arc<Metrics>,
    /// Live gateways, this one among them.
    pub gateways: Arc<AtomicU32>,
    /// When the registry last said that the table is true, in milliseconds since 1970; `i64::MAX` where
    /// there is none.
    pub heard_ms: Arc<AtomicI64>,
    /// How certificates are judged; `None`: there are none.
    pub trust: Option<Trust>,
}

impl Control {
    /// A control task, and the snapshots that it will publish.
    #[must_use]
    pub fn new(setup: Setup) -> (Self, Snapshots) {
        let (publisher, current) = watch::channel(Arc::new(Snapshot::default()));
        let history = Arc::new(Mutex::new(VecDeque::new()));
        let snapshots = Snapshots {
            current,
            history: history.clone(),
            rebuilds: Arc::default(),
            holds: Holds::default(),
        };
        let control = Self {
            tables: setup.tables,
            publisher,
            history,
            fleet: Fleet::new(setup.workers, setup.ramp, setup.metrics.clone()).trusting(setup.trust),
            meters: Meters::new(setup.workers),
            metrics: setup.metrics,
            gateways: setup.gateways,
            heard_ms: setup.heard_ms,
            generation: 0,
            last: None,
            shown: Instant::now(),
            rebuilds: snapshots.rebuilds.clone(),
            clocks: Clocks::default(),
            holds: snapshots.holds.clone(),
        };
        (control, snapshots)
    }

    /// Plans and publishes until `shutdown`. The first snapshot is published before the first await.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // Without a registry nobody publishes tables: the static one stays.
        let mut fixed = false;
        let changed = self.fleet.changed();
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.turn(Instant::now());
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.tables.changed(), if !fixed => fixed = changed.is_err(),
                () = changed.notified() => {}
                _ = tick.tick() => continue,
            }
            sleep(COALESCE).await;
        }
    }

    /// Judges everybody, and plans if anything changed.
    fn turn(&mut self, now: Instant) {
        let table = self.tables.borrow_and_update().clone();
        let is_new = self.last.as_ref().is_none_or(|(last, ..)| !Arc::ptr_eq(last, &table));
        if is_new {
            self.fleet.follow(&table);
            self.metrics.apps.retain(|app| table.apps.app(app).is_some());
        }
        self.meters.mint(now);
        let demand = self.meters.demand(now);
        let nodes = self.fleet.judge(&table, &demand, self.gateways(), now);
        let shifts = self.clocks.signals(&table, &self.holds, now, unix_ms());
        let signals = Signals { nodes, demand, gateways: self.gateways(), shifts };
        let same = self.last.as_ref().is_some_and(|(last, known, at)| {
            Arc::ptr_eq(last, &table)
                && *known == signals
                && table.shifts.is_empty()
                && now.saturating_duration_since(*at) < REPLAN
        });
        if !same {
            self.plan(table.clone(), signals.clone(), now);
            self.last = Some((table, signals, now));
        }
    }

    fn gateways(&self) -> u32 {
        self.gateways.load(Relaxed).max(1)
    }

    fn plan(&mut self, table: Arc<Table>, signals: Signals, monotonic: Instant) {
        let start = Instant::now();
        let before = self.publisher.borrow().clone();
        let previous = Previous { plans: before.plans.clone() };
        let wall_ms = unix_ms();
        let now = Now { monotonic, wall_ms, heard_ms: self.heard_ms.load(Relaxed).min(wall_ms) };
        let plans = Arc::new(plan::plan(&table, &signals, &previous, now));
        let news = plans.news(&before.plans);
        let quiet = news == News::Nothing && Arc::ptr_eq(&before.table, &table);
        if quiet && monotonic.saturating_duration_since(self.shown) < REPLAN {
            return;
        }
        self.shown = monotonic;
        let inputs = Arc::new(Inputs { signals, previous, now });
        // The first snapshot has a generation, too: it says that there is a table.
        if news == News::Routing || self.generation == 0 {
            self.generation += 1;
        }
        self.meters.retain(&plans);
        let mut parts = fleet::Parts { fleet: &self.fleet, meters: &mut self.meters };
        let vitals = self.fleet.vitals();
        let snapshot = Snapshot::new(table, (plans, inputs), self.generation, vitals.clone(), &mut parts);
        self.metrics.rules.follow(vitals, self.meters.budgets());
        self.publish(Arc::new(snapshot), quiet);
        self.rebuilds.observe(start.elapsed());
    }

    /// Publishes. `quiet`: for those who ask, with the numbers of now; workers are not woken for it.
    fn publish(&self, snapshot: Arc<Snapshot>, quiet: bool) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.back().is_some_and(|last| last.generation == snapshot.generation) {
            history.pop_back();
        }
        history.push_back(snapshot.clone());
        if history.len() > HISTORY {
            history.pop_front();
        }
        drop(history);
        self.publisher.send_if_modified(|shown| {
            *shown = snapshot;
            !quiet
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{CEILINGS, Check, Endpoint, Intent, Node, Role};
    use suiyue_proto::{method::Class, region::Code};

    fn suikang() -> Table {
        let code = Code::new(440_100).unwrap();
        let endpoint = Endpoint {
            name: "a".into(),
            address: "127.0.0.1:1".into(),
            incarnation: 1,
            ready: vec![(code, 0)],
            draining: false,
            check: Check::None,
            identity: None,
        };
        let node = Node {
            name: "suikang".into(),
            region: code,
            role: Role::City,
            scopes: vec![code],
            rps_max: None,
            ceilings: CEILINGS,
            intent: Intent::default(),
            is_static: true,
            endpoints: vec![endpoint],
        };
        Table { nodes: [(node.name.clone(), Arc::new(node))].into(), ..Table::default() }
    }

    #[tokio::test]
    async fn who_asks_sees_the_demand_of_now_and_workers_are_left_alone() {
        let (_tables, tables) = watch::channel(Arc::new(suikang()));
        let (mut control, snapshots) = Control::new(Setup {
            tables,
            ramp: Duration::ZERO,
            workers: 1,
            metrics: Arc::new(Metrics::new(1)),
            gateways: Arc::new(AtomicU32::new(1)),
            heard_ms: Arc::new(AtomicI64::new(i64::MAX)),
            trust: None,
        });
        let code = Code::new(440_100).unwrap();
        let mut now = Instant::now();
        for _ in 0..8 {
            control.turn(now);
            now += TICK;
        }
        let mut worker = snapshots.subscribe();
        let first = worker.borrow_and_update().clone();
        assert!(first.generation > 0 && first.inputs.as_ref().unwrap().signals.demand.is_empty());
        for _ in 0..8 {
            for _ in 0..100 {
                first.route(code, Class::Scan).unwrap().demand.count(0, Class::Scan);
            }
            control.turn(now);
            now += TICK;
        }
        let current = snapshots.current();
        assert!(current.inputs.as_ref().unwrap().signals.demand[&code][0] > 100.0);
        assert_eq!((current.generation, worker.has_changed().unwrap()), (first.generation, false));
        assert!(Arc::ptr_eq(&snapshots.generation(current.generation).unwrap(), &current));
    }
}

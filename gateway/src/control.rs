//! Who turns table and health into the snapshot that workers read?
//!
//! One task. It owns the endpoints' records and their checkers, makes a plan when the table or an
//! endpoint's state changes (changes within 5 ms make one plan), and publishes. The last 64 snapshots
//! are kept so that `explain` can answer about a plan that an answer named.

mod ramp;

use crate::{
    health::{State, Vitals, check},
    plan::{self, NodeSignal, Signals},
    snapshot::Snapshot,
    table::{Endpoint, Node, Table},
    telemetry::histogram::Histogram,
};
use ramp::Ramps;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// Changes within this time make one plan.
const COALESCE: Duration = Duration::from_millis(5);
/// While a node returns, its share is raised this often.
const RAMP_STEP: Duration = Duration::from_millis(250);
/// Snapshots that `explain` can go back to.
const HISTORY: usize = 64;

/// The snapshots of a gateway, for readers on the control side.
#[derive(Clone)]
pub struct Snapshots {
    current: watch::Receiver<Arc<Snapshot>>,
    history: Arc<Mutex<VecDeque<Arc<Snapshot>>>>,
    /// How long it took to make them, those included that changed nothing.
    pub rebuilds: Arc<Histogram>,
}

impl Snapshots {
    /// The snapshot in force.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.borrow().clone()
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
}

/// What makes a record the same: another incarnation or address starts with a clean one.
type Identity = (Arc<str>, Arc<str>, u64, Arc<str>);

/// The control task.
pub struct Control {
    tables: watch::Receiver<Arc<Table>>,
    publisher: watch::Sender<Arc<Snapshot>>,
    history: Arc<Mutex<VecDeque<Arc<Snapshot>>>>,
    changed: Arc<Notify>,
    endpoints: BTreeMap<Identity, Tracked>,
    slots: Vec<bool>,
    generation: u64,
    ramps: Ramps,
    rebuilds: Arc<Histogram>,
}

struct Tracked {
    vitals: Arc<Vitals>,
    checker: JoinHandle<()>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.checker.abort();
    }
}

impl Control {
    /// A control task that follows `tables`. A node that returns gets its share back within `ramp`.
    #[must_use]
    pub fn new(tables: watch::Receiver<Arc<Table>>, ramp: Duration) -> (Self, Snapshots) {
        let (publisher, current) = watch::channel(Arc::new(Snapshot::default()));
        let history = Arc::new(Mutex::new(VecDeque::new()));
        let snapshots = Snapshots { current, history: history.clone(), rebuilds: Arc::default() };
        let control = Self {
            tables,
            publisher,
            history,
            changed: Arc::default(),
            endpoints: BTreeMap::new(),
            slots: Vec::new(),
            generation: 0,
            ramps: Ramps::new(ramp),
            rebuilds: snapshots.rebuilds.clone(),
        };
        (control, snapshots)
    }

    /// Plans and publishes until `shutdown`. The first snapshot is published before the first await.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // Without a registry nobody publishes tables: the static one stays.
        let mut fixed = false;
        loop {
            let begun = Instant::now();
            self.rebuild();
            self.rebuilds.observe(begun.elapsed());
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.tables.changed(), if !fixed => fixed = changed.is_err(),
                () = self.changed.notified() => {}
                () = sleep(RAMP_STEP), if self.ramps.any() => {}
            }
            sleep(COALESCE).await;
        }
    }

    fn rebuild(&mut self) {
        let table = self.tables.borrow_and_update().clone();
        self.follow(&table);
        let signals = self.signals(&table);
        let plans = plan::plan(&table, &signals);
        let before = self.publisher.borrow().clone();
        if Arc::ptr_eq(&before.table, &table) && before.plans == plans {
            return;
        }
        self.generation += 1;
        let vitals = self.endpoints.values().map(|tracked| tracked.vitals.clone()).collect();
        let by_name: BTreeMap<_, _> =
            self.endpoints.iter().map(|(id, tracked)| ((&id.0, &id.1), &tracked.vitals)).collect();
        let snapshot = Snapshot::new(table, plans, self.generation, vitals, |node, endpoint| {
            by_name.get(&(node, endpoint)).map(|vitals| (*vitals).clone())
        });
        let snapshot = Arc::new(snapshot);
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.push_back(snapshot.clone());
        if history.len() > HISTORY {
            history.pop_front();
        }
        drop(history);
        self.publisher.send_replace(snapshot);
    }

    /// Makes the tracked endpoints those of the table.
    fn follow(&mut self, table: &Table) {
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
            if self.endpoints.contains_key(&id) {
                continue;
            }
            let slot = self.slots.iter().position(|taken| !taken).unwrap_or_else(|| {
                self.slots.push(false);
                self.slots.len() - 1
            });
            self.slots[slot] = true;
            let vitals =
                Arc::new(Vitals::new(slot, node.name.clone(), endpoint.clone(), self.changed.clone()));
            let checker = tokio::spawn(check::watch(vitals.clone(), node.region));
            self.endpoints.insert(id, Tracked { vitals, checker });
        }
    }

    fn signals(&mut self, table: &Table) -> Signals {
        let now = Instant::now();
        let mut signals = Signals::default();
        for node in table.nodes.values() {
            let present: Vec<&Endpoint> = node.endpoints.iter().filter(|e| !e.draining).collect();
            let fit = present.iter().filter(|endpoint| {
                let tracked = self.endpoints.get(&identity(node, endpoint));
                tracked.is_some_and(|tracked| tracked.vitals.state() == State::Ok)
            });
            let health = fit.count() as f64 / present.len().max(1) as f64;
            let ready = present.iter().flat_map(|e| e.ready.iter().map(|(code, _)| *code)).collect();
            let ramp = self.ramps.of(&node.name, health > 0.0, now);
            signals.nodes.insert(node.name.clone(), NodeSignal { health, ramp, ready });
        }
        self.ramps.retain(|node| table.nodes.contains_key(node));
        signals
    }
}

fn identity(node: &Node, endpoint: &Endpoint) -> Identity {
    (node.name.clone(), endpoint.name.clone(), endpoint.incarnation, endpoint.address.clone())
}

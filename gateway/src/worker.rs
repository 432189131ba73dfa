//! What does one core's thread own?
//!
//! A [`Worker`]: a local runtime, its connections to apps and nodes, its deadlines and its counters.
//! Workers share nothing but the published snapshot and the endpoints' atomics; a request lives and dies
//! on one worker.

use crate::{
    admission::{Limits, Load, bulkhead::Bulkhead},
    apps::{Anonymous, desk::Desk},
    health::Vitals,
    listener,
    proxy::{attempt::Timeouts, local::Services},
    retry::pace::Paces,
    snapshot::{Resolved, Snapshot},
    subject,
    table::Source,
    telemetry::{Metrics, Recent},
    timer::Wheel,
    trace::Tracer,
    upstream::{Place, Pool},
};
use foldhash::fast::RandomState;
use http::HeaderValue;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::TcpStream,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use suiyue_proto::{
    method::{Class, Method},
    reason::Reason,
    region::Code,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Tasks polled between two looks at the sockets.
const EVENT_INTERVAL: u32 = 256;

/// What a worker is given at its start.
pub struct Inbox {
    /// Position among the workers.
    pub index: usize,
    /// Sockets from the acceptor.
    pub sockets: mpsc::Receiver<TcpStream>,
    /// Snapshots from the control task.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Counters, shared with scrapes.
    pub metrics: Arc<Metrics>,
    /// Traces and access log.
    pub tracer: Tracer,
    /// Services that the gateway answers itself.
    pub services: Services,
    /// What is admitted.
    pub limits: Limits,
    /// TLS of the data port.
    pub tls: Option<tokio_rustls::TlsAcceptor>,
    /// Region of calls that name none.
    pub default_region: Option<u32>,
    /// What subjects are hashed with.
    pub subjects: subject::Key,
    /// What happens to calls of nobody.
    pub anonymous: Arc<Anonymous>,
    /// Finish: GOAWAY to every connection, end when they are gone.
    pub drain: CancellationToken,
    /// End now.
    pub abort: CancellationToken,
}

/// State of one worker thread, shared by its connections.
pub struct Worker {
    /// Position among the workers.
    pub index: usize,
    /// Deadlines.
    pub wheel: Wheel,
    /// How long methods usually take.
    pub paces: Paces,
    /// Calls in flight that are retries.
    pub retrying: Cell<usize>,
    /// Calls in flight by region.
    pub bulkhead: Bulkhead,
    /// Counters, shared with scrapes.
    pub metrics: Arc<Metrics>,
    /// Series of calls that reached no node.
    pub refused: Recent,
    /// Traces and access log.
    pub tracer: Tracer,
    /// Services that the gateway answers itself.
    pub services: Services,
    /// Values of `grpc-timeout`.
    pub timeouts: Timeouts,
    /// What is admitted.
    pub limits: Limits,
    /// Calls in flight.
    pub load: Load,
    /// Calls in flight that the gateway answers itself.
    pub local: Load,
    /// TLS of the data port.
    pub tls: Option<tokio_rustls::TlsAcceptor>,
    /// Region of calls that name none.
    pub default_region: Option<u32>,
    /// What subjects are hashed with.
    pub subjects: subject::Key,
    /// What happens to calls of nobody.
    pub anonymous: Arc<Anonymous>,
    /// Finish.
    pub drain: CancellationToken,
    view: RefCell<Rc<View>>,
    random: Cell<u64>,
}

/// A snapshot with this worker's connections to its endpoints, and with its own copies of what calls
/// count references to: a count that two cores share costs more than a look-up.
#[derive(Default)]
pub struct View {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Generation of its plan, as metadata.
    pub plan: Option<HeaderValue>,
    methods: Rc<Methods>,
    pools: Vec<Option<Rc<Pool>>>,
    desk: Option<Rc<Desk>>,
}

type Methods = HashMap<Arc<str>, Arc<Method>, RandomState>;

impl View {
    /// How a method is treated; `None`: nobody lists it.
    #[must_use]
    pub fn method(&self, path: &str) -> Option<&Arc<Method>> {
        self.methods.get(path)
    }

    /// Where calls of a region and class go.
    ///
    /// # Errors
    /// [`Reason::RegionNotJoined`], or [`Reason::FederationUnknown`].
    pub fn route(&self, code: Code, class: Class) -> Result<&Resolved, Reason> {
        self.snapshot.route(code, class).ok_or_else(|| self.unless_awaited(Reason::RegionNotJoined))
    }

    /// A reason that only who knows the federation may give: nothing is missing in what is not known.
    #[must_use]
    pub fn unless_awaited(&self, reason: Reason) -> Reason {
        if self.snapshot.table.source == Source::Awaited { Reason::FederationUnknown } else { reason }
    }

    /// Who lets calls in; `None` before there is a snapshot.
    #[must_use]
    pub fn desk(&self) -> Option<&Desk> {
        self.desk.as_deref()
    }

    /// This worker's connections to an endpoint of the snapshot.
    #[must_use]
    pub fn pool(&self, vitals: &Vitals) -> Option<&Rc<Pool>> {
        self.pools.get(vitals.slot)?.as_ref()
    }

    /// The view of a newer snapshot: pools of endpoints that stay are kept.
    fn advance(&self, snapshot: Arc<Snapshot>, place: &Place, desk: impl FnOnce() -> Desk) -> Self {
        let slots = snapshot.vitals.iter().map(|vitals| vitals.slot + 1).max().unwrap_or(0);
        let mut pools: Vec<Option<Rc<Pool>>> = (0..slots).map(|_| None).collect();
        for vitals in &snapshot.vitals {
            let kept = self.pool(vitals).filter(|pool| Arc::ptr_eq(&pool.vitals, vitals));
            pools[vitals.slot] = kept.cloned().or_else(|| Pool::open(vitals.clone(), place.clone()));
        }
        let kept = |old: &Rc<Pool>| {
            pools.get(old.vitals.slot).is_some_and(|new| new.as_ref().is_some_and(|new| Rc::ptr_eq(new, old)))
        };
        for old in self.pools.iter().flatten().filter(|old| !kept(old)) {
            old.close();
        }
        let methods = if Arc::ptr_eq(&snapshot.table, &self.snapshot.table) {
            self.methods.clone()
        } else {
            let own =
                |(path, method): (&Arc<str>, &Arc<Method>)| (path.clone(), Arc::new(Method::clone(method)));
            Rc::new(snapshot.table.methods.iter().map(own).collect())
        };
        let plan = Some(HeaderValue::from(snapshot.generation));
        // A desk knows the tokens it has seen: it stays while the grants do.
        let kept = self.desk.as_ref().filter(|desk| desk.is_for(&snapshot.table.apps));
        let desk = Some(kept.cloned().unwrap_or_else(|| Rc::new(desk())));
        Self { snapshot, plan, methods, pools, desk }
    }
}

impl Worker {
    fn new(inbox: Inbox) -> (Rc<Self>, Feeds) {
        let worker = Rc::new(Self {
            index: inbox.index,
            wheel: Wheel::new(),
            paces: Paces::default(),
            retrying: Cell::new(0),
            bulkhead: Bulkhead::default(),
            metrics: inbox.metrics,
            refused: Recent::default(),
            tracer: inbox.tracer,
            services: inbox.services,
            timeouts: Timeouts::default(),
            limits: inbox.limits,
            load: Load::default(),
            local: Load::default(),
            tls: inbox.tls,
            default_region: inbox.default_region,
            subjects: inbox.subjects,
            anonymous: inbox.anonymous,
            drain: inbox.drain,
            view: RefCell::default(),
            random: Cell::new(rand::random()),
        });
        (worker, Feeds { sockets: inbox.sockets, snapshots: inbox.snapshots, abort: inbox.abort })
    }

    /// The newest snapshot. A request takes it once.
    #[must_use]
    pub fn view(&self) -> Rc<View> {
        self.view.borrow().clone()
    }

    /// 64 random bits (splitmix64), for choices between equals.
    pub fn random(&self) -> u64 {
        let next = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(next);
        crate::plan::mix(next)
    }

    fn adopt(&self, snapshot: Arc<Snapshot>) {
        let place = Place { worker: self.index, wheel: self.wheel.clone() };
        let (apps, generation) = (snapshot.table.apps.clone(), snapshot.generation);
        let desk = || Desk::new(apps, self.anonymous.clone(), self.metrics.apps.clone(), self.index);
        let next = Rc::new(self.view.borrow().advance(snapshot, &place, desk));
        *self.view.borrow_mut() = next;
        self.metrics.plans[self.index].store(generation, Relaxed);
    }
}

struct Feeds {
    sockets: mpsc::Receiver<TcpStream>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    abort: CancellationToken,
}

/// Runs a worker on the current thread until it is drained or aborted.
///
/// # Errors
/// The runtime cannot be built.
pub fn run(inbox: Inbox) -> std::io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // As many polls between two looks at the sockets as calls can be in a burst: more is read and
    // written at a time.
    builder.event_interval(EVENT_INTERVAL);
    let runtime = builder.enable_all().build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(inbox));
    Ok(())
}

/// An open connection: counts until dropped, also by a panic.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

async fn serve(inbox: Inbox) {
    let (worker, mut feeds) = Worker::new(inbox);
    let wheel = tokio::task::spawn_local(worker.wheel.clone().drive());
    let open = worker.metrics.connections[worker.index].clone();
    let drained = tokio_util::task::TaskTracker::new();
    worker.adopt(feeds.snapshots.borrow_and_update().clone());
    // The control task may fail; calls go on by the last snapshot until the gateway drains.
    let mut orphaned = false;
    loop {
        tokio::select! {
            biased;
            () = feeds.abort.cancelled() => break,
            changed = feeds.snapshots.changed(), if !orphaned => {
                orphaned = changed.is_err();
                if !orphaned {
                    let snapshot = feeds.snapshots.borrow_and_update().clone();
                    worker.adopt(snapshot);
                }
            }
            socket = feeds.sockets.recv() => {
                // The acceptor is gone: no more connections will come.
                let Some(socket) = socket else { break };
                let (worker, open) = (worker.clone(), Open(open.clone()));
                let connection = drained.track_future(async move {
                    let _open = open;
                    listener::serve(worker, socket).await;
                });
                tokio::task::spawn_local(connection);
            }
        }
    }
    drained.close();
    let follow = async {
        while feeds.snapshots.changed().await.is_ok() {
            let snapshot = feeds.snapshots.borrow_and_update().clone();
            worker.adopt(snapshot);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = drained.wait() => {}
        () = feeds.abort.cancelled() => {}
        () = follow => {}
    }
    wheel.abort();
}

//! How is a gateway put together?
//!
//! The one composition root: [`bind`] opens the ports, [`Bound::run`] starts the workers (threads of
//! their own) and the control side (the caller's runtime), and on shutdown takes them down in order:
//! not ready → the listener closes → GOAWAY → in-flight calls finish → control side.

mod federation;
mod glass;
mod services;

use crate::{
    breakglass,
    config::{Config, Kind},
    control::{self, Control, Snapshots},
    identity::public::Public,
    listener,
    operator::{Shifts, access::Unproven},
    proxy::local::Services,
    registry,
    telemetry::Metrics,
    trace::{self, Tracer},
    worker::{self, Inbox},
};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicI64},
    thread,
    time::Duration,
};
use suiyue_proto::identity::Identity;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// At the start connections are taken after this time, at the latest, also while the registry is silent.
const PATIENCE: Duration = Duration::from_secs(2);
/// Health says NOT_SERVING for this long before connections are told to leave.
const NOTICE: Duration = Duration::from_secs(2);
/// Calls in flight may go on for this long after that.
const FINISH: Duration = Duration::from_secs(13);
/// Sockets dealt to a worker that it has not taken yet.
const DEALT: usize = 1024;

/// What can go wrong at the start, and what ends a gateway.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port cannot be opened.
    #[error("{port} port: cannot listen on {address}")]
    Bind {
        /// Which port.
        port: &'static str,
        /// Its address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The registry's addresses cannot be used. A registry that is away is no error.
    #[error("registry")]
    Registry(#[from] registry::Error),
    /// The state directory cannot be used.
    #[error("state_dir")]
    State(#[from] registry::last_known_good::Error),
    /// The records of trust in the state directory cannot be read.
    #[error("state_dir: trust")]
    Trust(#[source] std::io::Error),
    /// The break-glass journal cannot be read.
    #[error("state_dir")]
    Journal(#[from] breakglass::journal::Error),
    /// The break-glass socket cannot be opened.
    #[error("breakglass socket {path}", path = path.display())]
    Socket {
        /// Its path.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A part of the gateway failed while it ran; it has drained.
    #[error("a part of the gateway has failed")]
    Broken,
    /// A worker thread cannot be started.
    #[error("a worker thread cannot be started")]
    Worker(#[source] std::io::Error),
}

/// Where a gateway listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Data port.
    pub data: SocketAddr,
    /// Control port.
    pub control: SocketAddr,
    /// Admin port.
    pub admin: SocketAddr,
}

/// A gateway whose ports are open.
pub struct Bound {
    config: Config,
    addresses: Addresses,
    data: TcpListener,
    control: TcpListener,
    admin: TcpListener,
}

/// Opens the ports.
///
/// # Errors
/// [`Error::Bind`], naming the port.
pub async fn bind(config: Config) -> Result<Bound, Error> {
    let open = async |port: &'static str, address: SocketAddr| {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| Error::Bind { port, address, source })?;
        let bound = listener.local_addr().map_err(|source| Error::Bind { port, address, source })?;
        Ok::<_, Error>((listener, bound))
    };
    let (data, data_address) = open("data", config.listen).await?;
    let (control, control_address) = open("control", config.control).await?;
    let (admin, admin_address) = open("admin", config.admin).await?;
    let addresses = Addresses { data: data_address, control: control_address, admin: admin_address };
    Ok(Bound { config, addresses, data, control, admin })
}

impl Bound {
    /// Where the gateway listens.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}

/// Threads of workers, with what they listen to.
struct Workers {
    threads: Vec<thread::JoinHandle<std::io::Result<()>>>,
    deal: Vec<mpsc::Sender<std::net::TcpStream>>,
}

impl Workers {
    fn start(
        config: &Config,
        services: &Services,
        metrics: &Arc<Metrics>,
        snapshots: &Snapshots,
        tracer: &Tracer,
        stages: &Stages,
    ) -> Result<Self, Error> {
        let tls = config.tls.as_ref().map(|tls| tokio_rustls::TlsAcceptor::from(tls.config.clone()));
        let (mut threads, mut deal) = (Vec::new(), Vec::new());
        for index in 0..config.workers {
            let (sender, sockets) = mpsc::channel(DEALT);
            let inbox = Inbox {
                index,
                sockets,
                snapshots: snapshots.subscribe(),
                metrics: metrics.clone(),
                tracer: tracer.clone(),
                services: services.clone(),
                limits: config.limits,
                tls: tls.clone(),
                default_region: config.default_region,
                subjects: config.subjects,
                anonymous: config.anonymous.clone(),
                drain: stages.drain.clone(),
                abort: stages.abort.clone(),
            };
            let builder = thread::Builder::new().name(format!("worker-{index}"));
            threads.push(builder.spawn(move || worker::run(inbox)).map_err(Error::Worker)?);
            deal.push(sender);
        }
        Ok(Self { threads, deal })
    }
}

/// Tokens that take the parts of a gateway down, in this order.
#[derive(Default, Clone)]
struct Stages {
    /// No new connections.
    closing: CancellationToken,
    /// GOAWAY; calls in flight finish.
    drain: CancellationToken,
    /// Calls in flight are cut off.
    abort: CancellationToken,
    /// The control side ends.
    ended: CancellationToken,
}

impl Bound {
    /// Serves until `shutdown`, then drains. Must run on a runtime of its own; the workers bring theirs.
    ///
    /// # Errors
    /// At the start the registry's addresses, or a worker thread; later [`Error::Broken`]: a part of it
    /// failed, which makes it drain, too.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { config, addresses, data, control, admin } = self;
        // Of its own: a part that fails takes down this gateway and nothing else.
        let shutdown = shutdown.child_token();
        let stages = Stages::default();
        let mut tasks = JoinSet::new();
        let metrics = Arc::new(Metrics::new(config.workers));
        let (tables, table) = watch::channel(Arc::new(config.table.clone()));
        let gateways = metrics.apps.gateways.clone();
        let has_registry = config.registry.kind != Kind::None;
        let heard_ms = Arc::new(AtomicI64::new(if has_registry { 0 } else { i64::MAX }));
        let pane = glass::open(&config)?;
        let setup = control::Setup {
            tables: table.clone(),
            ramp: config.ramp,
            workers: config.workers,
            metrics: metrics.clone(),
            gateways: gateways.clone(),
            heard_ms: heard_ms.clone(),
            trust: config.trust.clone(),
            glass: pane.glass.clone(),
        };
        follow_certificates(&config, &stages.ended);
        let (controller, snapshots) = Control::new(setup);
        // First the copy on disk, then the first snapshot: no call finds an empty table meanwhile.
        let joined = federation::join(&config, &addresses, tables, table).await?;
        tasks.spawn(controller.run(stages.ended.clone()));
        if let Some(joined) = &joined {
            tasks.spawn(federation::watch(joined.followed.clone(), gateways, heard_ms, stages.ended.clone()));
            tasks.spawn(federation::remember(&config, joined, metrics.audit.clone(), stages.ended.clone()));
        }
        let (numbers, reach) = ((snapshots.clone(), metrics.clone()), pane.reach(&shutdown));
        let operator = services::operator(&config, joined.as_ref(), numbers, addresses.admin, reach);
        pane.start(&operator, &mut tasks, &stages.ended);
        tasks.spawn(Shifts(operator.clone()).guard(stages.ended.clone()));
        let public = services::public(&operator, &shutdown);
        let (page, recording) = services::admin(&operator, shutdown.clone(), &stages.ended);
        tasks.spawn(recording);
        let registrar = joined.as_ref().map(|joined| joined.registrar.service());
        let private = services::control(operator, registrar, Unproven::at(addresses.control));
        tasks.spawn(services::serve(control, private, config.trust.clone(), stages.ended.clone()));
        if let Some(joined) = joined {
            tasks.spawn(joined.run(shutdown.clone(), stages.ended.clone()));
        }
        let (tracer, outlet) = trace::open(&config.telemetry, &config.id, metrics.traces.clone());
        let workers = Workers::start(&config, &public, &metrics, &snapshots, &tracer, &stages)?;
        let outlet = outlet.map(|outlet| outlet.start(stages.ended.clone()));
        let outlet = outlet.transpose().map_err(Error::Worker)?;
        tasks.spawn(page.serve(admin, stages.ended.clone()));
        let closing = stages.closing.clone();
        let dealing = listener::accept(data, workers.deal, metrics, config.limits.connections, closing);
        let accept = once_known(snapshots, stages.closing.clone(), dealing);
        say(&config, &addresses);
        let broken = stages.last(&shutdown, tokio::spawn(accept), workers.threads, tasks).await;
        if let Some(outlet) = outlet {
            let _ = tokio::task::spawn_blocking(|| outlet.join()).await;
        }
        tracing::info!("gateway has ended");
        if broken { Err(Error::Broken) } else { Ok(()) }
    }
}

fn say(config: &Config, Addresses { data, control, admin }: &Addresses) {
    let (id, workers, anonymous) = (&config.id, config.workers, config.anonymous.as_str());
    tracing::info!(id, %data, %control, %admin, workers, anonymous, "gateway serves");
}

/// Connections wait in the kernel's queue: who has read nothing could only refuse their calls.
async fn once_known(snapshots: Snapshots, closing: CancellationToken, dealing: impl Future<Output = ()>) {
    let known = tokio::time::timeout(PATIENCE, snapshots.known());
    let _ = closing.run_until_cancelled(known).await;
    dealing.await;
}

/// Reads certificates again when their files change, for as long as the gateway lives.
fn follow_certificates(config: &Config, ended: &CancellationToken) {
    let own = config.trust.as_ref().map(|trust| trust.own().clone());
    let public = config.tls.as_ref().map(|tls| tls.certificate.clone());
    let ended = ended.clone();
    let follow = async move {
        let own = async { futures_util::future::OptionFuture::from(own.map(Identity::keep)).await };
        let public = async { futures_util::future::OptionFuture::from(public.map(Public::keep)).await };
        tokio::join!(own, public);
    };
    tokio::spawn(async move { ended.run_until_cancelled(follow).await });
}

/// Waits until a task of the control side ends, which none should before it is told to.
async fn failure(tasks: &mut JoinSet<()>) {
    match tasks.join_next().await {
        None => std::future::pending().await,
        Some(result) => {
            if is_well(&result) {
                tracing::error!("a part of the gateway has ended before its time: the gateway drains");
            }
        }
    }
}

/// The task did not panic.
fn is_well(result: &Result<(), JoinError>) -> bool {
    if let Err(error) = result {
        tracing::error!(%error, "a part of the gateway has failed: the gateway drains");
    }
    result.is_ok()
}

impl Stages {
    /// Lasts until the shutdown, or until a part fails, which then is a shutdown; whether one did.
    async fn last(
        &self,
        shutdown: &CancellationToken,
        mut acceptor: JoinHandle<()>,
        threads: Vec<thread::JoinHandle<std::io::Result<()>>>,
        mut tasks: JoinSet<()>,
    ) -> bool {
        let broken = tokio::select! {
            () = shutdown.cancelled() => false,
            () = failure(&mut tasks) => true,
            result = &mut acceptor => {
                is_well(&result);
                true
            }
        };
        shutdown.cancel();
        self.take_down(acceptor, threads).await;
        while let Some(result) = tasks.join_next().await {
            is_well(&result);
        }
        broken
    }

    /// Drains, one part after the other.
    async fn take_down(
        &self,
        acceptor: JoinHandle<()>,
        threads: Vec<thread::JoinHandle<std::io::Result<()>>>,
    ) {
        tracing::info!("gateway drains");
        tokio::time::sleep(NOTICE).await;
        self.closing.cancel();
        // One that failed was awaited before.
        if !acceptor.is_finished() {
            let _ = acceptor.await;
        }
        self.drain.cancel();
        join(threads, &self.abort).await;
        self.ended.cancel();
    }
}

/// Waits for the workers, and cuts them off when they take too long.
async fn join(threads: Vec<thread::JoinHandle<std::io::Result<()>>>, abort: &CancellationToken) {
    let all = tokio::task::spawn_blocking(move || {
        for thread in threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a worker could not run"),
                Err(_) => tracing::error!("a worker panicked"),
            }
        }
    });
    tokio::pin!(all);
    if tokio::time::timeout(FINISH, &mut all).await.is_err() {
        tracing::warn!("calls still in flight at the end of the grace time are cut off");
        abort.cancel();
        let _ = all.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_a_failure_and_no_panic_of_ours() {
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending::<()>());
        tasks.spawn(async { panic!("a bug") });
        failure(&mut tasks).await;
        assert_eq!(tasks.len(), 1, "the others go on until they are told");
    }
}

//! How is a gateway put together?
//!
//! The one composition root: [`bind`] opens the ports, [`Bound::run`] starts the workers (threads of
//! their own) and the control side (the caller's runtime), and on shutdown takes them down in order:
//! not ready → the listener closes → GOAWAY → in-flight calls finish → control side.

use crate::{
    admin::Admin,
    config::Config,
    control::{Control, Snapshots},
    listener,
    proxy::local::Services,
    telemetry::Metrics,
    worker::{self, Inbox},
};
use std::{net::SocketAddr, sync::Arc, thread, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

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
    #[error("{port} port: cannot listen on {address}: {source}")]
    Bind {
        /// Which port.
        port: &'static str,
        /// Its address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A worker thread cannot be started.
    #[error("a worker thread cannot be started: {0}")]
    Worker(std::io::Error),
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
        drain: &CancellationToken,
        abort: &CancellationToken,
    ) -> Result<Self, Error> {
        let tls = config.tls.clone().map(tokio_rustls::TlsAcceptor::from);
        let (mut threads, mut deal) = (Vec::new(), Vec::new());
        for index in 0..config.workers {
            let (sender, sockets) = mpsc::channel(DEALT);
            let inbox = Inbox {
                index,
                sockets,
                snapshots: snapshots.subscribe(),
                metrics: metrics.clone(),
                services: services.clone(),
                limits: config.limits,
                tls: tls.clone(),
                default_region: config.default_region,
                drain: drain.clone(),
                abort: abort.clone(),
            };
            let builder = thread::Builder::new().name(format!("worker-{index}"));
            threads.push(builder.spawn(move || worker::run(inbox)).map_err(Error::Worker)?);
            deal.push(sender);
        }
        Ok(Self { threads, deal })
    }
}

impl Bound {
    /// Serves until `shutdown`, then drains.
    ///
    /// # Errors
    /// [`Error::Worker`] at the start.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { config, addresses: _, data, control: _, admin } = self;
        let (drain, abort, ended) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let metrics = Arc::new(Metrics::new(config.workers));
        let (_tables, follow) = watch::channel(Arc::new(config.table.clone()));
        let (control, snapshots) = Control::new(follow);
        let mut tasks = JoinSet::new();
        tasks.spawn(control.run(ended.clone()));
        let workers = Workers::start(&config, &Services::default(), &metrics, &snapshots, &drain, &abort)?;
        let admin_page = Admin { metrics: metrics.clone(), snapshots, draining: shutdown.clone() };
        tasks.spawn(admin_page.serve(admin, ended.clone()));
        let closing = CancellationToken::new();
        let acceptor =
            listener::accept(data, workers.deal, metrics, config.limits.connections, closing.clone());
        let acceptor = tokio::spawn(acceptor);
        shutdown.cancelled().await;
        tokio::time::sleep(NOTICE).await;
        closing.cancel();
        let _ = acceptor.await;
        drain.cancel();
        join(workers.threads, &abort).await;
        ended.cancel();
        tasks.join_all().await;
        Ok(())
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

//! How is a node put together, and how does it end?
//!
//! The one composition root: [`bind`] opens the store, the keys and the port; [`Bound::run`] owns
//! every task. Calls are answered from the first moment, with NOT_READY until holders are loaded.
//!
//! ```text
//! shutdown -> NOT_SERVING, report{draining}, goodbye (farewell within 2 s)
//!          -> 1 s: calls that still arrive are answered
//!          -> GOAWAY; watches end with NODE_DRAINING; in-flight calls finish
//!          -> 3 s: scan streams end with NODE_DRAINING, after their receipts
//!          -> 10 s at most: the rest is dropped; the store's thread is joined
//! ```

mod load;
mod parts;

#[cfg(test)]
mod tests;

use crate::adapter;
use crate::clock::Clock;
use crate::config::Config;
use crate::identity::Door;
use crate::keys::own::{self, Rotation};
use crate::readiness::{Readiness, State};
use crate::register::{self, Handle};
use crate::scope::Scope;
use crate::server::{self, End};
use crate::store;
use parts::Parts;
use rand::Rng as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use suiyue_proto::v1;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

// Gateways that learn of the goodbye late still send calls for this long.
const LINGER: Duration = Duration::from_secs(1);
const UPLOADS: Duration = Duration::from_secs(3);
const IN_FLIGHT: Duration = Duration::from_secs(10);
// An authority's data is complete up to now, and says so again this often.
const REPORT: Duration = Duration::from_secs(5);
const ROTATE: Duration = Duration::from_secs(600);

/// Why a node does not start or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error("data_dir {path}: {source}")]
    DataDir {
        /// The directory.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store cannot be opened or read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The signing keys cannot be used.
    #[error(transparent)]
    Keys(#[from] own::Error),
    /// The holders cannot be loaded.
    #[error(transparent)]
    Holders(#[from] crate::population::Error),
    /// The system behind this node cannot be asked.
    #[error(transparent)]
    Adapter(#[from] crate::adapter::system::Unusable),
    /// The system has no thread left.
    #[error("no thread could be started: {0}")]
    Thread(std::io::Error),
}

/// A node whose port is open.
pub struct Bound {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
    parts: Parts,
    store_thread: JoinHandle<()>,
}

/// Opens everything that a node needs. The caller's runtime decides how many threads it uses.
///
/// # Errors
/// [`Error`].
pub async fn bind(config: Config) -> Result<Bound, Error> {
    bind_at(config, Clock::System).await
}

/// Like [`bind`], with a clock of the caller's.
///
/// # Errors
/// [`Error`].
pub async fn bind_at(config: Config, clock: Clock) -> Result<Bound, Error> {
    if let Some(path) = &config.data_dir {
        let source = |source| Error::DataDir { path: path.clone(), source };
        std::fs::create_dir_all(path).map_err(source)?;
    }
    let (parts, store_thread) = parts::open(&config, clock).await?;
    let failed = |source| Error::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { config, listener, address, parts, store_thread })
}

impl Bound {
    /// Where the node listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which regions are ready; the receiver outlives the node.
    #[must_use]
    pub fn readiness(&self) -> watch::Receiver<State> {
        self.parts.readiness.watch()
    }

    /// Serves until `shutdown`, then drains. Every task has ended when it returns.
    ///
    /// # Errors
    /// [`Error::Holders`] or [`Error::Store`]: what must be loaded cannot be.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { config, listener, address, parts, store_thread } = self;
        let (tasks, stop, end) = (TaskTracker::new(), CancellationToken::new(), End::default());
        let door = config.identity.as_ref().map(Door::new);
        if let Some(own) = config.identity.clone() {
            let stop = stop.clone();
            tasks.spawn(async move { stop.run_until_cancelled(own.keep()).await.unwrap_or_default() });
        }
        let server = tokio::spawn(server::serve_behind(door, listener, parts.routes(), end.clone()));
        tracing::info!(
            node = config.name,
            region = %config.region,
            %address,
            durable = config.data_dir.is_some(),
            "serving; holders are being loaded"
        );
        let (handle, registration) = join(&config, address, &parts);
        let goodbye = CancellationToken::new();
        let registered = tasks.spawn(stay_registered(registration, goodbye.clone()));
        tasks.spawn(follow(Arc::clone(&parts.readiness), handle, parts.clone(), stop.clone()));
        if let Some(system) = &parts.system {
            let (system, readiness) = (Arc::clone(system), Arc::clone(&parts.readiness));
            let clock = parts.scope.clock.clone();
            tasks.spawn(adapter::watch::run(system, readiness, config.scopes.clone(), clock, stop.clone()));
        }
        tasks.close();
        let loaded = load::all(&config, &parts, &shutdown).await;
        if loaded.is_ok() {
            shutdown.cancelled().await;
        }
        parts.readiness.drain();
        goodbye.cancel();
        let _ = registered.await;
        if loaded.is_ok() {
            tokio::time::sleep(LINGER).await;
        }
        drain(&parts, &end, server).await;
        stop.cancel();
        tasks.wait().await;
        drop(parts);
        // The last writer is gone with the services: the thread finishes its queue and ends.
        let _ = tokio::task::spawn_blocking(move || store_thread.join()).await;
        loaded
    }
}

async fn drain(parts: &Parts, end: &End, server: tokio::task::JoinHandle<()>) {
    end.goaway.cancel();
    parts.watches.cancel();
    let mut server = std::pin::pin!(server);
    let began = tokio::time::Instant::now();
    if tokio::time::timeout_at(began + UPLOADS, &mut server).await.is_err() {
        parts.uploads.cancel();
        if tokio::time::timeout_at(began + IN_FLIGHT, &mut server).await.is_err() {
            tracing::warn!("calls were dropped: they did not finish within 10 s");
            end.abort.cancel();
            let _ = server.await;
        }
    }
    parts.uploads.cancel();
    parts.streams.close();
    parts.streams.wait().await;
}

type Joining = Option<(register::Registration, register::Feeds)>;

fn join(config: &Config, address: SocketAddr, parts: &Parts) -> (Option<Handle>, Joining) {
    let Some(join) = &config.join else {
        tracing::info!("no [join] is configured: the node is used alone");
        return (None, None);
    };
    let registration = register::Registration {
        gateways: join.gateways.clone(),
        token: join.token.clone(),
        identity: config.identity.clone(),
        manifest: v1::Manifest {
            region: config.region.get(),
            node: config.name.clone(),
            role: config.role.to_proto().into(),
            scopes: config.scopes.iter().map(|region| region.get()).collect(),
            rps_max: config.rps_max,
            code_prefixes: config.adapter.as_ref().map_or_else(Vec::new, prefixes),
            ..v1::Manifest::default()
        },
        endpoint: config.endpoint.clone(),
        address: config.advertise.clone().unwrap_or_else(|| address.to_string()),
        incarnation: rand::rng().random(),
    };
    let report = report(&parts.readiness.watch().borrow(), &parts.scope);
    let (handle, feeds) = register::channels(report, published(parts));
    (Some(handle), Some((registration, feeds)))
}

async fn stay_registered(joining: Joining, goodbye: CancellationToken) {
    if let Some((registration, feeds)) = joining {
        register::run(registration, feeds, goodbye).await;
    }
}

/// Carries readiness and keys out to the registration, and the federation's keys in.
async fn follow(readiness: Arc<Readiness>, handle: Option<Handle>, parts: Parts, stop: CancellationToken) {
    let mut state = readiness.watch();
    // The holders may have been loaded before this task was polled first.
    state.mark_changed();
    let mut again = tokio::time::interval(REPORT);
    let mut rotate = tokio::time::interval(ROTATE);
    let mut federation = handle.as_ref().map(|handle| handle.federation.clone());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = state.changed() => tell(&handle, &state.borrow_and_update(), &parts.scope),
            _ = again.tick() => tell(&handle, &state.borrow(), &parts.scope),
            keys = changed(&mut federation) => {
                for why in parts.ring.set_federation(&keys.keys) {
                    tracing::warn!(%why, "a key of the federation cannot be used");
                }
                tracing::info!(keys = keys.keys.len(), revision = keys.revision, "keys of the federation");
            }
            _ = rotate.tick() => match parts.keys.rotate(parts.scope.clock.unix_s()) {
                Ok(Rotation::Unchanged) => {}
                Ok(Rotation::Changed) => {
                    parts.ring.set_own(parts.keys.verifying());
                    if let Some(handle) = &handle {
                        handle.keys.send_replace(published(&parts));
                    }
                    tracing::info!("the signing keys were rotated");
                }
                Err(error) => tracing::error!(%error, "the signing keys could not be rotated"),
            },
        }
    }
}

async fn changed(federation: &mut Option<watch::Receiver<v1::FederationKeys>>) -> v1::FederationKeys {
    if let Some(federation) = federation
        && federation.changed().await.is_ok()
    {
        return federation.borrow_and_update().clone();
    }
    std::future::pending().await
}

fn prefixes(adapter: &adapter::Config) -> Vec<String> {
    adapter.mapping.code_prefixes.clone()
}

/// A node in front of another system signs nothing.
fn published(parts: &Parts) -> Vec<v1::VerifyingKey> {
    if parts.system.is_some() {
        return Vec::new();
    }
    parts.keys.verifying().iter().map(v1::VerifyingKey::from).collect()
}

fn tell(handle: &Option<Handle>, state: &State, scope: &Scope) {
    if let Some(handle) = handle {
        handle.report.send_replace(report(state, scope));
    }
}

fn report(state: &State, scope: &Scope) -> v1::Report {
    let ready = state.ready.iter().map(|(region, loaded)| v1::RegionReady {
        region: region.get(),
        as_of_unix_ms: scope.served(*region).map_or(*loaded, |served| served.as_of_unix_ms),
    });
    v1::Report { ready: ready.collect(), draining: state.draining }
}

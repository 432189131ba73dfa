//! How does the gateway take part in the federation?
//!
//! With a registry: the follower keeps the table, the registrar takes registrations. Without one the
//! static table stays as it is.

use super::{Addresses, Error};
use crate::{
    audit::keeper::{Keeper, Memory},
    config::{Config, Kind},
    registrar::{Registrar, Settings},
    registry::{
        Registry, embedded::Embedded, etcd::Etcd, follow, last_known_good::LastKnownGood, peers::Peers,
    },
    table::{Source, Table},
};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A registration outlives its gateway by this time, so that nodes can move to the next one.
const LEASE: Duration = Duration::from_secs(15);
/// Nodes report at least this often.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// A gateway's ties to the registry.
pub(super) struct Joined {
    /// What the follower knows.
    pub(super) followed: follow::Status,
    /// Takes registrations.
    pub(super) registrar: Registrar,
    /// Where operators' changes are written.
    pub(super) registry: Arc<dyn Registry>,
    following: Pin<Box<dyn Future<Output = ()> + Send>>,
    stop_following: CancellationToken,
}

/// Connects to the registry, if there is one.
pub(super) async fn join(
    config: &Config,
    addresses: &Addresses,
    tables: watch::Sender<Arc<Table>>,
    table: watch::Receiver<Arc<Table>>,
) -> Result<Option<Joined>, Error> {
    let (registry, source): (Arc<dyn Registry>, Source) = match config.registry.kind {
        Kind::None => return Ok(None),
        Kind::Embedded => (Arc::new(Embedded::new()), Source::Embedded),
        Kind::Etcd => (
            Arc::new(Etcd::connect_with(&config.registry.endpoints, config.registry.tls.as_ref()).await?),
            Source::Etcd,
        ),
    };
    let prefix = config.registry.prefix.clone();
    let stop_following = CancellationToken::new();
    let copies = copies(config)?;
    let start = follow::Start {
        registry: registry.clone(),
        prefix: prefix.clone(),
        base: config.table.clone(),
        source,
        copy: copies.as_ref().map(LastKnownGood::newest).transpose()?.flatten(),
        trust: config.trust.clone(),
        peers: Peers::new(config.registry.peers.clone(), config.trust.as_ref()),
    };
    let publish = move |table| drop(tables.send_replace(table));
    let (followed, following) = follow::follow(start, publish, stop_following.clone());
    let (status, stop) = (followed.clone(), stop_following.clone());
    let keeping = async move {
        if let Some(copies) = copies {
            copies.keep(status, stop).await;
        }
    };
    let following = async move {
        tokio::join!(following, keeping);
    };
    let settings = Settings {
        prefix,
        gateway_id: config.id.clone(),
        control_address: addresses.control.to_string(),
        admin_address: addresses.admin.to_string(),
        tokens: config.join.clone(),
        trust: config.trust.clone(),
        lease_ttl: LEASE,
        heartbeat: HEARTBEAT,
    };
    let registrar = Registrar::new(registry.clone(), settings, table);
    Ok(Some(Joined { followed, registrar, registry, following: Box::pin(following), stop_following }))
}

/// How often the status is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Counts the live gateways by their presence in the registry, this one among them, and notes when the
/// registry was last heard; 0: never, and nothing is known that could have grown old.
pub(super) async fn watch(
    followed: follow::Status,
    gateways: Arc<AtomicU32>,
    heard_ms: Arc<AtomicI64>,
    ended: CancellationToken,
) {
    let watching = async {
        loop {
            gateways.store(followed.gateways().max(1), Relaxed);
            heard_ms.store(followed.freshness().heard_unix_ms().unwrap_or(0), Relaxed);
            tokio::time::sleep(LOOK).await;
        }
    };
    ended.run_until_cancelled(watching).await.unwrap_or_default()
}

/// Remembers the head of the audit, on disk where there is a state directory.
pub(super) fn remember(
    config: &Config,
    joined: &Joined,
    memory: Memory,
    ended: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let dir = config.state_dir.as_ref().map(|dir| dir.join("audit"));
    let prefix = config.registry.prefix.clone();
    Keeper::new(joined.registry.clone(), prefix, dir.as_deref(), memory).run(ended)
}

/// The copies of the registry on disk. Without them a start while etcd is away finds nobody.
fn copies(config: &Config) -> Result<Option<LastKnownGood>, Error> {
    // The embedded registry begins empty with every process: nothing of its last life is true.
    if config.registry.kind != Kind::Etcd {
        return Ok(None);
    }
    let Some(dir) = &config.state_dir else {
        tracing::warn!(
            "no state_dir is configured: while etcd is away this gateway cannot start with a table of its own"
        );
        return Ok(None);
    };
    Ok(Some(LastKnownGood::open(&dir.join("registry"), config.registry.prefix.clone())?))
}

impl Joined {
    /// Follows and registers. At `shutdown` nodes are told to move; the table is followed to the end.
    pub(super) async fn run(self, shutdown: CancellationToken, ended: CancellationToken) {
        let stop = async {
            ended.cancelled().await;
            self.stop_following.cancel();
        };
        tokio::join!(self.following, self.registrar.run(shutdown), stop);
    }
}

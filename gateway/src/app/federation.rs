//! How does the gateway take part in the federation?
//!
//! With a registry: the follower keeps the table, the registrar takes registrations. Without one the
//! static table stays as it is.

use super::{Addresses, Error};
use crate::{
    audit::keeper::{Keeper, Memory},
    config::{Config, Kind},
    identity::memory::Memory as TrustMemory,
    registrar::{Registrar, Settings},
    registry::{
        Registry, embedded::Embedded, etcd::Etcd, follow, last_known_good::LastKnownGood, peers::Peers,
    },
    table::{Source, Table},
};
use futures_util::future::OptionFuture;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use suiyue_proto::v1::OperatorLimits;
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
    let mut etcds = None;
    let (registry, source): (Arc<dyn Registry>, Source) = match config.registry.kind {
        Kind::None => return Ok(None),
        Kind::Embedded => (Arc::new(Embedded::new()), Source::Embedded),
        Kind::Etcd => {
            let etcd = Etcd::connect_with(&config.registry.endpoints, config.registry.tls.as_ref()).await?;
            let etcd = Arc::new(etcd);
            etcds = Some(etcd.clone());
            (etcd, Source::Etcd)
        }
    };
    let prefix = config.registry.prefix.clone();
    let stop_following = CancellationToken::new();
    let copies = copies(config)?;
    let remembering = remembering(config, stop_following.clone())?;
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
    let (follow_files, stop) = (OptionFuture::from(etcds.map(Etcd::keep)), stop_following.clone());
    let following = async move {
        tokio::join!(following, keeping, remembering, stop.run_until_cancelled(follow_files));
    };
    let settings = Settings {
        prefix,
        gateway_id: config.id.clone(),
        control_address: addresses.control.to_string(),
        admin_address: addresses.admin.to_string(),
        tokens: config.join.clone(),
        trust: config.trust.clone(),
        limits: OperatorLimits {
            two_person_above: config.two_person_above,
            canary_step_s: u32::try_from(config.canary_step.as_secs()).unwrap_or(u32::MAX),
        },
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
            "no state_dir is configured: while etcd is away this gateway cannot start with a table of its own, and it forgets which records of trust it has seen"
        );
        return Ok(None);
    };
    Ok(Some(LastKnownGood::open(&dir.join("registry"), config.registry.prefix.clone())?))
}

/// The records of trust on disk: what was believed last is believed from here on, and what is believed is
/// written there until `stop`.
fn remembering(
    config: &Config,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>, Error> {
    let trust = config.trust.clone().filter(|_| config.registry.kind == Kind::Etcd);
    let mut kept = None;
    if let (Some(dir), Some(trust)) = (&config.state_dir, trust)
        && let Some(root) = trust.root()
    {
        let memory = TrustMemory::open(&dir.join("trust")).map_err(Error::Trust)?;
        trust.publish(memory.recall(root).map_err(Error::Trust)?);
        kept = Some((memory, trust));
    }
    Ok(async move {
        if let Some((memory, trust)) = kept {
            memory.keep(trust, stop).await;
        }
    })
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

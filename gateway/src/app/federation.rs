//! How does the gateway take part in the federation?
//!
//! With a registry: the follower keeps the table, the registrar takes registrations. Without one the
//! static table stays as it is.

use super::{Addresses, Error};
use crate::{
    config::{Config, Kind},
    registrar::{Registrar, Settings},
    registry::{Registry, embedded::Embedded, etcd::Etcd, follow},
    table::{Source, Table},
};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
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
        Kind::Etcd => (Arc::new(Etcd::connect(&config.registry.endpoints).await?), Source::Etcd),
    };
    let prefix = config.registry.prefix.clone();
    let stop_following = CancellationToken::new();
    let (followed, following) = follow::follow(
        registry.clone(),
        prefix.clone(),
        config.table.clone(),
        source,
        move |table| {
            tables.send_replace(table);
        },
        stop_following.clone(),
    );
    let settings = Settings {
        prefix,
        gateway_id: config.id.clone(),
        control_address: addresses.control.to_string(),
        tokens: config.join.clone(),
        lease_ttl: LEASE,
        heartbeat: HEARTBEAT,
    };
    let registrar = Registrar::new(registry, settings, table);
    Ok(Some(Joined { followed, registrar, following: Box::pin(following), stop_following }))
}

/// How often the gateways are counted.
const COUNT: Duration = Duration::from_secs(1);

/// Counts the live gateways by their presence in the registry, this one among them.
pub(super) async fn count(followed: follow::Status, gateways: Arc<AtomicU32>, ended: CancellationToken) {
    let counting = async {
        loop {
            gateways.store(followed.gateways().max(1), Relaxed);
            tokio::time::sleep(COUNT).await;
        }
    };
    ended.run_until_cancelled(counting).await.unwrap_or_default()
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

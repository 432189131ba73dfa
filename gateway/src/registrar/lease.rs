//! What keeps this gateway's entries in the registry?
//!
//! One lease for everything that this gateway holds, renewed at a third of its time to live. When it
//! is gone (the registry was away for too long, or somebody revoked it) another one is granted, and
//! every session hears of it and puts its entry again. Under the same lease stands the gateway's
//! presence, written when what is applied has changed, but at most once in 10 s.
//!
//! Goodbyes hang on leases of their own ([`Departures`]), which nobody renews.

use super::{Shared, record};
use crate::clock::unix_ms;
use crate::registry::{Error, Outcome, Registry, Txn, keys::Key};
use prost::Message as _;
use std::time::Duration;
use suiyue_proto::v1::GatewayPresence;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// The presence is written at most this often.
const PRESENCE_EVERY: Duration = Duration::from_secs(10);
/// A goodbye is kept for this long at most …
const DEPARTED_FOR: Duration = Duration::from_secs(20 * 60);
/// … and, because a lease takes all goodbyes of this time, so much less at least: longer than any
/// gateway goes without listing everything.
const DEPARTURES_SHARED: Duration = Duration::from_secs(5 * 60);
/// How soon a failed call is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// A gateway that leaves spends at most this on saying so.
const DEPART_WITHIN: Duration = Duration::from_secs(1);

/// The lease that is in force.
#[derive(Debug)]
pub(super) struct Current {
    lease: watch::Sender<Option<i64>>,
    doubted: Notify,
}

impl Default for Current {
    fn default() -> Self {
        Self { lease: watch::Sender::new(None), doubted: Notify::new() }
    }
}

impl Current {
    /// Follows the lease; `None` while there is none.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<i64>> {
        self.lease.subscribe()
    }

    /// Somebody was told that the lease is gone: it is looked after at once.
    pub(super) fn doubt(&self, lease: i64) {
        if *self.lease.borrow() == Some(lease) {
            self.doubted.notify_one();
        }
    }
}

/// The lease of the newest goodbyes.
#[derive(Debug, Default)]
pub(super) struct Departures {
    lease: tokio::sync::Mutex<Option<(i64, Instant)>>,
}

impl Departures {
    /// A lease for a goodbye that is written now. Those who wait for it while it is granted share it.
    pub(super) async fn lease(&self, registry: &dyn Registry) -> Result<i64, Error> {
        let mut current = self.lease.lock().await;
        if let Some((lease, granted)) = *current
            && granted.elapsed() < DEPARTURES_SHARED
        {
            return Ok(lease);
        }
        let lease = registry.grant(DEPARTED_FOR).await?;
        *current = Some((lease, Instant::now()));
        Ok(lease)
    }

    /// The lease is gone: the next goodbye gets another one.
    pub(super) async fn doubt(&self, lease: i64) {
        let mut current = self.lease.lock().await;
        *current = current.filter(|(present, _)| *present != lease);
    }
}

/// Grants and renews, for ever.
pub(super) async fn keep(shared: &Shared) {
    loop {
        let lease = granted(shared).await;
        shared.lease.lease.send_replace(Some(lease));
        renew(shared, lease).await;
        shared.lease.lease.send_replace(None);
        tracing::warn!(lease, "the lease is gone; another one is granted and every entry put again");
    }
}

async fn granted(shared: &Shared) -> i64 {
    let mut failed = false;
    loop {
        match shared.registry.grant(shared.settings.lease_ttl).await {
            Ok(lease) => return lease,
            // Said once, not once a try.
            Err(error) if !std::mem::replace(&mut failed, true) => {
                tracing::warn!(%error, "no lease can be had; nodes cannot register here");
            }
            Err(error) => tracing::debug!(%error, "still no lease"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Renews a lease until it is gone.
async fn renew(shared: &Shared, lease: i64) {
    let mut presence = Presence::new(shared, lease);
    let mut next = Instant::now() + shared.settings.lease_ttl / 3;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = shared.lease.doubted.notified() => {}
            () = presence.due() => {
                presence.write(shared).await;
                continue;
            }
        }
        next = Instant::now()
            + match shared.registry.keep_alive(lease).await {
                Ok(()) => shared.settings.lease_ttl / 3,
                Err(Error::LeaseGone) => return,
                // Only the registry knows whether the lease has run out: ask on.
                Err(_) => RETRY,
            };
    }
}

/// What this gateway says of itself.
struct Presence {
    key: String,
    lease: i64,
    mod_revision: i64,
    /// Applied revision and hash as last written.
    written: Option<(i64, String)>,
    due: Instant,
}

impl Presence {
    fn new(shared: &Shared, lease: i64) -> Self {
        Self { key: presence_key(shared), lease, mod_revision: 0, written: None, due: Instant::now() }
    }

    async fn due(&self) {
        tokio::time::sleep_until(self.due).await;
    }

    /// Whatever fails is tried again when it is due again.
    async fn write(&mut self, shared: &Shared) {
        self.due = Instant::now() + PRESENCE_EVERY;
        let applied = {
            let table = shared.tables.borrow();
            (table.revision, table.hash.clone())
        };
        if self.written.as_ref() == Some(&applied) {
            return;
        }
        let presence = GatewayPresence {
            control_address: shared.settings.control_address.clone(),
            admin_address: shared.settings.admin_address.clone(),
            applied_revision: applied.0,
            table_hash: applied.1.clone(),
            unix_ms: unix_ms(),
        };
        let value = bytes::Bytes::from(presence.encode_to_vec());
        for _ in 0..record::ATTEMPTS {
            let txn = Txn {
                expect: vec![(self.key.clone(), self.mod_revision)],
                puts: vec![(self.key.clone(), value.clone(), self.lease)],
                deletes: Vec::new(),
            };
            match shared.registry.commit(txn).await {
                Ok(Outcome::Committed(revision)) => {
                    self.mod_revision = revision;
                    self.written = Some(applied);
                    return;
                }
                // Left by this gateway's last life, or written by a call that seemed to fail.
                Ok(Outcome::Conflict(entries)) => {
                    self.mod_revision = entries.first().map_or(0, |entry| entry.mod_revision);
                }
                Err(Error::LeaseGone) => return shared.lease.doubt(self.lease),
                Err(error) => return tracing::debug!(%error, "the presence of this gateway was not written"),
            }
        }
    }
}

/// Deletes the presence if it is still this gateway's own. The lease is left to run out: nodes that
/// have not moved yet hang on it.
pub(super) async fn depart(shared: &Shared) {
    let key = presence_key(shared);
    let lease = shared.lease.lease.send_replace(None);
    let depart = async {
        let root = shared.registry.list(&key).await?;
        let own = root.entries.into_iter().find(|entry| entry.key == key && Some(entry.lease) == lease);
        let Some(own) = own else { return Ok(()) };
        let txn = Txn {
            expect: vec![(key.clone(), own.mod_revision)],
            deletes: vec![key.clone()],
            ..Txn::default()
        };
        shared.registry.commit(txn).await.map(drop)
    };
    match tokio::time::timeout(DEPART_WITHIN, depart).await {
        Ok(Ok(())) => {}
        Ok(Err(Error::LeaseGone)) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the presence of this gateway goes with its lease"),
    }
}

fn presence_key(shared: &Shared) -> String {
    shared.settings.prefix.key(&Key::Gateway(shared.settings.gateway_id.clone()))
}

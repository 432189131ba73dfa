//! Which gateways are out?
//!
//! The bundle in the node's files says who vouches for gateways. Who was revoked since stands in the records
//! of trust: each gateway tells its nodes of them ([`crate::register`]), and the federation's anchor, whose
//! public key stands in the configuration, has signed them, so that the gateway that tells need not be
//! believed. A record is replaced by one with a higher serial only. Without an anchor nobody is revoked here.
//!
//! A gateway that hides its own revocation is believed until its certificate ends, if the node has heard of
//! nothing from another gateway. What was heard of ends with the process; the next gateway tells it again.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use suiyue_proto::identity::files::now;
use suiyue_proto::identity::signed::Kind;
pub use suiyue_proto::identity::signed::Root;
use suiyue_proto::identity::tls::{Chain, Judge};
use suiyue_proto::identity::{Authorities, Identity, Leaf, SpiffeId};
use suiyue_proto::v1;
use tokio::sync::watch;

// Clocks are set: a far end is looked at again after this time.
const LOOK: Duration = Duration::from_secs(3600);

/// How this node judges certificates. Clones are the same.
#[derive(Clone)]
pub struct Trust {
    own: Identity,
    root: Option<Root>,
    /// The newest record of each province.
    known: Arc<Mutex<BTreeMap<u32, v1::ProvinceTrust>>>,
    revoked: watch::Sender<Arc<Revoked>>,
}

/// Who is out.
#[derive(Debug, Default)]
struct Revoked {
    ids: HashSet<SpiffeId>,
    serials: HashSet<String>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Trust {
    /// Of a node, or a tool, with this identity.
    #[must_use]
    pub fn new(own: Identity, root: Option<Root>) -> Self {
        Self { own, root, known: Arc::default(), revoked: watch::Sender::default() }
    }

    /// The node's own certificate.
    #[must_use]
    pub fn own(&self) -> &Identity {
        &self.own
    }

    /// Takes a record that a gateway told of; one that says nothing new is taken, too.
    ///
    /// # Errors
    /// Says why it does not count: the anchor has not signed it, or a newer one is known.
    pub fn take(&self, value: &[u8]) -> Result<(), String> {
        use prost::Message as _;
        let Some(root) = &self.root else { return Ok(()) };
        let undecodable = |error: prost::DecodeError| format!("it cannot be decoded: {error}");
        let record = v1::SignedRecord::decode(value).map_err(undecodable)?;
        root.anchor
            .verify(Kind::Trust, &record.payload, &record.signature)
            .map_err(|_| "it is not signed by the federation's anchor".to_owned())?;
        let new = v1::ProvinceTrust::decode(record.payload).map_err(undecodable)?;
        if new.federation != root.federation {
            return Err(format!("it is of the federation {:?}", new.federation));
        }
        if let Some(bad) = new.revoked_ids.iter().find(|id| id.parse::<SpiffeId>().is_err()) {
            return Err(format!("{bad:?} is no id"));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&new.province) {
            Some(old) if *old == new => return Ok(()),
            Some(old) if old.serial >= new.serial => {
                return Err(format!("its serial is {}, and {} is known", new.serial, old.serial));
            }
            _ => drop(known.insert(new.province, new)),
        }
        let ids =
            known.values().flat_map(|record| record.revoked_ids.iter().filter_map(|id| id.parse().ok()));
        let serials = known.values().flat_map(|record| record.revoked_serials.iter().cloned());
        self.revoked.send_replace(Arc::new(Revoked { ids: ids.collect(), serials: serials.collect() }));
        Ok(())
    }

    /// Lasts until a certificate has expired or was revoked, or nobody in the bundle vouches for it any more.
    ///
    /// Cancel safe.
    pub async fn ends(&self, chain: &Chain) {
        let (mut revoked, mut own) = (self.revoked.subscribe(), self.own.watch());
        loop {
            revoked.mark_unchanged();
            let bundle = Arc::clone(&own.borrow_and_update().bundle);
            let unix_s = now();
            if self.is_revoked(&chain.leaf) || chain.verify(&bundle, unix_s).is_err() {
                return;
            }
            let end = chain.leaf.not_after_unix_s.min(bundle.turns_after(unix_s));
            let left = Duration::from_secs(u64::try_from(end - unix_s).unwrap_or(0)).min(LOOK);
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                // The senders live as long as we do.
                _ = revoked.changed() => {}
                _ = own.changed() => {}
            }
        }
    }
}

impl Judge for Trust {
    fn authorities(&self, _: &SpiffeId) -> Option<Arc<Authorities>> {
        Some(Arc::clone(&self.own.shown().bundle))
    }

    fn is_revoked(&self, leaf: &Leaf) -> bool {
        let revoked = self.revoked.borrow();
        revoked.ids.contains(&leaf.id) || revoked.serials.contains(&leaf.serial)
    }
}

#[cfg(test)]
mod tests;

//! Who may vouch for whom, and who is out?
//!
//! Two sources. The trust bundle of this process (a file) vouches for gateways, operators and apps: whoever
//! runs this gateway chose it. For nodes the registry says it, province by province, signed by the
//! federation's anchor, whose public key stands in the configuration: a province's authorities vouch for
//! nodes of its own region codes and for nobody else. Without an anchor the bundle vouches for nodes too.
//!
//! [`Roll`] is what the registry says, checked. The registry fold is its only writer; TLS, the registrar
//! and open connections read it, and are told of every change.

use super::{Leaf, Refused, SpiffeId, Subject};
use bytes::Bytes;
use prost::Message as _;
use rustls::pki_types::CertificateDer;
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
pub use suiyue_proto::identity::signed::Root;
use suiyue_proto::{
    identity::{
        Authorities, Identity, Usage,
        certificate::unix_time,
        files::now,
        signed::{self, Anchor, Kind},
        tls::{Chain, Expected, Judge},
    },
    region::{self, Code},
    v1,
};
use tokio::sync::watch;

/// An end that is further away is looked at again after this time: clocks are set.
const LOOK: Duration = Duration::from_secs(3600);

/// What one province may do: its record, checked.
#[derive(Debug, Clone)]
pub struct Province {
    /// The province.
    pub code: Code,
    /// Raised with every change.
    pub serial: u64,
    /// Who vouches for its nodes.
    pub authorities: Arc<Authorities>,
    /// What it was read from.
    said: v1::ProvinceTrust,
    /// And that as it was signed: an encoded [`v1::SignedRecord`].
    signed: Bytes,
    revoked_ids: HashSet<SpiffeId>,
}

impl Province {
    /// Reads the record of a province.
    ///
    /// # Errors
    /// Says why it cannot be used.
    pub fn read(anchor: &Anchor, federation: &str, code: Code, value: &[u8]) -> Result<Self, String> {
        let undecodable = |error: prost::DecodeError| format!("the value cannot be decoded: {error}");
        let record = v1::SignedRecord::decode(value).map_err(undecodable)?;
        anchor
            .verify(Kind::Trust, &record.payload, &record.signature)
            .map_err(|_| "it is not signed by the federation's anchor".to_owned())?;
        let trust = v1::ProvinceTrust::decode(record.payload).map_err(undecodable)?;
        let mut province = Self::check(federation, code, trust)?;
        province.signed = Bytes::copy_from_slice(value);
        Ok(province)
    }

    fn check(federation: &str, code: Code, trust: v1::ProvinceTrust) -> Result<Self, String> {
        if trust.federation != federation {
            return Err(format!("it is of the federation {:?}, not of {federation:?}", trust.federation));
        }
        if trust.province != code.get() {
            return Err(format!("it is of {}, not of {code}", trust.province));
        }
        let province = (code.get() / 10_000).to_string();
        let fits = |prefix: &&String| {
            (2..=6).contains(&prefix.len())
                && prefix.starts_with(&province)
                && prefix.bytes().all(|b| b.is_ascii_digit())
        };
        if let Some(bad) = trust.code_prefixes.iter().find(|prefix| !fits(prefix)) {
            return Err(format!(
                "{bad:?} is no prefix of codes of {code}: 2 to 6 digits beginning with {province}"
            ));
        }
        let authorities = Authorities::new(trust.authorities.iter().map(AsRef::as_ref));
        let authorities = authorities.map_err(|refused| format!("authorities: {refused}"))?;
        let revoked_ids = trust.revoked_ids.iter().map(|id| id.parse().map_err(|e| format!("{id:?}: {e}")));
        Ok(Self {
            code,
            serial: trust.serial,
            authorities: Arc::new(authorities),
            revoked_ids: revoked_ids.collect::<Result<_, _>>()?,
            said: trust,
            signed: Bytes::new(),
        })
    }

    /// The record, an encoded [`v1::SignedRecord`]: whoever knows the anchor can check it.
    #[must_use]
    pub const fn signed(&self) -> &Bytes {
        &self.signed
    }

    /// What it says, as it was signed.
    #[must_use]
    pub const fn said(&self) -> &v1::ProvinceTrust {
        &self.said
    }

    /// The other record says the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.said == other.said
    }

    /// Its nodes may speak for this region.
    #[must_use]
    pub fn covers(&self, region: Code) -> bool {
        let text = region.to_string();
        self.said.code_prefixes.iter().any(|prefix| text.starts_with(prefix.as_str()))
    }
}

/// What the registry says of trust.
#[derive(Debug, Clone, Default)]
pub struct Roll {
    provinces: BTreeMap<Code, Arc<Province>>,
    revoked_ids: HashSet<SpiffeId>,
    revoked_serials: HashSet<String>,
}

impl Roll {
    /// Of these provinces. What one of them revokes is out everywhere: the anchor signed it.
    #[must_use]
    pub fn new(provinces: BTreeMap<Code, Arc<Province>>) -> Self {
        let revoked_ids =
            provinces.values().flat_map(|province| province.revoked_ids.iter().cloned()).collect();
        let serials = provinces.values().flat_map(|province| province.said.revoked_serials.iter().cloned());
        let revoked_serials = serials.collect();
        Self { provinces, revoked_ids, revoked_serials }
    }

    /// The provinces by their codes.
    #[must_use]
    pub const fn provinces(&self) -> &BTreeMap<Code, Arc<Province>> {
        &self.provinces
    }

    /// The certificate, or whoever it names, is out.
    #[must_use]
    pub fn is_revoked(&self, leaf: &Leaf) -> bool {
        self.revoked_ids.contains(&leaf.id) || self.revoked_serials.contains(&leaf.serial)
    }

    /// What the province that a region lies in may do.
    #[must_use]
    pub fn province_of(&self, region: Code) -> Option<&Arc<Province>> {
        self.provinces.get(&region.province()?)
    }
}

/// How this gateway judges certificates. Clones are the same.
#[derive(Clone)]
pub struct Trust {
    own: Identity,
    root: Option<Root>,
    roll: watch::Sender<Arc<Roll>>,
    /// When the certificates of nodes end, as the fold last saw them.
    ends: Arc<Mutex<BTreeMap<SpiffeId, i64>>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Trust {
    /// Of a gateway with this identity.
    #[must_use]
    pub fn new(own: Identity, root: Option<Root>) -> Self {
        Self { own, root, roll: watch::Sender::default(), ends: Arc::default() }
    }

    /// This gateway's own certificate.
    #[must_use]
    pub const fn own(&self) -> &Identity {
        &self.own
    }

    /// The federation's anchor; `None`: records need no signature.
    #[must_use]
    pub const fn root(&self) -> Option<&Root> {
        self.root.as_ref()
    }

    /// Name of the federation.
    #[must_use]
    pub fn federation(&self) -> String {
        self.root.as_ref().map_or_else(|| self.own.federation(), |root| root.federation.clone())
    }

    /// What the registry says now.
    #[must_use]
    pub fn roll(&self) -> Arc<Roll> {
        self.roll.borrow().clone()
    }

    /// Follows what the registry says.
    #[must_use]
    pub fn rolls(&self) -> watch::Receiver<Arc<Roll>> {
        self.roll.subscribe()
    }

    /// Replaces what the registry says; only the fold does, and before it begins
    /// [what was believed last](super::memory).
    pub(crate) fn publish(&self, roll: Arc<Roll>) {
        self.roll.send_replace(roll);
    }

    /// Takes when the certificates of nodes end; only the fold does.
    pub(crate) fn note_ends(&self, ends: BTreeMap<SpiffeId, i64>) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }

    /// Whose certificate ends when, in seconds since 1970-01-01 UTC: this gateway's own, the provinces'
    /// authorities (as `authority 440000`), and of every node the one that ends first.
    #[must_use]
    pub fn expiries(&self) -> Vec<(String, i64)> {
        let own = &self.own.shown().leaf;
        let roll = self.roll();
        let authorities = roll
            .provinces
            .iter()
            .map(|(code, province)| (format!("authority {code}"), province.authorities.first_end()));
        let mut expiries = vec![(own.id.to_string(), own.not_after_unix_s)];
        expiries.extend(authorities);
        let nodes = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        expiries.extend(nodes.iter().map(|(id, end)| (id.to_string(), *end)));
        expiries
    }

    /// Lasts until a certificate has expired or was revoked, or nobody vouches for it any more: an authority
    /// was withdrawn, or its time is over.
    ///
    /// Cancel safe.
    pub async fn ends(&self, chain: &Chain) {
        let (mut roll, mut own) = (self.roll.subscribe(), self.own.watch());
        // Who vouched last, and until when they may: others need not be asked again for every news.
        let mut vouched = None::<(Arc<Authorities>, i64)>;
        loop {
            roll.mark_unchanged();
            own.mark_unchanged();
            let unix_s = now();
            if chain.leaf.not_after_unix_s <= unix_s || self.is_revoked(&chain.leaf) {
                return;
            }
            let Some(authorities) = self.authorities(&chain.leaf.id) else { return };
            let same = vouched.take().filter(|(by, turn)| unix_s < *turn && by.is_same(&authorities));
            let turn = match same {
                Some((_, turn)) => turn,
                None if chain.verify(&authorities, unix_s).is_err() => return,
                None => authorities.turns_after(unix_s),
            };
            vouched = Some((authorities, turn));
            let left_s = u64::try_from(chain.leaf.not_after_unix_s.min(turn) - unix_s).unwrap_or(0);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(left_s).min(LOOK)) => {}
                // The senders live as long as we do.
                _ = roll.changed() => {}
                _ = own.changed() => {}
            }
        }
    }

    /// May a node show this chain and speak for these regions, and is it this very node?
    ///
    /// # Errors
    /// [`Refused`].
    pub fn vouched(
        &self,
        chain: &[CertificateDer<'_>],
        node: &SpiffeId,
        scopes: &[Code],
        unix_s: i64,
    ) -> Result<Leaf, Refused> {
        let nobody = || Refused::Untrusted(format!("nobody may vouch for {node}"));
        let authorities = self.authorities(node).ok_or_else(nobody)?;
        let leaf = authorities.verify(chain, Usage::Client, unix_time(unix_s))?;
        self.holds(&leaf, node, scopes)?;
        Ok(leaf)
    }

    /// The part of [`vouched`](Self::vouched) that may change without the certificate.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn holds(&self, leaf: &Leaf, node: &SpiffeId, scopes: &[Code]) -> Result<(), Refused> {
        if leaf.id != *node {
            return Err(Refused::Unexpected(leaf.id.to_string()));
        }
        if self.is_revoked(leaf) {
            return Err(Refused::Revoked);
        }
        let Subject::Node { region, .. } = &node.subject else {
            return Err(Refused::Unexpected(node.to_string()));
        };
        let below = |scope: &Code| scope == region || region::parent(*scope) == Some(*region);
        if let Some(scope) = scopes.iter().find(|scope| !below(scope)) {
            return Err(Refused::Untrusted(format!("the certificate is of {region}, not of {scope}")));
        }
        if self.root.is_some() {
            let roll = self.roll();
            let covers =
                |scope: &Code| roll.province_of(*scope).is_some_and(|province| province.covers(*scope));
            if let Some(scope) = scopes.iter().find(|scope| !covers(scope)) {
                return Err(Refused::Untrusted(format!("its province may not speak for {scope}")));
            }
        }
        Ok(())
    }

    /// Anybody of this federation to whom the predicate applies.
    pub fn only(&self, who: impl Fn(&Subject) -> bool + Send + Sync + 'static) -> Expected {
        let federation = self.federation();
        Arc::new(move |id| id.federation == federation && who(&id.subject))
    }
}

impl Judge for Trust {
    fn authorities(&self, id: &SpiffeId) -> Option<Arc<Authorities>> {
        match (&self.root, &id.subject) {
            (Some(root), _) if root.federation != id.federation => None,
            (Some(_), Subject::Node { region, .. }) => {
                self.roll.borrow().province_of(*region).map(|province| province.authorities.clone())
            }
            _ => Some(self.own.shown().bundle.clone()),
        }
    }

    fn is_revoked(&self, leaf: &Leaf) -> bool {
        self.roll.borrow().is_revoked(leaf)
    }
}

/// A record's signature, checked against the certificate that stands beside it.
///
/// # Errors
/// [`Refused::Signature`].
pub fn verify(leaf: &Leaf, kind: Kind, record: &v1::SignedRecord) -> Result<(), Refused> {
    signed::verify(leaf, kind, &record.payload, &record.signature)
}

#[cfg(test)]
pub(crate) mod tests;

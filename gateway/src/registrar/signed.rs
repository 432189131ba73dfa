//! What did a node with a certificate sign, and does it replace what stands in the registry?
//!
//! The registrar checks the signatures that every gateway's fold will check again, so that a node learns
//! at once why it is not taken. What stands in the registry is believed only if it is signed, too: an
//! entry that somebody put there must not keep a node out.

use super::record::CODES_OUTLIVE_KEYS_S;
use crate::{
    identity::{Leaf, Peer, Refused, SpiffeId, Subject, Trust, trust},
    registry::{Entry, MAX_DECLARATIONS},
};
use bytes::Bytes;
use prost::Message;
use rustls::pki_types::CertificateDer;
use suiyue_proto::{
    identity::{files::now, signed::Kind},
    reason::Reason,
    region::Code,
    v1::{EndpointDeclaration, Hello, KeyDeclaration, Manifest, NodeKeys, SignedRecord},
};
use tonic::Status;

/// What a node signed.
#[derive(Debug)]
pub(super) struct Signed {
    /// Its manifest.
    pub(super) manifest: SignedRecord,
    /// Its keys, if it has any.
    pub(super) keys: Option<SignedRecord>,
    /// Its endpoint.
    pub(super) endpoint: SignedRecord,
    id: SpiffeId,
    leaf: Leaf,
    trust: Trust,
}

/// Bytes of a chain: it is stored with everything that it signs.
const MAX_CHAIN: usize = 16 << 10;
/// Bytes of an endpoint's declaration: it is written with every report that turns.
const MAX_ENDPOINT: usize = 4 << 10;

/// Reads what a hello signs, and puts it in the place of what the hello says without signature. `None`: it
/// signs nothing, and need not.
pub(super) fn read(trust: &Trust, hello: &mut Hello) -> Result<Option<Signed>, Status> {
    let (manifest, keys, endpoint) =
        (hello.signed_manifest.take(), hello.signed_keys.take(), hello.signed_endpoint.take());
    let chain = std::mem::take(&mut hello.chain);
    let (Some(manifest), Some(endpoint)) = (manifest, endpoint) else {
        return match trust.root() {
            None => Ok(None),
            Some(_) => Err(unsigned("signed_manifest and signed_endpoint, because an anchor is configured")),
        };
    };
    if chain.iter().map(Bytes::len).sum::<usize>() > MAX_CHAIN {
        return Err(invalid("chain", "certificates of 16 KiB together at most"));
    }
    if endpoint.payload.len() > MAX_ENDPOINT {
        return Err(invalid("signed_endpoint", "a declaration of 4 KiB at most"));
    }
    let said: Manifest = decode(&manifest.payload, "signed_manifest")?;
    let region = Code::new(said.region).ok_or_else(|| invalid("manifest.region", "a region code"))?;
    let id = SpiffeId::node(&trust.federation(), region, &said.node);
    let ders: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
    let scopes: Vec<Code> = said.scopes.iter().copied().filter_map(Code::new).collect();
    let leaf = trust.vouched(&ders, &id, &[], now()).map_err(|refused| identity_refused(&refused))?;
    trust.holds(&leaf, &id, &scopes).map_err(|refused| scope_refused(&refused))?;
    let with_chain = |record: SignedRecord| SignedRecord { chain: chain.clone(), ..record };
    let check =
        |kind, record: &SignedRecord, field| trust::verify(&leaf, kind, record).map_err(|_| unsigned(field));
    check(Kind::Manifest, &manifest, "signed_manifest")?;
    check(Kind::Endpoint, &endpoint, "signed_endpoint")?;
    let declared: EndpointDeclaration = decode(&endpoint.payload, "signed_endpoint")?;
    if (declared.region, &declared.node) != (said.region, &said.node) {
        return Err(invalid("signed_endpoint", "the node of the manifest"));
    }
    hello.keys.clear();
    if let Some(keys) = &keys {
        check(Kind::Keys, keys, "signed_keys")?;
        let declared: KeyDeclaration = decode(&keys.payload, "signed_keys")?;
        if (declared.region, &declared.node) != (said.region, &said.node) {
            return Err(invalid("signed_keys", "the node of the manifest"));
        }
        hello.keys = declared.keys;
    }
    hello.manifest = Some(said);
    (hello.endpoint, hello.address, hello.incarnation) =
        (declared.endpoint, declared.address, declared.incarnation);
    let (manifest, endpoint) = (with_chain(manifest), with_chain(endpoint));
    Ok(Some(Signed { manifest, keys: keys.map(with_chain), endpoint, id, leaf, trust: trust.clone() }))
}

/// Whoever shows a certificate may register that very node, and no other.
pub(super) fn names(peer: &Peer, manifest: &Manifest) -> Result<(), Status> {
    match &peer.id().subject {
        Subject::Node { region, node } if region.get() == manifest.region && *node == manifest.node => Ok(()),
        Subject::Node { region, .. } if region.get() != manifest.region => {
            Err(Reason::JoinScopeRefused.with(&[("certificate", &peer.id().to_string())]))
        }
        _ => Err(Reason::IdentityRefused.with(&[("certificate", &peer.id().to_string())])),
    }
}

impl Signed {
    /// The manifest to write, if a newer one, or the same with a longer life, does not stand there.
    pub(super) fn new_spec(&self, present: Option<&Entry>) -> Option<Bytes> {
        let stored = present.and_then(|entry| SignedRecord::decode(entry.value.clone()).ok());
        let serial = |record: &SignedRecord| Manifest::decode(record.payload.clone()).map_or(0, |m| m.serial);
        let stays = stored
            .and_then(|stored| Some((self.signer(Kind::Manifest, &stored)?, stored)))
            .is_some_and(|(signer, stored)| {
                let (theirs, ours) = (serial(&stored), serial(&self.manifest));
                theirs > ours || (stored.payload == self.manifest.payload && self.lives_as_long(&signer))
            });
        (!stays).then(|| self.manifest.encode_to_vec().into())
    }

    /// The declarations of keys to write, if they do not stand there. Those of the node's other endpoints,
    /// and former ones whose codes are still about, stay until they have run out.
    pub(super) fn new_keys(&self, present: Option<&Entry>) -> Option<Bytes> {
        let stored = present.and_then(|entry| NodeKeys::decode(entry.value.clone()).ok()).unwrap_or_default();
        let ours = self.keys.as_ref()?;
        let declared = |record: &SignedRecord| {
            KeyDeclaration::decode(record.payload.clone()).map(|declared| declared.keys).unwrap_or_default()
        };
        let own = declared(ours);
        let lives = |end: i64| end.saturating_add(CODES_OUTLIVE_KEYS_S) > now();
        let mut kept = vec![ours.clone()];
        for record in &stored.signed {
            let Some(signer) = self.signer(Kind::Keys, record) else { continue };
            if record.payload == ours.payload {
                if self.lives_as_long(&signer) {
                    kept[0] = record.clone();
                }
            } else if declared(record).iter().any(|key| lives(key.not_after_unix_s) && !own.contains(key)) {
                kept.push(record.clone());
            }
        }
        kept.truncate(MAX_DECLARATIONS);
        // In one order, so that two endpoints do not take turns at writing the same.
        kept.sort_by(|a, b| a.payload.cmp(&b.payload));
        let value = NodeKeys { keys: Vec::new(), signed: kept };
        (value != stored).then(|| value.encode_to_vec().into())
    }

    /// The certificate behind a record that stands in the registry, if it holds.
    fn signer(&self, kind: Kind, record: &SignedRecord) -> Option<Leaf> {
        let ders: Vec<_> = record.chain.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
        let leaf = self.trust.vouched(&ders, &self.id, &[], now()).ok()?;
        trust::verify(&leaf, kind, record).is_ok().then_some(leaf)
    }

    fn lives_as_long(&self, signer: &Leaf) -> bool {
        signer.not_after_unix_s >= self.leaf.not_after_unix_s
    }
}

fn decode<M: Message + Default>(payload: &Bytes, field: &str) -> Result<M, Status> {
    M::decode(payload.clone()).map_err(|_| invalid(field, "an encoded message"))
}

fn invalid(field: &str, expected: &str) -> Status {
    Reason::ManifestInvalid.with(&[("field", field), ("expected", expected)])
}

fn unsigned(field: &str) -> Status {
    Reason::SignatureInvalid.with(&[("field", field)])
}

fn identity_refused(refused: &Refused) -> Status {
    match refused {
        Refused::Revoked | Refused::Time => Reason::IdentityRevoked.with(&[("why", &refused.to_string())]),
        refused => Reason::IdentityRefused.with(&[("why", &refused.to_string())]),
    }
}

fn scope_refused(refused: &Refused) -> Status {
    match refused {
        Refused::Untrusted(why) => Reason::JoinScopeRefused.with(&[("why", why)]),
        other => identity_refused(other),
    }
}

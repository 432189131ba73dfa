//! Is this manifest, this list of keys, this endpoint signed as it must be?

use super::{Notary, Vouched};
use crate::{
    identity::{Leaf, SpiffeId, Subject, trust},
    registry::{Entry, keys::Part},
};
use bytes::Bytes;
use prost::Message;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use suiyue_proto::{identity::signed::Kind, region::Code, v1};

/// Declarations of keys that one node may have: one an endpoint, and former ones.
pub(crate) const MAX_DECLARATIONS: usize = 32;

/// A value that holds.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    /// What the fold reads.
    pub(super) value: Bytes,
    /// When it was written: who forges over it changes nothing of that either.
    pub(super) revision: i64,
    /// Certificates that it hangs on.
    pub(super) leaves: Vec<Arc<Leaf>>,
    /// Regions that it speaks for.
    pub(super) scopes: Vec<Code>,
    /// Of a manifest.
    serial: u64,
    /// What was signed, to be known again.
    pub(super) records: Vec<v1::SignedRecord>,
}

impl Judged {
    /// Until when the certificates are valid.
    pub(super) fn until(&self) -> i64 {
        self.leaves.iter().map(|leaf| leaf.not_after_unix_s).min().unwrap_or(i64::MAX)
    }

    /// The certificate of a record that was checked before.
    fn leaf_of(&self, record: &v1::SignedRecord) -> Option<&Arc<Leaf>> {
        let at = self.records.iter().position(|known| known == record)?;
        self.leaves.get(at)
    }
}

/// What holds, and what of it was left out.
type Outcome = Result<(Judged, Option<String>), String>;

fn decode<M: Message + Default>(value: &Bytes) -> Result<M, String> {
    M::decode(value.clone()).map_err(|error| format!("the value cannot be decoded: {error}"))
}

impl Notary {
    /// Checks the value of an entry from scratch; `good` is what held before under this key.
    pub(super) fn check(
        &mut self,
        entry: &Entry,
        id: &SpiffeId,
        part: &Part,
        good: Option<&Judged>,
    ) -> Outcome {
        let outcome = match part {
            Part::Spec => self.spec(&entry.value, id, good),
            Part::Keys => self.keys(&entry.value, id, good),
            Part::Live(endpoint) => self.live(&entry.value, id, endpoint, good),
            // Operators' orders are not signed by nodes, and a goodbye makes no route.
            Part::Intent | Part::Gone(_) => Err("nobody signs it".to_owned()),
        };
        outcome.map(|(judged, complaint)| (Judged { revision: entry.mod_revision, ..judged }, complaint))
    }

    fn spec(&mut self, value: &Bytes, id: &SpiffeId, good: Option<&Judged>) -> Outcome {
        let record: v1::SignedRecord = decode(value)?;
        let leaf = self.signer(Kind::Manifest, &record, id, good)?;
        let manifest: v1::Manifest = decode(&record.payload)?;
        if !names(id, manifest.region, &manifest.node) {
            return Err("the manifest is of another node than the key".to_owned());
        }
        if let Some(newer) = good.map(|good| good.serial).filter(|serial| *serial > manifest.serial) {
            return Err(format!(
                "it is an older manifest: its serial is {}, and {newer} is known",
                manifest.serial
            ));
        }
        let scopes: Vec<Code> = manifest.scopes.iter().copied().filter_map(Code::new).collect();
        self.trust.holds(&leaf, id, &scopes).map_err(|refused| refused.to_string())?;
        // One field, written once: a reader that merges fields finds nothing else to merge.
        let value = v1::SignedRecord { payload: record.payload.clone(), ..Default::default() };
        let value = value.encode_to_vec().into();
        Ok((
            Judged {
                value,
                revision: 0,
                leaves: vec![leaf],
                scopes,
                serial: manifest.serial,
                records: vec![record],
            },
            None,
        ))
    }

    fn keys(&mut self, value: &Bytes, id: &SpiffeId, good: Option<&Judged>) -> Outcome {
        let stored: v1::NodeKeys = decode(value)?;
        if stored.signed.len() > MAX_DECLARATIONS {
            return Err(format!("more than {MAX_DECLARATIONS} declarations of keys"));
        }
        let mut judged = Judged {
            value: Bytes::new(),
            revision: 0,
            leaves: Vec::new(),
            scopes: Vec::new(),
            serial: 0,
            records: Vec::new(),
        };
        let (mut keys, mut complaint) = (Vec::new(), None);
        if !stored.keys.is_empty() {
            complaint = Some("keys that are not signed".to_owned());
        }
        for record in stored.signed {
            match self.declaration(&record, id, good) {
                Ok((leaf, declared)) => {
                    keys.extend(declared);
                    judged.leaves.push(leaf);
                    judged.records.push(record);
                }
                Err(reason) => complaint = Some(reason),
            }
        }
        match complaint {
            Some(reason) if keys.is_empty() => Err(reason),
            complaint => {
                keys.sort_by(|a, b| {
                    (&a.key_id, &a.regions, &a.public_key).cmp(&(&b.key_id, &b.regions, &b.public_key))
                });
                keys.dedup();
                judged.value = v1::NodeKeys { keys, signed: Vec::new() }.encode_to_vec().into();
                Ok((judged, complaint))
            }
        }
    }

    fn declaration(
        &mut self,
        record: &v1::SignedRecord,
        id: &SpiffeId,
        good: Option<&Judged>,
    ) -> Result<(Arc<Leaf>, Vec<v1::VerifyingKey>), String> {
        let leaf = self.signer(Kind::Keys, record, id, good)?;
        let declared: v1::KeyDeclaration = decode(&record.payload)?;
        if !names(id, declared.region, &declared.node) {
            return Err("the keys are of another node".to_owned());
        }
        self.trust.holds(&leaf, id, &[]).map_err(|refused| refused.to_string())?;
        Ok((leaf, declared.keys))
    }

    fn live(&mut self, value: &Bytes, id: &SpiffeId, endpoint: &str, good: Option<&Judged>) -> Outcome {
        let live: v1::LiveEndpoint = decode(value)?;
        let record = live.signed.ok_or("it is not signed")?;
        let leaf = self.signer(Kind::Endpoint, &record, id, good)?;
        let declared: v1::EndpointDeclaration = decode(&record.payload)?;
        if !names(id, declared.region, &declared.node) || declared.endpoint != endpoint {
            return Err("the declaration is of another endpoint than the key".to_owned());
        }
        self.trust.holds(&leaf, id, &[]).map_err(|refused| refused.to_string())?;
        let value = v1::LiveEndpoint {
            address: declared.address,
            incarnation: declared.incarnation,
            report: live.report,
            gateway: live.gateway,
            written_unix_ms: live.written_unix_ms,
            signed: None,
        };
        let value = value.encode_to_vec().into();
        Ok((
            Judged {
                value,
                revision: 0,
                leaves: vec![leaf],
                scopes: Vec::new(),
                serial: 0,
                records: vec![record],
            },
            None,
        ))
    }

    /// The certificate of the node whose key signed the record.
    fn signer(
        &mut self,
        kind: Kind,
        record: &v1::SignedRecord,
        id: &SpiffeId,
        good: Option<&Judged>,
    ) -> Result<Arc<Leaf>, String> {
        if record.chain.is_empty() || record.signature.is_empty() {
            return Err("it is not signed".to_owned());
        }
        let leaf = self.vouched(&record.chain, id)?;
        // The same bytes, signature and certificate were checked before.
        if good.is_some_and(|good| good.leaf_of(record).is_some_and(|known| Arc::ptr_eq(known, &leaf))) {
            return Ok(leaf);
        }
        trust::verify(&leaf, kind, record).map_err(|refused| refused.to_string())?;
        Ok(leaf)
    }

    /// The certificate in front of a chain, if somebody vouches for it.
    pub(super) fn vouched(&mut self, chain: &[Bytes], id: &SpiffeId) -> Result<Arc<Leaf>, String> {
        let Subject::Node { region, .. } = &id.subject else { return Err("it is no node's".to_owned()) };
        let epoch = self.provinces.epoch(*region);
        let (first, rest) = chain.split_first().ok_or("it is not signed")?;
        if let Some(known) = self.leaves.get_mut(first)
            && (known.epoch, known.rest.as_slice()) == (epoch, rest)
            && known.leaf.is_valid_at(self.now)
            && known.leaf.id == *id
        {
            known.used = true;
            return Ok(known.leaf.clone());
        }
        let ders: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
        let leaf = self.trust.vouched(&ders, id, &[], self.now).map_err(|refused| refused.to_string())?;
        let leaf = Arc::new(leaf);
        let vouched = Vouched { rest: rest.to_vec(), epoch, leaf: leaf.clone(), used: true };
        self.leaves.insert(first.clone(), vouched);
        Ok(leaf)
    }
}

fn names(id: &SpiffeId, number: u32, name: &str) -> bool {
    matches!(&id.subject, Subject::Node { region, node } if region.get() == number && node == name)
}

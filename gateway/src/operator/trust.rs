//! May this record of trust replace the one that stands there?
//!
//! Only the offline anchor can say so, and it has said so in the record itself: nothing secret is needed
//! here, and whoever brings the record is only its messenger. What cannot be verified is no obstacle: a
//! record that somebody else put there is replaced, whatever its serial says.

use super::{Operator, apps::not_written, dump};
use crate::{
    audit::{What, actor::Deed},
    identity::trust::{Province, Root},
    registry::{Entry, Outcome, Txn, keys::Key},
};
use prost::Message as _;
use suiyue_proto::{reason::Reason, region::Code, v1};
use tonic::Status;

/// Conflicts in a row before it is given up.
const ATTEMPTS: usize = 8;

impl Operator {
    pub(super) async fn publish(
        &self,
        deed: &Deed,
        asked: v1::PublishTrustRequest,
    ) -> Result<v1::PublishTrustResponse, Status> {
        let audit = self.audit.as_ref().ok_or_else(|| Reason::RegistryNone.status())?;
        let root =
            self.trust.as_ref().and_then(|trust| trust.root()).ok_or_else(|| Reason::TrustNone.status())?;
        let code = province(&asked.record)?;
        let new = Province::read(&root.anchor, &root.federation, code, &asked.record);
        let new = new.map_err(|why| Reason::TrustInvalid.with(&[("why", &why)]))?;
        let key = self.prefix.key(&Key::Trust(code));
        let answer = |revision, written| v1::PublishTrustResponse {
            table: Some(self.table_info(&self.snapshots.current())),
            province: code.get(),
            serial: new.serial,
            revision,
            written,
        };
        let mut present = None::<Entry>;
        for _ in 0..ATTEMPTS {
            if let Some((entry, known)) = present.as_ref().and_then(|entry| known(root, code, entry)) {
                if known.is_same(&new) {
                    return Ok(answer(entry.mod_revision, false));
                }
                if known.serial >= new.serial {
                    return Err(Reason::TrustOlder
                        .with(&[("serial", &new.serial.to_string()), ("known", &known.serial.to_string())]));
                }
            }
            let replaced = present.as_ref().map_or(0, |entry| entry.mod_revision);
            let value = |bytes| dump::value(&Key::Trust(code), bytes);
            let what = What {
                key: Key::Trust(code).to_string(),
                replaced,
                before: present.as_ref().map(|entry| value(entry.value.clone())),
                after: Some(value(asked.record.clone())),
            };
            let txn = Txn {
                expect: vec![(key.clone(), replaced)],
                puts: vec![(key.clone(), asked.record.clone(), 0)],
                deletes: Vec::new(),
            };
            // The audit finds out what became of a write without an answer.
            match audit.commit(deed, &what, &txn).await {
                Ok(Outcome::Committed(revision)) => {
                    tracing::info!(province = %code, serial = new.serial, revision, "a record of trust was published");
                    return Ok(answer(revision, true));
                }
                Ok(Outcome::Conflict(entries)) => {
                    present = entries.into_iter().find(|entry| entry.key == key)
                }
                Err(failure) => return Err(not_written(&failure)),
            }
        }
        Err(Reason::WriteUnknown.status())
    }
}

/// The province that a record says it is of.
fn province(record: &bytes::Bytes) -> Result<Code, Status> {
    let undecodable = |_| Reason::TrustInvalid.with(&[("why", "it cannot be decoded")]);
    let record = v1::SignedRecord::decode(record.clone()).map_err(undecodable)?;
    let trust = v1::ProvinceTrust::decode(record.payload).map_err(undecodable)?;
    let is_province = |code: &Code| code.get().is_multiple_of(10_000);
    Code::new(trust.province)
        .filter(is_province)
        .ok_or_else(|| Reason::TrustInvalid.with(&[("why", "it is of no province")]))
}

/// What stands there, if the anchor signed it.
fn known<'a>(root: &Root, code: Code, entry: &'a Entry) -> Option<(&'a Entry, Province)> {
    let province = Province::read(&root.anchor, &root.federation, code, &entry.value).ok()?;
    Some((entry, province))
}

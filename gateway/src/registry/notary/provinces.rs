//! What may each province do, as the anchor last said?
//!
//! An invalid record and one with a lower serial than is known change nothing, and neither does deleting
//! one: only the anchor takes back what it said, by a newer record.

use crate::{
    identity::{
        Roll,
        trust::{Province, Root},
    },
    registry::{
        Entry,
        keys::{Key, Prefix},
    },
    table::Quarantined,
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};
use suiyue_proto::region::Code;

/// The provinces that were heard of.
#[derive(Debug, Default)]
pub(super) struct Provinces {
    known: BTreeMap<Code, Known>,
}

#[derive(Debug)]
struct Known {
    /// The value that was read last.
    seen: Bytes,
    /// Why it does not count.
    refusal: Option<String>,
    good: Option<Arc<Province>>,
    /// Which of its authorities may vouch now.
    valid: Vec<bool>,
    /// Raised when who vouches, for what, or who is revoked has changed.
    epoch: u64,
}

impl Provinces {
    /// Reads the records; the new roll, if it is another one.
    pub(super) fn learn(
        &mut self,
        root: &Root,
        prefix: &Prefix,
        entries: &BTreeMap<Code, &Entry>,
        quarantined: &mut Vec<Quarantined>,
    ) -> Option<Arc<Roll>> {
        let mut changed = false;
        for (&code, entry) in entries {
            let known = self.known.entry(code).or_insert_with(Known::nothing);
            if known.seen != entry.value {
                known.seen = entry.value.clone();
                changed |= known.take(root, code);
            }
            if let Some(reason) = &known.refusal {
                quarantined.push(Quarantined { key: entry.key.clone(), reason: reason.clone() });
            }
        }
        for (&code, known) in self.known.iter_mut().filter(|(code, _)| !entries.contains_key(code)) {
            if known.good.is_some() {
                let reason = "it is gone; what the anchor last said stays in force".to_owned();
                quarantined.push(Quarantined { key: prefix.key(&Key::Trust(code)), reason });
            }
            known.seen = Bytes::new();
        }
        changed.then(|| {
            let provinces = self.known.iter().filter_map(|(code, known)| Some((*code, known.good.clone()?)));
            Arc::new(Roll::new(provinces.collect()))
        })
    }

    /// Changes when certificates of the province that a region lies in must be checked again.
    pub(super) fn epoch(&self, region: Code) -> u64 {
        region.province().and_then(|province| self.known.get(&province)).map_or(0, |known| known.epoch)
    }

    /// Notes whose time as an authority has come or is over; when that changes next.
    pub(super) fn turn(&mut self, unix_s: i64) -> i64 {
        let mut next = i64::MAX;
        for known in self.known.values_mut() {
            let Some(good) = &known.good else { continue };
            let valid = good.authorities.valid_at(unix_s);
            if known.valid != valid {
                known.valid = valid;
                known.epoch += 1;
            }
            next = next.min(good.authorities.turns_after(unix_s));
        }
        next
    }
}

impl Known {
    const fn nothing() -> Self {
        Self { seen: Bytes::new(), refusal: None, good: None, valid: Vec::new(), epoch: 0 }
    }

    /// Takes the value that was read; whether another one is in force now.
    fn take(&mut self, root: &Root, code: Code) -> bool {
        let read = Province::read(&root.anchor, &root.federation, code, &self.seen);
        let newer = read.and_then(|new| match &self.good {
            Some(good) if good.serial > new.serial => Err(format!(
                "it is an older record: its serial is {}, and {} is known",
                new.serial, good.serial
            )),
            Some(good) if good.serial == new.serial && !good.is_same(&new) => {
                Err(format!("another record of the serial {} is known", new.serial))
            }
            _ => Ok(new),
        });
        match newer {
            Ok(new) => {
                self.refusal = None;
                if self.good.as_ref().is_none_or(|good| !good.is_same(&new)) {
                    self.epoch += 1;
                }
                self.good = Some(Arc::new(new));
                true
            }
            Err(reason) => {
                self.refusal = Some(reason);
                false
            }
        }
    }
}

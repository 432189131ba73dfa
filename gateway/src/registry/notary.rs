//! Which of these entries are signed by somebody who may sign them?
//!
//! With an anchor in the configuration the fold sees only what [`Notary::judge`] lets through: records of
//! trust signed by the anchor; manifests, keys and endpoints signed by a certificate of that very node,
//! issued by an authority of its province, within the province's codes. Who wrote an entry does not
//! matter, and what is not signed is never read.
//!
//! An entry that does not hold is quarantined, and what it replaced stays in force: whoever can write into
//! the registry but cannot sign changes no route by it. A manifest or a record of trust with a lower
//! serial than one that was seen is such an entry too. This memory is the process's; a gateway that
//! starts anew believes the newest that it finds.
//!
//! The result of a check is kept for as long as the bytes, the province's authorities and the
//! certificate's time are what they were, so that a fold over many thousand entries compares bytes.

mod checks;
mod provinces;

pub(crate) use checks::MAX_DECLARATIONS;

use super::{
    Entry,
    fold::Entries,
    keys::{Key, Part, Prefix},
};
use crate::{
    identity::{Leaf, SpiffeId, Trust},
    table::Quarantined,
};
use bytes::Bytes;
use checks::Judged;
use provinces::Provinces;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use suiyue_proto::region::Code;

/// What could not be used is looked at again after this time: clocks differ, and a certificate's time may
/// just begin.
const AGAIN_S: i64 = 10;

/// Lets signed entries through.
#[derive(Debug)]
pub(super) struct Notary {
    trust: Trust,
    provinces: Provinces,
    /// By key of the entry.
    memory: HashMap<String, Memory>,
    /// Certificates that were checked, by their bytes.
    leaves: HashMap<Bytes, Vouched>,
    now: i64,
    due: i64,
}

/// What is known of one key.
#[derive(Debug)]
struct Memory {
    /// The value that was judged last, and when it is to be judged again.
    seen: Bytes,
    epoch: u64,
    again: i64,
    refusal: Option<String>,
    /// The newest that held.
    good: Option<Judged>,
    /// Somebody vouches for that still.
    stands: bool,
}

/// A certificate that somebody vouches for.
#[derive(Debug, Clone)]
struct Vouched {
    /// What came after it in the chain.
    rest: Vec<Bytes>,
    epoch: u64,
    leaf: Arc<Leaf>,
    /// It was needed in this fold.
    used: bool,
}

/// What came through.
pub(super) struct Passed {
    /// Entries that the fold may read; what is signed in them stands in them without signature.
    pub(super) entries: Entries,
    /// What did not hold.
    pub(super) quarantined: Vec<Quarantined>,
}

impl Notary {
    pub(super) fn new(trust: Trust) -> Self {
        Self {
            trust,
            provinces: Provinces::default(),
            memory: HashMap::new(),
            leaves: HashMap::new(),
            now: 0,
            due: i64::MAX,
        }
    }

    /// When the outcome changes without any change of an entry, in seconds since 1970-01-01 UTC.
    pub(super) const fn due(&self) -> i64 {
        self.due
    }

    /// Learns what the entries say of trust.
    pub(super) fn learn(&mut self, prefix: &Prefix, entries: &Entries) {
        let trusts = entries.values().filter_map(|entry| match prefix.parse(&entry.key) {
            Ok(Key::Trust(code)) => Some((code, entry)),
            _ => None,
        });
        self.take(prefix, &trusts.collect(), &mut Vec::new());
    }

    fn take(&mut self, prefix: &Prefix, trusts: &BTreeMap<Code, &Entry>, quarantined: &mut Vec<Quarantined>) {
        let Some(root) = self.trust.root() else { return };
        if let Some(roll) = self.provinces.learn(root, prefix, trusts, quarantined) {
            self.trust.publish(roll);
        }
    }

    /// Judges all entries at an instant.
    pub(super) fn judge(&mut self, prefix: &Prefix, entries: &Entries, unix_s: i64) -> Passed {
        (self.now, self.due) = (unix_s, i64::MAX);
        let mut passed = Passed { entries: Entries::new(), quarantined: Vec::new() };
        let mut signed = Vec::new();
        let mut trusts = BTreeMap::new();
        for entry in entries.values() {
            match prefix.parse(&entry.key) {
                Ok(Key::Trust(code)) => drop(trusts.insert(code, entry)),
                Ok(Key::Node { region, node, part }) if part.is_signed() => {
                    signed.push((region, node, part, entry));
                }
                _ => drop(passed.entries.insert(entry.key.clone(), entry.clone())),
            }
        }
        self.take(prefix, &trusts, &mut passed.quarantined);
        self.due = self.due.min(self.provinces.turn(unix_s));
        self.leaves.values_mut().for_each(|known| known.used = false);
        let mut memory = std::mem::take(&mut self.memory);
        let mut ends = BTreeMap::<SpiffeId, i64>::new();
        for (region, node, part, entry) in signed {
            let id = SpiffeId::node(&self.trust.federation(), region, &node);
            let known = memory.remove(&entry.key);
            let known = self.remember(known, entry, &id, &part, region);
            if let Some(reason) = &known.refusal {
                passed.quarantined.push(Quarantined { key: entry.key.clone(), reason: reason.clone() });
            }
            if let Some((value, mod_revision)) =
                self.in_force(&known, &id, entry, &mut passed.quarantined, &mut ends)
            {
                passed.entries.insert(entry.key.clone(), Entry { value, mod_revision, ..entry.clone() });
            }
            self.memory.insert(entry.key.clone(), known);
        }
        self.leaves.retain(|_, known| known.used);
        self.trust.note_ends(ends);
        passed
    }

    /// Judges the value of a key, unless it is what it was.
    fn remember(
        &mut self,
        known: Option<Memory>,
        entry: &Entry,
        id: &SpiffeId,
        part: &Part,
        region: Code,
    ) -> Memory {
        let epoch = self.provinces.epoch(region);
        let good = match known {
            Some(known) if known.seen == entry.value && known.epoch == epoch && self.now < known.again => {
                return known;
            }
            Some(known) => known.good,
            None => None,
        };
        let judged = self.check(entry, id, part, good.as_ref());
        let mut memory =
            Memory { seen: entry.value.clone(), epoch, again: i64::MAX, refusal: None, good, stands: true };
        match judged {
            Ok((judged, complaint)) => {
                memory.again = judged.until();
                (memory.good, memory.refusal) = (Some(judged), complaint);
            }
            Err(reason) => {
                memory.refusal = Some(reason);
                memory.again = self.now + AGAIN_S;
                memory.stands = memory.good.as_ref().is_none_or(|good| self.stands(good, id));
            }
        }
        memory
    }

    /// Every certificate that it hangs on is vouched for now. (An authority may be withdrawn, or its time
    /// over.)
    fn stands(&mut self, good: &Judged, id: &SpiffeId) -> bool {
        good.records.iter().all(|record| self.vouched(&record.chain, id).is_ok())
    }

    /// The value that counts, while its certificates hold.
    fn in_force(
        &mut self,
        memory: &Memory,
        id: &SpiffeId,
        entry: &Entry,
        quarantined: &mut Vec<Quarantined>,
        ends: &mut BTreeMap<SpiffeId, i64>,
    ) -> Option<(Bytes, i64)> {
        if memory.refusal.is_some() {
            self.due = self.due.min(memory.again);
        }
        let good = memory.good.as_ref().filter(|_| memory.stands)?;
        for leaf in &good.leaves {
            let holds = if leaf.is_valid_at(self.now) {
                self.trust.holds(leaf, id, &good.scopes).map_err(|refused| refused.to_string())
            } else {
                Err("the certificate has expired".to_owned())
            };
            if let Err(reason) = holds {
                if memory.refusal.is_none() {
                    quarantined.push(Quarantined { key: entry.key.clone(), reason });
                }
                return None;
            }
            self.due = self.due.min(leaf.not_after_unix_s);
            let end = ends.entry(id.clone()).or_insert(leaf.not_after_unix_s);
            *end = (*end).min(leaf.not_after_unix_s);
        }
        Some((good.value.clone(), good.revision))
    }
}

#[cfg(test)]
mod tests;

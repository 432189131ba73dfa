//! A log that lives as long as the process: for demonstrations and tests.
//!
//! It gives the same answers as the durable one and survives nothing; a node that uses it says so
//! in its log.

use super::{Decision, Error, Outcome, Place, Receipt, Record, Store};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

/// The log in memory.
#[derive(Debug, Default)]
pub struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seq: u64,
    ids: HashMap<(Kind, [u8; 16]), (Place, i64)>,
    decisions: BTreeMap<Place, Decision>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Decision,
    Scan,
}

const EPOCH: u64 = 1;

impl Store for Memory {
    fn epoch(&self) -> u64 {
        EPOCH
    }

    fn append(&self, batch: &[Record], now_unix_ms: i64) -> Result<Vec<Receipt>, Error> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(batch.iter().map(|record| inner.append(record, now_unix_ms)).collect())
    }

    fn decisions(&self, visit: &mut dyn FnMut(Place, Decision)) -> Result<(), Error> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, decision) in &inner.decisions {
            visit(*place, decision.clone());
        }
        Ok(())
    }
}

impl Inner {
    fn append(&mut self, record: &Record, now_unix_ms: i64) -> Receipt {
        let kind = match record {
            Record::Decision(_) => Kind::Decision,
            Record::Scan(_) => Kind::Scan,
        };
        let key = (kind, record.id());
        if let Some(&(place, stored_unix_ms)) = self.ids.get(&key) {
            let first = self.decisions.get(&place).cloned();
            return Receipt { place, stored_unix_ms, outcome: Outcome::Duplicate(first) };
        }
        self.seq += 1;
        let place = Place { epoch: EPOCH, seq: self.seq };
        self.ids.insert(key, (place, now_unix_ms));
        if let Record::Decision(decision) = record {
            self.decisions.insert(place, decision.clone());
        }
        Receipt { place, stored_unix_ms: now_unix_ms, outcome: Outcome::Stored }
    }
}

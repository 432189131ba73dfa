//! The durable log, in one redb file.
//!
//! A batch is one write transaction with one fsync. redb writes copy-on-write with checksums: a
//! writer that is killed, or a torn page, leaves the last committed state.
//! After a failed commit the outcome is unknown, so nothing of the batch is acknowledged; devices
//! send it again, and ids make that harmless.

use super::{Decision, Error, Outcome, Place, Receipt, Record, Store};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

type At = (u64, u64);
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const DECISIONS: TableDefinition<At, &[u8]> = TableDefinition::new("decisions");
const SCANS: TableDefinition<At, &[u8]> = TableDefinition::new("scans");
// id -> (epoch, seq, stored)
const DECISION_IDS: TableDefinition<[u8; 16], (u64, u64, i64)> = TableDefinition::new("decision_ids");
const SCAN_IDS: TableDefinition<[u8; 16], (u64, u64, i64)> = TableDefinition::new("scan_ids");
const CACHE_BYTES: usize = 64 << 20;
const FILE: &str = "node.redb";

/// The log on disk.
#[derive(Debug)]
pub struct Redb {
    database: Database,
    epoch: u64,
    // Position of the last record known to be committed; written by the one writer.
    seq: AtomicU64,
}

impl Redb {
    /// Opens the log in a directory, or makes it, and raises the epoch.
    ///
    /// # Errors
    /// [`Error`]: the directory cannot be used, another process has it open, or it is damaged.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(data_dir).map_err(medium)?;
        let path = data_dir.join(FILE);
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(medium)?;
        let transaction = database.begin_write().map_err(medium)?;
        let epoch = {
            let mut meta = transaction.open_table(META).map_err(medium)?;
            let last = meta.get("epoch").map_err(medium)?.map_or(0, |value| value.value());
            meta.insert("epoch", last + 1).map_err(medium)?;
            transaction.open_table(DECISIONS).map_err(medium)?;
            last + 1
        };
        transaction.commit().map_err(medium)?;
        Ok(Self { database, epoch, seq: AtomicU64::new(0) })
    }

    fn write(
        &self,
        transaction: &WriteTransaction,
        batch: &[Record],
        now_unix_ms: i64,
        seq: &mut u64,
    ) -> Result<Vec<Receipt>, Error> {
        let mut decisions = transaction.open_table(DECISIONS).map_err(medium)?;
        let mut scans = transaction.open_table(SCANS).map_err(medium)?;
        let mut decision_ids = transaction.open_table(DECISION_IDS).map_err(medium)?;
        let mut scan_ids = transaction.open_table(SCAN_IDS).map_err(medium)?;
        let mut receipts = Vec::with_capacity(batch.len());
        for record in batch {
            let (log, ids) = match record {
                Record::Decision(_) => (&mut decisions, &mut decision_ids),
                Record::Scan(_) => (&mut scans, &mut scan_ids),
            };
            let known = ids.get(record.id()).map_err(medium)?.map(|value| value.value());
            if let Some((epoch, seq, stored_unix_ms)) = known {
                let first = match record {
                    Record::Decision(_) => match log.get((epoch, seq)).map_err(medium)? {
                        Some(bytes) => Some(Decision::from_bytes(bytes.value())?),
                        None => None,
                    },
                    Record::Scan(_) => None,
                };
                let outcome = Outcome::Duplicate(first);
                receipts.push(Receipt { place: Place { epoch, seq }, stored_unix_ms, outcome });
                continue;
            }
            *seq += 1;
            let place = Place { epoch: self.epoch, seq: *seq };
            log.insert((place.epoch, place.seq), record.to_bytes().as_slice()).map_err(medium)?;
            ids.insert(record.id(), (place.epoch, place.seq, now_unix_ms)).map_err(medium)?;
            receipts.push(Receipt { place, stored_unix_ms: now_unix_ms, outcome: Outcome::Stored });
        }
        Ok(receipts)
    }
}

impl Store for Redb {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn append(&self, batch: &[Record], now_unix_ms: i64) -> Result<Vec<Receipt>, Error> {
        let transaction = self.database.begin_write().map_err(medium)?;
        let mut seq = self.seq.load(Ordering::Relaxed);
        let receipts = self.write(&transaction, batch, now_unix_ms, &mut seq)?;
        // The default durability: commit returns after the data and the new root are synced.
        transaction.commit().map_err(medium)?;
        self.seq.store(seq, Ordering::Relaxed);
        Ok(receipts)
    }

    fn decisions(&self, visit: &mut dyn FnMut(Place, Decision)) -> Result<(), Error> {
        let transaction = self.database.begin_read().map_err(medium)?;
        let table = transaction.open_table(DECISIONS).map_err(medium)?;
        for entry in table.iter().map_err(medium)? {
            let (at, bytes) = entry.map_err(medium)?;
            let (epoch, seq) = at.value();
            visit(Place { epoch, seq }, Decision::from_bytes(bytes.value())?);
        }
        Ok(())
    }
}

fn medium(error: impl std::fmt::Display) -> Error {
    Error::Medium(error.to_string())
}

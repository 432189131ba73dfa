//! Is the audit what it was?
//!
//! Every record holds the hash of the one before it, so that no record can be changed, removed, moved or
//! put in without breaking a link, and the head says where the chain ends. Who can write to the registry
//! can also write a whole new chain: it is found by the heads that gateways remember on their own disks.
//!
//! Pure: bytes in, verdict out. Operators run it over what a gateway gives them.

use super::ulid::Ulid;
use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use bytes::Bytes;
use prost::Message as _;
use std::fmt;
use suiyue_proto::v1;

/// A SHA-256.
pub type Hash = [u8; SHA256_OUTPUT_LEN];
/// What every hash begins with: another use of SHA-256 makes another hash.
const DOMAIN: &[u8] = b"suiyue.audit.v1\0";
/// The hash before the first record.
pub const ZERO: Hash = [0; SHA256_OUTPUT_LEN];

/// Hash of a record, from the bytes of its entry and the hash of the record before.
#[must_use]
pub fn hash(previous: &[u8], entry: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    [DOMAIN, previous, entry].iter().for_each(|part| context.update(part));
    let mut hash = ZERO;
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The end of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Id of the last record.
    pub id: Ulid,
    /// Its number, from 1.
    pub sequence: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    /// Reads a head; `None`: it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Self::of(&v1::AuditHead::decode(bytes).ok()?)
    }

    /// Takes a head; `None`: it is none.
    #[must_use]
    pub fn of(head: &v1::AuditHead) -> Option<Self> {
        let hash = Hash::try_from(&head.hash[..]).ok()?;
        (head.sequence > 0).then_some(Self { id: head.id.parse().ok()?, sequence: head.sequence, hash })
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> v1::AuditHead {
        v1::AuditHead {
            id: self.id.to_string(),
            sequence: self.sequence,
            hash: Bytes::copy_from_slice(&self.hash),
        }
    }
}

/// A record as it stands in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Last part of its key.
    pub id: String,
    /// Its value.
    pub value: Bytes,
}

/// A record that was read.
#[derive(Debug, Clone)]
pub struct Link {
    /// What it says.
    pub entry: v1::AuditEntry,
    /// Its place in the chain.
    pub head: Head,
}

/// Adds a record to the chain that ends with `last`; `entry` gets id, number and link. The record's bytes,
/// and the new head.
#[must_use]
pub fn append(last: Option<&Head>, mut entry: v1::AuditEntry, id: Ulid) -> (Bytes, Head) {
    let previous = last.map_or(ZERO, |last| last.hash);
    entry.id = id.to_string();
    entry.sequence = last.map_or(0, |last| last.sequence) + 1;
    entry.previous_id = last.map_or_else(String::new, |last| last.id.to_string());
    entry.previous_hash = Bytes::copy_from_slice(&previous);
    let bytes = Bytes::from(entry.encode_to_vec());
    let hash = hash(&previous, &bytes);
    let head = Head { id, sequence: entry.sequence, hash };
    let record = v1::AuditRecord { entry: bytes, hash: Bytes::copy_from_slice(&hash) };
    (record.encode_to_vec().into(), head)
}

/// Reads a record and checks all that it says of itself.
///
/// # Errors
/// What is wrong with it.
pub fn read(stored: &Stored) -> Result<Link, Fault> {
    let record = v1::AuditRecord::decode(stored.value.clone()).map_err(|_| Fault::Unreadable)?;
    // What protobuf reads over must not stand there either.
    if record.encode_to_vec() != stored.value {
        return Err(Fault::Altered);
    }
    let entry = v1::AuditEntry::decode(record.entry.clone()).map_err(|_| Fault::Unreadable)?;
    let id: Ulid = entry.id.parse().map_err(|_| Fault::Unreadable)?;
    if entry.id != stored.id {
        return Err(Fault::Moved);
    }
    let hash = hash(&entry.previous_hash, &record.entry);
    if record.hash != hash[..] {
        return Err(Fault::Altered);
    }
    let head = Head { id, sequence: entry.sequence, hash };
    Ok(Link { entry, head })
}

/// What is wrong with the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A record cannot be decoded.
    Unreadable,
    /// A record's content does not have its hash.
    Altered,
    /// A record stands under another key than its own.
    Moved,
    /// A record does not follow the one that stands before it: one was taken out, put in, or rewritten.
    Unlinked,
    /// There are records, but the head is gone or cannot be read.
    HeadMissing,
    /// The chain ends elsewhere than the head says: its end was cut off or written anew.
    HeadElsewhere,
    /// A gateway remembers a record that is not in the chain, or another one in its place: the chain was
    /// rewritten.
    Forgotten,
}

impl Fault {
    /// The word for a program.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Altered => "altered",
            Self::Moved => "moved",
            Self::Unlinked => "unlinked",
            Self::HeadMissing => "head_missing",
            Self::HeadElsewhere => "head_elsewhere",
            Self::Forgotten => "forgotten",
        }
    }

    /// What it means.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unreadable => "the record cannot be decoded",
            Self::Altered => "the record was altered: its content does not have its hash",
            Self::Moved => "the record stands under another key than its own",
            Self::Unlinked => {
                "the record does not follow the one before it: a record was taken out, put in or rewritten"
            }
            Self::HeadMissing => "there are records, but the head is gone or cannot be read",
            Self::HeadElsewhere => {
                "the chain does not end where the head says: its end was cut off or rewritten"
            }
            Self::Forgotten => "a gateway remembers another record: the chain was rewritten or cut off",
        }
    }
}

/// The first thing that is wrong with the chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Bad {
    /// Number that the record has or should have.
    pub sequence: u64,
    /// Id of the record; empty where it is gone.
    pub id: String,
    /// What is wrong.
    pub fault: Fault,
    /// The gateway that remembers otherwise; empty where none is needed to see it.
    pub gateway: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}", self.sequence)?;
        if !self.id.is_empty() {
            write!(f, " ({})", self.id)?;
        }
        write!(f, ": {}", self.fault.text())?;
        if !self.gateway.is_empty() {
            write!(f, " [{}]", self.gateway)?;
        }
        Ok(())
    }
}

/// Walks the whole chain: `records` in the order of their keys, the value of the head, and what gateways
/// remember, by name. The number of records.
///
/// # Errors
/// The first entry that is bad.
pub fn verify(records: &[Stored], head: Option<&[u8]>, remembered: &[(String, Head)]) -> Result<u64, Bad> {
    let mut last: Option<Head> = None;
    let mut hashes = Vec::with_capacity(records.len());
    for stored in records {
        let sequence = last.as_ref().map_or(0, |last| last.sequence) + 1;
        let bad = |fault| Bad { sequence, id: stored.id.clone(), fault, gateway: String::new() };
        let link = read(stored).map_err(bad)?;
        let previous = last.as_ref().map_or(ZERO, |last| last.hash);
        let follows = link.entry.previous_hash == previous[..]
            && link.head.sequence == sequence
            && last.as_ref().is_none_or(|last| last.id < link.head.id);
        if !follows {
            return Err(bad(Fault::Unlinked));
        }
        hashes.push(link.head.hash);
        last = Some(link.head);
    }
    let end = last.as_ref().map_or(0, |last| last.sequence);
    check_head(last.as_ref(), head)?;
    for (gateway, known) in remembered {
        let here = usize::try_from(known.sequence - 1).ok().and_then(|at| hashes.get(at));
        if here != Some(&known.hash) {
            let (id, gateway) = (known.id.to_string(), gateway.clone());
            return Err(Bad { sequence: known.sequence, id, fault: Fault::Forgotten, gateway });
        }
    }
    Ok(end)
}

fn check_head(last: Option<&Head>, head: Option<&[u8]>) -> Result<(), Bad> {
    let gateway = String::new();
    match (last, head.map(Head::decode)) {
        (None, None) => Ok(()),
        (Some(last), Some(Some(head))) if *last == head => Ok(()),
        (last, Some(Some(head))) => {
            // The first record that one of them has and the other has not.
            let end = last.map_or(0, |last| last.sequence);
            let sequence = if end == head.sequence { end } else { end.min(head.sequence) + 1 };
            Err(Bad { sequence, id: head.id.to_string(), fault: Fault::HeadElsewhere, gateway })
        }
        (last, None | Some(None)) => {
            let sequence = last.map_or(0, |last| last.sequence);
            let id = last.map_or_else(String::new, |last| last.id.to_string());
            Err(Bad { sequence, id, fault: Fault::HeadMissing, gateway })
        }
    }
}

#[cfg(test)]
mod tests;

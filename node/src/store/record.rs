//! What stands in the log?
//!
//! Two kinds of records, each with an id of 16 bytes that was minted by whoever wants it stored.
//! On disk they are protobuf messages of the store's own, so that fields can be added.

use super::Error;
use crate::population::Subject;
use prost::Message as _;
use suiyue_proto::region::Code;
use suiyue_proto::sy1::Level;

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A status was decided.
    Decision(Decision),
    /// A code was scanned.
    Scan(Scan),
}

impl Record {
    /// What makes it unique among records of its kind.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        match self {
            Self::Decision(decision) => decision.request_id,
            Self::Scan(scan) => scan.scan_id,
        }
    }
}

/// The authority decided a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Minted by the caller.
    pub request_id: [u8; 16],
    /// Home region of the holder.
    pub region: Code,
    /// The holder.
    pub subject: Subject,
    /// The new level.
    pub level: Level,
    /// A short machine-readable word.
    pub reason: String,
    /// When it was decided, in milliseconds since 1970-01-01 UTC.
    pub decided_unix_ms: i64,
}

/// A code was scanned at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Minted by the device.
    pub scan_id: [u8; 16],
    /// Region of the place.
    pub region: Code,
    /// Counts the scans of the device.
    pub device_counter: u64,
    /// The device.
    pub device: String,
    /// The place.
    pub place: String,
    /// The text read.
    pub code: String,
    /// By the device's clock, in milliseconds since 1970-01-01 UTC.
    pub scanned_unix_ms: i64,
    /// What the device decided, as in `suiyue.v1.Verdict`.
    pub verdict: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredDecision {
    #[prost(bytes = "vec", tag = "1")]
    request_id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    region: u32,
    #[prost(bytes = "vec", tag = "3")]
    subject: Vec<u8>,
    #[prost(uint32, tag = "4")]
    level: u32,
    #[prost(string, tag = "5")]
    reason: String,
    #[prost(int64, tag = "6")]
    decided_unix_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredScan {
    #[prost(bytes = "vec", tag = "1")]
    scan_id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    region: u32,
    #[prost(uint64, tag = "3")]
    device_counter: u64,
    #[prost(string, tag = "4")]
    device: String,
    #[prost(string, tag = "5")]
    place: String,
    #[prost(string, tag = "6")]
    code: String,
    #[prost(int64, tag = "7")]
    scanned_unix_ms: i64,
    #[prost(int32, tag = "8")]
    verdict: i32,
}

impl Record {
    /// The bytes on disk.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Decision(decision) => StoredDecision {
                request_id: decision.request_id.to_vec(),
                region: decision.region.get(),
                subject: decision.subject.to_vec(),
                level: decision.level.number().into(),
                reason: decision.reason.clone(),
                decided_unix_ms: decision.decided_unix_ms,
            }
            .encode_to_vec(),
            Self::Scan(scan) => StoredScan {
                scan_id: scan.scan_id.to_vec(),
                region: scan.region.get(),
                device_counter: scan.device_counter,
                device: scan.device.clone(),
                place: scan.place.clone(),
                code: scan.code.clone(),
                scanned_unix_ms: scan.scanned_unix_ms,
                verdict: scan.verdict,
            }
            .encode_to_vec(),
        }
    }
}

impl Decision {
    /// Reads the bytes on disk.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::Damaged("a decision cannot be read".to_owned());
        let stored = StoredDecision::decode(bytes).map_err(|_| damaged())?;
        Ok(Self {
            request_id: stored.request_id.try_into().map_err(|_| damaged())?,
            region: Code::new(stored.region).ok_or_else(damaged)?,
            subject: stored.subject.try_into().map_err(|_| damaged())?,
            level: u8::try_from(stored.level).ok().and_then(Level::from_number).ok_or_else(damaged)?,
            reason: stored.reason,
            decided_unix_ms: stored.decided_unix_ms,
        })
    }
}

//! How does a scan become durable, and when may the device forget it?
//!
//! The device keeps a scan until it holds a receipt, and a receipt is sent after the scan is on
//! disk. A scan is unique by the id that the device minted: a second copy, on any stream, gets the
//! first receipt. A malformed scan is rejected by itself; the others of its message are stored.
//!
//! One task a stream reads, checks and queues; the receipts follow in the order of the messages.
//! At most [`AHEAD`] messages of a stream wait for the disk; then the stream is not read, and HTTP/2
//! makes the device wait.

use crate::scope::{self, Scope};
use crate::store::writer::{Ticket, Writer};
use crate::store::{Outcome, Receipt, Record, Scan};
use futures_util::{Stream, StreamExt as _};
use std::pin::Pin;
use std::sync::Arc;
use suiyue_proto::reason::Reason;
use suiyue_proto::region::Code;
use suiyue_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

/// Messages of one stream that may wait for the disk.
pub const AHEAD: usize = 8;
/// Scans of one message at most.
pub const MESSAGE_MAX: usize = 500;
const NAME_MAX: usize = 64;
const CODE_MAX: usize = 512;

/// The receipts of a stream.
pub type Receipts = Pin<Box<dyn Stream<Item = Result<v1::RecordScansResponse, Status>> + Send>>;

/// Stores scans.
#[derive(Debug, Clone)]
pub struct Recorder {
    /// Who answers.
    pub scope: Arc<Scope>,
    /// Makes scans durable.
    pub writer: Writer,
    /// Cancelled when streams must end.
    pub ending: CancellationToken,
    /// Owns the tasks of the streams.
    pub tasks: TaskTracker,
}

/// One message on its way to the disk.
struct Pending {
    region: Code,
    rejected: Vec<v1::ScanReceipt>,
    ids: Vec<[u8; 16]>,
    ticket: Option<Ticket>,
}

impl Recorder {
    /// Takes the scans of a stream, and returns their receipts.
    #[must_use]
    pub fn record(&self, metadata: MetadataMap, scans: Streaming<v1::RecordScansRequest>) -> Receipts {
        let (queue, pending) = mpsc::channel(AHEAD);
        let reader = Reader { recorder: self.clone(), metadata, region: None };
        self.tasks.spawn(reader.run(scans, queue));
        let scope = Arc::clone(&self.scope);
        Box::pin(ReceiverStream::new(pending).then(move |pending: Result<Pending, Status>| {
            let scope = Arc::clone(&scope);
            async move { pending?.answer(&scope).await }
        }))
    }
}

struct Reader {
    recorder: Recorder,
    metadata: MetadataMap,
    region: Option<Code>,
}

impl Reader {
    async fn run(
        mut self,
        mut scans: Streaming<v1::RecordScansRequest>,
        queue: mpsc::Sender<Result<Pending, Status>>,
    ) {
        loop {
            let next = tokio::select! {
                biased;
                () = queue.closed() => return,
                () = self.recorder.ending.cancelled() => Err(Reason::NodeDraining.status()),
                message = scans.message() => message,
            };
            let pending = match next {
                Ok(None) => return,
                Ok(Some(message)) => self.take(message).await,
                Err(status) => Err(status),
            };
            let last = pending.is_err();
            if queue.send(pending).await.is_err() || last {
                return;
            }
        }
    }

    async fn take(&mut self, message: v1::RecordScansRequest) -> Result<Pending, Status> {
        let region = self.region(message.region)?;
        if !(1..=MESSAGE_MAX).contains(&message.scans.len()) {
            return Err(scope::invalid("scans", "1 to 500 scans"));
        }
        let (mut records, mut rejected) = (Vec::with_capacity(message.scans.len()), Vec::new());
        for scan in message.scans {
            match check(region, &scan) {
                Ok(scan) => records.push(Record::Scan(scan)),
                Err(why) => rejected.push(reject(&scan, why)),
            }
        }
        let ids = records.iter().map(Record::id).collect::<Vec<_>>();
        let ticket = match records.is_empty() {
            true => None,
            false => Some(self.recorder.writer.submit(records).await.map_err(unavailable)?),
        };
        Ok(Pending { region, rejected, ids, ticket })
    }

    /// The first message names the region; later ones may leave it out, and may not change it.
    fn region(&mut self, field: u32) -> Result<Code, Status> {
        let region = match self.region {
            Some(region) if field == 0 => region,
            known => {
                let (region, _) = self.recorder.scope.admit(&self.metadata, field, None)?;
                if known.is_some_and(|known| known != region) {
                    return Err(Reason::RegionMismatch.with(&[("field", "region")]));
                }
                region
            }
        };
        self.region = Some(region);
        Ok(region)
    }
}

impl Pending {
    async fn answer(self, scope: &Scope) -> Result<v1::RecordScansResponse, Status> {
        let stored = match self.ticket {
            Some(ticket) => ticket.receipts().await.map_err(unavailable)?,
            None => Vec::new(),
        };
        let mut receipts = self.rejected;
        receipts.extend(self.ids.iter().zip(&stored).map(|(id, receipt)| acknowledge(id, receipt)));
        Ok(v1::RecordScansResponse { served: scope.served(self.region), receipts })
    }
}

fn check(region: Code, scan: &v1::Scan) -> Result<Scan, &'static str> {
    let scan_id = scan.scan_id.as_ref().try_into().map_err(|_| "scan_id must have 16 bytes")?;
    if scan.device.is_empty() || scan.device.len() > NAME_MAX {
        return Err("device must have 1 to 64 bytes");
    }
    if scan.place.is_empty() || scan.place.len() > NAME_MAX {
        return Err("place must have 1 to 64 bytes");
    }
    if scan.code.len() > CODE_MAX {
        return Err("code must have at most 512 bytes");
    }
    if scan.scanned_unix_ms <= 0 {
        return Err("scanned_unix_ms must be after 1970-01-01");
    }
    if v1::Verdict::try_from(scan.verdict).is_err() {
        return Err("verdict is not known");
    }
    Ok(Scan {
        scan_id,
        region,
        device_counter: scan.device_counter,
        device: scan.device.clone(),
        place: scan.place.clone(),
        code: scan.code.clone(),
        scanned_unix_ms: scan.scanned_unix_ms,
        verdict: scan.verdict,
    })
}

fn reject(scan: &v1::Scan, why: &str) -> v1::ScanReceipt {
    v1::ScanReceipt {
        // Echoed so that the device finds its scan; cut, because it may be of any length.
        scan_id: scan.scan_id.slice(..scan.scan_id.len().min(NAME_MAX)),
        outcome: v1::ScanOutcome::Rejected.into(),
        reason: why.to_owned(),
        ..v1::ScanReceipt::default()
    }
}

fn acknowledge(id: &[u8; 16], receipt: &Receipt) -> v1::ScanReceipt {
    let outcome = match receipt.outcome {
        Outcome::Stored => v1::ScanOutcome::Stored,
        Outcome::Duplicate(_) => v1::ScanOutcome::Duplicate,
    };
    v1::ScanReceipt {
        scan_id: id.to_vec().into(),
        outcome: outcome.into(),
        epoch: receipt.place.epoch,
        seq: receipt.place.seq,
        stored_unix_ms: receipt.stored_unix_ms,
        reason: String::new(),
    }
}

fn unavailable(_: crate::store::writer::Unavailable) -> Status {
    Reason::StoreUnavailable.status()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> v1::Scan {
        v1::Scan {
            scan_id: vec![1; 16].into(),
            device_counter: 1,
            device: "d".to_owned(),
            place: "p".to_owned(),
            code: String::new(),
            scanned_unix_ms: 1,
            verdict: 1,
        }
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut v1::Scan), expected: &str) {
        let mut scan = good();
        change(&mut scan);
        assert!(check(Code::new(440_100).unwrap(), &scan).unwrap_err().contains(expected));
    }

    #[test]
    fn each_malformed_field_is_named() {
        check(Code::new(440_100).unwrap(), &good()).unwrap();
        refused(|scan| scan.scan_id = vec![1; 15].into(), "scan_id");
        refused(|scan| scan.device = String::new(), "device");
        refused(|scan| scan.place = "p".repeat(65), "place");
        refused(|scan| scan.code = "c".repeat(513), "code");
        refused(|scan| scan.scanned_unix_ms = 0, "scanned_unix_ms");
        refused(|scan| scan.verdict = 99, "verdict");
    }
}

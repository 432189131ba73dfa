//! How do many callers share one fsync?
//!
//! One thread owns the writing. While it waits for the disk, callers queue up; then all that waits
//! becomes the next batch. The queue is bounded: a full queue makes callers wait, and through them
//! the streams they read from.
//!
//! ```text
//! healthy --store error--> failed
//! ```
//! `failed` is final: after a failed sync nobody knows what is on the disk, so no write is taken
//! until a restart has read it again. Reads go on.

use super::{Receipt, Record, Store};
use crate::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

// Callers that may wait; each holds at most one message's records.
const QUEUE: usize = 256;
// Records after which a batch is closed, so that the first caller in it is not kept for long.
const BATCH: usize = 4096;

/// The store takes no writes; nothing was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store takes no writes")]
pub struct Unavailable;

struct Job {
    records: Vec<Record>,
    reply: oneshot::Sender<Vec<Receipt>>,
}

/// Hands records to the writing thread. Clones share it; it ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: mpsc::Sender<Job>,
    failed: Arc<AtomicBool>,
}

/// Records on their way to the disk.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Vec<Receipt>>);

impl Ticket {
    /// Waits until the records are durable. Dropping it does not take them back.
    ///
    /// # Errors
    /// [`Unavailable`]: they may not be durable; do not acknowledge them.
    pub async fn receipts(self) -> Result<Vec<Receipt>, Unavailable> {
        self.0.await.map_err(|_| Unavailable)
    }
}

impl Writer {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(store: Arc<dyn Store>, clock: Clock) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let failed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&failed);
        let thread = std::thread::Builder::new()
            .name("suiyue-store".to_owned())
            .spawn(move || write(&*store, &clock, jobs, &flag))?;
        Ok((Self { queue, failed }, thread))
    }

    /// Queues records; waits while the queue is full.
    ///
    /// # Errors
    /// [`Unavailable`]: the store has failed.
    pub async fn submit(&self, records: Vec<Record>) -> Result<Ticket, Unavailable> {
        if self.failed.load(Ordering::Acquire) {
            return Err(Unavailable);
        }
        let (reply, ticket) = oneshot::channel();
        self.queue.send(Job { records, reply }).await.map_err(|_| Unavailable)?;
        Ok(Ticket(ticket))
    }

    /// Queues records and waits until they are durable.
    ///
    /// # Errors
    /// [`Unavailable`]: they may not be durable; do not acknowledge them.
    pub async fn append(&self, records: Vec<Record>) -> Result<Vec<Receipt>, Unavailable> {
        self.submit(records).await?.receipts().await
    }
}

fn write(store: &dyn Store, clock: &Clock, mut jobs: mpsc::Receiver<Job>, failed: &AtomicBool) {
    while let Some(first) = jobs.blocking_recv() {
        if failed.load(Ordering::Acquire) {
            // Dropping the reply tells the caller.
            continue;
        }
        let mut batch = first.records;
        let mut callers = vec![(first.reply, batch.len())];
        while batch.len() < BATCH {
            let Ok(job) = jobs.try_recv() else { break };
            callers.push((job.reply, job.records.len()));
            batch.extend(job.records);
        }
        match store.append(&batch, clock.unix_ms()) {
            Ok(receipts) => {
                let mut receipts = receipts.into_iter();
                for (caller, count) in callers {
                    // A caller that hung up has no use for its receipts.
                    let _ = caller.send(receipts.by_ref().take(count).collect());
                }
            }
            Err(error) => {
                failed.store(true, Ordering::Release);
                tracing::error!(%error, "the store failed: no write is taken until a restart");
            }
        }
    }
}

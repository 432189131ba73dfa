//! What does the audit say?
//!
//! Records go out as they stand in the registry: whoever asks checks the chain, and need not believe this
//! gateway.

use super::Operator;
use crate::{
    audit::chain::{self, Head, Stored},
    registry::{
        Change, Entry, Error, Registry, Update,
        keys::{Key, Prefix},
    },
};
use std::{pin::Pin, sync::Arc};
use suiyue_proto::{reason::Reason, v1};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;

/// Records on their way to who asks.
pub(super) type Records = Pin<Box<dyn Stream<Item = Result<v1::ReadAuditResponse, Status>> + Send>>;

/// Answers that wait for a slow reader.
const QUEUE: usize = 64;

impl Operator {
    pub(super) fn remembered(&self) -> v1::RememberedAuditResponse {
        let known = self.metrics.audit.known();
        v1::RememberedAuditResponse {
            gateway: self.gateway.clone(),
            head: known.head.as_ref().map(Head::message),
            seen_unix_ms: known.seen_ms,
            on_disk: known.on_disk,
            problem: known.problem.unwrap_or_default(),
        }
    }

    pub(super) fn audit_records(&self, asked: v1::ReadAuditRequest) -> Result<Records, Status> {
        let registry = self.registry.clone().ok_or_else(|| Reason::RegistryNone.status())?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let reader = Reader { registry, prefix: self.prefix.clone(), sender };
        // Ends with the receiver: nothing can be sent then.
        tokio::spawn(reader.run(asked));
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

/// The reader has gone.
struct Gone;

struct Reader {
    registry: Arc<dyn Registry>,
    prefix: Prefix,
    sender: mpsc::Sender<Result<v1::ReadAuditResponse, Status>>,
}

impl Reader {
    async fn run(self, asked: v1::ReadAuditRequest) {
        let closed = self.sender.clone();
        let read = async {
            match self.read(asked).await {
                Ok(Ok(())) | Ok(Err(Gone)) => {}
                Err(error) => {
                    tracing::warn!(%error, "the audit cannot be read");
                    let _ = self.sender.send(Err(Reason::RegistryUnavailable.status())).await;
                }
            }
        };
        tokio::select! {
            () = read => {}
            () = closed.closed() => {}
        }
    }

    async fn read(&self, asked: v1::ReadAuditRequest) -> Result<Result<(), Gone>, Error> {
        let (entries, head, revision) = match asked.last {
            0 => self.everything().await?,
            last => self.last(last).await?,
        };
        for entry in entries {
            if self.record(entry).await.is_err() {
                return Ok(Err(Gone));
            }
        }
        let (head, at) = head.map_or((bytes::Bytes::new(), 0), |head| (head.value, head.mod_revision));
        let end = v1::ReadAuditResponse { head, revision: at, ..Default::default() };
        if self.sender.send(Ok(end)).await.is_err() {
            return Ok(Err(Gone));
        }
        if asked.follow { self.follow(revision).await } else { Ok(Ok(())) }
    }

    async fn record(&self, entry: Entry) -> Result<(), Gone> {
        let Ok(Key::Audit(id)) = self.prefix.parse(&entry.key) else {
            // It stands among the records, and is none: who checks must see it.
            let id = entry.key.rsplit('/').next().unwrap_or_default().to_owned();
            return self.send(id, entry).await;
        };
        self.send(id.to_string(), entry).await
    }

    async fn send(&self, id: String, entry: Entry) -> Result<(), Gone> {
        let record = v1::ReadAuditResponse {
            id,
            record: entry.value,
            revision: entry.mod_revision,
            head: bytes::Bytes::new(),
        };
        self.sender.send(Ok(record)).await.map_err(|_| Gone)
    }

    async fn everything(&self) -> Result<(Vec<Entry>, Option<Entry>, i64), Error> {
        let listing = self.registry.list(&self.prefix.audit()).await?;
        let key = self.prefix.key(&Key::AuditHead);
        let (mut head, records) =
            listing.entries.into_iter().partition::<Vec<_>, _>(|entry| entry.key == key);
        Ok((records, head.pop(), listing.revision))
    }

    /// The last ones, found by walking back from the head. A chain that cannot be walked ends there.
    async fn last(&self, count: u32) -> Result<(Vec<Entry>, Option<Entry>, i64), Error> {
        let key = self.prefix.key(&Key::AuditHead);
        let listing = self.registry.list(&key).await?;
        let head = listing.entries.into_iter().find(|entry| entry.key == key);
        let mut next = head.as_ref().and_then(|head| Head::decode(&head.value)).map(|head| head.id);
        let mut found = Vec::new();
        while let Some(id) = next.filter(|_| found.len() < count as usize) {
            let key = self.prefix.key(&Key::Audit(id));
            let entries = self.registry.list(&key).await?.entries;
            let Some(entry) = entries.into_iter().find(|entry| entry.key == key) else { break };
            let stored = Stored { id: id.to_string(), value: entry.value.clone() };
            next = chain::read(&stored).ok().and_then(|link| link.entry.previous_id.parse().ok());
            found.push(entry);
        }
        found.reverse();
        Ok((found, head, listing.revision))
    }

    async fn follow(&self, after: i64) -> Result<Result<(), Gone>, Error> {
        let head = self.prefix.key(&Key::AuditHead);
        let mut updates = self.registry.watch(&self.prefix.audit(), after).await?;
        while let Some(update) = updates.recv().await {
            let changes = match update {
                Update::Heartbeat => continue,
                Update::Lost(error) => return Err(error),
                Update::Changes { changes, .. } => changes,
            };
            for change in changes {
                if let Change::Put(entry) = change
                    && entry.key != head
                    && self.record(entry).await.is_err()
                {
                    return Ok(Err(Gone));
                }
            }
        }
        Ok(Ok(()))
    }
}

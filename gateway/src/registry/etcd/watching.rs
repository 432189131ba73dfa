//! How does one watch of etcd go on, and when is it over?
//!
//! Progress is asked for every 10 s; a stream that says nothing for 30 s is given up, as a frozen
//! member or a minority looks healthy otherwise. Compaction, the end of the stream, another cluster
//! and a store that went back all end the watch: whoever follows lists again, at the next member
//! unless it was a compaction. Every event says which revision it replaces (`prev_kv`), so that the
//! follower can check its books.

use super::MAX_ANSWER;
use crate::registry::{Change, Error, Update};
use etcd_client::{Client, EventType, WatchOptions, WatchResponse, WatchStream};
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};

/// How often progress is asked for.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// Silence that ends a watch.
const SILENCE: Duration = Duration::from_secs(30);
/// Nobody knows what an event replaced.
const UNTOLD: i64 = -1;
/// Updates that a slow follower may have waiting; more wait in etcd.
const QUEUE: usize = 64;

/// Opens the stream; whether etcd can serve it, its messages say.
pub(super) async fn open(
    client: Client,
    prefix: String,
    after: i64,
) -> Result<WatchStream, etcd_client::Error> {
    let options = WatchOptions::new().with_prefix().with_start_revision(after + 1);
    let options = options.with_progress_notify().with_prev_key();
    client.watch_client().max_decoding_message_size(MAX_ANSWER).watch(prefix, Some(options)).await
}

/// Reads the stream in a task that ends with it, or when the receiver is dropped.
/// `leave` is called when the member is to blame.
pub(super) fn spawn(
    stream: WatchStream,
    after: i64,
    cluster: u64,
    leave: impl FnOnce() + Send + 'static,
) -> mpsc::Receiver<Update> {
    let (updates, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let watching = read(stream, after, cluster, &updates);
        let lost = tokio::select! {
            lost = watching => lost,
            () = updates.closed() => return,
        };
        if matches!(lost, Error::Unreachable(_)) {
            leave();
        }
        // The receiver may be gone: then nobody wants to know.
        let _gone = updates.send(Update::Lost(lost)).await;
    });
    receiver
}

async fn read(mut stream: WatchStream, after: i64, cluster: u64, updates: &mpsc::Sender<Update>) -> Error {
    let mut ask = tokio::time::interval_at(Instant::now() + ASK_EVERY, ASK_EVERY);
    let mut heard = Instant::now();
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            _ = ask.tick() => {
                // An error here is told by the stream as well.
                let _told = stream.request_progress().await;
                continue;
            }
            () = tokio::time::sleep_until(heard + SILENCE) => {
                return Error::Unreachable(format!("the watch was silent for {SILENCE:?}"));
            }
        };
        heard = Instant::now();
        let update = match message {
            Ok(Some(response)) => match understand(&response, after, cluster) {
                Ok(update) => update,
                Err(lost) => return lost,
            },
            Ok(None) => return Error::Unreachable("the watch stream ended".to_owned()),
            Err(error) => return super::class_read(error),
        };
        if updates.send(update).await.is_err() {
            return Error::Unreachable("nobody follows".to_owned());
        }
    }
}

fn understand(response: &WatchResponse, after: i64, cluster: u64) -> Result<Update, Error> {
    if response.compact_revision() > 0 {
        return Err(Error::Compacted);
    }
    if response.canceled() {
        return Err(Error::Unreachable(format!("the watch was cancelled: {}", response.cancel_reason())));
    }
    let header =
        response.header().ok_or_else(|| Error::Unreachable("an answer without header".to_owned()))?;
    if cluster != 0 && header.cluster_id() != cluster {
        return Err(Error::Unreachable("another cluster answers".to_owned()));
    }
    // Watching a revision that the store has not reached yet would be silent until it does.
    if header.revision() < after {
        return Err(Error::Unreachable(format!("the store went back to revision {}", header.revision())));
    }
    let (mut changes, mut before) = (Vec::with_capacity(response.events().len()), Vec::new());
    let mut revision = 0;
    for event in response.events() {
        let Some(kv) = event.kv() else { continue };
        revision = revision.max(kv.mod_revision());
        before.push(match event.prev_kv() {
            Some(replaced) => replaced.mod_revision(),
            None if kv.version() == 1 => 0,
            // Compacted meanwhile.
            None => UNTOLD,
        });
        let entry = super::entry(kv);
        changes.push(match event.event_type() {
            EventType::Put => Change::Put(entry),
            EventType::Delete => Change::Delete { key: entry.key },
        });
    }
    Ok(match changes.is_empty() {
        false => Update::Changes { revision, changes, before },
        // Periodic progress carries the watch's own id, an answer to a request does not.
        true if !response.created() && response.watch_id() >= 0 => {
            Update::Changes { revision: header.revision(), changes, before }
        }
        true => Update::Heartbeat,
    })
}

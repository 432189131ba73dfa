//! Which connection takes the next call?
//!
//! A fixed number of slots, each kept connected by one task. A slot starts at its own address of the
//! list and goes on to the next one whenever an address refuses, breaks, or says GOAWAY.
//!
//! ```text
//!          connected                 GOAWAY, or broken
//! seeking ----------> live ------------------------------> seeking at the next address
//!    ^  refused: next    |  after GOAWAY the old connection finishes its calls on its own task
//!    +--- address, back-off
//! ```

use super::socket::Coalescing;
use bytes::Bytes;
use h2::client::SendRequest;
use http::Uri;
use rand::Rng as _;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpStream, sync::Notify, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MOST: Duration = Duration::from_secs(1);

/// The connections of a run.
pub(super) struct Pool {
    slots: Vec<Slot>,
    servers: Vec<String>,
    next: AtomicUsize,
    generations: AtomicU64,
    changed: Notify,
}

struct Slot {
    live: Mutex<Option<Lease>>,
    retired: Notify,
    last_error: Mutex<String>,
}

/// A connection to send one call on.
#[derive(Clone)]
pub(super) struct Lease {
    slot: usize,
    generation: u64,
    pub(super) sender: SendRequest<Bytes>,
    pub(super) targets: Arc<Targets>,
}

/// The request targets at one address, parsed once for a connection.
pub(super) struct Targets {
    pub(super) show: Uri,
    pub(super) verify: Uri,
    pub(super) status: Uri,
}

impl Targets {
    fn at(address: &str) -> Result<Self, http::Error> {
        let path = |path: &str| Uri::builder().scheme("http").authority(address).path_and_query(path).build();
        Ok(Self {
            show: path("/suiyue.v1.CodeService/ShowCode")?,
            verify: path("/suiyue.v1.CodeService/VerifyCode")?,
            status: path("/suiyue.v1.StatusService/GetStatus")?,
        })
    }
}

impl Pool {
    /// Opens `connections` slots over `servers`; each is kept connected until `stop`.
    pub(super) fn open(servers: &[String], connections: usize, stop: &CancellationToken) -> Arc<Self> {
        let slot = || Slot {
            live: Mutex::new(None),
            retired: Notify::new(),
            last_error: Mutex::new("no answer yet".to_owned()),
        };
        let pool = Arc::new(Self {
            slots: (0..connections.max(1)).map(|_| slot()).collect(),
            servers: servers.to_vec(),
            next: AtomicUsize::new(0),
            generations: AtomicU64::new(1),
            changed: Notify::new(),
        });
        for index in 0..pool.slots.len() {
            let (pool, stop) = (Arc::clone(&pool), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = pool.keep(index) => {}
                }
                // The sender goes, so that the connection ends once its calls have ended.
                pool.slots[index].take(None);
            });
        }
        pool
    }

    /// A live connection, in turn; waits while there is none. Cancel safe.
    pub(super) async fn lease(&self) -> Lease {
        loop {
            if let Some(lease) = self.try_lease() {
                return lease;
            }
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(lease) = self.try_lease() {
                return lease;
            }
            changed.await;
        }
    }

    fn try_lease(&self) -> Option<Lease> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.slots.len()).find_map(|step| {
            let slot = &self.slots[(first + step) % self.slots.len()];
            slot.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }

    /// Takes the connection of a lease out of use; its calls in flight go on.
    pub(super) fn retire(&self, lease: &Lease) {
        let slot = &self.slots[lease.slot];
        if slot.take(Some(lease.generation)) {
            slot.retired.notify_one();
        }
    }

    /// How many slots are connected.
    pub(super) fn live(&self) -> usize {
        let is_live = |slot: &&Slot| slot.live.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.slots.iter().filter(is_live).count()
    }

    /// Waits until every slot is connected. Cancel safe.
    pub(super) async fn all_live(&self) {
        while self.live() < self.slots.len() {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.live() == self.slots.len() {
                return;
            }
            changed.await;
        }
    }

    /// The last thing that went wrong on each slot, without repetitions.
    pub(super) fn errors(&self) -> String {
        let mut causes: Vec<String> = self
            .slots
            .iter()
            .map(|slot| slot.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .collect();
        causes.sort();
        causes.dedup();
        causes.join("; ")
    }

    async fn keep(&self, index: usize) {
        let mut turn = index;
        let mut backoff = BACKOFF_FIRST;
        loop {
            let address = &self.servers[turn % self.servers.len()];
            turn += 1;
            let begun = Instant::now();
            match connect(address).await {
                Ok((sender, targets, driving)) => {
                    let generation = self.generations.fetch_add(1, Ordering::Relaxed);
                    self.slots[index].put(Lease { slot: index, generation, sender, targets });
                    self.changed.notify_waiters();
                    self.until_over(index, driving, address).await;
                    self.slots[index].take(Some(generation));
                }
                Err(cause) => self.slots[index].note(format!("{address}: {cause}")),
            }
            // A connection that lived for a while says nothing against connecting at once.
            if begun.elapsed() > BACKOFF_MOST {
                backoff = BACKOFF_FIRST;
                continue;
            }
            let pause = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MOST);
        }
    }

    async fn until_over(&self, index: usize, driving: JoinHandle<Result<(), h2::Error>>, address: &str) {
        let slot = &self.slots[index];
        tokio::select! {
            () = slot.retired.notified() => slot.note(format!("{address}: it said GOAWAY")),
            ended = driving => match ended {
                Ok(Err(error)) => slot.note(format!("{address}: {error}")),
                Ok(Ok(())) | Err(_) => slot.note(format!("{address}: it closed the connection")),
            },
        }
    }
}

impl Slot {
    fn put(&self, lease: Lease) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
    }

    /// Empties the slot if it still holds that generation (`None`: any); says whether it did.
    fn take(&self, generation: Option<u64>) -> bool {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let same = live.as_ref().is_some_and(|lease| generation.is_none_or(|g| g == lease.generation));
        if same {
            *live = None;
        }
        same
    }

    fn note(&self, cause: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = cause;
    }
}

type Connected = (SendRequest<Bytes>, Arc<Targets>, JoinHandle<Result<(), h2::Error>>);

async fn connect(address: &str) -> Result<Connected, String> {
    let targets = Targets::at(address).map_err(|_| "it is no host:port".to_owned())?;
    let dial = async {
        let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        h2::client::Builder::new()
            .enable_push(false)
            .initial_connection_window_size(1 << 20)
            .handshake(Coalescing(socket))
            .await
            .map_err(|error| error.to_string())
    };
    let (sender, connection) = tokio::time::timeout(CONNECT_WITHIN, dial)
        .await
        .map_err(|_| format!("no connection within {} s", CONNECT_WITHIN.as_secs()))??;
    Ok((sender, Arc::new(targets), tokio::spawn(connection)))
}

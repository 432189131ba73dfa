//! What does a careful client do when its gateway leaves?
//!
//! It knows several addresses and keeps one connection. When the server says GOAWAY or the connection
//! cannot be opened, it moves to the next address. A call moves with it only where the protocol says
//! that it was not processed (never sent, REFUSED_STREAM, or above the last stream of a GOAWAY).
//! Everything else that is not an answer is a failed call, and it is not tried again.

use crate::client::{Answer, Connection};
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::Request;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use tokio::sync::Mutex;

/// A client with one connection and several addresses.
#[derive(Debug)]
pub struct Failover {
    addresses: Vec<SocketAddr>,
    slot: Mutex<Slot>,
    moved: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    /// Address of the present or next connection.
    at: usize,
    /// Counts connections: who saw one fail must not close a newer one.
    generation: u64,
    connection: Option<Connection>,
}

impl Failover {
    /// A client that has not connected yet; it begins with `addresses[first]`.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>, first: usize) -> Self {
        let slot = Slot { at: first, generation: 0, connection: None };
        Self { addresses, slot: Mutex::new(slot), moved: AtomicU64::new(0) }
    }

    /// How often a call moved to another connection without having been processed.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved.load(Relaxed)
    }

    /// Makes a call.
    ///
    /// # Errors
    /// When it got no answer.
    pub async fn call(&self, request: &Request<()>, body: &Bytes) -> anyhow::Result<Answer> {
        let mut last = anyhow!("no address");
        for _ in 0..=2 * self.addresses.len() {
            let (generation, connection) = self.connected().await?;
            match connection.call(request.clone(), body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) if unprocessed(&error) => {
                    self.moved.fetch_add(1, Relaxed);
                    self.leave(generation).await;
                    last = error.into();
                }
                Err(error) => {
                    if !error.is_reset() {
                        self.leave(generation).await;
                    }
                    return Err(error).context("the call was lost");
                }
            }
        }
        Err(last.context("every address refused the call"))
    }

    async fn connected(&self) -> anyhow::Result<(u64, Connection)> {
        let mut slot = self.slot.lock().await;
        let mut last = anyhow!("no address");
        for _ in 0..2 * self.addresses.len() {
            if let Some(connection) = &slot.connection {
                return Ok((slot.generation, connection.clone()));
            }
            match Connection::open(self.addresses[slot.at % self.addresses.len()]).await {
                Ok(connection) => {
                    slot.generation += 1;
                    slot.connection = Some(connection);
                }
                Err(error) => {
                    slot.at += 1;
                    last = error;
                }
            }
        }
        Err(last.context("no address can be reached"))
    }

    async fn leave(&self, generation: u64) {
        let mut slot = self.slot.lock().await;
        if slot.generation == generation && slot.connection.take().is_some() {
            slot.at += 1;
        }
    }
}

/// The peer says that it has not processed the call, or it never left.
fn unprocessed(error: &h2::Error) -> bool {
    (error.is_go_away() && error.is_remote()) || error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

//! What would a system do that can only work on so much at the same time?
//!
//! For load tests and drills: each unary call takes one of a few places for a while before it is answered,
//! as it would take a connection of a database. Our own answers come from memory, and could not be
//! overloaded by anything that one machine can send.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Work that is emulated.
#[derive(Debug, Clone)]
pub struct Emulated {
    places: Arc<Semaphore>,
    each: Duration,
}

impl Emulated {
    /// So many calls at the same time, each for so long.
    #[must_use]
    pub fn new(slots: u32, each: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(slots as usize)), each }
    }

    /// Does the work of one call. Cancel safe: a caller who goes away leaves its place.
    pub async fn work(&self) {
        let place = self.places.acquire().await;
        tokio::time::sleep(self.each).await;
        drop(place);
    }
}

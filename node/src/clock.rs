//! What time is it?
//!
//! Wall time is read in one place, so that a test can set it. Intervals are never measured with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

/// A wall clock.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The system's.
    System,
    /// Milliseconds since 1970-01-01 UTC, set by hand.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands still until it is set.
    #[must_use]
    pub fn manual(unix_ms: i64) -> (Self, Arc<AtomicI64>) {
        let hand = Arc::new(AtomicI64::new(unix_ms));
        (Self::Manual(Arc::clone(&hand)), hand)
    }

    /// Milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn unix_ms(&self) -> i64 {
        match self {
            Self::System => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .ok()
                .and_then(|since| i64::try_from(since.as_millis()).ok())
                .unwrap_or(0),
            Self::Manual(hand) => hand.load(Ordering::Relaxed),
        }
    }

    /// Seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn unix_s(&self) -> i64 {
        self.unix_ms().div_euclid(1000)
    }
}

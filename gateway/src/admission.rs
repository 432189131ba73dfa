//! May this call enter now?
//!
//! Hard limits only: calls in flight on a worker, bytes of a request message, connections. What is
//! over is refused before anything is decoded; once its region is known, a call must also pass the
//! [`bulkhead`], and what its node says of the calls that it takes ([`shedding`]).

pub mod bulkhead;
pub mod shedding;

use std::cell::Cell;

/// What is admitted.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Downstream connections of the gateway.
    pub connections: usize,
    /// Calls in flight on one worker.
    pub in_flight: usize,
    /// Streams of one connection.
    pub streams: u32,
    /// Bytes of one request message.
    pub request_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 20_000, in_flight: 20_000, streams: 100, request_bytes: 64 << 10 }
    }
}

/// Calls in flight on a worker.
#[derive(Debug, Default)]
pub struct Load(Cell<usize>);

/// One admitted call; dropping it lets the next one in.
pub struct Admitted<'a>(&'a Load);

impl Load {
    /// Calls in flight.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.0.get()
    }

    /// Lets a call in; `None` if there are as many as the limits allow.
    #[must_use]
    pub fn admit(&self, limits: &Limits) -> Option<Admitted<'_>> {
        if self.0.get() >= limits.in_flight {
            return None;
        }
        self.0.set(self.0.get() + 1);
        Some(Admitted(self))
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_enter_up_to_the_limit_and_leave_room_when_they_end() {
        let (load, limits) = (Load::default(), Limits { in_flight: 2, ..Limits::default() });
        let first = load.admit(&limits).unwrap();
        let second = load.admit(&limits);
        assert!(second.is_some() && load.admit(&limits).is_none());
        drop(first);
        assert!(load.admit(&limits).is_some());
    }
}

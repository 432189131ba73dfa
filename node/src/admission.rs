//! May this call begin now, must it wait, or is it sent away?
//!
//! ```text
//!  call ──► cursor ──► a place among the running? ──► work
//!             │              │ none: one queue a class, scan first
//!             ▼              ▼ waits 100 ms or a quarter of its time at most
//!        sent away ◄── sent away
//! ```
//! - Whoever waits is served in order, until the queue has not been empty for 100 ms: from then on the
//!   newest first, because the oldest will not be answered in time anyway.
//! - Every window of the last calls (`window.rs`) says whether there is too much to do; then the cursor
//!   (`steps.rs`) falls to what is really done, and everything above it is sent away before it costs
//!   anything, sync first and scan last.
//! - How many run at the same time is found out by `limit.rs`.
//! - Streams hold no place, nor do decisions, which wait for the disk: they pass the cursor, once.
//!
//! Whoever is sent away is told when to come back, and gateways up to which priority they need not even
//! try ([`layer`]).

pub mod emulated;
pub mod layer;
mod limit;
mod steps;
mod window;

#[cfg(test)]
mod tests;

use limit::Limit;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use steps::Steps;
use suiyue_proto::method::Class;
use suiyue_proto::priority::{Cursor, Priority, places};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use window::Window;

/// Nobody waits longer.
pub const PATIENCE: Duration = Duration::from_millis(100);
/// A queue that has not been empty for so long is a standing one.
const STANDING: Duration = Duration::from_millis(100);
/// Calls that wait, of all classes.
const WAITING: usize = 4096;
/// Without calls a window passes in this time.
const IDLE: Duration = Duration::from_millis(100);

/// Calls that may run at the same time where the configuration says nothing.
pub const IN_FLIGHT: u32 = 512;

/// The gate that every call passes. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Mutex<Inner>>);

/// A call that may be worked on; dropping it lets the next one begin.
#[derive(Debug)]
pub struct Permit {
    gate: Gate,
    class: Class,
    begun: Instant,
}

/// A call that is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentAway {
    /// Up to where calls are taken now.
    pub cursor: Cursor,
}

#[derive(Debug)]
struct Inner {
    born: Instant,
    limit: Limit,
    running: usize,
    /// By class.
    queues: [VecDeque<Waiting>; Class::ALL.len()],
    /// Since when there has always been somebody in a queue.
    standing: Option<Instant>,
    steps: Steps,
    window: Window,
    /// When the window began.
    opened: Instant,
}

/// A call in a queue.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    begin: oneshot::Sender<Permit>,
}

enum Arrival {
    Begins,
    Waits(oneshot::Receiver<Permit>),
    Refused(Cursor),
}

impl Gate {
    /// A gate for at most so many calls at the same time; how many can be done is to be found out.
    #[must_use]
    pub fn new(in_flight_max: u32) -> Self {
        Self::beginning(limit::START, in_flight_max)
    }

    /// A gate for so many calls at the same time: somebody knows that they can be done.
    #[must_use]
    pub fn known(in_flight: u32) -> Self {
        Self::beginning(in_flight, in_flight)
    }

    fn beginning(first: u32, most: u32) -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(Inner {
            born: now,
            limit: Limit::new(first, most),
            running: 0,
            queues: Default::default(),
            standing: None,
            steps: Steps::default(),
            window: Window::default(),
            opened: now,
        })))
    }

    /// Waits for a place, for as long as the call can: a quarter of `left`, or [`PATIENCE`].
    ///
    /// Cancel safe: a caller who goes away leaves the queue, or gives its place back.
    ///
    /// # Errors
    /// [`SentAway`]: there is too much to do.
    pub async fn enter(
        &self,
        class: Class,
        priority: Priority,
        left: Option<Duration>,
    ) -> Result<Permit, SentAway> {
        let came = Instant::now();
        let receiver = match self.lock().arrive(class, priority, came) {
            Arrival::Begins => return Ok(Permit { gate: self.clone(), class, begun: came }),
            Arrival::Refused(cursor) => return Err(SentAway { cursor }),
            Arrival::Waits(receiver) => receiver,
        };
        let patience = left.map_or(PATIENCE, |left| PATIENCE.min(left / 4));
        match timeout(patience, receiver).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                let mut inner = self.lock();
                inner.window.gave_up(came.elapsed());
                Err(SentAway { cursor: inner.steps.cursor() })
            }
        }
    }

    /// A call that takes no place may begin.
    ///
    /// # Errors
    /// [`SentAway`]: there is too much to do.
    pub fn pass(&self, priority: Priority) -> Result<(), SentAway> {
        let cursor = self.cursor();
        if cursor.admits(priority) { Ok(()) } else { Err(SentAway { cursor }) }
    }

    /// Up to where calls are taken now.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.lock().steps.cursor()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place is free: it goes to who is next, or to nobody.
    fn release(&self, class: Class, took: Duration) {
        let mut next = self.lock().leave(class, took);
        while let Some((class, waiting)) = next {
            let permit = Permit { gate: self.clone(), class, begun: Instant::now() };
            match waiting.begin.send(permit) {
                Ok(()) => return,
                // Gone meanwhile. The place is still in our hands: it must not be given back twice.
                Err(permit) => std::mem::forget(permit),
            }
            next = self.lock().next(Instant::now());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.release(self.class, self.begun.elapsed());
    }
}

impl Inner {
    fn arrive(&mut self, class: Class, priority: Priority, now: Instant) -> Arrival {
        self.turn(now);
        self.window.came(priority);
        let cursor = self.steps.cursor();
        if !cursor.admits(priority) {
            return Arrival::Refused(cursor);
        }
        self.forget_gone();
        let ahead = self.queues[..=class.index()].iter().any(|queue| !queue.is_empty());
        if !ahead && self.has_place(class) {
            self.begin(Duration::ZERO);
            return Arrival::Begins;
        }
        let waiting: usize = self.queues.iter().map(VecDeque::len).sum();
        if waiting >= WAITING {
            self.window.gave_up(PATIENCE);
            return Arrival::Refused(cursor);
        }
        let (begin, receiver) = oneshot::channel();
        self.standing.get_or_insert(now);
        self.queues[class.index()].push_back(Waiting { since: now, begin });
        Arrival::Waits(receiver)
    }

    /// Lower classes fill a part of the places: slow work of theirs must not keep scans out.
    fn has_place(&self, class: Class) -> bool {
        self.running < places(self.limit.get(), class)
    }

    fn begin(&mut self, waited: Duration) {
        self.running += 1;
        self.limit.running(self.running);
        self.window.began(waited);
    }

    /// A call has ended. Who takes its place.
    fn leave(&mut self, class: Class, took: Duration) -> Option<(Class, Waiting)> {
        let now = Instant::now();
        self.limit.ended(class, took);
        self.turn(now);
        self.running -= 1;
        self.next(now)
    }

    /// Who begins next, if there is a place: the highest class, and in it the oldest, or the newest of a
    /// standing queue. The place is taken.
    fn next(&mut self, now: Instant) -> Option<(Class, Waiting)> {
        self.forget_gone();
        if self.queues.iter().all(VecDeque::is_empty) {
            self.standing = None;
        }
        let newest = self.standing.is_some_and(|since| now.duration_since(since) >= STANDING);
        for class in Class::ALL {
            // Lower classes have no more places than this one.
            if !self.has_place(class) {
                return None;
            }
            let queue = &mut self.queues[class.index()];
            let mut take = || if newest { queue.pop_back() } else { queue.pop_front() };
            while let Some(waiting) = take() {
                if !waiting.begin.is_closed() {
                    self.begin(now.duration_since(waiting.since));
                    return Some((class, waiting));
                }
            }
        }
        None
    }

    /// Whoever has gone stands at the front: the oldest gave up first.
    fn forget_gone(&mut self) {
        for queue in &mut self.queues {
            while queue.front().is_some_and(|waiting| waiting.begin.is_closed()) {
                queue.pop_front();
            }
        }
    }

    /// Closes the window, if it has lasted long enough.
    fn turn(&mut self, now: Instant) {
        let lasted = now.duration_since(self.opened);
        if !self.window.is_over(lasted) {
            return;
        }
        let window = std::mem::take(&mut self.window);
        self.steps.step(&window);
        self.limit.step(now.duration_since(self.born).as_secs());
        // Time in which nobody came is calm.
        let idle = lasted.as_millis() / IDLE.as_millis();
        for _ in 1..idle.min(32) {
            self.steps.step(&Window::default());
        }
        self.opened = now;
    }
}

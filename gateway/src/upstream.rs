//! How does a worker reach an endpoint?
//!
//! A [`Pool`] is one worker's few HTTP/2 connections to one endpoint, opened ahead. A keeper task keeps
//! one open and opens another when the peer's stream limit is reached, instead of waiting there. A
//! connection that breaks turns the endpoint suspect at once; a GOAWAY retires the connection quietly.
//! A connection over TLS makes room for another one before the certificate of either side that it was
//! opened with ends or is replaced, and is cut when the node's does not hold any more.
//!
//! Nothing is queued here: a call that finds no connection waits for the one being opened, or fails as
//! not sent.

mod attend;
mod tempo;
mod watchdog;

use crate::{
    health::{Doubt, Lane, State, Vitals},
    http2::{
        SendStream,
        client::{RequestHead, ResponseFuture, SendRequest},
    },
    telemetry,
    timer::Wheel,
};
use attend::connect;
use bytes::Bytes;
use http::HeaderValue;
use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};
use tempo::{BACKOFF_MIN, Tempo, pause};
use tokio::{sync::Notify, time::timeout};
use watchdog::Pulse;

/// Streams of a connection until the peer's own limit is known.
const FIRST_STREAMS: usize = 100;
/// Connections to one endpoint at most.
const MAX_LINES: usize = 16;
/// A connection that is not open by then has failed.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Receive window of a stream: what a stalled caller can make us hold.
const STREAM_WINDOW: u32 = 64 << 10;
/// Receive window of a connection: wide, so that stalled streams do not stop the others.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Size of an answer's header list.
const HEADER_LIST: u32 = 64 << 10;

/// One worker's connections to one endpoint.
pub struct Pool {
    /// The endpoint's record.
    pub vitals: Arc<Vitals>,
    /// `:authority` of calls to it.
    pub authority: HeaderValue,
    /// Name of its node as metadata.
    pub node: HeaderValue,
    /// Series of this endpoint, most used first.
    pub series: telemetry::Recent,
    /// The worker that it belongs to, and its timers.
    place: Place,
    lines: RefCell<Vec<Rc<Line>>>,
    /// The last connect failed: do not wait for the next.
    down: Cell<bool>,
    /// The endpoint has left the table: the keeper ends.
    closed: Cell<bool>,
    /// A line was opened or has room again, or opening one failed.
    opened: Rc<Notify>,
    /// The keeper should look: no line, or all are full.
    wanted: Notify,
}

/// Where a pool lives.
#[derive(Clone)]
pub struct Place {
    /// Index of the worker.
    pub worker: usize,
    /// Its timers.
    pub wheel: Wheel,
}

/// One HTTP/2 connection.
pub struct Line {
    sender: SendRequest,
    in_flight: Cell<usize>,
    /// The peer's limit when last looked.
    limit: Cell<usize>,
    /// No new streams: it broke, or the peer said GOAWAY.
    retired: Cell<bool>,
    /// Another connection is to take its place: a certificate was replaced, or ends soon.
    outdated: Cell<bool>,
    /// Is anybody there?
    pulse: Rc<Pulse>,
    /// To be told when there is room again.
    room: Rc<Notify>,
}

/// A call on a connection: counts as in flight until dropped.
pub struct Lease {
    line: Rc<Line>,
    /// Reads of the connection when it was sent.
    reads: u32,
    overdue: Cell<bool>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let before = self.line.in_flight.get();
        self.line.in_flight.set(before - 1);
        if self.overdue.get() {
            self.line.pulse.settled();
        }
        if before >= self.line.limit.get() {
            self.line.room.notify_waiters();
        }
    }
}

impl Lease {
    fn new(line: Rc<Line>) -> Self {
        line.in_flight.set(line.in_flight.get() + 1);
        Self { reads: line.pulse.reads(), overdue: Cell::new(false), line }
    }

    /// The call takes longer than usual: is anybody there?
    pub fn overdue(&self, sent: Instant) {
        if !self.overdue.replace(true) {
            self.line.pulse.overdue(sent, self.reads);
        }
    }

    /// The call gave up waiting.
    pub fn gave_up(&self, sent: Instant, now: Instant) {
        if !self.overdue.get() {
            self.line.pulse.gave_up(sent, self.reads, now);
        }
    }

    /// The answer's headers came.
    pub fn answered(&self) {
        self.line.pulse.answered();
    }

    /// Nobody is there.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.line.pulse.is_stalled()
    }

    /// Timers armed in this group fire when the connection is found stalled.
    #[must_use]
    pub fn group(&self) -> usize {
        self.line.group()
    }
}

/// No stream was opened: the endpoint saw nothing of the call.
#[derive(Debug, Clone, Copy)]
pub struct NotSent;

/// A request that was sent.
pub struct Sent {
    /// Keeps the stream counted.
    pub lease: Lease,
    /// The answer to come.
    pub response: ResponseFuture,
}

/// A stream that was opened.
pub struct Opened {
    /// Keeps the stream counted.
    pub lease: Lease,
    /// The answer to come.
    pub response: ResponseFuture,
    /// The request's body.
    pub body: SendStream,
}

impl Pool {
    /// A pool whose keeper runs until the pool is dropped. Must be called on a local runtime.
    #[must_use]
    pub fn open(vitals: Arc<Vitals>, place: Place) -> Option<Rc<Self>> {
        let authority = HeaderValue::from_str(&vitals.endpoint.address).ok()?;
        let node = HeaderValue::from_str(&vitals.node).ok()?;
        let pool = Rc::new(Self {
            vitals,
            authority,
            node,
            series: telemetry::Recent::default(),
            place,
            lines: RefCell::default(),
            down: Cell::new(false),
            closed: Cell::new(false),
            opened: Rc::default(),
            wanted: Notify::new(),
        });
        tokio::task::spawn_local(keep(Rc::downgrade(&pool)));
        Some(pool)
    }

    /// What this worker counts of the endpoint.
    #[must_use]
    pub fn lane(&self) -> &Lane {
        self.vitals.lane(self.place.worker)
    }

    /// A connection is gone, or cannot be had: one failure, whatever was on it.
    fn failed(&self, doubt: Doubt) {
        self.lane().lost();
        self.vitals.doubt(doubt);
    }

    /// A connection with room for a stream, at once where there is one; waits at most
    /// a second for one being opened.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`NotSent`]: the endpoint cannot be reached, or takes no stream at present.
    pub async fn connected(&self) -> Result<Rc<Line>, NotSent> {
        if self.down.get() && self.vitals.state() != State::Ok {
            return Err(NotSent);
        }
        let wait = async {
            let mut waited = false;
            loop {
                let opened = self.opened.notified();
                if let Some(line) = self.usable() {
                    return Ok(line);
                }
                if waited && self.down.get() {
                    return Err(NotSent);
                }
                self.wanted.notify_one();
                opened.await;
                waited = true;
            }
        };
        timeout(CONNECT_LIMIT, wait).await.unwrap_or(Err(NotSent))
    }

    /// The endpoint has left the table: no more connections, those that are open end with their calls.
    pub fn close(&self) {
        self.closed.set(true);
        self.wanted.notify_one();
    }

    /// The least loaded line with room; `None` asks the keeper for another one.
    #[must_use]
    pub fn line(&self) -> Option<Rc<Line>> {
        let lines = self.lines.borrow();
        let line = lines.iter().filter(|line| !line.retired.get()).min_by_key(|line| line.in_flight.get())?;
        if line.in_flight.get() >= line.limit.get() {
            line.limit.set(line.sender.current_max_send_streams());
            if line.in_flight.get() >= line.limit.get() {
                self.wanted.notify_one();
                return None;
            }
        }
        Some(line.clone())
    }

    /// Sends a request with its whole body.
    ///
    /// # Errors
    /// [`NotSent`]: the connection takes no stream any more.
    pub fn send(&self, line: Rc<Line>, head: RequestHead<'_>, body: Bytes) -> Result<Sent, NotSent> {
        self.may_start(&line)?;
        let response = line.sender.send_whole(head, body).map_err(|_| self.retire(&line))?;
        Ok(Sent { lease: Lease::new(line), response })
    }

    /// Opens a stream whose body follows.
    ///
    /// # Errors
    /// [`NotSent`]: the connection takes no stream any more.
    pub fn start(&self, line: Rc<Line>, head: RequestHead<'_>) -> Result<Opened, NotSent> {
        self.may_start(&line)?;
        let (response, body) = line.sender.send_request(head, false).map_err(|_| self.retire(&line))?;
        Ok(Opened { lease: Lease::new(line), response, body })
    }

    fn may_start(&self, line: &Line) -> Result<(), NotSent> {
        match line.sender.has_room() {
            Ok(true) => Ok(()),
            // The peer allows fewer streams than we thought.
            Ok(false) => {
                line.limit.set(line.sender.current_max_send_streams().min(line.in_flight.get()));
                self.wanted.notify_one();
                Err(NotSent)
            }
            Err(_) => Err(self.retire(line)),
        }
    }

    fn retire(&self, line: &Line) -> NotSent {
        line.retired.set(true);
        self.wanted.notify_one();
        NotSent
    }

    /// A line that takes a stream now: those that turn out to take none any more are passed over.
    fn usable(&self) -> Option<Rc<Line>> {
        loop {
            let line = self.line()?;
            match self.may_start(&line) {
                Ok(()) => return Some(line),
                Err(NotSent) if line.retired.get() => {}
                Err(NotSent) => return None,
            }
        }
    }

    fn has_room(&self) -> bool {
        let free = |line: &Rc<Line>| !line.retired.get() && line.in_flight.get() < line.limit.get();
        self.lines.borrow().iter().any(|line| free(line) && !line.outdated.get())
    }

    /// Another connection is there: those whose place it takes get no new calls.
    fn replaced(&self) {
        let lines = self.lines.borrow();
        lines.iter().filter(|line| line.outdated.get()).for_each(|line| line.retired.set(true));
    }
}

/// Keeps a line open, and opens another when all are full.
async fn keep(weak: Weak<Pool>) {
    let mut tempo = Tempo::default();
    loop {
        let Some(pool) = weak.upgrade().filter(|pool| !pool.closed.get()) else { return };
        pool.lines.borrow_mut().retain(|line| !line.retired.get());
        if !pool.has_room() && pool.lines.borrow().len() < MAX_LINES {
            let alone = pool.lines.borrow().is_empty();
            if let Some(rest) = tempo.before(alone, Instant::now()) {
                // Calls wait for the first of them; after that they go elsewhere.
                if rest > BACKOFF_MIN {
                    pool.down.set(true);
                    pool.opened.notify_waiters();
                }
                // A passing check ends no such rest: a peer that accepts and closes passes checks by TCP.
                tokio::time::sleep(rest).await;
                continue;
            }
            match timeout(CONNECT_LIMIT, connect(&pool)).await {
                Ok(Ok(())) => {
                    pool.replaced();
                    tempo.opened(Instant::now());
                    pool.down.set(false);
                    pool.opened.notify_waiters();
                }
                _ => {
                    pool.down.set(true);
                    pool.opened.notify_waiters();
                    pool.failed(Doubt::CannotConnect);
                    pause(&pool.vitals, tempo.failed()).await;
                    continue;
                }
            }
        }
        // Woken by a call that needs a line, by a line that ended, and every few seconds to see
        // whether the pool itself is gone.
        let wanted = pool.wanted.notified();
        tokio::select! {
            () = wanted => {}
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
        }
    }
}

impl Line {
    /// The connection's timers: any number that no other connection has.
    fn group(&self) -> usize {
        Rc::as_ptr(&self.pulse) as usize
    }
}

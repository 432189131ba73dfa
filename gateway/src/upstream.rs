//! How does a worker reach an endpoint?
//!
//! A [`Pool`] is one worker's few HTTP/2 connections to one endpoint, opened ahead. A keeper task keeps
//! one open and opens another when the peer's stream limit is reached, instead of waiting there. A
//! connection that breaks turns the endpoint suspect at once; a GOAWAY retires the connection quietly.
//!
//! Nothing is queued here: a call that finds no connection waits for the one being opened, or fails as
//! not sent.

mod watchdog;

use crate::{
    health::{Doubt, Lane, State, Vitals},
    io::Io,
    telemetry,
    timer::Wheel,
};
use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use http::{Request, uri::Authority};
use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::Notify, time::timeout};
use watchdog::{Pinger, Pulse, Watched};

/// Streams of a connection until the peer's own limit is known.
const FIRST_STREAMS: usize = 100;
/// Streams that were reset and are remembered, so that late frames of theirs are no error.
const REMEMBERED_RESETS: usize = 4096;
/// Connections to one endpoint at most.
const MAX_LINES: usize = 16;
/// A connection that is not open by then has failed.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Wait after a failed connect, doubling up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How often a connection that was given up is looked at, until its last call has ended.
const LEFT: Duration = Duration::from_millis(250);
/// Receive window of a stream: what a stalled caller can make us hold.
const STREAM_WINDOW: u32 = 64 << 10;
/// Receive window of a connection: wide, so that stalled streams do not stop the others.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// One worker's connections to one endpoint.
pub struct Pool {
    /// The endpoint's record.
    pub vitals: Arc<Vitals>,
    /// `:authority` of calls to it.
    pub authority: Authority,
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
    sender: RefCell<SendRequest<Bytes>>,
    in_flight: Cell<usize>,
    /// The peer's limit when last looked.
    limit: Cell<usize>,
    /// No new streams: it broke, or the peer said GOAWAY.
    retired: Cell<bool>,
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

/// A stream that was opened.
pub struct Opened {
    /// Keeps the stream counted.
    pub lease: Lease,
    /// The answer to come.
    pub response: ResponseFuture,
    /// The request's body.
    pub body: h2::SendStream<Bytes>,
}

impl Pool {
    /// A pool whose keeper runs until the pool is dropped. Must be called on a local runtime.
    #[must_use]
    pub fn open(vitals: Arc<Vitals>, place: Place) -> Option<Rc<Self>> {
        let authority = vitals.endpoint.address.parse().ok()?;
        let pool = Rc::new(Self {
            vitals,
            authority,
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
            loop {
                let opened = self.opened.notified();
                self.wanted.notify_one();
                opened.await;
                if let Some(line) = self.line() {
                    return Ok(line);
                }
                if self.down.get() {
                    return Err(NotSent);
                }
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
            line.limit.set(line.sender.borrow().current_max_send_streams());
            if line.in_flight.get() >= line.limit.get() {
                self.wanted.notify_one();
                return None;
            }
        }
        Some(line.clone())
    }

    /// Opens a stream. `end`: the request has no body.
    ///
    /// # Errors
    /// [`NotSent`]: the connection takes no stream any more.
    pub fn start(&self, line: Rc<Line>, request: Request<()>, end: bool) -> Result<Opened, NotSent> {
        let mut sender = line.sender.borrow_mut();
        let mut cx = Context::from_waker(Waker::noop());
        match sender.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => {}
            // The peer allows fewer streams than we thought.
            Poll::Pending => {
                line.limit.set(sender.current_max_send_streams().min(line.in_flight.get()));
                self.wanted.notify_one();
                return Err(NotSent);
            }
            Poll::Ready(Err(_)) => {
                line.retired.set(true);
                self.wanted.notify_one();
                return Err(NotSent);
            }
        }
        let Ok((response, body)) = sender.send_request(request, end) else {
            line.retired.set(true);
            self.wanted.notify_one();
            return Err(NotSent);
        };
        drop(sender);
        Ok(Opened { lease: Lease::new(line), response, body })
    }

    fn has_room(&self) -> bool {
        self.lines.borrow().iter().any(|line| !line.retired.get() && line.in_flight.get() < line.limit.get())
    }
}

/// Keeps a line open, and opens another when all are full.
async fn keep(weak: Weak<Pool>) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let Some(pool) = weak.upgrade().filter(|pool| !pool.closed.get()) else { return };
        pool.lines.borrow_mut().retain(|line| !line.retired.get());
        if !pool.has_room() && pool.lines.borrow().len() < MAX_LINES {
            match timeout(CONNECT_LIMIT, connect(&pool)).await {
                Ok(Ok(())) => {
                    backoff = BACKOFF_MIN;
                    pool.down.set(false);
                    pool.opened.notify_waiters();
                }
                _ => {
                    pool.down.set(true);
                    pool.opened.notify_waiters();
                    pool.failed(Doubt::CannotConnect);
                    pause(&pool.vitals, backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
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

/// Waits before the next connect, but not for long once a health check passed.
async fn pause(vitals: &Vitals, backoff: Duration) {
    let end = tokio::time::Instant::now() + backoff;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(BACKOFF_MIN).await;
        if vitals.state() <= State::HalfOpen {
            return;
        }
    }
}

async fn connect(pool: &Rc<Pool>) -> std::io::Result<()> {
    let socket = TcpStream::connect(&*pool.vitals.endpoint.address).await?;
    socket.set_nodelay(true)?;
    let pulse = Rc::<Pulse>::default();
    let (sender, connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(FIRST_STREAMS)
        // Callers hang up all the time; late answers to them must not cost the others their connection.
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .max_local_error_reset_streams(None)
        .handshake::<_, Bytes>(Watched::new(Io::Plain(socket), pulse.clone()))
        .await
        .map_err(std::io::Error::other)?;
    let line = Rc::new(Line {
        limit: Cell::new(FIRST_STREAMS),
        sender: RefCell::new(sender),
        in_flight: Cell::new(0),
        retired: Cell::new(false),
        pulse: pulse.clone(),
        room: pool.opened.clone(),
    });
    pool.lines.borrow_mut().push(line.clone());
    // Weak: the connection closes once the pool and the last call on it are gone.
    tokio::task::spawn_local(attend(Rc::downgrade(pool), Rc::downgrade(&line), connection, pulse));
    Ok(())
}

/// Runs a connection to its end, and says what the end means.
async fn attend(
    pool: Weak<Pool>,
    line: Weak<Line>,
    mut connection: Connection<Watched<Io>, Bytes>,
    pulse: Rc<Pulse>,
) {
    let pinger = Pinger::new(connection.ping_pong());
    let watched = async {
        watchdog::stalls(pulse, pinger).await;
        abandon(&pool, &line);
        // Calls that must not be sent again wait here for the node to wake up.
        while line.strong_count() > 0 {
            tokio::time::sleep(LEFT).await;
        }
    };
    let ended = tokio::select! {
        ended = connection => Some(ended),
        () = watched => None,
    };
    let quiet = match ended {
        Some(Ok(())) => line.upgrade().is_none_or(|line| line.said_goodbye()),
        Some(Err(error)) => error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR),
        None => true,
    };
    if let Some(line) = line.upgrade() {
        line.retired.set(true);
    }
    let Some(pool) = pool.upgrade() else { return };
    pool.lines.borrow_mut().retain(|line| !line.retired.get());
    if !quiet {
        pool.failed(Doubt::ConnectionLost);
    }
    pool.wanted.notify_one();
}

/// Nobody answers on a connection: no new calls, and those in flight that may move do so now.
fn abandon(pool: &Weak<Pool>, line: &Weak<Line>) {
    let (Some(pool), Some(line)) = (pool.upgrade(), line.upgrade()) else { return };
    line.retired.set(true);
    pool.lines.borrow_mut().retain(|line| !line.retired.get());
    // The endpoint first: whoever moves must not come back to it.
    pool.failed(Doubt::Stalled);
    pool.place.wheel.expire(line.group());
    pool.wanted.notify_one();
}

impl Line {
    /// The connection's timers: any number that no other connection has.
    fn group(&self) -> usize {
        Rc::as_ptr(&self.pulse) as usize
    }

    /// The peer said GOAWAY without an error: it is no loss that the connection ended.
    fn said_goodbye(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        match self.sender.borrow_mut().poll_ready(&mut cx) {
            Poll::Ready(Err(error)) => {
                error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
            }
            _ => false,
        }
    }
}

//! What does a connection know, and what does it do when it wakes up?
//!
//! [`Inner`] is the state that a connection shares with the handles of its streams, all on one thread:
//! no lock, a `RefCell`. [`Driver`] is the connection's task: on every wake-up it reads what is there,
//! lets [`read`] act on the frames, and sends all that was queued meanwhile in one write. Handles append
//! frames to the queue ([`write`]) and wake the task once. Buffers are borrowed from the thread for as
//! long as they hold something, so that an idle connection has none.
//!
//! ```text
//! preface ──► open ──► leaving (GOAWAY said or heard: streams finish) ──► ended
//!               └──── broken (the peer broke a rule: GOAWAY, then the end) ───┘
//! ```

mod drive;
mod end;
mod heads;
mod read;
mod write;

pub(super) use drive::Driver;
pub(super) use write::register;
pub use write::{RequestHead, ResponseHead};

use super::{
    Config,
    error::{By, Error, Reason},
    flow::{Allowance, Credit},
    frame::{self, DEFAULT_WINDOW, MAX_31, MIN_MAX_FRAME, setting},
    guard::{Frame, Guard},
    hpack::{DEFAULT_TABLE, Decoder, Encoder},
    stream::{Recv, Send, Streams},
};
use bytes::BytesMut;
use std::{cell::RefCell, collections::VecDeque, rc::Rc, task::Waker};

/// Bytes in the queue above which no more DATA joins it, and nothing is read.
pub(super) const OUT_HIGH: usize = 256 << 10;
/// Payload of the ping whose answer says that the peer has seen GOAWAY.
const GOODBYE_PING: [u8; 8] = *b"goodbye!";
/// Payload of pings that handles ask for.
const USER_PING: [u8; 8] = *b"r u here";

/// A connection, shared with its handles.
pub(super) type Shared = Rc<RefCell<Inner>>;

/// Which end of the connection is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// We said GOAWAY: the server takes no streams above `last`, which is final once it is due and the
    /// peer has heard of it.
    Leaving {
        last: u32,
        heard: bool,
        due: bool,
    },
    /// What is queued is still written, nothing is read.
    Broken,
    /// The socket is gone.
    Ended,
}

/// A ping of a handle.
#[derive(Debug, Default)]
pub(super) struct Ping {
    pub(super) sent: bool,
    pub(super) answered: bool,
    pub(super) waker: Option<Waker>,
}

/// A header block that goes on in CONTINUATION frames.
#[derive(Debug)]
struct Block {
    stream: u32,
    end_stream: bool,
    bytes: BytesMut,
    frames: u32,
}

/// What the peer said of itself.
#[derive(Debug)]
struct Peer {
    initial_window: u32,
    max_frame: usize,
    max_streams: usize,
}

/// State of a connection.
#[derive(Debug)]
pub(super) struct Inner {
    role: Role,
    config: Config,
    phase: Phase,
    peer: Peer,
    pub(super) streams: Streams,
    /// The next stream that a client opens, or the highest that a server has seen.
    last_id: u32,
    /// New streams that a server has not handed over.
    accepted: VecDeque<u32>,
    /// Frames to be written.
    out: BytesMut,
    /// Only so many bytes of them may be written now; `None`: all.
    limit: Option<usize>,
    decoder: Decoder,
    encoder: Encoder,
    block: Option<Block>,
    /// The client's preface has not been seen yet.
    awaits_preface: bool,
    allowance: Allowance,
    credit: Credit,
    /// Window of a stream as the peer knows it: ours counts once the peer has acknowledged it.
    stream_window: u32,
    settings_acknowledged: bool,
    /// Streams that wait for a window or for room in `out`, with their ids.
    waiting: VecDeque<(u32, u32)>,
    guard: Guard,
    now_ms: u32,
    /// How often something was read, wrapping.
    reads: u32,
    /// The peer's GOAWAY.
    heard: Option<Reason>,
    /// Why the connection ended.
    error: Option<Error>,
    pub(super) ping: Ping,
    /// Handles that may open streams.
    pub(super) openers: usize,
    task: Option<Waker>,
    /// The task runs, or will.
    awake: bool,
}

impl Inner {
    pub(super) fn new(role: Role, config: Config) -> Self {
        let mut inner = Self {
            role,
            config,
            phase: Phase::Open,
            peer: Peer {
                initial_window: DEFAULT_WINDOW,
                max_frame: MIN_MAX_FRAME as usize,
                max_streams: if role == Role::Client { config.streams as usize } else { 0 },
            },
            streams: Streams::default(),
            last_id: if role == Role::Client { 1 } else { 0 },
            accepted: VecDeque::new(),
            out: BytesMut::new(),
            limit: None,
            decoder: Decoder::new(DEFAULT_TABLE),
            encoder: Encoder::new(),
            block: None,
            awaits_preface: role == Role::Server,
            allowance: Allowance::new(config.connection_window.max(DEFAULT_WINDOW)),
            credit: Credit::new(DEFAULT_WINDOW),
            stream_window: config.stream_window.max(DEFAULT_WINDOW),
            settings_acknowledged: false,
            waiting: VecDeque::new(),
            guard: if role == Role::Client { Guard::trusting() } else { Guard::new() },
            now_ms: 0,
            reads: 0,
            heard: None,
            error: None,
            ping: Ping::default(),
            openers: 0,
            task: None,
            awake: false,
        };
        inner.greet();
        inner
    }

    /// Queues what is said first.
    fn greet(&mut self) {
        let config = self.config;
        let role = self.role;
        let out = self.out();
        if role == Role::Client {
            out.extend_from_slice(frame::PREFACE);
        }
        let own = match role {
            Role::Client => (setting::ENABLE_PUSH, 0),
            Role::Server => (setting::MAX_CONCURRENT_STREAMS, config.streams),
        };
        let settings = [
            own,
            (setting::INITIAL_WINDOW_SIZE, config.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, config.header_list),
        ];
        frame::put_settings(out, &settings);
        if config.connection_window > DEFAULT_WINDOW {
            frame::put_window_update(out, 0, config.connection_window - DEFAULT_WINDOW);
        }
    }

    /// The queue of frames, with memory borrowed from the thread.
    #[inline]
    fn out(&mut self) -> &mut BytesMut {
        if self.out.capacity() == 0 {
            self.out = drive::borrow_buffer();
        }
        &mut self.out
    }

    /// Something is queued: lets the task write it.
    #[inline]
    pub(super) fn wake_task(&mut self) {
        if !self.awake {
            self.awake = true;
            if let Some(task) = &self.task {
                task.wake_by_ref();
            }
        }
    }

    /// The next stream that was not handed over; its handle goes with it.
    pub(super) fn next_accepted(&mut self) -> Option<u32> {
        self.accepted.pop_front()
    }

    /// The error that a handle without a stream gets.
    pub(super) const fn error(&self) -> Option<Error> {
        self.error
    }

    /// How often something was read, wrapping.
    pub(super) const fn reads(&self) -> u32 {
        self.reads
    }

    /// The peer's limit of streams at a time.
    pub(super) const fn max_streams(&self) -> usize {
        self.peer.max_streams
    }

    /// Whether a client may open a stream now.
    ///
    /// # Errors
    /// No stream can be opened any more.
    pub(super) fn has_room(&self) -> Result<bool, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if let Some(reason) = self.heard {
            return Err(Error::go_away(reason, By::Peer));
        }
        if self.phase != Phase::Open || self.last_id > MAX_31 {
            return Err(Error::go_away(Reason::NO_ERROR, By::Us));
        }
        Ok(self.streams.active() < self.peer.max_streams)
    }

    /// Opens a stream of ours. Whether there is room was asked before.
    fn open(&mut self) -> u32 {
        let id = self.last_id;
        self.last_id += 2;
        let (allowance, credit) = self.windows();
        let slot = self.streams.insert(id, allowance, credit);
        let stream = self.streams.get_mut(slot);
        (stream.recv, stream.send) = (Recv::Head, Send::Head);
        slot
    }

    const fn windows(&self) -> (Allowance, Credit) {
        (Allowance::new(self.stream_window), Credit::new(self.peer.initial_window))
    }

    /// Takes a stream out of the index if both directions have ended.
    fn settle(&mut self, slot: u32) {
        let stream = self.streams.get_mut(slot);
        if !stream.is_closed() {
            return;
        }
        let (id, unheld) = (stream.id, stream.handles == 0);
        self.streams.forget(id);
        if unheld {
            self.vacate(slot);
        }
        if self.streams.active() == 0 && (self.phase != Phase::Open || self.heard.is_some()) {
            self.wake_task();
        }
    }

    /// Frees a slot; what was never read of it goes back to the connection's window.
    fn vacate(&mut self, slot: u32) {
        let unreleased = self.streams.get(slot).unreleased;
        self.streams.free(slot);
        self.release_connection(unreleased);
    }

    /// Ends a stream that broke, on this side, with what it says to its handles.
    fn break_stream(&mut self, slot: u32, error: Error) {
        let stream = self.streams.get_mut(slot);
        if stream.recv != Recv::Ended {
            stream.recv = Recv::Broken;
        }
        stream.failed = Some(error);
        stream.send = Send::Ended;
        stream.outbox.data.clear();
        (stream.outbox.bytes, stream.outbox.trailers) = (0, None);
        if self.role == Role::Server {
            // A call that was not handed over yet shall not run.
            stream.start = None;
        }
        // It was told to write, and will not: those behind it have its part of the window.
        let passes_on = std::mem::take(&mut stream.wanted) > 0 && !stream.queued;
        stream.wake_reader();
        stream.wake_writer();
        self.settle(slot);
        if passes_on && self.error.is_none() {
            self.resume();
        }
    }

    /// Resets a stream and tells the peer.
    pub(super) fn reset(&mut self, slot: u32, reason: Reason) {
        let stream = self.streams.get(slot);
        if stream.is_closed() {
            return;
        }
        let id = stream.id;
        // A stream that no frame has mentioned yet has nothing to be reset.
        if self.role == Role::Server || stream.send != Send::Head {
            frame::put_reset(self.out(), id, reason);
            self.wake_task();
        }
        self.break_stream(slot, Error::reset(reason, By::Us));
    }

    /// The peer broke a rule within a stream.
    fn refuse_frame(&mut self, id: u32, slot: Option<u32>, reason: Reason) -> Result<(), Reason> {
        match slot {
            Some(slot) => self.reset(slot, reason),
            None => frame::put_reset(self.out(), id, reason),
        }
        self.guard.count(Frame::Provoked, self.now_ms)
    }

    /// A handle of a stream is gone. With the last one goes the interest in the stream.
    pub(super) fn drop_handle(&mut self, slot: u32) {
        let stream = self.streams.get_mut(slot);
        stream.handles -= 1;
        if stream.handles > 0 {
            return;
        }
        if stream.is_closed() {
            return self.vacate(slot);
        }
        // The rest of an answer that was said to its end goes out without anybody holding it; the rest of
        // a request whose answer nobody waits for is not sent.
        if stream.send != Send::Ending || self.role == Role::Client {
            self.lose_interest(slot);
        }
    }

    /// Nobody holds the stream, and nothing of it is left to be sent: what the peer still sends is
    /// not wanted.
    fn lose_interest(&mut self, slot: u32) {
        let answered = self.role == Role::Server && self.streams.get(slot).send == Send::Ended;
        self.reset(slot, if answered { Reason::NO_ERROR } else { Reason::CANCEL });
    }

    /// Gives received bytes back to the connection's window.
    fn release_connection(&mut self, n: usize) {
        if n == 0 {
            return;
        }
        if let Some(increment) = self.allowance.consume(n)
            && !matches!(self.phase, Phase::Broken | Phase::Ended)
        {
            frame::put_window_update(self.out(), 0, increment);
            self.wake_task();
        }
    }

    /// Gives received bytes back to both windows: the peer may send as many more.
    pub(super) fn release(&mut self, slot: u32, n: usize) {
        let stream = self.streams.get_mut(slot);
        let n = n.min(stream.unreleased);
        stream.unreleased -= n;
        let id = stream.id;
        if let Some(increment) = stream.allowance.consume(n)
            && matches!(stream.recv, Recv::Head | Recv::Body)
        {
            frame::put_window_update(self.out(), id, increment);
            self.wake_task();
        }
        self.release_connection(n);
    }

    /// Sends a ping of a handle.
    pub(super) fn send_ping(&mut self) {
        self.ping.sent = true;
        self.ping.answered = false;
        frame::put_ping(self.out(), 0, USER_PING);
        self.wake_task();
    }
}

//! Is anybody there behind a silent connection?
//!
//! A stopped process keeps its connections: the kernel takes the bytes, and nobody answers. [`Watchdog`]
//! finds out with one PING. It sleeps until a unary call is *overdue* (longer in flight than 99 % of its
//! method's calls, and than a tenth of a second); idle connections and those with streams only are left
//! alone, because foreign servers punish pings (gRPC's C core closes the connection at the third one
//! that no data of its own came between).
//!
//! ```text
//!   CALM ── overdue, no bytes for 100 ms ──► PINGED ── no bytes for 200 ms ──► stalled
//!    ▲                                         │ any bytes
//!    └────── a call is answered ◄── EXCUSED ◄──┘
//! ```
//! Bytes after a ping excuse the silence: the next ping waits until a call is answered (what else a server
//! sends does not make it forgive pings), or once, after a second, for a call that was sent since. A tick that comes 50 ms late says that this process was
//! stopped, not the peer: what was measured is void.
//!
//! The border to the transport: bytes read bump [`Pulse::read`], and [`Pinger`] sends a ping and says
//! when it was answered.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// No bytes for so long, with an overdue call: ping.
const SILENCE: Duration = Duration::from_millis(100);
/// No bytes for so long after a ping: stalled.
const ANSWER: Duration = Duration::from_millis(200);
/// Time between two looks while a call is overdue.
const TICK: Duration = Duration::from_millis(10);
/// A look that comes so late is void.
const LATE: Duration = Duration::from_millis(50);
/// A ping that bytes followed excuses silence for so long at least.
const EXCUSE: Duration = Duration::from_secs(1);
/// Pings without an answered call between them.
const PINGS: u8 = 2;

/// What calls and socket tell the watchdog of one connection.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Reads that brought bytes.
    reads: Cell<u32>,
    /// Calls that were answered.
    answers: Cell<u32>,
    overdue: Cell<usize>,
    /// When the newest overdue call was sent, and the oldest silence that one proves.
    newest: Cell<Option<Instant>>,
    silent_since: Cell<Option<(Instant, u32)>>,
    /// A call gave up before it was overdue: watched until then, or until bytes come.
    ghost: Cell<Option<(Instant, u32)>>,
    stalled: Cell<bool>,
    wake: Notify,
}

/// How long the silence after a call that gave up is watched.
const GHOST: Duration = Duration::from_secs(1);

impl Pulse {
    /// Bytes were read.
    fn read(&self) {
        self.reads.set(self.reads.get().wrapping_add(1));
    }

    /// Reads so far: a call remembers them when it is sent.
    pub(crate) fn reads(&self) -> u32 {
        self.reads.get()
    }

    /// A call was answered.
    pub(crate) fn answered(&self) {
        self.answers.set(self.answers.get().wrapping_add(1));
    }

    /// The connection was found stalled.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.get()
    }

    /// A call that was sent at `sent`, after so many reads, is overdue.
    pub(crate) fn overdue(&self, sent: Instant, reads: u32) {
        self.overdue.set(self.overdue.get() + 1);
        self.newest.set(self.newest.get().max(Some(sent)));
        let silent = self.silent_since.get().filter(|(_, known)| *known == self.reads.get());
        if reads == self.reads.get() && silent.is_none_or(|(since, _)| sent < since) {
            self.silent_since.set(Some((sent, reads)));
        }
        self.wake.notify_one();
    }

    /// A call that was sent at `sent`, after so many reads, gave up: its deadline was short.
    pub(crate) fn gave_up(&self, sent: Instant, reads: u32, now: Instant) {
        self.ghost.set(Some((now + GHOST, self.reads.get())));
        self.overdue(sent, reads);
        self.settled();
    }

    /// Somebody waits too long.
    fn is_watched(&self, now: Instant) -> bool {
        let haunted = |(until, reads): (Instant, u32)| now < until && reads == self.reads.get();
        self.overdue.get() > 0 || self.ghost.get().is_some_and(haunted)
    }

    /// An overdue call has ended.
    pub(crate) fn settled(&self) {
        self.overdue.set(self.overdue.get().saturating_sub(1));
    }
}

/// Sends pings on one connection, one at a time.
pub(crate) struct Pinger(Option<h2::PingPong>);

impl Pinger {
    /// The pinger of a connection; `None` where it cannot be pinged.
    pub(crate) const fn new(inner: Option<h2::PingPong>) -> Self {
        Self(inner)
    }

    fn send(&mut self) {
        if let Some(inner) = &mut self.0 {
            let _ = inner.send_ping(h2::Ping::opaque());
        }
    }

    /// The answer, if it is there by now.
    fn answered(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.0.as_mut().is_some_and(|inner| inner.poll_pong(&mut cx).is_ready())
    }
}

/// Watches until the connection is stalled.
pub(crate) async fn stalls(pulse: Rc<Pulse>, mut pinger: Pinger) {
    let mut dog = Watchdog::new(Instant::now());
    loop {
        pulse.wake.notified().await;
        dog.wake(Instant::now());
        loop {
            let now = Instant::now();
            if !pulse.is_watched(now) {
                break;
            }
            match dog.tick(now, pulse.look(&mut pinger)) {
                Action::None => {}
                Action::Ping => pinger.send(),
                Action::Stalled => {
                    pulse.stalled.set(true);
                    return;
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

impl Pulse {
    fn look(&self, pinger: &mut Pinger) -> Look {
        let reads = self.reads.get();
        Look {
            reads,
            answers: self.answers.get(),
            silent_since: self.silent_since.get().filter(|(_, known)| *known == reads).map(|(at, _)| at),
            newest: self.newest.get(),
            answered: pinger.answered(),
        }
    }
}

/// What the watchdog sees at a tick.
#[derive(Debug, Clone, Copy)]
struct Look {
    reads: u32,
    answers: u32,
    /// No bytes came since then, as an overdue call proves.
    silent_since: Option<Instant>,
    /// When the newest overdue call was sent.
    newest: Option<Instant>,
    /// The ping was answered.
    answered: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    None,
    Ping,
    Stalled,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Calm,
    Pinged { at: Instant, reads: u32 },
    Excused { at: Instant, answers: u32 },
}

/// The state machine, with the clock of its caller.
#[derive(Debug)]
struct Watchdog {
    phase: Phase,
    pings: u8,
    reads: u32,
    /// When bytes were last noticed.
    heard: Instant,
    ticked: Instant,
}

impl Watchdog {
    const fn new(now: Instant) -> Self {
        Self { phase: Phase::Calm, pings: 0, reads: 0, heard: now, ticked: now }
    }

    /// Ticks begin again after a pause.
    fn wake(&mut self, now: Instant) {
        self.ticked = now;
    }

    fn tick(&mut self, now: Instant, look: Look) -> Action {
        let late = now.saturating_duration_since(self.ticked) >= TICK + LATE;
        self.ticked = now;
        if late {
            self.heard = now;
            if let Phase::Pinged { at, .. } = &mut self.phase {
                *at = now;
            }
            return Action::None;
        }
        if look.reads != self.reads {
            (self.reads, self.heard) = (look.reads, now);
        } else if let Some(since) = look.silent_since
            && !matches!(self.phase, Phase::Pinged { .. })
        {
            self.heard = self.heard.min(since);
        }
        match self.phase {
            Phase::Calm => self.ping_if_silent(now),
            Phase::Pinged { at, reads } => {
                if look.answered || look.reads != reads {
                    self.phase = Phase::Excused { at: now, answers: look.answers };
                    return Action::None;
                }
                if now.saturating_duration_since(at) >= ANSWER { Action::Stalled } else { Action::None }
            }
            Phase::Excused { at, answers } => {
                if look.answers != answers {
                    (self.phase, self.pings) = (Phase::Calm, 0);
                    return self.ping_if_silent(now);
                }
                let again = self.pings < PINGS
                    && now.saturating_duration_since(at) >= EXCUSE
                    && look.newest.is_some_and(|sent| sent > at);
                if again { self.ping_if_silent(now) } else { Action::None }
            }
        }
    }

    fn ping_if_silent(&mut self, now: Instant) -> Action {
        if now.saturating_duration_since(self.heard) < SILENCE {
            return Action::None;
        }
        self.pings += 1;
        self.phase = Phase::Pinged { at: now, reads: self.reads };
        Action::Ping
    }
}

/// A socket that tells a [`Pulse`] of every read with bytes.
pub(crate) struct Watched<T> {
    inner: T,
    pulse: Rc<Pulse>,
}

impl<T> Watched<T> {
    pub(crate) const fn new(inner: T, pulse: Rc<Pulse>) -> Self {
        Self { inner, pulse }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pulse.read();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;

//! How do the bytes of one direction pass, within the windows of both sides?
//!
//! [`Up`] moves request bytes from the caller to the node, [`Down`] answer bytes the other way. Both are
//! polled by the one task of the call. Neither holds more than one chunk, besides what [`Up`] keeps of an
//! unanswered stream so that it can be sent again.

use super::super::{Stop, answer, message::Boundaries};
use crate::{
    http2::{Fields, RecvStream, SendStream},
    timer::{Timer, Wheel},
};
use bytes::{Bytes, BytesMut};
use std::{
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use suiyue_proto::reason::Reason;

/// Silence on both sides that ends a stream.
pub const IDLE: Duration = Duration::from_secs(60);
/// Bytes of an unanswered stream that are kept.
const KEPT: usize = 64 << 10;

/// What broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The side that is read from.
    Reader,
    /// The side that is written to.
    Writer,
    /// A message is over the limit.
    TooLarge,
}

/// The direction from the caller to the node.
pub struct Up {
    body: RecvStream,
    /// Read, not sent yet.
    chunk: Bytes,
    /// Capacity of `chunk` that the caller has not got back yet.
    owed: usize,
    /// Sent so far; `None` once it is too much, or the stream is answered.
    kept: Option<BytesMut>,
    boundaries: Boundaries,
    limit: usize,
    /// The end of the stream has been sent.
    ended: bool,
    /// The node takes no more.
    stopped: bool,
}

impl Up {
    /// The body of a call; messages may have `limit` bytes.
    #[must_use]
    pub fn new(body: RecvStream, limit: usize) -> Self {
        Self {
            body,
            chunk: Bytes::new(),
            owed: 0,
            kept: Some(BytesMut::new()),
            boundaries: Boundaries::default(),
            limit,
            ended: false,
            stopped: false,
        }
    }

    /// The next bytes of the caller; `None` at the end of the stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        match ready!(self.body.poll_data(cx)) {
            None => Poll::Ready(Ok(None)),
            Some(Err(_)) => Poll::Ready(Err(Broken::Reader)),
            Some(Ok(chunk)) => {
                self.owed += chunk.len();
                let fits = self.boundaries.pass(&chunk, self.limit);
                Poll::Ready(fits.map(|()| Some(chunk)).map_err(|_| Broken::TooLarge))
            }
        }
    }

    /// Puts back what was read to find the region.
    pub fn unread(&mut self, begin: Bytes) {
        self.chunk = begin;
    }

    /// Nothing needs to be kept any more.
    pub fn forget(&mut self) {
        self.kept = None;
    }

    /// Prepares for another endpoint; false if what was sent is not at hand any more.
    pub fn restart(&mut self) -> bool {
        let Some(kept) = &mut self.kept else { return false };
        let mut again = std::mem::take(kept);
        again.extend_from_slice(&self.chunk);
        self.chunk = again.freeze();
        (self.ended, self.stopped) = (false, false);
        true
    }

    /// Moves bytes until the end of the stream. Ready once; pending afterwards.
    pub fn poll_pump(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut SendStream,
        idle: &mut Idle,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if self.ended || self.stopped {
                return Poll::Pending;
            }
            if self.chunk.is_empty() {
                match ready!(self.poll_read(cx))? {
                    Some(chunk) => self.chunk = chunk,
                    None => {
                        self.ended = true;
                        return Poll::Ready(self.stop_if(to.send_data(Bytes::new(), true).is_err()));
                    }
                }
                continue;
            }
            let Some(n) = ready!(to.poll_room(cx, self.chunk.len())) else {
                return Poll::Ready(self.stop_if(true));
            };
            let part = self.chunk.split_to(n);
            self.keep(&part);
            let end = self.chunk.is_empty() && self.body.is_end_stream();
            if to.send_data(part, end).is_err() {
                return Poll::Ready(self.stop_if(true));
            }
            idle.touch();
            let back = n.min(self.owed);
            self.owed -= back;
            self.body.release(back);
            if end {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn keep(&mut self, part: &[u8]) {
        match &mut self.kept {
            Some(kept) if kept.len() + part.len() <= KEPT => kept.extend_from_slice(part),
            kept => *kept = None,
        }
    }

    fn stop_if(&mut self, stopped: bool) -> Result<(), Broken> {
        self.stopped = stopped;
        if stopped { Err(Broken::Writer) } else { Ok(()) }
    }
}

/// The direction from the node to the caller.
pub struct Down {
    /// What is still to come; `None`: `chunk` and `trailers` are all.
    body: Option<RecvStream>,
    trailers: Option<Fields>,
    chunk: Bytes,
    /// Capacity of `chunk` that the node has not got back yet.
    owed: usize,
    data_ended: bool,
}

impl Down {
    /// An answer that begins with `begin`, goes on with `body`, or ends with `trailers`.
    #[must_use]
    pub const fn new(body: Option<RecvStream>, begin: Bytes, trailers: Option<Fields>) -> Self {
        Self { body, trailers, chunk: begin, owed: 0, data_ended: false }
    }

    /// Moves bytes and trailers. Ready with the answer's gRPC status when all of it was handed over.
    pub fn poll_pump(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut SendStream,
        idle: &mut Idle,
    ) -> Poll<Result<u8, Stop>> {
        loop {
            if !self.chunk.is_empty() {
                let Some(n) = ready!(to.poll_room(cx, self.chunk.len())) else {
                    return Poll::Ready(Err(Stop::Gone));
                };
                if to.send_data(self.chunk.split_to(n), false).is_err() {
                    return Poll::Ready(Err(Stop::Gone));
                }
                idle.touch();
                let back = n.min(self.owed);
                self.owed -= back;
                if let Some(body) = &mut self.body {
                    body.release(back);
                }
                continue;
            }
            let Some(body) = &mut self.body else {
                let trailers = self.trailers.take().unwrap_or_default();
                let code = answer::status_of(&trailers, None);
                return Poll::Ready(to.send_trailers(trailers).map(|()| code).map_err(|_| Stop::Gone));
            };
            if self.data_ended {
                let trailers = match ready!(body.poll_trailers(cx)) {
                    Ok(trailers) => trailers.unwrap_or_default(),
                    Err(_) => return Poll::Ready(Err(Reason::UpstreamLost.into())),
                };
                let code = answer::status_of(&trailers, None);
                let sent = to.send_trailers(trailers);
                return Poll::Ready(sent.map(|()| code).map_err(|_| Stop::Gone));
            }
            match ready!(body.poll_data(cx)) {
                None => self.data_ended = true,
                Some(Err(_)) => return Poll::Ready(Err(Reason::UpstreamLost.into())),
                Some(Ok(chunk)) => {
                    self.owed += chunk.len();
                    self.chunk = chunk;
                }
            }
        }
    }
}

/// Ends a stream on which nothing passed for [`IDLE`].
pub struct Idle {
    wheel: Wheel,
    timer: Timer,
    last: Instant,
    touched: bool,
}

impl Idle {
    /// Starts now.
    #[must_use]
    pub fn new(wheel: Wheel) -> Self {
        let last = Instant::now();
        Self { timer: wheel.arm(last + IDLE), wheel, last, touched: false }
    }

    /// Something passed.
    pub fn touch(&mut self) {
        self.touched = true;
    }

    /// Ready when nothing has passed for too long. To be polled after whatever touches.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.touched) {
            self.last = Instant::now();
        }
        while self.timer.poll_fired(cx).is_ready() {
            if self.last.elapsed() >= IDLE {
                return Poll::Ready(());
            }
            self.timer = self.wheel.arm(self.last + IDLE);
        }
        Poll::Pending
    }
}

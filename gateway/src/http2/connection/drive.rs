//! How do bytes move between the socket and a connection's state?

use super::{Error, Inner, OUT_HIGH, Phase, Shared};
use bytes::BytesMut;
use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at a time: room for several of the longest frames.
const SCRATCH: usize = 64 << 10;
/// Reads of a wake-up at most: other connections wait.
const READS: usize = 8;
/// Memory of a queue when it is new.
const FRESH: usize = 16 << 10;
/// Queues that grew larger are not kept.
const KEPT: usize = 64 << 10;
/// Queues that a thread keeps.
const KEPT_COUNT: usize = 64;

thread_local! {
    /// Where all connections of a thread read to.
    static READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Queues that nobody uses at the moment.
    static QUEUES: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty queue.
pub(super) fn borrow_buffer() -> BytesMut {
    QUEUES.with_borrow_mut(Vec::pop).unwrap_or_else(|| BytesMut::with_capacity(FRESH))
}

fn return_buffer(mut buffer: BytesMut) {
    if buffer.capacity() <= KEPT {
        buffer.clear();
        QUEUES.with_borrow_mut(|queues| {
            if queues.len() < KEPT_COUNT {
                queues.push(buffer);
            }
        });
    }
}

/// Runs a connection over a socket.
pub(in super::super) struct Driver<T> {
    io: T,
    pub(in super::super) shared: Shared,
    /// The beginning of a frame whose end has not come yet.
    rest: Vec<u8>,
    /// How much of the queue has been written.
    written: usize,
    since: Instant,
    eof: bool,
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.shared.borrow_mut().lost(Error::io(io::ErrorKind::BrokenPipe));
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    pub(in super::super) fn new(io: T, shared: Shared) -> Self {
        Self { io, shared, rest: Vec::new(), written: 0, since: Instant::now(), eof: false }
    }

    /// Reads, acts, writes. Ready when the connection has ended.
    pub(in super::super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut inner = self.shared.borrow_mut();
        inner.awake = true;
        if !inner.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            inner.task = Some(cx.waker().clone());
        }
        drop(inner);
        if let Err(error) = self.read(cx) {
            self.shared.borrow_mut().lost(error.into());
        }
        // Asked after reading: it may have been what filled the queue.
        let full = !self.may_read();
        let result = self.write(cx);
        if full && self.may_read() {
            // There is room again: what was left in the socket is read in the next turn.
            cx.waker().wake_by_ref();
        }
        let mut inner = self.shared.borrow_mut();
        inner.awake = false;
        match result {
            Err(error) => inner.lost(error.into()),
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {
                if !inner.is_over() {
                    return Poll::Pending;
                }
            }
        }
        if inner.phase != Phase::Ended {
            inner.phase = Phase::Ended;
            let error = inner.error.unwrap_or(Error::io(io::ErrorKind::NotConnected));
            drop(inner);
            // The socket's buffer takes it: nobody waits for the peer.
            let _ = Pin::new(&mut self.io).poll_shutdown(cx);
            inner = self.shared.borrow_mut();
            let outcome = inner.outcome();
            inner.end_streams(error);
            return Poll::Ready(outcome);
        }
        Poll::Ready(inner.outcome())
    }

    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        READ.with_borrow_mut(|scratch| {
            if scratch.is_empty() {
                scratch.resize(SCRATCH, 0);
            }
            for _ in 0..READS {
                if !self.may_read() {
                    return Ok(());
                }
                let begin = self.rest.len();
                scratch[..begin].copy_from_slice(&self.rest);
                let mut buffer = ReadBuf::new(&mut scratch[begin..]);
                let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, &mut buffer) else {
                    return Ok(());
                };
                read?;
                let n = buffer.filled().len();
                if n == 0 {
                    self.eof = true;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let mut inner = self.shared.borrow_mut();
                inner.now_ms = self.since.elapsed().as_millis() as u32;
                inner.reads = inner.reads.wrapping_add(1);
                let used = inner.receive(&scratch[..begin + n]);
                keep(&mut self.rest, &scratch[used..begin + n]);
            }
            cx.waker().wake_by_ref();
            Ok(())
        })
    }

    fn may_read(&self) -> bool {
        let inner = self.shared.borrow();
        !self.eof && inner.out.len() < OUT_HIGH && !matches!(inner.phase, Phase::Broken | Phase::Ended)
    }

    /// Writes what is queued. Ready when nothing is left.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        loop {
            let mut inner = self.shared.borrow_mut();
            if inner.phase == Phase::Ended {
                return Ok(Poll::Ready(()));
            }
            let end = inner.limit.map_or(inner.out.len(), |limit| limit.min(inner.out.len()));
            while self.written < end {
                match Pin::new(&mut self.io).poll_write(cx, &inner.out[self.written..end]) {
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(Ok(n)) => self.written += n,
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => {
                        compact(&mut inner, &mut self.written);
                        return Ok(Poll::Pending);
                    }
                }
            }
            if let Some(limit) = &mut inner.limit {
                *limit -= self.written;
                let _ = inner.out.split_to(self.written);
                self.written = 0;
                drop(inner);
                // What is held back is written once it may be: the connection is not over before.
                let _ = Pin::new(&mut self.io).poll_flush(cx)?;
                return Ok(Poll::Pending);
            }
            if self.written > 0 {
                self.written = 0;
                return_buffer(std::mem::take(&mut inner.out));
                inner.resume();
            }
            if inner.out.is_empty() {
                drop(inner);
                let flushed = Pin::new(&mut self.io).poll_flush(cx)?;
                return Ok(flushed);
            }
        }
    }
}

/// The queue shall not grow by what has been written already.
fn compact(inner: &mut Inner, written: &mut usize) {
    if *written >= FRESH {
        let _ = inner.out.split_to(*written);
        inner.limit = inner.limit.map(|limit| limit - *written);
        *written = 0;
        if inner.out.len() < OUT_HIGH {
            inner.resume();
        }
    }
}

/// Keeps the beginning of a frame until its end comes.
fn keep(rest: &mut Vec<u8>, left: &[u8]) {
    if left.is_empty() && rest.capacity() > 0 {
        *rest = Vec::new();
    } else {
        rest.clear();
        rest.extend_from_slice(left);
    }
}

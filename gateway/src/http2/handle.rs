//! How does a call use its stream?
//!
//! [`RecvStream`] is what comes from the peer, [`SendStream`] what goes there. Both belong to the task of
//! the call: one waker a direction is kept. Dropping the last handle of a stream that has not ended
//! resets it. All of it is cancel safe: a poll that is dropped has taken nothing.

use super::{
    connection::{Inner, Shared},
    error::{Error, Reason},
    fields::Fields,
    stream::Recv,
};
use bytes::Bytes;
use std::{
    cell::RefMut,
    task::{Context, Poll},
};

/// A stream, kept alive.
#[derive(Debug)]
pub(super) struct Handle {
    shared: Shared,
    slot: u32,
}

impl Handle {
    /// Takes over a handle that was counted already.
    pub(super) const fn counted(shared: Shared, slot: u32) -> Self {
        Self { shared, slot }
    }

    /// The connection's state, and the slot in it.
    #[inline]
    pub(super) fn state(&self) -> (RefMut<'_, Inner>, u32) {
        (self.shared.borrow_mut(), self.slot)
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        let (mut inner, slot) = self.state();
        inner.streams.get_mut(slot).handles += 1;
        drop(inner);
        Self { shared: self.shared.clone(), slot }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let (mut inner, slot) = self.state();
        inner.drop_handle(slot);
    }
}

/// What the peer sends on a stream after its headers.
#[derive(Debug)]
pub struct RecvStream(pub(super) Handle);

impl RecvStream {
    /// The next piece of data; `None` at the end of the data. The peer gets its window back with
    /// [`RecvStream::release`] only.
    ///
    /// # Errors
    /// The stream broke before its end. Ready again afterwards.
    pub fn poll_data(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let (mut inner, slot) = self.0.state();
        let stream = inner.streams.get_mut(slot);
        if let Some(data) = stream.inbox.pop_front() {
            return Poll::Ready(Some(Ok(data)));
        }
        match stream.recv {
            Recv::Ended => Poll::Ready(None),
            Recv::Body | Recv::Head if stream.trailers.is_none() => {
                super::connection::register(&mut stream.reader, cx);
                Poll::Pending
            }
            _ => Poll::Ready(stream.failed.map(Err)),
        }
    }

    /// The next piece of data, as [`RecvStream::poll_data`].
    ///
    /// # Errors
    /// The stream broke before its end.
    pub async fn data(&mut self) -> Option<Result<Bytes, Error>> {
        std::future::poll_fn(|cx| self.poll_data(cx)).await
    }

    /// The trailers, once the data have been read; `None` if there are none.
    ///
    /// # Errors
    /// The stream broke before its end.
    pub fn poll_trailers(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Fields>, Error>> {
        let (mut inner, slot) = self.0.state();
        let stream = inner.streams.get_mut(slot);
        match stream.recv {
            Recv::Ended => Poll::Ready(Ok(stream.trailers.take())),
            Recv::Broken => Poll::Ready(Err(stream.failed.unwrap_or(Error::CLOSED))),
            Recv::Body | Recv::Head => {
                super::connection::register(&mut stream.reader, cx);
                Poll::Pending
            }
        }
    }

    /// The trailers, as [`RecvStream::poll_trailers`].
    ///
    /// # Errors
    /// The stream broke before its end.
    pub async fn trailers(&mut self) -> Result<Option<Fields>, Error> {
        std::future::poll_fn(|cx| self.poll_trailers(cx)).await
    }

    /// All data were read, and no trailers wait.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        let (inner, slot) = self.0.state();
        let stream = inner.streams.get(slot);
        stream.recv == Recv::Ended && stream.inbox.is_empty() && stream.trailers.is_none()
    }

    /// Bytes were consumed: the peer may send as many more.
    pub fn release(&mut self, n: usize) {
        let (mut inner, slot) = self.0.state();
        inner.release(slot, n);
    }
}

/// What goes to the peer on a stream after our headers.
#[derive(Debug)]
pub struct SendStream(pub(super) Handle);

impl SendStream {
    /// Sends data, `end`: the last of the stream. What the windows do not let through yet is kept: ask
    /// for room first ([`SendStream::poll_room`]) where it may be much.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn send_data(&mut self, data: Bytes, end: bool) -> Result<(), Error> {
        let (mut inner, slot) = self.0.state();
        inner.send_data(slot, data, end)
    }

    /// Ends the stream with trailers, after all data.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn send_trailers(&mut self, trailers: Fields) -> Result<(), Error> {
        let (mut inner, slot) = self.0.state();
        inner.send_trailers(slot, trailers)
    }

    /// Bytes that may be sent now, at least one and at most `wanted`; `None`: the stream takes no more.
    pub fn poll_room(&mut self, cx: &Context<'_>, wanted: usize) -> Poll<Option<usize>> {
        let (mut inner, slot) = self.0.state();
        inner.poll_room(cx, slot, wanted)
    }

    /// Ready once the peer has reset the stream, or the connection is gone.
    pub fn poll_reset(&mut self, cx: &Context<'_>) -> Poll<Error> {
        poll_reset(&self.0, cx)
    }

    /// Resets the stream.
    pub fn send_reset(&mut self, reason: Reason) {
        let (mut inner, slot) = self.0.state();
        inner.reset(slot, reason);
    }
}

pub(super) fn poll_reset(handle: &Handle, cx: &Context<'_>) -> Poll<Error> {
    let (mut inner, slot) = handle.state();
    let stream = inner.streams.get_mut(slot);
    match stream.failed {
        Some(error) => Poll::Ready(error),
        None => {
            super::connection::register(&mut stream.writer, cx);
            Poll::Pending
        }
    }
}

/// Asks the peer for a sign of life.
#[derive(Debug)]
pub struct PingPong(pub(super) Shared);

impl PingPong {
    /// Sends a ping, unless one is on its way.
    pub fn send(&self) {
        let mut inner = self.0.borrow_mut();
        inner.ping.answered = false;
        if !inner.ping.sent && inner.error().is_none() {
            inner.send_ping();
        }
    }

    /// The last ping has been answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.0.borrow().ping.answered
    }

    /// How often something was read on the connection, wrapping: whatever it is, it is a sign of life.
    #[must_use]
    pub fn reads(&self) -> u32 {
        self.0.borrow().reads()
    }

    /// Sends a ping and waits for its answer. One at a time: a later call waits for the same answer.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn ping(&mut self) -> Result<(), Error> {
        self.send();
        std::future::poll_fn(|cx| {
            let mut inner = self.0.borrow_mut();
            if inner.ping.answered {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = inner.error() {
                return Poll::Ready(Err(error));
            }
            super::connection::register(&mut inner.ping.waker, cx);
            Poll::Pending
        })
        .await
    }

    /// Looks for streams whose reader does not read, to be called every few seconds; false: all of them
    /// stall, and the connection should be closed.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.0.borrow_mut().look_for_stalls()
    }
}

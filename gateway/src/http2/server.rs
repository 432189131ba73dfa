//! How does the gateway accept calls on a connection?

pub use super::{connection::ResponseHead, stream::Head};

use super::{
    Config,
    connection::{Driver, Inner, Role},
    error::{Error, Reason},
    fields::Fields,
    handle::{self, Handle, PingPong, RecvStream, SendStream},
    stream::Start,
};
use bytes::Bytes;
use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// A call: its headers, the rest of what is asked, and the way back.
pub type Accepted = (Head, RecvStream, SendResponse);

/// A connection with a client. It runs while it is polled, and ends when it is dropped.
pub struct Connection<T> {
    driver: Driver<T>,
}

/// Waits for the client's preface.
///
/// # Errors
/// The socket broke, or what came is no HTTP/2.
pub async fn handshake<T: AsyncRead + AsyncWrite + Unpin>(
    io: T,
    config: Config,
) -> io::Result<Connection<T>> {
    let shared = Rc::new(RefCell::new(Inner::new(Role::Server, config)));
    let mut driver = Driver::new(io, shared);
    poll_fn(|cx| match driver.poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
        Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        Poll::Pending if driver.shared.borrow().is_greeted() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok(Connection { driver })
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// The next call; `None`: the connection has ended, as it should.
    ///
    /// # Errors
    /// The connection broke.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Accepted, Error>>> {
        if let Some(call) = self.next() {
            return Poll::Ready(Some(Ok(call)));
        }
        let ended = self.driver.poll(cx);
        if let Some(call) = self.next() {
            return Poll::Ready(Some(Ok(call)));
        }
        ended.map(|result| result.err().map(Err))
    }

    /// The next call, as [`Connection::poll_accept`]. Cancel safe.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn accept(&mut self) -> Option<Result<Accepted, Error>> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Runs the connection to its end; calls that come meanwhile are not taken.
    ///
    /// # Errors
    /// The connection broke.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.driver.poll(cx)
    }

    /// Holds back all answers, until [`Connection::unhold`].
    pub fn hold(&mut self) {
        self.driver.shared.borrow_mut().hold();
    }

    /// Sends the answers that were held back.
    pub fn unhold(&mut self) {
        self.driver.shared.borrow_mut().unhold();
    }

    /// Asks the client to make no more calls here; those that were on their way are taken.
    pub fn graceful_shutdown(&mut self) {
        self.driver.shared.borrow_mut().shut_down();
    }

    /// Takes no more calls, and ends once the last one has ended. To be said a while after
    /// [`Connection::graceful_shutdown`]: a client may still write requests that it had begun.
    pub fn last_call(&mut self) {
        self.driver.shared.borrow_mut().last_call();
    }

    /// Ends all calls, says GOAWAY with a reason, and ends.
    pub fn abrupt_shutdown(&mut self, reason: Reason) {
        self.driver.shared.borrow_mut().abort(reason);
    }

    /// Asks the client for signs of life.
    pub fn ping_pong(&self) -> PingPong {
        PingPong(self.driver.shared.clone())
    }

    fn next(&mut self) -> Option<Accepted> {
        loop {
            let (slot, start) = {
                let mut inner = self.driver.shared.borrow_mut();
                let slot = inner.next_accepted()?;
                (slot, inner.streams.get_mut(slot).start.take())
            };
            let handle = Handle::counted(self.driver.shared.clone(), slot);
            // A stream that was reset meanwhile goes with its handle.
            let Some(Start::Request(head)) = start else { continue };
            return Some((head, RecvStream(handle.clone()), SendResponse(handle)));
        }
    }
}

/// The way back to a caller.
#[derive(Debug)]
pub struct SendResponse(Handle);

impl SendResponse {
    /// Sends the headers of the answer. `end`: they are all of it.
    ///
    /// # Errors
    /// The stream has ended, or they were sent before.
    pub fn send_response(&mut self, head: ResponseHead<'_>, end: bool) -> Result<SendStream, Error> {
        let (mut inner, slot) = self.0.state();
        inner.send_response(slot, head, end)?;
        drop(inner);
        Ok(SendStream(self.0.clone()))
    }

    /// Sends a whole answer: headers, data, trailers. What the caller's window does not let through yet
    /// is kept.
    ///
    /// # Errors
    /// The stream has ended, or headers were sent before.
    pub fn send_whole(
        &mut self,
        head: ResponseHead<'_>,
        data: Bytes,
        trailers: Option<Fields>,
    ) -> Result<(), Error> {
        let (mut inner, slot) = self.0.state();
        let empty = data.is_empty() && trailers.is_none();
        inner.send_response(slot, head, empty)?;
        if !data.is_empty() {
            inner.send_data(slot, data, trailers.is_none())?;
        }
        trailers.map_or(Ok(()), |trailers| inner.send_trailers(slot, trailers))
    }

    /// Ready once the caller has reset the stream, or its connection is gone.
    pub fn poll_reset(&mut self, cx: &Context<'_>) -> Poll<Error> {
        handle::poll_reset(&self.0, cx)
    }

    /// Resets the stream.
    pub fn send_reset(&mut self, reason: Reason) {
        let (mut inner, slot) = self.0.state();
        inner.reset(slot, reason);
    }
}

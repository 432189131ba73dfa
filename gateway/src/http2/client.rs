//! How does the gateway make calls on a connection?

pub use super::connection::RequestHead;

use super::{
    Config, Response,
    connection::{self, Driver, Inner, Role, Shared},
    error::Error,
    handle::{Handle, PingPong, RecvStream, SendStream},
    stream::{Recv, Start},
};
use bytes::Bytes;
use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection with a server: a future that runs it, and resolves when it has ended.
///
/// It ends by itself when the last [`SendRequest`] and the last stream are gone. A peer that said GOAWAY
/// without an error ends it well.
pub struct Connection<T> {
    driver: Driver<T>,
}

/// Begins a connection. Nothing is waited for: requests may be sent before the server has said anything.
pub fn handshake<T: AsyncRead + AsyncWrite + Unpin>(io: T, config: Config) -> (SendRequest, Connection<T>) {
    let shared = Rc::new(RefCell::new(Inner::new(Role::Client, config)));
    shared.borrow_mut().openers = 1;
    (SendRequest(shared.clone()), Connection { driver: Driver::new(io, shared) })
}

impl<T> Connection<T> {
    /// Asks the server for signs of life.
    pub fn ping_pong(&self) -> PingPong {
        PingPong(self.driver.shared.clone())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Connection<T> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.driver.poll(cx)
    }
}

/// Opens streams.
#[derive(Debug)]
pub struct SendRequest(Shared);

impl Clone for SendRequest {
    fn clone(&self) -> Self {
        self.0.borrow_mut().openers += 1;
        Self(self.0.clone())
    }
}

impl Drop for SendRequest {
    fn drop(&mut self) {
        let mut inner = self.0.borrow_mut();
        inner.openers -= 1;
        if inner.openers == 0 {
            inner.wake_task();
        }
    }
}

impl SendRequest {
    /// Whether a stream can be opened now, within the server's limit.
    ///
    /// # Errors
    /// None can be opened any more: the connection has ended, or the server says GOAWAY.
    pub fn has_room(&self) -> Result<bool, Error> {
        self.0.borrow().has_room()
    }

    /// The server's limit of streams at a time.
    #[must_use]
    pub fn current_max_send_streams(&self) -> usize {
        self.0.borrow().max_streams()
    }

    /// Sends a request with its whole body.
    ///
    /// # Errors
    /// No stream can be opened: nothing was sent.
    pub fn send_whole(&self, head: RequestHead<'_>, body: Bytes) -> Result<ResponseFuture, Error> {
        let mut inner = self.0.borrow_mut();
        if !inner.has_room()? {
            return Err(Error::CLOSED);
        }
        let slot = inner.send_request(head, body.is_empty());
        inner.streams.get_mut(slot).handles = 1;
        if !body.is_empty() {
            inner.send_data(slot, body, true)?;
        }
        drop(inner);
        Ok(ResponseFuture(Handle::counted(self.0.clone(), slot)))
    }

    /// Sends the headers of a request. `end`: there is no body.
    ///
    /// # Errors
    /// No stream can be opened: nothing was sent.
    pub fn send_request(
        &self,
        head: RequestHead<'_>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream), Error> {
        let mut inner = self.0.borrow_mut();
        if !inner.has_room()? {
            return Err(Error::CLOSED);
        }
        let slot = inner.send_request(head, end);
        inner.streams.get_mut(slot).handles = 1;
        drop(inner);
        let handle = Handle::counted(self.0.clone(), slot);
        Ok((ResponseFuture(handle.clone()), SendStream(handle)))
    }
}

/// The answer to come.
#[derive(Debug)]
pub struct ResponseFuture(Handle);

impl ResponseFuture {
    /// The answer's headers. Ready once.
    ///
    /// # Errors
    /// The stream broke before they came.
    pub fn poll_response(&mut self, cx: &Context<'_>) -> Poll<Result<Response<RecvStream>, Error>> {
        let (mut inner, slot) = self.0.state();
        let stream = inner.streams.get_mut(slot);
        match stream.start.take() {
            Some(Start::Response(status, headers)) => {
                drop(inner);
                let body = RecvStream(self.0.clone());
                Poll::Ready(Ok(Response { status, headers, body }))
            }
            _ if stream.recv == Recv::Head => {
                connection::register(&mut stream.reader, cx);
                Poll::Pending
            }
            _ => Poll::Ready(Err(stream.failed.unwrap_or(Error::CLOSED))),
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<RecvStream>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_response(cx)
    }
}

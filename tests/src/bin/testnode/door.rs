//! How does the test node lose its connections?
//!
//! Every accepted socket is a [`Socket`] with a [`Line`] that handlers see: it can be cut at once, or
//! after so many further bytes of answers. A [`Door`] that is shut cuts all lines, goes on accepting, and
//! leaves what it accepts lying.

use futures_util::{Stream, StreamExt as _, task::AtomicWaker};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Connected;

/// A line that is not to be cut.
const WHOLE: u64 = u64::MAX;

/// Where connections come in.
#[derive(Debug, Default)]
pub(crate) struct Door(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    lines: Vec<Weak<Line>>,
    /// Present while the door is shut: connections that were accepted and are left lying.
    lying: Option<Vec<TcpStream>>,
}

impl Door {
    /// Connections to serve.
    pub(crate) fn incoming(
        self: &Arc<Self>,
        listener: TcpListener,
    ) -> impl Stream<Item = io::Result<Socket>> + use<> {
        let door = self.clone();
        TcpListenerStream::new(listener).filter_map(move |accepted| {
            let socket = accepted.map(|stream| door.admit(stream)).transpose();
            std::future::ready(socket)
        })
    }

    /// Shuts or opens it. Nothing happens if it is so already.
    pub(crate) fn shut(&self, shut: bool) {
        let mut inside = self.inside();
        match (shut, inside.lying.is_some()) {
            (true, false) => {
                inside.lying = Some(Vec::new());
                inside.lines.drain(..).filter_map(|line| line.upgrade()).for_each(|line| line.cut_after(0));
            }
            (false, true) => inside.lying = None,
            _ => {}
        }
    }

    fn admit(&self, stream: TcpStream) -> Option<Socket> {
        let mut inside = self.inside();
        if let Some(lying) = &mut inside.lying {
            lying.push(stream);
            return None;
        }
        // Without it each window of a stream waits for a delayed acknowledgement.
        stream.set_nodelay(true).ok()?;
        let line = Arc::new(Line { left: AtomicU64::new(WHOLE), waker: AtomicWaker::new() });
        inside.lines.retain(|line| line.strong_count() > 0);
        inside.lines.push(Arc::downgrade(&line));
        Some(Socket { stream, line })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What handlers see of the connection that their call came on.
#[derive(Debug)]
pub(crate) struct Line {
    /// Bytes that may still be written; at 0 the connection breaks.
    left: AtomicU64,
    /// Of the task that reads: a connection with nothing to write must notice, too.
    waker: AtomicWaker,
}

impl Line {
    /// The connection breaks after so many further bytes of answers.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.left.fetch_min(bytes, Relaxed);
        self.waker.wake();
    }

    fn left(&self) -> io::Result<u64> {
        match self.left.load(Relaxed) {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            left => Ok(left),
        }
    }
}

/// A connection that can be cut.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    line: Arc<Line>,
}

impl Connected for Socket {
    type ConnectInfo = Arc<Line>;

    fn connect_info(&self) -> Arc<Line> {
        self.line.clone()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.line.waker.register(cx.waker());
        self.line.left()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.line.left()?;
        let some = &buf[..buf.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        let written = Pin::new(&mut self.stream).poll_write(cx, some);
        if let Poll::Ready(Ok(written)) = written
            && left != WHOLE
        {
            // A handler may have lowered it meanwhile: never raise it.
            self.line.cut_after(left - written as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

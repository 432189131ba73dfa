//! Who gets into the control port?
//!
//! With an identity: TLS 1.3 with a certificate on either side, so that the port may be reached from
//! elsewhere. Nodes, operators and other gateways of the federation come in, apps do not. A connection
//! lives as long as the certificate that opened it: the moment that is revoked or expires, the connection
//! ends, whatever goes on in it. Without an identity the port is on loopback and takes everybody.

use super::{Peer, Subject, Trust, complaints::Complaints};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use suiyue_proto::identity::tls;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

/// A handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at a time; a storm of nodes waits in the listener's queue.
const HANDSHAKES: usize = 256;
/// Connections that the server has not taken yet.
const QUEUE: usize = 64;
/// Out of file descriptors: wait for some to be given back.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection to the control port.
pub struct Secured {
    stream: Stream,
    peer: Option<Peer>,
    /// Resolves when the certificate does not hold any more.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Puts the peer into the extensions of every request.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Who is on the other side; `None`: a port without TLS.
    pub peer: Option<Peer>,
}

impl Connected for Secured {
    type ConnectInfo = Arrival;

    fn connect_info(&self) -> Arrival {
        Arrival { peer: self.peer.clone() }
    }
}

/// Accepts connections until the receiver is dropped.
///
/// The task ends with the receiver; handshakes that are under way are dropped with it.
pub fn accept(listener: TcpListener, trust: Option<Trust>) -> mpsc::Receiver<io::Result<Secured>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            () = closed.closed() => {}
            () = deal(listener, trust, sender) => {}
        }
    });
    receiver
}

async fn deal(listener: TcpListener, trust: Option<Trust>, sender: mpsc::Sender<io::Result<Secured>>) {
    let door = trust.map(|trust| {
        let expected = trust.only(|who| !matches!(who, Subject::App(_)));
        let config = tls::server(trust.own(), Arc::new(trust.clone()), expected);
        (trust, TlsAcceptor::from(config))
    });
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    let complaints = Arc::<Complaints>::default();
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "the control port cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (door, sender, complaints) = (door.clone(), sender.clone(), complaints.clone());
        tasks.spawn(async move {
            let secured = timeout(HANDSHAKE, secure(socket, door)).await;
            drop(place);
            match secured {
                Ok(Ok(secured)) => drop(sender.send(Ok(secured)).await),
                Ok(Err(error)) if complaints.is_due(&error.to_string(), Instant::now()) => {
                    tracing::warn!(%error, "a connection to the control port was refused");
                }
                Ok(Err(_)) => {}
                Err(_) => tracing::debug!("a handshake with the control port took too long"),
            }
        });
    }
}

async fn secure(socket: TcpStream, door: Option<(Trust, TlsAcceptor)>) -> io::Result<Secured> {
    socket.set_nodelay(true)?;
    let Some((trust, acceptor)) = door else {
        let end = Box::pin(std::future::pending());
        return Ok(Secured { stream: Stream::Plain(socket), peer: None, end, ended: false });
    };
    let stream = acceptor.accept(socket).await?;
    let (_, session) = stream.get_ref();
    let leaf = tls::peer(session.peer_certificates(), session.alpn_protocol());
    let leaf = leaf.map_err(|refused| io::Error::new(io::ErrorKind::InvalidData, refused))?;
    let peer = Peer::from(leaf);
    let bound = peer.clone();
    let end = Box::pin(async move { trust.ends(bound.leaf()).await });
    Ok(Secured { stream: Stream::Tls(Box::new(stream)), peer: Some(peer), end, ended: false })
}

impl AsyncRead for Secured {
    /// The end of the certificate is the end of the stream.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ended && self.end.as_mut().poll(cx).is_ready() {
            self.ended = true;
        }
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Tls(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Stream::Tls(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

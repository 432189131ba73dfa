//! Who gets into the control port?
//!
//! With an identity: TLS 1.3 with a certificate on either side, so that the port may be reached from
//! elsewhere. Nodes, operators and other gateways of the federation come in, apps do not. A connection
//! lives as long as the certificate that opened it: the moment that is revoked or expires, or nobody vouches
//! for it any more, the connection ends, whatever goes on in it. No source takes more than its share of the
//! handshakes (`sources`). Without an identity the port is on loopback and takes everybody.

mod sources;

use super::{Peer, Subject, Trust, complaints::Complaints};
use sources::{Place, Share, Sources};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use suiyue_proto::identity::{Usage, tls};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, SemaphorePermit, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

/// A handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections at the door. One source has a quarter of each.
const BOUNDS: Bounds = Bounds { handshakes: 256, crowd: 2048, share: Share { handshakes: 64, crowd: 512 } };
/// Connections that the server has not taken yet.
const QUEUE: usize = 64;
/// Out of file descriptors: wait for some to be given back.
const PAUSE: Duration = Duration::from_millis(50);

/// How many connections may be at the door.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Handshakes at a time.
    handshakes: usize,
    /// Connections that have not shaken hands yet; more of them wait in the listener's queue.
    crowd: usize,
    /// What each source may have of both.
    share: Share,
}

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
    accept_within(listener, trust, BOUNDS)
}

fn accept_within(
    listener: TcpListener,
    trust: Option<Trust>,
    bounds: Bounds,
) -> mpsc::Receiver<io::Result<Secured>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            () = closed.closed() => {}
            () = deal(listener, trust, bounds, sender) => {}
        }
    });
    receiver
}

async fn deal(
    listener: TcpListener,
    trust: Option<Trust>,
    bounds: Bounds,
    sender: mpsc::Sender<io::Result<Secured>>,
) {
    let door = trust.map(|trust| {
        let expected = trust.only(|who| !matches!(who, Subject::App(_)));
        let config = tls::server(trust.own(), Arc::new(trust.clone()), expected);
        (trust, TlsAcceptor::from(config))
    });
    let (crowd, sources) = (Arc::new(Semaphore::new(bounds.crowd)), Sources::new(bounds.share));
    let handshakes = Arc::new(Semaphore::new(bounds.handshakes));
    let complaints = Arc::<Complaints>::default();
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let counted = crowd.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (socket, source) = match listener.accept().await {
            Ok((socket, from)) => (socket, from.ip()),
            Err(error) => {
                tracing::warn!(%error, "the control port cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = sources.enter(source) else {
            if complaints.is_due(&format!("crowd {source}"), Instant::now()) {
                tracing::warn!(%source, "connections to the control port are closed: this source has too many that have not shaken hands");
            }
            continue;
        };
        let (door, sender, complaints) = (door.clone(), sender.clone(), complaints.clone());
        let handshakes = handshakes.clone();
        tasks.spawn(async move {
            let secured = match timeout(HANDSHAKE, turn(&place, &handshakes)).await {
                Ok(_turn) => timeout(HANDSHAKE, secure(socket, door)).await,
                Err(waited) => Err(waited),
            };
            drop((place, counted));
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

/// A turn of the source, and one of all.
async fn turn<'a>(place: &'a Place, all: &'a Semaphore) -> (SemaphorePermit<'a>, SemaphorePermit<'a>) {
    let of_source = place.turn().await;
    (of_source, all.acquire().await.expect("the semaphore is never closed"))
}

async fn secure(socket: TcpStream, door: Option<(Trust, TlsAcceptor)>) -> io::Result<Secured> {
    socket.set_nodelay(true)?;
    let Some((trust, acceptor)) = door else {
        let end = Box::pin(std::future::pending());
        return Ok(Secured { stream: Stream::Plain(socket), peer: None, end, ended: false });
    };
    let stream = acceptor.accept(socket).await?;
    let (_, session) = stream.get_ref();
    let chain = tls::peer(session.peer_certificates(), session.alpn_protocol(), Usage::Client);
    let chain = chain.map_err(|refused| io::Error::new(io::ErrorKind::InvalidData, refused))?;
    let peer = Peer::from(chain);
    let bound = peer.clone();
    let end = Box::pin(async move { trust.ends(bound.chain()).await });
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

#[cfg(test)]
mod tests;

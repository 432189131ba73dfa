//! Which connections do we accept, and how long do they live?
//!
//! One acceptor deals sockets to the worker with the fewest connections. (With `SO_REUSEPORT` a client
//! that opens one connection pins one core, and closing a listener resets its queue.) A worker serves a
//! connection from preface to GOAWAY: handshakes are bounded in time, a silent peer is asked and then
//! dropped, old connections are retired so that load spreads again.

use crate::{
    apps,
    http2::{self, PingPong, Reason, server::Connection},
    io::Io,
    proxy,
    telemetry::Metrics,
    worker::Worker,
};
use futures_util::future::poll_fn;
use std::{
    io,
    net::TcpStream as StdStream,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// TLS handshake and HTTP/2 preface together.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A connection is retired at this age, ± 10 %.
const AGE: Duration = Duration::from_secs(600);
/// Calls on a retired connection may go on for this long.
const GRACE: Duration = Duration::from_secs(15);
/// Calls may go on for this long when the gateway drains.
const DRAIN_GRACE: Duration = Duration::from_secs(10);
/// Answers are held back for this long before GOAWAY is said, and after it. A client that cannot try again
/// (grpcio with retries switched off) fails calls that it begins while GOAWAY is on its way: so it is said
/// while callers wait for answers, and they get them when their client knows.
const CALM: Duration = Duration::from_millis(10);
/// Calls that were on their way when GOAWAY was said are still taken for this long.
const SETTLE: Duration = Duration::from_secs(1);
/// Streams that are still there then are ended with a status, for which they have this time.
const CUT: Duration = Duration::from_secs(1);
/// A connection is asked for a sign of life this often, and has [`LOOK`] to give it.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Callers that read nothing of what they asked for are looked for this often.
const LOOK: Duration = Duration::from_secs(5);
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
const HEADER_LIST: u32 = 8 << 10;

/// Deals the listener's sockets to the workers until `shutdown`; what is queued then is still dealt.
pub async fn accept(
    listener: TcpListener,
    workers: Vec<mpsc::Sender<StdStream>>,
    metrics: Arc<Metrics>,
    max_connections: usize,
    shutdown: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((socket, _)) => deal(socket, &workers, &metrics, max_connections),
            Err(error) => {
                // Out of file descriptors, most likely: serve those that are there.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn deal(socket: TcpStream, workers: &[mpsc::Sender<StdStream>], metrics: &Metrics, max_connections: usize) {
    let counts: Vec<usize> = metrics.connections.iter().map(|n| n.load(Relaxed)).collect();
    // A worker that has failed takes nothing any more.
    let alive = counts.iter().enumerate().filter(|(at, _)| !workers[*at].is_closed());
    let least = alive.min_by_key(|(_, n)| **n).map(|(at, _)| at);
    let Some(worker) = least.filter(|_| counts.iter().sum::<usize>() < max_connections) else {
        metrics.refused_connections.fetch_add(1, Relaxed);
        return;
    };
    let Ok(socket) = socket.into_std() else { return };
    metrics.connections[worker].fetch_add(1, Relaxed);
    if workers[worker].try_send(socket).is_err() {
        metrics.connections[worker].fetch_sub(1, Relaxed);
        metrics.refused_connections.fetch_add(1, Relaxed);
    }
}

/// Serves one connection to its end.
pub async fn serve(worker: Rc<Worker>, socket: StdStream) {
    let Ok(Ok((connection, certificate))) = timeout(HANDSHAKE, handshake(&worker, socket)).await else {
        worker.metrics.refused_connections.fetch_add(1, Relaxed);
        return;
    };
    drive(worker, connection, certificate).await;
}

/// What a connection's client certificate proves, if there is one that names an app.
type Certificate = Option<Rc<str>>;

async fn handshake(worker: &Worker, socket: StdStream) -> io::Result<(Connection<Io>, Certificate)> {
    let socket = TcpStream::from_std(socket)?;
    socket.set_nodelay(true)?;
    let mut certificate = None;
    let io = match &worker.tls {
        None => Io::Plain(socket),
        Some(tls) => {
            let socket = tls.accept(socket).await?;
            // Without a word about the protocol it would be HTTP/1 (RFC 9113, section 3.2).
            if socket.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let presented = socket.get_ref().1.peer_certificates().unwrap_or_default();
            certificate = apps::certificate::name(presented).map(Rc::from);
            Io::Tls(Box::new(socket))
        }
    };
    let config = http2::Config {
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        streams: worker.limits.streams,
        header_list: HEADER_LIST,
    };
    Ok((http2::server::handshake(io, config).await?, certificate))
}

/// Where a connection stands in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// New calls are taken.
    Serving,
    /// Answers are held back, so that callers who wait for one before the next call are all waiting.
    Calming,
    /// GOAWAY was said; answers follow, and find callers who know.
    Told,
    /// Calls that were on their way still come.
    Settling,
    /// No more calls are taken; those in flight finish.
    Leaving,
    /// Streams are being ended with a status that says: resume elsewhere.
    Cut,
}

impl Phase {
    /// The next phase and its length; `None`: the end. Calls in flight have `grace` in sum.
    fn advance(
        self,
        connection: &mut Connection<Io>,
        cut: &CancellationToken,
        grace: Duration,
    ) -> Option<(Self, Duration)> {
        match self {
            Self::Serving => connection.hold(),
            Self::Calming => connection.graceful_shutdown(),
            Self::Told => connection.unhold(),
            Self::Settling => connection.last_call(),
            Self::Leaving => cut.cancel(),
            Self::Cut => return None,
        }
        Some(match self {
            Self::Serving => (Self::Calming, CALM),
            Self::Calming => (Self::Told, CALM),
            Self::Told => (Self::Settling, SETTLE),
            Self::Settling => (Self::Leaving, grace.saturating_sub(SETTLE)),
            Self::Leaving | Self::Cut => (Self::Cut, CUT),
        })
    }
}

/// Accepts streams until the peer leaves, the connection is old, or the gateway drains.
async fn drive(worker: Rc<Worker>, mut connection: Connection<Io>, certificate: Certificate) {
    let age = AGE.mul_f64(0.9 + 0.2 * (worker.random() as f64 / u64::MAX as f64));
    let alive = keep_alive(connection.ping_pong());
    let drain = worker.drain.clone();
    let drained = drain.cancelled();
    let next = sleep_until(Instant::now() + age);
    tokio::pin!(alive, drained, next);
    let cut = Rc::new(CancellationToken::new());
    let (mut phase, mut grace) = (Phase::Serving, GRACE);
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok(accepted)) => {
                    let call = proxy::serve(worker.clone(), cut.clone(), certificate.clone(), accepted);
                    // Boxed: the runtime moves a task's future three times in its life.
                    tokio::task::spawn_local(Box::pin(call));
                    continue;
                }
                Some(Err(_)) | None => return,
            },
            () = &mut drained, if phase == Phase::Serving => grace = DRAIN_GRACE,
            () = &mut next => {}
            () = &mut alive => return,
        }
        let Some((after, length)) = phase.advance(&mut connection, &cut, grace) else { break };
        phase = after;
        next.as_mut().reset(Instant::now() + length);
    }
    connection.abrupt_shutdown(Reason::NO_ERROR);
    let _ = timeout(CUT, poll_fn(|cx| connection.poll_closed(cx))).await;
}

/// Ends when the peer neither answers a ping nor says anything else, or reads nothing of what it asked for.
async fn keep_alive(mut pinger: PingPong) {
    loop {
        for _ in 0..KEEPALIVE.as_secs() / LOOK.as_secs() {
            tokio::time::sleep(LOOK).await;
            if !pinger.moves() {
                return;
            }
        }
        let before = pinger.reads();
        match timeout(LOOK, pinger.ping()).await {
            Ok(Ok(())) => {}
            // The answer may stand behind much else in a slow line.
            Err(_) if pinger.reads() != before => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncWriteExt as _, DuplexStream, duplex},
        task::{LocalSet, spawn_local},
    };

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    /// Windows of streams are empty.
    const SETTINGS: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    /// `POST /` without a body; the fourth last byte of the first nine is the stream's.
    const REQUEST: [u8; 12] = [0, 0, 3, 1, 5, 0, 0, 0, 0, 0x83, 0x86, 0x84];
    /// A kind that nobody knows.
    const UNKNOWN: &[u8] = &[0, 0, 0, 0xbe, 0, 0, 0, 0, 0];

    async fn open() -> (DuplexStream, Connection<DuplexStream>) {
        let (mut peer, ours) = duplex(1 << 20);
        peer.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
        let config = http2::Config {
            stream_window: 65_535,
            connection_window: 65_535,
            streams: 100,
            header_list: 8192,
        };
        (peer, http2::server::handshake(ours, config).await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_anything_is_alive() {
        let test = async {
            let (mut peer, mut connection) = open().await;
            let alive = keep_alive(connection.ping_pong());
            spawn_local(async move { while let Some(Ok(_)) = connection.accept().await {} });
            let begin = Instant::now();
            spawn_local(async move {
                // No ping is answered.
                for _ in 0..20 {
                    peer.write_all(UNKNOWN).await.unwrap();
                    tokio::time::sleep(Duration::from_secs(3)).await;
                }
                std::future::pending::<()>().await;
            });
            alive.await;
            let lived = begin.elapsed();
            assert!(lived >= Duration::from_secs(60) && lived < Duration::from_secs(80), "{lived:?}");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_opens_no_window_holds_little_and_not_for_long() {
        let test = async {
            let (mut peer, mut connection) = open().await;
            for n in 0..50 {
                let mut request = REQUEST;
                request[8] = 2 * n + 1;
                peer.write_all(&request).await.unwrap();
            }
            let alive = keep_alive(connection.ping_pong());
            let mut answers = Vec::new();
            while answers.len() < 50 {
                let (_, _, mut respond) = connection.accept().await.unwrap().unwrap();
                let head = http2::server::ResponseHead {
                    status: http::StatusCode::OK,
                    headers: &http2::Fields::new(),
                    extra: &[],
                };
                respond.send_whole(head, vec![0; 60_000].into(), None).unwrap();
                answers.push(respond);
            }
            spawn_local(async move { while let Some(Ok(_)) = connection.accept().await {} });
            let begin = Instant::now();
            alive.await;
            assert_eq!(begin.elapsed().as_secs(), 10, "at the second look");
            let mut kept = 0;
            for mut respond in answers {
                let reset = poll_fn(|cx| respond.poll_reset(cx));
                kept += u32::from(futures_util::FutureExt::now_or_never(reset).is_none());
            }
            assert_eq!(kept, (1 << 20) / 60_000, "a MiB");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn a_worker_that_has_failed_is_dealt_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let metrics = Metrics::new(2);
        let (failed, _) = mpsc::channel(1);
        let (alive, mut dealt) = mpsc::channel(1);
        metrics.connections[1].store(7, Relaxed);
        deal(socket, &[failed, alive], &metrics, 100);
        assert!(dealt.try_recv().is_ok());
        assert_eq!(metrics.refused_connections.load(Relaxed), 0);
    }
}

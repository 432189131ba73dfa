//! Which connections do we accept, and how long do they live?
//!
//! One acceptor deals sockets to the worker with the fewest connections. (With `SO_REUSEPORT` a client
//! that opens one connection pins one core, and closing a listener resets its queue.) A worker serves a
//! connection from preface to GOAWAY: handshakes are bounded in time, a silent peer is asked and then
//! dropped, old connections are retired so that load spreads again.

use crate::{
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
    let Ok(Ok(connection)) = timeout(HANDSHAKE, handshake(&worker, socket)).await else {
        worker.metrics.refused_connections.fetch_add(1, Relaxed);
        return;
    };
    drive(worker, connection).await;
}

async fn handshake(worker: &Worker, socket: StdStream) -> io::Result<Connection<Io>> {
    let socket = TcpStream::from_std(socket)?;
    socket.set_nodelay(true)?;
    let io = match &worker.tls {
        None => Io::Plain(socket),
        Some(tls) => Io::Tls(Box::new(tls.accept(socket).await?)),
    };
    let config = http2::Config {
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        streams: worker.limits.streams,
        header_list: HEADER_LIST,
    };
    http2::server::handshake(io, config).await
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
async fn drive(worker: Rc<Worker>, mut connection: Connection<Io>) {
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
                    let call = proxy::serve(worker.clone(), cut.clone(), accepted);
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

/// Ends when the peer does not answer a ping, or reads nothing of what it asked for.
async fn keep_alive(mut pinger: PingPong) {
    loop {
        for _ in 0..KEEPALIVE.as_secs() / LOOK.as_secs() {
            tokio::time::sleep(LOOK).await;
            if !pinger.moves() {
                return;
            }
        }
        if !matches!(timeout(LOOK, pinger.ping()).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! Which connections does the node accept, what are they bounded by, and how do they end?
//!
//! With an identity ([`crate::identity`]) only gateways get in, over TLS.
//! The accept loop is our own, over hyper: tonic's server sets no limits. A node is called by a few
//! gateways over few connections, so each may carry many streams.
//!
//! The end comes in two steps that the composition root orders: after `goaway` nothing is accepted,
//! every connection gets GOAWAY and finishes the calls it has; after `abort`, or when all have
//! finished, it is over.

use crate::identity::Door;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::time::Duration;
use suiyue_proto::identity::Leaf;
use suiyue_proto::identity::files::now;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

// Few gateways call, each over few connections.
const STREAMS: u32 = 1024;
const HEADER_LIST: u32 = 16 << 10;
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const SEND_BUFFER: usize = 64 << 10;
const LOCAL_RESETS: usize = 100;
const PENDING_RESETS: usize = 1024;
const CONNECTIONS: usize = 4096;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_WITHIN: Duration = Duration::from_secs(5);
// A preface that came in pieces is looked at again after this long.
const PREFACE_PAUSE: Duration = Duration::from_millis(20);
// Out of file descriptors: wait for some to be given back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// When connections end.
#[derive(Debug, Clone, Default)]
pub struct End {
    /// Nothing is accepted any more; connections finish their calls.
    pub goaway: CancellationToken,
    /// What has not finished is dropped.
    pub abort: CancellationToken,
}

/// Serves in the clear until every connection has ended after [`End`].
pub async fn serve(listener: TcpListener, routes: Routes, end: End) {
    serve_behind(None, listener, routes, end).await;
}

/// Serves behind a door, where there is one, until every connection has ended after [`End`].
pub async fn serve_behind(door: Option<Door>, listener: TcpListener, routes: Routes, end: End) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = end.goaway.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((_, _)) if connections.len() >= CONNECTIONS => {
                tracing::warn!(limit = CONNECTIONS, "a connection was refused: too many are open");
            }
            Ok((stream, _)) => {
                connections.spawn(connection(stream, door.clone(), routes.clone(), end.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, door: Option<Door>, routes: Routes, end: End) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection ended before it began");
        return;
    }
    let Some(door) = door else {
        tokio::select! {
            () = end.goaway.cancelled() => return,
            spoken = speaks_http2(&stream) => if !spoken { return },
        }
        return answer(stream, routes, end).await;
    };
    let admitted = tokio::select! {
        () = end.goaway.cancelled() => return,
        admitted = timeout(PREFACE_WITHIN, door.admit(stream)) => admitted,
    };
    match admitted {
        Ok(Ok((stream, leaf))) => {
            tokio::select! {
                () = answer(stream, routes, end) => {}
                // A gateway replaces its connections before its certificate ends.
                () = over(&leaf) => tracing::info!(id = %leaf.id, "a gateway's certificate has expired: its connection is closed"),
            }
        }
        Ok(Err(error)) => tracing::debug!(%error, "a caller was not let in"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}

/// Lasts until the certificate has expired.
async fn over(leaf: &Leaf) {
    while let Ok(left @ 1..) = u64::try_from(leaf.not_after_unix_s - now()) {
        tokio::time::sleep(Duration::from_secs(left.min(3600))).await;
    }
}

/// Serves a connection to its end.
async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, routes: Routes, end: End) {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let service = TowerToHyperService::new(routes);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = end.goaway.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = &mut serving => ended,
                () = end.abort.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        // A peer that hangs up in its own way is no event of ours.
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// Waits for the preface, and leaves it for the connection to read. hyper itself waits for it
/// without limit, so a silent peer would keep its place for ever.
async fn speaks_http2(stream: &TcpStream) -> bool {
    let whole = async {
        let mut seen = [0; PREFACE.len()];
        loop {
            match stream.peek(&mut seen).await {
                Ok(0) | Err(_) => return false,
                Ok(n) if seen[..n] != PREFACE[..n] => return false,
                Ok(n) if n == PREFACE.len() => return true,
                Ok(_) => tokio::time::sleep(PREFACE_PAUSE).await,
            }
        }
    };
    timeout(PREFACE_WITHIN, whole).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn server() -> (SocketAddr, End, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, end) = (listener.local_addr().unwrap(), End::default());
        let task = tokio::spawn(serve(listener, Routes::default(), end.clone()));
        (address, end, task)
    }

    #[tokio::test]
    async fn what_is_not_http2_is_closed_without_a_word() {
        let (address, end, task) = server().await;
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.1\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(garbage).await.unwrap();
            // Closing with unread bytes may reset; either way nothing is said.
            assert_eq!(stream.read(&mut [0; 64]).await.unwrap_or(0), 0);
        }
        end.goaway.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_preface_in_pieces_is_answered_and_a_silent_peer_does_not_delay_the_end() {
        let (address, end, task) = server().await;
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.set_nodelay(true).unwrap();
        slow.write_all(&PREFACE[..10]).await.unwrap();
        tokio::task::yield_now().await;
        slow.write_all(&PREFACE[10..]).await.unwrap();
        // An empty SETTINGS frame.
        slow.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut header = [0; 9];
        slow.read_exact(&mut header).await.unwrap();
        assert_eq!(header[3], 4, "the server's SETTINGS come first");
        end.goaway.cancel();
        end.abort.cancel();
        task.await.unwrap();
    }
}

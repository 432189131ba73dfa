//! Which connections does the node accept, what are they bounded by, and how do they end?
//!
//! The accept loop is our own, over hyper: tonic's server sets no limits. A node is called by a few
//! gateways over few connections, so each may carry many streams.
//!
//! The end comes in two steps that the composition root orders: after `goaway` nothing is accepted,
//! every connection gets GOAWAY and finishes the calls it has; after `abort`, or when all have
//! finished, it is over.

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
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
const PENDING_RESETS: usize = 20;
const CONNECTIONS: usize = 4096;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
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

/// Serves until every connection has ended after [`End`].
pub async fn serve(listener: TcpListener, routes: Routes, end: End) {
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
                connections.spawn(connection(stream, routes.clone(), end.clone()));
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

async fn connection(stream: TcpStream, routes: Routes, end: End) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection ended before it began");
        return;
    }
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

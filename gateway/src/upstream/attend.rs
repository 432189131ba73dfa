//! How does a connection begin, what does it rest on, and what does its end mean?

use super::watchdog::{self, Pinger, Pulse, Watched};
use super::{CONNECTION_WINDOW, FIRST_STREAMS, HEADER_LIST, Line, Pool, STREAM_WINDOW};
use crate::{
    health::Doubt,
    http2::{self, client::Connection},
    identity::{Leaf, dial::Dialer},
    io::Io,
};
use std::{
    cell::Cell,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};
use suiyue_proto::identity::files::{Shown, now};
use tokio::{net::TcpStream, sync::watch};

/// A connection is replaced so long before a certificate ends.
const AHEAD: Duration = Duration::from_secs(60);
/// How often a connection that was given up is looked at, until its last call has ended.
const LEFT: Duration = Duration::from_millis(250);

/// Opens another connection of a pool.
pub(super) async fn connect(pool: &Rc<Pool>) -> std::io::Result<()> {
    let socket = TcpStream::connect(&*pool.vitals.endpoint.address).await?;
    socket.set_nodelay(true)?;
    let (socket, terms) = match &pool.vitals.dialer {
        None => (Io::Plain(socket), None),
        Some(dialer) => {
            // What we show from now on is news to the connections that are open.
            let shown = dialer.trust().own().watch();
            let (socket, leaf) = dialer.secure(socket).await?;
            (Io::ToNode(Box::new(socket)), Some(Terms { dialer: dialer.clone(), leaf, shown }))
        }
    };
    let config = http2::Config {
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        streams: FIRST_STREAMS as u32,
        header_list: HEADER_LIST,
    };
    let pulse = Rc::<Pulse>::default();
    let socket = Watched::new(socket, pulse.clone());
    let (sender, connection) = http2::client::handshake(socket, config);
    let line = Rc::new(Line {
        limit: Cell::new(FIRST_STREAMS),
        sender,
        in_flight: Cell::new(0),
        retired: Cell::new(false),
        outdated: Cell::new(false),
        pulse: pulse.clone(),
        room: pool.opened.clone(),
    });
    pool.lines.borrow_mut().push(line.clone());
    // Weak: the connection closes once the pool and the last call on it are gone.
    let (pool, line) = (Rc::downgrade(pool), Rc::downgrade(&line));
    tokio::task::spawn_local(attend(pool, line, connection, pulse, terms));
    Ok(())
}

/// What a connection over TLS rests on.
struct Terms {
    dialer: Dialer,
    /// The node's certificate.
    leaf: Leaf,
    /// Ours.
    shown: watch::Receiver<Arc<Shown>>,
}

impl Terms {
    /// Marks the line when another one should take its place; lasts until this one must end.
    async fn hold(mut self, pool: &Weak<Pool>, line: &Weak<Line>) {
        let ours = self.shown.borrow().leaf.not_after_unix_s;
        let end = ours.min(self.leaf.not_after_unix_s);
        let early = Duration::from_secs(u64::try_from(end - now()).unwrap_or(0)).saturating_sub(AHEAD);
        let outdated = async {
            tokio::select! {
                changed = self.shown.changed() => if changed.is_err() { std::future::pending().await },
                // One that was opened so late cannot be had with more time left.
                () = tokio::time::sleep(early), if !early.is_zero() => {}
                () = std::future::pending() => {}
            }
            if let (Some(pool), Some(line)) = (pool.upgrade(), line.upgrade()) {
                line.outdated.set(true);
                pool.wanted.notify_one();
            }
            std::future::pending().await
        };
        tokio::select! {
            () = outdated => {}
            () = self.dialer.trust().ends(&self.leaf) => {}
        }
    }
}

/// Runs a connection to its end, and says what the end means.
async fn attend(
    pool: Weak<Pool>,
    line: Weak<Line>,
    connection: Connection<Watched<Io>>,
    pulse: Rc<Pulse>,
    terms: Option<Terms>,
) {
    let pinger = Pinger::new(connection.ping_pong());
    let watched = async {
        watchdog::stalls(pulse, pinger).await;
        abandon(&pool, &line);
        // Calls that must not be sent again wait here for the node to wake up.
        while line.strong_count() > 0 {
            tokio::time::sleep(LEFT).await;
        }
    };
    let held = async {
        match terms {
            Some(terms) => terms.hold(&pool, &line).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = connection => Some(ended),
        () = watched => None,
        // Its certificate was revoked or has ended: calls on it are lost.
        () = held => None,
    };
    // A peer that says GOAWAY without an error, or is not needed any more, is no loss.
    let quiet = matches!(ended, Some(Ok(())) | None);
    if let Some(line) = line.upgrade() {
        line.retired.set(true);
    }
    let Some(pool) = pool.upgrade() else { return };
    pool.lines.borrow_mut().retain(|line| !line.retired.get());
    if !quiet {
        pool.failed(Doubt::ConnectionLost);
    }
    pool.wanted.notify_one();
}

/// Nobody answers on a connection: no new calls, and those in flight that may move do so now.
fn abandon(pool: &Weak<Pool>, line: &Weak<Line>) {
    let (Some(pool), Some(line)) = (pool.upgrade(), line.upgrade()) else { return };
    line.retired.set(true);
    pool.lines.borrow_mut().retain(|line| !line.retired.get());
    // The endpoint first: whoever moves must not come back to it.
    pool.failed(Doubt::Stalled);
    pool.place.wheel.expire(line.group());
    pool.wanted.notify_one();
}

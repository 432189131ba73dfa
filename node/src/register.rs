//! How does a node stay in the federation?
//!
//! It keeps one stream to the registrar of one gateway. When the stream breaks, the next gateway is
//! tried; the registry keeps the entry for the length of its lease, so a change of gateway is seen
//! by nobody.
//!
//! ```text
//! connect -> hello -> welcome -> report, heartbeat ... -> goodbye -> farewell
//!    ^                    |
//!    +---- lost: next gateway, back-off 100 ms to 5 s with full jitter
//! ```
//! It serves any node, of our services or of others: what is registered comes in as values.

use crate::identity;
use rand::Rng as _;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;
use suiyue_proto::identity::Identity;
use suiyue_proto::identity::files::Shown;
use suiyue_proto::reason::Reason;
use suiyue_proto::v1;
use suiyue_proto::v1::register_request::Message as Say;
use suiyue_proto::v1::register_response::Message as Heard;
use suiyue_proto::v1::registry_service_client::RegistryServiceClient;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

const CONNECT: Duration = Duration::from_secs(2);
const WELCOME: Duration = Duration::from_secs(5);
const FAREWELL: Duration = Duration::from_secs(2);
const SEND: Duration = Duration::from_secs(2);
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(3);
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);

/// Who registers, and where.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Control addresses of gateways, `host:port` or a URL. The first is tried first.
    pub gateways: Vec<String>,
    /// Join token of the region; empty: the certificate is enough.
    pub token: String,
    /// The node's certificate; `None`: the token says that it may join.
    pub identity: Option<Identity>,
    /// What the node declares.
    pub manifest: v1::Manifest,
    /// Name of this endpoint within the node.
    pub endpoint: String,
    /// Where gateways reach it, `host:port`.
    pub address: String,
    /// Drawn at random at every start.
    pub incarnation: u64,
}

/// Where the registration stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// Not registered (yet, or any more).
    #[default]
    Away,
    /// Registered with this gateway.
    Joined {
        /// The gateway's id.
        gateway: String,
    },
    /// The goodbye was confirmed.
    Gone,
}

/// The node's side: what it feeds in and what it learns.
#[derive(Debug)]
pub struct Handle {
    /// Readiness; every change is reported.
    pub report: watch::Sender<v1::Report>,
    /// Own verifying keys; a change registers anew.
    pub keys: watch::Sender<Vec<v1::VerifyingKey>>,
    /// Keys of the federation, as last received.
    pub federation: watch::Receiver<v1::FederationKeys>,
    /// Where the registration stands.
    pub state: watch::Receiver<State>,
}

/// The registration's side of a [`Handle`].
#[derive(Debug)]
pub struct Feeds {
    report: watch::Receiver<v1::Report>,
    keys: watch::Receiver<Vec<v1::VerifyingKey>>,
    federation: watch::Sender<v1::FederationKeys>,
    state: watch::Sender<State>,
}

/// Two ends of the channels between a node and its registration.
#[must_use]
pub fn channels(report: v1::Report, keys: Vec<v1::VerifyingKey>) -> (Handle, Feeds) {
    let (report, report_feed) = watch::channel(report);
    let (keys, keys_feed) = watch::channel(keys);
    let (federation_feed, federation) = watch::channel(v1::FederationKeys::default());
    let (state_feed, state) = watch::channel(State::default());
    let feeds =
        Feeds { report: report_feed, keys: keys_feed, federation: federation_feed, state: state_feed };
    (Handle { report, keys, federation, state }, feeds)
}

/// How a session ended.
enum End {
    /// The goodbye is said.
    Gone,
    /// The node has other keys: say hello again.
    KeysChanged,
    /// The stream broke.
    Lost(Status),
}

/// Registers until `shutdown`, then says goodbye and waits for the farewell, 2 s at most.
/// Never gives up in between. Dropping it breaks the stream without a goodbye: the entry stays for
/// the length of its lease.
pub async fn run(registration: Registration, mut feeds: Feeds, shutdown: CancellationToken) {
    let mut back_off = BACK_OFF_MIN;
    let mut complaints = Complaints::default();
    for gateway in registration.gateways.iter().cycle() {
        let end = loop {
            let state = feeds.state.subscribe();
            let end = tokio::select! {
                end = session(&registration, gateway, &mut feeds, &shutdown) => end,
                () = gone_before_joining(state, &shutdown) => return,
            };
            if !matches!(end, End::KeysChanged) {
                break end;
            }
        };
        let joined = matches!(*feeds.state.borrow(), State::Joined { .. });
        let End::Lost(status) = end else {
            feeds.state.send_replace(State::Gone);
            return;
        };
        feeds.state.send_replace(State::Away);
        let reason = Reason::of(&status).map_or("", Reason::as_str);
        if complaints.is_due(gateway, &status, Instant::now()) {
            tracing::warn!(gateway, code = ?status.code(), reason, why = status.message(), "not registered");
        }
        if joined {
            back_off = BACK_OFF_MIN;
        }
        let pause = rand::rng().random_range(Duration::ZERO..=back_off);
        back_off = (back_off * 2).min(BACK_OFF_MAX);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// What was complained of: a cause that stays is worth a line a minute, not one a try.
#[derive(Default)]
struct Complaints(HashMap<(String, i32, String), Instant>);

impl Complaints {
    fn is_due(&mut self, gateway: &str, status: &Status, now: Instant) -> bool {
        let cause = (gateway.to_owned(), status.code() as i32, status.message().to_owned());
        self.0.retain(|_, said| now.saturating_duration_since(*said) < COMPLAINT_EVERY);
        match self.0.entry(cause) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(now);
                true
            }
        }
    }
}

/// A node that never got as far as a welcome has nothing to take back, so it does not wait for a
/// gateway that may be gone. Once joined, the session itself says goodbye.
async fn gone_before_joining(mut state: watch::Receiver<State>, shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    // A hello that is under way gets the time a goodbye would have.
    let joined = state.wait_for(|state| matches!(state, State::Joined { .. }));
    if matches!(timeout(FAREWELL, joined).await, Ok(Ok(_))) {
        std::future::pending().await
    }
}

/// One stream, from hello to its end.
async fn session(
    registration: &Registration,
    gateway: &str,
    feeds: &mut Feeds,
    shutdown: &CancellationToken,
) -> End {
    let keys = feeds.keys.borrow_and_update().clone();
    let hello = v1::Hello {
        manifest: Some(registration.manifest.clone()),
        endpoint: registration.endpoint.clone(),
        address: registration.address.clone(),
        incarnation: registration.incarnation,
        keys,
        report: Some(feeds.report.borrow_and_update().clone()),
        ..v1::Hello::default()
    };
    // Signed anew with every hello: the certificate may be another one by now.
    let mut shown = registration.identity.as_ref().map(Identity::watch);
    let hello = match &mut shown {
        None => hello,
        Some(shown) => match identity::sign(&shown.borrow_and_update(), hello) {
            Ok(hello) => hello,
            Err(refused) => return End::Lost(Status::internal(refused.to_string())),
        },
    };
    let opened = timeout(WELCOME, open(gateway, registration, hello)).await;
    let opened = opened.unwrap_or_else(|_| Err(Status::unavailable("the gateway did not answer in time")));
    match opened {
        Ok((say, hear)) => {
            tokio::select! {
                end = talk(&say, hear, feeds, shutdown) => end,
                () = renewed(&mut shown) => End::KeysChanged,
            }
        }
        Err(status) => End::Lost(status),
    }
}

/// The certificate was replaced.
async fn renewed(shown: &mut Option<watch::Receiver<Arc<Shown>>>) {
    if let Some(shown) = shown
        && shown.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

type Sayer = mpsc::Sender<v1::RegisterRequest>;

async fn open(
    gateway: &str,
    registration: &Registration,
    hello: v1::Hello,
) -> Result<(Sayer, Streaming<v1::RegisterResponse>), Status> {
    let mut client = RegistryServiceClient::new(connect(gateway, registration.identity.as_ref()).await?);
    let (say, said) = mpsc::channel(4);
    send(&say, Say::Hello(hello)).await?;
    let mut request = Request::new(ReceiverStream::new(said));
    if !registration.token.is_empty() {
        let bearer = format!("Bearer {}", registration.token);
        let bearer = bearer.parse().map_err(|_| Status::invalid_argument("the join token is not ASCII"))?;
        request.metadata_mut().insert("authorization", bearer);
    }
    Ok((say, client.register(request).await?.into_inner()))
}

async fn connect(gateway: &str, identity: Option<&Identity>) -> Result<Channel, Status> {
    let url = if gateway.contains("://") { gateway.to_owned() } else { format!("http://{gateway}") };
    let endpoint = Endpoint::from_shared(url).map_err(|_| Status::invalid_argument("not an address"))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(3));
    let connected = match identity {
        None => endpoint.connect().await,
        Some(own) => identity::connect(own, endpoint).await,
    };
    connected.map_err(|error| {
        tracing::debug!(%error, gateway, "no connection");
        Status::unavailable("no connection")
    })
}

async fn talk(
    say: &Sayer,
    mut hear: Streaming<v1::RegisterResponse>,
    feeds: &mut Feeds,
    shutdown: &CancellationToken,
) -> End {
    let mut every = HEARTBEAT;
    let mut last = Instant::now();
    let welcome_by = Instant::now() + WELCOME;
    loop {
        let joined = matches!(*feeds.state.borrow(), State::Joined { .. });
        let step = tokio::select! {
            // A goodbye before the welcome would race with it.
            () = shutdown.cancelled(), if joined => return goodbye(say, hear, feeds).await,
            heard = hear.message() => match heard {
                Ok(Some(answer)) => listen(answer, feeds, &mut every),
                Ok(None) => Err(Status::unavailable("the registrar ended the stream")),
                Err(status) => Err(status),
            },
            changed = feeds.keys.changed(), if joined && !feeds.keys_closed() => {
                if changed.is_ok() { return End::KeysChanged }
                Ok(())
            }
            changed = feeds.report.changed(), if !feeds.report_closed() => match changed {
                Ok(()) => { last = Instant::now(); report(say, feeds).await }
                Err(_) => Ok(()),
            },
            () = tokio::time::sleep_until(last + every), if joined => {
                last = Instant::now();
                report(say, feeds).await
            }
            () = tokio::time::sleep_until(welcome_by), if !joined => {
                Err(Status::unavailable("the registrar gave no welcome in time"))
            }
        };
        if let Err(status) = step {
            return End::Lost(status);
        }
    }
}

impl Feeds {
    // A closed channel is always "changed": it must not be waited for.
    fn keys_closed(&self) -> bool {
        self.keys.has_changed().is_err()
    }

    fn report_closed(&self) -> bool {
        self.report.has_changed().is_err()
    }
}

fn listen(answer: v1::RegisterResponse, feeds: &Feeds, every: &mut Duration) -> Result<(), Status> {
    match answer.message {
        Some(Heard::Welcome(welcome)) => {
            tracing::info!(gateway = welcome.gateway, lease_ms = welcome.lease_ms, "registered");
            if welcome.heartbeat_ms > 0 {
                // Twice as often as asked, so that one delay is no loss.
                *every = Duration::from_millis(u64::from(welcome.heartbeat_ms / 2).max(100));
            }
            feeds.state.send_replace(State::Joined { gateway: welcome.gateway });
        }
        Some(Heard::Keys(keys)) => {
            feeds.federation.send_replace(keys);
        }
        Some(Heard::Farewell(_)) => return Err(Status::unavailable("the registrar said farewell")),
        // Something newer than this node: it is not for us.
        None => {}
    }
    Ok(())
}

async fn goodbye(say: &Sayer, mut hear: Streaming<v1::RegisterResponse>, feeds: &mut Feeds) -> End {
    let farewell = async {
        report(say, feeds).await?;
        send(say, Say::Goodbye(v1::Goodbye {})).await?;
        while let Some(answer) = hear.message().await? {
            if matches!(answer.message, Some(Heard::Farewell(_))) {
                break;
            }
        }
        Ok::<(), Status>(())
    };
    if !matches!(timeout(FAREWELL, farewell).await, Ok(Ok(()))) {
        tracing::warn!("the goodbye was not confirmed: the entry goes with its lease");
    }
    End::Gone
}

async fn report(say: &Sayer, feeds: &mut Feeds) -> Result<(), Status> {
    let report = feeds.report.borrow_and_update().clone();
    send(say, Say::Report(report)).await
}

async fn send(say: &Sayer, message: Say) -> Result<(), Status> {
    let message = v1::RegisterRequest { message: Some(message) };
    let stuck = |_| Status::unavailable("the registrar does not read");
    say.send_timeout(message, SEND).await.map_err(stuck)
}

#[cfg(test)]
pub(crate) mod tests;

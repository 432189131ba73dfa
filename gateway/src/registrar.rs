//! How does a node join?
//!
//! It keeps one stream to a gateway's registrar. The registrar checks who it is (`admission`),
//! writes it into the registry under the gateway's one lease (`lease`) and keeps it there for as
//! long as the stream lives (`session`). Nodes never hold credentials of the registry.
//!
//! ```text
//!  hello ─► admitted ─► enrolled ─► reports … ─┬─ goodbye: deleted at once, farewell
//!                                              ├─ broken: waits out the lease time, then deleted,
//!                                              │          unless it is registered anew anywhere
//!                                              ├─ superseded: the newer registration stays
//!                                              └─ this gateway finishes: the entry stays for the
//!                                                         next gateway to take over
//! ```
//!
//! A goodbye leaves a mark beside the entry that it deletes, so that nobody takes the absence for a loss
//! ([`crate::registry::guard`]).
//!
//! The registrar only writes. What it wrote reaches the table through the registry's watch, in this
//! gateway as in every other.

mod admission;
mod holders;
mod lease;
mod pace;
mod record;
mod session;
mod signed;

use crate::{
    identity::{Peer, Trust, complaints::Complaints},
    registry::{Registry, keys::Prefix},
    table::Table,
};
use admission::{Credentials, Doorkeeper};
use futures_util::{StreamExt as _, stream::BoxStream};
use holders::Sessions;
use session::Session;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use suiyue_proto::{
    reason::Reason,
    region::Code,
    v1::{
        FederationKeys, RegisterRequest, RegisterResponse,
        register_request::Message,
        registry_service_server::{RegistryService, RegistryServiceServer},
    },
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};

/// A node says hello within this time.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a message that are taken at most: a descriptor set of 1 MiB and its company.
const MAX_MESSAGE: usize = 2 << 20;
/// Registrations that are written at the same time: a thousand nodes that come back together must not
/// make each other late.
const WRITES: usize = 32;
/// Messages to one node that may wait for it to read.
const QUEUE: usize = 8;

/// What a registrar is told by the configuration.
#[derive(Clone)]
pub struct Settings {
    /// Where the registry's keys begin.
    pub prefix: Prefix,
    /// Name of this gateway.
    pub gateway_id: String,
    /// Where its control port is reached.
    pub control_address: String,
    /// Where its admin port is reached.
    pub admin_address: String,
    /// Join tokens: who has one speaks for the region and, of a province, for the regions below it.
    pub tokens: Vec<(Code, String)>,
    /// How certificates are judged; `None`: the control port takes none.
    pub trust: Option<Trust>,
    /// How long an entry outlives its gateway or its stream; 15 s.
    pub lease_ttl: Duration,
    /// How often a node must be heard of; 3 s. Three of them without a word break the stream.
    pub heartbeat: Duration,
}

impl fmt::Debug for Settings {
    /// Without the tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("gateway_id", &self.gateway_id).finish_non_exhaustive()
    }
}

/// The registrar of one gateway. Clones are the same registrar.
#[derive(Clone)]
pub struct Registrar {
    shared: Arc<Shared>,
}

/// What all sessions of one registrar share.
struct Shared {
    registry: Arc<dyn Registry>,
    settings: Settings,
    doorkeeper: Doorkeeper,
    tables: watch::Receiver<Arc<Table>>,
    /// Verifying keys of the federation; changes only when they do.
    keys: watch::Sender<Arc<FederationKeys>>,
    lease: lease::Current,
    departures: lease::Departures,
    /// Registrations that are written at the same time.
    writing: Semaphore,
    sessions: Sessions,
    complaints: Complaints,
    /// Owns the session tasks.
    tasks: TaskTracker,
    /// This gateway is finishing.
    draining: CancellationToken,
}

impl Registrar {
    /// A registrar that takes registrations while [`run`](Self::run) runs; before that and without a
    /// registry nodes are told to try another gateway.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, settings: Settings, tables: watch::Receiver<Arc<Table>>) -> Self {
        let keys = federation_keys(&tables.borrow());
        let shared = Shared {
            registry,
            doorkeeper: Doorkeeper::new(&settings.tokens),
            settings,
            tables,
            keys: watch::Sender::new(Arc::new(keys)),
            lease: lease::Current::default(),
            departures: lease::Departures::default(),
            writing: Semaphore::new(WRITES),
            sessions: Sessions::default(),
            complaints: Complaints::default(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The service for the control port.
    #[must_use]
    pub fn service(&self) -> RegistryServiceServer<Self> {
        RegistryServiceServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Keeps the lease, this gateway's presence and the keys for the nodes up to date until
    /// `shutdown`; then ends all streams, so that the nodes move on. The entries stay under the
    /// lease: the next gateway takes them over before it runs out.
    pub async fn run(self, shutdown: CancellationToken) {
        let shared = &*self.shared;
        let keep = async { tokio::join!(lease::keep(shared), publish_keys(shared)) };
        let _never = shutdown.run_until_cancelled(keep).await;
        shared.draining.cancel();
        shared.tasks.close();
        shared.tasks.wait().await;
        lease::depart(shared).await;
    }
}

impl Shared {
    /// Somebody was refused: the log of this gateway says so, once a minute for each cause.
    fn complain(&self, node: &str, status: &Status) {
        let reason = Reason::of(status).map_or("", Reason::as_str);
        if self.complaints.is_due(&format!("{reason} {node}"), Instant::now()) {
            tracing::warn!(node, reason, "a registration was refused");
        }
    }
}

fn federation_keys(table: &Table) -> FederationKeys {
    FederationKeys { revision: table.revision, keys: table.keys.clone() }
}

/// Most tables have the same keys as the one before: nodes hear of the others only.
async fn publish_keys(shared: &Shared) {
    let mut tables = shared.tables.clone();
    loop {
        let new = federation_keys(&tables.borrow_and_update());
        shared.keys.send_if_modified(|keys| {
            let changed = keys.keys != new.keys;
            if changed {
                *keys = Arc::new(new);
            }
            changed
        });
        if tables.changed().await.is_err() {
            // The follower is gone: the gateway is finishing.
            return std::future::pending().await;
        }
    }
}

#[tonic::async_trait]
impl RegistryService for Registrar {
    type RegisterStream = BoxStream<'static, Result<RegisterResponse, Status>>;

    async fn register(
        &self,
        request: Request<Streaming<RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let shared = self.shared.clone();
        if shared.draining.is_cancelled() {
            return Err(Reason::GatewayDraining.status());
        }
        let credentials = match request.extensions().get::<Peer>() {
            Some(peer) => Credentials::Certificate(peer.clone()),
            None => Credentials::Token(admission::bearer(request.metadata())?.to_owned()),
        };
        let mut inbound = request.into_inner();
        let first = tokio::time::timeout(HELLO_WITHIN, inbound.message()).await;
        let first = first.map_err(|_| Reason::RequestIncomplete.status())??;
        let Some(RegisterRequest { message: Some(Message::Hello(hello)) }) = first else {
            return Err(
                Reason::ManifestInvalid.with(&[("field", "hello"), ("expected", "the first message")])
            );
        };
        let trust = shared.settings.trust.as_ref();
        let who = match &credentials {
            Credentials::Certificate(peer) => peer.id().to_string(),
            Credentials::Token(_) => hello.manifest.as_ref().map_or_else(String::new, |m| m.node.clone()),
        };
        let admitted = shared.doorkeeper.admit(credentials, hello, trust, &shared.tables.borrow());
        let admitted = admitted.inspect_err(|status| shared.complain(&who, status))?;
        let (answers, outbound) = mpsc::channel(QUEUE);
        // From here on the registry is written to: it must not depend on the caller's patience
        // whether what was written is looked after.
        let tasks = shared.tasks.clone();
        tasks.spawn(Session::new(shared, admitted, answers).run(inbound));
        Ok(Response::new(ReceiverStream::new(outbound).boxed()))
    }
}

#[cfg(test)]
mod tests;

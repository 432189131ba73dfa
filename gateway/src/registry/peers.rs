//! Whom does a gateway ask that has neither etcd nor a copy?
//!
//! Other gateways of the federation, by the control addresses in its configuration: all at once, and of
//! the copies that arrive whole the newest is taken. A peer gives what it has applied itself, and says
//! when the registry last confirmed it. Peers are asked again after every failed attempt to reach
//! the registry, until one of them knows something or the registry answers; never after that: a copy
//! must not replace what is newer.
//!
//! With certificates both sides show a gateway's. A copy is believed no more than a listing: what is not
//! signed as it must be makes no route, whoever sent it.
//!
//! [`Answering`] is the other side. Copies go in pieces of about a megabyte, so that neither side depends
//! on how large a message the other one takes.

use super::{
    follow::Status as Followed,
    keys::Prefix,
    last_known_good::{self, Saved},
};
use crate::identity::{Peer, Subject, Trust, dial::Dialer};
use futures_util::{StreamExt as _, future::join_all, stream::BoxStream};
use prost::Message as _;
use std::time::Duration;
use suiyue_proto::{
    reason::Reason,
    v1::{
        self, CopyRegistryRequest, CopyRegistryResponse,
        gateway_service_client::GatewayServiceClient,
        gateway_service_server::{GatewayService, GatewayServiceServer},
    },
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

/// A peer that has not connected within this time is passed over.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// A copy that is not there within this time is given up.
const COPY_WITHIN: Duration = Duration::from_secs(10);
/// About so many bytes a piece; one entry is never divided.
const PIECE: usize = 1 << 20;
/// Bytes of a piece that are taken: the largest value that etcd takes, and a piece before it.
const MAX_PIECE: usize = 8 << 20;

/// Other gateways.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    addresses: Vec<String>,
    /// `None`: they are asked in the clear.
    dialer: Option<Dialer>,
}

impl Peers {
    /// Gateways by the addresses (`host:port`) of their control ports. With trust they must show a
    /// gateway's certificate of this federation.
    #[must_use]
    pub fn new(addresses: Vec<String>, trust: Option<&Trust>) -> Self {
        Self { addresses, dialer: trust.map(Dialer::to_gateways) }
    }

    /// The newest copy that any of them has.
    ///
    /// # Errors
    /// For a person: whom it asked, and what each said.
    pub async fn newest(&self, prefix: &Prefix) -> Result<Saved, String> {
        if self.addresses.is_empty() {
            return Err("no peers are configured".to_owned());
        }
        let ask = |address: &String| {
            let (address, root, dialer) = (address.clone(), prefix.root(), self.dialer.as_ref());
            async move {
                let copy = tokio::time::timeout(COPY_WITHIN, copy(&address, dialer, root)).await;
                let copy = copy.unwrap_or_else(|_| Err(format!("no copy within {COPY_WITHIN:?}")));
                copy.map_err(|why| format!("{address}: {why}"))
            }
        };
        let (mut newest, mut refusals) = (None::<Saved>, Vec::new());
        for answer in join_all(self.addresses.iter().map(ask)).await {
            match answer {
                Ok(saved) if newest.as_ref().is_none_or(|best| is_newer(&saved, best)) => {
                    newest = Some(saved)
                }
                Ok(_) => {}
                Err(why) => refusals.push(why),
            }
        }
        newest.ok_or_else(|| format!("peers were asked: {}", refusals.join("; ")))
    }
}

/// Of one cluster the higher revision, of several what was confirmed later.
fn is_newer(one: &Saved, other: &Saved) -> bool {
    if one.cluster == other.cluster {
        return one.revision > other.revision;
    }
    one.unix_ms > other.unix_ms
}

async fn connect(address: &str, dialer: Option<&Dialer>) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
    let endpoint = endpoint.connect_timeout(CONNECT_WITHIN).tcp_nodelay(true);
    let channel = match dialer {
        None => endpoint.connect().await,
        Some(dialer) => dialer.channel(endpoint).await,
    };
    channel.map_err(|error| root_cause(&error))
}

async fn copy(address: &str, dialer: Option<&Dialer>, prefix: String) -> Result<Saved, String> {
    let channel = connect(address, dialer).await?;
    let mut client = GatewayServiceClient::new(channel).max_decoding_message_size(MAX_PIECE);
    let told = |status: Status| format!("{:?}: {}", status.code(), status.message());
    let pieces = client.copy_registry(CopyRegistryRequest { prefix: prefix.clone() }).await.map_err(told)?;
    let mut pieces = pieces.into_inner();
    let (mut head, mut entries, mut total) = (None, Vec::new(), 0);
    while let Some(piece) = pieces.message().await.map_err(told)? {
        let mut snapshot = piece.snapshot.ok_or("a piece without a snapshot")?;
        entries.append(&mut snapshot.entries);
        total = piece.total;
        head.get_or_insert(snapshot);
    }
    let head = head.ok_or("an empty answer")?;
    if entries.len() as u64 != total {
        return Err(format!("the copy is cut off: {} of {total} entries", entries.len()));
    }
    if head.prefix != prefix {
        return Err("it belongs to another federation".to_owned());
    }
    Ok(last_known_good::from_saved(&head, entries))
}

/// The client's own words hide why a connection was not made.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Tells peers what this gateway has applied.
#[derive(Debug, Clone)]
pub struct Answering {
    followed: Followed,
    prefix: Prefix,
}

impl Answering {
    /// The service for the control port.
    #[must_use]
    pub fn service(followed: Followed, prefix: Prefix) -> GatewayServiceServer<Self> {
        GatewayServiceServer::new(Self { followed, prefix })
    }
}

#[tonic::async_trait]
impl GatewayService for Answering {
    type CopyRegistryStream = BoxStream<'static, Result<CopyRegistryResponse, Status>>;

    async fn copy_registry(
        &self,
        request: Request<CopyRegistryRequest>,
    ) -> Result<Response<Self::CopyRegistryStream>, Status> {
        let peer = request.extensions().get::<Peer>().map(|peer| &peer.id().subject);
        if !matches!(peer, None | Some(Subject::Gateway(_))) {
            return Err(Reason::IdentityRefused.with(&[("expected", "a gateway")]));
        }
        if request.get_ref().prefix != self.prefix.root() {
            return Err(Reason::FieldInvalid.with(&[("field", "prefix"), ("expected", &self.prefix.root())]));
        }
        let confirmed = self.followed.freshness().heard_unix_ms();
        let saved = confirmed.and_then(|unix_ms| self.followed.saved(unix_ms));
        let saved = saved.ok_or_else(|| Reason::RegistryUnread.status())?;
        let pieces = pieces(&saved, &self.prefix);
        Ok(Response::new(futures_util::stream::iter(pieces.into_iter().map(Ok)).boxed()))
    }
}

fn pieces(saved: &Saved, prefix: &Prefix) -> Vec<CopyRegistryResponse> {
    let total = (saved.entries.len() + saved.held.len()) as u64;
    let piece = |entries| CopyRegistryResponse {
        snapshot: Some(v1::RegistrySnapshot {
            prefix: prefix.root(),
            cluster_id: saved.cluster,
            revision: saved.revision,
            saved_unix_ms: saved.unix_ms,
            entries,
        }),
        total,
    };
    let (mut pieces, mut entries, mut bytes) = (Vec::new(), Vec::new(), 0);
    for entry in last_known_good::all_saved(saved) {
        bytes += entry.encoded_len();
        entries.push(entry);
        if bytes >= PIECE {
            pieces.push(piece(std::mem::take(&mut entries)));
            bytes = 0;
        }
    }
    // Also when there is nothing: that is an answer, too.
    if pieces.is_empty() || !entries.is_empty() {
        pieces.push(piece(entries));
    }
    pieces
}

#[cfg(test)]
mod tests;

//! How does the gateway reach a node that has a certificate, or another gateway?
//!
//! Over TLS, and only if the certificate at the other end names that very node, whoever answers at the
//! address. [`Dialer`] belongs to one node; workers and health checks open their connections with it. Of
//! gateways any one of the federation will do: their addresses stand in the configuration.

use super::{Leaf, SpiffeId, Subject, Trust};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::{io, sync::Arc};
use suiyue_proto::identity::tls::{self, Expected};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

/// Opens connections to one node, or to gateways.
#[derive(Debug, Clone)]
pub struct Dialer {
    trust: Trust,
    config: Arc<ClientConfig>,
}

impl Dialer {
    /// To the node with this id.
    #[must_use]
    pub fn new(trust: &Trust, node: SpiffeId) -> Self {
        Self::expecting(trust, Arc::new(move |id: &SpiffeId| *id == node))
    }

    /// To whichever node of the federation is there: for who looks at a node, not for calls.
    #[must_use]
    pub fn to_any_node(trust: &Trust) -> Self {
        Self::expecting(trust, trust.only(|who| matches!(who, Subject::Node { .. })))
    }

    /// To gateways of the federation.
    #[must_use]
    pub fn to_gateways(trust: &Trust) -> Self {
        Self::expecting(trust, trust.only(|who| matches!(who, Subject::Gateway(_))))
    }

    fn expecting(trust: &Trust, expected: Expected) -> Self {
        let config = tls::client(trust.own(), Arc::new(trust.clone()), expected);
        Self { trust: trust.clone(), config }
    }

    /// A channel to `http://HOST:PORT`, over TLS all the same.
    ///
    /// # Errors
    /// No connection, or not with whom it should be.
    pub async fn channel(&self, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
        let dialer = self.clone();
        let connect = move |uri: Uri| {
            let dialer = dialer.clone();
            let address = uri.authority().map_or_else(String::new, ToString::to_string);
            async move { dialer.open(&address).await.map(TokioIo::new) }
        };
        endpoint.connect_with_connector(tower::service_fn(connect)).await
    }

    /// A connection to `HOST:PORT`.
    ///
    /// # Errors
    /// As [`Dialer::secure`], or nobody listens there.
    pub async fn open(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        self.secure(socket).await.map(|(stream, _)| stream)
    }

    /// Shakes hands on a connection; the certificate of the other end comes with it.
    ///
    /// Cancel safe: dropping it closes the connection.
    ///
    /// # Errors
    /// The other end is not who it should be, refuses us, or does not speak HTTP/2 by ALPN.
    pub async fn secure(&self, socket: TcpStream) -> io::Result<(TlsStream<TcpStream>, Leaf)> {
        let stream = TlsConnector::from(self.config.clone()).connect(tls::no_name(), socket).await?;
        let (_, session) = stream.get_ref();
        let leaf = tls::peer(session.peer_certificates(), session.alpn_protocol());
        Ok((stream, leaf.map_err(|refused| io::Error::new(io::ErrorKind::InvalidData, refused))?))
    }

    /// How the gateway judges certificates.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }
}

//! How does the gateway reach a node that has a certificate?
//!
//! Over TLS, and only if the certificate at the other end names that very node, whoever answers at the
//! address. [`Dialer`] belongs to one node; workers and health checks open their connections with it.

use super::{Leaf, SpiffeId, Trust};
use rustls::ClientConfig;
use std::{io, sync::Arc};
use suiyue_proto::identity::tls;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Opens connections to one node.
#[derive(Debug, Clone)]
pub struct Dialer {
    trust: Trust,
    config: Arc<ClientConfig>,
}

impl Dialer {
    /// To the node with this id.
    #[must_use]
    pub fn new(trust: &Trust, node: SpiffeId) -> Self {
        let expected = Arc::new(move |id: &SpiffeId| *id == node);
        let config = tls::client(trust.own(), Arc::new(trust.clone()), expected);
        Self { trust: trust.clone(), config }
    }

    /// Shakes hands on a connection; the certificate of the other end comes with it.
    ///
    /// Cancel safe: dropping it closes the connection.
    ///
    /// # Errors
    /// The other end is not the node, refuses us, or does not speak HTTP/2 by ALPN.
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

//! How does a node prove who it is, and who may call it?
//!
//! With an identity it signs what it declares with its certificate's key, shows the certificate to the
//! registrar, and serves TLS to whoever shows a gateway's certificate of its federation, nobody else. A
//! connection to or from a gateway lasts as long as that certificate holds ([`crate::trust`]).
//! Without one it joins by a token and serves in the clear.

mod held;

use crate::trust::Trust;
use held::Held;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use suiyue_proto::identity::files::Shown;
use suiyue_proto::identity::signed::Kind;
use suiyue_proto::identity::tls::{self, Chain, Expected};
use suiyue_proto::identity::{Identity, Refused, Subject, Usage};
use suiyue_proto::v1;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::{Channel, Endpoint, Uri};

fn gateways(own: &Identity) -> Expected {
    let federation = own.federation();
    Arc::new(move |id| id.federation == federation && matches!(id.subject, Subject::Gateway(_)))
}

/// Lets gateways in.
#[derive(Clone)]
pub struct Door {
    config: Arc<ServerConfig>,
    trust: Trust,
}

impl Door {
    /// For gateways of the node's federation.
    #[must_use]
    pub fn new(trust: &Trust) -> Self {
        let config = tls::server(trust.own(), Arc::new(trust.clone()), gateways(trust.own()));
        Self { config, trust: trust.clone() }
    }

    /// Lasts until a gateway's certificate does not hold any more.
    pub async fn ends(&self, chain: &Chain) {
        self.trust.ends(chain).await;
    }

    /// Shakes hands; the gateway's certificates come with the connection.
    ///
    /// # Errors
    /// It is no gateway, or does not speak HTTP/2 by ALPN.
    pub async fn admit(
        &self,
        socket: TcpStream,
    ) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, Chain)> {
        let stream = TlsAcceptor::from(Arc::clone(&self.config)).accept(socket).await?;
        let (_, session) = stream.get_ref();
        let chain = tls::peer(session.peer_certificates(), session.alpn_protocol(), Usage::Client);
        Ok((stream, chain.map_err(io::Error::other)?))
    }
}

/// Connects to a gateway's control port, for a tool that knows of no revocations.
///
/// # Errors
/// No connection, or it is no gateway of the federation.
pub async fn connect(own: &Identity, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
    connect_while(&Trust::new(own.clone(), None), endpoint).await
}

/// Connects to a gateway's control port, for as long as its certificate holds.
///
/// # Errors
/// No connection, or it is no gateway of the federation, or one that is revoked.
pub async fn connect_while(trust: &Trust, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
    let config = tls::client(trust.own(), Arc::new(trust.clone()), gateways(trust.own()));
    let trust = trust.clone();
    let connect = move |uri: Uri| {
        let (connector, trust) = (TlsConnector::from(Arc::clone(&config)), trust.clone());
        async move { secure(&connector, trust, &uri).await.map(TokioIo::new) }
    };
    endpoint.connect_with_connector(tower::service_fn(connect)).await
}

async fn secure(connector: &TlsConnector, trust: Trust, uri: &Uri) -> io::Result<Held<TlsStream<TcpStream>>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let socket = TcpStream::connect((host, uri.port_u16().unwrap_or(8441))).await?;
    socket.set_nodelay(true)?;
    let stream = connector.connect(tls::no_name(), socket).await?;
    let (_, session) = stream.get_ref();
    let chain = tls::peer(session.peer_certificates(), session.alpn_protocol(), Usage::Server);
    let chain = chain.map_err(io::Error::other)?;
    Ok(Held::new(stream, async move { trust.ends(&chain).await }))
}

/// Puts signatures in the place of what a hello says.
///
/// # Errors
/// [`Refused::Key`]: the key signs nothing.
pub fn sign(shown: &Shown, mut hello: v1::Hello) -> Result<v1::Hello, Refused> {
    let manifest = hello.manifest.take().unwrap_or_default();
    let record = |kind, payload: Vec<u8>| {
        let signature = shown.sign(kind, &payload)?.into();
        Ok::<_, Refused>(v1::SignedRecord { payload: payload.into(), signature, chain: Vec::new() })
    };
    let keys = v1::KeyDeclaration {
        region: manifest.region,
        node: manifest.node.clone(),
        keys: std::mem::take(&mut hello.keys),
    };
    let endpoint = v1::EndpointDeclaration {
        region: manifest.region,
        node: manifest.node.clone(),
        endpoint: std::mem::take(&mut hello.endpoint),
        address: std::mem::take(&mut hello.address),
        incarnation: std::mem::take(&mut hello.incarnation),
    };
    hello.signed_manifest = Some(record(Kind::Manifest, manifest.encode_to_vec())?);
    hello.signed_keys = Some(record(Kind::Keys, keys.encode_to_vec())?);
    hello.signed_endpoint = Some(record(Kind::Endpoint, endpoint.encode_to_vec())?);
    hello.chain = shown.chain().into_iter().map(Into::into).collect();
    Ok(hello)
}

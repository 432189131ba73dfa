//! How does a node prove who it is, and who may call it?
//!
//! With an identity it signs what it declares with its certificate's key, shows the certificate to the
//! registrar, and serves TLS to whoever shows a gateway's certificate of its federation, nobody else.
//! Without one it joins by a token and serves in the clear.

use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use suiyue_proto::identity::files::Shown;
use suiyue_proto::identity::signed::Kind;
use suiyue_proto::identity::tls::{self, Expected};
use suiyue_proto::identity::{Identity, Leaf, Refused, Subject};
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
}

impl Door {
    /// For gateways of the node's federation.
    #[must_use]
    pub fn new(own: &Identity) -> Self {
        Self { config: tls::server(own, Arc::new(own.clone()), gateways(own)) }
    }

    /// Shakes hands; the gateway's certificate comes with the connection.
    ///
    /// # Errors
    /// It is no gateway, or does not speak HTTP/2 by ALPN.
    pub async fn admit(
        &self,
        socket: TcpStream,
    ) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, Leaf)> {
        let stream = TlsAcceptor::from(Arc::clone(&self.config)).accept(socket).await?;
        let (_, session) = stream.get_ref();
        let leaf =
            tls::peer(session.peer_certificates(), session.alpn_protocol()).map_err(io::Error::other)?;
        Ok((stream, leaf))
    }
}

/// Connects to a gateway's control port.
///
/// # Errors
/// No connection, or it is no gateway of the federation.
pub async fn connect(own: &Identity, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
    let config = tls::client(own, Arc::new(own.clone()), gateways(own));
    let connect = move |uri: Uri| {
        let connector = TlsConnector::from(Arc::clone(&config));
        async move { secure(&connector, &uri).await.map(TokioIo::new) }
    };
    endpoint.connect_with_connector(tower::service_fn(connect)).await
}

async fn secure(connector: &TlsConnector, uri: &Uri) -> io::Result<TlsStream<TcpStream>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let socket = TcpStream::connect((host, uri.port_u16().unwrap_or(8441))).await?;
    socket.set_nodelay(true)?;
    let stream = connector.connect(tls::no_name(), socket).await?;
    let (_, session) = stream.get_ref();
    tls::peer(session.peer_certificates(), session.alpn_protocol()).map_err(io::Error::other)?;
    Ok(stream)
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

//! How are connections to the old system opened?
//!
//! TCP, and TLS over it where the URL says `https`. Its certificate must come from the configured file:
//! an old system in a city's own network has a city's own authority, not a public one.

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service;

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: Option<TlsConnector>,
}

impl Connector {
    /// TCP within `connect`; `tls` for `https`.
    pub(super) fn new(connect: Duration, tls: Option<Arc<ClientConfig>>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect));
        Self { tcp, tls: tls.map(TlsConnector::from) }
    }
}

/// What trusts the authorities of a PEM file, and nobody else.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn trusting(ca: &Path) -> Result<Arc<ClientConfig>, String> {
    let named = |problem: String| format!("{}: {problem}", ca.display());
    let text = std::fs::read(ca).map_err(|why| named(why.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|why| named(why.to_string()))?;
        roots.add(certificate).map_err(|why| named(why.to_string()))?;
    }
    if roots.is_empty() {
        return Err(named("no certificate stands in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_ready(cx).map_err(io::Error::other)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone().filter(|_| uri.scheme_str() == Some("https"));
        let host = uri.host().unwrap_or("").trim_matches(['[', ']']).to_owned();
        let opening = self.tcp.call(uri);
        Box::pin(async move {
            let stream = opening.await.map_err(io::Error::other)?;
            let Some(tls) = tls else { return Ok(Stream::Plain(stream)) };
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let secured = tls.connect(name, stream.into_inner()).await?;
            Ok(Stream::Secured(Box::new(TokioIo::new(secured))))
        })
    }
}

/// A connection.
pub(super) enum Stream {
    /// In the clear.
    Plain(TokioIo<TcpStream>),
    /// Over TLS.
    Secured(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Secured(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Secured(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secured(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secured(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::adapter::{Config, mapping::Mapping, system::System};
    use rustls::{ServerConfig, pki_types::PrivateKeyDer};
    use std::path::PathBuf;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    fn data(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/adapter/testdata").join(name)
    }

    /// Says over TLS that it is well, once a connection.
    async fn secured() -> std::net::SocketAddr {
        let certificate = CertificateDer::from_pem_file(data("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(data("server.key")).unwrap();
        let config =
            ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .unwrap();
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let _ = stream.read(&mut [0; 4096]).await;
                let said =
                    "HTTP/1.1 200 OK\r\ncontent-length: 15\r\nconnection: close\r\n\r\n{\"status\":\"UP\"}";
                let _ = stream.write_all(said.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        address
    }

    #[tokio::test]
    async fn only_a_certificate_of_the_named_authority_is_taken() {
        let port = secured().await.port();
        let look = async |host: &str, ca: &str| {
            let mapping = include_str!("../../../deploy/examples/mapping-guangzhou.toml");
            let config = Config {
                url: format!("https://{host}:{port}"),
                ca: Some(data(ca)),
                authorization: None,
                rps: 10,
                timeout: Duration::from_secs(10),
                in_flight: 1,
                mapping: Arc::new(Mapping::parse("mapping.toml", mapping).unwrap()),
            };
            System::open(&config).unwrap().look().await
        };
        assert_eq!(look("127.0.0.1", "ca.pem").await, Some(true));
        assert_eq!(look("localhost", "ca.pem").await, Some(true));
        assert_eq!(look("127.0.0.1", "other.pem").await, Some(false));
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = trusting(file.path()).unwrap_err();
        assert!(error.ends_with("no certificate stands in it"), "{error}");
        assert!(trusting(Path::new("/nowhere.pem")).unwrap_err().starts_with("/nowhere.pem: "));
    }
}

//! Who comes to the admin port encrypted?
//!
//! An operator, with a certificate: the same that opens the control port, shown by a browser. Whoever
//! begins with a TLS handshake is taken at that; everybody else speaks in the clear, as scrapes do, and
//! gets no further than the console lets them from where they come. Without an identity there is no TLS.

use crate::identity::{Peer, Subject, Trust};
use std::{io, sync::Arc, time::Duration};
use suiyue_proto::identity::tls;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

/// The first byte of a TLS handshake, and of no method of HTTP.
const HANDSHAKE: u8 = 22;
/// Somebody who says nothing for so long is not waited for.
const WITHIN: Duration = Duration::from_secs(5);

/// Takes TLS connections of operators.
#[derive(Clone)]
pub(super) struct Entrance {
    trust: Trust,
    acceptor: TlsAcceptor,
}

/// Somebody who came in.
pub(super) enum Guest {
    /// In the clear.
    Plain(TcpStream),
    /// With a certificate.
    Certified(Box<TlsStream<TcpStream>>, Peer),
}

impl Entrance {
    pub(super) fn new(trust: Trust) -> Self {
        let expected = trust.only(|who| matches!(who, Subject::Operator { .. }));
        let mut config = ServerConfig::clone(&tls::server(trust.own(), Arc::new(trust.clone()), expected));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { trust, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// Lasts until the guest's certificate does not hold any more.
    pub(super) async fn ends(&self, peer: &Peer) {
        self.trust.ends(peer.chain()).await;
    }
}

/// Finds out how somebody comes in.
///
/// # Errors
/// The other side says nothing in time, or shows no certificate that is taken.
pub(super) async fn enter(socket: TcpStream, entrance: Option<&Entrance>) -> io::Result<Guest> {
    let Some(entrance) = entrance else { return Ok(Guest::Plain(socket)) };
    let entering = async {
        let mut first = [0];
        if socket.peek(&mut first).await? == 0 || first[0] != HANDSHAKE {
            return Ok(Guest::Plain(socket));
        }
        let stream = entrance.acceptor.accept(socket).await?;
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = Peer::of(shown).map_err(|refused| io::Error::new(io::ErrorKind::InvalidData, refused))?;
        Ok(Guest::Certified(Box::new(stream), peer))
    };
    timeout(WITHIN, entering).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

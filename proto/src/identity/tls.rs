//! What does a connection between our own parts demand?
//!
//! TLS 1.3, HTTP/2 by ALPN, a certificate on either side, and of each exactly the id that is expected.
//! Nothing is resumed: a resumed session would skip the check of the certificate, and with it a
//! revocation. The name of the host means nothing, because the id says who it is.

use super::{
    Authorities, Identity, Leaf, Refused, SpiffeId, Usage,
    certificate::{provider, unix_time},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::verify_tls13_signature,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use std::{fmt, sync::Arc};

/// What ALPN says.
pub const ALPN: &[u8] = b"h2";

/// Who vouches for whom, and who is out.
pub trait Judge: fmt::Debug + Send + Sync {
    /// Those who may vouch for this id; `None`: nobody may.
    fn authorities(&self, id: &SpiffeId) -> Option<Arc<Authorities>>;

    /// The certificate, or whoever it names, was revoked.
    fn is_revoked(&self, leaf: &Leaf) -> bool;
}

/// A process judges by its bundle alone unless it knows more.
impl Judge for Identity {
    fn authorities(&self, _: &SpiffeId) -> Option<Arc<Authorities>> {
        Some(self.shown().bundle.clone())
    }

    fn is_revoked(&self, _: &Leaf) -> bool {
        false
    }
}

/// Who may be on the other side.
pub type Expected = Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync>;

/// Decides about the certificate of the other side.
#[derive(Clone)]
pub struct Verifier {
    judge: Arc<dyn Judge>,
    expected: Expected,
    usage: Usage,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("usage", &self.usage).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Decides about a chain, the certificate first.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Leaf, Refused> {
        let first = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let leaf = Leaf::parse(first)?;
        let nobody = || Refused::Untrusted(format!("nobody may vouch for {}", leaf.id));
        let authorities = self.judge.authorities(&leaf.id).ok_or_else(nobody)?;
        let leaf = authorities.verify(chain, self.usage, now)?;
        if !(self.expected)(&leaf.id) {
            return Err(Refused::Unexpected(leaf.id.to_string()));
        }
        if self.judge.is_revoked(&leaf) {
            return Err(Refused::Revoked);
        }
        Ok(leaf)
    }

    fn decide(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(end).chain(others).cloned().collect();
        self.verify(&chain, now).map(drop).map_err(|refused| {
            Error::InvalidCertificate(match refused {
                Refused::Time => CertificateError::Expired,
                Refused::Revoked => CertificateError::Revoked,
                other => CertificateError::Other(OtherError(Arc::new(other))),
            })
        })
    }

    fn signature(
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &provider().signature_verification_algorithms)
    }
}

/// There is no older TLS here.
fn too_old() -> Error {
    Error::General("TLS 1.3 is wanted".to_owned())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.decide(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Who may vouch depends on whom for, and may change at any time.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.decide(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// For a port that only certain others may call.
#[must_use]
pub fn server(own: &Identity, judge: Arc<dyn Judge>, expected: Expected) -> Arc<ServerConfig> {
    let verifier = Verifier { judge, expected, usage: Usage::Client };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has the cipher suites of TLS 1.3")
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(own.clone()));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// For calls to one of certain others.
#[must_use]
pub fn client(own: &Identity, judge: Arc<dyn Judge>, expected: Expected) -> Arc<ClientConfig> {
    let verifier = Verifier { judge, expected, usage: Usage::Server };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has the cipher suites of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(own.clone()));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Arc::new(config)
}

/// The certificates that the other side of a connection has shown and that were taken, its own first.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Its own, as we read it.
    pub leaf: Leaf,
    certificates: Vec<CertificateDer<'static>>,
    usage: Usage,
}

impl Chain {
    /// Of somebody who calls, or is called.
    ///
    /// # Errors
    /// [`Refused`]: there is none, or it does not have the form that every one of a federation has.
    pub fn read(certificates: &[CertificateDer<'_>], usage: Usage) -> Result<Self, Refused> {
        let leaf = Leaf::parse(certificates.first().map(AsRef::as_ref).unwrap_or_default())?;
        let certificates = certificates.iter().map(|der| der.clone().into_owned()).collect();
        Ok(Self { leaf, certificates, usage })
    }

    /// One of these authorities vouches for it at this instant, in seconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(&self, authorities: &Authorities, unix_s: i64) -> Result<(), Refused> {
        authorities.verify(&self.certificates, self.usage, unix_time(unix_s)).map(drop)
    }
}

/// What the other side of a connection has shown and that was taken, where HTTP/2 was agreed on.
///
/// # Errors
/// [`Refused`]: none was shown, or the other side does not speak HTTP/2 by ALPN.
pub fn peer(
    certificates: Option<&[CertificateDer<'_>]>,
    alpn: Option<&[u8]>,
    usage: Usage,
) -> Result<Chain, Refused> {
    if alpn != Some(ALPN) {
        return Err(Refused::Unreadable("the other side does not say by ALPN that it speaks h2".to_owned()));
    }
    Chain::read(certificates.unwrap_or_default(), usage)
}

/// For a handshake: names mean nothing here.
#[must_use]
pub fn no_name() -> ServerName<'static> {
    ServerName::try_from("suiyue.invalid").expect("it is a host name")
}

#[cfg(test)]
#[path = "tls/tests.rs"]
mod tests;

//! How are certificates made?
//!
//! For `suiyue trust` and for tests: an [`Authority`] of a province issues certificates, an [`AnchorKey`]
//! signs what provinces may do. Keys are ECDSA P-256, which every TLS library takes; the anchor's is
//! Ed25519. Nothing is written here.

use super::{
    Usage,
    signed::{Anchor, Kind},
};
use aws_lc_rs::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use std::net::IpAddr;

/// Why no certificate or signature can be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library refused.
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The key cannot be used.
    #[error("the key cannot be used: {0}")]
    Key(String),
}

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct Order {
    /// URIs: a good certificate has one.
    pub uris: Vec<String>,
    /// Names or addresses of hosts, for foreign clients that check them.
    pub hosts: Vec<String>,
    /// What it is for.
    pub uses: Vec<Usage>,
    /// From when it is valid, in seconds since 1970-01-01 UTC.
    pub not_before_unix_s: i64,
    /// Until when it is valid, in seconds since 1970-01-01 UTC.
    pub not_after_unix_s: i64,
}

/// Who vouches for certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: String,
    der: Vec<u8>,
}

fn key_pair() -> Result<KeyPair, Error> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

fn params(name: &str, not_before: i64, not_after: i64) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    params.distinguished_name = distinguished;
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| Error::Key("no randomness".to_owned()))?;
    // Positive, and of one length.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let instant = |unix_s: i64| {
        time::OffsetDateTime::from_unix_timestamp(unix_s)
            .map_err(|_| Error::Key("an instant beyond the year 9999".to_owned()))
    };
    (params.not_before, params.not_after) = (instant(not_before)?, instant(not_after)?);
    Ok(params)
}

impl Authority {
    /// A new authority, and its key in PEM.
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(name: &str, not_before: i64, not_after: i64) -> Result<(Self, String), Error> {
        let mut params = params(name, not_before, not_after)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = key_pair()?;
        let pem = key.serialize_pem();
        let cert = params.self_signed(&key)?;
        let (der, cert) = (cert.der().to_vec(), cert.pem());
        Ok((Self { issuer: Issuer::new(params, key), cert, der }, pem))
    }

    /// The authority of a certificate and its key, in PEM.
    ///
    /// # Errors
    /// [`Error`].
    pub fn from_pem(cert: &str, key: &str) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key)?;
        let chain = super::certificate::chain_from_pem(cert.as_bytes());
        let chain = chain.map_err(|refused| Error::Key(refused.to_string()))?;
        let der = chain.first().map(|cert| cert.as_ref().to_vec()).unwrap_or_default();
        Ok(Self { issuer: Issuer::from_ca_cert_pem(cert, key)?, cert: cert.to_owned(), der })
    }

    /// Its certificate in PEM.
    #[must_use]
    pub fn cert(&self) -> &str {
        &self.cert
    }

    /// Its certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Makes a certificate with a new key.
    ///
    /// # Errors
    /// [`Error`]: a URI or a host that no certificate can have.
    pub fn issue(&self, order: &Order) -> Result<Issued, Error> {
        let name = order.uris.first().map_or("nobody", |uri| uri.rsplit('/').next().unwrap_or(uri));
        let mut params = params(name, order.not_before_unix_s, order.not_after_unix_s)?;
        for uri in &order.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        for host in &order.hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into()?),
            });
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = order
            .uses
            .iter()
            .map(|usage| match usage {
                Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
                Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            })
            .collect();
        let key = key_pair()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
    }
}

/// The federation's anchor: it signs what provinces may do, and is kept offline.
pub struct AnchorKey(Ed25519KeyPair);

impl AnchorKey {
    /// A new anchor.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn generate() -> Result<Self, Error> {
        Ed25519KeyPair::generate().map(Self).map_err(|_| Error::Key("none could be made".to_owned()))
    }

    /// The anchor in PEM.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| Error::Key(e.to_string()))?;
        let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der());
        pair.map(Self).map_err(|_| Error::Key("it is no Ed25519 key".to_owned()))
    }

    /// As PEM, to be kept.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn to_pem(&self) -> Result<String, Error> {
        let der = self.0.to_pkcs8v1().map_err(|_| Error::Key("it cannot be written".to_owned()))?;
        Ok(pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref())))
    }

    /// Its public part.
    #[must_use]
    pub fn public(&self) -> Anchor {
        let bytes = self.0.public_key().as_ref();
        Anchor::new(bytes.try_into().expect("a public key of Ed25519 has 32 bytes"))
    }

    /// Signs.
    #[must_use]
    pub fn sign(&self, kind: Kind, payload: &[u8]) -> Vec<u8> {
        self.0.sign(&kind.message(payload)).as_ref().to_vec()
    }
}

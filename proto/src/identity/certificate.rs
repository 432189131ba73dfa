//! What does a certificate say, and who vouches for it?
//!
//! [`Leaf::parse`] reads what we judge by: exactly one URI, the keys it may be used for, its time and its
//! public key. [`Authorities::verify`] is webpki's check of the chain and then ours. Names of hosts in a
//! certificate are for foreign clients and mean nothing here.

use super::SpiffeId;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use rustls::{
    RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    server::{ParsedCertificate, WebPkiClientVerifier},
};
use std::{
    fmt,
    ops::Range,
    sync::{Arc, LazyLock},
    time::Duration,
};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ED25519},
    prelude::FromDer as _,
};

/// Certificates of a chain that are read at most.
pub const MAX_CHAIN: usize = 4;

/// The one provider of cryptography.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// What a certificate is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// To call: TLS client authentication.
    Client,
    /// To be called: TLS server authentication.
    Server,
}

/// Why a certificate is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// It has no URI, or several.
    #[error("the certificate has {0} URIs; exactly one is wanted")]
    Uris(usize),
    /// Its URI is none of ours.
    #[error("the certificate's URI is {0}")]
    Uri(#[from] super::Malformed),
    /// A name with an asterisk.
    #[error("the certificate has a wildcard name")]
    Wildcard,
    /// It belongs to an authority.
    #[error("the certificate is an authority's and speaks for nobody")]
    Authority,
    /// It is made for other uses.
    #[error("the certificate is not made for {0}")]
    Usage(&'static str),
    /// Another kind of key.
    #[error("the certificate's key is neither ECDSA P-256 nor Ed25519")]
    Key,
    /// Its time has not come, or is over.
    #[error("the certificate is not valid now")]
    Time,
    /// Nobody whom we trust vouches for it.
    #[error("nobody who may do so vouches for the certificate: {0}")]
    Untrusted(String),
    /// It was revoked.
    #[error("the identity is revoked")]
    Revoked,
    /// It is somebody else.
    #[error("it is {0}, who is not expected here")]
    Unexpected(String),
    /// A signature does not hold.
    #[error("the signature does not hold")]
    Signature,
}

/// The certificate of somebody, as far as we judge by it.
#[derive(Clone)]
pub struct Leaf {
    /// Who it is.
    pub id: SpiffeId,
    /// Its serial number in hexadecimal, lower case.
    pub serial: String,
    /// From when it is valid, in seconds since 1970-01-01 UTC.
    pub not_before_unix_s: i64,
    /// Until when it is valid, in seconds since 1970-01-01 UTC.
    pub not_after_unix_s: i64,
    client: bool,
    server: bool,
    algorithm: &'static dyn VerificationAlgorithm,
    key: Vec<u8>,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("id", &self.id.to_string())
            .field("serial", &self.serial)
            .field("not_after_unix_s", &self.not_after_unix_s)
            .finish_non_exhaustive()
    }
}

fn unreadable(error: impl fmt::Display) -> Refused {
    Refused::Unreadable(error.to_string())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Refused> {
    let (rest, cert) = X509Certificate::from_der(der).map_err(unreadable)?;
    if rest.is_empty() { Ok(cert) } else { Err(unreadable("bytes follow it")) }
}

impl Leaf {
    /// Reads a certificate; nothing is said of who vouches for it.
    ///
    /// # Errors
    /// [`Refused`], when it does not have the form that every certificate of a federation has.
    pub fn parse(der: &[u8]) -> Result<Self, Refused> {
        let cert = parse(der)?;
        if cert.is_ca() {
            return Err(Refused::Authority);
        }
        let names = cert.subject_alternative_name().map_err(unreadable)?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let mut uris = Vec::new();
        for name in names {
            match name {
                GeneralName::URI(uri) => uris.push(*uri),
                GeneralName::DNSName(host) if host.contains('*') => return Err(Refused::Wildcard),
                _ => {}
            }
        }
        let [uri] = uris[..] else { return Err(Refused::Uris(uris.len())) };
        let uses = cert.extended_key_usage().map_err(unreadable)?.map(|uses| uses.value);
        let (algorithm, key) = public_key(&cert)?;
        Ok(Self {
            id: uri.parse()?,
            serial: hex(cert.raw_serial()),
            not_before_unix_s: cert.validity().not_before.timestamp(),
            not_after_unix_s: cert.validity().not_after.timestamp(),
            client: uses.is_some_and(|uses| uses.client_auth),
            server: uses.is_some_and(|uses| uses.server_auth),
            algorithm,
            key,
        })
    }

    /// It is made for this use.
    ///
    /// # Errors
    /// [`Refused::Usage`].
    pub const fn made_for(&self, usage: Usage) -> Result<(), Refused> {
        match usage {
            Usage::Client if self.client => Ok(()),
            Usage::Client => Err(Refused::Usage("calling (TLS client authentication)")),
            Usage::Server if self.server => Ok(()),
            Usage::Server => Err(Refused::Usage("being called (TLS server authentication)")),
        }
    }

    /// It is valid at this instant.
    #[must_use]
    pub const fn is_valid_at(&self, unix_s: i64) -> bool {
        self.not_before_unix_s <= unix_s && unix_s < self.not_after_unix_s
    }

    /// Its key made this signature over these bytes.
    ///
    /// # Errors
    /// [`Refused::Signature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        let key = UnparsedPublicKey::new(self.algorithm, &self.key);
        key.verify(message, signature).map_err(|_| Refused::Signature)
    }
}

fn public_key(cert: &X509Certificate<'_>) -> Result<(&'static dyn VerificationAlgorithm, Vec<u8>), Refused> {
    let info = cert.public_key();
    let kind = &info.algorithm.algorithm;
    let algorithm: &'static dyn VerificationAlgorithm = if *kind == OID_SIG_ED25519 {
        &ED25519
    } else if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY
        && info.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()) == Some(OID_EC_P256)
    {
        &ECDSA_P256_SHA256_ASN1
    } else {
        return Err(Refused::Key);
    };
    Ok((algorithm, info.subject_public_key.data.to_vec()))
}

/// Hexadecimal, lower case.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Who vouches for certificates.
#[derive(Debug, Clone)]
pub struct Authorities {
    /// All of them.
    roots: Arc<RootCertStore>,
    each: Vec<Authority>,
}

/// One authority's certificate.
#[derive(Debug, Clone)]
struct Authority {
    cert: CertificateDer<'static>,
    /// When it begins and ends, in seconds since 1970-01-01 UTC.
    time: Range<i64>,
}

impl Authorities {
    /// The certificates of authorities, in DER.
    ///
    /// # Errors
    /// [`Refused`]: one of them is none, or there is none at all.
    pub fn new<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Refused> {
        let (mut roots, mut each) = (RootCertStore::empty(), Vec::new());
        for der in certificates {
            let cert = parse(der)?;
            if !cert.is_ca() {
                return Err(Refused::Untrusted("it is no authority's certificate".to_owned()));
            }
            let time = cert.validity().not_before.timestamp()..cert.validity().not_after.timestamp();
            let cert = CertificateDer::from(der.to_vec());
            roots.add(cert.clone()).map_err(unreadable)?;
            each.push(Authority { cert, time });
        }
        if each.is_empty() {
            return Err(Refused::Untrusted("no certificate of an authority is given".to_owned()));
        }
        Ok(Self { roots: Arc::new(roots), each })
    }

    /// The same, from PEM.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, Refused> {
        let certificates = chain_from_pem(pem)?;
        Self::new(certificates.iter().map(AsRef::as_ref))
    }

    /// When the first of them ends, in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn first_end(&self) -> i64 {
        self.each.iter().map(|one| one.time.end).min().unwrap_or(i64::MAX)
    }

    /// Which of them may vouch at an instant, in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn valid_at(&self, unix_s: i64) -> Vec<bool> {
        self.each.iter().map(|one| one.time.contains(&unix_s)).collect()
    }

    /// When [`valid_at`](Self::valid_at) changes next, after this instant; `i64::MAX`: never.
    #[must_use]
    pub fn turns_after(&self, unix_s: i64) -> i64 {
        let turns = self.each.iter().flat_map(|one| [one.time.start, one.time.end]);
        turns.filter(|turn| *turn > unix_s).min().unwrap_or(i64::MAX)
    }

    /// Those that may vouch at an instant: webpki takes an authority as it is, whatever its time.
    fn roots_at(&self, unix_s: i64) -> Result<Arc<RootCertStore>, Refused> {
        let valid = self.valid_at(unix_s);
        if valid.iter().all(|valid| *valid) {
            return Ok(self.roots.clone());
        }
        let mut roots = RootCertStore::empty();
        for (one, _) in self.each.iter().zip(valid).filter(|(_, valid)| *valid) {
            roots.add(one.cert.clone()).map_err(unreadable)?;
        }
        if roots.is_empty() {
            return Err(Refused::Untrusted("the authority's own certificate is not valid now".to_owned()));
        }
        Ok(Arc::new(roots))
    }

    /// One of them vouches for the certificate in front of the chain, for this use, at this instant.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(&self, chain: &[CertificateDer<'_>], usage: Usage, now: UnixTime) -> Result<Leaf, Refused> {
        let Some((end, others)) = chain.split_first() else {
            return Err(Refused::Unreadable("there is none".to_owned()));
        };
        let leaf = Leaf::parse(end)?;
        leaf.made_for(usage)?;
        let unix_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if !leaf.is_valid_at(unix_s) {
            return Err(Refused::Time);
        }
        if chain.len() > MAX_CHAIN {
            return Err(Refused::Untrusted(format!("the chain has more than {MAX_CHAIN} certificates")));
        }
        let roots = self.roots_at(unix_s)?;
        let untrusted = |error: rustls::Error| Refused::Untrusted(error.to_string());
        match usage {
            Usage::Server => verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end).map_err(unreadable)?,
                &roots,
                others,
                now,
                provider().signature_verification_algorithms.all,
            )
            .map_err(untrusted)?,
            Usage::Client => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(unreadable)?;
                verifier.verify_client_cert(end, others, now).map_err(untrusted)?;
            }
        }
        Ok(leaf)
    }
}

/// The certificates in a PEM text.
///
/// # Errors
/// [`Refused::Unreadable`]; also when there is none.
pub fn chain_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Refused> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(unreadable)?;
    if chain.is_empty() { Err(unreadable("there is none in PEM")) } else { Ok(chain) }
}

/// An instant for webpki.
#[must_use]
pub fn unix_time(unix_s: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(unix_s).unwrap_or(0)))
}

#[cfg(test)]
#[path = "certificate/tests.rs"]
mod tests;

//! How is a record signed?
//!
//! Over its bytes as they are stored, with what it is in front, so that the signature of one kind of
//! record is none of another: `suiyue.v1/{kind}`, a zero byte, the bytes. Nodes sign with the key of
//! their certificate; what provinces may do is signed by the federation's anchor, an Ed25519 key that is
//! kept offline.

use super::{
    Refused,
    certificate::{Leaf, hex},
};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use rustls::{SignatureScheme, sign::SigningKey};
use std::{fmt, str::FromStr};

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What a node declares of itself.
    Manifest,
    /// Keys that a node signs codes with.
    Keys,
    /// Where an endpoint of a node is.
    Endpoint,
    /// What a province may do.
    Trust,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Keys => "keys",
            Self::Endpoint => "endpoint",
            Self::Trust => "trust",
        }
    }

    /// The bytes that are signed.
    #[must_use]
    pub fn message(self, payload: &[u8]) -> Vec<u8> {
        [b"suiyue.v1/", self.as_str().as_bytes(), b"\0", payload].concat()
    }
}

/// Signs with a certificate's key.
///
/// # Errors
/// [`Refused::Key`] for another kind of key than certificates have here.
pub fn sign(key: &dyn SigningKey, kind: Kind, payload: &[u8]) -> Result<Vec<u8>, Refused> {
    const SCHEMES: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];
    let signer = key.choose_scheme(SCHEMES).ok_or(Refused::Key)?;
    signer.sign(&kind.message(payload)).map_err(|_| Refused::Key)
}

/// Checks a signature by a certificate's key.
///
/// # Errors
/// [`Refused::Signature`].
pub fn verify(leaf: &Leaf, kind: Kind, payload: &[u8], signature: &[u8]) -> Result<(), Refused> {
    leaf.verify(&kind.message(payload), signature)
}

/// The federation's anchor, as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Name of the federation.
    pub federation: String,
    /// Public key of the anchor.
    pub anchor: Anchor,
}

/// Public key of the federation's anchor: 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Anchor([u8; 32]);

impl Anchor {
    /// The key itself.
    #[must_use]
    pub const fn new(public: [u8; 32]) -> Self {
        Self(public)
    }

    /// Checks a signature by the anchor.
    ///
    /// # Errors
    /// [`Refused::Signature`].
    pub fn verify(&self, kind: Kind, payload: &[u8], signature: &[u8]) -> Result<(), Refused> {
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        key.verify(&kind.message(payload), signature).map_err(|_| Refused::Signature)
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Anchor({self})")
    }
}

/// The text is no anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an anchor is 64 hexadecimal digits, as `suiyue trust init` prints them")]
pub struct NoAnchor;

impl FromStr for Anchor {
    type Err = NoAnchor;

    fn from_str(text: &str) -> Result<Self, NoAnchor> {
        let mut key = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NoAnchor);
        }
        for (at, byte) in key.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).ok_or(NoAnchor)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NoAnchor)?;
        }
        Ok(Self(key))
    }
}

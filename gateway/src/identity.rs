//! Who calls, and is it still who it was?
//!
//! A [`Peer`] is what the certificate of a connection says, after TLS took it. On the control port every
//! request carries it in its extensions; the data port's listener has [`Peer::of`]. Who may vouch for
//! whom, and who is out, is [`trust`]'s to know; [`port`] is the door of the control port, [`public`] the
//! data port's certificate, [`dial`] the way to nodes and to other gateways. Nothing here runs per call:
//! certificates are checked per connection, and per fold.

pub mod complaints;
pub mod dial;
pub mod port;
pub mod public;
pub mod trust;

pub use suiyue_proto::identity::{Leaf, Refused, Role, SpiffeId, Subject};
pub use trust::{Roll, Trust};

use rustls::pki_types::CertificateDer;
use std::sync::Arc;

/// Who is on the other side of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    leaf: Arc<Leaf>,
}

impl Peer {
    /// What the certificates that TLS took say, the peer's own first.
    ///
    /// # Errors
    /// [`Refused`]: there is none, or it does not have the form that those of a federation have.
    pub fn of(certificates: &[CertificateDer<'_>]) -> Result<Self, Refused> {
        let first = certificates.first().map(AsRef::as_ref).unwrap_or_default();
        Leaf::parse(first).map(Self::from)
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// The certificate.
    #[must_use]
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }
}

impl From<Leaf> for Peer {
    fn from(leaf: Leaf) -> Self {
        Self { leaf: Arc::new(leaf) }
    }
}

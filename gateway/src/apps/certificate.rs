//! Which name does a client certificate prove?

use rustls::pki_types::CertificateDer;

/// The URI of an app's certificate; `None`: it names no app.
#[must_use]
pub fn name(_certificate: &CertificateDer<'_>) -> Option<String> {
    None
}

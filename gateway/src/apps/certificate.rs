//! Which name does a client certificate prove?
//!
//! That of an app: `spiffe://FEDERATION/app/NAME`, the one URI in it. What else a certificate says does not
//! count, and whose certificate names no app is nobody here.

use crate::identity::{Peer, Subject};
use rustls::pki_types::CertificateDer;

/// The URI of an app's certificate, which TLS took; `None`: it names no app.
#[must_use]
pub fn name(certificates: &[CertificateDer<'_>]) -> Option<String> {
    let peer = Peer::of(certificates).ok()?;
    matches!(peer.id().subject, Subject::App(_)).then(|| peer.id().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject as _;
    use suiyue_proto::identity::{
        Usage,
        issue::{Authority, Order},
    };

    #[test]
    fn only_one_uri_of_an_app_is_a_name() {
        let (authority, _) = Authority::new("apps", 0, 4_000_000_000).unwrap();
        let name_of = |uris: &[&str]| {
            let order = Order {
                uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
                hosts: Vec::new(),
                uses: vec![Usage::Client],
                not_before_unix_s: 0,
                not_after_unix_s: 4_000_000_000,
            };
            let issued = authority.issue(&order).unwrap();
            name(&[CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap()])
        };
        assert_eq!(name_of(&["spiffe://suiyue/app/gate"]).as_deref(), Some("spiffe://suiyue/app/gate"));
        for other in [
            &["spiffe://suiyue/operator/operator/wang"][..],
            &["spiffe://suiyue/app/gate", "spiffe://suiyue/app/other"],
            &["spiffe://suiyue/app/*"],
            &["https://suiyue/app/gate"],
            &[],
        ] {
            assert_eq!(name_of(other), None, "{other:?}");
        }
        assert_eq!(name(&[]), None);
    }
}

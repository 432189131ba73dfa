use super::*;
use crate::identity::issue::{Authority, Issued, Order};

const NOW: i64 = 1_800_000_000;

fn good() -> Order {
    Order {
        uris: vec!["spiffe://lingnan/region/440100/node/suikang".to_owned()],
        hosts: Vec::new(),
        uses: vec![Usage::Client, Usage::Server],
        not_before_unix_s: NOW - 10,
        not_after_unix_s: NOW + 10,
    }
}

fn authority() -> Authority {
    Authority::new("Guangdong", NOW - 100, NOW + 100).unwrap().0
}

fn chain(issued: &Issued) -> Vec<CertificateDer<'static>> {
    chain_from_pem(issued.cert.as_bytes()).unwrap()
}

/// The refusal of a certificate that is good but for one change.
#[track_caller]
fn refused(change: impl FnOnce(&mut Order)) -> Refused {
    let mut order = good();
    change(&mut order);
    let authority = authority();
    let issued = authority.issue(&order).unwrap();
    let authorities = Authorities::new([authority.der()]).unwrap();
    authorities.verify(&chain(&issued), Usage::Client, unix_time(NOW)).unwrap_err()
}

#[test]
fn a_good_certificate_says_who_it_is() {
    let authority = authority();
    let mut order = good();
    order.hosts = vec!["node.example.cn".to_owned(), "10.0.0.1".to_owned()];
    let issued = authority.issue(&order).unwrap();
    let authorities = Authorities::new([authority.der()]).unwrap();
    for usage in [Usage::Client, Usage::Server] {
        let leaf = authorities.verify(&chain(&issued), usage, unix_time(NOW)).unwrap();
        assert_eq!(leaf.id.to_string(), order.uris[0]);
        assert_eq!((leaf.not_before_unix_s, leaf.not_after_unix_s), (NOW - 10, NOW + 10));
        assert_eq!(leaf.serial.len(), 32);
    }
    assert_eq!(authorities.first_end(), NOW + 100);
}

#[test]
fn a_certificate_has_exactly_one_uri_of_ours() {
    assert_eq!(refused(|order| order.uris.push("spiffe://lingnan/app/a".to_owned())), Refused::Uris(2));
    assert_eq!(refused(|order| order.uris.clear()), Refused::Uris(0));
    let other = |uri: &str| refused(|order| order.uris = vec![uri.to_owned()]);
    assert!(matches!(other("spiffe://lingnan/region/*/node/suikang"), Refused::Uri(_)));
    assert!(matches!(other("spiffe://lingnan/region/440100/node/*"), Refused::Uri(_)));
    assert!(matches!(other("https://lingnan.example.cn/app/a"), Refused::Uri(_)));
    assert_eq!(refused(|order| order.hosts = vec!["*.example.cn".to_owned()]), Refused::Wildcard);
    // Names of hosts alone are nobody's id.
    let only_host = refused(|order| {
        order.uris.clear();
        order.hosts = vec!["suikang".to_owned()];
    });
    assert_eq!(only_host, Refused::Uris(0));
}

#[test]
fn use_time_and_authority_count() {
    assert!(matches!(refused(|order| order.uses = vec![Usage::Server]), Refused::Usage(_)));
    assert!(matches!(refused(|order| order.uses.clear()), Refused::Usage(_)));
    assert_eq!(refused(|order| order.not_after_unix_s = NOW), Refused::Time);
    assert_eq!(refused(|order| order.not_before_unix_s = NOW + 1), Refused::Time);
    let issued = authority().issue(&good()).unwrap();
    let other = authority();
    let others = Authorities::new([other.der()]).unwrap();
    let error = others.verify(&chain(&issued), Usage::Server, unix_time(NOW)).unwrap_err();
    assert!(matches!(error, Refused::Untrusted(_)), "{error}");
    let error = others.verify(&[], Usage::Server, unix_time(NOW)).unwrap_err();
    assert!(matches!(error, Refused::Unreadable(_)), "{error}");
}

#[test]
fn an_authority_is_nobody_and_ends() {
    let authority = authority();
    let own = CertificateDer::from(authority.der().to_vec());
    let authorities = Authorities::new([authority.der()]).unwrap();
    assert_eq!(authorities.verify(&[own], Usage::Client, unix_time(NOW)).unwrap_err(), Refused::Authority);
    let mut order = good();
    order.not_after_unix_s = NOW + 1000;
    let issued = authority.issue(&order).unwrap();
    let late = authorities.verify(&chain(&issued), Usage::Client, unix_time(NOW + 200)).unwrap_err();
    assert!(matches!(late, Refused::Untrusted(_)), "{late}");
    // What is no authority's certificate vouches for nobody.
    let leaf = chain(&issued).remove(0);
    assert!(matches!(Authorities::new([leaf.as_ref()]), Err(Refused::Untrusted(_))));
    assert!(matches!(Authorities::new([]), Err(Refused::Untrusted(_))));
    assert!(matches!(Authorities::new([&b"garbage"[..]]), Err(Refused::Unreadable(_))));
}

#[test]
fn what_a_key_signed_is_told_from_what_it_did_not() {
    use crate::identity::signed::{Kind, sign, verify};
    use rustls::{pki_types::PrivateKeyDer, sign::CertifiedKey};
    let issued = authority().issue(&good()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let key = CertifiedKey::from_der(chain(&issued), key, &provider()).unwrap();
    let leaf = Leaf::parse(&key.cert[0]).unwrap();
    let signature = sign(&*key.key, Kind::Manifest, b"hello").unwrap();
    assert_eq!(verify(&leaf, Kind::Manifest, b"hello", &signature), Ok(()));
    assert_eq!(verify(&leaf, Kind::Manifest, b"hellp", &signature), Err(Refused::Signature));
    assert_eq!(verify(&leaf, Kind::Keys, b"hello", &signature), Err(Refused::Signature));
    assert_eq!(verify(&leaf, Kind::Manifest, b"hello", &signature[1..]), Err(Refused::Signature));
}

#[test]
fn the_anchor_signs_and_is_read_again() {
    use crate::identity::{
        issue::AnchorKey,
        signed::{Anchor, Kind},
    };
    let key = AnchorKey::generate().unwrap();
    let same = AnchorKey::from_pem(&key.to_pem().unwrap()).unwrap();
    let anchor: Anchor = same.public().to_string().parse().unwrap();
    let signature = key.sign(Kind::Trust, b"44");
    assert_eq!(anchor.verify(Kind::Trust, b"44", &signature), Ok(()));
    assert_eq!(anchor.verify(Kind::Trust, b"61", &signature), Err(Refused::Signature));
    assert_eq!(anchor.verify(Kind::Keys, b"44", &signature), Err(Refused::Signature));
    let other = AnchorKey::generate().unwrap().public();
    assert_eq!(other.verify(Kind::Trust, b"44", &signature), Err(Refused::Signature));
    for bad in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
        assert!(bad.parse::<Anchor>().is_err(), "{bad}");
    }
    assert!(AnchorKey::from_pem("nonsense").is_err());
}

#[test]
fn an_authority_whose_time_is_over_vouches_for_nobody_beside_one_that_is_valid() {
    let (retired, _) = Authority::new("retired", NOW - 100, NOW - 1).unwrap();
    let next = authority();
    let authorities = Authorities::new([retired.der(), next.der()]).unwrap();
    let of = |authority: &Authority| chain(&authority.issue(&good()).unwrap());
    let verify = |authority| authorities.verify(&of(authority), Usage::Client, unix_time(NOW));
    assert!(matches!(verify(&retired), Err(Refused::Untrusted(_))));
    assert!(verify(&next).is_ok());
    assert_eq!(authorities.valid_at(NOW), [false, true]);
    assert_eq!(authorities.turns_after(NOW), NOW + 100);
    let alone = Authorities::new([retired.der()]).unwrap();
    let refused = alone.verify(&of(&next), Usage::Client, unix_time(NOW)).unwrap_err();
    assert!(refused.to_string().contains("not valid now"), "{refused}");
}

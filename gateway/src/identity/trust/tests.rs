use super::*;
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};
use suiyue_proto::identity::{
    Files,
    issue::{AnchorKey, Authority, Issued, Order},
    signed::sign,
};

/// An instant within the time of every certificate here, as the real one is.
pub(crate) const NOW: i64 = 1_800_000_000;
/// When certificates end here: in the year 2096.
pub(crate) const END: i64 = 4_000_000_000;
pub(crate) const FEDERATION: &str = "lingnan";

/// A federation: anchor and an authority of a province.
pub(crate) struct Realm {
    pub(crate) anchor: AnchorKey,
    pub(crate) authority: Authority,
    dir: tempfile::TempDir,
}

impl Realm {
    pub(crate) fn new() -> Self {
        let (authority, _) = Authority::new("Guangdong", 0, END + 1).unwrap();
        Self { anchor: AnchorKey::generate().unwrap(), authority, dir: tempfile::tempdir().unwrap() }
    }

    /// A certificate that is valid around [`NOW`] and now, but for one change.
    pub(crate) fn issue(&self, uri: &str, change: impl FnOnce(&mut Order)) -> Issued {
        let mut order = Order {
            uris: vec![uri.to_owned()],
            hosts: Vec::new(),
            uses: vec![Usage::Client, Usage::Server],
            not_before_unix_s: 1_000_000_000,
            not_after_unix_s: END,
        };
        change(&mut order);
        self.authority.issue(&order).unwrap()
    }

    pub(crate) fn node(&self, region: u32, name: &str) -> Signer {
        self.signer(&format!("spiffe://{FEDERATION}/region/{region}/node/{name}"), |_| {})
    }

    pub(crate) fn signer(&self, uri: &str, change: impl FnOnce(&mut Order)) -> Signer {
        Signer::of(&self.issue(uri, change))
    }

    /// Files of an identity: certificate, key, bundle.
    pub(crate) fn paths(&self, uri: &str) -> [PathBuf; 3] {
        let issued = self.issue(uri, |_| {});
        let paths = ["cert", "key", "trust"].map(|name| self.dir.path().join(name));
        for (path, text) in paths.iter().zip([issued.cert.as_str(), &issued.key, self.authority.cert()]) {
            fs::write(path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        paths
    }

    /// Lets others read the key.
    pub(crate) fn expose(&self) {
        fs::set_permissions(self.dir.path().join("key"), fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// `[identity]` of a configuration.
    pub(crate) fn section(&self, uri: &str) -> String {
        let [cert, key, trust] = self.paths(uri);
        format!("[identity]\ncert = {cert:?}\nkey = {key:?}\ntrust = {trust:?}\n")
    }

    /// An identity in files.
    pub(crate) fn identity(&self, uri: &str) -> Identity {
        let [cert, key, trust] = self.paths(uri);
        Identity::open(Files { cert, key, trust }).unwrap()
    }

    /// A gateway that knows the anchor.
    pub(crate) fn trust(&self) -> Trust {
        let root = Root { federation: FEDERATION.to_owned(), anchor: self.anchor.public() };
        Trust::new(self.identity("spiffe://lingnan/gateway/gw-1"), Some(root))
    }

    /// The record of Guangdong, but for one change.
    pub(crate) fn record(&self, change: impl FnOnce(&mut v1::ProvinceTrust)) -> Vec<u8> {
        let mut trust = v1::ProvinceTrust {
            federation: FEDERATION.to_owned(),
            province: 440_000,
            serial: 1,
            authorities: vec![self.authority.der().to_vec().into()],
            code_prefixes: vec!["44".to_owned()],
            ..Default::default()
        };
        change(&mut trust);
        record_of(&self.anchor, &trust)
    }
}

pub(crate) fn record_of(anchor: &AnchorKey, trust: &v1::ProvinceTrust) -> Vec<u8> {
    let payload = trust.encode_to_vec();
    let signature = anchor.sign(Kind::Trust, &payload).into();
    v1::SignedRecord { payload: payload.into(), signature, chain: Vec::new() }.encode_to_vec()
}

/// A node's certificate with its key.
pub(crate) struct Signer {
    key: rustls::sign::CertifiedKey,
}

impl Signer {
    fn of(issued: &Issued) -> Self {
        use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
        use suiyue_proto::identity::certificate::{chain_from_pem, provider};
        let chain = chain_from_pem(issued.cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        Self { key: rustls::sign::CertifiedKey::from_der(chain, key, &provider()).unwrap() }
    }

    pub(crate) fn chain(&self) -> Vec<bytes::Bytes> {
        self.key.cert.iter().map(|cert| cert.as_ref().to_vec().into()).collect()
    }

    pub(crate) fn leaf(&self) -> Leaf {
        Leaf::parse(&self.key.cert[0]).unwrap()
    }

    pub(crate) fn sign(&self, kind: Kind, message: &impl prost::Message) -> v1::SignedRecord {
        let payload = message.encode_to_vec();
        let signature = sign(&*self.key.key, kind, &payload).unwrap().into();
        v1::SignedRecord { payload: payload.into(), signature, chain: self.chain() }
    }
}

fn code(number: u32) -> Code {
    Code::new(number).unwrap()
}

#[track_caller]
fn refused(realm: &Realm, change: impl FnOnce(&mut v1::ProvinceTrust), part: &str) {
    let record = realm.record(change);
    let why = Province::read(&realm.anchor.public(), FEDERATION, code(440_000), &record).unwrap_err();
    assert!(why.contains(part), "{why}");
}

#[test]
fn a_record_speaks_for_its_province_only() {
    let realm = Realm::new();
    let anchor = realm.anchor.public();
    let province = Province::read(&anchor, FEDERATION, code(440_000), &realm.record(|_| {})).unwrap();
    assert!(province.covers(code(440_100)) && province.covers(code(440_000)));
    assert!(!province.covers(code(610_100)));
    let narrow = realm.record(|trust| trust.code_prefixes = vec!["4401".to_owned()]);
    let narrow = Province::read(&anchor, FEDERATION, code(440_000), &narrow).unwrap();
    assert!(narrow.covers(code(440_100)) && !narrow.covers(code(440_300)));
    refused(&realm, |trust| trust.code_prefixes.push("61".to_owned()), "no prefix");
    refused(&realm, |trust| trust.code_prefixes.push("4".to_owned()), "no prefix");
    refused(&realm, |trust| trust.code_prefixes.push("44é".to_owned()), "no prefix");
    refused(&realm, |trust| trust.province = 610_000, "610000");
    refused(&realm, |trust| trust.federation = "other".to_owned(), "other");
    refused(&realm, |trust| trust.authorities.clear(), "authorities");
    refused(&realm, |trust| trust.authorities = vec![b"x".as_slice().into()], "authorities");
    refused(&realm, |trust| trust.revoked_ids = vec!["suikang".to_owned()], "suikang");
}

#[test]
fn only_the_anchor_signs_records() {
    let realm = Realm::new();
    let anchor = realm.anchor.public();
    let other = Realm::new().record(|_| {});
    let read = |value: &[u8]| Province::read(&anchor, FEDERATION, code(440_000), value).map(|_| ());
    assert!(read(&other).unwrap_err().contains("anchor"));
    assert!(read(b"").unwrap_err().contains("anchor"));
    assert!(read(b"\xff").unwrap_err().contains("decoded"));
    // One bit of what is signed.
    let mut record = v1::SignedRecord::decode(realm.record(|_| {}).as_slice()).unwrap();
    let mut payload = record.payload.to_vec();
    let last = payload.len() - 1;
    payload[last] ^= 1;
    record.payload = payload.into();
    assert!(read(&record.encode_to_vec()).unwrap_err().contains("anchor"));
}

#[tokio::test]
async fn an_open_connection_ends_when_its_certificate_does_not_hold_any_more() {
    let realm = Realm::new();
    let trust = realm.trust();
    let read = |record: &[u8]| {
        let province = Province::read(&realm.anchor.public(), FEDERATION, code(440_000), record).unwrap();
        Arc::new(Roll::new([(code(440_000), Arc::new(province))].into()))
    };
    let (suikang, yuekang) = (realm.node(440_100, "suikang").leaf(), realm.node(440_000, "yuekang").leaf());
    for by_serial in [false, true] {
        trust.publish(read(&realm.record(|_| {})));
        let (waiting, other) = (trust.ends(&suikang), trust.ends(&yuekang));
        tokio::pin!(waiting, other);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(futures_util::poll!(&mut other).is_pending());
        trust.publish(read(&realm.record(|record| {
            record.serial = 2;
            if by_serial {
                record.revoked_serials.push(suikang.serial.clone());
            } else {
                record.revoked_ids.push(suikang.id.to_string());
            }
        })));
        waiting.await;
        assert!(futures_util::poll!(&mut other).is_pending());
        assert!(trust.is_revoked(&suikang) && !trust.is_revoked(&yuekang));
    }
    let expired = realm.signer("spiffe://lingnan/app/a", |order| order.not_after_unix_s = now() - 1).leaf();
    trust.ends(&expired).await;
}

#[test]
fn a_province_vouches_for_its_own_nodes_and_the_bundle_for_the_rest() {
    let realm = Realm::new();
    let trust = realm.trust();
    let id = |text: &str| text.parse::<SpiffeId>().unwrap();
    let vouches = |text: &str| trust.authorities(&id(text)).is_some();
    assert!(!vouches("spiffe://lingnan/region/440100/node/suikang"), "no record was read yet");
    assert!(vouches("spiffe://lingnan/gateway/gw-2") && vouches("spiffe://lingnan/operator/viewer/li"));
    let province = Province::read(&realm.anchor.public(), FEDERATION, code(440_000), &realm.record(|_| {}));
    trust.publish(Arc::new(Roll::new([(code(440_000), Arc::new(province.unwrap()))].into())));
    assert!(vouches("spiffe://lingnan/region/440100/node/suikang"));
    assert!(!vouches("spiffe://lingnan/region/610100/node/chengma"));
    assert!(!vouches("spiffe://other/gateway/gw-1"));
    assert_eq!(trust.expiries().len(), 2, "its own and the authority's");
}

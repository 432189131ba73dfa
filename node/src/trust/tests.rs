use super::*;
use prost::Message as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use suiyue_proto::identity::certificate::chain_from_pem;
use suiyue_proto::identity::issue::{AnchorKey, Authority, Order};
use suiyue_proto::identity::{Files, Usage};

const GATEWAY: &str = "spiffe://lingnan/gateway/gw-2";

/// A node with an anchor, and a gateway's certificate.
struct World {
    anchor: AnchorKey,
    trust: Trust,
    gateway: Chain,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let (authority, _) = Authority::new("Guangdong", 0, 4_000_000_001).unwrap();
        let order = |uri: &str| Order {
            uris: vec![uri.to_owned()],
            hosts: Vec::new(),
            uses: vec![Usage::Client, Usage::Server],
            not_before_unix_s: 1_000_000_000,
            not_after_unix_s: 4_000_000_000,
        };
        let issued = authority.issue(&order("spiffe://lingnan/region/440100/node/suikang")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let [cert, key, trust] = ["cert", "key", "trust"].map(|name| dir.path().join(name));
        for (path, text) in [(&cert, issued.cert.as_str()), (&key, &issued.key), (&trust, authority.cert())] {
            fs::write(path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let own = Identity::open(Files { cert, key, trust }).unwrap();
        let anchor = AnchorKey::generate().unwrap();
        let root = Root { federation: "lingnan".to_owned(), anchor: anchor.public() };
        let gateway = authority.issue(&order(GATEWAY)).unwrap();
        let gateway = chain_from_pem(gateway.cert.as_bytes()).unwrap();
        let gateway = Chain::read(&gateway, Usage::Client).unwrap();
        Self { anchor, trust: Trust::new(own, Some(root)), gateway, _dir: dir }
    }

    fn record(&self, serial: u64, change: impl FnOnce(&mut v1::ProvinceTrust)) -> Vec<u8> {
        signed(&self.anchor, serial, change)
    }
}

fn signed(anchor: &AnchorKey, serial: u64, change: impl FnOnce(&mut v1::ProvinceTrust)) -> Vec<u8> {
    let mut trust = v1::ProvinceTrust {
        federation: "lingnan".to_owned(),
        province: 440_000,
        serial,
        ..v1::ProvinceTrust::default()
    };
    change(&mut trust);
    let payload = trust.encode_to_vec();
    let signature = anchor.sign(Kind::Trust, &payload).into();
    v1::SignedRecord { payload: payload.into(), signature, chain: Vec::new() }.encode_to_vec()
}

#[tokio::test]
async fn a_revoked_gateways_connection_ends() {
    for by_serial in [false, true] {
        let world = World::new();
        let mut waiting = std::pin::pin!(world.trust.ends(&world.gateway));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        world.trust.take(&world.record(1, |_| {})).unwrap();
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let revoke = |trust: &mut v1::ProvinceTrust| match by_serial {
            true => trust.revoked_serials.push(world.gateway.leaf.serial.clone()),
            false => trust.revoked_ids.push(GATEWAY.to_owned()),
        };
        world.trust.take(&world.record(2, revoke)).unwrap();
        waiting.await;
        assert!(world.trust.is_revoked(&world.gateway.leaf));
    }
}

#[test]
fn only_newer_records_of_the_anchor_count() {
    let world = World::new();
    let revoked = world.record(5, |trust| trust.revoked_ids.push(GATEWAY.to_owned()));
    world.trust.take(&revoked).unwrap();
    world.trust.take(&revoked).unwrap();
    let refused = |value: &[u8], part: &str| {
        let why = world.trust.take(value).unwrap_err();
        assert!(why.contains(part), "{why}");
        assert!(world.trust.is_revoked(&world.gateway.leaf));
    };
    refused(&world.record(4, |_| {}), "5 is known");
    refused(&world.record(5, |_| {}), "5 is known");
    refused(&signed(&AnchorKey::generate().unwrap(), 9, |_| {}), "anchor");
    refused(&world.record(9, |trust| trust.federation = "other".to_owned()), "other");
    refused(&world.record(9, |trust| trust.revoked_ids.push("gw-2".to_owned())), "no id");
    refused(b"\xff", "decoded");
    // Another province's record takes nothing back; a newer one of this province may.
    world.trust.take(&world.record(1, |trust| trust.province = 610_000)).unwrap();
    assert!(world.trust.is_revoked(&world.gateway.leaf));
    world.trust.take(&world.record(6, |_| {})).unwrap();
    assert!(!world.trust.is_revoked(&world.gateway.leaf));
}

//! What an owner of etcd can and cannot do without a key.

use crate::{
    identity::{
        SpiffeId, Trust,
        trust::tests::{END, FEDERATION, NOW, Realm, Signer, record_of},
    },
    registry::{
        Entry,
        fold::{Entries, Fold},
        keys::Prefix,
    },
    table::{Source, Table},
};
use prost::Message;
use std::sync::Arc;
use suiyue_proto::{
    identity::{
        Usage,
        issue::{Authority, Order},
        signed::Kind,
    },
    v1,
};

/// An etcd that anybody may write to, and a gateway that folds it.
struct World {
    realm: Realm,
    trust: Trust,
    fold: Fold,
    entries: Entries,
    revision: i64,
}

impl World {
    /// Guangdong with Suikang and Yuekang.
    fn new() -> Self {
        let realm = Realm::new();
        let trust = realm.trust();
        let fold = Fold::new(Prefix::default(), Table::default(), Source::Etcd).trusting(Some(trust.clone()));
        let mut world = Self { realm, trust, fold, entries: Entries::new(), revision: 0 };
        let record = world.realm.record(|_| {});
        world.put("trust/44", record);
        let (suikang, yuekang) = (world.realm.node(440_100, "suikang"), world.realm.node(440_000, "yuekang"));
        world.join(&suikang, 440_100, "suikang", |_| {});
        world.join(&yuekang, 440_000, "yuekang", |m| m.scopes = vec![440_000, 440_100]);
        world
    }

    fn put(&mut self, key: &str, value: Vec<u8>) {
        self.revision += 1;
        let key = format!("/suiyue/v1/{key}");
        let entry = Entry { key: key.clone(), value: value.into(), mod_revision: self.revision, lease: 0 };
        self.entries.insert(key, entry);
    }

    fn join(&mut self, signer: &Signer, region: u32, name: &str, change: impl FnOnce(&mut v1::Manifest)) {
        let spec = spec(signer, region, name, change);
        self.put(&format!("nodes/{region}/{name}/spec"), spec);
        let keys = keys(signer, region, name, &[region]);
        self.put(&format!("nodes/{region}/{name}/keys"), keys);
        let live = live(signer, region, name, "127.0.0.1:9101");
        self.put(&format!("nodes/{region}/{name}/live/{name}-1"), live);
    }

    fn table(&mut self) -> Table {
        self.at(NOW)
    }

    fn at(&mut self, unix_s: i64) -> Table {
        self.fold.table_at(&self.entries, self.revision, unix_s)
    }

    /// After a change the routes are what they were, and the log says why.
    #[track_caller]
    fn unmoved(&mut self, change: impl FnOnce(&mut Self), key: &str, reason: &str) {
        let before = self.table();
        change(self);
        let after = self.table();
        assert_eq!(after.nodes, before.nodes, "a route has changed");
        assert_eq!(after.keys, before.keys, "a verifying key has changed");
        assert_eq!(why(&after, key), reason, "{:?}", after.quarantined);
        // Nothing is different when the same is folded again.
        let again = self.table();
        assert_eq!((again.nodes, again.quarantined), (after.nodes, after.quarantined));
    }
}

/// Why a key is quarantined, as far as it is short.
#[track_caller]
fn why<'a>(table: &'a Table, key: &str) -> &'a str {
    let key = format!("/suiyue/v1/{key}");
    let found = table.quarantined.iter().find(|bad| bad.key == key);
    found.map_or("", |bad| bad.reason.as_str())
}

fn spec(signer: &Signer, region: u32, name: &str, change: impl FnOnce(&mut v1::Manifest)) -> Vec<u8> {
    signer.sign(Kind::Manifest, &manifest(region, name, change)).encode_to_vec()
}

fn manifest(region: u32, name: &str, change: impl FnOnce(&mut v1::Manifest)) -> v1::Manifest {
    let role = if region.is_multiple_of(10_000) { v1::Role::Province } else { v1::Role::City };
    let mut manifest = v1::Manifest {
        region,
        node: name.to_owned(),
        role: role.into(),
        scopes: vec![region],
        serial: 5,
        ..Default::default()
    };
    change(&mut manifest);
    manifest
}

fn key(id: u8, regions: &[u32]) -> v1::VerifyingKey {
    v1::VerifyingKey {
        key_id: vec![id; 4].into(),
        algorithm: 1,
        public_key: vec![id; 32].into(),
        regions: regions.to_vec(),
        not_before_unix_s: 0,
        not_after_unix_s: NOW + 10_000,
    }
}

fn keys(signer: &Signer, region: u32, name: &str, regions: &[u32]) -> Vec<u8> {
    let declared =
        v1::KeyDeclaration { region, node: name.to_owned(), keys: vec![key((region % 251) as u8, regions)] };
    v1::NodeKeys { keys: Vec::new(), signed: vec![signer.sign(Kind::Keys, &declared)] }.encode_to_vec()
}

fn live(signer: &Signer, region: u32, name: &str, address: &str) -> Vec<u8> {
    let declared = v1::EndpointDeclaration {
        region,
        node: name.to_owned(),
        endpoint: format!("{name}-1"),
        address: address.to_owned(),
        incarnation: 7,
    };
    let ready = vec![v1::RegionReady { region, as_of_unix_ms: 1 }];
    v1::LiveEndpoint {
        address: address.to_owned(),
        incarnation: 7,
        report: Some(v1::Report { ready, draining: false }),
        gateway: "gw-1".to_owned(),
        written_unix_ms: 0,
        signed: Some(signer.sign(Kind::Endpoint, &declared)),
    }
    .encode_to_vec()
}

#[test]
fn what_nodes_signed_becomes_a_table_that_demands_their_certificates() {
    let mut world = World::new();
    let table = world.table();
    assert!(table.quarantined.is_empty(), "{:?}", table.quarantined);
    assert_eq!(table.nodes.keys().map(|name| &**name).collect::<Vec<_>>(), ["suikang", "yuekang"]);
    let endpoint = &table.nodes["suikang"].endpoints[0];
    let id = "spiffe://lingnan/region/440100/node/suikang".parse::<SpiffeId>().unwrap();
    assert_eq!(endpoint.identity, Some(Arc::new(id)));
    assert_eq!((&*endpoint.address, endpoint.incarnation), ("127.0.0.1:9101", 7));
    assert_eq!(table.keys.len(), 2);
    assert_eq!(world.fold.due(), END);
    assert_eq!(world.trust.expiries().len(), 4, "the gateway's own, the authority's, two nodes'");
}

#[test]
fn nothing_unsigned_gets_traffic_whoever_wrote_it() {
    let mut world = World::new();
    let unsigned = manifest(440_300, "shenzhen", |_| {});
    world.put(
        "nodes/440300/shenzhen/spec",
        v1::NodeSpec { manifest: Some(unsigned), ..Default::default() }.encode_to_vec(),
    );
    let bare = v1::LiveEndpoint { address: "127.0.0.1:1".to_owned(), ..Default::default() };
    world.put("nodes/440300/shenzhen/live/a", bare.encode_to_vec());
    world.put("nodes/440100/suikang/live/evil", bare.encode_to_vec());
    let table = world.table();
    assert!(!table.nodes.contains_key("shenzhen"));
    assert_eq!(table.nodes["suikang"].endpoints.len(), 1);
    for key in
        ["nodes/440300/shenzhen/spec", "nodes/440300/shenzhen/live/a", "nodes/440100/suikang/live/evil"]
    {
        assert_eq!(why(&table, key), "it is not signed", "{key}");
    }
}

#[test]
fn a_forged_manifest_moves_nothing() {
    let mut world = World::new();
    let stranger = Realm::new().node(440_100, "suikang");
    world.unmoved(
        |world| {
            world.put("nodes/440100/suikang/spec", spec(&stranger, 440_100, "suikang", |m| m.rps_max = 1))
        },
        "nodes/440100/suikang/spec",
        "nobody who may do so vouches for the certificate: invalid peer certificate: BadSignature",
    );
    // The genuine certificate, and words that its key did not sign.
    let suikang = world.realm.node(440_100, "suikang");
    let mut record = suikang.sign(Kind::Manifest, &manifest(440_100, "suikang", |_| {}));
    record.payload = manifest(440_100, "suikang", |m| m.rps_max = 1).encode_to_vec().into();
    let forged = record.encode_to_vec();
    let key = "nodes/440100/suikang/spec";
    world.unmoved(|world| world.put(key, forged), key, "the signature does not hold");
    // The genuine record of another node.
    let yuekang = world.realm.node(440_000, "yuekang");
    let other = spec(&yuekang, 440_100, "suikang", |_| {});
    world.unmoved(
        |world| world.put(key, other),
        key,
        "it is spiffe://lingnan/region/440000/node/yuekang, who is not expected here",
    );
    // A signed declaration of another kind.
    let wrong_kind = suikang.sign(Kind::Endpoint, &manifest(440_100, "suikang", |_| {})).encode_to_vec();
    world.unmoved(|world| world.put(key, wrong_kind), key, "the signature does not hold");
    world.unmoved(
        |world| world.put(key, b"\xff\xff".to_vec()),
        key,
        "the value cannot be decoded: failed to decode Protobuf message: invalid varint",
    );
}

#[test]
fn a_field_that_stands_twice_is_not_merged() {
    let mut world = World::new();
    let suikang = world.realm.node(440_100, "suikang");
    // Forged scopes in front of the signed manifest: a reader that merges would see both.
    let forged = v1::NodeSpec {
        manifest: Some(v1::Manifest { rps_max: 77, scopes: vec![440_300], ..Default::default() }),
        ..Default::default()
    };
    let value = [forged.encode_to_vec(), spec(&suikang, 440_100, "suikang", |_| {})].concat();
    world.put("nodes/440100/suikang/spec", value);
    let table = world.table();
    assert_eq!(table.nodes["suikang"].rps_max, None);
    assert_eq!(table.nodes["suikang"].scopes.len(), 1);
}

#[test]
fn an_older_manifest_never_comes_back() {
    let mut world = World::new();
    let suikang = world.realm.node(440_100, "suikang");
    let old = spec(&suikang, 440_100, "suikang", |m| (m.serial, m.rps_max) = (4, 1));
    let key = "nodes/440100/suikang/spec";
    world.unmoved(
        |world| world.put(key, old),
        key,
        "it is an older manifest: its serial is 4, and 5 is known",
    );
    let new = spec(&suikang, 440_100, "suikang", |m| (m.serial, m.rps_max) = (6, 9));
    world.put(key, new);
    assert_eq!(world.table().nodes["suikang"].rps_max, Some(9));
}

#[test]
fn a_rewritten_record_of_trust_moves_nothing() {
    let mut world = World::new();
    let key = "trust/44";
    let forger = Realm::new();
    let forged = forger.record(|trust| trust.serial = 9);
    world.unmoved(|world| world.put(key, forged), key, "it is not signed by the federation's anchor");
    world.unmoved(
        |world| world.put(key, b"\xff".to_vec()),
        key,
        "the value cannot be decoded: failed to decode Protobuf message: invalid varint",
    );
    let two = world.realm.record(|trust| trust.serial = 2);
    let one = world.realm.record(|_| {});
    world.put(key, two);
    assert!(world.table().quarantined.is_empty());
    world.unmoved(|world| world.put(key, one), key, "it is an older record: its serial is 1, and 2 is known");
    let gone = |world: &mut World| drop(world.entries.remove("/suiyue/v1/trust/44"));
    world.unmoved(gone, key, "it is gone; what the anchor last said stays in force");
}

#[test]
fn a_province_speaks_for_its_own_codes() {
    let mut world = World::new();
    // Guangdong's authority issues a certificate for Xi'an.
    let xian = world.realm.node(610_100, "chengma");
    world.join(&xian, 610_100, "chengma", |_| {});
    let table = world.table();
    assert!(!table.nodes.contains_key("chengma"));
    let why_not = "nobody who may do so vouches for the certificate: nobody may vouch for spiffe://lingnan/region/610100/node/chengma";
    assert_eq!(why(&table, "nodes/610100/chengma/spec"), why_not);
    // With a record of its own, Shaanxi's authority vouches, and Guangdong's still does not.
    let shaanxi = Realm::new();
    let record = v1::ProvinceTrust {
        federation: FEDERATION.to_owned(),
        province: 610_000,
        serial: 1,
        authorities: vec![shaanxi.authority.der().to_vec().into()],
        code_prefixes: vec!["61".to_owned()],
        ..Default::default()
    };
    let record = record_of(&world.realm.anchor, &record);
    world.put("trust/61", record);
    assert!(!world.table().nodes.contains_key("chengma"));
    let own = shaanxi.node(610_100, "chengma");
    world.join(&own, 610_100, "chengma", |_| {});
    assert!(world.table().nodes.contains_key("chengma"));
    // And Shaanxi's not for Guangzhou.
    let foreign = shaanxi.node(440_100, "suikang");
    let key = "nodes/440100/suikang/live/suikang-1";
    let taken = live(&foreign, 440_100, "suikang", "127.0.0.1:6666");
    world.unmoved(
        |world| world.put(key, taken),
        key,
        "nobody who may do so vouches for the certificate: invalid peer certificate: BadSignature",
    );
    // A prefix that is narrower than the node's scope.
    let narrow =
        world.realm.record(|trust| (trust.serial, trust.code_prefixes) = (2, vec!["4401".to_owned()]));
    world.put("trust/44", narrow);
    let table = world.table();
    assert!(table.nodes.contains_key("suikang") && !table.nodes.contains_key("yuekang"));
    assert!(why(&table, "nodes/440000/yuekang/spec").contains("may not speak for 440000"));
}

#[test]
fn the_key_of_one_city_cannot_sign_for_another() {
    let mut world = World::new();
    let shenzhen = world.realm.node(440_300, "shenzhen");
    world.join(&shenzhen, 440_300, "shenzhen", |_| {});
    let taken = keys(&shenzhen, 440_300, "shenzhen", &[440_100]);
    world.put("nodes/440300/shenzhen/keys", taken);
    let table = world.table();
    assert!(why(&table, "nodes/440300/shenzhen/keys").contains("regions of the node's scopes"));
    assert_eq!(table.keys.len(), 2, "those of Suikang and Yuekang");
    // Nor is a key taken that stands beside the signed ones.
    let suikang = world.realm.node(440_100, "suikang");
    let mut stored = v1::NodeKeys::decode(keys(&suikang, 440_100, "suikang", &[440_100]).as_slice()).unwrap();
    stored.keys.push(key(9, &[440_100]));
    world.put("nodes/440100/suikang/keys", stored.encode_to_vec());
    let table = world.table();
    assert_eq!(why(&table, "nodes/440100/suikang/keys"), "keys that are not signed");
    assert_eq!(table.keys.len(), 2);
}

#[test]
fn an_endpoint_cannot_be_led_elsewhere() {
    let mut world = World::new();
    let suikang = world.realm.node(440_100, "suikang");
    let key = "nodes/440100/suikang/live/suikang-1";
    // The signed address counts, not the one beside it.
    let mut stored =
        v1::LiveEndpoint::decode(live(&suikang, 440_100, "suikang", "127.0.0.1:9101").as_slice()).unwrap();
    stored.address = "127.0.0.1:6666".to_owned();
    world.put(key, stored.encode_to_vec());
    assert_eq!(&*world.table().nodes["suikang"].endpoints[0].address, "127.0.0.1:9101");
    // A declaration moved to another key.
    world.put("nodes/440100/suikang/live/suikang-2", stored.encode_to_vec());
    let table = world.table();
    assert_eq!(table.nodes["suikang"].endpoints.len(), 1);
    assert!(why(&table, "nodes/440100/suikang/live/suikang-2").contains("another endpoint"));
}

#[test]
fn who_is_revoked_or_expired_is_out_and_who_is_restored_is_back() {
    let mut world = World::new();
    let id = "spiffe://lingnan/region/440100/node/suikang".to_owned();
    world.table();
    let revoked = world.realm.record(|trust| (trust.serial, trust.revoked_ids) = (2, vec![id]));
    world.put("trust/44", revoked);
    let table = world.table();
    assert!(!table.nodes.contains_key("suikang") && table.nodes.contains_key("yuekang"));
    assert_eq!(why(&table, "nodes/440100/suikang/spec"), "the identity is revoked");
    let restored = world.realm.record(|trust| trust.serial = 3);
    world.put("trust/44", restored);
    assert!(world.table().nodes.contains_key("suikang"));
    // Its time is over; nothing else has changed.
    let due = world.fold.due();
    assert!(world.at(due - 1).nodes.contains_key("suikang"));
    let table = world.at(due);
    assert!(table.nodes.is_empty());
    assert_eq!(why(&table, "nodes/440100/suikang/spec"), "the certificate is not valid now");
}

#[test]
fn who_was_vouched_for_by_a_withdrawn_authority_is_out() {
    let mut world = World::new();
    assert_eq!(world.table().nodes.len(), 2);
    let other = Authority::new("another", NOW - 10, END).unwrap().0;
    let withdrawn = world.realm.record(|trust| {
        (trust.serial, trust.authorities) = (2, vec![other.der().to_vec().into()]);
    });
    world.put("trust/44", withdrawn);
    let table = world.table();
    assert!(table.nodes.is_empty() && table.keys.is_empty(), "{:?}", table.nodes);
    assert!(!why(&table, "nodes/440100/suikang/spec").is_empty());
    let back = world.realm.record(|trust| trust.serial = 3);
    world.put("trust/44", back);
    assert_eq!(world.table().nodes.len(), 2);
}

#[test]
fn one_revoked_certificate_of_several_takes_its_own_keys_only() {
    let mut world = World::new();
    let (first, second) = (world.realm.node(440_100, "suikang"), world.realm.node(440_100, "suikang"));
    let declared = |signer: &Signer, id: u8| {
        let keys = vec![key(id, &[440_100])];
        signer.sign(Kind::Keys, &v1::KeyDeclaration { region: 440_100, node: "suikang".to_owned(), keys })
    };
    let signed = vec![declared(&first, 1), declared(&second, 2)];
    world.put("nodes/440100/suikang/keys", v1::NodeKeys { keys: Vec::new(), signed }.encode_to_vec());
    let of_suikang = |table: &Table| table.keys.iter().filter(|key| key.regions == [440_100]).count();
    assert_eq!(of_suikang(&world.table()), 2);
    let serial = second.leaf().serial.clone();
    let revoked = world.realm.record(|trust| (trust.serial, trust.revoked_serials) = (2, vec![serial]));
    world.put("trust/44", revoked);
    assert_eq!(of_suikang(&world.table()), 1);
}

#[test]
fn certificates_of_a_bad_form_are_refused() {
    let mut world = World::new();
    world.table();
    type Change = fn(&mut Order);
    let changes: [(Change, &str); 5] = [
        (|order| order.uris.push("spiffe://lingnan/app/a".to_owned()), "2 URIs"),
        (|order| order.uris = vec!["spiffe://lingnan/region/440100/node/*".to_owned()], "URI is no id"),
        (|order| order.not_after_unix_s = NOW, "not valid now"),
        (|order| order.not_before_unix_s = NOW + 1, "not valid now"),
        (|order| order.uses = vec![Usage::Server], "not made for calling"),
    ];
    for (change, reason) in changes {
        let signer = world.realm.signer("spiffe://lingnan/region/440100/node/suikang", change);
        let record = signer.sign(Kind::Manifest, &manifest(440_100, "suikang", |m| m.rps_max = 1));
        world.put("nodes/440100/suikang/spec", record.encode_to_vec());
        let table = world.table();
        assert_eq!(table.nodes["suikang"].rps_max, None, "the route has changed");
        assert!(why(&table, "nodes/440100/suikang/spec").contains(reason), "{:?}", table.quarantined);
    }
}

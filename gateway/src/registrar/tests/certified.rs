//! Who may join with a certificate, and what of it is written.

use super::*;
use crate::identity::trust::tests::{Realm, Signer};
use suiyue_proto::{
    identity::signed::Kind,
    v1::{EndpointDeclaration, KeyDeclaration, NodeKeys, SignedRecord},
};

const SPEC: &str = "/suiyue/v1/nodes/440100/suikang/spec";
const KEYS: &str = "/suiyue/v1/nodes/440100/suikang/keys";

/// A gateway that knows the anchor and has read Guangdong's record, and whom it sees on every connection.
async fn gateway(realm: &Realm, registry: &Arc<Embedded>, peer: &Signer) -> Gateway {
    put_record(registry, realm.record(|_| {})).await;
    let trust = realm.trust();
    let gateway =
        Gateway::facing("gw-1", registry, registry.clone(), Some((trust.clone(), Peer::from(peer.leaf()))));
    let mut tables = gateway.tables.clone();
    tables.wait_for(|_| !trust.roll().provinces().is_empty()).await.unwrap();
    gateway
}

async fn put_record(registry: &Arc<Embedded>, record: Vec<u8>) {
    store(registry, "/suiyue/v1/trust/44", record).await;
}

/// Writes as an owner of etcd can.
async fn store(registry: &Arc<Embedded>, key: &str, value: Vec<u8>) {
    let present = registry.list(key).await.unwrap().entries;
    let expect = vec![(key.to_owned(), present.first().map_or(0, |entry| entry.mod_revision))];
    written(&**registry, Txn { expect, puts: vec![(key.to_owned(), value.into(), 0)], ..Txn::default() })
        .await;
}

/// What a node with this certificate says.
fn signed(signer: &Signer, change: impl FnOnce(&mut Hello, &mut Manifest)) -> Hello {
    let mut hello = suikang(|hello, manifest| {
        hello.keys = vec![key(1)];
        change(hello, manifest);
    });
    let manifest = hello.manifest.take().unwrap();
    let (region, node) = (manifest.region, manifest.node.clone());
    let keys = KeyDeclaration { region, node: node.clone(), keys: std::mem::take(&mut hello.keys) };
    let endpoint = EndpointDeclaration {
        region,
        node,
        endpoint: std::mem::take(&mut hello.endpoint),
        address: std::mem::take(&mut hello.address),
        incarnation: std::mem::take(&mut hello.incarnation),
    };
    let bare = |record: SignedRecord| Some(SignedRecord { chain: Vec::new(), ..record });
    hello.signed_manifest = bare(signer.sign(Kind::Manifest, &manifest));
    hello.signed_keys = bare(signer.sign(Kind::Keys, &keys));
    hello.signed_endpoint = bare(signer.sign(Kind::Endpoint, &endpoint));
    hello.chain = signer.chain();
    hello
}

fn key(id: u8) -> VerifyingKey {
    VerifyingKey {
        key_id: vec![id; 4].into(),
        algorithm: 1,
        public_key: vec![id; 32].into(),
        regions: vec![440_100],
        not_before_unix_s: 1,
        not_after_unix_s: i64::MAX,
    }
}

async fn value(registry: &Arc<Embedded>, key: &str) -> bytes::Bytes {
    registry.list(key).await.unwrap().entries[0].value.clone()
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_enough_and_what_it_signed_is_stored() {
    let (realm, registry) = (Realm::new(), Arc::<Embedded>::default());
    let node = realm.node(440_100, "suikang");
    let mut gateway = gateway(&realm, &registry, &node).await;
    let _stream = gateway.join("", signed(&node, |_, _| {})).await.unwrap();
    let table = gateway.until(|table| table.nodes.contains_key("suikang")).await;
    let endpoint = &table.nodes["suikang"].endpoints[0];
    assert_eq!(endpoint.identity.as_ref().unwrap().to_string(), node.leaf().id.to_string());
    assert_eq!((table.keys.clone(), table.quarantined.clone()), (vec![key(1)], Vec::new()));
    let spec = SignedRecord::decode(value(&registry, SPEC).await).unwrap();
    assert_eq!(spec.chain, node.chain());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_guangzhou_does_not_register_xian() {
    let (realm, registry) = (Realm::new(), Arc::<Embedded>::default());
    let node = realm.node(440_100, "suikang");
    let gateway = gateway(&realm, &registry, &node).await;
    let elsewhere = |m: &mut Manifest| (m.region, m.scopes) = (610_100, vec![610_100]);
    // Signed by the certificate that it shows: Guangdong's authority does not vouch for Xi'an.
    let (reason, _) = gateway.refused("", signed(&node, |_, m| elsewhere(m))).await;
    assert_eq!(reason, Reason::IdentityRefused);
    // A certificate for Xi'an by the wrong authority.
    let forged = realm.node(610_100, "suikang");
    assert_eq!(gateway.refused("", signed(&forged, |_, m| elsewhere(m))).await.0, Reason::IdentityRefused);
    // A join token does not help.
    assert_eq!(gateway.refused("xian", signed(&node, |_, m| elsewhere(m))).await.0, Reason::IdentityRefused);
    // Another node's records on one's own connection.
    let other = realm.node(440_100, "yuekang");
    let stolen = signed(&other, |_, m| m.node = "yuekang".to_owned());
    assert_eq!(gateway.refused("", stolen).await.0, Reason::IdentityRefused);
    // A scope that the role allows and the certificate does not cover.
    let wide = signed(&node, |_, m| m.scopes.push(440_300));
    assert_eq!(gateway.refused("", wide).await.0, Reason::JoinScopeRefused);
    assert!(registry.list("/suiyue/v1/nodes").await.unwrap().entries.is_empty(), "nothing was written");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_signed_is_refused_by_name() {
    let (realm, registry) = (Realm::new(), Arc::<Embedded>::default());
    let node = realm.node(440_100, "suikang");
    let gateway = gateway(&realm, &registry, &node).await;
    assert_eq!(gateway.refused("guangzhou", plain()).await.0, Reason::SignatureInvalid);
    let broken = |field: &str| {
        let mut hello = signed(&node, |_, _| {});
        let other = vec![0; 64].into();
        match field {
            "signed_manifest" => hello.signed_manifest.as_mut().unwrap().signature = other,
            "signed_keys" => hello.signed_keys.as_mut().unwrap().signature = other,
            _ => hello.signed_endpoint.as_mut().unwrap().signature = other,
        }
        hello
    };
    for field in ["signed_manifest", "signed_keys", "signed_endpoint"] {
        let (reason, details) = gateway.refused("", broken(field)).await;
        assert_eq!(reason, Reason::SignatureInvalid);
        assert!(details.contains(&("field".to_owned(), field.to_owned())), "{details:?}");
    }
    let foreign_key = signed(&node, |hello, _| hello.keys[0].regions = vec![610_100]);
    let (reason, details) = gateway.refused("", foreign_key).await;
    assert_eq!(reason, Reason::ManifestInvalid);
    assert!(details.iter().any(|(name, text)| name == "field" && text.starts_with("keys")), "{details:?}");
    // What is stored with every report is small.
    for (field, change) in [
        ("chain", (|hello| hello.chain.push(vec![0; 16 << 10].into())) as fn(&mut Hello)),
        ("signed_endpoint", |hello| {
            hello.signed_endpoint.as_mut().unwrap().payload = vec![0; 5 << 10].into();
        }),
    ] {
        let mut hello = signed(&node, |_, _| {});
        change(&mut hello);
        let (reason, details) = gateway.refused("", hello).await;
        assert_eq!(reason, Reason::ManifestInvalid);
        assert!(details.contains(&("field".to_owned(), field.to_owned())), "{details:?}");
    }
    let expired = realm.signer("spiffe://lingnan/region/440100/node/suikang", |order| {
        order.not_after_unix_s = 1_700_000_000;
    });
    assert_eq!(gateway.refused("", signed(&expired, |_, _| {})).await.0, Reason::IdentityRevoked);
}

#[tokio::test(start_paused = true)]
async fn who_is_revoked_while_registered_is_sent_away() {
    let (realm, registry) = (Realm::new(), Arc::<Embedded>::default());
    let node = realm.node(440_100, "suikang");
    let mut gateway = gateway(&realm, &registry, &node).await;
    let mut stream = gateway.join("", signed(&node, |_, _| {})).await.unwrap();
    gateway.until(|table| table.nodes.contains_key("suikang")).await;
    let id = node.leaf().id.to_string();
    put_record(&registry, realm.record(|trust| (trust.serial, trust.revoked_ids) = (2, vec![id]))).await;
    assert_eq!(stream.end().await, Some(Reason::IdentityRevoked));
    gateway.until(|table| !table.nodes.contains_key("suikang")).await;
    assert_eq!(gateway.refused("", signed(&node, |_, _| {})).await.0, Reason::IdentityRevoked);
}

#[tokio::test(start_paused = true)]
async fn a_forged_entry_keeps_nobody_out_and_a_renewed_certificate_replaces_the_old_one() {
    let (realm, registry) = (Realm::new(), Arc::<Embedded>::default());
    let id = "spiffe://lingnan/region/440100/node/suikang";
    let old = realm.signer(id, |order| order.not_after_unix_s -= 1000);
    // Somebody put a manifest there whose serial none could exceed.
    let forged = Realm::new().node(440_100, "suikang");
    let forged = forged.sign(Kind::Manifest, &Manifest { serial: u64::MAX, ..Manifest::default() });
    store(&registry, SPEC, forged.encode_to_vec()).await;
    let mut gateway = gateway(&realm, &registry, &old).await;
    let _first = gateway.join("", signed(&old, |_, m| m.serial = 3)).await.unwrap();
    gateway.until(|table| table.nodes.contains_key("suikang")).await;
    let chain = async |key| SignedRecord::decode(value(&registry, key).await).unwrap().chain;
    assert_eq!(chain(SPEC).await, old.chain());
    // The same manifest, signed again with a certificate that lives longer; and an older one.
    let new = realm.node(440_100, "suikang");
    let _second = gateway.join("", signed(&new, |_, m| m.serial = 3)).await.unwrap();
    assert_eq!(chain(SPEC).await, new.chain());
    let _third = gateway.join("", signed(&old, |_, m| m.serial = 3)).await.unwrap();
    assert_eq!(chain(SPEC).await, new.chain(), "the one that lives longer stays");
    let _fourth = gateway.join("", signed(&new, |_, m| (m.serial, m.rps_max) = (2, 7))).await.unwrap();
    let spec = Manifest::decode(SignedRecord::decode(value(&registry, SPEC).await).unwrap().payload).unwrap();
    assert_eq!(
        (spec.serial, spec.rps_max),
        (3, 0),
        "an endpoint that was not updated joins, and changes nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn keys_of_former_endpoints_stay_as_they_were_signed() {
    let (realm, registry) = (Realm::new(), Arc::<Embedded>::default());
    let node = realm.node(440_100, "suikang");
    let mut gateway = gateway(&realm, &registry, &node).await;
    let _one = gateway.join("", signed(&node, |_, _| {})).await.unwrap();
    let _two = gateway.join("", signed(&node, |hello, _| hello.keys = vec![key(2)])).await.unwrap();
    let table = gateway.until(|table| table.keys.len() == 2).await;
    assert_eq!(table.keys, [key(1), key(2)]);
    // A declaration that has both takes the place of either.
    let _three = gateway.join("", signed(&node, |hello, _| hello.keys = vec![key(1), key(2)])).await.unwrap();
    let stored = NodeKeys::decode(value(&registry, KEYS).await).unwrap();
    assert_eq!(stored.signed.len(), 1);
}

use super::*;
use crate::table::Role;
use suiyue_proto::method::Class;

/// Builds the entries of a registry, one write after the other.
#[derive(Default)]
struct Store(Entries);

impl Store {
    fn raw(mut self, key: &str, value: impl Into<bytes::Bytes>) -> Self {
        let key = format!("/suiyue/v1/{key}");
        let mod_revision = self.0.len() as i64 + 2;
        self.0.insert(key.clone(), Entry { key, value: value.into(), mod_revision, lease: 0 });
        self
    }

    fn put(self, key: &str, value: &impl Message) -> Self {
        self.raw(key, value.encode_to_vec())
    }

    fn node(self, region: u32, name: &str) -> Self {
        self.spec(region, name, |_| {})
    }

    fn spec(self, region: u32, name: &str, change: impl FnOnce(&mut v1::Manifest)) -> Self {
        let role = if region.is_multiple_of(10_000) { v1::Role::Province } else { v1::Role::City };
        let mut manifest =
            v1::Manifest { region, node: name.to_owned(), role: role.into(), ..Default::default() };
        change(&mut manifest);
        self.put(
            &format!("nodes/{region}/{name}/spec"),
            &v1::NodeSpec { manifest: Some(manifest), ..Default::default() },
        )
    }

    fn live(self, node: &str, endpoint: &str, address: &str, ready: &[u32]) -> Self {
        let ready = ready.iter().map(|&region| v1::RegionReady { region, as_of_unix_ms: 7 }).collect();
        let live = v1::LiveEndpoint {
            address: address.to_owned(),
            incarnation: 5,
            report: Some(v1::Report { ready, draining: false }),
            gateway: "gw-1".to_owned(),
            written_unix_ms: 0,
            signed: None,
        };
        self.put(&format!("nodes/{node}/live/{endpoint}"), &live)
    }

    fn fold(&self) -> Table {
        self.over(Table::default())
    }

    fn over(&self, base: Table) -> Table {
        Fold::new(Prefix::default(), base, Source::Etcd).table(&self.0, 99)
    }
}

/// The store makes a table with these nodes and these quarantined keys (with a part of the reason).
#[track_caller]
fn check(store: &Store, nodes: &[&str], quarantined: &[(&str, &str)]) -> Table {
    let table = store.fold();
    assert_eq!(table.nodes.keys().map(|name| &**name).collect::<Vec<_>>(), nodes);
    let found =
        table.quarantined.iter().map(|q| (q.key.strip_prefix("/suiyue/v1/").unwrap(), q.reason.as_str()));
    let found = found.collect::<Vec<_>>();
    assert_eq!(found.len(), quarantined.len(), "{found:?}");
    for (&(key, reason), &(expected, part)) in found.iter().zip(quarantined) {
        assert_eq!(key, expected);
        assert!(reason.contains(part), "{reason:?} should say {part:?}");
    }
    table
}

fn code(number: u32) -> Code {
    Code::new(number).unwrap()
}

/// A descriptor set of one service with one method `Say`, encoded by hand because typed descriptors
/// would drop our options.
fn foreign_service(package: &str, service: &str, class: Class) -> Vec<u8> {
    use prost::encoding::{WireType, encode_key, encode_varint};
    let nested = |tag: u32, body: &[u8], out: &mut Vec<u8>| {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(body.len() as u64, out);
        out.extend_from_slice(body);
    };
    let number = |tag: u32, value: u64, out: &mut Vec<u8>| {
        encode_key(tag, WireType::Varint, out);
        encode_varint(value, out);
    };
    let (mut options, mut method, mut svc, mut message, mut file) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    number(50_441, class.to_proto() as u64, &mut options);
    number(50_442, v1::Access::Public as u64, &mut options);
    nested(1, b"Say", &mut method);
    nested(2, format!(".{package}.Text").as_bytes(), &mut method);
    nested(3, format!(".{package}.Text").as_bytes(), &mut method);
    nested(4, &options, &mut method);
    nested(1, service.as_bytes(), &mut svc);
    nested(2, &method, &mut svc);
    nested(1, b"Text", &mut message);
    nested(1, b"foreign.proto", &mut file);
    nested(2, package.as_bytes(), &mut file);
    nested(3, b"suiyue/v1/options.proto", &mut file);
    nested(4, &message, &mut file);
    nested(6, &svc, &mut file);
    nested(12, b"proto3", &mut file);
    // Imports first: the set of `suiyue.v1` holds them all.
    let mut set = suiyue_proto::DESCRIPTOR_SET.to_vec();
    nested(1, &file, &mut set);
    set
}

#[test]
fn an_empty_registry_makes_the_base_with_our_own_methods() {
    let table = check(&Store::default(), &[], &[]);
    assert_eq!((table.revision, table.source), (99, Source::Etcd));
    assert_eq!(table.methods.len(), method::own().len());
    assert!(table.methods.contains_key("/suiyue.v1.CodeService/ShowCode"));
}

#[test]
fn a_node_is_put_together_from_its_keys() {
    let intent =
        v1::NodeIntent { drained: true, drained_endpoints: vec!["b".to_owned()], ..Default::default() };
    let store = Store::default()
        .spec(440_000, "yuekang", |m| (m.scopes, m.rps_max) = (vec![440_100, 440_000], 500))
        .put("nodes/440000/yuekang/intent", &intent)
        .live("440000/yuekang", "a", "127.0.0.1:1", &[440_000, 440_100])
        .live("440000/yuekang", "b", "127.0.0.1:2", &[]);
    let table = check(&store, &["yuekang"], &[]);
    let node = &table.nodes["yuekang"];
    assert_eq!((node.region, node.role, node.rps_max), (code(440_000), Role::Province, Some(500)));
    assert_eq!(node.scopes, [code(440_000), code(440_100)]);
    assert_eq!(node.intent, Intent { stage: Stage::Active, drained: true });
    let [a, b] = &node.endpoints[..] else { panic!("{:?}", node.endpoints) };
    assert_eq!((&*a.name, &*a.address, a.incarnation, a.draining), ("a", "127.0.0.1:1", 5, false));
    assert_eq!(a.ready, [(code(440_000), 7), (code(440_100), 7)]);
    assert_eq!((&*b.name, b.draining, b.check), ("b", true, Check::Grpc));
}

#[test]
fn stages_and_the_percentage_of_a_canary_are_read() {
    let stage = |stage: i32, canary_percent: u32| {
        let intent = v1::NodeIntent { stage, canary_percent, ..Default::default() };
        let store = Store::default().node(440_100, "suikang").put("nodes/440100/suikang/intent", &intent);
        store.fold().nodes["suikang"].intent.stage
    };
    use Stage::{Active, Canary, Suspended, Test};
    assert_eq!([0, 1, 2, 3, 4].map(|n| stage(n, 0)), [Active, Test, Canary(5), Active, Suspended]);
    assert_eq!([1, 5, 25].map(|percent| stage(2, percent)), [Canary(1), Canary(5), Canary(25)]);
}

#[test]
fn what_cannot_be_decoded_disturbs_nothing_else() {
    let store = Store::default()
        .node(440_100, "suikang")
        .live("440100/suikang", "a", "127.0.0.1:1", &[440_100])
        .raw("nodes/440100/suikang/live/b", &b"\xff"[..])
        .raw("nodes/440100/suikang/keys", &b"\xff"[..])
        .raw("nodes/440100/suikang/intent", &b"\xff"[..])
        .raw("nodes/610100/xian/spec", &b"\xff"[..])
        .live("610100/xian", "a", "127.0.0.1:1", &[])
        .raw("regions/440100", &b"\xff"[..])
        .raw("strange", "");
    let table = check(
        &store,
        &["suikang"],
        &[
            ("regions/440100", "cannot be decoded"),
            ("strange", "no such key"),
            ("nodes/610100/xian/spec", "cannot be decoded"),
            ("nodes/610100/xian/live/a", "spec cannot be used"),
            ("nodes/440100/suikang/intent", "cannot be decoded"),
            ("nodes/440100/suikang/keys", "cannot be decoded"),
            ("nodes/440100/suikang/live/b", "cannot be decoded"),
        ],
    );
    assert_eq!(table.nodes["suikang"].endpoints.len(), 1);
}

#[test]
fn an_order_that_is_not_understood_suspends_and_its_drains_hold() {
    let says = |intent: v1::NodeIntent, reason| {
        let intent = v1::NodeIntent { drained: true, drained_endpoints: vec!["a".to_owned()], ..intent };
        let store = Store::default()
            .node(440_100, "suikang")
            .live("440100/suikang", "a", "127.0.0.1:1", &[440_100])
            .put("nodes/440100/suikang/intent", &intent);
        let table = check(&store, &["suikang"], &[("nodes/440100/suikang/intent", reason)]);
        let node = &table.nodes["suikang"];
        assert_eq!(node.intent, Intent { stage: Stage::Suspended, drained: true });
        assert!(node.endpoints[0].draining);
        // A node of the configuration is no exception.
        let endpoints = vec![Endpoint { draining: false, ..node.endpoints[0].clone() }];
        let own = Node { is_static: true, intent: Intent::default(), endpoints, ..Node::clone(node) };
        let base = Table { nodes: [(own.name.clone(), Arc::new(own))].into(), ..Table::default() };
        let entries = Store::default().put("nodes/440100/suikang/intent", &intent);
        let table = entries.over(base);
        assert_eq!((table.nodes["suikang"].intent, table.quarantined.len()), (node.intent, 1));
        assert!(table.nodes["suikang"].endpoints[0].draining);
    };
    says(v1::NodeIntent { stage: 9, ..Default::default() }, "knows no stage 9");
    let stage = v1::Stage::Canary.into();
    says(v1::NodeIntent { stage, canary_percent: 7, ..Default::default() }, "1, 5 or 25");
    let garbage =
        Store::default().node(440_100, "suikang").raw("nodes/440100/suikang/intent", &b"\xff"[..]).fold();
    assert_eq!(garbage.nodes["suikang"].intent, Intent { stage: Stage::Suspended, drained: false });
}

#[test]
fn a_name_belongs_to_the_first_region() {
    let store = Store::default().node(610_100, "kang").node(440_100, "kang");
    let table = check(&store, &["kang"], &[("nodes/610100/kang/spec", "belongs to a node of region 440100")]);
    assert_eq!(table.nodes["kang"].region, code(440_100));
}

#[test]
fn nobody_speaks_for_a_foreign_region() {
    let store = Store::default()
        .spec(440_100, "suikang", |m| m.scopes = vec![440_100, 440_300])
        .spec(440_000, "yuekang", |m| m.scopes = vec![440_000, 610_100])
        .spec(610_100, "xian", |m| m.region = 440_100)
        .node(440_106, "tianhe");
    check(
        &store,
        &[],
        &[
            ("nodes/440000/yuekang/spec", "610100 is not"),
            ("nodes/440100/suikang/spec", "only 440100"),
            ("nodes/440106/tianhe/spec", "440100"),
            ("nodes/610100/xian/spec", "another node than the key"),
        ],
    );
}

#[test]
fn endpoints_are_checked_one_by_one() {
    let store = Store::default()
        .node(440_100, "suikang")
        .live("440100/suikang", "a", "nowhere", &[])
        .live("440100/suikang", "b", "127.0.0.1:1", &[440_100, 610_100])
        .live("440100/ghost", "a", "127.0.0.1:1", &[]);
    let table = check(
        &store,
        &["suikang"],
        &[
            ("nodes/440100/ghost/live/a", "has no spec"),
            ("nodes/440100/suikang/live/a", "host:port"),
            ("nodes/440100/suikang/live/b", "ready for 610100"),
        ],
    );
    assert_eq!(table.nodes["suikang"].endpoints[0].ready, [(code(440_100), 7)]);
}

#[test]
fn keys_of_foreign_regions_are_left_out() {
    let key = |region| v1::VerifyingKey {
        key_id: vec![1; 4].into(),
        algorithm: 1,
        public_key: vec![1; 32].into(),
        regions: vec![region],
        not_before_unix_s: 1,
        not_after_unix_s: 2,
    };
    let keys = v1::NodeKeys { keys: vec![key(610_100), key(440_100)], signed: Vec::new() };
    let store = Store::default().node(440_100, "suikang").put("nodes/440100/suikang/keys", &keys);
    let table = check(&store, &["suikang"], &[("nodes/440100/suikang/keys", "keys.regions")]);
    assert_eq!(table.keys, [key(440_100)]);
}

/// A policy of Guangzhou that is changed so cannot be used, and says this; another region's stays.
#[track_caller]
fn bad_policy(change: impl FnOnce(&mut v1::RegionPolicy), reason: &str) {
    let peer = v1::Peer { node: "xian".to_owned(), classes: Vec::new() };
    let weights = ["suikang", "yuekang"].map(|node| v1::Weight { node: node.to_owned(), weight: 50.0 });
    let rule = v1::ClassRule { class: v1::Class::Scan.into(), max_lag_s: Some(30), nothing_healthy: 3 };
    let good = v1::RegionPolicy {
        peers: vec![peer],
        weights: weights.into(),
        classes: vec![rule],
        two_person_above: Some(0.5),
        in_flight_max: Some(10),
    };
    let mut bad = good.clone();
    change(&mut bad);
    let store =
        Store::default().node(440_100, "suikang").put("regions/440100", &bad).put("regions/440200", &good);
    let table = check(&store, &["suikang"], &[("regions/440100", reason)]);
    assert_eq!(table.policies.keys().collect::<Vec<_>>(), [&code(440_200)]);
    let policy = &table.policies[&code(440_200)];
    assert_eq!(policy.peers, [("xian".into(), vec![Class::Scan])]);
    assert_eq!(policy.weights, [("suikang".into(), 50.0), ("yuekang".into(), 50.0)]);
    assert_eq!(policy.max_lag[Class::Scan.index()], Some(std::time::Duration::from_secs(30)));
}

#[test]
fn a_policy_with_a_bad_field_is_left_out_and_the_rest_stays() {
    bad_policy(|p| p.peers[0].node = "Xian".to_owned(), "peers[0].node: name_invalid");
    bad_policy(|p| p.peers[0].classes = vec![0], "peers[0].classes[0]: class_unknown");
    bad_policy(|p| p.peers = vec![p.peers[0].clone(); 2], "peers[1].node: node_twice");
    bad_policy(|p| p.weights[0].weight = f64::NAN, "weights[0].weight: weight_not_finite");
    bad_policy(|p| p.weights[1].weight = -1.0, "weights[1].weight: weight_negative");
    bad_policy(|p| p.weights.iter_mut().for_each(|w| w.weight = 0.0), "weights: weights_sum");
    bad_policy(|p| p.classes[0].class = 9, "classes[0].class: class_unknown");
    bad_policy(|p| p.classes[0].max_lag_s = Some(0), "classes.scan.max_lag_s: lag_out_of_range");
    bad_policy(|p| p.classes[0].nothing_healthy = 9, "classes.scan.nothing_healthy: rule_unknown");
    bad_policy(|p| p.two_person_above = Some(1.5), "two_person_above: fraction_out_of_range");
    bad_policy(|p| p.in_flight_max = Some(0), "in_flight_max: in_flight_out_of_range");
}

#[test]
fn a_policy_of_what_is_not_routed_is_left_out() {
    let empty = v1::RegionPolicy::default();
    let store = Store::default()
        .put("regions/440106", &empty)
        .put("regions/440100", &empty)
        .put("regions/999999", &empty);
    // 999999 is no code at all; 440106 is a county.
    let reasons = [("regions/440106", "440100"), ("regions/999999", "no region code")];
    let table = check(&store, &[], &reasons);
    assert_eq!(table.policies.keys().collect::<Vec<_>>(), [&code(440_100)]);
}

#[test]
fn a_policy_may_name_nodes_that_are_not_there() {
    let policy = v1::RegionPolicy {
        peers: vec![v1::Peer { node: "xian".to_owned(), classes: Vec::new() }],
        ..Default::default()
    };
    let table = check(&Store::default().put("regions/440100", &policy), &[], &[]);
    assert_eq!(table.policies[&code(440_100)].peers, [("xian".into(), vec![Class::Scan])]);
}

#[test]
fn foreign_methods_are_listed_as_first_declared() {
    let with = |class| {
        move |m: &mut v1::Manifest| m.descriptor_set = foreign_service("foreign", "Echo", class).into()
    };
    let store = Store::default()
        .spec(610_100, "xian", with(Class::Query))
        .spec(440_100, "suikang", with(Class::Scan))
        .spec(440_000, "yuekang", with(Class::Query));
    let reasons = [("nodes/440100/suikang/spec", "/foreign.Echo/Say is declared differently")];
    let table = check(&store, &["xian", "yuekang"], &reasons);
    assert_eq!(table.methods["/foreign.Echo/Say"].class, Class::Query);
    let declared_by = table.declared_by["/foreign.Echo/Say"].iter().map(|name| &**name).collect::<Vec<_>>();
    assert_eq!(declared_by, ["xian", "yuekang"]);
}

#[test]
fn our_own_and_grpcs_paths_cannot_be_taken() {
    for package in ["suiyue.v1.more", "grpc.health.v1"] {
        let set = foreign_service(package, "Health", Class::Scan);
        let store = Store::default().spec(440_100, "suikang", |m| m.descriptor_set = set.into());
        check(&store, &[], &[("nodes/440100/suikang/spec", "no other")]);
    }
}

#[test]
fn the_configuration_comes_first() {
    let old = Node {
        name: "old".into(),
        region: code(440_100),
        role: Role::City,
        scopes: vec![code(440_100)],
        rps_max: None,
        ceilings: CEILINGS,
        intent: Intent::default(),
        is_static: true,
        endpoints: Vec::new(),
    };
    let base = Table { nodes: [("old".into(), Arc::new(old))].into(), ..Table::default() };
    let drained = v1::NodeIntent { drained: true, ..Default::default() };
    let store =
        Store::default().node(610_100, "old").node(610_100, "xian").put("nodes/440100/old/intent", &drained);
    let table = store.over(base);
    assert_eq!(table.nodes.len(), 2);
    assert!(table.nodes["old"].is_static && table.nodes["old"].intent.drained);
    assert_eq!(table.quarantined[0].reason, "the configuration has a node of this name");
}

#[test]
fn a_spec_that_changes_is_read_again() {
    let mut fold = Fold::new(Prefix::default(), Table::default(), Source::Etcd);
    let mut store = Store::default().node(440_100, "suikang");
    assert_eq!(fold.table(&store.0, 1).nodes["suikang"].rps_max, None);
    store = store.spec(440_100, "suikang", |m| m.rps_max = 9);
    assert_eq!(fold.table(&store.0, 2).nodes["suikang"].rps_max, Some(9));
    store.0.clear();
    assert!(fold.table(&store.0, 3).nodes.is_empty());
    assert!(fold.checked.is_empty());
}

/// Not a bound that can fail: prints what a fold of 1,000 nodes costs.
#[test]
fn a_thousand_nodes_fold() {
    let regions =
        suiyue_proto::region::all().filter(|d| d.is_region()).map(|d| d.code.get()).collect::<Vec<_>>();
    let set = bytes::Bytes::from(foreign_service("foreign", "Echo", Class::Scan));
    let mut store = Store::default();
    for n in 0..1000 {
        let (region, name) = (regions[n % regions.len()], format!("node-{n}"));
        store = store
            .spec(region, &name, |m| {
                if n % 10 == 0 {
                    m.descriptor_set = set.clone()
                }
            })
            .live(&format!("{region}/{name}"), "a", "127.0.0.1:1", &[region])
            .live(&format!("{region}/{name}"), "b", "127.0.0.1:2", &[region]);
    }
    let mut fold = Fold::new(Prefix::default(), Table::default(), Source::Etcd);
    let start = std::time::Instant::now();
    let first = fold.table(&store.0, 1);
    let middle = std::time::Instant::now();
    let second = fold.table(&store.0, 2);
    println!("first {:?}, again {:?}, {} nodes", middle - start, middle.elapsed(), second.nodes.len());
    assert_eq!((first.nodes.len(), second.nodes.len()), (1000, 1000));
}

fn app(token: u8) -> v1::AppGrant {
    v1::AppGrant {
        token_sha256: vec![token; 32].into(),
        methods: vec!["a.B/*".to_owned()],
        regions: vec!["*".to_owned()],
        ..Default::default()
    }
}

#[test]
fn apps_become_grants_and_bad_ones_may_call_nothing() {
    let nowhere = v1::AppGrant { regions: Vec::new(), ..app(3) };
    let store = Store::default()
        .put("apps/second", &app(1))
        .put("apps/first", &app(1))
        .put("apps/nowhere", &nowhere)
        .raw("apps/odd", "\u{1}");
    let quarantined = [
        ("apps/first", "token or certificate of the app second"),
        ("apps/nowhere", "regions: count_out_of_range"),
        ("apps/odd", "cannot be decoded"),
    ];
    let mut table = store.fold();
    table.quarantined.sort_by(|a, b| a.key.cmp(&b.key));
    for ((key, reason), found) in quarantined.iter().zip(&table.quarantined) {
        assert!(found.key.ends_with(key) && found.reason.contains(reason), "{found:?}");
    }
    assert_eq!(table.apps.all().map(|grant| &*grant.app).collect::<Vec<_>>(), ["second"]);
}

#[test]
fn grants_stay_the_same_while_no_app_changes() {
    let mut fold = Fold::new(Prefix::default(), Table::default(), Source::Etcd);
    let store = Store::default().put("apps/gate", &app(1));
    let first = fold.table(&store.0, 5).apps;
    let store = store.node(440_100, "suikang");
    assert!(Arc::ptr_eq(&first, &fold.table(&store.0, 6).apps));
    let store = store.put("apps/gate", &app(2));
    let second = fold.table(&store.0, 7).apps;
    assert!(!Arc::ptr_eq(&first, &second) && second.of_token(crate::apps::token::Hash([2; 32])).is_some());
    assert_eq!(fold.table(&Entries::new(), 8).apps.all().count(), 0);
}

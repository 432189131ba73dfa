use super::*;
use crate::identity::trust::tests::Realm;

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(Path::new("gateway.toml"), text, &Overrides::default())
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let Err(error) = parse(text) else { panic!("accepted: {text}") };
    let error = error.to_string();
    for part in expected {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn an_empty_file_is_a_gateway_without_nodes() {
    let config = parse("").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8440");
    assert_eq!(config.control.to_string(), "127.0.0.1:8441");
    assert_eq!(config.admin.to_string(), "127.0.0.1:8442");
    assert_eq!(config.registry.kind, Kind::None);
    assert!(config.table.nodes.is_empty());
    assert!(config.table.methods.contains_key("/suiyue.v1.CodeService/ShowCode"));
}

#[test]
fn static_nodes_and_methods_become_a_table() {
    let config = parse(
        r#"
        default_region = 440106
        [[node]]
        name = "old"
        region = 440000
        scopes = [440000, 440100]
        addresses = ["10.0.0.1:9000", "[::1]:9001"]
        health = "tcp"
        [[method]]
        path = "/echo.Echo/Unary"
        class = "scan"
        idempotency = "idempotent"
        "#,
    )
    .unwrap();
    let node = &config.table.nodes["old"];
    assert_eq!((node.role, node.endpoints.len(), node.scopes.len()), (crate::table::Role::Province, 2, 2));
    assert!(node.endpoints.iter().all(|e| e.ready.len() == 2));
    assert!(config.table.methods["/echo.Echo/Unary"].idempotency.replayable());
    assert_eq!(config.default_region, Some(440_106));
}

#[test]
fn a_wrong_field_is_named_with_its_line() {
    refused("\n\nlisten_on = \"x\"", &["gateway.toml", "line 3", "listen_on", "listen"]);
    refused("workers = \"two\"", &["gateway.toml", "line 1", "workers"]);
    refused("\nlisten = \"nowhere\"", &["gateway.toml:2", "listen", "HOST:PORT"]);
    refused("workers = 0", &["gateway.toml:1", "workers", "1 to 256"]);
    refused("\n\n\ndefault_region = 999999", &["gateway.toml:4", "default_region", "999999"]);
    refused("default_region = 371200", &["gateway.toml:1", "default_region", "370116"]);
    refused("control = \"0.0.0.0:1\"", &["gateway.toml:1", "control", "loopback"]);
    refused("id = \"Not A Name\"", &["gateway.toml:1", "id"]);
    refused("[registry]\nkind = \"etcd\"", &["registry.endpoints", "2379"]);
    refused("[registry]\nkind = \"zookeeper\"", &["line 2", "zookeeper"]);
    refused("[registry]\nprefix = \"suiyue/\"", &["gateway.toml:2", "registry.prefix"]);
    for peer in ["gw-2", "http://gw-2:8441", ":8441", "gw-2:0", "gw-2:eight"] {
        let text = format!("[registry]\npeers = [\"gw-1:8441\", {peer:?}]");
        refused(&text, &["gateway.toml:2", "registry.peers", peer, "HOST:PORT"]);
    }
    refused("[[join]]\nregion = 440100", &["gateway.toml:2", "token"]);
    refused("[[join]]\nregion = 440100\ntoken = \"short\"", &["join.token", "8 characters"]);
    refused(
        "[[join]]\nregion = 440106\ntoken = \"long enough\"",
        &["gateway.toml:2", "join.region", "440100"],
    );
    let node = |rest: &str| format!("[[node]]\nname = \"a\"\nregion = 440100\n{rest}");
    refused(&node("addresses = []"), &["gateway.toml:4", "node.addresses"]);
    refused(&node("addresses = [\"x\"]"), &["node.addresses", "HOST:PORT"]);
    refused(&node("scopes = [610100]\naddresses = [\"a:1\"]"), &["gateway.toml:4", "node.scopes", "610100"]);
    refused(
        &(node("addresses = [\"a:1\"]\n") + &node("addresses = [\"a:1\"]")),
        &["gateway.toml:6", "twice"],
    );
    refused("[[method]]\npath = \"x\"\nclass = \"scan\"", &["gateway.toml:2", "method.path"]);
    refused(
        "[[method]]\npath = \"/a.B/C\"\nclass = \"top\"",
        &["gateway.toml:3", "method.class", "scan, show"],
    );
    refused("[[method]]\npath = \"/suiyue.v1.X/Y\"\nclass = \"scan\"", &["built in"]);
    refused("[tls]\ncert = \"/nonexistent\"\nkey = \"k\"", &["gateway.toml:2", "tls.cert", "/nonexistent"]);
    refused("[health]\nramp_s = -1.0", &["gateway.toml:2", "health.ramp_s", "3600"]);
    for bad in ["collector:4317", "https://c:4317", "http://c", "http://c:4317/v1/traces", ""] {
        refused(
            &format!("[telemetry]\notlp = {bad:?}"),
            &["gateway.toml:2", "telemetry.otlp", "http://HOST"],
        );
    }
    refused("[telemetry]\ntrace_ratio = 1.5", &["gateway.toml:2", "telemetry.trace_ratio", "1.0"]);
    refused("[telemetry]\naccess_log_ratio = -1.0", &["gateway.toml:2", "telemetry.access_log_ratio"]);
    refused("[telemetry]\naccess-log = true", &["line 2", "access-log", "access_log"]);
    for bad in ["\"all\"", "true", "[1]", "[\"/a.B\"]", "[\"*\"]"] {
        refused(&format!("[apps]\nanonymous = {bad}"), &["gateway.toml:2", "apps.anonymous", "method"]);
    }
    refused("[apps]\nanonymus = \"allow\"", &["line 2", "anonymus"]);
    refused("[limits]\nrequest_bytes = 0", &["gateway.toml:2", "limits.request_bytes"]);
}

#[test]
fn how_much_one_person_moves_is_a_part() {
    assert_eq!(parse("").unwrap().two_person_above, 0.2);
    assert_eq!(parse("[shifts]\ntwo_person_above = 1.0").unwrap().two_person_above, 1.0);
    for bad in ["1.1", "-0.1", "nan"] {
        let text = format!("[shifts]\ntwo_person_above = {bad}");
        refused(&text, &["gateway.toml:2", "shifts.two_person_above"]);
    }
}

#[test]
fn nobody_calls_anonymously_where_apps_can_be_registered() {
    let takes = |text: &str, path: &str| parse(text).unwrap().anonymous.takes(path);
    let (verify, show) = ("/suiyue.v1.CodeService/VerifyCode", "/suiyue.v1.CodeService/ShowCode");
    assert!(takes("", show));
    assert!(!takes("[registry]\nkind = \"embedded\"", verify));
    assert!(takes("[apps]\nanonymous = \"allow\"\n[registry]\nkind = \"embedded\"", show));
    assert!(!takes("[apps]\nanonymous = \"deny\"", verify));
    let some = format!("[apps]\nanonymous = [{verify:?}, \"suiyue.v1.TrustService/*\"]");
    assert!(
        takes(&some, verify) && takes(&some, "/suiyue.v1.TrustService/GetTrustList") && !takes(&some, show)
    );
}

#[test]
fn telemetry_is_off_until_it_is_asked_for() {
    let settings = |text: &str| parse(text).unwrap().telemetry;
    let off = settings("");
    assert_eq!((off.otlp, off.access_log_ratio), (None, 0.0));
    let on = settings("[telemetry]\notlp = \"http://127.0.0.1:4317\"\naccess_log = true");
    assert_eq!(on.otlp.unwrap().port_u16(), Some(4317));
    assert_eq!((on.trace_ratio, on.access_log_ratio), (0.01, 1.0));
    let sampled = settings("[telemetry]\naccess_log = true\naccess_log_ratio = 0.25");
    assert_eq!((sampled.otlp, sampled.access_log_ratio), (None, 0.25));
}

#[test]
fn overrides_win_over_the_file() {
    let overrides = Overrides {
        listen: Some("127.0.0.1:1".into()),
        workers: Some(3),
        etcd: vec!["127.0.0.1:2379".into()],
        ..Overrides::default()
    };
    let config = Config::parse(Path::new("f"), "listen = \"127.0.0.1:2\"\nworkers = 1", &overrides).unwrap();
    assert_eq!((config.listen.port(), config.workers), (1, 3));
    assert_eq!(config.registry.kind, Kind::Etcd);
    assert_eq!(config.registry.endpoints, ["http://127.0.0.1:2379"]);
}

#[test]
fn with_an_identity_the_control_port_may_leave_loopback() {
    let realm = Realm::new();
    let anchor = realm.anchor.public();
    let section = realm.section("spiffe://lingnan/gateway/gw-1");
    let trust = format!("[trust]\nfederation = \"lingnan\"\nanchor = \"{anchor}\"\n");
    let config = parse(&format!("control = \"0.0.0.0:1\"\n{section}{trust}")).unwrap();
    assert_eq!((config.id.as_str(), config.control.to_string().as_str()), ("gw-1", "0.0.0.0:1"));
    assert_eq!(config.trust.unwrap().root().unwrap().federation, "lingnan");
    refused(&format!("id = \"gw-2\"\n{section}"), &["gateway.toml:1", "id", "gw-1"]);
    refused(&trust, &["gateway.toml:3", "trust", "[identity]"]);
    refused(&format!("{section}[trust]\nfederation = \"other\"\nanchor = \"{anchor}\""), &["lingnan"]);
    refused(&format!("{section}[trust]\nfederation = \"lingnan\"\nanchor = \"00\""), &["64 hexadecimal"]);
    refused(&format!("{section}ca = \"x\""), &["ca", "cert"]);
    let node = realm.section("spiffe://lingnan/region/440100/node/suikang");
    refused(&node, &["gateway.toml:2", "identity.cert", "no gateway"]);
    realm.expose();
    refused(&section, &["gateway.toml:2", "identity", "chmod 600"]);
}

#[test]
fn a_static_node_over_tls_is_the_one_of_its_name() {
    let realm = Realm::new();
    let node =
        |tls| format!("[[node]]\nname = \"suikang\"\nregion = 440100\naddresses = [\"a:1\"]\ntls = {tls}\n");
    let section = realm.section("spiffe://lingnan/gateway/gw-1");
    let identity = |tls: bool| {
        let config = parse(&format!("{}{section}", node(tls))).unwrap();
        config.table.nodes["suikang"].endpoints[0].identity.as_ref().map(ToString::to_string)
    };
    assert_eq!(identity(true).as_deref(), Some("spiffe://lingnan/region/440100/node/suikang"));
    assert_eq!(identity(false), None);
    assert!(parse(&node(false)).is_ok());
    refused(&node(true), &["gateway.toml:5", "node.tls", "[identity]"]);
}

#[test]
fn tls_towards_etcd_comes_whole() {
    let realm = Realm::new();
    let [cert, key, ca] = realm.paths("spiffe://lingnan/gateway/gw-1");
    let etcd =
        |rest: &str| format!("[registry]\nkind = \"etcd\"\nendpoints = [\"a:2379\", \"http://b:1\"]\n{rest}");
    let config = parse(&etcd(&format!("ca = {ca:?}\ncert = {cert:?}\nkey = {key:?}"))).unwrap();
    assert_eq!(config.registry.endpoints, ["https://a:2379", "http://b:1"]);
    assert!(config.registry.tls.is_some_and(|tls| tls.client.is_some()));
    refused(&etcd(&format!("cert = {cert:?}")), &["gateway.toml:4", "ca"]);
    refused(&etcd(&format!("ca = {ca:?}\ncert = {cert:?}")), &["gateway.toml:5", "together"]);
    refused(&etcd("ca = \"/nonexistent\""), &["gateway.toml:4", "registry.ca", "/nonexistent"]);
    realm.expose();
    let all = etcd(&format!("ca = {ca:?}\ncert = {cert:?}\nkey = {key:?}"));
    refused(&all, &["gateway.toml:6", "registry.key", "chmod 600"]);
}

#[test]
fn a_key_of_subjects_that_cannot_be_used_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("subject.key");
    std::fs::write(&path, "no key").unwrap();
    let text = format!("id = \"gw-1\"\nsubject_key_file = {:?}\n", path.to_str().unwrap());
    refused(&text, &["gateway.toml:2", "subject_key_file"]);
    refused("subject_key_file = \"/nowhere/key\"", &["gateway.toml:1", "subject_key_file", "/nowhere/key"]);
}

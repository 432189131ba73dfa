use super::*;

fn load(text: &str) -> Result<Config, Error> {
    Config::parse("node.toml", text, &Overrides::default())
}

const GOOD: &str = "region = 440100\nname = \"suikang\"\n";

/// The text, appended to a good file, is refused with the line and words of the error.
#[track_caller]
fn check(text: &str, line: usize, expected: &str) {
    let error = load(&format!("{GOOD}{text}")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("node.toml, line {line}: ")), "{error}");
    assert!(error.contains(expected), "{error}");
}

#[test]
fn defaults_are_those_of_a_city_used_alone() {
    let config = load(GOOD).unwrap();
    assert_eq!((config.endpoint.as_str(), config.role), ("suikang-1", Role::City));
    assert_eq!(config.scopes, [config.region]);
    assert!(config.join.is_none() && config.data_dir.is_none());
    assert_eq!(load("region = 440000\nname = \"y\"").unwrap().role, Role::Province);
}

#[test]
fn a_wrong_field_is_named_with_its_line() {
    check("colour = 1", 3, "unknown field `colour`");
    check("\nrps_max = \"many\"", 4, "invalid type");
    check("role = \"county\"", 3, "role: use \"city\" or \"province\"");
    check("listen = \"9101\"", 3, "listen: an address and a port");
    check("endpoint = \"A B\"", 3, "endpoint: 1 to 63 characters");
    check("scopes = [440000]", 3, "scopes: 440000 is neither 440100 nor in it");
    check("scopes = []", 3, "add the node's own region 440100");
    check("[[population]]\nregion = 610100\nholders = 1", 4, "add it there");
    check("[[population]]\nregion = 440106\nholders = 1", 4, "440106 belongs to 440100");
    check("[[population]]\nregion = 440100\nholder = 1", 5, "unknown field `holder`");
    check("[join]\ntoken = \"t\"", 3, "join.gateways: name at least one");
    check("[join]\ngateways = [\"a:1\"]", 3, "set one of token and token_file");
    check("[join]\ngateways = [\"a:1\"]\ntoken = \"t\\u0007\"", 3, "visible ASCII");
    check("[join]\ngateways = [\"a:1\"]\ntoken_file = \"/nonexistent/token\"", 5, "join.token_file");
    check("[[key]]\nid = \"zz\"\npublic_key = \"\"\nregions = []", 4, "key.id: 8 hex digits");
    check("[[authority]]\nregion = 610100\nnode = \"x\"", 4, "authority.region");
    check("foreign_code_prefixes = [\"SY1:\"]", 3, "another prefix than SY1:");
    check("name = \"again\"", 3, "duplicate key");
}

#[test]
fn a_missing_field_is_named() {
    let missing = |text| load(text).unwrap_err().to_string();
    assert_eq!(missing("name = \"x\""), "node.toml: region is missing: set the node's own region code");
    assert_eq!(missing("region = 440100"), "node.toml: name is missing: set the node's name");
}

#[test]
fn overrides_win_over_the_file() {
    let overrides = Overrides {
        region: Some(610_100),
        name: Some("xian".to_owned()),
        listen: Some("127.0.0.1:7".to_owned()),
        rps_max: Some(9),
        gateways: vec!["b:2".to_owned()],
        ..Overrides::default()
    };
    let text = format!("{GOOD}rps_max = 1\n[join]\ngateways = [\"a:1\"]\ntoken = \"t\"");
    let config = Config::parse("node.toml", &text, &overrides).unwrap();
    assert_eq!((config.region.get(), config.name.as_str(), config.rps_max), (610_100, "xian", 9));
    assert_eq!((config.endpoint.as_str(), config.listen.port()), ("xian-1", 7));
    assert_eq!(config.join.unwrap().gateways, ["b:2"]);
    let bad = Overrides { listen: Some("x".to_owned()), ..Overrides::default() };
    let error = Config::parse("node.toml", GOOD, &bad).unwrap_err().to_string();
    assert!(error.starts_with("node.toml: listen (override): "), "{error}");
}

#[test]
fn a_token_is_read_from_a_file_and_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "secret\n").unwrap();
    let text = format!("{GOOD}[join]\ngateways = [\"a:1\"]\ntoken_file = {path:?}");
    let config = load(&text).unwrap();
    assert!(!format!("{config:?}").contains("secret"));
    assert_eq!(config.join.unwrap().token, "secret");
}

#[test]
fn the_examples_hold() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    for (name, region) in [("suikang", 440_100), ("yuekang", 440_000)] {
        let path = examples.join(format!("node-{name}.toml"));
        let config = Config::load(Some(&path), &Overrides::default()).unwrap();
        assert_eq!((config.name.as_str(), config.region.get()), (name, region));
    }
    let error = Config::load(Some(Path::new("absent.toml")), &Overrides::default()).unwrap_err();
    assert!(error.to_string().starts_with("absent.toml: "));
}

#[test]
fn a_certificate_names_the_node_and_takes_the_place_of_a_token() {
    use std::os::unix::fs::PermissionsExt as _;
    use suiyue_proto::identity::Usage;
    use suiyue_proto::identity::files::now;
    use suiyue_proto::identity::issue::{Authority, Order};
    let dir = tempfile::tempdir().unwrap();
    let (authority, _) = Authority::new("Guangdong", 0, now() + 1000).unwrap();
    let put = |uri: &str| {
        let order = Order {
            uris: vec![uri.to_owned()],
            hosts: Vec::new(),
            uses: vec![Usage::Client, Usage::Server],
            not_before_unix_s: 0,
            not_after_unix_s: now() + 500,
        };
        let issued = authority.issue(&order).unwrap();
        let texts = [("cert", issued.cert), ("key", issued.key), ("trust", authority.cert().to_owned())];
        for (name, text) in texts {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    };
    let path = |name: &str| dir.path().join(name);
    let (cert, key, trust) = (path("cert"), path("key"), path("trust"));
    let section = format!("[identity]\ncert = {cert:?}\nkey = {key:?}\ntrust = {trust:?}\n");
    put("spiffe://lingnan/region/440100/node/suikang");
    let config = load(&format!("{GOOD}{section}[join]\ngateways = [\"a:1\"]\n")).unwrap();
    assert!(config.identity.is_some() && config.join.is_some_and(|join| join.token.is_empty()));
    put("spiffe://lingnan/region/440100/node/yuekang");
    check(&section, 3, "but this node is spiffe://lingnan/region/440100/node/suikang");
    put("spiffe://lingnan/gateway/gw-1");
    check(&section, 3, "the certificate is of spiffe://lingnan/gateway/gw-1");
    fs::set_permissions(path("key"), fs::Permissions::from_mode(0o604)).unwrap();
    check(&section, 3, "chmod 600");
    fs::remove_file(path("key")).unwrap();
    check(&section, 3, "key: No such file");
}

//! What grants allow, and which cannot be used.

use super::*;

pub(crate) fn grant() -> v1::AppGrant {
    v1::AppGrant {
        token_sha256: vec![7; 32].into(),
        methods: vec!["/suiyue.v1.CodeService/VerifyCode".to_owned(), "suiyue.v1.StatusService/*".to_owned()],
        classes: vec![v1::Class::Scan.into(), v1::Class::Query.into()],
        regions: vec!["440000".to_owned(), "610100".to_owned()],
        quota: Some(v1::AppQuota { rps: Some(100), burst_s: None, in_flight_max: Some(50) }),
        ..Default::default()
    }
}

fn code(number: u32) -> Code {
    Code::new(number).unwrap()
}

#[test]
fn a_grant_allows_what_it_says_and_nothing_else() {
    let checked = check("gate", &grant()).unwrap();
    let methods = |path: &str| checked.methods.has(path);
    assert!(methods("/suiyue.v1.CodeService/VerifyCode") && methods("/suiyue.v1.StatusService/GetStatus"));
    for other in [
        "/suiyue.v1.CodeService/ShowCode",
        "/suiyue.v1.StatusServiceX/A",
        "suiyue.v1.StatusService/A",
        "/x",
        "",
    ] {
        assert!(!methods(other), "{other}");
    }
    let regions = |number| checked.regions.has(code(number));
    // A province stands for its cities.
    assert!(regions(440_000) && regions(440_100) && regions(440_300) && regions(610_100));
    assert!(!regions(610_000) && !regions(110_000) && !regions(610_400));
    assert_eq!(checked.classes, [true, false, true, false]);
    assert_eq!((checked.rate, checked.in_flight_max), (Some((100, Duration::from_secs(2))), Some(50)));
}

#[test]
fn a_call_outside_is_told_what_it_is_outside_of() {
    let checked = check("gate", &grant()).unwrap();
    let own = suiyue_proto::method::own();
    let covers = |path: &str| checked.covers(own.iter().find(|method| method.path == path).unwrap());
    assert_eq!(covers("/suiyue.v1.CodeService/VerifyCode"), Ok(()));
    assert_eq!(covers("/suiyue.v1.CodeService/ShowCode"), Err(Outside::Method));
    let narrow = check("gate", &v1::AppGrant { classes: vec![v1::Class::Show.into()], ..grant() }).unwrap();
    let verify = own.iter().find(|method| method.path.ends_with("/VerifyCode")).unwrap();
    assert_eq!(narrow.covers(verify), Err(Outside::Class));
}

#[test]
fn everything_is_said_with_a_star_and_without_classes() {
    let all = v1::AppGrant { regions: vec!["*".to_owned()], classes: Vec::new(), quota: None, ..grant() };
    let checked = check("gate", &all).unwrap();
    assert!(checked.regions.has(code(110_000)) && checked.classes == [true; 4]);
    assert_eq!((checked.rate, checked.in_flight_max), (None, None));
}

#[track_caller]
fn refused(change: impl FnOnce(&mut v1::AppGrant), field: &str, problem: Problem) {
    let mut grant = grant();
    change(&mut grant);
    let invalid = check("gate", &grant).unwrap_err();
    assert_eq!((invalid.field.as_str(), invalid.problem), (field, problem), "{invalid}");
}

#[test]
fn each_bad_field_is_named() {
    use Problem::*;
    refused(|g| g.token_sha256 = vec![7; 31].into(), "token_sha256", HashInvalid);
    refused(|g| g.token_sha256 = Default::default(), "token_sha256", CredentialMissing);
    refused(|g| g.previous_token_sha256 = vec![1].into(), "previous_token_sha256", HashInvalid);
    for bad in [
        "gate",
        "spiffe://a/*",
        "spiffe://a b",
        "spiffe://a/gateway/g",
        "spiffe://a/app/B",
        &format!("spiffe://{}", "a".repeat(250)),
    ] {
        refused(|g| g.certificate = bad.to_owned(), "certificate", CertificateInvalid);
    }
    refused(|g| g.methods.clear(), "methods", CountOutOfRange);
    refused(|g| g.methods = vec!["a.B/*".to_owned(); 65], "methods", CountOutOfRange);
    for bad in ["*", "/a.B", "a.B/C", "/a.B/C/D", "/a.B/C*", "//C", "/a b/C", "/*"] {
        refused(|g| g.methods[1] = bad.to_owned(), "methods[1]", MethodInvalid);
    }
    refused(|g| g.classes[1] = 9, "classes[1]", ClassUnknown);
    refused(|g| g.classes[1] = g.classes[0], "classes[1]", Twice);
    refused(|g| g.regions.clear(), "regions", CountOutOfRange);
    refused(|g| g.regions[1] = "*".to_owned(), "regions", Twice);
    // No code, a county, a retired code, one that never was.
    for bad in ["4401", "440106", "371200", "999999"] {
        refused(|g| g.regions[1] = bad.to_owned(), "regions[1]", RegionInvalid);
    }
    let quota = |change: fn(&mut v1::AppQuota)| move |g: &mut v1::AppGrant| change(g.quota.as_mut().unwrap());
    refused(quota(|q| q.rps = Some(0)), "quota.rps", NumberOutOfRange);
    refused(quota(|q| q.rps = Some(10_000_001)), "quota.rps", NumberOutOfRange);
    refused(quota(|q| q.burst_s = Some(61)), "quota.burst_s", NumberOutOfRange);
    refused(quota(|q| q.in_flight_max = Some(0)), "quota.in_flight_max", NumberOutOfRange);
    refused(|g| g.note = "a\nb".to_owned(), "note", TextInvalid);
    refused(|g| g.note = "字".repeat(201), "note", TextInvalid);
}

#[test]
fn two_apps_do_not_share_a_credential() {
    let mut grants = Grants::default();
    let with = |token: u8, previous: u8, certificate: &str| v1::AppGrant {
        token_sha256: vec![token; 32].into(),
        previous_token_sha256: vec![previous; 32].into(),
        certificate: certificate.to_owned(),
        ..grant()
    };
    let mut add = |name: &str, grant: &v1::AppGrant| grants.add(check(name, grant).unwrap());
    assert_eq!(add("a", &with(1, 2, "spiffe://x/app/a")), Ok(()));
    assert_eq!(add("b", &with(2, 3, "")), Err("a".into()));
    assert_eq!(add("b", &with(3, 4, "spiffe://x/app/a")), Err("a".into()));
    assert_eq!(add("b", &with(3, 4, "spiffe://x/app/b")), Ok(()));
    let hash = |byte| Hash([byte; 32]);
    assert_eq!(&*grants.of_token(hash(1)).unwrap().0.app, "a");
    assert_eq!(grants.of_token(hash(4)).unwrap().1, Some(0));
    assert_eq!(&*grants.of_certificate("spiffe://x/app/b").unwrap().app, "b");
    assert!(grants.of_token(hash(5)).is_none() && grants.of_certificate("spiffe://x/app").is_none());
}

#[test]
fn a_disabled_app_is_known_and_has_nothing() {
    let mut grants = Grants::default();
    let off = v1::AppGrant { disabled: true, certificate: "spiffe://x/app/a".to_owned(), ..grant() };
    grants.add(check("a", &off).unwrap()).unwrap();
    assert!(grants.app("a").unwrap().disabled);
    assert!(grants.of_token(Hash([7; 32])).is_none());
    assert!(grants.of_certificate("spiffe://x/app/a").unwrap().disabled);
    assert!(
        check("a", &v1::AppGrant { disabled: true, token_sha256: Default::default(), ..grant() }).is_ok()
    );
}

//! Who is let in, and what is counted.

use super::*;
use crate::apps::{
    grant::{Methods, check},
    token,
};
use std::{sync::LazyLock, time::Duration};
use suiyue_proto::v1;

const VERIFY: &str = "/suiyue.v1.CodeService/VerifyCode";
const SHOW: &str = "/suiyue.v1.CodeService/ShowCode";
const URI: &str = "spiffe://suiyue/app/gate";

/// Read once: it is much work.
static METHODS: LazyLock<Vec<Method>> = LazyLock::new(suiyue_proto::method::own);

fn method(path: &str) -> &'static Method {
    METHODS.iter().find(|method| method.path == path).unwrap()
}

fn code(number: u32) -> Code {
    Code::new(number).unwrap()
}

fn grant(token: &str) -> v1::AppGrant {
    v1::AppGrant {
        token_sha256: Hash::of(token.as_bytes()).0.to_vec().into(),
        methods: vec![VERIFY.to_owned()],
        regions: vec!["440000".to_owned()],
        ..Default::default()
    }
}

struct Counter {
    desk: Desk,
    meters: Arc<Meters>,
}

impl Counter {
    fn new(anonymous: Anonymous, grants: &[(&str, v1::AppGrant)]) -> Self {
        let mut all = Grants::default();
        for (name, grant) in grants {
            all.add(check(name, grant).unwrap()).unwrap();
        }
        let meters = Arc::new(Meters::new(1));
        Self { desk: Desk::new(Arc::new(all), Arc::new(anonymous), meters.clone(), 0), meters }
    }

    fn ask(&self, caller: Caller<'_>, path: &str, region: Option<u32>) -> Result<Option<Pass>, Reason> {
        self.desk.admit(caller, method(path), region.map(code), Instant::now())
    }

    fn token(&self, token: &str) -> Result<Option<Pass>, Reason> {
        self.ask(Caller::Token(format!("Bearer {token}").as_bytes()), VERIFY, None)
    }

    fn counts(&self, app: &str) -> [u64; 5] {
        self.meters.find(app).unwrap().read()
    }
}

fn refused(result: Result<Option<Pass>, Reason>, reason: Reason) {
    assert_eq!(result.map(drop), Err(reason));
}

#[test]
fn nobody_is_taken_where_the_configuration_says_so() {
    let ask = |anonymous, path| Counter::new(anonymous, &[]).ask(Caller::Anonymous, path, None);
    assert!(ask(Anonymous::Allow, SHOW).unwrap().is_none());
    refused(ask(Anonymous::Deny, SHOW), Reason::AppRequired);
    let only = || Anonymous::Only(Methods::parse(&[VERIFY]).unwrap());
    assert!(ask(only(), VERIFY).unwrap().is_none());
    refused(ask(only(), SHOW), Reason::AppRequired);
}

#[test]
fn a_token_that_is_shown_is_judged_also_where_nobody_would_be_taken() {
    let (token, other) = (token::draw().unwrap(), token::draw().unwrap());
    let counter = Counter::new(Anonymous::Allow, &[("gate", grant(&token))]);
    for _ in 0..2 {
        assert!(counter.token(&token).unwrap().is_some());
        refused(counter.token(&other), Reason::AppUnknown);
    }
    let (rest, last) = token.split_at(token.len() - 1);
    let close = format!("Bearer {rest}{}", if last == "0" { "1" } else { "0" });
    for value in ["", "Bearer", "Bearer sya_", "Basic abc", &token, &close] {
        refused(counter.ask(Caller::Token(value.as_bytes()), VERIFY, None), Reason::AppUnknown);
    }
    assert_eq!(counter.meters.strangers(), [0, 8]);
}

#[test]
fn outside_of_the_grant_the_part_is_told() {
    let token = token::draw().unwrap();
    let narrow = v1::AppGrant { classes: vec![v1::Class::Show.into()], ..grant(&token) };
    let counter = Counter::new(Anonymous::Deny, &[("gate", grant(&token))]);
    let header = format!("Bearer {token}");
    let caller = Caller::Token(header.as_bytes());
    refused(counter.ask(caller, SHOW, Some(440_100)), Reason::AppMethodDenied);
    refused(counter.ask(caller, VERIFY, Some(610_100)), Reason::AppRegionDenied);
    // The region of the message comes later.
    let pass = counter.ask(caller, VERIFY, None).unwrap().unwrap();
    assert_eq!(
        (pass.region(code(440_300)), pass.region(code(110_000))),
        (Ok(()), Err(Reason::AppRegionDenied))
    );
    pass.ended(7);
    drop(pass);
    let pass = counter.ask(caller, VERIFY, Some(440_100)).unwrap().unwrap();
    pass.ended(0);
    drop(pass);
    drop(counter.ask(caller, VERIFY, Some(440_100)).unwrap());
    assert_eq!(counter.counts("gate"), [1, 1, 3, 0, 0]);
    refused(
        Counter::new(Anonymous::Deny, &[("gate", narrow)]).ask(caller, VERIFY, None),
        Reason::AppClassDenied,
    );
}

#[test]
fn an_old_token_is_good_until_its_time() {
    let (new, old) = (token::draw().unwrap(), token::draw().unwrap());
    let now = unix_ms();
    let rotated = |until| v1::AppGrant {
        previous_token_sha256: Hash::of(old.as_bytes()).0.to_vec().into(),
        previous_until_unix_ms: until,
        ..grant(&new)
    };
    let counter = Counter::new(Anonymous::Deny, &[("gate", rotated(now + 60_000))]);
    assert!(counter.token(&old).unwrap().is_some() && counter.token(&new).unwrap().is_some());
    let counter = Counter::new(Anonymous::Deny, &[("gate", rotated(now - 1))]);
    assert!(counter.token(&new).unwrap().is_some());
    for _ in 0..2 {
        refused(counter.token(&old), Reason::AppUnknown);
    }
}

#[test]
fn a_certificate_is_an_app_too_and_a_revoked_one_is_not_nobody() {
    let with = |disabled| v1::AppGrant {
        certificate: URI.to_owned(),
        token_sha256: Default::default(),
        disabled,
        ..grant("")
    };
    let ask = |counter: &Counter, uri| counter.ask(Caller::Certificate(uri), VERIFY, None);
    let counter = Counter::new(Anonymous::Allow, &[("gate", with(false))]);
    assert!(ask(&counter, URI).unwrap().is_some());
    assert!(ask(&counter, "spiffe://suiyue/app/other").unwrap().is_none());
    refused(ask(&Counter::new(Anonymous::Allow, &[("gate", with(true))]), URI), Reason::AppUnknown);
    refused(ask(&Counter::new(Anonymous::Deny, &[]), URI), Reason::AppRequired);
}

#[test]
fn an_app_at_twenty_times_its_quota_leaves_another_one_all_of_its_own() {
    let tokens = [token::draw().unwrap(), token::draw().unwrap()];
    let limited = |token: &str| v1::AppGrant {
        quota: Some(v1::AppQuota { rps: Some(100), ..Default::default() }),
        ..grant(token)
    };
    let counter =
        Counter::new(Anonymous::Deny, &[("loud", limited(&tokens[0])), ("calm", limited(&tokens[1]))]);
    let (start, verify) = (Instant::now(), method(VERIFY));
    let headers = tokens.map(|token| format!("Bearer {token}"));
    // Ten seconds: the one calls 2,000 times a second, the other one 100 times.
    for n in 0..20_000_u32 {
        let now = start + Duration::from_micros(500) * n;
        let ask = |header: &String| {
            let pass = counter.desk.admit(Caller::Token(header.as_bytes()), verify, None, now);
            if let Ok(Some(pass)) = pass {
                pass.ended(0);
            }
        };
        ask(&headers[0]);
        if n % 20 == 0 {
            ask(&headers[1]);
        }
    }
    assert_eq!(counter.counts("calm"), [1_000, 0, 0, 0, 0]);
    let [ok, .., over, _] = counter.counts("loud");
    assert!((1_195..=1_205).contains(&ok) && ok + over == 20_000, "{ok} let in, {over} not");
}

#[test]
fn calls_in_flight_are_bounded_and_places_given_back() {
    let token = token::draw().unwrap();
    let quota = Some(v1::AppQuota { in_flight_max: Some(4), ..Default::default() });
    let counter = Counter::new(Anonymous::Deny, &[("gate", v1::AppGrant { quota, ..grant(&token) })]);
    // Two gateways share the four.
    counter.meters.gateways.store(2, Relaxed);
    let held: Vec<_> = (0..2).map(|_| counter.token(&token).unwrap()).collect();
    refused(counter.token(&token), Reason::QuotaExceeded);
    assert_eq!(counter.meters.find("gate").unwrap().in_flight.now(), 2);
    drop(held);
    assert!(counter.token(&token).is_ok());
    assert_eq!(counter.counts("gate"), [0, 3, 0, 0, 1]);
}

#[test]
fn tokens_that_share_a_place_take_turns() {
    let tokens: Vec<_> = (0..PLACES + PLACES / 2).map(|n| format!("sya_{n:064x}")).collect();
    let names: Vec<_> = (0..tokens.len()).map(|n| format!("app-{n}")).collect();
    let grants: Vec<_> =
        names.iter().map(String::as_str).zip(tokens.iter().map(|token| grant(token))).collect();
    let counter = Counter::new(Anonymous::Deny, &grants);
    for _ in 0..2 {
        for (name, token) in names.iter().zip(&tokens) {
            let pass = counter.token(token).unwrap().unwrap();
            assert_eq!(&*pass.seat.grant.app, name);
        }
    }
}

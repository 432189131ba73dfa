//! Who gets through, and what is written down of who does not.

use super::*;
use crate::registry::{Registry, embedded::Embedded, keys::Prefix};
use futures_util::FutureExt as _;
use http::HeaderValue;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use std::sync::{LazyLock, Mutex};
use suiyue_proto::{
    identity::{
        Usage,
        issue::{Authority, Order},
    },
    method,
};

/// What reached the handler: the deed, if there was one.
type Seen = Arc<Mutex<Vec<Option<Arc<Deed>>>>>;

/// A handler that answers with this.
#[derive(Clone)]
struct Handler(Seen, Option<Reason>);

impl NamedService for Handler {
    const NAME: &'static str = suiyue_proto::v1::operator_service_server::SERVICE_NAME;
}

impl Service<Request<Body>> for Handler {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        self.0.lock().unwrap().push(request.extensions().get::<Arc<Deed>>().cloned());
        let status = self.1.map_or_else(|| Status::ok(""), Reason::status);
        async move { Ok(status.into_http()) }.boxed()
    }
}

struct Door {
    registry: Embedded,
    seen: Seen,
    answers: Option<Reason>,
    unproven: Unproven,
}

impl Door {
    fn new(answers: Option<Reason>) -> Self {
        Self { registry: Embedded::new(), seen: Arc::default(), answers, unproven: Unproven::Local }
    }

    async fn send(&self, requests: Vec<Request<Body>>) -> Vec<Status> {
        let audit = Audit::new(Arc::new(self.registry.clone()), Prefix::default(), "gw-1");
        let mut service = guard(Handler(self.seen.clone(), self.answers), Some(audit), self.unproven);
        let mut statuses = Vec::new();
        for request in requests {
            let answer = service.call(request).await.unwrap();
            statuses.push(Status::from_header_map(answer.headers()).unwrap());
        }
        statuses
    }

    async fn ask(&self, request: Request<Body>) -> Status {
        self.send(vec![request]).await.remove(0)
    }

    async fn entries(&self) -> usize {
        let entries = self.registry.list(&Prefix::default().audit()).await.unwrap().entries;
        entries.len().saturating_sub(1)
    }
}

fn request(method: &str) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = format!("/suiyue.v1.OperatorService/{method}").parse().unwrap();
    request
}

/// What the certificate of somebody says.
fn peer(uri: &str) -> Peer {
    let (authority, _) = Authority::new("operators", 0, 4_000_000_000).unwrap();
    let order = Order {
        uris: vec![uri.to_owned()],
        hosts: Vec::new(),
        uses: vec![Usage::Client],
        not_before_unix_s: 0,
        not_after_unix_s: 4_000_000_000,
    };
    let issued = authority.issue(&order).unwrap();
    Peer::of(&[CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap()]).unwrap()
}

fn certified(method: &str, role: Role, why: &str) -> Request<Body> {
    static PEERS: LazyLock<[Peer; 3]> = LazyLock::new(|| {
        ["viewer", "operator", "approver"].map(|role| peer(&format!("spiffe://suiyue/operator/{role}/wang")))
    });
    let mut request = request(method);
    request.extensions_mut().insert(PEERS[role as usize].clone());
    because(request, why)
}

fn because(mut request: Request<Body>, why: &str) -> Request<Body> {
    if !why.is_empty() {
        let mut map = MetadataMap::new();
        map.insert_bin(metadata::CHANGE_REASON, tonic::metadata::MetadataValue::from_bytes(why.as_bytes()));
        request.headers_mut().extend(map.into_headers());
    }
    request
}

#[test]
fn every_method_has_a_rule_and_every_rule_a_method() {
    const SERVICES: [&str; 2] = ["/suiyue.v1.OperatorService/", "/suiyue.v1.ShiftService/"];
    let name = |path: &str| SERVICES.iter().find_map(|service| path.strip_prefix(service)).map(str::to_owned);
    let mut service: Vec<_> = method::own()
        .into_iter()
        .filter_map(|method| Some((name(&method.path)?, method.idempotency)))
        .map(|(name, idempotency)| {
            let tells = idempotency == method::Idempotency::NoSideEffects;
            (name, if tells { Does::Tells } else { Does::Changes })
        })
        .collect();
    service.sort_by(|a, b| a.0.cmp(&b.0));
    let mut rules: Vec<_> = RULES.iter().map(|(name, _, does)| ((*name).to_owned(), *does)).collect();
    rules.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(service, rules);
    let bold = RULES.iter().find(|(_, least, does)| *does == Does::Changes && *least == Role::Viewer);
    assert_eq!(bold, None, "a viewer changes nothing");
}

#[tokio::test]
async fn a_role_may_do_what_those_below_it_may() {
    let door = Door::new(None);
    for (method, role, code) in [
        ("ListNodes", Role::Viewer, Code::Ok),
        ("SetApp", Role::Viewer, Code::PermissionDenied),
        ("SetApp", Role::Operator, Code::Ok),
        ("SetApp", Role::Approver, Code::Ok),
        ("Unheard", Role::Approver, Code::Unimplemented),
    ] {
        assert_eq!(door.ask(certified(method, role, "why")).await.code(), code, "{method} {role:?}");
    }
    let status = door.ask(certified("SetApp", Role::Viewer, "why")).await;
    assert_eq!(Reason::of(&status), Some(Reason::RoleInsufficient));
    assert_eq!(door.seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn without_a_certificate_only_callers_on_this_machine_are_operators() {
    let door = Door::new(None);
    assert_eq!(door.ask(request("SetApp")).await.code(), Code::Ok);
    // A node's certificate is no operator's, from wherever it comes.
    let mut node = request("ListNodes");
    node.extensions_mut().insert(peer("spiffe://suiyue/region/440100/node/suikang"));
    assert_eq!(Reason::of(&door.ask(node).await), Some(Reason::IdentityRequired));
    // Nor is a gateway's; but gateways ask each other for their load.
    let gateway = |path: &str| {
        let mut request = request("GetLoad");
        *request.uri_mut() = path.parse().unwrap();
        request.extensions_mut().insert(peer("spiffe://suiyue/gateway/gw-2"));
        request
    };
    assert_eq!(door.ask(gateway("/suiyue.v1.ShiftService/GetLoad")).await.code(), Code::Ok);
    let asks = door.ask(gateway("/suiyue.v1.ShiftService/ListShifts")).await;
    assert_eq!(Reason::of(&asks), Some(Reason::IdentityRequired));
    let remote = Door { unproven: Unproven::at("192.0.2.1:8441".parse().unwrap()), ..Door::new(None) };
    assert_eq!(Reason::of(&remote.ask(request("ListNodes")).await), Some(Reason::IdentityRequired));
    assert_eq!(remote.ask(certified("ListNodes", Role::Viewer, "")).await.code(), Code::Ok);
    assert_eq!(Unproven::at("[::1]:8441".parse().unwrap()), Unproven::Local);
    let mut named = because(request("SetApp"), "穗康限流");
    named.headers_mut().insert(metadata::ACTOR, HeaderValue::from_static("li"));
    door.ask(named).await;
    let seen = door.seen.lock().unwrap();
    let told: Vec<_> = seen.iter().flatten().map(|d| (d.actor.name.as_str(), d.reason.as_str())).collect();
    assert_eq!(told, [("local", ""), ("li", "穗康限流")]);
    assert!(seen.iter().flatten().all(|deed| !deed.actor.authenticated && deed.method == "SetApp"));
}

#[tokio::test]
async fn a_change_needs_a_reason_that_can_be_written_down() {
    let door = Door::new(None);
    let reason = async |request| Reason::of(&door.ask(request).await);
    assert_eq!(reason(certified("SetApp", Role::Operator, "")).await, Some(Reason::ReasonRequired));
    assert_eq!(reason(certified("SetApp", Role::Operator, "  ")).await, Some(Reason::ReasonRequired));
    assert_eq!(reason(certified("SetApp", Role::Operator, "a\nb")).await, Some(Reason::ActorInvalid));
    assert_eq!(reason(certified("ListApps", Role::Viewer, "")).await, None);
    let mut forged = request("SetApp");
    forged.headers_mut().insert(metadata::ACTOR, HeaderValue::from_static("a b"));
    assert_eq!(reason(forged).await, Some(Reason::ActorInvalid));
    // A certificate wins over what the caller says.
    let mut claimed = certified("SetApp", Role::Operator, "why");
    claimed.headers_mut().insert(metadata::ACTOR, HeaderValue::from_static("li"));
    door.ask(claimed).await;
    let seen = door.seen.lock().unwrap();
    assert_eq!(seen.last().unwrap().as_ref().unwrap().actor.name, "wang");
}

#[tokio::test]
async fn refused_attempts_of_the_authenticated_are_written_down_within_bounds() {
    let by_role = Door::new(None);
    by_role.ask(certified("SetApp", Role::Viewer, "why")).await;
    assert_eq!(by_role.entries().await, 1);
    let by_handler = Door::new(Some(Reason::AppInvalid));
    by_handler.ask(certified("SetApp", Role::Operator, "why")).await;
    assert_eq!(by_handler.entries().await, 1);
    // Not: who has no certificate, who only looks, and where something is away.
    by_handler.ask(request("SetApp")).await;
    by_handler.ask(certified("ListApps", Role::Viewer, "")).await;
    assert_eq!(by_handler.entries().await, 1);
    let away = Door::new(Some(Reason::RegistryUnavailable));
    away.ask(certified("SetApp", Role::Operator, "why")).await;
    assert_eq!(away.entries().await, 0);
    let flooded = Door::new(None);
    let requests = (0..200).map(|_| certified("SetApp", Role::Viewer, "why")).collect();
    assert_eq!(flooded.send(requests).await.len(), 200);
    let written = flooded.entries().await;
    assert!((10..100).contains(&written), "{written}");
}

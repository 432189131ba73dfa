//! Who may call which method of the operator API?
//!
//! Tower services around the handlers:
//!
//! ```text
//!   identity ── who: a certificate, or a caller on this machine ──► refused: IDENTITY_REQUIRED
//!      └─► audit ── of changes: why, and what was refused
//!            └─► role ── the least one that the method needs ──► refused: ROLE_INSUFFICIENT
//!                  └─► handler ── writes the change and its entry together
//! ```
//! The audit stands before the role, so that it sees what the role refuses. A method that is not in
//! `RULES` is refused: a test compares them with the services.

use crate::{
    apps::quota::{Bucket, Rate},
    audit::{
        Audit,
        actor::{Actor, Deed, LOCAL, Role, is_actor, is_reason},
    },
    identity::{Peer, Subject},
};
use futures_util::future::BoxFuture;
use http::{Extensions, HeaderMap, Request, Response};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use suiyue_proto::{metadata, reason::Reason};
use tonic::{Code, Status, body::Body, metadata::MetadataMap, server::NamedService};
use tower::Service;

/// What a method does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// It only tells.
    Tells,
    /// It changes something: it is audited.
    Changes,
}

/// Every method, the least role it needs, and what it does.
pub(super) const RULES: &[(&str, Role, Does)] = &[
    ("ListNodes", Role::Viewer, Does::Tells),
    ("ListRegions", Role::Viewer, Does::Tells),
    ("ListTraffic", Role::Viewer, Does::Tells),
    ("DescribeRegion", Role::Viewer, Does::Tells),
    ("SetRegionPolicy", Role::Operator, Does::Changes),
    ("ExplainRoute", Role::Viewer, Does::Tells),
    ("DumpRegistry", Role::Viewer, Does::Tells),
    ("SetNodeIntent", Role::Operator, Does::Changes),
    ("PublishTrust", Role::Operator, Does::Changes),
    ("ListApps", Role::Viewer, Does::Tells),
    ("SetApp", Role::Operator, Does::Changes),
    ("RotateApp", Role::Operator, Does::Changes),
    ("RevokeApp", Role::Operator, Does::Changes),
    ("RegistryStatus", Role::Viewer, Does::Tells),
    ("DiffRegistry", Role::Viewer, Does::Tells),
    ("FreezeRegistry", Role::Operator, Does::Changes),
    ("AcceptRegistry", Role::Operator, Does::Changes),
    ("ListGateways", Role::Viewer, Does::Tells),
    ("DrainGateway", Role::Operator, Does::Changes),
    ("ReadAudit", Role::Viewer, Does::Tells),
    ("RememberedAudit", Role::Viewer, Does::Tells),
    ("MintConsoleToken", Role::Viewer, Does::Tells),
    ("PlanShift", Role::Viewer, Does::Tells),
    ("ApplyShift", Role::Operator, Does::Changes),
    // Whoever has a certificate needs the approver's; the handler sees to it.
    ("ApproveShift", Role::Operator, Does::Changes),
    ("ListShifts", Role::Viewer, Does::Tells),
    ("ChangeShift", Role::Operator, Does::Changes),
    ("GetLoad", Role::Viewer, Does::Tells),
];

/// Refused attempts that are written down: one a second, ten at once. The others are counted.
const REFUSALS: (u32, Duration) = (1, Duration::from_secs(10));
/// An attempt is answered after this time, written down or not.
const WRITE_WITHIN: Duration = Duration::from_secs(2);

type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

fn rule(path: &str) -> Option<&'static (&'static str, Role, Does)> {
    let method = path.rsplit('/').next().unwrap_or_default();
    RULES.iter().find(|(name, ..)| *name == method)
}

fn refuse(status: Status) -> Answer {
    Box::pin(async move { Ok(status.into_http()) })
}

/// Who a caller without a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproven {
    /// Somebody on this machine: nobody else reaches the port.
    Local,
    /// Nobody.
    Refused,
    /// A part of this gateway that has put the [`Actor`] into the request's extensions, where nothing that
    /// comes over a connection can put anything: the web console.
    Inside,
}

impl Unproven {
    /// What it is on a port at this address.
    #[must_use]
    pub const fn at(control: SocketAddr) -> Self {
        if control.ip().is_loopback() { Self::Local } else { Self::Refused }
    }
}

/// Finds out who calls.
#[derive(Clone)]
pub struct Identity<S> {
    inner: S,
    unproven: Unproven,
}

/// Notes why something is to be changed, and writes down what is refused.
#[derive(Clone)]
struct Audited<S> {
    inner: S,
    audit: Option<Audit>,
    pace: Arc<Pace>,
}

/// Lets in whose role suffices.
#[derive(Clone)]
struct Authorized<S>(S);

/// How often refused attempts are written down.
struct Pace {
    start: Instant,
    bucket: Bucket,
}

/// Puts the three in front of a service.
pub fn guard<S>(inner: S, audit: Option<Audit>, unproven: Unproven) -> Identity<impl Guarded + NamedService>
where
    S: Guarded + NamedService,
{
    let pace = Arc::new(Pace { start: Instant::now(), bucket: Bucket::default() });
    Identity { inner: Audited { inner: Authorized(inner), audit, pace }, unproven }
}

/// A service of tonic's.
pub trait Guarded:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Guarded for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

impl<S: NamedService> NamedService for Identity<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: NamedService> NamedService for Audited<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: NamedService> NamedService for Authorized<S> {
    const NAME: &'static str = S::NAME;
}

/// What gateways ask each other: they look, and change nothing.
const OF_GATEWAYS: &str = "/suiyue.v1.ShiftService/GetLoad";

/// Who calls: a certificate's word, or that of somebody on this machine.
fn identify(
    extensions: &Extensions,
    headers: &HeaderMap,
    path: &str,
    unproven: Unproven,
) -> Result<Actor, Status> {
    if unproven == Unproven::Inside {
        return extensions.get::<Actor>().cloned().ok_or_else(|| Reason::IdentityRequired.status());
    }
    if let Some(peer) = extensions.get::<Peer>() {
        let (role, name) = match &peer.id().subject {
            Subject::Operator { role, name } => (*role, name),
            Subject::Gateway(name) if path == OF_GATEWAYS => (Role::Viewer, name),
            _ => return Err(Reason::IdentityRequired.status()),
        };
        return Ok(Actor { name: name.clone(), role, authenticated: true });
    }
    if unproven == Unproven::Refused {
        return Err(Reason::IdentityRequired.status());
    }
    match headers.get(metadata::ACTOR) {
        None => Ok(Actor::local(LOCAL)),
        Some(name) => {
            let name = name.to_str().ok().filter(|name| is_actor(name));
            name.map(Actor::local).ok_or_else(|| {
                let expected = "1 to 64 characters of a-z, A-Z, 0-9 and -_.@";
                Reason::ActorInvalid.with(&[("field", "actor"), ("expected", expected)])
            })
        }
    }
}

impl<S: Guarded> Service<Request<Body>> for Identity<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        match identify(request.extensions(), request.headers(), request.uri().path(), self.unproven) {
            Ok(actor) => {
                request.extensions_mut().insert(actor);
                Box::pin(self.inner.call(request))
            }
            Err(status) => refuse(status),
        }
    }
}

/// Why, in UTF-8; of somebody with a certificate always.
fn why(headers: &HeaderMap, actor: &Actor) -> Result<String, Status> {
    let invalid = || {
        let expected = "one line of UTF-8, at most 500 characters";
        Reason::ActorInvalid.with(&[("field", "reason"), ("expected", expected)])
    };
    let reason = match headers.get(metadata::CHANGE_REASON) {
        None => String::new(),
        Some(value) => {
            let mut one = HeaderMap::new();
            one.insert(metadata::CHANGE_REASON, value.clone());
            let map = MetadataMap::from_headers(one);
            let bytes = map.get_bin(metadata::CHANGE_REASON).and_then(|value| value.to_bytes().ok());
            let text = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
            text.filter(|text| is_reason(text)).ok_or_else(invalid)?
        }
    };
    if reason.trim().is_empty() && actor.authenticated {
        return Err(Reason::ReasonRequired.status());
    }
    Ok(reason)
}

impl<S: Guarded> Service<Request<Body>> for Audited<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        let changes = rule(request.uri().path()).filter(|(_, _, does)| *does == Does::Changes);
        let actor = request.extensions().get::<Actor>().cloned();
        let (Some((method, ..)), Some(actor)) = (changes, actor) else {
            return Box::pin(self.inner.call(request));
        };
        let reason = match why(request.headers(), &actor) {
            Ok(reason) => reason,
            Err(status) => return refuse(status),
        };
        let deed = Arc::new(Deed::new(actor, method, reason));
        request.extensions_mut().insert(deed.clone());
        let answer = self.inner.call(request);
        let (audit, pace) = (self.audit.clone(), self.pace.clone());
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(refused) = refusal(&answer) {
                tell(&deed, &refused, audit.as_ref(), &pace).await;
            }
            Ok(answer)
        })
    }
}

/// Why the attempt was refused; `None`: it was not, or something was away.
fn refusal(answer: &Response<Body>) -> Option<String> {
    let status = Status::from_header_map(answer.headers())?;
    let judged = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::Unauthenticated
    );
    judged.then(|| {
        Reason::of(&status).map_or_else(|| format!("{:?}", status.code()), |r| r.as_str().to_owned())
    })
}

/// Writes down what was refused, where a certificate says who tried. Whoever is on this machine without one
/// could fill the registry: that is told to the log only.
async fn tell(deed: &Deed, refused: &str, audit: Option<&Audit>, pace: &Pace) {
    let (actor, method) = (&deed.actor.name, deed.method);
    tracing::info!(actor, role = deed.actor.role.as_str(), method, refused, "an operator was refused");
    let Some(audit) = audit.filter(|_| deed.actor.authenticated && !deed.is_rehearsed()) else { return };
    let now = u64::try_from(pace.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if !pace.bucket.take(now, Rate::new(REFUSALS.0, REFUSALS.1, 1)) {
        return audit.left_out();
    }
    match tokio::time::timeout(WRITE_WITHIN, audit.refused(deed, refused)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a refused attempt could not be written into the audit"),
        Err(_) => {
            audit.left_out();
            tracing::warn!("a refused attempt was not written into the audit in time");
        }
    }
}

impl<S: Guarded> Service<Request<Body>> for Authorized<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let role = request.extensions().get::<Actor>().map(|actor| actor.role);
        match (rule(request.uri().path()), role) {
            (Some((_, least, _)), Some(role)) if role >= *least => Box::pin(self.0.call(request)),
            (Some((_, least, _)), role) => {
                let has = role.map_or("none", Role::as_str);
                refuse(Reason::RoleInsufficient.with(&[("role", has), ("needed", least.as_str())]))
            }
            (None, _) => refuse(Status::unimplemented("the operator API has no such method")),
        }
    }
}

#[cfg(test)]
mod tests;

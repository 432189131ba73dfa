//! What does an operator see in a browser?
//!
//! Three pages on the admin port: the federation, a shift, history; drawn by the server, kept up to date by
//! server-sent events (`live`), without a call to the outside.
//!
//! ```text
//!   request ─► guard: from this machine or encrypted, from our own page ─► visitor: a session ─► page
//!                    token (`suiyue console token`) or certificate ─► door ──┘             │
//!                                     operator API, its role rules and its audit ◄─ acts ──┘
//! ```
//! Pages read the snapshots that requests read. What they change goes through the operator API as if it had
//! come over the control port (`api`): roles, guards and audit are those of every other operator, there is
//! no second way.

mod api;
mod chart;
pub mod door;
mod fault;
mod federation;
pub mod guard;
mod history;
mod lang;
mod live;
mod page;
mod recorder;
mod shift;
mod sums;
mod text;
mod visitor;

use crate::{
    identity::{Peer, Subject, Trust},
    operator::Operator,
};
use api::Api;
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Query, Request, State},
    response::Response,
    routing::{get, post},
};
use door::{By, Doors, Guest};
use fault::{Fault, Why};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use lang::Lang;
use live::Streams;
use recorder::Recorder;
use std::sync::Arc;
use sums::Sums;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use visitor::{Fields, Form, Visitor};

/// Bytes of a form.
const MAX_FORM: usize = 32 << 10;

/// The console of one gateway.
#[derive(Clone)]
pub struct Console(Arc<Parts>);

struct Parts {
    operator: Operator,
    api: Api,
    recorder: Recorder,
    sums: Sums,
    tail: history::Kept,
    streams: Streams,
    ended: CancellationToken,
}

impl Console {
    /// The console of a gateway. `inside` is the operator API with its role rules and its audit, which
    /// believes the actor that is named to it. The future records the last ten minutes until `ended`.
    pub fn new(
        operator: Operator,
        inside: Routes,
        ended: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (recorder, recording) = Recorder::start(operator.metrics.clone(), ended.clone());
        let parts = Parts {
            operator,
            api: Api::new(inside),
            recorder,
            sums: Sums::default(),
            tail: history::Kept::default(),
            streams: Streams::default(),
            ended,
        };
        (Self(Arc::new(parts)), recording)
    }

    fn doors(&self) -> &Doors {
        &self.0.operator.doors
    }

    /// All pages, behind the guard.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/console", get(federation::page))
            .route("/console/", get(|| async { page::go("/console") }))
            .route("/console/shift", get(shift::page))
            .route("/console/shift/preview", get(shift::preview))
            .route("/console/shift/plan", get(shift::handed))
            .route("/console/shift/apply", post(shift::apply))
            .route("/console/shift/approve", post(shift::approve))
            .route("/console/shift/change", post(shift::change))
            .route("/console/history", get(history::page))
            .route("/console/session", get(still_inside))
            .route("/console/events", get(live::events))
            .route("/console/sign-in", get(door_page).post(sign_in))
            .route("/console/sign-out", post(sign_out))
            .route("/console/assets/console.css", get(|| async { asset("text/css", CSS) }))
            .route("/console/assets/console.js", get(|| async { asset("text/javascript", JS) }))
            .fallback(lost)
            .method_not_allowed_fallback(lost)
            .layer(DefaultBodyLimit::max(MAX_FORM))
            .layer(axum::middleware::from_fn(choose))
            .layer(axum::middleware::from_fn(guard::stand))
            .with_state(self)
    }
}

const CSS: &str = include_str!("console/assets/console.css");
const JS: &str = include_str!("console/assets/console.js");

fn asset(kind: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let kind = match kind {
        "text/css" => HeaderValue::from_static("text/css; charset=utf-8"),
        _ => HeaderValue::from_static("text/javascript; charset=utf-8"),
    };
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn lost(headers: HeaderMap) -> Response {
    page::refusal(Lang::of(&headers), &Fault::of(Why::Lost))
}

/// A cookie by its name.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

fn set_cookie(response: &mut Response, name: &str, value: &str, seconds: u64, encrypted: bool) {
    let secure = if encrypted { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/console; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

fn is_encrypted(request: &Request) -> bool {
    request.extensions().get::<guard::Connection>().is_some_and(|connection| connection.encrypted)
}

/// Keeps the language that a link asks for, and goes on without it.
async fn choose(request: Request, next: axum::middleware::Next) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("lang=")).and_then(Lang::named);
    let Some(lang) = asked.filter(|_| request.method() == http::Method::GET) else {
        return next.run(request).await;
    };
    let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("lang=")).collect();
    let path = request.uri().path();
    let mut response = match rest.as_slice() {
        [] => page::go(path),
        rest => page::go(&format!("{path}?{}", rest.join("&"))),
    };
    const YEAR: u64 = 365 * 24 * 3600;
    set_cookie(&mut response, lang::COOKIE, lang.word(), YEAR, is_encrypted(&request));
    response
}

/// Whoever has lost a stream finds out whether the session is what has ended.
async fn still_inside(_: Visitor) -> StatusCode {
    StatusCode::NO_CONTENT
}

/// The door, or straight inside for whoever has an operator's certificate.
async fn door_page(
    State(console): State<Console>,
    query: Query<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let lang = Lang::of(request.headers());
    let peer = request.extensions().get::<Peer>().cloned();
    if let Some(actor) = peer.as_ref().and_then(operator_of) {
        return console.let_in(lang, Guest { actor, peer }, By::Certificate, is_encrypted(&request));
    }
    let note = Fields(query.0).has("ended").then(|| Fault::of(Why::SignedOut));
    page::sign_in(lang, &console.doors().address().to_string(), StatusCode::OK, note.as_ref())
}

fn operator_of(peer: &Peer) -> Option<crate::audit::actor::Actor> {
    let Subject::Operator { role, name } = &peer.id().subject else { return None };
    Some(crate::audit::actor::Actor { name: name.clone(), role: *role, authenticated: true })
}

async fn sign_in(State(console): State<Console>, request: Request) -> Response {
    let (lang, encrypted) = (Lang::of(request.headers()), is_encrypted(&request));
    let again = |why| {
        let fault = Fault::of(why);
        page::sign_in(lang, &console.doors().address().to_string(), fault.status, Some(&fault))
    };
    let fields = match visitor::read(request).await {
        Ok(fields) => fields,
        Err(why) => return again(why),
    };
    // The whole address is taken as well: that is what stands on the terminal.
    let token = fields.get("token").rsplit('#').next().unwrap_or_default();
    match console.doors().redeem(token) {
        Some(guest) => console.let_in(lang, guest, By::Token, encrypted),
        None => again(Why::Token),
    }
}

async fn sign_out(State(console): State<Console>, headers: HeaderMap, form: Form) -> Response {
    let name = console.doors().cookie();
    if let Some(known) = cookie(&headers, &name) {
        console.doors().leave(known);
    }
    tracing::info!(actor = form.visitor.session.actor.name, "signed out of the console");
    let mut response = page::go("/console/sign-in");
    set_cookie(&mut response, &name, "", 0, false);
    response
}

impl Console {
    fn let_in(&self, lang: Lang, guest: Guest, by: By, encrypted: bool) -> Response {
        let Guest { actor, peer } = guest;
        let (name, role) = (actor.name.clone(), actor.role.as_str());
        let Ok(cookie) = self.doors().enter(actor, by) else {
            return page::refusal(lang, &Fault::of(Why::Full));
        };
        if let Some((trust, peer)) = self.0.operator.trust.clone().zip(peer) {
            tokio::spawn(self.clone().end_with(trust, peer, cookie.clone()));
        }
        tracing::info!(actor = name, role, "signed in to the console");
        let mut response = page::go("/console");
        let seconds = self.doors().settings().session.as_secs();
        set_cookie(&mut response, &self.doors().cookie(), &cookie, seconds, encrypted);
        response
    }

    /// The session of a certificate ends with it, also where it was only the token that it made.
    async fn end_with(self, trust: Trust, peer: Peer, cookie: String) {
        let operator = operator_of(&peer);
        let Some(session) = self.doors().inside(&cookie, operator.as_ref()) else { return };
        tokio::select! {
            () = trust.ends(peer.chain()) => self.doors().leave(&cookie),
            () = session.ended() => {}
            () = self.0.ended.cancelled() => {}
        }
    }
}

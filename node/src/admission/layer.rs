//! Which calls pass the gate, and what is said to those that are sent away?
//!
//! A tower service around all services of the node. Calls of our own methods pass the gate by the class of
//! their method, whatever they claim, and by the level that the gateway says. Health, reflection and the
//! calls of other nodes pass it by: they say how the node is, and keep it what it is. Who is sent away
//! costs no decoding: RESOURCE_EXHAUSTED, when to come back, and up to where calls are taken now.

use super::emulated::Emulated;
use super::{Gate, SentAway};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use rand::Rng as _;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use suiyue_proto::metadata;
use suiyue_proto::method::{self, Access, Class, Shape};
use suiyue_proto::priority::Priority;
use suiyue_proto::reason::Reason;
use tonic::body::Body;
use tonic_types::StatusExt as _;
use tower::Service;

/// Whoever is sent away comes back after this time, spread.
const COME_BACK_MS: std::ops::Range<u64> = 500..5_000;

/// A service behind the gate.
#[derive(Debug, Clone)]
pub struct Admitting<S> {
    inner: S,
    gate: Gate,
    /// By path; whether a call takes a place.
    methods: Arc<HashMap<String, (Class, bool)>>,
    work: Option<Emulated>,
    /// Levels of calls that name none.
    unnamed: Arc<AtomicU8>,
}

impl<S> Admitting<S> {
    /// Puts the gate in front of a service, and between them the emulated work, if there is any.
    #[must_use]
    pub fn new(inner: S, gate: Gate, work: Option<Emulated>) -> Self {
        let calls = method::own().into_iter();
        let calls = calls.filter(|method| matches!(method.access, Access::Public | Access::Authority));
        let places = calls.map(|method| {
            let waits_for_us = method.shape == Shape::Unary && method.access == Access::Public;
            (method.path, (method.class, waits_for_us))
        });
        let methods = Arc::new(places.collect());
        Self { inner, gate, methods, work, unnamed: Arc::default() }
    }

    /// Calls without a level are spread over all of them: whoever calls past the gateways.
    fn level(&self, headers: &HeaderMap) -> u8 {
        let named = headers.get(metadata::LEVEL).and_then(|value| value.to_str().ok());
        named.and_then(|level| level.parse().ok()).unwrap_or_else(|| {
            // An odd stride visits all of them before it comes back.
            self.unnamed.fetch_add(37, Ordering::Relaxed)
        })
    }
}

impl<S, B> Service<Request<B>> for Admitting<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(&(class, takes_place)) = self.methods.get(request.uri().path()) else {
            return Box::pin(self.inner.call(request));
        };
        let priority = Priority::new(class, self.level(request.headers()));
        let timeout = request.headers().get(metadata::GRPC_TIMEOUT);
        let left = timeout.and_then(|value| metadata::timeout(value.as_bytes()));
        // The clone takes the next call: this one was asked whether it is ready.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let (gate, work) = (self.gate.clone(), self.work.clone());
        Box::pin(async move {
            if !takes_place {
                return match gate.pass(priority) {
                    Ok(()) => inner.call(request).await,
                    Err(sent_away) => Ok(refusal(sent_away)),
                };
            }
            match gate.enter(class, priority, left).await {
                Ok(_place) => {
                    if let Some(work) = &work {
                        work.work().await;
                    }
                    inner.call(request).await
                }
                Err(sent_away) => Ok(refusal(sent_away)),
            }
        })
    }
}

/// What whoever is sent away gets.
fn refusal(sent_away: SentAway) -> Response<Body> {
    let reason = Reason::ShedLowPriority;
    let millis = rand::rng().random_range(COME_BACK_MS);
    let mut details = reason.status().get_error_details();
    details.set_retry_info(Some(Duration::from_millis(millis)));
    let status = tonic::Status::with_error_details(reason.code(), reason.text(), details);
    let mut response = status.into_http();
    let headers = response.headers_mut();
    headers.insert(metadata::PUSHBACK, HeaderValue::from(millis));
    if let Ok(cursor) = HeaderValue::try_from(sent_away.cursor.to_string()) {
        headers.insert(metadata::ADMIT, cursor);
    }
    response
}

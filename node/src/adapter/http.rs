//! How is one question put to the old system over HTTP?
//!
//! HTTP/1.1 over a pool of kept connections. An answer is a status and a JSON document of at most
//! 256 KiB; anything else is a failure of the old system, not of the caller.

use super::mapping::{Ask, Verb};
use super::tls::Connector;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use std::time::Duration;

const ANSWER_MAX: usize = 256 << 10;
const IDLE: Duration = Duration::from_secs(30);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A client of one interface.
pub(super) struct Http {
    client: Client<Connector, Full<Bytes>>,
    base: String,
    authorization: Option<HeaderValue>,
}

/// No usable answer came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("its answer is no JSON document (HTTP {0})")]
    Garbled(u16),
    #[error("its answer broke off or is longer than 256 KiB")]
    Broken,
}

impl Http {
    /// `base` is the URL without a `/` at its end.
    pub(super) fn new(
        base: &str,
        authorization: Option<HeaderValue>,
        connector: Connector,
        connections: usize,
    ) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(connections)
            .build(connector);
        Self { client, base: base.to_owned(), authorization }
    }

    /// Status and document.
    pub(super) async fn send(&self, ask: &Ask) -> Result<(u16, Value), Failure> {
        let request = self.request(ask)?;
        let answer =
            self.client.request(request).await.map_err(|error| Failure::Unreachable(root(&error)))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|_| Failure::Broken)?.to_bytes();
        match serde_json::from_slice(&body) {
            Ok(document) => Ok((status, document)),
            // An error page, or nothing at all: the status says it.
            Err(_) if status >= 400 => Ok((status, Value::Null)),
            Err(_) => Err(Failure::Garbled(status)),
        }
    }

    fn request(&self, ask: &Ask) -> Result<Request<Full<Bytes>>, Failure> {
        let method = match ask.verb {
            Verb::Get => Method::GET,
            Verb::Post => Method::POST,
        };
        let uri: Result<Uri, _> = format!("{}{}", self.base, ask.path).parse();
        let uri = uri.map_err(|error| Failure::Unreachable(error.to_string()))?;
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, JSON);
        if ask.verb == Verb::Post {
            headers.insert(CONTENT_TYPE, JSON);
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }
}

fn root(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

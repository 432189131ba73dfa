//! Which requests reach a page, and what do answers carry?
//!
//! Without TLS only this machine may come: a token and a cookie must not travel in the clear. A request
//! that changes something must come from a page of this console: browsers say so themselves
//! (`Sec-Fetch-Site`, `Origin`), and the form carries its session's secret (see `visitor`).
//! Every answer says that nothing but our own script and style sheet may run, and that nobody keeps it.

use super::{
    fault::{Fault, Why},
    lang::Lang,
    page,
};
use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::{net::SocketAddr, time::Duration};

/// How somebody is connected to the admin port; the accept loop puts it into every request's extensions.
/// A certificate that TLS took stands there too, as [`crate::identity::Peer`].
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// From where.
    pub peer: SocketAddr,
    /// Nobody on the way can read along.
    pub encrypted: bool,
}

/// What every answer carries.
static HEADERS: [(HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // With `no-referrer` browsers would call the origin of our own forms `null`.
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// A request is answered within this time; streams begin within it.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Stands in front of every page.
pub(super) async fn stand(request: Request, next: Next) -> Response {
    let lang = Lang::of(request.headers());
    let mut answer = match admit(&request) {
        Err(why) => page::refusal(lang, &Fault::of(why)),
        Ok(()) => match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => page::refusal(lang, &Fault::of(Why::Slow)),
        },
    };
    for (name, value) in &HEADERS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn admit(request: &Request) -> Result<(), Why> {
    let connection = request.extensions().get::<Connection>();
    if !connection.is_some_and(|from| from.encrypted || from.peer.ip().to_canonical().is_loopback()) {
        return Err(Why::InTheClear);
    }
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    if !reads && !is_ours(request.headers()) {
        return Err(Why::Foreign);
    }
    Ok(())
}

/// As far as a browser says where the request was made, it was on a page of this console. Programs that say
/// nothing are judged by the form alone.
fn is_ours(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin");
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = headers.get(header::ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_some_and(|(scheme, at)| ["http", "https"].contains(&scheme) && Some(at) == host)
    });
    site && origin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], expected: bool) {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        assert_eq!(is_ours(&headers.collect()), expected);
    }

    #[test]
    fn what_browsers_send_from_other_pages_is_foreign() {
        let host = ("host", "127.0.0.1:8442");
        check(&[host], true);
        check(&[host, ("origin", "http://127.0.0.1:8442")], true);
        check(&[host, ("origin", "http://127.0.0.1:8443")], false);
        check(&[host, ("origin", "http://evil.example")], false);
        check(&[host, ("origin", "null")], false);
        check(&[("origin", "http://127.0.0.1:8442")], false);
        check(&[host, ("sec-fetch-site", "same-origin")], true);
        check(&[host, ("sec-fetch-site", "cross-site")], false);
        check(&[host, ("sec-fetch-site", "same-site")], false);
        check(&[host, ("sec-fetch-site", "none"), ("origin", "http://127.0.0.1:8442")], false);
    }

    #[test]
    fn without_tls_only_this_machine_comes_in() {
        let at = |peer: &str, encrypted| {
            let mut request = Request::new(axum::body::Body::empty());
            let peer = peer.parse().unwrap();
            request.extensions_mut().insert(Connection { peer, encrypted });
            admit(&request)
        };
        assert_eq!(at("127.0.0.1:1", false), Ok(()));
        assert_eq!(at("[::1]:1", false), Ok(()));
        assert_eq!(at("[::ffff:127.0.0.1]:1", false), Ok(()));
        assert_eq!(at("10.0.0.9:1", false), Err(Why::InTheClear));
        assert_eq!(at("10.0.0.9:1", true), Ok(()));
        assert_eq!(admit(&Request::new(axum::body::Body::empty())), Err(Why::InTheClear));
    }
}

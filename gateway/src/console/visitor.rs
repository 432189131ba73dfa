//! Who looks at a page?
//!
//! A [`Visitor`] has a session; without one there is the sign-in page. A [`Form`] is what a visitor sends:
//! it carries the session's secret, or it is refused before anything reads it.

use super::{
    Console, cookie,
    door::Session,
    fault::{Fault, Why},
    lang::Lang,
    page,
};
use crate::identity::Peer;
use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    response::Response,
};
use http::{Method, header, request::Parts};
use std::{fmt::Write as _, sync::Arc, time::Duration};

/// Name of the field with the session's secret.
pub(super) const CSRF: &str = "csrf";
/// A form arrives within this time.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Somebody who is signed in.
pub(super) struct Visitor {
    /// The session.
    pub(super) session: Arc<Session>,
    /// The language.
    pub(super) lang: Lang,
}

impl FromRequestParts<Console> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Response> {
        let lang = Lang::of(&parts.headers);
        let known = cookie(&parts.headers, &console.doors().cookie());
        let peer = parts.extensions.get::<Peer>().and_then(super::operator_of);
        if let Some(session) = known.and_then(|known| console.doors().inside(known, peer.as_ref())) {
            return Ok(Self { session, lang });
        }
        // A page is asked for by a person, who is sent to the door; the rest is asked for by the script.
        let scripted = ["/events", "/preview", "/session"].iter().any(|end| parts.uri.path().ends_with(end));
        if parts.method == Method::GET && !scripted {
            let at = if known.is_some() { "/console/sign-in?ended" } else { "/console/sign-in" };
            return Err(page::go(at));
        }
        Err(page::refusal(lang, &Fault::of(Why::SignedOut)))
    }
}

/// Fields of a form or of a query, in their order.
#[derive(Debug, Default)]
pub(super) struct Fields(pub(super) Vec<(String, String)>);

impl Fields {
    /// The value of the first field of this name, without spaces around it; empty: there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
    }

    /// The values of all fields of this name that are not empty.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(known, _)| known == name);
        named.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// As the query of an address.
    pub(super) fn query(&self) -> String {
        let pairs = self.0.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// The field is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

/// A text as it stands in a query.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            escaped.push(byte.into());
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

/// A form of the visitor's own session.
pub(super) struct Form {
    /// Who sends it.
    pub(super) visitor: Visitor,
    /// What is sent.
    pub(super) fields: Fields,
}

impl FromRequest<Console> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, console: &Console) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, console).await?;
        let refuse = |why| page::refusal(visitor.lang, &Fault::of(why));
        let fields = read(Request::from_parts(parts, body)).await.map_err(refuse)?;
        if !visitor.session.sent(fields.get(CSRF)) {
            return Err(refuse(Why::Foreign));
        }
        Ok(Self { visitor, fields })
    }
}

/// Reads a form; its length is bounded by the router.
pub(super) async fn read(request: Request) -> Result<Fields, Why> {
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if !is_form {
        return Err(Why::Form);
    }
    let form = axum::Form::<Vec<(String, String)>>::from_request(request, &());
    match tokio::time::timeout(READ_WITHIN, form).await {
        Ok(Ok(axum::Form(fields))) => Ok(Fields(fields)),
        _ => Err(Why::Form),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        audit::actor::{Actor, Role},
        console::door::{By, Doors},
    };

    /// Somebody who is signed in.
    pub(in crate::console) fn visitor(role: Role, lang: Lang) -> Visitor {
        let doors = Doors::new(Default::default(), "127.0.0.1:1".parse().unwrap());
        let cookie = doors.enter(Actor { role, ..Actor::local("wang") }, By::Token).unwrap();
        Visitor { session: doors.inside(&cookie, None).unwrap(), lang }
    }

    #[test]
    fn fields_are_read_by_name_and_make_a_query() {
        let pairs = [("to", "yuekang "), ("to", ""), ("to", "佛山"), ("reason", "a&b = c")];
        let fields = Fields(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(fields.all("to").collect::<Vec<_>>(), ["yuekang", "佛山"]);
        assert_eq!((fields.get("to"), fields.get("from"), fields.has("from")), ("yuekang", "", false));
        let query = fields.query();
        assert!(query.ends_with("to=%E4%BD%9B%E5%B1%B1&reason=a%26b%20%3D%20c"), "{query}");
    }
}

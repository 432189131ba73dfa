//! What is sent to the old system?
//!
//! A path and fields whose values may hold `{region}`, `{division}`, `{subject}`, `{code}` and
//! `{request_id}`: as a query for GET, as a JSON object of strings for POST. Values are always encoded;
//! what a caller sends never becomes a part of the path or of another field.

use bytes::Bytes;
use std::fmt::Write as _;

/// What may be put into a template.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vars<'a> {
    /// Six digits.
    pub region: u32,
    /// The old system's word for it.
    pub division: &'a str,
    /// 32 hex digits.
    pub subject: &'a str,
    /// The text of a QR code.
    pub code: &'a str,
    /// 32 hex digits.
    pub request_id: &'a str,
}

/// A request, ready to be sent; equal requests are one question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    /// GET or POST.
    pub verb: Verb,
    /// Path with its query, below the configured URL.
    pub path: String,
    /// A JSON object, or nothing.
    pub body: Bytes,
}

/// How it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Fields in the query.
    Get,
    /// Fields in the body.
    Post,
}

/// A request with gaps.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) verb: Verb,
    pub(super) path: String,
    pub(super) fields: Vec<(String, Vec<Piece>)>,
}

/// Part of a field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Var(Var),
}

/// What goes into a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Var {
    Region,
    Division,
    Subject,
    Code,
    RequestId,
}

impl Var {
    const ALL: [(&'static str, Self); 5] = [
        ("region", Self::Region),
        ("division", Self::Division),
        ("subject", Self::Subject),
        ("code", Self::Code),
        ("request_id", Self::RequestId),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, var)| var)
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, var)| *var == self).map_or("", |(name, _)| name)
    }
}

/// A value with its gaps; the name of the gap that nobody knows.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, behind)) = after.split_once('}') else { return Err(after.to_owned()) };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Var(Var::named(name).ok_or_else(|| name.to_owned())?));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

impl Template {
    pub(super) fn fill(&self, vars: &Vars<'_>) -> Ask {
        let fields = self.fields.iter().map(|(name, pieces)| (name, value(pieces, vars)));
        match self.verb {
            Verb::Get => {
                let mut path = self.path.clone();
                for (name, value) in fields {
                    path.push(if path.contains('?') { '&' } else { '?' });
                    encode(&mut path, name);
                    path.push('=');
                    encode(&mut path, &value);
                }
                Ask { verb: Verb::Get, path, body: Bytes::new() }
            }
            Verb::Post => {
                let object: serde_json::Map<_, _> =
                    fields.map(|(name, value)| (name.clone(), value.into())).collect();
                let body = serde_json::Value::Object(object).to_string().into();
                Ask { verb: Verb::Post, path: self.path.clone(), body }
            }
        }
    }
}

fn value(pieces: &[Piece], vars: &Vars<'_>) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(part) => text.push_str(part),
            Piece::Var(Var::Region) => {
                let _ = write!(text, "{}", vars.region);
            }
            Piece::Var(Var::Division) => text.push_str(vars.division),
            Piece::Var(Var::Subject) => text.push_str(vars.subject),
            Piece::Var(Var::Code) => text.push_str(vars.code),
            Piece::Var(Var::RequestId) => text.push_str(vars.request_id),
        }
    }
    text
}

/// Percent-encoded but for RFC 3986's unreserved characters.
fn encode(into: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                into.push(char::from(byte))
            }
            _ => {
                let _ = write!(into, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(verb: Verb, value: &str) -> Template {
        let fields =
            vec![("q".to_owned(), pieces(value).unwrap()), ("c".to_owned(), pieces("{division}").unwrap())];
        Template { verb, path: "/scan".to_owned(), fields }
    }

    #[test]
    fn values_are_encoded_whatever_they_hold() {
        let vars = Vars { code: "a&b=\"广\"/../", division: "广州", region: 440_100, ..Vars::default() };
        let get = template(Verb::Get, "v1:{code}@{region}").fill(&vars);
        assert_eq!(get.path, "/scan?q=v1%3Aa%26b%3D%22%E5%B9%BF%22%2F..%2F%40440100&c=%E5%B9%BF%E5%B7%9E");
        let post = template(Verb::Post, "{code}").fill(&vars);
        let body: serde_json::Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!((post.path.as_str(), &body["q"]), ("/scan", &vars.code.into()));
    }

    #[test]
    fn gaps_that_nobody_knows_are_refused() {
        assert_eq!(pieces("{holder}"), Err("holder".to_owned()));
        assert_eq!(pieces("a{code"), Err("code".to_owned()));
        assert_eq!(pieces("plain"), Ok(vec![Piece::Text("plain".to_owned())]));
    }
}

//! Who is on the other side?
//!
//! Every part of a federation has a certificate with exactly one URI in it, a [`SpiffeId`]. It is compared
//! as a whole and parsed strictly: no wildcard, no other spelling. webpki knows nothing of such URIs, so
//! that this module reads them itself ([`certificate`]), wraps webpki for TLS ([`tls`]), keeps a process's
//! own certificate up to date ([`files`]) and says how records are signed ([`signed`]).
//!
//! ```text
//! spiffe://{federation}/region/{code}/node/{name}     a node, by its own region
//! spiffe://{federation}/gateway/{id}
//! spiffe://{federation}/operator/{role}/{name}        role: viewer, operator, approver
//! spiffe://{federation}/app/{name}
//! ```
//! A name is 1 to 63 characters of `a-z`, `0-9` and `-`; a federation's may have dots too.

pub mod certificate;
pub mod files;
#[cfg(feature = "issue")]
pub mod issue;
pub mod signed;
pub mod tls;

pub use certificate::{Authorities, Leaf, Refused, Usage};
pub use files::{Files, Identity};

use crate::region::Code;
use std::{fmt, str::FromStr};

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// Name of the federation.
    pub federation: String,
    /// Who in it.
    pub subject: Subject,
}

/// Who in a federation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A code system.
    Node {
        /// Its own region.
        region: Code,
        /// Its name, unique in the federation.
        node: String,
    },
    /// A gateway, by its id.
    Gateway(String),
    /// A person or a program that operates gateways.
    Operator {
        /// What they may do.
        role: Role,
        /// Who they are.
        name: String,
    },
    /// A program that calls the data port.
    App(String),
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Look.
    Viewer,
    /// Look and change.
    Operator,
    /// Look, change, and approve what others change.
    Approver,
}

impl Role {
    /// The word in the id.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
        }
    }
}

impl FromStr for Role {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        [Self::Viewer, Self::Operator, Self::Approver]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(Malformed)
    }
}

/// The text is no id of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no id: spiffe://FEDERATION/ and then region/CODE/node/NAME, gateway/ID, operator/ROLE/NAME or app/NAME"
)]
pub struct Malformed;

impl SpiffeId {
    /// A node's id.
    #[must_use]
    pub fn node(federation: &str, region: Code, node: &str) -> Self {
        Self { federation: federation.to_owned(), subject: Subject::Node { region, node: node.to_owned() } }
    }

    /// A gateway's id.
    #[must_use]
    pub fn gateway(federation: &str, id: &str) -> Self {
        Self { federation: federation.to_owned(), subject: Subject::Gateway(id.to_owned()) }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/", self.federation)?;
        match &self.subject {
            Subject::Node { region, node } => write!(f, "region/{region}/node/{node}"),
            Subject::Gateway(id) => write!(f, "gateway/{id}"),
            Subject::Operator { role, name } => write!(f, "operator/{}/{name}", role.as_str()),
            Subject::App(name) => write!(f, "app/{name}"),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let parts = text.strip_prefix("spiffe://").ok_or(Malformed)?.split('/').collect::<Vec<_>>();
        let (federation, path) = parts.split_first().ok_or(Malformed)?;
        let subject = match *path {
            ["region", code, "node", node] => {
                Subject::Node { region: code.parse().map_err(|_| Malformed)?, node: named(node)? }
            }
            ["gateway", id] => Subject::Gateway(named(id)?),
            ["operator", role, name] => Subject::Operator { role: role.parse()?, name: named(name)? },
            ["app", name] => Subject::App(named(name)?),
            _ => return Err(Malformed),
        };
        if !is_federation(federation) {
            return Err(Malformed);
        }
        Ok(Self { federation: (*federation).to_owned(), subject })
    }
}

/// The text is a federation's name: 1 to 253 characters of `a-z`, `0-9`, `-` and `.`.
#[must_use]
pub fn is_federation(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

/// The text is a name as keys, labels and ids take it: 1 to 63 characters of `a-z`, `0-9` and `-`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn named(text: &str) -> Result<String, Malformed> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_id_survives_the_round_trip() {
        for text in [
            "spiffe://lingnan/region/440100/node/suikang",
            "spiffe://lingnan.example.cn/gateway/gw-1",
            "spiffe://lingnan/operator/viewer/li-ming",
            "spiffe://lingnan/operator/approver/wang",
            "spiffe://lingnan/app/gate-7",
        ] {
            assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "spiffe://",
            "spiffe://lingnan",
            "spiffe://lingnan/",
            "SPIFFE://lingnan/app/a",
            "spiffe://Lingnan/app/a",
            "spiffe:///app/a",
            "spiffe://lingnan/app/",
            "spiffe://lingnan/app/a/",
            "spiffe://lingnan/app/*",
            "spiffe://*/app/a",
            "spiffe://lingnan/app/a?x",
            "spiffe://lingnan/app/a%2Fb",
            "spiffe://lingnan/region/*/node/suikang",
            "spiffe://lingnan/region/4401/node/suikang",
            "spiffe://lingnan/region/440100/node/*",
            "spiffe://lingnan/region/440100/suikang",
            "spiffe://lingnan/operator/root/wang",
            "spiffe://lingnan/operator/wang",
            "spiffe://lingnan:1/app/a",
            "https://lingnan/app/a",
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(Malformed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_written_the_same(text in "spiffe://[a-z.*]{0,4}/(region/[0-9]{5,7}/node|app|gateway|operator/viewer)/[a-z0-9*-]{0,5}/?") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}

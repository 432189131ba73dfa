//! May this node join, as what it says it is?
//!
//! A node with a certificate may register the node that it names, in that node's region and, if it is a
//! province's, the regions below it, as far as the province's record of trust goes. Without certificates a
//! token is known for a region. It speaks for that region and, if it is a province's, for the
//! regions below it. Then the manifest, the address and the keys are held to the same checks as the
//! fold's, so that nothing is written that would be quarantined.

use super::signed::{self, Signed};
use crate::{
    identity::{Peer, Trust},
    registry::keys::is_name,
    registry::manifest::{self, Checked, Invalid},
    table::Table,
};
use std::{hint::black_box, sync::Arc};
use suiyue_proto::{
    method::{self, Method},
    reason::Reason,
    region::{self, Code},
    v1::{Hello, Manifest, Report, VerifyingKey},
};
use tonic::{Status, metadata::MetadataMap};

/// A node that may join.
#[derive(Debug)]
pub(super) struct Admitted {
    /// What it declared, as it will be stored.
    pub(super) manifest: Manifest,
    /// The same, checked.
    pub(super) checked: Checked,
    /// Name of the endpoint.
    pub(super) endpoint: String,
    /// `host:port`.
    pub(super) address: String,
    /// Drawn at the endpoint's start.
    pub(super) incarnation: u64,
    /// Its verifying keys.
    pub(super) keys: Vec<VerifyingKey>,
    /// Readiness.
    pub(super) report: Report,
    /// Who is on the other side; `None`: a port without certificates.
    pub(super) peer: Option<Peer>,
    /// What it signed.
    pub(super) signed: Option<Signed>,
}

/// By what a node wants to be let in.
#[derive(Debug)]
pub(super) enum Credentials {
    /// A join token.
    Token(String),
    /// The certificate of its connection.
    Certificate(Peer),
}

/// Knows the tokens.
pub(super) struct Doorkeeper {
    tokens: Vec<(Code, String)>,
    own: Vec<Arc<Method>>,
}

impl Doorkeeper {
    pub(super) fn new(tokens: &[(Code, String)]) -> Self {
        Self { tokens: tokens.to_vec(), own: method::own().into_iter().map(Arc::new).collect() }
    }

    /// Decides about a hello.
    pub(super) fn admit(
        &self,
        credentials: Credentials,
        mut hello: Hello,
        trust: Option<&Trust>,
        table: &Table,
    ) -> Result<Admitted, Status> {
        let signed = trust.map(|trust| signed::read(trust, &mut hello)).transpose()?.flatten();
        let manifest = hello.manifest.unwrap_or_default();
        let regions = match &credentials {
            Credentials::Token(token) => self.regions_of(token)?,
            Credentials::Certificate(peer) => {
                signed::names(peer, &manifest)?;
                Code::new(manifest.region).into_iter().collect()
            }
        };
        let checked = manifest::check(&manifest, &self.own).map_err(|invalid| {
            // A scope beyond the node's own province is refused as such, not as a slip of the pen.
            if invalid.field == "manifest.scopes" { scope_refused(&invalid) } else { refused(&invalid) }
        })?;
        let covers =
            |scope: &Code| regions.iter().any(|of| of == scope || region::parent(*scope) == Some(*of));
        if let Some(scope) = checked.scopes.iter().find(|scope| !covers(scope)) {
            return Err(Reason::JoinScopeRefused.with(&[("region", &scope.to_string())]));
        }
        check_endpoint(&hello.endpoint, &hello.address, &hello.keys, &checked).map_err(|i| refused(&i))?;
        check_against(table, &checked)?;
        Ok(Admitted {
            manifest,
            checked,
            endpoint: hello.endpoint,
            address: hello.address,
            incarnation: hello.incarnation,
            keys: hello.keys,
            report: hello.report.unwrap_or_default(),
            peer: match credentials {
                Credentials::Token(_) => None,
                Credentials::Certificate(peer) => Some(peer),
            },
            signed,
        })
    }

    /// The regions that a token speaks for. Every token is compared, whichever matches: the time taken says
    /// nothing.
    fn regions_of(&self, bearer: &str) -> Result<Vec<Code>, Status> {
        let matching = self.tokens.iter().filter(|(_, token)| same(token.as_bytes(), bearer.as_bytes()));
        let regions = matching.map(|(region, _)| *region).collect::<Vec<_>>();
        if regions.is_empty() { Err(Reason::JoinTokenInvalid.status()) } else { Ok(regions) }
    }
}

/// The token in `authorization: Bearer TOKEN`.
pub(super) fn bearer(metadata: &MetadataMap) -> Result<&str, Status> {
    let value = metadata.get("authorization").and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
        .map(|(_, token)| token)
        .ok_or_else(|| Reason::JoinTokenInvalid.status())
}

fn check_endpoint(
    endpoint: &str,
    address: &str,
    keys: &[VerifyingKey],
    checked: &Checked,
) -> Result<(), Invalid> {
    if !is_name(endpoint) {
        return Err(Invalid {
            field: "endpoint",
            expected: "1 to 63 characters of a-z, 0-9 and '-'".to_owned(),
        });
    }
    manifest::address(address)?;
    if keys.len() > manifest::MAX_KEYS {
        return Err(Invalid { field: "keys", expected: format!("at most {}", manifest::MAX_KEYS) });
    }
    keys.iter().try_for_each(|key| manifest::verifying_key(key, &checked.scopes))
}

/// What the federation already has: names and methods of others cannot be taken.
fn check_against(table: &Table, checked: &Checked) -> Result<(), Status> {
    if let Some(node) = table.nodes.get(&checked.name)
        && (node.region != checked.region || node.is_static)
    {
        return Err(Reason::NodeNameTaken.with(&[("region", &node.region.to_string())]));
    }
    for method in &checked.methods {
        let path = method.path.as_str();
        let Some(known) = table.methods.get(path) else { continue };
        // Nobody declared it: it stands in the configuration, or is our own.
        let alone = table.declared_by.get(path).is_some_and(|nodes| nodes.iter().all(|n| *n == checked.name));
        if known != method && !alone {
            let expected = format!("{path} as others declare it");
            return Err(refused(&Invalid { field: "manifest.descriptor_set", expected }));
        }
    }
    Ok(())
}

fn refused(invalid: &Invalid) -> Status {
    Reason::ManifestInvalid.with(&[("field", invalid.field), ("expected", &invalid.expected)])
}

fn scope_refused(invalid: &Invalid) -> Status {
    Reason::JoinScopeRefused.with(&[("field", invalid.field), ("expected", &invalid.expected)])
}

/// Compares in a time that depends on the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (x, y)| black_box(difference | (x ^ y)));
    a.len() == b.len() && black_box(difference) == 0
}

//! Who calls, and may they?
//!
//! An app shows a bearer token or a client certificate; its grant ([`grant`]) says which methods, classes
//! and regions it may ask for, and how much. Each worker has a [`desk`] that knows the tokens it has seen,
//! so that a call costs one look-up; what an app may call a second and have in flight is counted for all
//! workers of the gateway together ([`quota`]).
//!
//! The token is taken out of the call here and goes nowhere else: no node, no log, no number sees it, and
//! the registry has its hash only.

pub mod certificate;
pub mod desk;
pub mod grant;
pub mod meters;
pub mod quota;
pub mod token;

use grant::Methods;

/// What happens to calls of nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// They are taken.
    Allow,
    /// They are refused.
    #[default]
    Deny,
    /// Those of these methods are taken.
    Only(Methods),
}

impl Anonymous {
    /// A call of nobody to this method is taken.
    #[must_use]
    pub fn takes(&self, path: &str) -> bool {
        match self {
            Self::Allow => true,
            Self::Deny => false,
            Self::Only(methods) => methods.has(path),
        }
    }

    /// The word for operators.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Only(_) => "some",
        }
    }
}

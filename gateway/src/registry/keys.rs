//! Where does each thing stand in the registry?
//!
//! [`Key`] is the only place that builds and parses the keys; everything else handles the enum. A
//! name is 1 to 63 characters of `a-z`, `0-9` and `-`, so that it needs no escaping in a key, a
//! metric label or a host name.

use crate::audit::ulid::Ulid;
use std::{fmt, str::FromStr};
use suiyue_proto::region::Code;

/// Characters that a name has at most.
const MAX_NAME: usize = 63;

/// Where our part of the store begins, e.g. `/suiyue/v1`; several federations may share one etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Default for Prefix {
    fn default() -> Self {
        Self("/suiyue/v1".to_owned())
    }
}

/// A prefix that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no registry prefix: it begins with '/', does not end with it, and has no empty part")]
pub struct BadPrefix(String);

impl FromStr for Prefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let good = text
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|part| !part.is_empty() && part.is_ascii()));
        if good { Ok(Self(text.to_owned())) } else { Err(BadPrefix(text.to_owned())) }
    }
}

impl Prefix {
    /// What every key begins with, `/` included: list and watch this.
    #[must_use]
    pub fn root(&self) -> String {
        format!("{}/", self.0)
    }

    /// The full key.
    #[must_use]
    pub fn key(&self, key: &Key) -> String {
        format!("{}/{key}", self.0)
    }

    /// The key that a full key stands for.
    ///
    /// # Errors
    /// [`BadKey`] when it is none of ours.
    pub fn parse(&self, key: &str) -> Result<Key, BadKey> {
        key.strip_prefix(self.0.as_str())
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or(BadKey::Foreign)?
            .parse()
    }

    /// The key belongs to the audit: it says nothing about where calls go, and there are many.
    #[must_use]
    pub fn is_audit(&self, key: &str) -> bool {
        key.strip_prefix(self.0.as_str()).is_some_and(|rest| rest.starts_with("/audit/"))
    }

    /// The key tells of the past: no table is made from it, and there are many. The audit, and the log and the
    /// approvals of shifts.
    #[must_use]
    pub fn is_history(&self, key: &str) -> bool {
        let parts = ["/audit/", "/shifts/log/", "/shifts/approvals/"];
        key.strip_prefix(self.0.as_str()).is_some_and(|rest| parts.iter().any(|part| rest.starts_with(part)))
    }

    /// What the keys of the shifts' log begin with.
    #[must_use]
    pub fn shift_log(&self) -> String {
        format!("{}/shifts/log/", self.0)
    }

    /// What the keys of the audit begin with.
    #[must_use]
    pub fn audit(&self) -> String {
        format!("{}/audit/", self.0)
    }

    /// The key says nothing about where calls go: a gateway's presence, or a goodbye.
    #[must_use]
    pub fn is_silent(&self, key: &str) -> bool {
        self.is_presence(key) || matches!(self.parse(key), Ok(Key::Node { part: Part::Gone(_), .. }))
    }

    /// The key is a gateway's presence.
    #[must_use]
    pub fn is_presence(&self, key: &str) -> bool {
        key.strip_prefix(self.0.as_str()).is_some_and(|rest| rest.starts_with("/gateways/"))
    }
}

/// A key without its prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `regions/{code}`: policy of a region.
    Region(Code),
    /// `nodes/{region}/{node}/…`: one part of what is known of a node.
    Node {
        /// The node's own region.
        region: Code,
        /// Its name.
        node: String,
        /// Which part.
        part: Part,
    },
    /// `gateways/{id}`: presence of a gateway.
    Gateway(String),
    /// `trust/{province}`: who may speak for a province, by the first two digits of its code.
    Trust(Code),
    /// `apps/{app}`: what an app may call.
    App(String),
    /// `audit/{ulid}`: an entry of the audit.
    Audit(Ulid),
    /// `audit/head`: the last entry of the audit.
    AuditHead,
    /// `shifts/active/{region}/{from}`: the one shift away from a node.
    Shift {
        /// The region whose calls move.
        region: Code,
        /// The node they leave.
        from: String,
    },
    /// `shifts/log/{id}`: every shift, as it stands or stood last.
    ShiftLog(String),
    /// `shifts/approvals/{plan}`: a second person's word for a plan.
    ShiftApproval(String),
}

/// What is kept of a node, one key each, because each has its own writer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `spec`: what the node declared.
    Spec,
    /// `keys`: what it signs with.
    Keys,
    /// `intent`: what operators want.
    Intent,
    /// `live/{endpoint}`: an endpoint that is there.
    Live(String),
    /// `gone/{endpoint}`: an endpoint that has said goodbye.
    Gone(String),
}

impl Part {
    /// The node says it, and signs it. Operators' orders it does not, and a goodbye makes no route.
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        matches!(self, Self::Spec | Self::Keys | Self::Live(_))
    }
}

/// A key that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It does not begin with the prefix.
    #[error("it does not stand below the prefix")]
    Foreign,
    /// No such kind of key.
    #[error("this version knows no such key")]
    Unknown,
    /// The region part is no region code.
    #[error("{0:?} is no region code of six digits")]
    Region(String),
    /// A name part is no name.
    #[error("{0:?} is no name of 1 to 63 characters of a-z, 0-9 and '-'")]
    Name(String),
    /// An entry of the audit is called by something else than a ULID.
    #[error("{0:?} is no ULID")]
    Ulid(String),
}

/// The text is a name as keys, labels and host names take it.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(code) => write!(f, "regions/{code}"),
            Self::Gateway(id) => write!(f, "gateways/{id}"),
            Self::Trust(code) => write!(f, "trust/{}", code.get() / 10_000),
            Self::App(name) => write!(f, "apps/{name}"),
            Self::Audit(id) => write!(f, "audit/{id}"),
            Self::AuditHead => f.write_str("audit/head"),
            Self::Shift { region, from } => write!(f, "shifts/active/{region}/{from}"),
            Self::ShiftLog(id) => write!(f, "shifts/log/{id}"),
            Self::ShiftApproval(plan) => write!(f, "shifts/approvals/{plan}"),
            Self::Node { region, node, part } => match part {
                Part::Spec => write!(f, "nodes/{region}/{node}/spec"),
                Part::Keys => write!(f, "nodes/{region}/{node}/keys"),
                Part::Intent => write!(f, "nodes/{region}/{node}/intent"),
                Part::Live(endpoint) => write!(f, "nodes/{region}/{node}/live/{endpoint}"),
                Part::Gone(endpoint) => write!(f, "nodes/{region}/{node}/gone/{endpoint}"),
            },
        }
    }
}

impl FromStr for Key {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let parts = text.split('/').collect::<Vec<_>>();
        let node =
            |code: &str, name: &str, part| Ok(Self::Node { region: region(code)?, node: named(name)?, part });
        match parts[..] {
            ["regions", code] => Ok(Self::Region(region(code)?)),
            ["gateways", id] => Ok(Self::Gateway(named(id)?)),
            ["trust", digits] => Ok(Self::Trust(province(digits)?)),
            ["apps", name] => Ok(Self::App(named(name)?)),
            ["audit", "head"] => Ok(Self::AuditHead),
            ["audit", id] => id.parse().map(Self::Audit).map_err(|_| BadKey::Ulid(id.to_owned())),
            ["shifts", "active", code, from] => Ok(Self::Shift { region: region(code)?, from: named(from)? }),
            ["shifts", "log", id] => Ok(Self::ShiftLog(named(id)?)),
            ["shifts", "approvals", plan] => Ok(Self::ShiftApproval(named(plan)?)),
            ["nodes", code, name, "spec"] => node(code, name, Part::Spec),
            ["nodes", code, name, "keys"] => node(code, name, Part::Keys),
            ["nodes", code, name, "intent"] => node(code, name, Part::Intent),
            ["nodes", code, name, "live", endpoint] => node(code, name, Part::Live(named(endpoint)?)),
            ["nodes", code, name, "gone", endpoint] => node(code, name, Part::Gone(named(endpoint)?)),
            _ => Err(BadKey::Unknown),
        }
    }
}

fn region(text: &str) -> Result<Code, BadKey> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| BadKey::Region(text.to_owned()))
}

/// A province by the two digits that its codes begin with.
fn province(digits: &str) -> Result<Code, BadKey> {
    let bad = || BadKey::Region(digits.to_owned());
    if digits.len() != 2 {
        return Err(bad());
    }
    region(&format!("{digits}0000")).map_err(|_| bad())
}

fn named(text: &str) -> Result<String, BadKey> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(BadKey::Name(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: Result<Key, BadKey>) {
        let prefix = Prefix::default();
        assert_eq!(prefix.parse(&format!("/suiyue/v1/{text}")), expected, "{text}");
        if let Ok(key) = expected {
            assert_eq!(prefix.key(&key), format!("/suiyue/v1/{text}"));
        }
    }

    fn guangzhou() -> Code {
        Code::new(440_100).unwrap()
    }

    fn of_suikang(part: Part) -> Result<Key, BadKey> {
        Ok(Key::Node { region: guangzhou(), node: "suikang".to_owned(), part })
    }

    #[test]
    fn every_kind_of_key_is_built_and_parsed() {
        check("regions/440100", Ok(Key::Region(guangzhou())));
        check("gateways/gw-1", Ok(Key::Gateway("gw-1".to_owned())));
        check("trust/44", Ok(Key::Trust(Code::new(440_000).unwrap())));
        check("apps/gate-1", Ok(Key::App("gate-1".to_owned())));
        check("audit/head", Ok(Key::AuditHead));
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        check(&format!("audit/{id}"), Ok(Key::Audit(id.parse().unwrap())));
        assert!(Prefix::default().is_audit("/suiyue/v1/audit/head"));
        assert!(!Prefix::default().is_audit("/suiyue/v1/apps/audit"));
        assert!(Prefix::default().is_history("/suiyue/v1/shifts/log/1"));
        assert!(!Prefix::default().is_history("/suiyue/v1/shifts/active/440100/suikang"));
        check("nodes/440100/suikang/spec", of_suikang(Part::Spec));
        check("nodes/440100/suikang/keys", of_suikang(Part::Keys));
        check("nodes/440100/suikang/intent", of_suikang(Part::Intent));
        check("nodes/440100/suikang/live/suikang-1", of_suikang(Part::Live("suikang-1".to_owned())));
        check("nodes/440100/suikang/gone/suikang-1", of_suikang(Part::Gone("suikang-1".to_owned())));
    }

    #[test]
    fn presence_and_goodbyes_are_silent() {
        let silent = |key: &str| Prefix::default().is_silent(&format!("/suiyue/v1/{key}"));
        assert!(silent("gateways/gw-1") && silent("nodes/440100/suikang/gone/suikang-1"));
        assert!(!silent("nodes/440100/suikang/live/suikang-1") && !silent("regions/440100"));
    }

    #[test]
    fn other_keys_are_refused_with_the_reason() {
        check("", Err(BadKey::Unknown));
        check("regions", Err(BadKey::Unknown));
        check("nodes/440100/suikang", Err(BadKey::Unknown));
        check("nodes/440100/suikang/live", Err(BadKey::Unknown));
        check("nodes/440100/suikang/live/a/b", Err(BadKey::Unknown));
        check("trust/440000", Err(BadKey::Region("440000".to_owned())));
        check("trust/4", Err(BadKey::Region("4".to_owned())));
        check("trust/00", Err(BadKey::Region("00".to_owned())));
        check("audit/tail", Err(BadKey::Ulid("tail".to_owned())));
        check("regions/4401", Err(BadKey::Region("4401".to_owned())));
        check("regions/+40100", Err(BadKey::Region("+40100".to_owned())));
        check("nodes/440100/Sui/spec", Err(BadKey::Name("Sui".to_owned())));
        check("nodes/440100//spec", Err(BadKey::Name(String::new())));
        check(&format!("gateways/{}", "a".repeat(64)), Err(BadKey::Name("a".repeat(64))));
        assert_eq!(Prefix::default().parse("/other/regions/440100"), Err(BadKey::Foreign));
        assert_eq!(Prefix::default().parse("/suiyue/v10/regions/440100"), Err(BadKey::Foreign));
    }

    #[test]
    fn prefixes_are_checked() {
        for good in ["/suiyue/v1", "/a", "/a/b/c"] {
            assert_eq!(good.parse::<Prefix>().unwrap().root(), format!("{good}/"));
        }
        for bad in ["", "/", "suiyue", "/suiyue/", "//a", "/a//b", "/é"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_key_survives_the_round_trip(node in "[a-z0-9-]{1,63}", endpoint in "[a-z0-9-]{1,63}", code in 110_000..830_000_u32) {
            let key = Key::Node { region: Code::new(code).unwrap(), node, part: Part::Live(endpoint) };
            prop_assert_eq!(key.to_string().parse::<Key>(), Ok(key));
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,80}") {
            let _ = text.parse::<Key>();
        }
    }
}

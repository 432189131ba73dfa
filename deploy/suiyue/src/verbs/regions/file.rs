//! How does a region's policy look as a file?
//!
//! `region describe -o toml` prints what `region set -f` reads. `revision` is the one that the policy
//! was read at: with it `set` replaces exactly that one; without it, whatever stands there. A value
//! that a gateway would refuse is passed on to it: there is one set of checks, and it is there.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use suiyue_proto::{method, v1};

/// A policy as it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The region it is of; absent in a file: the one on the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<u32>,
    /// Registry revision it was read at; 0: there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Moving more than this fraction of the region's calls needs a second person.
    pub two_person_above: Option<f64>,
    /// Calls of the region in flight at one gateway at most; each of its workers takes its part.
    pub in_flight_max: Option<u32>,
    /// Nodes of other regions that may answer.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Base shares across tiers.
    #[serde(default)]
    pub weights: Vec<Weight>,
    /// Rules of classes that differ from the defaults.
    #[serde(default)]
    pub classes: Classes,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Name of the node.
    pub node: String,
    /// Classes it may serve; empty: scan only.
    #[serde(default)]
    pub classes: Vec<Class>,
}

/// Base share of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// Name of the node.
    pub node: String,
    /// Its part, relative to the sum.
    pub weight: f64,
}

/// Rules by class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classes {
    /// A checkpoint verifies a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scan: Option<Rule>,
    /// A holder opens the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub show: Option<Rule>,
    /// Details and history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<Rule>,
    /// Uploads, replication, export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync: Option<Rule>,
}

/// Rule of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A node with older data, in seconds, is left out while a fresher one lives.
    pub max_lag_s: Option<u32>,
    /// What happens when nobody is healthy.
    pub nothing_healthy: Option<NothingHealthy>,
}

/// A class, by its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words of `method::Class`")]
pub enum Class {
    Scan,
    Show,
    Query,
    Sync,
}

impl From<Class> for v1::Class {
    fn from(class: Class) -> Self {
        match class {
            Class::Scan => Self::Scan,
            Class::Show => Self::Show,
            Class::Query => Self::Query,
            Class::Sync => Self::Sync,
        }
    }
}

impl Class {
    /// The class of a protobuf value; `None` for one that this version does not know.
    #[must_use]
    pub fn of(value: i32) -> Option<Self> {
        Some(match method::Class::from_proto(value)? {
            method::Class::Scan => Self::Scan,
            method::Class::Show => Self::Show,
            method::Class::Query => Self::Query,
            method::Class::Sync => Self::Sync,
        })
    }

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Show => "show",
            Self::Query => "query",
            Self::Sync => "sync",
        }
    }
}

/// What happens to calls of a class when nobody is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NothingHealthy {
    /// They are tried everywhere.
    SpreadAll,
    /// They are tried at the region's own nodes and its province's.
    SpreadOwn,
    /// They are refused.
    Closed,
}

impl NothingHealthy {
    fn of(value: v1::NothingHealthy) -> Option<Self> {
        match value {
            v1::NothingHealthy::Unspecified => None,
            v1::NothingHealthy::SpreadAll => Some(Self::SpreadAll),
            v1::NothingHealthy::SpreadOwn => Some(Self::SpreadOwn),
            v1::NothingHealthy::Closed => Some(Self::Closed),
        }
    }

    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SpreadAll => "spread_all",
            Self::SpreadOwn => "spread_own",
            Self::Closed => "closed",
        }
    }
}

impl Rule {
    /// The rule of a message.
    #[must_use]
    pub fn of(rule: &v1::ClassRule) -> Self {
        Self { max_lag_s: rule.max_lag_s, nothing_healthy: NothingHealthy::of(rule.nothing_healthy()) }
    }

    fn message(&self, class: v1::Class) -> v1::ClassRule {
        let nothing = match self.nothing_healthy {
            None => v1::NothingHealthy::Unspecified,
            Some(NothingHealthy::SpreadAll) => v1::NothingHealthy::SpreadAll,
            Some(NothingHealthy::SpreadOwn) => v1::NothingHealthy::SpreadOwn,
            Some(NothingHealthy::Closed) => v1::NothingHealthy::Closed,
        };
        v1::ClassRule { class: class.into(), max_lag_s: self.max_lag_s, nothing_healthy: nothing.into() }
    }
}

impl Policy {
    /// The policy of a message, as it was read at a revision.
    #[must_use]
    pub fn of(region: u32, revision: i64, policy: &v1::RegionPolicy) -> Self {
        let mut classes = Classes::default();
        for rule in &policy.classes {
            let slot = match Class::of(rule.class) {
                Some(Class::Scan) => &mut classes.scan,
                Some(Class::Show) => &mut classes.show,
                Some(Class::Query) => &mut classes.query,
                Some(Class::Sync) => &mut classes.sync,
                None => continue,
            };
            *slot = Some(Rule::of(rule));
        }
        let peers = policy.peers.iter().map(|peer| Peer {
            node: peer.node.clone(),
            classes: peer.classes.iter().filter_map(|&class| Class::of(class)).collect(),
        });
        let weights = policy.weights.iter().map(|w| Weight { node: w.node.clone(), weight: w.weight });
        Self {
            region: Some(region),
            revision: Some(revision),
            two_person_above: policy.two_person_above,
            in_flight_max: policy.in_flight_max,
            peers: peers.collect(),
            weights: weights.collect(),
            classes,
        }
    }

    /// The message to send.
    #[must_use]
    pub fn message(&self) -> v1::RegionPolicy {
        let peers = self.peers.iter().map(|peer| v1::Peer {
            node: peer.node.clone(),
            classes: peer.classes.iter().map(|&class| v1::Class::from(class).into()).collect(),
        });
        let weights = self.weights.iter().map(|w| v1::Weight { node: w.node.clone(), weight: w.weight });
        let Classes { scan, show, query, sync } = &self.classes;
        let by_class = [
            (v1::Class::Scan, scan),
            (v1::Class::Show, show),
            (v1::Class::Query, query),
            (v1::Class::Sync, sync),
        ];
        let rules = by_class.into_iter().filter_map(|(class, rule)| Some(rule.as_ref()?.message(class)));
        v1::RegionPolicy {
            peers: peers.collect(),
            weights: weights.collect(),
            classes: rules.collect(),
            two_person_above: self.two_person_above,
            in_flight_max: self.in_flight_max,
        }
    }

    /// The file, to be read again.
    #[must_use]
    pub fn toml(&self) -> String {
        let mut text = String::new();
        let number = |text: &mut String, key: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = writeln!(text, "{key} = {value}");
            }
        };
        number(&mut text, "region", self.region.map(|n| n.to_string()));
        number(&mut text, "revision", self.revision.map(|n| n.to_string()));
        number(&mut text, "two_person_above", self.two_person_above.map(float));
        number(&mut text, "in_flight_max", self.in_flight_max.map(|n| n.to_string()));
        for peer in &self.peers {
            let classes = peer.classes.iter().map(|class| format!("{:?}", class.as_str()));
            let classes = classes.collect::<Vec<_>>().join(", ");
            let _ = write!(text, "\n[[peers]]\nnode = {:?}\nclasses = [{classes}]\n", peer.node);
        }
        for Weight { node, weight } in &self.weights {
            let _ = write!(text, "\n[[weights]]\nnode = {node:?}\nweight = {}\n", float(*weight));
        }
        let Classes { scan, show, query, sync } = &self.classes;
        for (class, rule) in [("scan", scan), ("show", show), ("query", query), ("sync", sync)] {
            let Some(rule) = rule else { continue };
            let _ = write!(text, "\n[classes.{class}]\n");
            number(&mut text, "max_lag_s", rule.max_lag_s.map(|n| n.to_string()));
            number(&mut text, "nothing_healthy", rule.nothing_healthy.map(|n| format!("{:?}", n.as_str())));
        }
        text
    }
}

/// A float as TOML takes it: always with a point, or `nan` and `inf`.
fn float(value: f64) -> String {
    format!("{value:?}").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::file::Text;

    const WHOLE: &str = r#"region = 440100
revision = 17
two_person_above = 0.2
in_flight_max = 500

[[peers]]
node = "shanghai"
classes = []

[[peers]]
node = "xian"
classes = ["scan", "show"]

[[weights]]
node = "suikang"
weight = 50.0

[[weights]]
node = "yuekang"
weight = 0.5

[classes.scan]
max_lag_s = 60
nothing_healthy = "spread_all"

[classes.query]
nothing_healthy = "closed"

[classes.sync]
max_lag_s = 5
"#;

    #[test]
    fn what_is_printed_is_read_again() {
        let policy: Policy = Text::new("p", WHOLE).parse().unwrap();
        assert_eq!(policy.toml(), WHOLE);
        assert_eq!(Policy::of(440_100, 17, &policy.message()), policy);
        let empty = Policy::of(440_100, 0, &v1::RegionPolicy::default());
        assert_eq!(empty.toml(), "region = 440100\nrevision = 0\n");
        assert_eq!(Text::new("p", &empty.toml()).parse::<Policy>().unwrap(), empty);
    }

    #[test]
    fn the_example_has_every_field_and_can_be_used() {
        let example = include_str!("../../../../examples/policy-440100.toml");
        let policy: Policy = Text::new("example", example).parse().unwrap();
        let checked = suiyue_gateway::registry::policy::check(&policy.message()).unwrap();
        assert_eq!((checked.peers.len(), checked.weights.len()), (1, 2));
        assert!(checked.max_lag.iter().all(Option::is_some));
        assert!(checked.nothing_healthy.iter().all(Option::is_some));
        assert!(checked.two_person_above.is_some() && checked.in_flight_max.is_some());
        assert_eq!((policy.region, policy.revision), (Some(440_100), None));
    }

    #[test]
    fn whole_numbers_are_weights_too() {
        let policy: Policy = Text::new("p", "[[weights]]\nnode = \"a\"\nweight = 50").parse().unwrap();
        assert_eq!(policy.weights[0].weight, 50.0);
        let odd = "[[weights]]\nnode = \"a\"\nweight = nan\n";
        assert!(Text::new("p", odd).parse::<Policy>().unwrap().toml().ends_with("weight = nan\n"));
    }

    #[test]
    fn mistakes_name_line_and_field() {
        let check = |text: &str, start: &str, word: &str| {
            let error = Text::new("p.toml", text).parse::<Policy>().unwrap_err().0;
            assert!(error.starts_with(start) && error.contains(word), "{error}");
        };
        check("peer = []", "p.toml:1: peer: ", "unknown field");
        check("\n[[peers]]\nnode = \"a\"\nclasses = [\"fast\"]", "p.toml:4: peers[0].classes[0]: ", "scan");
        check("[[weights]]\nnode = \"a\"\nweight = \"50\"", "p.toml:3: weights[0].weight: ", "f64");
        check("[classes.scan]\nmax_lag = 3", "p.toml:2: classes.scan.max_lag: ", "max_lag_s");
        check("[classes.scan]\nmax_lag_s = -3", "p.toml:2: classes.scan.max_lag_s: ", "u32");
        let unknown_rule = "[classes.show]\nnothing_healthy = \"open\"";
        check(unknown_rule, "p.toml:2: classes.show.nothing_healthy: ", "spread_all");
        check("[classes.fast]", "p.toml:1: classes.fast: ", "unknown field");
        check("two_person_above = \"a\"", "p.toml:1: two_person_above: ", "f64");
        check("[[weights]]\nweight = 1", "p.toml:1: weights[0]: ", "node");
    }
}

//! Can this policy of a region be used?
//!
//! One set of checks for both sides of the registry, as for manifests: the operator API refuses what
//! fails them before it is written, the fold quarantines it whoever wrote it. Whether the nodes that a
//! policy names exist is not asked here: a policy may be written before its nodes come, and they may
//! go. The operator API asks that as well.

use super::keys::is_name;
use crate::table::{NothingHealthy, Policy};
use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};
use suiyue_proto::{method::Class, v1};

/// Peers, and weights, that one policy may have.
pub const MAX_NAMED: usize = 64;
/// Data older than this is nobody's limit any more: 30 days.
const MAX_LAG_S: u32 = 30 * 24 * 3600;
/// More calls in flight than any gateway carries.
const MAX_IN_FLIGHT: u32 = 1_000_000;

/// Something in a policy that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}: expected {expected}")]
pub struct Invalid {
    /// Path of the field, as in `weights[1].weight` or `classes.scan.max_lag_s`.
    pub field: String,
    /// What is wrong, for a program.
    pub problem: Problem,
    /// What would be right, for a person.
    pub expected: String,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $variant:ident = $word:literal;)*) => {
        /// What is wrong with a field.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Problem { $($(#[$doc])* $variant,)* }

        impl Problem {
            /// The word in the details of a refusal.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

problems! {
    /// A list is longer than it may be.
    TooMany = "too_many";
    /// It is no name of a node.
    NameInvalid = "name_invalid";
    /// The node stands twice in the list.
    NodeTwice = "node_twice";
    /// No node of this name is registered or configured.
    NodeUnknown = "node_unknown";
    /// The node can never be a candidate for the region.
    NodeNoCandidate = "node_no_candidate";
    /// A peer is a node of the region or of its province already.
    PeerIsOwn = "peer_is_own";
    /// There is no such class.
    ClassUnknown = "class_unknown";
    /// The class stands twice in the list.
    ClassTwice = "class_twice";
    /// A weight is infinite or no number.
    WeightNotFinite = "weight_not_finite";
    /// A weight is below 0.
    WeightNegative = "weight_negative";
    /// There are weights, but nobody has one above 0; or they are too large to be added.
    WeightsSum = "weights_sum";
    /// A limit on the age of data is out of its range.
    LagOutOfRange = "lag_out_of_range";
    /// There is no such rule.
    RuleUnknown = "rule_unknown";
    /// A fraction is not between 0 and 1.
    FractionOutOfRange = "fraction_out_of_range";
    /// A ceiling of calls in flight is out of its range.
    InFlightOutOfRange = "in_flight_out_of_range";
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Refuses a field.
pub(crate) fn invalid<T>(
    field: impl Into<String>,
    problem: Problem,
    expected: impl Into<String>,
) -> Result<T, Invalid> {
    Err(Invalid { field: field.into(), problem, expected: expected.into() })
}

/// Checks a policy by itself, and turns it into our own type.
///
/// # Errors
/// [`Invalid`] names the first field that cannot be used.
pub fn check(policy: &v1::RegionPolicy) -> Result<Policy, Invalid> {
    let mut checked = Policy { peers: peers(policy)?, weights: weights(policy)?, ..Policy::default() };
    rules(&policy.classes, &mut checked)?;
    checked.two_person_above = policy.two_person_above;
    if policy.two_person_above.is_some_and(|fraction| !(0.0..=1.0).contains(&fraction)) {
        return invalid("two_person_above", Problem::FractionOutOfRange, "a fraction from 0 to 1");
    }
    checked.in_flight_max = policy.in_flight_max;
    if policy.in_flight_max.is_some_and(|max| !(1..=MAX_IN_FLIGHT).contains(&max)) {
        let expected = format!("1 to {MAX_IN_FLIGHT} calls");
        return invalid("in_flight_max", Problem::InFlightOutOfRange, expected);
    }
    Ok(checked)
}

/// Names of peers, with the classes they may serve.
type Peers = Vec<(Arc<str>, Vec<Class>)>;

fn peers(policy: &v1::RegionPolicy) -> Result<Peers, Invalid> {
    let names = policy.peers.iter().map(|peer| peer.node.as_str()).collect::<Vec<_>>();
    named("peers", &names)?;
    let mut peers = Vec::with_capacity(names.len());
    for (at, peer) in policy.peers.iter().enumerate() {
        let mut classes = Vec::with_capacity(peer.classes.len().max(1));
        for (n, &number) in peer.classes.iter().enumerate() {
            let field = || format!("peers[{at}].classes[{n}]");
            let class = class(number, field)?;
            if classes.contains(&class) {
                return invalid(field(), Problem::ClassTwice, "each class once");
            }
            classes.push(class);
        }
        // A peer has no holders to show: without a word it may scan only.
        if classes.is_empty() {
            classes.push(Class::Scan);
        }
        peers.push((peer.node.as_str().into(), classes));
    }
    Ok(peers)
}

fn weights(policy: &v1::RegionPolicy) -> Result<Vec<(Arc<str>, f64)>, Invalid> {
    let names = policy.weights.iter().map(|weight| weight.node.as_str()).collect::<Vec<_>>();
    named("weights", &names)?;
    for (at, weight) in policy.weights.iter().enumerate() {
        let field = || format!("weights[{at}].weight");
        if !weight.weight.is_finite() {
            return invalid(field(), Problem::WeightNotFinite, "a number, 0 or more");
        }
        if weight.weight < 0.0 {
            return invalid(field(), Problem::WeightNegative, "a number, 0 or more");
        }
    }
    let sum = policy.weights.iter().map(|weight| weight.weight).sum::<f64>();
    let usable = sum > 0.0 && sum.is_finite();
    if !policy.weights.is_empty() && !usable {
        return invalid("weights", Problem::WeightsSum, "a finite sum above 0");
    }
    // A weight of 0 says what no weight says.
    let above = policy.weights.iter().filter(|weight| weight.weight > 0.0);
    Ok(above.map(|weight| (weight.node.as_str().into(), weight.weight)).collect())
}

/// A list of nodes: not too long, every name a name, each once.
fn named(list: &str, names: &[&str]) -> Result<(), Invalid> {
    if names.len() > MAX_NAMED {
        return invalid(list, Problem::TooMany, format!("at most {MAX_NAMED}"));
    }
    let mut seen = BTreeSet::new();
    for (at, name) in names.iter().enumerate() {
        let field = format!("{list}[{at}].node");
        if !is_name(name) {
            return invalid(field, Problem::NameInvalid, "1 to 63 characters of a-z, 0-9 and '-'");
        }
        if !seen.insert(name) {
            return invalid(field, Problem::NodeTwice, format!("{name} once"));
        }
    }
    Ok(())
}

fn rules(rules: &[v1::ClassRule], checked: &mut Policy) -> Result<(), Invalid> {
    let mut seen = BTreeSet::new();
    for (at, rule) in rules.iter().enumerate() {
        let field = || format!("classes[{at}].class");
        let class = class(rule.class, field)?;
        if !seen.insert(class) {
            return invalid(field(), Problem::ClassTwice, "each class once");
        }
        if let Some(seconds) = rule.max_lag_s {
            if !(1..=MAX_LAG_S).contains(&seconds) {
                let expected = format!("1 to {MAX_LAG_S} seconds");
                return invalid(format!("classes.{class}.max_lag_s"), Problem::LagOutOfRange, expected);
            }
            checked.max_lag[class.index()] = Some(Duration::from_secs(u64::from(seconds)));
        }
        checked.nothing_healthy[class.index()] = match v1::NothingHealthy::try_from(rule.nothing_healthy) {
            Ok(v1::NothingHealthy::Unspecified) => None,
            Ok(v1::NothingHealthy::SpreadAll) => Some(NothingHealthy::SpreadAll),
            Ok(v1::NothingHealthy::SpreadOwn) => Some(NothingHealthy::SpreadOwn),
            Ok(v1::NothingHealthy::Closed) => Some(NothingHealthy::Closed),
            Err(_) => {
                let field = format!("classes.{class}.nothing_healthy");
                return invalid(field, Problem::RuleUnknown, "SPREAD_ALL, SPREAD_OWN or CLOSED");
            }
        };
    }
    Ok(())
}

/// The protobuf value of a rule.
#[must_use]
pub const fn nothing_healthy(rule: NothingHealthy) -> v1::NothingHealthy {
    match rule {
        NothingHealthy::SpreadAll => v1::NothingHealthy::SpreadAll,
        NothingHealthy::SpreadOwn => v1::NothingHealthy::SpreadOwn,
        NothingHealthy::Closed => v1::NothingHealthy::Closed,
    }
}

fn class(number: i32, field: impl Fn() -> String) -> Result<Class, Invalid> {
    match Class::from_proto(number) {
        Some(class) => Ok(class),
        None => invalid(field(), Problem::ClassUnknown, "SCAN, SHOW, QUERY or SYNC"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut v1::RegionPolicy), field: &str, problem: Problem) {
        let mut policy = whole();
        change(&mut policy);
        let error = check(&policy).unwrap_err();
        assert_eq!((error.field.as_str(), error.problem), (field, problem), "{error}");
    }

    fn peer(node: &str, classes: &[v1::Class]) -> v1::Peer {
        v1::Peer { node: node.to_owned(), classes: classes.iter().map(|&class| class.into()).collect() }
    }

    fn weight(node: &str, weight: f64) -> v1::Weight {
        v1::Weight { node: node.to_owned(), weight }
    }

    fn rule(class: v1::Class, max_lag_s: Option<u32>, nothing: v1::NothingHealthy) -> v1::ClassRule {
        v1::ClassRule { class: class.into(), max_lag_s, nothing_healthy: nothing.into() }
    }

    fn whole() -> v1::RegionPolicy {
        v1::RegionPolicy {
            peers: vec![peer("shanghai", &[]), peer("xian", &[v1::Class::Show, v1::Class::Scan])],
            weights: vec![weight("suikang", 50.0), weight("yuekang", 50.0), weight("xian", 0.0)],
            classes: vec![
                rule(v1::Class::Scan, Some(30), v1::NothingHealthy::Closed),
                rule(v1::Class::Sync, None, v1::NothingHealthy::SpreadOwn),
                rule(v1::Class::Query, Some(1), v1::NothingHealthy::Unspecified),
            ],
            two_person_above: Some(0.2),
            in_flight_max: Some(500),
        }
    }

    #[test]
    fn a_whole_policy_is_taken() {
        let policy = check(&whole()).unwrap();
        assert_eq!(policy.peers[0], ("shanghai".into(), vec![Class::Scan]));
        assert_eq!(policy.peers[1], ("xian".into(), vec![Class::Show, Class::Scan]));
        assert_eq!(policy.weights, [("suikang".into(), 50.0), ("yuekang".into(), 50.0)]);
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(policy.max_lag, [seconds(30), None, seconds(1), None]);
        let nothing = [Some(NothingHealthy::Closed), None, None, Some(NothingHealthy::SpreadOwn)];
        assert_eq!(policy.nothing_healthy, nothing);
        assert_eq!((policy.two_person_above, policy.in_flight_max), (Some(0.2), Some(500)));
    }

    #[test]
    fn an_empty_policy_changes_nothing() {
        assert_eq!(check(&v1::RegionPolicy::default()), Ok(Policy::default()));
    }

    #[test]
    fn each_bad_name_is_named() {
        refused(|p| p.peers[1].node = "Xi'an".to_owned(), "peers[1].node", Problem::NameInvalid);
        refused(|p| p.peers[1].node = "shanghai".to_owned(), "peers[1].node", Problem::NodeTwice);
        refused(|p| p.peers = vec![peer("a", &[]); 65], "peers", Problem::TooMany);
        refused(|p| p.weights[0].node.clear(), "weights[0].node", Problem::NameInvalid);
        refused(|p| p.weights[2].node = "suikang".to_owned(), "weights[2].node", Problem::NodeTwice);
        refused(|p| p.weights = vec![weight("a", 1.0); 65], "weights", Problem::TooMany);
    }

    #[test]
    fn each_bad_class_is_named() {
        refused(|p| p.peers[1].classes[1] = 0, "peers[1].classes[1]", Problem::ClassUnknown);
        refused(|p| p.peers[1].classes[1] = 2, "peers[1].classes[1]", Problem::ClassTwice);
        refused(|p| p.classes[1].class = 99, "classes[1].class", Problem::ClassUnknown);
        refused(|p| p.classes[1].class = 1, "classes[1].class", Problem::ClassTwice);
    }

    #[test]
    fn each_bad_number_is_named() {
        let weight = |at: usize, value: f64| move |p: &mut v1::RegionPolicy| p.weights[at].weight = value;
        refused(weight(0, f64::NAN), "weights[0].weight", Problem::WeightNotFinite);
        refused(weight(1, f64::INFINITY), "weights[1].weight", Problem::WeightNotFinite);
        refused(weight(1, -0.1), "weights[1].weight", Problem::WeightNegative);
        refused(|p| p.weights.drain(..2).for_each(drop), "weights", Problem::WeightsSum);
        let huge = |p: &mut v1::RegionPolicy| p.weights.iter_mut().for_each(|w| w.weight = f64::MAX);
        refused(huge, "weights", Problem::WeightsSum);
        let lag = |seconds| move |p: &mut v1::RegionPolicy| p.classes[0].max_lag_s = Some(seconds);
        refused(lag(0), "classes.scan.max_lag_s", Problem::LagOutOfRange);
        refused(lag(2_592_001), "classes.scan.max_lag_s", Problem::LagOutOfRange);
        refused(|p| p.classes[0].nothing_healthy = 4, "classes.scan.nothing_healthy", Problem::RuleUnknown);
        for fraction in [-0.01, 1.01, f64::NAN] {
            refused(|p| p.two_person_above = Some(fraction), "two_person_above", Problem::FractionOutOfRange);
        }
        for max in [0, 1_000_001] {
            refused(|p| p.in_flight_max = Some(max), "in_flight_max", Problem::InFlightOutOfRange);
        }
    }
}

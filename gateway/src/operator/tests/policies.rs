//! Region policies: described, replaced, refused.

use super::*;
use crate::registry::{Error, Listing, Outcome, Registry, Txn, Update, suite};
use futures_util::future::{BoxFuture, FutureExt as _};
use prost::Message as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::mpsc;

fn fifty_fifty() -> v1::RegionPolicy {
    v1::RegionPolicy {
        weights: weights(&[("suikang", 50.0), ("yuekang", 50.0)]),
        ..v1::RegionPolicy::default()
    }
}

fn weights(weights: &[(&str, f64)]) -> Vec<v1::Weight> {
    weights.iter().map(|&(node, weight)| v1::Weight { node: node.to_owned(), weight }).collect()
}

fn peer(node: &str) -> v1::Peer {
    v1::Peer { node: node.to_owned(), classes: Vec::new() }
}

fn of_guangzhou(policy: v1::RegionPolicy) -> v1::SetRegionPolicyRequest {
    v1::SetRegionPolicyRequest { region: 440_100, policy: Some(policy), ..Default::default() }
}

#[tokio::test]
async fn a_region_without_a_policy_has_the_defaults() {
    let gateway = Gateway::start().await;
    let guangzhou = gateway.describe(440_106).await.unwrap();
    assert_eq!((guangzhou.region, guangzhou.name_en.as_str()), (440_100, "Guangzhou"));
    assert_eq!((guangzhou.policy, guangzhou.policy_revision, guangzhou.policy_in_force), (None, 0, true));
    let lags: Vec<_> = guangzhou.rules.iter().map(|rule| rule.max_lag_s).collect();
    assert_eq!(lags, [Some(60), Some(300), Some(86_400), None]);
    let nothing: Vec<_> = guangzhou.rules.iter().map(v1::ClassRule::nothing_healthy).collect();
    use v1::NothingHealthy::{Closed, SpreadAll, SpreadOwn};
    assert_eq!(nothing, [SpreadAll, SpreadOwn, Closed, Closed]);
    let nodes: Vec<_> =
        guangzhou.nodes.iter().map(|node| (node.node.as_str(), node.tier, node.weight)).collect();
    assert_eq!(nodes, [("suikang", 0, None), ("yuekang", 1, None)]);
    assert_eq!(guangzhou.routes.len(), 4);
    assert_eq!(guangzhou.routes[0].candidates[0].share, 1.0);
    refused(gateway.describe(999_999).await, Reason::RegionUnknown, &[]);
}

#[tokio::test]
async fn a_policy_is_written_to_the_registry_and_comes_back_through_the_watch() {
    let gateway = Gateway::start().await;
    let policy = v1::RegionPolicy { peers: vec![peer("xian")], two_person_above: Some(0.5), ..fifty_fifty() };
    let answer = gateway.set(of_guangzhou(policy.clone())).await.unwrap();
    assert!(answer.written && answer.policy_revision > 0 && answer.warnings.is_empty(), "{answer:?}");
    gateway.until(|snapshot| snapshot.table.policies.contains_key(&code(440_100))).await;
    let guangzhou = gateway.describe(440_100).await.unwrap();
    assert_eq!((guangzhou.policy, guangzhou.policy_revision), (Some(policy), answer.policy_revision));
    assert!(guangzhou.policy_in_force && guangzhou.policy_problem.is_empty());
    let nodes: Vec<_> =
        guangzhou.nodes.iter().map(|node| (node.node.as_str(), node.tier, node.weight)).collect();
    assert_eq!(nodes, [("suikang", 0, Some(50.0)), ("yuekang", 1, Some(50.0)), ("xian", 2, Some(0.0))]);
    assert_eq!(guangzhou.nodes[2].classes, [i32::from(v1::Class::Scan)]);
}

#[tokio::test]
async fn only_the_policy_that_was_read_is_replaced() {
    let gateway = Gateway::start().await;
    let first = gateway.set(of_guangzhou(fifty_fifty())).await.unwrap().policy_revision;
    let other = v1::RegionPolicy { in_flight_max: Some(9), ..fifty_fifty() };
    // Who read that there was none comes too late.
    let stale = gateway.set(of_guangzhou(other.clone())).await;
    refused(stale, Reason::PolicyChanged, &[("revision", &first.to_string()), ("expected_revision", "0")]);
    let asked = |expected_revision, dry_run| v1::SetRegionPolicyRequest {
        expected_revision,
        dry_run,
        ..of_guangzhou(other.clone())
    };
    refused(gateway.set(asked(first + 1, true)).await, Reason::PolicyChanged, &[]);
    let tried = gateway.set(asked(first, true)).await.unwrap();
    assert_eq!((tried.written, tried.policy_revision), (false, first));
    let second = gateway.set(asked(first, false)).await.unwrap();
    assert!(second.written && second.policy_revision > first);
    // The same again, from whatever was read: nothing to do.
    let again = gateway.set(asked(first, false)).await.unwrap();
    assert_eq!((again.written, again.policy_revision), (false, second.policy_revision));
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let gateway = Gateway::start().await;
    let before = gateway.registry.list("/").await.unwrap();
    let plan = gateway.operator.snapshots.current().generation;
    let tried =
        gateway.set(v1::SetRegionPolicyRequest { dry_run: true, ..of_guangzhou(fifty_fifty()) }).await;
    let tried = tried.unwrap();
    assert_eq!((tried.written, tried.before.len(), tried.after.len()), (false, 4, 4));
    let after = gateway.registry.list("/").await.unwrap();
    assert_eq!((after.revision, after.entries), (before.revision, before.entries));
    assert_eq!(gateway.operator.snapshots.current().generation, plan);
}

#[tokio::test]
async fn a_lag_shorter_than_the_news_of_it_is_warned_of() {
    let gateway = Gateway::start().await;
    let warned = async |seconds: u32| {
        let rule =
            v1::ClassRule { class: v1::Class::Scan.into(), max_lag_s: Some(seconds), nothing_healthy: 0 };
        let policy = v1::RegionPolicy { classes: vec![rule], ..Default::default() };
        let asked = v1::SetRegionPolicyRequest { dry_run: true, ..of_guangzhou(policy) };
        gateway.set(asked).await.unwrap().warnings
    };
    assert_eq!(warned(40).await, [""; 0]);
    let warnings = warned(39).await;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("classes.scan.max_lag_s: "), "{warnings:?}");
}

#[tokio::test]
async fn each_bad_field_is_refused_with_its_reason() {
    let gateway = Gateway::start().await;
    let check = async |policy: v1::RegionPolicy, field: &str, problem: &str| {
        let answer = gateway.set(of_guangzhou(policy)).await;
        refused(answer, Reason::PolicyInvalid, &[("field", field), ("problem", problem)]);
    };
    let weighted = |given: &[(&str, f64)]| v1::RegionPolicy { weights: weights(given), ..Default::default() };
    let with_peer = |node| v1::RegionPolicy { peers: vec![peer(node)], ..Default::default() };
    check(weighted(&[("suikang", f64::NAN)]), "weights[0].weight", "weight_not_finite").await;
    check(weighted(&[("suikang", 1.0), ("yuekang", -1.0)]), "weights[1].weight", "weight_negative").await;
    check(weighted(&[("suikang", 0.0)]), "weights", "weights_sum").await;
    check(weighted(&[("suikang", 1.0), ("nobody", 1.0)]), "weights[1].node", "node_unknown").await;
    check(weighted(&[("suikang", 1.0), ("xian", 1.0)]), "weights[1].node", "node_no_candidate").await;
    check(with_peer("nobody"), "peers[0].node", "node_unknown").await;
    check(with_peer("suikang"), "peers[0].node", "peer_is_own").await;
    check(with_peer("yuekang"), "peers[0].node", "peer_is_own").await;
    let two_person_above = Some(1.2);
    let policy = v1::RegionPolicy { two_person_above, ..Default::default() };
    check(policy, "two_person_above", "fraction_out_of_range").await;
    assert_eq!(gateway.registry.list("/").await.unwrap().entries, []);
}

#[tokio::test]
async fn only_regions_that_are_routed_have_policies() {
    let gateway = Gateway::start().await;
    let of = |region| v1::SetRegionPolicyRequest { region, ..of_guangzhou(v1::RegionPolicy::default()) };
    refused(gateway.set(of(440_106)).await, Reason::RegionNotRouted, &[("region", "440100")]);
    refused(gateway.set(of(999_999)).await, Reason::RegionUnknown, &[]);
    // Laiwu became a part of Jinan.
    refused(gateway.set(of(371_200)).await, Reason::RegionRetired, &[]);
    // A region that nobody has joined may have one before.
    let answer = gateway.set(of(110_000)).await.unwrap();
    assert!(answer.written && answer.before.is_empty() && answer.after.is_empty());
    assert_eq!(answer.warnings, ["nobody serves 110000 yet"]);
}

#[tokio::test]
async fn nodes_that_are_to_come_are_taken_on_demand_with_a_warning() {
    let gateway = Gateway::start().await;
    let policy = v1::RegionPolicy {
        peers: vec![peer("shanghai")],
        weights: weights(&[("suikang", 1.0), ("shanghai", 1.0), ("huangpu", 1.0)]),
        ..Default::default()
    };
    let asked = v1::SetRegionPolicyRequest { allow_unregistered: true, ..of_guangzhou(policy) };
    let answer = gateway.set(asked).await.unwrap();
    let [peer, weight, forgotten] = &answer.warnings[..] else { panic!("{:?}", answer.warnings) };
    assert!(peer.starts_with("peers[0].node: shanghai is not registered"), "{peer}");
    assert!(weight.starts_with("weights[2].node: huangpu is not registered"), "{weight}");
    assert!(forgotten.starts_with("weights: yuekang has no weight"), "{forgotten}");
    gateway.until(|snapshot| snapshot.table.policies.contains_key(&code(440_100))).await;
    let described = gateway.describe(440_100).await.unwrap();
    let shanghai = described.nodes.iter().find(|node| node.node == "shanghai").unwrap();
    assert_eq!((shanghai.region, shanghai.endpoints, shanghai.role()), (0, 0, v1::Role::Unspecified));
}

#[tokio::test]
async fn a_policy_that_cannot_be_used_is_shown_with_the_reason() {
    let gateway = Gateway::start().await;
    let bad = v1::RegionPolicy { weights: weights(&[("suikang", -1.0)]), ..Default::default() };
    let mut txn = suite::put("/suiyue/v1/regions/440100", "", 0, 0);
    txn.puts[0].1 = bad.encode_to_vec().into();
    let revision = suite::written(&gateway.registry, txn).await;
    gateway.until(|snapshot| !snapshot.table.quarantined.is_empty()).await;
    let guangzhou = gateway.describe(440_100).await.unwrap();
    assert_eq!((guangzhou.policy.as_ref(), guangzhou.policy_revision), (Some(&bad), revision));
    assert!(!guangzhou.policy_in_force && guangzhou.policy_problem.contains("weight_negative"));
    assert_eq!(guangzhou.routes[0].candidates[0].share, 1.0);
    // It can be replaced like any other.
    let asked = v1::SetRegionPolicyRequest { expected_revision: revision, ..of_guangzhou(fifty_fifty()) };
    assert!(gateway.set(asked).await.unwrap().written);
}

#[tokio::test]
async fn a_gateway_without_a_registry_says_so() {
    let mut gateway = Gateway::start().await;
    (gateway.operator.registry, gateway.operator.followed) = (None, None);
    gateway.operator.audit = None;
    refused(gateway.set(of_guangzhou(fifty_fifty())).await, Reason::RegistryNone, &[]);
    assert!(gateway.describe(440_100).await.unwrap().policy_in_force);
}

/// What happens to a write on its way.
#[derive(Clone, Copy)]
enum Fate {
    /// Another operator's write comes first.
    Overtaken,
    /// It is written, but nobody hears of it.
    WrittenUnheard,
    /// It is lost, and nobody hears of it.
    LostUnheard,
    /// It is written, but nobody hears of it, and the registry is away from then on.
    WrittenThenAway,
    /// The registry is away.
    Away,
}

/// The registry of a gateway, with this fate for every write.
struct Fateful(Embedded, Fate, AtomicBool);

impl Registry for Fateful {
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Error>> {
        if self.2.load(Relaxed) {
            return async { Err(Error::Unreachable("cut".to_owned())) }.boxed();
        }
        self.0.list(prefix)
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: i64,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<Update>, Error>> {
        self.0.watch(prefix, after)
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, Error>> {
        async move {
            let unheard = || Error::Unknown("timed out".to_owned());
            match self.1 {
                Fate::Overtaken => {
                    let other = v1::RegionPolicy { in_flight_max: Some(1), ..Default::default() };
                    let mut first = txn.clone();
                    first.puts[0].1 = other.encode_to_vec().into();
                    suite::written(&self.0, first).await;
                    self.0.commit(txn).await
                }
                Fate::WrittenThenAway => {
                    self.2.store(true, Relaxed);
                    self.0.commit(txn).await.and_then(|_| Err(unheard()))
                }
                Fate::WrittenUnheard => self.0.commit(txn).await.and_then(|_| Err(unheard())),
                Fate::LostUnheard => Err(unheard()),
                Fate::Away => Err(Error::Unreachable("cut".to_owned())),
            }
        }
        .boxed()
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<i64, Error>> {
        self.0.grant(ttl)
    }

    fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>> {
        self.0.keep_alive(lease)
    }

    fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>> {
        self.0.revoke(lease)
    }
}

#[tokio::test]
async fn a_write_is_what_the_registry_says_it_is() {
    let answer = async |fate| {
        let mut gateway = Gateway::start().await;
        let fateful: Arc<dyn Registry> =
            Arc::new(Fateful(gateway.registry.clone(), fate, AtomicBool::new(false)));
        gateway.operator.audit = Some(Audit::new(fateful.clone(), Prefix::default(), "gw-1"));
        gateway.operator.registry = Some(fateful);
        gateway.set(of_guangzhou(fifty_fifty())).await
    };
    refused(answer(Fate::Overtaken).await, Reason::PolicyChanged, &[("expected_revision", "0")]);
    assert!(answer(Fate::WrittenUnheard).await.unwrap().written);
    refused(answer(Fate::LostUnheard).await, Reason::WriteUnknown, &[]);
    refused(answer(Fate::WrittenThenAway).await, Reason::WriteUnknown, &[]);
    refused(answer(Fate::Away).await, Reason::RegistryUnavailable, &[]);
}

//! Does a region's policy reach every gateway, and is a bad one refused with the reason?

use crate::cli::{json, run, suiyue};
use anyhow::{Context as _, ensure};
use std::{fs, path::Path, time::Instant};
use suiyue_proto::{
    reason::Reason,
    v1::{
        DescribeRegionRequest, DescribeRegionResponse, Peer, RegionPolicy, SetRegionPolicyRequest,
        SetRegionPolicyResponse, Weight,
    },
};
use suiyue_tests::{
    eventually::eventually,
    federation::Federation,
    gateway::Gateway,
    node::Node,
    region::{BEIJING, GUANGDONG, GUANGZHOU, TIANHE, XIAN},
};
use tonic::Status;
use tonic_types::StatusExt as _;

/// Guangzhou's city and province and a city of another province, over real etcd.
async fn federation(gateways: usize) -> anyhow::Result<Federation> {
    Federation::builder()
        .gateways(gateways)
        .node(Node::echo("city", GUANGZHOU))
        .node(Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]))
        .node(Node::echo("xian", XIAN))
        .start()
        .await
}

pub(crate) fn weighted(weights: &[(&str, f64)]) -> RegionPolicy {
    let weights = weights.iter().map(|&(node, weight)| Weight { node: node.to_owned(), weight });
    RegionPolicy { weights: weights.collect(), ..Default::default() }
}

/// Replaces Guangzhou's policy.
pub(crate) async fn set(
    gateway: &Gateway,
    policy: RegionPolicy,
    expected_revision: i64,
) -> anyhow::Result<Result<SetRegionPolicyResponse, Status>> {
    let asked = SetRegionPolicyRequest {
        region: GUANGZHOU,
        policy: Some(policy),
        expected_revision,
        ..Default::default()
    };
    Ok(gateway.operator().await?.set_region_policy(asked).await.map(tonic::Response::into_inner))
}

/// Waits until the gateway plans by the policy of a revision.
pub(crate) async fn in_force(gateway: &Gateway, revision: i64) -> anyhow::Result<DescribeRegionResponse> {
    let mut operator = gateway.operator().await?;
    eventually(&format!("{} has the policy of revision {revision}", gateway.id), async || {
        let guangzhou = operator.describe_region(DescribeRegionRequest { region: GUANGZHOU }).await?;
        let guangzhou = guangzhou.into_inner();
        ensure!(guangzhou.policy_revision == revision && guangzhou.policy_in_force, "{guangzhou:?}");
        Ok(guangzhou)
    })
    .await
}

#[tokio::test]
async fn a_policy_reaches_every_gateway() -> anyhow::Result<()> {
    let federation = federation(2).await?;
    let [first, second] = &federation.gateways[..] else { anyhow::bail!("two gateways") };
    let mut revision = 0;
    for round in 1..=5 {
        let policy = weighted(&[("city", 100.0 - f64::from(round)), ("province", f64::from(round))]);
        let start = Instant::now();
        let answer = set(first, policy.clone(), revision).await??;
        let written = start.elapsed();
        ensure!(answer.written && answer.policy_revision > revision, "{answer:?}");
        revision = answer.policy_revision;
        let (here, there) = tokio::try_join!(in_force(first, revision), in_force(second, revision))?;
        println!("round {round}: written after {written:?}, in force at both after {:?}", start.elapsed());
        for described in [here, there] {
            assert_eq!(described.policy.as_ref(), Some(&policy));
            let scan = described.routes.first().context("a route")?;
            let base: Vec<_> = scan.candidates.iter().map(|c| (c.node.as_str(), c.base_share)).collect();
            let part = f64::from(round) / 100.0;
            ensure!(base.len() == 2, "{base:?}");
            assert_eq!((base[0].0, base[1].0), ("city", "province"));
            assert!((base[0].1 - (1.0 - part)).abs() < 1e-9 && (base[1].1 - part).abs() < 1e-9, "{base:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn of_two_operators_one_is_told_that_the_other_was_first() -> anyhow::Result<()> {
    let federation = federation(2).await?;
    let [first, second] = &federation.gateways[..] else { anyhow::bail!("two gateways") };
    let (one, other) = tokio::try_join!(
        set(first, weighted(&[("city", 2.0), ("province", 1.0)]), 0),
        set(second, weighted(&[("city", 1.0), ("province", 2.0)]), 0),
    )?;
    let (won, lost) = match (one, other) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        both => anyhow::bail!("one of them: {both:?}"),
    };
    assert_eq!(Reason::of(&lost), Some(Reason::PolicyChanged));
    let details = lost.get_details_error_info().context("details")?.metadata;
    assert_eq!(details.get("revision"), Some(&won.policy_revision.to_string()));
    in_force(second, won.policy_revision).await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_reason_and_field() -> anyhow::Result<()> {
    let federation = federation(1).await?;
    let gateway = federation.gateway();
    let mut operator = gateway.operator().await?;
    let peer = |node: &str| {
        let peers = vec![Peer { node: node.to_owned(), classes: Vec::new() }];
        RegionPolicy { peers, ..Default::default() }
    };
    let fine = || weighted(&[("city", 1.0)]);
    let policy = Reason::PolicyInvalid;
    let fraction = RegionPolicy { two_person_above: Some(20.0), ..Default::default() };
    let cases = [
        (999_999, fine(), Reason::RegionUnknown, "", ""),
        (371_200, fine(), Reason::RegionRetired, "", ""),
        (TIANHE, fine(), Reason::RegionNotRouted, "region", ""),
        (GUANGZHOU, weighted(&[("nobody", 1.0)]), policy, "weights[0].node", "node_unknown"),
        (GUANGZHOU, weighted(&[("xian", 1.0)]), policy, "weights[0].node", "node_no_candidate"),
        (GUANGZHOU, weighted(&[("city", f64::NAN)]), policy, "weights[0].weight", "weight_not_finite"),
        (GUANGZHOU, weighted(&[("city", -1.0)]), policy, "weights[0].weight", "weight_negative"),
        (GUANGZHOU, weighted(&[("city", 0.0)]), policy, "weights", "weights_sum"),
        (GUANGZHOU, fraction, policy, "two_person_above", "fraction_out_of_range"),
        (GUANGZHOU, peer("province"), policy, "peers[0].node", "peer_is_own"),
        (GUANGZHOU, peer("nobody"), policy, "peers[0].node", "node_unknown"),
    ];
    for (region, policy, reason, field, problem) in cases {
        for dry_run in [true, false] {
            let policy = Some(policy.clone());
            let asked = SetRegionPolicyRequest { region, policy, dry_run, ..Default::default() };
            let refused = operator.set_region_policy(asked).await.err().context("refused")?;
            assert_eq!(Reason::of(&refused), Some(reason), "{refused:?}");
            let details = refused.get_details_error_info().context("details")?.metadata;
            let said = |key: &str| details.get(key).map_or("", String::as_str);
            let wanted = if reason == Reason::RegionNotRouted { "region" } else { said("field") };
            assert!(wanted == field && said("problem") == problem, "{details:?}");
        }
    }
    let keys = gateway.dump().await?;
    assert!(!keys.iter().any(|(key, _)| key.contains("/regions/")), "{keys:?}");
    Ok(())
}

#[tokio::test]
async fn without_a_registry_there_is_nothing_to_write_to() -> anyhow::Result<()> {
    let gateway = Gateway::builder("alone").start().await?;
    let refused = set(&gateway, RegionPolicy::default(), 0).await?.err().context("refused")?;
    assert_eq!(Reason::of(&refused), Some(Reason::RegistryNone));
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<String> {
    fs::write(path, text)?;
    Ok(path.display().to_string())
}

#[tokio::test]
async fn a_policy_is_printed_changed_and_set_again() -> anyhow::Result<()> {
    let federation = federation(1).await?;
    let control = federation.gateway().control.to_string();
    let at = ["--gateway", control.as_str()];
    let describe =
        async || suiyue(&[&["region", "describe", "440100", "-o", "toml"], &at[..]].concat()).await;
    let printed = describe().await?;
    ensure!(printed.contains("region = 440100\nrevision = 0\n"), "{printed}");
    let dir = tempfile::tempdir()?;
    let more = "in_flight_max = 200\n[[peers]]\nnode = \"xian\"\n[[weights]]\nnode = \"city\"\nweight = 3\n\
                [[weights]]\nnode = \"province\"\nweight = 1\n[classes.scan]\nmax_lag_s = 45\n";
    let file = write(&dir.path().join("p.toml"), &format!("{printed}{more}"))?;
    let set = [&["region", "set", "440100", "-f", file.as_str()], &at[..]].concat();
    let tried = json(&[&set[..], &["--dry-run"]].concat()).await?;
    assert_eq!((tried["written"].as_bool(), tried["policy_revision"].as_i64()), (Some(false), Some(0)));
    ensure!(describe().await?.contains("revision = 0"), "a dry run wrote");
    let done = json(&set).await?;
    assert_eq!((done["written"].as_bool(), done["warnings"].as_array().map(Vec::len)), (Some(true), Some(0)));
    let revision = done["policy_revision"].as_i64().context("a revision")?;
    in_force(federation.gateway(), revision).await?;
    let printed = describe().await?;
    for line in ["in_flight_max = 200", "node = \"xian\"", "weight = 3.0", "max_lag_s = 45"] {
        ensure!(printed.contains(line), "{line} is not in {printed}");
    }
    ensure!(printed.contains(&format!("revision = {revision}\n")), "{printed}");
    // What was printed is the same policy; the older file is not the one in force any more.
    let same = write(&dir.path().join("same.toml"), &printed)?;
    let again = json(&[&["region", "set", "440100", "-f", same.as_str()], &at[..]].concat()).await?;
    assert_eq!(
        (again["written"].as_bool(), again["policy_revision"].as_i64()),
        (Some(false), Some(revision))
    );
    let stale = write(&dir.path().join("stale.toml"), "revision = 0\nin_flight_max = 1\n")?;
    let stale = run(&[&["region", "set", "440100", "-f", stale.as_str()], &at[..]].concat()).await?;
    let said = String::from_utf8_lossy(&stale.stderr).into_owned();
    ensure!(stale.status.code() == Some(3) && said.contains("POLICY_CHANGED"), "{said}");
    let table = suiyue(&[&["region", "describe", "440100"], &at[..]].concat()).await?;
    ensure!(table.contains(&format!("policy of revision {revision}, in force")), "{table}");
    Ok(())
}

#[tokio::test]
async fn mistakes_are_told_with_file_line_and_exit_code() -> anyhow::Result<()> {
    let federation = federation(1).await?;
    let control = federation.gateway().control.to_string();
    let dir = tempfile::tempdir()?;
    let check = async |text: &str, code: i32, place: &str, word: &str| -> anyhow::Result<()> {
        let file = write(&dir.path().join("p.toml"), text)?;
        let refused = run(&["region", "set", "440100", "-f", &file, "--gateway", &control]).await?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(code), "{:?}: {said}", refused.status);
        ensure!(said.contains(&format!("{file}{place}")) && said.contains(word), "{said}");
        Ok(())
    };
    check("\nwieghts = 1", 2, ":2: wieghts: ", "unknown field").await?;
    check("region = 610100", 2, ":1: region: ", "610100").await?;
    check("[[weights]]\nnode = \"city\"\nweight = -1", 3, ":3: ", "weight_negative").await?;
    check("[[weights]]\nnode = \"nobody\"\nweight = 1", 3, ":2: ", "node_unknown").await?;
    check("\n\n[classes.show]\nmax_lag_s = 0", 3, ":4: ", "lag_out_of_range").await?;
    let ahead = "[[peers]]\nnode = \"nobody\"";
    check(ahead, 3, ":2: ", "node_unknown").await?;
    let file = write(&dir.path().join("ahead.toml"), ahead)?;
    let set = ["region", "set", "440100", "-f", &file, "--allow-unregistered", "--gateway", &control];
    let taken = suiyue(&set).await?;
    ensure!(taken.contains("warning: peers[0].node: nobody is not registered"), "{taken}");
    let missing = run(&["region", "set", "440100", "-f", "/nowhere.toml", "--gateway", &control]).await?;
    assert_eq!(missing.status.code(), Some(2));
    let county = run(&["region", "set", "440106", "-f", &file, "--gateway", &control]).await?;
    let said = String::from_utf8_lossy(&county.stderr).into_owned();
    ensure!(county.status.code() == Some(3) && said.contains("REGION_NOT_ROUTED"), "{said}");
    let nobody = suiyue(&["region", "describe", &BEIJING.to_string(), "--gateway", &control]).await?;
    ensure!(nobody.contains("no policy: the defaults are in force"), "{nobody}");
    Ok(())
}

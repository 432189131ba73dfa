//! Does what operators want of a node reach every gateway, and is what must not be wanted refused?

use crate::cli::{json, run, suiyue};
use anyhow::{Context as _, ensure};
use suiyue_proto::v1::{Class, Stage};
use suiyue_tests::{
    eventually::eventually,
    federation::Federation,
    gateway::Gateway,
    node::Node,
    region::{GUANGDONG, GUANGZHOU, XIAN},
};

async fn federation(gateways: usize) -> anyhow::Result<Federation> {
    Federation::builder()
        .gateways(gateways)
        .node(Node::echo("city", GUANGZHOU))
        .node(Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]))
        .start()
        .await
}

/// Waits until the node gets this share of Guangzhou's scans at a gateway.
async fn share(gateway: &Gateway, node: &str, expected: f64) -> anyhow::Result<()> {
    eventually(&format!("{} gives {node} {expected} at {}", GUANGZHOU, gateway.id), async || {
        let route = gateway.explain(GUANGZHOU, Class::Scan).await?;
        let candidate = route.candidates.iter().find(|c| c.node == node).context("a candidate")?;
        ensure!((candidate.share - expected).abs() < 1e-9, "{:?}", route.candidates);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_node_is_trusted_with_more_calls_step_by_step_at_every_gateway() -> anyhow::Result<()> {
    let federation = federation(2).await?;
    let control = federation.gateway().control.to_string();
    let at = ["--gateway", control.as_str()];
    let promote = ["node", "promote", "city"];
    suiyue(&[&promote[..], &["--to", "test"], &at].concat()).await?;
    for (stage, expected) in
        [("test", 0.0), ("canary-1", 0.01), ("canary-5", 0.05), ("canary-25", 0.25), ("active", 1.0)]
    {
        if stage != "test" {
            let tried = json(&[&promote[..], &["--dry-run"], &at].concat()).await?;
            assert_eq!((tried["written"].as_bool(), &tried["intent"]["stage"]), (Some(false), &stage.into()));
            let done = json(&[&promote[..], &at].concat()).await?;
            assert_eq!((done["written"].as_bool(), &done["intent"]["stage"]), (Some(true), &stage.into()));
            let after = done["routes"][0]["after"].as_array().context("a route")?;
            let city = after.iter().find(|c| c["node"] == "city").context("a candidate")?;
            ensure!((city["share"].as_f64().unwrap_or(-1.0) - expected).abs() < 1e-9, "{city}");
        }
        for gateway in &federation.gateways {
            share(gateway, "city", expected).await?;
            let told = gateway.node("city").await?.intent.context("an intent")?;
            let stage = if stage.starts_with("canary") { "canary" } else { stage };
            assert_eq!(told.stage().as_str_name(), format!("STAGE_{}", stage.to_uppercase()));
        }
    }
    let again = suiyue(&[&promote[..], &at].concat()).await?;
    ensure!(again.starts_with("nothing written: city is active"), "{again}");
    Ok(())
}

#[tokio::test]
async fn a_drained_node_and_a_drained_endpoint_get_nothing_and_come_back() -> anyhow::Result<()> {
    let mut federation = federation(1).await?;
    let second = Node::echo("city", GUANGZHOU).endpoint(2).gateways(&federation.control()).start().await?;
    let gateway = federation.gateway();
    gateway.sees("city", second.address).await?;
    federation.nodes.push(second);
    let gateway = federation.gateway();
    let control = gateway.control.to_string();
    let verb = async |words: &[&str]| suiyue(&[&["node"], words, &["--gateway", &control]].concat()).await;
    let drained = verb(&["drain", "city"]).await?;
    ensure!(drained.starts_with("city was active, is active, drained; revision "), "{drained}");
    share(gateway, "city", 0.0).await?;
    verb(&["undrain", "city"]).await?;
    share(gateway, "city", 1.0).await?;
    verb(&["drain", "city", "--endpoint", "city-2"]).await?;
    eventually("the endpoint is leaving", async || {
        let node = gateway.node("city").await?;
        let leaving = node.endpoints.iter().find(|e| e.endpoint == "city-2").context("an endpoint")?;
        ensure!(leaving.health() == suiyue_proto::v1::Health::Draining, "{leaving:?}");
        Ok(())
    })
    .await?;
    share(gateway, "city", 1.0).await?;
    let described = verb(&["describe", "city"]).await?;
    for words in
        ["active, drained endpoints: city-2", "draining", "100.0 %", "in the first tier that has anyone"]
    {
        ensure!(described.contains(words), "{words:?} is not in {described}");
    }
    verb(&["undrain", "city", "--endpoint", "city-2"]).await?;
    ensure!(verb(&["list"]).await?.contains("active"), "the list has no stages");
    Ok(())
}

#[tokio::test]
async fn what_must_not_be_wanted_is_refused_with_the_reason() -> anyhow::Result<()> {
    let federation = federation(1).await?;
    let control = federation.gateway().control.to_string();
    let refused = async |words: &[&str], reason: &str| -> anyhow::Result<()> {
        let refused = run(&[&["node"], words, &["--gateway", &control]].concat()).await?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(
            refused.status.code() == Some(3) && said.contains(reason),
            "{words:?}: {:?}: {said}",
            refused.status
        );
        Ok(())
    };
    refused(&["promote", "nobody"], "NODE_UNKNOWN").await?;
    refused(&["describe", "nobody"], "NODE_UNKNOWN").await?;
    refused(&["promote", "city", "--to", "test", "--region", "610100"], "NODE_UNKNOWN").await?;
    refused(&["drain", "city", "--endpoint", "city-9"], "ENDPOINT_UNKNOWN").await?;
    refused(&["promote", "ahead", "--to", "active", "--region", "610100"], "INTENT_INVALID").await?;
    suiyue(&["node", "suspend", "city", "--gateway", &control]).await?;
    eventually("city is suspended", async || {
        let intent = federation.gateway().node("city").await?.intent.context("an intent")?;
        ensure!(intent.stage() == Stage::Suspended, "{intent:?}");
        Ok(())
    })
    .await?;
    share(federation.gateway(), "province", 1.0).await?;
    refused(&["promote", "city", "--to", "active"], "STAGE_SKIPPED").await?;
    refused(&["promote", "city", "--to", "active", "--dry-run"], "next=test").await?;
    refused(&["drain", "province"], "NOBODY_LEFT").await?;
    let forced =
        suiyue(&["node", "promote", "city", "--to", "active", "--force", "--gateway", &control]).await?;
    ensure!(forced.starts_with("city was suspended, is active"), "{forced}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_was_announced_joins_without_calls() -> anyhow::Result<()> {
    let federation = federation(1).await?;
    let gateway = federation.gateway();
    let control = gateway.control.to_string();
    let announce = ["node", "promote", "xian", "--to", "test", "--region", "610100", "--gateway", &control];
    let said = suiyue(&announce).await?;
    ensure!(said.contains("warning: xian is not registered"), "{said}");
    let node = Node::echo("xian", XIAN).gateways(&federation.control()).start().await?;
    eventually("xian is there, in stage test", async || {
        let node = gateway.node("xian").await?;
        let intent = node.intent.context("an intent")?;
        ensure!(intent.stage() == Stage::Test && !node.endpoints.is_empty(), "{intent:?}");
        let route = gateway.explain(XIAN, Class::Scan).await?;
        ensure!(route.candidates.iter().all(|c| c.share == 0.0 && c.excluded), "{:?}", route.candidates);
        Ok(())
    })
    .await?;
    drop(node);
    Ok(())
}

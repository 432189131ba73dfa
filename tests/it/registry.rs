//! What do the gateways know when nodes, leases, gateways or etcd itself come and go?

use anyhow::{Context as _, ensure};
use std::time::Instant;
use suiyue_proto::v1::TableSource;
use suiyue_tests::{
    client::{framed, request},
    eventually::eventually,
    failover::Failover,
    federation::Federation,
    load::{Load, Mix},
    node::Node,
    process::Signal,
    region::{GUANGDONG, GUANGZHOU},
    v1::EchoRequest,
};

async fn city_and_province() -> anyhow::Result<Federation> {
    Federation::builder()
        .gateways(2)
        .node(Node::echo("city", GUANGZHOU))
        .node(Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]))
        .start()
        .await
}

/// The registry's key of the city's endpoint.
const CITY: &str = "/nodes/440100/city/live/";
/// All endpoints.
const LIVE: &str = "/live/";

#[tokio::test]
async fn a_goodbye_takes_the_node_out_at_every_gateway() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    assert_eq!(federation.etcd()?.leases(CITY).await?.len(), 1);
    let address = federation.node("city")?.address;
    federation.node("city")?.process.terminate().await?;
    // The node ends after the farewell, and the farewell comes after the write: no lease was waited for.
    assert_eq!(federation.etcd()?.leases(CITY).await?, []);
    for gateway in &federation.gateways {
        gateway.forgets(address).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_revoked_lease_takes_the_node_out_and_it_comes_back() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    let before = federation.etcd()?.leases(CITY).await?;
    let [(_, lease)] = before[..] else { anyhow::bail!("one endpoint of the city: {before:?}") };
    assert_ne!(lease, 0, "an endpoint hangs on a lease");
    federation.etcd()?.ctl(&["lease", "revoke", &format!("{lease:x}")]).await?;
    eventually("the city is registered under another lease", async || {
        let now = federation.etcd()?.leases(CITY).await?;
        ensure!(matches!(now[..], [(_, other)] if other != lease && other != 0), "{now:?}");
        Ok(())
    })
    .await?;
    federation.settled().await?;
    let load = Load::start(&federation.data(), GUANGZHOU, 10, Mix::WithOnce);
    load.reaches("city", 100).await?;
    load.stop().await?.flawless()
}

#[tokio::test]
async fn all_gateways_restarting_at_once_lose_no_registration() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    let before = federation.etcd()?.leases(LIVE).await?;
    assert_eq!(before.len(), 2, "{before:?}");
    for gateway in &mut federation.gateways {
        gateway.process.kill()?;
    }
    for gateway in &mut federation.gateways {
        gateway.restart().await?;
    }
    federation.settled().await?;
    // The leases of the dead gateways end; the endpoints hang on others by then.
    eventually("every endpoint hangs on a lease of a living gateway", async || {
        let now = federation.etcd()?.leases(LIVE).await?;
        ensure!(now.len() == before.len(), "an endpoint is gone: {now:?}");
        ensure!(now.iter().all(|(_, lease)| before.iter().all(|(_, old)| old != lease)), "{now:?}");
        Ok(())
    })
    .await?;
    for (_, lease) in &before {
        eventually("the old lease is gone", async || {
            let said = federation.etcd()?.ctl(&["lease", "timetolive", &format!("{lease:x}")]).await?;
            ensure!(said.contains("expired"), "{said}");
            Ok(())
        })
        .await?;
    }
    let after = federation.etcd()?.leases(LIVE).await?;
    assert_eq!(after.len(), before.len(), "{after:?}");
    federation.settled().await?;
    let load = Load::start(&federation.data(), GUANGZHOU, 10, Mix::WithOnce);
    load.reaches("city", 100).await?;
    load.stop().await?.flawless()
}

#[tokio::test]
async fn a_gateway_that_dies_hands_its_registrations_to_the_other() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    let load = Load::start(&[federation.gateways[1].data], GUANGZHOU, 10, Mix::WithOnce);
    load.reaches("city", 100).await?;
    // Both nodes registered at the first gateway, which is the first of their list.
    federation.gateways[0].process.kill()?;
    eventually("both nodes are held by the other gateway", async || {
        let dump = federation.gateways[1].dump().await?;
        let live: Vec<_> = dump.iter().filter(|(key, _)| key.contains(LIVE)).collect();
        ensure!(live.len() == 2 && live.iter().all(|(_, text)| text.contains("gw-2")), "{live:?}");
        Ok(())
    })
    .await?;
    load.reaches("city", 100).await?;
    load.stop().await?.flawless()
}

/// Milliseconds without a word from etcd after which every lease would have run out.
const LEASES_GONE_MS: u64 = 20_000;

#[tokio::test]
async fn traffic_goes_on_without_etcd() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    let load = Load::start(&federation.data(), GUANGZHOU, 4, Mix::WithOnce);
    load.reaches("city", 100).await?;
    federation.etcd()?.stop();
    for gateway in &federation.gateways {
        eventually("the table is older than any lease", async || {
            let age = gateway.nodes().await?.table.map_or(0, |table| table.age_ms);
            ensure!(age > LEASES_GONE_MS, "{age} ms");
            Ok(())
        })
        .await?;
    }
    load.reaches("city", 100).await?;
    // A node that dies now is still found out: health is not the registry's business.
    federation.node("city")?.process.kill()?;
    load.reaches("province", 100).await?;
    let report = load.stop().await?;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    // etcd comes back, and so does what was registered.
    federation.etcd()?.resume().await?;
    federation.node("city")?.restart().await?;
    federation.settled().await
}

#[tokio::test]
async fn a_frozen_etcd_disturbs_no_call() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    federation.etcd()?.signal(Signal::STOP)?;
    let client = Failover::new(federation.data(), 0);
    let message = EchoRequest { region: GUANGZHOU, call_id: "frozen".to_owned(), ..Default::default() };
    for _ in 0..500 {
        let path = "/suiyue.test.v1.EchoService/UnaryOnce";
        let answer = client.call(&request(path, &[]), &framed(&message)).await?;
        assert_eq!(answer.code(), Some(tonic::Code::Ok), "{answer:?}");
    }
    federation.etcd()?.signal(Signal::CONT)
}

#[tokio::test]
async fn a_gateway_that_starts_without_etcd_serves_what_it_knew() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    for gateway in &federation.gateways {
        eventually("what the registry says is on the disk", async || {
            let copy = gateway.copy()?;
            ensure!(copy.contains(CITY) && copy.contains("/nodes/440000/province/live/"), "{copy}");
            Ok(())
        })
        .await?;
    }
    federation.etcd()?.stop();
    for gateway in &mut federation.gateways {
        gateway.process.kill()?;
    }
    let started = Instant::now();
    for gateway in &mut federation.gateways {
        gateway.restart().await?;
    }
    let load = Load::start(&federation.data(), GUANGZHOU, 4, Mix::WithOnce);
    load.reaches("city", 100).await?;
    println!("both gateways started and 100 calls were answered within {:?}", started.elapsed());
    for gateway in &federation.gateways {
        let table = gateway.nodes().await?.table.context("an answer names its table")?;
        assert_eq!(table.source(), TableSource::LastKnownGood);
        assert!(table.age_ms > 0 && table.revision > 0, "{table:?}");
    }
    // etcd comes back, and its word counts again.
    federation.etcd()?.resume().await?;
    for gateway in &federation.gateways {
        eventually("the table comes from etcd", async || {
            let source = gateway.nodes().await?.table.map(|table| table.source());
            ensure!(source == Some(TableSource::Etcd), "{source:?}");
            Ok(())
        })
        .await?;
    }
    federation.settled().await?;
    load.stop().await?.flawless()
}

//! What do the gateways know when nodes, leases, gateways or etcd itself come and go?

use crate::cli::run;
use anyhow::{Context as _, ensure};
use std::time::Instant;
use suiyue_proto::{
    reason::Reason,
    v1::{AcceptRegistryRequest, TableSource},
};
use suiyue_tests::{
    client::{Connection, framed, request},
    etcd::Etcd,
    eventually::eventually,
    failover::Failover,
    federation::Federation,
    gateway::Gateway,
    load::{Load, Mix, Wish},
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
async fn a_revoked_lease_takes_no_route_away_and_is_replaced() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    let before = federation.etcd()?.leases(CITY).await?;
    let [(_, lease)] = before[..] else { anyhow::bail!("one endpoint of the city: {before:?}") };
    assert_ne!(lease, 0, "an endpoint hangs on a lease");
    let load = Load::start(&federation.data(), GUANGZHOU, 4, Mix::WithOnce);
    load.reaches("city", 100).await?;
    // Both nodes hang on it: their regions would be empty, so that the absence is held.
    federation.etcd()?.ctl(&["lease", "revoke", &format!("{lease:x}")]).await?;
    for gateway in &federation.gateways {
        eventually("the absence was held", async || {
            ensure!(gateway.process.log().contains("unexplained: they are held"), "not yet");
            Ok(())
        })
        .await?;
    }
    eventually("the city is registered under another lease", async || {
        let now = federation.etcd()?.leases(CITY).await?;
        ensure!(matches!(now[..], [(_, other)] if other != lease && other != 0), "{now:?}");
        Ok(())
    })
    .await?;
    federation.settled().await?;
    for gateway in &federation.gateways {
        gateway.agrees().await?;
    }
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

#[tokio::test]
async fn a_gateway_with_neither_etcd_nor_a_copy_begins_with_the_table_of_another() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    let known = federation.gateway().nodes().await?.table.context("a table")?;
    federation.etcd()?.stop();
    let endpoint = federation.etcd()?.endpoint();
    let dead = "127.0.0.1:1".parse()?;
    let peers = [&[dead], &federation.control()[..]].concat();
    let started = Instant::now();
    let late = Gateway::builder("late").etcd(&endpoint).peers(&peers).start().await?;
    for node in &federation.nodes {
        late.sees(&node.name, node.address).await?;
    }
    println!("a gateway with nothing but peers had both nodes in rotation within {:?}", started.elapsed());
    let table = late.nodes().await?.table.context("a table")?;
    assert_eq!((table.source(), &table.table_hash), (TableSource::Peer, &known.table_hash));
    assert!(table.age_ms > 0, "{table:?}");
    let (status, text) = late.admin("/ready").await?;
    assert!(status == 200 && text.contains("from Peer"), "{status} {text}");
    let load = Load::start(&[late.data], GUANGZHOU, 4, Mix::WithOnce);
    load.reaches("city", 100).await?;
    // etcd comes back, and its word counts.
    federation.etcd()?.resume().await?;
    eventually("the table comes from etcd", async || {
        let source = late.nodes().await?.table.map(|table| table.source());
        ensure!(source == Some(TableSource::Etcd), "{source:?}");
        Ok(())
    })
    .await?;
    load.reaches("city", 100).await?;
    load.stop().await?.flawless()
}

#[tokio::test]
async fn a_gateway_with_nothing_at_all_says_what_it_waits_for() -> anyhow::Result<()> {
    let mut etcd = Etcd::start().await?;
    etcd.stop();
    let peer = "127.0.0.1:1".parse()?;
    let gateway = Gateway::builder("gw-1").etcd(&etcd.endpoint()).peers(&[peer]).start().await?;
    gateway.alarms(&["nothing_known"]).await?;
    eventually("it says what it waits for", async || {
        let (status, text) = gateway.admin("/ready").await?;
        let parts = ["waiting for the registry", "cannot be reached", "no copy on disk", "127.0.0.1:1"];
        ensure!(status == 503 && parts.iter().all(|part| text.contains(part)), "{status} {text}");
        Ok(())
    })
    .await?;
    let (_, metrics) = gateway.admin("/metrics").await?;
    assert!(metrics.contains("suiyue_registry_alarm{alarm=\"nothing_known\"} 1"), "{metrics}");
    // Nothing is missing in a federation that is not known: callers are sent elsewhere.
    let connection = Connection::open(gateway.data).await?;
    let message = framed(&EchoRequest { region: GUANGZHOU, ..Default::default() });
    for path in ["/suiyue.test.v1.EchoService/Unary", "/suiyue.v1.CodeService/ShowCode"] {
        let answer = connection.call(request(path, &[]), message.clone()).await?;
        let status = answer.status().with_context(|| format!("no status: {answer:?}"))?;
        assert_eq!(Reason::of(&status), Some(Reason::FederationUnknown), "{path}: {answer:?}");
    }
    etcd.resume().await?;
    gateway.alarms(&[]).await?;
    // The plan follows the table.
    eventually("it is ready", async || {
        let (status, text) = gateway.admin("/ready").await?;
        ensure!(status == 200, "{status} {text}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_wiped_etcd_takes_no_route_away_and_is_held_against_until_accepted() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    let load = Wish::new(GUANGZHOU, 8, Mix::WithOnce).per_second(100).start(&federation.data());
    load.reaches("city", 50).await?;
    for gateway in &mut federation.gateways {
        gateway.process.expect("restored or replaced");
    }
    let wiped = Instant::now();
    federation.etcd()?.wipe().await?;
    for gateway in &federation.gateways {
        gateway.alarms(&["registry_restored"]).await.context("nothing has to be held after a while")?;
        gateway.agrees().await?;
    }
    println!("etcd had everything again {:?} after it was wiped", wiped.elapsed());
    // Both nodes are there, in etcd and in every table, and no call failed.
    assert_eq!(federation.etcd()?.leases(LIVE).await?.len(), 2);
    assert_eq!(federation.etcd()?.leases("/spec").await?.len(), 2);
    federation.settled().await?;
    load.reaches("city", 50).await?;
    load.stop().await?.flawless()?;
    for gateway in &federation.gateways {
        let mut operator = gateway.operator().await?;
        operator.accept_registry(AcceptRegistryRequest::default()).await?;
        gateway.alarms(&[]).await?;
    }
    Ok(())
}

/// What a verb said, and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

#[tokio::test]
async fn a_frozen_gateway_applies_nothing_until_it_is_told_to() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    let first = federation.gateways[0].control.to_string();
    let verb = async |words: &[&str]| -> anyhow::Result<Said> {
        let output = run(&[&["registry"], words, &["--gateway", &first]].concat()).await?;
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok(Said { code: output.status.code(), stdout, stderr })
    };
    // What no audit takes is refused here, what is too long for a status by the gateway.
    for (reason, told) in [("a\ttab", "--reason"), (&*"x".repeat(201), "field=reason")] {
        let refused = verb(&["freeze", "--reason", reason]).await?;
        assert!(refused.code == Some(2) && refused.stderr.contains(told), "{refused:?}");
    }
    let dry = verb(&["freeze", "--reason", "a trial", "--dry-run"]).await?;
    assert!(dry.stdout.contains("dry run") && federation.gateway().following().await?.frozen.is_none());
    let frozen = verb(&["freeze", "--reason", "a trial"]).await?;
    assert!(frozen.code == Some(0) && frozen.stdout.contains("gw-1 is FROZEN"), "{frozen:?}");
    federation.gateways[0].alarms(&["frozen"]).await?;
    // The city says goodbye: the other gateway lets it go, the frozen one does not.
    let address = federation.node("city")?.address;
    federation.node("city")?.process.terminate().await?;
    federation.gateways[1].forgets(address).await?;
    eventually("the frozen gateway has heard of it", async || {
        let kept_out = federation.gateways[0].following().await?.frozen.context("frozen")?.differing;
        ensure!(kept_out == 1, "{kept_out}");
        Ok(())
    })
    .await?;
    assert_eq!(federation.gateways[0].node("city").await?.endpoints.len(), 1);
    let diff = verb(&["diff"]).await?;
    assert!(diff.code == Some(1) && diff.stdout.contains("1 keys differ"), "{diff:?}");
    let accept = verb(&["accept"]).await?;
    assert!(accept.code == Some(3) && accept.stderr.contains("REGISTRY_FROZEN"), "{accept:?}");
    let status = verb(&["status"]).await?;
    assert!(status.stdout.contains("FROZEN") && status.stdout.contains("a trial"), "{status:?}");
    let off = verb(&["freeze", "--off"]).await?;
    assert!(off.stdout.contains("1 keys that were kept out are applied"), "{off:?}");
    federation.gateways[0].forgets(address).await?;
    federation.gateways[0].alarms(&[]).await
}

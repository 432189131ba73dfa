//! What do faults of etcd cost, and how long is it until every table is that of etcd again?
//!
//! Calls go on at a modest rate all the while: none may fail, whatever becomes of the registry. Slow
//! because leases, elections and back-offs take their time.

use anyhow::{Context as _, bail, ensure};
use std::time::{Duration, Instant};
use suiyue_proto::{
    reason::Reason,
    v1::{
        AcceptRegistryRequest, DescribeRegionRequest, RegionPolicy, SetRegionPolicyRequest,
        SetRegionPolicyResponse,
    },
};
use suiyue_tests::{
    etcd::{Cluster, Etcd},
    eventually::eventually,
    gateway::Gateway,
    load::{Load, Mix, Report, Wish},
    node::{Node, token},
    process::Signal,
    region::{GUANGDONG, GUANGZHOU, XIAN},
    table::remark,
};
use tonic::{Response, Status};

/// Calls a second during every fault.
const RATE: u32 = 1000;
/// Calls before and after a fault.
const STEADY: u64 = 1000;

/// Two gateways over etcd, a city, its province and another city, and calls for the first one.
struct Scene {
    load: Load,
    gateways: Vec<Gateway>,
    nodes: Vec<Node>,
}

/// Every gateway has every node in rotation.
async fn settled(gateways: &[Gateway], nodes: &[Node]) -> anyhow::Result<()> {
    for gateway in gateways {
        for node in nodes {
            gateway.sees(&node.name, node.address).await?;
        }
    }
    Ok(())
}

impl Scene {
    async fn over(endpoints: &[String]) -> anyhow::Result<Self> {
        let mut gateways = Vec::new();
        for number in 1..=2 {
            let mut builder = Gateway::builder(&format!("gw-{number}")).etcds(endpoints);
            for region in [GUANGZHOU, GUANGDONG, XIAN] {
                builder = builder.join(region, &token(region));
            }
            gateways.push(builder.start().await?);
        }
        let control: Vec<_> = gateways.iter().map(|gateway| gateway.control).collect();
        let nodes = [
            Node::echo("city", GUANGZHOU),
            Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]),
            Node::echo("xian", XIAN),
        ];
        let mut started = Vec::new();
        for node in nodes {
            started.push(node.gateways(&control).start().await?);
        }
        // No call before every gateway knows the nodes: it would find no such method there.
        settled(&gateways, &started).await?;
        let data: Vec<_> = gateways.iter().map(|gateway| gateway.data).collect();
        let load = Wish::new(GUANGZHOU, 20, Mix::WithOnce).per_second(RATE).start(&data);
        let scene = Self { load, gateways, nodes: started };
        scene.load.reaches("city", STEADY).await?;
        Ok(scene)
    }

    /// The test brings about an etcd that is not what it was.
    fn expect_restored(&mut self) {
        for gateway in &mut self.gateways {
            gateway.process.expect("restored or replaced");
            gateway.process.expect("does not continue the one that was seen here");
        }
    }

    /// Waits until every table is that of etcd, with nothing held; prints how long that took.
    async fn agrees(&self, fault: &str, since: Instant) -> anyhow::Result<()> {
        for gateway in &self.gateways {
            gateway.agrees().await?;
        }
        remark(&format!("{fault}: every table is that of etcd after {:.1} s", since.elapsed().as_secs_f64()))
    }

    async fn accept(&self) -> anyhow::Result<()> {
        for gateway in &self.gateways {
            gateway.operator().await?.accept_registry(AcceptRegistryRequest::default()).await?;
            gateway.alarms(&[]).await?;
        }
        Ok(())
    }

    /// No route was lost, and no call failed.
    async fn finish(self, fault: &str) -> anyhow::Result<Report> {
        settled(&self.gateways, &self.nodes).await?;
        self.load.reaches("city", STEADY).await?;
        let report = self.load.stop().await?;
        remark(&format!(
            "{fault}: {} calls, {} failed, {} that run once failed, {} took another attempt",
            report.calls.len(),
            report.failed.len(),
            report.failed_once.len(),
            report.retried
        ))?;
        report.flawless()?;
        Ok(report)
    }
}

fn policy(in_flight_max: u32) -> RegionPolicy {
    RegionPolicy { in_flight_max: Some(in_flight_max), ..Default::default() }
}

async fn set(
    gateway: &Gateway,
    policy: RegionPolicy,
    expected_revision: i64,
) -> anyhow::Result<Result<SetRegionPolicyResponse, Status>> {
    let asked = SetRegionPolicyRequest {
        region: XIAN,
        policy: Some(policy),
        expected_revision,
        ..Default::default()
    };
    Ok(gateway.operator().await?.set_region_policy(asked).await.map(Response::into_inner))
}

/// The policy that a gateway plans by, as its `in_flight_max`.
async fn in_force(gateway: &Gateway) -> anyhow::Result<Option<u32>> {
    let asked = DescribeRegionRequest { region: XIAN };
    let region = gateway.operator().await?.describe_region(asked).await?.into_inner();
    Ok(region.policy.and_then(|policy| policy.in_flight_max))
}

async fn sees_policy(gateway: &Gateway, wanted: u32) -> anyhow::Result<()> {
    eventually(&format!("{} has the policy {wanted}", gateway.id), async || {
        let found = in_force(gateway).await?;
        ensure!(found == Some(wanted), "{found:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_restored_snapshot_takes_nothing_back_until_it_is_accepted() -> anyhow::Result<()> {
    let fault = "etcd restored from an older snapshot";
    let mut etcd = Etcd::start().await?;
    let mut scene = Scene::over(&[etcd.endpoint()]).await?;
    let first = set(&scene.gateways[0], policy(11), 0).await??;
    etcd.snapshot().await?;
    // After the snapshot: another policy, and a node that comes.
    set(&scene.gateways[0], policy(22), first.policy_revision).await??;
    let control: Vec<_> = scene.gateways.iter().map(|gateway| gateway.control).collect();
    scene.nodes.push(Node::echo("late", XIAN).gateways(&control).start().await?);
    settled(&scene.gateways, &scene.nodes).await?;
    scene.expect_restored();
    let restored = Instant::now();
    etcd.restore().await?;
    for gateway in &scene.gateways {
        // The nodes are put again by their registrars; the policy is a person's to decide.
        gateway.alarms(&["registry_restored", "entries_held"]).await?;
        eventually("only the policy is held", async || {
            let held: Vec<_> = gateway.following().await?.held.into_iter().map(|held| held.key).collect();
            ensure!(held == ["/suiyue/v1/regions/610100"], "{held:?}");
            Ok(())
        })
        .await?;
        let table = gateway.dump().await?;
        ensure!(
            table
                .iter()
                .any(|(key, text)| key.ends_with("regions/610100") && text.contains("in_flight_max=22"))
        );
        ensure!(gateway.node("late").await?.endpoints.len() == 1);
    }
    remark(&format!("{fault}: only the policy was held after {:.1} s", restored.elapsed().as_secs_f64()))?;
    scene.accept().await?;
    for gateway in &scene.gateways {
        sees_policy(gateway, 11).await?;
    }
    scene.agrees(fault, restored).await?;
    scene.finish(fault).await.map(drop)
}

#[tokio::test]
async fn a_gateway_that_slept_through_a_restart_and_a_compaction_misses_nothing() -> anyhow::Result<()> {
    let fault = "compaction past the watch";
    let mut etcd = Etcd::start().await?;
    let scene = Scene::over(&[etcd.endpoint()]).await?;
    let mut revision = 0;
    scene.gateways[1].process.freeze().await?;
    // Its watch ends while it sleeps, and what it would go on from is forgotten.
    etcd.stop();
    etcd.resume().await?;
    for number in 1..=20 {
        revision = eventually("the policy is written", async || {
            let answer = set(&scene.gateways[0], policy(number), revision).await?;
            answer.map(|answer| answer.policy_revision).map_err(|status| status.into())
        })
        .await?;
    }
    etcd.compact().await?;
    let awake = Instant::now();
    scene.gateways[1].process.signal(Signal::CONT)?;
    sees_policy(&scene.gateways[1], 20).await?;
    scene.agrees(fault, awake).await?;
    scene.finish(fault).await.map(drop)
}

#[tokio::test]
async fn half_of_the_leases_gone_at_once_lose_no_route() -> anyhow::Result<()> {
    let fault = "the leases of one gateway of two gone, again and again";
    let etcd = Etcd::start().await?;
    let scene = Scene::over(&[etcd.endpoint()]).await?;
    let begun = Instant::now();
    for round in 0..5 {
        let leases = etcd.leases("/live/").await?;
        let (_, lease) = leases.first().context("endpoints are registered")?;
        etcd.ctl(&["lease", "revoke", &format!("{lease:x}")]).await?;
        eventually("every endpoint hangs on another lease", async || {
            let now = etcd.leases("/live/").await?;
            ensure!(now.len() == 3 && now.iter().all(|(_, other)| other != lease), "round {round}: {now:?}");
            Ok(())
        })
        .await?;
        // Never was a node without its endpoint.
        for gateway in &scene.gateways {
            ensure!(gateway.nodes().await?.nodes.iter().all(|node| node.endpoints.len() == 1));
        }
    }
    scene.agrees(fault, begun).await?;
    scene.finish(fault).await.map(drop)
}

#[tokio::test]
async fn a_dead_leader_of_three_costs_nothing() -> anyhow::Result<()> {
    let fault = "the leader of three members killed";
    let mut cluster = Cluster::start().await?;
    let leader = cluster.leader().await?;
    // It is the first in everybody's list.
    let mut endpoints = cluster.endpoints();
    endpoints.rotate_left(leader);
    let scene = Scene::over(&endpoints).await?;
    let killed = Instant::now();
    cluster.members[leader].stop();
    write_until_seen(&scene, fault, killed, 31).await?;
    scene.agrees(fault, killed).await?;
    cluster.members[leader].resume().await?;
    scene.agrees("the dead member is back", killed).await?;
    scene.finish(fault).await.map(drop)
}

/// An operator's change gets through to every gateway.
async fn write_until_seen(scene: &Scene, fault: &str, since: Instant, value: u32) -> anyhow::Result<()> {
    eventually("an operator's change is written", async || {
        let present = scene.gateways[0].operator().await?;
        let mut present = present;
        let asked = DescribeRegionRequest { region: XIAN };
        let revision = present.describe_region(asked).await?.into_inner().policy_revision;
        set(&scene.gateways[0], policy(value), revision).await?.map(drop).map_err(|status| status.into())
    })
    .await?;
    for gateway in &scene.gateways {
        sees_policy(gateway, value).await?;
    }
    remark(&format!(
        "{fault}: a change went through to both gateways after {:.1} s",
        since.elapsed().as_secs_f64()
    ))
}

#[tokio::test]
async fn a_member_that_falls_silent_is_left_for_the_next() -> anyhow::Result<()> {
    let fault = "the member that all gateways use frozen";
    let cluster = Cluster::start().await?;
    let leader = cluster.leader().await?;
    let used = (leader + 1) % 3;
    let mut endpoints = cluster.endpoints();
    endpoints.rotate_left(used);
    let scene = Scene::over(&endpoints).await?;
    let frozen = Instant::now();
    cluster.members[used].signal(Signal::STOP)?;
    write_until_seen(&scene, fault, frozen, 41).await?;
    scene.agrees(fault, frozen).await?;
    cluster.members[used].signal(Signal::CONT)?;
    scene.finish(fault).await.map(drop)
}

#[tokio::test]
async fn the_late_write_of_a_paused_leader_never_wins() -> anyhow::Result<()> {
    let fault = "the leader paused in the middle of an operator's write";
    let cluster = Cluster::start().await?;
    let leader = cluster.leader().await?;
    let mut endpoints = cluster.endpoints();
    endpoints.rotate_left(leader);
    let scene = Scene::over(&endpoints).await?;
    let before = set(&scene.gateways[0], policy(1), 0).await??.policy_revision;
    let paused = Instant::now();
    cluster.members[leader].signal(Signal::STOP)?;
    // The first write waits at the leader. What became of it is not known, or it was written elsewhere.
    let first = set(&scene.gateways[0], policy(51), before).await?;
    let what = match &first {
        Ok(answer) => format!("written at revision {}", answer.policy_revision),
        Err(status) => {
            let reason = Reason::of(status);
            ensure!(matches!(reason, Some(Reason::WriteUnknown | Reason::RegistryUnavailable)), "{status:?}");
            format!("{reason:?}")
        }
    };
    remark(&format!("{fault}: the operator was told {what} after {:.1} s", paused.elapsed().as_secs_f64()))?;
    // The second one, of an operator who has read what stands there, gets through to the others.
    write_until_seen(&scene, fault, paused, 52).await?;
    cluster.members[leader].signal(Signal::CONT)?;
    let awake = Instant::now();
    // The member that slept answers again, with all that it had waiting behind it.
    eventually("the member that slept has caught up", async || {
        let own = cluster.members[leader].revision().await?;
        let others = cluster.members[(leader + 1) % 3].revision().await?;
        ensure!(own >= others, "{own} of {others}");
        Ok(())
    })
    .await?;
    scene.agrees(fault, awake).await?;
    for gateway in &scene.gateways {
        let Some(value) = in_force(gateway).await? else { bail!("the policy is gone") };
        ensure!(value == 52, "the late write won: {value}");
    }
    scene.finish(fault).await.map(drop)
}

#[tokio::test]
async fn calls_go_on_while_etcd_is_away_for_longer_than_any_lease() -> anyhow::Result<()> {
    let fault = "etcd stopped for three lease times";
    let mut etcd = Etcd::start().await?;
    let scene = Scene::over(&[etcd.endpoint()]).await?;
    etcd.stop();
    eventually("every table is older than three leases", async || {
        for gateway in &scene.gateways {
            let age = gateway.nodes().await?.table.map_or(0, |table| table.age_ms);
            ensure!(Duration::from_millis(age) > Duration::from_secs(45), "{age} ms");
        }
        Ok(())
    })
    .await?;
    scene.load.reaches("city", STEADY).await?;
    let back = Instant::now();
    etcd.resume().await?;
    scene.agrees(fault, back).await?;
    scene.finish(fault).await.map(drop)
}

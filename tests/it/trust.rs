//! Does trust hold against somebody inside, and against the past?
//!
//! Another province's authority, an authority that was withdrawn, and records that were good once: real
//! processes and a real etcd, which the tests write to as its owner could.

use crate::identity::{Scene, door, established, manifest, registered};
use anyhow::{Context as _, ensure};
use prost::Message as _;
use suiyue_gateway::registry::{Registry as _, etcd::Etcd as Registry};
use suiyue_proto::{
    identity::{Identity, files::now, signed::Kind},
    reason::Reason,
    v1::{EndpointDeclaration, LiveEndpoint, RegionReady, Report},
};
use suiyue_tests::{
    etcd::{Etcd, Tls},
    eventually::eventually,
    gateway::Gateway,
    node::Node,
    region::{GUANGDONG, GUANGZHOU},
    trust::{Desk, FEDERATION, node_id, sign},
};

const BEIJING: u32 = 110_000;
const TRUST: &str = "/suiyue/v1/trust/44";
const SPEC: &str = "/suiyue/v1/nodes/440100/suikang/spec";

/// The value of a key in etcd.
async fn value(scene: &Scene, key: &str) -> anyhow::Result<Vec<u8>> {
    let etcd = Registry::connect(&[scene.etcd.endpoint()]).await?;
    let entry = etcd.list(key).await?.entries.into_iter().find(|entry| entry.key == key);
    Ok(entry.with_context(|| format!("no {key}"))?.value.to_vec())
}

/// Nobody is connected to a node's port any more.
async fn cut(port: u16) -> anyhow::Result<()> {
    eventually("connections to the node are closed", async || {
        let open = established(port)?;
        ensure!(open == 0, "{open} connections");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn another_provinces_authority_takes_no_name() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let beijing: Desk = scene.desk.beside("Beijing")?;
    let record = beijing.record(1, |trust| {
        (trust.province, trust.code_prefixes) = (BEIJING, vec!["11".to_owned()]);
    });
    scene.desk.publish(&scene.gateway, record).await?;
    let files = beijing.issue("suikang", &node_id(BEIJING, "suikang"), |_| {})?;
    // At the front door. Its own authority vouches for gateways to it; we show what ours would.
    let shown = Identity::open(suiyue_proto::identity::Files {
        trust: scene.desk.files("gw-1").trust,
        ..files.clone()
    })?;
    let own = manifest("suikang", BEIJING);
    eventually("the name is taken", async || {
        let refused = registered(scene.gateway.control, &shown, &files, &own).await?;
        ensure!(refused == Some(Reason::NodeNameTaken), "{refused:?}");
        Ok(())
    })
    .await?;
    // As an owner of etcd could help it: a spec of the lowest region code.
    let (spec, live) = (
        format!("/suiyue/v1/nodes/{BEIJING}/suikang/spec"),
        format!("/suiyue/v1/nodes/{BEIJING}/suikang/live/a"),
    );
    let signed = sign(&files, Kind::Manifest, &own)?.encode_to_vec();
    scene.refuses(&spec, &signed, "the name belongs to a node of region 440100").await?;
    let declared = EndpointDeclaration {
        region: BEIJING,
        node: "suikang".to_owned(),
        endpoint: "a".to_owned(),
        address: "127.0.0.1:9".to_owned(),
        incarnation: 1,
    };
    let ready = vec![RegionReady { region: BEIJING, as_of_unix_ms: now() * 1000 }];
    let endpoint = LiveEndpoint {
        report: Some(Report { ready, draining: false }),
        signed: Some(sign(&files, Kind::Endpoint, &declared)?),
        ..Default::default()
    };
    scene.refuses(&live, &endpoint.encode_to_vec(), "spec cannot be used").await?;
    scene.gateway.sees("suikang", scene.suikang.address).await
}

#[tokio::test]
async fn who_hangs_on_a_withdrawn_authority_is_cut_off() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let next = scene.desk.beside("Guangdong, next")?;
    // Yuekang moves to the next authority, which both records know; Suikang does not.
    let both = scene.desk.record(2, |trust| trust.authorities.push(next.authority().to_vec().into()));
    scene.desk.publish(&scene.gateway, both).await?;
    let issued = next.issue("yuekang", &node_id(GUANGDONG, "yuekang"), |_| {})?;
    scene.desk.adopt("yuekang", &issued)?;
    eventually("Yuekang registers again", async || {
        let log = scene.yuekang.process.log();
        ensure!(log.matches("register: registered").count() == 2, "{log}");
        Ok(())
    })
    .await?;
    let since = std::time::Instant::now();
    let record = scene.desk.record(3, |trust| trust.authorities = vec![next.authority().to_vec().into()]);
    scene.desk.publish(&scene.gateway, record).await?;
    cut(scene.suikang.address.port()).await?;
    println!("withdrawn to cut off: {:?}", since.elapsed());
    eventually("the node says that it is not taken", async || {
        let log = scene.suikang.process.log();
        ensure!(log.contains("not registered"), "{log}");
        Ok(())
    })
    .await?;
    scene.gateway.sees("yuekang", scene.yuekang.address).await
}

#[tokio::test]
async fn a_restart_believes_no_record_from_before_a_revocation() -> anyhow::Result<()> {
    let mut scene = Scene::start().await?;
    let before = value(&scene, TRUST).await?;
    let record = scene.desk.record(5, |trust| trust.revoked_ids = vec![node_id(GUANGZHOU, "suikang")]);
    scene.desk.publish(&scene.gateway, record).await?;
    scene.gateway.forgets(scene.suikang.address).await?;
    eventually("the record is on the disk", async || {
        let kept = std::fs::read(scene.gateway.dir().join("state/trust/440000.trust"))?;
        ensure!(kept == value(&scene, TRUST).await?, "another record");
        Ok(())
    })
    .await?;
    scene.gateway.process.kill()?;
    scene.put(TRUST, &before).await?;
    // What the gateway copied of etcd is of no use to it either.
    std::fs::remove_dir_all(scene.gateway.dir().join("state/registry"))?;
    scene.gateway.restart().await?;
    eventually("the older record is refused", async || {
        let table = scene.gateway.nodes().await?.table.context("a table")?;
        let bad = table.quarantined.iter().find(|bad| bad.key == TRUST).context("it is taken")?;
        ensure!(bad.reason.contains("its serial is 1, and 5 is known"), "{}", bad.reason);
        Ok(())
    })
    .await?;
    scene.gateway.sees("yuekang", scene.yuekang.address).await?;
    ensure!(scene.gateway.node("suikang").await.is_err(), "the revoked node is back");
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_our_node_once_signed_is_not_taken_again() -> anyhow::Result<()> {
    let mut scene = Scene::start().await?;
    let (data, files) = (tempfile::tempdir()?, scene.desk.files("suikang"));
    let control = [scene.gateway.control];
    let started = async |rps: u32| {
        let node = Node::codes("suikang", GUANGZHOU).identity(&suiyue_tests::trust::section(&files));
        let node = node.gateways(&control).keys_of(data.path()).rps_max(rps).start().await?;
        scene.gateway.sees("suikang", node.address).await?;
        eventually("its manifest counts", async || {
            let declared = scene.gateway.node("suikang").await?.rps_max;
            ensure!(declared == rps, "{declared}");
            Ok(())
        })
        .await?;
        anyhow::Ok(node)
    };
    scene.suikang.process.terminate().await?;
    let mut node = started(9_000).await?;
    let old = value(&scene, SPEC).await?;
    node.process.terminate().await?;
    let _node = started(40).await?;
    scene.refuses(SPEC, &old, "older manifest").await?;
    ensure!(scene.gateway.node("suikang").await?.rps_max == 40);
    Ok(())
}

#[tokio::test]
async fn a_node_lets_a_revoked_gateway_go() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let other = Gateway::builder("gw-2")
        .etcd(&scene.etcd.endpoint())
        .toml(&scene.desk.gateway("gw-2")?)
        .operated_by(scene.desk.operator()?)
        .start()
        .await?;
    let section = scene.desk.node(GUANGZHOU, "huakang")? + &scene.desk.anchored();
    let node = Node::codes("huakang", GUANGZHOU).identity(&section);
    let node = node.gateways(&[other.control, scene.gateway.control]).start().await?;
    for gateway in [&other, &scene.gateway] {
        gateway.sees("huakang", node.address).await?;
    }
    let shown = Identity::open(scene.desk.files("gw-2"))?;
    door(node.address, &shown, None, |_| {}).await.context("before it is revoked")?;
    let since = std::time::Instant::now();
    let id = format!("spiffe://{FEDERATION}/gateway/gw-2");
    let record = scene.desk.record(2, |trust| trust.revoked_ids = vec![id]);
    scene.desk.publish(&scene.gateway, record).await?;
    eventually("the node ends its connections and goes to the other gateway", async || {
        let log = node.process.log();
        ensure!(log.contains("does not hold any more: its connection is closed"), "{log}");
        ensure!(log.contains("registered gateway=\"gw-1\""), "{log}");
        Ok(())
    })
    .await?;
    println!("revoked to let go: {:?}", since.elapsed());
    ensure!(door(node.address, &shown, None, |_| {}).await.is_err(), "the revoked gateway gets in");
    scene.gateway.sees("huakang", node.address).await
}

#[tokio::test]
async fn a_gateway_shows_etcd_its_new_certificate() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let uri = |name: &str| format!("spiffe://{FEDERATION}/app/{name}");
    let named = |name: &str| desk.issue(name, &uri(name), |_| {});
    let root = named("root")?;
    let ends = now() + 6;
    let own = desk.issue("gateway", &uri("gateway"), |order| order.not_after_unix_s = ends)?;
    let mut etcd = Etcd::secured(Tls { server: named("etcd")?, root }).await?;
    let registry = format!(
        "[registry]\nkind = \"etcd\"\nendpoints = [{:?}]\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
        etcd.endpoint(),
        own.trust,
        own.cert,
        own.key
    );
    let gateway = Gateway::builder("gw-1").registry(&registry).start().await?;
    gateway.agrees().await?;
    named("gateway")?;
    eventually("the new certificate is read, and the old one has ended", async || {
        ensure!(gateway.process.log().contains("a certificate was read again"), "it was not read");
        ensure!(now() > ends, "it is valid still");
        Ok(())
    })
    .await?;
    // Connections that are made now are made with the new one.
    etcd.stop();
    etcd.resume().await?;
    eventually("the gateway follows etcd again", async || {
        let lost = gateway.following().await?.lost;
        ensure!(lost.is_empty(), "{lost}");
        gateway.agrees().await
    })
    .await
}

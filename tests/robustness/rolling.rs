//! Does a call notice that every part is restarted, one after the other?
//!
//! Twenty times, in turn a gateway, the city's node, the other gateway and the province's node, all of
//! them with certificates, while the load driver calls at a constant rate. A restart begins when everybody
//! is back from the last one.

use anyhow::{Context as _, ensure};
use std::process::{Command, Stdio};
use suiyue_tests::{
    etcd::Etcd,
    gateway::Gateway,
    node::{HOLDERS, Node, SEED},
    programs,
    region::{GUANGDONG, GUANGZHOU},
    trust::Desk,
};

const RESTARTS: usize = 20;
const RATE: u32 = 300;

struct Parts {
    gateways: Vec<Gateway>,
    nodes: Vec<Node>,
    _desk: Desk,
    _etcd: Etcd,
}

impl Parts {
    async fn start() -> anyhow::Result<Self> {
        let (desk, etcd) = (Desk::new()?, Etcd::start().await?);
        let mut gateways = Vec::new();
        for id in ["gw-1", "gw-2"] {
            let gateway = Gateway::builder(id).etcd(&etcd.endpoint()).toml(&desk.gateway(id)?);
            gateways.push(gateway.operated_by(desk.operator()?).start().await?);
        }
        desk.publish(&gateways[0], desk.record(1, |_| {})).await?;
        let control: Vec<_> = gateways.iter().map(|gateway| gateway.control).collect();
        let city = Node::codes("suikang", GUANGZHOU).identity(&desk.node(GUANGZHOU, "suikang")?);
        let province = Node::codes("yuekang", GUANGDONG).scopes(&[GUANGZHOU]);
        let province = province.identity(&desk.node(GUANGDONG, "yuekang")?);
        let mut nodes = Vec::new();
        for node in [city, province] {
            // The keys of its codes outlive it.
            nodes.push(node.durable().gateways(&control).start().await?);
        }
        let parts = Self { gateways, nodes, _desk: desk, _etcd: etcd };
        parts.settled().await?;
        Ok(parts)
    }

    /// Everybody is in rotation everywhere.
    async fn settled(&self) -> anyhow::Result<()> {
        for gateway in &self.gateways {
            for node in &self.nodes {
                gateway.sees(&node.name, node.address).await?;
            }
        }
        Ok(())
    }

    async fn restart(&mut self, number: usize) -> anyhow::Result<()> {
        let which = number / 2 % 2;
        if number.is_multiple_of(2) {
            let gateway = &mut self.gateways[which];
            gateway.process.terminate().await?;
            gateway.restart().await?;
        } else {
            let node = &mut self.nodes[which];
            node.process.terminate().await?;
            node.restart().await?;
        }
        self.settled().await
    }
}

#[tokio::test]
async fn twenty_rolling_restarts_under_load_cost_no_call() -> anyhow::Result<()> {
    let mut parts = Parts::start().await?;
    let servers: Vec<_> = parts.gateways.iter().map(|gateway| gateway.data.to_string()).collect();
    let mut load = Command::new(programs::suiyue());
    load.args(["load", "--server", &servers.join(","), "--rate", &RATE.to_string()])
        .args(["--regions", "440100", "--holders", &HOLDERS.to_string(), "--seed", &SEED.to_string()])
        .args(["--mix", "show=40,scan=60", "--seconds", "3600", "-o", "json"])
        .stdout(Stdio::piped());
    let load = Driver(Some(load.spawn()?));
    for number in 0..RESTARTS {
        parts.restart(number).await.with_context(|| format!("restart {number}"))?;
    }
    let report = load.stop().await?;
    println!("{RESTARTS} restarts: {report:#}");
    ensure!(report["failed"] == 0 && report["wrong_verdict"] == 0, "calls failed: {report:#}");
    ensure!(report["calls"].as_u64() > Some(1000), "hardly a call was made: {report:#}");
    for gateway in &parts.gateways {
        let table = gateway.nodes().await?.table.context("a table")?;
        ensure!(table.quarantined.is_empty() && table.stale == 0, "{table:?}");
    }
    Ok(())
}

/// The load driver; it ends with the test, however that ends.
struct Driver(Option<std::process::Child>);

impl Driver {
    /// Tells it to end; its report.
    async fn stop(mut self) -> anyhow::Result<serde_json::Value> {
        let child = self.0.take().context("it runs")?;
        let told = Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
        ensure!(told.success(), "the driver has ended before");
        let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

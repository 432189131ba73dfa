//! Does a call notice that certificates are replaced?
//!
//! Twenty times, in turn the gateway's, one node's and the other's, while the load driver calls at a
//! constant rate. Each time the test waits until the new certificate is in use before it goes on.

use anyhow::{Context as _, ensure};
use std::process::{Command, Stdio};
use suiyue_proto::identity::Identity;
use suiyue_tests::{
    eventually::eventually,
    gateway::Gateway,
    node::{HOLDERS, Node, SEED},
    programs,
    region::{GUANGDONG, GUANGZHOU},
    trust::{Desk, FEDERATION, node_id},
};

const ROTATIONS: usize = 20;
const RATE: u32 = 300;

#[tokio::test]
async fn twenty_rotations_under_load_cost_no_call() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let gateway = Gateway::builder("gw-1")
        .embedded()
        .toml(&desk.gateway("gw-1")?)
        .operated_by(desk.operator()?)
        .start()
        .await?;
    desk.publish(&gateway, desk.record(1, |_| {})).await?;
    let control = [gateway.control];
    let city = Node::codes("suikang", GUANGZHOU).identity(&desk.node(GUANGZHOU, "suikang")?);
    let city = city.gateways(&control).start().await?;
    let province = Node::codes("yuekang", GUANGDONG).identity(&desk.node(GUANGDONG, "yuekang")?);
    let province = province.gateways(&control).start().await?;
    gateway.sees("suikang", city.address).await?;
    gateway.sees("yuekang", province.address).await?;

    let mut load = Command::new(programs::suiyue());
    load.args(["load", "--server", &gateway.data.to_string(), "--rate", &RATE.to_string()])
        .args(["--regions", "440100,440000", "--holders", &HOLDERS.to_string(), "--seed", &SEED.to_string()])
        .args(["--seconds", "40", "-o", "json"])
        .stdout(Stdio::piped());
    let load = load.spawn()?;
    let everybody = [
        ("gw-1", format!("spiffe://{FEDERATION}/gateway/gw-1")),
        ("suikang", node_id(GUANGZHOU, "suikang")),
        ("yuekang", node_id(GUANGDONG, "yuekang")),
    ];
    for number in 0..ROTATIONS {
        let (name, uri) = &everybody[number % everybody.len()];
        desk.issue(name, uri, |_| {})?;
        let serial = Identity::open(desk.files(name))?.shown().leaf.serial.clone();
        let process = match *name {
            "gw-1" => &gateway.process,
            "suikang" => &city.process,
            _ => &province.process,
        };
        eventually(&format!("{name} uses its new certificate"), async || {
            ensure!(process.log().contains(&serial), "not read yet");
            Ok(())
        })
        .await?;
    }
    let output = tokio::task::spawn_blocking(move || load.wait_with_output()).await??;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    println!("{ROTATIONS} rotations: {report:#}");
    ensure!(output.status.success(), "calls failed: {report:#}");
    // The new certificates are those that are registered now.
    gateway.sees("suikang", city.address).await?;
    let table = gateway.nodes().await?.table.context("a table")?;
    ensure!(table.quarantined.is_empty(), "{:?}", table.quarantined);
    Ok(())
}

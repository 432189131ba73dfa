//! Are the gateways listed as they are, and does one leave without a call lost?

use crate::cli::{json, run, suiyue};
use anyhow::{Context as _, ensure};
use suiyue_tests::{
    eventually::eventually,
    federation::Federation,
    load::{Mix, Wish},
    node::Node,
    process::Signal,
    region::GUANGZHOU,
};

#[tokio::test]
async fn gateways_are_listed_with_what_they_say_of_themselves() -> anyhow::Result<()> {
    let federation = Federation::builder().gateways(2).node(Node::echo("suikang", GUANGZHOU)).start().await?;
    let [first, second] = &federation.gateways[..] else { anyhow::bail!("two gateways") };
    let (at, other) = (first.control.to_string(), second.control.to_string());
    let load = Wish::new(GUANGZHOU, 20, Mix::Replayable).per_second(90).start(&[first.data]);
    let less = Wish::new(GUANGZHOU, 20, Mix::Replayable).per_second(30).start(&[second.data]);
    load.proceeds(300).await?;
    let listed = eventually("both gateways and their shares", async || {
        let listed = json(&["gateway", "list", "--gateway", &other]).await?;
        let shares: Vec<_> = (0..2).filter_map(|n| listed["gateways"][n]["share"].as_f64()).collect();
        ensure!(shares.len() == 2 && (shares[0] - 0.75).abs() < 0.05, "{listed:#}");
        Ok(listed)
    })
    .await?;
    println!("{}", suiyue(&["gateway", "list", "--gateway", &at]).await?);
    for (n, gateway) in [first, second].into_iter().enumerate() {
        let line = &listed["gateways"][n];
        ensure!(line["id"] == gateway.id.as_str() && line["state"] == "serving", "{line:#}");
        ensure!(line["control_address"] == gateway.control.to_string().as_str(), "{line:#}");
        ensure!(line["admin_address"] == gateway.admin.to_string().as_str(), "{line:#}");
        ensure!(line["version"].is_string() && line["uptime_ms"].as_u64() > Some(0), "{line:#}");
        ensure!(line["plan"].as_u64() > Some(0) && line["registry_age_ms"].is_u64(), "{line:#}");
    }
    drop(less.stop().await?);
    // One that does not answer is listed with the reason.
    first.process.signal(Signal::STOP)?;
    let silent = json(&["gateway", "list", "--gateway", &other]).await;
    first.process.signal(Signal::CONT)?;
    let silent = silent?;
    ensure!(
        silent["gateways"][0]["state"] == "silent" && silent["gateways"][0]["silent"].is_string(),
        "{silent:#}"
    );
    drop(load.stop().await?);
    Ok(())
}

#[tokio::test]
async fn a_gateway_leaves_without_a_call_lost_when_it_is_told_to() -> anyhow::Result<()> {
    let mut federation =
        Federation::builder().gateways(2).node(Node::echo("suikang", GUANGZHOU)).start().await?;
    let [first, second] = &federation.gateways[..] else { anyhow::bail!("two gateways") };
    let at = first.control.to_string();
    let unknown = run(&["gateway", "drain", "gw-9", "--gateway", &at]).await?;
    ensure!(unknown.status.code() == Some(2), "{unknown:?}");
    let both = [first.data, second.data];
    let calls = Wish::new(GUANGZHOU, 20, Mix::Replayable).per_second(200).start(&both);
    calls.proceeds(200).await?;
    let dry = suiyue(&["gateway", "drain", "gw-2", "--dry-run", "--gateway", &at]).await?;
    ensure!(dry.starts_with("dry run: gw-2 can leave; gw-1 stays"), "{dry}");
    let told = suiyue(&["gateway", "drain", "gw-2", "--reason", "a new kernel", "--gateway", &at]).await?;
    ensure!(told.starts_with("gw-2 leaves; gw-1 stays"), "{told}");
    let (status, said) = second.admin("/ready").await?;
    ensure!(status == 503 && said.starts_with("draining"), "{status} {said}");
    federation.gateways[1].process.ended().await?;
    calls.proceeds(200).await?;
    let report = calls.stop().await?;
    let failed = report.calls.iter().filter(|call| call.code != Some(tonic::Code::Ok)).count();
    println!("{} calls, {failed} failed, while gw-2 left", report.calls.len());
    assert_eq!(failed, 0);
    let audit = suiyue(&["audit", "tail", "--gateway", &at]).await?;
    ensure!(audit.contains("DrainGateway") && audit.contains("gw-2 leaves; gw-1 stays"), "{audit}");
    eventually("gw-2 is gone", async || {
        let listed = json(&["gateway", "list", "--gateway", &at]).await?;
        let gateways = listed["gateways"].as_array().context("gateways")?;
        ensure!(gateways.len() == 1, "{listed:#}");
        Ok(())
    })
    .await?;
    let last = run(&["gateway", "drain", "gw-1", "--gateway", &at]).await?;
    let said = String::from_utf8_lossy(&last.stderr).into_owned();
    ensure!(last.status.code() == Some(3) && said.contains("GATEWAY_LAST"), "{said}");
    suiyue(&["gateway", "drain", "gw-1", "--force", "--gateway", &at]).await?;
    federation.gateways[0].process.ended().await.map(drop)
}

#[tokio::test]
async fn a_step_of_a_trial_lasts_as_long_as_it_must() -> anyhow::Result<()> {
    let federation = Federation::builder()
        .gateways(1)
        .configure(|builder| builder.canary_step_s(3_600))
        .node(Node::echo("suikang", GUANGZHOU))
        .node(Node::echo("yuekang", suiyue_tests::region::GUANGDONG).scopes(&[GUANGZHOU]))
        .start()
        .await?;
    let at = federation.gateway().control.to_string();
    let promote = |more: &[&'static str]| {
        let words = [&["node", "promote", "suikang"], more].concat();
        words.into_iter().map(str::to_owned).chain(["--gateway".to_owned(), at.clone()]).collect::<Vec<_>>()
    };
    let with = async |more: &[&'static str]| {
        run(&promote(more).iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    ensure!(with(&["--to", "canary-1"]).await?.status.success(), "down at any time");
    for more in [&[][..], &["--dry-run"], &["--to", "canary-5"]] {
        let early = with(more).await?;
        let said = String::from_utf8_lossy(&early.stderr).into_owned();
        ensure!(early.status.code() == Some(3) && said.contains("STAGE_TOO_EARLY; left_s=3"), "{said}");
    }
    let forced = with(&["--force"]).await?;
    ensure!(forced.status.success(), "{}", String::from_utf8_lossy(&forced.stderr));
    let listed = json(&["node", "describe", "suikang", "--gateway", &at]).await?.to_string();
    ensure!(listed.contains("canary-5"), "{listed}");
    ensure!(with(&["--to", "test"]).await?.status.success(), "down again");
    Ok(())
}

//! Do `suiyue top` and `suiyue status` show what is, while a node and a gateway die?

use crate::cli::{json, run, suiyue};
use anyhow::{Context as _, ensure};
use std::process::Command;
use suiyue_tests::{
    eventually::eventually,
    federation::Federation,
    load::{Load, Mix},
    node::Node,
    programs,
    region::{GUANGDONG, GUANGZHOU},
};

async fn two_gateways() -> anyhow::Result<Federation> {
    Federation::builder()
        .gateways(2)
        .node(Node::echo("city", GUANGZHOU))
        .node(Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]))
        .start()
        .await
}

fn list(federation: &Federation) -> String {
    federation.control().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Steps on a terminal of its own; the program's exit code.
async fn on_a_terminal(steps: &[&str], arguments: &[&str]) -> anyhow::Result<i32> {
    let mut command = Command::new(programs::python());
    command.arg(programs::file("python/terminal.py")).args(steps).arg("--");
    command.arg(programs::suiyue()).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{steps:?}: {said}{complained}");
    said.trim().parse().with_context(|| format!("no exit code: {said}"))
}

#[tokio::test]
async fn top_shows_the_calls_of_both_gateways_and_goes_on_with_one() -> anyhow::Result<()> {
    let mut federation = two_gateways().await?;
    let (both, data) = (list(&federation), federation.data());
    let load = Load::start(&data, GUANGZHOU, 8, Mix::WithOnce);
    load.reaches("city", 200).await?;
    let top = ["top", "--once", "--interval-ms", "500", "--gateway", &both];
    eventually("the city gets calls", async || {
        let seen = json(&top).await?;
        let row = &seen["rows"][1];
        ensure!(row["region"] == 440_100 && row["node"] == "city", "{seen}");
        ensure!(row["rps"].as_f64() > Some(0.0) && row["share"] == 1.0 && row["state"] == "ok", "{row}");
        ensure!(row["p99_ms"].is_f64() && row["utilization"].is_null() && row["errors"] == 0.0, "{row}");
        Ok(())
    })
    .await?;
    let one = json(&["top", "--once", "--gateway", &federation.control()[0].to_string()]).await?;
    ensure!(one["gateways"].as_array().map(Vec::len) == Some(1), "{one}");
    let table = suiyue(&[&top[..], &["--filter", "guangzhou city", "--sort", "calls"]].concat()).await?;
    ensure!(table.contains("city") && !table.contains("province") && !table.contains('\u{1b}'), "{table}");
    load.stop().await?.flawless()?;

    federation.gateways[0].process.kill()?;
    let seen = json(&top).await?;
    ensure!(seen["gateways"][0]["error"].is_string() && seen["gateways"][1]["error"].is_null(), "{seen}");
    ensure!(seen["rows"][1]["node"] == "city", "{seen}");
    federation.gateways[1].process.kill()?;
    let nobody = run(&top).await?;
    let said = String::from_utf8_lossy(&nobody.stderr);
    ensure!(nobody.status.code() == Some(1) && said.contains("no gateway answers"), "{said}");
    Ok(())
}

#[tokio::test]
async fn top_gives_the_terminal_back_however_it_ends() -> anyhow::Result<()> {
    let federation = two_gateways().await?;
    let both = list(&federation);
    let top = ["top", "--interval-ms", "200", "--gateway", &both];
    let seen = "see:province";
    let check = async |steps: &[&str], code: i32| {
        let ended = on_a_terminal(steps, &top).await?;
        ensure!(ended == code, "{steps:?}: {ended}");
        anyhow::Ok(())
    };
    check(&[seen, "type:/cit", "see:filter: cit_", r"type:y\r", "see:1 of ", "type:q"], 0).await?;
    check(&[seen, r"type:\x03"], 130).await?;
    check(&[seen, "send:TERM"], 130).await?;
    Ok(())
}

#[tokio::test]
async fn status_says_what_is_wrong_worst_first_and_what_is_being_done() -> anyhow::Result<()> {
    let mut federation = two_gateways().await?;
    let both = list(&federation);
    let status = ["status", "--gateway", &both];
    eventually("nothing is wrong", async || {
        ensure!(suiyue(&status).await?.starts_with("Nothing is wrong: "));
        Ok(())
    })
    .await?;

    federation.node("city")?.process.kill()?;
    eventually("the loss of the city is told, and who carries its calls", async || {
        let output = run(&status).await?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(output.status.code() == Some(1), "{said}");
        ensure!(said.contains("node city: no endpoint in rotation ("), "{said}");
        ensure!(said.contains("calls of 440100 go to province 100 % (failover)"), "{said}");
        Ok(())
    })
    .await?;

    federation.node("province")?.process.kill()?;
    federation.gateways[1].process.kill()?;
    eventually("a region without anybody comes first", async || {
        let output = run(&[&status[..], &["-o", "json"]].concat()).await?;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        ensure!(output.status.code() == Some(1) && said["worst"] == "critical", "{said}");
        let found = said["findings"].as_array().context("findings")?;
        let about = |finding: &serde_json::Value| finding["about"].as_str().unwrap_or_default().to_owned();
        ensure!(about(&found[0]).starts_with("region 440"), "{said}");
        ensure!(found.iter().any(|one| about(one) == "region 440100 Guangzhou"), "{said}");
        let gateway = format!("gateway {}", federation.control()[1]);
        ensure!(found.iter().any(|one| about(one) == gateway), "{said}");
        Ok(())
    })
    .await
}

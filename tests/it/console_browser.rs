//! Does the web console work in a browser, for everybody?
//!
//! Headless Chromium, driven by `tests/browser/console.mjs`, visits the console of a federation that is alive
//! and under load: in both languages, on a desk and on a phone.

use crate::cli::json;
use anyhow::{Context as _, ensure};
use serde_json::json;
use std::process::{Command, Stdio};
use suiyue_tests::{
    federation::Federation,
    load::{Mix, Wish},
    node::Node,
    programs,
    region::{GUANGDONG, GUANGZHOU, XIAN},
};

/// What the visit tells.
async fn visit(lang: &'static str, width: u32) -> anyhow::Result<String> {
    let federation = Federation::builder()
        .node(Node::echo("suikang", GUANGZHOU).rps_max(400))
        .node(Node::echo("yuekang", GUANGDONG).scopes(&[GUANGZHOU]).rps_max(60))
        .node(Node::echo("chengma", XIAN))
        .start()
        .await?;
    let gateway = federation.gateway();
    let load = Wish::new(GUANGZHOU, 10, Mix::Replayable).per_second(100).start(&[gateway.data]);
    load.reaches("suikang", 100).await?;
    let control = gateway.control.to_string();
    let minted = json(&["console", "token", "--gateway", &control, "--actor", "li"]).await?;
    let (base, token) = minted["url"]
        .as_str()
        .and_then(|url| url.split_once("/console/sign-in#"))
        .context("an address with a token")?;
    let reason = if lang == "zh" { "穗康响应变慢" } else { "suikang is slow" };
    let asked = json!({ "base": base, "token": token, "lang": lang, "width": width, "reason": reason });
    let mut command = Command::new(programs::node());
    command
        .arg(programs::file("browser/console.mjs"))
        .arg(asked.to_string())
        .env("SUIYUE_CHROMIUM", programs::chromium())
        .env("SUIYUE_NODE_MODULES", programs::node_modules())
        .stdin(Stdio::null());
    let ended = tokio::task::spawn_blocking(move || command.output()).await?;
    let ended = ended.context("node cannot be started: tests/run sets it up")?;
    let told = String::from_utf8(ended.stdout)?;
    ensure!(ended.status.success(), "{told}{}", String::from_utf8_lossy(&ended.stderr));
    drop(load.stop().await?);
    Ok(told)
}

#[tokio::test]
async fn the_console_works_in_english_on_a_desk() -> anyhow::Result<()> {
    println!("{}", visit("en", 1280).await?);
    Ok(())
}

#[tokio::test]
async fn the_console_works_in_english_on_a_phone() -> anyhow::Result<()> {
    println!("{}", visit("en", 390).await?);
    Ok(())
}

#[tokio::test]
async fn the_console_works_in_chinese_on_a_desk() -> anyhow::Result<()> {
    println!("{}", visit("zh", 1280).await?);
    Ok(())
}

#[tokio::test]
async fn the_console_works_in_chinese_on_a_phone() -> anyhow::Result<()> {
    println!("{}", visit("zh", 390).await?);
    Ok(())
}

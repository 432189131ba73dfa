//! Can somebody on a gateway's machine move calls without etcd, and does everybody hear of it?

use crate::cli::{run, suiyue};
use anyhow::{Context as _, ensure};
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use suiyue_proto::v1::Class;
use suiyue_tests::{
    eventually::eventually,
    federation::Federation,
    gateway::Gateway,
    load::{Mix, Wish},
    node::Node,
    process::Signal,
    programs,
    region::{GUANGDONG, GUANGZHOU},
    v1::Faults,
};

async fn federation(gateways: usize, rps_max: u32) -> anyhow::Result<Federation> {
    Federation::builder()
        .gateways(gateways)
        .node(Node::echo("suikang", GUANGZHOU))
        .node(Node::echo("yuekang", GUANGDONG).scopes(&[GUANGZHOU]).rps_max(rps_max))
        .start()
        .await
}

const SHIFT: [&str; 9] =
    ["shift", "--region", "440100", "--from", "suikang", "--to", "yuekang", "--every-s", "0"];
const WHY: [&str; 2] = ["--reason", "a drill"];

fn words<'a>(gateway_socket: &'a str, verb: &[&'a str]) -> Vec<&'a str> {
    [&["breakglass"], verb, &["--socket", gateway_socket]].concat()
}

async fn verb(gateway: &Gateway, verb: &[&str]) -> anyhow::Result<serde_json::Value> {
    let socket = gateway.breakglass().display().to_string();
    crate::cli::json(&words(&socket, verb)).await
}

/// The verb ends with this code, and says this on stderr.
async fn fails(gateway: &Gateway, verb: &[&str], code: i32, said: &str) -> anyhow::Result<()> {
    let socket = gateway.breakglass().display().to_string();
    let output = run(&words(&socket, verb)).await?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(code) && stderr.contains(said),
        "{verb:?}: {}: {stderr}",
        output.status
    );
    Ok(())
}

/// Waits until this gateway plans to send this share of Guangzhou's scans to Yuekang.
async fn sends(gateway: &Gateway, share: f64) -> anyhow::Result<()> {
    eventually(&format!("{} sends {share} to yuekang", gateway.id), async || {
        let route = gateway.explain(GUANGZHOU, Class::Scan).await?;
        let yuekang = route.candidates.iter().find(|c| c.node == "yuekang").context("a candidate")?;
        ensure!((yuekang.share - share).abs() < 0.01, "{:?}", route.candidates);
        Ok(())
    })
    .await
}

/// Waits until the gateway's own disk knows the nodes: what it starts from while etcd is away.
async fn kept(gateway: &Gateway) -> anyhow::Result<()> {
    eventually("the copy on the disk has both nodes", async || {
        let copy = gateway.copy()?;
        ensure!(["suikang", "yuekang"].iter().all(|node| copy.contains(node)), "not yet");
        Ok(())
    })
    .await
}

/// The audit tells so often of each of these methods, and its chain is whole.
async fn audited(gateway: &Gateway, counts: &[(&str, usize)]) -> anyhow::Result<String> {
    let at = gateway.control.to_string();
    let told = eventually("the audit tells of it", async || {
        let told = suiyue(&["audit", "tail", "--last", "1000", "--gateway", &at]).await?;
        for (method, count) in counts {
            let found = told.matches(method).count();
            ensure!(found == *count, "{method} {found} times, not {count}:\n{told}");
        }
        Ok(told)
    })
    .await?;
    suiyue(&["audit", "verify", "--gateway", &at]).await?;
    Ok(told)
}

#[tokio::test]
async fn one_gateway_of_two_is_changed_everybody_hears_of_it_and_it_says_so() -> anyhow::Result<()> {
    let federation = federation(2, 5_000).await?;
    let [first, second] = &federation.gateways[..] else { anyhow::bail!("two gateways") };
    let dry = verb(first, &["drain", "suikang", WHY[0], WHY[1], "--dry-run"]).await?;
    ensure!(
        dry["dry_run"] == true && verb(first, &["list"]).await?["actions"] == serde_json::json!([]),
        "{dry}"
    );
    let socket = first.breakglass().display().to_string();
    let ordered = suiyue(&words(&socket, &["drain", "suikang", WHY[0], WHY[1], "--actor", "li"])).await?;
    println!("{ordered}");
    ensure!(ordered.starts_with("in force (this gateway only, gw-1: 1 of 2)"), "{ordered}");
    let next = format!("not changed: gw-2, whose control port is {}", second.control);
    ensure!(ordered.contains(&next) && ordered.contains("says li"), "{ordered}");
    sends(first, 1.0).await?;
    sends(second, 0.0).await?;
    let told = audited(first, &[("OrderBreakglass", 1), ("CancelBreakglass", 0)]).await?;
    ensure!(told.contains("break-glass at gw-1 only") && told.contains("a drill"), "{told}");
    let both = format!("{},{}", first.control, second.control);
    let status = run(&["status", "--gateway", &both]).await?;
    let status_said = String::from_utf8(status.stdout)?;
    ensure!(status.status.code() == Some(1), "{status_said}");
    ensure!(
        status_said.contains("gateway gw-1: break-glass at this gateway only: drain suikang"),
        "{status_said}"
    );
    let top = suiyue(&["top", "--once", "--gateway", &both]).await?;
    ensure!(top.contains("! gw-1: break-glass: drain suikang"), "{top}");
    let (_, metrics) = first.admin("/metrics").await?;
    ensure!(metrics.contains("suiyue_breakglass_in_force 1"), "no metric");
    // A shift of the registry from the same source gives way here, and is in force again afterwards.
    let id = verb(first, &["list"]).await?["actions"][0]["id"].as_str().context("an id")?.to_owned();
    verb(first, &["cancel", &id, WHY[0], WHY[1]]).await?;
    sends(first, 0.0).await?;
    let dir = tempfile::tempdir()?;
    let plan = dir.path().join("shift.json").display().to_string();
    let at = first.control.to_string();
    let order =
        ["shift", "plan", "--region", "440100", "--from", "suikang", "--to", "yuekang", "--percent", "10"];
    suiyue(&[&order[..], &["--every-s", "0", "--out", &plan, "--gateway", &at]].concat()).await?;
    suiyue(&["shift", "apply", &plan, "--gateway", &at]).await?;
    sends(second, 0.1).await?;
    verb(first, &[&SHIFT[..], &["--percent", "60"], &WHY].concat()).await?;
    sends(first, 0.6).await?;
    sends(second, 0.1).await?;
    let shifts = suiyue(&["top", "--once", "--gateway", &both]).await?;
    ensure!(shifts.contains("! break-glass shift bg-") && shifts.contains("60 of 60 %"), "{shifts}");
    ensure!(shifts.contains("10 of 10 %") && shifts.contains("at gw-2 only"), "{shifts}");
    ensure!(suiyue(&["shift", "cancel", "--all", "--dry-run", "--gateway", &at]).await?.contains("dry run"));
    verb(first, &["cancel", "--all", WHY[0], WHY[1]]).await?;
    sends(first, 0.1).await?;
    audited(second, &[("OrderBreakglass", 2), ("CancelBreakglass", 2)]).await.map(drop)
}

#[tokio::test]
async fn it_works_without_etcd_survives_a_death_and_the_audit_hears_of_it_once() -> anyhow::Result<()> {
    let mut federation = federation(2, 5_000).await?;
    kept(federation.gateway()).await?;
    federation.etcd()?.stop();
    let at = federation.gateway().control.to_string();
    let refused = run(&["node", "drain", "suikang", "--gateway", &at]).await?;
    ensure!(!refused.status.success(), "the registry is away");
    let start = Instant::now();
    let ordered = verb(federation.gateway(), &["drain", "suikang", WHY[0], WHY[1]]).await?;
    sends(federation.gateway(), 1.0).await?;
    println!("drained without etcd after {:?}", start.elapsed());
    ensure!(ordered["untold"] == 1 && ordered["gateways"] == 2, "{ordered}");
    // What would leave calls with nobody is refused, by force, too.
    for force in [&[][..], &["--force"]] {
        let last = [&["drain", "yuekang", WHY[0], WHY[1]], force].concat();
        fails(federation.gateway(), &last, 3, "NOBODY_LEFT").await?;
    }
    let before = verb(federation.gateway(), &["list"]).await?;
    federation.gateways[0].process.kill()?;
    federation.gateways[0].restart().await?;
    let after = verb(federation.gateway(), &["list"]).await?;
    ensure!(before["actions"] == after["actions"] && after["untold"] == 1, "{before} {after}");
    sends(federation.gateway(), 1.0).await?;
    sends(&federation.gateways[1], 0.0).await?;
    // One that ends by itself, and one that is cancelled, with etcd away all the time.
    verb(federation.gateway(), &["cancel", "--all", WHY[0], WHY[1]]).await?;
    sends(federation.gateway(), 0.0).await?;
    let short = Instant::now();
    verb(federation.gateway(), &[&SHIFT[..], &["--percent", "40", "--ttl-s", "3"], &WHY].concat()).await?;
    sends(federation.gateway(), 0.4).await?;
    sends(federation.gateway(), 0.0).await?;
    println!("a shift of 3 s ended after {:?}", short.elapsed());
    ensure!(short.elapsed() >= Duration::from_secs(3), "{:?}", short.elapsed());
    ensure!(verb(federation.gateway(), &["list"]).await?["untold"] == 3, "it waits for the audit");
    federation.gateways[0].process.kill()?;
    federation.gateways[0].restart().await?;
    federation.etcd()?.resume().await?;
    let back = Instant::now();
    let told = audited(federation.gateway(), &[("OrderBreakglass", 2), ("CancelBreakglass", 1)]).await?;
    println!("the audit has it all after {:?}:\n{told}", back.elapsed());
    let list = eventually("nothing waits", async || {
        let list = verb(federation.gateway(), &["list"]).await?;
        ensure!(list["untold"] == 0, "{list}");
        Ok(list)
    })
    .await?;
    ensure!(list["actions"] == serde_json::json!([]), "{list}");
    // Nor is anything told again by the next life.
    federation.gateways[0].process.kill()?;
    federation.gateways[0].restart().await?;
    audited(&federation.gateways[1], &[("OrderBreakglass", 2), ("CancelBreakglass", 1)]).await.map(drop)
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_reason() -> anyhow::Result<()> {
    let federation = federation(1, 5_000).await?;
    let gateway = federation.gateway();
    let shift = |more: &[&'static str]| [&SHIFT[..], &WHY, more].concat();
    for percent in ["101", "NaN", "0", "-1"] {
        fails(gateway, &shift(&["--percent", percent]), 3, "SHIFT_INVALID; expected=above 0, at most 100")
            .await?;
    }
    let drain = |more: &[&'static str]| [&["drain", "suikang"], &WHY[..], more].concat();
    fails(gateway, &drain(&["--ttl-s", "1860"]), 3, "BREAKGLASS_INVALID; expected=1 to 1800 seconds").await?;
    fails(gateway, &drain(&["--ttl-s", "0"]), 2, "--ttl-s").await?;
    fails(gateway, &["drain", "suikang"], 2, "--reason").await?;
    fails(gateway, &["drain", "suikang", "--reason", " "], 3, "REASON_REQUIRED").await?;
    fails(gateway, &["drain", "nobody", WHY[0], WHY[1]], 3, "NODE_UNKNOWN").await?;
    fails(gateway, &["undrain", "suikang", WHY[0], WHY[1]], 3, "field=undrain").await?;
    fails(gateway, &["cancel", "bg-0", WHY[0], WHY[1]], 3, "BREAKGLASS_NOT_FOUND").await?;
    let retired: Vec<_> = shift(&["--percent", "10"])
        .into_iter()
        .map(|word| if word == "440100" { "371200" } else { word })
        .collect();
    fails(gateway, &retired, 3, "REGION_RETIRED").await?;
    let unknown: Vec<_> = shift(&["--percent", "10"])
        .into_iter()
        .map(|word| if word == "440100" { "990000" } else { word })
        .collect();
    let socket = gateway.breakglass().display().to_string();
    ensure!(!run(&words(&socket, &unknown)).await?.status.success(), "an unknown region");
    let nobody = run(&["breakglass", "list", "--socket", "/nonexistent/b.sock"]).await?;
    ensure!(nobody.status.code() == Some(1), "{nobody:?}");
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    ensure!(said.contains("check --socket"), "{said}");
    ensure!(verb(gateway, &["list"]).await?["actions"] == serde_json::json!([]));
    Ok(())
}

/// Another user who gets to the socket by its group. Only root can play one.
#[tokio::test]
async fn a_user_who_is_not_named_is_refused() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let socket = dir.path().join("b.sock");
    let binary = dir.path().join("suiyue");
    fs::copy(programs::suiyue(), &binary)?;
    let section = format!("[breakglass]\nsocket = {socket:?}\nusers = [65533]\n");
    let gateway = Gateway::builder("gw-1").embedded().toml(&section).start().await?;
    let mode = fs::metadata(&socket)?.permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    let list = async |uid: u32, gid: u32| {
        let mut command = Command::new(&binary);
        command.args(["breakglass", "list", "--socket"]).arg(&socket).stdin(Stdio::null()).uid(uid).gid(gid);
        tokio::task::spawn_blocking(move || command.output()).await?.context("it runs")
    };
    let named = list(65_533, 0).await?;
    ensure!(named.status.success(), "{}", String::from_utf8_lossy(&named.stderr));
    let other = list(65_532, 0).await?;
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    ensure!(other.status.code() == Some(3) && said.contains("BREAKGLASS_DENIED; uid=65532"), "{said}");
    let outside = list(65_533, 65_533).await?;
    ensure!(outside.status.code() == Some(1), "the file lets in the group only");
    drop(gateway);
    Ok(())
}

#[tokio::test]
async fn a_node_that_would_be_too_full_refuses_what_other_gateways_send_included() -> anyhow::Result<()> {
    let federation = federation(2, 100).await?;
    let [first, second] = &federation.gateways[..] else { anyhow::bail!("two gateways") };
    let half = Wish::new(GUANGZHOU, 10, Mix::Replayable).per_second(50).start(&[first.data]);
    let other = Wish::new(GUANGZHOU, 10, Mix::Replayable).per_second(50).start(&[second.data]);
    half.proceeds(200).await?;
    verb(second, &["drain", "suikang", WHY[0], WHY[1]]).await?;
    sends(second, 1.0).await?;
    let drain = ["drain", "suikang", WHY[0], WHY[1]];
    let rehearsed = [&drain[..], &["--dry-run"]].concat();
    eventually("both loads are known", async || {
        fails(first, &rehearsed, 3, "SHIFT_REFUSED").await?;
        fails(first, &rehearsed, 3, "where the limit is 0.80").await
    })
    .await?;
    fails(first, &drain, 3, "SHIFT_REFUSED").await?;
    let forced = verb(first, &[&drain[..], &["--force"]].concat()).await?;
    ensure!(forced["actions"][0]["forced"] == true, "{forced}");
    println!("{forced:#}");
    drop((half.stop().await?, other.stop().await?));
    let told = audited(first, &[("OrderBreakglass", 2)]).await?;
    ensure!(told.contains("a guard was overruled"), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_breached_guard_holds_it_and_goes_on_holding_after_a_death() -> anyhow::Result<()> {
    let mut federation = federation(1, 5_000).await?;
    kept(federation.gateway()).await?;
    federation.etcd()?.stop();
    let load = Wish::new(GUANGZHOU, 20, Mix::Replayable).per_second(500).start(&[federation.gateway().data]);
    load.proceeds(1_000).await?;
    let slow: Vec<_> = SHIFT.iter().map(|word| if *word == "0" { "200" } else { *word }).collect();
    verb(federation.gateway(), &[&slow[..], &["--percent", "40", "--ttl-s", "1800"], &WHY].concat()).await?;
    sends(federation.gateway(), 0.1).await?;
    load.reaches("yuekang", 100).await?;
    let broken = Instant::now();
    let faults = Faults { fail_percent: 10, fail_code: tonic::Code::Internal as i32, ..Faults::default() };
    federation.node("yuekang")?.arrange(faults).await?;
    let held = eventually("a guard holds it", async || {
        let list = verb(federation.gateway(), &["list"]).await?;
        let breach = list["actions"][0]["breach"].as_str().context("a breach")?.to_owned();
        Ok(breach)
    })
    .await?;
    println!("held after {:?}: {held}", broken.elapsed());
    ensure!(held.starts_with("errors of yuekang"), "{held}");
    drop(load.stop().await?);
    federation.gateways[0].process.signal(Signal::KILL)?;
    federation.gateways[0].process.ended().await?;
    federation.gateways[0].restart().await?;
    let list = verb(federation.gateway(), &["list"]).await?;
    ensure!(list["actions"][0]["breach"] == held.as_str(), "{list}");
    federation.etcd()?.resume().await?;
    let told = audited(federation.gateway(), &[("OrderBreakglass", 1), ("GuardBreakglass", 1)]).await?;
    ensure!(told.contains("gw-1@guard"), "{told}");
    Ok(())
}

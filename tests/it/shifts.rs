//! Does a shift move what was ordered, everywhere, and can nobody make it worse?

use crate::cli::{json, run, suiyue};
use anyhow::{Context as _, ensure};
use std::time::{Duration, Instant};
use suiyue_proto::{
    reason::Reason,
    v1::{
        ApplyShiftRequest, ApplyShiftResponse, Class, ListShiftsRequest, PlanShiftRequest, PlanShiftResponse,
        ShiftInfo, ShiftOrder, ShiftState, ShiftTarget, shift_service_client::ShiftServiceClient,
    },
};
use suiyue_tests::{
    client,
    eventually::eventually,
    federation::Federation,
    gateway::Gateway,
    load::{Mix, Wish},
    node::Node,
    process::Signal,
    region::{GUANGDONG, GUANGZHOU},
    v1::Faults,
};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

async fn federation(
    rps_max: u32,
    adapt: fn(suiyue_tests::gateway::Builder) -> suiyue_tests::gateway::Builder,
) -> anyhow::Result<Federation> {
    Federation::builder()
        .gateways(2)
        .configure(adapt)
        .node(Node::echo("suikang", GUANGZHOU))
        .node(Node::echo("yuekang", GUANGDONG).scopes(&[GUANGZHOU]).rps_max(rps_max))
        .start()
        .await
}

/// A part of Suikang's calls to Yuekang, at once.
fn order(percent: f64) -> ShiftOrder {
    ShiftOrder {
        region: GUANGZHOU,
        from: "suikang".to_owned(),
        to: vec![ShiftTarget { target: "yuekang".to_owned(), weight: 1.0 }],
        percent,
        every_s: Some(0),
        reason: "a drill".to_owned(),
        ..ShiftOrder::default()
    }
}

async fn client(gateway: &Gateway) -> anyhow::Result<ShiftServiceClient<Channel>> {
    Ok(ShiftServiceClient::new(client::channel(gateway.control).await?))
}

async fn plan(gateway: &Gateway, order: ShiftOrder) -> anyhow::Result<Result<PlanShiftResponse, Status>> {
    let asked = PlanShiftRequest { order: Some(order), ..Default::default() };
    Ok(client(gateway).await?.plan_shift(asked).await.map(tonic::Response::into_inner))
}

async fn apply(
    gateway: &Gateway,
    plan: &PlanShiftResponse,
) -> anyhow::Result<Result<ApplyShiftResponse, Status>> {
    let asked = ApplyShiftRequest {
        order: plan.order.clone(),
        plan_hash: plan.plan_hash.clone(),
        read: plan.read.clone(),
        ..Default::default()
    };
    Ok(client(gateway).await?.apply_shift(asked).await.map(tonic::Response::into_inner))
}

async fn shifts(gateway: &Gateway) -> anyhow::Result<Vec<ShiftInfo>> {
    let asked = ListShiftsRequest { ended: true, ..Default::default() };
    Ok(client(gateway).await?.list_shifts(asked).await?.into_inner().shifts)
}

/// Waits until every gateway plans to send this share of Guangzhou's scans to Yuekang.
async fn moved(federation: &Federation, share: f64) -> anyhow::Result<()> {
    for gateway in &federation.gateways {
        eventually(&format!("{} sends {share} to yuekang", gateway.id), async || {
            let route = gateway.explain(GUANGZHOU, Class::Scan).await?;
            let yuekang = route.candidates.iter().find(|c| c.node == "yuekang").context("a candidate")?;
            ensure!((yuekang.share - share).abs() < 0.01, "{:?}", route.candidates);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn detail(status: &Status, key: &str) -> Option<String> {
    status.get_details_error_info()?.metadata.get(key).cloned()
}

#[tokio::test]
async fn the_guard_refuses_at_what_all_gateways_carry_and_a_silent_one_refuses_the_plan() -> anyhow::Result<()>
{
    let federation = federation(100, |builder| builder).await?;
    let [first, second] = &federation.gateways[..] else { anyhow::bail!("two gateways") };
    let much = Wish::new(GUANGZHOU, 20, Mix::Replayable).per_second(180).start(&[first.data]);
    let little = Wish::new(GUANGZHOU, 10, Mix::Replayable).per_second(20).start(&[second.data]);
    // 40 % of 20 calls a second is what the second gateway sees; 40 % of all 200 is too much for 100.
    let mut own = 0.0;
    let told = eventually("the sum of both loads", async || {
        let plan = plan(second, order(50.0)).await??;
        let suikang = plan.nodes.iter().find(|node| node.node == "suikang").context("a node")?;
        ensure!(suikang.rps_before > 170.0, "{:?}", plan.nodes);
        let load = client(second).await?.get_load(suiyue_proto::v1::GetLoadRequest {}).await?.into_inner();
        own = load.regions.iter().flat_map(|region| &region.rps).sum::<f64>();
        Ok(plan)
    })
    .await?;
    assert_eq!(told.gateways, ["gw-1", "gw-2"]);
    println!("the second gateway sees {own:.1} calls a second; {:?}", told.refusals);
    ensure!(own < 40.0 && told.refusals.len() == 1, "{own}: {:?}", told.refusals);
    let guard = told.guards.iter().find(|guard| guard.refuses).context("a guard")?;
    ensure!(guard.node == "yuekang" && guard.value > 0.80 && guard.limit == 0.80, "{guard:?}");
    let refused = apply(second, &told).await?.unwrap_err();
    assert_eq!(Reason::of(&refused), Some(Reason::ShiftRefused));
    ensure!(plan(second, order(20.0)).await??.refusals.is_empty());
    first.process.signal(Signal::STOP)?;
    let silent = plan(second, order(20.0)).await?;
    let without =
        PlanShiftRequest { order: Some(order(20.0)), without: vec!["gw-1".to_owned()], ..Default::default() };
    let without = client(second).await?.plan_shift(without).await;
    first.process.signal(Signal::CONT)?;
    let silent = silent.unwrap_err();
    assert_eq!(Reason::of(&silent), Some(Reason::GatewaySilent));
    assert_eq!(detail(&silent, "gateway").as_deref(), Some("gw-1"));
    assert_eq!(without?.into_inner().gateways, ["gw-2"]);
    drop((much.stop().await?, little.stop().await?));
    Ok(())
}

#[tokio::test]
async fn a_shift_moves_what_was_ordered_and_the_death_of_its_target_costs_nothing() -> anyhow::Result<()> {
    let mut federation = federation(5_000, |builder| builder).await?;
    let load = Wish::new(GUANGZHOU, 20, Mix::Replayable).per_second(600).start(&federation.data());
    load.proceeds(600).await?;
    let plan = plan(federation.gateway(), order(40.0)).await??;
    let start = Instant::now();
    apply(federation.gateway(), &plan).await??;
    moved(&federation, 0.4).await?;
    println!("40 % at both gateways after {:?}", start.elapsed());
    let before = load.so_far().served_by;
    load.proceeds(3_000).await?;
    let after = load.so_far().served_by;
    let served = |node: &str| after.get(node).unwrap_or(&0) - before.get(node).unwrap_or(&0);
    let part = served("yuekang") as f64 / (served("yuekang") + served("suikang")) as f64;
    println!("yuekang answered {:.1} % of {} calls", part * 100.0, served("yuekang") + served("suikang"));
    // Three standard deviations of 3,000 calls.
    ensure!((part - 0.4).abs() < 0.03, "{part}");
    let killed = Instant::now();
    federation.node("yuekang")?.process.kill()?;
    moved(&federation, 0.0).await?;
    println!("all calls are back after {:?}", killed.elapsed());
    load.proceeds(1_800).await?;
    let report = load.stop().await?;
    let late = |call: &&suiyue_tests::history::Ended| {
        call.code != Some(tonic::Code::Ok) && call.begun > killed + Duration::from_secs(1)
    };
    let failed = report.calls.iter().filter(|call| call.code != Some(tonic::Code::Ok)).count();
    println!("{} calls, {failed} failed", report.calls.len());
    assert_eq!(report.calls.iter().filter(late).count(), 0);
    Ok(())
}

#[tokio::test]
async fn a_breach_that_one_gateway_sees_holds_everywhere() -> anyhow::Result<()> {
    let mut federation = federation(5_000, |builder| builder).await?;
    let load = Wish::new(GUANGZHOU, 20, Mix::Replayable).per_second(500).start(&[federation.gateway().data]);
    load.proceeds(1_000).await?;
    let slow = ShiftOrder { every_s: Some(3_600), ..order(40.0) };
    let plan = plan(federation.gateway(), slow).await??;
    apply(federation.gateway(), &plan).await??;
    moved(&federation, 0.1).await?;
    load.reaches("yuekang", 100).await?;
    let broken = Instant::now();
    let faults = Faults { fail_percent: 10, fail_code: tonic::Code::Internal as i32, ..Faults::default() };
    federation.node("yuekang")?.arrange(faults).await?;
    for gateway in &federation.gateways {
        let held = eventually(&format!("{} holds", gateway.id), async || {
            let shift = shifts(gateway).await?.pop().context("a shift")?;
            ensure!(shift.state() == ShiftState::Held, "{shift:?}");
            let breach = shift.shift.and_then(|shift| shift.breach).context("a breach in the registry")?;
            Ok(breach)
        })
        .await?;
        println!("{} holds after {:?}: {held:?}", gateway.id, broken.elapsed());
        assert_eq!(
            (held.guard.as_str(), held.node.as_str(), held.gateway.as_str()),
            ("errors", "yuekang", "gw-1")
        );
        ensure!(held.value > held.limit, "{held:?}");
    }
    drop(load.stop().await?);
    let control = federation.gateway().control.to_string();
    let audit = suiyue(&["audit", "tail", "--gateway", &control]).await?;
    ensure!(audit.contains("gw-1@guard") && audit.contains("guard errors of yuekang"), "{audit}");
    let status = run(&["status", "--gateway", &control]).await?;
    let told = String::from_utf8(status.stdout)?;
    ensure!(status.status.code() == Some(1) && told.contains("WARNING"), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_shift_ends_by_itself_with_etcd_stopped() -> anyhow::Result<()> {
    let mut federation = federation(5_000, |builder| builder).await?;
    let plan = plan(federation.gateway(), ShiftOrder { ttl_s: Some(5), ..order(40.0) }).await??;
    let start = Instant::now();
    apply(federation.gateway(), &plan).await??;
    moved(&federation, 0.4).await?;
    federation.etcd()?.stop();
    moved(&federation, 0.0).await?;
    println!("a shift of 5 s ended after {:?}, without etcd", start.elapsed());
    ensure!(start.elapsed() >= Duration::from_secs(5));
    federation.etcd()?.resume().await
}

#[tokio::test]
async fn of_two_operators_one_is_told_what_changed() -> anyhow::Result<()> {
    let federation = federation(5_000, |builder| builder).await?;
    let [first, second] = &federation.gateways[..] else { anyhow::bail!("two gateways") };
    let one = plan(first, order(10.0)).await??;
    let other = plan(second, order(20.0)).await??;
    let (one, other) = tokio::try_join!(apply(first, &one), apply(second, &other))?;
    let (won, lost) = match (one, other) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        both => anyhow::bail!("one of them: {both:?}"),
    };
    assert_eq!(Reason::of(&lost), Some(Reason::PlanStale));
    assert_eq!(detail(&lost, "key").as_deref(), Some("shifts/active/440100/suikang"));
    let percent = won.shift.and_then(|shift| shift.order).context("an order")?.percent;
    moved(&federation, percent / 100.0).await
}

/// Runs a verb that a guard must refuse.
async fn refused(arguments: &[&str], words: &str) -> anyhow::Result<()> {
    let output = run(arguments).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(3) && said.contains(words),
        "{arguments:?}: {}: {said}",
        output.status
    );
    Ok(())
}

#[tokio::test]
async fn a_shift_is_planned_applied_changed_and_taken_back_from_a_terminal() -> anyhow::Result<()> {
    let federation = federation(5_000, |builder| builder).await?;
    let control = federation.gateway().control.to_string();
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("shift.json").display().to_string();
    let at = ["--gateway", control.as_str()];
    let plan = |percent: &'static str| {
        let words =
            ["shift", "plan", "--region", "440100", "--from", "suikang", "--to", "yuekang", "--percent"];
        [&words[..], &[percent, "--every-s", "0", "--out", &file, "--gateway", &control]].concat()
    };
    for (percent, words) in [("101", "percent"), ("NaN", "percent"), ("0", "percent"), ("-1", "percent")] {
        refused(&plan(percent), &format!("SHIFT_INVALID; expected=above 0, at most 100, field={words}"))
            .await?;
    }
    let unknown: Vec<_> =
        plan("10").iter().map(|word| if *word == "440100" { "990000" } else { *word }).collect();
    let output = run(&unknown).await?;
    ensure!(!output.status.success(), "an unknown region");
    suiyue(&plan("10")).await?;
    // The ground changes: the plan is stale, and the key is named.
    let policy = dir.path().join("policy.toml");
    std::fs::write(&policy, "revision = 0\n[classes.scan]\nmax_lag_s = 3600\n")?;
    let policy = policy.display().to_string();
    suiyue(&[&["region", "set", "440100", "-f", &policy], &at[..]].concat()).await?;
    eventually("the policy is read", async || {
        refused(&[&["shift", "apply", &file], &at[..]].concat(), "PLAN_STALE; key=regions/440100").await
    })
    .await?;
    suiyue(&plan("10")).await?;
    let tried = json(&[&["shift", "apply", &file, "--dry-run"], &at[..]].concat()).await?;
    assert_eq!((tried["written"].as_bool(), tried["revision"].as_i64()), (Some(false), Some(0)));
    let first = json(&[&["shift", "apply", &file, "--actor", "li"], &at[..]].concat()).await?;
    let first = first["shift"]["id"].as_str().context("an id")?.to_owned();
    moved(&federation, 0.1).await?;
    suiyue(&plan("30")).await?;
    let second = json(&[&["shift", "apply", &file], &at[..]].concat()).await?;
    let second = second["shift"]["id"].as_str().context("an id")?.to_owned();
    moved(&federation, 0.3).await?;
    let verb = async |words: &[&str]| suiyue(&[&["shift"], words, &at[..]].concat()).await;
    ensure!(verb(&["hold", &second, "--dry-run"]).await?.starts_with("dry run"));
    ensure!(verb(&["hold", &second]).await?.starts_with("1 changed"));
    ensure!(verb(&["hold", &second]).await?.starts_with("nothing written"));
    verb(&["resume", &second]).await?;
    verb(&["extend", &second, "--ttl-s", "600"]).await?;
    ensure!(verb(&["status"]).await?.contains(&second));
    verb(&["rollback", &second, "--reason", "worse"]).await?;
    moved(&federation, 0.1).await?;
    let history = json(&[&["shift", "history"], &at[..]].concat()).await?;
    let ids: Vec<_> =
        history["shifts"].as_array().context("shifts")?.iter().map(|s| s["id"].clone()).collect();
    assert_eq!(ids, [second.as_str(), first.as_str()]);
    assert_eq!(history["shifts"][0]["end"], "rolled_back");
    ensure!(verb(&["cancel", "--all"]).await?.starts_with("1 changed"));
    moved(&federation, 0.0).await?;
    refused(&[&["shift", "hold", &first], &at[..]].concat(), "SHIFT_NOT_FOUND").await?;
    let checked = suiyue(&[&["audit", "verify"], &at[..]].concat()).await?;
    println!("{checked}");
    Ok(())
}

#[tokio::test]
async fn a_drain_a_stage_and_a_policy_need_the_same_second_person_as_a_shift() -> anyhow::Result<()> {
    let federation = federation(5_000, |builder| builder.two_person_above(0.2)).await?;
    let control = federation.gateway().control.to_string();
    let dir = tempfile::tempdir()?;
    let policy = dir.path().join("policy.toml");
    let weights =
        "[[weights]]\nnode = \"suikang\"\nweight = 50\n[[weights]]\nnode = \"yuekang\"\nweight = 50\n";
    std::fs::write(&policy, format!("revision = 0\n{weights}"))?;
    let policy = policy.display().to_string();
    let raised = dir.path().join("raised.toml");
    std::fs::write(&raised, "revision = 0\ntwo_person_above = 1.0\n")?;
    let raised = raised.display().to_string();
    let verbs: [&[&str]; 4] = [
        &["node", "drain", "suikang"],
        &["node", "suspend", "suikang"],
        &["region", "set", "440100", "-f", &policy],
        &["region", "set", "440100", "-f", &raised],
    ];
    for verb in verbs {
        let with = |more: &[&str]| {
            let words: Vec<String> =
                verb.iter().chain(more).chain(&["--gateway", &control]).map(|w| (*w).to_owned()).collect();
            words
        };
        let ask = async |more: &[&str], words: &str| {
            let arguments = with(more);
            refused(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), words).await
        };
        let done = async |more: &[&str]| {
            let arguments = with(more);
            suiyue(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
        };
        ask(&["--actor", "li"], "APPROVAL_NEEDED").await?;
        done(&["--dry-run"]).await?;
        done(&["--approve", "--actor", "li"]).await?;
        ask(&["--actor", "li"], "APPROVAL_OWN").await?;
        let approved = done(&["--approve", "--actor", "wang"]).await?;
        ensure!(approved.starts_with("approved until "), "{approved}");
        // The drain only: what follows is judged by a region that nothing was done to.
        if verb[1] == "drain" {
            done(&["--actor", "li"]).await?;
            moved(&federation, 1.0).await?;
            let back = ["node", "undrain", "suikang", "--actor", "li", "--gateway", &control];
            refused(&back, "APPROVAL_NEEDED").await?;
            suiyue(&["node", "undrain", "suikang", "--approve", "--actor", "wang", "--gateway", &control])
                .await?;
            suiyue(&back).await?;
            moved(&federation, 0.0).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_drain_meets_the_guard_of_what_takes_over() -> anyhow::Result<()> {
    let federation = federation(100, |builder| builder).await?;
    let load = Wish::new(GUANGZHOU, 20, Mix::Replayable).per_second(150).start(&federation.data());
    let control = federation.gateway().control.to_string();
    eventually("the load is known", async || {
        refused(&["node", "drain", "suikang", "--dry-run", "--gateway", &control], "SHIFT_REFUSED").await
    })
    .await?;
    refused(&["node", "drain", "suikang", "--gateway", &control], "SHIFT_REFUSED").await?;
    refused(&["node", "drain", "suikang", "--gateway", &control, "--force"], "APPROVAL_NEEDED").await?;
    drop(load.stop().await?);
    Ok(())
}

#[tokio::test]
async fn shells_complete_the_verbs() -> anyhow::Result<()> {
    for (shell, words) in
        [("bash", "complete -F"), ("zsh", "#compdef suiyue"), ("fish", "complete -c suiyue")]
    {
        let script = suiyue(&["completions", shell]).await?;
        ensure!(script.contains(words) && script.contains("rollback"), "{shell}: {script}");
    }
    Ok(())
}

#[tokio::test]
async fn a_node_on_trial_that_does_worse_goes_back_by_itself() -> anyhow::Result<()> {
    let mut federation = federation(5_000, |builder| builder).await?;
    let control = federation.gateway().control.to_string();
    let load = Wish::new(GUANGZHOU, 20, Mix::Replayable).per_second(400).start(&federation.data());
    suiyue(&["node", "promote", "suikang", "--to", "canary-25", "--gateway", &control]).await?;
    moved(&federation, 0.75).await?;
    load.reaches("suikang", 200).await?;
    let faults = Faults { fail_percent: 10, fail_code: tonic::Code::Internal as i32, ..Faults::default() };
    let broken = Instant::now();
    federation.node("suikang")?.arrange(faults).await?;
    for gateway in &federation.gateways {
        eventually(&format!("{} trusts suikang less", gateway.id), async || {
            let intent = gateway.node("suikang").await?.intent.context("an intent")?;
            ensure!(intent.canary_percent < 25, "{intent:?}");
            Ok(())
        })
        .await?;
    }
    println!("a stage back at both gateways after {:?}", broken.elapsed());
    drop(load.stop().await?);
    let audit = suiyue(&["audit", "tail", "--gateway", &control]).await?;
    ensure!(audit.contains("@guard") && audit.contains("one stage back"), "{audit}");
    Ok(())
}

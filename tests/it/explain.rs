//! Is what `explain` says what happens, and does supposing change nothing?

use crate::{
    cli::{json, run, suiyue},
    policies::{in_force, set, weighted},
};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use std::{collections::BTreeMap, fs};
use suiyue_proto::{
    metadata,
    reason::Reason,
    v1::{
        Class, ExplainRouteRequest, ExplainRouteResponse, WhatIf,
        operator_service_client::OperatorServiceClient, what_if::Change,
    },
};
use suiyue_tests::{
    client::{Answer, Connection, framed, request},
    federation::Federation,
    node::Node,
    region::{GUANGDONG, GUANGZHOU},
    v1::EchoRequest,
};
use tonic::transport::Channel;

const UNARY: &str = "/suiyue.test.v1.EchoService/Unary";
/// Subjects whose calls are compared with their explanation.
const SUBJECTS: u32 = 1_000;

async fn city_and_province() -> anyhow::Result<Federation> {
    Federation::builder()
        .etcd()
        .node(Node::echo("city", GUANGZHOU))
        .node(Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]))
        .start()
        .await
}

fn subject(index: u32) -> [u8; 16] {
    (u128::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_be_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn call(connection: &Connection, subject: &[u8]) -> anyhow::Result<Answer> {
    let message = EchoRequest { region: GUANGZHOU, ..Default::default() };
    let request = request(UNARY, &[("suiyue-subject", &hex(subject))]);
    let answer = connection.call(request, framed(&message)).await?;
    ensure!(answer.code() == Some(tonic::Code::Ok), "{answer:?}");
    Ok(answer)
}

async fn explain(
    operator: &mut OperatorServiceClient<Channel>,
    plan: u64,
    subject: &[u8],
    what_if: &[Change],
) -> anyhow::Result<ExplainRouteResponse> {
    let what_if = what_if.iter().map(|change| WhatIf { change: Some(change.clone()) });
    let asked = ExplainRouteRequest {
        region: GUANGZHOU,
        class: Class::Scan.into(),
        subject: Bytes::copy_from_slice(subject),
        plan,
        what_if: what_if.collect(),
    };
    Ok(operator.explain_route(asked).await?.into_inner())
}

#[tokio::test]
async fn every_first_attempt_is_as_explained() -> anyhow::Result<()> {
    let federation = city_and_province().await?;
    let gateway = federation.gateway();
    let revision = set(gateway, weighted(&[("city", 50.0), ("province", 50.0)]), 0).await??.policy_revision;
    in_force(gateway, revision).await?;
    let connection = Connection::open(gateway.data).await?;
    let mut operator = gateway.operator().await?;
    let mut served = BTreeMap::<String, u32>::new();
    for index in 0..SUBJECTS {
        let subject = subject(index);
        let answer = call(&connection, &subject).await?;
        let told = |name: &http::HeaderName| answer.meta(name).context("the answer says it");
        assert_eq!(answer.attempt(), 1, "{answer:?}");
        let explained = explain(&mut operator, told(&metadata::PLAN)?.parse()?, &subject, &[]).await?;
        let pick = explained.pick.context("a pick")?;
        let happened = (told(&metadata::SERVED_BY)?, told(&metadata::TIER)?, told(&metadata::REASON)?);
        assert_eq!((pick.node.clone(), pick.tier.to_string(), pick.reason), happened, "subject {index}");
        assert_eq!(explained.subject_node, pick.node);
        *served.entry(pick.node).or_default() += 1;
    }
    println!("{SUBJECTS} subjects, all as explained: {served:?}");
    // Half of 1,000 coins: five standard deviations are 79.
    let city = served.get("city").copied().unwrap_or_default();
    assert!((SUBJECTS / 2 - 79..=SUBJECTS / 2 + 79).contains(&city), "{served:?}");
    Ok(())
}

#[tokio::test]
async fn supposing_changes_nothing() -> anyhow::Result<()> {
    let federation = city_and_province().await?;
    let gateway = federation.gateway();
    let connection = Connection::open(gateway.data).await?;
    let mut operator = gateway.operator().await?;
    let plan = explain(&mut operator, 0, &[], &[]).await?.table.context("a table")?.plan;
    let keys = gateway.dump().await?;
    for (change, reason) in
        [(Change::NodeDown("city".to_owned()), "unhealthy"), (Change::Drain("city".to_owned()), "drained")]
    {
        let answer = explain(&mut operator, 0, &subject(7), &[change]).await?;
        let supposed = answer.supposed.context("supposed")?;
        assert_eq!((answer.candidates[0].share, supposed.candidates[0].share), (1.0, 0.0));
        assert_eq!(supposed.candidates[0].reason, reason);
        assert_eq!(supposed.candidates[1].share, 1.0);
        let picks = (answer.pick.context("a pick")?.node, supposed.pick.context("a pick")?.node);
        assert_eq!(picks, ("city".to_owned(), "province".to_owned()));
        // Calls go where they went, by the plan they went by.
        let served = call(&connection, &subject(7)).await?;
        assert_eq!(served.meta(&metadata::SERVED_BY).as_deref(), Some("city"));
        assert_eq!(served.meta(&metadata::PLAN), Some(plan.to_string()));
    }
    let after = explain(&mut operator, 0, &[], &[]).await?;
    assert_eq!((after.table.context("a table")?.plan, after.supposed), (plan, None));
    assert_eq!(gateway.dump().await?, keys);
    Ok(())
}

#[tokio::test]
async fn an_older_plan_is_explained_as_it_was() -> anyhow::Result<()> {
    let federation = city_and_province().await?;
    let gateway = federation.gateway();
    let mut operator = gateway.operator().await?;
    let before = explain(&mut operator, 0, &subject(1), &[]).await?;
    let plan = before.table.as_ref().context("a table")?.plan;
    let revision = set(gateway, weighted(&[("province", 1.0)]), 0).await??.policy_revision;
    in_force(gateway, revision).await?;
    let now = explain(&mut operator, 0, &subject(1), &[]).await?;
    assert_eq!(now.pick.context("a pick")?.node, "province");
    let old = explain(&mut operator, plan, &subject(1), &[]).await?;
    assert_eq!((&old.candidates, &old.pick), (&before.candidates, &before.pick));
    assert_eq!(old.table.context("a table")?.plan, plan);
    // What is supposed of an older plan starts from its own inputs.
    let drained = explain(&mut operator, plan, &subject(1), &[Change::Drain("province".to_owned())]).await?;
    assert_eq!(drained.supposed.context("supposed")?.candidates[0].share, 1.0);
    let asked = ExplainRouteRequest {
        region: GUANGZHOU,
        class: Class::Scan.into(),
        plan: plan + 1_000_000,
        ..Default::default()
    };
    let refused = operator.explain_route(asked).await.err().context("refused")?;
    assert_eq!(Reason::of(&refused), Some(Reason::PlanNotKept));
    Ok(())
}

#[tokio::test]
async fn the_verb_shows_now_and_then_side_by_side() -> anyhow::Result<()> {
    let federation = city_and_province().await?;
    let control = federation.gateway().control.to_string();
    let subject = hex(&subject(3));
    let explain = ["route", "explain", "--region", "440100", "--subject", &subject, "--gateway", &control];
    let table = suiyue(&explain).await?;
    for word in
        ["base", "shifted", "clamped", "share", "rule", "this subject's calls go to city (tier 0, primary)"]
    {
        ensure!(table.contains(word), "{word} is not in\n{table}");
    }
    let dir = tempfile::tempdir()?;
    let shift = dir.path().join("shift.toml");
    fs::write(&shift, "region = 440100\nfrom = \"city\"\npercent = 100\n[[to]]\ntarget = \"province\"\n")?;
    let shift = shift.display().to_string();
    for (change, node) in [("node-down=city", "province"), ("drain=province", "city"), (&shift, "province")] {
        let supposing = [&explain[..], &["--what-if", change]].concat();
        let table = suiyue(&supposing).await?;
        ensure!(table.contains("now: ") && table.contains(&format!("if {change}: ")), "{table}");
        let document = json(&supposing).await?;
        assert_eq!(document["what_if"][0], change);
        assert_eq!(document["pick"]["node"], "city", "{document:#}");
        assert_eq!(document["supposed"]["pick"]["node"], node, "{document:#}");
        for field in ["base_share", "shifted_share", "clamped_share", "share", "rule", "reason", "health"] {
            ensure!(!document["supposed"]["candidates"][0][field].is_null(), "{field}: {document:#}");
        }
    }
    fs::write(&shift, "region = 440100\nfrom = \"city\"\npercent = 101\n[[to]]\ntarget = \"province\"\n")?;
    for (change, place) in [("drain=nobody", "--what-if drain=nobody"), (&shift, &format!("{shift}:3: "))] {
        let refused = run(&[&explain[..], &["--what-if", change]].concat()).await?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(2) && said.contains(place), "{said}");
    }
    let gone = run(&[&explain[..], &["--plan", "999999"]].concat()).await?;
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    ensure!(gone.status.code() == Some(1) && said.contains("PLAN_NOT_KEPT"), "{said}");
    Ok(())
}

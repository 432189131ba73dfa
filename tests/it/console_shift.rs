//! Does the web console show what is, and move calls as the command line does?

use crate::console::{federation, inside, refused};
use anyhow::{Context as _, ensure};
use suiyue_tests::{
    browser::{Browser, Page, query},
    eventually::eventually,
    federation::Federation,
    load::{Mix, Wish},
    node::Node,
    process::Signal,
    region::{GUANGDONG, GUANGZHOU, XIAN},
};

/// 10 points a second of Suikang's calls to Yuekang.
const ORDER: &[(&str, &str)] = &[
    ("region", "440100"),
    ("from", "suikang"),
    ("to", "yuekang"),
    ("percent", "30"),
    ("step", "10"),
    ("every_s", "2"),
    ("minutes", "60"),
    ("reason", "suikang is slow"),
];

/// The order with other values.
pub(crate) fn order<'a>(changes: &[(&'a str, &'a str)]) -> String {
    let kept = ORDER.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    query(&kept.chain(changes).copied().collect::<Vec<_>>())
}

/// A plan, as the preview's form carries it.
pub(crate) async fn plan(browser: &mut Browser, changes: &[(&str, &str)]) -> anyhow::Result<String> {
    let page = browser.get(&format!("/console/shift/preview?{}", order(changes))).await?;
    let plan = page.field("plan").with_context(|| format!("no plan in {}", page.text))?;
    Ok(plan.to_owned())
}

#[tokio::test]
async fn a_shift_is_planned_applied_watched_held_and_cancelled() -> anyhow::Result<()> {
    let federation = federation(|builder| builder).await?;
    let gateway = federation.gateway();
    let mut li = inside(gateway, &["--actor", "li"]).await?;
    let page = li.get(&format!("/console/shift?{}", order(&[]))).await?;
    ensure!(page.text.contains("30 % of suikang's share after 4 s"), "{}", page.text);
    let plan = plan(&mut li, &[]).await?;
    let mut events = li.listen("/console/events?view=shift").await?;
    events.until("No shift runs").await?;
    let applied = li.send("/console/shift/apply", &[("plan", &plan)]).await?;
    ensure!(applied.header("location") == "/console/shift?done=applied#shifts", "{applied:?}");
    // It grows on the page that is open, and stands on the federation's page.
    events.until("suikang → yuekang: ramping, 10 %").await?;
    let seen = li.get("/console").await?;
    ensure!(seen.text.contains("suikang → yuekang") && seen.text.contains("⇄"), "{}", seen.text);
    let page = li.get("/console/shift").await?;
    let id = page.field("shift").context("the shift's id")?.to_owned();
    let change = async |browser: &mut Browser, what: &str| {
        let reason = ("reason", "the second act");
        browser
            .send("/console/shift/change", &[("shift", &id), ("change", what), ("minutes", "30"), reason])
            .await
    };
    for (what, shown) in [
        ("hold", "suikang → yuekang: held"),
        ("resume", "suikang → yuekang: active"),
        ("extend", "begins to walk back in 29 min"),
        ("cancel", "suikang → yuekang: walking back"),
    ] {
        let done = change(&mut li, what).await?;
        ensure!(
            done.header("location") == format!("/console/shift?done={what}#shifts"),
            "{what}: {}",
            done.text
        );
        let card = events.until(shown).await?;
        ensure!(card.contains("li: “suikang is slow”"), "{card}");
    }
    refused(&change(&mut li, "extend").await?, 400, "SHIFT_INVALID", &["ttl_s"]);
    let back = change(&mut li, "rollback").await?;
    ensure!(back.status == 303 || back.text.contains("SHIFT_NOT_FOUND"), "{}", back.text);
    let audit = eventually("all of it in the audit", async || {
        let page = li.get("/console/history").await?;
        ensure!(page.text.matches("<code>ChangeShift</code>").count() >= 4, "{}", page.text);
        Ok(page.text)
    })
    .await?;
    ensure!(audit.contains("<code>ApplyShift</code>") && audit.contains("“suikang is slow”"), "{audit}");
    ensure!(audit.contains("“the second act”") && audit.contains("linked without a break"), "{audit}");
    Ok(())
}

#[tokio::test]
async fn another_person_approves_the_very_plan_and_nobody_their_own() -> anyhow::Result<()> {
    let federation = federation(|builder| builder.two_person_above(0.2)).await?;
    let gateway = federation.gateway();
    let mut li = inside(gateway, &["--actor", "li"]).await?;
    let mut wang = inside(gateway, &["--actor", "wang"]).await?;
    let page = li.get(&format!("/console/shift?{}", order(&[]))).await?;
    ensure!(page.text.contains("data-verdict=\"approval\""), "{}", page.text);
    let plan = page.field("plan").context("a plan")?.to_owned();
    let reason = ("reason", "seen with li");
    refused(&li.send("/console/shift/apply", &[("plan", &plan)]).await?, 409, "APPROVAL_NEEDED", &["0.30"]);
    let own = li.send("/console/shift/approve", &[("plan", &plan), reason]).await?;
    ensure!(own.status == 303, "{}", own.text);
    refused(&li.send("/console/shift/apply", &[("plan", &plan)]).await?, 403, "APPROVAL_OWN", &[]);
    let handed = wang.get(&format!("/console/shift/plan?p={plan}")).await?;
    ensure!(
        handed.text.contains("“suikang is slow”") && handed.text.contains("id=\"approve\""),
        "{}",
        handed.text
    );
    let silent = wang.send("/console/shift/approve", &[("plan", &plan), ("reason", " ")]).await?;
    refused(&silent, 400, "CONSOLE_FORM_INVALID", &["field = reason"]);
    let approved = wang.send("/console/shift/approve", &[("plan", &plan), reason]).await?;
    ensure!(approved.header("location").contains("done=approved"), "{}", approved.text);
    let applied = li.send("/console/shift/apply", &[("plan", &plan)]).await?;
    ensure!(applied.status == 303, "{}", applied.text);
    // What it was made from has changed by itself: the plan is stale, and names the key.
    let stale = eventually("the gateway has read the shift", async || {
        let page = wang.get(&format!("/console/shift/plan?p={plan}")).await?;
        ensure!(page.status == 409, "{}", page.text);
        Ok(page)
    })
    .await?;
    refused(&stale, 409, "PLAN_STALE", &["shifts/active/440100/suikang"]);
    ensure!(stale.field("plan").is_none(), "a stale plan is offered");
    Ok(())
}

#[tokio::test]
async fn each_bad_input_is_refused_with_its_reason_and_its_field() -> anyhow::Result<()> {
    let federation = federation(|builder| builder).await?;
    let gateway = federation.gateway();
    let mut li = inside(gateway, &[]).await?;
    for (name, value, status, reason, field) in [
        ("percent", "101", 400, "SHIFT_INVALID", "percent"),
        ("percent", "NaN", 400, "SHIFT_INVALID", "percent"),
        ("percent", "0", 400, "SHIFT_INVALID", "percent"),
        ("percent", "lots", 400, "CONSOLE_FORM_INVALID", "percent"),
        ("region", "440199", 404, "REGION_UNKNOWN", ""),
        ("region", "gz", 400, "CONSOLE_FORM_INVALID", "region"),
        ("from", "nobody", 400, "SHIFT_INVALID", "from"),
        ("to", "nobody", 400, "SHIFT_INVALID", "to[0].target"),
        ("to", "suikang", 400, "SHIFT_INVALID", "to[0]"),
        ("step", "0", 400, "SHIFT_INVALID", "step"),
        ("every_s", "3601", 400, "SHIFT_INVALID", "every_s"),
        ("minutes", "4321", 400, "SHIFT_INVALID", "ttl_s"),
        ("minutes", "0", 400, "SHIFT_INVALID", "ttl_s"),
        ("max_utilization", "101", 400, "SHIFT_INVALID", "max_utilization"),
        ("error_delta", "101", 400, "SHIFT_INVALID", "error_delta"),
        ("p99_factor", "0.5", 400, "SHIFT_INVALID", "p99_factor"),
        ("on_breach", "panic", 400, "CONSOLE_FORM_INVALID", "on_breach"),
        ("class", "vip", 400, "CONSOLE_FORM_INVALID", "class"),
        ("at_rps", "-1", 400, "SHIFT_INVALID", "at_rps"),
        ("weight-yuekang", "0", 400, "SHIFT_INVALID", "weight"),
    ] {
        let page = li.get(&format!("/console/shift/preview?{}", order(&[(name, value)]))).await?;
        refused(&page, status, reason, &[field]);
        println!("{name} = {value}: {status} {reason}");
    }
    let long = "x".repeat(501);
    let page = li.get(&format!("/console/shift/preview?{}", order(&[("reason", &long)]))).await?;
    refused(&page, 400, "SHIFT_INVALID", &["reason"]);
    let plan = plan(&mut li, &[("reason", "")]).await?;
    let page = li.send("/console/shift/apply", &[("plan", &plan)]).await?;
    refused(&page, 400, "CONSOLE_FORM_INVALID", &["field = reason"]);
    for plan in ["", "00", "xyz"] {
        let page = li.send("/console/shift/apply", &[("plan", plan)]).await?;
        refused(&page, 400, "CONSOLE_FORM_INVALID", &["field = plan"]);
        assert_eq!(li.get(&format!("/console/shift/plan?p={plan}")).await?.status, 400);
    }
    Ok(())
}

#[tokio::test]
async fn changes_and_addresses_that_make_no_sense_are_refused() -> anyhow::Result<()> {
    let federation = federation(|builder| builder).await?;
    let mut li = inside(federation.gateway(), &[]).await?;
    li.get("/console/shift").await?;
    let because = ("reason", "because");
    for (fields, status, reason, field) in [
        ([("shift", "nothing"), ("change", "hold"), because], 404, "SHIFT_NOT_FOUND", "nothing"),
        ([("shift", "nothing"), ("change", "explode"), because], 400, "CONSOLE_FORM_INVALID", "change"),
        ([("shift", "nothing"), ("change", "extend"), because], 400, "CONSOLE_FORM_INVALID", "minutes"),
        ([("shift", "nothing"), ("change", "hold"), ("reason", "")], 400, "CONSOLE_FORM_INVALID", "reason"),
    ] {
        refused(&li.send("/console/shift/change", &fields).await?, status, reason, &[field]);
    }
    for (path, status, reason) in [
        ("/console?region=1", 400, "CONSOLE_FORM_INVALID"),
        ("/console/history?region=440100&class=vip", 400, "CONSOLE_FORM_INVALID"),
        ("/console/history?region=440100&class=scan&plan=x", 400, "CONSOLE_FORM_INVALID"),
        ("/console/history?region=440199&class=scan", 404, "REGION_UNKNOWN"),
        ("/console/events?view=everything", 404, "CONSOLE_NO_PAGE"),
        ("/console/nowhere", 404, "CONSOLE_NO_PAGE"),
        ("/console/shift/apply", 404, "CONSOLE_NO_PAGE"),
    ] {
        let page = li.get(path).await?;
        refused(&page, status, reason, &[]);
    }
    Ok(())
}

#[tokio::test]
async fn the_worst_region_comes_first_with_its_cause() -> anyhow::Result<()> {
    let mut federation = Federation::builder()
        .node(Node::echo("suikang", GUANGZHOU))
        .node(Node::echo("chengma", XIAN))
        .start()
        .await?;
    let mut browser = inside(federation.gateway(), &[]).await?;
    let page = browser.get("/console").await?;
    let at = |page: &Page, code: u32| page.text.find(&format!("id=\"r{code}\""));
    ensure!(at(&page, GUANGZHOU) < at(&page, XIAN), "by code while both are fine: {}", page.text);
    let mut events = browser.listen("/console/events?view=federation").await?;
    events.until("All regions are fine").await?;
    federation.node("chengma")?.process.kill()?;
    events.until("down: Xi'an").await?;
    let page = browser.get("/console").await?;
    ensure!(at(&page, XIAN) < at(&page, GUANGZHOU), "{}", page.text);
    ensure!(page.text.contains("chengma: nobody is healthy"), "the worst is open: {}", page.text);
    Ok(())
}

#[tokio::test]
async fn all_gateways_count_and_one_that_is_silent_is_named() -> anyhow::Result<()> {
    let federation = Federation::builder()
        .gateways(2)
        .node(Node::echo("suikang", GUANGZHOU).rps_max(400))
        .node(Node::echo("yuekang", GUANGDONG).scopes(&[GUANGZHOU]).rps_max(60))
        .start()
        .await?;
    let [first, second] = &federation.gateways[..] else { anyhow::bail!("two gateways") };
    let load = Wish::new(GUANGZHOU, 10, Mix::Replayable).per_second(100).start(&[second.data]);
    let mut li = inside(first, &["--actor", "li"]).await?;
    // All calls come to the other gateway, and this one knows it.
    eventually("the use of suikang", async || {
        let page = li.get("/console?region=440100").await?;
        let card = page.text.split_once("id=\"n-suikang\"").context("a card")?.1;
        let used = card.split("<strong>").nth(2).and_then(|rest| rest.split(" %").next()).context("a use")?;
        ensure!(used.parse::<f64>()? > 15.0, "{used} %");
        Ok(())
    })
    .await?;
    let much = order(&[("percent", "100")]);
    let page = li.get(&format!("/console/shift/preview?{much}")).await?;
    ensure!(page.text.contains("data-verdict=\"refused\"") && page.text.contains("0.80"), "{}", page.text);
    let plan = page.field("plan").context("a plan")?.to_owned();
    let refusal = li.send("/console/shift/apply", &[("plan", &plan)]).await?;
    refused(&refusal, 409, "SHIFT_REFUSED", &["guard = yuekang would carry", "value = 1."]);
    let forced = li.send("/console/shift/apply", &[("plan", &plan), ("force", "1")]).await?;
    refused(&forced, 409, "APPROVAL_NEEDED", &[]);
    second.process.signal(Signal::STOP)?;
    let silent = li.get(&format!("/console/shift/preview?{}", order(&[]))).await;
    let without = li.get(&format!("/console/shift/preview?{}", order(&[("without", "gw-2")]))).await;
    let named = eventually("the silent gateway is named", async || {
        let page = li.get("/console").await?;
        ensure!(page.text.contains("data-alarm=\"gateway_silent\""), "{}", page.text);
        Ok(())
    })
    .await;
    second.process.signal(Signal::CONT)?;
    named?;
    refused(&silent?, 409, "GATEWAY_SILENT", &["gw-2"]);
    let without = without?;
    ensure!(without.text.contains("data-verdict=\"fine\""), "{}", without.text);
    drop(load.stop().await?);
    Ok(())
}

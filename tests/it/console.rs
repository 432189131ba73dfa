//! Who gets into the web console, and can nobody do more there than at the command line?

use crate::{
    cli::{json, run},
    console_shift::{order, plan},
    identity::Scene,
};
use anyhow::{Context as _, ensure};
use suiyue_proto::{
    identity::{Identity, Usage},
    v1::MintConsoleTokenRequest,
};
use suiyue_tests::{
    browser::{Browser, Page},
    eventually::eventually,
    federation::Federation,
    gateway::Gateway,
    node::Node,
    process::{Process, Signal},
    programs,
    region::{GUANGDONG, GUANGZHOU},
    trust::FEDERATION,
};

pub(crate) async fn federation(
    adapt: fn(suiyue_tests::gateway::Builder) -> suiyue_tests::gateway::Builder,
) -> anyhow::Result<Federation> {
    Federation::builder()
        .configure(adapt)
        .node(Node::echo("suikang", GUANGZHOU))
        .node(Node::echo("yuekang", GUANGDONG).scopes(&[GUANGZHOU]).rps_max(1_000))
        .start()
        .await
}

/// The token that `suiyue console token` prints.
async fn token(gateway: &Gateway, flags: &[&str]) -> anyhow::Result<String> {
    let control = gateway.control.to_string();
    let told = json(&[&["console", "token", "--gateway", &control], flags].concat()).await?;
    let url = told["url"].as_str().context("a url")?;
    let begin = format!("http://{}/console/sign-in#", gateway.admin);
    Ok(url.strip_prefix(&begin).with_context(|| url.to_owned())?.to_owned())
}

/// Somebody who has signed in, in English.
pub(crate) async fn inside(gateway: &Gateway, flags: &[&str]) -> anyhow::Result<Browser> {
    let mut browser = Browser::at(gateway.admin);
    browser.cookies.push(("suiyue_lang".to_owned(), "en".to_owned()));
    let page = browser.post("/console/sign-in", &[("token", &token(gateway, flags).await?)], &[]).await?;
    ensure!(page.status == 303 && page.header("location") == "/console", "{page:?}");
    Ok(browser)
}

#[track_caller]
pub(crate) fn refused(page: &Page, status: u16, reason: &str, words: &[&str]) {
    assert_eq!(page.status, status, "{}", page.text);
    assert!(page.text.contains(&format!("data-reason=\"{reason}\"")), "{reason}: {}", page.text);
    for word in words {
        assert!(page.text.contains(word), "{word:?} is not in {}", page.text);
    }
}

#[tokio::test]
async fn a_token_opens_the_console_once_and_its_session_is_kept_from_scripts() -> anyhow::Result<()> {
    let federation = federation(|builder| builder).await?;
    let gateway = federation.gateway();
    let mut browser = Browser::at(gateway.admin);
    let out = browser.get("/console").await?;
    ensure!(out.status == 303 && out.header("location") == "/console/sign-in", "{out:?}");
    let door = browser.get_with("/console/sign-in", &[("accept-language", "en")]).await?;
    ensure!(door.status == 200 && door.text.contains("One-time token"), "{}", door.text);
    let token = token(gateway, &["--actor", "li"]).await?;
    let entered = browser.post("/console/sign-in", &[("token", &token)], &[]).await?;
    let cookie = entered.header("set-cookie").to_owned();
    ensure!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let page = browser.get("/console").await?;
    ensure!(page.status == 200 && page.text.contains("suikang") && page.text.contains("li"), "{}", page.text);
    // Once is once, also for whoever reads the address over a shoulder.
    let mut other = Browser::at(gateway.admin);
    let again = other.post("/console/sign-in", &[("token", &token)], &[]).await?;
    refused(&again, 403, "CONSOLE_TOKEN_INVALID", &[]);
    refused(&other.post("/console/sign-in", &[("token", "")], &[]).await?, 403, "CONSOLE_TOKEN_INVALID", &[]);
    refused(
        &other.post("/console/sign-in", &[], &[("content-type", "x")]).await?,
        403,
        "CONSOLE_TOKEN_INVALID",
        &[],
    );
    // Who leaves is out, with the cookie as well.
    let known = browser.cookies.clone();
    let left = browser.send("/console/sign-out", &[]).await?;
    ensure!(left.header("location") == "/console/sign-in", "{left:?}");
    browser.cookies = known;
    let out = browser.get("/console").await?;
    ensure!(out.header("location") == "/console/sign-in?ended", "{out:?}");
    Ok(())
}

#[tokio::test]
async fn every_answer_forbids_what_is_not_ours_and_forms_of_others_are_refused() -> anyhow::Result<()> {
    let federation = federation(|builder| builder).await?;
    let gateway = federation.gateway();
    let mut browser = inside(gateway, &[]).await?;
    let pages = ["/console", "/console/shift", "/console/history", "/console/sign-in", "/console/nowhere"];
    let assets = ["/console/assets/console.css", "/console/assets/console.js", "/console/session"];
    for path in pages.iter().chain(&assets) {
        let page = browser.get(path).await?;
        let policy = page.header("content-security-policy");
        for rule in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]
        {
            ensure!(policy.contains(rule), "{path}: {policy}");
        }
        ensure!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(page.header("cache-control"), "no-store", "{path}");
        ensure!(!page.text.contains("<script>") && !page.text.contains("style=\""), "{path} has inline code");
    }
    let plan = plan(&mut browser, &[]).await?;
    let ours = browser.csrf.clone();
    let mine: &[(&str, &str)] = &[("csrf", &ours), ("plan", &plan)];
    let theirs = inside(gateway, &["--actor", "mallory"]).await?.csrf;
    let without: &[(&str, &str)] = &[("plan", &plan)];
    let forged: &[(&str, &str)] = &[("csrf", &theirs), ("plan", &plan)];
    for fields in [without, forged] {
        let page = browser.post("/console/shift/apply", fields, &[]).await?;
        refused(&page, 403, "CONSOLE_FOREIGN_FORM", &[]);
    }
    for header in [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        let page = browser.post("/console/shift/apply", mine, &[header]).await?;
        refused(&page, 403, "CONSOLE_FOREIGN_FORM", &[]);
        let page = browser.post("/console/sign-in", &[("token", "x")], &[header]).await?;
        refused(&page, 403, "CONSOLE_FOREIGN_FORM", &[]);
    }
    let json = browser.post("/console/shift/apply", mine, &[("sec-fetch-site", "same-origin")]).await?;
    ensure!(json.status == 303, "the same form of ours: {}", json.text);
    Ok(())
}

#[tokio::test]
async fn a_viewer_sees_everything_and_changes_nothing() -> anyhow::Result<()> {
    let federation = federation(|builder| builder).await?;
    let gateway = federation.gateway();
    let mut viewer = inside(gateway, &["--role", "viewer", "--actor", "wang"]).await?;
    let page = viewer.get(&format!("/console/shift?{}", order(&[]))).await?;
    ensure!(
        page.text.contains("data-verdict=\"fine\"") && page.text.contains("You are a viewer"),
        "{}",
        page.text
    );
    ensure!(page.field("plan").is_none(), "a viewer is offered to apply");
    let plan = plan(&mut inside(gateway, &[]).await?, &[]).await?;
    let tried = viewer.send("/console/shift/apply", &[("plan", &plan)]).await?;
    refused(&tried, 403, "ROLE_INSUFFICIENT", &["operator"]);
    let reason = ("reason", "because");
    let tried = viewer.send("/console/shift/approve", &[("plan", &plan), reason]).await?;
    refused(&tried, 403, "ROLE_INSUFFICIENT", &[]);
    for change in ["hold", "resume", "cancel", "rollback"] {
        let tried =
            viewer.send("/console/shift/change", &[("shift", "x"), ("change", change), reason]).await?;
        refused(&tried, 403, "ROLE_INSUFFICIENT", &[]);
    }
    let control = gateway.control.to_string();
    let more = run(&["console", "token", "--role", "approver", "--gateway", &control]).await?;
    let said = String::from_utf8_lossy(&more.stderr).into_owned();
    ensure!(more.status.code() == Some(3) && said.contains("ROLE_INSUFFICIENT"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_session_ends_and_says_so_to_pages_and_streams() -> anyhow::Result<()> {
    let federation = federation(|builder| builder.toml("[console]\nsession_s = 2")).await?;
    let mut browser = inside(federation.gateway(), &[]).await?;
    let mut events = browser.listen("/console/events?view=federation").await?;
    events.until("event: regions").await?;
    events.until("event: ended").await?;
    let page = browser.get("/console").await?;
    ensure!(page.status == 303 && page.header("location") == "/console/sign-in?ended", "{page:?}");
    assert_eq!(browser.get("/console/session").await?.status, 401);
    assert_eq!(browser.get("/console/shift/preview").await?.status, 401);
    refused(&browser.get("/console/events?view=history").await?, 401, "CONSOLE_SIGNED_OUT", &[]);
    let door = browser.get("/console/sign-in?ended").await?;
    refused(&door, 200, "CONSOLE_SIGNED_OUT", &["Sign in"]);
    Ok(())
}

#[tokio::test]
async fn streams_of_one_session_are_bounded() -> anyhow::Result<()> {
    let federation = federation(|builder| builder).await?;
    let mut browser = inside(federation.gateway(), &[]).await?;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = browser.listen("/console/events?view=shift").await?;
        stream.until("event: shifts").await?;
        streams.push(stream);
    }
    let page = browser.get("/console/events?view=shift").await?;
    refused(&page, 429, "CONSOLE_TOO_MANY_PAGES", &[]);
    drop(streams);
    eventually("a place is free again", async || {
        browser.listen("/console/events?view=shift").await?.until("event: shifts").await
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn an_operators_certificate_opens_the_console_and_nobody_elses_does() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let (desk, admin) = (&scene.desk, scene.gateway.admin);
    let mut li = Browser::certified(admin, &desk.operator()?);
    let entered = li.get("/console/sign-in").await?;
    ensure!(entered.header("location") == "/console", "{entered:?}");
    ensure!(entered.header("set-cookie").contains("Secure"), "{entered:?}");
    let page = li.get("/console").await?;
    ensure!(page.text.contains("li") && page.text.contains("suikang"), "{}", page.text);
    // The cookie is of no use without the certificate, or with another one.
    let mut thief = Browser::at(admin);
    thief.cookies = li.cookies.clone();
    let out = thief.get("/console").await?;
    ensure!(out.header("location") == "/console/sign-in?ended", "{out:?}");
    let client_only = |order: &mut suiyue_proto::identity::issue::Order| order.uses = vec![Usage::Client];
    let wang = desk.issue("wang", &format!("spiffe://{FEDERATION}/operator/viewer/wang"), client_only)?;
    let mut wang = Browser::certified(admin, &Identity::open(wang)?);
    wang.cookies = li.cookies.clone();
    let out = wang.get("/console").await?;
    ensure!(out.header("location") == "/console/sign-in?ended", "{out:?}");
    // A node is let into the control port, and not in here; scrapes go on in the clear.
    let node =
        Browser::certified(admin, &Identity::open(desk.files("suikang"))?).get("/console/sign-in").await;
    ensure!(node.is_err(), "{node:?}");
    ensure!(scene.gateway.admin("/metrics").await?.0 == 200, "the metrics");
    Ok(())
}

#[tokio::test]
async fn a_session_ends_with_the_certificate_that_it_comes_from() -> anyhow::Result<()> {
    let scene = Scene::start().await?;
    let (desk, gateway) = (&scene.desk, &scene.gateway);
    let mut certified = Browser::certified(gateway.admin, &desk.operator()?);
    certified.get("/console/sign-in").await?;
    // The other way in: a token that the certificate made, on the gateway's machine.
    let minted = gateway.operator().await?.mint_console_token(MintConsoleTokenRequest::default()).await?;
    let mut tokened = Browser::at(gateway.admin);
    tokened.post("/console/sign-in", &[("token", &minted.into_inner().token)], &[]).await?;
    let page = tokened.get("/console/shift").await?;
    ensure!(page.status == 200, "{page:?}");
    // Whom a certificate names says why, in the console as well.
    let silent =
        tokened.send("/console/shift/change", &[("shift", "x"), ("change", "hold"), ("reason", "")]).await?;
    refused(&silent, 400, "CONSOLE_FORM_INVALID", &["reason"]);
    let mut events = tokened.listen("/console/events?view=shift").await?;
    events.until("event: shifts").await?;
    let li = format!("spiffe://{FEDERATION}/operator/operator/li");
    // The answer may be lost: its connection is one of those that end.
    drop(desk.publish(gateway, desk.record(2, |trust| trust.revoked_ids = vec![li])).await);
    events.until("event: ended").await?;
    let out = tokened.get("/console").await?;
    ensure!(out.header("location") == "/console/sign-in?ended", "{out:?}");
    let shut = certified.get("/console").await;
    ensure!(shut.is_err(), "{shut:?}");
    Ok(())
}

#[tokio::test]
async fn a_page_speaks_the_browsers_language_until_another_is_chosen() -> anyhow::Result<()> {
    let federation = federation(|builder| builder).await?;
    let mut browser = Browser::at(federation.gateway().admin);
    for (accepted, tag) in [("en-GB,en;q=0.9", "en"), ("zh-TW", "zh-CN"), ("fr", "zh-CN")] {
        let page = browser.get_with("/console/sign-in", &[("accept-language", accepted)]).await?;
        ensure!(page.text.contains(&format!("<html lang=\"{tag}\"")), "{accepted}: {}", page.text);
    }
    let chosen = browser.get("/console/sign-in?ended&lang=en").await?;
    ensure!(chosen.status == 303 && chosen.header("location") == "/console/sign-in?ended", "{chosen:?}");
    let page = browser.get_with("/console/sign-in", &[("accept-language", "zh")]).await?;
    ensure!(page.text.contains("<html lang=\"en\""), "{}", page.text);
    let unknown = browser.get("/console/sign-in?lang=xx").await?;
    ensure!(unknown.status == 200, "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn the_demo_prints_an_address_that_opens_its_console() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = std::process::Command::new(programs::suiyue());
    command.args(["demo", "--hold", "--seconds", "10", "--rate", "50", "--holders", "100"]);
    let mut demo = Process::spawn("demo", &mut command, &dir.path().join("log"))?;
    let (address, token) = eventually("the demo invites", async || {
        demo.alive()?;
        let log = demo.log();
        let (_, rest) = log.split_once("web console, once: http://").context("no address yet")?;
        let url = rest.lines().next().filter(|_| rest.contains("\n")).context("half of a line")?;
        let (address, token) = url.split_once("/console/sign-in#").context("no token")?;
        Ok((address.parse()?, token.to_owned()))
    })
    .await?;
    let mut browser = Browser::at(address);
    let entered = browser.post("/console/sign-in", &[("token", &token)], &[]).await?;
    ensure!(entered.header("location") == "/console", "{}", entered.text);
    let page = browser.get("/console?region=440100").await?;
    ensure!(page.text.contains("suikang") && page.text.contains("yuekang"), "{}", page.text);
    demo.signal(Signal::INT)?;
    demo.ended().await?;
    Ok(())
}

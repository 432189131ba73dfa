//! Does an app get what its grant says, and nothing else, and does its token stay where it belongs?

use crate::cli::{json, run, suiyue};
use anyhow::{Context as _, ensure};
use std::{fs, path::Path, time::Instant};
use suiyue_proto::reason::Reason;
use suiyue_tests::{
    client::{Answer, Connection, framed, request},
    eventually::eventually,
    federation::Federation,
    gateway::{Builder, Gateway},
    node::Node,
    region::{GUANGDONG, GUANGZHOU, XIAN},
    v1::EchoRequest,
};

const UNARY: &str = "/suiyue.test.v1.EchoService/Unary";
const FAIL: &str = "/suiyue.test.v1.EchoService/Fail";
const SERVER_STREAM: &str = "/suiyue.test.v1.EchoService/ServerStream";

/// Guangzhou, its province, and another province's city, over a real etcd; everything is logged.
async fn federation(gateways: usize) -> anyhow::Result<Federation> {
    let strict = |builder: Builder| builder.no_anonymous().toml("[telemetry]\naccess_log = true");
    Federation::builder()
        .gateways(gateways)
        .configure(strict)
        .node(Node::echo("city", GUANGZHOU))
        .node(Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]))
        .node(Node::echo("xian", XIAN))
        .start()
        .await
}

/// Adds an app with further flags, and returns its token.
async fn add(gateway: &Gateway, app: &str, flags: &[&str]) -> anyhow::Result<String> {
    let control = gateway.control.to_string();
    let verb = ["app", "add", app, "--gateway", &control, "--reason", "for a test", "--actor", "tester"];
    let added = json(&[&verb[..], flags].concat()).await?;
    ensure!(added["written"] == true, "{added}");
    Ok(added["token"].as_str().unwrap_or_default().to_owned())
}

/// Calls a method about a region; `named`: the metadata name it, not the message alone.
async fn call(to: &Connection, path: &str, token: &str, region: u32, named: bool) -> anyhow::Result<Answer> {
    let (digits, value) = (region.to_string(), format!("Bearer {token}"));
    let mut headers = Vec::new();
    if !token.is_empty() {
        headers.push(("authorization", value.as_str()));
    }
    if named {
        headers.push(("suiyue-region", digits.as_str()));
    }
    let message = EchoRequest { region, call_id: "app".to_owned(), ..Default::default() };
    Ok(to.call(request(path, &headers), framed(&message)).await?)
}

/// Waits until a token is judged so at this gateway.
async fn judged(gateway: &Gateway, token: &str, reason: Option<Reason>) -> anyhow::Result<()> {
    let to = Connection::open(gateway.data).await?;
    eventually(&format!("{}: {reason:?}", gateway.id), async || {
        let answer = call(&to, UNARY, token, GUANGZHOU, true).await?;
        ensure!(answer.reason() == reason && answer.status().is_some(), "{answer:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_app_may_call_what_its_grant_says() -> anyhow::Result<()> {
    let federation = federation(2).await?;
    let [first, second] = &federation.gateways[..] else { anyhow::bail!("two gateways") };
    let to = Connection::open(second.data).await?;
    let refused = async |path: &str, token: &str, region, named, reason: Reason| {
        let answer = call(&to, path, token, region, named).await?;
        ensure!(
            answer.reason() == Some(reason) && answer.code() == Some(reason.code()),
            "{reason:?}: {answer:?}"
        );
        Ok(())
    };
    refused(UNARY, "", GUANGZHOU, true, Reason::AppRequired).await?;
    let flags = ["--method", &[UNARY, FAIL].join(","), "--class", "scan", "--region", "440000"];
    let token = add(first, "gate", &flags).await?;
    judged(second, &token, None).await?;
    // About the city and its province, however the region is named.
    for (region, named) in [(GUANGZHOU, true), (GUANGZHOU, false), (GUANGDONG, false)] {
        let answer = call(&to, UNARY, &token, region, named).await?;
        ensure!(answer.code() == Some(tonic::Code::Ok), "{answer:?}");
    }
    for named in [true, false] {
        refused(UNARY, &token, XIAN, named, Reason::AppRegionDenied).await?;
    }
    refused(SERVER_STREAM, &token, GUANGZHOU, true, Reason::AppMethodDenied).await?;
    refused(FAIL, &token, GUANGZHOU, true, Reason::AppClassDenied).await?;
    refused(UNARY, &format!("sya_{:064}", 1), GUANGZHOU, true, Reason::AppUnknown).await?;
    refused(UNARY, "no-token-of-ours", GUANGZHOU, true, Reason::AppUnknown).await?;
    // Streams: the region comes with the first message.
    let streams = ["--method", SERVER_STREAM, "--region", "610100"];
    let streaming = add(first, "streams", &streams).await?;
    judged(second, &streaming, Some(Reason::AppMethodDenied)).await?;
    let answer = call(&to, SERVER_STREAM, &streaming, XIAN, false).await?;
    ensure!(answer.code() == Some(tonic::Code::Ok), "{answer:?}");
    refused(SERVER_STREAM, &streaming, GUANGZHOU, false, Reason::AppRegionDenied).await?;
    // What the gateway answers itself needs no app.
    let health = call(&to, "/grpc.health.v1.Health/Check", "", GUANGZHOU, false).await?;
    ensure!(health.reason() != Some(Reason::AppRequired), "{health:?}");
    let control = second.control.to_string();
    let told = json(&["app", "describe", "gate", "--gateway", &control]).await?;
    let calls = &told["apps"][0]["calls"];
    ensure!(calls["ok"].as_u64() >= Some(4) && calls["denied"] == 4, "{told:#}");
    Ok(())
}

#[tokio::test]
async fn tokens_are_rotated_and_revoked() -> anyhow::Result<()> {
    let federation = federation(2).await?;
    let [first, second] = &federation.gateways[..] else { anyhow::bail!("two gateways") };
    let control = first.control.to_string();
    let flags = ["--method", UNARY, "--region", "*"];
    let old = add(first, "gate", &flags).await?;
    judged(second, &old, None).await?;
    let rotate = async |keep: &str| -> anyhow::Result<String> {
        let verb = ["app", "rotate", "gate", "--gateway", &control, "--keep-old-s", keep];
        Ok(json(&verb).await?["token"].as_str().context("a token")?.to_owned())
    };
    let new = rotate("3600").await?;
    judged(second, &new, None).await?;
    judged(second, &old, None).await?;
    let newer = rotate("2").await?;
    judged(second, &newer, None).await?;
    // The one before the last is out at once, the last one until its time.
    judged(second, &old, Some(Reason::AppUnknown)).await?;
    judged(second, &new, Some(Reason::AppUnknown)).await?;
    judged(second, &newer, None).await?;
    let dry = json(&["app", "revoke", "gate", "--gateway", &control, "--dry-run"]).await?;
    ensure!(dry["written"] == false, "{dry}");
    suiyue(&["app", "revoke", "gate", "--gateway", &control, "--reason", "leaked"]).await?;
    judged(second, &newer, Some(Reason::AppUnknown)).await?;
    let rotated = run(&["app", "rotate", "gate", "--gateway", &control]).await?;
    let said = String::from_utf8_lossy(&rotated.stderr).into_owned();
    ensure!(rotated.status.code() == Some(3) && said.contains("APP_REVOKED"), "{said}");
    let again = add(first, "gate", &[&flags[..], &["--replace"]].concat()).await?;
    judged(second, &again, None).await?;
    judged(second, &newer, Some(Reason::AppUnknown)).await
}

#[tokio::test]
async fn an_app_at_twenty_times_its_quota_hurts_only_itself() -> anyhow::Result<()> {
    let federation = federation(1).await?;
    let gateway = federation.gateway();
    let flags = ["--method", UNARY, "--region", "*", "--rps", "50"];
    let (loud, calm) = (add(gateway, "loud", &flags).await?, add(gateway, "calm", &flags).await?);
    judged(gateway, &loud, None).await?;
    judged(gateway, &calm, None).await?;
    // A quiet app may make two seconds' worth of calls at once: 100, of which one was made.
    let to = Connection::open(gateway.data).await?;
    let begin = Instant::now();
    let (mut ok, mut refused) = (0, 0);
    for n in 0..1_980 {
        let answer = call(&to, UNARY, &loud, GUANGZHOU, true).await?;
        match answer.reason() {
            None => ok += 1,
            Some(reason) => {
                ensure!(reason == Reason::QuotaExceeded, "{answer:?}");
                let pushback = answer.headers.get("grpc-retry-pushback-ms").context("a time to come back")?;
                let pushback: u64 = pushback.to_str()?.parse()?;
                ensure!((500..=5_000).contains(&pushback), "{answer:?}");
                refused += 1;
            }
        }
        if n % 20 == 0 {
            let answer = call(&to, UNARY, &calm, GUANGZHOU, true).await?;
            ensure!(answer.code() == Some(tonic::Code::Ok), "call {n} of the calm one: {answer:?}");
        }
    }
    let most = 101.0 + 50.0 * begin.elapsed().as_secs_f64();
    println!("{ok} of 1980 calls were let in within {:?}", begin.elapsed());
    ensure!(ok >= 98 && f64::from(ok) <= most && refused > 0, "{ok} let in, at most {most}");
    // In flight: one of two hanging calls.
    let hang = "/suiyue.test.v1.EchoService/Hang";
    let few = add(gateway, "few", &["--method", hang, "--region", "*", "--in-flight", "1"]).await?;
    judged(gateway, &few, Some(Reason::AppMethodDenied)).await?;
    let value = format!("Bearer {few}");
    let hanging = request(hang, &[("authorization", &value), ("suiyue-region", "440100")]);
    let message =
        framed(&EchoRequest { region: GUANGZHOU, call_id: "hang".to_owned(), ..Default::default() });
    let (_pending, mut body) = to.start(hanging).await?;
    body.send_data(message, true)?;
    let node = federation.nodes.iter().find(|node| node.name == "city").context("city")?;
    eventually("the call hangs", async || {
        ensure!(node.executions().unfinished() == 1);
        Ok(())
    })
    .await?;
    let answer = call(&to, hang, &few, GUANGZHOU, true).await?;
    ensure!(answer.reason() == Some(Reason::QuotaExceeded), "{answer:?}");
    Ok(())
}

/// Every file below a directory.
fn files(dir: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if !is_socket(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// A socket holds nothing that could be read.
fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs::symlink_metadata(path).is_ok_and(|entry| entry.file_type().is_socket())
}

fn holds(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

#[tokio::test]
async fn a_token_is_nowhere_but_in_the_call() -> anyhow::Result<()> {
    let mut federation = federation(1).await?;
    let gateway = federation.gateway();
    let control = gateway.control.to_string();
    let token = add(gateway, "gate", &["--method", UNARY, "--region", "440100"]).await?;
    judged(gateway, &token, None).await?;
    let to = Connection::open(gateway.data).await?;
    for (path, region) in [(UNARY, GUANGZHOU), (UNARY, XIAN), (FAIL, GUANGZHOU)] {
        call(&to, path, &token, region, true).await?;
    }
    let verb = ["app", "rotate", "gate", "--gateway", &control, "--reason", "planted"];
    let next = json(&verb).await?["token"].as_str().context("a token")?.to_owned();
    judged(gateway, &next, None).await?;
    let page = crate::trace::metrics(gateway).await?;
    ensure!(page.contains("suiyue_app_calls_total{app=\"gate\",outcome=\"ok\"}"), "{page}");
    let mut seen = vec![("metrics".to_owned(), page.into_bytes())];
    for verb in
        [&["app", "list"][..], &["app", "describe", "gate"], &["audit", "tail"], &["registry", "dump"]]
    {
        let told = suiyue(&[verb, &["-o", "json", "--gateway", &control]].concat()).await?;
        seen.push((verb.join(" "), told.into_bytes()));
    }
    // A file that is renamed meanwhile has to be read under its other name.
    let state = eventually("every file of the gateway is read", async || {
        let read = |path: std::path::PathBuf| Ok((path.display().to_string(), fs::read(path)?));
        files(gateway.dir())?.into_iter().map(read).collect::<anyhow::Result<Vec<_>>>()
    })
    .await?;
    ensure!(state.iter().any(|(path, _)| path.ends_with("state/audit/head")), "{:?}", state.len());
    seen.extend(state);
    for node in &federation.nodes {
        seen.push((node.name.clone(), node.process.log().into_bytes()));
    }
    let etcd = federation.etcd()?.ctl(&["get", "--prefix", "/", "-w", "fields"]).await?;
    ensure!(etcd.contains("apps/gate") && etcd.contains("audit/head"), "{etcd}");
    seen.push(("etcd".to_owned(), etcd.into_bytes()));
    for token in [&token, &next] {
        let digits = token.trim_start_matches("sya_");
        let found: Vec<_> =
            seen.iter().filter(|(_, text)| holds(text, &digits[..16])).map(|(what, _)| what).collect();
        ensure!(found.is_empty(), "a token stands in {found:?}");
    }
    Ok(())
}

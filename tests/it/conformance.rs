//! Does `suiyue node verify` pass who keeps the contract, and fail by name who does not?

use crate::{
    adapter::adapted,
    cli::{json, run},
};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use suiyue_node::{
    app,
    clock::Clock,
    config::{Config, Overrides},
    population,
};
use suiyue_proto::{
    region::Code,
    v1::{ShowCodeRequest, code_service_client::CodeServiceClient},
};
use suiyue_tests::{
    client,
    node::{self, Node},
    odd::{self, Odd},
    old_system::OldSystem,
    region::{GUANGDONG, GUANGZHOU},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// Outcome and text of every point.
struct Told(serde_json::Value);

impl Told {
    /// Runs the verb; it must end with code 0 when nothing failed, and with 1 otherwise.
    async fn of(address: SocketAddr, more: &[&str]) -> anyhow::Result<Self> {
        let address = address.to_string();
        let verify = ["node", "verify", &address, "-o", "json"];
        let output = run(&[&verify[..], more].concat()).await?;
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        let told: serde_json::Value =
            serde_json::from_str(&said).with_context(|| format!("no JSON: {said} {complaint}"))?;
        let told = Self(told);
        let code = i32::from(!told.failed().is_empty());
        ensure!(output.status.code() == Some(code), "{:?}: {}", output.status, told.0);
        Ok(told)
    }

    fn points(&self) -> impl Iterator<Item = &serde_json::Value> {
        self.0["points"].as_array().into_iter().flatten()
    }

    fn failed(&self) -> Vec<&str> {
        let failed = self.points().filter(|point| point["outcome"] == "failed");
        failed.filter_map(|point| point["name"].as_str()).collect()
    }

    fn point(&self, name: &str) -> anyhow::Result<&serde_json::Value> {
        self.points().find(|point| point["name"] == name).with_context(|| format!("no {name} in {}", self.0))
    }

    fn passed(&self) -> anyhow::Result<()> {
        ensure!(self.failed().is_empty(), "{:#}", self.0);
        Ok(())
    }
}

/// How fast a node is on a busy machine is tried by one test only.
const GENERATED: [&str; 4] = ["--region", "440100", "--scan-ms", "10000"];

#[tokio::test]
async fn our_node_keeps_the_contract_as_city_and_as_province() -> anyhow::Result<()> {
    let city = Node::codes("suikang", GUANGZHOU).start().await?;
    let told =
        Told::of(city.address, &[&GENERATED[..], &["--load", "200", "--load-step-s", "1"]].concat()).await?;
    told.passed()?;
    for name in ["health", "health 440100", "reflection", "show 440100 red", "verify 440100 yellow", "clock"]
    {
        assert_eq!(told.point(name)?["outcome"], "passed", "{name}");
    }
    assert_eq!(told.point("load 200")?["outcome"], "passed");
    let request = told.point("verify 440100 green")?["request"].as_str().context("a request")?;
    ensure!(request.starts_with("grpcurl -plaintext -d '{\"code\":\"SY1:440100:"), "{request}");
    let province = Node::codes("yuekang", GUANGDONG).scopes(&[GUANGZHOU]).start().await?;
    Told::of(province.address, &["--region", "440000,440100", "--scan-ms", "10000"]).await?.passed()
}

#[tokio::test]
async fn a_node_in_front_of_an_old_system_keeps_it_too() -> anyhow::Result<()> {
    let system = OldSystem::start(node::HOLDERS, node::SEED).await?;
    let adapted = adapted(&system, 2_000, "")?;
    let node = adapted.builder.start().await?;
    Told::of(node.address, &GENERATED).await?.passed()
}

fn holders(path: &Path, change: impl Fn(usize, &str) -> String) -> anyhow::Result<String> {
    let guangzhou = Code::new(GUANGZHOU).context("a region")?;
    let mut text = String::new();
    for index in 0..usize::try_from(node::HOLDERS)? {
        let holder = population::holder(guangzhou, index as u64, node::SEED);
        let (subject, level) = (population::hex(&holder.subject), population::word(holder.level));
        let level = change(index, level);
        text.push_str(&format!("{{\"region\":440100,\"subject\":\"{subject}\",\"level\":\"{level}\"}}\n"));
    }
    fs::write(path, text)?;
    Ok(path.display().to_string())
}

#[tokio::test]
async fn a_wrong_level_is_named() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    // The region knows its red ones; the node takes them for green.
    let wrong = holders(&dir.path().join("wrong.jsonl"), |_, level| level.replace("red", "green"))?;
    let right = holders(&dir.path().join("right.jsonl"), |_, level| level.to_owned())?;
    let node =
        Node::codes("suikang", GUANGZHOU).tables(&format!("[[holders]]\nfile = {wrong:?}")).start().await?;
    let told = Told::of(node.address, &["--holders", &right]).await?;
    assert_eq!(told.failed(), ["show 440100 red", "verify 440100 red", "status 440100 red"]);
    let point = told.point("verify 440100 red")?;
    assert_eq!(point["expected"], "DENY and the level red");
    assert_eq!(point["came"], "PASS, green");
    let table = run(&["node", "verify", &node.address.to_string(), "--holders", &right]).await?;
    let said = String::from_utf8_lossy(&table.stdout).into_owned();
    for words in ["FAILED verify 440100 red", "request   grpcurl -plaintext", "does not keep the contract"] {
        ensure!(said.contains(words), "{words:?} is not in {said}");
    }
    Ok(())
}

fn now_ms() -> anyhow::Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// A node in this process, with a clock that is off by so much. It stands still, which a run is too short
/// to notice.
async fn off_by(seconds: i64) -> anyhow::Result<(SocketAddr, CancellationToken)> {
    let (clock, _hand) = Clock::manual(now_ms()? + seconds * 1000);
    let text = "region = 440100\nname = \"suikang\"\n[[population]]\nregion = 440100\nholders = 1000\n";
    let config = Config::parse("test", text, &Overrides::default())?;
    let bound = app::bind_at(config, clock).await?;
    let (address, mut ready, end) = (bound.address(), bound.readiness(), CancellationToken::new());
    tokio::spawn(bound.run(end.clone()));
    ready.wait_for(|state| state.loaded).await?;
    Ok((address, end))
}

#[tokio::test]
async fn a_skewed_clock_is_named() -> anyhow::Result<()> {
    for seconds in [300, -300] {
        let (address, end) = off_by(seconds).await?;
        let told = Told::of(address, &GENERATED).await?;
        assert_eq!(told.failed(), ["clock"], "{:#}", told.0);
        let came = told.point("clock")?["came"].as_str().context("a text")?;
        let sign = if seconds > 0 { "29" } else { "-30" };
        ensure!(came.starts_with("skewed: ahead by ") && came.contains(sign), "{came}");
        end.cancel();
    }
    Ok(())
}

/// Carries bytes both ways, each piece a while later.
async fn far_away(node: SocketAddr, delay: Duration) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(node).await else { return };
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            tokio::spawn(late(near_in, far_out, delay));
            tokio::spawn(late(far_in, near_out, delay));
        }
    });
    Ok(address)
}

async fn late(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: Duration,
) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut piece).await {
        tokio::time::sleep(delay).await;
        if to.write_all(&piece[..n]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_slow_node_is_named() -> anyhow::Result<()> {
    let node = Node::codes("suikang", GUANGZHOU).start().await?;
    let far = far_away(node.address, Duration::from_millis(40)).await?;
    let told = Told::of(far, &["--region", "440100", "--scan-ms", "50", "--calls", "10"]).await?;
    assert_eq!(told.failed(), ["not slow"], "{:#}", told.0);
    let came = told.point("not slow")?["came"].as_str().context("a text")?;
    ensure!(came.starts_with("slow: p50 "), "{came}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_answers_unknown_while_it_is_empty_is_named() -> anyhow::Result<()> {
    let odd = Odd::start(odd::Ill::Empty).await?;
    let told = Told::of(odd.address, &GENERATED).await?;
    let failed = told.failed();
    ensure!(failed.contains(&"loaded 440100"), "{failed:?}");
    let came = told.point("loaded 440100")?["came"].as_str().context("a text")?;
    ensure!(came.contains("are unknown, while health says SERVING"), "{came}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_does_not_hear_of_deadlines_is_named() -> anyhow::Result<()> {
    let odd = Odd::start(odd::Ill::Deaf).await?;
    let told = Told::of(odd.address, &GENERATED).await?;
    ensure!(told.failed().contains(&"deadline"), "{:?}", told.failed());
    let came = told.point("deadline")?["came"].as_str().context("a text")?;
    ensure!(came.starts_with("OK after "), "{came}");
    Ok(())
}

#[tokio::test]
async fn a_node_without_holders_says_so_and_only_that_fails() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let empty = dir.path().join("empty.jsonl");
    fs::write(&empty, "")?;
    let node =
        Node::codes("suikang", GUANGZHOU).tables(&format!("[[holders]]\nfile = {empty:?}")).start().await?;
    let told = Told::of(node.address, &GENERATED).await?;
    assert_eq!(told.failed(), ["health", "health 440100"], "{:#}", told.0);
    assert_eq!(told.point("not ready 440100")?["outcome"], "passed");
    Ok(())
}

/// A code of this node from an hour ago.
async fn old_code(data_dir: &Path) -> anyhow::Result<String> {
    let (clock, _hand) = Clock::manual(now_ms()? - 3_600_000);
    let text = format!(
        "region = 440100\nname = \"suikang\"\ndata_dir = {data_dir:?}\n[[population]]\nregion = 440100\nholders = 10\n"
    );
    let bound = app::bind_at(Config::parse("test", &text, &Overrides::default())?, clock).await?;
    let (address, mut ready, end) = (bound.address(), bound.readiness(), CancellationToken::new());
    let running = tokio::spawn(bound.run(end.clone()));
    ready.wait_for(|state| state.loaded).await?;
    let guangzhou = Code::new(GUANGZHOU).context("a region")?;
    let subject = Bytes::copy_from_slice(&population::subject(guangzhou, 1, 1));
    let mut codes = CodeServiceClient::new(client::channel(address).await?);
    let asked = ShowCodeRequest { region: GUANGZHOU, subject, max_staleness_s: None };
    let code = codes.show_code(asked).await?.into_inner().code;
    drop(codes);
    end.cancel();
    running.await??;
    Ok(code)
}

#[tokio::test]
async fn codes_with_known_verdicts_are_tried() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let old = old_code(&data).await?;
    let node = Node::codes("suikang", GUANGZHOU)
        .tables(&format!("[[population]]\nregion = 440100\nholders = {}\nseed = 1", node::HOLDERS))
        .keys_of(&data)
        .start()
        .await?;
    let golden = dir.path().join("golden.jsonl");
    let line = |verdict: &str, reason: &str| {
        format!(
            "{{\"region\":440100,\"code\":\"{old}\",\"verdict\":\"{verdict}\",\"reason\":\"{reason}\"}}\n"
        )
    };
    fs::write(&golden, line("unknown", "code_expired") + &line("deny", "signature_invalid"))?;
    let golden = golden.display().to_string();
    let told = Told::of(node.address, &[&GENERATED[..], &["--golden", &golden]].concat()).await?;
    assert_eq!(told.failed(), ["golden 2"], "{:#}", told.0);
    let came = told.point("golden 1")?["came"].as_str().context("a text")?;
    ensure!(came.starts_with("UNKNOWN CODE_EXPIRED"), "{came}");
    Ok(())
}

#[tokio::test]
async fn mistakes_of_the_caller_end_with_code_two_and_nobody_there_with_one() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("f.jsonl");
    fs::write(&file, "nonsense")?;
    let file = file.display().to_string();
    let check = async |more: &[&str], code: i32, words: &str| -> anyhow::Result<()> {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let refused = run(&[&["node", "verify", &free], more].concat()).await?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(code) && said.contains(words), "{:?}: {said}", refused.status);
        Ok(())
    };
    check(&[], 2, "--region").await?;
    check(&["--holders", &file], 2, "f.jsonl, line 1: ").await?;
    check(&["--region", "440100", "--golden", &file], 2, "f.jsonl, line 1: ").await?;
    check(&["--region", "440100"], 1, "cannot be reached").await
}

/// The document is what a program reads: its fields stay.
#[tokio::test]
async fn the_document_counts_its_points() -> anyhow::Result<()> {
    let node = Node::codes("suikang", GUANGZHOU).start().await?;
    let address = node.address.to_string();
    let told = json(&["node", "verify", &address, "--region", "440100", "--scan-ms", "10000"]).await?;
    let points = told["points"].as_array().context("points")?.len();
    let sum = ["passed", "failed", "skipped"].iter().filter_map(|key| told[key].as_u64()).sum::<u64>();
    assert_eq!((sum, told["failed"].as_u64()), (points as u64, Some(0)));
    Ok(())
}

//! What does a planned end cost? Nothing.

use anyhow::Context as _;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};
use suiyue_tests::{
    eventually::ends,
    federation::Federation,
    load::{Load, Mix},
    node::Node,
    programs,
    region::{GUANGDONG, GUANGZHOU},
};

/// How long a handler takes: a drain that cuts calls short is seen.
const HANDLER_MS: u32 = 50;
/// Calls in flight all the time.
const CALLERS: usize = 40;
/// Calls between the events.
const STEADY: u64 = 300;

async fn city_and_province(gateways: usize) -> anyhow::Result<Federation> {
    Federation::builder()
        .gateways(gateways)
        .node(Node::echo("city", GUANGZHOU).delay_ms(HANDLER_MS))
        .node(Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]).delay_ms(HANDLER_MS))
        .start()
        .await
}

#[tokio::test]
async fn a_node_that_is_told_to_end_fails_no_call() -> anyhow::Result<()> {
    let mut federation = city_and_province(1).await?;
    let load = Load::start(&federation.data(), GUANGZHOU, CALLERS, Mix::WithOnce);
    load.reaches("city", STEADY).await?;
    federation.node("city")?.process.terminate().await?;
    load.reaches("province", STEADY).await?;
    federation.node("city")?.restart().await?;
    federation.settled().await?;
    load.reaches("city", STEADY).await?;
    load.stop().await?.flawless()
}

#[tokio::test]
async fn a_gateway_that_is_told_to_end_fails_no_call_of_a_careful_client() -> anyhow::Result<()> {
    let mut federation = city_and_province(2).await?;
    let load = Load::start(&federation.data(), GUANGZHOU, CALLERS, Mix::WithOnce);
    for gateway in [0, 1, 0] {
        load.proceeds(STEADY).await?;
        federation.gateways[gateway].process.terminate().await?;
        load.proceeds(STEADY).await?;
        federation.gateways[gateway].restart().await?;
        federation.settled().await?;
    }
    load.stop().await?.flawless()
}

#[tokio::test]
async fn a_gateway_that_is_told_to_end_fails_no_call_of_grpcio_without_retries() -> anyhow::Result<()> {
    let mut federation = city_and_province(2).await?;
    let mut clients = PythonLoad::start(&federation.data())?;
    for gateway in [0, 1, 0] {
        clients = clients.proceed().await?;
        federation.gateways[gateway].process.terminate().await?;
        clients = clients.proceed().await?;
        federation.gateways[gateway].restart().await?;
        federation.settled().await?;
    }
    let report = clients.stop().await?;
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["calls"].as_u64() > Some(STEADY), "{report}");
    Ok(())
}

/// `tests/python/load.py`: grpcio clients with retries switched off.
struct PythonLoad {
    child: Child,
    tell: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl PythonLoad {
    fn start(gateways: &[SocketAddr]) -> anyhow::Result<Self> {
        let mut child = Command::new(programs::python())
            .arg(programs::file("python/load.py"))
            .args(gateways.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let tell = child.stdin.take().context("its input is ours")?;
        let hear = BufReader::new(child.stdout.take().context("its output is ours")?);
        Ok(Self { child, tell, hear })
    }

    /// Returns after a few hundred more calls.
    async fn proceed(self) -> anyhow::Result<Self> {
        let (load, line) = self.ask(&format!("proceed {STEADY}")).await?;
        anyhow::ensure!(line.trim() == "proceeded", "{line}");
        Ok(load)
    }

    async fn stop(self) -> anyhow::Result<serde_json::Value> {
        let (mut load, line) = self.ask("stop").await?;
        load.child.wait()?;
        Ok(serde_json::from_str(&line)?)
    }

    async fn ask(mut self, what: &str) -> anyhow::Result<(Self, String)> {
        writeln!(self.tell, "{what}")?;
        let asked = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            self.hear.read_line(&mut line).map(|_| (self, line))
        });
        Ok(ends("the Python clients answer", asked).await???)
    }
}

impl Drop for PythonLoad {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

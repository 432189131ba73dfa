//! Does a foreign node that thinks for three seconds keep its connections?
//!
//! Servers over the C core of gRPC count pings against a client that gets no data meanwhile, and say
//! GOAWAY `too_many_pings` at the third within five minutes. A gateway that asks "are you there?" while
//! calls wait must not ask that often.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use std::{collections::BTreeMap, net::SocketAddr, process::Command};
use suiyue_tests::{
    client::{Connection, request},
    eventually::ends,
    gateway::{Gateway, ready},
    process::Process,
    programs,
    region::GUANGZHOU,
    table,
    watch::{Opinion, Watch},
};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Code;

/// A call that must not be executed twice: one that was lost shows.
const ASK: &str = "/foreign.v1.Slow/Ask";
/// Calls that wait at the same moment.
const TOGETHER: usize = 20;
/// Such waves.
const WAVES: usize = 2;
/// Calls that begin one after the other while others wait.
const STAGGERED: usize = 40;
/// Every call of a wave begins so much later than the one before.
const APART: std::time::Duration = std::time::Duration::from_millis(130);

/// The Python node.
struct Foreign {
    address: SocketAddr,
    _process: Process,
    _dir: TempDir,
}

impl Foreign {
    async fn start() -> anyhow::Result<Self> {
        let dir = TempDir::new()?;
        let file = dir.path().join("address.json");
        let mut command = Command::new(programs::python());
        command.arg(programs::file("python/slow_node.py")).arg(&file);
        let mut process = Process::spawn("slow-node", &mut command, &dir.path().join("log"))?;
        let json = ready("slow-node", &mut process, &file).await?;
        let address = json["address"].as_str().context("an address")?.parse()?;
        Ok(Self { address, _process: process, _dir: dir })
    }
}

#[tokio::test]
async fn a_python_node_that_takes_three_seconds_is_never_pinged_into_goaway() -> anyhow::Result<()> {
    let node = Foreign::start().await?;
    let toml = config(node.address);
    let gateway = Gateway::builder("gw-1").default_region(GUANGZHOU).toml(&toml).start().await?;
    gateway.sees("city", node.address).await?;
    let watch = Watch::start(&gateway, GUANGZHOU).await?;
    let connection = Connection::open(gateway.data).await?;
    let mut peers: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..WAVES {
        let mut calls = JoinSet::new();
        for _ in 0..TOGETHER {
            calls.spawn(ask(connection.clone()));
        }
        gather(calls, &mut peers).await?;
    }
    let mut calls = JoinSet::new();
    let mut ticks = tokio::time::interval(APART);
    for _ in 0..STAGGERED {
        ticks.tick().await;
        calls.spawn(ask(connection.clone()));
    }
    gather(calls, &mut peers).await?;

    let ejected = watch.offences("city", Opinion::nobody_ejected);
    ensure!(ejected.is_empty(), "{ejected:?}");
    let executed: usize = peers.values().sum();
    ensure!(executed == WAVES * TOGETHER + STAGGERED, "{executed} calls: {peers:?}");
    // One connection of one worker has served all of them; a GOAWAY would have cost it.
    ensure!(peers.len() == 1, "the node was reached over {} connections: {peers:?}", peers.len());
    table::remark(&format!("Python node with a 3 s handler: {executed} calls over 1 connection, none lost"))
}

/// Without this the test above would show nothing: the node does punish who pings while a call waits.
#[tokio::test]
async fn the_python_node_says_goaway_to_who_pings_often() -> anyhow::Result<()> {
    let node = Foreign::start().await?;
    let stream = tokio::net::TcpStream::connect(node.address).await?;
    let (send, mut connection) = h2::client::handshake(stream).await?;
    let mut pinger = connection.ping_pong().context("nobody else has taken it")?;
    let ended = tokio::spawn(connection);
    let (_answer, mut body) = send.ready().await?.send_request(request(ASK, &[]), false)?;
    body.send_data(Bytes::from_static(&[0; 5]), true)?;
    let mut pings = 0;
    let ended = ends("the node says GOAWAY", async {
        while pinger.ping(h2::Ping::opaque()).await.is_ok() {
            pings += 1;
        }
        ended.await
    })
    .await??;
    let reason = ended.err().and_then(|error| error.reason());
    ensure!(reason == Some(h2::Reason::ENHANCE_YOUR_CALM), "{reason:?} after {pings} pings");
    Ok(())
}

fn config(address: SocketAddr) -> String {
    format!(
        "[[node]]\nname = \"city\"\nregion = {GUANGZHOU}\naddresses = [\"{address}\"]\n\
         [[method]]\npath = {ASK:?}\nclass = \"query\"\nidempotency = \"none\"\n"
    )
}

/// Makes a call; returns the connection that it came over, as the node saw it.
async fn ask(connection: Connection) -> anyhow::Result<String> {
    let empty = Bytes::from_static(&[0; 5]);
    let answer = ends("the node answers", connection.call(request(ASK, &[]), empty)).await??;
    ensure!(answer.code() == Some(Code::Ok) && answer.attempt() == 1, "{answer:?}");
    let peer = answer.body.get(5..).context("a message")?;
    Ok(String::from_utf8_lossy(peer).into_owned())
}

async fn gather(
    mut calls: JoinSet<anyhow::Result<String>>,
    peers: &mut BTreeMap<String, usize>,
) -> anyhow::Result<()> {
    while let Some(peer) = calls.join_next().await {
        *peers.entry(peer??).or_default() += 1;
    }
    Ok(())
}

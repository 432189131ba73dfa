//! What happens when a thousand nodes register at the same moment?
//!
//! As after the loss of a gateway, or of a network. Every one of them must be registered, and nobody's
//! calls may fail meanwhile. The nodes are streams of this test: they say that they are leaving, so that
//! nobody calls them.

use anyhow::{Context as _, bail, ensure};
use std::time::{Duration, Instant};
use suiyue_proto::v1::{
    Hello, Manifest, RegionReady, RegisterRequest, RegisterResponse, Report, Role, register_request::Message,
    register_response, registry_service_client::RegistryServiceClient,
};
use suiyue_tests::{
    client,
    eventually::{ends, eventually},
    federation::Federation,
    load::{Mix, Wish},
    node::{Node, token},
    region::{GUANGZHOU, XIAN},
    table::remark,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, transport::Channel};

const NODES: usize = 1000;
/// Streams of one connection, as the control port allows them.
const STREAMS: usize = 100;
/// Well within the three heartbeats that break a stream.
const BEAT: Duration = Duration::from_secs(3);

/// A registered node.
struct Registered {
    requests: mpsc::Sender<RegisterRequest>,
    answers: Streaming<RegisterResponse>,
}

fn report() -> Report {
    Report { ready: vec![RegionReady { region: XIAN, as_of_unix_ms: 1 }], draining: true }
}

fn hello(number: usize) -> Hello {
    let node = format!("storm-{number:04}");
    let manifest = Manifest {
        region: XIAN,
        node: node.clone(),
        role: Role::City.into(),
        scopes: vec![XIAN],
        ..Default::default()
    };
    Hello {
        endpoint: node,
        // Nobody is there: it is leaving anyway.
        address: "127.0.0.1:1".to_owned(),
        incarnation: 1 + number as u64,
        manifest: Some(manifest),
        report: Some(report()),
        ..Default::default()
    }
}

async fn register(channel: Channel, number: usize) -> anyhow::Result<Registered> {
    let (requests, outbound) = mpsc::channel(4);
    let mut request = Request::new(ReceiverStream::new(outbound));
    request.metadata_mut().insert("authorization", format!("Bearer {}", token(XIAN)).parse()?);
    requests.send(RegisterRequest { message: Some(Message::Hello(hello(number))) }).await?;
    let mut answers = RegistryServiceClient::new(channel).register(request).await?.into_inner();
    let first = ends("an answer comes", answers.message()).await??.context("an answer")?;
    ensure!(matches!(first.message, Some(register_response::Message::Welcome(_))), "{first:?}");
    Ok(Registered { requests, answers })
}

/// Reports for as long as the stream lives.
async fn beat(node: Registered) {
    let Registered { requests, mut answers } = node;
    let read = async { while let Ok(Some(_)) = answers.message().await {} };
    let beat = async {
        let mut ticks = tokio::time::interval(BEAT);
        loop {
            ticks.tick().await;
            let message = Some(Message::Report(report()));
            if requests.send(RegisterRequest { message }).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = beat => {}
    }
}

#[tokio::test]
async fn a_thousand_nodes_at_once_are_all_registered_and_no_call_notices() -> anyhow::Result<()> {
    let mut federation = Federation::builder().etcd().node(Node::echo("city", GUANGZHOU)).start().await?;
    let load = Wish::new(GUANGZHOU, 20, Mix::WithOnce).per_second(100).start(&federation.data());
    load.reaches("city", 100).await?;
    let mut channels = Vec::new();
    for _ in 0..NODES / STREAMS {
        channels.push(client::channel(federation.gateway().control).await?);
    }
    let begun = Instant::now();
    // Each reports from its welcome on, as a node does: a stream that is silent for long is broken off.
    let (welcome, mut welcomes) = mpsc::channel(NODES);
    let mut living = JoinSet::new();
    for number in 0..NODES {
        let (channel, welcome) = (channels[number / STREAMS].clone(), welcome.clone());
        living.spawn(async move {
            let node = register(channel, number).await?;
            welcome.send(()).await?;
            beat(node).await;
            anyhow::Ok(())
        });
    }
    for _ in 0..NODES {
        tokio::select! {
            biased;
            Some(ended) = living.join_next() => {
                ended??;
                bail!("a stream has ended");
            }
            Some(()) = welcomes.recv() => {}
        }
    }
    let welcomed = begun.elapsed();
    let gateway = federation.gateway();
    eventually("the table has all of them", async || {
        let nodes = gateway.nodes().await?.nodes;
        let there = nodes.iter().filter(|node| node.node.starts_with("storm-") && node.endpoints.len() == 1);
        let there = there.count();
        ensure!(there == NODES, "{there} of {NODES}");
        Ok(())
    })
    .await?;
    remark(&format!(
        "{NODES} nodes at once: welcomed within {:.1} s, all in the table within {:.1} s",
        welcomed.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    ))?;
    let keys =
        federation.etcd()?.ctl(&["get", "--prefix", "--keys-only", "/suiyue/v1/nodes/610100/"]).await?;
    let live = keys.lines().filter(|key| key.contains("/live/storm-")).count();
    ensure!(live == NODES, "{live} of {NODES} are in etcd");
    load.reaches("city", 100).await?;
    load.stop().await?.flawless()?;
    // None of them was lost meanwhile.
    ensure!(living.len() == NODES && living.try_join_next().is_none(), "a stream has ended");
    Ok(())
}

//! Does a gateway route to systems that cannot register themselves?
//!
//! Their addresses and methods stand in the gateway's own configuration, and so does the region of
//! callers that name none. No registry is needed.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};
use suiyue_proto::{
    metadata,
    reason::Reason,
    v1::{Class, ExplainRouteRequest, Health},
};
use suiyue_tests::{
    client::{Answer, Connection, framed, request},
    eventually::{ends, eventually},
    failover::Failover,
    gateway::Gateway,
    load::{Load, Mix},
    node::Node,
    region::{GUANGDONG, GUANGZHOU},
    v1::EchoRequest,
};
use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tonic::Code;

const UNARY: &str = "/suiyue.test.v1.EchoService/Unary";
const STREAM: &str = "/suiyue.test.v1.EchoService/ServerStream";

/// A gateway that knows a city and its province, and some of their methods, from its file.
async fn gateway(city: &Node, province: &Node, health: &str) -> anyhow::Result<Gateway> {
    gateway_with_ramp(city, province, health, 0).await
}

async fn gateway_with_ramp(
    city: &Node,
    province: &Node,
    health: &str,
    ramp_s: u32,
) -> anyhow::Result<Gateway> {
    let mut toml = String::new();
    for (node, region, role, scopes) in [
        (city, GUANGZHOU, "city", format!("[{GUANGZHOU}]")),
        (province, GUANGDONG, "province", format!("[{GUANGDONG}, {GUANGZHOU}]")),
    ] {
        let (name, address) = (&node.name, node.address);
        let _ = write!(
            toml,
            "[[node]]\nname = {name:?}\nregion = {region}\nrole = {role:?}\nscopes = {scopes}\n\
             addresses = [\"{address}\"]\nhealth = {health:?}\n"
        );
    }
    for (path, idempotency, shape) in [
        (UNARY, "idempotent", "unary"),
        ("/suiyue.test.v1.EchoService/UnaryOnce", "none", "unary"),
        (STREAM, "no_side_effects", "server_stream"),
    ] {
        let _ = write!(
            toml,
            "[[method]]\npath = {path:?}\nclass = \"scan\"\nidempotency = {idempotency:?}\n\
             access = \"public\"\nshape = {shape:?}\n"
        );
    }
    let gateway =
        Gateway::builder("gw-1").default_region(GUANGZHOU).ramp_s(ramp_s).toml(&toml).start().await?;
    // Both: of two that were not checked yet, the first to pass would carry the other's calls.
    for node in [city, province] {
        gateway.sees(&node.name, node.address).await?;
    }
    Ok(gateway)
}

async fn call(gateway: &Gateway, path: &str, message: &EchoRequest) -> anyhow::Result<Answer> {
    let connection = Connection::open(gateway.data).await?;
    Ok(ends("an answer", connection.call(request(path, &[]), framed(message))).await??)
}

#[tokio::test]
async fn static_nodes_answer_and_a_default_region_helps_who_names_none() -> anyhow::Result<()> {
    let city = Node::echo("city", GUANGZHOU).start().await?;
    let province = Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]).start().await?;
    for health in ["grpc", "tcp", "none"] {
        let gateway = gateway(&city, &province, health).await?;
        for (region, expected) in [(0, "city"), (GUANGZHOU, "city"), (GUANGDONG, "province")] {
            let message = EchoRequest { region, payload: Bytes::from_static(b"hello"), ..Default::default() };
            let answer = call(&gateway, UNARY, &message).await?;
            assert_eq!(answer.code(), Some(Code::Ok), "{health} {region}: {answer:?}");
            assert_eq!(answer.meta(&metadata::SERVED_BY).as_deref(), Some(expected), "{health} {region}");
        }
        let stream = EchoRequest { answers: 10, ..Default::default() };
        assert_eq!(call(&gateway, STREAM, &stream).await?.code(), Some(Code::Ok));
        let unlisted = call(&gateway, "/suiyue.test.v1.EchoService/Fail", &EchoRequest::default()).await?;
        assert_eq!(unlisted.reason(), Some(Reason::MethodUnknown), "{unlisted:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_static_node_that_dies_is_replaced_and_taken_back() -> anyhow::Result<()> {
    let mut city = Node::echo("city", GUANGZHOU).delay_ms(20).start().await?;
    let province = Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]).delay_ms(20).start().await?;
    let gateway = gateway(&city, &province, "grpc").await?;
    let load = Load::start(&[gateway.data], GUANGZHOU, 40, Mix::Replayable);
    load.reaches("city", 200).await?;
    city.process.kill()?;
    load.reaches("province", 200).await?;
    city.restart_there().await?;
    load.reaches("city", 200).await?;
    load.stop().await?.flawless()
}

#[tokio::test]
async fn a_static_node_that_listens_and_does_not_answer_is_found_out() -> anyhow::Result<()> {
    let city = Node::echo("city", GUANGZHOU).start().await?;
    let province = Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]).start().await?;
    let gateway = gateway(&city, &province, "grpc").await?;
    let client = Failover::new(vec![gateway.data], 0);
    city.process.signal(suiyue_tests::process::Signal::STOP)?;
    let message = EchoRequest { region: GUANGZHOU, ..Default::default() };
    eventually("the province answers", async || {
        let answer = client.call(&request(UNARY, &[]), &framed(&message)).await?;
        ensure!(answer.meta(&metadata::SERVED_BY).as_deref() == Some("province"), "{answer:?}");
        Ok(())
    })
    .await?;
    city.process.signal(suiyue_tests::process::Signal::CONT)?;
    eventually("the city answers again", async || {
        let answer = client.call(&request(UNARY, &[]), &framed(&message)).await?;
        ensure!(answer.meta(&metadata::SERVED_BY).as_deref() == Some("city"), "{answer:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_node_that_returns_begins_with_a_small_share_while_another_carries_on() -> anyhow::Result<()> {
    let mut city = Node::echo("city", GUANGZHOU).start().await?;
    let province = Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]).start().await?;
    let gateway = gateway_with_ramp(&city, &province, "grpc", 3600).await?;
    let share = async || -> anyhow::Result<f64> {
        let request =
            ExplainRouteRequest { region: GUANGZHOU, class: Class::Scan.into(), ..Default::default() };
        let route = gateway.operator().await?.explain_route(request).await?.into_inner();
        Ok(route.candidates.iter().find(|c| c.node == "city").map_or(0.0, |c| c.share))
    };
    assert!((share().await? - 1.0).abs() < 1e-9, "healthy from the start");
    let load = Load::start(&[gateway.data], GUANGZHOU, 40, Mix::Replayable);
    city.process.kill()?;
    // A moment's suspicion is no absence, and has no ramp.
    eventually("the city is ejected and gets nothing", async || {
        let node = gateway.node("city").await?;
        ensure!(node.endpoints.iter().all(|endpoint| endpoint.health() == Health::Ejected), "{node:?}");
        ensure!(share().await? == 0.0);
        Ok(())
    })
    .await?;
    city.restart_there().await?;
    eventually("the city is back", async || {
        ensure!(share().await? > 0.0);
        Ok(())
    })
    .await?;
    let returned = share().await?;
    assert!(returned < 0.1, "of an hour's ramp only seconds have passed: {returned}");
    load.reaches("city", 10).await?;
    load.stop().await?.flawless()
}

#[tokio::test]
async fn a_static_node_that_accepts_and_closes_is_not_called_in_a_loop() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let toml = format!(
        "[[node]]\nname = \"hollow\"\nregion = {GUANGZHOU}\nrole = \"city\"\n\
         scopes = [{GUANGZHOU}]\naddresses = [\"{}\"]\nhealth = \"tcp\"\n",
        listener.local_addr()?
    );
    let _gateway = Gateway::builder("gw-1").toml(&toml).start().await?;
    let (mut connects, mut first) = (0, None);
    while connects < 14 {
        let (mut socket, _) = ends("a connection", listener.accept()).await??;
        // The checks by TCP, which pass, say nothing; a worker that comes to call says so first.
        let mut preface = [0; 3];
        if socket.read_exact(&mut preface).await.is_ok() {
            connects += 1;
            first.get_or_insert_with(Instant::now);
        }
    }
    // One of the two workers has connected seven times, with rests of 50, 100, 200, 400 and 800 ms
    // between, of which none can end early.
    let elapsed = first.context("connected")?.elapsed();
    println!("14 connections of two workers took {elapsed:?}");
    assert!(elapsed > Duration::from_secs(1), "{elapsed:?}");
    Ok(())
}

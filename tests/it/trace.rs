//! Is every call told of, in traces, numbers and log, and does telling never disturb a call?

use anyhow::{Context as _, ensure};
use std::fmt::Write as _;
use std::net::SocketAddr;
use suiyue_proto::metadata;
use suiyue_tests::{
    client::{Answer, Connection, framed, request},
    collector::{Collector, Manner, Witness, attribute},
    eventually::{ends, eventually},
    gateway::{self, Gateway},
    node::Node,
    region::{GUANGDONG, GUANGZHOU},
    v1::EchoRequest,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

const UNARY: &str = "/suiyue.test.v1.EchoService/Unary";
const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A gateway in front of a city and maybe its province, with this `[telemetry]`.
fn builder(city: SocketAddr, province: Option<SocketAddr>, telemetry: &str) -> gateway::Builder {
    let mut toml = format!("[telemetry]\n{telemetry}\n");
    let province = province.map(|at| ("province", GUANGDONG, format!("{GUANGDONG}, {GUANGZHOU}"), at));
    for (name, region, scopes, address) in
        [Some(("city", GUANGZHOU, GUANGZHOU.to_string(), city)), province].into_iter().flatten()
    {
        let _ = write!(
            toml,
            "[[node]]\nname = {name:?}\nregion = {region}\nscopes = [{scopes}]\n\
             addresses = [\"{address}\"]\nhealth = \"none\"\n"
        );
    }
    let _ = write!(toml, "[[method]]\npath = {UNARY:?}\nclass = \"scan\"\nidempotency = \"idempotent\"\n");
    Gateway::builder("gw-1").toml(&toml)
}

fn otlp(collector: SocketAddr, ratio: f64) -> String {
    format!("otlp = \"http://{collector}\"\ntrace_ratio = {ratio:?}")
}

async fn call(gateway: &Gateway, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
    let message = EchoRequest { region: GUANGZHOU, call_id: "traced".to_owned(), ..Default::default() };
    let connection = Connection::open(gateway.data).await?;
    Ok(ends("an answer", connection.call(request(UNARY, headers), framed(&message))).await??)
}

pub(crate) async fn metrics(gateway: &Gateway) -> anyhow::Result<String> {
    let mut socket = tokio::net::TcpStream::connect(gateway.admin).await?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    socket.read_to_string(&mut text).await?;
    Ok(text)
}

fn id(bytes: &[u8]) -> anyhow::Result<u64> {
    Ok(u64::from_be_bytes(bytes.try_into()?))
}

/// `traceparent` as a node got it: trace, parent, flags.
fn forwarded(headers: &http::HeaderMap) -> anyhow::Result<(u128, u64, String)> {
    let text = headers.get("traceparent").context("no traceparent")?.to_str()?;
    let parts: Vec<&str> = text.split('-').collect();
    ensure!(parts.len() == 4 && parts[0] == "00", "{text}");
    Ok((u128::from_str_radix(parts[1], 16)?, u64::from_str_radix(parts[2], 16)?, parts[3].to_owned()))
}

#[tokio::test]
async fn a_caller_s_trace_goes_on_to_the_node_and_to_the_collector() -> anyhow::Result<()> {
    let (collector, node) = (Collector::start(Manner::Takes).await?, Witness::start().await?);
    let gateway = builder(node.address, None, &otlp(collector.address, 0.0)).start().await?;
    let headers = [("traceparent", CALLER), ("tracestate", "a=1"), ("suiyue-subject", "0badf00d")];
    let answer = call(&gateway, &headers).await?;
    assert_eq!(answer.code(), Some(Code::Ok), "{answer:?}");
    let (server, attempts) = collector.trace(TRACE, 1).await?;
    assert_eq!(id(&server.parent_span_id)?, 0xb7ad_6b71_6920_3331);
    assert_eq!(attempts[0].parent_span_id, server.span_id);
    let seen = node.seen();
    assert_eq!(forwarded(&seen[0])?, (TRACE, id(&attempts[0].span_id)?, "01".to_owned()));
    assert_eq!(seen[0].get("tracestate").context("tracestate")?, "a=1");
    for (key, expected) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "suiyue.test.v1.EchoService/Unary"),
        ("rpc.response.status_code", "OK"),
        ("suiyue.region", "440100"),
        ("suiyue.class", "scan"),
        ("suiyue.node", "city"),
        ("suiyue.tier", "0"),
        ("suiyue.reason", "primary"),
        ("suiyue.attempt", "1"),
    ] {
        assert_eq!(attribute(&server, key).as_deref(), Some(expected), "{key}");
    }
    assert_eq!(attribute(&server, "suiyue.plan"), answer.meta(&metadata::PLAN));
    assert!(!format!("{:?}", collector.spans()).contains("0badf00d"), "no subject leaves the gateway");
    // Not sampled: carried on, not recorded. Malformed: replaced.
    call(&gateway, &[("traceparent", &CALLER.replace("-01", "-00"))]).await?;
    call(&gateway, &[("traceparent", &CALLER.to_uppercase()), ("tracestate", "a=1")]).await?;
    call(&gateway, &[("traceparent", &CALLER.replace("0af7", "1af7"))]).await?;
    collector.trace(TRACE + (1 << 124), 1).await?;
    assert_eq!(collector.spans().len(), 4, "of four calls two were sampled");
    let seen = node.seen();
    let (trace, _, flags) = forwarded(&seen[1])?;
    assert_eq!((trace, flags.as_str()), (TRACE, "00"));
    let (trace, _, flags) = forwarded(&seen[2])?;
    assert!(trace != TRACE && flags == "02", "{trace:x} {flags}");
    assert_eq!(seen[2].get("tracestate"), None);
    Ok(())
}

#[tokio::test]
async fn a_retry_is_a_second_span_below_the_call() -> anyhow::Result<()> {
    let collector = Collector::start(Manner::Takes).await?;
    let mut city = Node::echo("city", GUANGZHOU).delay_ms(600_000).start().await?;
    let province = Node::echo("province", GUANGDONG).scopes(&[GUANGZHOU]).start().await?;
    let telemetry = otlp(collector.address, 1.0);
    let gateway = builder(city.address, Some(province.address), &telemetry).start().await?;
    let killed = async {
        eventually("the call arrives", async || {
            ensure!(city.executions().begun() == 1);
            Ok(())
        })
        .await?;
        city.process.kill()
    };
    let headers = [("grpc-timeout", "60S")];
    let (answer, killed) = tokio::join!(call(&gateway, &headers), killed);
    killed?;
    let answer = answer?;
    assert_eq!((answer.code(), answer.attempt()), (Some(Code::Ok), 2), "{answer:?}");
    let traces = eventually("the collector has three spans", async || {
        let spans = collector.spans();
        ensure!(spans.len() == 3, "{spans:?}");
        Ok(spans)
    })
    .await?;
    let trace = u128::from_be_bytes(traces[0].trace_id.as_slice().try_into()?);
    let (server, attempts) = collector.trace(trace, 2).await?;
    assert!(server.parent_span_id.is_empty(), "the trace began at the gateway");
    assert_eq!(attribute(&server, "suiyue.reason").as_deref(), Some("retry"));
    assert_eq!(attribute(&server, "suiyue.node").as_deref(), Some("province"));
    let nodes: Vec<_> = attempts.iter().map(|span| attribute(span, "suiyue.node")).collect();
    assert_eq!(nodes, [Some("city".to_owned()), Some("province".to_owned())]);
    assert_eq!(attribute(&attempts[0], "error.type").as_deref(), Some("connection_lost"));
    assert_eq!(attribute(&attempts[1], "error.type"), None);
    assert!(attempts.iter().all(|span| span.parent_span_id == server.span_id));
    Ok(())
}

#[tokio::test]
async fn a_collector_that_hangs_or_is_away_changes_nothing() -> anyhow::Result<()> {
    let hanging = Collector::start(Manner::Hangs).await?;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    for collector in [hanging.address, nobody] {
        let node = Witness::start().await?;
        let mut gateway = builder(node.address, None, &otlp(collector, 1.0)).start().await?;
        for _ in 0..200 {
            let answer = call(&gateway, &[]).await?;
            assert_eq!((answer.code(), answer.attempt()), (Some(Code::Ok), 1), "{answer:?}");
        }
        if collector == hanging.address {
            eventually("the collector was asked", async || {
                ensure!(hanging.asked() > 0);
                Ok(())
            })
            .await?;
        }
        eventually("what was lost is counted", async || {
            let text = metrics(&gateway).await?;
            let lost =
                text.lines().find(|line| line.starts_with("suiyue_trace_lost_total{cause=\"collector\"}"));
            let lost = lost.and_then(|line| line.split(' ').next_back()).context("no such line")?;
            ensure!(lost.parse::<u64>()? > 0, "{lost}");
            Ok(())
        })
        .await?;
        assert_eq!(call(&gateway, &[]).await?.code(), Some(Code::Ok));
        assert_eq!(node.seen().len(), 201);
        gateway.process.terminate().await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_telemetry_nothing_is_added_and_a_good_context_passes_through() -> anyhow::Result<()> {
    let node = Witness::start().await?;
    let gateway = builder(node.address, None, "").start().await?;
    call(&gateway, &[]).await?;
    call(&gateway, &[("traceparent", CALLER), ("tracestate", "a=1")]).await?;
    call(&gateway, &[("traceparent", "00-1-2-01"), ("tracestate", "a=1")]).await?;
    let seen = node.seen();
    for at in [0, 2] {
        assert!(!seen[at].contains_key("traceparent") && !seen[at].contains_key("tracestate"), "{seen:?}");
    }
    assert_eq!(seen[1].get("traceparent").context("traceparent")?, CALLER);
    assert_eq!(seen[1].get("tracestate").context("tracestate")?, "a=1");
    Ok(())
}

#[tokio::test]
async fn verdicts_are_counted_and_stay_at_the_gateway() -> anyhow::Result<()> {
    let node = Witness::start().await?;
    let gateway = builder(node.address, None, "").start().await?;
    for _ in 0..3 {
        let answer = call(&gateway, &[]).await?;
        assert_eq!(answer.meta(&metadata::VERDICT), None, "{answer:?}");
    }
    let text = metrics(&gateway).await?;
    for (verdict, count) in [("pass", 6), ("unknown.subject_unknown", 3)] {
        let line =
            format!("suiyue_verdicts_total{{region=\"440100\",node=\"city\",verdict=\"{verdict}\"}} {count}");
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    Ok(())
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_call_and_no_subject() -> anyhow::Result<()> {
    let node = Witness::start().await?;
    let gateway = builder(node.address, None, "access_log = true").start().await?;
    call(&gateway, &[("suiyue-subject", "0badf00d"), ("traceparent", CALLER)]).await?;
    call(&gateway, &[("suiyue-region", "110000")]).await?;
    eventually("two lines", async || {
        let log = gateway.process.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("access")).collect();
        ensure!(lines.len() == 2, "{log}");
        ensure!(lines[0].contains("node=\"city\"") && lines[0].contains("status=\"OK\""), "{log}");
        ensure!(lines[0].contains(&format!("{TRACE:032x}")) && !lines[1].contains("trace_id"), "{log}");
        ensure!(lines[1].contains("reason=\"refused\"") && !lines[1].contains("OK"), "{log}");
        ensure!(!log.contains("0badf00d"), "{log}");
        Ok(())
    })
    .await
}

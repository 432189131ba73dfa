//! Do all four shapes of call pass through a gateway whole, and only as fast as they are read?

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use std::net::SocketAddr;
use suiyue_proto::metadata;
use suiyue_tests::{
    client::{Connection, channel, framed, request},
    eventually::{ends, eventually},
    federation::Federation,
    node::Node,
    region::GUANGZHOU,
    v1::{EchoRequest, EchoResponse, echo_service_client::EchoServiceClient},
};
use tonic::{Code, Request, transport::Channel};

/// Messages each way.
const MESSAGES: u64 = 10_000;

async fn one_node() -> anyhow::Result<Federation> {
    Federation::builder().node(Node::echo("city", GUANGZHOU)).start().await
}

async fn echo(gateway: SocketAddr) -> anyhow::Result<EchoServiceClient<Channel>> {
    Ok(EchoServiceClient::new(channel(gateway).await?))
}

fn message(call_id: &str) -> EchoRequest {
    EchoRequest { region: GUANGZHOU, call_id: call_id.to_owned(), ..Default::default() }
}

/// Messages that differ, so that one that is lost, doubled or out of place is seen.
fn numbered(count: u64) -> impl Iterator<Item = EchoRequest> + Send + 'static {
    (1..=count).map(|number| EchoRequest { payload: payload(number), ..message("numbered") })
}

fn payload(number: u64) -> Bytes {
    Bytes::from(format!("message {number}").into_bytes())
}

#[tokio::test]
async fn unary_calls_answer_each_its_own_message() -> anyhow::Result<()> {
    let federation = one_node().await?;
    let client = echo(federation.gateway().data).await?;
    let mut callers = tokio::task::JoinSet::new();
    for first in 1..=20 {
        let mut client = client.clone();
        callers.spawn(async move {
            for number in (first..=MESSAGES).step_by(20) {
                let request = EchoRequest { payload: payload(number), ..message("unary") };
                let answer = client.unary(request).await?.into_inner();
                ensure!(answer.payload == payload(number), "{number}: {answer:?}");
            }
            Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_of_requests_arrives_whole() -> anyhow::Result<()> {
    let federation = one_node().await?;
    let mut client = echo(federation.gateway().data).await?;
    let answer = client.client_stream(tokio_stream::iter(numbered(MESSAGES))).await?.into_inner();
    assert_eq!((answer.number, answer.payload), (MESSAGES, payload(MESSAGES)));
    Ok(())
}

#[tokio::test]
async fn a_stream_of_answers_arrives_whole_and_in_order() -> anyhow::Result<()> {
    let federation = one_node().await?;
    let mut client = echo(federation.gateway().data).await?;
    let answers = u32::try_from(MESSAGES)?;
    let request = EchoRequest { answers, payload: payload(7), ..message("answers") };
    let mut stream = client.server_stream(request).await?.into_inner();
    for number in 1..=MESSAGES {
        let answer = ends("an answer", stream.message()).await??.context("the stream ended early")?;
        assert_eq!((answer.number, answer.payload), (number, payload(7)));
    }
    assert!(stream.message().await?.is_none());
    Ok(())
}

#[tokio::test]
async fn messages_flow_both_ways_and_in_order() -> anyhow::Result<()> {
    let federation = one_node().await?;
    let mut client = echo(federation.gateway().data).await?;
    let mut stream = client.bidi(tokio_stream::iter(numbered(MESSAGES))).await?.into_inner();
    for number in 1..=MESSAGES {
        let answer = ends("an answer", stream.message()).await??.context("the stream ended early")?;
        assert_eq!((answer.number, answer.payload), (number, payload(number)));
    }
    assert!(stream.message().await?.is_none());
    Ok(())
}

/// Neither side waits for the other to finish: each answer is read before the next message is sent.
#[tokio::test]
async fn a_conversation_is_not_held_back() -> anyhow::Result<()> {
    let federation = one_node().await?;
    let mut client = echo(federation.gateway().data).await?;
    let (say, said) = tokio::sync::mpsc::channel(1);
    say.send(EchoRequest { payload: payload(0), ..message("talk") }).await?;
    let mut stream = client.bidi(tokio_stream::wrappers::ReceiverStream::new(said)).await?.into_inner();
    for number in 0..100 {
        let answer = ends("an answer", stream.message()).await??.context("the stream ended early")?;
        assert_eq!(answer.payload, payload(number));
        say.send(EchoRequest { payload: payload(number + 1), ..message("talk") }).await?;
    }
    Ok(())
}

/// Bytes of each answer to the slow reader: 160 MB in all.
const LARGE: u32 = 16 << 10;
/// What the gateway may take more while 160 MB wait for a reader.
const HELD_KIB: u64 = 32 << 10;

#[tokio::test]
async fn a_slow_reader_slows_the_node_and_not_the_gateway() -> anyhow::Result<()> {
    let federation = one_node().await?;
    let gateway = federation.gateway();
    let mut bystander = echo(gateway.data).await?;
    bystander.unary(message("first")).await?;
    let before = gateway.process.memory_kib("VmRSS")?;

    let connection = Connection::open(gateway.data).await?;
    let asked = EchoRequest { answers: u32::try_from(MESSAGES)?, answer_bytes: LARGE, ..message("slow") };
    let path = "/suiyue.test.v1.EchoService/ServerStream";
    let (response, mut stream) = connection.start(request(path, &[])).await?;
    stream.send_data(framed(&asked), true)?;
    let mut answers = ends("the first headers", response).await??.into_body();
    // Reads one piece and gives no room for more: the node can send what the windows hold, no more.
    let first = ends("the first piece", answers.data()).await?.context("the stream ended early")??;
    for number in 0..1_000 {
        bystander.unary(message(&format!("bystander-{number}"))).await?;
    }
    let sent = federation.nodes[0].executions().sent("slow");
    assert!(sent < MESSAGES / 4, "the node has sent {sent} of {MESSAGES} messages that nobody reads");

    // Then reads all of it.
    let mut bytes = first.len();
    answers.flow_control().release_capacity(first.len())?;
    while let Some(piece) = ends("the rest", answers.data()).await? {
        let piece = piece?;
        bytes += piece.len();
        answers.flow_control().release_capacity(piece.len())?;
    }
    let trailers = answers.trailers().await?.context("trailers")?;
    assert_eq!(trailers.get("grpc-status").context("a status")?, "0");
    assert!(bytes as u64 > MESSAGES * u64::from(LARGE));
    let highest = gateway.process.memory_kib("VmHWM")?;
    assert!(highest < before + HELD_KIB, "{before} KiB before, {highest} KiB at most");
    Ok(())
}

#[tokio::test]
async fn a_cancel_is_seen_at_the_node() -> anyhow::Result<()> {
    let federation = one_node().await?;
    let node = &federation.nodes[0];
    let connection = Connection::open(federation.gateway().data).await?;
    let (response, mut stream) = connection.start(request("/suiyue.test.v1.EchoService/Hang", &[])).await?;
    stream.send_data(framed(&message("unary-cancel")), true)?;
    eventually("the call arrives", async || {
        ensure!(node.executions().unfinished() == 1, "{:?}", node.executions());
        Ok(())
    })
    .await?;
    stream.send_reset(h2::Reason::CANCEL);
    drop(response);
    eventually("the unary call is cancelled", async || {
        ensure!(node.executions().cancelled("unary-cancel"), "{:?}", node.executions());
        Ok(())
    })
    .await?;

    // A stream of answers that the caller stops reading and drops.
    let mut client = echo(federation.gateway().data).await?;
    let asked = EchoRequest { answers: u32::MAX, answer_bytes: 1_000, ..message("stream-cancel") };
    let mut answers = client.server_stream(asked).await?.into_inner();
    ends("an answer", answers.message()).await??.context("the stream ended early")?;
    drop(answers);
    eventually("the stream is cancelled", async || {
        ensure!(node.executions().cancelled("stream-cancel"), "it goes on");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_error_without_a_message_passes_as_it_is() -> anyhow::Result<()> {
    let federation = one_node().await?;
    let connection = Connection::open(federation.gateway().data).await?;
    for code in [Code::Internal, Code::NotFound, Code::DataLoss] {
        let asked = EchoRequest { code: code.into(), ..message("fail") };
        let answer =
            connection.call(request("/suiyue.test.v1.EchoService/Fail", &[]), framed(&asked)).await?;
        let status = answer.status().context("a status")?;
        assert_eq!((status.code(), status.message(), status.details()), (code, "as asked", &b"detail"[..]));
        assert_eq!((answer.http.as_u16(), answer.body.len()), (200, 0));
        assert_eq!(answer.meta(&metadata::SERVED_BY).as_deref(), Some("city"));
        assert!(answer.headers.contains_key("grpc-status"), "not trailers-only: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_deadline_passes_at_the_gateway_too() -> anyhow::Result<()> {
    let federation = one_node().await?;
    let connection = Connection::open(federation.gateway().data).await?;
    let headers = [("grpc-timeout", "200m")];
    let call =
        connection.call(request("/suiyue.test.v1.EchoService/Hang", &headers), framed(&message("late")));
    let answer = ends("an answer", call).await??;
    // Whether node or gateway noticed first, the caller hears of its deadline.
    assert_eq!(answer.code(), Some(Code::DeadlineExceeded), "{answer:?}");
    let node = &federation.nodes[0];
    eventually("the node's work ends", async || {
        ensure!(node.executions().cancelled("late"), "{:?}", node.executions());
        Ok(())
    })
    .await?;
    // Enough time is enough.
    let mut client = echo(federation.gateway().data).await?;
    let mut request = Request::new(EchoRequest { delay_ms: 50, ..message("in-time") });
    request.set_timeout(std::time::Duration::from_secs(20));
    let answer: EchoResponse = client.unary(request).await?.into_inner();
    assert_eq!(answer.node, "city");
    Ok(())
}

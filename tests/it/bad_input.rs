//! What does a wrong call, a wrong node or a wrong file get, and who else notices?
//!
//! A clear error with a machine-readable reason; nobody else.

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use std::{
    process::{Command, Stdio},
    sync::Arc,
};
use suiyue_proto::{
    metadata,
    reason::Reason,
    v1::{
        Hello, Manifest, RegionReady, RegisterRequest, Report, Role, register_request::Message as Say,
        register_response::Message as Hear, registry_service_client::RegistryServiceClient,
    },
};
use suiyue_tests::{
    client::{Answer, Connection, REGION, channel, framed, prefixed, request},
    eventually::ends,
    federation::Federation,
    load::{Load, Mix},
    node::{Node, token},
    programs,
    region::{BEIJING, GUANGZHOU, XIAN},
    v1::EchoRequest,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request};

const UNARY: &str = "/suiyue.test.v1.EchoService/Unary";
/// Calls of a bystander before and after the bad input.
const BYSTANDER_CALLS: u64 = 50;

/// A federation of one node, and somebody else who uses it all the time.
struct Scene {
    federation: Federation,
    bystander: Load,
    connection: Connection,
}

impl Scene {
    async fn open() -> anyhow::Result<Self> {
        let federation = Federation::builder().node(Node::echo("city", GUANGZHOU)).start().await?;
        let bystander = Load::start(&federation.data(), GUANGZHOU, 2, Mix::WithOnce);
        bystander.proceeds(BYSTANDER_CALLS).await?;
        let connection = Connection::open(federation.gateway().data).await?;
        Ok(Self { federation, bystander, connection })
    }

    /// What the gateway says to a call.
    async fn call(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> anyhow::Result<Answer> {
        Ok(ends("an answer", self.connection.call(request(path, headers), body)).await??)
    }

    /// A call of the test service gets this reason, with its code and its sentence.
    async fn refused(
        &self,
        headers: &[(&str, &str)],
        body: Bytes,
        reason: Reason,
    ) -> anyhow::Result<tonic::Status> {
        self.refused_at(UNARY, headers, body, reason).await
    }

    async fn refused_at(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        reason: Reason,
    ) -> anyhow::Result<tonic::Status> {
        let answer = self.call(path, headers, body).await?;
        let status = answer.status().with_context(|| format!("no status: {answer:?}"))?;
        ensure!(Reason::of(&status) == Some(reason), "not {reason:?}: {answer:?}");
        ensure!((status.code(), status.message()) == (reason.code(), reason.text()), "{status:?}");
        Ok(status)
    }

    /// The connection still serves, and the bystander has noticed nothing.
    async fn undisturbed(self) -> anyhow::Result<()> {
        let answer = self.call(UNARY, &[], framed(&message(GUANGZHOU))).await?;
        ensure!(answer.code() == Some(Code::Ok), "the same connection serves no more: {answer:?}");
        self.bystander.proceeds(BYSTANDER_CALLS).await?;
        self.bystander.stop().await?.flawless()
    }
}

fn message(region: u32) -> EchoRequest {
    EchoRequest { region, call_id: "bad-input".to_owned(), ..Default::default() }
}

const TO_GUANGZHOU: [(&str, &str); 1] = [(REGION, "440100")];

#[tokio::test]
async fn an_unknown_region_is_not_found() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    for region in [445_555, 999_999, 7] {
        scene.refused(&[], framed(&message(region)), Reason::RegionUnknown).await?;
    }
    let headers = [(REGION, "445555")];
    scene.refused(&headers, framed(&message(GUANGZHOU)), Reason::RegionUnknown).await?;
    scene.undisturbed().await
}

#[tokio::test]
async fn a_missing_region_is_asked_for() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    scene.refused(&[], framed(&message(0)), Reason::RegionRequired).await?;
    scene.undisturbed().await
}

#[tokio::test]
async fn a_malformed_region_is_refused() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    for region in ["guangzhou", "4401", "", "0440100", "-40100"] {
        let headers = [(REGION, region)];
        scene.refused(&headers, framed(&message(GUANGZHOU)), Reason::RegionMalformed).await?;
    }
    scene.undisturbed().await
}

#[tokio::test]
async fn a_retired_region_names_its_successor() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    // Chaohu became a county-level city in 2011.
    let status = scene.refused(&[], framed(&message(341_400)), Reason::RegionRetired).await?;
    let info = tonic_types::StatusExt::get_details_error_info(&status).context("details")?;
    assert!(info.metadata.values().any(|value| value == "340181"), "{info:?}");
    scene.undisturbed().await
}

#[tokio::test]
async fn a_region_that_nobody_serves_is_said_so() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    for region in [BEIJING, XIAN] {
        scene.refused(&[], framed(&message(region)), Reason::RegionNotJoined).await?;
    }
    scene.undisturbed().await
}

#[tokio::test]
async fn a_malformed_message_is_refused() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    // A tag without a value, a varint that does not end, a length beyond the end.
    for bytes in [&b"\x08"[..], &[0xff; 12], b"\x12\x7fxy"] {
        scene.refused(&[], prefixed(0, bytes), Reason::MessageMalformed).await?;
    }
    scene.undisturbed().await
}

#[tokio::test]
async fn broken_framing_is_refused() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let whole = framed(&message(GUANGZHOU));
    for body in [whole.slice(..3), whole.slice(..whole.len() - 1), Bytes::new()] {
        scene.refused(&TO_GUANGZHOU, body, Reason::FramingInvalid).await?;
    }
    let mut two = BytesMut::from(&whole[..]);
    two.put_slice(&whole);
    scene.refused(&TO_GUANGZHOU, two.freeze(), Reason::FramingInvalid).await?;
    scene.undisturbed().await
}

#[tokio::test]
async fn a_compressed_message_needs_the_region_in_the_metadata() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let compressed = prefixed(1, b"\x1f\x8b whatever");
    let encoding = ("grpc-encoding", "gzip");
    scene.refused(&[encoding], compressed.clone(), Reason::CompressedNeedsRegion).await?;
    // With it, the bytes pass undecoded: what comes back is the node's opinion.
    let answer = scene.call(UNARY, &[encoding, TO_GUANGZHOU[0]], compressed).await?;
    assert_eq!(answer.meta(&metadata::SERVED_BY).as_deref(), Some("city"), "{answer:?}");
    assert_eq!(answer.reason(), None, "{answer:?}");
    scene.undisturbed().await
}

#[tokio::test]
async fn an_oversized_message_is_refused() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let large = EchoRequest { payload: Bytes::from(vec![b'x'; 200 << 10]), ..message(GUANGZHOU) };
    scene.refused(&[], framed(&large), Reason::MessageTooLarge).await?;
    // Announced and never sent.
    let mut announced = BytesMut::new();
    announced.put_u8(0);
    announced.put_u32(u32::MAX);
    announced.put_slice(b"\x08");
    scene.refused(&TO_GUANGZHOU, announced.freeze(), Reason::MessageTooLarge).await?;
    scene.undisturbed().await
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let body = framed(&message(GUANGZHOU));
    for path in ["/no.such.Service/Method", "/suiyue.test.v1.EchoService/Unlisted", "/", "/a/b/c"] {
        scene.refused_at(path, &[], body.clone(), Reason::MethodUnknown).await?;
    }
    scene.undisturbed().await
}

#[tokio::test]
async fn a_method_that_is_not_for_apps_is_denied() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let body = framed(&message(GUANGZHOU));
    for path in [
        "/suiyue.test.v1.EchoService/Replicate",
        "/suiyue.v1.RegistryService/Register",
        "/suiyue.v1.OperatorService/DumpRegistry",
    ] {
        scene.refused_at(path, &[], body.clone(), Reason::MethodNotPublic).await?;
    }
    assert_eq!(scene.federation.nodes[0].executions().unfinished(), 0);
    scene.undisturbed().await
}

#[tokio::test]
async fn a_malformed_timeout_is_refused() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    for timeout in ["soon", "1", "-1S", "123456789S"] {
        let headers = [("grpc-timeout", timeout)];
        scene.refused(&headers, framed(&message(GUANGZHOU)), Reason::TimeoutMalformed).await?;
    }
    scene.undisturbed().await
}

#[tokio::test]
async fn another_content_type_is_an_unsupported_media_type() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    for content_type in ["application/json", "text/html", "application/grpcish", ""] {
        let headers = [("content-type", content_type)];
        let answer = scene.call(UNARY, &headers, framed(&message(GUANGZHOU))).await?;
        assert_eq!(answer.http.as_u16(), 415, "{content_type}: {answer:?}");
    }
    scene.undisturbed().await
}

#[tokio::test]
async fn what_is_no_http2_is_closed() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let garbage: Vec<u8> = (0..4096).map(|_| rand::random()).collect();
    let http1 = b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n".to_vec();
    // A TLS ClientHello's beginning, and HTTP/2 that turns into garbage after its preface.
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    let half = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), vec![0xff; 64]].concat();
    for bytes in [garbage, http1, tls, half] {
        let mut stream = TcpStream::connect(scene.federation.gateway().data).await?;
        // The gateway may close before all is written.
        let _ = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        // Reset or closed: both are an end.
        let _ = ends("the gateway closes", stream.read_to_end(&mut answer)).await?;
    }
    scene.undisturbed().await
}

#[tokio::test]
async fn a_caller_that_takes_all_its_calls_back_is_sent_away() -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let head = [0, 0, payload.len() as u8, kind, flags];
        [&head[..], &id.to_be_bytes(), payload].concat()
    };
    let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
    for id in (1..400).step_by(2) {
        // HEADERS with POST, http and /, and RST_STREAM with CANCEL.
        bytes.extend([frame(1, 5, id, &[0x83, 0x86, 0x84]), frame(3, 0, id, &[0, 0, 0, 8])].concat());
    }
    let mut stream = TcpStream::connect(scene.federation.gateway().data).await?;
    stream.write_all(&bytes).await?;
    let mut answer = Vec::new();
    ends("the gateway closes", stream.read_to_end(&mut answer)).await??;
    let calm = [0, 0, 0, 11];
    ensure!(answer.ends_with(&calm), "not GOAWAY with ENHANCE_YOUR_CALM: {answer:x?}");
    scene.undisturbed().await
}

/// What a registration gets: welcome, or a refusal.
async fn register(scene: &Scene, manifest: Manifest, token: Option<&str>) -> anyhow::Result<tonic::Status> {
    let mut client = RegistryServiceClient::new(channel(scene.federation.gateway().control).await?);
    let ready = manifest.scopes.iter().map(|&region| RegionReady { region, as_of_unix_ms: 1 }).collect();
    let hello = Hello {
        endpoint: format!("{}-1", manifest.node),
        manifest: Some(manifest),
        address: "127.0.0.1:9".to_owned(),
        incarnation: 1,
        keys: Vec::new(),
        report: Some(Report { ready, draining: false }),
        ..Hello::default()
    };
    let (say, said) = tokio::sync::mpsc::channel(1);
    say.send(RegisterRequest { message: Some(Say::Hello(hello)) }).await?;
    let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(said));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    let mut heard = match ends("the registrar answers", client.register(request)).await? {
        Ok(heard) => heard.into_inner(),
        Err(status) => return Ok(status),
    };
    while let Some(next) = ends("the registrar answers", heard.message()).await?.transpose() {
        match next {
            Err(status) => return Ok(status),
            Ok(answer) if matches!(answer.message, Some(Hear::Welcome(_))) => anyhow::bail!("welcome"),
            Ok(_) => {}
        }
    }
    anyhow::bail!("the stream ended without a status")
}

fn manifest(node: &str, region: u32, scopes: &[u32]) -> Manifest {
    Manifest {
        region,
        node: node.to_owned(),
        role: Role::City.into(),
        scopes: scopes.to_vec(),
        ..Default::default()
    }
}

async fn not_joined(manifest: Manifest, token: Option<&str>, reason: Reason) -> anyhow::Result<()> {
    let scene = Scene::open().await?;
    let name = manifest.node.clone();
    let status = register(&scene, manifest, token).await?;
    assert_eq!((Reason::of(&status), status.code()), (Some(reason), reason.code()), "{status:?}");
    let listed = scene.federation.gateway().nodes().await?;
    assert!(listed.nodes.iter().all(|node| node.node != name), "{listed:?}");
    scene.undisturbed().await
}

#[tokio::test]
async fn a_node_with_a_wrong_token_does_not_join() -> anyhow::Result<()> {
    not_joined(manifest("forger", GUANGZHOU, &[GUANGZHOU]), Some("wrong"), Reason::JoinTokenInvalid).await
}

#[tokio::test]
async fn a_node_without_a_token_does_not_join() -> anyhow::Result<()> {
    not_joined(manifest("forger", GUANGZHOU, &[GUANGZHOU]), None, Reason::JoinTokenInvalid).await
}

#[tokio::test]
async fn a_node_cannot_speak_for_a_region_with_the_token_of_another() -> anyhow::Result<()> {
    let token = token(XIAN);
    not_joined(manifest("forger", GUANGZHOU, &[GUANGZHOU]), Some(&token), Reason::JoinScopeRefused).await
}

#[tokio::test]
async fn a_city_cannot_claim_another_region() -> anyhow::Result<()> {
    let token = token(XIAN);
    let manifest = manifest("greedy", XIAN, &[XIAN, GUANGZHOU]);
    not_joined(manifest, Some(&token), Reason::JoinScopeRefused).await
}

#[tokio::test]
async fn a_node_cannot_take_the_name_of_another_regions_node() -> anyhow::Result<()> {
    let token = token(XIAN);
    let scene = Scene::open().await?;
    let status = register(&scene, manifest("city", XIAN, &[XIAN]), Some(&token)).await?;
    assert_eq!(Reason::of(&status), Some(Reason::NodeNameTaken), "{status:?}");
    assert_eq!(scene.federation.gateway().node("city").await?.region, GUANGZHOU);
    scene.undisturbed().await
}

/// Runs a program with a bad file and returns what it says before it ends.
fn complaint(arguments: &[&str], file: &str, text: &str) -> anyhow::Result<String> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join(file), text)?;
    let output = Command::new(programs::suiyue())
        .args(arguments)
        .args(["--config", file])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()?;
    ensure!(!output.status.success(), "it started with {text:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_wrong_field_of_a_configuration_is_named_with_its_line() -> anyhow::Result<()> {
    let check = |arguments: &[&str], file: &str, text: &str, field: &str, line: u32| -> anyhow::Result<()> {
        let said = complaint(arguments, file, text)?;
        for part in [file, field, &line.to_string()] {
            ensure!(said.contains(part), "{part:?} is not in: {said}");
        }
        ensure!(!said.contains("panicked"), "{said}");
        Ok(())
    };
    let gateway = |text: &str, field: &str, line| check(&["gateway"], "gateway.toml", text, field, line);
    gateway("id = \"gw-1\"\nlisten = \"127.0.0.1:0\"\nlissten = \"x\"\n", "lissten", 3)?;
    gateway("id = \"gw-1\"\n\nworkers = \"two\"\n", "workers", 3)?;
    gateway("id = \"gw-1\"\n[registry]\nkind = \"zookeeper\"\n", "kind", 3)?;
    gateway("id = \"gw-1\"\ndefault_region = 445555\n", "default_region", 2)?;
    let node = |text: &str, field: &str, line| check(&["node", "run"], "node.toml", text, field, line);
    node("name = \"a\"\nregion = 440100\nrole = \"village\"\n", "role", 3)?;
    node("name = \"a\"\nregion = 440100\nrole = \"city\"\nscope = [440100]\n", "scope", 4)
}

#[tokio::test]
async fn the_control_port_refuses_to_listen_beyond_loopback() -> anyhow::Result<()> {
    let text = "listen = \"127.0.0.1:0\"\ncontrol = \"0.0.0.0:0\"\nadmin = \"127.0.0.1:0\"\n";
    let said = complaint(&["gateway"], "gateway.toml", text)?;
    ensure!(said.contains("control") && said.contains("loopback"), "{said}");
    Ok(())
}

/// Many bad calls at once on one connection: each gets its own answer.
#[tokio::test]
async fn bad_calls_do_not_disturb_each_other() -> anyhow::Result<()> {
    let scene = Arc::new(Scene::open().await?);
    // The connection learns the stream limit with its first call: 300 streams at once without it are
    // an attack, and answered as one.
    scene.refused(&[], framed(&message(445_555)), Reason::RegionUnknown).await?;
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..300_u32 {
        let scene = Arc::clone(&scene);
        callers.spawn(async move {
            match number % 3 {
                0 => scene.refused(&[], framed(&message(445_555)), Reason::RegionUnknown).await.map(|_| ()),
                1 => scene.refused(&[], prefixed(0, b"\x08"), Reason::MessageMalformed).await.map(|_| ()),
                _ => {
                    let answer = scene.call(UNARY, &[], framed(&message(GUANGZHOU))).await?;
                    ensure!(answer.code() == Some(Code::Ok), "{answer:?}");
                    Ok(())
                }
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Arc::into_inner(scene).context("all callers have ended")?.undisturbed().await
}

//! Does a system that knows nothing of us answer for its city, and does nobody suffer when it cannot?

use crate::cli::run;
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::future::join_all;
use std::{fs, time::Instant};
use suiyue_node::population::{self, Holder};
use suiyue_proto::{
    metadata,
    reason::Reason,
    region::Code,
    sy1::Level,
    v1::{
        self, RecordScansRequest, Scan, ScanOutcome, ShowCodeRequest, Verdict, VerdictReason,
        VerifyBatchRequest, VerifyCodeRequest, code_service_client::CodeServiceClient,
        status_service_client::StatusServiceClient,
    },
};
use suiyue_tests::{
    client::{self, Connection, framed, request},
    eventually::eventually,
    federation::Federation,
    node::{self, Node},
    old_system::{Ills, OldSystem, PREFIX},
    programs,
    region::{GUANGDONG, GUANGZHOU},
};
use tempfile::TempDir;
use tonic::{Code as Grpc, Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

const SHOW: &str = "/suiyue.v1.CodeService/ShowCode";
const HOLDERS: u64 = node::HOLDERS;

/// A node in front of an old system; the directory holds its mapping.
pub(crate) struct Adapted {
    pub(crate) builder: node::Builder,
    pub(crate) dir: TempDir,
}

/// With the example's mapping.
pub(crate) fn adapted(system: &OldSystem, rps: u32, more: &str) -> anyhow::Result<Adapted> {
    let mapping = fs::read_to_string(programs::file("../deploy/examples/mapping-guangzhou.toml"))?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("mapping.toml");
    fs::write(&file, mapping)?;
    let tables = format!("[adapter]\nurl = \"http://{}\"\nmapping = {file:?}\n{more}", system.address);
    Ok(Adapted { builder: Node::codes("suikang", GUANGZHOU).rps_max(rps).tables(&tables), dir })
}

fn somebody(level: Level) -> anyhow::Result<Holder> {
    let guangzhou = Code::new(GUANGZHOU).context("a region")?;
    let mut all = (0..HOLDERS).map(|index| population::holder(guangzhou, index, node::SEED));
    all.find(|holder| holder.level == level).context("a holder of this level")
}

fn subject(holder: &Holder) -> Bytes {
    Bytes::copy_from_slice(&holder.subject)
}

fn show_of(index: u64) -> anyhow::Result<ShowCodeRequest> {
    let guangzhou = Code::new(GUANGZHOU).context("a region")?;
    let holder = population::holder(guangzhou, index, node::SEED);
    Ok(ShowCodeRequest { region: GUANGZHOU, subject: subject(&holder), max_staleness_s: None })
}

fn verify_of(code: &str) -> VerifyCodeRequest {
    VerifyCodeRequest {
        region: GUANGZHOU,
        code: code.to_owned(),
        request_id: Bytes::from_static(&[7; 16]),
        max_staleness_s: None,
    }
}

struct App {
    codes: CodeServiceClient<Channel>,
    statuses: StatusServiceClient<Channel>,
}

impl App {
    async fn at(address: std::net::SocketAddr) -> anyhow::Result<Self> {
        let channel = client::channel(address).await?;
        Ok(Self {
            codes: CodeServiceClient::new(channel.clone()),
            statuses: StatusServiceClient::new(channel),
        })
    }

    async fn show(&mut self, holder: &Holder) -> Result<v1::ShowCodeResponse, Status> {
        let asked = ShowCodeRequest { region: GUANGZHOU, subject: subject(holder), max_staleness_s: None };
        Ok(self.codes.show_code(asked).await?.into_inner())
    }

    async fn verify(&mut self, code: &str) -> Result<v1::CodeResult, Status> {
        Ok(self.codes.verify_code(verify_of(code)).await?.into_inner().result.unwrap_or_default())
    }

    async fn status(&mut self, holder: &Holder) -> Result<v1::Status, Status> {
        let asked =
            v1::GetStatusRequest { region: GUANGZHOU, subject: subject(holder), max_staleness_s: None };
        Ok(self.statuses.get_status(asked).await?.into_inner().status.unwrap_or_default())
    }
}

async fn with_province(adapted: Adapted) -> anyhow::Result<(Federation, TempDir)> {
    let federation = Federation::builder()
        .node(adapted.builder)
        .node(Node::codes("yuekang", GUANGDONG).scopes(&[GUANGZHOU]))
        .start()
        .await?;
    Ok((federation, adapted.dir))
}

#[tokio::test]
async fn an_old_system_shows_verifies_and_tells_through_the_gateway() -> anyhow::Result<()> {
    let system = OldSystem::start(HOLDERS, node::SEED).await?;
    let (federation, _dir) = with_province(adapted(&system, 500, "")?).await?;
    let mut app = App::at(federation.gateway().data).await?;
    for (level, verdict) in
        [(Level::Green, Verdict::Pass), (Level::Yellow, Verdict::Caution), (Level::Red, Verdict::Deny)]
    {
        let holder = somebody(level)?;
        let asked = ShowCodeRequest { region: GUANGZHOU, subject: subject(&holder), max_staleness_s: None };
        let answer = app.codes.show_code(asked).await?;
        let by = answer.metadata().get(metadata::SERVED_BY.as_str()).cloned();
        assert_eq!(by.as_ref().and_then(|by| by.to_str().ok()), Some("suikang"));
        let shown = answer.into_inner();
        ensure!(shown.code.starts_with(PREFIX) && shown.level == i32::from(level.number()), "{shown:?}");
        let served = shown.served.clone().unwrap_or_default();
        ensure!(served.node == "suikang" && served.freshness() == v1::Freshness::Authoritative, "{served:?}");
        let judged = app.verify(&shown.code).await?;
        ensure!(judged.verdict() == verdict && judged.level == i32::from(level.number()), "{judged:?}");
        // Its times come in milliseconds, one of them as a text.
        ensure!(judged.expires_unix_s - judged.issued_unix_s == 120, "{judged:?}");
        let status = app.status(&holder).await?;
        assert_eq!((status.level, status.decided_unix_ms), (level.number().into(), 1_700_000_000_000));
        assert_eq!(status.reason, "test-overdue");
    }
    let nobody = Holder { subject: [9; 16], ..somebody(Level::Green)? };
    for refused in [app.show(&nobody).await.err(), app.status(&nobody).await.err()] {
        assert_eq!(refused.as_ref().and_then(Reason::of), Some(Reason::HolderNotFound), "{refused:?}");
    }
    let forged = app.verify(&format!("{PREFIX}00000000000000010000000a")).await?;
    assert_eq!(forged.verdict(), Verdict::Deny);
    assert_eq!(forged.reasons().collect::<Vec<_>>(), [VerdictReason::SignatureInvalid]);
    let decide = v1::CommitStatusRequest { region: GUANGZHOU, ..Default::default() };
    let decided = app.statuses.commit_status(decide).await.err();
    assert_eq!(decided.as_ref().and_then(Reason::of), Some(Reason::SystemLacks), "{decided:?}");
    Ok(())
}

#[tokio::test]
async fn its_codes_and_ours_are_judged_side_by_side_and_scans_are_stored() -> anyhow::Result<()> {
    let system = OldSystem::start(HOLDERS, node::SEED).await?;
    let (mut federation, _dir) = with_province(adapted(&system, 500, "")?).await?;
    let province = federation.node("yuekang")?.address;
    let mut app = App::at(federation.gateway().data).await?;
    let holder = somebody(Level::Yellow)?;
    let its = app.show(&holder).await?.code;
    let ours = App::at(province).await?.show(&holder).await?.code;
    ensure!(ours.starts_with("SY1:440100:"), "{ours}");
    let forged = format!("{}0", &its[..its.len() - 1]);
    let asked = VerifyBatchRequest {
        region: GUANGZHOU,
        codes: vec![its.clone(), ours, if forged == its { format!("{forged}1") } else { forged }],
        request_id: Bytes::from_static(&[1; 16]),
        max_staleness_s: None,
    };
    let suikang = federation.node("suikang")?.address;
    // The federation's keys reach the node a moment after it has joined.
    eventually("both kinds are judged", async || {
        let mut node = App::at(suikang).await?;
        let results = node.codes.verify_batch(asked.clone()).await?.into_inner().results;
        let verdicts: Vec<_> = results.iter().map(v1::CodeResult::verdict).collect();
        ensure!(verdicts == [Verdict::Caution, Verdict::Caution, Verdict::Deny], "{results:?}");
        Ok(())
    })
    .await?;
    let scan = Scan {
        scan_id: Bytes::from_static(&[5; 16]),
        device: "gate-1".to_owned(),
        place: "canton-tower".to_owned(),
        code: its,
        scanned_unix_ms: 1_700_000_000_000,
        ..Default::default()
    };
    let scans = RecordScansRequest { region: GUANGZHOU, scans: vec![scan] };
    let mut call = Request::new(futures_util::stream::iter([scans]));
    call.metadata_mut().insert(client::REGION, GUANGZHOU.to_string().parse()?);
    let mut receipts = app.codes.record_scans(call).await?.into_inner();
    let receipt = receipts.message().await?.context("a receipt")?.receipts;
    assert_eq!(receipt.first().map(v1::ScanReceipt::outcome), Some(ScanOutcome::Stored));
    Ok(())
}

#[tokio::test]
async fn what_is_not_mapped_is_not_guessed() -> anyhow::Result<()> {
    let system = OldSystem::start(HOLDERS, node::SEED).await?;
    let node = adapted(&system, 500, "")?;
    let (running, _dir) = (node.builder.start().await?, node.dir);
    let mut app = App::at(running.address).await?;
    let holder = somebody(Level::Green)?;
    let code = app.show(&holder).await?.code;
    system.arrange(Ills { blue: true, ..Ills::default() });
    let judged = app.verify(&code).await?;
    assert_eq!((judged.verdict(), judged.level), (Verdict::Unknown, 0));
    assert_eq!(judged.reasons().collect::<Vec<_>>(), [VerdictReason::NotMapped]);
    assert_eq!((app.show(&holder).await?.level, app.status(&holder).await?.level), (0, 0));
    system.arrange(Ills { odd_error: true, ..Ills::default() });
    let judged = app.verify(&code).await?;
    assert_eq!(judged.reasons().collect::<Vec<_>>(), [VerdictReason::NotMapped]);
    let refused = app.show(&holder).await.err();
    assert_eq!(refused.as_ref().and_then(Reason::of), Some(Reason::SystemAnswerUnknown), "{refused:?}");
    let log = running.process.log();
    ensure!(log.contains("蓝码") && log.contains("77777"), "the words are not named: {log}");
    Ok(())
}

#[tokio::test]
async fn a_bad_mapping_is_refused_at_the_start_with_its_line() -> anyhow::Result<()> {
    let system = OldSystem::start(1, 1).await?;
    let dir = tempfile::tempdir()?;
    let mapping = fs::read_to_string(programs::file("../deploy/examples/mapping-guangzhou.toml"))?;
    let line = 1 + mapping.lines().position(|line| line.contains("\"黄码\"")).context("a level")?;
    let (file, config) = (dir.path().join("mapping.toml"), dir.path().join("node.toml"));
    fs::write(&file, mapping.replace("\"黄码\" = \"yellow\"", "\"黄码\" = \"amber\""))?;
    let base = "region = 440100\nname = \"suikang\"\n";
    let section = format!("[adapter]\nurl = \"http://{}\"\nmapping = {file:?}\n", system.address);
    let check = async |text: String, words: &[&str]| -> anyhow::Result<()> {
        fs::write(&config, text)?;
        let refused = run(&["node", "run", "--config", &config.display().to_string()]).await?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(2), "{:?}: {said}", refused.status);
        for word in words {
            ensure!(said.contains(word), "{word:?} is not in {said}");
        }
        Ok(())
    };
    let place = format!("{}, line {line}: levels.黄码: \"amber\" is no level", file.display());
    check(format!("{base}rps_max = 10\n{section}"), &[&place]).await?;
    check(format!("{base}{section}"), &["node.toml, line 3: adapter: rps_max"]).await?;
    check(format!("{base}rps_max = 4\n{section}"), &["line 4: adapter: rps_max of the node: at least 5"])
        .await?;
    let populated = "[[population]]\nregion = 440100\nholders = 1\n";
    check(format!("{base}rps_max = 10\n{populated}{section}"), &["line 7: adapter: holders are those"])
        .await?;
    let https = section.replace("http://", "https://");
    check(format!("{base}rps_max = 10\n{https}"), &["line 5: adapter.url: https needs adapter.ca"]).await?;
    Ok(())
}

#[tokio::test]
async fn when_the_old_system_is_away_the_province_takes_over_and_gives_back() -> anyhow::Result<()> {
    let mut system = OldSystem::start(HOLDERS, node::SEED).await?;
    let (federation, _dir) = with_province(adapted(&system, 500, "")?).await?;
    let gateway = federation.gateway();
    let served_by = async |name: &str| {
        eventually(&format!("{name} answers"), async || {
            let connection = Connection::open(gateway.data).await?;
            let answer = connection.call(request(SHOW, &[]), framed(&show_of(1)?)).await?;
            ensure!(answer.code() == Some(Grpc::Ok), "{answer:?}");
            ensure!(answer.meta(&metadata::SERVED_BY).as_deref() == Some(name), "{answer:?}");
            Ok(())
        })
        .await
    };
    let ready = async |expected: bool| {
        eventually(&format!("suikang's readiness is {expected}"), async || {
            let node = gateway.node("suikang").await?;
            let endpoint = node.endpoints.first().context("an endpoint")?;
            ensure!(endpoint.ready.contains(&GUANGZHOU) == expected, "{endpoint:?}");
            Ok(())
        })
        .await
    };
    served_by("suikang").await?;
    system.go();
    served_by("yuekang").await?;
    ready(false).await?;
    let refused = App::at(federation.nodes[0].address).await?.show(&somebody(Level::Green)?).await.err();
    assert_eq!(refused.as_ref().and_then(Reason::of), Some(Reason::NotReady), "{refused:?}");
    system.come_back().await?;
    ready(true).await?;
    served_by("suikang").await?;
    // It says that it is not well: the same.
    system.arrange(Ills { unwell: true, ..Ills::default() });
    served_by("yuekang").await
}

#[tokio::test]
async fn the_declared_rate_is_a_hard_cap() -> anyhow::Result<()> {
    const RPS: u32 = 40;
    let system = OldSystem::start(HOLDERS, node::SEED).await?;
    let node = adapted(&system, RPS, "")?;
    let (running, _dir) = (node.builder.start().await?, node.dir);
    let channel = client::channel(running.address).await?;
    let (began, _) = (Instant::now(), system.asked());
    let (mut answered, mut refused) = (0, 0);
    // More than two seconds' worth.
    for round in (0..10).cycle() {
        let calls = (0..100).map(|index| {
            let mut codes = CodeServiceClient::new(channel.clone());
            async move { anyhow::Ok(codes.show_code(show_of(round * 100 + index)?).await) }
        });
        for answer in join_all(calls).await {
            match answer? {
                Ok(_) => answered += 1,
                Err(status) => {
                    assert_eq!(Reason::of(&status), Some(Reason::SystemOverloaded), "{status:?}");
                    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
                    ensure!(wait.is_some_and(|wait| !wait.is_zero()), "{status:?}");
                    ensure!(status.metadata().contains_key("grpc-retry-pushback-ms"), "{status:?}");
                    refused += 1;
                }
            }
        }
        if answered > 2 * RPS as usize {
            break;
        }
    }
    let asked = system.asked();
    let seconds = began.elapsed().as_secs_f64();
    // However they were spread, so many at most can have left in this time.
    let allowed = f64::from(RPS) * seconds + f64::from(RPS) / 20.0 + 1.0;
    println!(
        "{answered} answered, {refused} refused in {seconds:.2} s; {} asked, {} within one second at most",
        asked.at.len(),
        asked.most_in_a_second()
    );
    ensure!(refused > 0 && asked.of("/api/v2/qr") == answered, "{answered} {refused}");
    ensure!(asked.at.len() as f64 <= allowed, "{} of {allowed}", asked.at.len());
    Ok(())
}

#[tokio::test]
async fn the_same_question_is_asked_once_at_a_time() -> anyhow::Result<()> {
    let system = OldSystem::start(HOLDERS, node::SEED).await?;
    let node = adapted(&system, 1_000, "timeout_ms = 20000")?;
    let (running, _dir) = (node.builder.start().await?, node.dir);
    let channel = client::channel(running.address).await?;
    system.arrange(Ills { slow_ms: 1_000, ..Ills::default() });
    drop(system.asked());
    let calls = (0..50).map(|_| {
        let mut codes = CodeServiceClient::new(channel.clone());
        async move { anyhow::Ok(codes.show_code(show_of(1)?).await?.into_inner().code) }
    });
    let codes: Vec<_> = join_all(calls).await.into_iter().collect::<anyhow::Result<_>>()?;
    let asked = system.asked().of("/api/v2/qr");
    ensure!(codes.len() == 50 && (1..25).contains(&asked), "{asked} for 50 calls");
    Ok(())
}

#[tokio::test]
async fn the_breaker_opens_and_closes() -> anyhow::Result<()> {
    let system = OldSystem::start(HOLDERS, node::SEED).await?;
    let node = adapted(&system, 1_000, "")?;
    let (running, _dir) = (node.builder.start().await?, node.dir);
    let mut app = App::at(running.address).await?;
    let holder = somebody(Level::Green)?;
    for ills in [Ills { fails: true, ..Ills::default() }, Ills { garbled: true, ..Ills::default() }] {
        eventually("it answers", async || Ok(app.show(&holder).await?)).await?;
        system.arrange(ills);
        let mut reasons = Vec::new();
        // Its health is fine all the time: what its answers show wins.
        eventually("it is not asked any more", async || {
            let refused = app.show(&holder).await.err().context("refused")?;
            assert_eq!(refused.code(), Grpc::Unavailable, "{refused:?}");
            reasons.push(Reason::of(&refused));
            ensure!(refused.message().contains("has not loaded"), "{refused:?}");
            Ok(())
        })
        .await?;
        ensure!(reasons.contains(&Some(Reason::SystemUnavailable)), "{reasons:?}");
        let log = running.process.log();
        ensure!(log.contains("the breaker is open"), "{log}");
        system.arrange(Ills::default());
        eventually("it is asked again", async || Ok(app.show(&holder).await?)).await?;
        eventually("the breaker is closed", async || {
            app.show(&holder).await?;
            let log = running.process.log();
            ensure!(log.matches("the breaker is closed").count() >= 1, "{log}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_caller_waits_no_longer_than_it_says() -> anyhow::Result<()> {
    let system = OldSystem::start(HOLDERS, node::SEED).await?;
    let node = adapted(&system, 1_000, "timeout_ms = 30000")?;
    let (running, _dir) = (node.builder.start().await?, node.dir);
    system.arrange(Ills { slow_ms: 20_000, ..Ills::default() });
    let connection = Connection::open(running.address).await?;
    let hurried = connection.call(request(SHOW, &[("grpc-timeout", "200m")]), framed(&show_of(1)?)).await?;
    assert_eq!(hurried.reason(), Some(Reason::DeadlineExceeded), "{hurried:?}");
    let malformed = connection.call(request(SHOW, &[("grpc-timeout", "soon")]), framed(&show_of(1)?)).await?;
    assert_eq!(malformed.reason(), Some(Reason::TimeoutMalformed), "{malformed:?}");
    Ok(())
}

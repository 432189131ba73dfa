//! Does a call reach the node that should answer it, and does the answer say so?

use anyhow::Context as _;
use bytes::Bytes;
use std::net::SocketAddr;
use suiyue_node::population::subject;
use suiyue_proto::{
    metadata,
    region::Code,
    v1::{
        CommitStatusRequest, Freshness, GetStatusRequest, Level, RecordScansRequest, Role, Scan, ScanOutcome,
        ShowCodeRequest, ShowCodeResponse, Verdict, VerdictReason, VerifyBatchRequest, VerifyCodeRequest,
        VerifyCodeResponse, WatchStatusRequest, code_service_client::CodeServiceClient,
        status_service_client::StatusServiceClient,
    },
};
use suiyue_tests::{
    client::{Connection, REGION, channel, framed, request},
    eventually::ends,
    federation::Federation,
    node::{Node, SEED},
    region::{GUANGDONG, GUANGZHOU, TIANHE, XIAN},
};
use tonic::{Response, transport::Channel};

/// Holder number `index` of a region.
pub(crate) fn holder(region: u32, index: u64) -> Bytes {
    let region = Code::new(region).expect("a region of the tests");
    Bytes::copy_from_slice(&subject(region, index, SEED))
}

pub(crate) fn id() -> Bytes {
    Bytes::copy_from_slice(&rand::random::<[u8; 16]>())
}

fn meta<'a, T>(answer: &'a Response<T>, name: &http::HeaderName) -> &'a str {
    answer.metadata().get(name.as_str()).and_then(|value| value.to_str().ok()).unwrap_or("(absent)")
}

async fn codes(gateway: SocketAddr) -> anyhow::Result<CodeServiceClient<Channel>> {
    Ok(CodeServiceClient::new(channel(gateway).await?))
}

async fn show(gateway: SocketAddr, region: u32, index: u64) -> anyhow::Result<Response<ShowCodeResponse>> {
    let subject = holder(if region == TIANHE { GUANGZHOU } else { region }, index);
    let request = ShowCodeRequest { region, subject, max_staleness_s: None };
    Ok(codes(gateway).await?.show_code(request).await?)
}

async fn verify(
    gateway: SocketAddr,
    region: u32,
    code: &str,
) -> anyhow::Result<Response<VerifyCodeResponse>> {
    let request =
        VerifyCodeRequest { region, code: code.to_owned(), request_id: id(), max_staleness_s: None };
    Ok(codes(gateway).await?.verify_code(request).await?)
}

async fn city_and_province() -> anyhow::Result<Federation> {
    Federation::builder()
        .etcd()
        .node(Node::codes("suikang", GUANGZHOU))
        .node(Node::codes("yuekang", GUANGDONG).scopes(&[GUANGZHOU]))
        .start()
        .await
}

#[tokio::test]
async fn the_city_shows_and_verifies_its_codes_and_every_answer_says_who_answered() -> anyhow::Result<()> {
    let federation = city_and_province().await?;
    let gateway = federation.gateway().data;
    let shown = show(gateway, GUANGZHOU, 1).await?;
    assert_eq!(meta(&shown, &metadata::SERVED_BY), "suikang");
    assert_eq!(meta(&shown, &metadata::TIER), "0");
    assert_eq!(meta(&shown, &metadata::REASON), "primary");
    assert_eq!(meta(&shown, &metadata::ATTEMPT), "1");
    assert!(meta(&shown, &metadata::PLAN).parse::<u64>()? > 0);
    let shown = shown.into_inner();
    let served = shown.served.clone().context("every answer says who answered")?;
    assert_eq!((served.region, served.node.as_str(), served.role()), (GUANGZHOU, "suikang", Role::City));
    assert_eq!((served.freshness(), served.staleness_s), (Freshness::Authoritative, 0));
    assert!(shown.code.starts_with("SY1:440100:"), "{}", shown.code);

    let verified = verify(gateway, GUANGZHOU, &shown.code).await?;
    assert_eq!(meta(&verified, &metadata::SERVED_BY), "suikang");
    let result = verified.into_inner().result.context("a result")?;
    assert_ne!(result.verdict(), Verdict::Unknown);
    assert_eq!((result.level(), result.issued_unix_s), (shown.level(), shown.issued_unix_s));

    let codes_of = vec![shown.code.clone(), "SY1:440100:NOT A CODE".to_owned()];
    let batch =
        VerifyBatchRequest { region: GUANGZHOU, codes: codes_of, request_id: id(), ..Default::default() };
    let results = codes(gateway).await?.verify_batch(batch).await?.into_inner().results;
    let forged = VerdictReason::SignatureInvalid;
    let found: Vec<_> =
        results.iter().map(|result| result.reasons().any(|reason| reason == forged)).collect();
    assert_eq!(found, [false, true], "{results:?}");
    Ok(())
}

#[tokio::test]
async fn a_county_is_answered_by_its_prefecture() -> anyhow::Result<()> {
    let federation = city_and_province().await?;
    let gateway = federation.gateway().data;
    let connection = Connection::open(gateway).await?;
    // By the message, and by the metadata, which wins.
    let by_message = show(gateway, TIANHE, 2).await?;
    assert_eq!(meta(&by_message, &metadata::SERVED_BY), "suikang");
    let message = ShowCodeRequest { region: GUANGZHOU, subject: holder(GUANGZHOU, 2), max_staleness_s: None };
    let headers = [(REGION, "440106")];
    let answer =
        connection.call(request("/suiyue.v1.CodeService/ShowCode", &headers), framed(&message)).await?;
    assert_eq!(answer.code(), Some(tonic::Code::Ok), "{answer:?}");
    assert_eq!(answer.meta(&metadata::SERVED_BY).as_deref(), Some("suikang"));
    Ok(())
}

#[tokio::test]
async fn the_province_answers_for_a_dead_city_and_says_replica() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    let gateway = federation.gateway().data;
    let before = show(gateway, GUANGZHOU, 3).await?.into_inner();
    federation.node("suikang")?.process.kill()?;
    let shown = show(gateway, GUANGZHOU, 3).await?;
    assert_eq!(meta(&shown, &metadata::SERVED_BY), "yuekang");
    assert_eq!(meta(&shown, &metadata::TIER), "1");
    let served = shown.into_inner().served.context("every answer says who answered")?;
    assert_eq!((served.role(), served.freshness()), (Role::Province, Freshness::Replica));
    // The province checks what the city has signed.
    let verified = verify(gateway, GUANGZHOU, &before.code).await?;
    assert_eq!(meta(&verified, &metadata::SERVED_BY), "yuekang");
    let result = verified.into_inner().result.context("a result")?;
    assert_eq!(result.level(), before.level());
    Ok(())
}

#[tokio::test]
async fn a_code_of_another_region_is_verified_by_that_region() -> anyhow::Result<()> {
    let federation = Federation::builder()
        .etcd()
        .node(Node::codes("suikang", GUANGZHOU))
        .node(Node::codes("xian", XIAN))
        .start()
        .await?;
    let gateway = federation.gateway().data;
    let shown = show(gateway, XIAN, 1).await?;
    assert_eq!(meta(&shown, &metadata::SERVED_BY), "xian");
    let code = shown.into_inner().code;
    let verified = verify(gateway, XIAN, &code).await?;
    assert_eq!(meta(&verified, &metadata::SERVED_BY), "xian");
    assert_ne!(verified.into_inner().result.context("a result")?.verdict(), Verdict::Unknown);
    // The same text under a wrong region is the caller's error and reaches nobody's statuses.
    let wrong = verify(gateway, GUANGZHOU, &code).await;
    let refused = match &wrong {
        Err(_) => true,
        Ok(answer) => answer.get_ref().result.as_ref().is_some_and(|r| r.verdict() == Verdict::Unknown),
    };
    assert!(refused, "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn scans_are_acknowledged_once_and_again_with_the_first_receipt() -> anyhow::Result<()> {
    let mut federation =
        Federation::builder().node(Node::codes("suikang", GUANGZHOU).durable()).start().await?;
    let code = show(federation.gateway().data, GUANGZHOU, 4).await?.into_inner().code;
    let scans: Vec<_> = (1..=20).map(|counter| scan(counter, &code)).collect();
    let first = record(&federation, &scans).await?;
    assert!(first.iter().all(|receipt| receipt.outcome() == ScanOutcome::Stored), "{first:?}");
    // Not even the death of the node makes a stored scan new.
    federation.node("suikang")?.process.kill()?;
    federation.node("suikang")?.restart().await?;
    federation.settled().await?;
    let second = record(&federation, &scans).await?;
    assert!(second.iter().all(|receipt| receipt.outcome() == ScanOutcome::Duplicate), "{second:?}");
    let positions = |receipts: &[suiyue_proto::v1::ScanReceipt]| {
        let mut all: Vec<_> = receipts.iter().map(|r| (r.scan_id.clone(), r.epoch, r.seq)).collect();
        all.sort();
        all
    };
    assert_eq!(positions(&first), positions(&second));
    Ok(())
}

fn scan(device_counter: u64, code: &str) -> Scan {
    Scan {
        scan_id: id(),
        device_counter,
        device: "gate-7".to_owned(),
        place: "canton-tower".to_owned(),
        code: code.to_owned(),
        scanned_unix_ms: 1_700_000_000_000,
        verdict: Verdict::Pass.into(),
    }
}

async fn record(
    federation: &Federation,
    scans: &[Scan],
) -> anyhow::Result<Vec<suiyue_proto::v1::ScanReceipt>> {
    let batches: Vec<_> = scans
        .chunks(5)
        .map(|scans| RecordScansRequest { region: GUANGZHOU, scans: scans.to_vec() })
        .collect();
    let mut client = codes(federation.gateway().data).await?;
    let mut answers = client.record_scans(tokio_stream::iter(batches)).await?.into_inner();
    let mut receipts = Vec::new();
    while let Some(answer) = ends("receipts come", answers.message()).await?? {
        receipts.extend(answer.receipts);
    }
    assert_eq!(receipts.len(), scans.len());
    Ok(receipts)
}

#[tokio::test]
async fn a_watch_sees_a_status_that_is_committed_through_the_gateway() -> anyhow::Result<()> {
    let mut federation = city_and_province().await?;
    let mut client = StatusServiceClient::new(channel(federation.gateway().data).await?);
    let subject = holder(GUANGZHOU, 5);
    let watch = WatchStatusRequest { region: GUANGZHOU, subject: subject.clone() };
    let mut statuses = client.watch_status(watch).await?.into_inner();
    let first = ends("the status now", statuses.message()).await??.context("the status now")?;
    let before = first.status.context("a status")?;
    let level = if before.level() == Level::Yellow { Level::Red } else { Level::Yellow };
    let commit = CommitStatusRequest {
        region: GUANGZHOU,
        subject: subject.clone(),
        level: level.into(),
        reason: "test-overdue".to_owned(),
        request_id: id(),
    };
    let committed = client.commit_status(commit.clone()).await?;
    assert_eq!(meta(&committed, &metadata::SERVED_BY), "suikang");
    assert_eq!(committed.into_inner().status.context("a status")?.level(), level);
    let changed = ends("the change", statuses.message()).await??.context("the change")?;
    assert_eq!(changed.status.context("a status")?.level(), level);
    let get = GetStatusRequest { region: GUANGZHOU, subject, max_staleness_s: None };
    let got = client.get_status(get).await?.into_inner();
    assert_eq!(got.status.context("a status")?.level(), level);

    // Only the authority decides: without it there is no answer, though the province is there.
    federation.node("suikang")?.process.kill()?;
    let refused = client.commit_status(CommitStatusRequest { request_id: id(), ..commit }).await;
    assert!(matches!(&refused, Err(status) if status.code() == tonic::Code::Unavailable), "{refused:?}");
    Ok(())
}

//! Does the node refuse bad calls in the way that gateways and apps understand?
//!
//! A bad code is an answer, a bad call is an error with the right gRPC code. Where libraries differ
//! (a message that cannot be decoded is INTERNAL in most of them) both are taken.

use super::{
    ask::{self, ANSWER, Asker, base64, told},
    codes::Shown,
    raw,
    report::{Question, Report},
};
use bytes::Bytes;
use prost::Message;
use std::time::{Duration, Instant};
use suiyue_proto::{region::Code, v1};
use tonic::{Code as Grpc, Status, metadata::MetadataMap};

const SHOW: &str = "/suiyue.v1.CodeService/ShowCode";
const VERIFY: &str = "/suiyue.v1.CodeService/VerifyCode";
const BATCH: &str = "/suiyue.v1.CodeService/VerifyBatch";
const NO_METHOD: &str = "/suiyue.v1.CodeService/NoSuchMethod";
/// What the deadline point gives a call, and how much later its end may be.
const GIVEN: Duration = Duration::from_millis(300);
const GRACE: Duration = Duration::from_millis(200);

/// One bad call.
struct Bad {
    name: &'static str,
    asked: String,
    path: &'static str,
    metadata: MetadataMap,
    message: Bytes,
    /// Any of these.
    codes: &'static [Grpc],
}

pub(super) async fn check(asker: &Asker, known: &Shown, regions: &[Code], report: &mut Report) {
    for bad in bad_calls(known, regions) {
        let codes: Vec<_> = bad.codes.iter().map(|code| crate::load::record::code_word(*code)).collect();
        let question = Question {
            name: bad.name.to_owned(),
            asked: bad.asked,
            expected: codes.join(" or "),
            request: raw_line(asker, bad.path, &bad.metadata, &bad.message),
        };
        let came = match raw::call(asker, bad.path, with_timeout(bad.metadata), bad.message).await {
            Ok(_) => Err("OK".to_owned()),
            Err(status) if bad.codes.contains(&status.code()) => Ok(told(&status)),
            Err(status) => Err(told(&status)),
        };
        report.note(question, came);
    }
    deadline(asker, known, report).await;
}

fn bad_calls(known: &Shown, regions: &[Code]) -> Vec<Bad> {
    let mut calls = Vec::from(bad_fields(known));
    calls.extend(bad_regions(known, regions));
    calls.push(Bad {
        name: "malformed message",
        asked: "VerifyCode with bytes that are no protobuf".to_owned(),
        path: VERIFY,
        metadata: MetadataMap::new(),
        message: Bytes::from_static(&[0xff; 8]),
        codes: &[Grpc::InvalidArgument, Grpc::Internal],
    });
    calls.push(call(
        "unknown method",
        "a method that the service does not have",
        NO_METHOD,
        &(),
        &[Grpc::Unimplemented],
    ));
    calls
}

fn call(
    name: &'static str,
    asked: &str,
    path: &'static str,
    message: &impl Message,
    codes: &'static [Grpc],
) -> Bad {
    let (asked, message) = (asked.to_owned(), message.encode_to_vec().into());
    Bad { name, asked, path, metadata: MetadataMap::new(), message, codes }
}

fn show(region: u32, subject: Bytes) -> v1::ShowCodeRequest {
    v1::ShowCodeRequest { region, subject, max_staleness_s: None }
}

fn bad_fields(known: &Shown) -> [Bad; 3] {
    const REFUSED: &[Grpc] = &[Grpc::InvalidArgument];
    let region = known.holder.region.get();
    let short = Bytes::from_static(&[1, 2, 3]);
    let request_id = short.clone();
    let verify =
        v1::VerifyCodeRequest { region, code: known.code.clone(), request_id, max_staleness_s: None };
    let (codes, request_id) = (vec![known.code.clone(); 101], ask::request_id());
    let many = v1::VerifyBatchRequest { region, codes, request_id, max_staleness_s: None };
    [
        call("bad subject", "a subject of 3 bytes", SHOW, &show(region, short), REFUSED),
        call("bad request id", "a request id of 3 bytes", VERIFY, &verify, REFUSED),
        call("oversized batch", "VerifyBatch of 101 codes", BATCH, &many, REFUSED),
    ]
}

fn bad_regions(known: &Shown, regions: &[Code]) -> [Bad; 3] {
    let region = known.holder.region.get();
    let subject = Bytes::copy_from_slice(&known.holder.subject);
    let foreign = |other: &u32| regions.iter().all(|region| region.get() != *other);
    let elsewhere = [110_000, 310_000].into_iter().find(foreign).unwrap_or(650_000);
    let asked = format!("metadata suiyue-region {elsewhere}, field 1 {region}");
    let right = show(region, subject.clone());
    let mut routed = call("region mismatch", &asked, SHOW, &right, &[Grpc::InvalidArgument]);
    if let Ok(value) = elsewhere.to_string().parse() {
        routed.metadata.insert("suiyue-region", value);
    }
    let asked = format!("ShowCode about {elsewhere}, which the node does not answer for");
    let abroad = show(elsewhere, subject.clone());
    [
        call("no region", "no region at all", SHOW, &show(0, subject), &[Grpc::InvalidArgument]),
        call("not its region", &asked, SHOW, &abroad, &[Grpc::FailedPrecondition, Grpc::NotFound]),
        routed,
    ]
}

fn with_timeout(mut metadata: MetadataMap) -> MetadataMap {
    if let Ok(value) = format!("{}m", ANSWER.as_millis()).parse() {
        metadata.insert("grpc-timeout", value);
    }
    metadata
}

/// A call whose time is over is answered or ended, not left to its caller.
async fn deadline(asker: &Asker, known: &Shown, report: &mut Report) {
    let message = v1::VerifyCodeRequest {
        region: known.holder.region.get(),
        code: known.code.clone(),
        request_id: ask::request_id(),
        max_staleness_s: None,
    };
    let mut metadata = MetadataMap::new();
    if let Ok(value) = format!("{}m", GIVEN.as_millis()).parse() {
        metadata.insert("grpc-timeout", value);
    }
    let message = Bytes::from(message.encode_to_vec());
    let question = Question {
        name: "deadline".to_owned(),
        asked: format!("VerifyCode with {} ms to live", GIVEN.as_millis()),
        expected: format!("an answer or an end within {} ms", (GIVEN + GRACE).as_millis()),
        request: raw_line(asker, VERIFY, &metadata, &message),
    };
    let began = Instant::now();
    let answer = raw::call(asker, VERIFY, metadata, message).await;
    let took = began.elapsed();
    let came = format!("{} after {} ms", outcome(&answer), took.as_millis());
    report.note(question, if took <= GIVEN + GRACE { Ok(came) } else { Err(came) });
}

fn outcome(answer: &Result<Bytes, Status>) -> String {
    answer.as_ref().map_or_else(told, |_| "OK".to_owned())
}

/// The call in words: `grpcurl` cannot send all of these.
fn raw_line(asker: &Asker, path: &str, metadata: &MetadataMap, message: &Bytes) -> String {
    let mut text = format!("POST http://{}{path}", asker.address);
    for entry in metadata.iter() {
        if let tonic::metadata::KeyAndValueRef::Ascii(key, value) = entry {
            text.push_str(&format!(" {key}: {}", value.to_str().unwrap_or("")));
        }
    }
    let shown = &message[..message.len().min(96)];
    let more =
        if message.len() > shown.len() { format!("… ({} bytes)", message.len()) } else { String::new() };
    format!("{text} message, base64: {}{more}", base64(shown))
}

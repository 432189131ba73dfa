use super::*;
use tonic::{Code as Grpc, Request};

fn show(region: u32, subject: &[u8]) -> v1::ShowCodeRequest {
    v1::ShowCodeRequest { region, subject: subject.to_vec().into(), max_staleness_s: None }
}

fn routed<T>(message: T, region: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("suiyue-region", region.parse().unwrap());
    request
}

#[tokio::test]
async fn each_bad_call_has_its_reason() {
    let mut node = Node::start(SUIKANG).await;
    let (known, codes) = (somebody(Level::Green), &mut node.codes);
    refused(codes.show_code(show(0, &known)).await, Reason::RegionRequired);
    refused(codes.show_code(show(99, &known)).await, Reason::RegionUnknown);
    refused(codes.show_code(show(610_100, &known)).await, Reason::RegionNotServed);
    refused(codes.show_code(show(GUANGZHOU, &known[..15])).await, Reason::FieldInvalid);
    let unknown = refused(codes.show_code(show(GUANGZHOU, &[0; 16])).await, Reason::HolderNotFound);
    assert_eq!(unknown.code(), Grpc::NotFound);
    refused(codes.show_code(routed(show(GUANGZHOU, &known), "610100")).await, Reason::RegionMismatch);
    refused(codes.show_code(routed(show(GUANGZHOU, &known), "guangzhou")).await, Reason::RegionMalformed);
    // A district is served by its city, whichever of the two names it.
    codes.show_code(routed(show(440_106, &known), "440100")).await.unwrap();
    codes.show_code(routed(show(GUANGZHOU, &known), "440106")).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn each_bad_verification_has_its_reason() {
    let mut node = Node::start(SUIKANG).await;
    let code = node.show(somebody(Level::Green)).await.unwrap().code;
    let elsewhere = code.replace("440100", "610100");
    refused(node.verify(&elsewhere).await, Reason::RegionMismatch);
    let batch = |codes: Vec<String>, id: &[u8]| v1::VerifyBatchRequest {
        region: GUANGZHOU,
        codes,
        request_id: id.to_vec().into(),
        max_staleness_s: None,
    };
    let codes = &mut node.codes;
    refused(codes.verify_batch(batch(Vec::new(), &[1; 16])).await, Reason::FieldInvalid);
    refused(codes.verify_batch(batch(vec![String::new(); 101], &[1; 16])).await, Reason::FieldInvalid);
    refused(codes.verify_batch(batch(vec![code.clone()], &[1; 8])).await, Reason::FieldInvalid);
    refused(codes.verify_batch(batch(vec![code.clone(), elsewhere], &[1; 16])).await, Reason::RegionMismatch);
    let short =
        v1::VerifyCodeRequest { region: GUANGZHOU, code, request_id: vec![1].into(), max_staleness_s: None };
    refused(codes.verify_code(short).await, Reason::FieldInvalid);
    node.stop().await;
}

#[tokio::test]
async fn data_that_is_too_old_for_the_caller_is_refused() {
    let mut node = Node::start(YUEKANG).await;
    node.pass_seconds(40);
    let mut request = show(GUANGZHOU, &somebody(Level::Green));
    request.max_staleness_s = Some(39);
    let status = refused(node.codes.show_code(request.clone()).await, Reason::TooStale);
    assert_eq!(status.code(), Grpc::Unavailable);
    request.max_staleness_s = Some(40);
    node.codes.show_code(request).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_region_without_holders_is_not_ready_and_never_an_unknown_holder() {
    let mut node = Node::start(YUEKANG).await;
    refused(node.codes.show_code(show(GUANGDONG, &[0; 16])).await, Reason::NotReady);
    node.stop().await;
}

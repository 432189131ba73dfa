use super::*;
use suiyue_proto::v1::{Degree, Freshness, Verdict, VerdictReason};

#[track_caller]
fn check(answer: &v1::VerifyCodeResponse, verdict: Verdict, reasons: &[VerdictReason]) {
    let result = answer.result.as_ref().unwrap();
    let given: Vec<_> = result.reasons().collect();
    assert_eq!((result.verdict(), given.as_slice()), (verdict, reasons));
    assert!(!result.text_zh.is_empty() && !result.text_en.is_empty());
}

#[tokio::test]
async fn each_level_has_its_verdict() {
    let mut node = Node::start(SUIKANG).await;
    for (level, verdict, reasons) in [
        (Level::Green, Verdict::Pass, &[][..]),
        (Level::Yellow, Verdict::Caution, &[VerdictReason::LevelYellow]),
        (Level::Red, Verdict::Deny, &[VerdictReason::LevelRed]),
    ] {
        let shown = node.show(somebody(level)).await.unwrap();
        assert_eq!((shown.ttl_s, shown.refresh_after_s, shown.code.len()), (60, 30, 154));
        assert_eq!(shown.level, i32::from(level.number()));
        let answer = node.verify(&shown.code).await.unwrap();
        check(&answer, verdict, reasons);
        let served = answer.served.unwrap();
        assert_eq!((served.node.as_str(), served.region), ("suikang", GUANGZHOU));
        assert_eq!((served.freshness(), served.degree()), (Freshness::Authoritative, Degree::Full));
        assert_eq!((served.as_of_unix_ms, served.staleness_s), (NOW_MS, 0));
        let result = answer.result.unwrap();
        assert_eq!((result.issued_unix_s, result.expires_unix_s), (NOW_MS / 1000, NOW_MS / 1000 + 60));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_code_ends_and_does_not_begin_early() {
    let mut node = Node::start(SUIKANG).await;
    let code = node.show(somebody(Level::Green)).await.unwrap().code;
    node.pass_seconds(90);
    check(&node.verify(&code).await.unwrap(), Verdict::Pass, &[]);
    node.pass_seconds(1);
    check(&node.verify(&code).await.unwrap(), Verdict::Unknown, &[VerdictReason::CodeExpired]);
    node.pass_seconds(-91 - 31);
    check(&node.verify(&code).await.unwrap(), Verdict::Unknown, &[VerdictReason::NotYetValid]);
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_code_of_ours_is_an_answer() {
    let mut node = Node::start(SUIKANG).await;
    let code = node.show(somebody(Level::Green)).await.unwrap().code;
    let invalid = &[VerdictReason::SignatureInvalid];
    for text in ["", "hello", "SY1:440100:", "https://example.org/code?id=1", &code[..153]] {
        check(&node.verify(text).await.unwrap(), Verdict::Deny, invalid);
    }
    // Within the signature.
    let at = 120;
    let other = if code.as_bytes()[at] == b'1' { "2" } else { "1" };
    let forged = format!("{}{other}{}", &code[..at], &code[at + 1..]);
    check(&node.verify(&forged).await.unwrap(), Verdict::Deny, invalid);
    // Signed by a node that nobody introduced.
    let mut stranger = Node::start(SUIKANG).await;
    let foreign = stranger.show(somebody(Level::Green)).await.unwrap().code;
    check(&node.verify(&foreign).await.unwrap(), Verdict::Unknown, &[VerdictReason::KeyUnknown]);
    stranger.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn a_decision_counts_at_once_for_codes_that_are_out() {
    let mut node = Node::start(SUIKANG).await;
    let subject = somebody(Level::Green);
    let code = node.show(subject).await.unwrap().code;
    node.commit(subject, Level::Red, 1).await.unwrap();
    let reasons = &[VerdictReason::CodeRevoked, VerdictReason::LevelRed];
    check(&node.verify(&code).await.unwrap(), Verdict::Deny, reasons);
    node.commit(subject, Level::Green, 2).await.unwrap();
    check(&node.verify(&code).await.unwrap(), Verdict::Pass, &[]);
    node.stop().await;
}

#[tokio::test]
async fn a_replica_says_that_it_is_one_and_how_old() {
    let mut node = Node::start(YUEKANG).await;
    node.pass_seconds(40);
    let shown = node.show(somebody(Level::Green)).await.unwrap();
    let served = shown.served.unwrap();
    assert_eq!((served.freshness(), served.degree()), (Freshness::Replica, Degree::ReplicaOnly));
    assert_eq!((served.as_of_unix_ms, served.staleness_s), (NOW_MS, 40));
    let answer = node.verify(&shown.code).await.unwrap();
    check(&answer, Verdict::Pass, &[]);
    assert_eq!(answer.served.unwrap().freshness(), Freshness::Replica);
    node.stop().await;
}

#[tokio::test]
async fn another_nodes_code_is_judged_by_what_was_signed_and_labelled_so() {
    let (mut city, mut province) = (Node::start(SUIKANG).await, Node::start(YUEKANG).await);
    let keys: Vec<_> = city.parts.keys.verifying().iter().map(v1::VerifyingKey::from).collect();
    province.parts.ring.set_federation(&keys);
    let subject = somebody(Level::Green);
    let code = city.show(subject).await.unwrap().code;
    city.commit(subject, Level::Red, 1).await.unwrap();
    let answer = province.verify(&code).await.unwrap();
    check(&answer, Verdict::Pass, &[]);
    let served = answer.served.unwrap();
    assert_eq!((served.freshness(), served.degree()), (Freshness::Replica, Degree::Offline));
    city.stop().await;
    province.stop().await;
}

#[tokio::test]
async fn a_peer_judges_codes_of_regions_it_has_keys_for() {
    let xian = "region = 610100\nname = \"xian\"\n[[population]]\nregion = 610100\nholders = 10\n";
    let (mut city, mut peer) = (Node::start(SUIKANG).await, Node::start(xian).await);
    let code = city.show(somebody(Level::Green)).await.unwrap().code;
    refused(peer.verify(&code).await, Reason::RegionNotServed);
    let keys: Vec<_> = city.parts.keys.verifying().iter().map(v1::VerifyingKey::from).collect();
    peer.parts.ring.set_federation(&keys);
    let answer = peer.verify(&code).await.unwrap();
    check(&answer, Verdict::Pass, &[]);
    let served = answer.served.unwrap();
    assert_eq!((served.freshness(), served.degree()), (Freshness::LastKnown, Degree::Offline));
    refused(peer.show(somebody(Level::Green)).await, Reason::RegionNotServed);
    city.stop().await;
    peer.stop().await;
}

#[tokio::test]
async fn a_batch_is_answered_in_order() {
    let mut node = Node::start(SUIKANG).await;
    let green = node.show(somebody(Level::Green)).await.unwrap().code;
    let red = node.show(somebody(Level::Red)).await.unwrap().code;
    let codes = vec![green.clone(), "junk".to_owned(), red, green];
    let request = v1::VerifyBatchRequest {
        region: GUANGZHOU,
        codes,
        request_id: vec![1; 16].into(),
        max_staleness_s: Some(0),
    };
    let answer = node.codes.verify_batch(request).await.unwrap();
    // For the gateway, which decodes no messages.
    assert_eq!(answer.metadata().get("suiyue-verdict").unwrap(), "pass=2,deny=2");
    let answer = answer.into_inner();
    let verdicts: Vec<_> = answer.results.iter().map(v1::CodeResult::verdict).collect();
    assert_eq!(verdicts, [Verdict::Pass, Verdict::Deny, Verdict::Deny, Verdict::Pass]);
    assert_eq!(answer.served.unwrap().freshness(), Freshness::Authoritative);
    node.stop().await;
}

#[tokio::test]
async fn a_code_of_another_system_is_not_called_a_forgery() {
    let mut node = Node::start(&format!("foreign_code_prefixes = [\"GZ2020:\"]\n{SUIKANG}")).await;
    check(&node.verify("GZ2020:12").await.unwrap(), Verdict::Unknown, &[VerdictReason::KeyUnknown]);
    check(&node.verify("XX2020:12").await.unwrap(), Verdict::Deny, &[VerdictReason::SignatureInvalid]);
    node.stop().await;
}

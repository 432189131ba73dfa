use super::*;
use crate::store::{Decision, Place, Receipt, Record};

#[tokio::test]
async fn a_decision_is_read_watched_and_answered_once() {
    let mut node = Node::start(SUIKANG).await;
    let subject = somebody(Level::Green);
    let loaded = node.status(subject).await.unwrap().status.unwrap();
    assert_eq!((loaded.level(), loaded.seq), (v1::Level::Green, 0));
    let request = v1::WatchStatusRequest { region: GUANGZHOU, subject: subject.to_vec().into() };
    let mut watch = node.statuses.watch_status(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status.unwrap().seq, 0);

    let first = node.commit(subject, Level::Yellow, 1).await.unwrap().status.unwrap();
    assert_eq!((first.level(), first.reason.as_str()), (v1::Level::Yellow, "test-overdue"));
    assert_eq!(watch.message().await.unwrap().unwrap().status.unwrap(), first);
    assert_eq!(node.status(subject).await.unwrap().status.unwrap(), first);
    // The same request id, even with another level, is the same decision.
    assert_eq!(node.commit(subject, Level::Red, 1).await.unwrap().status.unwrap(), first);
    let second = node.commit(subject, Level::Red, 2).await.unwrap().status.unwrap();
    assert!(second.seq > first.seq);
    assert_eq!(watch.message().await.unwrap().unwrap().status.unwrap(), second);
    refused(node.commit(somebody(Level::Red), Level::Green, 1).await, Reason::FieldInvalid);
    node.stop().await;
}

#[tokio::test]
async fn a_malformed_decision_is_refused() {
    let mut node = Node::start(SUIKANG).await;
    let good = v1::CommitStatusRequest {
        region: GUANGZHOU,
        subject: somebody(Level::Green).to_vec().into(),
        level: v1::Level::Red.into(),
        reason: "why".to_owned(),
        request_id: vec![1; 16].into(),
    };
    let cases = [
        v1::CommitStatusRequest { level: 0, ..good.clone() },
        v1::CommitStatusRequest { level: 260, ..good.clone() },
        v1::CommitStatusRequest { reason: "Not a word".to_owned(), ..good.clone() },
        v1::CommitStatusRequest { reason: "a".repeat(65), ..good.clone() },
        v1::CommitStatusRequest { request_id: vec![1; 17].into(), ..good.clone() },
        v1::CommitStatusRequest { subject: vec![1].into(), ..good.clone() },
    ];
    for case in cases {
        refused(node.statuses.commit_status(case).await, Reason::FieldInvalid);
    }
    refused(node.commit([0; 16], Level::Red, 1).await, Reason::HolderNotFound);
    node.stop().await;
}

#[tokio::test]
async fn a_replica_names_the_authority() {
    use tonic_types::StatusExt as _;
    let mut node = Node::start(YUEKANG).await;
    let status = refused(node.commit(somebody(Level::Green), Level::Red, 1).await, Reason::NotAuthority);
    let details = status.get_details_error_info().unwrap().metadata;
    assert_eq!((details["authority"].as_str(), details["authority_region"].as_str()), ("suikang", "440100"));
    node.stop().await;
}

#[tokio::test]
async fn decisions_and_keys_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("data_dir = {:?}\n{SUIKANG}", dir.path());
    let subject = somebody(Level::Green);
    let mut node = Node::start(&text).await;
    let decided = node.commit(subject, Level::Red, 1).await.unwrap().status.unwrap();
    let code = node.show(subject).await.unwrap().code;
    node.stop().await;

    let mut node = Node::start(&text).await;
    assert_eq!(node.status(subject).await.unwrap().status.unwrap(), decided);
    assert_eq!(node.commit(subject, Level::Green, 1).await.unwrap().status.unwrap(), decided);
    assert_eq!(node.commit(subject, Level::Green, 2).await.unwrap().status.unwrap().epoch, decided.epoch + 1);
    // The key is the same; the list of live codes is not, so the signed level counts.
    let result = node.verify(&code).await.unwrap().result.unwrap();
    assert_eq!(result.verdict(), v1::Verdict::Deny);
    node.stop().await;
}

/// A disk that has just failed.
struct Broken;

impl store::Store for Broken {
    fn epoch(&self) -> u64 {
        1
    }

    fn append(&self, _: &[Record], _: i64) -> Result<Vec<Receipt>, store::Error> {
        Err(store::Error::Medium("input/output error".to_owned()))
    }

    fn decisions(&self, _: &mut dyn FnMut(Place, Decision)) -> Result<(), store::Error> {
        Ok(())
    }
}

#[tokio::test]
async fn a_failed_disk_refuses_decisions_and_leaves_reads_alone() {
    let mut node = Node::with_store(SUIKANG, Arc::new(Broken)).await;
    let subject = somebody(Level::Green);
    for id in 1..3 {
        refused(node.commit(subject, Level::Red, id).await, Reason::StoreUnavailable);
    }
    assert_eq!(node.status(subject).await.unwrap().status.unwrap().level(), v1::Level::Green);
    let request = super::scans::message(GUANGZHOU, &[1]);
    let receipts = node.codes.record_scans(tokio_stream::iter([request])).await.unwrap();
    refused(receipts.into_inner().message().await, Reason::StoreUnavailable);
    node.stop().await;
}

use super::*;
use futures_util::StreamExt as _;
use suiyue_proto::v1::ScanOutcome;

/// A message with one scan for each number.
pub(super) fn message(region: u32, numbers: &[u32]) -> v1::RecordScansRequest {
    let scan = |number: &u32| {
        let mut scan_id = vec![0; 12];
        scan_id.extend(number.to_be_bytes());
        v1::Scan {
            scan_id: scan_id.into(),
            device_counter: u64::from(*number),
            device: "gate-7".to_owned(),
            place: "metro-east".to_owned(),
            code: String::new(),
            scanned_unix_ms: NOW_MS,
            verdict: 1,
        }
    };
    v1::RecordScansRequest { region, scans: numbers.iter().map(scan).collect() }
}

async fn record(node: &mut Node, messages: Vec<v1::RecordScansRequest>) -> Vec<v1::ScanReceipt> {
    let answers = node.codes.record_scans(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let mut receipts = Vec::new();
    answers
        .for_each(|answer| {
            receipts.extend(answer.unwrap().receipts);
            async {}
        })
        .await;
    receipts
}

#[tokio::test]
async fn a_scan_is_stored_once_and_acknowledged_on_every_stream() {
    let mut node = Node::start(SUIKANG).await;
    let first = record(&mut node, vec![message(GUANGZHOU, &[1, 2]), message(0, &[3])]).await;
    assert!(first.iter().all(|receipt| receipt.outcome() == ScanOutcome::Stored));
    let places: std::collections::BTreeSet<_> = first.iter().map(|r| (r.epoch, r.seq)).collect();
    assert_eq!(places.len(), 3);
    node.pass_seconds(5);
    let again = record(&mut node, vec![message(GUANGZHOU, &[2, 4])]).await;
    assert_eq!(again[0].outcome(), ScanOutcome::Duplicate);
    assert_eq!((again[0].seq, again[0].stored_unix_ms), (first[1].seq, first[1].stored_unix_ms));
    assert_eq!((again[1].outcome(), again[1].stored_unix_ms), (ScanOutcome::Stored, NOW_MS + 5000));
    node.stop().await;
}

#[tokio::test]
async fn a_malformed_scan_is_rejected_alone() {
    let mut node = Node::start(SUIKANG).await;
    let mut mixed = message(GUANGZHOU, &[1, 2]);
    mixed.scans[0].scan_id = vec![9; 3].into();
    let receipts = record(&mut node, vec![mixed]).await;
    assert_eq!((receipts[0].outcome(), receipts[1].outcome()), (ScanOutcome::Rejected, ScanOutcome::Stored));
    assert_eq!(receipts[0].reason, "scan_id must have 16 bytes");
    node.stop().await;
}

#[tokio::test]
async fn a_malformed_stream_ends_with_its_reason_after_the_receipts_it_earned() {
    let mut node = Node::start(SUIKANG).await;
    for (bad, reason) in [
        (message(GUANGZHOU, &[]), Reason::FieldInvalid),
        (message(GUANGZHOU, &(0..501).collect::<Vec<_>>()), Reason::FieldInvalid),
        (message(610_100, &[8]), Reason::RegionNotServed),
    ] {
        let messages = tokio_stream::iter([message(GUANGZHOU, &[7]), bad]);
        let mut answers = node.codes.record_scans(messages).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().receipts.len(), 1);
        refused(answers.message().await, reason);
    }
    let first = tokio_stream::iter([message(0, &[7])]);
    let mut answers = node.codes.record_scans(first).await.unwrap().into_inner();
    refused(answers.message().await, Reason::RegionRequired);
    node.stop().await;
}

#[tokio::test]
async fn scans_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("data_dir = {:?}\n{SUIKANG}", dir.path());
    let mut node = Node::start(&text).await;
    let numbers: Vec<u32> = (0..200).collect();
    let first = record(&mut node, vec![message(GUANGZHOU, &numbers)]).await;
    node.stop().await;
    let mut node = Node::start(&text).await;
    let again = record(&mut node, vec![message(GUANGZHOU, &numbers)]).await;
    for (first, again) in first.iter().zip(&again) {
        assert_eq!(again.outcome(), ScanOutcome::Duplicate);
        assert_eq!((again.epoch, again.seq), (first.epoch, first.seq));
    }
    node.stop().await;
}

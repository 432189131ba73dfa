use super::*;
use crate::store::memory::Memory;
use crate::store::{Decision, Place, Receipt, Record};
use std::sync::{Mutex, mpsc};
use tokio::sync::mpsc::Sender;
use tokio_stream::wrappers::ReceiverStream;

/// A disk that is slow until the test lets it go.
struct Slow {
    inner: Memory,
    entered: Mutex<mpsc::Sender<()>>,
    go: Mutex<mpsc::Receiver<()>>,
}

impl store::Store for Slow {
    fn epoch(&self) -> u64 {
        1
    }

    fn append(&self, batch: &[Record], now_unix_ms: i64) -> Result<Vec<Receipt>, store::Error> {
        self.entered.lock().unwrap().send(()).unwrap();
        self.go.lock().unwrap().recv().unwrap();
        self.inner.append(batch, now_unix_ms)
    }

    fn decisions(&self, visit: &mut dyn FnMut(Place, Decision)) -> Result<(), store::Error> {
        self.inner.decisions(visit)
    }
}

fn slow() -> (Arc<Slow>, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((entered, seen), (release, go)) = (mpsc::channel(), mpsc::channel());
    let inner = Memory::default();
    (Arc::new(Slow { inner, entered: Mutex::new(entered), go: Mutex::new(go) }), seen, release)
}

#[tokio::test]
async fn a_call_in_flight_finishes_a_late_one_is_answered_and_a_watch_is_told() {
    let (store, entered, release) = slow();
    let mut node = Node::with_store(SUIKANG, store).await;
    let subject = somebody(Level::Green);
    let request = v1::WatchStatusRequest { region: GUANGZHOU, subject: subject.to_vec().into() };
    let mut watch = node.statuses.watch_status(request).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let mut statuses = node.statuses.clone();
    let commit = tokio::spawn(async move {
        let request = v1::CommitStatusRequest {
            region: GUANGZHOU,
            subject: subject.to_vec().into(),
            level: v1::Level::Red.into(),
            reason: "why".to_owned(),
            request_id: vec![1; 16].into(),
        };
        statuses.commit_status(request).await
    });
    tokio::task::spawn_blocking(move || entered.recv().unwrap()).await.unwrap();
    let mut state = node.parts.readiness.watch();
    node.shutdown.cancel();
    state.wait_for(|state| state.draining).await.unwrap();
    // Gateways that have not heard of the goodbye yet still call.
    node.show(subject).await.unwrap();
    refused(watch.message().await, Reason::NodeDraining);
    // The connection has had its GOAWAY by now; the call on it is still worked on.
    release.send(()).unwrap();
    let answer = commit.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.status.unwrap().level(), v1::Level::Red);
    node.stop().await;
}

async fn send(scans: &Sender<v1::RecordScansRequest>, number: u32) {
    scans.send(super::scans::message(GUANGZHOU, &[number])).await.unwrap();
}

#[tokio::test]
async fn a_stream_of_scans_keeps_its_receipts_and_is_told_to_go_elsewhere() {
    let mut node = Node::start(SUIKANG).await;
    let (scans, sent) = tokio::sync::mpsc::channel(4);
    send(&scans, 1).await;
    let answers = node.codes.record_scans(ReceiverStream::new(sent)).await.unwrap();
    let mut answers = answers.into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().receipts.len(), 1);
    let mut state = node.parts.readiness.watch();
    node.shutdown.cancel();
    state.wait_for(|state| state.draining).await.unwrap();
    send(&scans, 2).await;
    assert_eq!(answers.message().await.unwrap().unwrap().receipts.len(), 1);
    refused(answers.message().await, Reason::NodeDraining);
    node.stop().await;
}

#[tokio::test]
async fn no_call_fails_while_the_node_leaves() {
    let mut node = Node::start(SUIKANG).await;
    let subject = somebody(Level::Green);
    let mut state = node.parts.readiness.watch();
    node.show(subject).await.unwrap();
    node.shutdown.cancel();
    state.wait_for(|state| state.draining).await.unwrap();
    // Call until the connection says GOAWAY. The call that crosses it on the way may have to go
    // elsewhere; none before it may.
    let end = node.parts.watches.clone();
    while !end.is_cancelled() {
        let answer = node.show(subject).await;
        assert!(answer.is_ok() || end.is_cancelled(), "{answer:?}");
    }
    node.stop().await;
}

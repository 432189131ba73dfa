//! Every store must pass the same suite.

use super::memory::Memory;
use super::redb::Redb;
use super::writer::{Unavailable, Writer};
use super::*;
use crate::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use suiyue_proto::region::Code;
use suiyue_proto::sy1::Level;

fn region() -> Code {
    Code::new(440_100).unwrap()
}

pub(crate) fn scan(n: u8) -> Record {
    Record::Scan(Scan {
        scan_id: [n; 16],
        region: region(),
        device_counter: n.into(),
        device: "d".to_owned(),
        place: "p".to_owned(),
        code: String::new(),
        scanned_unix_ms: 1,
        verdict: 1,
    })
}

fn decision(id: u8, level: Level) -> Decision {
    Decision {
        request_id: [id; 16],
        region: region(),
        subject: [7; 16],
        level,
        reason: "test".to_owned(),
        decided_unix_ms: 5,
    }
}

fn places(receipts: &[Receipt]) -> Vec<u64> {
    receipts.iter().map(|receipt| receipt.place.seq).collect()
}

/// What any store does, whatever it is made of.
fn suite(store: &dyn Store) {
    let first = store.append(&[scan(1), scan(2), scan(1)], 10).unwrap();
    assert_eq!(places(&first), [1, 2, 1], "a copy inside a batch is a copy");
    assert_eq!(first[2].outcome, Outcome::Duplicate(None));
    let again = store.append(&[scan(2), scan(3)], 20).unwrap();
    assert_eq!(places(&again), [2, 3]);
    assert_eq!((again[0].stored_unix_ms, again[1].stored_unix_ms), (10, 20));
    assert!(again.iter().all(|receipt| receipt.place.epoch == store.epoch()));

    let red = decision(1, Level::Red);
    let stored = store.append(&[Record::Decision(red.clone())], 30).unwrap();
    assert_eq!(stored[0].outcome, Outcome::Stored, "ids of scans and decisions are apart");
    let other = Record::Decision(decision(1, Level::Green));
    let copy = store.append(&[other], 40).unwrap();
    assert_eq!(copy[0].outcome, Outcome::Duplicate(Some(red.clone())));
    assert_eq!(copy[0].place, stored[0].place);

    let mut seen = Vec::new();
    store.decisions(&mut |place, decision| seen.push((place, decision))).unwrap();
    assert_eq!(seen, [(stored[0].place, red)]);
    assert_eq!(store.append(&[], 50).unwrap(), []);
}

#[test]
fn the_memory_store_passes_the_suite() {
    suite(&Memory::default());
}

#[test]
fn the_redb_store_passes_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    suite(&Redb::open(dir.path()).unwrap());
}

#[test]
fn redb_remembers_across_a_restart_and_raises_the_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let first = {
        let store = Redb::open(dir.path()).unwrap();
        store.append(&[scan(1), Record::Decision(decision(9, Level::Yellow))], 10).unwrap()
    };
    let store = Redb::open(dir.path()).unwrap();
    assert_eq!(store.epoch(), 2);
    let again = store.append(&[scan(1), scan(2)], 20).unwrap();
    assert_eq!((again[0].place, again[0].stored_unix_ms), (first[0].place, 10));
    assert_eq!(again[1].place, Place { epoch: 2, seq: 1 });
    let mut levels = Vec::new();
    store.decisions(&mut |_, decision| levels.push(decision.level)).unwrap();
    assert_eq!(levels, [Level::Yellow]);
}

#[test]
fn a_copy_of_the_file_taken_while_it_is_open_holds_all_that_was_acknowledged() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Redb::open(dir.path()).unwrap();
    for n in 0..50 {
        store.append(&[scan(n)], 10).unwrap();
    }
    std::fs::copy(dir.path().join("node.redb"), copy.path().join("node.redb")).unwrap();
    let recovered = Redb::open(copy.path()).unwrap();
    for n in 0..50 {
        let receipt = recovered.append(&[scan(n)], 20).unwrap().remove(0);
        assert_eq!(receipt.outcome, Outcome::Duplicate(None));
    }
}

/// A store that does what the test says, when the test says it.
struct Scripted {
    inner: Memory,
    calls: AtomicUsize,
    entered: mpsc::SyncSender<usize>,
    proceed: std::sync::Mutex<mpsc::Receiver<Result<(), Error>>>,
}

impl Store for Scripted {
    fn epoch(&self) -> u64 {
        1
    }

    fn append(&self, batch: &[Record], now_unix_ms: i64) -> Result<Vec<Receipt>, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.entered.send(batch.len()).unwrap();
        self.proceed.lock().unwrap().recv().unwrap()?;
        self.inner.append(batch, now_unix_ms)
    }

    fn decisions(&self, visit: &mut dyn FnMut(Place, Decision)) -> Result<(), Error> {
        self.inner.decisions(visit)
    }
}

fn scripted() -> (Arc<Scripted>, mpsc::Receiver<usize>, mpsc::Sender<Result<(), Error>>) {
    let (entered, seen) = mpsc::sync_channel(8);
    let (go, proceed) = mpsc::channel();
    let store = Scripted {
        inner: Memory::default(),
        calls: AtomicUsize::new(0),
        entered,
        proceed: std::sync::Mutex::new(proceed),
    };
    (Arc::new(store), seen, go)
}

#[tokio::test]
async fn nothing_is_acknowledged_before_the_store_says_so_and_waiting_callers_share_a_batch() {
    let (store, entered, go) = scripted();
    let (writer, thread) = Writer::start(store, Clock::System).unwrap();
    let first = writer.submit(vec![scan(1)]).await.unwrap();
    assert_eq!(entered.recv().unwrap(), 1);
    // The disk is busy with the first: these two wait together.
    let second = writer.submit(vec![scan(2), scan(3)]).await.unwrap();
    let third = writer.submit(vec![scan(4)]).await.unwrap();
    let first = tokio::spawn(first.receipts());
    tokio::task::yield_now().await;
    assert!(!first.is_finished());
    go.send(Ok(())).unwrap();
    assert_eq!(places(&first.await.unwrap().unwrap()), [1]);
    assert_eq!(entered.recv().unwrap(), 3);
    go.send(Ok(())).unwrap();
    assert_eq!(places(&second.receipts().await.unwrap()), [2, 3]);
    assert_eq!(places(&third.receipts().await.unwrap()), [4]);
    drop(writer);
    thread.join().unwrap();
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_and_no_write_is_taken() {
    let (store, entered, go) = scripted();
    let (writer, thread) = Writer::start(Arc::clone(&store) as Arc<dyn Store>, Clock::System).unwrap();
    let first = writer.submit(vec![scan(1)]).await.unwrap();
    entered.recv().unwrap();
    let queued = writer.submit(vec![scan(2)]).await.unwrap();
    go.send(Err(Error::Medium("input/output error".to_owned()))).unwrap();
    assert_eq!(first.receipts().await, Err(Unavailable));
    assert_eq!(queued.receipts().await, Err(Unavailable));
    assert_eq!(writer.append(vec![scan(3)]).await, Err(Unavailable));
    assert_eq!(store.calls.load(Ordering::SeqCst), 1);
    drop(writer);
    thread.join().unwrap();
}

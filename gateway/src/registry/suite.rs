//! What every registry must do: one suite, run against each implementation.

use super::{Change, Entry, Error, Outcome, Registry, Txn, Update};
use std::time::Duration;
use tokio::sync::mpsc;

const TTL: Duration = Duration::from_secs(60);

/// Runs the whole suite; each part below a prefix of its own.
pub(crate) async fn run(registry: &dyn Registry) {
    writes_are_compare_and_swap(registry, "/a/").await;
    a_listing_is_complete_and_in_order(registry, "/b/").await;
    a_watch_misses_nothing(registry, "/c/").await;
    a_lease_takes_its_keys_along(registry, "/d/").await;
    a_lease_that_is_gone_is_told(registry, "/e/").await;
    a_transaction_is_all_or_nothing(registry, "/f/").await;
    a_key_moves_from_lease_to_lease(registry, "/g/").await;
}

pub(crate) fn put(key: &str, value: &str, expect: i64, lease: i64) -> Txn {
    Txn {
        expect: vec![(key.to_owned(), expect)],
        puts: vec![(key.to_owned(), value.to_owned().into(), lease)],
        deletes: Vec::new(),
    }
}

fn delete(key: &str, expect: i64) -> Txn {
    Txn { expect: vec![(key.to_owned(), expect)], puts: Vec::new(), deletes: vec![key.to_owned()] }
}

pub(crate) async fn written(registry: &dyn Registry, txn: Txn) -> i64 {
    match registry.commit(txn).await.unwrap() {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict(entries) => panic!("conflict with {entries:?}"),
    }
}

async fn refused(registry: &dyn Registry, txn: Txn) -> Vec<Entry> {
    match registry.commit(txn).await.unwrap() {
        Outcome::Conflict(entries) => entries,
        Outcome::Committed(revision) => panic!("committed at {revision}"),
    }
}

async fn keys(registry: &dyn Registry, prefix: &str) -> Vec<String> {
    registry.list(prefix).await.unwrap().entries.into_iter().map(|entry| entry.key).collect()
}

/// The next change; heartbeats and confirmations without changes are skipped.
pub(crate) async fn next(updates: &mut mpsc::Receiver<Update>) -> (i64, Vec<Change>) {
    loop {
        match updates.recv().await.expect("a watch says that it is lost before it ends") {
            Update::Changes { revision, changes, .. } if !changes.is_empty() => return (revision, changes),
            Update::Changes { .. } | Update::Heartbeat => {}
            Update::Lost(error) => panic!("lost: {error}"),
        }
    }
}

async fn writes_are_compare_and_swap(registry: &dyn Registry, root: &str) {
    let key = format!("{root}x");
    let first = written(registry, put(&key, "1", 0, 0)).await;
    let entries = refused(registry, put(&key, "2", 0, 0)).await;
    let expected =
        Entry { key: key.clone(), value: "1".into(), created: first, mod_revision: first, lease: 0 };
    assert_eq!(entries, [expected]);
    let second = written(registry, put(&key, "2", first, 0)).await;
    assert!(second > first);
    // What was written over was made when it was made first.
    let listed = registry.list(&key).await.unwrap().entries;
    assert_eq!((listed[0].created, listed[0].mod_revision), (first, second));
    assert_eq!(refused(registry, delete(&key, first)).await[0].mod_revision, second);
    written(registry, delete(&key, second)).await;
    assert_eq!(refused(registry, put(&key, "3", second, 0)).await, []);
}

async fn a_listing_is_complete_and_in_order(registry: &dyn Registry, root: &str) {
    // More than two pages of etcd's.
    let names = (0..1201).map(|n| format!("{root}{n:04}")).collect::<Vec<_>>();
    let mut last = 0;
    for chunk in names.chunks(100) {
        let puts = chunk.iter().map(|key| (key.clone(), "v".into(), 0)).collect();
        last = written(registry, Txn { puts, ..Txn::default() }).await;
    }
    let listing = registry.list(root).await.unwrap();
    assert_eq!(listing.entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(), names);
    assert!(listing.revision >= last);
    assert_eq!(registry.list("/none/").await.unwrap().entries, []);
}

async fn a_watch_misses_nothing(registry: &dyn Registry, root: &str) {
    let (a, b) = (format!("{root}a"), format!("{root}b"));
    let start = registry.list(root).await.unwrap().revision;
    let first = written(registry, put(&a, "1", 0, 0)).await;
    // What was written before the watch began comes too.
    let mut updates = registry.watch(root, start).await.unwrap();
    let (revision, changes) = next(&mut updates).await;
    let entry = Entry { key: a.clone(), value: "1".into(), created: first, mod_revision: first, lease: 0 };
    assert_eq!((revision, changes), (first, vec![Change::Put(entry)]));
    // Elsewhere: not heard of.
    written(registry, put(&format!("/not{root}"), "1", 0, 0)).await;
    let second = written(registry, put(&b, "2", 0, 0)).await;
    let (revision, changes) = next(&mut updates).await;
    assert_eq!(revision, second);
    assert!(matches!(&changes[..], [Change::Put(entry)] if entry.key == b));
    let third = written(registry, delete(&a, first)).await;
    assert_eq!(next(&mut updates).await, (third, vec![Change::Delete { key: a }]));
    // From the middle: only what came after.
    let mut later = registry.watch(root, second).await.unwrap();
    assert_eq!(next(&mut later).await.0, third);
}

async fn a_lease_takes_its_keys_along(registry: &dyn Registry, root: &str) {
    let lease = registry.grant(TTL).await.unwrap();
    let key = format!("{root}x");
    let revision = written(registry, put(&key, "1", 0, lease)).await;
    assert_eq!(registry.list(root).await.unwrap().entries[0].lease, lease);
    registry.keep_alive(lease).await.unwrap();
    let mut updates = registry.watch(root, revision).await.unwrap();
    registry.revoke(lease).await.unwrap();
    assert_eq!(next(&mut updates).await.1, [Change::Delete { key }]);
    assert!(keys(registry, root).await.is_empty());
}

async fn a_lease_that_is_gone_is_told(registry: &dyn Registry, root: &str) {
    let lease = registry.grant(TTL).await.unwrap();
    registry.revoke(lease).await.unwrap();
    assert!(matches!(registry.keep_alive(lease).await, Err(Error::LeaseGone)));
    assert!(matches!(registry.revoke(lease).await, Err(Error::LeaseGone)));
    let put = put(&format!("{root}x"), "1", 0, lease);
    assert!(matches!(registry.commit(put).await, Err(Error::LeaseGone)));
    assert!(keys(registry, root).await.is_empty());
}

async fn a_transaction_is_all_or_nothing(registry: &dyn Registry, root: &str) {
    let key = |name: &str| format!("{root}{name}");
    let first = written(registry, put(&key("a"), "1", 0, 0)).await;
    let txn = Txn {
        expect: vec![(key("a"), first), (key("b"), 0)],
        puts: vec![(key("b"), "2".into(), 0), (key("c"), "3".into(), 0)],
        deletes: vec![key("a")],
    };
    let mut updates = registry.watch(root, first).await.unwrap();
    let second = written(registry, txn.clone()).await;
    let (revision, changes) = next(&mut updates).await;
    assert_eq!((revision, changes.len()), (second, 3));
    assert_eq!(keys(registry, root).await, [key("b"), key("c")]);
    // `a` is gone, `b` is there: the present entries are told.
    let present = refused(registry, txn).await;
    assert_eq!(present.iter().map(|entry| &entry.key).collect::<Vec<_>>(), [&key("b")]);
    assert_eq!(keys(registry, root).await, [key("b"), key("c")]);
}

async fn a_key_moves_from_lease_to_lease(registry: &dyn Registry, root: &str) {
    let (old, new) = (registry.grant(TTL).await.unwrap(), registry.grant(TTL).await.unwrap());
    let key = format!("{root}x");
    let revision = written(registry, put(&key, "1", 0, old)).await;
    written(registry, put(&key, "2", revision, new)).await;
    registry.revoke(old).await.unwrap();
    assert_eq!(keys(registry, root).await, [key]);
    registry.revoke(new).await.unwrap();
    assert!(keys(registry, root).await.is_empty());
}

use super::*;
use crate::registry::suite::{self, put, written};

#[tokio::test]
async fn it_is_a_registry() {
    suite::run(&Embedded::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_lives_from_keep_alive_to_keep_alive() {
    let registry = Embedded::new();
    let lease = registry.grant(Duration::from_secs(15)).await.unwrap();
    let start = written(&registry, put("/x", "1", 0, lease)).await;
    let mut updates = registry.watch("/", start).await.unwrap();
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(14)).await;
        registry.keep_alive(lease).await.unwrap();
    }
    assert_eq!(registry.list("/").await.unwrap().entries.len(), 1);
    let renewed = Instant::now();
    // Nobody asks any more: the watch alone finds out, in time.
    let (_, changes) = suite::next(&mut updates).await;
    assert_eq!(changes, [Change::Delete { key: "/x".to_owned() }]);
    assert_eq!(renewed.elapsed().as_secs(), 15);
    assert!(matches!(registry.keep_alive(lease).await, Err(Error::LeaseGone)));
}

#[tokio::test]
async fn a_compacted_watch_is_lost_and_says_so() {
    let registry = Embedded::new();
    let first = written(&registry, put("/x", "1", 0, 0)).await;
    written(&registry, put("/y", "1", 0, 0)).await;
    registry.compact();
    let mut updates = registry.watch("/", first).await.unwrap();
    assert!(matches!(updates.recv().await, Some(Update::Lost(Error::Compacted))));
    assert!(updates.recv().await.is_none());
}

#[tokio::test]
async fn the_history_is_bounded_and_forgets_whole_revisions() {
    let registry = Embedded::new();
    let first = written(&registry, put("/x", "1", 0, 0)).await;
    for n in 0..HISTORY {
        written(&registry, put(&format!("/y{n}"), "1", 0, 0)).await;
    }
    assert_eq!(registry.store().history.len(), HISTORY);
    let mut updates = registry.watch("/", first - 1).await.unwrap();
    assert!(matches!(updates.recv().await, Some(Update::Lost(Error::Compacted))));
    let mut updates = registry.watch("/", first).await.unwrap();
    let (_, changes) = suite::next(&mut updates).await;
    assert_eq!(changes.len(), HISTORY);
}

#[tokio::test]
async fn a_watch_of_the_future_is_refused() {
    let mut updates = Embedded::new().watch("/", 99).await.unwrap();
    assert!(matches!(updates.recv().await, Some(Update::Lost(Error::Refused(_)))));
}

#[tokio::test]
async fn a_dropped_watch_leaves_no_task() {
    let registry = Embedded::new();
    let updates = registry.watch("/", 1).await.unwrap();
    drop(updates);
    while Arc::strong_count(&registry.store) > 1 {
        tokio::task::yield_now().await;
    }
}

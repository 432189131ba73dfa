//! What a gateway remembers, and what it does not let itself be told.

use super::*;
use crate::{
    audit::{Audit, What, actor::Deed, tests::stored},
    registry::{Txn, embedded::Embedded, suite},
};
use prost::Message as _;
use suiyue_proto::v1;

const HEAD: &str = "/suiyue/v1/audit/head";

async fn change(registry: &Embedded, gateway: &str) {
    let audit = Audit::new(Arc::new(registry.clone()), Prefix::default(), gateway);
    audit.commit(&Deed::local("SetApp"), &What::default(), &Txn::default()).await.unwrap();
}

fn keeper(registry: &Embedded, dir: Option<&Path>) -> Keeper {
    Keeper::new(Arc::new(registry.clone()), Prefix::default(), dir, Memory::default())
}

/// Lets the keeper look at the head once.
async fn look(keeper: &mut Keeper, registry: &Embedded) -> Known {
    let entries = registry.list(HEAD).await.unwrap().entries;
    keeper.see(find(entries, HEAD)).await.unwrap();
    keeper.memory.known()
}

#[tokio::test]
async fn a_head_that_continues_the_chain_is_remembered_over_a_restart() {
    let (registry, dir) = (Embedded::new(), tempfile::tempdir().unwrap());
    let mut first = keeper(&registry, Some(dir.path()));
    assert_eq!(look(&mut first, &registry).await.head, None);
    for sequence in 1..=3 {
        change(&registry, "gw-1").await;
        let known = look(&mut first, &registry).await;
        assert_eq!((known.head.unwrap().sequence, known.on_disk, known.problem), (sequence, true, None));
    }
    // It was away for a while.
    for _ in 0..5 {
        change(&registry, "gw-2").await;
    }
    let mut again = keeper(&registry, Some(dir.path()));
    assert_eq!(again.memory.known().head.unwrap().sequence, 3);
    let known = look(&mut again, &registry).await;
    assert_eq!((known.head.unwrap().sequence, known.problem), (8, None));
}

#[tokio::test]
async fn a_chain_written_anew_is_not_believed() {
    let (registry, dir) = (Embedded::new(), tempfile::tempdir().unwrap());
    for _ in 0..3 {
        change(&registry, "gw-1").await;
    }
    let mut keeper = keeper(&registry, Some(dir.path()));
    let seen = look(&mut keeper, &registry).await.head.unwrap();
    // Another chain, longer than the first one, and consistent.
    let other = Embedded::new();
    for _ in 0..5 {
        change(&other, "gw-9").await;
    }
    let deletes =
        registry.list(&Prefix::default().audit()).await.unwrap().entries.into_iter().map(|e| e.key).collect();
    let txn = Txn { deletes, ..Txn::default() };
    suite::written(&registry, txn).await;
    let puts = other
        .list(&Prefix::default().audit())
        .await
        .unwrap()
        .entries
        .into_iter()
        .map(|entry| (entry.key, entry.value, 0))
        .collect();
    let txn = Txn { puts, ..Txn::default() };
    suite::written(&registry, txn).await;
    let (records, head) = stored(&registry).await;
    assert_eq!(chain::verify(&records, head.as_deref(), &[]), Ok(5));
    let known = look(&mut keeper, &registry).await;
    assert_eq!(known.head, Some(seen.clone()));
    assert!(known.problem.unwrap().contains("entry 3 was rewritten"));
    let bad = chain::verify(&records, head.as_deref(), &[("gw-1".to_owned(), seen)]).unwrap_err();
    assert_eq!((bad.sequence, bad.fault), (3, chain::Fault::Forgotten));
}

#[tokio::test]
async fn a_head_that_goes_back_or_away_is_not_believed() {
    let registry = Embedded::new();
    change(&registry, "gw-1").await;
    let earlier = registry.list(HEAD).await.unwrap().entries[0].value.clone();
    change(&registry, "gw-1").await;
    let mut keeper = keeper(&registry, None);
    assert_eq!(look(&mut keeper, &registry).await.head.unwrap().sequence, 2);
    let set = async |value: Option<bytes::Bytes>| {
        let puts = value.iter().map(|value| (HEAD.to_owned(), value.clone(), 0)).collect();
        let deletes = if value.is_none() { vec![HEAD.to_owned()] } else { Vec::new() };
        suite::written(&registry, Txn { puts, deletes, ..Txn::default() }).await;
    };
    let right = registry.list(HEAD).await.unwrap().entries[0].value.clone();
    for (wrong, word) in [(Some(earlier), "rewritten"), (None, "no head"), (Some("x".into()), "is no head")] {
        set(wrong).await;
        let known = look(&mut keeper, &registry).await;
        assert_eq!(known.head.unwrap().sequence, 2);
        assert!(known.problem.as_ref().unwrap().contains(word), "{:?}", known.problem);
    }
    set(Some(right)).await;
    assert_eq!(look(&mut keeper, &registry).await.problem, None);
}

#[tokio::test]
async fn the_watch_is_followed() {
    let registry = Embedded::new();
    let keeper = keeper(&registry, None);
    let (memory, shutdown) = (keeper.memory.clone(), CancellationToken::new());
    let running = tokio::spawn(keeper.run(shutdown.clone()));
    for sequence in 1..=3 {
        change(&registry, "gw-1").await;
        while memory.known().head.is_none_or(|head| head.sequence < sequence) {
            tokio::task::yield_now().await;
        }
    }
    shutdown.cancel();
    running.await.unwrap();
}

#[test]
fn a_damaged_memory_is_left_alone() {
    let (registry, dir) = (Embedded::new(), tempfile::tempdir().unwrap());
    let head = Head { id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(), sequence: 7, hash: [0xab; 32] };
    let text = encode(&head, 12);
    assert_eq!(decode(&text), Some((head, 12)));
    for bad in ["", "suiyue audit head 1\n", "suiyue audit head 1\n0 x y z\n", &text[..40]] {
        assert_eq!(decode(bad), None, "{bad:?}");
        fs::write(dir.path().join("head"), bad).unwrap();
        let keeper = keeper(&registry, Some(dir.path()));
        assert!(keeper.damaged && keeper.memory.known().problem.is_some());
    }
    let message = v1::AuditHead { id: String::new(), sequence: 1, hash: vec![0; 32].into() };
    assert_eq!(Head::decode(&message.encode_to_vec()), None);
}

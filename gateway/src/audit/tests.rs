//! Changes and their entries, over a registry in this process.

use super::*;
use crate::registry::{Listing, Update, embedded::Embedded, suite};
use chain::Stored;
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use std::sync::atomic::AtomicBool;
use tokio::sync::mpsc;

fn audit(registry: &Embedded, gateway: &str) -> Audit {
    Audit::new(Arc::new(registry.clone()), Prefix::default(), gateway)
}

fn of(key: &str) -> What {
    let after = Value { bytes: "v".into(), text: "the value".to_owned() };
    What { key: key.to_owned(), replaced: 0, before: None, after: Some(after) }
}

/// The whole audit as it stands.
pub(super) async fn stored(registry: &Embedded) -> (Vec<Stored>, Option<Bytes>) {
    let mut records = Vec::new();
    let mut head = None;
    for entry in registry.list(&Prefix::default().audit()).await.unwrap().entries {
        match Prefix::default().parse(&entry.key).unwrap() {
            Key::AuditHead => head = Some(entry.value),
            Key::Audit(id) => records.push(Stored { id: id.to_string(), value: entry.value }),
            other => panic!("{other}"),
        }
    }
    (records, head)
}

async fn entries(registry: &Embedded) -> Vec<v1::AuditEntry> {
    let (records, head) = stored(registry).await;
    assert_eq!(chain::verify(&records, head.as_deref(), &[]), Ok(records.len() as u64));
    records.iter().map(|record| chain::read(record).unwrap().entry).collect()
}

#[tokio::test]
async fn a_change_and_its_entry_are_one_transaction() {
    let registry = Embedded::new();
    let audit = audit(&registry, "gw-1");
    let actor = actor::Actor { name: "wang".to_owned(), role: actor::Role::Approver, authenticated: true };
    let deed = Deed::new(actor, "SetApp", "开放给地铁".to_owned());
    let outcome = audit.commit(&deed, &of("apps/a"), &suite::put("/suiyue/v1/apps/a", "v", 0, 0)).await;
    let Ok(Outcome::Committed(revision)) = outcome else { panic!("{outcome:?}") };
    let listing = registry.list("/").await.unwrap();
    assert!(listing.entries.iter().all(|entry| entry.mod_revision == revision), "{listing:?}");
    let [entry] = &entries(&registry).await[..] else { panic!("one entry") };
    assert_eq!((entry.actor.as_str(), entry.role.as_str(), entry.authenticated), ("wang", "approver", true));
    assert_eq!((entry.method.as_str(), entry.reason.as_str()), ("SetApp", "开放给地铁"));
    assert_eq!(
        (entry.key.as_str(), entry.after.as_str(), entry.before.as_str()),
        ("apps/a", "the value", "")
    );
    assert_eq!(entry.after_sha256, digest(&SHA256, b"v").as_ref());
    assert_eq!((entry.outcome(), entry.gateway.as_str()), (v1::AuditOutcome::Written, "gw-1"));
}

#[tokio::test]
async fn a_change_that_comes_too_late_leaves_no_entry() {
    let registry = Embedded::new();
    let audit = audit(&registry, "gw-1");
    let key = "/suiyue/v1/apps/a";
    suite::written(&registry, suite::put(key, "other", 0, 0)).await;
    let outcome = audit.commit(&Deed::local("SetApp"), &of("apps/a"), &suite::put(key, "v", 0, 0)).await;
    let Ok(Outcome::Conflict(present)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(present.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), [key]);
    assert!(entries(&registry).await.is_empty());
}

#[tokio::test]
async fn racing_gateways_leave_one_whole_chain() {
    let registry = Embedded::new();
    let gateways = [audit(&registry, "gw-1"), audit(&registry, "gw-2")];
    let changes = (0..40).map(|n| {
        let audit = gateways[n % 2].clone();
        let key = format!("/suiyue/v1/apps/a{n}");
        async move {
            let change = suite::put(&key, "v", 0, 0);
            audit.commit(&Deed::local("SetApp"), &of(&format!("apps/a{n}")), &change).await.unwrap()
        }
    });
    let outcomes = join_all(changes).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Committed(_))), "{outcomes:?}");
    let entries = entries(&registry).await;
    let mut keys: Vec<_> = entries.iter().map(|entry| entry.key.clone()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!((entries.len(), keys.len()), (40, 40));
}

#[tokio::test]
async fn refused_attempts_are_entries_without_a_change() {
    let registry = Embedded::new();
    let audit = audit(&registry, "gw-1");
    audit.left_out();
    audit.left_out();
    audit.refused(&Deed::local("SetApp"), "ROLE_INSUFFICIENT").await.unwrap();
    audit.refused(&Deed::local("SetApp"), "APP_INVALID").await.unwrap();
    let told: Vec<_> =
        entries(&registry).await.into_iter().map(|e| (e.refusal, e.refused_unwritten)).collect();
    assert_eq!(told, [("ROLE_INSUFFICIENT".to_owned(), 2), ("APP_INVALID".to_owned(), 0)]);
}

#[tokio::test]
async fn without_a_readable_head_nothing_is_changed() {
    let registry = Embedded::new();
    suite::written(&registry, suite::put("/suiyue/v1/audit/head", "no head", 0, 0)).await;
    let change = suite::put("/suiyue/v1/apps/a", "v", 0, 0);
    let outcome = audit(&registry, "gw-1").commit(&Deed::local("SetApp"), &of("apps/a"), &change).await;
    assert!(matches!(outcome, Err(Failure::Broken)), "{outcome:?}");
    assert_eq!(registry.list("/suiyue/v1/apps/").await.unwrap().entries, []);
}

/// The first write is written or lost, and nobody hears of it; what happens then is the second part.
struct Unheard {
    inner: Embedded,
    written: bool,
    overtaken: bool,
    done: AtomicBool,
}

impl Registry for Unheard {
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Error>> {
        self.inner.list(prefix)
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: i64,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<Update>, Error>> {
        self.inner.watch(prefix, after)
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, Error>> {
        async move {
            if self.done.swap(true, Relaxed) {
                return self.inner.commit(txn).await;
            }
            if self.written {
                self.inner.commit(txn).await?;
            }
            if self.overtaken {
                let other = suite::put("/suiyue/v1/apps/b", "v", 0, 0);
                audit(&self.inner, "gw-2")
                    .commit(&Deed::local("SetApp"), &of("apps/b"), &other)
                    .await
                    .unwrap();
            }
            Err(Error::Unknown("timed out".to_owned()))
        }
        .boxed()
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<i64, Error>> {
        self.inner.grant(ttl)
    }

    fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>> {
        self.inner.keep_alive(lease)
    }

    fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>> {
        self.inner.revoke(lease)
    }
}

#[tokio::test]
async fn a_write_without_an_answer_is_told_by_its_entry() {
    let run = async |written, overtaken| {
        let inner = Embedded::new();
        let unheard = Unheard { inner: inner.clone(), written, overtaken, done: AtomicBool::new(false) };
        let audit = Audit::new(Arc::new(unheard), Prefix::default(), "gw-1");
        let change = suite::put("/suiyue/v1/apps/a", "v", 0, 0);
        let outcome = audit.commit(&Deed::local("SetApp"), &of("apps/a"), &change).await;
        (outcome, entries(&inner).await.len())
    };
    // Its entry stands there: it was written, also where others have gone on.
    let (outcome, entries) = run(true, false).await;
    assert!(matches!(outcome, Ok(Outcome::Committed(_))) && entries == 1, "{outcome:?}");
    let (outcome, entries) = run(true, true).await;
    assert!(matches!(outcome, Ok(Outcome::Committed(_))) && entries == 2, "{outcome:?}");
    // The head has moved without it: it never will be written, and is tried again.
    let (outcome, entries) = run(false, true).await;
    assert!(matches!(outcome, Ok(Outcome::Committed(_))) && entries == 2, "{outcome:?}");
    // It may still come.
    let (outcome, entries) = run(false, false).await;
    assert!(matches!(outcome, Err(Failure::Registry(Error::Unknown(_)))) && entries == 0, "{outcome:?}");
}

#[test]
fn long_texts_are_cut_between_characters() {
    assert_eq!(cut("short"), "short");
    let long = cut(&"穗".repeat(2000));
    assert!(long.len() <= MAX_TEXT && long.chars().all(|c| c == '穗'));
}

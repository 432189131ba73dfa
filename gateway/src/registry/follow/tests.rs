use super::*;
use crate::registry::{
    Outcome, Txn,
    embedded::Embedded,
    last_known_good::LastKnownGood,
    suite::{put, written},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use prost::Message as _;
use suiyue_proto::v1;
use tokio::sync::watch;

/// An embedded registry that can be cut off, as a network does it.
struct Cuttable {
    inner: Embedded,
    cut: watch::Sender<bool>,
}

impl Cuttable {
    fn up(&self) -> Result<(), Error> {
        if *self.cut.borrow() { Err(Error::Unreachable("cut".to_owned())) } else { Ok(()) }
    }
}

impl Registry for Cuttable {
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Error>> {
        async move {
            self.up()?;
            self.inner.list(prefix).await
        }
        .boxed()
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        after: i64,
    ) -> BoxFuture<'a, Result<mpsc::Receiver<Update>, Error>> {
        async move {
            self.up()?;
            let mut updates = self.inner.watch(prefix, after).await?;
            let (sender, receiver) = mpsc::channel(8);
            let mut cut = self.cut.subscribe();
            tokio::spawn(async move {
                loop {
                    let update = tokio::select! {
                        update = updates.recv() => update,
                        _ = cut.wait_for(|cut| *cut) => Some(Update::Lost(Error::Unreachable("cut".to_owned()))),
                        () = sender.closed() => return,
                    };
                    let Some(update) = update else { return };
                    let lost = matches!(update, Update::Lost(_));
                    if sender.send(update).await.is_err() || lost {
                        return;
                    }
                }
            });
            Ok(receiver)
        }
        .boxed()
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, Error>> {
        self.inner.commit(txn)
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

struct Following {
    registry: Arc<Cuttable>,
    status: Status,
    tables: watch::Receiver<Arc<Table>>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start() -> Following {
    start_with(Arc::new(Cuttable { inner: Embedded::new(), cut: watch::Sender::new(false) }), None)
}

fn start_with(registry: Arc<Cuttable>, copy: Option<Saved>) -> Following {
    let (publish, tables) = watch::channel(Arc::new(Table::default()));
    let shutdown = CancellationToken::new();
    let (status, run) = follow(
        Start {
            registry: registry.clone(),
            prefix: Prefix::default(),
            base: Table::default(),
            source: Source::Embedded,
            copy,
            trust: None,
        },
        move |table| drop(publish.send_replace(table)),
        shutdown.clone(),
    );
    Following { registry, status, tables, shutdown, task: tokio::spawn(run) }
}

impl Following {
    async fn policies(&mut self, count: usize) -> Arc<Table> {
        self.tables.wait_for(|table| table.policies.len() == count).await.unwrap().clone()
    }
}

fn policy(code: u32) -> Txn {
    let value = v1::RegionPolicy::default().encode_to_vec();
    let key = format!("/suiyue/v1/regions/{code}");
    Txn { expect: vec![(key.clone(), 0)], puts: vec![(key, value.into(), 0)], deletes: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn changes_are_published() {
    let mut following = start();
    following.tables.changed().await.unwrap();
    let revision = written(&*following.registry, policy(440_100)).await;
    let table = following.policies(1).await;
    assert_eq!((table.revision, table.source), (revision, Source::Embedded));
    let freshness = following.status.freshness();
    assert_eq!((freshness.revision, freshness.error.is_none()), (revision, true));
    assert_eq!(following.status.entries()[0].key, "/suiyue/v1/regions/440100");
    following.shutdown.cancel();
    following.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_registry_leaves_the_table_and_is_caught_up_with() {
    let mut following = start();
    written(&*following.registry, policy(440_100)).await;
    following.policies(1).await;
    following.registry.cut.send_replace(true);
    while following.status.freshness().error.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Changes that happen meanwhile, one of them a removal, and their history is gone.
    let key = "/suiyue/v1/regions/440100".to_owned();
    written(&*following.registry, Txn { deletes: vec![key], ..Txn::default() }).await;
    written(&*following.registry, policy(610_100)).await;
    let last = written(&*following.registry, policy(610_000)).await;
    following.registry.inner.compact();
    tokio::time::advance(Duration::from_secs(1800)).await;
    assert_eq!(following.tables.borrow().policies.len(), 1);
    following.registry.cut.send_replace(false);
    let table = following.policies(2).await;
    assert_eq!(table.revision, last);
    assert!(following.status.freshness().error.is_none());
}

#[tokio::test(start_paused = true)]
async fn presence_of_gateways_is_known_but_not_published() {
    let mut following = start();
    written(&*following.registry, policy(440_100)).await;
    following.policies(1).await;
    following.tables.mark_unchanged();
    let last = written(&*following.registry, put("/suiyue/v1/gateways/gw-1", "", 0, 0)).await;
    while following.status.freshness().revision < last {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(following.status.entries().len(), 2);
    assert!(!following.tables.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn listing_again_does_not_publish_the_same_table() {
    let mut following = start();
    written(&*following.registry, policy(440_100)).await;
    following.policies(1).await;
    following.tables.mark_unchanged();
    tokio::time::sleep(RELIST.mul_f64(1.3)).await;
    assert!(!following.tables.has_changed().unwrap());
}

fn key_of(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_start_without_the_registry_begins_with_the_copy_until_the_registry_answers() {
    let dir = tempfile::tempdir().unwrap();
    let copies = LastKnownGood::open(dir.path(), Prefix::default()).unwrap();

    // A gateway that hears the registry writes a copy of what it hears.
    let first = start();
    let keeping = tokio::spawn(copies.clone().keep(first.status.clone(), first.shutdown.clone()));
    let revision = written(&*first.registry, policy(440_100)).await;
    let saved = loop {
        match copies.newest().unwrap() {
            Some(saved) if saved.revision == revision => break saved,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    first.shutdown.cancel();
    keeping.await.unwrap();

    // The next one starts while the registry is away.
    let registry = Arc::new(Cuttable { inner: Embedded::new(), cut: watch::Sender::new(true) });
    let mut second = start_with(registry, Some(saved));
    let table = second.tables.wait_for(|table| !table.policies.is_empty()).await.unwrap().clone();
    assert_eq!((table.source, table.revision), (Source::LastKnownGood, revision));
    assert_eq!(key_of(&second.status.entries()), ["/suiyue/v1/regions/440100"]);
    assert!(second.status.freshness().age().is_some());

    // The registry comes back, and is believed, whatever it says.
    second.registry.cut.send_replace(false);
    let table = second.tables.wait_for(|table| table.source == Source::Embedded).await.unwrap().clone();
    assert!(table.policies.is_empty());
    second.shutdown.cancel();
    second.task.await.unwrap();
}

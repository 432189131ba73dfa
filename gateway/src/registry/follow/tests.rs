use super::*;
use crate::identity::trust::tests::Realm;
use crate::registry::{
    Entry, Outcome, Txn,
    embedded::Embedded,
    guard::{Cause, HOLD},
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
    start_trusting(registry, copy, None)
}

fn start_trusting(registry: Arc<Cuttable>, copy: Option<Saved>, trust: Option<Trust>) -> Following {
    let (publish, tables) = watch::channel(Arc::new(Table::default()));
    let shutdown = CancellationToken::new();
    let (status, run) = follow(
        Start {
            registry: registry.clone(),
            prefix: Prefix::default(),
            base: Table::default(),
            source: Source::Embedded,
            copy,
            trust,
            peers: Peers::default(),
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
async fn the_audit_is_neither_kept_nor_published() {
    let mut following = start();
    written(&*following.registry, put("/suiyue/v1/audit/head", "a", 0, 0)).await;
    written(&*following.registry, policy(440_100)).await;
    following.policies(1).await;
    following.tables.mark_unchanged();
    let last =
        written(&*following.registry, put("/suiyue/v1/audit/01ARZ3NDEKTSV4RRFFQ69G5FAV", "b", 0, 0)).await;
    while following.status.freshness().revision < last {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(key_of(&following.status.entries()), ["/suiyue/v1/regions/440100"]);
    // Nor when everything is listed again.
    tokio::time::sleep(RELIST.mul_f64(1.3)).await;
    assert_eq!(key_of(&following.status.entries()), ["/suiyue/v1/regions/440100"]);
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

    // The next one starts while the registry is away, eight days later.
    let eight_days = Duration::from_secs(8 * 24 * 3600);
    let unix_ms = saved.unix_ms - i64::try_from(eight_days.as_millis()).unwrap();
    let saved = Saved { unix_ms, ..saved };
    let registry = Arc::new(Cuttable { inner: Embedded::new(), cut: watch::Sender::new(true) });
    let mut second = start_with(registry, Some(saved));
    let table = second.tables.wait_for(|table| !table.policies.is_empty()).await.unwrap().clone();
    assert_eq!((table.source, table.revision), (Source::LastKnownGood, revision));
    assert_eq!(key_of(&second.status.entries()), ["/suiyue/v1/regions/440100"]);
    assert!(second.status.freshness().age().is_some_and(|age| age >= eight_days));

    // An empty registry comes back: that is another one, and what was known is held against it.
    second.registry.cut.send_replace(false);
    let table = second.tables.wait_for(|table| table.source == Source::Embedded).await.unwrap().clone();
    assert_eq!((table.policies.len(), table.histories), (1, 1));
    assert_eq!(words(&second.status), ["registry_restored", "entries_held"]);
    // Until somebody says that it is right.
    assert_eq!(second.status.accept("a trial").len(), 1);
    assert!(second.policies(0).await.policies.is_empty());
    assert!(words(&second.status).is_empty());
    second.shutdown.cancel();
    second.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_no_copy_is_an_alarm_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("registry");
    let copies = LastKnownGood::open(&place, Prefix::default()).unwrap();
    std::fs::remove_dir(&place).unwrap();
    let mut following = start();
    tokio::spawn(copies.keep(following.status.clone(), following.shutdown.clone()));
    written(&*following.registry, policy(440_100)).await;
    following.policies(1).await;
    while words(&following.status) != ["copy_failed"] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(following.status.copied_unix_ms(), 0);
    std::fs::create_dir(&place).unwrap();
    written(&*following.registry, policy(610_100)).await;
    while !words(&following.status).is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(following.status.copied_unix_ms() > 0);
    following.shutdown.cancel();
}

fn words(status: &Status) -> Vec<&str> {
    status.alarms().iter().map(|alarm| alarm.word).collect()
}

/// A node of one region, with its endpoint under `lease`.
fn node(region: u32, name: &str, lease: i64) -> Txn {
    let key = |part: &str| format!("/suiyue/v1/nodes/{region}/{name}/{part}");
    let manifest = v1::Manifest {
        region,
        node: name.to_owned(),
        role: v1::Role::City.into(),
        scopes: vec![region],
        ..Default::default()
    };
    let spec = v1::NodeSpec { manifest: Some(manifest), ..Default::default() }.encode_to_vec();
    let live = v1::LiveEndpoint { address: "127.0.0.1:1".to_owned(), ..Default::default() }.encode_to_vec();
    let puts = vec![(key("spec"), spec.into(), 0), (key("live/a"), live.into(), lease)];
    Txn { puts, ..Txn::default() }
}

impl Following {
    /// A follower of a registry with one city, whose endpoint has just lost its lease.
    async fn after_a_lost_lease() -> Self {
        let mut following = start();
        let lease = following.registry.grant(Duration::from_secs(15)).await.unwrap();
        written(&*following.registry, node(440_100, "city", lease)).await;
        following.tables.wait_for(|table| table.nodes.contains_key("city")).await.unwrap();
        following.registry.revoke(lease).await.unwrap();
        following.tables.wait_for(|table| !table.stale.is_empty()).await.unwrap();
        following
    }

    fn endpoints(&self) -> usize {
        self.tables.borrow().nodes.get("city").map_or(0, |node| node.endpoints.len())
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_endpoint_of_a_region_stays_stale_for_a_quarter_of_an_hour() {
    let mut following = Following::after_a_lost_lease().await;
    assert_eq!(following.endpoints(), 1);
    let held = following.status.held();
    assert!(held.values().all(|held| held.cause == Cause::RegionEmpty) && held.len() == 1, "{held:?}");
    assert_eq!(words(&following.status), ["entries_held"]);
    let start = Instant::now();
    following.tables.wait_for(|table| table.stale.is_empty()).await.unwrap();
    assert_eq!((following.endpoints(), start.elapsed().as_secs()), (0, HOLD.as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_stale_endpoint_that_is_written_again_is_stale_no_more() {
    let mut following = Following::after_a_lost_lease().await;
    let hash = following.tables.borrow().hash.clone();
    written(&*following.registry, node(440_100, "city", 0)).await;
    following.tables.wait_for(|table| table.stale.is_empty()).await.unwrap();
    assert_eq!((following.endpoints(), following.tables.borrow().hash.clone()), (1, hash));
}

#[tokio::test(start_paused = true)]
async fn held_entries_are_let_go_of_while_the_registry_is_away() {
    let mut following = Following::after_a_lost_lease().await;
    following.registry.cut.send_replace(true);
    following.tables.wait_for(|table| table.stale.is_empty()).await.unwrap();
    assert_eq!(following.endpoints(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_for_an_hour_is_an_alarm() {
    let mut following = start();
    written(&*following.registry, policy(440_100)).await;
    following.policies(1).await;
    following.registry.cut.send_replace(true);
    tokio::time::sleep(ALARM).await;
    assert_eq!(words(&following.status), ["registry_away"]);
    // A week later it is still served.
    tokio::time::sleep(Duration::from_secs(7 * 24 * 3600)).await;
    assert_eq!(following.tables.borrow().policies.len(), 1);
    following.registry.cut.send_replace(false);
    while !words(&following.status).is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_gateway_applies_nothing_until_the_end_of_the_freeze() {
    let mut following = start();
    written(&*following.registry, policy(440_100)).await;
    following.policies(1).await;
    assert!(following.status.freeze("a trial"));
    let last = written(&*following.registry, policy(610_100)).await;
    while following.status.freshness().revision < last {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((following.tables.borrow().policies.len(), following.status.entries().len()), (1, 1));
    assert_eq!(words(&following.status), ["frozen"]);
    assert!(following.status.thaw());
    assert_eq!(following.policies(2).await.revision, last);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_gateway_hears_of_revocations_all_the_same() {
    let realm = Realm::new();
    let trust = realm.trust();
    let registry = Arc::new(Cuttable { inner: Embedded::new(), cut: watch::Sender::new(false) });
    let following = start_trusting(registry, None, Some(trust.clone()));
    let record = async |record: Vec<u8>, expect: i64| {
        let puts = vec![("/suiyue/v1/trust/44".to_owned(), record.into(), 0)];
        let expect = vec![("/suiyue/v1/trust/44".to_owned(), expect)];
        written(&*following.registry, Txn { expect, puts, deletes: Vec::new() }).await
    };
    let first = record(realm.record(|_| {}), 0).await;
    while trust.roll().provinces().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(following.status.freeze("a trial"));
    let node = realm.node(440_100, "suikang").leaf();
    let id = node.id.to_string();
    record(realm.record(|trust| (trust.serial, trust.revoked_ids) = (2, vec![id])), first).await;
    while !trust.roll().is_revoked(&node) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(words(&following.status), ["frozen"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_at_all_says_what_it_waits_for() {
    let registry = Arc::new(Cuttable { inner: Embedded::new(), cut: watch::Sender::new(true) });
    let following = start_with(registry, None);
    let waiting = loop {
        match following.status.waiting() {
            Some(waiting) if waiting.contains("cut") => break waiting,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert!(waiting.contains("no copy on disk") && waiting.contains("no peers"), "{waiting}");
    assert_eq!(words(&following.status), ["nothing_known"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_does_not_follow_on_the_books_makes_it_list_again() {
    /// Tells of every change that it replaced something that nobody has heard of.
    struct Forgetful(Embedded);

    impl Registry for Forgetful {
        fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Error>> {
            self.0.list(prefix)
        }

        fn watch<'a>(
            &'a self,
            prefix: &'a str,
            after: i64,
        ) -> BoxFuture<'a, Result<mpsc::Receiver<Update>, Error>> {
            async move {
                let mut updates = self.0.watch(prefix, after).await?;
                let (sender, receiver) = mpsc::channel(8);
                tokio::spawn(async move {
                    while let Some(Update::Changes { revision, changes, .. }) = updates.recv().await {
                        let before = vec![1; changes.len()];
                        drop(sender.send(Update::Changes { revision, changes, before }).await);
                    }
                });
                Ok(receiver)
            }
            .boxed()
        }

        fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, Error>> {
            self.0.commit(txn)
        }

        fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<i64, Error>> {
            self.0.grant(ttl)
        }

        fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>> {
            self.0.keep_alive(lease)
        }

        fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>> {
            self.0.revoke(lease)
        }
    }

    let registry = Arc::new(Forgetful(Embedded::new()));
    let (publish, mut tables) = watch::channel(Arc::new(Table::default()));
    let start = Start {
        registry: registry.clone(),
        prefix: Prefix::default(),
        base: Table::default(),
        source: Source::Embedded,
        copy: None,
        trust: None,
        peers: Peers::default(),
    };
    let (status, run) =
        follow(start, move |table| drop(publish.send_replace(table)), CancellationToken::new());
    let task = tokio::spawn(run);
    tables.changed().await.unwrap();
    written(&*registry, policy(440_100)).await;
    // The change itself is not taken; the listing that follows has it.
    tables.wait_for(|table| table.policies.len() == 1).await.unwrap();
    assert!(status.freshness().revision > 1);
    task.abort();
}

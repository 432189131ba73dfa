//! How soon does a change stand in every table, and what do 100,000 endpoints in etcd cost?
//!
//! `SUIYUE_ETCD_BIN=/path/to/etcd cargo bench -p suiyue-gateway --bench registry`
//!
//! A real etcd on this machine, with its fsync. Three followers as in three gateways, each with a client
//! of its own; a change counts as seen when the last of them has published the table with it.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and ends when something fails")]

use prost::Message as _;
use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use suiyue_gateway::{
    registry::{
        Change, Entry, Outcome, Registry as _, Txn,
        books::Books,
        etcd::Etcd,
        fold::{Entries, Fold},
        follow::{Start, follow},
        keys::Prefix,
        peers::Peers,
    },
    table::{Source, Table},
};
use suiyue_proto::v1;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

const GATEWAYS: usize = 3;
const CHANGES: usize = 500;
const NODES: usize = 1000;
const ENDPOINTS: usize = 100;
/// Operations of one transaction: etcd takes 128.
const BATCH: usize = 100;

struct Server {
    child: Child,
    endpoint: String,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Option<Self> {
        let program = std::env::var_os("SUIYUE_ETCD_BIN")?;
        let dir = tempfile::tempdir().unwrap();
        let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let [client, peer] = [port(), port()].map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(program);
        command
            .arg("--data-dir")
            .arg(dir.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Some(Self { child: command.spawn().unwrap(), endpoint: client, _dir: dir })
    }

    async fn client(&self) -> Etcd {
        let etcd = Etcd::connect(&[&self.endpoint]).await.unwrap();
        while etcd.list("/").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        etcd
    }
}

async fn write(etcd: &Etcd, txn: Txn) -> i64 {
    match etcd.commit(txn).await.unwrap() {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict(present) => panic!("nobody else writes: {present:?}"),
    }
}

/// A follower as a gateway has it: the revisions of its tables as they are published.
async fn gateway(server: &Server, tasks: &mut JoinSet<()>) -> watch::Receiver<Arc<Table>> {
    let (publish, tables) = watch::channel(Arc::new(Table::default()));
    let start = Start {
        registry: Arc::new(server.client().await),
        prefix: Prefix::default(),
        base: Table::default(),
        source: Source::Etcd,
        copy: None,
        trust: None,
        peers: Peers::default(),
    };
    let (_, run) = follow(start, move |table| drop(publish.send_replace(table)), CancellationToken::new());
    tasks.spawn(run);
    tables
}

fn policy(number: usize) -> Txn {
    let policy = v1::RegionPolicy { in_flight_max: Some(1 + number as u32), ..Default::default() };
    let key = "/suiyue/v1/regions/440100".to_owned();
    Txn { puts: vec![(key, policy.encode_to_vec().into(), 0)], ..Txn::default() }
}

/// Time from the start of a write until every table has it.
async fn seen(server: &Server, changes: usize) -> Vec<Duration> {
    let mut tasks = JoinSet::new();
    let mut gateways = Vec::new();
    for _ in 0..GATEWAYS {
        gateways.push(gateway(server, &mut tasks).await);
    }
    let writer = server.client().await;
    let mut times = Vec::with_capacity(changes);
    for number in 0..changes {
        let start = Instant::now();
        let revision = write(&writer, policy(number)).await;
        for tables in &mut gateways {
            tables.wait_for(|table| table.revision >= revision).await.unwrap();
        }
        times.push(start.elapsed());
    }
    times.sort();
    times
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn live(node: usize, endpoint: usize, as_of: i64) -> (String, bytes::Bytes) {
    let region = 440_100;
    let value = v1::LiveEndpoint {
        address: format!("10.{}.{}.{}:9101", node / 256, node % 256, endpoint),
        incarnation: (node * ENDPOINTS + endpoint) as u64,
        report: Some(v1::Report {
            ready: vec![v1::RegionReady { region, as_of_unix_ms: as_of }],
            draining: false,
        }),
        gateway: "gateway-1".to_owned(),
        written_unix_ms: as_of,
        signed: None,
    };
    let key = format!("/suiyue/v1/nodes/{region}/node-{node:04}/live/node-{node:04}-{endpoint:03}");
    (key, value.encode_to_vec().into())
}

fn spec(node: usize) -> (String, bytes::Bytes, i64) {
    let region = 440_100;
    let name = format!("node-{node:04}");
    let manifest = v1::Manifest {
        region,
        node: name.clone(),
        role: v1::Role::City.into(),
        scopes: vec![region],
        ..Default::default()
    };
    let value = v1::NodeSpec { manifest: Some(manifest), ..Default::default() }.encode_to_vec();
    (format!("/suiyue/v1/nodes/{region}/{name}/spec"), value.into(), 0)
}

async fn fill(etcd: &Etcd) {
    let lease = etcd.grant(Duration::from_secs(3600)).await.unwrap();
    for node in 0..NODES {
        write(etcd, Txn { puts: vec![spec(node)], ..Txn::default() }).await;
        let endpoints: Vec<_> = (0..ENDPOINTS).map(|endpoint| live(node, endpoint, 1)).collect();
        for batch in endpoints.chunks(BATCH) {
            let puts = batch.iter().map(|(key, value)| (key.clone(), value.clone(), lease)).collect();
            write(etcd, Txn { puts, ..Txn::default() }).await;
        }
    }
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}

/// What many endpoints cost one gateway.
async fn many(server: &Server) {
    let etcd = server.client().await;
    let start = Instant::now();
    fill(&etcd).await;
    println!("{} endpoints of {NODES} nodes written in {:.1?}", NODES * ENDPOINTS, start.elapsed());
    let before = resident_mib();
    let start = Instant::now();
    let listing = etcd.list("/suiyue/v1/").await.unwrap();
    let bytes: usize = listing.entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
    println!("list: {} entries, {} KiB, {:.1?}", listing.entries.len(), bytes / 1024, start.elapsed());
    let revision = listing.revision;
    let mut books = Books::new(Prefix::default(), []);
    let now = tokio::time::Instant::now();
    timed("books, first listing", || books.list(listing.clone(), 1, now));
    let mut fold = Fold::new(Prefix::default(), Table::default(), Source::Etcd);
    let table = timed("fold, first time", || fold.table(&books.applied(), revision));
    assert_eq!(table.nodes.values().map(|node| node.endpoints.len()).sum::<usize>(), NODES * ENDPOINTS);
    println!("resident memory: {before} MiB before, {} MiB with entries and table", resident_mib());
    timed("books, the same listing again", || books.list(listing, 1, now));
    one_update(&mut books, &mut fold, revision);
    let missing: Entries =
        books.heard().iter().skip(1).map(|(key, entry)| (key.clone(), entry.clone())).collect();
    let gone = Entry::clone(books.heard().values().nth(50).unwrap());
    let mut guard = suiyue_gateway::registry::guard::Guard::new(Prefix::default(), []);
    timed("guard, one absence", || guard.absent(vec![gone], &missing, now));
    let times = seen(server, 20).await;
    println!(
        "change seen by {GATEWAYS} gateways with all of them: p50 {:.1?}, slowest of {} {:.1?}",
        percentile(&times, 50),
        times.len(),
        times[times.len() - 1]
    );
}

/// One endpoint's entry changes: what is done until there is a table. It is one thread's CPU time.
fn one_update(books: &mut Books, fold: &mut Fold, revision: i64) {
    let (mut taken, mut folded) = (Vec::new(), Vec::new());
    for number in 0..20_i64 {
        let (key, value) = live(7, 7, 2 + number);
        let entry = Entry { key, value, mod_revision: revision + 1 + number, lease: 1 };
        let start = Instant::now();
        let now = tokio::time::Instant::now();
        books.take(revision + 1 + number, vec![Change::Put(entry)], &[], now).unwrap();
        let digest = books.digest().hex();
        taken.push(start.elapsed());
        let start = Instant::now();
        let table = fold.table(&books.applied(), revision);
        folded.push(start.elapsed());
        assert!(!table.nodes.is_empty() && digest.len() == 32);
    }
    taken.sort();
    folded.sort();
    println!(
        "one update: {:.1?} to enter it into the books, {:.1?} to fold (medians of {})",
        percentile(&taken, 50),
        percentile(&folded, 50),
        folded.len()
    );
}

fn main() {
    let Some(server) = Server::start() else {
        println!("SUIYUE_ETCD_BIN names no etcd: nothing is measured");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let times = seen(&server, CHANGES).await;
        println!(
            "change seen by {GATEWAYS} gateways: p50 {:.1?}, p99 {:.1?}, slowest of {CHANGES} {:.1?}",
            percentile(&times, 50),
            percentile(&times, 99),
            times[times.len() - 1]
        );
        many(&server).await;
    });
}

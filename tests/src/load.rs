//! How does a test keep calls in flight while something dies, and what became of each?
//!
//! A fixed number of callers, each with its next call as soon as the last one ended: the number in
//! flight is known at every moment. Or so many calls a second, whatever becomes of the earlier ones, as
//! long as there are callers left. Every fourth call is one that must not be executed twice.

use crate::{
    client::{Answer, framed, request},
    eventually::{PATIENCE, eventually},
    failover::Failover,
    history::Ended,
    v1::EchoRequest,
};
use anyhow::{Context as _, bail, ensure};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use suiyue_proto::metadata;
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::MissedTickBehavior,
};

/// Callers that share one connection.
const CALLERS_A_CONNECTION: usize = 10;
/// Ids of calls that must not be executed twice begin so.
pub const ONCE: &str = "once";
/// One call in so many must not be executed twice.
const ONCE_EVERY: u64 = 4;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Replayable calls only.
    Replayable,
    /// Also calls that must not be executed twice.
    WithOnce,
}

/// What kind of load.
#[derive(Debug, Clone)]
pub struct Wish {
    region: u32,
    callers: usize,
    mix: Mix,
    per_second: Option<u32>,
    timeout_ms: Option<u32>,
    callers_a_connection: usize,
}

impl Wish {
    /// So many callers for a region, each with its next call as soon as the last one ended.
    #[must_use]
    pub const fn new(region: u32, callers: usize, mix: Mix) -> Self {
        let callers_a_connection = CALLERS_A_CONNECTION;
        Self { region, callers, mix, per_second: None, timeout_ms: None, callers_a_connection }
    }

    /// So many calls a second, whatever becomes of the earlier ones, while callers are left.
    #[must_use]
    pub const fn per_second(mut self, calls: u32) -> Self {
        self.per_second = Some(calls);
        self
    }

    /// Every call has this deadline instead of its method's.
    #[must_use]
    pub const fn timeout_ms(mut self, timeout_ms: u32) -> Self {
        self.timeout_ms = Some(timeout_ms);
        self
    }

    /// So many callers share a connection.
    #[must_use]
    pub const fn callers_a_connection(mut self, callers: usize) -> Self {
        self.callers_a_connection = callers;
        self
    }

    /// Starts it, spread over the gateways' data ports.
    #[must_use]
    pub fn start(self, gateways: &[SocketAddr]) -> Load {
        let pace = self.per_second.map(|_| Semaphore::new(0));
        let state = Arc::new(State { wish: self, name: rand::random(), pace, ..State::default() });
        let mut callers = JoinSet::new();
        let mut client = Arc::new(Failover::new(gateways.to_vec(), 0));
        for caller in 0..state.wish.callers {
            if caller > 0 && caller % state.wish.callers_a_connection == 0 {
                let first = caller / state.wish.callers_a_connection;
                client = Arc::new(Failover::new(gateways.to_vec(), first));
            }
            callers.spawn(call_on(Arc::clone(&state), Arc::clone(&client)));
        }
        let pacer = state.wish.per_second.map(|calls| tokio::spawn(pace_calls(state.clone(), calls)));
        Load { state, callers, pacer }
    }
}

impl Default for Wish {
    fn default() -> Self {
        Self::new(crate::region::GUANGZHOU, 0, Mix::Replayable)
    }
}

/// Calls going on.
#[derive(Debug)]
pub struct Load {
    state: Arc<State>,
    callers: JoinSet<()>,
    pacer: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    wish: Wish,
    /// Tells the calls of several loads apart.
    name: u32,
    /// One permit a call that is due; closed at the end.
    pace: Option<Semaphore>,
    stop: AtomicBool,
    in_flight: AtomicUsize,
    next: AtomicU64,
    ended: AtomicU64,
    report: Mutex<Report>,
}

/// What became of the calls.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Calls that ended OK.
    pub ok: u64,
    /// Calls that ended OK after more than one attempt of the gateway.
    pub retried: u64,
    /// Replayable calls that did not end OK, with what happened.
    pub failed: Vec<String>,
    /// Calls that must not be executed twice and did not end OK.
    pub failed_once: Vec<String>,
    /// Calls that ended OK, by node.
    pub served_by: BTreeMap<String, u64>,
    /// Ids of the calls that must not be executed twice.
    pub once: Vec<String>,
    /// Every call, in the order of their ends.
    pub calls: Vec<Ended>,
}

impl Load {
    /// Starts `callers` callers for `region`, spread over the gateways' data ports.
    #[must_use]
    pub fn start(gateways: &[SocketAddr], region: u32, callers: usize, mix: Mix) -> Self {
        Wish::new(region, callers, mix).start(gateways)
    }

    /// Calls in flight at this moment.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.in_flight.load(Relaxed)
    }

    /// Calls ended so far.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.state.ended.load(Relaxed)
    }

    /// Waits until `more` calls have ended from now on.
    ///
    /// # Errors
    /// When they do not.
    pub async fn proceeds(&self, more: u64) -> anyhow::Result<()> {
        let goal = self.ended() + more;
        eventually("calls go on", async || {
            ensure!(self.ended() >= goal, "{} of {goal} calls have ended", self.ended());
            Ok(())
        })
        .await
    }

    /// Waits until so many calls that must not be executed twice have failed.
    ///
    /// # Errors
    /// When they do not.
    pub async fn fails_once(&self, calls: usize) -> anyhow::Result<()> {
        eventually("calls that are not sent again fail", async || {
            let failed = self.report().failed_once.len();
            ensure!(failed >= calls, "{failed} of {calls}");
            Ok(())
        })
        .await
    }

    /// Waits until `node` has answered `more` calls from now on.
    ///
    /// # Errors
    /// When it does not.
    pub async fn reaches(&self, node: &str, more: u64) -> anyhow::Result<()> {
        // Not by `so_far`, which copies every call.
        let by_node = || self.report().served_by.clone();
        let count = || by_node().get(node).copied().unwrap_or(0);
        let goal = count() + more;
        eventually(&format!("{node} answers calls"), async || {
            ensure!(count() >= goal, "{:?}", by_node());
            Ok(())
        })
        .await
    }

    /// The report up to now.
    #[must_use]
    pub fn so_far(&self) -> Report {
        self.report().clone()
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.state.report.lock().expect("nothing panics with the report in hand")
    }

    /// Lets the calls in flight end and reports.
    ///
    /// # Errors
    /// When a caller panicked.
    pub async fn stop(mut self) -> anyhow::Result<Report> {
        self.state.stop.store(true, Relaxed);
        if let Some(pace) = &self.state.pace {
            pace.close();
        }
        while let Some(ended) = self.callers.join_next().await {
            if let Err(error) = ended {
                bail!("a caller panicked: {error}");
            }
        }
        Ok(self.so_far())
    }
}

impl Report {
    /// Nothing failed, and something was done.
    ///
    /// # Errors
    /// What failed.
    pub fn flawless(&self) -> anyhow::Result<()> {
        ensure!(self.ok > 0, "no call was made");
        ensure!(
            self.failed.is_empty(),
            "{} replayable calls failed: {:?}",
            self.failed.len(),
            first(&self.failed)
        );
        let once = &self.failed_once;
        ensure!(once.is_empty(), "{} calls that run once failed: {:?}", once.len(), first(once));
        Ok(())
    }
}

/// The first few, for a message.
fn first(all: &[String]) -> &[String] {
    &all[..all.len().min(5)]
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(pacer) = &self.pacer {
            pacer.abort();
        }
    }
}

/// Lets `calls` calls begin every second.
async fn pace_calls(state: Arc<State>, calls: u32) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / calls);
    // Late by a busy machine: the calls that are due are made all the same.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while let Some(pace) = &state.pace {
        ticks.tick().await;
        if pace.is_closed() {
            return;
        }
        pace.add_permits(1);
    }
}

async fn call_on(state: Arc<State>, client: Arc<Failover>) {
    while !state.stop.load(Relaxed) {
        if let Some(pace) = &state.pace {
            let Ok(due) = pace.acquire().await else { return };
            due.forget();
        }
        let number = state.next.fetch_add(1, Relaxed);
        let once = state.wish.mix == Mix::WithOnce && number.is_multiple_of(ONCE_EVERY);
        let call_id = format!("{}-{:08x}-{number}", if once { ONCE } else { "any" }, state.name);
        let begun = Instant::now();
        state.in_flight.fetch_add(1, Relaxed);
        let outcome = state.call(&client, once, &call_id).await;
        state.in_flight.fetch_sub(1, Relaxed);
        let mut report = state.report.lock().expect("nothing panics with the report in hand");
        report.note(&call_id, once, begun, outcome);
        state.ended.fetch_add(1, Relaxed);
    }
}

impl State {
    async fn call(&self, client: &Failover, once: bool, call_id: &str) -> anyhow::Result<Answer> {
        let path =
            if once { "/suiyue.test.v1.EchoService/UnaryOnce" } else { "/suiyue.test.v1.EchoService/Unary" };
        let region = self.wish.region;
        let message = EchoRequest { region, call_id: call_id.to_owned(), ..Default::default() };
        // Random: calls of many holders, so that each of a region's nodes gets some.
        let subject = format!("{:032x}", rand::random::<u128>());
        let timeout = self.wish.timeout_ms.map(|ms| format!("{ms}m"));
        let (subject_key, timeout_key) = (metadata::SUBJECT, metadata::GRPC_TIMEOUT);
        let mut headers = vec![(subject_key.as_str(), subject.as_str())];
        headers.extend(timeout.as_deref().map(|timeout| (timeout_key.as_str(), timeout)));
        let (request, body) = (request(path, &headers), framed(&message));
        // Every call has a deadline at the gateway: one that never ends is a failure of its own.
        tokio::time::timeout(PATIENCE, client.call(&request, &body)).await.context("it never ended")?
    }
}

impl Report {
    fn note(&mut self, call_id: &str, once: bool, begun: Instant, outcome: anyhow::Result<Answer>) {
        if once {
            self.once.push(call_id.to_owned());
        }
        self.calls.push(ended(call_id, once, begun, outcome.as_ref().ok()));
        let failure = match outcome {
            Ok(answer) if answer.code() == Some(tonic::Code::Ok) => {
                self.ok += 1;
                self.retried += u64::from(answer.attempt() > 1);
                *self.served_by.entry(answer.meta(&metadata::SERVED_BY).unwrap_or_default()).or_default() +=
                    1;
                return;
            }
            Ok(answer) => {
                format!("{call_id}: {:?} {:?} attempt {}", answer.status(), answer.reason(), answer.attempt())
            }
            Err(error) => format!("{call_id}: {error:#}"),
        };
        if once { self.failed_once.push(failure) } else { self.failed.push(failure) }
    }
}

fn ended(call_id: &str, once: bool, begun: Instant, answer: Option<&Answer>) -> Ended {
    Ended {
        call_id: call_id.to_owned(),
        once,
        begun,
        ended: Instant::now(),
        code: answer.and_then(Answer::code),
        node: answer.and_then(|a| a.meta(&metadata::SERVED_BY)).unwrap_or_default(),
        tier: answer.and_then(|a| a.meta(&metadata::TIER)).and_then(|tier| tier.parse().ok()),
        attempt: answer.map_or(0, Answer::attempt),
    }
}

//! How does a test keep calls in flight while something dies, and what became of each?
//!
//! A fixed number of callers, each with its next call as soon as the last one ended: the number in
//! flight is known at every moment. Every tenth call or so is one that must not be executed twice.

use crate::{
    client::{framed, request},
    eventually::eventually,
    failover::Failover,
    v1::EchoRequest,
};
use anyhow::{bail, ensure};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};
use suiyue_proto::metadata;
use tokio::task::JoinSet;

/// Callers that share one connection.
const CALLERS_A_CONNECTION: usize = 10;
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

/// Calls going on.
#[derive(Debug)]
pub struct Load {
    state: Arc<State>,
    callers: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    region: u32,
    /// Tells the calls of several loads apart.
    name: u32,
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
}

impl Load {
    /// Starts `callers` callers for `region`, spread over the gateways' data ports.
    #[must_use]
    pub fn start(gateways: &[SocketAddr], region: u32, callers: usize, mix: Mix) -> Self {
        let state = Arc::new(State { region, name: rand::random(), ..State::default() });
        let mut tasks = JoinSet::new();
        let connections = callers.div_ceil(CALLERS_A_CONNECTION);
        for connection in 0..connections {
            let client = Arc::new(Failover::new(gateways.to_vec(), connection));
            for _ in 0..CALLERS_A_CONNECTION.min(callers - connection * CALLERS_A_CONNECTION) {
                tasks.spawn(caller(Arc::clone(&state), Arc::clone(&client), mix));
            }
        }
        Self { state, callers: tasks }
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

    /// Waits until `node` has answered `more` calls from now on.
    ///
    /// # Errors
    /// When it does not.
    pub async fn reaches(&self, node: &str, more: u64) -> anyhow::Result<()> {
        let count = || self.so_far().served_by.get(node).copied().unwrap_or(0);
        let goal = count() + more;
        eventually(&format!("{node} answers calls"), async || {
            ensure!(count() >= goal, "{:?}", self.so_far().served_by);
            Ok(())
        })
        .await
    }

    /// The report up to now.
    #[must_use]
    pub fn so_far(&self) -> Report {
        self.state.report.lock().expect("nothing panics with the report in hand").clone()
    }

    /// Lets the calls in flight end and reports.
    ///
    /// # Errors
    /// When a caller panicked.
    pub async fn stop(mut self) -> anyhow::Result<Report> {
        self.state.stop.store(true, Relaxed);
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

async fn caller(state: Arc<State>, client: Arc<Failover>, mix: Mix) {
    while !state.stop.load(Relaxed) {
        let number = state.next.fetch_add(1, Relaxed);
        let once = mix == Mix::WithOnce && number.is_multiple_of(ONCE_EVERY);
        let call_id = format!("{}-{:08x}-{number}", if once { "once" } else { "any" }, state.name);
        let path =
            if once { "/suiyue.test.v1.EchoService/UnaryOnce" } else { "/suiyue.test.v1.EchoService/Unary" };
        let message = EchoRequest { region: state.region, call_id: call_id.clone(), ..Default::default() };
        // Random: calls of many holders, so that each of a region's nodes gets some.
        let subject = format!("{:032x}", rand::random::<u128>());
        let request = request(path, &[(metadata::SUBJECT.as_str(), &subject)]);
        state.in_flight.fetch_add(1, Relaxed);
        let outcome = client.call(&request, &framed(&message)).await;
        state.in_flight.fetch_sub(1, Relaxed);
        let mut report = state.report.lock().expect("nothing panics with the report in hand");
        report.note(&call_id, once, outcome);
        state.ended.fetch_add(1, Relaxed);
    }
}

impl Report {
    fn note(&mut self, call_id: &str, once: bool, outcome: anyhow::Result<crate::client::Answer>) {
        if once {
            self.once.push(call_id.to_owned());
        }
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

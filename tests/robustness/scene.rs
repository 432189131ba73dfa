//! What do the tests of a fault have in common?
//!
//! A city under load with its province behind it, a bystander who must notice nothing (Xi'an), and a
//! watch on what the gateway thinks. [`Scene::finish`] counts, prints the line of the table, and holds
//! what must hold under every fault: no call is executed twice that must not be, and the bystander's
//! calls are all answered.

use anyhow::{Context as _, bail, ensure};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use suiyue_tests::{
    eventually::eventually,
    federation::{Builder, Federation},
    history,
    load::{Load, Mix, ONCE, Report, Wish},
    node::{self, Node},
    process::Signal,
    region::{GUANGDONG, GUANGZHOU, XIAN},
    table::Row,
    v1::Faults,
    watch::Watch,
};

/// How long a handler takes.
pub(crate) const HANDLER_MS: u32 = 50;
/// Calls in flight all the time.
pub(crate) const CALLERS: usize = 40;
/// A deadline for calls that nothing but a busy machine may make late.
pub(crate) const PATIENT_MS: u32 = 10_000;
/// Calls that a node answers before and after a fault.
pub(crate) const STEADY: u64 = 800;
/// Calls for as long as it takes that several health checks fail.
pub(crate) const MANY: u64 = 8 * STEADY;
/// A node with a smaller share has left: only probes go there.
const NEXT_TO_NOTHING: f64 = 0.051;
/// A node with this share is back.
const ALMOST_ALL: f64 = 0.9;

/// The node of a test.
pub(crate) fn echo(name: &str, region: u32) -> node::Builder {
    Node::echo(name, region).delay_ms(HANDLER_MS)
}

/// A city and its province, which answers for it when it cannot.
pub(crate) fn city_and_province() -> Builder {
    Federation::builder().node(echo("city", GUANGZHOU)).node(echo("province", GUANGDONG).scopes(&[GUANGZHOU]))
}

/// Callers for Guangzhou, every fourth call of the kind that must not be executed twice.
pub(crate) const fn callers() -> Wish {
    Wish::new(GUANGZHOU, CALLERS, Mix::WithOnce)
}

/// A fault that is going to happen.
pub(crate) struct Scene {
    pub(crate) federation: Federation,
    pub(crate) watch: Watch,
    pub(crate) load: Load,
    bystander: Load,
    row: Row,
    felt: Felt,
}

/// Where and when a fault can be felt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Felt {
    /// The sick node.
    pub(crate) at: &'static str,
    /// When the fault happened; `None`: none did.
    pub(crate) from: Option<Instant>,
    /// When it ended; `None`: it lasts.
    pub(crate) until: Option<Instant>,
}

impl Felt {
    /// A call was in flight while the fault lasted.
    fn by(&self, call: &history::Ended) -> bool {
        self.from.is_some_and(|from| call.ended > from) && self.until.is_none_or(|until| call.begun < until)
    }
}

/// What it cost.
pub(crate) struct Outcome {
    /// Still running.
    pub(crate) federation: Federation,
    pub(crate) watch: Watch,
    pub(crate) report: Report,
    pub(crate) row: Row,
}

impl Scene {
    /// Starts everything, with Xi'an besides, and waits until `city` has answered for a while.
    pub(crate) async fn open(fault: &str, federation: Builder, wish: Wish) -> anyhow::Result<Self> {
        let federation = federation.node(echo("xian", XIAN)).start().await?;
        let watch = Watch::start(federation.gateway(), GUANGZHOU).await?;
        let load = wish.start(&federation.data());
        let bystander = Wish::new(XIAN, 2, Mix::WithOnce).timeout_ms(PATIENT_MS).start(&federation.data());
        let row = Row { fault: fault.to_owned(), ..Row::default() };
        let felt = Felt { at: "city", from: None, until: None };
        let scene = Self { federation, watch, load, bystander, row, felt };
        scene.load.reaches("city", STEADY).await?;
        Ok(scene)
    }

    /// The node of a name.
    pub(crate) fn node(&mut self, name: &str) -> anyhow::Result<&mut Node> {
        self.federation.node(name)
    }

    /// Makes a node sick; returns the moment before.
    pub(crate) async fn arrange(&mut self, node: &str, faults: Faults) -> anyhow::Result<Instant> {
        let now = self.happens();
        self.node(node)?.arrange(faults).await?;
        Ok(now)
    }

    /// This is the moment of the fault, unless it has happened before.
    pub(crate) fn happens(&mut self) -> Instant {
        let now = Instant::now();
        self.felt.from.get_or_insert(now);
        now
    }

    /// Freezes a node at a moment when it executes some call that must not be executed twice: its caller
    /// cannot know. This is the moment of the fault.
    pub(crate) async fn freezes(&mut self, node: usize) -> anyhow::Result<Instant> {
        let victim = &self.federation.nodes[node];
        let fault = eventually("the node executes a call that runs once", async || {
            let now = Instant::now();
            victim.process.freeze().await?;
            if victim.executions().unfinished_of(ONCE) == 0 {
                victim.process.signal(Signal::CONT)?;
                bail!("none at present");
            }
            Ok(now)
        })
        .await?;
        self.felt.from = Some(fault);
        Ok(fault)
    }

    /// That was the moment when the fault ended.
    pub(crate) const fn ends(&mut self, at: Instant) {
        self.felt.until = Some(at);
    }

    /// Waits until next to nothing goes to `node`. Returns the moment when that was seen.
    pub(crate) async fn leaves(&mut self, node: &str, since: Instant) -> anyhow::Result<Instant> {
        let left = self.watch.until(node, "leaves", since, |o| o.share < NEXT_TO_NOTHING).await?;
        self.row.left = Some(left);
        Ok(since + left)
    }

    /// Waits until `node` has its share back and has answered for a while.
    pub(crate) async fn returns(&mut self, node: &str, since: Instant) -> anyhow::Result<()> {
        let returned = self.watch.until(node, "returns", since, |o| o.share > ALMOST_ALL).await?;
        self.row.returned = Some(returned);
        self.ends(since);
        self.load.reaches(node, STEADY).await
    }

    /// Waits until the health of `endpoint` of `node` is as `wanted`; returns how long it took.
    pub(crate) async fn endpoint(
        &self,
        node: &str,
        endpoint: &str,
        since: Instant,
        wanted: suiyue_proto::v1::Health,
    ) -> anyhow::Result<Duration> {
        let fits =
            |o: &suiyue_tests::watch::Opinion| o.endpoints.get(endpoint).is_some_and(|e| e.0 == wanted);
        self.watch.until(node, &format!("{endpoint} is {wanted:?}"), since, fits).await
    }

    /// The line of the table so far.
    pub(crate) const fn row(&mut self) -> &mut Row {
        &mut self.row
    }

    /// Lets the calls end, counts, prints, and holds what must always hold.
    pub(crate) async fn finish(self) -> anyhow::Result<Outcome> {
        let Self { federation, watch, load, bystander, mut row, felt } = self;
        let report = load.stop().await?;
        let undisturbed = bystander.stop().await?.flawless();
        let executions = executions(&federation);
        fill(&mut row, &report, &executions, felt);
        row.print()?;
        ensure!(row.doubled == 0, "{} calls were executed twice that must not be", row.doubled);
        undisturbed.context("Xi'an was disturbed")?;
        Ok(Outcome { federation, watch, report, row })
    }
}

/// Nobody's call failed that was made after `left`.
pub(crate) fn nobody_failed_after(report: &Report, left: Instant) -> anyhow::Result<()> {
    let late: Vec<_> = report.calls.iter().filter(|call| call.begun > left && !call.is_ok()).collect();
    ensure!(late.is_empty(), "{} calls failed after the sick one was left: {:?}", late.len(), late.first());
    Ok(())
}

/// How often each call was begun, over all nodes and all their lives.
pub(crate) fn executions(federation: &Federation) -> HashMap<String, u32> {
    let mut counts = HashMap::new();
    for node in &federation.nodes {
        node.executions().count_into(&mut counts);
    }
    counts
}

/// The columns that can be counted.
pub(crate) fn fill(row: &mut Row, report: &Report, executions: &HashMap<String, u32>, felt: Felt) {
    let calls = &report.calls;
    let slow = |call: &history::Ended| call.is_slow() && felt.by(call);
    // A busy machine slows some calls, too: only those at the sick node say how long it was felt.
    let hurt = |call: &history::Ended| {
        felt.by(call) && (!call.is_ok() || call.attempt > 1 || call.node == felt.at && call.is_slow())
    };
    let times = |call: &history::Ended| executions.get(&call.call_id).copied().unwrap_or(0);
    let once = || calls.iter().filter(|call| call.once);
    row.calls = calls.len();
    row.failed = report.failed.len();
    row.failed_once = report.failed_once.len();
    row.moved = report.retried;
    row.slow = calls.iter().filter(|call| slow(call)).count();
    row.hurt_for = history::span(calls, hurt);
    row.gap = history::longest_gap(calls);
    row.ambiguous = once().filter(|call| !call.is_ok() && times(call) > 0).count();
    row.doubled = once().filter(|call| times(call) > 1).count();
}

impl Outcome {
    /// Not one replayable call failed.
    pub(crate) fn replayable_all_answered(&self) -> anyhow::Result<()> {
        let failed = &self.report.failed;
        let some = &failed[..failed.len().min(5)];
        ensure!(failed.is_empty(), "{} replayable calls failed: {some:#?}", failed.len());
        Ok(())
    }

    /// Some calls that must not be executed twice were executed and their callers cannot know: without
    /// them the count of executions shows little.
    pub(crate) fn some_ambiguous(&self) -> anyhow::Result<()> {
        ensure!(self.row.ambiguous > 0, "no call was executed without its caller knowing");
        Ok(())
    }

    /// Nobody's call failed that was made after the sick one was left; what failed was in flight.
    pub(crate) fn nobody_failed_after(&self, left: Instant) -> anyhow::Result<()> {
        nobody_failed_after(&self.report, left)
    }

    /// No endpoint of `node` was ever ejected.
    pub(crate) fn never_ejected(&self, node: &str) -> anyhow::Result<()> {
        let offences = self.watch.offences(node, suiyue_tests::watch::Opinion::nobody_ejected);
        ensure!(offences.is_empty(), "{node} was ejected: {offences:#?}");
        Ok(())
    }
}

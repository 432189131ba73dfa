//! How does a federation behave under steady load?
//!
//! The driver is an open loop: call number n is due at `start + n / rate`, whatever became of the
//! calls before it, and its latency counts from then. It is a lean HTTP/2 client on h2 directly,
//! because it shares its cores with the system under test. Apps open codes (show), checkpoints scan
//! codes that were shown a moment ago (scan), some of them a visitor's from another region (cross).
//!
//! Calls are scheduled exactly `rate x seconds` times, and each ends in exactly one
//! [`record::Record`]. What the driver does besides (codes to scan before the clock starts, and when
//! the mix shows none) is not counted.

mod call;
mod codes;
mod draw;
pub mod mix;
mod pool;
pub mod record;
pub mod report;
mod socket;
pub mod tally;
#[cfg(test)]
mod tests;
mod work;

use codes::Codes;
use draw::Draw;
use mix::Mix;
use pool::Pool;
use record::Observe;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use suiyue_node::population;
use suiyue_proto::region::Code;
use tokio::time::{Instant, sleep_until};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use work::{Due, Shared};

/// Calls in flight at the end are awaited this long.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Warming up may take this long.
const WARM_WITHIN: Duration = Duration::from_secs(10);
/// The timer's grain: due calls are sent in batches.
const TICK: Duration = Duration::from_millis(1);

/// What to play.
#[derive(Debug, Clone)]
pub struct Config {
    /// `host:port` of gateways (or of nodes); connections are spread over them.
    pub servers: Vec<String>,
    /// Calls a second.
    pub rate: u32,
    /// For how long.
    pub length: Duration,
    /// Kinds of calls.
    pub mix: Mix,
    /// Connections.
    pub connections: usize,
    /// Regions, drawn evenly.
    pub regions: Vec<Code>,
    /// Holders of each region, numbered from 0 as in the generated population.
    pub holders: u64,
    /// Seed of the generated population.
    pub population_seed: u64,
    /// Seed of the calls.
    pub seed: u64,
    /// Calls in flight at most; a call that is due beyond fails at once.
    pub in_flight: usize,
    /// Timeout of every call; `None`: its class's default (scan 1.5 s, show 3 s).
    pub timeout: Option<Duration>,
    /// Value of `authorization`; `None`: calls of nobody.
    pub authorization: Option<http::HeaderValue>,
}

impl Config {
    /// How many calls the run schedules.
    #[must_use]
    pub fn calls(&self) -> u64 {
        let nanos = u128::from(self.rate) * self.length.as_nanos();
        u64::try_from((nanos + 500_000_000) / 1_000_000_000).unwrap_or(u64::MAX)
    }

    fn due(&self, start: Instant, call: u64) -> Instant {
        let nanos = u128::from(call) * 1_000_000_000 / u128::from(self.rate.max(1));
        start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Why a run cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(&'static str),
    /// No server answers.
    #[error("no server can be reached ({0}): check --server, and that the gateway is running")]
    Unreachable(String),
    /// A region shows no code that could be scanned.
    #[error(
        "region {region} shows no code ({cause}): check that a node of it is available (suiyue region list)"
    )]
    NoCode {
        /// The region.
        region: Code,
        /// Why.
        cause: String,
    },
}

/// What a run was, besides its records.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finished {
    /// Calls that were scheduled: `rate x seconds` unless it was stopped.
    pub calls: u64,
    /// Time in which they were scheduled.
    pub elapsed: Duration,
    /// Sends that were repeated because the call certainly had not been processed.
    pub unprocessed: u64,
}

/// A driver that is connected and has codes to scan.
pub struct Driver {
    shared: Arc<Shared>,
    connections: DropGuard,
}

impl Driver {
    /// Connects, and fetches codes to scan.
    ///
    /// # Errors
    /// [`Error`] when no server answers, or a region shows no code, within 10 s.
    pub async fn warm(config: Config, observer: Arc<dyn Observe>) -> Result<Self, Error> {
        check(&config)?;
        let connections = CancellationToken::new();
        let pool = Pool::open(&config.servers, config.connections, &connections);
        let driver = Self {
            shared: Arc::new(Shared {
                codes: Codes::of(&config.regions),
                pool,
                names: call::Names::default(),
                observer,
                again: AtomicU64::new(0),
                in_flight: AtomicUsize::new(0),
                config,
            }),
            connections: connections.drop_guard(),
        };
        driver.connect().await?;
        if driver.shared.config.mix.needs_codes() {
            driver.shared.fetch_codes(WARM_WITHIN).await?;
        }
        Ok(driver)
    }

    async fn connect(&self) -> Result<(), Error> {
        let pool = &self.shared.pool;
        let _ = tokio::time::timeout(WARM_WITHIN / 2, pool.lease()).await;
        if pool.live() == 0 {
            return Err(Error::Unreachable(pool.errors()));
        }
        // The rest is welcome to be there at the start, and may come later.
        let _ = tokio::time::timeout(Duration::from_secs(2), pool.all_live()).await;
        Ok(())
    }

    /// Plays the calls, then waits for the last answers. `stop` ends the schedule early.
    pub async fn run(self, stop: CancellationToken) -> Finished {
        let start = Instant::now();
        let calls = TaskTracker::new();
        let refill = tokio::spawn(Arc::clone(&self.shared).keep_codes());
        let scheduled = self.schedule(start, &calls, &stop).await;
        let elapsed = start.elapsed();
        calls.close();
        // Every call has its own limit, and no limit is later than `LAST_ANSWERS_WITHIN` after the end.
        calls.wait().await;
        refill.abort();
        drop(self.connections);
        Finished { calls: scheduled, elapsed, unprocessed: self.shared.again.load(Ordering::Relaxed) }
    }

    async fn schedule(&self, start: Instant, calls: &TaskTracker, stop: &CancellationToken) -> u64 {
        let config = &self.shared.config;
        let total = config.calls();
        let latest = config.due(start, total) + LAST_ANSWERS_WITHIN;
        let mut draw = Draw::seeded(config.seed);
        let mut next = 0;
        loop {
            let now = Instant::now();
            while next < total && config.due(start, next) <= now {
                let due = Due { at: config.due(start, next), latest, seed: draw.next() };
                calls.spawn(Arc::clone(&self.shared).play(due));
                next += 1;
                // After a stall there is much to catch up: the connections must get their turns.
                if next % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            let wake = config.due(start, next).max(now + TICK);
            tokio::select! {
                biased;
                () = stop.cancelled() => return next,
                () = sleep_until(wake) => {}
            }
            if next == total {
                return next;
            }
        }
    }
}

fn check(config: &Config) -> Result<(), Error> {
    if config.servers.is_empty() {
        return Err(Error::Config("no server: give at least one address with --server"));
    }
    if config.regions.is_empty() {
        return Err(Error::Config("no region: give at least one with --regions"));
    }
    if config.rate == 0 || config.calls() == 0 {
        return Err(Error::Config("nothing to play: --rate times --seconds must be at least one call"));
    }
    if config.holders == 0 {
        return Err(Error::Config("no holders: --holders must be at least 1"));
    }
    if config.mix.weight(mix::Kind::Cross) > 0 && config.regions.len() < 2 {
        return Err(Error::Config(
            "a cross-region scan needs two regions: give more with --regions, or --mix with cross=0",
        ));
    }
    Ok(())
}

/// Holder `index` of the generated population: what the driver's shows ask for.
#[must_use]
pub fn subject(region: Code, index: u64, seed: u64) -> crate::cli::Subject {
    population::subject(region, index, seed).into()
}

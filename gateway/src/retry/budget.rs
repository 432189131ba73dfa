//! How many retries are paid for?
//!
//! A [`Budget`] belongs to one region at one node: a tenth of the calls of the last ten seconds, and at
//! least three a second where there are fewer than thirty. Workers count calls in lanes of their own and
//! lease tokens in batches for a second; the control task alone mints them ([`Ledger`]), four times a second.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Calls that pay for one retry.
const CALLS: u64 = 10;
/// Retries a second that are allowed where calls are few.
const FLOOR: u64 = 3;
/// Calls in ten seconds below which the floor holds: 30/s.
const FLOOR_BELOW: u64 = 300;
/// Tokens that a worker leases at a time, at most.
const BATCH: u32 = 16;
const BUCKETS: usize = 10;
const BUCKET: Duration = Duration::from_secs(1);

/// What one worker has done.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    calls: AtomicU64,
    spent: AtomicU64,
    moved: AtomicU64,
    /// Tokens leased and not spent, in the lower half; in the upper one the second of the lease.
    held: AtomicU64,
}

/// Retries of one region's calls that fail at one node.
#[derive(Debug)]
pub struct Budget {
    pool: AtomicU32,
    /// Counts the seconds: what was leased in an earlier one is worth nothing.
    second: AtomicU32,
    lanes: Box<[Lane]>,
}

/// What was counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// First attempts.
    pub calls: u64,
    /// Retries paid for.
    pub spent: u64,
    /// Calls that moved off a connection, for which nothing is paid.
    pub moved: u64,
    /// Tokens that workers hold.
    pub held: u64,
}

impl Budget {
    /// A budget with one second of the floor, for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let lanes = (0..workers).map(|_| Lane::default()).collect();
        Self { pool: AtomicU32::new(FLOOR as u32), second: AtomicU32::new(0), lanes }
    }

    /// A first attempt was made.
    pub fn deposit(&self, worker: usize) {
        let calls = &self.lanes[worker].calls;
        calls.store(calls.load(Relaxed) + 1, Relaxed);
    }

    /// A call moved.
    pub fn moved(&self, worker: usize) {
        let moved = &self.lanes[worker].moved;
        moved.store(moved.load(Relaxed) + 1, Relaxed);
    }

    /// There is a token to take.
    #[must_use]
    pub fn is_open(&self, worker: usize) -> bool {
        self.held(&self.lanes[worker]) > 0 || self.pool.load(Relaxed) > 0
    }

    /// Takes a token; false if there is none.
    #[must_use]
    pub fn spend(&self, worker: usize) -> bool {
        let lane = &self.lanes[worker];
        let second = self.second.load(Relaxed);
        let mut held = self.held(lane);
        if held == 0 {
            held = self.lease();
        }
        if held == 0 {
            return false;
        }
        lane.held.store(u64::from(second) << 32 | u64::from(held - 1), Relaxed);
        lane.spent.store(lane.spent.load(Relaxed) + 1, Relaxed);
        true
    }

    /// Tokens that a worker leased in this second and has not spent.
    fn held(&self, lane: &Lane) -> u32 {
        let held = lane.held.load(Relaxed);
        if held >> 32 == u64::from(self.second.load(Relaxed)) { held as u32 } else { 0 }
    }

    /// A part of the pool, so that others find something, too.
    fn lease(&self) -> u32 {
        let batch = |pool: u32| pool.div_ceil(4).min(BATCH);
        let before = self.pool.fetch_update(Relaxed, Relaxed, |pool| (pool > 0).then(|| pool - batch(pool)));
        before.map_or(0, batch)
    }

    /// Tokens that can be had now.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.totals().held + u64::from(self.pool.load(Relaxed))
    }

    /// What was counted so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for lane in &self.lanes {
            sum.calls += lane.calls.load(Relaxed);
            sum.spent += lane.spent.load(Relaxed);
            sum.moved += lane.moved.load(Relaxed);
            sum.held += u64::from(self.held(lane));
        }
        sum
    }
}

/// The control task's side of a budget: the last ten seconds.
#[derive(Debug)]
pub struct Ledger {
    /// Calls and retries by second.
    buckets: [(u64, u64); BUCKETS],
    at: usize,
    turned: Instant,
    before: Totals,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { buckets: [(0, 0); BUCKETS], at: 0, turned: now, before: Totals::default() }
    }

    /// Mints what the last ten seconds allow.
    pub fn mint(&mut self, budget: &Budget, now: Instant) {
        if self.turn(now) {
            budget.second.fetch_add(1, Relaxed);
        }
        let totals = budget.totals();
        let tokens = self.allowed(totals);
        budget.pool.store(u32::try_from(tokens).unwrap_or(u32::MAX), Relaxed);
    }

    /// Goes on to the second at hand; whether it is a new one.
    fn turn(&mut self, now: Instant) -> bool {
        let mut turns = 0;
        while now.saturating_duration_since(self.turned) >= BUCKET && turns < BUCKETS {
            self.at = (self.at + 1) % BUCKETS;
            self.buckets[self.at] = (0, 0);
            self.turned += BUCKET;
            turns += 1;
        }
        if turns == BUCKETS {
            self.turned = now;
        }
        turns > 0
    }

    /// Tokens that may be in the pool.
    fn allowed(&mut self, totals: Totals) -> u64 {
        let bucket = &mut self.buckets[self.at];
        bucket.0 += totals.calls - self.before.calls;
        bucket.1 += totals.spent - self.before.spent;
        self.before = totals;
        let this_second = bucket.1;
        let (calls, spent) = self.buckets.iter().fold((0, 0), |sum, b| (sum.0 + b.0, sum.1 + b.1));
        let tenth = (calls / CALLS).saturating_sub(spent);
        let floor = if calls < FLOOR_BELOW { FLOOR.saturating_sub(this_second) } else { 0 };
        tenth.max(floor).saturating_sub(totals.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TICK: Duration = Duration::from_millis(250);

    /// Retries that were possible, trying as hard as can be, at so many calls a second on two workers.
    fn retries(rate: u64, seconds: u64) -> (u64, u64) {
        let start = Instant::now();
        let (budget, mut ledger) = (Budget::new(2), Ledger::new(start));
        for tick in 0..seconds * 4 {
            for call in 0..rate / 4 {
                let worker = (call % 2) as usize;
                budget.deposit(worker);
                while budget.spend(worker) {}
            }
            ledger.mint(&budget, start + TICK * tick as u32);
        }
        let totals = budget.totals();
        (totals.calls, totals.spent)
    }

    #[test]
    fn a_tenth_of_the_calls_and_no_more() {
        for rate in [100, 1_000, 20_000] {
            let (calls, spent) = retries(rate, 60);
            assert!(spent * 10 <= calls + 300 && spent * 100 >= calls * 9, "{rate}: {spent} of {calls}");
        }
    }

    #[test]
    fn three_a_second_where_calls_are_few() {
        let (_, spent) = retries(20, 60);
        assert!((170..=190).contains(&spent), "{spent}");
    }

    #[test]
    fn an_old_surplus_is_not_kept() {
        let start = Instant::now();
        let (budget, mut ledger) = (Budget::new(1), Ledger::new(start));
        for _ in 0..10_000 {
            budget.deposit(0);
        }
        ledger.mint(&budget, start);
        assert_eq!(budget.left(), 1_000);
        ledger.mint(&budget, start + Duration::from_secs(30));
        assert_eq!(budget.left(), FLOOR);
    }

    #[test]
    fn what_a_worker_leased_and_did_not_spend_expires() {
        let start = Instant::now();
        let (budget, mut ledger) = (Budget::new(2), Ledger::new(start));
        for _ in 0..10_000 {
            budget.deposit(0);
        }
        ledger.mint(&budget, start);
        assert!(budget.spend(0));
        assert_eq!(budget.totals().held, u64::from(BATCH) - 1);
        ledger.mint(&budget, start + TICK);
        assert_eq!(budget.totals().held, u64::from(BATCH) - 1, "it lasts for a second");
        // The calls that paid for them are long gone.
        ledger.mint(&budget, start + Duration::from_secs(30));
        assert_eq!((budget.totals().held, budget.left()), (0, FLOOR));
        assert_eq!((0..9).filter(|_| budget.spend(0)).count(), FLOOR as usize);
    }

    proptest! {
        /// Whatever workers do between two mintings, in no ten seconds is more than a tenth retried,
        /// beside the floor and what was minted when there were more calls.
        #[test]
        fn retries_are_bounded(ticks in prop::collection::vec((0u64..200, 0u64..200), 1..120)) {
            let start = Instant::now();
            let (budget, mut ledger) = (Budget::new(3), Ledger::new(start));
            for (tick, (calls, wanted)) in ticks.into_iter().enumerate() {
                for call in 0..calls {
                    budget.deposit((call % 3) as usize);
                }
                let open = budget.left();
                let spent = (0..wanted).filter(|i| budget.spend((i % 3) as usize)).count() as u64;
                prop_assert!(spent <= open);
                ledger.mint(&budget, start + TICK * tick as u32);
                let totals = budget.totals();
                let floor = FLOOR * (tick as u64 / 4 + 2);
                prop_assert!(totals.spent + budget.left() <= totals.calls / CALLS + floor);
            }
        }
    }
}

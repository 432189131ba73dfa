//! When is a deadline over, at the price of a push and a flag?
//!
//! A hashed timing wheel for one worker: ticks of [`TICK`], one bucket a tick. Arming a [`Timer`] is a
//! slab insert and a push; disarming is a slab remove, the bucket forgets it when its tick comes.
//! (Varghese and Lauck, "Hashed and hierarchical timing wheels", SOSP 1987, scheme 6.) A timer fires up
//! to one tick late, never early. The driver sleeps while nothing is armed.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// Resolution of the wheel.
pub const TICK: Duration = Duration::from_millis(4);
const BUCKETS: usize = 1024;

/// A worker's wheel; clones share it.
#[derive(Clone)]
pub struct Wheel(Rc<RefCell<State>>);

struct State {
    start: Instant,
    /// Ticks up to here have been handled.
    done: u64,
    buckets: Vec<Vec<(u32, u32)>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    armed: usize,
    driver: Option<Waker>,
}

#[derive(Default)]
struct Slot {
    /// Raised when the slot is freed: an entry of an earlier life is stale.
    life: u32,
    due: u64,
    /// What [`Wheel::expire`] finds it by; 0: nothing.
    group: usize,
    fired: bool,
    waker: Option<Waker>,
}

/// One deadline. Dropping it disarms it.
pub struct Timer {
    wheel: Wheel,
    slot: u32,
}

impl Wheel {
    /// A wheel that starts now. [`Wheel::drive`] must run on the same thread.
    #[must_use]
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(State {
            start: Instant::now(),
            done: 0,
            buckets: vec![Vec::new(); BUCKETS],
            slots: Vec::new(),
            free: Vec::new(),
            armed: 0,
            driver: None,
        })))
    }

    /// Arms a timer for `at`.
    #[must_use]
    pub fn arm(&self, at: Instant) -> Timer {
        self.arm_in(at, 0)
    }

    /// Arms a timer for `at` that fires earlier when its group is expired.
    #[must_use]
    pub fn arm_in(&self, at: Instant, group: usize) -> Timer {
        let mut state = self.0.borrow_mut();
        let slot = state.free.pop().unwrap_or_else(|| {
            state.slots.push(Slot::default());
            (state.slots.len() - 1) as u32
        });
        if state.armed == 0 {
            // Ticks passed while nothing was armed: all buckets are empty or stale.
            state.done = state.tick_of(Instant::now()).saturating_sub(1).max(state.done);
        }
        // One tick later than the tick the instant falls into: never early.
        let due = (state.tick_of(at) + 1).max(state.done + 1);
        let life = state.slots[slot as usize].life;
        state.slots[slot as usize] = Slot { life, due, group, fired: false, waker: None };
        state.buckets[(due % BUCKETS as u64) as usize].push((slot, life));
        state.armed += 1;
        if state.armed == 1
            && let Some(driver) = state.driver.take()
        {
            driver.wake();
        }
        drop(state);
        Timer { wheel: self.clone(), slot }
    }

    /// Fires all timers of a group now. Looks at every timer: for rare events.
    pub fn expire(&self, group: usize) {
        for slot in self.0.borrow_mut().slots.iter_mut().filter(|slot| slot.group == group) {
            slot.fired = true;
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// Fires timers for as long as the worker lives. Never returns.
    pub async fn drive(self) {
        loop {
            poll_fn(|cx| {
                let mut state = self.0.borrow_mut();
                if state.armed > 0 {
                    return Poll::Ready(());
                }
                state.driver = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            let next = {
                let state = self.0.borrow();
                state.start + Duration::from_millis((state.done + 1) * TICK.as_millis() as u64)
            };
            tokio::time::sleep_until(next.into()).await;
            self.0.borrow_mut().advance(Instant::now());
        }
    }
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn tick_of(&self, at: Instant) -> u64 {
        (at.saturating_duration_since(self.start).as_nanos() / TICK.as_nanos()) as u64
    }

    fn advance(&mut self, now: Instant) {
        let current = self.tick_of(now);
        // A long stall visits every bucket once at most.
        let from = (self.done + 1).max((current + 1).saturating_sub(BUCKETS as u64));
        for tick in from..=current {
            let mut bucket = std::mem::take(&mut self.buckets[(tick % BUCKETS as u64) as usize]);
            bucket.retain(|&(slot, life)| {
                let entry = &mut self.slots[slot as usize];
                if entry.life != life {
                    return false;
                }
                if entry.due > current {
                    return true;
                }
                entry.fired = true;
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
                false
            });
            self.buckets[(tick % BUCKETS as u64) as usize] = bucket;
        }
        self.done = self.done.max(current);
    }
}

impl Timer {
    /// Ready once the deadline is over.
    pub fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.wheel.0.borrow_mut();
        let slot = &mut state.slots[self.slot as usize];
        if slot.fired {
            return Poll::Ready(());
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut state = self.wheel.0.borrow_mut();
        let slot = &mut state.slots[self.slot as usize];
        slot.life = slot.life.wrapping_add(1);
        slot.group = 0;
        slot.waker = None;
        state.free.push(self.slot);
        state.armed -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_never_early_and_not_after_a_drop() {
        let wheel = Wheel::new();
        let start = wheel.0.borrow().start;
        let ms = Duration::from_millis;
        let mut timers: Vec<Timer> =
            [5, 50, 5_000, 9_000].iter().map(|&d| wheel.arm(start + ms(d))).collect();
        let dropped = wheel.arm(start + ms(50));
        drop(dropped);
        let mut cx = Context::from_waker(Waker::noop());
        for (now, fired) in
            [(4, 0), (12, 1), (49, 1), (60, 2), (4_999, 2), (5_010, 3), (8_990, 3), (9_010, 4)]
        {
            wheel.0.borrow_mut().advance(start + ms(now));
            let count = timers.iter_mut().map(|t| t.poll_fired(&mut cx).is_ready()).filter(|f| *f).count();
            assert_eq!(count, fired, "at {now} ms");
        }
        assert_eq!(wheel.0.borrow().armed, 4);
        drop(timers);
        assert_eq!(wheel.0.borrow().armed, 0);
    }

    #[test]
    fn a_group_is_fired_ahead_of_time() {
        let wheel = Wheel::new();
        let later = Instant::now() + Duration::from_secs(60);
        let mut timers = [wheel.arm_in(later, 7), wheel.arm_in(later, 8), wheel.arm(later)];
        wheel.expire(7);
        let mut cx = Context::from_waker(Waker::noop());
        let fired = timers.each_mut().map(|timer| timer.poll_fired(&mut cx).is_ready());
        assert_eq!(fired, [true, false, false]);
    }

    #[test]
    fn slots_are_used_again() {
        let wheel = Wheel::new();
        for _ in 0..1000 {
            drop(wheel.arm(Instant::now()));
        }
        assert_eq!(wheel.0.borrow().slots.len(), 1);
    }
}

//! Is this node ready? As ready as the system behind it.
//!
//! It is looked at once a second. Two bad looks in a row, or an open breaker, and every region is not
//! ready: health says so, the registration says so, calls get UNAVAILABLE, and gateways turn to the
//! province. Two good looks (at the start one) and the breaker no longer open, and all are ready again.

use super::system::System;
use crate::clock::Clock;
use crate::readiness::Readiness;
use std::sync::Arc;
use std::time::Duration;
use suiyue_proto::region::Code;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(1);
const IN_A_ROW: u32 = 2;

/// What the looks so far amount to.
#[derive(Debug, Default)]
struct Looks {
    ready: bool,
    good: u32,
    bad: u32,
    any: bool,
}

impl Looks {
    /// Takes a look into account; `None`: there was none.
    fn take(&mut self, look: Option<bool>, cut_off: bool) -> bool {
        match look {
            Some(true) => (self.good, self.bad) = (self.good + 1, 0),
            Some(false) => (self.good, self.bad) = (0, self.bad + 1),
            None => {}
        }
        let enough = if self.any { IN_A_ROW } else { 1 };
        self.any |= look.is_some();
        self.ready = match self.ready {
            true => self.bad < IN_A_ROW && !cut_off,
            false => self.good >= enough && !cut_off,
        };
        self.ready
    }
}

/// Keeps `readiness` true to the system until `stop`.
pub async fn run(
    system: Arc<System>,
    readiness: Arc<Readiness>,
    scopes: Vec<Code>,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut looks = Looks::default();
    let mut again = tokio::time::interval(EVERY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was = false;
    loop {
        let look = tokio::select! {
            () = stop.cancelled() => return,
            _ = again.tick() => tokio::select! {
                () = stop.cancelled() => return,
                look = system.look() => look,
            },
            () = system.turned.notified() => None,
        };
        let ready = looks.take(look, system.is_cut_off());
        for &region in &scopes {
            match (ready, readiness.as_of(region)) {
                (true, None) => readiness.mark_ready(region, clock.unix_ms()),
                (true, Some(_)) => readiness.refresh(region, clock.unix_ms()),
                (false, _) => readiness.mark_unready(region),
            }
        }
        if ready != was {
            tracing::info!(ready, sent = system.sent(), unmapped = system.unmapped(), "the system behind");
        }
        was = ready;
        readiness.mark_loaded();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(looks: &[(Option<bool>, bool)], expected: &[bool]) {
        let mut state = Looks::default();
        let told: Vec<_> = looks.iter().map(|(look, cut_off)| state.take(*look, *cut_off)).collect();
        assert_eq!(told, expected, "{looks:?}");
    }

    #[test]
    fn one_good_look_is_enough_at_the_start_and_two_later() {
        let (good, bad) = ((Some(true), false), (Some(false), false));
        check(&[good, bad, good, bad, bad, good, good], &[true, true, true, true, false, false, true]);
        check(&[bad, good, good], &[false, false, true]);
    }

    #[test]
    fn an_open_breaker_counts_at_once() {
        let good = (Some(true), false);
        check(&[good, (None, true), (Some(true), true), good], &[true, false, false, true]);
    }

    #[test]
    fn no_look_changes_nothing() {
        check(&[(None, false), (Some(true), false), (None, false)], &[false, true, true]);
    }
}

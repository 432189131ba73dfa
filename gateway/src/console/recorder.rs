//! What happened in the last ten minutes?
//!
//! One task looks at the counters of calls every two seconds and keeps what changed, by region and node:
//! calls a second, failures, p99. It is the only writer; pages take copies. Of a pair of which nothing was
//! heard for ten minutes only the last counters are kept: what it has then been called is still what comes
//! on top of them.

use crate::telemetry::{Metrics, taken::Taken};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// Points that are kept: ten minutes.
pub(super) const POINTS: usize = 300;
/// Looks over which a number of now is taken: ten seconds.
const WINDOW: usize = 5;

/// Numbers of ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Point {
    /// Calls a second.
    pub(super) rps: f32,
    /// Of them those that nobody answered.
    pub(super) failed: f32,
    /// Milliseconds that 99 of 100 calls did not exceed; NaN without calls.
    pub(super) p99_ms: f32,
}

/// One region's calls at one node.
#[derive(Debug, Default)]
struct Track {
    seen: VecDeque<(Instant, Taken)>,
    points: VecDeque<Point>,
}

impl Track {
    fn look(&mut self, now: Instant, taken: Taken) {
        self.seen.push_back((now, taken));
        if self.seen.len() > WINDOW + 1 {
            self.seen.pop_front();
        }
        let Some(&(since, before)) = self.seen.front() else { return };
        let seconds = now.duration_since(since).as_secs_f64();
        let recent = taken.since(&before);
        let rate = |count: u64| if seconds > 0.0 { (count as f64 / seconds) as f32 } else { 0.0 };
        self.points.push_back(Point {
            rps: rate(recent.calls),
            failed: rate(recent.failed),
            p99_ms: recent.p99_ms().map_or(f32::NAN, |ms| ms as f32),
        });
        if self.points.len() > POINTS {
            self.points.pop_front();
        }
    }

    fn is_silent(&self) -> bool {
        self.points.len() >= POINTS && self.points.iter().all(|point| point.rps == 0.0)
    }

    /// Nothing of it is worth showing; its counters go on from where they stand.
    fn forget(&mut self) {
        self.points = VecDeque::new();
        let last = self.seen.pop_back();
        self.seen = last.into_iter().collect();
    }
}

/// What the recorder has seen.
#[derive(Debug, Default)]
struct Tracks(BTreeMap<(u32, Arc<str>), Track>);

impl Tracks {
    fn look(&mut self, now: Instant, taken: BTreeMap<(u32, Arc<str>), Taken>) {
        for (pair, taken) in taken {
            // One that begins now had no calls before: what it has is what came since the last look.
            let fresh = || Track {
                seen: [(now.checked_sub(LOOK).unwrap_or(now), Taken::default())].into(),
                ..Track::default()
            };
            self.0.entry(pair).or_insert_with(fresh).look(now, taken);
        }
        self.0.values_mut().filter(|track| track.is_silent()).for_each(Track::forget);
    }
}

/// A clonable handle.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    tracks: Arc<Mutex<Tracks>>,
    looked: watch::Receiver<u64>,
}

impl Recorder {
    /// A recorder, and the task that looks until `ended`.
    pub(super) fn start(
        metrics: Arc<Metrics>,
        ended: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (look, looked) = watch::channel(0);
        let tracks: Arc<Mutex<Tracks>> = Arc::default();
        let written = tracks.clone();
        let looking = async move {
            let mut ticks = tokio::time::interval(LOOK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let taken = metrics.taken();
                written.lock().unwrap_or_else(PoisonError::into_inner).look(Instant::now(), taken);
                look.send_modify(|looks| *looks += 1);
            }
        };
        let task = async move { ended.run_until_cancelled(looking).await.unwrap_or_default() };
        (Self { tracks, looked }, task)
    }

    /// Wakes at every look.
    pub(super) fn looked(&self) -> watch::Receiver<u64> {
        self.looked.clone()
    }

    /// The last ten minutes of a region at a node, oldest first.
    pub(super) fn points(&self, region: u32, node: &str) -> Vec<Point> {
        let tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        let track = tracks.0.get(&(region, Arc::from(node)));
        track.map_or_else(Vec::new, |track| track.points.iter().copied().collect())
    }

    /// The numbers of now, by region and node.
    pub(super) fn now(&self) -> BTreeMap<(u32, Arc<str>), Point> {
        let tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |track: &Track| track.points.back().copied().unwrap_or_default();
        tracks.0.iter().map(|(pair, track)| (pair.clone(), last(track))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_rates_of_ten_seconds_and_ten_minutes_are_kept() {
        let (start, mut tracks) = (Instant::now(), Tracks::default());
        let pair = || (440_100, Arc::<str>::from("city"));
        let taken = |calls: u64| Taken::told(calls, calls / 10, &[]);
        let mut at = start;
        for look in 1..=400_u64 {
            at += LOOK;
            tracks.look(at, [(pair(), taken(look.min(100) * 200))].into());
            let points = &tracks.0[&pair()].points;
            let last = points.back().unwrap();
            assert!(points.len() <= POINTS);
            match look {
                1..=100 => assert!((last.rps - 100.0).abs() < 0.01 && (last.failed - 10.0).abs() < 0.01),
                106.. => assert!(last.rps == 0.0 && last.p99_ms.is_nan()),
                _ => {}
            }
        }
        for _ in 0..POINTS {
            at += LOOK;
            tracks.look(at, [(pair(), taken(20_000))].into());
            let last = tracks.0[&pair()].points.back().copied().unwrap_or_default();
            assert_eq!(last.rps, 0.0, "what was called long ago does not come back as one burst");
        }
        assert!(tracks.0[&pair()].points.len() < POINTS, "ten minutes of nothing are forgotten");
        at += LOOK;
        tracks.look(at, [(pair(), taken(20_200))].into());
        let rps = tracks.0[&pair()].points.back().unwrap().rps;
        assert!(0.0 < rps && rps <= 100.0, "{rps}");
    }
}

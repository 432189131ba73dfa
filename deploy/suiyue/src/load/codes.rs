//! Which code does a checkpoint scan?
//!
//! One that was shown a moment ago. Every code the driver is shown goes into the ring of its region;
//! a scan draws from the ring. A code is used only while it is safely valid, so a verdict other than
//! its level's is a fault of the system under test and not of the driver's clock.

use super::draw::Draw;
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use suiyue_proto::region::Code;
use tokio::time::Instant;

/// Codes kept for each region.
const KEPT: usize = 512;
/// A code is not scanned in the last part of its life.
const MARGIN: Duration = Duration::from_secs(15);

/// Codes shown lately, by region.
pub(super) struct Codes {
    rings: Vec<(Code, Mutex<VecDeque<Shown>>)>,
}

struct Shown {
    text: String,
    until: Instant,
}

impl Codes {
    pub(super) fn of(regions: &[Code]) -> Self {
        Self { rings: regions.iter().map(|&region| (region, Mutex::default())).collect() }
    }

    /// Keeps a code that was shown just now.
    pub(super) fn keep(&self, region: Code, text: String, ttl: Duration) {
        let until = Instant::now() + ttl.saturating_sub(MARGIN);
        self.with(region, |ring| {
            if ring.len() == KEPT {
                ring.pop_front();
            }
            ring.push_back(Shown { text, until });
        });
    }

    /// One of the codes that are still good.
    pub(super) fn draw(&self, region: Code, draw: &mut Draw) -> Option<String> {
        let now = Instant::now();
        self.with(region, |ring| {
            while ring.front().is_some_and(|shown| shown.until <= now) {
                ring.pop_front();
            }
            let at = usize::try_from(draw.below(ring.len() as u64)).unwrap_or(0);
            ring.get(at).map(|shown| shown.text.clone())
        })
        .flatten()
    }

    /// How many codes of a region will still be good after `ahead`.
    pub(super) fn good_for(&self, region: Code, ahead: Duration) -> usize {
        let then = Instant::now() + ahead;
        self.with(region, |ring| ring.iter().filter(|shown| shown.until > then).count()).unwrap_or(0)
    }

    fn with<T>(&self, region: Code, act: impl FnOnce(&mut VecDeque<Shown>) -> T) -> Option<T> {
        let (_, ring) = self.rings.iter().find(|(code, _)| *code == region)?;
        Some(act(&mut ring.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region() -> Code {
        Code::new(440_100).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_code_near_its_end_is_not_drawn() {
        let codes = Codes::of(&[region()]);
        codes.keep(region(), "old".into(), Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(30)).await;
        codes.keep(region(), "new".into(), Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(16)).await;
        let mut draw = Draw::seeded(1);
        assert!((0..20).all(|_| codes.draw(region(), &mut draw).as_deref() == Some("new")));
        assert_eq!(codes.good_for(region(), Duration::from_secs(30)), 0);
    }

    #[tokio::test]
    async fn a_ring_is_bounded_and_foreign_regions_have_none() {
        let codes = Codes::of(&[region()]);
        for n in 0..2 * KEPT {
            codes.keep(region(), n.to_string(), Duration::from_secs(60));
        }
        assert_eq!(codes.good_for(region(), Duration::ZERO), KEPT);
        assert_eq!(codes.draw(Code::new(610_100).unwrap(), &mut Draw::seeded(1)), None);
    }
}

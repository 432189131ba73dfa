//! May one more call of this region be in flight?
//!
//! A region may have as many calls in flight as places are free (a dynamic threshold: Choudhury and
//! Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998). It borrows what
//! others leave, and can never take everything: a hung region fills one half of the places, two hung ones
//! a third each, and the rest stays free for the others. A policy may set a lower ceiling.
//!
//! One worker's view: workers share nothing, and the acceptor spreads connections over them.

use std::cell::Cell;
use suiyue_proto::region::Code;

/// Calls in flight of one worker by province and prefecture, the first four digits of a code.
#[derive(Debug)]
pub struct Bulkhead(Box<[Cell<u32>]>);

/// One admitted call; dropping it gives its place back.
#[derive(Debug)]
pub struct Place<'a>(&'a Cell<u32>);

impl Default for Bulkhead {
    fn default() -> Self {
        Self(vec![Cell::new(0); 10_000].into())
    }
}

impl Bulkhead {
    /// Lets a call in that is one of `load` in flight where `limit` may be; `None` if its region has
    /// more than its part. `ceiling`: what a policy allows on this worker.
    #[must_use]
    pub fn admit(&self, region: Code, load: usize, limit: usize, ceiling: Option<u32>) -> Option<Place<'_>> {
        let count = self.0.get(region.get() as usize / 100)?;
        let free = limit.saturating_sub(load);
        if count.get() as usize > free || ceiling.is_some_and(|ceiling| count.get() >= ceiling) {
            return None;
        }
        count.set(count.get() + 1);
        Some(Place(count))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REGIONS: [u32; 4] = [440_100, 610_100, 440_000, 110_000];

    /// Lets calls of the regions in, in turn, until nobody gets in any more.
    fn fill<'a>(bulkhead: &'a Bulkhead, regions: &[u32], limit: usize) -> Vec<Vec<Place<'a>>> {
        let mut places: Vec<Vec<Place<'_>>> = regions.iter().map(|_| Vec::new()).collect();
        loop {
            let before: usize = places.iter().map(Vec::len).sum();
            for (region, places) in regions.iter().zip(&mut places) {
                let load = bulkhead.0.iter().map(|count| count.get() as usize).sum::<usize>();
                places.extend(bulkhead.admit(Code::new(*region).unwrap(), load, limit, None));
            }
            if places.iter().map(Vec::len).sum::<usize>() == before {
                return places;
            }
        }
    }

    #[test]
    fn a_hung_region_takes_half_and_two_take_a_third_each() {
        for (hung, part) in [(1, 500), (2, 333), (3, 250)] {
            let bulkhead = Bulkhead::default();
            let places = fill(&bulkhead, &REGIONS[..hung], 1_000);
            for places in &places {
                assert!(places.len().abs_diff(part) <= 2, "{hung}: {}", places.len());
            }
            let load = places.iter().map(Vec::len).sum();
            let other = bulkhead.admit(Code::new(REGIONS[3]).unwrap(), load, 1_000, None);
            assert!(other.is_some(), "another region still gets in");
        }
    }

    #[test]
    fn a_policy_may_set_a_lower_ceiling_and_places_are_given_back() {
        let (bulkhead, region) = (Bulkhead::default(), Code::new(440_100).unwrap());
        let first = bulkhead.admit(region, 0, 1_000, Some(1));
        assert!(first.is_some() && bulkhead.admit(region, 1, 1_000, Some(1)).is_none());
        drop(first);
        assert!(bulkhead.admit(region, 0, 1_000, Some(1)).is_some());
    }

    proptest! {
        #[test]
        fn whoever_hangs_a_newcomer_gets_in(hung in prop::collection::vec(0usize..3, 0..400)) {
            let (bulkhead, mut places) = (Bulkhead::default(), Vec::new());
            for at in hung {
                let code = Code::new(REGIONS[at]).unwrap();
                places.extend(bulkhead.admit(code, places.len(), 100, None));
            }
            prop_assert!(places.len() < 100);
            let other = bulkhead.admit(Code::new(REGIONS[3]).unwrap(), places.len(), 100, None);
            prop_assert!(other.is_some());
        }
    }
}

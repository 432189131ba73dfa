//! Which endpoint of the chosen node?
//!
//! Two *distinct* endpoints are drawn by weight, and the cheaper wins; cost is peak-EWMA latency times
//! calls in flight plus one. The second may win over the first only as often as its weight allows, so
//! that an endpoint that ramps up, is slow or refuses is not preferred for being idle. Pure: weight, cost
//! and randomness come in as arguments.

/// Draws two distinct candidates out of `n` and returns the cheaper; `None` if there is none.
///
/// `weight` is 0 for those that may not be drawn, `cost` what a call there costs, `random` is any 64
/// random bits.
pub fn choose(
    n: usize,
    random: u64,
    weight: impl Fn(usize) -> u32,
    cost: impl Fn(usize) -> u64,
) -> Option<usize> {
    if n <= 1 {
        return (n == 1 && weight(0) > 0).then_some(0);
    }
    let total: u64 = (0..n).map(|i| u64::from(weight(i))).sum();
    let first = draw(n, below(random as u32 >> 8, 24, total), &weight)?;
    let others = |i: usize| if i == first { 0 } else { weight(i) };
    let rest = total - u64::from(weight(first));
    // Drawn from the others: the same endpoint twice would leave a quarter on a sick one.
    let Some(second) = draw(n, below((random >> 40) as u32, 24, rest), others) else { return Some(first) };
    if cost(second) >= cost(first) {
        return Some(first);
    }
    let (light, heavy) = (u64::from(weight(second)), u64::from(weight(first)));
    let dice = below((random >> 32) as u32 & 0xff | (random as u32 & 0xff) << 8, 16, heavy.max(1));
    Some(if dice < light { second } else { first })
}

/// A number below `limit` from so many random bits.
const fn below(random: u32, bits: u32, limit: u64) -> u64 {
    (random as u64 * limit) >> bits
}

/// The candidate at a point of the summed weights; `None` if the sum is 0.
fn draw(n: usize, mut point: u64, weight: impl Fn(usize) -> u32) -> Option<usize> {
    for i in 0..n {
        let here = u64::from(weight(i));
        if point < here {
            return Some(i);
        }
        point -= here;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::mix;
    use proptest::prelude::*;

    #[test]
    fn a_sole_endpoint_is_chosen_if_usable() {
        assert_eq!(choose(0, 1, |_| 1, |_| 0), None);
        assert_eq!(choose(1, 7, |_| 1, |_| 0), Some(0));
        assert_eq!(choose(1, 7, |_| 0, |_| 0), None);
        assert_eq!(choose(3, 7, |i| u32::from(i == 2), |_| 0), Some(2));
        assert_eq!(choose(3, 7, |_| 0, |_| 0), None);
    }

    #[test]
    fn of_two_endpoints_the_sick_one_is_never_chosen() {
        for random in 0..1000u64 {
            let cost = |i| if i == 0 { 1000 } else { 1 };
            assert_eq!(choose(2, mix(random), |_| 1000, cost), Some(1));
        }
    }

    /// Shares of 10,000 calls in percent.
    fn shares(weights: &[u32], costs: &[u64]) -> Vec<u64> {
        let mut seen = vec![0; weights.len()];
        for random in 0..10_000u64 {
            let at = choose(weights.len(), mix(random), |i| weights[i], |i| costs[i]).unwrap();
            seen[at] += 1;
        }
        seen.into_iter().map(|n| n / 100).collect()
    }

    #[test]
    fn equal_costs_and_weights_spread_evenly() {
        let seen = shares(&[1000; 5], &[1; 5]);
        assert!(seen.iter().all(|&n| (17..=22).contains(&n)), "{seen:?}");
    }

    #[test]
    fn a_light_endpoint_is_not_preferred_for_being_idle() {
        let seen = shares(&[1000, 100], &[5, 1]);
        assert!((12..=20).contains(&seen[1]), "{seen:?}");
        let seen = shares(&[1000, 100], &[1, 1]);
        assert!((7..=11).contains(&seen[1]), "{seen:?}");
        let seen = shares(&[1000, 100], &[1, 5]);
        assert_eq!(seen[1], 0, "{seen:?}");
        let seen = shares(&[1000, 1000, 50], &[9, 9, 1]);
        assert!(seen[2] <= 9, "{seen:?}");
    }

    proptest! {
        #[test]
        fn what_has_no_weight_is_never_chosen(
            weights in prop::collection::vec(0u32..=1000, 1..6),
            costs in prop::collection::vec(0u64..100, 6),
            random: u64,
        ) {
            let chosen = choose(weights.len(), random, |i| weights[i], |i| costs[i]);
            prop_assert_eq!(chosen.is_some(), weights.iter().any(|&w| w > 0));
            if let Some(at) = chosen {
                prop_assert!(weights[at] > 0);
            }
        }
    }
}

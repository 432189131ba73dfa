//! Which endpoint of the chosen node?
//!
//! Two *distinct* endpoints are drawn, and the one with the lower cost wins; cost is peak-EWMA latency
//! times calls in flight plus one. Pure: cost and randomness come in as arguments.

/// Draws two distinct candidates out of `n` and returns the cheaper; `None` if there is none.
///
/// `usable` says which may be drawn, `cost` what a call there costs, `random` is any 64 random bits.
pub fn choose(
    n: usize,
    random: u64,
    usable: impl Fn(usize) -> bool,
    cost: impl Fn(usize) -> u64,
) -> Option<usize> {
    if n <= 1 {
        return (n == 1 && usable(0)).then_some(0);
    }
    let count = (0..n).filter(|&i| usable(i)).count();
    let nth = |k: usize| (0..n).filter(|&i| usable(i)).nth(k);
    match count {
        0 => None,
        1 => nth(0),
        _ => {
            let first = (random as u32 as usize) % count;
            // Drawn from the others: the same endpoint twice would leave a quarter on a sick one.
            let second = (first + 1 + ((random >> 32) as usize) % (count - 1)) % count;
            let (a, b) = (nth(first)?, nth(second)?);
            Some(if cost(b) < cost(a) { b } else { a })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sole_endpoint_is_chosen_if_usable() {
        assert_eq!(choose(0, 1, |_| true, |_| 0), None);
        assert_eq!(choose(1, 7, |_| true, |_| 0), Some(0));
        assert_eq!(choose(1, 7, |_| false, |_| 0), None);
        assert_eq!(choose(3, 7, |i| i == 2, |_| 0), Some(2));
    }

    #[test]
    fn of_two_endpoints_the_sick_one_is_never_chosen() {
        for random in 0..1000u64 {
            let random = crate::plan::mix(random);
            assert_eq!(choose(2, random, |_| true, |i| if i == 0 { 1000 } else { 1 }), Some(1));
        }
    }

    #[test]
    fn equal_costs_spread_evenly() {
        let mut seen = [0; 5];
        for random in 0..10_000u64 {
            seen[choose(5, crate::plan::mix(random), |_| true, |_| 1).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&n| (1_700..2_300).contains(&n)), "{seen:?}");
    }
}

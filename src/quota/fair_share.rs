//! How much of a limited resource one client may take, so that no client can take all of it.

/// A client may hold up to this many times what it leaves free.
const TIMES_FREE: usize = 3;

/// Returns how much more of what is `free` a client may take that already has `held`. A single client gets three quarters of
/// everything; n clients that take all they can get 3 parts of 3n + 1 each, and 1 part is left for the next.
pub fn fair_share(free: usize, held: usize) -> usize {
    (free.saturating_mul(TIMES_FREE).saturating_sub(held) / (TIMES_FREE + 1)).min(free)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_further_client_gets_a_share() {
        let (mut free, mut taken) = (1_000_000, Vec::new());
        for _ in 0..4 {
            let share = fair_share(free, 0);
            free -= share;
            taken.push(share);
        }
        assert_eq!(taken, [750_000, 187_500, 46_875, 11_718]);
    }

    proptest! {
        #[test]
        fn a_client_may_hold_three_times_what_is_free_and_no_more(free in 0..1_000_000_usize, held in 0..1_000_000_usize) {
            let taken = fair_share(free, held);
            prop_assert!(taken <= free);
            prop_assert!(taken == 0 || held + taken <= 3 * (free - taken));
            prop_assert!(taken == free || held + taken + 1 > 3 * (free - taken - 1), "one more would be too much");
        }
    }
}

//! How much of something limited one client may take, so that no client takes all of it.

/// A client may hold so many times as much as it leaves free.
const TIMES_FREE: usize = 3;

/// Returns how much more a client that holds `held` may take of what is `free`. Alone it gets three quarters of everything; of `n`
/// clients that take all they may each gets 3 parts of 3n + 1, and 1 part is left for the next.
pub fn share(free: usize, held: usize) -> usize {
    (free.saturating_mul(TIMES_FREE).saturating_sub(held) / (TIMES_FREE + 1)).min(free)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_further_client_gets_its_part() {
        let (mut free, mut taken) = (1_000_000, Vec::new());
        for _ in 0..4 {
            let part = share(free, 0);
            free -= part;
            taken.push(part);
        }
        assert_eq!(taken, [750_000, 187_500, 46_875, 11_718]);
    }

    proptest! {
        #[test]
        fn who_takes_its_share_holds_no_more_than_three_times_what_is_free(free in 0..1_000_000_usize, held in 0..1_000_000_usize) {
            let taken = share(free, held);
            prop_assert!(taken <= free);
            prop_assert!(taken == 0 || held + taken <= 3 * (free - taken));
            prop_assert!(taken == free || held + taken + 1 > 3 * (free - taken - 1), "and not less");
        }
    }
}

//! Chance out of a seed: the same on every machine and in every version, so that a seed means the same run for good.
//! Refuses to know what is decided by it.

/// A stream of numbers (SplitMix64: one addition, three mixes; each seed is a good one).
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// `stream` tells apart the streams of one seed: what one draws does not move another.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(seed ^ mix(stream))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Less than `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let scaled = (u128::from(self.next()) * bound as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }

    /// Whether what happens at this rate happens now. Nothing is drawn for never and always.
    pub fn hits(&mut self, rate: f64) -> bool {
        match rate {
            ..=0.0 => false,
            1.0.. => true,
            _ => (self.next() >> 11) as f64 / ((1_u64 << 53) as f64) < rate,
        }
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }
}

/// Every bit of what comes in is in every bit of what goes out.
pub(crate) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_kept_and_bounds_are_not_passed() {
        let mut chance = Chance::new(7, 0);
        let hits = (0..10_000).filter(|_| chance.hits(0.25)).count();
        assert!((2_200..2_800).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| !chance.hits(0.0) && chance.hits(1.0)));
        assert!((0..1_000).all(|_| chance.below(3) < 3) && chance.below(0) == 0);
    }

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |stream| Chance::new(1, stream).next();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}

//! A seeded random number generator. Its numbers are the same on every machine and in every version, so that a seed means
//! the same run forever.

/// A stream of random numbers (SplitMix64: one addition, three mixes; every seed is a good one).
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Streams of the same seed are independent: drawing from one does not affect another.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(seed ^ mix(stream))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Returns a number less than `bound`, or 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let scaled = (u128::from(self.next()) * bound as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }

    /// Returns true with this probability. Draws nothing for 0 and 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        match probability {
            ..=0.0 => false,
            1.0.. => true,
            _ => (self.next() >> 11) as f64 / ((1_u64 << 53) as f64) < probability,
        }
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }
}

/// Mixes a word so that every bit of the input affects every bit of the output.
pub(crate) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_and_bounds_hold() {
        let mut rng = Rng::new(7, 0);
        let hits = (0..10_000).filter(|_| rng.chance(0.25)).count();
        assert!((2_200..2_800).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| !rng.chance(0.0) && rng.chance(1.0)));
        assert!((0..1_000).all(|_| rng.below(3) < 3) && rng.below(0) == 0);
    }

    #[test]
    fn streams_of_a_seed_differ_and_repeat() {
        let draw = |stream| Rng::new(1, stream).next();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}

//! Divides an input into choices, which are its first bytes, and the remaining bytes. A missing choice is 0. Independent of
//! what the choices mean.

/// The remaining part of an input.
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    /// Takes the next choice.
    pub fn choice(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// Takes the next two bytes as a choice, in big-endian order.
    pub fn number(&mut self) -> usize {
        usize::from(self.choice()) << 8 | usize::from(self.choice())
    }
}

/// Returns the positions at which to cut `len` bytes: after every byte if the choice is 0, otherwise at a few random ones.
pub fn cuts(choice: u8, len: usize) -> Vec<usize> {
    const MAX_CUT_EVERYWHERE: usize = 2048;
    if choice == 0 && len <= MAX_CUT_EVERYWHERE {
        return (1..len).collect();
    }
    let mut rng = fastrand::Rng::with_seed(choice.into());
    let mut cuts: Vec<_> = (0..=rng.usize(0..8)).map(|_| rng.usize(0..=len)).collect();
    cuts.sort_unstable();
    cuts
}

/// Returns the pieces between the cuts.
pub fn pieces<'a>(bytes: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let ends = cuts.iter().copied().chain([bytes.len()]);
    ends.scan(0, |begin, end| Some(&bytes[std::mem::replace(begin, end)..end]))
}

//! How an input is divided: choices at the front, one byte each, and bytes to work with behind them. A choice that is not
//! there is 0. Refuses to know what is chosen.

/// What is left of an input.
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    /// The next choice.
    pub fn choice(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// The next choice of many: two bytes, the larger one first.
    pub fn number(&mut self) -> usize {
        usize::from(self.choice()) << 8 | usize::from(self.choice())
    }
}

/// Where `len` bytes are cut: 0 cuts them at every byte, any other choice at some.
pub fn cuts(choice: u8, len: usize) -> Vec<usize> {
    const FEW: usize = 2048;
    if choice == 0 && len <= FEW {
        return (1..len).collect();
    }
    let mut rng = fastrand::Rng::with_seed(choice.into());
    let mut cuts: Vec<_> = (0..=rng.usize(0..8)).map(|_| rng.usize(0..=len)).collect();
    cuts.sort_unstable();
    cuts
}

/// The pieces between the cuts.
pub fn pieces<'a>(bytes: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let ends = cuts.iter().copied().chain([bytes.len()]);
    ends.scan(0, |begin, end| Some(&bytes[std::mem::replace(begin, end)..end]))
}

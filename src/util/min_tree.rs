//! The smallest of many numbers that change often, each of which has a small index. The numbers are in blocks of one
//! cache line. The smallest number of each block is copied to the next level, and so on up to a level of a single block. A change compares the numbers
//! of one block per level, and moves nothing. Independent of what the numbers mean.
//!
//! ```text
//! level 1                 [2 4 ...]
//! level 0   [9 5 2 7 ...]           [4 8 ...]
//! ```

use crate::util::shrink::Shrink;

/// The numbers of a block.
const WIDTH: usize = 8;
/// Stands for no number.
const NONE: u64 = u64::MAX;

#[derive(Clone, Debug)]
#[repr(align(64))]
struct Block([u64; WIDTH]);

impl Block {
    const EMPTY: Self = Self([NONE; WIDTH]);

    fn min(&self) -> u64 {
        self.0.iter().copied().fold(NONE, u64::min)
    }

    /// Returns the block above these blocks, of which there are at most [`WIDTH`].
    fn above(below: &[Self]) -> Self {
        Self(std::array::from_fn(|index| below.get(index).map_or(NONE, Self::min)))
    }
}

/// Numbers under small indexes.
#[derive(Debug, Default)]
pub struct MinTree {
    /// Level 0 has the numbers by index. The number at an index of any other level is the smallest of the block with this index
    /// of the level below. The last level has one block.
    levels: Vec<Vec<Block>>,
}

impl MinTree {
    /// Returns the smallest number and its index.
    pub fn min(&self) -> Option<(u64, usize)> {
        let (mut smallest, mut index) = (NONE, 0);
        for level in self.levels.iter().rev() {
            let numbers = level[index].0.iter().copied().zip(index * WIDTH..);
            (smallest, index) = numbers.min()?;
        }
        (smallest != NONE).then_some((smallest, index))
    }

    /// Replaces or removes the number with this index, for which there must be room.
    pub fn set(&mut self, mut index: usize, number: Option<u64>) {
        debug_assert!(number != Some(NONE), "{NONE} stands for no number");
        let mut number = number.unwrap_or(NONE);
        for level in &mut self.levels {
            let block = &mut level[index / WIDTH];
            if std::mem::replace(&mut block.0[index % WIDTH], number) == number {
                return;
            }
            (index, number) = (index / WIDTH, block.min());
        }
    }

    /// Makes room for the indexes below `bound`, and gives up the room for all others, which must not have a number.
    pub fn resize(&mut self, bound: usize) {
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        let mut blocks = bound;
        for level in &mut self.levels {
            blocks = blocks.div_ceil(WIDTH).max(1);
            level.resize(blocks, Block::EMPTY);
            level.shrink_if_sparse();
        }
        if let Some(top) = self.levels.iter().position(|level| level.len() == 1) {
            self.levels.truncate(top + 1);
        }
        while let Some(top) = self.levels.last()
            && top.len() > 1
        {
            let above = top.chunks(WIDTH).map(Block::above).collect();
            self.levels.push(above);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_returned_although_one_number_stays() {
        let mut tree = MinTree::default();
        tree.resize(100_000);
        (0..100_000).for_each(|index| tree.set(index, Some(200_000 - index as u64)));
        assert_eq!((tree.min(), tree.levels.len()), (Some((100_001, 99_999)), 6));
        (1..100_000).for_each(|index| tree.set(index, None));
        tree.resize(64);
        let capacity: usize = tree.levels.iter().map(Vec::capacity).sum();
        assert_eq!((tree.min(), tree.levels.len()), (Some((200_000, 0)), 2));
        assert!(capacity < 32, "{capacity} blocks");
        tree.set(0, None);
        tree.resize(0);
        assert_eq!((tree.min(), tree.levels.len()), (None, 1));
    }

    proptest! {
        /// Compares with a map.
        #[test]
        fn the_smallest_number_is_found(
            acts in prop::collection::vec((0..700_usize, prop::option::of(0..1000_u64), any::<bool>()), 0..500),
        ) {
            let (mut tree, mut model, mut bound) = (MinTree::default(), BTreeMap::new(), 0);
            for (index, number, is_truncated) in acts {
                bound = bound.max(index + 1);
                tree.resize(bound);
                tree.set(index, number);
                match number {
                    Some(number) => model.insert(index, number),
                    None => model.remove(&index),
                };
                if is_truncated {
                    bound = model.last_key_value().map_or(0, |(&last, _)| last + 1);
                    tree.resize(bound);
                }
                prop_assert_eq!(tree.min(), model.iter().map(|(&index, &number)| (number, index)).min());
            }
        }
    }
}

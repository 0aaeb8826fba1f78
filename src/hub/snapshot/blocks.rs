//! A sequence of bytes as blocks with checksums: damaged, reordered, missing or additional blocks are noticed before their
//! content is used.
//!
//! ```text
//! magic, version | block | block | … | block of length 0
//! block: length (u32) | bytes | checksum of length and bytes, keyed with the block's number (u64)
//! ```
//! All numbers are little-endian.

use std::io::{self, Read, Write};

use super::format::SnapshotError;
use crate::util::keyed_hash::KeyedHash;

/// What a file begins with.
const MAGIC: [u8; 8] = *b"ESKRHIST";
/// The version of the format, which follows.
const VERSION: u8 = 1;
/// The maximum number of bytes in a block.
pub(super) const BLOCK: usize = 1 << 20;
const LEN_BYTES: usize = 4;
const SUM_BYTES: usize = 8;

/// Returns the checksum of a block, of which the length is the first part.
fn checksum(number: u64, bytes: &[u8]) -> [u8; SUM_BYTES] {
    KeyedHash { key: [number, u64::from_le_bytes(MAGIC)] }.of_bytes(bytes).to_le_bytes()
}

/// Writes blocks, each with one call.
pub(super) struct BlockWriter<'a> {
    output: &'a mut dyn Write,
    /// The next block: the room for its length, and its bytes.
    block: Vec<u8>,
    number: u64,
}

impl<'a> BlockWriter<'a> {
    pub fn begin(output: &'a mut dyn Write) -> io::Result<Self> {
        output.write_all(&MAGIC)?;
        output.write_all(&[VERSION])?;
        let mut block = Vec::with_capacity(LEN_BYTES + BLOCK + SUM_BYTES);
        block.resize(LEN_BYTES, 0);
        Ok(Self { output, block, number: 0 })
    }

    pub fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = LEN_BYTES + BLOCK - self.block.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == LEN_BYTES + BLOCK {
                self.end_block()?;
            }
        }
        Ok(())
    }

    pub fn number(&mut self, number: u64) -> io::Result<()> {
        self.put(&number.to_le_bytes())
    }

    /// Writes a number that is mostly small, seven bits per byte, the lowest first (LEB128).
    pub fn small(&mut self, mut number: u64) -> io::Result<()> {
        let (mut bytes, mut len) = ([0; 10], 0);
        loop {
            let is_last = number < 0x80;
            bytes[len] = (number as u8 & 0x7F) | if is_last { 0 } else { 0x80 };
            (number, len) = (number >> 7, len + 1);
            if is_last {
                return self.put(&bytes[..len]);
            }
        }
    }

    /// Ends the last block and the sequence.
    pub fn finish(mut self) -> io::Result<()> {
        if self.block.len() > LEN_BYTES {
            self.end_block()?;
        }
        self.end_block()
    }

    fn end_block(&mut self) -> io::Result<()> {
        let len = (self.block.len() - LEN_BYTES) as u32;
        self.block[..LEN_BYTES].copy_from_slice(&len.to_le_bytes());
        let sum = checksum(self.number, &self.block);
        self.block.extend_from_slice(&sum);
        self.output.write_all(&self.block)?;
        self.block.truncate(LEN_BYTES);
        self.number += 1;
        Ok(())
    }
}

/// Reads what a [`BlockWriter`] has written. Allocates no more for a length than there is left to read.
pub(super) struct BlockReader<'a> {
    input: &'a mut dyn Read,
    /// The bytes that the input still has.
    left: u64,
    /// The present block: its length, and its bytes.
    block: Vec<u8>,
    /// How much of it was read.
    at: usize,
    number: u64,
    /// Bytes that were spread over several blocks.
    joined: Vec<u8>,
}

impl<'a> BlockReader<'a> {
    /// Begins to read an input of this many bytes.
    pub fn begin(input: &'a mut dyn Read, len: u64) -> Result<Self, SnapshotError> {
        let mut head = [0; MAGIC.len() + 1];
        let left = len.checked_sub(head.len() as u64).ok_or(SnapshotError::Foreign)?;
        input.read_exact(&mut head)?;
        let [magic @ .., version] = head;
        match version {
            _ if magic != MAGIC => Err(SnapshotError::Foreign),
            VERSION => Ok(Self { input, left, block: Vec::new(), at: 0, number: 0, joined: Vec::new() }),
            version => Err(SnapshotError::Version(version)),
        }
    }

    /// Reads the next block and checks it. Returns whether it has any bytes.
    fn next_block(&mut self) -> Result<bool, SnapshotError> {
        let frame = (LEN_BYTES + SUM_BYTES) as u64;
        let most = self.left.checked_sub(frame).ok_or(SnapshotError::Truncated)?;
        let mut len = [0; LEN_BYTES];
        self.input.read_exact(&mut len)?;
        let bytes = u32::from_le_bytes(len) as usize;
        if bytes > BLOCK {
            return Err(SnapshotError::Damaged);
        }
        if bytes as u64 > most {
            return Err(SnapshotError::Truncated);
        }
        self.block.clear();
        self.block.extend_from_slice(&len);
        self.block.resize(LEN_BYTES + bytes + SUM_BYTES, 0);
        self.input.read_exact(&mut self.block[LEN_BYTES..])?;
        let (content, sum) = self.block.split_at(LEN_BYTES + bytes);
        if checksum(self.number, content) != sum {
            return Err(SnapshotError::Damaged);
        }
        self.block.truncate(LEN_BYTES + bytes);
        (self.at, self.left, self.number) = (LEN_BYTES, most - bytes as u64, self.number + 1);
        Ok(bytes > 0)
    }

    /// Returns the next bytes.
    pub fn take(&mut self, len: usize) -> Result<&[u8], SnapshotError> {
        let here = self.block.len() - self.at;
        if len <= here {
            self.at += len;
            return Ok(&self.block[self.at - len..self.at]);
        }
        if len as u64 > self.left + here as u64 {
            return Err(SnapshotError::Malformed);
        }
        self.joined.clear();
        while self.joined.len() < len {
            if self.at == self.block.len() && !self.next_block()? {
                return Err(SnapshotError::Malformed);
            }
            let end = self.block.len().min(self.at + len - self.joined.len());
            self.joined.extend_from_slice(&self.block[self.at..end]);
            self.at = end;
        }
        Ok(&self.joined)
    }

    pub fn byte(&mut self) -> Result<u8, SnapshotError> {
        self.take(1).map(|byte| byte[0])
    }

    pub fn number(&mut self) -> Result<u64, SnapshotError> {
        let bytes = self.take(8)?.try_into().map_err(|_| SnapshotError::Malformed)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads what [`BlockWriter::small`] has written.
    pub fn small(&mut self) -> Result<u64, SnapshotError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = u64::from(self.byte()?);
            number |= (byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(SnapshotError::Malformed)
    }

    /// Checks that nothing follows.
    pub fn finish(mut self) -> Result<(), SnapshotError> {
        if self.at < self.block.len() || self.next_block()? || self.left > 0 {
            return Err(SnapshotError::Malformed);
        }
        Ok(())
    }
}

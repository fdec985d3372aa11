//! What is sent, built before the clock runs, and what must come back.
//!
//! All lines of a load have one length, so the bytes of any number of answers are known exactly without looking at
//! each: `ACK offset:0` to `ACK offset:99` are 100 lines of 13 bytes and 90 more digits.

use std::io::{self, Write};

/// Bytes that are written at once.
const BLOCK: usize = 256 * 1024;

/// Lines of one length, repeated as often as needed.
pub(crate) struct Lines {
    block: Vec<u8>,
    line: usize,
}

impl Lines {
    /// As many of `line(0)`, `line(1)`, ... as one block holds.
    pub(crate) fn new(line: impl Fn(u64) -> String) -> Self {
        let first = line(0).len() + 1;
        let mut block = Vec::with_capacity(BLOCK + first);
        for number in 0..(BLOCK / first).max(1) as u64 {
            let before = block.len();
            block.extend_from_slice(line(number).as_bytes());
            block.push(b'\n');
            assert_eq!(block.len() - before, first, "all lines of a load have one length");
        }
        Self { block, line: first }
    }

    /// Bytes of `count` of them, line ends included.
    pub(crate) fn bytes(&self, count: u64) -> u64 {
        count * self.line as u64
    }

    /// Writes `count` lines.
    pub(crate) fn write(&self, mut to: impl Write, count: u64) -> io::Result<()> {
        let mut left = self.bytes(count);
        while left > 0 {
            let part = left.min(self.block.len() as u64) as usize;
            to.write_all(&self.block[..part])?;
            left -= part as u64;
        }
        Ok(())
    }
}

/// A printable value of `size` bytes.
pub(crate) fn value(size: usize) -> String {
    "the quick brown fox jumps over the lazy dog; ".chars().cycle().take(size).collect()
}

/// What must come back: so many lines of so many bytes, of which the first and the last are these.
pub(crate) struct Expected {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) first: String,
    pub(crate) last: String,
}

impl Expected {
    /// `line(0)` to `line(count - 1)`, which differ by the one number in them.
    pub(crate) fn numbered(count: u64, line: impl Fn(u64) -> String) -> Self {
        let first = line(0);
        // One digit of the first line is the number, and one byte more is the line end.
        let bytes = count * first.len() as u64 + digits_below(count);
        Self { lines: count, bytes, first, last: line(count - 1) }
    }

    /// The same and one line more.
    pub(crate) fn then(self, last: String) -> Self {
        Self { lines: self.lines + 1, bytes: self.bytes + last.len() as u64 + 1, last, ..self }
    }
}

/// How many digits the numbers 0 to `count - 1` have together.
fn digits_below(count: u64) -> u64 {
    let powers = std::iter::successors(Some(10u64), |power| power.checked_mul(10)).take_while(|&power| power < count);
    count + powers.map(|power| count - power).sum::<u64>()
}

//! Bytes in memory by position, in chunks: what a file of the disk in memory holds.

use std::{iter, ops::Range};

/// The step in which a file takes memory.
pub(super) const CHUNK: u64 = 64 * 1024;

/// Bytes by position. No chunk holds any beyond the file's length.
#[derive(Clone, Default)]
pub(super) struct Chunks(Vec<Vec<u8>>);

impl Chunks {
    /// Reads from one chunk.
    pub(super) fn read(&self, buffer: &mut [u8], position: u64) {
        let chunk = self.0.get((position / CHUNK) as usize).map_or(&[][..], Vec::as_slice);
        let there = chunk.get((position % CHUNK) as usize..).unwrap_or(&[]);
        let (held, hole) = buffer.split_at_mut(buffer.len().min(there.len()));
        held.copy_from_slice(&there[..held.len()]);
        hole.fill(0);
    }

    /// Writes into one chunk.
    pub(super) fn write(&mut self, bytes: &[u8], position: u64) {
        let (index, at) = ((position / CHUNK) as usize, (position % CHUNK) as usize);
        if self.0.len() <= index {
            self.0.resize_with(index + 1, Vec::new);
        }
        let chunk = &mut self.0[index];
        let size = if index > 0 { CHUNK as usize } else { (at + bytes.len()).next_power_of_two() };
        chunk.reserve_exact(size.saturating_sub(chunk.len()));
        chunk.resize(chunk.len().max(at), 0);
        let (over, behind) = bytes.split_at(bytes.len().min(chunk.len() - at));
        chunk[at..at + over.len()].copy_from_slice(over);
        chunk.extend_from_slice(behind);
    }

    pub(super) fn cut(&mut self, length: u64) {
        let whole = (length / CHUNK) as usize;
        self.0.truncate(whole + 1);
        if let Some(chunk) = self.0.get_mut(whole) {
            chunk.truncate((length % CHUNK) as usize);
        }
    }
}

/// A range, divided where it crosses a multiple of `unit`.
pub(super) fn pieces(range: Range<u64>, unit: u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    iter::from_fn(move || {
        let start = at;
        at = range.end.min((start / unit + 1) * unit);
        (start < range.end).then_some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_take_little_memory() {
        let mut chunks = Chunks::default();
        chunks.write(&[1; 64], 0);
        chunks.write(&[1; 64], 64);
        assert!(chunks.0[0].capacity() < 256);
        chunks.write(&[1], 1 << 30);
        assert_eq!(chunks.0.iter().map(Vec::capacity).sum::<usize>(), 128 + CHUNK as usize);
    }
}

//! How a file of the disk in memory goes back to what is durable: the old bytes of each write since the last sync.

use super::{
    chunks::{Chunks, pieces},
    dice::Dice,
    machine::Turn,
};
use std::{collections::BTreeMap, mem, ops::Range};

/// What survives a crash, or does not, by itself.
const PAGE: u64 = 4096;

/// How a file goes back towards what is durable.
pub(super) struct Undo {
    pages: BTreeMap<u64, PageUndo>,
    length: u64,
    /// The lengths that the file has had since.
    lengths: Range<u64>,
}

#[derive(Default)]
struct PageUndo {
    /// Whether the next sync writes the page.
    dirty: bool,
    /// For each write: a position, and the bytes before it.
    old: Vec<(u64, Vec<u8>)>,
}

impl Undo {
    /// Everything is durable.
    pub(super) fn none(length: u64) -> Self {
        Self { pages: BTreeMap::new(), length, lengths: length..length + 1 }
    }

    /// Before a change of the bytes in `range`, which makes the file `length` bytes long.
    pub(super) fn remember(&mut self, chunks: &Chunks, range: Range<u64>, length: u64) {
        for piece in pieces(range, PAGE) {
            let mut old = vec![0; (piece.end - piece.start) as usize];
            chunks.read(&mut old, piece.start);
            let page = self.pages.entry(piece.start / PAGE).or_default();
            page.dirty = true;
            page.old.push((piece.start, old));
        }
        self.lengths = self.lengths.start.min(length)..self.lengths.end.max(length + 1);
    }

    /// A write-back that failed: what was to be written counts as clean.
    pub(super) fn fail_writeback(&mut self) {
        self.pages.values_mut().for_each(|page| page.dirty = false);
    }

    /// What a sync reaches needs no undo; what it fails on counts as clean.
    pub(super) fn sync(&mut self, turn: &Turn, length: u64) {
        let unreached = self.pages.keys().nth(turn.share(self.pages.len())).copied().unwrap_or(u64::MAX);
        self.pages.retain(|number, page| !mem::take(&mut page.dirty) || *number >= unreached);
        if turn.happens() {
            (self.length, self.lengths) = (length, length..length + 1);
        }
    }

    /// Takes changes back as the dice say; answers the length.
    pub(super) fn take_back(&self, chunks: &mut Chunks, length: u64, mut dice: Dice) -> u64 {
        for page in self.pages.values() {
            let kept = dice.up_to(page.old.len() as u64) as usize;
            for (position, old) in page.old[kept..].iter().rev() {
                chunks.write(old, *position);
            }
        }
        let length = match dice.up_to(2) {
            0 => self.length,
            1 => self.lengths.start + dice.throw() % (self.lengths.end - self.lengths.start),
            _ => length,
        };
        chunks.cut(length);
        length
    }
}

//! Where to begin reading: an offset, or something that stands for one.

use super::{Error, Partition, Result, View};
use crate::log::Chunk;

/// Where to read from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Position {
    /// The record at this offset, or the first behind it.
    At(u64),
    /// This many records before the end.
    BeforeEnd(u64),
    /// The first record there is.
    Earliest,
    /// The end: behind the last record that the reader sees.
    Latest,
    /// The lowest offset whose timestamp is at or after this.
    Time(i64),
}

impl Position {
    /// The offset it means now to who reads so. A number out of range is refused; one behind what the reader sees, up to the
    /// high watermark, is not.
    pub(super) fn resolve(self, view: View, partition: &Partition, chunk: &mut Chunk) -> Result<u64> {
        let (start, high_watermark, end) =
            (partition.start()?, partition.high_watermark()?, partition.end(view.isolation)?);
        match self {
            Position::At(offset) if (start..=high_watermark).contains(&offset) => Ok(offset),
            Position::At(_) => Err(Error::OffsetOutOfRange { first: start, end: high_watermark }),
            Position::BeforeEnd(count) => Ok(end.saturating_sub(count).max(start)),
            Position::Earliest => Ok(start),
            Position::Latest => Ok(end),
            Position::Time(time) => partition.offset_at(view, time, chunk),
        }
    }

    /// The offset it means now; a number out of range means the nearest that is not.
    pub(super) fn nearest(self, view: View, partition: &Partition, chunk: &mut Chunk) -> Result<u64> {
        match (self.resolve(view, partition, chunk), self) {
            (Err(Error::OffsetOutOfRange { first, end }), Position::At(offset)) => Ok(offset.clamp(first, end)),
            (resolved, _) => resolved,
        }
    }
}

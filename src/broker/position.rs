//! Where to begin reading: an offset, or something that stands for one.

use super::{Error, Partition, Result};
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
    /// Behind the last record.
    Latest,
    /// The lowest offset whose timestamp is at or after this.
    Time(i64),
}

impl Position {
    /// The offset it means now. A number out of range is refused.
    pub(super) fn resolve(self, partition: &Partition, chunk: &mut Chunk) -> Result<u64> {
        let (first, end) = (partition.start()?, partition.high_watermark()?);
        match self {
            Position::At(offset) if offset < first || offset > end => Err(Error::OffsetOutOfRange { first, end }),
            Position::At(offset) => Ok(offset),
            Position::BeforeEnd(count) => Ok(end.saturating_sub(count).max(first)),
            Position::Earliest => Ok(first),
            Position::Latest => Ok(end),
            Position::Time(time) => partition.offset_at(time, chunk),
        }
    }

    /// The offset it means now; a number out of range means the nearest that is not.
    pub(super) fn nearest(self, partition: &Partition, chunk: &mut Chunk) -> Result<u64> {
        match (self.resolve(partition, chunk), self) {
            (Err(Error::OffsetOutOfRange { first, end }), Position::At(offset)) => Ok(offset.clamp(first, end)),
            (resolved, _) => resolved,
        }
    }
}

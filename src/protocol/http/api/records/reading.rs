//! Reading several partitions, each from where it was left: one cursor for each, one buffer for all.
//!
//! ```text
//! offset    12  13  14  15  16  17         next    what is read next
//! cursor         └ next      └ end         end     where this request ends, if it does
//! ```
//!
//! What cannot be read is a [`Gap`]: it is told, and reading goes on behind it.

use super::{
    asked::{Asked, Begin, PartitionOffset},
    filter::Filter,
};
use crate::{
    backend::{PartitionHandle, ReadSession, TopicHandle},
    broker::{Code, Error, Isolation, Position, View},
    log::{Line, record::Malformed},
    protocol::http::{
        exchange::Exchange,
        refusal::{Refusal, Stop},
    },
};
use std::{
    collections::{BinaryHeap, VecDeque},
    io::{self, ErrorKind},
};

/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;
/// A search that has found nothing in so many bytes asks whether somebody still waits for it.
const BARREN_BYTES_MAX: u64 = 16 << 20;

/// What a request reads.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) topic: TopicHandle,
    isolation: Isolation,
    filter: Filter,
    pub(super) cursors: Vec<Cursor>,
    session: ReadSession,
    /// Bytes of lines that were read.
    pub(super) bytes: u64,
    /// How many of them nothing was found in that is wanted, since it was asked whether somebody waits.
    barren: u64,
    /// What could not be read and was not told yet.
    pub(super) gaps: Vec<Gap>,
}

/// A partition as far as it was read.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    pub(super) partition: PartitionHandle,
    pub(super) next: u64,
    pub(super) end: Option<u64>,
}

/// Records that somebody expects and does not get.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gap {
    pub(super) partition: u32,
    pub(super) from: u64,
    /// Where reading goes on.
    pub(super) to: u64,
    pub(super) message: String,
}

/// A record, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) timestamp: i64,
    /// Of its line.
    pub(super) bytes: u64,
}

impl Cursor {
    fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    pub(super) fn place(&self) -> PartitionOffset {
        PartitionOffset { partition: self.partition.index(), offset: self.next }
    }
}

impl Reading {
    /// Finds where to begin and to end; without a word about it, at `begin`.
    pub(super) fn new(exchange: &Exchange<'_, '_>, asked: Asked, begin: Position) -> Result<Reading, Stop> {
        let Asked { topic, only, isolation, from, to, filter, .. } = asked;
        let partitions = match only {
            Some(index) => vec![topic.partition(index)?],
            None => topic.partitions(),
        };
        let session = exchange.broker.read_session();
        let (cursors, gaps) = (Vec::with_capacity(partitions.len()), Vec::new());
        let mut reading = Reading { topic, isolation, filter, cursors, session, bytes: 0, barren: 0, gaps };
        let from = from.unwrap_or(Begin::Position(begin));
        let is_one = only.is_some();
        for partition in partitions {
            let next = reading.begin(&from, &partition, is_one)?;
            let end = match to {
                None => None,
                // It may be still to come.
                Some(Position::At(offset)) => Some(offset),
                Some(to) => Some(reading.session.resolve(isolation, to, &partition)?),
            };
            reading.cursors.push(Cursor { partition, next, end });
        }
        if let (Begin::Position(Position::BeforeEnd(count)), false) = (from, is_one) {
            reading.go_back(exchange, count, u64::MAX)?;
        }
        Ok(reading)
    }

    fn begin(&mut self, from: &Begin, partition: &PartitionHandle, is_one: bool) -> Result<u64, Stop> {
        let (start, high_watermark) = (partition.start()?, partition.high_watermark()?);
        let position = match from {
            // The newest by time are found once the ends of all partitions are known.
            Begin::Position(Position::BeforeEnd(_)) if !is_one => Position::Latest,
            // An offset of several partitions need not be one that all of them have.
            Begin::Position(Position::At(offset)) if !is_one => return Ok((*offset).clamp(start, high_watermark)),
            Begin::Position(position) => *position,
            Begin::Offsets(offsets) | Begin::Before(offsets) => {
                let named = offsets.iter().find(|named| named.partition == partition.index());
                let from = named.map_or(start, |named| named.offset);
                let to = from.clamp(start, high_watermark);
                if from != to {
                    let what = if from < to { "was removed" } else { "is not there any more" };
                    let message = format!("what stood at offset {from} {what}");
                    self.gaps.push(Gap { partition: partition.index(), from, to, message });
                }
                return Ok(to);
            }
        };
        Ok(self.session.resolve(self.isolation, position, partition)?)
    }

    /// Ends each partition where it ends now.
    pub(super) fn end_now(&mut self) -> Result<(), Stop> {
        for cursor in &mut self.cursors {
            let end = cursor.partition.end(self.isolation)?;
            cursor.end = Some(cursor.end.map_or(end, |asked| asked.min(end)));
        }
        Ok(())
    }

    /// Takes partitions that were added since, from their first record on.
    pub(super) fn grow(&mut self) {
        for partition in self.topic.partitions().into_iter().skip(self.cursors.len()) {
            self.cursors.push(Cursor { partition, next: 0, end: None });
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.cursors.iter().all(Cursor::is_at_end)
    }

    pub(super) fn has_filter(&self) -> bool {
        !self.filter.is_empty()
    }

    /// Bytes that stand between the cursors and the ends of their partitions.
    pub(super) fn backlog(&self) -> Result<u64, Stop> {
        let bytes = self.cursors.iter().map(|cursor| {
            let Cursor { partition, next, .. } = cursor;
            // Behind the end there is nothing; what is removed meanwhile counts no more.
            let backlog = partition.backlog(self.isolation, (*next).max(partition.start()?), u64::MAX);
            Ok(backlog.map_or(0, |backlog| backlog.bytes))
        });
        bytes.sum()
    }

    /// Offsets that stand between the cursors and the ends of their partitions.
    pub(super) fn offsets_ahead(&self) -> Result<u64, Stop> {
        let ahead = |cursor: &Cursor| Ok(cursor.partition.end(self.isolation)?.saturating_sub(cursor.next));
        self.cursors.iter().map(ahead).sum()
    }

    /// Where the cursors are, all together.
    pub(super) fn passed(&self) -> u64 {
        self.cursors.iter().map(|cursor| cursor.next).sum()
    }

    /// Gives the buffer back, before a wait.
    pub(super) fn free(&mut self) {
        self.session.free();
    }

    /// Reads on in one partition and hands each wanted record to `each`, until that says false. Answers whether there was
    /// anything to read.
    pub(super) fn read(
        &mut self,
        index: usize,
        mut each: impl FnMut(&Line<'_>) -> Result<bool, Stop>,
    ) -> Result<bool, Stop> {
        let cursor = &mut self.cursors[index];
        if cursor.is_at_end() {
            return Ok(false);
        }
        let (from, partition) = (cursor.next, cursor.partition.index());
        let batches = match self.session.read(View::records(self.isolation), &cursor.partition, from, READ_BYTES) {
            Err(Error::OffsetOutOfRange { first, .. }) if from < first => {
                let message = format!("what stood at offset {from} was removed");
                self.gaps.push(Gap { partition, from, to: first, message });
                cursor.next = first;
                return Ok(true);
            }
            Err(error @ Error::Corrupt { next: to, .. }) => {
                self.gaps.push(Gap { partition, from, to, message: error.to_string() });
                cursor.next = to;
                return Ok(true);
            }
            read => read?,
        };
        let Some(behind) = batches.next_offset() else { return Ok(false) };
        self.bytes += batches.bytes().len() as u64;
        self.barren += batches.bytes().len() as u64;
        if self.filter.may_match(batches.bytes()) {
            for line in batches.records_from(from) {
                let line = line.map_err(unreadable)?;
                if cursor.end.is_some_and(|end| line.offset >= end) {
                    cursor.next = line.offset;
                    return Ok(true);
                }
                if self.filter.matches(&line).map_err(unreadable)? {
                    (cursor.next, self.barren) = (line.offset + 1, 0);
                    if !each(&line)? {
                        return Ok(true);
                    }
                }
            }
        }
        cursor.next = behind;
        Ok(true)
    }

    /// Moves the cursors back over the last `count` wanted records before them, the newest by time of all partitions, as long
    /// as their lines have no more than `bytes_max` bytes together. Over one it moves in any case.
    pub(super) fn go_back(&mut self, exchange: &Exchange<'_, '_>, count: u64, bytes_max: u64) -> Result<(), Stop> {
        let at_once = at_once(count, self.cursors.len());
        let (mut cursors, known) = (self.cursors.clone(), self.gaps.len());
        let mut behind = Vec::with_capacity(cursors.len());
        let mut newest = BinaryHeap::new();
        for (index, cursor) in cursors.iter().enumerate().filter(|_| count > 0) {
            behind.push(self.look_behind(exchange, index, cursor.next, at_once)?);
            newest.extend(behind[index].found.back().map(|last| (last.timestamp, index)));
        }
        let (mut left, mut bytes) = (count, 0);
        while left > 0
            && let Some((_, index)) = newest.pop()
        {
            let found = behind[index].found.pop_back().expect("its time was noted");
            bytes += found.bytes;
            if bytes > bytes_max && left < count {
                break;
            }
            (cursors[index].next, left) = (found.offset, left - 1);
            if behind[index].found.is_empty() {
                behind[index] = self.look_behind(exchange, index, behind[index].from, at_once)?;
            }
            newest.extend(behind[index].found.back().map(|last| (last.timestamp, index)));
        }
        self.cursors = cursors;
        // What cannot be read is told when it is read in order.
        self.gaps.truncate(known);
        Ok(())
    }

    /// The last wanted records of a partition before an offset, at most so many; none: there is none.
    fn look_behind(
        &mut self,
        exchange: &Exchange<'_, '_>,
        index: usize,
        before: u64,
        most: usize,
    ) -> Result<Behind, Stop> {
        let start = self.cursors[index].partition.start()?;
        let (mut end, mut width) = (before, most as u64);
        while end > start {
            let from = end.saturating_sub(width).max(start);
            (self.cursors[index].next, self.cursors[index].end) = (from, Some(end));
            let mut found = VecDeque::new();
            let mut note = |line: &Line<'_>| {
                if found.len() == most {
                    found.pop_front();
                }
                found.push_back(Found::of(line));
                Ok(true)
            };
            while self.read(index, &mut note)? {
                self.check_wanted(exchange)?;
            }
            if let Some(first) = found.front() {
                return Ok(Behind { from: if found.len() == most { first.offset } else { from }, found });
            }
            (end, width) = (from, width.saturating_mul(2));
        }
        Ok(Behind { found: VecDeque::new(), from: start })
    }

    /// The next wanted records of a partition, at least one and at most so many; none: there is none yet.
    pub(super) fn look_ahead(
        &mut self,
        exchange: &Exchange<'_, '_>,
        index: usize,
        most: usize,
    ) -> Result<VecDeque<Found>, Stop> {
        let mut found = VecDeque::new();
        while found.is_empty() {
            let note = |line: &Line<'_>| {
                found.push_back(Found::of(line));
                Ok(found.len() < most)
            };
            if !self.read(index, note)? {
                break;
            }
            self.check_wanted(exchange)?;
        }
        Ok(found)
    }

    /// An error once the broker stops, the caller is not any more who it was, or nobody waits for a search that finds nothing. Whoever
    /// gets something need not be asked: who sends no more may still read, and that one is gone shows in what is sent.
    pub(super) fn check_wanted(&mut self, exchange: &Exchange<'_, '_>) -> Result<(), Stop> {
        exchange.check_login()?;
        let output = &exchange.output;
        let is_barren = self.barren >= BARREN_BYTES_MAX;
        if is_barren {
            self.barren = 0;
        }
        if output.stopping() || is_barren && !output.is_connected()? { Err(gone()) } else { Ok(()) }
    }
}

/// Records of a partition that stand together, and the offset from which on they are all that is wanted.
#[derive(Debug)]
struct Behind {
    found: VecDeque<Found>,
    from: u64,
}

impl Found {
    fn of(line: &Line<'_>) -> Found {
        Found { offset: line.offset, timestamp: line.timestamp, bytes: line.text.len() as u64 }
    }
}

/// How many records of each partition are looked at together where `count` of all are wanted.
pub(super) fn at_once(count: u64, partitions: usize) -> usize {
    (count / partitions.max(1) as u64).clamp(16, 1024) as usize
}

/// The client is gone, or the broker stops: nothing more is answered on this connection.
pub(super) fn gone() -> Stop {
    io::Error::new(ErrorKind::ConnectionAborted, "nobody waits for the answer").into()
}

/// What no writer of this broker leaves behind.
pub(super) fn unreadable(why: Malformed) -> Stop {
    Refusal { status: 500, code: Code::CorruptMessage, message: why.0 }.into()
}

//! Aborted transactions of a log: what readers of committed records pass over.
//!
//! ```text
//! offset      3   4   5   6   7   8   9
//! producer    7   8   7   8   7'  8   8'       7' aborts 7's records, 3 and 5; 8' aborts 8's: 4, 6 and 8
//!
//! the list, by markers:   7: 3..7   8: 4..9
//! ```
//!
//! A marker's own line says where its transaction began, so each segment tells of those that end in it by itself. An entry says
//! whether its segment holds anything of a transaction up to there: the others are not looked at.

use super::{
    Error, Log,
    batches::{Entry, Flags, crc32c},
    record::{parse_control, split_offset},
    segment::Segment,
    unreadable,
};
use std::{io, ops::Range, sync::Arc};

/// The longest line of a marker: `offset:` and 19 digits, `control:abort first:` and 19, `coordinator:` and 11, three spaces and an end.
const MARKER_BYTES_MAX: usize = 7 + 19 + 20 + 19 + 12 + 11 + 3;

/// A transaction whose records are not to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// Its producer.
    pub producer_id: i64,
    /// Offset of its first record here.
    pub first: u64,
    /// Offset of its marker. What that producer wrote in a transaction between the two is aborted.
    pub marker: u64,
}

/// The aborted transactions of a log, in the order of their markers.
#[derive(Debug, Default)]
pub struct AbortedList(Vec<Listed>);

#[derive(Debug)]
struct Listed {
    aborted: Aborted,
    /// None that comes later in the list began before this offset.
    later: u64,
}

impl AbortedList {
    /// Those that were found in a log. None that is added later begins before `later`.
    pub fn new(found: Vec<Aborted>, mut later: u64) -> AbortedList {
        let mut list: Vec<_> = found.into_iter().map(|aborted| Listed { aborted, later }).collect();
        for listed in list.iter_mut().rev() {
            listed.later = later;
            later = later.min(listed.aborted.first);
        }
        AbortedList(list)
    }

    /// Adds the one that was ended last. None that is added after it begins before `later`.
    pub fn push(&mut self, aborted: Aborted, later: u64) {
        self.0.push(Listed { aborted, later });
    }

    /// Forgets those of which nothing is left from `start` on.
    pub fn prune(&mut self, start: u64) {
        self.0.drain(..self.0.partition_point(|listed| listed.aborted.marker < start));
    }

    /// Those with anything at these offsets, their markers included.
    pub fn within(&self, offsets: Range<u64>) -> impl Iterator<Item = Aborted> {
        let from = self.0.partition_point(|listed| listed.aborted.marker < offsets.start);
        let mut ended = false;
        let reached = self.0[from..].iter().take_while(move |listed| {
            let wanted = !ended;
            ended = listed.later >= offsets.end;
            wanted
        });
        reached.map(|listed| listed.aborted).filter(move |aborted| aborted.first < offsets.end)
    }
}

impl Log {
    /// Reads which transactions were aborted, in the order of their markers. No marker is written meanwhile.
    pub fn read_aborted(&self) -> Result<Vec<Aborted>, Error> {
        let mut found = Vec::new();
        for segment in self.all_segments() {
            match self.aborted_in(&segment, &mut found) {
                // Retention or TRIM took it, with all that was in it.
                Err(_) if !self.all_segments().iter().any(|other| Arc::ptr_eq(other, &segment)) => {}
                read => read?,
            }
        }
        Ok(found)
    }

    fn aborted_in(&self, segment: &Segment, found: &mut Vec<Aborted>) -> Result<(), Error> {
        let failed = unreadable(segment.path("batches"));
        let entries = segment.entries(&self.handles).map_err(&failed)?;
        let Some(last) = entries.checked_sub(1) else { return Ok(()) };
        let last = segment.entry(&self.handles, last).map_err(&failed)?;
        if last.is_some_and(|(_, entry)| !entry.holds_transactions()) {
            return Ok(());
        }
        let mut markers = Vec::new();
        let read = self.each_entry_of(segment, |_, entry| {
            if entry.flags.has(Flags::CONTROL) && entry.flags.has(Flags::ABORT) {
                markers.push(*entry);
            }
            true
        });
        read.map_err(&failed)?;
        for entry in markers {
            let marker = segment.base + u64::from(entry.first);
            let first = match self.first_by_line(segment, &entry).map_err(&failed)? {
                Some(first) => first,
                None => self.first_by_entries(entry.producer_id, marker)?,
            };
            if first < marker {
                found.push(Aborted { producer_id: entry.producer_id, first, marker });
            }
        }
        Ok(())
    }

    /// Where a transaction began, as its marker's line tells; `None`: the line is damaged.
    fn first_by_line(&self, segment: &Segment, entry: &Entry) -> io::Result<Option<u64>> {
        let mut line = [0; MARKER_BYTES_MAX];
        let Some(line) = line.get_mut(..entry.bytes as usize) else { return Ok(None) };
        let read = segment.log(&self.handles)?.read_at(line, entry.position.into())?;
        let whole = Some(&line[..read]).filter(|line| crc32c(line) == entry.lines_crc);
        let fields = whole.and_then(|line| split_offset(line.strip_suffix(b"\n")?));
        Ok(fields.and_then(|(_, fields)| parse_control(fields).ok()?.first))
    }

    /// The same, as the entries before the marker tell.
    fn first_by_entries(&self, producer_id: i64, marker: u64) -> Result<u64, Error> {
        let mut first = None;
        self.each_entry(0, |at, entry| match entry.flags {
            _ if entry.producer_id != producer_id || at >= marker => {}
            flags if flags.has(Flags::CONTROL) => first = None,
            flags if flags.has(Flags::TRANSACTIONAL) => _ = first.get_or_insert(at),
            _ => {}
        })?;
        Ok(first.unwrap_or(marker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_touches_a_range_is_found_in_a_list_read_or_grown(
            transactions in proptest::collection::vec((0..40_u64, 1..40_u64), 0..30),
            known in 0..30_usize,
            start in 0..60_u64,
            ranges in proptest::collection::vec((0..90_u64, 0..30_u64), 20),
        ) {
            let mut all: Vec<_> = transactions.iter().zip(0..).map(|(&(first, length), producer_id)| {
                Aborted { producer_id, first, marker: first + length }
            }).collect();
            all.sort_by_key(|aborted| aborted.marker);
            let later = |index: usize| all[index..].iter().map(|aborted| aborted.first).min().unwrap_or(u64::MAX);
            let known = known.min(all.len());
            let mut list = AbortedList::new(all[..known].to_vec(), later(known));
            for (index, aborted) in all.iter().enumerate().skip(known) {
                list.push(*aborted, later(index + 1));
            }
            list.prune(start);
            for (from, length) in ranges {
                let range = from.max(start)..from.max(start) + length;
                let touches = |aborted: &&Aborted| aborted.marker >= range.start && aborted.first < range.end;
                let expected: Vec<_> = all.iter().filter(touches).copied().collect();
                prop_assert_eq!(list.within(range.clone()).collect::<Vec<_>>(), expected);
            }
        }
    }
}

//! Aborted transactions of a log: what readers of committed records pass over.
//!
//! ```text
//! offset      3   4   5   6   7   8   9
//! producer    7   8   7   8   7'  8   8'       7' aborts 7's records, 3 and 5; 8' aborts 8's: 4, 6 and 8
//!
//! the list, by markers:   7: 3..7   8: 4..9
//! ```
//!
//! A marker's own line says where its transaction began, so each segment tells by itself of those that are aborted in it. An entry
//! says whether there is such a marker in its segment up to there: the others are not looked at. Beside a sealed segment that has any
//! stands a file that tells the same in one read:
//!
//! ```text
//! producer:7 first:3 marker:7
//! producer:8 first:4 marker:9
//! crc32c:0a1b2c3d
//! ```
//!
//! - It is written when the segment is sealed. Where it is missing or damaged the segment is read, and it is written anew.
//! - Compaction, which takes markers away, removes it before the new segment gets the old one's names. So it never tells of markers
//!   that are gone, and the list in memory does not either: a Kafka client that is told of an aborted transaction and finds no marker
//!   takes what the producer writes afterwards for aborted, too.

use super::{
    Error, Log,
    batches::{Entry, Flags, crc32c},
    checked_text,
    disk::{self, read_small},
    record::{Outcome, parse_control, split_offset},
    segment::Segment,
    unreadable,
};
use std::{
    collections::{HashMap, hash_map},
    fmt::Write,
    io,
    ops::Range,
};

/// The longest line of a marker: `offset:` and 19 digits, `control:abort first:` and 19, `coordinator:` and 11, three spaces and an end.
const MARKER_BYTES_MAX: usize = 7 + 19 + 20 + 19 + 12 + 11 + 3;
/// Bytes of a line beside a segment at most: its words, and three numbers of up to 20, 19 and 19.
const LINE_BYTES_MAX: u64 = 24 + 58;

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
pub(super) struct AbortedList(Vec<Listed>);

#[derive(Debug)]
struct Listed {
    aborted: Aborted,
    /// None that comes later in the list began before this offset.
    later: u64,
}

impl AbortedList {
    /// Those that were found in a log. None that is added later begins before `later`.
    fn new(found: Vec<Aborted>, mut later: u64) -> AbortedList {
        let mut list: Vec<_> = found.into_iter().map(|aborted| Listed { aborted, later }).collect();
        for listed in list.iter_mut().rev() {
            listed.later = later;
            later = later.min(listed.aborted.first);
        }
        AbortedList(list)
    }

    /// Adds the one that was ended last. None that is added after it begins before `later`.
    fn push(&mut self, aborted: Aborted, later: u64) {
        self.0.push(Listed { aborted, later });
    }

    /// Forgets those of which nothing is left from `start` on.
    fn prune(&mut self, start: u64) {
        self.0.drain(..self.0.partition_point(|listed| listed.aborted.marker < start));
    }

    /// Whether the record of that producer's transaction at `offset` was aborted.
    pub(super) fn holds(&self, producer_id: i64, offset: u64) -> bool {
        self.within(offset..offset + 1).any(|aborted| aborted.producer_id == producer_id)
    }

    /// Those with anything at these offsets, their markers included.
    pub(super) fn within(&self, offsets: Range<u64>) -> impl Iterator<Item = Aborted> {
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
    /// The aborted transactions with anything at these offsets, in the order of their markers; `None`: they were
    /// [read](Self::load_aborted) by nobody yet.
    pub fn aborted_within(&self, offsets: &Range<u64>) -> Option<Vec<Aborted>> {
        let list = self.aborted.read().expect("no panic under the lock of the aborted");
        list.as_ref().map(|list| list.within(offsets.clone()).collect())
    }

    /// Reads which transactions were aborted. None that is aborted from now on began before `later`, and no marker is written
    /// meanwhile.
    pub fn load_aborted(&self, later: u64) -> Result<(), Error> {
        self.with_aborted(|all| {
            let mut list = AbortedList::new(all, later);
            list.prune(self.start());
            *self.aborted.write().expect("no panic under the lock of the aborted") = Some(list);
        })
    }

    /// Reads which transactions were aborted by now.
    pub(super) fn read_aborted(&self) -> Result<AbortedList, Error> {
        self.with_aborted(|all| AbortedList::new(all, u64::MAX))
    }

    /// Reads what was aborted in all segments, and does something with it before any of them is replaced or removed.
    fn with_aborted<T>(&self, work: impl FnOnce(Vec<Aborted>) -> T) -> Result<T, Error> {
        let mut read = HashMap::new();
        loop {
            for segment in self.all_segments() {
                if let hash_map::Entry::Vacant(unread) = read.entry(segment.id) {
                    match self.aborted_in(&segment) {
                        Ok(aborted) => _ = unread.insert(aborted),
                        // It was removed, or compacted, and the next round reads what is there instead.
                        Err(_) if !self.is_there(&segment) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            // Held while segments are replaced or removed.
            let _files = self.files();
            let segments = self.all_segments();
            if segments.iter().all(|segment| read.contains_key(&segment.id)) {
                return Ok(work(segments.iter().filter_map(|segment| read.remove(&segment.id)).flatten().collect()));
            }
        }
    }

    fn is_there(&self, segment: &Segment) -> bool {
        self.all_segments().iter().any(|other| other.id == segment.id)
    }

    /// Remembers the transaction that a marker has aborted just now. None that is aborted after it began before `later`.
    pub fn add_aborted(&self, aborted: Aborted, later: u64) {
        if let Some(list) = &mut *self.aborted.write().expect("no panic under the lock of the aborted") {
            list.push(aborted, later);
        }
    }

    /// Forgets those whose markers, in order, are gone.
    pub(super) fn forget_aborted(&self, markers: &[u64]) {
        if let Some(list) = &mut *self.aborted.write().expect("no panic under the lock of the aborted")
            && !markers.is_empty()
        {
            list.0.retain(|listed| markers.binary_search(&listed.aborted.marker).is_err());
        }
    }

    /// Forgets those of which nothing is left from `start` on.
    pub(super) fn forget_aborted_before(&self, start: u64) {
        if let Some(list) = &mut *self.aborted.write().expect("no panic under the lock of the aborted") {
            list.prune(start);
        }
    }

    /// Writes what was aborted in the newest sealed segment beside it, if anything was, and no more entries have to be read for it.
    pub fn keep_aborted(&self, entries_max: u64) -> Result<(), Error> {
        let segments = self.all_segments();
        let Some([sealed, active]) = segments.last_chunk() else { return Ok(()) };
        if !self.may_hold(sealed, Flags::ABORTS)? {
            return Ok(());
        }
        let ended = sealed.base..active.base;
        let aborted = match self.aborted_within(&ended) {
            Some(known) => known.into_iter().filter(|aborted| ended.contains(&aborted.marker)).collect(),
            None if self.entries_of(sealed)? > entries_max => return Ok(()),
            None => self.aborted_by_entries(sealed)?,
        };
        self.write_aborted(sealed, &aborted)
    }

    /// The same beside a segment that compaction wrote.
    pub(super) fn keep_aborted_of(&self, segment: &Segment) -> Result<(), Error> {
        match self.may_hold(segment, Flags::ABORTS)? {
            true => self.write_aborted(segment, &self.aborted_by_entries(segment)?),
            false => Ok(()),
        }
    }

    /// What was aborted in a segment, by the file beside it, or by its entries.
    fn aborted_in(&self, segment: &Segment) -> Result<Vec<Aborted>, Error> {
        if !self.may_hold(segment, Flags::ABORTS)? {
            return Ok(Vec::new());
        }
        if segment.base == self.active_base() {
            return self.aborted_by_entries(segment);
        }
        if let Some(kept) = self.kept_aborted(segment)? {
            return Ok(kept);
        }
        let aborted = self.aborted_by_entries(segment)?;
        // Who comes next reads it again where this fails.
        let _ = self.write_aborted(segment, &aborted);
        Ok(aborted)
    }

    /// Whether a segment may hold what this flag of its last entry tells of.
    pub(super) fn may_hold(&self, segment: &Segment, flag: Flags) -> Result<bool, Error> {
        let failed = unreadable(segment.path("batches"));
        let Some(last) = segment.entries(&self.handles).map_err(&failed)?.checked_sub(1) else { return Ok(false) };
        let last = segment.entry(&self.handles, last).map_err(&failed)?;
        Ok(last.is_none_or(|(_, entry)| entry.flags.has(flag)))
    }

    fn aborted_by_entries(&self, segment: &Segment) -> Result<Vec<Aborted>, Error> {
        let failed = unreadable(segment.path("batches"));
        let (mut markers, mut found) = (Vec::new(), Vec::new());
        let read = self.each_entry_of(segment, |_, entry| {
            if entry.flags.outcome() == Some(Outcome::Abort) {
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
        Ok(found)
    }

    /// What the file beside a segment tells; `None`: there is none, or it is damaged.
    fn kept_aborted(&self, segment: &Segment) -> Result<Option<Vec<Aborted>>, Error> {
        let path = segment.path("aborted");
        let entries = segment.entries(&self.handles).map_err(unreadable(segment.path("batches")))?;
        let bytes_max = u64::from(entries) * LINE_BYTES_MAX + checked_text::CRC_BYTES as u64;
        match read_small(self.handles.disk(), &path, bytes_max) {
            Ok(bytes) => Ok(checked_text::open(&bytes).and_then(|lines| lines.lines().map(parse_line).collect())),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(None),
            Err(error) => Err(unreadable(path)(error)),
        }
    }

    /// Writes the file beside a sealed segment, unless another segment has its names by now.
    fn write_aborted(&self, segment: &Segment, aborted: &[Aborted]) -> Result<(), Error> {
        let mut lines = String::new();
        for Aborted { producer_id, first, marker } in aborted {
            writeln!(lines, "producer:{producer_id} first:{first} marker:{marker}").expect("a string takes it");
        }
        let path = segment.path("aborted");
        let _files = self.files();
        if self.is_closed() || !self.is_there(segment) {
            return Ok(());
        }
        let text = checked_text::seal(lines);
        self.change_names(|| disk::replace(self.handles.disk(), &path, text.as_bytes())).map_err(unreadable(path))
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
            // Of what compaction has emptied nothing is left.
            flags if flags.has(Flags::TRANSACTIONAL) && entry.count > 0 => _ = first.get_or_insert(at),
            _ => {}
        })?;
        Ok(first.unwrap_or(marker))
    }
}

fn parse_line(line: &str) -> Option<Aborted> {
    let (producer_id, rest) = line.strip_prefix("producer:")?.split_once(" first:")?;
    let (first, marker) = rest.split_once(" marker:")?;
    let (first, marker) = (first.parse().ok()?, marker.parse().ok()?);
    (first < marker).then_some(Aborted { producer_id: producer_id.parse().ok()?, first, marker })
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

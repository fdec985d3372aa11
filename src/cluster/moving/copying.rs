//! The copy itself: windows of records are noted, sent, and waited for.
//!
//! ```text
//! source ──► Reading ──► window ──► note its plan ──► Sending ──► all stored ──► next window
//! ```
//!
//! While a window is written the source's client reads ahead. What is held of records is one window, and what is read ahead.

use super::{
    Counted, Told, Until,
    notes::{Note, Plan},
    progress::Progress,
    reading::{Read, Reading},
    resume::Pair,
    sending::{Destination, Outgoing, Sending},
    sides::Side,
};
use crate::broker::Result;
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::Acquire},
    time::{Duration, Instant},
};

/// A window is no larger.
const RECORDS_MAX: usize = 100_000;
const BYTES_MAX: usize = 16 << 20;
/// What a record counts for beside its bytes.
const RECORD_BYTES: usize = 128;
/// How long others may join the first record of a window.
const GATHERS: Duration = Duration::from_millis(10);
/// How often it is looked whether the move is to end, and told how far it is.
const LOOKS: Duration = Duration::from_millis(100);
const TELLS: Duration = Duration::from_secs(1);
/// How long nothing may come of what is known to be there.
const SILENCE: Duration = Duration::from_secs(60);
/// How often it is looked for other topics, and groups are committed, while it follows.
const REFRESHES: Duration = Duration::from_secs(5);

/// A copy of these partitions.
pub(super) struct Copying<'s> {
    source: &'s Side,
    progress: &'s Progress<'s>,
    pairs: &'s [Pair],
    /// What is at the target of each.
    pub(super) notes: Vec<Note>,
    /// Up to where each has been read.
    read: Vec<i64>,
    /// Whether nothing more was there when it was last read.
    at_end: Vec<bool>,
    /// Where the source ended when that was last asked.
    ends: Vec<i64>,
    /// When something has come last, or there was nothing to come.
    heard: Instant,
    /// Its messages go before the client that has read them.
    window: Window,
    reading: Reading<'s>,
    sending: Sending<'s>,
    counted: &'s mut Counted,
}

/// Records that are written together.
#[derive(Default)]
struct Window {
    records: Vec<Outgoing>,
    bytes: usize,
    /// The source's offsets of each partition's.
    plans: BTreeMap<usize, Plan>,
    /// One of them takes no more.
    is_full: bool,
}

/// Why a copy has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All is there.
    CaughtUp,
    Interrupted,
    /// The time has come to look after groups and topics; it goes on.
    Refresh,
}

impl<'s> Copying<'s> {
    pub(super) fn begin(
        source: &'s Side,
        progress: &'s Progress<'s>,
        pairs: &'s [Pair],
        notes: Vec<Note>,
        sending: Sending<'s>,
        counted: &'s mut Counted,
    ) -> Result<Copying<'s>> {
        let mut reading = Reading::open(source)?;
        let places: Vec<_> =
            pairs.iter().zip(&notes).map(|(pair, note)| (&*pair.from.0, pair.from.1, note.next)).collect();
        reading.assign(&places)?;
        let read = notes.iter().map(|note| note.next).collect();
        let (at_end, window) = (vec![false; pairs.len()], Window::default());
        let mut copying = Copying {
            source,
            progress,
            pairs,
            notes,
            read,
            at_end,
            ends: Vec::new(),
            heard: Instant::now(),
            reading,
            sending,
            window,
            counted,
        };
        copying.look()?;
        Ok(copying)
    }

    /// Copies until that point, or until it has been told to end, or to be looked after.
    pub(super) fn run(&mut self, until: Until, is_over: &AtomicBool, tell: &mut dyn FnMut(Told<'_>)) -> Result<Ended> {
        let (begun, mut told) = (Instant::now(), Instant::now());
        loop {
            let before = self.counted.records;
            if self.gather()? {
                self.write()?;
                self.heard = Instant::now();
            } else if self.left() == 0 {
                self.heard = Instant::now();
            }
            if told.elapsed() > TELLS || before == 0 && self.counted.records > 0 {
                told = Instant::now();
                if until != Until::Copied {
                    self.look()?;
                }
                tell(Told::Progress { counted: self.counted, left: self.left() });
            }
            if is_over.load(Acquire) {
                return self.end(Ended::Interrupted);
            }
            if self.left() == 0 && self.at_end.iter().all(|at_end| *at_end) && until == Until::Equal {
                self.look()?;
            }
            if self.left() == 0 && until != Until::Interrupted {
                return self.end(Ended::CaughtUp);
            }
            if self.heard.elapsed() > SILENCE {
                return Err(self.source.silent());
            }
            if until != Until::Copied && begun.elapsed() > REFRESHES {
                return self.end(Ended::Refresh);
            }
        }
    }

    /// How many offsets of the source are still to be copied, as far as is known.
    pub(super) fn left(&self) -> i64 {
        self.notes.iter().zip(&self.ends).map(|(note, end)| (end - note.next).max(0)).sum()
    }

    /// Asks where the source ends.
    fn look(&mut self) -> Result<()> {
        let places: Vec<_> = self.pairs.iter().map(|pair| pair.from.clone()).collect();
        self.ends = self.source.ends(&places)?.into_iter().map(|ends| ends.end).collect();
        Ok(())
    }

    /// Takes what has come into the window; whether anything has.
    fn gather(&mut self) -> Result<bool> {
        let (mut has_come, mut until) = (false, Instant::now() + LOOKS);
        while !self.window.is_full() {
            let Some(read) = self.reading.next(until.saturating_duration_since(Instant::now()))? else { break };
            has_come = true;
            match read {
                Read::Record(number, message) => {
                    // What was read twice, after a position was sought.
                    if message.offset() < self.read[number] {
                        continue;
                    }
                    if self.window.records.is_empty() {
                        until = Instant::now() + GATHERS;
                    }
                    (self.read[number], self.at_end[number]) = (message.offset() + 1, false);
                    self.counted.of_time_0 += u64::from(message.time().ms == 0);
                    self.window.push(number, message);
                }
                Read::End(number, offset) => {
                    (self.read[number], self.at_end[number]) = (offset.max(self.read[number]), true);
                    if self.window.records.is_empty() {
                        break;
                    }
                }
            }
        }
        Ok(has_come)
    }

    /// Writes the window.
    fn write(&mut self) -> Result<()> {
        let window = std::mem::take(&mut self.window);
        if !window.records.is_empty() {
            let numbers: Vec<usize> = window.plans.keys().copied().collect();
            for (number, plan) in window.plans {
                self.notes[number].plan = plan;
            }
            self.progress.write(numbers.iter().map(|number| (&self.pairs[*number].to, &self.notes[*number])))?;
            let (pairs, notes) = (self.pairs, &self.notes);
            let destination = |number: usize| Destination {
                topic: &pairs[number].to.0,
                partition: pairs[number].to.1,
                end: notes[number].end,
            };
            self.sending.write(&window.records, destination)?;
            for number in numbers {
                let note = std::mem::take(&mut self.notes[number]);
                let count = note.plan.count();
                self.notes[number] = note.written(count);
            }
            self.counted.records += window.records.len() as u64;
            self.counted.bytes += window.bytes as u64;
        }
        for (note, read) in self.notes.iter_mut().zip(&self.read) {
            note.next = note.next.max(*read);
        }
        Ok(())
    }

    /// Notes how far it has come.
    fn end(&mut self, ended: Ended) -> Result<Ended> {
        self.progress.write(self.pairs.iter().map(|pair| &pair.to).zip(&self.notes))?;
        Ok(ended)
    }
}

impl Window {
    fn is_full(&self) -> bool {
        self.is_full || self.bytes >= BYTES_MAX || self.records.len() >= RECORDS_MAX
    }

    fn push(&mut self, number: usize, message: super::super::native::Message) {
        let size = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        self.bytes += size(message.key()) + size(message.value()) + RECORD_BYTES;
        let plan = self.plans.entry(number).or_default();
        plan.push(message.offset());
        self.is_full |= plan.is_full();
        self.records.push(Outgoing { number, message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::Fixture;

    #[test]
    fn what_is_read_twice_is_taken_once() {
        let (from, to) = (Fixture::new(), Fixture::new());
        from.broker.create_topic("t", 1).unwrap();
        from.produce("t", 0, &["a", "b", "c"]);
        let side = |name, of: &Fixture| Side::open(name, &of.options()).unwrap();
        let (source, target) = (side("source", &from), side("target", &to));
        let (progress, mut counted) = (Progress::of("id", &target), Counted::default());
        let pairs = [Pair { from: ("t".into(), 0), to: ("t".into(), 0), id: None }];
        let sending = Sending::open(&target, 1 << 20).unwrap();
        let mut copying =
            Copying::begin(&source, &progress, &pairs, vec![Note::default()], sending, &mut counted).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let gather_to = |copying: &mut Copying<'_>, end| {
            while copying.read[0] < end {
                assert!(Instant::now() < deadline);
                copying.gather().unwrap();
            }
        };
        gather_to(&mut copying, 3);
        copying.reading.assign(&[("t", 0, 0)]).unwrap();
        from.produce("t", 0, &["d"]);
        gather_to(&mut copying, 4);
        let offsets: Vec<_> = copying.window.records.iter().map(|one| one.message.offset()).collect();
        assert_eq!(offsets, [0, 1, 2, 3]);
    }
}

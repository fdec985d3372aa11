//! What a move notes of a partition at its target: how far it has come, what it is writing now, and where offsets differ.
//!
//! It is the offset that the move's group commits, and the metadata beside it, for example
//! `end=480 of=8KByvM2WQhG9Wb3bA7BXFQ plan=0+100,5+3 map=0:0,500:480`:
//!
//! - The committed offset is the next one of the source. What stands before it is at the target.
//! - `end`: where the target's partition ended then.
//! - `of`: the id of the source's topic, as Kafka prints it, unless the source does not tell ids, or nobody noted them yet. A topic
//!   that was made anew is another one, and so is what was moved to the same name before.
//! - `plan`: the source's offsets of the records that are written behind `end` next, as runs: so many offsets are skipped, so many
//!   follow without a hole. It is noted before the first of them is sent. How many of them are at the target is its end less
//!   `end`, so that whoever goes on knows where, whatever has been removed from either side since.
//! - `map`: from where on which offset of the source has which at the target.

use super::{
    map::{Map, numbers},
    sides::Id,
};
use crate::broker::random;
use std::fmt::Write;

/// As long may a plan be, in bytes. Kafka's `offset.metadata.max.bytes` is 4096 unless it was changed.
const PLAN_BYTES: usize = 1800;

/// What is noted of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// The source's offset that is copied next.
    pub(super) next: i64,
    /// The target's end at that point.
    pub(super) end: i64,
    /// The id of the source's topic, if it is known.
    pub(super) of: Option<Id>,
    /// What is written behind it.
    pub(super) plan: Plan,
    /// Offsets up to that point.
    pub(super) map: Map,
}

/// Offsets of the source in order, as runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    runs: Vec<Run>,
    /// How many bytes the runs but for the last have as text, at most.
    bytes: usize,
}

/// Offsets in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: i64,
    pub(super) count: i64,
}

impl Run {
    fn end(self) -> i64 {
        self.first + self.count
    }
}

impl Plan {
    /// Adds an offset, which is above those that are there.
    pub(super) fn push(&mut self, offset: i64) {
        match self.runs.last_mut() {
            Some(run) if run.end() == offset => run.count += 1,
            last => {
                // As long as the text of this run can get.
                let skipped = last.map_or(offset, |run| offset - run.end());
                self.bytes += digits(skipped) + 8;
                self.runs.push(Run { first: offset, count: 1 });
            }
        }
    }

    /// Whether it takes no more runs.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > PLAN_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many offsets there are.
    pub(super) fn count(&self) -> i64 {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// The first `count` of them.
    pub(super) fn first(&self, count: i64) -> Plan {
        let (mut left, mut first) = (count, Plan { bytes: self.bytes, ..Plan::default() });
        for run in &self.runs {
            if left > 0 {
                first.runs.push(Run { count: run.count.min(left), ..*run });
                left -= run.count;
            }
        }
        first
    }

    /// The offset behind the last.
    pub(super) fn end(&self) -> Option<i64> {
        self.runs.last().map(|run| run.end())
    }

    /// The offset with this index.
    pub(super) fn nth(&self, mut index: i64) -> Option<i64> {
        for run in &self.runs {
            if index < run.count {
                return Some(run.first + index);
            }
            index -= run.count;
        }
        None
    }
}

impl Note {
    /// The metadata. The offset stands beside it.
    pub(super) fn metadata(&self) -> String {
        let mut text = format!("end={}", self.end);
        if let Some(id) = &self.of {
            write!(text, " of={}", random::shown(id)).expect("a string takes it");
        }
        let mut from = self.next;
        for (index, run) in self.plan.runs.iter().enumerate() {
            let before = if index == 0 { " plan=" } else { "," };
            write!(text, "{before}{}+{}", run.first - from, run.count).expect("a string takes it");
            from = run.end();
        }
        if !self.map.is_empty() {
            write!(text, " map={}", self.map.text()).expect("a string takes it");
        }
        text
    }

    /// What was noted; `None`: no move has written this.
    pub(super) fn read(next: i64, metadata: &str) -> Option<Note> {
        let mut words = metadata.split(' ');
        let end = words.next()?.strip_prefix("end=")?.parse().ok().filter(|end| *end >= 0)?;
        let mut note = Note { next, end, ..Note::default() };
        for word in words {
            match word.split_once('=')? {
                ("of", id) => note.of = Some(random::parse(id)?),
                ("plan", runs) => {
                    let mut from = next;
                    for run in runs.split(',') {
                        let (skipped, count) = numbers(run, '+')?;
                        let first = from.checked_add(skipped).filter(|_| skipped >= 0 && count > 0)?;
                        from = first.checked_add(count)?;
                        note.plan.runs.push(Run { first, count });
                    }
                }
                ("map", map) => note.map = Map::read(map)?,
                _ => return None,
            }
        }
        Some(note)
    }

    /// Whether it may be about the topic with this id, as far as both are known.
    pub(super) fn is_of(&self, id: Option<Id>) -> bool {
        self.of.zip(id).is_none_or(|(noted, told)| noted == told)
    }

    /// What is noted when the first `count` records of the plan are at the target.
    pub(super) fn written(mut self, count: i64) -> Note {
        let plan = std::mem::take(&mut self.plan).first(count);
        for run in &plan.runs {
            self.map.push(run.first, self.end, run.count);
            self.end += run.count;
        }
        self.next = plan.end().unwrap_or(self.next);
        self
    }
}

fn digits(number: i64) -> usize {
    number.checked_ilog10().map_or(1, |digits| digits as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(offsets: impl IntoIterator<Item = i64>) -> Plan {
        let mut plan = Plan::default();
        offsets.into_iter().for_each(|offset| plan.push(offset));
        plan
    }

    #[test]
    fn what_is_noted_is_read_as_it_was() {
        let note = Note { next: 7, end: 3, plan: plan([7, 8, 9, 15, 17, 18]), ..Note::default() };
        assert_eq!(note.metadata(), "end=3 plan=0+3,5+1,1+2");
        assert!(note.is_of(None) && note.is_of(Some([1; 16])), "a note of before is about any");
        let read = Note::read(7, &note.metadata()).unwrap();
        assert_eq!(read.plan.runs, note.plan.runs);
        let written = read.written(4);
        assert_eq!((written.next, written.end), (16, 7));
        assert_eq!(written.metadata(), "end=7 map=7:3,8:3");
        assert_eq!(Note::read(16, &written.metadata()), Some(written.clone()));
        let of = Note { of: Some([1; 16]), ..written };
        assert_eq!(of.metadata(), "end=7 of=AQEBAQEBAQEBAQEBAQEBAQ map=7:3,8:3");
        assert_eq!(Note::read(16, &of.metadata()).as_ref(), Some(&of));
        assert!(of.is_of(None) && of.is_of(Some([1; 16])) && !of.is_of(Some([2; 16])));
    }

    #[test]
    fn what_no_move_has_written_is_none() {
        for text in [
            "",
            "end",
            "end=",
            "end=-1",
            "end=1 x",
            "end=1 plan=1",
            "end=1 plan=0+0",
            "end=1 plan=-1+2",
            "end=1 y=1",
            "end=1 of=x",
        ] {
            assert_eq!(Note::read(5, text), None, "{text}");
        }
        assert_eq!(Note::read(i64::MAX, "end=1 plan=1+1"), None);
    }

    #[test]
    fn a_plan_is_full_before_it_is_too_long_for_kafka() {
        let mut plan = Plan::default();
        let mut offset = 1 << 60;
        while !plan.is_full() {
            plan.push(offset);
            offset += 2;
        }
        let note = Note { next: 0, end: i64::MAX, of: Some([0xff; 16]), plan, map: Map::full() };
        assert!(note.metadata().len() < 4096, "{}", note.metadata().len());
    }

    #[test]
    fn each_offset_of_a_plan_has_an_index() {
        let plan = plan([1, 2, 5]);
        assert_eq!([plan.nth(0), plan.nth(1), plan.nth(2), plan.nth(3)], [Some(1), Some(2), Some(5), None]);
        assert_eq!((plan.count(), plan.end()), (3, Some(6)));
        assert_eq!(plan.first(2).runs, [Run { first: 1, count: 2 }]);
    }
}

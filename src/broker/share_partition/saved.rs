//! What the log has of a [`SharePartition`].
//!
//! ```text
//! start:17 epoch:3 acked:19-22,25 counts:18=2,23=1
//! ```
//!
//! `epoch` is the partition's leader epoch: should its records be cut off later, what was acknowledged of them counts no more.
//! Up to the start, and in the ranges of `acked`, everything is done. `counts` says how often others were handed out: an
//! acquisition that runs is not counted, so that a crash forgets it and no more. A start of -1 is where the group's settings say.
//!
//! A line comes from the disk, where anything may stand: what the state machine would not have come to is refused.

use super::{Batch, SharePartition, State};
use crate::broker::words::{Words, push, push_number};
use crate::log::record::{parse_u63, write_u64};
use std::ops::Range;

/// How many ranges and counts a line may have: more than the machine ever has between its start and its end.
const SPANS_MAX: usize = 16 << 10;
/// How often a record can be handed out: more than `share.delivery.count.limit` takes.
const DELIVERIES_MAX: u32 = 1000;

/// A share partition as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedShare {
    /// Everything below is done. `None`: nobody has read yet.
    pub start: Option<u64>,
    /// The leader epoch of the partition when this was written.
    pub leader_epoch: u32,
    /// What is done beyond the start, in order.
    pub done: Vec<Range<u64>>,
    /// What was handed out before, in order.
    pub counts: Vec<Count>,
}

/// How often records were handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Their offsets.
    pub offsets: Range<u64>,
    /// How often, at least once.
    pub deliveries: u32,
}

impl SavedShare {
    /// One that nobody has read from.
    pub fn unread(leader_epoch: u32) -> SavedShare {
        SavedShare { start: None, leader_epoch, done: vec![], counts: vec![] }
    }

    /// One that begins at an offset.
    pub fn at(start: u64, leader_epoch: u32) -> SavedShare {
        SavedShare { start: Some(start), ..SavedShare::unread(leader_epoch) }
    }

    /// How many records are done beyond the start.
    pub fn done_count(&self) -> u64 {
        self.done.iter().map(|done| done.end - done.start).sum()
    }

    /// How many of them follow one another from the start on: a restart begins behind them.
    pub fn done_at_start(&self) -> u64 {
        let first = self.done.first().filter(|first| Some(first.start) == self.start);
        first.map_or(0, |first| first.end - first.start)
    }

    /// The line.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        match self.start {
            Some(start) => push_number(&mut line, "start:", start),
            None => push(&mut line, "start:", b"-1"),
        }
        push_number(&mut line, "epoch:", self.leader_epoch.into());
        let mut list = |name: &str, parts: &mut dyn Iterator<Item = (&Range<u64>, Option<u32>)>| {
            for (index, (offsets, deliveries)) in parts.enumerate() {
                if index > 0 {
                    line.push(b',');
                } else {
                    push(&mut line, name, b"");
                }
                write_u64(&mut line, offsets.start);
                if offsets.end - offsets.start > 1 {
                    line.push(b'-');
                    write_u64(&mut line, offsets.end - 1);
                }
                if let Some(deliveries) = deliveries {
                    line.push(b'=');
                    write_u64(&mut line, deliveries.into());
                }
            }
        };
        list("acked:", &mut self.done.iter().map(|offsets| (offsets, None)));
        list("counts:", &mut self.counts.iter().map(|count| (&count.offsets, Some(count.deliveries))));
        line
    }

    /// What a line says; `None`: it is none.
    pub fn parse(line: &[u8]) -> Option<SavedShare> {
        let mut words = Words::of(line)?;
        let start = match words.word("start:")? {
            "-1" => None,
            start => Some(parse_u63(start.as_bytes())?),
        };
        let leader_epoch = u32::try_from(words.number("epoch:")?).ok()?;
        let (done, counts) = (words.list("acked:"), words.list("counts:"));
        if !words.are_over() || done.len() + counts.len() > SPANS_MAX {
            return None;
        }
        let done = done.into_iter().map(range).collect::<Option<Vec<_>>>()?;
        let counts = counts.into_iter().map(count).collect::<Option<Vec<_>>>()?;
        let saved = SavedShare { start, leader_epoch, done, counts };
        saved.is_sound().then_some(saved)
    }

    /// Whether all stands behind the start, in order, and no offset in both lists.
    fn is_sound(&self) -> bool {
        let mut all: Vec<_> = self.done.iter().chain(self.counts.iter().map(|count| &count.offsets)).collect();
        let in_order = |ranges: &[&Range<u64>]| ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
        let (done, counts) = all.split_at(self.done.len());
        if !in_order(done) || !in_order(counts) {
            return false;
        }
        all.sort_by_key(|offsets| offsets.start);
        let starts = match self.start {
            Some(start) => all.first().is_none_or(|first| first.start >= start),
            None => all.is_empty(),
        };
        starts && in_order(&all)
    }
}

/// `19-22`, or `25`.
fn range(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_u63(first.as_bytes())?, parse_u63(last.as_bytes())?);
    (first <= last).then(|| first..last + 1)
}

/// `18=2`, or `18-20=2`.
fn count(text: &str) -> Option<Count> {
    let (offsets, deliveries) = text.split_once('=')?;
    let deliveries = u32::try_from(parse_u63(deliveries.as_bytes())?).ok()?;
    let deliveries = Some(deliveries).filter(|deliveries| (1..=DELIVERIES_MAX).contains(deliveries))?;
    Some(Count { offsets: range(offsets)?, deliveries })
}

impl SharePartition {
    /// What a restart must find.
    pub fn saved(&self, leader_epoch: u32) -> SavedShare {
        let mut saved = SavedShare::at(self.start, leader_epoch);
        for (&first, span) in &self.spans {
            let offsets = first..span.end;
            let deliveries = match span.state {
                State::Done => {
                    saved.done.push(offsets);
                    continue;
                }
                State::Available | State::Dead { .. } => span.deliveries,
                State::Acquired { .. } => span.deliveries - 1,
            };
            match saved.counts.last_mut() {
                _ if deliveries == 0 => {}
                Some(last) if last.offsets.end == first && last.deliveries == deliveries => last.offsets.end = span.end,
                _ => saved.counts.push(Count { offsets, deliveries }),
            }
        }
        saved
    }

    /// What was saved: nobody has acquired anything. `None`: nobody has read yet.
    pub fn restore(saved: &SavedShare) -> Option<SharePartition> {
        let mut partition = SharePartition::new(saved.start?);
        let done = saved.done.iter().map(|offsets| (offsets, 0));
        let counts = saved.counts.iter().map(|count| (&count.offsets, count.deliveries));
        let mut all: Vec<_> = done.chain(counts).collect();
        all.sort_by_key(|(offsets, _)| offsets.start);
        for (offsets, deliveries) in all {
            let batch = |offsets: &Range<u64>| Batch { first: offsets.start, records: offsets.end - offsets.start };
            let between = partition.next..offsets.start;
            partition.append(between.end, State::Available, 0, batch(&between));
            let state = if deliveries > 0 { State::Available } else { State::Done };
            partition.append(offsets.end, state, deliveries, batch(offsets));
        }
        partition.advance();
        Some(partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_partition_is_a_readable_line() {
        let line = "start:17 epoch:3 acked:19-22,25 counts:18=2,23-24=1";
        let saved = SavedShare::parse(line.as_bytes()).unwrap();
        assert_eq!((saved.start, saved.leader_epoch, saved.done_count()), (Some(17), 3, 5));
        assert_eq!(String::from_utf8(saved.to_line()).unwrap(), line);
        let restored = SharePartition::restore(&saved).unwrap();
        assert_eq!((restored.start(), restored.next()), (17, 26));
        assert_eq!(restored.saved(3), saved);
        for line in ["start:-1 epoch:0", "start:5 epoch:0", "start:5 epoch:1 counts:5=1", "start:5 epoch:1 acked:7"] {
            assert_eq!(SavedShare::parse(line.as_bytes()).unwrap().to_line(), line.as_bytes());
        }
    }

    #[test]
    fn what_no_share_partition_comes_to_is_no_line_of_one() {
        for bad in [
            "",
            "start:17",
            "start:-2 epoch:0",
            "start:x epoch:0",
            "start:1 epoch:4294967296",
            "start:1 epoch:-1",
            "start:1 epoch:0 acked:",
            "start:1 epoch:0 acked:0",
            "start:1 epoch:0 acked:3-2",
            "start:1 epoch:0 acked:3,3",
            "start:1 epoch:0 acked:5,3",
            "start:1 epoch:0 acked:3-5 counts:4=1",
            "start:1 epoch:0 counts:4=0",
            "start:1 epoch:0 counts:4",
            "start:1 epoch:0 counts:4=1 acked:3",
            "start:1 epoch:0 counts:4=4294967296",
            "start:1 epoch:0 counts:4=1001",
            "start:1 epoch:0 acked:9223372036854775808",
            "start:-1 epoch:0 acked:3",
            "start:1  epoch:0",
        ] {
            assert_eq!(SavedShare::parse(bad.as_bytes()), None, "{bad}");
        }
        let many = (0..SPANS_MAX as u64 + 1).map(|at| (2 * at).to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(SavedShare::parse(format!("start:0 epoch:0 acked:{many}").as_bytes()), None);
    }
}

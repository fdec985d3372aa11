//! Both sides read side by side, record by record.
//!
//! The map of offsets tells which record of the target is which of the source. What retention, compaction or TRIM have removed from
//! one side is no difference, and is counted.

use super::{
    super::native::Message,
    Told,
    map::{Map, Translated},
    notes::Note,
    reading::{Read, Reading},
    resume::{self, Pair},
    sides::{Ends, Place, Side},
    topics::{self, Topic},
};
use crate::broker::{Code, Error, Result};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicBool, Ordering::Acquire},
    time::{Duration, Instant},
};

/// As many differences are told one by one.
const DIFFERENCES_MAX: usize = 100;
/// How long a side may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// How often it is told how far it is.
const TELLS: Duration = Duration::from_secs(1);

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Partitions that were compared.
    pub partitions: usize,
    /// Records that are the same.
    pub same: u64,
    /// Records that only the target has still.
    pub only_at_target: u64,
    /// Records that only the source has still, since the target's retention or compaction took them.
    pub only_at_source: u64,
    /// Records that are not as they should be.
    pub differing: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// It was told to end before all was compared.
    pub is_interrupted: bool,
}

/// A record that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its topic at the source.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Its offset at the source, unless only the target has it.
    pub source_offset: Option<i64>,
    /// Its offset at the target, unless only the source has it.
    pub target_offset: Option<i64>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} partition {}: ", self.topic, self.partition)?;
        match (self.source_offset, self.target_offset) {
            (Some(source), Some(target)) => {
                write!(f, "offset {source} of the source is not offset {target} of the target")
            }
            (Some(source), None) => write!(f, "offset {source} of the source is missing at the target"),
            (None, target) => write!(f, "offset {} of the target is not of the source", target.unwrap_or_default()),
        }
    }
}

/// Compares topics.
pub(super) fn compare(
    source: &Side,
    target: &Side,
    topics: &[Topic],
    noted: &HashMap<Place, Note>,
    is_over: &AtomicBool,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Compared> {
    let there = target.topics()?;
    if let Some(missing) = topics.iter().find(|topic| there.get(&topic.to).is_none_or(|have| *have < topic.partitions))
    {
        let why = format!("the target does not have all partitions of topic '{}'; it has not been moved", missing.to);
        return Err(Error::OfCluster { code: Code::UnknownTopicOrPartition, why });
    }
    let compacted = topics::compacted(target, topics)?;
    let pairs = resume::pairs(topics);
    let places = |side: fn(&Pair) -> &Place| pairs.iter().map(|pair| side(pair).clone()).collect::<Vec<_>>();
    let source_ends = source.ends(&places(|pair| &pair.from))?;
    let target_ends = target.ends(&places(|pair| &pair.to))?;
    let (mut from, mut to) = (Reading::open(source)?, Reading::open(target)?);
    let mut compared = Compared::default();
    let mut told = Instant::now();
    for ((pair, source_ends), target_ends) in pairs.iter().zip(source_ends).zip(target_ends) {
        let note = noted.get(&pair.to).filter(|note| note.is_of(pair.id)).cloned().unwrap_or_else(|| Note {
            next: source_ends.end,
            end: target_ends.end,
            map: Map::unknown(source_ends.first, target_ends.first),
            ..Note::default()
        });
        let written = (target_ends.end - note.end).clamp(0, note.plan.count());
        let note = note.written(written);
        let (source_first, target_first) = (source_ends.first, first_at_target(&note, source_ends, target_ends));
        let mut comparison = Comparison {
            pair,
            note: &note,
            target_first: target_ends.first,
            is_compacted: compacted.contains(&pair.to.0),
            from: Stream::open(&mut from, source, &pair.from, source_first, source_ends.end)?,
            to: Stream::open(&mut to, target, &pair.to, target_first, target_ends.end)?,
            compared: &mut compared,
        };
        let mut is_whole = false;
        while !is_over.load(Acquire) {
            is_whole = !comparison.step()?;
            if is_whole {
                break;
            }
            if told.elapsed() > TELLS {
                told = Instant::now();
                tell(Told::Compared { same: comparison.compared.same });
            }
        }
        if !is_whole {
            compared.is_interrupted = true;
            break;
        }
        comparison.end()?;
        compared.partitions += 1;
    }
    Ok(compared)
}

/// The first offset of the target at which something of the source can stand.
fn first_at_target(note: &Note, source: Ends, target: Ends) -> i64 {
    let first = match note.map.translate(source.first) {
        Some(Translated::At(at)) => at,
        Some(Translated::Within { since, .. }) => since.to,
        None => target.first,
    };
    first.clamp(target.first, target.end)
}

struct Comparison<'c, 's> {
    pair: &'c Pair,
    note: &'c Note,
    target_first: i64,
    is_compacted: bool,
    from: Stream<'c, 's>,
    to: Stream<'c, 's>,
    compared: &'c mut Compared,
}

impl Comparison<'_, '_> {
    /// Looks for the next record of the source; whether there was one.
    fn step(&mut self) -> Result<bool> {
        let Some(record) = self.from.next()? else { return Ok(false) };
        let offset = record.offset();
        if offset >= self.note.next {
            self.differ(Some(offset), None);
            return Ok(true);
        }
        let (least, most) = match self.note.map.translate(offset) {
            Some(Translated::At(at)) => (at, at),
            Some(Translated::Within { since, before }) => (since.to, before.unwrap_or(self.note.end) - 1),
            None => (self.note.end, self.note.end),
        };
        while self.to.peek()?.is_some_and(|found| found.offset() < least) {
            self.to.next()?;
            self.compared.only_at_target += 1;
        }
        let mut differing = None;
        // Where offsets do not tell which one it is, it is the first that is the same.
        while let Some(found) = self.to.peek()?.filter(|found| found.offset() <= most) {
            let (is_same, at) = (is_same(&record, found), found.offset());
            self.to.next()?;
            if is_same {
                self.compared.same += 1;
                self.compared.only_at_target += u64::from(differing.is_some());
                return Ok(true);
            }
            differing = Some(at);
        }
        match differing {
            None if least <= most && most < self.target_first || self.is_compacted => self.compared.only_at_source += 1,
            at => self.differ(Some(offset), at),
        }
        Ok(true)
    }

    /// What the target has beyond that.
    fn end(&mut self) -> Result<()> {
        while let Some(found) = self.to.next()? {
            match found.offset() < self.note.end {
                true => self.compared.only_at_target += 1,
                false => self.differ(None, Some(found.offset())),
            }
        }
        Ok(())
    }

    fn differ(&mut self, source_offset: Option<i64>, target_offset: Option<i64>) {
        self.compared.differing += 1;
        if self.compared.differences.len() < DIFFERENCES_MAX {
            let (topic, partition) = self.pair.from.clone();
            self.compared.differences.push(Difference { topic, partition, source_offset, target_offset });
        }
    }
}

/// Whether they are the same, wherever they stand. A target that stamps records itself has other times.
fn is_same(one: &Message, other: &Message) -> bool {
    let is_stamped = other.time().of_append && !one.time().of_append;
    one.key() == other.key()
        && one.value() == other.value()
        && (is_stamped || one.time().ms.max(1) == other.time().ms.max(1))
        && headers(one) == headers(other)
}

fn headers(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.headers(|name, value| (name, value).hash(&mut hasher));
    hasher.finish()
}

/// The records of one partition.
struct Stream<'r, 's> {
    reading: &'r mut Reading<'s>,
    side: &'s Side,
    peeked: VecDeque<Message>,
    end: i64,
    is_over: bool,
}

impl<'r, 's> Stream<'r, 's> {
    fn open(
        reading: &'r mut Reading<'s>,
        side: &'s Side,
        place: &Place,
        first: i64,
        end: i64,
    ) -> Result<Stream<'r, 's>> {
        let is_over = first >= end;
        if !is_over {
            reading.assign(&[(&place.0, place.1, first)])?;
        }
        Ok(Stream { reading, side, peeked: VecDeque::new(), end, is_over })
    }

    fn peek(&mut self) -> Result<Option<&Message>> {
        if self.peeked.is_empty() {
            let next = self.read()?;
            self.peeked.extend(next);
        }
        Ok(self.peeked.front())
    }

    fn next(&mut self) -> Result<Option<Message>> {
        match self.peeked.pop_front() {
            Some(next) => Ok(Some(next)),
            None => self.read(),
        }
    }

    fn read(&mut self) -> Result<Option<Message>> {
        let begun = Instant::now();
        while !self.is_over {
            match self.reading.next(Duration::from_millis(100))? {
                None if begun.elapsed() > SILENCE => return Err(self.side.silent()),
                None => {}
                Some(Read::End(_, offset)) => self.is_over = offset >= self.end,
                Some(Read::Record(_, message)) => {
                    self.is_over = message.offset() + 1 >= self.end;
                    if message.offset() < self.end {
                        return Ok(Some(message));
                    }
                }
            }
        }
        Ok(None)
    }
}

//! What idempotent producers have written to a partition (KIP-98): a batch that is sent twice is stored once, and never before
//! a batch that its producer sent earlier.
//!
//! ```text
//! producer 1000 epoch 0   last batches   sequence 0-1 at offset 0 │ 2-2 at 2 │ 3-3 at 3      at most five
//!                         next           sequence 4
//! ```
//!
//! - A batch with the next sequence is new. One of the last five is a duplicate and gets its old offset. Any other is out of
//!   order and refused.
//! - A newer epoch begins at sequence 0; an older one is fenced.
//! - A producer that is not known (any more) may begin at any sequence, as in Kafka.
//! - But if a batch was refused in a way that lets its client send it again, because the disk was full for instance, that
//!   batch must come first. The client has more batches in flight. If one of those were taken as the beginning, the refused
//!   batch could never be stored, and librdkafka would take it for a duplicate and report it delivered. The bar ends when
//!   the batch is stored, with a higher epoch, or when the producer is forgotten. It does not outlast a restart, which ends
//!   all connections: clients then send the refused batch again before anything later.
//! - Sequences wrap around after 2^31-1.
//! - Producers that were silent for a day are forgotten. When there are too many, those that were silent longest go first,
//!   down to [`PRODUCERS_MAX`]. Silence is measured by the broker's clock, since records may be dated years ago.
//!
//! Each roll writes the state at the new segment's start to a file beside it, even if it is empty. What came later follows
//! from the segment's entries. If the file is missing or damaged, an earlier one or all entries tell the same.
//!
//! ```text
//! producer:1000 epoch:0 batch:0-1@0 timestamp:1700000000000 appended:1764180000000
//! producer:1000 epoch:0 batch:2-2@2 timestamp:1700000000005 appended:1764180000007
//! ```
//!
//! An entry has the time of its records, not of its append. So a producer that is known from entries counts as heard from when
//! they are read: after a restart it may stay known for up to a day longer, but is not forgotten too soon.

use super::{Error, Result};
use crate::log::Numbering;
use std::collections::{HashMap, VecDeque};

/// How many batches of a producer are remembered: what a client may have on its way at once.
const BATCHES_KEPT: usize = 5;
/// A producer silent for a day is forgotten: Kafka's `producer.id.expiration.ms`.
pub(super) const EXPIRES_MS: i64 = 24 * 3600 * 1000;
/// Looking for silent producers happens once for this many new ones.
const NEW_BETWEEN_SWEEPS: usize = 1000;

/// How many producers stay known; older ones are forgotten when there are twice as many.
const PRODUCERS_MAX: usize = 50_000;
/// Bytes of a line at most: its words, and seven numbers of up to 20, 6, 10, 10, 20, 20 and 20.
const LINE_BYTES_MAX: u64 = 52 + 106;
/// Bytes of a file that [`Producers::to_lines`] may write.
pub(super) const FILE_BYTES_MAX: u64 = 2 * PRODUCERS_MAX as u64 * BATCHES_KEPT as u64 * LINE_BYTES_MAX;

/// A batch as its producer numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) numbering: Numbering,
    /// Records, less one.
    pub(super) last_delta: u32,
}

impl Numbered {
    fn id(&self) -> i64 {
        self.numbering.producer_id
    }

    fn epoch(&self) -> i16 {
        self.numbering.producer_epoch
    }

    fn base_sequence(&self) -> i32 {
        self.numbering.base_sequence
    }

    fn last_sequence(&self) -> i32 {
        ((i64::from(self.base_sequence()) + i64::from(self.last_delta)) & i64::from(i32::MAX)) as i32
    }
}

/// Where a batch was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// First offset.
    pub(super) first: u64,
    /// The batch's time, in ms: what a duplicate is answered with.
    pub(super) timestamp: i64,
    /// When it was appended, by the broker's clock, in ms.
    pub(super) appended_ms: i64,
}

/// A producer that wrote, or that tried to.
#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// The sequence that is next in this epoch.
    next: i32,
    /// The last that were stored, oldest first; none: the first one was refused and is awaited.
    batches: VecDeque<(Numbered, Stored)>,
    /// When it last had a batch stored or refused, in ms.
    heard_ms: i64,
}

/// The producers of one partition.
#[derive(Debug, Default)]
pub(super) struct Producers {
    known: HashMap<i64, Producer>,
    new: usize,
    /// Whether what the log tells is among them.
    loaded: bool,
}

impl Producers {
    /// What is to be done with a batch: `None`: it is new, or where it was stored before.
    pub(super) fn check(&mut self, batch: Numbered, now_ms: i64) -> Result<Option<Stored>> {
        let Some(producer) = self.known.get(&batch.id()) else { return Ok(None) };
        if producer.heard_ms < now_ms - EXPIRES_MS {
            self.known.remove(&batch.id());
            return Ok(None);
        }
        if batch.epoch() < producer.epoch {
            return Err(Error::ProducerEpoch(format!(
                "producer {} writes in epoch {}; its epoch is {}",
                batch.id(),
                batch.epoch(),
                producer.epoch
            )));
        }
        if let Some((_, stored)) = producer.batches.iter().find(|(known, _)| *known == batch) {
            return Ok(Some(*stored));
        }
        let newer = batch.epoch() > producer.epoch;
        let next = if newer { 0 } else { producer.next };
        if batch.base_sequence() == next || newer && producer.batches.is_empty() {
            return Ok(None);
        }
        Err(Error::Sequence(format!(
            "producer {} sends sequence {}; {next} is next",
            batch.id(),
            batch.base_sequence()
        )))
    }

    /// Remembers a batch that was stored. One that is known already changes nothing.
    pub(super) fn stored(&mut self, batch: Numbered, stored: Stored) {
        let producer = self.heard(batch, stored.appended_ms);
        if producer.batches.back().is_some_and(|(_, newest)| newest.first >= stored.first) {
            return;
        }
        if batch.epoch() >= producer.epoch {
            (producer.epoch, producer.next) = (batch.epoch(), batch.last_sequence().wrapping_add(1) & i32::MAX);
        }
        producer.batches.push_back((batch, stored));
        if producer.batches.len() > BATCHES_KEPT {
            producer.batches.pop_front();
        }
    }

    /// Remembers that a batch was refused which its client may send again: nothing is taken before it. Of a producer that
    /// wrote before, the next sequence says so already.
    pub(super) fn refused(&mut self, batch: Numbered, now_ms: i64) {
        let producer = self.heard(batch, now_ms);
        if producer.batches.is_empty() && batch.epoch() > producer.epoch {
            (producer.epoch, producer.next) = (batch.epoch(), batch.base_sequence());
        }
    }

    /// The producer of a batch. If it is not known, this batch is its next.
    fn heard(&mut self, batch: Numbered, now_ms: i64) -> &mut Producer {
        if !self.known.contains_key(&batch.id()) {
            self.new += 1;
            if self.new.is_multiple_of(NEW_BETWEEN_SWEEPS) {
                self.known.retain(|_, producer| producer.heard_ms >= now_ms - EXPIRES_MS);
            }
            if self.known.len() >= 2 * PRODUCERS_MAX {
                self.forget_most();
            }
        }
        let (epoch, next) = (batch.epoch(), batch.base_sequence());
        let unknown = || Producer { epoch, next, batches: VecDeque::new(), heard_ms: now_ms };
        let producer = self.known.entry(batch.id()).or_insert_with(unknown);
        producer.heard_ms = producer.heard_ms.max(now_ms);
        producer
    }

    fn forget_most(&mut self) {
        // Ids tell apart those that were heard from, or wrote, at the same time.
        let order = |id: &i64, producer: &Producer| {
            (producer.heard_ms, producer.batches.back().map_or(0, |(_, newest)| newest.first), *id)
        };
        let mut heard: Vec<_> = self.known.iter().map(|(id, producer)| order(id, producer)).collect();
        let (_, &mut first_kept, _) = heard.select_nth_unstable(self.known.len() - PRODUCERS_MAX);
        self.known.retain(|id, producer| order(id, producer) >= first_kept);
    }

    /// Whether what the log tells was [added](Self::load).
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Takes over what the log tells. Of those that it does not know, what is awaited stays so.
    pub(super) fn load(&mut self, found: Producers) {
        let awaited = std::mem::replace(self, Producers { loaded: true, ..found }).known;
        for (id, producer) in awaited {
            self.known.entry(id).or_insert(producer);
        }
    }

    /// The state as lines, as far as it was so before `offset`.
    pub(super) fn to_lines(&self, offset: u64) -> String {
        let batches = self.known.values().flat_map(|producer| &producer.batches);
        let line = |(batch, stored): &(Numbered, Stored)| {
            let Numbering { producer_id: id, producer_epoch: epoch, base_sequence } = batch.numbering;
            let (last, Stored { first, timestamp, appended_ms }) = (batch.last_sequence(), stored);
            let batch = format_args!("{base_sequence}-{last}@{first}");
            format!("producer:{id} epoch:{epoch} batch:{batch} timestamp:{timestamp} appended:{appended_ms}\n")
        };
        batches.filter(|(_, stored)| stored.first < offset).map(line).collect()
    }

    /// Reads lines back; `None`: they are not what [`to_lines`](Self::to_lines) writes.
    pub(super) fn from_lines(text: &str) -> Option<Producers> {
        let mut producers = Producers::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let mut field = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix(':');
            let (producer_id, producer_epoch) = (field("producer")?.parse().ok()?, field("epoch")?.parse().ok()?);
            let (sequences, first) = field("batch")?.split_once('@')?;
            let (base, last) = sequences.split_once('-')?;
            let (base_sequence, last): (i32, i32) = (base.parse().ok()?, last.parse().ok()?);
            let last_delta = ((i64::from(last) - i64::from(base_sequence)) & i64::from(i32::MAX)) as u32;
            let (first, timestamp) = (first.parse().ok()?, field("timestamp")?.parse().ok()?);
            let stored = Stored { first, timestamp, appended_ms: field("appended")?.parse().ok()? };
            let numbering = Numbering { producer_id, producer_epoch, base_sequence };
            producers.stored(Numbered { numbering, last_delta }, stored);
        }
        Some(producers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(producer_id: i64, producer_epoch: i16, base_sequence: i32, last_delta: u32) -> Numbered {
        Numbered { numbering: Numbering { producer_id, producer_epoch, base_sequence }, last_delta }
    }

    fn batch(epoch: i16, base_sequence: i32, count: u32) -> Numbered {
        numbered(7, epoch, base_sequence, count - 1)
    }

    /// A partition with nothing else in it.
    #[derive(Default)]
    struct Log(Producers, u64);

    impl Log {
        /// Offset of the batch, or what it is refused with.
        fn produce(&mut self, batch: Numbered) -> Result<u64> {
            if let Some(stored) = self.0.check(batch, 5)? {
                return Ok(stored.first);
            }
            self.0.stored(batch, Stored { first: self.1, timestamp: 3, appended_ms: 5 });
            self.1 += u64::from(batch.last_delta) + 1;
            Ok(self.1 - u64::from(batch.last_delta) - 1)
        }
    }

    #[test]
    fn the_last_five_batches_can_be_sent_again() {
        let mut log = Log::default();
        for (sequence, count, offset) in [(0, 2, 0), (2, 1, 2), (3, 1, 3), (4, 1, 4), (5, 1, 5)] {
            assert_eq!(log.produce(batch(0, sequence, count)), Ok(offset));
            assert_eq!(log.produce(batch(0, 0, 2)), Ok(0));
        }
        assert_eq!(log.produce(batch(0, 6, 3)), Ok(6));
        assert!(matches!(log.produce(batch(0, 0, 2)), Err(Error::Sequence(_))), "six batches ago");
        assert_eq!(log.produce(batch(0, 2, 1)), Ok(2));
        assert!(matches!(log.produce(batch(0, 10, 1)), Err(Error::Sequence(_))), "a gap");
        assert!(matches!(log.produce(batch(0, 6, 2)), Err(Error::Sequence(_))), "not as it was");
        assert_eq!(log.1, 9);
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old() {
        let mut log = Log::default();
        assert_eq!(log.produce(batch(1, 40, 1)), Ok(0), "nobody knows this producer");
        assert!(matches!(log.produce(batch(2, 41, 1)), Err(Error::Sequence(_))));
        assert_eq!(log.produce(batch(2, 0, 1)), Ok(1));
        assert!(matches!(log.produce(batch(1, 41, 1)), Err(Error::ProducerEpoch(_))));
    }

    #[test]
    fn a_refused_batch_is_awaited_until_it_is_stored_or_its_epoch_is_over() {
        let mut log = Log::default();
        log.0.refused(batch(1, 5, 2), 0);
        assert!(matches!(log.produce(batch(1, 7, 1)), Err(Error::Sequence(_))));
        assert!(matches!(log.produce(batch(0, 7, 1)), Err(Error::ProducerEpoch(_))));
        // What is refused after it is not awaited in its place.
        log.0.refused(batch(1, 7, 1), 0);
        assert_eq!(log.produce(batch(1, 5, 2)), Ok(0));
        assert_eq!(log.produce(batch(1, 7, 1)), Ok(2));

        log.0.refused(batch(1, 8, 1), 0);
        log.0.refused(batch(2, 0, 1), 0);
        assert!(matches!(log.produce(batch(2, 1, 1)), Err(Error::Sequence(_))));
        assert_eq!(log.produce(batch(1, 8, 1)), Ok(3), "an epoch that stored nothing fences nobody");
        assert_eq!(log.produce(batch(2, 0, 1)), Ok(4));

        let mut log = Log::default();
        log.0.refused(batch(1, 5, 2), 0);
        log.0.refused(batch(2, 9, 1), 0);
        assert!(matches!(log.produce(batch(2, 10, 1)), Err(Error::Sequence(_))));
        assert_eq!(log.produce(batch(3, 11, 1)), Ok(0), "nobody knows this producer but by what was refused");
    }

    #[test]
    fn what_is_awaited_is_bounded_and_what_the_log_tells_goes_before_it() {
        let mut producers = Producers::default();
        for id in 0..3 * PRODUCERS_MAX as i64 {
            producers.refused(numbered(id, 0, 3, 0), id);
        }
        assert_eq!(producers.known.len(), 2 * PRODUCERS_MAX);
        let is_awaited = |producers: &mut Producers, id| producers.check(numbered(id, 0, 4, 0), 0).is_err();
        assert!(!is_awaited(&mut producers, 0) && is_awaited(&mut producers, 3 * PRODUCERS_MAX as i64 - 1));
        producers.refused(numbered(1, 0, 3, 0), EXPIRES_MS);
        producers.refused(numbered(2, 0, 3, 0), EXPIRES_MS);
        let mut found = Producers::default();
        found.stored(numbered(1, 0, 3, 0), Stored { first: 9, timestamp: 0, appended_ms: 0 });
        producers.load(found);
        assert_eq!(producers.check(numbered(1, 0, 4, 0), 0), Ok(None));
        assert!(is_awaited(&mut producers, 2));
    }

    #[test]
    fn sequences_go_round() {
        let mut log = Log::default();
        assert_eq!(log.produce(batch(0, i32::MAX - 1, 3)), Ok(0));
        assert_eq!(log.produce(batch(0, 1, 1)), Ok(3));
        assert_eq!(log.produce(batch(0, i32::MAX - 1, 3)), Ok(0));
    }

    #[test]
    fn the_state_survives_as_lines_and_repeating_entries_changes_nothing() {
        let mut log = Log::default();
        for (sequence, count) in [(i32::MAX, 2), (1, 1), (2, 3)] {
            log.produce(batch(3, sequence, count)).unwrap();
        }
        let lines = log.0.to_lines(u64::MAX);
        assert_eq!(lines.lines().next(), Some("producer:7 epoch:3 batch:2147483647-0@0 timestamp:3 appended:5"));
        let mut again = Log(Producers::from_lines(&lines).unwrap(), log.1);
        again.0.stored(batch(3, 2, 3), Stored { first: 3, timestamp: 3, appended_ms: 5 });
        assert_eq!(again.0.to_lines(u64::MAX), lines);
        assert_eq!(again.produce(batch(3, i32::MAX, 2)), Ok(0));
        assert_eq!(again.produce(batch(3, 5, 1)), Ok(6));
        assert_eq!(log.0.to_lines(3).lines().count(), 2, "what came after the segment's start is in its entries");
        assert!(Producers::from_lines("producer:7 epoch:0\n").is_none());
    }

    #[test]
    fn of_too_many_producers_those_that_wrote_longest_ago_are_forgotten() {
        let mut producers = Producers::default();
        let many = 2 * PRODUCERS_MAX as i64;
        for id in 0..many {
            producers.stored(numbered(id, 0, 0, 0), Stored { first: id as u64, timestamp: 0, appended_ms: 0 });
        }
        assert_eq!(producers.known.len(), 2 * PRODUCERS_MAX);
        // The first of all wrote again.
        producers.stored(numbered(0, 0, 1, 0), Stored { first: many as u64, timestamp: 0, appended_ms: 0 });
        producers.stored(numbered(many, 0, 0, 0), Stored { first: many as u64 + 1, timestamp: 0, appended_ms: 0 });
        assert_eq!(producers.known.len(), PRODUCERS_MAX + 1);
        assert!([0, many - 1, many].iter().all(|id| producers.known.contains_key(id)));
        assert!(!producers.known.contains_key(&1));
    }

    #[test]
    fn silent_producers_are_forgotten() {
        let mut producers = Producers::default();
        for id in 0..NEW_BETWEEN_SWEEPS as i64 {
            producers
                .stored(numbered(id, 0, 0, 0), Stored { first: id as u64, timestamp: 0, appended_ms: id * EXPIRES_MS });
        }
        assert!(producers.known.len() <= 3);
    }

    #[test]
    fn a_day_of_silence_ends_the_wait_and_a_refusal_does_not() {
        let mut producers = Producers::default();
        let next = batch(0, 4, 1);
        producers.refused(batch(0, 3, 1), 0);
        assert!(producers.check(next, EXPIRES_MS).is_err());
        producers.refused(batch(0, 3, 1), 10);
        assert!(producers.check(next, EXPIRES_MS + 10).is_err());
        assert_eq!(producers.check(next, EXPIRES_MS + 11), Ok(None));
    }

    #[test]
    fn the_longest_line_is_as_long_as_it_may_be() {
        let mut producers = Producers::default();
        let batch = numbered(i64::MAX, i16::MAX, i32::MAX, i32::MAX as u32);
        producers.stored(batch, Stored { first: u64::MAX - 1, timestamp: i64::MIN, appended_ms: i64::MIN });
        assert!(producers.to_lines(u64::MAX).len() as u64 <= LINE_BYTES_MAX);
    }
}

//! What producers have written to a partition (KIP-98): a batch that is sent twice is stored once, and never before a batch that
//! its producer sent earlier; and which transactions are open.
//!
//! ```text
//! producer 1000 epoch 0   last batches   sequence 0-1 at offset 0 │ 2-2 at 2 │ 3-3 at 3      at most five
//!                         next           sequence 4
//!                         transaction    open since offset 2
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
//! - A producer's first batch in a transaction opens it, and a marker ends it. Until then the producer writes nothing outside of it.
//!   A marker of a newer epoch fences the older ones, and the sequence begins at 0.
//! - Producers that were silent for a day are forgotten. When there are too many, those that were silent longest go first,
//!   down to [`PRODUCERS_MAX`]. Silence is measured by the broker's clock, since records may be dated years ago. A producer with
//!   an open transaction stays, however silent.
//!
//! Each roll writes the state at the new segment's start to a file beside it, even if it is empty: see [`lines`]. What came
//! later follows from the segment's entries. If the file is missing or damaged, an earlier one or all entries tell the same.
//!
//! An entry has the time of its records, not of its append. So a producer that is known from entries counts as heard from when
//! they are read: after a restart it may stay known for up to a day longer, but is not forgotten too soon.

pub(super) mod lines;

use super::{Error, Result};
use crate::log::{Numbering, Outcome};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// How many batches of a producer are remembered: what a client may have on its way at once.
const BATCHES_KEPT: usize = 5;
/// A producer silent for a day is forgotten: Kafka's `producer.id.expiration.ms`.
pub(super) const EXPIRES_MS: i64 = 24 * 3600 * 1000;
/// Looking for silent producers happens once for this many new ones.
const NEW_BETWEEN_SWEEPS: usize = 1000;

/// How many producers stay known; older ones are forgotten when there are twice as many.
const PRODUCERS_MAX: usize = 50_000;

/// Coordinator epoch of a producer that no marker was written for.
const NO_COORDINATOR: i32 = -1;

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

/// What ends a transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The producer.
    pub producer_id: i64,
    /// The epoch that it has from here on.
    pub producer_epoch: i16,
    /// How the transaction ends.
    pub outcome: Outcome,
    /// Epoch of the coordinator that ends it.
    pub coordinator_epoch: i32,
}

/// A transaction that is not ended in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Its producer.
    pub producer_id: i64,
    /// The epoch of that producer's newest batch.
    pub producer_epoch: i16,
    /// Offset of its first record here.
    pub first: u64,
}

/// What a partition knows of a producer: Kafka's DescribeProducers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Sequence of its last record, -1: none in this epoch.
    pub last_sequence: i32,
    /// The time of its last batch or marker, in ms.
    pub last_timestamp: i64,
    /// Epoch of the coordinator that wrote its last marker, -1: there is none.
    pub coordinator_epoch: i32,
    /// Where its open transaction began.
    pub transaction_first: Option<u64>,
}

/// A producer that wrote, or that tried to.
#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// The sequence that is next in this epoch.
    next: i32,
    /// The last that were stored, oldest first.
    batches: VecDeque<(Numbered, Stored)>,
    /// When it last had a batch stored or refused, in ms.
    heard_ms: i64,
    /// Whether the log has something of it. If not, its first batch was refused and is awaited.
    is_logged: bool,
    /// Offset of the first record of its open transaction.
    transaction: Option<u64>,
    coordinator_epoch: i32,
    /// The time of its last batch or marker, in ms.
    timestamp: i64,
}

impl Producer {
    /// Of whom nothing is in the log.
    fn awaited(epoch: i16, next: i32, heard_ms: i64) -> Producer {
        Producer {
            epoch,
            next,
            batches: VecDeque::new(),
            heard_ms,
            is_logged: false,
            transaction: None,
            coordinator_epoch: NO_COORDINATOR,
            timestamp: -1,
        }
    }

    /// The offset of a record of its epoch, where one of the last batches holds it.
    fn offset_of(&self, sequence: i32) -> Option<u64> {
        let in_epoch = self.batches.iter().filter(|(batch, _)| batch.epoch() == self.epoch);
        in_epoch.rev().find_map(|(batch, stored)| {
            let delta = distance(batch.base_sequence(), sequence) as u32;
            (delta <= batch.last_delta).then(|| stored.first + u64::from(delta))
        })
    }

    fn has_expired(&self, now_ms: i64) -> bool {
        self.transaction.is_none() && self.heard_ms < now_ms - EXPIRES_MS
    }
}

/// A transaction that was ended.
#[derive(Debug)]
struct Held {
    first: u64,
    marker: u64,
}

/// The producers of one partition.
#[derive(Debug, Default)]
pub(super) struct Producers {
    known: HashMap<i64, Producer>,
    /// Whose transactions are open, by the offsets of their first records.
    open: BTreeMap<u64, i64>,
    /// Those that were ended, while readers do not see their markers.
    held: Vec<Held>,
    new: usize,
    /// Whether what the log tells is among them.
    loaded: bool,
    /// Offset of the newest batch or marker that the state knows of.
    newest: Option<u64>,
}

impl Producers {
    /// What is to be done with a batch: `None`: it is new, or where it was stored before.
    pub(super) fn check(&mut self, batch: Numbered, now_ms: i64) -> Result<Option<Stored>> {
        let Some(producer) = self.in_epoch(batch, now_ms)? else { return Ok(None) };
        if let Some((_, stored)) = producer.batches.iter().find(|(known, _)| *known == batch) {
            return Ok(Some(*stored));
        }
        let newer = batch.epoch() > producer.epoch;
        let next = if newer { 0 } else { producer.next };
        if batch.base_sequence() == next || newer && !producer.is_logged {
            return Ok(None);
        }
        Err(out_of_order(batch, next))
    }

    /// Of records that are numbered one by one, those that were stored before, from the first on: the offset of each, where the
    /// last batches tell it. All are refused where those behind would leave a gap. A producer that is not known begins at 0.
    pub(super) fn stored_before(&mut self, batch: Numbered, now_ms: i64) -> Result<Vec<Option<u64>>> {
        let Some(producer) = self.in_epoch(batch, now_ms)?.filter(|producer| producer.epoch == batch.epoch()) else {
            return if batch.base_sequence() == 0 { Ok(Vec::new()) } else { Err(out_of_order(batch, 0)) };
        };
        let below = distance(batch.base_sequence(), producer.next);
        if below > i32::MAX / 2 || below > 0 && producer.batches.is_empty() {
            return Err(out_of_order(batch, producer.next));
        }
        let known = (below as u32).min(batch.last_delta + 1);
        Ok((0..known).map(|delta| producer.offset_of(batch.numbering.after(delta).base_sequence)).collect())
    }

    /// Offset behind the last record of a producer.
    pub(super) fn end_of(&self, producer_id: i64) -> Option<u64> {
        let (batch, stored) = self.known.get(&producer_id)?.batches.back()?;
        Some(stored.first + u64::from(batch.last_delta) + 1)
    }

    /// The producer of a batch, if it is known; an error if the batch is of an epoch that is over.
    fn in_epoch(&mut self, batch: Numbered, now_ms: i64) -> Result<Option<&Producer>> {
        if self.known.get(&batch.id()).is_some_and(|producer| producer.has_expired(now_ms)) {
            self.known.remove(&batch.id());
        }
        let Some(producer) = self.known.get(&batch.id()) else { return Ok(None) };
        if batch.epoch() < producer.epoch {
            return Err(old_epoch(batch.id(), batch.epoch(), producer.epoch));
        }
        Ok(Some(producer))
    }

    /// An error if a producer may write nothing outside of its transaction, which is open.
    pub(super) fn check_outside(&self, producer_id: i64) -> Result<()> {
        match self.transaction(producer_id) {
            None => Ok(()),
            Some(OpenTransaction { first, .. }) => Err(Error::InvalidTxnState(format!(
                "producer {producer_id} has a transaction open here since offset {first}, and the batch is not in it"
            ))),
        }
    }

    /// An error if a marker comes from a producer, or a coordinator, that another one has replaced.
    pub(super) fn check_marker(&self, marker: &Marker) -> Result<()> {
        let Some(producer) = self.known.get(&marker.producer_id).filter(|producer| producer.is_logged) else {
            return Ok(());
        };
        if marker.producer_epoch < producer.epoch {
            return Err(old_epoch(marker.producer_id, marker.producer_epoch, producer.epoch));
        }
        if marker.coordinator_epoch < producer.coordinator_epoch {
            return Err(Error::TransactionCoordinatorFenced(format!(
                "the marker is of coordinator epoch {}; the last one was of {}",
                marker.coordinator_epoch, producer.coordinator_epoch
            )));
        }
        Ok(())
    }

    /// The sequence that is next for a producer in this epoch.
    pub(super) fn next_sequence(&self, producer_id: i64, producer_epoch: i16) -> i32 {
        let known = self.known.get(&producer_id).filter(|producer| producer.epoch == producer_epoch);
        known.map_or(0, |producer| producer.next)
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
        (producer.is_logged, producer.timestamp) = (true, stored.timestamp);
        producer.batches.push_back((batch, stored));
        if producer.batches.len() > BATCHES_KEPT {
            producer.batches.pop_front();
        }
        self.newest = self.newest.max(Some(stored.first));
    }

    /// Remembers that the batch of a producer that was [stored](Self::stored) at `first` is in a transaction.
    pub(super) fn stored_in_transaction(&mut self, producer_id: i64, first: u64) {
        let producer = self.known.get_mut(&producer_id).expect("its batch was stored");
        if producer.transaction.is_none() {
            producer.transaction = Some(first);
            self.open.insert(first, producer_id);
        }
    }

    /// Remembers a marker that was stored there.
    pub(super) fn ended(&mut self, marker: &Marker, at: Stored) {
        let numbering =
            Numbering { producer_id: marker.producer_id, producer_epoch: marker.producer_epoch, base_sequence: 0 };
        let producer = self.heard(Numbered { numbering, last_delta: 0 }, at.appended_ms);
        if marker.producer_epoch > producer.epoch || !producer.is_logged {
            producer.batches.clear();
            (producer.epoch, producer.next) = (marker.producer_epoch, 0);
        }
        (producer.is_logged, producer.timestamp) = (true, at.timestamp);
        producer.coordinator_epoch = marker.coordinator_epoch;
        if let Some(first) = producer.transaction.take() {
            self.open.remove(&first);
        }
        self.newest = self.newest.max(Some(at.first));
    }

    /// The transaction of a producer that is open.
    pub(super) fn transaction(&self, producer_id: i64) -> Option<OpenTransaction> {
        let producer = self.known.get(&producer_id)?;
        Some(OpenTransaction { producer_id, producer_epoch: producer.epoch, first: producer.transaction? })
    }

    /// All that are open, oldest first.
    pub(super) fn transactions(&self) -> impl Iterator<Item = OpenTransaction> {
        self.open.values().filter_map(|&producer_id| self.transaction(producer_id))
    }

    /// Where the oldest transaction began that is open.
    pub(super) fn first_open(&self) -> Option<u64> {
        self.open.first_key_value().map(|(&first, _)| first)
    }

    /// Readers of committed records wait for this transaction until its marker is shown.
    pub(super) fn hold(&mut self, first: u64, marker: u64) {
        self.held.push(Held { first, marker });
    }

    /// Markers below the high watermark are shown.
    pub(super) fn settle(&mut self, high_watermark: u64) {
        self.held.retain(|held| held.marker >= high_watermark);
    }

    /// Whether there is a marker that is not shown yet.
    pub(super) fn is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Where the oldest transaction began that is open, or whose marker is not shown yet.
    pub(super) fn first_unstable(&self) -> Option<u64> {
        self.held.iter().map(|held| held.first).chain(self.first_open()).min()
    }

    /// Those that the log knows of and that were not silent for too long.
    pub(super) fn active(&self, now_ms: i64) -> Vec<ActiveProducer> {
        let active = self.known.iter().filter(|(_, producer)| producer.is_logged && !producer.has_expired(now_ms));
        let describe = |(&producer_id, producer): (&i64, &Producer)| {
            let last = producer.batches.back().filter(|(batch, _)| batch.epoch() == producer.epoch);
            ActiveProducer {
                producer_id,
                producer_epoch: producer.epoch,
                last_sequence: last.map_or(-1, |(batch, _)| batch.last_sequence()),
                last_timestamp: producer.timestamp,
                coordinator_epoch: producer.coordinator_epoch,
                transaction_first: producer.transaction,
            }
        };
        let mut described: Vec<_> = active.map(describe).collect();
        described.sort_unstable_by_key(|producer| producer.producer_id);
        described
    }

    /// Remembers that a batch was refused which its client may send again: nothing is taken before it. Of a producer that
    /// wrote before, the next sequence says so already.
    pub(super) fn refused(&mut self, batch: Numbered, now_ms: i64) {
        let producer = self.heard(batch, now_ms);
        if !producer.is_logged && batch.epoch() > producer.epoch {
            (producer.epoch, producer.next) = (batch.epoch(), batch.base_sequence());
        }
    }

    /// The producer of a batch. If it is not known, this batch is its next.
    fn heard(&mut self, batch: Numbered, now_ms: i64) -> &mut Producer {
        if !self.known.contains_key(&batch.id()) {
            self.new += 1;
            if self.new.is_multiple_of(NEW_BETWEEN_SWEEPS) {
                self.known.retain(|_, producer| !producer.has_expired(now_ms));
            }
            if self.known.len() - self.open.len() >= 2 * PRODUCERS_MAX {
                self.forget_most();
            }
        }
        let unknown = || Producer::awaited(batch.epoch(), batch.base_sequence(), now_ms);
        let producer = self.known.entry(batch.id()).or_insert_with(unknown);
        producer.heard_ms = producer.heard_ms.max(now_ms);
        producer
    }

    fn forget_most(&mut self) {
        // Ids tell apart those that were heard from, or wrote, at the same time.
        let order = |id: &i64, producer: &Producer| {
            let is_open = producer.transaction.is_some();
            (is_open, producer.heard_ms, producer.batches.back().map_or(0, |(_, newest)| newest.first), *id)
        };
        let mut heard: Vec<_> = self.known.iter().map(|(id, producer)| order(id, producer)).collect();
        let stay = PRODUCERS_MAX + self.open.len();
        let (_, &mut first_kept, _) = heard.select_nth_unstable(self.known.len() - stay);
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

    /// Whether this is how it was before `offset` was given, too.
    pub(super) fn is_of(&self, offset: u64) -> bool {
        self.newest.is_none_or(|newest| newest < offset)
    }
}

/// How many sequences lie between two, the second of which is the later one.
fn distance(from: i32, to: i32) -> i32 {
    to.wrapping_sub(from) & i32::MAX
}

fn out_of_order(batch: Numbered, next: i32) -> Error {
    let (id, sequence) = (batch.id(), batch.base_sequence());
    Error::Sequence(format!("producer {id} sends sequence {sequence}; {next} is next"))
}

fn old_epoch(producer_id: i64, epoch: i16, current: i16) -> Error {
    Error::ProducerEpoch(format!("producer {producer_id} writes in epoch {epoch}; its epoch is {current}"))
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

    /// What is told of so many records from a sequence on.
    fn before(log: &mut Log, sequence: i32, count: u32) -> Result<Vec<Option<u64>>> {
        log.0.stored_before(batch(0, sequence, count), 5)
    }

    #[test]
    fn records_are_known_one_by_one_however_they_are_gathered() {
        let mut log = Log::default();
        assert_eq!(before(&mut log, 0, 3), Ok(vec![]), "new");
        assert!(matches!(before(&mut log, 1, 1), Err(Error::Sequence(_))), "who is not known begins at 0");
        for (sequence, count) in [(0, 3), (3, 2), (5, 1)] {
            log.produce(batch(0, sequence, count)).unwrap();
        }
        assert_eq!(before(&mut log, 2, 3), Ok(vec![Some(2), Some(3), Some(4)]));
        assert_eq!(before(&mut log, 4, 9), Ok(vec![Some(4), Some(5)]));
        assert_eq!(before(&mut log, 6, 9), Ok(vec![]));
        assert!(matches!(before(&mut log, 7, 1), Err(Error::Sequence(_))), "a gap");
        for sequence in 6..10 {
            log.produce(batch(0, sequence, 1)).unwrap();
        }
        assert_eq!(before(&mut log, 2, 4), Ok(vec![None, None, None, Some(5)]), "five batches ago it ended");
        assert_eq!(log.0.end_of(7), Some(10));
        assert!(matches!(log.0.stored_before(batch(1, 10, 1), 5), Err(Error::Sequence(_))), "a new epoch begins at 0");
        assert_eq!(log.0.stored_before(batch(1, 0, 1), 5), Ok(vec![]));
    }

    #[test]
    fn records_are_known_where_sequences_go_round() {
        let mut log = Log::default();
        log.0.stored(batch(0, i32::MAX - 1, 3), Stored { first: 0, timestamp: 3, appended_ms: 5 });
        assert_eq!(before(&mut log, i32::MAX, 3), Ok(vec![Some(1), Some(2)]));
        assert_eq!(before(&mut log, 1, 1), Ok(vec![]));
        assert!(matches!(before(&mut log, 2, 1), Err(Error::Sequence(_))));
    }

    #[test]
    fn what_is_awaited_is_not_taken_for_stored() {
        let mut log = Log::default();
        log.0.refused(batch(0, 5, 1), 5);
        assert!(matches!(before(&mut log, 4, 1), Err(Error::Sequence(_))));
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

    fn marker(producer_epoch: i16, coordinator_epoch: i32) -> Marker {
        Marker { producer_id: 7, producer_epoch, outcome: Outcome::Commit, coordinator_epoch }
    }

    fn at(first: u64) -> Stored {
        Stored { first, timestamp: 3, appended_ms: 5 }
    }

    #[test]
    fn a_marker_ends_the_transaction_and_a_newer_epoch_in_it_fences_the_old() {
        let mut log = Log::default();
        assert_eq!(log.produce(batch(1, 0, 2)), Ok(0));
        log.0.stored_in_transaction(7, 0);
        assert_eq!(log.produce(batch(1, 2, 1)), Ok(2));
        log.0.stored_in_transaction(7, 2);
        assert_eq!(log.0.first_open(), Some(0), "its first record");
        assert!(matches!(log.0.check_outside(7), Err(Error::InvalidTxnState(_))));
        log.0.ended(&marker(1, 0), at(3));
        assert_eq!((log.0.first_open(), log.0.check_outside(7)), (None, Ok(())));
        assert_eq!(log.0.check(batch(1, 3, 1), 5), Ok(None), "the epoch is the same, and so are the sequences");
        log.0.ended(&marker(2, 0), at(4));
        assert!(matches!(log.0.check(batch(1, 3, 1), 5), Err(Error::ProducerEpoch(_))));
        assert!(matches!(log.0.check(batch(2, 3, 1), 5), Err(Error::Sequence(_))));
        assert!(
            matches!(log.0.check(batch(3, 3, 1), 5), Err(Error::Sequence(_))),
            "it is known, though without a batch"
        );
        assert_eq!((log.0.next_sequence(7, 2), log.0.next_sequence(7, 3)), (0, 0));
        assert_eq!(log.0.check(batch(2, 0, 1), 5), Ok(None));
    }

    #[test]
    fn a_marker_of_a_replaced_producer_or_coordinator_is_refused() {
        let mut producers = Producers::default();
        assert_eq!(producers.check_marker(&marker(0, 0)), Ok(()), "nobody knows this producer");
        producers.refused(batch(9, 0, 1), 5);
        assert_eq!(producers.check_marker(&marker(0, 0)), Ok(()), "of epoch 9 nothing was stored");
        producers.ended(&marker(3, 4), at(0));
        assert!(matches!(producers.check_marker(&marker(2, 4)), Err(Error::ProducerEpoch(_))));
        assert!(matches!(producers.check_marker(&marker(3, 3)), Err(Error::TransactionCoordinatorFenced(_))));
        assert_eq!(producers.check_marker(&marker(3, 4)), Ok(()), "once more");
    }

    #[test]
    fn a_producer_with_an_open_transaction_is_never_forgotten() {
        let mut producers = Producers::default();
        producers.stored(numbered(-1, 0, 0, 0), Stored { first: 0, timestamp: 0, appended_ms: 0 });
        producers.stored_in_transaction(-1, 0);
        for id in 0..2 * PRODUCERS_MAX as u64 + 1 {
            let stored = Stored { first: id + 1, timestamp: 0, appended_ms: EXPIRES_MS + 1 };
            producers.stored(numbered(id as i64, 0, 0, 0), stored);
        }
        assert_eq!(producers.known.len(), PRODUCERS_MAX + 2, "the one, and the new one");
        assert!(producers.check(numbered(-1, 0, 5, 0), 2 * EXPIRES_MS).is_err(), "it is known");
        assert_eq!(producers.first_open(), Some(0));
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
        let lines = log.0.to_lines();
        assert_eq!(lines.lines().next(), Some("producer:7 epoch:3 batch:2147483647-0@0 timestamp:3 appended:5"));
        let mut again = Log(Producers::from_lines(lines.as_bytes(), log.1).unwrap(), log.1);
        again.0.stored(batch(3, 2, 3), Stored { first: 3, timestamp: 3, appended_ms: 5 });
        assert_eq!(again.0.to_lines(), lines);
        assert_eq!(again.produce(batch(3, i32::MAX, 2)), Ok(0));
        assert_eq!(again.produce(batch(3, 5, 1)), Ok(6));
        assert!(log.0.is_of(4) && !log.0.is_of(3) && Producers::default().is_of(0));
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
}

//! How every protocol writes: all records go through a [`WriteSession`].
//!
//! ```text
//! route ──► check ──► gather ──► write ──► make durable ──► offsets
//!   │         │         │          │         └ all batches are as durable as the flush mode promises, and readers see them
//!   │         │         │          └ each batch is stored in its partition
//!   │         │         └ records of one partition become one batch
//!   │         └ whether the topic takes such a record
//!   └ finds the partition; first use makes the topic
//! ```
//!
//! A refused record leaves nothing behind, not even the topic that its first use would have made. A [`Ticket`] names a record
//! until the session is cleared.

use super::{
    Broker, Error, IfAbsent, Partition, Permit, ProducerIdentity, Result, Terms, Topic, TopicHandle, Transaction,
    internal_log::LogWrite,
    partition::Sequenced,
    partitioner::choose,
    random,
    topic_settings::{Rules, Shape},
    transaction::Parts,
    transaction_coordinator::{InTransaction, WrittenInTransaction},
    writable,
};
use crate::{
    config::{Flush, Settings},
    log::{Appended, Numbering, batches::Flags, record::Records},
    security::{Operation, Quota},
};
use std::{
    borrow::Cow,
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// Batches that were written on behalf of one caller and are not durable yet, then what became of them.
#[derive(Debug)]
pub struct WriteSession {
    broker: Broker,
    batches: Vec<Written>,
    /// The transaction that what is gathered belongs to.
    transaction: Option<InTransaction>,
    /// Lines that added partitions to a transaction, which are not durable yet.
    added: Vec<LogWrite>,
    /// When the first of the batches that are to be synced began to be written.
    begun: Option<Instant>,
    /// How long the caller is to wait for what it has written.
    wait: Duration,
}

#[derive(Debug)]
struct Written {
    target: Target,
    stored: Result<Sequenced>,
}

impl Written {
    /// What was written; `None`: it was refused, or all of it had been stored before.
    fn appended(&self) -> Option<&Appended> {
        self.stored.as_ref().ok().map(|stored| &stored.appended).filter(|appended| !appended.known)
    }
}

/// A partition that is written to, with what its topic asks of records.
#[derive(Clone, Debug)]
pub struct Target {
    topic: Arc<Topic>,
    partition: Arc<Partition>,
    settings: Arc<Settings>,
    rules: Rules,
}

/// Records on their way to their partitions, until they are written together.
#[derive(Debug, Default)]
pub struct Gathered<'a> {
    batches: Vec<Gathering<'a>>,
    /// The topic of the record before.
    topic: Option<Found>,
    /// Where records without a key go, for this time.
    sticky: u64,
}

#[derive(Debug)]
struct Gathering<'a> {
    target: Target,
    /// How the producer numbers the records, if it does.
    numbering: Option<Numbering>,
    records: Records<'a>,
}

impl Gathering<'_> {
    /// Whether a record that is numbered so can be the next here.
    fn goes_on(&self, numbering: Option<Numbering>) -> bool {
        numbering == self.numbering.map(|first| first.after(self.records.len() as u32))
    }

    /// Writes it outside of any transaction.
    fn write(self) -> Written {
        let Gathering { target, numbering, records } = self;
        let stored = match numbering {
            None => target.write(&records, Terms::default()).map(Sequenced::from),
            Some(numbering) => target.write_sequence(records, numbering),
        };
        Written { target, stored }
    }
}

#[derive(Clone, Debug)]
struct Found {
    topic: Arc<Topic>,
    settings: Arc<Settings>,
    partition_count: u32,
}

/// Which record of which batch of the session.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    pub(crate) batch: u32,
    pub(crate) record: u32,
}

/// What is known of a batch that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// The offsets of its records.
    pub offsets: Range<u64>,
    /// When it was stored, in ms.
    pub appended_ms: i64,
    /// Whether it had been stored before, and was not again: an idempotent producer sent it twice.
    pub duplicate: bool,
    /// Start offset of the partition, unless it is gone meanwhile.
    pub start: Option<u64>,
}

impl Broker {
    /// A session of writing.
    pub fn write_session(&self) -> WriteSession {
        let (broker, wait) = (self.clone(), Duration::ZERO);
        WriteSession { broker, batches: Vec::new(), transaction: None, added: Vec::new(), begun: None, wait }
    }
}

impl Target {
    fn new(broker: &Broker, topic: Arc<Topic>, partition: Arc<Partition>, settings: Arc<Settings>) -> Target {
        let rules = settings.rules(broker.now_ms());
        Target { topic, partition, settings, rules }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic.name
    }

    /// The partition's number.
    pub fn partition(&self) -> u32 {
        self.partition.index
    }

    /// The topic's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the topic asks of a record.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Start offset of the partition.
    pub fn start(&self) -> Result<u64> {
        self.partition.start()
    }

    fn write(&self, records: &Records<'_>, terms: Terms) -> Result<Appended> {
        self.partition.write_with(&self.settings, records, terms)
    }

    fn write_sequence(&self, records: Records<'_>, numbering: Numbering) -> Result<Sequenced> {
        self.partition.write_sequence(&self.settings, records, numbering)
    }

    fn make_durable(&self, appended: &Appended) -> Result<()> {
        self.partition.make_durable_with(&self.settings, appended)
    }
}

fn place(appended: &Appended) -> (&Path, Range<u64>) {
    (&appended.place.0, appended.place.1.clone())
}

impl WriteSession {
    /// Adds a record that is only a value.
    pub fn add_value<'a>(
        &self,
        gathered: &mut Gathered<'a>,
        topic: &str,
        partition: u32,
        value: &'a [u8],
    ) -> Result<Ticket> {
        let record = Shape { timestamp: None, key: None, bytes: value.len() };
        let slot = self.slot_for(gathered, topic, Some(partition), record, None)?;
        let records = &mut gathered.batches[slot].records;
        records.push(None, None, Some(Cow::Borrowed(value)));
        Ok(self.ticket(slot, records))
    }

    /// Takes the last of `records`, unless it is refused. It goes to the partition that is named, to that of its key, or to
    /// the one where all go for this time that have none. Those that are numbered are stored only once.
    pub fn add_last<'a>(
        &self,
        gathered: &mut Gathered<'a>,
        topic: &str,
        partition: Option<u32>,
        from: &mut Records<'a>,
        numbering: Option<Numbering>,
    ) -> Result<Ticket> {
        let record = from.last().expect("there is one to be added");
        let shape = Shape { timestamp: record.timestamp, key: record.key.as_deref(), bytes: from.size_of(record) };
        let slot = self.slot_for(gathered, topic, partition, shape, numbering)?;
        let records = &mut gathered.batches[slot].records;
        records.take_last(from);
        Ok(self.ticket(slot, records))
    }

    fn ticket(&self, slot: usize, records: &Records<'_>) -> Ticket {
        Ticket { batch: (self.batches.len() + slot) as u32, record: records.len() as u32 - 1 }
    }

    /// The batch that a record goes to, if its topic takes it.
    fn slot_for(
        &self,
        gathered: &mut Gathered<'_>,
        topic: &str,
        partition: Option<u32>,
        record: Shape<'_>,
        numbering: Option<Numbering>,
    ) -> Result<usize> {
        if gathered.sticky == 0 {
            gathered.sticky = random::number().max(1);
        }
        let found = match &gathered.topic {
            Some(found) if found.topic.name == topic => found,
            _ => {
                let topic = self.find_or_create(topic, partition, record)?;
                let (settings, partition_count) = (topic.settings(), topic.partition_count());
                gathered.topic.insert(Found { topic, settings, partition_count })
            }
        };
        let index = choose(partition, record.key, gathered.sticky, found.partition_count);
        let is_this = |target: &Target| target.partition.index == index && Arc::ptr_eq(&target.topic, &found.topic);
        // Only the last batch of a partition can take it: its records are stored in the order in which they came.
        if let Some(slot) = gathered.batches.iter().rposition(|batch| is_this(&batch.target))
            && gathered.batches[slot].goes_on(numbering)
        {
            gathered.batches[slot].target.rules.check(record)?;
            return Ok(slot);
        }
        let Found { topic, settings, .. } = found.clone();
        let partition = topic.partition(index)?;
        let target = Target::new(&self.broker, topic, partition, settings);
        target.rules.check(record)?;
        gathered.batches.push(Gathering { target, numbering, records: Records::default() });
        Ok(gathered.batches.len() - 1)
    }

    /// First use makes the topic, unless that would not have the partition that is named, or would refuse the record.
    fn find_or_create(&self, topic: &str, partition: Option<u32>, record: Shape<'_>) -> Result<Arc<Topic>> {
        writable(topic)?;
        let (broker, config) = (&self.broker, self.broker.config());
        match broker.topic_for(Operation::Write, topic) {
            Err(Error::UnknownTopic(_))
                if config.auto_create && partition.is_none_or(|index| index < config.default_partitions) =>
            {
                broker.topic_defaults().rules(broker.now_ms()).check(record)?;
                broker.topic_or_create(Operation::Write, topic)
            }
            found => found,
        }
    }

    /// From here on what is gathered is written in this transaction.
    pub fn enter(&mut self, transaction: &Transaction) {
        self.transaction = Some(transaction.writer());
    }

    /// From here on what is gathered is written outside of any transaction.
    pub fn leave(&mut self) {
        self.transaction = None;
    }

    /// Writes all that was gathered.
    pub fn write(&mut self, gathered: &mut Gathered<'_>) {
        let batches = std::mem::take(gathered).batches;
        if batches.is_empty() {
            return;
        }
        batches.iter().for_each(|batch| self.begin(&batch.target));
        if self.broker.is_limited(Quota::ProducedBytes) {
            let records = batches.iter().flat_map(|batch| batch.records.iter().map(|one| batch.records.size_of(one)));
            self.wait = self.wait.max(self.broker.charge(Quota::ProducedBytes, records.sum::<usize>() as f64));
        }
        let Some(transaction) = self.transaction.clone() else {
            return self.batches.extend(batches.into_iter().map(Gathering::write));
        };
        let write = || batches.iter().map(|batch| batch.target.write(&batch.records, transaction.terms())).collect();
        let written = self.write_in(&transaction, batches.iter().map(|batch| &batch.target), write);
        let written = written.unwrap_or_else(|error| vec![Err(transaction.refusal(error)); batches.len()]);
        let stored = written.into_iter().map(|appended| appended.map(Sequenced::from));
        let written = batches.into_iter().zip(stored);
        self.batches.extend(written.map(|(Gathering { target, .. }, stored)| Written { target, stored }));
    }

    /// Looks at the clock where it will be synced before it is answered.
    fn begin(&mut self, target: &Target) {
        if self.is_synced(target) {
            self.begun.get_or_insert_with(Instant::now);
        }
    }

    /// Whether what is written there is synced before it is answered.
    fn is_synced(&self, target: &Target) -> bool {
        target.settings.flush(self.broker.config().flush) == Flush::Always
    }

    /// Does a write in a transaction that goes to these partitions.
    fn write_in<'t, T>(
        &mut self,
        transaction: &InTransaction,
        targets: impl Iterator<Item = &'t Target>,
        write: impl FnOnce() -> T,
    ) -> Result<T> {
        let mut parts = Parts::default();
        targets.for_each(|target| parts.add_partition(&target.topic().into(), target.topic.id, target.partition()));
        let WrittenInTransaction { written, added } =
            self.broker.state(&Permit::for_everybody()).write_in(transaction, &parts, write)?;
        added.iter().for_each(LogWrite::sync_soon);
        self.added.extend(added);
        Ok(written)
    }

    /// A partition of a topic that was found.
    pub fn target(&self, topic: &TopicHandle, partition: u32) -> Result<Target> {
        topic.may_write()?;
        writable(topic.name())?;
        let topic = topic.topic();
        let (partition, settings) = (topic.partition(partition)?, topic.settings());
        Ok(Target::new(&self.broker, topic.clone(), partition, settings))
    }

    /// Writes one batch, whose records keep to the target's rules, whole or not at all.
    pub fn write_batch(&mut self, target: Target, records: &Records<'_>, terms: Terms) -> Result<Ticket> {
        self.begin(&target);
        let appended = target.write(records, Terms { whole: true, ..terms })?;
        self.batches.push(Written { target, stored: Ok(appended.into()) });
        Ok(Ticket { batch: self.batches.len() as u32 - 1, record: 0 })
    }

    /// The same, in the transaction of a Kafka producer, which names this transactional id, and itself in [`Terms::producer`]. What is
    /// not in it is treated as `if_absent` says.
    pub fn write_batch_in_transaction(
        &mut self,
        target: Target,
        records: &Records<'_>,
        terms: Terms,
        transactional_id: &str,
        if_absent: IfAbsent,
    ) -> Result<Ticket> {
        let Numbering { producer_id: id, producer_epoch: epoch, .. } =
            terms.producer.expect("a batch of a transaction has a producer");
        let identity = ProducerIdentity { id, epoch };
        let transaction = self.broker.transaction_of(transactional_id, identity, if_absent)?;
        let terms = Terms { flags: terms.flags | Flags::TRANSACTIONAL, whole: true, ..terms };
        self.begin(&target);
        let appended = self.write_in(&transaction, [&target].into_iter(), || target.write(records, terms))??;
        self.batches.push(Written { target, stored: Ok(appended.into()) });
        Ok(Ticket { batch: self.batches.len() as u32 - 1, record: 0 })
    }

    /// How long the caller is to wait for what was gathered and written since this was asked last, before it sends more.
    pub fn take_wait(&mut self) -> Duration {
        std::mem::take(&mut self.wait)
    }

    /// Begins to sync, in the background, what [`make_durable`](Self::make_durable) will wait for.
    pub fn sync_soon(&self) {
        self.batches.iter().for_each(|batch| batch.target.partition.sync_soon(&batch.target.settings));
    }

    /// Makes everything as durable as was promised. Afterwards tickets can be asked for.
    pub fn make_durable(&mut self) {
        for Written { target, stored } in &mut self.batches {
            if let Ok(Sequenced { appended, .. }) = stored
                && let Err(error) = target.make_durable(appended)
            {
                *stored = Err(error);
            }
        }
        // What a transaction's state does not name is no part of it.
        let added = std::mem::take(&mut self.added);
        if let Err(error) = added.iter().try_for_each(LogWrite::make_durable) {
            self.batches.iter_mut().for_each(|batch| batch.stored = Err(error.clone()));
        }
        if let Some(begun) = self.begun.take()
            && self.batches.iter().any(|one| one.appended().is_some() && self.is_synced(&one.target))
        {
            self.broker.metrics().produce_to_sync.add(1, begun.elapsed());
        }
    }

    /// Forgets all of it, tickets too.
    pub fn clear(&mut self) {
        self.begun = None;
        self.batches.clear();
        self.added.clear();
    }

    /// The offset that a record got, or why it got none. `None`: it had been stored before, and nobody knows where any more.
    pub fn offset(&self, ticket: Ticket) -> Result<Option<u64>> {
        let Sequenced { known, appended } = self.batch_stored(ticket.batch)?;
        let record = ticket.record as usize;
        match known.get(record) {
            Some(offset) => Ok(*offset),
            None => Ok(Some(appended.offset_of((record - known.len()) as u64)?)),
        }
    }

    /// Where a record was to go.
    pub fn target_of(&self, ticket: Ticket) -> &Target {
        &self.batches[ticket.batch as usize].target
    }

    /// What became of a record's batch.
    pub fn stored(&self, ticket: Ticket) -> Result<StoredBatch> {
        let Appended { offsets, now_ms, known, .. } = self.appended(ticket.batch)?;
        let start = self.target_of(ticket).start().ok();
        Ok(StoredBatch { offsets: offsets.clone(), appended_ms: *now_ms, duplicate: *known, start })
    }

    /// Where on disk a record's batch stands: the file, and the positions of its lines there.
    pub fn place(&self, ticket: Ticket) -> Option<(&Path, Range<u64>)> {
        Some(place(self.appended(ticket.batch).ok()?))
    }

    /// The same of each batch that was stored.
    pub fn places(&self) -> impl Iterator<Item = (&Path, Range<u64>)> {
        self.batches.iter().filter_map(Written::appended).map(place)
    }

    fn appended(&self, batch: u32) -> Result<&Appended> {
        self.batch_stored(batch).map(|stored| &stored.appended)
    }

    fn batch_stored(&self, batch: u32) -> Result<&Sequenced> {
        self.batches[batch as usize].stored.as_ref().map_err(Clone::clone)
    }
}

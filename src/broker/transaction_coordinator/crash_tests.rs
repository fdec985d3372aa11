//! Power fails, or the disk does, at every call of a script of transactions that overlap in three partitions and commit
//! offsets of groups. After a recovery, and one that is interrupted itself, each transaction is whole or absent, none is open, and no marker stands there twice.
//!
//! ```text
//! script ─ fault ─ reboot, some of it survives ─ recovery ─ fault ─ reboot ─ recovery ─ whole or absent, everywhere
//! ```
//!
//! Whole or absent holds where every log is synced before it is acknowledged, and in every mode where the process dies and not the
//! machine.

use super::*;
use crate::{
    broker::{
        Broker, Clock, Committed, Epochs, Form, Gathered, Isolation, OffsetCommit, Outcome, Partition,
        ProducerIdentity, Sequence, Terms, View, WriteSession, group::Committer,
    },
    config::{Config, Flush, Settings},
    log::{
        Chunk, Numbering,
        batches::Flags,
        disk::{Call, Fault, MemoryDisk, Survivors},
        record::Records,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicI64, Ordering},
};

const NOW_MS: i64 = 1_700_000_000_000;
const CRASHES: [Fault; 3] = [Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter];
const PLACES: [(&str, u32); 3] = [("orders", 0), ("orders", 1), ("payments", 0)];
/// The place that is no partition but a group of the transaction's own, which reads the first partition.
const GROUP: usize = PLACES.len();

/// What a reader of committed records may find of a transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// Nothing: its end was never asked for, or it was aborted.
    Absent,
    /// All or nothing: its end was asked for, and not answered.
    Either,
    /// All: its end was answered.
    Whole,
}

#[derive(Clone, Debug)]
struct Tried {
    fate: Fate,
    /// Where a record of it was acknowledged, once each.
    acknowledged: BTreeSet<usize>,
}

/// A broker whose maintenance the test does.
struct Turned {
    broker: Broker,
    clock: Arc<AtomicI64>,
}

impl Turned {
    fn open(disk: &MemoryDisk, flush: Flush) -> Result<Turned> {
        let topic_defaults = Settings { retention_ms: -1, segment_bytes: 1024, ..Settings::default() };
        let clock = Arc::new(AtomicI64::new(NOW_MS));
        let config = Config { flush, topic_defaults, ..Config::new("data") };
        let broker = Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(clock.clone()))?;
        broker.stop_maintenance();
        Ok(Turned { broker, clock })
    }

    fn look_after(&self) -> Result<()> {
        self.broker.inner().look_after_transactions().map(drop)
    }

    /// Commits an offset of the group of a transaction.
    fn commit(&self, transaction: &InTransaction, number: u32) -> Result<()> {
        let group = group(number);
        let committed = Committed { offset: 1, leader_epoch: -1, metadata: String::new(), timestamp_ms: NOW_MS };
        let offset = OffsetCommit { topic: PLACES[0].0.into(), partition: PLACES[0].1, committed };
        let (id, identity) = (&transaction.cell.name, transaction.identity);
        let anybody = Committer::Anybody;
        let done =
            self.broker.commit_offsets_in_transaction(id, identity, IfAbsent::Add, &group, anybody, vec![offset]);
        done?.into_iter().collect()
    }

    /// Whether the group of a transaction has committed, and nothing is pending.
    fn has_committed(&self, number: u32, context: &str) -> bool {
        let (offsets, partition) =
            (self.broker.group_offsets(&group(number)).unwrap(), (PLACES[0].0.into(), PLACES[0].1));
        assert!(offsets.stable(&partition).is_ok(), "{context}: the group of {number} waits for ever");
        offsets.committed().contains_key(&partition)
    }

    fn partition(&self, place: usize) -> Result<Arc<Partition>> {
        let (topic, partition) = PLACES[place];
        self.broker.topic(topic)?.partition(partition)
    }
}

/// What the script tried, and what it was answered.
#[derive(Clone, Debug)]
struct Model {
    flush: Flush,
    /// Whether the script goes on after an error: the disk failed once, and has power.
    goes_on: bool,
    tried: BTreeMap<u32, Tried>,
}

impl Model {
    fn new(flush: Flush, goes_on: bool) -> Model {
        Model { flush, goes_on, tried: BTreeMap::new() }
    }

    /// What was answered; an error ends the script, unless it goes on.
    fn got<T>(&self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(_) if self.goes_on => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn tried(&mut self, number: u32) -> &mut Tried {
        self.tried.entry(number).or_insert(Tried { fate: Fate::Absent, acknowledged: BTreeSet::new() })
    }

    /// Writes in a transaction of text. An error dooms it.
    fn send(&mut self, turned: &Turned, transaction: &mut Transaction, number: u32, places: &[usize]) -> Result<()> {
        self.send_as(turned, transaction, number, places, WriteSession::make_durable)
    }

    fn send_as(
        &mut self,
        turned: &Turned,
        transaction: &mut Transaction,
        number: u32,
        places: &[usize],
        make_durable: impl FnOnce(&mut WriteSession),
    ) -> Result<()> {
        let value = value(number);
        let (mut session, mut gathered) = (turned.broker.write_session(), Gathered::default());
        session.enter(transaction);
        let mut tickets = vec![];
        for place in places.iter().filter(|place| **place < GROUP) {
            let (topic, partition) = PLACES[*place];
            tickets.push((*place, session.add_value(&mut gathered, topic, partition, value.as_bytes())));
        }
        session.write(&mut gathered);
        make_durable(&mut session);
        let stored =
            tickets.into_iter().map(|(place, ticket)| (place, ticket.and_then(|ticket| session.offset(ticket))));
        let mut stored: Vec<_> = stored.map(|(place, offset)| (place, offset.map(drop))).collect();
        if places.contains(&GROUP) {
            stored.push((GROUP, turned.commit(&transaction.writer(), number)));
        }
        for (place, stored) in stored {
            match stored {
                Ok(()) => drop(self.tried(number).acknowledged.insert(place)),
                Err(error) => {
                    transaction.doom(error.to_string());
                    self.got(Err::<(), _>(error))?;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, mut transaction: Transaction, number: u32, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Commit => {
                self.tried(number).fate = Fate::Either;
                let ended = transaction.end();
                self.tried(number).fate = fate(&ended);
                self.got(ended).map(drop)
            }
            Outcome::Abort => self.got(transaction.abort()).map(drop),
        }
    }

    /// Writes in a transaction of a Kafka producer.
    fn produce(
        &mut self,
        turned: &Turned,
        id: &str,
        producer: Option<ProducerIdentity>,
        base_sequence: i32,
        number: u32,
        place: usize,
    ) -> Result<bool> {
        let Some(producer) = producer else { return Ok(false) };
        let write = || {
            let mut session = turned.broker.write_session();
            let target = session.target(&turned.broker.find_topic(PLACES[place].0)?, PLACES[place].1)?;
            let (mut records, value) = (Records::default(), value(number));
            records.push(None, None, Some(value.as_bytes().into()));
            let ProducerIdentity { id: producer_id, epoch: producer_epoch } = producer;
            let numbering = Numbering { producer_id, producer_epoch, base_sequence };
            let (flags, producer, sequence) = (Flags::TRANSACTIONAL, Some(numbering), Sequence::Given);
            let terms = Terms { flags, producer, sequence, whole: true };
            let ticket = session.write_batch_in_transaction(target, &records, terms, id, IfAbsent::Add)?;
            session.make_durable();
            session.offset(ticket)
        };
        let done = self.got(write())?.is_some();
        if done {
            self.tried(number).acknowledged.insert(place);
        }
        Ok(done)
    }

    /// Commits an offset in a transaction of a Kafka producer.
    fn commit_kafka(
        &mut self,
        turned: &Turned,
        id: &str,
        producer: Option<ProducerIdentity>,
        number: u32,
    ) -> Result<bool> {
        let Some(producer) = producer else { return Ok(false) };
        let found = turned.broker.transaction_of(id, producer, IfAbsent::Add);
        let done = self.got(found.and_then(|transaction| turned.commit(&transaction, number)))?.is_some();
        if done {
            self.tried(number).acknowledged.insert(GROUP);
        }
        Ok(done)
    }

    fn end_kafka(
        &mut self,
        turned: &Turned,
        id: &str,
        producer: Option<ProducerIdentity>,
        number: u32,
        outcome: Outcome,
        epochs: Epochs,
    ) -> Result<Option<ProducerIdentity>> {
        let Some(producer) = producer else { return Ok(None) };
        if outcome == Outcome::Commit {
            self.tried(number).fate = Fate::Either;
        }
        let ended = turned.broker.end_transaction(id, producer, outcome, epochs);
        if outcome == Outcome::Commit {
            self.tried(number).fate = fate(&ended);
        }
        self.got(ended)
    }

    fn begin(&mut self, turned: &Turned, id: &str, number: u32) -> Result<Option<Transaction>> {
        self.tried(number);
        let begun = turned.broker.begin_transaction(id, 60_000);
        Ok(self.got(begun)?.map(|begun| begun.transaction))
    }

    fn init(&mut self, turned: &Turned, id: &str) -> Result<Option<ProducerIdentity>> {
        self.got(turned.broker.init_producer(id, 60_000, None))
    }

    fn plain(&mut self, turned: &Turned, place: usize) -> Result<()> {
        let (topic, partition) = PLACES[place];
        let (mut session, mut gathered) = (turned.broker.write_session(), Gathered::default());
        let ticket = session.add_value(&mut gathered, topic, partition, b"plain");
        session.write(&mut gathered);
        session.make_durable();
        self.got(ticket.and_then(|ticket| session.offset(ticket))).map(drop)
    }

    fn script(&mut self, disk: &MemoryDisk) -> Result<()> {
        let Some(turned) = self.got(Turned::open(disk, self.flush))? else { return Ok(()) };
        self.got(turned.broker.create_topic("orders", 2))?;
        self.got(turned.broker.create_topic("payments", 1))?;
        self.first_life(&turned)?;
        drop(turned);
        let Some(turned) = self.got(Turned::open(disk, self.flush))? else { return Ok(()) };
        self.got(turned.look_after())?;
        self.second_life(&turned)
    }

    /// Transactions of text, of an old Kafka client and of a new one, that overlap.
    fn first_life(&mut self, turned: &Turned) -> Result<()> {
        self.plain(turned, 0)?;
        let mut first = self.begin(turned, "text", 1)?;
        if let Some(first) = &mut first {
            self.send(turned, first, 1, &[0, 1])?;
        }
        let old = self.init(turned, "old")?;
        self.produce(turned, "old", old, 0, 2, 2)?;
        self.produce(turned, "old", old, 0, 2, 0)?;
        self.plain(turned, 0)?;
        if let Some(mut first) = first {
            self.send(turned, &mut first, 1, &[2, GROUP])?;
            self.end(first, 1, Outcome::Commit)?;
        }
        self.end_kafka(turned, "old", old, 2, Outcome::Abort, Epochs::Kept)?;
        // The same pair once more.
        let mut all = true;
        for place in [0, 2] {
            all &= self.produce(turned, "old", old, 1, 3, place)?;
        }
        let outcome = if all { Outcome::Commit } else { Outcome::Abort };
        self.end_kafka(turned, "old", old, 3, outcome, Epochs::Kept)?;
        let mut fenced = self.begin(turned, "other", 4)?;
        if let Some(fenced) = &mut fenced {
            self.send(turned, fenced, 4, &[0, 2, GROUP])?;
        }
        let second = self.begin(turned, "other", 5)?;
        if let Some(mut second) = second {
            self.send(turned, &mut second, 5, &[0, 1, 2, GROUP])?;
            self.end(second, 5, Outcome::Commit)?;
        }
        drop(fenced);
        if let Some(mut rolling) = self.begin(turned, "text", 6)? {
            (0..3).try_for_each(|_| self.send(turned, &mut rolling, 6, &[0, 2]))?;
            self.end(rolling, 6, Outcome::Abort)?;
        }
        // Its end does not wait for the answers.
        if let Some(mut hasty) = self.begin(turned, "text", 10)? {
            self.send_as(turned, &mut hasty, 10, &[1, 2], |_| {})?;
            self.end(hasty, 10, Outcome::Commit)?;
        }
        self.plain(turned, 2)
    }

    /// A Kafka client that goes on after a restart.
    fn second_life(&mut self, turned: &Turned) -> Result<()> {
        let new = self.init(turned, "new")?;
        let mut all = true;
        for place in [1, 0] {
            all &= self.produce(turned, "new", new, 0, 7, place)?;
        }
        all &= self.commit_kafka(turned, "new", new, 7)?;
        let outcome = if all { Outcome::Commit } else { Outcome::Abort };
        let new = self.end_kafka(turned, "new", new, 7, outcome, Epochs::Raised)?;
        self.produce(turned, "new", new, 0, 8, 1)?;
        self.commit_kafka(turned, "new", new, 8)?;
        if let Some(mut last) = self.begin(turned, "text", 9)? {
            self.send(turned, &mut last, 9, &[2, 1, GROUP])?;
            self.end(last, 9, Outcome::Commit)?;
        }
        Ok(())
    }

    /// Opens the broker and lets everything come to its end.
    fn recovered(&self, disk: &MemoryDisk) -> Result<Turned> {
        let turned = Turned::open(disk, self.flush)?;
        (0..PLACES.len()).try_for_each(|place| match turned.partition(place) {
            Ok(partition) => partition.log().map(drop),
            // The script did not come so far, or not durably.
            Err(Error::UnknownTopic(_) | Error::UnknownPartition { .. }) => Ok(()),
            Err(error) => Err(error),
        })?;
        turned.broker.groups()?;
        turned.look_after()?;
        // What a Kafka client left open.
        turned.clock.fetch_add(60_000, Ordering::AcqRel);
        turned.look_after()?;
        Ok(turned)
    }

    /// A recovery with nothing in its way.
    fn recover(&self, disk: &MemoryDisk, context: &str, is_whole_or_absent: bool) {
        let turned = self.recovered(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        let states = turned.broker.transactions().unwrap();
        assert!(
            states.iter().all(|one| ["empty", "complete_commit", "complete_abort"].contains(&one.state)),
            "{context}: {states:?}"
        );
        self.check(&turned, context, is_whole_or_absent);
        // Whoever begins now gets a pair that nobody had, and what was open is not in its way.
        let mut next = self.clone();
        for id in ["text", "other"] {
            let mut transaction = turned.broker.begin_transaction(id, 60_000).unwrap().transaction;
            next.send(&turned, &mut transaction, 99, &[0][..usize::from(turned.partition(0).is_ok())]).unwrap();
            transaction.abort().unwrap_or_else(|error| panic!("{context}: {error}"));
        }
        self.check(&turned, &format!("{context}, and more"), is_whole_or_absent);
    }

    fn check(&self, turned: &Turned, context: &str, is_whole_or_absent: bool) {
        if !is_whole_or_absent && turned.broker.inner().is_incomplete().unwrap() {
            // Power failed, and the state's log was not synced: what it does not tell any more stays open.
            return;
        }
        let mut seen = vec![];
        for place in 0..PLACES.len() {
            let Ok(partition) = turned.partition(place) else {
                seen.push(BTreeMap::new());
                continue;
            };
            let context = format!("{context}: {}", partition.name());
            assert_eq!(partition.open_transactions(), Ok(vec![]), "{context}");
            // What was written in another mode than `always` is shown, and its marker is.
            assert_eq!(partition.last_stable_offset(), partition.high_watermark(), "{context}");
            seen.push(committed(&partition));
            no_marker_twice(&partition, &context);
        }
        if !is_whole_or_absent {
            return;
        }
        for (number, Tried { fate, acknowledged }) in &self.tried {
            let has_committed = turned.has_committed(*number, context).then_some(GROUP);
            let written = (0..PLACES.len()).filter(|place| seen[*place].contains_key(number));
            let found: BTreeSet<usize> = written.chain(has_committed).collect();
            let is_right = match fate {
                Fate::Absent => found.is_empty(),
                Fate::Either => found.is_empty() || found == *acknowledged,
                Fate::Whole => found == *acknowledged,
            };
            assert!(is_right, "{context}: transaction {number} is found in {found:?}, {self:?}");
        }
    }
}

/// Long enough for a few of them to fill a segment.
fn value(number: u32) -> String {
    format!("{number}-{}", "x".repeat(250))
}

fn group(number: u32) -> String {
    format!("g{number}")
}

/// What the answer to a commit says of the transaction.
fn fate<T>(ended: &Result<T>) -> Fate {
    match ended {
        Ok(_) | Err(Error::TimedOut(_)) => Fate::Whole,
        Err(Error::Storage(why)) if why.contains("was aborted") || why.contains("is aborted") => Fate::Absent,
        Err(Error::InvalidTxnState(_) | Error::ProducerFenced(_)) => Fate::Absent,
        Err(_) => Fate::Either,
    }
}

/// How often a reader of committed records finds each transaction.
pub(super) fn committed(partition: &Partition) -> BTreeMap<u32, usize> {
    let (mut chunk, mut found) = (Chunk::default(), BTreeMap::new());
    let (isolation, mut next) = (Isolation::ReadCommitted, partition.start().unwrap());
    while next < partition.end(isolation).unwrap() {
        partition.read_as(View { isolation, form: Form::Records }, next, 1 << 20, &mut chunk).unwrap();
        for line in chunk.records_from(next) {
            let value = line.unwrap().split().unwrap().value.bytes().unwrap().unwrap().into_owned();
            let number = String::from_utf8(value).unwrap().split('-').next().unwrap().parse();
            number.into_iter().for_each(|number: u32| *found.entry(number).or_default() += 1);
        }
        next = chunk.next_offset().unwrap();
    }
    found
}

pub(super) fn no_marker_twice(partition: &Partition, context: &str) {
    let (mut chunk, mut open) = (Chunk::default(), BTreeSet::new());
    let mut next = partition.start().unwrap();
    while next < partition.high_watermark().unwrap() {
        partition.read(next, 1 << 20, &mut chunk).unwrap();
        for batch in &chunk.batches {
            if batch.entry.flags.has(Flags::CONTROL) {
                assert!(open.remove(&batch.entry.producer_id), "{context}: a marker more at {}", batch.first);
            } else if batch.entry.flags.has(Flags::TRANSACTIONAL) {
                open.insert(batch.entry.producer_id);
            }
        }
        next = chunk.next_offset().unwrap();
    }
}

/// Runs the script into each crash, and each crash into several recoveries.
fn crash_everywhere(flush: Flush) {
    let disk = MemoryDisk::crashable();
    let mut all = Model::new(flush, false);
    all.script(&disk).unwrap();
    all.recover(&disk.reboot(Survivors::Everything), "no crash", true);
    assert_eq!(all.tried.values().filter(|tried| tried.fate == Fate::Whole).count(), 6);
    let (calls, is_always) = (disk.calls(), flush == Flush::Always);
    let mut second_crashes = 0;
    for nth in 1..=calls {
        let crash = CRASHES[nth as usize % 3];
        let (disk, mut model) = (MemoryDisk::crashable(), Model::new(flush, false));
        disk.fault(Call::Any, nth, crash);
        let done = model.script(&disk);
        // Maintenance may have made a call in another run that was not left to it in this one. Then power fails now.
        assert!(disk.crashed() || done.is_ok(), "{flush}, {crash:?} call {nth}: {done:?}");
        let survivors = [Survivors::Nothing, Survivors::Everything, Survivors::Seed(nth)][nth as usize / 3 % 3];
        let context = format!("{flush}, {crash:?} call {nth}, {survivors:?}");
        model.recover(&disk.reboot(survivors), &context, is_always || survivors == Survivors::Everything);
        if nth % 2 == 0 {
            continue;
        }
        let survivors = if is_always { Survivors::Seed(!nth) } else { Survivors::Everything };
        let found = disk.reboot(survivors);
        let (again, crash_again) = (1 + nth % 17, CRASHES[nth as usize / 17 % 3]);
        let context = format!("{flush}, {crash:?} call {nth}, {survivors:?}, {crash_again:?} call {again}");
        found.fault(Call::Any, again, crash_again);
        drop(model.recovered(&found));
        second_crashes += u64::from(found.crashed());
        model.recover(&found.reboot(survivors), &context, true);
    }
    assert!(second_crashes * 4 > calls, "most recoveries are interrupted: {second_crashes} of {calls}");
}

#[test]
fn each_transaction_is_whole_or_absent_after_any_crash() {
    crash_everywhere(Flush::Always);
}

#[test]
fn each_transaction_is_whole_or_absent_when_the_process_dies_in_any_mode() {
    crash_everywhere(Flush::Every(std::time::Duration::from_secs(3600)));
}

/// The disk fails, or is full, for one call, and the script goes on.
fn fault_everywhere(flush: Flush, fault: Fault) {
    let disk = MemoryDisk::crashable();
    Model::new(flush, true).script(&disk).unwrap();
    // The odd calls in one mode, the even ones in the other.
    let first = if flush == Flush::Always { 1 } else { 2 };
    for nth in (first..=disk.calls()).step_by(2) {
        let (disk, mut model) = (MemoryDisk::crashable(), Model::new(flush, true));
        disk.fault(Call::Any, nth, fault);
        model.script(&disk).unwrap();
        let survivors = if nth % 4 < 2 { Survivors::Everything } else { Survivors::Seed(nth) };
        let context = format!("{flush}, {fault:?} call {nth}, {survivors:?}");
        let is_whole_or_absent = flush == Flush::Always || survivors == Survivors::Everything;
        model.recover(&disk.reboot(survivors), &context, is_whole_or_absent);
    }
}

#[test]
fn each_transaction_is_whole_or_absent_whatever_call_of_the_disk_fails() {
    fault_everywhere(Flush::Always, Fault::Error);
    fault_everywhere(Flush::Never, Fault::Error);
}

#[test]
fn each_transaction_is_whole_or_absent_wherever_the_disk_is_full() {
    fault_everywhere(Flush::Always, Fault::Full);
    fault_everywhere(Flush::Never, Fault::Full);
}

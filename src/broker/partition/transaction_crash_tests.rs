//! Power fails before, midway and after every disk call of a script of interleaved transactions in one partition; or that call
//! fails and the script goes on. Then all that was promised is there, and transactions are what the lines and entries say.
//!
//! ```text
//! script ─ crash ─ reboot, some of it survives ─ recovery ─ crash ─ reboot ─ recovery ─┐
//! script ─ error, goes on ─ restart ─ recovery ──────────────────────────────────────┴─ as the log says, and it goes on
//! ```
//!
//! What a partition answers (open and aborted transactions, the last stable offset, committed records) is compared with what a reader
//! finds who reads the whole log, in order, and knows nothing but flags.

use super::*;
use crate::{
    broker::{Broker, Clock, Marker},
    config::Config,
    log::{
        Aborted, Outcome,
        disk::{Call, Fault, MemoryDisk, Survivors},
        record::{Records, split_offset},
    },
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::atomic::AtomicI64,
};

const NOW_MS: i64 = 1_700_000_000_000;
const CRASHES: [Fault; 3] = [Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter];
const ERRORS: [Fault; 2] = [Fault::Error, Fault::Full];
const LATE: Flush = Flush::Every(Duration::from_secs(3600));
const COMMITTED: View = View { isolation: Isolation::ReadCommitted, form: Form::Records };

fn open(disk: &MemoryDisk, flush: Flush) -> Result<Arc<Broker>> {
    let topic_defaults = Settings { retention_ms: -1, segment_bytes: 600, ..Settings::default() };
    let config = Config { flush, topic_defaults, ..Config::new("data") };
    let broker = Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(Arc::new(AtomicI64::new(NOW_MS))))?;
    // The coordinator would end what is open: it knows none of these producers.
    broker.inner().env.schedule.stop();
    match broker.create_topic("t", 1) {
        Ok(_) | Err(Error::TopicExists(_)) => Ok(Arc::new(broker)),
        Err(error) => Err(error),
    }
}

fn partition(broker: &Broker) -> Result<Arc<Partition>> {
    broker.topic("t")?.partition(0)
}

/// What the script tried and was promised.
#[derive(Clone, Debug)]
struct Model {
    flush: Flush,
    count: u64,
    /// What was tried at each offset: the fields of a line.
    tried: BTreeMap<u64, Vec<String>>,
    /// All below it is promised.
    end: u64,
    start: u64,
    start_tried: u64,
    /// Offsets of records that a reader of committed records was shown, if that is a promise.
    shown: BTreeSet<u64>,
}

impl Model {
    fn new(flush: Flush) -> Model {
        let (tried, shown) = (BTreeMap::new(), BTreeSet::new());
        Model { flush, count: 0, tried, end: 0, start: 0, start_tried: 0, shown }
    }

    /// Writes a record, in a transaction if it has a producer.
    fn write(&mut self, broker: &Broker, producer_id: Option<i64>) -> Result<()> {
        let t = partition(broker)?;
        self.count += 1;
        let value = format!("{}-{}", self.count, "x".repeat(130));
        self.tried.entry(t.high_watermark()?).or_default().push(format!("message:{value}"));
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Borrowed(value.as_bytes())));
        let producer = producer_id.map(|producer_id| Numbering { producer_id, producer_epoch: 0, base_sequence: 0 });
        let flags = if producer.is_some() { Flags::TRANSACTIONAL } else { Flags::NONE };
        let appended = t.write(&records, Terms { flags, producer, sequence: Sequence::Next, ..Terms::default() })?;
        t.make_durable(&appended)?;
        self.acknowledged(&t, appended.offsets.end)
    }

    fn end(&mut self, broker: &Broker, producer_id: i64, outcome: Outcome) -> Result<()> {
        let t = partition(broker)?;
        let at = t.high_watermark()?;
        let first = t.open_transaction(producer_id)?.map_or(at, |open| open.first);
        let fields = match outcome {
            Outcome::Commit => "control:commit".into(),
            Outcome::Abort => format!("control:abort first:{first}"),
        };
        self.tried.entry(at).or_default().push(fields);
        let marker = Marker { producer_id, producer_epoch: 0, outcome, coordinator_epoch: 0 };
        let appended = t.write_marker(marker)?;
        self.read_committed(&t)?;
        t.make_durable(&appended)?;
        self.acknowledged(&t, appended.offsets.end)
    }

    fn acknowledged(&mut self, t: &Partition, end: u64) -> Result<()> {
        if self.flush == Flush::Always {
            self.end = end;
        }
        self.read_committed(t)
    }

    /// What a reader is shown stays true, if nobody is shown what a crash may take.
    fn read_committed(&mut self, t: &Partition) -> Result<()> {
        if self.flush == Flush::Always {
            self.shown.extend(committed(t)?.keys());
        }
        Ok(())
    }

    fn trim(&mut self, broker: &Broker, offset: u64) -> Result<()> {
        self.start_tried = self.start_tried.max(offset);
        broker.trim("t", 0, offset)?;
        self.start = self.start.max(offset);
        Ok(())
    }

    /// The background thread's.
    fn sync(&mut self, broker: &Broker) -> Result<()> {
        let t = partition(broker)?;
        t.log()?.sync_all()?;
        self.end = t.high_watermark()?;
        Ok(())
    }

    /// Everything that a partition does with transactions. Stops at the first error, if it is told to.
    fn script(&mut self, disk: &MemoryDisk, goes_on: bool) -> Result<()> {
        type Step<'a> = &'a dyn Fn(&mut Model, &Broker) -> Result<()>;
        let write = |producer| move |model: &mut Model, broker: &Broker| model.write(broker, producer);
        let end = |producer, outcome| move |model: &mut Model, broker: &Broker| model.end(broker, producer, outcome);
        let (plain, of_7, of_8, of_9) = (write(None), write(Some(7)), write(Some(8)), write(Some(9)));
        let list = |_: &mut Model, broker: &Broker| partition(broker)?.aborted(0..u64::MAX).map(drop);
        let sync = |model: &mut Model, broker: &Broker| model.sync(broker);
        let trim = |offset| move |model: &mut Model, broker: &Broker| model.trim(broker, offset);
        let before: [Step<'_>; 20] = [
            &plain,
            &of_7,
            &of_8,
            &plain,
            &of_7,
            &end(7, Outcome::Abort),
            &of_9,
            &of_8,
            &list,
            &of_7,
            &plain,
            &end(8, Outcome::Commit),
            &of_7,
            &sync,
            &end(7, Outcome::Abort),
            &of_8,
            &trim(4),
            &plain,
            &end(8, Outcome::Abort),
            &of_7,
        ];
        // 7 and 9 are open meanwhile.
        let after: [Step<'_>; 16] = [
            &of_8,
            &of_7,
            &plain,
            &end(7, Outcome::Commit),
            &list,
            &plain,
            &plain,
            &plain,
            &trim(17),
            &end(9, Outcome::Abort),
            &end(8, Outcome::Commit),
            &of_7,
            &of_7,
            &end(7, Outcome::Abort),
            &trim(24),
            &of_8,
        ];
        for steps in [&before[..], &after] {
            let broker = open(disk, self.flush)?;
            for step in steps {
                let done = step(self, &broker);
                if !goes_on {
                    done?;
                }
            }
        }
        Ok(())
    }

    /// Compares what the partition says with what the log says. Fails if the disk does.
    fn check(&mut self, broker: &Broker, context: &str) -> Result<()> {
        let t = partition(broker)?;
        let (start, end) = (t.start()?, t.high_watermark()?);
        assert!((self.start..=self.start.max(self.start_tried)).contains(&start), "{context}: start {start}, {self:?}");
        assert!(end >= self.end.max(start), "{context}: end {end}, {self:?}");
        let told = Told::by(&t, &self.tried, context)?;
        let mut open: BTreeMap<_, _> =
            t.open_transactions()?.into_iter().map(|open| (open.producer_id, open.first)).collect();
        let stable = open.values().copied().min().unwrap_or(end).max(start).min(end);
        assert_eq!(t.last_stable_offset()?, stable, "{context}: {open:?}");
        // Where its first records were trimmed away, it began at the first that is left, as far as the log tells.
        open.retain(|producer_id, first| *first >= start || told.open.contains_key(producer_id));
        let told_open: BTreeMap<_, _> = told.open.iter().map(|(id, first)| (*id, *first)).collect();
        open.iter_mut().for_each(|(id, first)| *first = (*first).max(told_open.get(id).copied().unwrap_or(start)));
        assert_eq!(open, told_open, "{context}");
        let aborted: Vec<_> = t.aborted(start..u64::MAX)?;
        assert_eq!(aborted, told.aborted, "{context}");
        let committed = committed(&t)?;
        let hidden = |offset: &u64, writer: &Option<i64>| match writer {
            None => false,
            Some(id) => aborted.iter().any(|one| one.producer_id == *id && (one.first..one.marker).contains(offset)),
        };
        let expected: Vec<u64> = told
            .records
            .iter()
            .filter(|(offset, id)| **offset < stable && !hidden(offset, id))
            .map(|(offset, _)| *offset)
            .collect();
        assert_eq!(committed.keys().copied().collect::<Vec<_>>(), expected, "{context}");
        for offset in self.shown.range(start..) {
            assert!(committed.contains_key(offset), "{context}: {offset} was shown");
        }
        self.tried.retain(|&offset, _| offset < end);
        (self.start, self.end) = (start, end);
        Ok(())
    }

    /// A recovery with nothing in its way: all is as the log says, open transactions can be ended, and others begun.
    fn recover(&mut self, disk: &MemoryDisk, context: &str) {
        let broker = open(disk, self.flush).unwrap_or_else(|error| panic!("{context}: {error}"));
        let done = self.check(&broker, context).and_then(|()| {
            self.write(&broker, Some(8))?;
            self.end(&broker, 8, Outcome::Commit)?;
            for open in partition(&broker)?.open_transactions()? {
                self.end(&broker, open.producer_id, Outcome::Abort)?;
            }
            self.write(&broker, None)?;
            self.sync(&broker)?;
            let t = partition(&broker)?;
            assert_eq!(t.last_stable_offset(), t.high_watermark(), "{context}");
            self.check(&broker, context)
        });
        done.unwrap_or_else(|error| panic!("{context}: {error}"));
    }
}

/// What the whole log tells, read in order.
#[derive(Debug, Default)]
struct Told {
    open: BTreeMap<i64, u64>,
    aborted: Vec<Aborted>,
    /// Each record's producer, if it is in a transaction.
    records: BTreeMap<u64, Option<i64>>,
}

impl Told {
    fn by(t: &Partition, tried: &BTreeMap<u64, Vec<String>>, context: &str) -> Result<Told> {
        let (mut told, mut chunk, mut next) = (Told::default(), Chunk::default(), t.start()?);
        loop {
            t.read(next, 1 << 20, &mut chunk)?;
            for batch in &chunk.batches {
                let (id, flags) = (batch.entry.producer_id, batch.entry.flags);
                for line in
                    chunk.lines_from(batch, next).rest().split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
                {
                    let (offset, fields) = split_offset(line).unwrap();
                    let fields = std::str::from_utf8(fields).unwrap();
                    assert_eq!(offset, next, "{context}");
                    assert!(tried[&offset].iter().any(|tried| tried == fields), "{context}: {offset} {fields}");
                    next += 1;
                    if !flags.has(Flags::CONTROL) {
                        let transactional = flags.has(Flags::TRANSACTIONAL);
                        told.records.insert(offset, transactional.then_some(id));
                        if transactional {
                            told.open.entry(id).or_insert(offset);
                        }
                        continue;
                    }
                    told.open.remove(&id);
                    if let Some(first) = fields.strip_prefix("control:abort first:") {
                        let first = first.parse().unwrap();
                        told.aborted.extend((first < offset).then_some(Aborted {
                            producer_id: id,
                            first,
                            marker: offset,
                        }));
                    }
                }
            }
            match chunk.next_offset() {
                Some(behind) => assert_eq!(behind, next, "{context}"),
                None => return Ok(told),
            }
        }
    }
}

/// What a reader of committed records sees.
fn committed(t: &Partition) -> Result<BTreeMap<u64, String>> {
    let (mut found, mut chunk, mut next) = (BTreeMap::new(), Chunk::default(), t.start()?);
    loop {
        t.read_as(COMMITTED, next, 200, &mut chunk)?;
        for line in chunk.records_from(next) {
            let line = line.unwrap();
            found.insert(line.offset, String::from_utf8(line.fields.to_vec()).unwrap());
        }
        match chunk.next_offset() {
            Some(behind) => next = behind,
            None => return Ok(found),
        }
    }
}

/// Runs the script into each crash, and each crash into several recoveries.
fn crash_everywhere(flush: Flush, turn: usize) {
    let disk = MemoryDisk::crashable();
    let mut all = Model::new(flush);
    all.script(&disk, false).unwrap();
    all.recover(&disk.reboot(Survivors::Nothing), "no crash");
    let (mut runs, mut first_crashes, mut second_crashes) = (0, 0, 0);
    for nth in 1..=disk.calls() {
        // Each call crashes in each way, in one of the flush modes.
        let fault = (nth as usize + turn) % 3;
        let crash = CRASHES[fault];
        let (disk, mut model) = (MemoryDisk::crashable(), Model::new(flush));
        disk.fault(Call::Any, nth, crash);
        let done = model.script(&disk, false);
        assert!(disk.crashed() || done.is_ok(), "{flush}, {crash:?} call {nth}: {done:?}");
        runs += 1;
        first_crashes += u64::from(disk.crashed());
        let seed = nth * 3 + fault as u64;
        for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seed(seed)] {
            let context = format!("{flush}, {crash:?} call {nth}, {survivors:?}");
            model.clone().recover(&disk.reboot(survivors), &context);
        }
        let found = disk.reboot(Survivors::Seed(!seed));
        let (again, crash_again) = (1 + seed % 13, CRASHES[seed as usize / 13 % 3]);
        let context = format!("{flush}, {crash:?} call {nth}, seed {}, {crash_again:?} call {again}", !seed);
        found.fault(Call::Any, again, crash_again);
        let _ = open(&found, flush).and_then(|broker| model.check(&broker, &context));
        second_crashes += u64::from(found.crashed());
        let found = found.reboot(Survivors::Seed(seed));
        model.recover(&found, &context);
        model.recover(&found.reboot(Survivors::Nothing), &format!("{context}, once more"));
    }
    assert!(first_crashes * 10 > runs * 9, "nine of ten runs end in a crash: {first_crashes} of {runs}");
    assert!(second_crashes * 3 > runs, "many recoveries are interrupted: {second_crashes} of {runs}");
}

#[test]
fn every_crash_leaves_transactions_as_the_log_tells_with_flush_always() {
    crash_everywhere(Flush::Always, 0);
}

#[test]
fn every_crash_leaves_transactions_as_the_log_tells_with_a_timed_flush() {
    crash_everywhere(LATE, 1);
}

#[test]
fn every_crash_leaves_transactions_as_the_log_tells_without_flush() {
    crash_everywhere(Flush::Never, 2);
}

/// A call fails, or finds the disk full, and what follows is tried all the same. Now, and after a restart, and after a crash, nothing
/// half-done counts; a second fault may hit whatever is done about the first.
#[test]
fn every_error_leaves_transactions_as_the_log_tells() {
    for flush in [Flush::Always, Flush::Never] {
        let disk = MemoryDisk::crashable();
        Model::new(flush).script(&disk, true).unwrap();
        for nth in 1..=disk.calls() {
            let fault = ERRORS[nth as usize % 2];
            for again in [None, Some(nth % 5)] {
                let context = format!("{flush}, {fault:?} call {nth}, again {again:?}");
                let (disk, mut model) = (MemoryDisk::crashable(), Model::new(flush));
                disk.fault(Call::Any, nth, fault);
                if let Some(again) = again {
                    disk.fault(Call::Any, nth + 1 + again, ERRORS[nth as usize % 2]);
                }
                // The broker itself may not open.
                let _ = model.script(&disk, true);
                model.clone().recover(&disk.reboot(Survivors::Everything), &format!("{context}, restart"));
                for survivors in [Survivors::Nothing, Survivors::Seed(nth)] {
                    model.clone().recover(&disk.reboot(survivors), &format!("{context}, {survivors:?}"));
                }
            }
        }
    }
}

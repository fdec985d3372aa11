//! Compaction of transactions, with a crash or an error at every disk call: of each key the last record that was committed is there,
//! nothing that was aborted, and the log by itself still tells which transactions are open.

use super::*;
use crate::{
    broker::{Broker, Clock, Marker},
    config::{Config, Overrides},
    log::{
        Outcome,
        disk::{Call, Fault, MemoryDisk, Survivors},
        record::{Records, parse_control},
    },
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::atomic::AtomicI64,
};

const NOW_MS: i64 = 1_700_000_000_000;
const COMMITTED: View = View { isolation: Isolation::ReadCommitted, form: Form::Records };

fn open(disk: &MemoryDisk) -> Result<Broker> {
    let clock = Clock::Manual(Arc::new(AtomicI64::new(NOW_MS)));
    let broker = Broker::open_on(Arc::new(disk.clone()), Config::new("data"), clock)?;
    // The coordinator would end what is open: it knows none of these producers. And compaction is the script's.
    broker.inner().env.schedule.stop();
    let settings = [("cleanup.policy", "compact"), ("segment.bytes", "1024"), ("delete.retention.ms", "1000")];
    let settings: Overrides = settings.map(|(name, value)| (name.into(), value.into())).into();
    match broker.create_topic_with("t", Some(1), settings) {
        Ok(_) | Err(Error::TopicExists(_)) => Ok(broker),
        Err(error) => Err(error),
    }
}

fn partition(broker: &Broker) -> Result<Arc<Partition>> {
    broker.topic("t")?.partition(0)
}

/// A step of the script.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A record of this key, in a transaction if it has a producer.
    Write(Option<i64>, &'static str),
    End(i64, Outcome),
    /// The segment is sealed, and a pass is made so many ms after the start.
    Compact(i64),
    Trim(u64),
    List,
}

use Outcome::{Abort, Commit};
use Step::{Compact, End, List, Trim, Write};

/// Transactions that end in another order than they began, in other segments; and what compaction does to them meanwhile.
const SCRIPT: [&[Step]; 2] = [
    &[
        Write(None, "a"),
        Write(Some(7), "a"),
        Write(Some(8), "b"),
        Write(Some(7), "c"),
        End(7, Abort),
        Write(None, "c"),
        Compact(0),
        List,
        End(8, Commit),
        Write(None, "d"),
        Write(Some(9), "a"),
        Write(None, "b"),
        Compact(0),
        Write(Some(7), "d"),
        End(7, Commit),
        Write(Some(7), "e"),
        End(9, Commit),
        Compact(500),
        End(7, Abort),
        Write(None, "a"),
        Compact(2000),
        Write(Some(8), "c"),
        Trim(6),
    ],
    &[
        Write(None, "d"),
        Compact(4000),
        List,
        End(8, Abort),
        Write(Some(8), "f"),
        End(8, Commit),
        Write(None, "g"),
        Compact(6000),
        Compact(8000),
        Write(None, "f"),
        Compact(10000),
    ],
];

#[derive(Clone, Debug)]
struct Record {
    key: &'static str,
    value: String,
    producer_id: Option<i64>,
    /// How its transaction was ended.
    outcome: Option<Outcome>,
}

/// What the log may hold by what it promised: one state, or two while a step is under way.
#[derive(Clone, Debug)]
struct Model {
    count: u64,
    states: Vec<BTreeMap<u64, Record>>,
}

impl Model {
    fn new() -> Model {
        Model { count: 0, states: vec![BTreeMap::new()] }
    }

    /// Does a step. Where the log is in doubt afterwards, it may have been done or not.
    fn step(&mut self, broker: &Broker, step: Step) -> Result<()> {
        let t = partition(broker)?;
        // Nothing more is written after a fault that nobody knows the end of.
        t.check_intact(u64::MAX)?;
        let before = self.states.clone();
        let done = self.try_step(&t, step);
        if done.is_err() && t.check_intact(u64::MAX).is_ok() {
            self.states = before;
        }
        done
    }

    fn try_step(&mut self, t: &Partition, step: Step) -> Result<()> {
        let offset = t.high_watermark()?;
        match step {
            Write(producer_id, key) => {
                self.count += 1;
                let (value, mut records) = (format!("{}-{}", self.count, "x".repeat(200)), Records::default());
                records.push(None, Some(Cow::Borrowed(key.as_bytes())), Some(Cow::Borrowed(value.as_bytes())));
                let record = Record { key, value: value.clone(), producer_id, outcome: None };
                self.change(|state| _ = state.insert(offset, record.clone()));
                let numbering = |producer_id| Numbering { producer_id, producer_epoch: 0, base_sequence: 0 };
                let flags = if producer_id.is_some() { Flags::TRANSACTIONAL } else { Flags::NONE };
                let producer = producer_id.map(numbering);
                let appended =
                    t.write(&records, Terms { flags, producer, sequence: Sequence::Next, ..Terms::default() })?;
                t.make_durable(&appended)?;
                self.settle();
            }
            End(producer_id, outcome) => {
                self.change(|state| {
                    let of_producer = state.values_mut().filter(|record| record.producer_id == Some(producer_id));
                    of_producer.for_each(|record| _ = record.outcome.get_or_insert(outcome));
                });
                let marker = Marker { producer_id, producer_epoch: 0, outcome, coordinator_epoch: 0 };
                let appended = t.write_marker(marker)?;
                t.make_durable(&appended)?;
                self.settle();
            }
            Compact(after_ms) => {
                t.log()?.roll_if_old(i64::MAX, 0)?;
                t.look_after()?;
                t.log()?.compact(NOW_MS + after_ms, &t.settings()?.compaction(), &|| false)?;
            }
            Trim(offset) => _ = t.trim(offset)?,
            List => drop(t.aborted(0..u64::MAX)?),
        }
        Ok(())
    }

    fn change(&mut self, change: impl Fn(&mut BTreeMap<u64, Record>)) {
        let mut changed = self.states.clone();
        changed.iter_mut().for_each(change);
        self.states.extend(changed);
    }

    /// The last step is acknowledged: only the states in which it was done are left.
    fn settle(&mut self) {
        self.states.drain(..self.states.len() / 2);
    }

    fn script(&mut self, disk: &MemoryDisk, goes_on: bool) -> Result<()> {
        for steps in SCRIPT {
            let broker = open(disk)?;
            for &step in steps {
                let done = self.step(&broker, step);
                if !goes_on {
                    done?;
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, broker: &Broker, context: &str) -> Result<()> {
        let t = partition(broker)?;
        let (start, end, stable) = (t.start()?, t.high_watermark()?, t.last_stable_offset()?);
        let found = committed(&t)?;
        let wanted = |state: &BTreeMap<u64, Record>| {
            let mut last = BTreeMap::new();
            let shown = |record: &Record| record.producer_id.is_none() || record.outcome == Some(Commit);
            for (offset, record) in state.range(start..).filter(|(offset, record)| **offset < stable && shown(record)) {
                last.insert(record.key.to_string(), (*offset, record.value.clone()));
            }
            last
        };
        // Of a key whose last record may have been trimmed away an older one is gone, too.
        let last: BTreeMap<_, _> = found.into_iter().map(|(offset, (key, value))| (key, (offset, value))).collect();
        let fits = self.states.iter().position(|state| wanted(state) == last);
        let told = self.states.iter().map(wanted).collect::<Vec<_>>();
        assert!(fits.is_some(), "{context}: {start}..{end}, stable {stable}: {last:?}, not {told:?}");
        told_by_the_log(&t, context)
    }

    fn recover(&mut self, disk: &MemoryDisk, context: &str) {
        let broker = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        let done = self.check(&broker, context).and_then(|()| {
            let t = partition(&broker)?;
            t.log()?.roll_if_old(i64::MAX, 0)?;
            for after_ms in [20_000, 30_000] {
                t.log()?.compact(NOW_MS + after_ms, &t.settings()?.compaction(), &|| false)?;
                self.check(&broker, &format!("{context}, compacted"))?;
            }
            Ok(())
        });
        done.unwrap_or_else(|error| panic!("{context}: {error}"));
    }
}

/// Key and value of each record that a reader of committed records sees.
fn committed(t: &Partition) -> Result<BTreeMap<u64, (String, String)>> {
    let (mut found, mut chunk, mut next) = (BTreeMap::new(), Chunk::default(), t.start()?);
    loop {
        t.read_as(COMMITTED, next, 200, &mut chunk)?;
        for line in chunk.records_from(next) {
            let line = line.unwrap();
            let fields = std::str::from_utf8(line.fields).unwrap();
            let (key, value) = fields.strip_prefix("key:").unwrap().split_once(" message:").unwrap();
            found.insert(line.offset, (key.into(), value.into()));
        }
        match chunk.next_offset() {
            Some(behind) => next = behind,
            None => return Ok(found),
        }
    }
}

/// Who reads the whole log in order learns the same of transactions as is kept elsewhere.
fn told_by_the_log(t: &Partition, context: &str) -> Result<()> {
    let (mut open, mut markers, mut chunk, mut next) = (BTreeSet::new(), BTreeSet::new(), Chunk::default(), t.start()?);
    loop {
        t.read(next, 1 << 20, &mut chunk)?;
        for batch in &chunk.batches {
            let (id, flags) = (batch.entry.producer_id, batch.entry.flags);
            if flags.has(Flags::CONTROL) {
                open.remove(&id);
                let line = chunk.lines_of(batch).next().unwrap().unwrap();
                let first = parse_control(line.fields).unwrap().first;
                markers.extend(first.filter(|&first| first < batch.first).map(|_| batch.first));
            } else if flags.has(Flags::TRANSACTIONAL) {
                open.insert(id);
            }
        }
        match chunk.next_offset() {
            Some(behind) => next = behind,
            None => break,
        }
    }
    let known = t.open_transactions()?;
    assert!(open.iter().all(|id| known.iter().any(|known| known.producer_id == *id)), "{context}: {open:?}, {known:?}");
    let start = t.start()?;
    let may_be_trimmed = |id: &i64, first: u64| first < start || open.contains(id);
    assert!(
        known.iter().all(|known| may_be_trimmed(&known.producer_id, known.first)),
        "{context}: {open:?}, {known:?}"
    );
    let listed: BTreeSet<_> = t.aborted(start..u64::MAX)?.iter().map(|aborted| aborted.marker).collect();
    assert_eq!(listed, markers, "{context}: who is told of an aborted transaction finds its marker");
    Ok(())
}

const SURVIVORS: [Survivors; 3] = [Survivors::Nothing, Survivors::Everything, Survivors::Seed(1)];

#[test]
fn every_crash_of_a_compaction_leaves_what_was_committed() {
    let disk = MemoryDisk::crashable();
    let mut all = Model::new();
    all.script(&disk, false).unwrap();
    all.recover(&disk.reboot(Survivors::Nothing), "no crash");
    for nth in 1..=disk.calls() {
        let crash = [Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter][nth as usize % 3];
        let (disk, mut model) = (MemoryDisk::crashable(), Model::new());
        disk.fault(Call::Any, nth, crash);
        let _ = model.script(&disk, false);
        for survivors in [SURVIVORS[nth as usize % 3], Survivors::Seed(nth)] {
            let context = format!("{crash:?} call {nth}, {survivors:?}");
            let found = disk.reboot(survivors);
            // Crash again.
            found.fault(Call::Any, 1 + nth % 17, Fault::CrashMidway);
            let _ = open(&found).and_then(|broker| model.check(&broker, &context));
            model.clone().recover(&found.reboot(survivors), &format!("{context}, again"));
            model.clone().recover(&disk.reboot(survivors), &context);
        }
    }
}

#[test]
fn every_error_of_a_compaction_leaves_what_was_committed() {
    let disk = MemoryDisk::crashable();
    Model::new().script(&disk, true).unwrap();
    for nth in 1..=disk.calls() {
        let fault = [Fault::Error, Fault::Full][nth as usize % 2];
        for again in [None, Some(nth % 7)] {
            let (disk, mut model) = (MemoryDisk::crashable(), Model::new());
            disk.fault(Call::Any, nth, fault);
            if let Some(again) = again {
                disk.fault(Call::Any, nth + 1 + again, Fault::Full);
            }
            let _ = model.script(&disk, true);
            for survivors in [Survivors::Everything, Survivors::Seed(nth)] {
                let context = format!("{fault:?} call {nth}, again {again:?}, {survivors:?}");
                model.clone().recover(&disk.reboot(survivors), &context);
            }
        }
    }
}

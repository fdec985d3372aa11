//! Power fails before, midway and after every disk call of a script that does everything a broker does to a disk.
//!
//! ```text
//! script ─ crash ─ reboot, some of it survives ─ recovery ─ crash ─ reboot ─ recovery ─ all that was promised is there
//! ```
//!
//! The script notes what it tries before it tries it, and what it was promised when the answer comes. So after a crash
//! each record is either promised, or possible, or wrong.
#![allow(clippy::unwrap_used)]

use plainlog::{
    broker::{Broker, Clock, Error, Partition, Result, Terms},
    config::{Changes, Config, Flush, Settings},
    log::{
        Chunk, Numbering, Retention,
        disk::{Call, Disk, Fault, MemoryDisk, Survivors},
        record::{Records, split_offset},
    },
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

const NOW_MS: i64 = 1_700_000_000_000;
const CRASHES: [Fault; 3] = [Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter];
/// Syncs that come due are the script's, so that each run does the same.
const LATE: Flush = Flush::Every(Duration::from_secs(3600));

fn open(disk: &MemoryDisk, flush: Flush) -> Result<Broker> {
    let topic_defaults = Settings { retention_ms: -1, segment_bytes: 1024, ..Settings::default() };
    let config = Config { flush, topic_defaults, ..Config::new("data") };
    Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(Arc::new(AtomicI64::new(NOW_MS))))
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum There {
    Yes,
    /// It was being made or taken away when power failed.
    Perhaps,
    No,
}

#[derive(Clone, Debug, Default)]
struct Promised {
    /// Value of each record that was tried.
    tried: BTreeMap<u64, String>,
    /// All below it is durable.
    end: u64,
    start: u64,
    start_tried: u64,
}

#[derive(Clone, Debug)]
struct Topic {
    there: There,
    /// Partitions promised; more may have been tried.
    promised: usize,
    partitions: Vec<Promised>,
}

/// What the script was promised, and what it tried.
#[derive(Clone, Debug)]
struct Model {
    flush: Flush,
    count: u64,
    topics: BTreeMap<String, Topic>,
}

impl Model {
    fn new(flush: Flush) -> Model {
        Model { flush, count: 0, topics: BTreeMap::new() }
    }

    fn of(&mut self, topic: &str, partition: u32) -> &mut Promised {
        &mut self.topics.get_mut(topic).unwrap().partitions[partition as usize]
    }

    fn create(&mut self, broker: &Broker, name: &str, partitions: u32) -> Result<()> {
        let partitions_tried = vec![Promised::default(); partitions as usize];
        let topic = Topic { there: There::Perhaps, promised: partitions as usize, partitions: partitions_tried };
        self.topics.insert(name.into(), topic);
        broker.create_topic(name, partitions)?;
        self.topics.get_mut(name).unwrap().there = There::Yes;
        Ok(())
    }

    fn drop(&mut self, broker: &Broker, name: &str) -> Result<()> {
        self.topics.get_mut(name).unwrap().there = There::Perhaps;
        broker.drop_topic(name)?;
        self.topics.get_mut(name).unwrap().there = There::No;
        Ok(())
    }

    fn grow(&mut self, broker: &Broker, name: &str, partitions: u32) -> Result<()> {
        let topic = self.topics.get_mut(name).unwrap();
        topic.partitions.resize(partitions as usize, Promised::default());
        broker.alter_topic(name, Some(partitions), &Changes::default())?;
        topic.promised = partitions as usize;
        Ok(())
    }

    fn append(&mut self, broker: &Broker, topic: &str, index: u32, sizes: &[usize]) -> Result<()> {
        let partition = broker.topic(topic)?.partition(index)?;
        let (first, mut records) = (partition.high_watermark()?, Records::default());
        for (offset, size) in (first..).zip(sizes) {
            self.count += 1;
            let value = format!("{}-{}", self.count, "x".repeat(*size));
            records.push(None, None, Some(Cow::Owned(value.clone().into_bytes())));
            self.of(topic, index).tried.insert(offset, value);
        }
        let appended = partition.write(&records, Terms::default())?;
        assert_eq!(appended.offsets.start, first);
        partition.make_durable(&appended)?;
        if self.flush == Flush::Always {
            self.of(topic, index).end = appended.offsets.end;
        }
        assert_eq!(appended.failed.is_none(), appended.offsets.end == first + sizes.len() as u64);
        appended.failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// What the background thread does when a sync is due.
    fn sync(&mut self, broker: &Broker, topic: &str, index: u32) -> Result<()> {
        let partition = broker.topic(topic)?.partition(index)?;
        partition.log()?.sync_all()?;
        self.of(topic, index).end = partition.high_watermark()?;
        Ok(())
    }

    fn trim(&mut self, broker: &Broker, topic: &str, index: u32, offset: u64) -> Result<()> {
        self.of(topic, index).start_tried = offset;
        broker.trim(topic, index, offset)?;
        self.of(topic, index).start = offset;
        Ok(())
    }

    /// What the background thread does for retention.
    fn retain(&mut self, broker: &Broker, topic: &str, index: u32, retention: Retention) -> Result<()> {
        let expired = broker.topic(topic)?.partition(index)?.log()?.expired_to(NOW_MS + 10, retention)?;
        self.trim(broker, topic, index, expired.expect("retention has something to take"))
    }

    /// Everything that a broker does to a disk.
    fn script(&mut self, disk: &MemoryDisk) -> Result<()> {
        let broker = open(disk, self.flush)?;
        self.create(&broker, "a", 2)?;
        self.append(&broker, "a", 0, &[10])?;
        self.append(&broker, "a", 1, &[10, 20, 30])?;
        for size in [300, 300, 300, 300, 300, 2000, 300] {
            self.append(&broker, "a", 0, &[size, 5])?;
        }
        self.sync(&broker, "a", 0)?;
        self.trim(&broker, "a", 0, 3)?;
        self.create(&broker, "b", 1)?;
        self.append(&broker, "b", 0, &[400; 5])?;
        self.trim(&broker, "a", 0, 6)?;
        self.append(&broker, "a", 0, &[30])?;
        self.grow(&broker, "a", 3)?;
        self.append(&broker, "a", 2, &[30])?;
        self.retain(&broker, "a", 0, Retention { ms: -1, bytes: 500, timestamp_after_max_ms: 0 })?;
        self.drop(&broker, "b")?;
        self.create(&broker, "b", 1)?;
        self.append(&broker, "b", 0, &[10])?;
        self.append(&broker, "b", 0, &[20])?;
        // All of a log goes: it keeps its end.
        self.trim(&broker, "b", 0, 2)?;
        self.append(&broker, "b", 0, &[30])?;
        drop(broker);
        let broker = open(disk, self.flush)?;
        self.append(&broker, "a", 1, &[700, 700])?;
        self.sync(&broker, "a", 1)?;
        self.retain(&broker, "a", 1, Retention { ms: 5, bytes: -1, timestamp_after_max_ms: 0 })?;
        self.append(&broker, "a", 1, &[7])?;
        self.append(&broker, "b", 0, &[9])?;
        self.drop(&broker, "b")
    }

    /// What a reader finds is promised from then on, in every mode. Fails if the disk does.
    fn read(&mut self, broker: &Broker, context: &str) -> Result<()> {
        for topic in broker.topics() {
            let promised = self.topics.get_mut(&topic.name).unwrap_or_else(|| panic!("{context}: {topic:?}"));
            assert_ne!(promised.there, There::No, "{context}: {} is there again", topic.name);
            let count = topic.partitions().len();
            assert!((promised.promised..=promised.partitions.len()).contains(&count), "{context}: {count} partitions");
            for (partition, promised) in topic.partitions().iter().zip(&mut promised.partitions) {
                promised.read(partition, &format!("{context}: {}/{}", topic.name, partition.index))?;
            }
        }
        Ok(())
    }

    /// A recovery with nothing in its way: all is there that must be, and takes more.
    fn recover(&mut self, disk: &MemoryDisk, context: &str) {
        let broker = open(disk, self.flush).unwrap_or_else(|error| panic!("{context}: {error}"));
        self.read(&broker, context).unwrap_or_else(|error| panic!("{context}: {error}"));
        for (name, promised) in &mut self.topics {
            match broker.topic(name) {
                Err(_) => assert_ne!(promised.there, There::Yes, "{context}: {name} is gone"),
                Ok(topic) => promised.partitions.truncate(topic.partitions().len()),
            }
            promised.promised = promised.partitions.len();
        }
        self.topics.retain(|name, _| broker.topic(name).is_ok());
        self.topics.values_mut().for_each(|topic| topic.there = There::Yes);
        for (name, partitions) in self.topics.clone().into_iter().map(|(name, topic)| (name, topic.promised)) {
            for index in 0..partitions as u32 {
                self.append(&broker, &name, index, &[3]).unwrap_or_else(|error| panic!("{context}: {error}"));
                self.sync(&broker, &name, index).unwrap();
            }
        }
    }
}

impl Promised {
    fn read(&mut self, partition: &Partition, context: &str) -> Result<()> {
        let (start, end) = (partition.start()?, partition.high_watermark()?);
        assert!((self.start..=self.start.max(self.start_tried)).contains(&start), "{context}: start {start}, {self:?}");
        assert!(end >= self.end.max(start), "{context}: end {end}, {self:?}");
        let (mut next, mut chunk) = (start, Chunk::default());
        while next < end {
            partition.read(next, 1 << 20, &mut chunk)?;
            let before = next;
            for batch in &chunk.batches {
                for line in chunk.lines_from(batch, next).rest().split_inclusive(|&byte| byte == b'\n') {
                    let (offset, fields) = split_offset(line).unwrap();
                    assert_eq!(offset, next, "{context}");
                    let tried = self.tried.get(&offset).map(|value| format!("message:{value}\n"));
                    assert_eq!(tried.as_deref(), Some(str::from_utf8(fields).unwrap()), "{context}: offset {offset}");
                    next += 1;
                }
            }
            assert!(next > before, "{context}: nothing at {next}, and the end is {end}");
        }
        self.tried.retain(|&offset, _| offset < end);
        (self.start, self.end) = (start, end);
        Ok(())
    }
}

/// Runs the script into each crash, and each crash into several recoveries.
fn crash_everywhere(flush: Flush) {
    let disk = MemoryDisk::crashable();
    let mut all = Model::new(flush);
    all.script(&disk).unwrap();
    all.recover(&disk.reboot(Survivors::Nothing), "no crash");
    let (mut first_crashes, mut second_crashes) = (0, 0);
    for nth in 1..=disk.calls() {
        for (fault, crash) in CRASHES.into_iter().enumerate() {
            let (disk, mut model) = (MemoryDisk::crashable(), Model::new(flush));
            disk.fault(Call::Any, nth, crash);
            let done = model.script(&disk);
            // Maintenance may have made a call in another run that was not left to it in this one. Then there was no crash, and
            // power fails now.
            assert!(disk.crashed() || done.is_ok(), "{flush}, {crash:?} call {nth}: {done:?}");
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
            let _ = open(&found, flush).and_then(|broker| model.read(&broker, &context));
            second_crashes += u64::from(found.crashed());
            let found = found.reboot(Survivors::Seed(seed));
            model.recover(&found, &context);
            // What a recovery served and what it was given then is durable.
            model.recover(&found.reboot(Survivors::Nothing), &format!("{context}, once more"));
        }
    }
    assert!(first_crashes * 10 > disk.calls() * 3 * 9, "nine of ten runs end in a crash: {first_crashes}");
    assert!(second_crashes > disk.calls(), "most recoveries are interrupted: {second_crashes}");
}

#[test]
fn always_keeps_what_it_acknowledged_through_every_crash() {
    crash_everywhere(Flush::Always);
}

#[test]
fn timed_flush_keeps_what_it_synced_through_every_crash() {
    crash_everywhere(LATE);
}

#[test]
fn never_keeps_an_unbroken_beginning_through_every_crash() {
    crash_everywhere(Flush::Never);
}

/// One topic, in `always` mode, with some records.
fn small(disk: &MemoryDisk) -> (Broker, Model) {
    let (broker, mut model) = (open(disk, Flush::Always).unwrap(), Model::new(Flush::Always));
    model.create(&broker, "a", 1).unwrap();
    model.append(&broker, "a", 0, &[10, 20]).unwrap();
    (broker, model)
}

#[test]
fn failed_write_or_sync_acknowledges_nothing_and_a_restart_serves_all_that_was() {
    for (call, nth) in [(Call::Write, 1), (Call::Write, 2), (Call::Sync, 1), (Call::Sync, 2)] {
        for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seed(nth), Survivors::Seed(nth + 7)] {
            let disk = MemoryDisk::crashable();
            let (broker, mut model) = small(&disk);
            disk.fault(call, nth, Fault::Error);
            let context = format!("{call:?} {nth}");
            let error = model.append(&broker, "a", 0, &[30]).unwrap_err();
            assert!(error.to_string().contains("read-only until the broker restarts"), "{context}: {error}");
            let partition = broker.topic("a").unwrap().partition(0).unwrap();
            assert_eq!(partition.high_watermark().unwrap(), 2, "{context}: nobody is shown what is not durable");
            let mut refused = model.clone();
            assert_eq!(refused.append(&broker, "a", 0, &[40]), Err(error), "{context}");
            model.clone().read(&broker, &context).unwrap();
            drop(broker);
            // The program starts again on what the system has in memory; then power fails.
            model.recover(&disk, &context);
            model.recover(&disk.reboot(survivors), &format!("{context}, then {survivors:?}"));
        }
    }
}

#[test]
fn partition_whose_disk_failed_disturbs_no_other() {
    let disk = MemoryDisk::crashable();
    let (broker, mut model) = small(&disk);
    model.create(&broker, "b", 1).unwrap();
    disk.fault(Call::Write, 1, Fault::Error);
    model.append(&broker, "a", 0, &[30]).unwrap_err();
    model.append(&broker, "b", 0, &[30]).unwrap();
    drop(broker);
    model.recover(&disk.reboot(Survivors::Nothing), "restart");
}

#[test]
fn full_disk_refuses_and_goes_on_once_there_is_room() {
    for room in 0..400 {
        let disk = MemoryDisk::crashable();
        let (broker, mut model) = small(&disk);
        disk.set_capacity(disk.used() + room);
        // The records fill a segment, so that some are refused by a roll.
        let mut filled = false;
        for _ in 0..6 {
            match model.append(&broker, "a", 0, &[50]) {
                Ok(()) => assert!(!filled, "{room}: a smaller disk cannot hold more"),
                Err(error) => {
                    assert!(matches!(&error, Error::Storage(why) if why.contains("disk is full")), "{room}: {error}");
                    filled = true;
                }
            }
        }
        assert_eq!(filled, room < 6 * (64 + 60), "{room}");
        model.clone().read(&broker, "full").unwrap();
        disk.set_capacity(u64::MAX);
        model.append(&broker, "a", 0, &[50, 60]).unwrap();
        model.clone().read(&broker, "room again").unwrap();
        drop(broker);
        model.recover(&disk.reboot(Survivors::Seed(room)), "restart");
    }
}

#[test]
fn topic_that_a_full_disk_refused_can_be_made_later() {
    let disk = MemoryDisk::crashable();
    let (broker, mut model) = small(&disk);
    disk.set_capacity(disk.used() + 5);
    model.create(&broker, "b", 1).unwrap_err();
    let names = disk.list(Path::new("data")).unwrap();
    assert!(names.iter().all(|name| !name.name.starts_with("~new-")), "{names:?}");
    disk.set_capacity(u64::MAX);
    model.create(&broker, "b", 1).unwrap();
    drop(broker);
    model.recover(&disk.reboot(Survivors::Nothing), "restart");
}

#[test]
fn batch_sent_again_is_stored_once_whatever_failed_at_a_roll() {
    let send = |broker: &Broker, sequence: i32| -> Result<u64> {
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Owned(vec![b'x'; 300])));
        let partition = broker.topic("a")?.partition(0)?;
        let numbering = Numbering { producer_id: 1, producer_epoch: 0, base_sequence: sequence };
        let terms = Terms { producer: Some(numbering), ..Terms::default() };
        let appended = partition.write(&records, terms)?;
        partition.make_durable(&appended)?;
        Ok(appended.offsets.start)
    };
    let mut calls = 0;
    for nth in 1.. {
        let disk = MemoryDisk::crashable();
        let broker = open(&disk, Flush::Always).unwrap();
        broker.create_topic("a", 1).unwrap();
        // Three fill a segment. The fourth begins another, with a file for the producers beside it.
        (0..3).for_each(|sequence| assert_eq!(send(&broker, sequence), Ok(sequence as u64)));
        let before = disk.calls();
        disk.fault(Call::Any, nth, Fault::Error);
        let sent = send(&broker, 3);
        calls = calls.max(disk.calls() - before);
        let again = send(&broker, 3);
        assert!(again == Ok(3) || sent.is_err() && again.is_err(), "call {nth}: {sent:?}, then {again:?}");
        drop(broker);
        for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Seed(nth)] {
            let broker = open(&disk.reboot(survivors), Flush::Always).unwrap();
            assert_eq!(send(&broker, 3), Ok(3), "call {nth}, {survivors:?}");
            assert_eq!(
                broker.topic("a").unwrap().partition(0).unwrap().high_watermark(),
                Ok(4),
                "call {nth}, {survivors:?}"
            );
        }
        if nth > calls {
            break;
        }
    }
    assert!(calls > 10, "a roll takes more than {calls} calls");
}

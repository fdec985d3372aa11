//! Partitions by a clock and a disk of the test's.

use super::*;
use crate::{
    broker::{Broker, Clock, producer_state},
    config::{Changes, Config, Overrides},
    log::{
        Appended,
        disk::{Disk, MemoryDisk},
        record::Records,
    },
};
use std::{
    borrow::Cow,
    path::Path,
    sync::atomic::AtomicI64,
    time::{Duration, Instant},
};

fn record(bytes: &[u8]) -> Records<'_> {
    let mut records = Records::default();
    records.push(None, None, Some(Cow::Borrowed(bytes)));
    records
}

#[test]
fn much_that_is_not_synced_does_not_wait_for_its_time() {
    let config = Config { flush: Flush::Every(Duration::from_secs(3600)), ..Config::in_memory() };
    let broker = Broker::open(config).unwrap();
    broker.create_topic("t", 1).unwrap();
    let partition = broker.topic("t").unwrap().partition(0).unwrap();
    let value = vec![b'x'; 1 << 20];
    let write = |value: &[u8]| {
        let appended = partition.write(&record(value), Terms::default()).unwrap();
        partition.make_durable(&appended).unwrap();
        appended.unsynced_bytes
    };
    for _ in 0..65 {
        write(&value);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while write(b"") > writing::UNSYNCED_BYTES_MAX {
        assert!(Instant::now() < deadline, "it is never synced");
    }
}

#[test]
fn what_waits_for_its_sync_is_shown_though_the_mode_changes_meanwhile() {
    let broker = Broker::open(Config { flush: Flush::Never, ..Config::in_memory() }).unwrap();
    let always = Overrides::from([("flush.ms".into(), "0".into())]);
    broker.create_topic_with("t", Some(1), always).unwrap();
    let topic = broker.topic("t").unwrap();
    let partition = topic.partition(0).unwrap();
    let appended = partition.write(&record(b"hello"), Terms::default()).unwrap();
    assert_eq!(partition.high_watermark(), Ok(0));
    broker.alter_topic("t", None, &Changes { reset_others: true, ..Changes::default() }).unwrap();
    partition.make_durable(&appended).unwrap();
    assert_eq!(partition.high_watermark(), Ok(1));
}

#[test]
fn segments_that_began_together_are_sealed_one_by_one_where_jitter_is_set() {
    let clock = Arc::new(AtomicI64::new(0));
    let config = Config { flush: Flush::Never, ..Config::in_memory() };
    let broker = Broker::open_on(Arc::new(MemoryDisk::default()), config, Clock::Manual(clock.clone())).unwrap();
    let settings = [("segment.ms", "1000"), ("segment.jitter.ms", "900"), ("retention.ms", "-1")];
    let settings = settings.map(|(name, value)| (name.into(), value.into())).into();
    broker.create_topic_with("t", Some(40), settings).unwrap();
    let partitions = broker.topic("t").unwrap().partitions();
    for partition in &partitions {
        partition.write(&record(b"hello"), Terms::default()).unwrap();
    }
    let sealed_at = |now_ms| {
        clock.store(now_ms, Release);
        for partition in &partitions {
            partition.look_after().unwrap();
        }
        partitions.iter().filter(|partition| partition.log().unwrap().segments() > 1).count()
    };
    assert_eq!(sealed_at(100), 0);
    assert!((1..40).contains(&sealed_at(550)), "of forty one is early and one is late");
    assert_eq!(sealed_at(1000), 40);
}

#[test]
fn what_a_producer_wrote_is_known_though_time_and_trim_took_it() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(0)));
    let open = || Broker::open_on(Arc::new(disk.clone()), Config::new("data"), Clock::Manual(clock.clone())).unwrap();
    let partition = |broker: &Broker| broker.topic("t").unwrap().partition(0).unwrap();
    let write = |broker: &Broker, producer| {
        partition(broker).write(&record(b"hello"), Terms { producer, ..Terms::default() }).unwrap()
    };
    let numbered = first_of(7);
    let broker = open();
    broker.create_topic_with("t", Some(1), Overrides::from([("segment.ms".into(), "1000".into())])).unwrap();
    assert!(!write(&broker, numbered).known);
    for now_ms in [1000, 2000] {
        clock.store(now_ms, Release);
        partition(&broker).look_after().unwrap();
        write(&broker, None);
    }
    drop(broker);
    let broker = open();
    assert!(write(&broker, numbered).known);
    assert_eq!(partition(&broker).trim(3), Ok(3));
    drop(broker);
    assert!(write(&open(), numbered).known);
}

/// A broker by a clock, with a topic of one partition whose segments take some 1,000 bytes.
fn broker_on(disk: &MemoryDisk, clock: &Arc<AtomicI64>) -> Broker {
    let topic_defaults = Settings { segment_bytes: 1024, retention_ms: -1, ..Settings::default() };
    let config = Config { topic_defaults, ..Config::new("data") };
    let broker = Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(clock.clone())).unwrap();
    if broker.topic("t").is_err() {
        broker.create_topic("t", 1).unwrap();
    }
    broker
}

/// The first batch of a producer.
fn first_of(producer_id: i64) -> Option<Numbering> {
    Some(Numbering { producer_id, producer_epoch: 0, base_sequence: 0 })
}

/// Writes a record dated 2001.
fn write_old(broker: &Broker, producer: Option<Numbering>) -> Appended {
    let mut records = Records::default();
    records.push(Some(1_000_000_000_000), None, Some(Cow::Owned(vec![b'x'; 300])));
    let partition = broker.topic("t").unwrap().partition(0).unwrap();
    partition.write(&records, Terms { producer, ..Terms::default() }).unwrap()
}

/// A batch that came again was answered with its largest time, and after a restart with that of its first record.
#[test]
fn a_duplicate_has_the_same_time_after_a_restart() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(1_700_000_000_000)));
    let write = |broker: &Broker| {
        let mut records = Records::default();
        for timestamp in [1_000_000_000_000, 1_000_000_000_500, 1_000_000_000_300] {
            records.push(Some(timestamp), None, Some(Cow::Borrowed(b"hello")));
        }
        let partition = broker.topic("t").unwrap().partition(0).unwrap();
        partition.write(&records, Terms { producer: first_of(7), ..Terms::default() }).unwrap()
    };
    assert!(!write(&broker_on(&disk, &clock)).known);
    for _ in 0..2 {
        let broker = broker_on(&disk, &clock);
        for _ in 0..2 {
            let again = write(&broker);
            assert!(again.known);
            assert_eq!(again.now_ms, 1_000_000_000_500);
        }
    }
}

/// A mirror writes what was written years ago. Its producer was as good as forgotten at once.
#[test]
fn a_producer_is_as_old_as_its_last_append_however_old_its_records_are() {
    const NOW_MS: i64 = 1_700_000_000_000;
    let many_others = |broker: &Broker| (100..1200).for_each(|id| drop(write_old(broker, first_of(id))));
    for rolls in [false, true] {
        let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(NOW_MS)));
        let broker = broker_on(&disk, &clock);
        assert!(!write_old(&broker, first_of(7)).known);
        if rolls {
            (0..4).for_each(|_| drop(write_old(&broker, None)));
        }
        drop(broker);
        let broker = broker_on(&disk, &clock);
        many_others(&broker);
        let again = write_old(&broker, first_of(7));
        assert!(again.known);
        assert_eq!(again.now_ms, 1_000_000_000_000, "Kafka tells the time of the batch that is stored");
        clock.store(NOW_MS + producer_state::EXPIRES_MS, Release);
        assert!(write_old(&broker, first_of(7)).known, "a day of silence is just over");
        clock.fetch_add(1, AcqRel);
        assert!(!write_old(&broker, first_of(7)).known, "a day and a millisecond");
    }
}

/// DROP and CREATE of the same name came between a roll and its `.producers` file, which went to the new topic's folder: the new
/// topic took the first batch of a producer for one that it had.
#[test]
fn what_producers_wrote_is_not_kept_in_the_folder_of_another_topic() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(0)));
    let broker = broker_on(&disk, &clock);
    write_old(&broker, first_of(7));
    (0..3).for_each(|_| drop(write_old(&broker, None)));
    let old = broker.topic("t").unwrap().partition(0).unwrap();
    let log = old.log().unwrap();
    assert_eq!(log.active_base(), 3);
    broker.drop_topic("t").unwrap();
    broker.create_topic("t", 1).unwrap();
    (0..4).for_each(|_| drop(write_old(&broker, None)));
    let state = Path::new("data/t/0/00000000000000000003.producers");
    disk.remove_file(state).unwrap();
    old.kept_at.store(u64::MAX, Release);
    old.keep_known_producers(log);
    assert!(disk.open(state).is_err());
    assert!(!write_old(&broker, first_of(7)).known);
}

/// The first roll after a start read the entries of the last segments, which may be gigabytes, while an append waited.
#[test]
fn a_roll_leaves_it_to_maintenance_to_read_many_entries() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(0)));
    let state_of = |base: u64| {
        let path = format!("data/t/0/{base:020}.producers");
        disk::read_small(&disk, Path::new(&path), 1 << 20).ok()
    };
    let broker = broker_on(&disk, &clock);
    write_old(&broker, first_of(7));
    (0..6).for_each(|_| drop(write_old(&broker, None)));
    assert!(state_of(3).is_some_and(|state| state.starts_with(b"producer:7 epoch:0 batch:0-0@0 ")));
    assert!(state_of(6).is_some());
    drop(broker);

    // Two segments without: a crash came before they were kept, or somebody lost them.
    for base in [3, 6] {
        disk.remove_file(Path::new(&format!("data/t/0/{base:020}.producers"))).unwrap();
    }
    let broker = broker_on(&disk, &clock);
    let partition = broker.topic("t").unwrap().partition(0).unwrap();
    let log = partition.log().unwrap();
    let keep = |entries| partition.keep_producers(log, &mut partition.producers.lock().unwrap(), entries);
    keep(6);
    assert_eq!(state_of(6), None, "seven entries would have to be read");
    keep(7);
    assert!(state_of(6).is_some_and(|state| state.starts_with(b"producer:7 epoch:0 batch:0-0@0 ")));
    drop(broker);

    disk.remove_file(Path::new("data/t/0/00000000000000000006.producers")).unwrap();
    let broker = broker_on(&disk, &clock);
    let partition = broker.topic("t").unwrap().partition(0).unwrap();
    // Whoever holds the lock reads.
    let reading = partition.producers.lock().unwrap();
    (0..3).for_each(|_| drop(write_old(&broker, None)));
    assert_eq!((partition.log().unwrap().active_base(), state_of(9)), (9, None));
    drop(reading);
    partition.look_after().unwrap();
    assert!(state_of(9).is_some());
    assert_eq!(partition.trim(9), Ok(9));
    assert!(write_old(&broker, first_of(7)).known);
    drop((broker, partition));
    assert!(write_old(&broker_on(&disk, &clock), first_of(7)).known);
}

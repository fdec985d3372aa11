//! Every call of the disk fails once, or finds it full, while a topic is made, altered, trimmed or dropped. What was refused has
//! not happened: not now, not after a restart, not after a crash, and it can be asked for again.
#![allow(clippy::unwrap_used)]

use plainlog::{
    broker::{Broker, Clock, Error, Result, Terms},
    config::{Change, Changes, Config, Overrides, Settings},
    log::{
        Chunk,
        disk::{Call, Disk, Fault, MemoryDisk, Survivors},
        record::Records,
    },
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::AtomicI64},
};

fn open(disk: &MemoryDisk) -> Broker {
    let topic_defaults = Settings { retention_ms: -1, segment_bytes: 1024, ..Settings::default() };
    let config = Config { topic_defaults, ..Config::new("data") };
    let clock = Clock::Manual(Arc::new(AtomicI64::new(1_700_000_000_000)));
    Broker::open_on(Arc::new(disk.clone()), config, clock).unwrap()
}

fn append(broker: &Broker, topic: &str, index: u32, value: &[u8]) -> Result<u64> {
    let partition = broker.topic(topic)?.partition(index)?;
    let mut records = Records::default();
    records.push(None, None, Some(Cow::Borrowed(value)));
    let appended = partition.write(&records, Terms::default())?;
    partition.make_durable(&appended)?;
    Ok(appended.offsets.start)
}

/// What a client can see of a topic.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    id: [u8; 16],
    settings: Overrides,
    /// Start, end, and the lines between them.
    partitions: Vec<(u64, u64, String)>,
    /// What the group has committed.
    committed: Vec<(u32, i64)>,
}

fn seen(broker: &Broker) -> Result<BTreeMap<String, Seen>> {
    let offsets = broker.committed_offsets("group")?;
    let mut seen = BTreeMap::new();
    for topic in broker.topics().iter().filter(|topic| !topic.name.starts_with("__")) {
        let mut partitions = Vec::new();
        for partition in topic.partitions() {
            let (start, end, mut chunk, mut lines) =
                (partition.start()?, partition.high_watermark()?, Chunk::default(), String::new());
            let mut next = start;
            while next < end {
                partition.read(next, 1 << 20, &mut chunk)?;
                for line in chunk.records_from(next) {
                    lines = lines + std::str::from_utf8(line.unwrap().text).unwrap() + "\n";
                }
                next = chunk.next_offset().unwrap();
            }
            partitions.push((start, end, lines));
        }
        let committed = offsets.iter().filter(|((of, _), _)| **of == *topic.name);
        let committed = committed.map(|((_, partition), committed)| (*partition, committed.offset)).collect();
        seen.insert(topic.name.clone(), Seen { id: topic.id, settings: topic.overrides(), partitions, committed });
    }
    Ok(seen)
}

/// A topic of two partitions, the first with four segments, and a group that has read of both.
fn disk_with_a_topic() -> MemoryDisk {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk);
    broker.create_topic("a", 2).unwrap();
    for _ in 0..12 {
        append(&broker, "a", 0, &[b'x'; 300]).unwrap();
    }
    append(&broker, "a", 1, b"hello").unwrap();
    broker.reset_offsets("group", &[("a".into(), 0, 5), ("a".into(), 1, 1)]).unwrap();
    drop(broker);
    disk
}

fn copy(disk: &MemoryDisk) -> MemoryDisk {
    disk.reboot(Survivors::Everything)
}

type Step = fn(&Broker) -> Result<()>;

const STEPS: [(&str, Step); 7] = [
    ("create", |broker| broker.create_topic("b", 2).map(drop)),
    ("settings", |broker| {
        let named = BTreeMap::from([("segment.ms".into(), Change::Set("5000".into()))]);
        broker.alter_topic("a", None, &Changes { named, reset_others: false }).map(drop)
    }),
    ("partitions", |broker| broker.alter_topic("a", Some(4), &Changes::default()).map(drop)),
    ("trim in a segment", |broker| broker.trim("a", 0, 4).map(drop)),
    ("trim all", |broker| broker.trim("a", 0, 12).map(drop)),
    ("trim all of one segment", |broker| broker.trim("a", 1, 1).map(drop)),
    ("drop", |broker| broker.drop_topic("a")),
];

const SURVIVORS: [Survivors; 4] = [Survivors::Nothing, Survivors::Everything, Survivors::Seed(1), Survivors::Seed(2)];

/// Ids are made by chance.
fn without_new_ids(mut seen: BTreeMap<String, Seen>) -> BTreeMap<String, Seen> {
    if let Some(b) = seen.get_mut("b") {
        b.id = [0; 16];
    }
    seen
}

fn seen_on(disk: &MemoryDisk) -> BTreeMap<String, Seen> {
    without_new_ids(seen(&open(disk)).unwrap())
}

/// What is seen before a step, and after it.
struct Expected {
    before: BTreeMap<String, Seen>,
    after: BTreeMap<String, Seen>,
}

impl Expected {
    fn of(step: Step, disk: &MemoryDisk) -> Expected {
        let disk = copy(disk);
        let before = seen_on(&disk);
        let broker = open(&disk);
        step(&broker).unwrap();
        let after = without_new_ids(seen(&broker).unwrap());
        assert_ne!(before, after);
        drop(broker);
        assert_eq!(seen_on(&disk), after);
        Expected { before, after }
    }
}

fn check_usable(disk: &MemoryDisk, context: &str) {
    let broker = open(disk);
    for name in ["a", "b"] {
        if broker.topic(name).is_err() {
            broker.create_topic(name, 2).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(broker.committed_offsets("group").unwrap().keys().all(|(topic, _)| **topic != *name), "{context}");
        }
        append(&broker, name, 1, b"again").unwrap_or_else(|error| panic!("{context}: {error}"));
        broker.drop_topic(name).unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    drop(broker);
    let names = disk.list(Path::new("data")).unwrap();
    let left: Vec<_> = names.into_iter().filter(|name| name.name.starts_with(['a', 'b'])).collect();
    assert_eq!(left, [], "{context}");
    assert!(seen(&open(disk)).unwrap().is_empty(), "{context}");
}

/// A refused TRIM took effect at the next change of a setting, or at the next start. A topic whose DROP had failed could neither be
/// found nor made; one whose CREATE had failed was there after a restart.
#[test]
fn what_was_refused_has_not_happened_whatever_call_failed() {
    let start = disk_with_a_topic();
    for (name, step) in STEPS {
        let expected = Expected::of(step, &start);
        for fault in [Fault::Error, Fault::Full] {
            for nth in 1.. {
                let context = format!("{name}, {fault:?} at call {nth}");
                let disk = copy(&start);
                let broker = open(&disk);
                seen(&broker).unwrap();
                let calls = disk.calls();
                disk.fault(Call::Any, nth, fault);
                let done = step(&broker);
                if disk.calls() - calls < nth {
                    assert!(done.is_ok() && nth > 5, "{context}: {done:?}");
                    break;
                }
                let wanted = if done.is_ok() { &expected.after } else { &expected.before };
                if let Err(error) = &done {
                    assert!(matches!(error, Error::Storage(why) if why.contains("data/")), "{context}: {error:?}");
                }
                assert_eq!(&without_new_ids(seen(&broker).unwrap()), wanted, "{context}: now");
                // Another change, which writes all that the broker believes.
                if broker.topic("a").is_ok() {
                    broker.alter_topic("a", None, &Changes::default()).unwrap();
                }
                assert_eq!(&without_new_ids(seen(&broker).unwrap()), wanted, "{context}: after another change");
                drop(broker);
                assert_eq!(&seen_on(&disk), wanted, "{context}: after a restart");
                if done.is_err() {
                    let broker = open(&disk);
                    step(&broker).unwrap_or_else(|error| panic!("{context}: again: {error}"));
                    drop(broker);
                    assert_eq!(&seen_on(&disk), &expected.after, "{context}: again");
                }
                check_usable(&disk, &context);

                let disk = copy(&start);
                let broker = open(&disk);
                seen(&broker).unwrap();
                disk.fault(Call::Any, nth, fault);
                assert_eq!(step(&broker).is_ok(), done.is_ok(), "{context}");
                for survivors in SURVIVORS {
                    let context = format!("{context}, crash, {survivors:?}");
                    let disk = disk.reboot(survivors);
                    assert_eq!(&seen_on(&disk), wanted, "{context}");
                    check_usable(&disk, &context);
                }
            }
        }
    }
}

/// A disk on which nothing can be written any more: even a byte is too much.
fn fill(disk: &MemoryDisk) {
    disk.set_capacity(disk.used());
}

/// The broker asked the full disk for room for the `topic` file before it freed a byte, so nothing could be freed.
#[test]
fn on_a_full_disk_room_can_be_freed() {
    let start = disk_with_a_topic();
    for (name, step) in STEPS.into_iter().filter(|(name, _)| *name != "create") {
        let expected = Expected::of(step, &start);
        for restart in [false, true] {
            let context = format!("{name}, restart: {restart}");
            let disk = copy(&start);
            let mut broker = open(&disk);
            seen(&broker).unwrap();
            fill(&disk);
            if restart {
                drop(broker);
                broker = open(&disk);
            }
            let used = disk.used();
            step(&broker).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(seen(&broker).unwrap(), expected.after, "{context}: now");
            // This disk gives room back once the names are durable.
            disk.sync_dir(Path::new("data")).unwrap();
            let frees = ["trim all", "drop"].contains(&name);
            assert!(!frees || disk.used() < used, "{context}: it frees room");
            drop(broker);
            assert_eq!(seen_on(&disk), expected.after, "{context}: after a restart");
            let disk = disk.reboot(Survivors::Nothing);
            assert_eq!(seen_on(&disk), expected.after, "{context}: after a crash");
            disk.set_capacity(u64::MAX);
            check_usable(&disk, &context);
        }
    }
}

#[test]
fn on_a_full_disk_a_second_trim_works_as_the_first_did() {
    let disk = disk_with_a_topic();
    let broker = open(&disk);
    seen(&broker).unwrap();
    for offset in 1..12 {
        fill(&disk);
        assert_eq!(broker.trim("a", 0, offset), Ok(offset));
    }
    assert!(append(&broker, "a", 0, &[b'x'; 300]).is_err(), "it is still full");
    assert_eq!(broker.trim("a", 0, 12), Ok(12));
    append(&broker, "a", 0, &[b'x'; 300]).unwrap();
}

/// On a full disk each call fails, or power fails there.
#[test]
fn on_a_full_disk_whatever_call_fails_it_is_done_or_not() {
    let start = disk_with_a_topic();
    for (name, step) in STEPS.into_iter().filter(|(name, _)| *name != "create") {
        let expected = Expected::of(step, &start);
        for fault in [Fault::Error, Fault::Full, Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter] {
            for nth in 1.. {
                let disk = copy(&start);
                let broker = open(&disk);
                seen(&broker).unwrap();
                fill(&disk);
                let calls = disk.calls();
                disk.fault(Call::Any, nth, fault);
                let done = step(&broker);
                if disk.calls() - calls < nth {
                    assert!(done.is_ok() && nth > 5, "{name}, {fault:?} at call {nth}: {done:?}");
                    break;
                }
                for survivors in SURVIVORS {
                    let context = format!("{name}, {fault:?} at call {nth}, {survivors:?}, done: {}", done.is_ok());
                    let disk = disk.reboot(survivors);
                    let found = seen_on(&disk);
                    let is_undone = found == expected.before && done.is_err();
                    let is_in_doubt = matches!(fault, Fault::CrashBefore | Fault::CrashMidway | Fault::CrashAfter);
                    let is_done = found == expected.after && (done.is_ok() || is_in_doubt);
                    assert!(is_done || is_undone, "{context}: {found:?}");
                    disk.set_capacity(u64::MAX);
                    check_usable(&disk, &context);
                }
            }
        }
    }
}

/// The disk fails at one call and at all that follow. Nobody can promise then what a restart finds; it is the one or the other,
/// nothing between, and can be used.
#[test]
fn where_nothing_can_be_undone_a_restart_finds_the_one_or_the_other() {
    let start = disk_with_a_topic();
    for (name, step) in STEPS {
        let expected = Expected::of(step, &start);
        for nth in 1.. {
            let context = format!("{name}, from call {nth} on");
            let disk = copy(&start);
            let broker = open(&disk);
            seen(&broker).unwrap();
            let calls = disk.calls();
            (nth..nth + 60).for_each(|call| disk.fault(Call::Any, call, Fault::Error));
            let done = step(&broker);
            if disk.calls() - calls < nth {
                assert!(done.is_ok(), "{context}: {done:?}");
                break;
            }
            for survivors in SURVIVORS {
                let disk = disk.reboot(survivors);
                let (found, done) = (seen_on(&disk), done.is_ok());
                assert!(
                    found == expected.after || !done && found == expected.before,
                    "{context}, {survivors:?}: done: {done}: {found:?}"
                );
                check_usable(&disk, &format!("{context}, {survivors:?}"));
            }
        }
    }
}

/// A DROP moved the topic's folder and could not open the one above it to make that durable: no descriptor was free. It looked
/// whether the folder had moved, which could not be seen either and counted as no. So the topic went on in a folder that the next
/// start removed: what was open there took records, the rest began anew at offset 0. After a CREATE that failed so the topic was
/// there, without its file: its records were acknowledged, and the next start left them alone. And whatever failed to open a
/// partition so took it offline until a restart.
#[test]
fn what_was_refused_has_not_happened_though_no_descriptor_was_free() {
    let start = disk_with_a_topic();
    for (name, step) in STEPS.into_iter() {
        let expected = Expected::of(step, &start);
        for (first, count) in (0..).flat_map(|first| [1, 2, 3, 100].map(|count| (first, count))) {
            let context = format!("{name}, {count} descriptors refused from {first} on");
            let disk = copy(&start);
            let broker = open(&disk);
            broker.find_partition("a", 1).unwrap().high_watermark().unwrap();
            disk.refuse_descriptors(first..first + count);
            let done = step(&broker);
            let was_refused = disk.descriptors() > first;
            disk.refuse_descriptors(0..0);
            if !was_refused {
                assert!(done.is_ok() && first > 0, "{context}: {done:?}");
                break;
            }
            let wanted = if done.is_ok() { &expected.after } else { &expected.before };
            assert_eq!(&without_new_ids(seen(&broker).unwrap()), wanted, "{context}: now");
            for topic in ["a", "b"].into_iter().filter(|topic| broker.topic(topic).is_ok()) {
                for index in 0..2 {
                    append(&broker, topic, index, b"acknowledged").unwrap();
                }
            }
            let acknowledged = without_new_ids(seen(&broker).unwrap());
            assert_eq!(seen_on(&disk.reboot(Survivors::Nothing)), acknowledged, "{context}: after a crash");
        }
    }
}

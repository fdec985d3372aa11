//! Transactions in one partition: what readers see of them, and what a restart finds.

use super::*;
use crate::{
    broker::{Broker, Clock, Marker, OpenTransaction},
    config::Config,
    log::{
        Aborted, Appended, Outcome,
        disk::{Call, Disk, Fault, MemoryDisk, Survivors},
        record::Records,
    },
};
use std::{borrow::Cow, path::Path, sync::atomic::AtomicI64};

const NOW_MS: i64 = 1_700_000_000_000;
const COMMITTED: View = View { isolation: Isolation::ReadCommitted, form: Form::Records };

/// A broker whose topic `t` has one partition, with segments of some three records.
fn open(disk: &MemoryDisk, flush: Flush) -> Broker {
    let topic_defaults = Settings { segment_bytes: 1024, retention_ms: -1, ..Settings::default() };
    let config = Config { topic_defaults, flush, ..Config::new("data") };
    let clock = Clock::Manual(Arc::new(AtomicI64::new(NOW_MS)));
    let broker = Broker::open_on(Arc::new(disk.clone()), config, clock).unwrap();
    // The coordinator would end what is open: it knows none of these producers.
    broker.inner().env.schedule.stop();
    if broker.topic("t").is_err() {
        broker.create_topic("t", 1).unwrap();
    }
    broker
}

fn partition(broker: &Broker) -> Arc<Partition> {
    broker.topic("t").unwrap().partition(0).unwrap()
}

/// A partition in memory.
fn new() -> Arc<Partition> {
    partition(&open(&MemoryDisk::default(), Flush::Never))
}

/// Writes a value, in a transaction of the producer if there is one.
fn try_write(partition: &Partition, producer_id: Option<i64>, value: &str) -> Result<u64> {
    let mut records = Records::default();
    records.push(None, None, Some(Cow::Borrowed(value.as_bytes())));
    let numbering = |producer_id| Numbering { producer_id, producer_epoch: 0, base_sequence: 0 };
    let flags = if producer_id.is_some() { Flags::TRANSACTIONAL } else { Flags::NONE };
    let terms = Terms { flags, producer: producer_id.map(numbering), sequence: Sequence::Next, ..Terms::default() };
    let appended = partition.write(&records, terms)?;
    partition.make_durable(&appended)?;
    Ok(appended.offsets.start)
}

fn write(partition: &Partition, producer_id: Option<i64>, value: &str) -> u64 {
    try_write(partition, producer_id, value).unwrap()
}

fn write_many(partition: &Partition, producer_id: Option<i64>, count: usize, bytes: usize) {
    for _ in 0..count {
        write(partition, producer_id, &"x".repeat(bytes));
    }
}

fn marker(producer_id: i64, outcome: Outcome) -> Marker {
    Marker { producer_id, producer_epoch: 0, outcome, coordinator_epoch: 0 }
}

fn end(partition: &Partition, producer_id: i64, outcome: Outcome) -> Appended {
    let appended = partition.write_marker(marker(producer_id, outcome)).unwrap();
    partition.make_durable(&appended).unwrap();
    appended
}

/// What a reader sees, `offset:fields` each.
fn read(partition: &Partition, view: View) -> String {
    let (mut next, mut chunk, mut found) = (partition.start().unwrap(), Chunk::default(), Vec::new());
    loop {
        partition.read_as(view, next, 100, &mut chunk).unwrap();
        for line in chunk.records_from(next) {
            found.push(String::from_utf8(line.unwrap().text.to_vec()).unwrap().replace("offset:", ""));
        }
        match chunk.next_offset() {
            Some(behind) => next = behind,
            None => return found.join(", ").replace(" message:", ":"),
        }
    }
}

fn committed(partition: &Partition) -> String {
    read(partition, COMMITTED)
}

#[test]
fn readers_of_committed_records_wait_for_the_oldest_open_transaction_and_pass_over_what_was_aborted() {
    let t = new();
    for (producer, value) in [(None, "a"), (Some(7), "b"), (None, "c"), (Some(8), "d"), (Some(7), "e")] {
        write(&t, producer, value);
    }
    assert_eq!((t.last_stable_offset(), t.high_watermark()), (Ok(1), Ok(5)));
    assert_eq!(committed(&t), "0:a");
    let mut chunk = Chunk::default();
    t.read_as(COMMITTED, 3, 100, &mut chunk).unwrap();
    assert_eq!((chunk.batches.len(), chunk.next_offset()), (0, None), "a position behind it waits");

    end(&t, 7, Outcome::Abort);
    assert_eq!((t.last_stable_offset(), committed(&t)), (Ok(3), "0:a, 2:c".into()));
    end(&t, 8, Outcome::Commit);
    assert_eq!((t.last_stable_offset(), committed(&t)), (Ok(7), "0:a, 2:c, 3:d".into()));

    let stored = "0:a, 1:b, 2:c, 3:d, 4:e, 5 control:abort first:1, 6 control:commit";
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        assert_eq!(read(&t, View { isolation, form: Form::AsStored }), stored);
    }
    let without_markers = View { isolation: Isolation::ReadUncommitted, form: Form::Records };
    assert_eq!(read(&t, without_markers), "0:a, 1:b, 2:c, 3:d, 4:e");
    let aborted = Aborted { producer_id: 7, first: 1, marker: 5 };
    for (offsets, expected) in [(0..7, vec![aborted]), (5..6, vec![aborted]), (0..1, vec![]), (6..7, vec![])] {
        assert_eq!(t.aborted(offsets.clone()), Ok(expected), "{offsets:?}");
    }
    assert_eq!(t.aborted(2..3), Ok(vec![aborted]), "it is under way there");
}

#[test]
fn the_same_producer_commits_what_it_writes_after_an_abort() {
    let t = new();
    for (round, outcome) in [Outcome::Abort, Outcome::Commit, Outcome::Abort].into_iter().enumerate() {
        write(&t, Some(7), &format!("a{round}"));
        write(&t, Some(7), &format!("b{round}"));
        end(&t, 7, outcome);
    }
    assert_eq!(committed(&t), "3:a1, 4:b1");
}

#[test]
fn what_the_partition_numbers_looks_as_if_its_producer_had() {
    let t = new();
    write_many(&t, Some(7), 3, 1);
    end(&t, 7, Outcome::Commit);
    write(&t, Some(7), "x");
    let (mut chunk, mut found) = (Chunk::default(), Vec::new());
    t.read(0, 1 << 20, &mut chunk).unwrap();
    found.extend(chunk.batches.iter().map(|batch| batch.entry.base_sequence));
    assert_eq!(found, [0, 1, 2, 0, 3], "a marker has none, and there its entry has the coordinator's epoch");
}

#[test]
fn a_producer_writes_nothing_outside_of_its_open_transaction() {
    let t = new();
    write(&t, Some(7), "a");
    let mut records = Records::default();
    records.push(None, None, Some(Cow::Borrowed(b"plain")));
    let producer = Some(Numbering { producer_id: 7, producer_epoch: 0, base_sequence: 1 });
    let plain = Terms { producer, ..Terms::default() };
    assert!(matches!(t.write(&records, plain), Err(Error::InvalidTxnState(_))));
    end(&t, 7, Outcome::Commit);
    assert!(t.write(&records, plain).is_ok());
}

/// A marker of a newer epoch, as ends a transaction from KIP-890 on, is the end of the old one, and also where nothing was open.
#[test]
fn a_marker_fences_older_epochs_and_is_refused_from_them_after_a_restart_too() {
    let disk = MemoryDisk::default();
    let broker = open(&disk, Flush::Never);
    let t = partition(&broker);
    write(&t, Some(7), "a");
    for (producer_id, first) in [(7, "offset:1 control:abort first:0"), (8, "offset:2 control:abort first:2")] {
        let fence = Marker { producer_epoch: 3, coordinator_epoch: 2, ..marker(producer_id, Outcome::Abort) };
        t.write_marker(fence).unwrap();
        assert!(
            read(&t, View { form: Form::AsStored, ..COMMITTED }).ends_with(&format!("{} coordinator:2", &first[7..]))
        );
    }
    assert_eq!(t.aborted(0..9), Ok(vec![Aborted { producer_id: 7, first: 0, marker: 1 }]), "8 had nothing here");
    let refuses = |t: &Partition| {
        for producer_id in [7, 8] {
            assert!(matches!(try_write(t, Some(producer_id), "b"), Err(Error::ProducerEpoch(_))));
            let of_epoch = |producer_epoch, coordinator_epoch| {
                t.write_marker(Marker { producer_epoch, coordinator_epoch, ..marker(producer_id, Outcome::Commit) })
            };
            assert!(matches!(of_epoch(2, 2), Err(Error::ProducerEpoch(_))));
            assert!(matches!(of_epoch(3, 1), Err(Error::TransactionCoordinatorFenced(_))));
        }
    };
    refuses(&t);
    drop((broker, t));
    for rolls in [false, true] {
        let broker = open(&disk, Flush::Never);
        if rolls {
            write_many(&partition(&broker), None, 3, 600);
        }
        refuses(&partition(&broker));
    }
}

/// Three transactions over several segments: one committed, one aborted, one open.
fn three(t: &Partition) {
    let value = "x".repeat(200);
    for producer in [Some(7), None, Some(8), Some(9), None, Some(7), Some(8), None, Some(9), Some(7), Some(8), None] {
        write(t, producer, &value);
    }
    end(t, 7, Outcome::Abort);
    end(t, 8, Outcome::Commit);
    write_many(t, None, 5, 200);
}

fn read_text(disk: &MemoryDisk, path: &str) -> String {
    String::from_utf8(disk::read_small(disk, Path::new(path), 1 << 20).unwrap()).unwrap()
}

fn seen(t: &Partition) -> (u64, Vec<OpenTransaction>, Vec<Aborted>, String) {
    let (stable, open) = (t.last_stable_offset().unwrap(), t.open_transactions().unwrap());
    (stable, open, t.aborted(0..u64::MAX).unwrap(), committed(t))
}

#[test]
fn a_restart_finds_transactions_as_they_were_whatever_is_lost_of_what_is_kept_beside_segments() {
    for clean in [false, true] {
        let disk = MemoryDisk::crashable();
        let broker = open(&disk, Flush::Always);
        let t = partition(&broker);
        three(&t);
        let before = seen(&t);
        assert_eq!(before.0, 3);
        assert_eq!(before.1, [OpenTransaction { producer_id: 9, producer_epoch: 0, first: 3 }]);
        assert_eq!(before.2, [Aborted { producer_id: 7, first: 0, marker: 12 }]);
        let beside = |disk: &MemoryDisk| {
            let names = disk.list(Path::new("data/t/0")).unwrap().into_iter().map(|name| name.name);
            names.filter(|name| name.ends_with(".producers") || name.ends_with(".aborted")).collect::<Vec<_>>()
        };
        let names = beside(&disk);
        assert!(names.len() > 4 && names.iter().any(|name| name.ends_with(".aborted")), "{names:?}");
        let disk = if clean {
            drop((t, broker));
            disk
        } else {
            disk.reboot(Survivors::Nothing)
        };
        assert_eq!(beside(&disk), names);
        for lost in 0..1 << names.len() {
            let disk = disk.reboot(Survivors::Everything);
            for (index, name) in names.iter().enumerate().filter(|(index, _)| lost >> index & 1 == 1) {
                let path = Path::new("data/t/0").join(name);
                match (lost >> 1 ^ index) % 2 {
                    0 => disk.remove_file(&path).unwrap(),
                    _ => disk.open(&path).unwrap().write_at(b"X", 3).unwrap(),
                }
            }
            let broker = open(&disk, Flush::Always);
            let t = partition(&broker);
            assert_eq!(seen(&t), before, "clean {clean}, lost {lost:b}");
            let aborted = read_text(&disk, "data/t/0/00000000000000000008.aborted");
            assert!(aborted.starts_with("producer:7 first:0 marker:12\ncrc32c:"), "made anew: {aborted}");
            assert!(t.take_found_open() && !t.take_found_open());
            end(&t, 9, Outcome::Abort);
            assert_eq!(t.last_stable_offset(), t.high_watermark());
            assert_eq!(t.aborted(0..u64::MAX).unwrap().len(), 2);
        }
    }
}

#[test]
fn a_partition_without_transactions_is_opened_without_a_look_at_its_producers() {
    let disk = MemoryDisk::default();
    let t = partition(&open(&disk, Flush::Never));
    for base_sequence in 0..9 {
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Owned(vec![b'x'; 300])));
        let producer = Some(Numbering { producer_id: 7, producer_epoch: 0, base_sequence });
        t.write(&records, Terms { producer, ..Terms::default() }).unwrap();
    }
    let is_loaded = |t: &Partition| t.producers.lock().unwrap().is_loaded();
    for (opens_one, loads) in [(false, false), (true, false), (false, true)] {
        let t = partition(&open(&disk, Flush::Never));
        assert_eq!(t.high_watermark().map(|end| end >= 9), Ok(true));
        assert_eq!(is_loaded(&t), loads);
        if opens_one {
            write(&t, Some(8), "in a transaction");
        }
    }
    // As soon as a segment began outside of any, there is nothing to be found again.
    let t = partition(&open(&disk, Flush::Never));
    end(&t, 8, Outcome::Commit);
    write_many(&t, None, 6, 300);
    let t = partition(&open(&disk, Flush::Never));
    assert_eq!(t.high_watermark(), Ok(17));
    assert!(!is_loaded(&t));
}

/// With `--flush always` nobody is shown what a crash may take back: a commit neither.
#[test]
fn what_a_marker_ends_is_shown_once_the_marker_is_synced() {
    for outcome in [Outcome::Commit, Outcome::Abort] {
        let disk = MemoryDisk::crashable();
        let broker = open(&disk, Flush::Always);
        let t = partition(&broker);
        write(&t, None, "a");
        write(&t, Some(7), "b");
        let appended = t.write_marker(marker(7, outcome)).unwrap();
        assert_eq!((t.high_watermark(), t.last_stable_offset()), (Ok(2), Ok(1)));
        assert_eq!(t.open_transactions(), Ok(vec![]), "it is ended all the same");
        // Another one that begins and ends meanwhile changes nothing for the first.
        write_unsynced(&t, 8);
        t.write_marker(marker(8, Outcome::Commit)).unwrap();
        assert_eq!(t.last_stable_offset(), Ok(1));
        t.make_durable(&appended).unwrap();
        assert_eq!((t.high_watermark(), t.last_stable_offset()), (Ok(5), Ok(5)));

        disk.fault(Call::Sync, 1, Fault::Error);
        write_unsynced(&t, 7);
        let appended = t.write_marker(marker(7, outcome)).unwrap();
        assert!(t.make_durable(&appended).is_err());
        assert_eq!((t.high_watermark(), t.last_stable_offset()), (Ok(5), Ok(5)));
        assert!(t.check_intact(7).is_err() && t.check_intact(5).is_ok());
    }
}

fn write_unsynced(t: &Partition, producer_id: i64) {
    let mut records = Records::default();
    records.push(None, None, Some(Cow::Borrowed(b"unsynced")));
    let producer = Some(Numbering { producer_id, producer_epoch: 0, base_sequence: 0 });
    let terms = Terms { flags: Flags::TRANSACTIONAL, producer, sequence: Sequence::Next, ..Terms::default() };
    t.write(&records, terms).unwrap();
}

#[test]
fn a_first_record_that_a_full_disk_refused_opens_nothing() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk, Flush::Never);
    let t = partition(&broker);
    write(&t, None, "a");
    disk.set_capacity(disk.used() + 20);
    assert!(matches!(try_write(&t, Some(7), "b"), Err(Error::Storage(_))));
    assert_eq!(t.open_transactions(), Ok(vec![]));
    disk.set_capacity(u64::MAX);
    write(&t, None, "c");
    assert_eq!((t.last_stable_offset(), committed(&t)), (Ok(2), "0:a, 1:c".into()));
    write(&t, Some(7), "d");
    assert_eq!(t.last_stable_offset(), Ok(2));
    disk.set_capacity(disk.used() + 20);
    assert!(matches!(t.write_marker(marker(7, Outcome::Commit)), Err(Error::Storage(_))));
    assert_eq!(t.last_stable_offset(), Ok(2), "it is still open");
    disk.set_capacity(u64::MAX);
    end(&t, 7, Outcome::Commit);
    assert_eq!(committed(&t), "0:a, 1:c, 2:d");
}

/// What stands beside a segment told of batches that came after the roll. A crash took them, and their producer could not send
/// them again: they were out of order.
#[test]
fn what_is_kept_of_producers_tells_of_nothing_behind_the_roll() {
    let disk = MemoryDisk::crashable();
    let broker = open(&disk, Flush::Never);
    let t = partition(&broker);
    write_many(&t, Some(7), 1, 300);
    // Whoever holds the lock keeps an append that rolls from keeping the state.
    let reading = t.producers.lock().unwrap();
    write_many(&t, None, 3, 300);
    drop(reading);
    let log = t.log().unwrap();
    let active = log.active_base();
    assert_eq!(active, 3);
    end(&t, 7, Outcome::Abort);
    write(&t, Some(8), "x");
    t.look_after().unwrap();
    let kept = read_text(&disk, log.beside(active, "producers").to_str().unwrap());
    assert!(kept.contains("next:1 coordinator:-1") && kept.contains("transaction:0\n"), "{kept}");
    assert!(!kept.contains("producer:8"), "{kept}");
}

#[test]
fn trim_may_cut_into_a_transaction_and_the_last_stable_offset_moves_up() {
    for all in [false, true] {
        let disk = MemoryDisk::crashable();
        let broker = open(&disk, Flush::Always);
        let t = partition(&broker);
        three(&t);
        let (end_offset, stable) = (t.high_watermark().unwrap(), t.last_stable_offset().unwrap());
        assert_eq!(stable, 3);
        let start = if all { end_offset } else { 10 };
        assert_eq!((t.trim(start), t.last_stable_offset()), (Ok(start), Ok(start)));
        drop((t, broker));
        let broker = open(&disk.reboot(Survivors::Nothing), Flush::Always);
        let t = partition(&broker);
        assert_eq!((t.start(), t.last_stable_offset()), (Ok(start), Ok(start)));
        assert_eq!(t.open_transactions().unwrap().len(), 1, "its producer goes on");
        write(&t, Some(9), "y");
        end(&t, 9, Outcome::Abort);
        assert_eq!(t.last_stable_offset(), Ok(end_offset + 2));
        let values = committed(&t);
        assert!(!values.contains('y'), "{values}");
        let of_8 = values.split(", ").any(|line| line.starts_with("10:"));
        assert_eq!(of_8, !all, "what is left of a committed one is read");
    }
}

/// Lines that somebody appended to a log in which a transaction is open: their entry told nothing of it, and so the next start
/// showed the open transaction's records.
#[test]
fn lines_that_are_appended_by_hand_hide_no_open_transaction() {
    let disk = MemoryDisk::crashable();
    let t = partition(&open(&disk, Flush::Never));
    write(&t, Some(7), "a");
    drop(t);
    let log = disk.open(Path::new("data/t/0/00000000000000000000.log")).unwrap();
    log.write_at(b"offset:1 message:by hand\n", log.len().unwrap()).unwrap();
    for _ in 0..3 {
        let t = partition(&open(&disk, Flush::Never));
        assert_eq!((t.last_stable_offset(), t.high_watermark()), (Ok(0), Ok(2)));
    }
}

#[test]
fn a_log_with_markers_is_not_adopted_without_its_entries() {
    let disk = MemoryDisk::crashable();
    let t = partition(&open(&disk, Flush::Never));
    write(&t, Some(7), "a");
    end(&t, 7, Outcome::Abort);
    drop(t);
    disk.remove_file(Path::new("data/t/0/00000000000000000000.batches")).unwrap();
    let why = partition(&open(&disk, Flush::Never)).high_watermark().unwrap_err().to_string();
    let expected =
        "line 2: it ends a transaction; which records were in it stood in the .batches of this log, which is lost";
    assert!(why.contains(expected), "{why}");
}

#[test]
fn where_a_markers_line_is_damaged_entries_tell_what_it_ended() {
    let disk = MemoryDisk::crashable();
    let t = partition(&open(&disk, Flush::Never));
    for producer in [7, 8] {
        write(&t, Some(producer), "a");
    }
    end(&t, 7, Outcome::Abort);
    write(&t, Some(7), "b");
    let place = end(&t, 7, Outcome::Abort).place;
    end(&t, 8, Outcome::Commit);
    drop(t);
    disk.open(&place.0).unwrap().write_at(b"X", place.1.start + 3).unwrap();
    let t = partition(&open(&disk, Flush::Never));
    let expected = [(0, 2), (3, 4)].map(|(first, marker)| Aborted { producer_id: 7, first, marker });
    assert_eq!(t.aborted(0..9), Ok(expected.to_vec()));
}

/// It looked when the marker was written, which nobody could read yet: with `--flush always` what a transaction had held back was
/// not compacted before the next segment was full.
#[test]
fn compaction_looks_again_when_the_last_stable_offset_has_risen() {
    for flush in [Flush::Never, Flush::Always] {
        let broker = open(&MemoryDisk::default(), flush);
        let settings = [("cleanup.policy", "compact"), ("segment.bytes", "1024"), ("min.cleanable.dirty.ratio", "0")];
        let settings = settings.map(|(name, value)| (name.into(), value.into())).into();
        broker.create_topic_with("compacted", Some(1), settings).unwrap();
        let compacted = broker.topic("compacted").unwrap().partition(0).unwrap();
        let write = |producer_id: Option<i64>| {
            let mut records = Records::default();
            records.push(None, Some(Cow::Borrowed(b"k".as_slice())), Some(Cow::Owned(vec![b'x'; 200])));
            let numbering = |producer_id| Numbering { producer_id, producer_epoch: 0, base_sequence: 0 };
            let flags = if producer_id.is_some() { Flags::TRANSACTIONAL } else { Flags::NONE };
            let producer = producer_id.map(numbering);
            let terms = Terms { flags, producer, sequence: Sequence::Next, ..Terms::default() };
            let appended = compacted.write(&records, terms).unwrap();
            compacted.make_durable(&appended).unwrap();
        };
        write(Some(7));
        (0..20).for_each(|_| write(None));
        assert_eq!(compacted.look_after(), Ok(false), "{flush:?}: the transaction is open");
        let appended = compacted.write_marker(marker(7, Outcome::Commit)).unwrap();
        let due_before_it_is_read = compacted.due_ms() <= NOW_MS && compacted.look_after().unwrap();
        compacted.make_durable(&appended).unwrap();
        let due = compacted.due_ms() <= NOW_MS && compacted.look_after().unwrap();
        assert!(due_before_it_is_read || due, "{flush:?}");
    }
}

//! Idempotent producers and disks that refuse: each batch is stored once, and none before what its producer sent earlier.
//!
//! ```text
//! producer   0-9  10  11  12  ─── on their way together ──►  broker     0-9: the disk is full    10: out of order   ...
//!            0-9  10  11  12  ─── sent again ─────────────►             0-9: stored              10: stored         ...
//! ```
#![allow(clippy::unwrap_used)]

use plainlog::{
    broker::{Broker, Clock, Error, Gathered, Result, Terms},
    config::{Changes, Config, Flush, Overrides, Settings},
    log::{
        Chunk, Numbering,
        disk::{Call, Disk, Fault, MemoryDisk, Survivors},
        record::Records,
    },
};
use proptest::prelude::*;
use std::{
    borrow::Cow,
    path::Path,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

const NOW_MS: i64 = 1_700_000_000_000;

fn open(disk: &MemoryDisk) -> Broker {
    open_with(disk, Flush::Always)
}

fn open_with(disk: &MemoryDisk, flush: Flush) -> Broker {
    let topic_defaults = Settings { retention_ms: -1, segment_bytes: 1024, ..Settings::default() };
    let config = Config { flush, topic_defaults, ..Config::new("data") };
    let clock = Clock::Manual(Arc::new(AtomicI64::new(NOW_MS)));
    Broker::open_on(Arc::new(disk.clone()), config, clock).unwrap()
}

fn broker_with_topic(disk: &MemoryDisk) -> Broker {
    let broker = open(disk);
    broker.create_topic("t", 1).unwrap();
    broker
}

/// A batch of records that hold its first sequence and some more bytes.
#[derive(Clone, Copy, Debug)]
struct Batch {
    producer: (i64, i16, i32),
    count: usize,
    bytes: usize,
}

fn batch(sequence: i32, count: usize, bytes: usize) -> Batch {
    Batch { producer: (7, 0, sequence), count, bytes }
}

fn numbering((producer_id, producer_epoch, base_sequence): (i64, i16, i32)) -> Numbering {
    Numbering { producer_id, producer_epoch, base_sequence }
}

/// Sends it; the first offset, or what a Kafka client would be told.
fn send(broker: &Broker, batch: Batch) -> Result<u64> {
    let mut records = Records::default();
    for _ in 0..batch.count {
        let value = format!("{} {}", batch.producer.2, "x".repeat(batch.bytes));
        records.push(None, None, Some(Cow::Owned(value.into_bytes())));
    }
    let partition = broker.topic("t")?.partition(0)?;
    let appended =
        partition.write(&records, Terms { producer: Some(numbering(batch.producer)), ..Terms::default() })?;
    partition.make_durable(&appended)?;
    Ok(appended.offsets.start)
}

fn is_storage(sent: &Result<u64>) -> bool {
    matches!(sent, Err(Error::Storage(_)))
}

fn is_out_of_order(sent: &Result<u64>) -> bool {
    matches!(sent, Err(Error::Sequence(_)))
}

/// The first word of each value in the log.
fn sequences(broker: &Broker) -> Vec<i32> {
    let partition = broker.topic("t").unwrap().partition(0).unwrap();
    let (mut next, mut chunk, mut found) = (partition.start().unwrap(), Chunk::default(), Vec::new());
    while next < partition.high_watermark().unwrap() {
        partition.read(next, 1 << 20, &mut chunk).unwrap();
        for line in chunk.records_from(next) {
            let value = str::from_utf8(line.unwrap().fields).unwrap().strip_prefix("message:").unwrap();
            found.push(value.split(' ').next().unwrap().parse().unwrap());
        }
        next = chunk.next_offset().unwrap();
    }
    found
}

/// The disk was nearly full. A new producer had five batches on their way: the first was too large for what was left, the
/// second, smaller one was taken, since an unknown producer may begin anywhere. From then on the first was out of order
/// for ever, and librdkafka took that for a duplicate: its callback said "delivered", and the record was nowhere.
#[test]
fn what_follows_a_refused_first_batch_waits_for_it() {
    let disk = MemoryDisk::crashable();
    let broker = broker_with_topic(&disk);
    disk.set_capacity(disk.used() + 200);
    let first = batch(0, 10, 20);
    for _ in 0..3 {
        assert!(is_storage(&send(&broker, first)));
        for sequence in 10..14 {
            assert!(is_out_of_order(&send(&broker, batch(sequence, 1, 1))), "{sequence}");
        }
    }
    disk.set_capacity(u64::MAX);
    assert!(is_out_of_order(&send(&broker, batch(10, 1, 1))), "room alone changes nothing");
    assert_eq!(send(&broker, first), Ok(0));
    assert_eq!(send(&broker, first), Ok(0), "sent twice");
    for sequence in 10..14 {
        assert_eq!(send(&broker, batch(sequence, 1, 1)), Ok(sequence as u64));
    }
    assert_eq!(sequences(&broker), [[0; 10].as_slice(), &[10, 11, 12, 13]].concat());
}

#[test]
fn what_follows_a_refused_batch_of_a_known_producer_waits_for_it() {
    let disk = MemoryDisk::crashable();
    let broker = broker_with_topic(&disk);
    assert_eq!(send(&broker, batch(0, 1, 1)), Ok(0));
    disk.set_capacity(disk.used() + 200);
    assert!(is_storage(&send(&broker, batch(1, 10, 20))));
    assert!(is_out_of_order(&send(&broker, batch(11, 1, 1))));
    assert_eq!(send(&broker, batch(0, 1, 1)), Ok(0), "a duplicate needs no room");
    // Other producers do not wait.
    assert_eq!(send(&broker, Batch { producer: (8, 0, 0), count: 1, bytes: 1 }), Ok(1));
    disk.set_capacity(u64::MAX);
    assert_eq!(send(&broker, batch(1, 10, 20)), Ok(2));
    assert_eq!(send(&broker, batch(11, 1, 1)), Ok(12));
}

/// The wait is not kept over a restart. It need not be: all connections have ended, and clients send what was refused
/// again in order, so the first batch comes first and, while there is still no room, is awaited again.
#[test]
fn after_a_restart_what_was_refused_comes_first_and_is_awaited_again() {
    for clean in [true, false] {
        let disk = MemoryDisk::crashable();
        let broker = broker_with_topic(&disk);
        let room = disk.used() + 200;
        disk.set_capacity(room);
        let both = [batch(0, 10, 20), batch(10, 1, 1)];
        let refused = |broker: &Broker| {
            assert!(is_storage(&send(broker, both[0])));
            assert!(is_out_of_order(&send(broker, both[1])));
        };
        refused(&broker);
        let (disk, broker) = if clean {
            drop(broker);
            let broker = open(&disk);
            (disk, broker)
        } else {
            let disk = disk.reboot(Survivors::Everything);
            let broker = open(&disk);
            (disk, broker)
        };
        disk.set_capacity(room);
        refused(&broker);
        disk.set_capacity(u64::MAX);
        assert_eq!(both.map(|batch| send(&broker, batch)), [Ok(0), Ok(10)]);
        drop(broker);
        assert_eq!(both.map(|batch| send(&open(&disk), batch)), [Ok(0), Ok(10)], "duplicates");
    }
}

#[test]
fn a_partition_whose_disk_failed_takes_nothing_out_of_order_before_or_after_the_restart() {
    for (call, nth) in [(Call::Write, 1), (Call::Write, 2), (Call::Sync, 1), (Call::Sync, 2)] {
        let disk = MemoryDisk::crashable();
        let broker = broker_with_topic(&disk);
        // `~broker` is as it must be.
        assert_eq!(send(&broker, Batch { producer: (8, 0, 0), count: 1, bytes: 1 }), Ok(0));
        disk.fault(call, nth, Fault::Error);
        for _ in 0..2 {
            assert!(is_storage(&send(&broker, batch(0, 1, 1))), "{call:?} {nth}");
            assert!(send(&broker, batch(1, 1, 1)).is_err(), "{call:?} {nth}");
        }
        drop(broker);
        let broker = open(&disk.reboot(Survivors::Nothing));
        let sent = [0, 1].map(|sequence| send(&broker, batch(sequence, 1, 1)));
        assert_eq!(sent, [Ok(1), Ok(2)], "{call:?} {nth}");
    }
}

#[test]
fn a_roll_that_is_refused_lets_no_smaller_batch_pass() {
    let disk = MemoryDisk::crashable();
    let broker = broker_with_topic(&disk);
    assert_eq!(send(&broker, Batch { producer: (8, 0, 0), count: 1, bytes: 800 }), Ok(0));
    disk.set_capacity(disk.used() + 200);
    // It asks for a segment of its own, and for more than there is.
    assert!(is_storage(&send(&broker, batch(0, 1, 300))));
    assert!(is_out_of_order(&send(&broker, batch(1, 1, 1))));
    disk.set_capacity(u64::MAX);
    assert_eq!(send(&broker, batch(0, 1, 300)), Ok(1));
    assert_eq!(send(&broker, batch(1, 1, 1)), Ok(2));
}

/// What fails before the log is asked is no different: `~broker` that cannot be written, state that cannot be read.
#[test]
fn a_batch_refused_on_its_way_to_the_log_is_awaited_too() {
    let disk = MemoryDisk::crashable();
    drop(broker_with_topic(&disk));
    let broker = open(&disk);
    disk.set_capacity(disk.used());
    let sent = send(&broker, batch(0, 1, 1));
    assert!(matches!(&sent, Err(Error::Storage(why)) if why.contains("~broker")), "{sent:?}");
    disk.set_capacity(u64::MAX);
    assert!(is_out_of_order(&send(&broker, batch(1, 1, 1))));
    assert_eq!(send(&broker, batch(0, 1, 1)), Ok(0));
    drop(broker);

    let broker = open(&disk);
    let state = Path::new("data/t/0/00000000000000000000.producers");
    disk.create_dir(state).unwrap();
    let new = |sequence| Batch { producer: (9, 0, sequence), count: 1, bytes: 1 };
    assert!(is_storage(&send(&broker, new(0))));
    assert!(is_storage(&send(&broker, batch(1, 1, 1))));
    disk.remove_dir(state).unwrap();
    assert!(is_out_of_order(&send(&broker, new(1))));
    assert_eq!(send(&broker, new(0)), Ok(1));
    assert_eq!(send(&broker, batch(0, 1, 1)), Ok(0), "what the log tells of it holds, not what was refused meanwhile");
    assert_eq!(send(&broker, batch(1, 1, 1)), Ok(2));
}

/// A DROP had closed the topic and then failed. What had come meanwhile was told that there is no such topic, for which its client
/// sends it again; but the batch behind it had been taken by then, and so it was out of order for ever.
#[test]
fn what_a_drop_refused_that_failed_is_awaited() {
    let disk = MemoryDisk::crashable();
    let broker = broker_with_topic(&disk);
    broker.find_partition("t", 0).unwrap().start().unwrap();
    // The sync of the data directory.
    let held = disk.hold(Call::Sync, 1);
    disk.fault(Call::Sync, 1, Fault::Error);
    std::thread::scope(|scope| {
        let dropping = scope.spawn(|| broker.drop_topic("t"));
        held.reached();
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Borrowed(b"0 ")));
        let target = broker.write_session().target(&broker.find_topic("t").unwrap(), 0).unwrap();
        let terms = Terms { producer: Some(numbering((7, 0, 0))), ..Terms::default() };
        let refused = broker.write_session().write_batch(target, &records, terms).map(drop);
        assert_eq!(refused, Err(Error::UnknownTopic("t".into())));
        drop(held);
        dropping.join().unwrap().unwrap_err();
    });
    assert!(is_out_of_order(&send(&broker, batch(1, 1, 1))));
    assert_eq!(send(&broker, batch(0, 1, 1)), Ok(0));
    assert_eq!(send(&broker, batch(1, 1, 1)), Ok(1));
}

/// Kafka's clients give up a batch, raise their epoch and begin again with what is left.
#[test]
fn a_higher_epoch_ends_the_wait() {
    let disk = MemoryDisk::crashable();
    let broker = broker_with_topic(&disk);
    disk.set_capacity(disk.used() + 200);
    let of = |epoch, sequence, bytes| Batch { producer: (7, epoch, sequence), count: 1, bytes };
    assert!(is_storage(&send(&broker, of(0, 0, 300))));
    assert!(is_storage(&send(&broker, of(1, 0, 300))));
    assert!(is_out_of_order(&send(&broker, of(1, 1, 1))), "it is awaited in its new epoch");
    assert!(matches!(send(&broker, of(0, 0, 300)), Err(Error::ProducerEpoch(_))));
    assert_eq!(send(&broker, of(2, 0, 1)), Ok(0));
    assert_eq!(send(&broker, of(2, 1, 1)), Ok(1));
}

/// A client does not send again what was refused for good; it goes on with the next epoch, and some with the next sequence.
#[test]
fn a_batch_refused_for_good_is_not_awaited() {
    let broker = broker_with_topic(&MemoryDisk::crashable());
    // Its lines are more than any batch may have.
    let refused = |sequence| {
        let sent = send(&broker, batch(sequence, 1, 64 << 20));
        assert!(matches!(sent, Err(Error::BatchTooLarge { .. })), "{sent:?}");
    };
    refused(0);
    assert_eq!(send(&broker, batch(1, 1, 1)), Ok(0));
    refused(2);
    assert_eq!(send(&broker, Batch { producer: (7, 1, 0), count: 1, bytes: 1 }), Ok(1));
}

/// The sync of a batch failed, so nobody was told that it is stored. Its client sends it again: the batch is known, but it
/// may be lost all the same, and no flush mode makes it a promise.
#[test]
fn a_duplicate_is_promised_no_more_than_its_original() {
    for flush in [Flush::Always, Flush::Every(Duration::from_secs(3600)), Flush::Never] {
        let disk = MemoryDisk::crashable();
        let broker = open_with(&disk, flush);
        broker.create_topic("t", 1).unwrap();
        let topic = broker.topic("t").unwrap();
        assert_eq!(send(&broker, batch(0, 1, 1)), Ok(0));
        topic.partition(0).unwrap().log().unwrap().sync_all().unwrap();
        disk.fault(Call::Sync, 1, Fault::Error);
        let sent = send(&broker, batch(1, 1, 1));
        assert_eq!(sent.is_ok(), flush != Flush::Always, "{sent:?}");
        assert!(topic.partition(0).unwrap().log().unwrap().sync_all().is_err(), "what the background would do");
        for _ in 0..2 {
            assert!(is_storage(&send(&broker, batch(1, 1, 1))), "{flush}");
            assert!(is_storage(&send(&broker, batch(2, 1, 1))), "{flush}");
            assert_eq!(send(&broker, batch(0, 1, 1)), Ok(0), "{flush}: that one is synced");
        }
        drop((broker, topic));
        for survivors in [Survivors::Nothing, Survivors::Everything] {
            let broker = open_with(&disk.reboot(survivors), flush);
            assert_eq!([0, 1, 2].map(|sequence| send(&broker, batch(sequence, 1, 1))), [Ok(0), Ok(1), Ok(2)]);
        }
    }
}

/// A batch was written while the flush mode was `always`, and then the mode was another: whoever is told that it is stored
/// can read it.
#[test]
fn a_duplicate_is_shown_to_readers_before_it_is_acknowledged() {
    let disk = MemoryDisk::crashable();
    let broker = open_with(&disk, Flush::Never);
    let always = Overrides::from([("flush.ms".into(), "0".into())]);
    broker.create_topic_with("t", Some(1), always).unwrap();
    let topic = broker.topic("t").unwrap();
    let partition = topic.partition(0).unwrap();
    let mut records = Records::default();
    records.push(None, None, Some(Cow::Borrowed(b"0 x")));
    partition.write(&records, Terms { producer: Some(numbering((7, 0, 0))), ..Terms::default() }).unwrap();
    assert_eq!(partition.high_watermark(), Ok(0));
    broker.alter_topic("t", None, &Changes { reset_others: true, ..Changes::default() }).unwrap();
    assert_eq!(send(&broker, batch(0, 1, 1)), Ok(0));
    assert_eq!(sequences(&broker), [0]);
}

/// The lines of one Kafka batch were more than a segment holds, and became several batches. The disk was full after the
/// first of them: the client was told that its batch is not stored, and half of it was.
#[test]
fn a_batch_of_a_client_is_stored_whole_or_not_at_all() {
    for numbered in [true, false] {
        let disk = MemoryDisk::crashable();
        let broker = broker_with_topic(&disk);
        let partition = broker.topic("t").unwrap().partition(0).unwrap();
        let mut records = Records::default();
        (0..10).for_each(|_| records.push(None, None, Some(Cow::Owned(format!("0 {}", "x".repeat(300)).into_bytes()))));
        let write = || {
            let terms = Terms { producer: numbered.then_some(numbering((7, 0, 0))), whole: true, ..Terms::default() };
            let appended = partition.write(&records, terms)?;
            partition.make_durable(&appended).map(|()| appended.offsets)
        };
        for room in [0, 500, 1500, 3100, 3200] {
            disk.set_capacity(disk.used() + room);
            assert!(matches!(write(), Err(Error::Storage(_))), "{room}");
            let used = disk.used();
            assert_eq!(sequences(&broker), [0; 0], "{room}");
            assert_eq!(disk.used(), used);
        }
        disk.set_capacity(u64::MAX);
        assert_eq!(write(), Ok(0..10));
        assert_eq!(send(&broker, Batch { producer: (8, 0, 0), count: 1, bytes: 1 }), Ok(10));
        drop((partition, broker));
        let broker = open(&disk.reboot(Survivors::Nothing));
        let mut chunk = Chunk::default();
        broker.topic("t").unwrap().partition(0).unwrap().read(0, 1 << 20, &mut chunk).unwrap();
        assert_eq!(chunk.batches[0].entry.count, 10);
        assert_eq!(sequences(&broker).len(), 11);
    }
}

/// Lines that came together may be several batches: each line is answered by itself, and those that are stored are durable.
#[test]
fn what_was_stored_of_lines_that_came_together_is_settled() {
    let disk = MemoryDisk::crashable();
    let broker = broker_with_topic(&disk);
    let partition = broker.topic("t").unwrap().partition(0).unwrap();
    let mut records = Records::default();
    (0..10).for_each(|_| records.push(None, None, Some(Cow::Owned(format!("0 {}", "x".repeat(300)).into_bytes()))));
    disk.set_capacity(disk.used() + 1500);
    let appended = partition.write(&records, Terms::default()).unwrap();
    partition.make_durable(&appended).unwrap();
    assert_eq!(appended.offsets, 0..3);
    assert_eq!(appended.offset_of(2), Ok(2));
    assert!(appended.offset_of(3).is_err());
    assert_eq!(partition.high_watermark(), Ok(3));
    drop((partition, broker));
    assert_eq!(sequences(&open(&disk.reboot(Survivors::Nothing))), [0; 3]);
}

/// Sends the lines of these sequences, each of as many bytes, as they are gathered; the offset of each, where it is known.
fn send_lines(broker: &Broker, lines: &[(i32, usize)]) -> Vec<Result<Option<u64>>> {
    let (mut session, mut gathered) = (broker.write_session(), Gathered::default());
    let mut taken = Vec::new();
    for &(sequence, bytes) in lines {
        let mut one = Records::default();
        one.push(None, None, Some(Cow::Owned(format!("{sequence} {}", "x".repeat(bytes)).into_bytes())));
        let number = Some(numbering((7, 0, sequence)));
        taken.push(session.add_last(&mut gathered, "t", Some(0), &mut one, number));
    }
    session.write(&mut gathered);
    session.make_durable();
    taken.into_iter().map(|ticket| ticket.and_then(|ticket| session.offset(ticket))).collect()
}

/// Lines that are more than a segment holds become several batches, each with its own sequence: the next start reads them.
#[test]
fn many_lines_are_several_batches_and_each_is_known_after_a_crash() {
    let disk = MemoryDisk::crashable();
    let broker = broker_with_topic(&disk);
    let lines: Vec<_> = (0..40).map(|sequence| (sequence, 100)).collect();
    let offsets = |from: u64, to: u64| (from..to).map(|offset| Ok(Some(offset))).collect::<Vec<_>>();
    assert_eq!(send_lines(&broker, &lines), offsets(0, 40));
    drop(broker);
    let broker = open(&disk.reboot(Survivors::Nothing));
    let sent = send_lines(&broker, &[&lines[30..], &[(40, 1)]].concat());
    assert_eq!(sent, offsets(30, 41));
    assert_eq!(send_lines(&broker, &lines)[39], Ok(Some(39)));
    assert_eq!(sequences(&broker), (0..41).collect::<Vec<_>>());
}

/// The state that a roll keeps beside the new segment told of lines in that segment. A crash took them, they were sent again, and
/// acknowledged as stored.
#[test]
fn the_state_kept_at_a_roll_tells_of_nothing_that_a_crash_can_take() {
    let lines: Vec<_> = (0..14).map(|sequence| (sequence, 150)).collect();
    for survivors in [Survivors::Nothing, Survivors::Everything] {
        for nth in 1.. {
            let disk = MemoryDisk::crashable();
            let broker = broker_with_topic(&disk);
            assert_eq!(send_lines(&broker, &[(0, 150)]), [Ok(Some(0))]);
            disk.fault(Call::Any, nth, Fault::CrashBefore);
            let sent = send_lines(&broker, &lines);
            drop(broker);
            if disk.faults_left() > 0 {
                assert!(sent.iter().all(Result::is_ok) && nth > 20, "the script ends after {nth} calls");
                break;
            }
            let broker = open(&disk.reboot(survivors));
            assert!(send_lines(&broker, &lines).iter().all(Result::is_ok), "call {nth}");
            assert_eq!(sequences(&broker), (0..14).collect::<Vec<_>>(), "call {nth}");
        }
    }
}

/// What the disk took of them is known, and what it did not take is next.
#[test]
fn lines_that_a_full_disk_took_in_part_are_sent_again() {
    let disk = MemoryDisk::crashable();
    let broker = broker_with_topic(&disk);
    let lines: Vec<_> = (0..10).map(|sequence| (sequence, 300)).collect();
    disk.set_capacity(disk.used() + 1500);
    let sent = send_lines(&broker, &lines);
    assert_eq!(sent.iter().take_while(|sent| sent.is_ok()).count(), 3);
    assert!(sent[3..].iter().all(|sent| matches!(sent, Err(Error::Storage(_)))), "{sent:?}");
    assert!(matches!(send_lines(&broker, &lines[4..])[0], Err(Error::Sequence(_))));
    disk.set_capacity(u64::MAX);
    assert!(send_lines(&broker, &lines).iter().all(Result::is_ok));
    assert_eq!(sequences(&broker), (0..10).collect::<Vec<_>>());
}

/// Numbers that do not follow each other, and lines without any, are batches of their own, in the order of the lines.
#[test]
fn lines_keep_their_order_however_they_are_numbered() {
    let broker = broker_with_topic(&MemoryDisk::crashable());
    let (mut session, mut gathered) = (broker.write_session(), Gathered::default());
    let numbers = [Some((7, 0, 0)), Some((7, 0, 1)), None, Some((7, 0, 1)), Some((8, 0, 0)), None, Some((7, 0, 3))];
    let tickets = numbers.map(|number| {
        let mut one = Records::default();
        one.push(
            None,
            None,
            Some(Cow::Owned(number.map_or("-1 ", |(_, _, sequence)| ["0 ", "1 ", "", "3 "][sequence as usize]).into())),
        );
        session.add_last(&mut gathered, "t", Some(0), &mut one, number.map(numbering)).unwrap()
    });
    session.write(&mut gathered);
    session.make_durable();
    let offsets = tickets.map(|ticket| session.offset(ticket).ok().flatten());
    assert_eq!(offsets, [Some(0), Some(1), Some(2), Some(1), Some(3), Some(4), None]);
    assert_eq!(sequences(&broker), [0, 1, -1, 0, -1]);
}

/// Who is told that a line is stored can count on it, though it is only told again.
#[test]
fn a_line_that_is_known_is_durable_before_it_is_acknowledged() {
    let disk = MemoryDisk::crashable();
    let broker = broker_with_topic(&disk);
    assert_eq!(send_lines(&broker, &[(0, 1)]), [Ok(Some(0))]);
    disk.fault(Call::Sync, 1, Fault::Error);
    assert!(matches!(send_lines(&broker, &[(1, 1)])[0], Err(Error::Storage(_))));
    assert!(matches!(send_lines(&broker, &[(1, 1)])[0], Err(Error::Storage(_))), "it was written, and may be lost");
    drop(broker);
    let broker = open(&disk.reboot(Survivors::Nothing));
    assert_eq!(send_lines(&broker, &[(0, 1), (1, 1)]), [Ok(Some(0)), Ok(Some(1))]);
}

proptest! {
    /// A client that sends lines again from some line on that it may have an answer for, gathered otherwise each time, while the disk
    /// is full at times and the broker crashes.
    #[test]
    fn all_lines_that_are_sent_are_stored_once_and_in_order(
        sizes in proptest::collection::vec(prop_oneof![0..30usize, 100..300usize], 1..40),
        steps in proptest::collection::vec((0..600u64, 1..8usize, 0..8usize, 0..10u8), 0..30),
    ) {
        let lines: Vec<_> = (0..).zip(sizes).collect();
        let (mut disk, mut acknowledged) = (MemoryDisk::crashable(), 0);
        let mut broker = broker_with_topic(&disk);
        let end = std::iter::once((u64::MAX, 1, 0, 0)).chain([(u64::MAX, 3, 2, 9); 20]);
        for (room, together, back, fate) in steps.into_iter().chain(end) {
            disk.set_capacity(disk.used().saturating_add(room));
            let from = acknowledged - back.min(acknowledged);
            let sent: Vec<_> = lines[from..].chunks(together).take(3).flat_map(|lines| send_lines(&broker, lines)).collect();
            let stored = sent.iter().take_while(|sent| sent.is_ok()).count();
            prop_assert!(sent[stored..].iter().all(Result::is_err), "{:?}", sent);
            for (line, sent) in sent[..stored].iter().enumerate() {
                prop_assert!(matches!(sent, Ok(None)) || *sent == Ok(Some((from + line) as u64)), "{line}: {sent:?}");
            }
            acknowledged = acknowledged.max(from + if fate < 2 { stored / 2 } else { stored });
            if fate < 2 {
                drop(broker);
                if fate == 1 {
                    disk = disk.reboot(Survivors::Seed(room));
                }
                disk.set_capacity(u64::MAX);
                broker = open(&disk);
            }
        }
        prop_assert_eq!(acknowledged, lines.len());
        prop_assert_eq!(sequences(&broker), (0..lines.len() as i32).collect::<Vec<_>>());
    }

    /// A client with five batches on their way, which sends what was refused again in order, as librdkafka does.
    #[test]
    fn all_that_is_sent_is_stored_once_and_in_order(
        sizes in proptest::collection::vec((1..4usize, prop_oneof![0..30usize, 100..300usize]), 1..20),
        steps in proptest::collection::vec((0..600u64, 0..10u8), 0..30),
    ) {
        let mut batches = Vec::new();
        let mut sequence = 0;
        for (count, bytes) in sizes {
            batches.push(batch(sequence, count, bytes / count));
            sequence += count as i32;
        }
        let (mut disk, mut acknowledged) = (MemoryDisk::crashable(), 0);
        let mut broker = broker_with_topic(&disk);
        // A disk too full to open the partition leaves it offline until a restart.
        let end = std::iter::once((u64::MAX, 0)).chain([(u64::MAX, 9); 20]);
        for (room, fate) in steps.into_iter().chain(end) {
            disk.set_capacity(disk.used().saturating_add(room));
            let sent: Vec<_> = batches[acknowledged..].iter().take(5).map(|batch| send(&broker, *batch)).collect();
            // After an error nothing of the same request round may succeed.
            let stored = sent.iter().take_while(|sent| sent.is_ok()).count();
            prop_assert!(sent[stored..].iter().all(Result::is_err), "{:?}", sent);
            // Some answers get lost.
            acknowledged += if fate < 2 { stored / 2 } else { stored };
            if fate == 0 {
                drop(broker);
                disk.set_capacity(u64::MAX);
                broker = open(&disk);
            } else if fate == 1 {
                disk = disk.reboot(Survivors::Seed(room));
                disk.set_capacity(u64::MAX);
                broker = open(&disk);
            }
        }
        prop_assert_eq!(acknowledged, batches.len());
        let expected: Vec<i32> =
            batches.iter().flat_map(|batch| std::iter::repeat_n(batch.producer.2, batch.count)).collect();
        prop_assert_eq!(sequences(&broker), expected);
    }
}

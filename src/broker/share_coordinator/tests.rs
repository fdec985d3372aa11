//! Share consumers on a disk that crashes, refuses and fills up.

use super::*;
use crate::{
    broker::{
        Broker, Clock, Resource, ResourceKind, ShareConsumer,
        share_partition::{Acknowledged, Acknowledgement, Acquired, Wanted},
    },
    config::{Change, Changes, Config, Flush},
    log::{
        disk::{Call, Disk, Fault, MemoryDisk, Survivors, replace},
        record::Records,
    },
};
use std::{borrow::Cow, collections::BTreeSet, path::Path};

fn open_with(disk: &MemoryDisk, flush: Flush) -> Broker {
    let config = Config { flush, ..Config::new("data") };
    Broker::open_on(Arc::new(disk.clone()), config, Clock::System).unwrap()
}

fn open(disk: &MemoryDisk) -> Broker {
    open_with(disk, Flush::Always)
}

/// A broker with one topic of some records, whose groups begin with the first.
fn broker(disk: &MemoryDisk, records: u64) -> Broker {
    let broker = open(disk);
    broker.create_topic("orders", 1).unwrap();
    append(&broker, records);
    set(&broker, "share.auto.offset.reset", "earliest");
    broker
}

fn append(broker: &Broker, count: u64) {
    for number in 0..count {
        let mut records = Records::default();
        records.push(None, None, Some(Cow::Owned(format!("record {number}").into_bytes())));
        let partition = broker.topic("orders").unwrap().partition(0).unwrap();
        let written = partition.write(&records, Default::default()).unwrap();
        partition.make_durable(&written).unwrap();
    }
}

fn set(broker: &Broker, name: &str, value: &str) {
    let resource = Resource { kind: ResourceKind::Group, name: "jobs".into() };
    let changes = Changes { named: [(name.to_owned(), Change::Set(value.into()))].into(), reset_others: false };
    broker.alter_configs(&resource, &changes, false).unwrap();
}

fn orders(broker: &Broker) -> PartitionHandle {
    broker.find_partition("orders", 0).unwrap()
}

/// A consumer of a group that is made if need be, for nobody joins it here.
fn member(broker: &Broker, name: &str) -> ShareConsumer {
    broker.may_change_share_offsets("jobs", true).unwrap();
    broker.share_consumer("jobs", name).unwrap()
}

fn wanted(records: u64) -> Wanted {
    Wanted { records, exactly: true, batch: 500 }
}

fn acquire(member: &mut ShareConsumer, of: &PartitionHandle, records: u64) -> Vec<Acquired> {
    member.acquire(&member.terms(), of, wanted(records), 1 << 20, &mut ReadSession::default()).unwrap()
}

/// Acquires and says `first-last*deliveries`.
fn told(member: &mut ShareConsumer, of: &PartitionHandle, records: u64) -> String {
    let told = |one: Acquired| format!("{}-{}*{}", one.first, one.last, one.deliveries);
    acquire(member, of, records).into_iter().map(told).collect::<Vec<_>>().join(" ")
}

fn acknowledge(
    member: &mut ShareConsumer,
    of: &PartitionHandle,
    first: u64,
    last: u64,
    how: Acknowledgement,
) -> Result<()> {
    let written = member.acknowledge(&member.terms(), of, &[Acknowledged { first, last, how }])?;
    written.map_or(Ok(()), |written| written.make_durable())
}

fn set_offset(broker: &Broker, group: &str, of: &PartitionHandle, start: Option<u64>) {
    broker.write_share_offset(group, of, start).unwrap().make_durable().unwrap();
}

use Acknowledgement::{Accept, Reject, Release, Renew};

#[test]
fn two_members_share_a_partition() {
    let broker = broker(&MemoryDisk::default(), 10);
    let of = orders(&broker);
    let (mut a, mut b) = (member(&broker, "a"), member(&broker, "b"));
    assert_eq!(told(&mut a, &of, 4), "0-3*1");
    assert_eq!(told(&mut b, &of, 100), "4-9*1");
    acknowledge(&mut a, &of, 0, 1, Accept).unwrap();
    acknowledge(&mut a, &of, 2, 2, Reject).unwrap();
    let his = acknowledge(&mut a, &of, 4, 4, Accept).unwrap_err();
    assert!(matches!(his, Error::InvalidRecordState(_)), "{his}");
    let past = acknowledge(&mut b, &of, 9, 10, Accept).unwrap_err();
    assert_eq!(past, Error::PastAcquired);
    drop(b);
    assert_eq!(told(&mut a, &of, 100), "4-9*2", "what b held is released");
    assert_eq!(broker.shares_in_flight(), 7);
    let counts = broker.share_counts();
    let counted = [&counts.delivered, &counts.redelivered, &counts.accepted, &counts.rejected].map(Counter::get);
    assert_eq!(counted, [16, 6, 2, 1]);
}

#[test]
fn who_waits_is_woken_when_records_are_released() {
    let broker = broker(&MemoryDisk::default(), 1);
    let of = orders(&broker);
    let (mut a, mut b) = (member(&broker, "a"), member(&broker, "b"));
    assert_eq!(told(&mut a, &of, 1), "0-0*1");
    assert_eq!(told(&mut b, &of, 1), "");
    let waiter = crate::broker::Waiter::new();
    let registered = b.register(&waiter);
    let deadline = b.next_deadline().expect("a's lock");
    assert!(!waiter.wait(Some(Instant::now())) && deadline > Instant::now());
    acknowledge(&mut a, &of, 0, 0, Release).unwrap();
    assert!(waiter.wait(Some(Instant::now() + Duration::from_secs(10))));
    drop(registered);
    assert_eq!(told(&mut b, &of, 1), "0-0*2");
    acknowledge(&mut b, &of, 0, 0, Renew).unwrap();
    acknowledge(&mut b, &of, 0, 0, Accept).unwrap();
    assert_eq!(broker.shares_in_flight(), 0);
}

/// The lines say all that a restart needs: what is done stays done, what is not comes again.
#[test]
fn a_crash_takes_no_acknowledgement_and_forgets_no_delivery_but_the_last() {
    let disk = MemoryDisk::crashable();
    let before = broker(&disk, 8);
    let of = orders(&before);
    let mut a = member(&before, "a");
    assert_eq!(told(&mut a, &of, 8), "0-7*1");
    acknowledge(&mut a, &of, 0, 0, Accept).unwrap();
    acknowledge(&mut a, &of, 2, 3, Accept).unwrap();
    acknowledge(&mut a, &of, 5, 5, Release).unwrap();
    assert_eq!(told(&mut a, &of, 8), "5-5*2");
    let disk = disk.reboot(Survivors::Nothing);
    let after = open(&disk);
    let of = orders(&after);
    let mut b = member(&after, "b");
    assert_eq!(told(&mut b, &of, 100), "1-1*1 4-4*1 5-5*2 6-7*1");
    let offsets = after.share_offsets("jobs").unwrap();
    assert_eq!((offsets[0].start, offsets[0].done, offsets[0].in_flight), (Some(1), 2, 5));
}

#[test]
fn what_the_log_refuses_has_not_happened() {
    for fault in [Fault::Error, Fault::Full] {
        let disk = MemoryDisk::crashable();
        let broker = broker(&disk, 4);
        let of = orders(&broker);
        let mut a = member(&broker, "a");
        assert_eq!(told(&mut a, &of, 4), "0-3*1");
        acknowledge(&mut a, &of, 0, 0, Accept).unwrap();
        disk.fault(Call::Write, 0, fault);
        let refused = acknowledge(&mut a, &of, 1, 2, Accept).unwrap_err();
        assert!(matches!(refused, Error::Storage(_)), "{refused}");
        assert_eq!(disk.faults_left(), 0);
        assert_eq!(broker.share_offsets("jobs").unwrap()[0].in_flight, 3, "they are still a's");
        drop(a);
        drop(broker);
        let after = open(&disk.reboot(Survivors::Nothing));
        let mut b = member(&after, "b");
        // Whether the log took it that a is gone decides whether that delivery counts.
        let again = told(&mut b, &orders(&after), 4);
        assert!(again == "1-3*1" || again == "1-3*2", "{again}");
    }
}

/// An acknowledgement whose sync failed may be lost. Whoever repeats it is not told that all is well.
#[test]
fn what_was_not_synced_is_not_believed_to_be() {
    let disk = MemoryDisk::crashable();
    let broker = broker(&disk, 2);
    let of = orders(&broker);
    let mut a = member(&broker, "a");
    assert_eq!(told(&mut a, &of, 2), "0-1*1");
    let written = a.acknowledge(&a.terms(), &of, &[Acknowledged { first: 0, last: 0, how: Accept }]).unwrap().unwrap();
    disk.fault(Call::Sync, 0, Fault::Error);
    assert!(written.make_durable().is_err());
    assert!(acknowledge(&mut a, &of, 0, 0, Accept).is_err());
}

#[test]
fn a_group_that_begins_at_the_end_begins_there_after_a_crash_too() {
    let disk = MemoryDisk::crashable();
    let before = broker(&disk, 3);
    set(&before, "share.auto.offset.reset", "latest");
    let of = orders(&before);
    let mut a = member(&before, "a");
    assert_eq!(told(&mut a, &of, 9), "");
    append(&before, 2);
    assert_eq!(told(&mut a, &of, 9), "3-4*1");
    append(&before, 1);
    let after = open(&disk.reboot(Survivors::Nothing));
    let of = orders(&after);
    assert_eq!(told(&mut member(&after, "b"), &of, 9), "3-5*1");
}

#[test]
fn of_a_topic_that_is_dropped_nothing_is_kept() {
    let disk = MemoryDisk::crashable();
    let broker = broker(&disk, 3);
    let of = orders(&broker);
    let mut a = member(&broker, "a");
    assert_eq!(told(&mut a, &of, 9), "0-2*1");
    acknowledge(&mut a, &of, 0, 1, Accept).unwrap();
    broker.drop_topic("orders").unwrap();
    assert!(broker.share_offsets("jobs").unwrap().is_empty());
    assert!(acknowledge(&mut a, &of, 2, 2, Accept).is_err());
    broker.create_topic("orders", 1).unwrap();
    append(&broker, 2);
    let of = orders(&broker);
    assert_eq!(told(&mut a, &of, 9), "0-1*1");
    acknowledge(&mut a, &of, 0, 0, Accept).unwrap();
    let after = open(&disk.reboot(Survivors::Nothing));
    let of = orders(&after);
    assert_eq!(told(&mut member(&after, "b"), &of, 9), "1-1*1");
}

/// A start with the file of one of the broker's own topics spoiled.
fn open_without(disk: &MemoryDisk, topic: &str) -> (MemoryDisk, Broker) {
    let disk = disk.reboot(Survivors::Everything);
    replace(&disk, &Path::new("data").join(topic).join("topic"), b"no such words\n").unwrap();
    let broker = open(&disk);
    assert!(broker.topic(topic).is_err());
    (disk, broker)
}

#[test]
fn share_groups_that_cannot_be_read_back_keep_no_topic_from_being_made_or_forgotten() {
    let disk = MemoryDisk::crashable();
    let before = broker(&disk, 3);
    set_offset(&before, "jobs", &orders(&before), Some(1));
    before.reset_offsets("readers", &[("orders".into(), 0, 2)]).unwrap();
    let (_, without) = open_without(&disk, state_log::TOPIC);
    without.create_topic("payments", 1).unwrap();
    without.drop_topic("orders").unwrap();
    assert!(without.committed_offsets("readers").unwrap().is_empty(), "the groups are told");
}

#[test]
fn a_topic_made_anew_is_not_read_from_where_a_dropped_one_was_though_groups_cannot_be_read_back() {
    let disk = MemoryDisk::crashable();
    let before = broker(&disk, 3);
    set_offset(&before, "jobs", &orders(&before), Some(1));
    before.reset_offsets("readers", &[("orders".into(), 0, 2)]).unwrap();
    // A crash took the topic, and what it was to be forgotten with.
    disk.remove_dir(Path::new("data/orders")).unwrap();
    let (disk, without) = open_without(&disk, crate::broker::committed_offsets::TOPIC);
    without.create_topic("orders", 1).unwrap();
    drop(without);
    let after = open(&disk.reboot(Survivors::Nothing));
    assert_eq!(after.share_offsets("jobs"), Ok(vec![]));
}

#[test]
fn a_group_that_begins_at_the_end_of_many_partitions_waits_for_the_disk_once() {
    let disk = MemoryDisk::crashable();
    let broker = broker(&disk, 1);
    broker.create_topic("ten", 10).unwrap();
    let calls = |group: &str, topic: &str| {
        let before = disk.calls();
        let latest = ShareOptions { from: Some(Position::Latest), ..ShareOptions::default() };
        let lines = broker.join_queue(group, &[topic], &latest).map(|_| ());
        lines.map(|()| disk.calls() - before).unwrap()
    };
    // The topics of the broker's own are there, and all is open.
    for topic in ["orders", "ten"] {
        calls("first", topic);
    }
    let (of_one, of_ten) = (calls("one", "orders"), calls("ten", "ten"));
    assert_eq!(of_ten - of_one, 9 * 2, "each line is written, to the log and to its batches, and none is synced alone");
    assert!(broker.share_offsets("ten").unwrap().iter().all(|offset| offset.start == Some(0)));
}

#[test]
fn offsets_are_altered_and_deleted() {
    let disk = MemoryDisk::crashable();
    let broker = broker(&disk, 5);
    let of = orders(&broker);
    set_offset(&broker, "jobs", &of, Some(2));
    let mut a = member(&broker, "a");
    assert_eq!(told(&mut a, &of, 1), "2-2*1");
    set_offset(&broker, "jobs", &of, Some(500));
    assert_eq!(broker.share_offsets("jobs").unwrap()[0].start, Some(500));
    assert_eq!(told(&mut a, &of, 9), "", "there is nothing behind the end");
    set_offset(&broker, "jobs", &of, None);
    assert_eq!(broker.share_offsets("jobs").unwrap()[0].start, None);
    assert_eq!(told(&mut a, &of, 1), "0-0*1");
    assert!(broker.delete_share_offsets("jobs", "orders").unwrap());
    assert!(!broker.delete_share_offsets("jobs", "orders").unwrap());
    assert!(broker.share_offsets("jobs").unwrap().is_empty());
    assert!(!broker.inner().has_shares("jobs").unwrap());
    assert_eq!(told(&mut a, &of, 1), "0-0*1");
    acknowledge(&mut a, &of, 0, 0, Accept).unwrap();
    broker.delete_group("jobs").unwrap();
    let after = open(&disk.reboot(Survivors::Nothing));
    assert!(after.share_offsets("jobs").unwrap().is_empty());
}

/// A crash took records that were shown and acknowledged; others have their offsets now, and are handed out.
#[test]
fn what_is_written_where_acknowledged_records_were_lost_is_handed_out() {
    let disk = MemoryDisk::crashable();
    {
        let broker = open_with(&disk, Flush::Never);
        broker.create_topic("orders", 1).unwrap();
        append(&broker, 6);
        set(&broker, "share.auto.offset.reset", "earliest");
        let of = orders(&broker);
        let mut a = member(&broker, "a");
        assert_eq!(told(&mut a, &of, 6), "0-5*1");
        acknowledge(&mut a, &of, 0, 4, Accept).unwrap();
        // Of all this the share group's state alone reaches the disk.
        let log = broker.topic(state_log::TOPIC).unwrap().partition(0).unwrap();
        let end = log.log().unwrap().log_end();
        log.sync_to(end).unwrap();
        std::mem::forget(a);
        let after = disk.reboot(Survivors::Nothing);
        std::mem::forget(broker);
        let broker = open_with(&after, Flush::Never);
        assert_eq!(orders(&broker).high_watermark().unwrap(), 0);
        append(&broker, 2);
        let of = orders(&broker);
        assert_eq!(told(&mut member(&broker, "b"), &of, 6), "0-1*1");
    }
}

#[test]
fn a_member_is_handed_no_more_bytes_than_it_asks_for() {
    let broker = broker(&MemoryDisk::default(), 0);
    let mut records = Records::default();
    (0..10).for_each(|_| records.push(None, None, Some(Cow::Owned(vec![b'x'; 1000]))));
    let partition = broker.topic("orders").unwrap().partition(0).unwrap();
    let written = partition.write(&records, Default::default()).unwrap();
    partition.make_durable(&written).unwrap();
    let of = orders(&broker);
    let mut a = member(&broker, "a");
    let mut read = ReadSession::default();
    let mut acquire = |bytes_max| a.acquire(&a.terms(), &of, wanted(100), bytes_max, &mut read).unwrap();
    assert_eq!(acquire(3500), [Acquired { first: 0, last: 2, deliveries: 1 }]);
    assert_eq!(acquire(1), [Acquired { first: 3, last: 3, deliveries: 1 }], "at least one");
    assert_eq!(acquire(1 << 20), [Acquired { first: 4, last: 9, deliveries: 1 }]);
}

#[test]
fn what_a_transaction_aborts_is_handed_to_nobody_who_reads_committed_records() {
    let broker = broker(&MemoryDisk::default(), 1);
    set(&broker, "share.isolation.level", "read_committed");
    let of = orders(&broker);
    for end in ["abort", "commit", "open"] {
        let mut transaction = broker.begin_transaction("t", 60_000).unwrap().transaction;
        let mut session = broker.write_session();
        session.enter(&transaction);
        let mut gathered = crate::broker::Gathered::default();
        session.add_value(&mut gathered, "orders", 0, end.as_bytes()).unwrap();
        session.write(&mut gathered);
        session.make_durable();
        match end {
            "abort" => transaction.abort().unwrap(),
            "commit" => transaction.end().unwrap(),
            _ => std::mem::forget(transaction),
        }
    }
    // record, aborted, marker, committed, marker, open
    let mut a = member(&broker, "a");
    assert_eq!(told(&mut a, &of, 100), "0-0*1 3-3*1");
}

/// The value and the headers of what was moved.
fn dead_letters(broker: &Broker) -> Vec<String> {
    let of = broker.find_partition("dead", 0).unwrap();
    let mut read = ReadSession::default();
    let batches = read.read(crate::broker::View::records(Isolation::ReadUncommitted), &of, 0, 1 << 20).unwrap();
    let text = |line: &[u8]| String::from_utf8(line.into()).unwrap();
    batches.records_from(0).map(|line| text(line.unwrap().fields)).collect()
}

#[test]
fn what_nobody_can_process_is_moved_before_it_is_done() {
    let disk = MemoryDisk::crashable();
    let broker = broker(&disk, 3);
    set(&broker, "errors.deadletterqueue.topic.name", "dead");
    set(&broker, "share.delivery.count.limit", "2");
    let of = orders(&broker);
    let mut a = member(&broker, "a");
    assert_eq!(told(&mut a, &of, 3), "0-2*1");
    acknowledge(&mut a, &of, 1, 1, Reject).unwrap();
    let why = |offset: u64, count: u64, why: &str| {
        format!(
            "header.__dlq.errors.topic:orders header.__dlq.errors.partition:0 header.__dlq.errors.offset:{offset} \
            header.__dlq.errors.group:jobs header.__dlq.errors.delivery.count:{count} \
            header.__dlq.errors.message:{} message:record {offset}",
            why.replace(' ', "\\x20")
        )
    };
    let rejected = why(1, 1, "Offset rejected by client.");
    assert_eq!(dead_letters(&broker), std::slice::from_ref(&rejected));
    a.release();
    assert_eq!(told(&mut a, &of, 3), "0-0*2 2-2*2");
    // The topic of dead letters does not take it: the record stays a's, and is not done.
    disk.fault(Call::Write, 0, Fault::Full);
    acknowledge(&mut a, &of, 0, 0, Release).unwrap_err();
    assert_eq!(broker.shares_in_flight(), 2);
    acknowledge(&mut a, &of, 0, 0, Release).unwrap();
    acknowledge(&mut a, &of, 2, 2, Accept).unwrap();
    assert_eq!(dead_letters(&broker), [rejected, why(0, 2, "Offset delivery count exceeded the threshold.")]);
    assert_eq!(told(&mut a, &of, 3), "");
    let counts = broker.share_counts();
    assert_eq!([&counts.rejected, &counts.exhausted].map(Counter::get), [1, 1]);
}

#[test]
fn no_dead_letters_go_to_the_brokers_own_topics() {
    let broker = broker(&MemoryDisk::default(), 0);
    for name in ["__consumer_offsets", "a b", ".."] {
        let resource = Resource { kind: ResourceKind::Group, name: "jobs".into() };
        let change = Change::Set(name.into());
        let changes =
            Changes { named: [("errors.deadletterqueue.topic.name".into(), change)].into(), reset_others: false };
        assert!(matches!(broker.alter_configs(&resource, &changes, false), Err(Error::InvalidConfig(_))), "{name}");
    }
}

#[test]
fn a_group_may_forbid_to_hold_records_for_longer() {
    let broker = broker(&MemoryDisk::default(), 2);
    let (mut a, of) = (member(&broker, "a"), orders(&broker));
    acquire(&mut a, &of, 2);
    assert_eq!(acknowledge(&mut a, &of, 0, 0, Renew), Ok(()));
    set(&broker, "share.renew.acknowledge.enable", "false");
    let refused = acknowledge(&mut a, &of, 0, 0, Renew).unwrap_err();
    assert_eq!(refused.code().name(), "INVALID_RECORD_STATE");
    assert_eq!(acknowledge(&mut a, &of, 0, 1, Accept), Ok(()));
}

/// A dead letter that cannot be written waits alone: others are handed out, and none is written twice.
#[test]
fn a_dead_letter_that_has_no_place_keeps_nobody_waiting() {
    let disk = MemoryDisk::default();
    let config = Config { auto_create: false, ..Config::new("data") };
    let broker = Broker::open_on(Arc::new(disk.clone()), config, Clock::System).unwrap();
    broker.create_topic("orders", 1).unwrap();
    append(&broker, 4);
    set(&broker, "share.auto.offset.reset", "earliest");
    set(&broker, "errors.deadletterqueue.topic.name", "dead");
    set(&broker, "share.delivery.count.limit", "2");
    let of = orders(&broker);
    let mut a = member(&broker, "a");
    assert_eq!(told(&mut a, &of, 1), "0-0*1");
    acknowledge(&mut a, &of, 0, 0, Release).unwrap();
    assert_eq!(told(&mut a, &of, 4), "0-0*2 1-3*1");
    let mut b = member(&broker, "b");
    drop(a);
    assert_eq!(told(&mut b, &of, 4), "1-3*2", "they are not kept waiting by the one that is dead");
    assert_eq!(broker.shares_in_flight(), 3);
    broker.create_topic("dead", 1).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while dead_letters(&broker).is_empty() {
        assert_eq!(told(&mut b, &of, 4), "");
        assert!(Instant::now() < deadline);
    }
    acknowledge(&mut b, &of, 1, 3, Accept).unwrap();
    assert_eq!(dead_letters(&broker).len(), 1);
    let offsets = broker.share_offsets("jobs").unwrap();
    assert_eq!(offsets[0].start.unwrap() + offsets[0].done_at_start, 4);
}

#[test]
fn dead_letters_do_not_go_to_their_own_topic() {
    let broker = broker(&MemoryDisk::default(), 1);
    set(&broker, "errors.deadletterqueue.topic.name", "orders");
    let of = orders(&broker);
    let mut a = member(&broker, "a");
    assert_eq!(told(&mut a, &of, 1), "0-0*1");
    assert!(matches!(acknowledge(&mut a, &of, 0, 0, Reject), Err(Error::InvalidConfig(_))));
    assert_eq!(of.high_watermark().unwrap(), 1);
}

#[test]
fn nothing_is_kept_of_groups_that_are_not_there() {
    let broker = broker(&MemoryDisk::default(), 2);
    let of = orders(&broker);
    let known = || broker.inner().share_cells(|_| true).unwrap().len();
    for group in ["", "other", "readers"] {
        broker.reset_offsets("readers", &[("orders".into(), 0, 1)]).unwrap();
        let mut stranger = broker.share_consumer(group, "a").unwrap();
        assert_eq!(stranger.open(&stranger.terms(), &of), Err(Error::NotShareGroup), "{group}");
        let read = &mut ReadSession::default();
        assert_eq!(
            stranger.acquire(&stranger.terms(), &of, wanted(1), 1 << 20, read),
            Err(Error::NotShareGroup),
            "{group}"
        );
        assert_eq!(acknowledge(&mut stranger, &of, 0, 0, Accept), Err(Error::PastAcquired), "{group}");
    }
    assert_eq!(known(), 0);
    let mut member = member(&broker, "a");
    assert_eq!(acknowledge(&mut member, &of, 0, 0, Accept), Err(Error::PastAcquired), "it has read nothing");
    assert_eq!(known(), 0);
    assert_eq!(told(&mut member, &of, 0), "");
    assert_eq!(known(), 1);
    drop(member);
    assert_eq!(known(), 0, "an empty place goes with who looked at it");
}

#[test]
fn a_group_is_deleted_with_all_of_its_share_state_whatever_fails_meanwhile() {
    let mut left = BTreeSet::new();
    for nth in 0.. {
        let disk = MemoryDisk::crashable();
        let broker = broker(&disk, 2);
        broker.alter_topic("orders", Some(3), &Default::default()).unwrap();
        member(&broker, "a");
        for partition in 0..3 {
            let of = broker.find_partition("orders", partition).unwrap();
            set_offset(&broker, "jobs", &of, Some(1));
        }
        disk.fault(Call::Write, nth, Fault::Full);
        let deleted = broker.delete_group("jobs");
        if disk.faults_left() > 0 {
            break;
        }
        if deleted.is_err() {
            left.insert((broker.group("jobs").unwrap().is_some(), broker.share_offsets("jobs").unwrap().len()));
            broker.delete_group("jobs").unwrap();
        }
        assert!(matches!(broker.delete_group("jobs"), Err(Error::UnknownGroup(_))), "{nth}");
        let after = open(&disk.reboot(Survivors::Nothing));
        assert_eq!((after.group("jobs"), after.share_offsets("jobs")), (Ok(None), Ok(vec![])), "{nth}");
    }
    assert_eq!(left, [(true, 0), (true, 3)].into(), "the group's own end comes last");
}

#[test]
fn a_group_of_another_kind_takes_share_state_of_its_name_with_it() {
    let broker = broker(&MemoryDisk::default(), 2);
    set_offset(&broker, "readers", &orders(&broker), Some(1));
    broker.reset_offsets("readers", &[("orders".into(), 0, 1)]).unwrap();
    broker.delete_group("readers").unwrap();
    assert_eq!(broker.share_offsets("readers"), Ok(vec![]));
}

/// Dead letters of more than a log takes at once: when the disk is full in the middle of them, those that have no place are not done.
#[test]
fn dead_letters_that_only_partly_fit_are_not_done() {
    let disk = MemoryDisk::crashable();
    let broker = broker(&disk, 0);
    let partition = broker.topic("orders").unwrap().partition(0).unwrap();
    let mut records = Records::default();
    (0..40).for_each(|_| records.push(None, None, Some(Cow::Owned(vec![b'x'; 50_000]))));
    let written = partition.write(&records, Default::default()).unwrap();
    partition.make_durable(&written).unwrap();
    set(&broker, "errors.deadletterqueue.topic.name", "dead");
    let of = orders(&broker);
    let mut a = member(&broker, "a");
    let acquired = a.acquire(&a.terms(), &of, wanted(100), 8 << 20, &mut ReadSession::default()).unwrap();
    assert_eq!(acquired.last().unwrap().last, 39);
    let moved = || broker.find_partition("dead", 0).unwrap().high_watermark().unwrap();
    disk.fault(Call::Write, 2, Fault::Full);
    acknowledge(&mut a, &of, 0, 39, Reject).unwrap_err();
    assert_eq!(disk.faults_left(), 0);
    assert!(moved() < 40, "not all of them were moved");
    assert_eq!(broker.shares_in_flight(), 40, "none is done");
    acknowledge(&mut a, &of, 0, 39, Reject).unwrap();
    assert!(moved() >= 40);
    assert_eq!(broker.shares_in_flight(), 0);
}

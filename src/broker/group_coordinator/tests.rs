//! Groups over a broker in memory, without a protocol. Threads stand for connections.

use super::{JoinOptions, Membership, OffsetCommit, PollWait, make_durable};
use crate::{
    broker::{
        Broker, Clock, Committed, Error, PollLimits, Position, Result, Terms, Waiter,
        group::classic::{JoinRequest, Protocol, Sender, SyncRequest},
    },
    config::Config,
    log::{
        disk::{Call, Fault, MemoryDisk},
        record::Records,
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::*},
    },
    thread,
    time::{Duration, Instant},
};

fn produce(broker: &Broker, topic: &str, partition: u32, values: &[&str]) {
    let partition = broker.topic(topic).unwrap().partition(partition).unwrap();
    let mut records = Records::default();
    values.iter().for_each(|value| records.push(None, None, Some(value.as_bytes().into())));
    let appended = partition.write(&records, Terms::default()).unwrap();
    partition.make_durable(&appended).unwrap();
}

fn manual() -> JoinOptions {
    JoinOptions { auto_commit: false, ..JoinOptions::default() }
}

fn poll_for(member: &mut Membership, records: usize, time: Duration) -> Result<Vec<String>> {
    let waiter = Waiter::new();
    let deadline = Some(Instant::now() + time);
    let mut wait = |until| waiter.wait(until);
    let mut polled = vec![];
    let poll_wait = PollWait { waiter: &waiter, deadline, wait: &mut wait };
    member.poll(PollLimits { records, bytes: 1 << 20 }, poll_wait, &mut |record| {
        let fields = String::from_utf8_lossy(record.fields);
        polled.push(format!("{}/{}:{} {fields}", record.topic, record.partition, record.offset));
    })?;
    Ok(polled)
}

fn poll(member: &mut Membership) -> Vec<String> {
    poll_for(member, 500, Duration::ZERO).unwrap()
}

fn held(member: &Membership) -> Vec<u32> {
    member.assigned().map(|(_, partition)| partition).collect()
}

#[test]
fn group_goes_on_where_it_committed() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    produce(&broker, "t", 0, &["a", "b", "c"]);
    let mut first = broker.join("g", &["t"], manual()).unwrap();
    assert_eq!(poll_for(&mut first, 2, Duration::ZERO).unwrap(), ["t/0:0 message:a", "t/0:1 message:b"]);
    first.commit(None).unwrap();
    assert_eq!(poll(&mut first), ["t/0:2 message:c"]);
    drop(first);
    let mut second = broker.join("g", &["t"], manual()).unwrap();
    assert_eq!(poll(&mut second), ["t/0:2 message:c"]);
    assert!(poll(&mut second).is_empty());
    let mut other = broker.join("other", &["t"], manual()).unwrap();
    assert_eq!(poll(&mut other).len(), 3);
}

#[test]
fn automatic_commits_are_one_poll_behind_and_leaving_commits_the_rest() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    produce(&broker, "t", 0, &["a", "b", "c"]);
    let committed =
        || broker.lag("g").unwrap().iter().map(|lag| lag.committed.as_ref().map(|c| c.offset)).collect::<Vec<_>>();
    let mut member = broker.join("g", &["t"], JoinOptions::default()).unwrap();
    poll_for(&mut member, 1, Duration::ZERO).unwrap();
    assert_eq!(committed(), [None]);
    poll_for(&mut member, 1, Duration::ZERO).unwrap();
    assert_eq!(committed(), [Some(1)]);
    member.leave().unwrap();
    assert_eq!(committed(), [Some(2)]);
    let mut member = broker.join("g", &["t"], JoinOptions::default()).unwrap();
    assert_eq!(poll(&mut member), ["t/0:2 message:c"]);
    drop(member);
    assert_eq!(committed(), [Some(2)], "closing commits nothing");
}

#[test]
fn partitions_take_turns_and_what_is_left_comes_next() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 2).unwrap();
    produce(&broker, "t", 0, &["a", "b", "c"]);
    produce(&broker, "t", 1, &["d"]);
    let mut member = broker.join("g", &["t"], manual()).unwrap();
    let mut one = || poll_for(&mut member, 2, Duration::ZERO).unwrap();
    assert_eq!(one(), ["t/0:0 message:a", "t/0:1 message:b"]);
    assert_eq!(one(), ["t/0:2 message:c", "t/1:0 message:d"]);
    assert!(one().is_empty());
    produce(&broker, "t", 1, &["e"]);
    assert_eq!(one(), ["t/1:1 message:e"]);
}

#[test]
fn poll_hands_out_a_record_above_its_bytes() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    produce(&broker, "t", 0, &["long", "longer"]);
    let mut member = broker.join("g", &["t"], manual()).unwrap();
    let waiter = Waiter::new();
    let mut wait = |until| waiter.wait(until);
    let poll_wait = PollWait { waiter: &waiter, deadline: Some(Instant::now()), wait: &mut wait };
    assert_eq!(member.poll(PollLimits { records: 9, bytes: 1 }, poll_wait, &mut |_| {}), Ok(1));
}

#[test]
fn waiting_poll_wakes_for_a_record() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    let mut member = broker.join("g", &["t"], manual()).unwrap();
    thread::scope(|scope| {
        let polled = scope.spawn(|| poll_for(&mut member, 500, Duration::from_secs(60)).unwrap());
        produce(&broker, "t", 0, &["a"]);
        assert_eq!(polled.join().unwrap(), ["t/0:0 message:a"]);
    });
}

#[test]
fn waiting_poll_takes_over_the_partitions_of_one_who_goes() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 2).unwrap();
    let first = broker.join("g", &["t"], manual()).unwrap();
    let mut second = broker.join("g", &["t"], manual()).unwrap();
    assert_eq!((held(&first), held(&second)), (vec![0, 1], vec![]));
    produce(&broker, "t", 0, &["a"]);
    thread::scope(|scope| {
        let polled = scope.spawn(|| poll_for(&mut second, 500, Duration::from_secs(60)).unwrap());
        drop(first);
        assert_eq!(polled.join().unwrap(), ["t/0:0 message:a"]);
    });
    assert_eq!(held(&second), [0, 1]);
}

#[test]
fn partitions_of_one_who_hangs_are_owned_again_after_its_session() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    produce(&broker, "t", 0, &["a"]);
    let begin = Instant::now();
    let mut hangs = broker.join("g", &["t"], JoinOptions { session_ms: 300, ..manual() }).unwrap();
    let mut waits = broker.join("g", &["t"], manual()).unwrap();
    assert_eq!(poll_for(&mut waits, 500, Duration::from_secs(60)).unwrap(), ["t/0:0 message:a"]);
    let took = begin.elapsed();
    assert!((Duration::from_millis(299)..Duration::from_millis(400)).contains(&took), "{took:?}");
    assert_eq!(poll_for(&mut hangs, 500, Duration::ZERO), Err(Error::UnknownMemberId));
    assert_eq!(hangs.commit(None), Err(Error::UnknownMemberId));
    assert_eq!(hangs.seek("t", 0, Position::Earliest), Err(Error::UnknownMemberId));
}

/// When the first begins to wait, no session runs that it could wait for.
#[test]
fn who_waits_watches_a_session_that_begins_later() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 2).unwrap();
    let mut waits = broker.join("g", &["t"], manual()).unwrap();
    let mut hangs = broker.join("g", &["t"], JoinOptions { session_ms: 100, ..manual() }).unwrap();
    poll(&mut waits);
    thread::scope(|scope| {
        const MINUTE: Duration = Duration::from_secs(60);
        let waiting = || broker.inner().find_group("g").unwrap().unwrap().lock().waiting.len();
        let await_waiting = |count| {
            while waiting() < count {
                thread::yield_now()
            }
        };
        let second = scope.spawn(|| poll_for(&mut hangs, 500, MINUTE).unwrap());
        await_waiting(1);
        let first = scope.spawn(|| poll_for(&mut waits, 500, MINUTE).unwrap());
        await_waiting(2);
        produce(&broker, "t", 1, &["a"]);
        assert_eq!(second.join().unwrap(), ["t/1:0 message:a"]);
        let left = Instant::now();
        assert_eq!(first.join().unwrap(), ["t/1:0 message:a"]);
        assert!(left.elapsed() < MINUTE / 10, "with the session, not with its own time");
    });
}

#[test]
fn where_to_begin_is_settled_when_the_member_joins() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    produce(&broker, "t", 0, &["old"]);
    let latest = JoinOptions { from: Position::Latest, ..manual() };
    let mut member = broker.join("g", &["t"], latest).unwrap();
    produce(&broker, "t", 0, &["new"]);
    assert_eq!(poll(&mut member), ["t/0:1 message:new"]);
    let beyond = JoinOptions { from: Position::At(3), ..manual() };
    assert_eq!(broker.join("h", &["t"], beyond).map(drop), Err(Error::OffsetOutOfRange { first: 0, end: 2 }));
    assert_eq!(broker.group("h").unwrap(), None);
}

#[test]
fn position_that_is_gone_goes_on_where_the_group_begins() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    produce(&broker, "t", 0, &["a", "b", "c"]);
    let mut member = broker.join("g", &["t"], manual()).unwrap();
    broker.trim("t", 0, 2).unwrap();
    assert_eq!(poll(&mut member), ["t/0:2 message:c"]);
    member.commit(Some(&[("t", 0, 100)])).unwrap();
    drop(member);
    let mut member = broker.join("g", &["t"], manual()).unwrap();
    assert_eq!(poll(&mut member), ["t/0:2 message:c"], "what lies beyond the end is gone too");
}

#[test]
fn seek_moves_what_is_committed_next() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    produce(&broker, "t", 0, &["a", "b", "c"]);
    let mut member = broker.join("g", &["t"], manual()).unwrap();
    poll(&mut member);
    assert_eq!(member.seek("t", 0, Position::At(1)), Ok(1));
    assert_eq!(member.seek("t", 0, Position::At(4)), Err(Error::OffsetOutOfRange { first: 0, end: 3 }));
    assert_eq!(member.seek("t", 1, Position::At(0)), Err(Error::NotAssigned { topic: "t".into(), partition: 1 }));
    member.commit(None).unwrap();
    assert_eq!(broker.committed_offsets("g").unwrap()[&("t".into(), 0)].offset, 1);
    assert_eq!(poll(&mut member).len(), 2);
}

#[test]
fn partition_that_moved_takes_no_commit() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 2).unwrap();
    let mut first = broker.join("g", &["t"], manual()).unwrap();
    let mut second = broker.join("g", &["t"], manual()).unwrap();
    first.commit(Some(&[("t", 0, 0), ("t", 1, 0)])).unwrap();
    poll(&mut second);
    assert_eq!(held(&second), [1]);
    let refused = first.commit(Some(&[("t", 0, 1), ("t", 1, 1)]));
    assert_eq!(refused, Err(Error::NotAssigned { topic: "t".into(), partition: 1 }));
    assert_eq!(broker.committed_offsets("g").unwrap()[&("t".into(), 0)].offset, 0, "nothing was committed");
}

#[test]
fn groups_of_nothing_are_refused() {
    let broker = Broker::in_memory();
    assert_eq!(broker.join("g", &["no"], manual()).map(drop), Err(Error::UnknownTopic("no".into())));
    broker.create_topic("t", 1).unwrap();
    assert!(matches!(broker.join("", &["t"], manual()), Err(Error::InvalidGroup(_))));
    for session_ms in [99, 30 * 60 * 1000 + 1] {
        let join = broker.join("g", &["t"], JoinOptions { session_ms, ..manual() });
        assert!(matches!(join, Err(Error::InvalidSessionTimeout(_))));
    }
    assert_eq!(broker.groups().unwrap(), []);
    assert_eq!(broker.delete_group("g"), Err(Error::UnknownGroup("g".into())));
}

#[test]
fn group_with_members_is_not_deleted() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    let member = broker.join("g", &["t"], manual()).unwrap();
    let listed = broker.groups().unwrap();
    assert_eq!((&*listed[0].name, listed[0].state, listed[0].members), ("g", "Stable", 1));
    assert_eq!(broker.delete_group("g"), Err(Error::NonEmptyGroup("g".into())));
    drop(member);
    assert_eq!(broker.groups().unwrap()[0].state, "Empty");
    assert_eq!(broker.delete_group("g"), Ok(()));
    assert_eq!(broker.groups().unwrap(), []);
}

#[test]
fn offsets_are_reset_and_forgotten() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 2).unwrap();
    produce(&broker, "t", 0, &["a", "b", "c"]);
    let offsets = [("t".into(), 0, 1), ("t".into(), 1, 0)];
    broker.reset_offsets("g", &offsets).unwrap();
    let lag = broker.lag("g").unwrap();
    assert_eq!(
        lag.iter().map(|lag| (lag.partition, lag.end, lag.lag())).collect::<Vec<_>>(),
        [(0, 3, Some(2)), (1, 0, Some(0))]
    );
    let mut member = broker.join("g", &["t"], manual()).unwrap();
    assert_eq!(broker.reset_offsets("g", &offsets), Err(Error::NonEmptyGroup("g".into())));
    assert_eq!(poll(&mut member), ["t/0:1 message:b", "t/0:2 message:c"]);
    drop(member);
    broker.delete_offsets("g", &[("t".into(), 1), ("t".into(), 7)]).unwrap();
    assert_eq!(broker.lag("g").unwrap().len(), 1);
    broker.delete_group("g").unwrap();
    assert_eq!(broker.groups().unwrap(), []);
    assert_eq!(
        broker
            .reset_offsets("g", &[("t".into(), 2, 0)])
            .map_err(|error| matches!(error, Error::UnknownPartition { .. })),
        Err(true)
    );
}

#[test]
fn dropped_topic_takes_the_groups_offsets_with_it() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    broker.create_topic("stays", 1).unwrap();
    produce(&broker, "t", 0, &["a"]);
    produce(&broker, "stays", 0, &["b"]);
    let mut member = broker.join("g", &["t", "stays"], manual()).unwrap();
    assert_eq!(poll(&mut member).len(), 2);
    broker.drop_topic("t").unwrap();
    member.commit(None).unwrap();
    assert_eq!(poll_for(&mut member, 500, Duration::ZERO), Err(Error::UnknownTopic("t".into())));
    assert_eq!(broker.committed_offsets("g").unwrap().keys().collect::<Vec<_>>(), [&("stays".into(), 0)]);
    broker.create_topic("t", 2).unwrap();
    produce(&broker, "t", 1, &["new"]);
    assert_eq!(poll(&mut member), ["t/1:0 message:new"]);
}

#[test]
fn drop_ends_a_waiting_poll() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    let mut member = broker.join("g", &["t"], manual()).unwrap();
    thread::scope(|scope| {
        let polled = scope.spawn(|| poll_for(&mut member, 500, Duration::from_secs(60)));
        broker.drop_topic("t").unwrap();
        assert_eq!(polled.join().unwrap(), Err(Error::UnknownTopic("t".into())));
    });
}

#[test]
fn partitions_that_are_new_are_read_from_their_first_record() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    let mut member = broker.join("g", &["t"], manual()).unwrap();
    thread::scope(|scope| {
        let polled = scope.spawn(|| poll_for(&mut member, 500, Duration::from_secs(60)).unwrap());
        broker.alter_topic("t", Some(2), &Default::default()).unwrap();
        produce(&broker, "t", 1, &["a"]);
        assert_eq!(polled.join().unwrap(), ["t/1:0 message:a"]);
    });
}

/// A broker on a disk that outlives it.
fn open(disk: &MemoryDisk, clock: &Arc<AtomicI64>) -> Broker {
    let config = Config { offsets_retention: Duration::from_millis(1000), ..Config::new("data") };
    Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(clock.clone())).unwrap()
}

/// A LEAVE was refused since what it commits could not be written, and the member was gone all the same.
#[test]
fn who_cannot_commit_does_not_leave() {
    let (disk, clock) = (MemoryDisk::crashable(), Arc::new(AtomicI64::new(5)));
    let broker = open(&disk, &clock);
    broker.create_topic("t", 1).unwrap();
    produce(&broker, "t", 0, &["a"]);
    let mut member = broker.join("g", &["t"], JoinOptions::default()).unwrap();
    assert_eq!(poll(&mut member), ["t/0:0 message:a"]);
    disk.fault(Call::Write, 1, Fault::Full);
    assert!(matches!(member.leave(), Err(Error::Storage(_))));
    assert_eq!(held(&member), [0]);
    member.leave().unwrap();
    assert_eq!(broker.lag("g").unwrap()[0].committed.as_ref().unwrap().offset, 1);
    assert_eq!(member.leave(), Err(Error::UnknownMemberId));
}

#[test]
fn offsets_survive_a_restart_and_stand_in_the_log_as_lines() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(5)));
    let broker = open(&disk, &clock);
    broker.create_topic("t", 2).unwrap();
    broker.reset_offsets("a/b c", &[("t".into(), 0, 0), ("t".into(), 1, 0)]).unwrap();
    broker.delete_offsets("a/b c", &[("t".into(), 1)]).unwrap();
    drop(broker);
    let broker = open(&disk, &clock);
    clock.store(900, Release);
    let committed = Committed { offset: 0, leader_epoch: 0, metadata: "".into(), timestamp_ms: 5 };
    assert_eq!(broker.committed_offsets("a/b c").unwrap(), BTreeMap::from([(("t".into(), 0), committed)]));
    assert_eq!(broker.inner().look_after_groups(), Ok(Some(1900)), "a restart counts as the begin of the retention");
    let log = broker.topic("__consumer_offsets").unwrap().partition(0).unwrap();
    let mut chunk = crate::log::Chunk::default();
    log.read(0, 1 << 20, &mut chunk).unwrap();
    let lines = "offset:0 key:a/b\\x20c/t/0 message:offset:0 epoch:0 metadata:\n\
        offset:1 key:a/b\\x20c/t/1 message:offset:0 epoch:0 metadata:\n\
        offset:2 key:a/b\\x20c/t/1 tombstone\n";
    assert_eq!(String::from_utf8_lossy(chunk.bytes()), lines);
}

#[test]
fn offsets_expire_when_the_group_had_no_members_for_as_long() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(0)));
    let broker = open(&disk, &clock);
    broker.create_topic("t", 1).unwrap();
    let mut member = broker.join("g", &["t"], manual()).unwrap();
    member.commit(Some(&[("t", 0, 0)])).unwrap();
    clock.store(5000, Release);
    assert_eq!(broker.inner().look_after_groups(), Ok(Some(6000)), "it has a member");
    drop(member);
    clock.store(5999, Release);
    assert_eq!(broker.inner().look_after_groups(), Ok(Some(6000)));
    assert_eq!(broker.committed_offsets("g").unwrap().len(), 1);
    clock.store(6000, Release);
    assert_eq!(broker.inner().look_after_groups(), Ok(None));
    assert_eq!(broker.groups().unwrap(), []);
    drop(broker);
    assert_eq!(open(&disk, &clock).groups().unwrap(), []);
}

#[test]
fn group_that_lost_its_last_offset_is_there_for_ten_minutes_or_until_it_is_deleted() {
    let (disk, clock) = (MemoryDisk::default(), Arc::new(AtomicI64::new(0)));
    let broker = open(&disk, &clock);
    broker.create_topic("t", 1).unwrap();
    for group in ["deleted", "left"] {
        broker.reset_offsets(group, &[("t".into(), 0, 0)]).unwrap();
        broker.delete_offsets(group, &[("t".into(), 0)]).unwrap();
        assert_eq!(broker.group(group).unwrap().unwrap().state, "Empty");
    }
    assert_eq!(broker.delete_group("deleted"), Ok(()));
    assert_eq!(broker.delete_group("deleted"), Err(Error::UnknownGroup("deleted".into())));
    clock.store(599_999, Release);
    assert_eq!(broker.inner().look_after_groups(), Ok(Some(600_000)));
    assert_eq!(broker.groups().unwrap().len(), 1);
    clock.store(600_000, Release);
    assert_eq!(broker.inner().look_after_groups(), Ok(None));
    assert_eq!(broker.groups().unwrap(), []);
}

/// OffsetDelete asked who subscribes and then, in another step, deleted: a member that joined and committed in between lost
/// its offset, and read everything again.
#[test]
fn what_a_member_committed_is_not_deleted_from_under_it() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    broker.reset_offsets("g", &[("t".into(), 0, 0)]).unwrap();
    let done = AtomicI64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while done.load(Acquire) == 0 {
                let _ = broker.delete_offsets("g", &[("t".into(), 0)]);
            }
        });
        for _ in 0..500 {
            let mut member = broker.join("g", &["t"], manual()).unwrap();
            member.commit(Some(&[("t", 0, 7)])).unwrap();
            thread::yield_now();
            let committed = broker.committed_offsets("g").unwrap();
            if committed.len() != 1 {
                done.store(1, Release);
                panic!("the offset is gone");
            }
        }
        done.store(1, Release);
    });
}

#[test]
fn offsets_of_topics_that_members_subscribe_to_are_not_deleted() {
    let broker = Broker::in_memory();
    ["read", "unread"].into_iter().for_each(|topic| drop(broker.create_topic(topic, 1).unwrap()));
    let offsets: [(Arc<str>, u32, u64); 2] = [("read".into(), 0, 0), ("unread".into(), 0, 0)];
    let both = [("read".into(), 0), ("unread".into(), 0)];
    let kept = || broker.committed_offsets("g").unwrap().into_keys().map(|(topic, _)| topic).collect::<Vec<_>>();
    broker.reset_offsets("g", &offsets).unwrap();
    let member = broker.join("g", &["read"], manual()).unwrap();
    assert_eq!(broker.delete_offsets("g", &both), Ok(["read".into()].into()));
    assert_eq!(kept(), ["read".into()]);
    drop(member);
    broker.reset_offsets("g", &offsets).unwrap();
    // A classic group: what its members subscribe to stands in their metadata, once a protocol is chosen.
    let waiter = Waiter::new();
    let join = |metadata: &[u8], protocol_type: &str| {
        let protocols = vec![Protocol { name: "range".into(), metadata: metadata.into() }];
        let request = JoinRequest { protocols, protocol_type: protocol_type.into(), ..request("") };
        broker.join_group("g", request, &waiter, &mut |_| false).unwrap().member_id
    };
    let leave = |member_id: &str| broker.leave_group("g", Sender { member_id, instance_id: None }).unwrap();
    let consumer = join(b"\0\0\0\0\0\x01\0\x04read\xff\xff\xff\xff", "consumer");
    assert_eq!(broker.delete_offsets("g", &both), Ok(["read".into()].into()));
    assert_eq!(kept(), ["read".into()]);
    leave(&consumer);
    broker.reset_offsets("g", &offsets).unwrap();
    let strange = join(b"\0", "consumer");
    assert_eq!(broker.delete_offsets("g", &both), Ok(["read".into(), "unread".into()].into()));
    leave(&strange);
    join(b"", "connect");
    assert_eq!(broker.delete_offsets("g", &both), Err(Error::NonEmptyGroup("g".into())));
    assert_eq!(kept().len(), 2);
}

fn request(member_id: &str) -> JoinRequest {
    JoinRequest::of_consumer(member_id, &format!("client-{}", crate::broker::random::number()), [1])
}

/// Joins, and syncs an assignment that says how many members there are.
fn join_and_sync(broker: &Broker, member_id: &str) -> Result<(String, Vec<u8>)> {
    let waiter = Waiter::new();
    let mut wait = |until| waiter.wait(until);
    let joined = broker.join_group("g", request(member_id), &waiter, &mut wait)?;
    let share = vec![joined.members.len() as u8];
    let request = SyncRequest {
        sender: Sender { member_id: &joined.member_id, instance_id: None },
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: joined.members.iter().map(|member| (member.member_id.clone(), share.clone())).collect(),
    };
    let assigned = broker.sync_group("g", request, &waiter, &mut wait)?;
    Ok((joined.member_id, assigned))
}

#[test]
fn classic_members_rebalance_through_the_coordinator() {
    let broker = Broker::in_memory();
    let (leader, assigned) = join_and_sync(&broker, "").unwrap();
    assert_eq!(assigned, [1]);
    let sender = Sender { member_id: &leader, instance_id: None };
    thread::scope(|scope| {
        let second = scope.spawn(|| join_and_sync(&broker, "").unwrap());
        let told = std::iter::repeat_with(|| broker.heartbeat("g", sender, 1)).find(|told| told.is_err());
        assert_eq!(told, Some(Err(Error::RebalanceInProgress)));
        assert_eq!(join_and_sync(&broker, &leader).unwrap(), (leader.clone(), vec![2]));
        assert_eq!(second.join().unwrap().1, [2]);
    });
    assert_eq!(broker.heartbeat("g", sender, 2), Ok(()));
    assert_eq!(broker.groups().unwrap()[0].protocol_type, "consumer");
    broker.leave_group("g", sender).unwrap();
    assert_eq!(broker.leave_group("g", sender), Err(Error::UnknownMemberId));
}

#[test]
fn first_classic_member_waits_for_the_initial_delay() {
    let delay = Duration::from_millis(200);
    let config = Config { group_initial_rebalance_delay: delay, ..Config::in_memory() };
    let broker = Broker::open(config).unwrap();
    let begin = Instant::now();
    assert_eq!(join_and_sync(&broker, "").unwrap().1, [1]);
    assert!(begin.elapsed() >= delay - Duration::from_millis(1));
}

#[test]
fn classic_join_that_is_given_up_lets_the_others_go_on() {
    let broker = Broker::in_memory();
    let (leader, _) = join_and_sync(&broker, "").unwrap();
    let waiter = Waiter::new();
    let given_up = broker.join_group("g", request(""), &waiter, &mut |_| false);
    assert_eq!(given_up, Err(Error::RebalanceInProgress));
    assert_eq!(join_and_sync(&broker, &leader).unwrap().1, [1]);
}

#[test]
fn kafka_and_text_share_the_offsets_of_a_group() {
    let broker = Broker::in_memory();
    broker.create_topic("t", 1).unwrap();
    produce(&broker, "t", 0, &["a", "b"]);
    let nobody = Sender { member_id: "", instance_id: None };
    let committed = Committed { offset: 1, leader_epoch: -1, metadata: "m".into(), timestamp_ms: 0 };
    let commit = |generation, topic: &str, metadata: &str| {
        let committed = Committed { metadata: metadata.into(), ..committed.clone() };
        let offset = OffsetCommit { topic: topic.into(), partition: 0, committed };
        let mut done = broker.commit_offsets("g", nobody, generation, vec![offset])?;
        make_durable(done.written)?;
        done.outcomes.remove(0)
    };
    assert_eq!(commit(-1, "no", "m"), Err(Error::UnknownTopic("no".into())));
    assert!(matches!(commit(1, "t", "m"), Err(Error::IllegalGeneration(_))), "there is no such group");
    commit(-1, "t", "m").unwrap();
    let mut member = broker.join("g", &["t"], manual()).unwrap();
    assert_eq!(poll(&mut member), ["t/0:1 message:b"]);
    assert_eq!(commit(-1, "t", "m"), Err(Error::UnknownMemberId));
    member.commit(None).unwrap();
    assert_eq!(broker.committed_offsets("g").unwrap()[&("t".into(), 0)].offset, 2);
    let mut wait = |_| false;
    let refused = broker.join_group("g", request(""), &Waiter::new(), &mut wait);
    assert_eq!(refused, Err(Error::InconsistentGroupProtocol));
    let short = JoinRequest { session_timeout_ms: 5_999, ..request("") };
    assert!(matches!(broker.join_group("g", short, &Waiter::new(), &mut wait), Err(Error::InvalidSessionTimeout(_))));
    assert_eq!(broker.join_group("no", request("m"), &Waiter::new(), &mut wait), Err(Error::UnknownMemberId));
    let unknown =
        SyncRequest { sender: nobody, generation: 1, protocol_type: None, protocol: None, assignments: HashMap::new() };
    assert_eq!(broker.sync_group("no", unknown, &Waiter::new(), &mut wait), Err(Error::UnknownMemberId));
}

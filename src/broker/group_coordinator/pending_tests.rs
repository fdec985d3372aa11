//! Offsets that transactions commit: over the marker, a restart, other commits, and members who are to read on.

use super::{JoinOptions, LogWrite, Membership, OffsetCommit, PollWait, make_durable};
use crate::{
    broker::{
        Broker, Clock, Committed, Error, Marker, Partition, PollLimits, Result, Terms, Waiter,
        group::{Committer, classic::Sender},
        transaction::{Epochs, ProducerIdentity},
    },
    config::{Config, Flush},
    log::{Outcome, disk::MemoryDisk, record::Records},
};
use Outcome::*;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::*},
    },
    thread,
    time::{Duration, Instant},
};

const NOW_MS: i64 = 1_700_000_000_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const P: ProducerIdentity = ProducerIdentity { id: 7, epoch: 0 };
const Q: ProducerIdentity = ProducerIdentity { id: 8, epoch: 0 };

fn open(disk: &MemoryDisk, clock: &Arc<AtomicI64>) -> Broker {
    let config = Config { flush: Flush::Always, ..Config::new("data") };
    Broker::open_on(Arc::new(disk.clone()), config, Clock::Manual(clock.clone())).unwrap()
}

/// A broker with a topic of two partitions, `t`.
fn broker() -> Broker {
    let broker = Broker::in_memory();
    broker.create_topic("t", 2).unwrap();
    broker
}

fn offset(partition: u32, offset: i64) -> OffsetCommit {
    let committed = Committed { offset, leader_epoch: -1, metadata: String::new(), timestamp_ms: NOW_MS };
    OffsetCommit { topic: "t".into(), partition, committed }
}

fn pend(broker: &Broker, producer: ProducerIdentity, committer: Committer<'_>, offsets: &[OffsetCommit]) -> Result<()> {
    let done = broker.write_pending_offsets("g", producer, committer, offsets.to_vec())?;
    make_durable(done.written)?;
    done.outcomes.into_iter().collect()
}

fn commit(broker: &Broker, partition: u32, at: i64) {
    let nobody = Sender { member_id: "", instance_id: None };
    let done = broker.commit_offsets("g", nobody, -1, vec![offset(partition, at)]).unwrap();
    make_durable(done.written).unwrap();
}

fn log(broker: &Broker) -> Arc<Partition> {
    broker.topic("__consumer_offsets").unwrap().partition(0).unwrap()
}

/// Ends a transaction in the groups' log, as the transactions' coordinator does.
fn end(broker: &Broker, producer: ProducerIdentity, outcome: Outcome) {
    let (producer_id, producer_epoch) = (producer.id, producer.epoch);
    let marker = Marker { producer_id, producer_epoch, outcome, coordinator_epoch: 0 };
    let appended = log(broker).write_marker(marker).unwrap();
    log(broker).make_durable(&appended).unwrap();
    broker.inner().marker_written(&log(broker), &marker, appended.offsets.start);
}

/// Where the group is in `t/0`, and whether a transaction may change that.
fn at(broker: &Broker) -> (Option<i64>, bool) {
    let (offsets, partition) = (broker.group_offsets("g").unwrap(), ("t".into(), 0));
    (offsets.committed().get(&partition).map(|committed| committed.offset), offsets.stable(&partition).is_err())
}

#[test]
fn offsets_of_a_transaction_count_when_it_commits_and_over_every_restart() {
    for (outcome, then) in [(Commit, Some(10)), (Abort, Some(3))] {
        let (disk, clock) = (MemoryDisk::crashable(), Arc::new(AtomicI64::new(NOW_MS)));
        let mut broker = open(&disk, &clock);
        broker.create_topic("t", 1).unwrap();
        commit(&broker, 0, 3);
        let producer = broker.init_producer("transfer", 60_000, None).unwrap();
        broker.add_group("transfer", producer, "g").unwrap();
        pend(&broker, producer, Committer::Anybody, &[offset(0, 9)]).unwrap();
        pend(&broker, producer, Committer::Anybody, &[offset(0, 10)]).unwrap();
        let restart = |broker: Broker| {
            drop(broker);
            open(&disk, &clock)
        };
        assert_eq!(at(&broker), (Some(3), true));
        broker = restart(broker);
        assert_eq!(at(&broker), (Some(3), true));
        assert_eq!(broker.committed_offsets("g").unwrap().len(), 1);
        broker.end_transaction("transfer", producer, outcome, Epochs::Kept).unwrap();
        assert_eq!(at(&broker), (then, false));
        broker = restart(broker);
        assert_eq!(at(&broker), (then, false));
        // What is read back with its marker may be told of it once more.
        let (producer_id, producer_epoch) = (producer.id, producer.epoch);
        let marker = Marker { producer_id, producer_epoch, outcome: Commit, coordinator_epoch: 0 };
        broker.inner().marker_written(&log(&broker), &marker, u64::MAX);
        assert_eq!(at(&broker), (then, false));
    }
}

/// Measured with a real Kafka: pending 10, a plain commit of 20, the end: 20 stays.
#[test]
fn a_plain_commit_behind_a_pending_one_stays() {
    let (disk, clock) = (MemoryDisk::crashable(), Arc::new(AtomicI64::new(NOW_MS)));
    let broker = open(&disk, &clock);
    broker.create_topic("t", 1).unwrap();
    pend(&broker, P, Committer::Anybody, &[offset(0, 10)]).unwrap();
    commit(&broker, 0, 20);
    assert_eq!(at(&broker), (Some(20), true));
    end(&broker, P, Commit);
    assert_eq!(at(&broker), (Some(20), false));
    drop(broker);
    assert_eq!(at(&open(&disk, &clock)), (Some(20), false));
}

#[test]
fn deleting_a_group_deletes_what_is_pending() {
    let broker = broker();
    pend(&broker, P, Committer::Anybody, &[offset(0, 10), offset(1, 11)]).unwrap();
    broker.delete_group("g").unwrap();
    assert_eq!(broker.group("g").unwrap(), None);
    commit(&broker, 0, 20);
    end(&broker, P, Commit);
    assert_eq!((at(&broker), broker.committed_offsets("g").unwrap().len()), ((Some(20), false), 1));

    pend(&broker, Q, Committer::Anybody, &[offset(0, 30), offset(1, 31)]).unwrap();
    broker.delete_offsets("g", &[("t".into(), 0)]).unwrap();
    assert_eq!(at(&broker), (None, false));
    broker.drop_topic("t").unwrap();
    end(&broker, Q, Commit);
    assert!(broker.committed_offsets("g").unwrap().is_empty());
}

#[test]
fn a_group_is_kept_while_an_offset_is_pending() {
    let (disk, clock) = (MemoryDisk::crashable(), Arc::new(AtomicI64::new(NOW_MS)));
    let broker = open(&disk, &clock);
    broker.create_topic("t", 2).unwrap();
    commit(&broker, 0, 3);
    pend(&broker, P, Committer::Anybody, &[offset(0, 10)]).unwrap();
    commit(&broker, 1, 5);
    clock.fetch_add(8 * DAY_MS, AcqRel);
    let look_after = || broker.inner().look_after_groups().unwrap();
    let next_ms = look_after();
    assert!(next_ms.is_some_and(|next_ms| next_ms > clock.load(Acquire)), "maintenance does not go round: {next_ms:?}");
    assert_eq!(at(&broker), (Some(3), true), "too old, but a transaction may replace it");
    assert!(!broker.committed_offsets("g").unwrap().contains_key(&("t".into(), 1)));
    end(&broker, P, Abort);
    look_after();
    assert_eq!((at(&broker), broker.group("g").unwrap()), ((None, false), None));

    pend(&broker, Q, Committer::Anybody, &[offset(0, 10)]).unwrap();
    look_after();
    assert_eq!(broker.inner().all_groups().unwrap(), (vec!["g".into()], vec![]), "it does not rest");
    end(&broker, Q, Abort);
    assert_eq!(broker.inner().all_groups().unwrap().0, []);
}

#[test]
fn what_cannot_be_committed_is_refused_and_the_rest_is_pending() {
    let broker = broker();
    let unknown = pend(&broker, P, Committer::Anybody, &[offset(7, 1), offset(0, 10)]);
    assert!(matches!(unknown, Err(Error::UnknownPartition { .. })));
    assert_eq!(at(&broker), (None, true));
    let sender = Sender { member_id: "x", instance_id: None };
    let other = broker.write_pending_offsets("other", P, Committer::Member { sender, generation: 0 }, vec![]);
    assert!(matches!(other, Err(Error::IllegalGeneration(_))));
    assert!(matches!(broker.write_pending_offsets("", P, Committer::Anybody, vec![]), Err(Error::InvalidGroup(_))));
    let _member = join(&broker);
    assert_eq!(pend(&broker, P, Committer::Outsider, &[offset(0, 11)]), Err(Error::UnknownMemberId));
}

fn join(broker: &Broker) -> Membership {
    broker.join("g", &["t"], JoinOptions { auto_commit: false, ..JoinOptions::default() }).unwrap()
}

fn produce(broker: &Broker, partition: u32, values: &[&str]) {
    let partition = broker.topic("t").unwrap().partition(partition).unwrap();
    let mut records = Records::default();
    values.iter().for_each(|value| records.push(None, None, Some(value.as_bytes().into())));
    partition.make_durable(&partition.write(&records, Terms::default()).unwrap()).unwrap();
}

/// Partitions and offsets of what a poll hands out.
fn poll_for(member: &mut Membership, time: Duration) -> Vec<(u32, u64)> {
    let waiter = Waiter::new();
    let deadline = Some(Instant::now() + time);
    let wait = PollWait { waiter: &waiter, deadline, wait: &mut |until| waiter.wait(until) };
    let mut polled = vec![];
    let limits = PollLimits { records: 100, bytes: 1 << 20 };
    member.poll(limits, wait, &mut |record| polled.push((record.partition, record.offset))).unwrap();
    polled
}

fn poll(member: &mut Membership) -> Vec<(u32, u64)> {
    poll_for(member, Duration::ZERO)
}

/// Commits in a transaction on another connection than the one that polls.
fn pend_for(broker: &Broker, member_id: &str, generation: i32, at: i64) -> Result<()> {
    let sender = Sender { member_id, instance_id: None };
    pend(broker, P, Committer::Member { sender, generation }, &[offset(0, at)])
}

#[test]
fn the_next_owner_of_a_partition_waits_for_the_outcome() {
    for (outcome, reads) in [(Commit, vec![(0, 2)]), (Abort, vec![(0, 1), (0, 2)])] {
        let broker = broker();
        produce(&broker, 0, &["a", "b", "c"]);
        commit(&broker, 0, 1);
        let mut first = join(&broker);
        assert_eq!(poll(&mut first), [(0, 1), (0, 2)]);
        pend_for(&broker, &first.id(), first.generation(), 2).unwrap();
        drop(first);
        let mut second = join(&broker);
        produce(&broker, 1, &["d"]);
        assert_eq!(poll(&mut second), [(1, 0)], "it reads the other one meanwhile");
        assert!(poll(&mut second).is_empty());
        thread::scope(|scope| {
            let waits = scope.spawn(|| poll_for(&mut second, Duration::from_secs(60)));
            while broker.inner().find_group("g").unwrap().unwrap().lock().waiting.is_empty() {
                thread::yield_now();
            }
            end(&broker, P, outcome);
            assert_eq!(waits.join().unwrap(), reads);
        });
    }
}

#[test]
fn who_seeks_reads_there_whatever_is_pending() {
    let broker = broker();
    produce(&broker, 0, &["a", "b"]);
    pend(&broker, P, Committer::Anybody, &[offset(0, 1)]).unwrap();
    let mut member = join(&broker);
    assert!(poll(&mut member).is_empty());
    member.seek("t", 0, crate::broker::Position::At(0)).unwrap();
    assert_eq!(poll(&mut member), [(0, 0), (0, 1)]);
    end(&broker, P, Commit);
    assert!(poll(&mut member).is_empty());
}

#[test]
fn a_third_members_join_dooms_nobodys_transaction() {
    let broker = broker();
    let mut member = join(&broker);
    poll(&mut member);
    let generation = member.generation();
    let _third = join(&broker);
    assert_eq!(pend_for(&broker, &member.id(), generation, 1), Ok(()));
    assert!(matches!(pend_for(&broker, &member.id(), generation + 1, 1), Err(Error::IllegalGeneration(_))));
    assert_eq!(pend_for(&broker, "1", generation, 1), Err(Error::UnknownMemberId), "an id is not to be guessed");
    poll(&mut member);
    assert!(matches!(pend_for(&broker, &member.id(), generation, 1), Err(Error::IllegalGeneration(_))));
}

#[test]
fn a_rebalance_waits_for_the_end_of_a_members_transaction() {
    for (outcome, reads) in [(Commit, vec![(0, 1), (1, 2)]), (Abort, vec![(0, 0), (0, 1), (1, 1), (1, 2)])] {
        let broker = broker();
        produce(&broker, 0, &["a", "b"]);
        produce(&broker, 1, &["c", "d", "e"]);
        commit(&broker, 1, 1);
        let mut member = join(&broker);
        assert_eq!(poll(&mut member).len(), 4);
        let mut transaction = broker.begin_transaction("transfer", 60_000).unwrap().transaction;
        member.begin_transaction(60_000).unwrap();
        let mut third = join(&broker);
        member.commit_in(&transaction, Some(&[("t", 0, 1), ("t", 1, 2)])).unwrap();
        assert!(poll(&mut member).is_empty());
        assert!(poll(&mut third).is_empty());
        assert_eq!((member.assigned().count(), third.assigned().count()), (2, 0));
        match outcome {
            Commit => transaction.end().unwrap(),
            Abort => transaction.abort().unwrap(),
        }
        member.end_transaction(outcome).unwrap();
        let mut rest = poll(&mut third);
        if outcome == Abort {
            rest.extend(poll(&mut member));
        } else {
            assert!(poll(&mut member).is_empty(), "it goes on behind what it had read");
        }
        rest.sort();
        let third_has: Vec<_> =
            reads.into_iter().filter(|&(partition, _)| outcome == Abort || partition == 1).collect();
        assert_eq!(rest, third_has);
        assert_eq!((member.assigned().count(), third.assigned().count()), (1, 1));
    }
}

/// What is written of it is as durable as any commit.
#[test]
fn pending_offsets_are_part_of_the_log_before_they_are_known() {
    let broker = broker();
    let done = broker.write_pending_offsets("g", P, Committer::Anybody, vec![offset(0, 10)]).unwrap();
    let lines = done.written.as_ref().map(LogWrite::lines).unwrap();
    assert_eq!(lines, 0..1);
    make_durable(done.written).unwrap();
    assert_eq!(log(&broker).high_watermark().unwrap(), 1);
}

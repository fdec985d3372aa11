//! Workers of one group that read, write and commit in transactions, while others join, crash and abort: what they write holds
//! each input once.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::Ends;
use plainlog::{
    Broker, Consumer, Producer, Record,
    broker::{
        Committed, Error, Gathered, IfAbsent, JoinOptions, Membership, OffsetCommit, Outcome, PollLimits, PollWait,
        Result, Transaction, Waiter,
        group::{Committer, classic::Sender},
        random,
    },
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::Acquire},
    thread,
    time::{Duration, Instant},
};

const INPUTS: usize = 300;
const PARTITIONS: u32 = 3;

/// What becomes of a worker's transaction.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Commits,
    Aborts,
    /// Its membership ends before its transaction commits: the next owner is not to read on before that.
    LeavesAndCommits,
    /// Its membership ends before its transaction, which aborts.
    LeavesFirst,
    /// The other way round.
    AbortsFirst,
    /// Somebody begins with its transactional id.
    IsFenced,
}

impl Fate {
    fn any() -> Fate {
        match random::number() % 10 {
            0 => Fate::Aborts,
            1 => Fate::LeavesAndCommits,
            2 => Fate::LeavesFirst,
            3 => Fate::AbortsFirst,
            4 => Fate::IsFenced,
            _ => Fate::Commits,
        }
    }
}

/// How a worker commits what it has read.
#[derive(Clone, Copy, Debug)]
enum Commits {
    /// As the member that is in the transaction: no rebalance reaches it.
    Itself,
    /// By the name of a member, as a program that reads on one connection and writes on another.
    ForAnother,
}

struct Worker {
    broker: Broker,
    id: String,
    member: Membership,
    commits: Commits,
}

impl Worker {
    fn join(broker: &Broker) -> Result<Membership> {
        broker.join("workers", &["in"], JoinOptions { auto_commit: false, ..JoinOptions::default() })
    }

    /// Reads a few inputs.
    fn poll(&mut self) -> Result<Polled> {
        let waiter = Waiter::new();
        let deadline = Some(Instant::now() + Duration::from_millis(20));
        let wait = PollWait { waiter: &waiter, deadline, wait: &mut |until| waiter.wait(until) };
        let (mut polled, limits) = (Polled::default(), PollLimits { records: 3, bytes: 1 << 20 });
        self.member.poll(limits, wait, &mut |record| {
            polled.values.push(record.fields.strip_prefix(b"message:").unwrap().to_vec());
            polled.next.insert(record.partition, record.offset as i64 + 1);
        })?;
        Ok(polled)
    }

    /// Commits what was read, as part of a transaction.
    fn commit(&mut self, transaction: &Transaction, next: BTreeMap<u32, i64>) -> Result<()> {
        if let Commits::Itself = self.commits {
            return self.member.commit_in(transaction, None);
        }
        let (member_id, generation, timestamp_ms) = (self.member.id(), self.member.generation(), self.broker.now_ms());
        let sender = Sender { member_id: &member_id, instance_id: None };
        let committed = |offset| Committed { offset, leader_epoch: -1, metadata: String::new(), timestamp_ms };
        let offset = |(partition, offset)| OffsetCommit { topic: "in".into(), partition, committed: committed(offset) };
        let offsets = next.into_iter().map(offset).collect();
        let (committer, id) = (Committer::Member { sender, generation }, transaction.transactional_id());
        let (identity, add) = (transaction.identity(), IfAbsent::Add);
        let done = self.broker.commit_offsets_in_transaction(id, identity, add, "workers", committer, offsets)?;
        done.into_iter().collect()
    }

    /// Writes what comes of them.
    fn write(&self, transaction: &Transaction, values: &[Vec<u8>]) -> Result<()> {
        let (mut session, mut gathered) = (self.broker.write_session(), Gathered::default());
        session.enter(transaction);
        let mut tickets = vec![];
        for value in values {
            let partition = value.iter().map(|&byte| u32::from(byte)).sum::<u32>() % PARTITIONS;
            tickets.push(session.add_value(&mut gathered, "out", partition, value)?);
        }
        session.write(&mut gathered);
        session.make_durable();
        tickets.into_iter().try_for_each(|ticket| session.offset(ticket).map(drop))
    }

    /// Reads, writes and commits in one transaction.
    fn transact(&mut self, fate: Fate) -> Result<()> {
        let mut transaction = self.broker.begin_transaction(&self.id, 60_000)?.transaction;
        if let Commits::Itself = self.commits {
            self.member.begin_transaction(60_000)?;
        }
        let Polled { values, next } = self.poll()?;
        self.write(&transaction, &values)?;
        self.commit(&transaction, next)?;
        match fate {
            Fate::Commits => transaction.end()?,
            Fate::Aborts => transaction.abort()?,
            Fate::LeavesAndCommits => {
                self.member = Worker::join(&self.broker)?;
                // Time enough for others to read what they must not.
                thread::sleep(Duration::from_millis(30));
                return transaction.end();
            }
            Fate::LeavesFirst => {
                self.member = Worker::join(&self.broker)?;
                thread::yield_now();
                return Ok(());
            }
            Fate::AbortsFirst => {
                drop(transaction);
                self.member = Worker::join(&self.broker)?;
                return Ok(());
            }
            Fate::IsFenced => {
                drop(self.broker.begin_transaction(&self.id, 60_000)?);
                assert!(matches!(transaction.end(), Err(Error::ProducerFenced(_))));
            }
        }
        match (self.commits, fate) {
            (Commits::Itself, Fate::Commits) => self.member.end_transaction(Outcome::Commit)?,
            (Commits::Itself, _) => self.member.end_transaction(Outcome::Abort)?,
            (Commits::ForAnother, Fate::Commits) => {}
            // Its position is not where the group is.
            (Commits::ForAnother, _) => self.member = Worker::join(&self.broker)?,
        }
        Ok(())
    }
}

/// What a poll gave.
#[derive(Default)]
struct Polled {
    values: Vec<Vec<u8>>,
    /// The offset to read next, by partition.
    next: BTreeMap<u32, i64>,
}

/// What is in `out`, by input: how often.
fn written(broker: &Broker) -> BTreeMap<Vec<u8>, usize> {
    let mut consumer = Consumer::embedded(broker).subscribe(&["out"]).unwrap();
    let mut counts = BTreeMap::new();
    while !consumer.at_end() {
        for message in consumer.poll(Duration::ZERO, 1000).unwrap() {
            *counts.entry(message.value.unwrap()).or_default() += 1;
        }
    }
    counts
}

/// A member comes, reads and goes, and commits nothing.
fn disturb(broker: &Broker) {
    let (member, commits) = (Worker::join(broker).unwrap(), Commits::Itself);
    let mut worker = Worker { broker: broker.clone(), id: String::new(), member, commits };
    for _ in 0..3 {
        worker.poll().unwrap();
    }
}

#[test]
fn what_workers_write_that_are_in_their_transactions_holds_each_input_once() {
    each_input_is_written_once(Commits::Itself);
}

#[test]
fn what_workers_write_that_commit_by_the_name_of_a_member_holds_each_input_once() {
    each_input_is_written_once(Commits::ForAnother);
}

fn each_input_is_written_once(commits: Commits) {
    let broker = Broker::in_memory();
    ["in", "out"].iter().for_each(|topic| drop(broker.create_topic(topic, PARTITIONS).unwrap()));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for id in ["a", "b", "c"] {
            let (broker, stop) = (broker.clone(), &stop);
            scope.spawn(move || {
                let member = Worker::join(&broker).unwrap();
                let mut worker = Worker { broker, id: id.into(), member, commits };
                while !stop.load(Acquire) {
                    worker.transact(Fate::any()).unwrap_or_else(|error| panic!("{id}: {error}"));
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Acquire) {
                disturb(&broker);
            }
        });
        let ends = Ends(&stop);
        let mut producer = Producer::embedded(&broker);
        for input in 0..INPUTS {
            producer.send("in", Record::new(format!("{input}"))).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(120);
        while written(&broker).len() < INPUTS {
            assert!(Instant::now() < deadline, "{} of {INPUTS} inputs were written", written(&broker).len());
            thread::sleep(Duration::from_millis(20));
        }
        drop(ends);
    });
    let written = written(&broker);
    let twice: Vec<_> = written.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty() && written.len() == INPUTS, "{twice:?}");
    let lags: Vec<_> = broker.lag("workers").unwrap().iter().map(|lag| lag.lag()).collect();
    assert_eq!(lags, [Some(0); PARTITIONS as usize]);
}

//! Workers of one group that read, write and commit in transactions, while others join, crash and abort: what they write holds
//! each input once.
#![allow(missing_docs, clippy::unwrap_used)]

use plainlog::{
    Broker, Consumer, Producer, Record,
    broker::{
        Error, Gathered, JoinOptions, Membership, Outcome, PollLimits, PollWait, Result, Transaction, Waiter, random,
    },
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::*},
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
    /// The worker goes, its membership before its transaction.
    LeavesFirst,
    /// The other way round.
    AbortsFirst,
    /// Somebody begins with its transactional id.
    IsFenced,
}

impl Fate {
    fn any() -> Fate {
        match random::number() % 10 {
            0 | 1 => Fate::Aborts,
            2 => Fate::LeavesFirst,
            3 => Fate::AbortsFirst,
            4 => Fate::IsFenced,
            _ => Fate::Commits,
        }
    }
}

struct Worker {
    broker: Broker,
    id: String,
    member: Membership,
}

impl Worker {
    fn join(broker: &Broker) -> Result<Membership> {
        broker.join("workers", &["in"], JoinOptions { auto_commit: false, ..JoinOptions::default() })
    }

    /// Reads a few inputs.
    fn poll(&mut self) -> Result<Vec<Vec<u8>>> {
        let waiter = Waiter::new();
        let deadline = Some(Instant::now() + Duration::from_millis(20));
        let wait = PollWait { waiter: &waiter, deadline, wait: &mut |until| waiter.wait(until) };
        let (mut values, limits) = (vec![], PollLimits { records: 3, bytes: 1 << 20 });
        self.member.poll(limits, wait, &mut |record| {
            values.push(record.fields.strip_prefix(b"message:").unwrap().to_vec());
        })?;
        Ok(values)
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

    /// Reads, writes and commits in one transaction. An error is one of its own, or that it was fenced.
    fn transact(&mut self, fate: Fate) -> Result<()> {
        let mut transaction = self.broker.begin_transaction(&self.id, 60_000)?.transaction;
        self.member.begin_transaction(60_000)?;
        let values = self.poll()?;
        self.write(&transaction, &values)?;
        self.member.commit_in(&transaction, None)?;
        match fate {
            Fate::Commits => transaction.end()?,
            Fate::Aborts => transaction.abort()?,
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
        let outcome = if matches!(fate, Fate::Commits) { Outcome::Commit } else { Outcome::Abort };
        self.member.end_transaction(outcome)
    }
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
    let mut worker = Worker { broker: broker.clone(), id: String::new(), member: Worker::join(broker).unwrap() };
    for _ in 0..3 {
        worker.poll().unwrap();
    }
}

#[test]
fn what_workers_of_a_group_write_holds_each_input_once() {
    let broker = Broker::in_memory();
    ["in", "out"].iter().for_each(|topic| drop(broker.create_topic(topic, PARTITIONS).unwrap()));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for id in ["a", "b", "c"] {
            let (broker, stop) = (broker.clone(), &stop);
            scope.spawn(move || {
                let member = Worker::join(&broker).unwrap();
                let mut worker = Worker { broker, id: id.into(), member };
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
        let mut producer = Producer::embedded(&broker);
        for input in 0..INPUTS {
            producer.send("in", Record::new(format!("{input}"))).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(120);
        while written(&broker).len() < INPUTS {
            assert!(Instant::now() < deadline, "{} of {INPUTS} inputs were written", written(&broker).len());
            thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Release);
    });
    let written = written(&broker);
    let twice: Vec<_> = written.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty() && written.len() == INPUTS, "{twice:?}");
    let lags: Vec<_> = broker.lag("workers").unwrap().iter().map(|lag| lag.lag()).collect();
    assert_eq!(lags, [Some(0); PARTITIONS as usize]);
}

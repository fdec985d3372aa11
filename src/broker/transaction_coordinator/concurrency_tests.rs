//! Transactions of several threads in the same partitions, two of which fence each other again and again, while somebody
//! reads: the anomalies that Jepsen looks for in Kafka.

use super::{
    crash_tests::{committed, no_marker_twice},
    *,
};
use crate::broker::{Broker, Gathered, Partition};
use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

const PARTITIONS: u32 = 3;
const ROUNDS: u32 = 60;
/// The first two have one id between them.
const IDS: [&str; 4] = ["shared", "shared", "third", "fourth"];

/// What has come of transactions so far.
#[derive(Default)]
struct History {
    /// Those whose end was asked for.
    asked: Mutex<BTreeSet<u32>>,
    /// Those whose end was answered, and where they wrote.
    ended: Mutex<BTreeMap<u32, BTreeSet<u32>>>,
    is_over: AtomicBool,
}

fn partitions(broker: &Broker) -> Vec<Arc<Partition>> {
    broker.topic("orders").unwrap().partitions()
}

/// One transaction. It is not said whether it gets through: somebody else may have its id.
fn transfer(broker: &Broker, history: &History, id: &str, number: u32) -> Result<()> {
    let mut transaction = broker.begin_transaction(id, 60_000)?.transaction;
    let (value, places) = (number.to_string(), [number % PARTITIONS, (number + 1) % PARTITIONS]);
    for partition in places {
        let (mut session, mut gathered) = (broker.write_session(), Gathered::default());
        session.enter(&transaction);
        let ticket = session.add_value(&mut gathered, "orders", partition, value.as_bytes())?;
        session.write(&mut gathered);
        session.make_durable();
        session.offset(ticket)?;
    }
    if number.is_multiple_of(4) {
        return transaction.abort();
    }
    history.asked.lock().unwrap().insert(number);
    transaction.end()?;
    history.ended.lock().unwrap().insert(number, places.into());
    Ok(())
}

/// Reads what is committed until all is over: nothing of a transaction that nobody asked to commit, and nothing twice.
fn watch(broker: &Broker, history: &History) {
    let mut is_over = false;
    while !is_over {
        // Looked at first: then what is read last is the end.
        is_over = history.is_over.load(Ordering::Acquire);
        for partition in partitions(broker) {
            let seen = committed(&partition);
            let asked = history.asked.lock().unwrap();
            assert!(seen.keys().all(|number| asked.contains(number)), "read before anybody asked: {seen:?}");
            assert!(seen.values().all(|count| *count == 1), "read twice: {seen:?}");
        }
    }
}

#[test]
fn transactions_of_many_threads_are_whole_or_absent_and_seen_when_they_are_committed() {
    let (broker, history) = (Broker::in_memory(), History::default());
    broker.create_topic("orders", PARTITIONS).unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| watch(&broker, &history));
        let work = |worker: usize| {
            let numbers = (0..ROUNDS).map(move |round| round * IDS.len() as u32 + worker as u32);
            let (broker, history) = (&broker, &history);
            move || numbers.filter(|number| transfer(broker, history, IDS[worker], *number).is_ok()).count()
        };
        let workers: Vec<_> = (0..IDS.len()).map(|worker| scope.spawn(work(worker))).collect();
        let done: Vec<usize> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        history.is_over.store(true, Ordering::Release);
        reader.join().unwrap();
        // Nobody is in the way of the other two.
        assert_eq!(done[2..], [ROUNDS as usize; 2]);
    });
    let partitions = partitions(&broker);
    let seen: Vec<BTreeSet<u32>> = partitions.iter().map(|one| committed(one).into_keys().collect()).collect();
    for (index, partition) in (0..).zip(&partitions) {
        assert_eq!(partition.open_transactions(), Ok(vec![]));
        no_marker_twice(partition, "at the end");
        let ended = history.ended.lock().unwrap();
        let wanted: BTreeSet<u32> =
            ended.iter().filter(|(_, places)| places.contains(&index)).map(|(number, _)| *number).collect();
        assert_eq!(seen[index as usize], wanted, "partition {index}");
    }
}

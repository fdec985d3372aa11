//! Partitioning by key: all messages of one user are in one partition, in the order in which they were sent.
//!
//! `cargo run --example by_key`

use plainlog::{Broker, Consumer, Producer, Record};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const USERS: usize = 100;
const ACTIONS: [&str; 3] = ["login", "click", "logout"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::in_memory();
    broker.create_topic("user-events", 4)?;
    let mut producer = Producer::embedded(&broker);
    for action in ACTIONS {
        let of_user = |user| Record::new(action).key(format!("user-{user}"));
        producer.send_batch("user-events", (0..USERS).map(of_user))?;
    }

    let mut consumer = Consumer::embedded(&broker).subscribe(&["user-events"])?;
    let (mut partitions, mut actions) = (BTreeMap::<u32, BTreeSet<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    while !consumer.at_end() {
        for message in consumer.poll(Duration::from_secs(1), 1000)? {
            partitions.entry(message.partition).or_default().insert(message.key.clone());
            actions.entry(message.key).or_default().push(message.value.unwrap_or_default());
        }
    }
    for (partition, users) in &partitions {
        println!("partition {partition} holds {} users", users.len());
    }
    let in_one_partition = partitions.values().map(BTreeSet::len).sum::<usize>() == USERS;
    let in_order = actions.values().all(|done| done.iter().map(Vec::as_slice).eq(ACTIONS.map(str::as_bytes)));
    println!("each user in one partition: {in_one_partition}, in order: {in_order}");
    Ok(())
}

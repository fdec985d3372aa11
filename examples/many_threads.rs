//! Three producers and two groups on threads of one process: the two members of `analytics` share the messages, the one
//! of `monitoring` gets them all.
//!
//! `cargo run --example many_threads`

use plainlog::{Broker, Consumer, Producer, Record, client::Error};
use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

const PRODUCERS: usize = 3;
const EACH: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::in_memory();
    broker.create_topic("events", 3)?;
    let (analytics, monitoring) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for id in 0..PRODUCERS {
            let broker = &broker;
            scope.spawn(move || produce(broker, id).expect("a broker in memory takes everything"));
        }
        for (name, group, seen) in [
            ("first", "analytics", &analytics),
            ("second", "analytics", &analytics),
            ("all", "monitoring", &monitoring),
        ] {
            let broker = &broker;
            scope.spawn(move || {
                let read = consume(broker, group, seen).expect("a broker in memory answers everything");
                println!("{group}, {name}: {read} messages");
            });
        }
    });
    println!("analytics together: {}, monitoring: {}", analytics.load(SeqCst), monitoring.load(SeqCst));
    Ok(())
}

fn produce(broker: &Broker, id: usize) -> Result<(), Error> {
    let mut producer = Producer::embedded(broker);
    for n in 0..EACH {
        producer.send("events", Record::new(format!("message {n}")).key(format!("key-{id}-{}", n % 10)))?;
    }
    Ok(())
}

/// Reads until its group has seen everything.
fn consume(broker: &Broker, group: &str, seen: &AtomicUsize) -> Result<usize, Error> {
    let mut consumer = Consumer::embedded(broker).group(group).subscribe(&["events"])?;
    let mut read = 0;
    while seen.load(SeqCst) < PRODUCERS * EACH {
        let messages = consumer.poll(Duration::from_millis(20), 10)?;
        read += messages.len();
        seen.fetch_add(messages.len(), SeqCst);
    }
    consumer.close()?;
    Ok(read)
}

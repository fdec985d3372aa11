//! A broker in this process: a topic, a producer, and a consumer that commits, seeks and reads again.
//!
//! `cargo run --example basic`

use plainlog::{Broker, Consumer, Message, Producer, Record};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::in_memory();
    broker.create_topic("events", 3)?;
    println!("events has {} partitions", broker.describe_topic("events")?.partition_count());
    for name in broker.describe_topics().keys() {
        println!("topic: {name}");
    }

    let mut producer = Producer::embedded(&broker);
    let ack = producer.send("events", Record::new("login").key("user-1"))?;
    println!("stored: {ack}");
    producer.send("events", Record::new("to partition 2").partition(2).header("trace", "a1"))?;
    producer.send_batch("events", [("user-1", "click"), ("user-2", "login")])?;

    // Auto-commit is the default; here the group moves on only when commit() says so.
    let mut consumer = Consumer::embedded(&broker).group("my-group").auto_commit(false).subscribe(&["events"])?;
    let mut read = 0;
    while read < 4 {
        let messages = consumer.poll(Duration::from_secs(1), 10)?;
        messages.iter().for_each(show);
        read += messages.len();
    }
    consumer.commit()?;

    let offset = ack.offset.expect("it is known of what was sent once");
    consumer.seek("events", ack.partition, offset)?;
    println!("and from offset {offset} again:");
    consumer.poll(Duration::from_secs(1), 1)?.iter().for_each(show);
    consumer.close()?;
    Ok(())
}

fn show(message: &Message) {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let Message { topic, partition, offset, timestamp, key, value, headers } = message;
    let (key, value) = (text(key).unwrap_or("-".into()), text(value).unwrap_or("(tombstone)".into()));
    println!("{topic}/{partition} offset {offset}, at {timestamp} ms: {key} = {value} ({} headers)", headers.len());
}

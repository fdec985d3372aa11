//! A pipeline: what comes into `raw-events` is transformed and goes out to `processed-events`.
//!
//! The processor commits after it has sent: should it fail in between, an event is processed again, none is lost.
//!
//! `cargo run --example pipeline`

use plainlog::{Broker, Consumer, Producer, Record, client::Error};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::in_memory();
    broker.create_topic("raw-events", 1)?;
    broker.create_topic("processed-events", 1)?;

    let mut producer = Producer::embedded(&broker);
    producer.send_batch("raw-events", [("user-1", "login"), ("user-2", "click"), ("user-1", "logout")])?;

    let mut processor = Consumer::embedded(&broker).group("processor").auto_commit(false).subscribe(&["raw-events"])?;
    let mut processed = 0;
    while processed < 3 {
        processed += process(&mut processor, &mut producer)?;
    }

    let mut last = Consumer::embedded(&broker).group("analytics").subscribe(&["processed-events"])?;
    for message in last.poll(Duration::from_secs(1), 10)? {
        println!("offset {}: {}", message.offset, String::from_utf8_lossy(message.value.as_deref().unwrap_or(b"")));
    }
    Ok(())
}

fn process(processor: &mut Consumer, producer: &mut Producer) -> Result<usize, Error> {
    let messages = processor.poll(Duration::from_secs(1), 10)?;
    let transformed = messages.iter().map(|message| {
        let value = message.value.as_deref().unwrap_or_default().to_ascii_uppercase();
        Record { key: message.key.clone(), ..Record::new(value) }
    });
    producer.send_batch("processed-events", transformed)?;
    processor.commit()?;
    Ok(messages.len())
}

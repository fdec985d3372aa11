//! A pipeline: what comes into `raw-events` is transformed and goes out to `processed-events`, each event once, whatever crashes.
//!
//! `cargo run --example pipeline`

use plainlog::{
    Broker, Consumer, Producer,
    streams::{Options, Topology},
};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::in_memory();
    let events = [("user-1", "login"), ("user-2", "click"), ("user-1", "logout")];
    Producer::embedded(&broker).send_batch("raw-events", events)?;

    let topology = Topology::new("processor");
    topology.stream("raw-events").map_values(|event| event.to_uppercase()).to("processed-events");
    let app = topology.start_embedded(&broker, Options::default())?;

    let mut last = Consumer::embedded(&broker).group("analytics").subscribe(&["processed-events"])?;
    let mut left = events.len();
    while left > 0 {
        for message in last.poll(Duration::from_secs(1), 10)? {
            println!("offset {}: {}", message.offset, String::from_utf8_lossy(message.value.as_deref().unwrap_or(b"")));
            left -= 1;
        }
    }
    Ok(app.stop()?)
}

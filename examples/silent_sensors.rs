//! An alert when a sensor has said nothing for a while: a processor with a store, which the clock on the wall calls.
//!
//! `cargo run --example silent_sensors`

use plainlog::{
    Broker, Consumer, Producer,
    streams::{Clock, Done, Entry, Event, Options, Processor, ProcessorContext, Punctuation, StoreSpec, Topology},
};
use std::{thread, time::Duration};

/// How long a sensor may be silent.
const SILENCE_MS: i64 = 500;

/// Remembers when each sensor was heard last.
struct Watch;

impl Processor<String, String> for Watch {
    type Key = String;
    type Value = String;

    fn init(&mut self, context: &mut ProcessorContext<'_, String, String>) -> Done {
        context.schedule(Clock::Wall, Duration::from_millis(50));
        Ok(())
    }

    fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, event: Event<String, String>) -> Done {
        let heard = context.key_value::<String, i64>("heard")?;
        let now = context.wall_time();
        if let Some(sensor) = event.key {
            heard.put(context, &sensor, Some(&now), event.timestamp);
        }
        Ok(())
    }

    fn punctuate(&mut self, context: &mut ProcessorContext<'_, String, String>, at: Punctuation) -> Done {
        let heard = context.key_value::<String, i64>("heard")?;
        for Entry { key: sensor, stored: last } in heard.all(context)? {
            if last.value + SILENCE_MS <= at.time {
                // It is told of once.
                heard.put(context, &sensor, None, at.time);
                context.forward(Event::new(sensor, "silent".to_string(), at.time))?;
            }
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let topology = Topology::new("silent-sensors");
    topology.add_store(StoreSpec::key_value("heard"));
    topology.stream("measurements").process("watch", &["heard"], || Watch).to("alerts");

    let broker = Broker::in_memory();
    let app = topology.start_embedded(&broker, Options::default())?;
    let mut producer = Producer::embedded(&broker);
    let mut alerts = Consumer::embedded(&broker).subscribe(&["alerts"])?;
    producer.send("measurements", ("cellar", "11"))?;
    loop {
        producer.send("measurements", ("roof", "19"))?;
        if let Some(alert) = alerts.poll(Duration::ZERO, 1)?.into_iter().next() {
            let text = |bytes: Option<Vec<u8>>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
            println!("{}: {}", text(alert.key), text(alert.value));
            return Ok(app.stop()?);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

//! Produces and consumes over the network while the broker is stopped and started again: nothing is lost, and neither
//! side notices more than a pause.
//!
//! `cargo run --example over_a_restart`

use plainlog::{
    broker::Broker,
    client::{Consumer, Producer, Record},
    config::Config,
    server::Server,
};
use std::{env, fs, process, time::Duration};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = env::temp_dir().join(format!("plainlog-example-{}", process::id()));
    let server = Server::start(Broker::open(Config::new(&data))?, "127.0.0.1:0")?;
    let address = format!("127.0.0.1:{}", server.port());

    let mut producer = Producer::connect(&address)?;
    let mut consumer = Consumer::connect(&address)?.subscribe(&["events"])?;
    producer.send("events", Record::new("before the restart").key("user-1"))?;

    server.stop();
    println!("the broker is stopped");
    let server = Server::start(Broker::open(Config::new(&data))?, &address)?;
    println!("and runs again");

    let ack = producer.send("events", Record::new("after it").key("user-1"))?;
    println!("acknowledged: {ack}");
    let mut read = 0;
    while read < 2 {
        for message in consumer.poll(Duration::from_secs(1), 10)? {
            println!("offset {}: {}", message.offset, String::from_utf8_lossy(message.value.as_deref().unwrap_or(b"")));
            read += 1;
        }
    }
    server.stop();
    fs::remove_dir_all(&data)?;
    Ok(())
}

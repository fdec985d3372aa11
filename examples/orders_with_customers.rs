//! Each order gets the name of its customer, as it was when the order came: a stream joined with a table.
//!
//! `cargo run --example orders_with_customers`

use plainlog::{
    Broker, Consumer, Producer, Record,
    streams::{Options, Topology},
};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let topology = Topology::new("named-orders");
    let customers = topology.table("customers", "customers");
    topology
        .stream("orders")
        .join_table("with-customers", &customers, |order, customer| format!("{order} for {customer}"))
        .to("named-orders");

    let broker = Broker::in_memory();
    let mut producer = Producer::embedded(&broker);
    let mut at =
        |topic: &str, key: &str, value: &str, ms: i64| producer.send(topic, Record::new(value).key(key).timestamp(ms));
    at("customers", "c1", "Ann", 1)?;
    at("orders", "c1", "tea", 2)?;
    at("customers", "c1", "Ann Lee", 3)?;
    at("orders", "c1", "milk", 4)?;
    at("orders", "c2", "of nobody that is known", 5)?;

    // Both inputs are there already: they are taken in the order of their times.
    let options = Options { max_idle: Duration::from_millis(100), ..Options::default() };
    let app = topology.start_embedded(&broker, options)?;
    let mut orders = Consumer::embedded(&broker).subscribe(&["named-orders"])?;
    let mut left = 2;
    while left > 0 {
        for order in orders.poll(Duration::from_secs(1), 10)? {
            println!("{}", String::from_utf8_lossy(order.value.as_deref().unwrap_or(b"")));
            left -= 1;
        }
    }
    Ok(app.stop()?)
}

//! Topologies in a `TestDriver`.

mod aggregates;
mod crash;
mod described;
mod foreign;
mod joins;
mod stateless;
mod windows;

use super::{Error, TestDriver, Topology};
use crate::client::Record;

/// Runs a topology of text.
fn driver(build: impl FnOnce(&Topology)) -> TestDriver {
    let topology = Topology::new("app");
    build(&topology);
    TestDriver::new(&topology).unwrap()
}

/// Pipes lines `key=value @time` in; `-` is null.
fn pipe(driver: &mut TestDriver, topic: &str, lines: &[&str]) -> Result<(), Error> {
    for line in lines {
        let (record, time) = line.split_once(" @").expect("a line has a time");
        let (key, value) = record.split_once('=').expect("a line has a key");
        let word = |word: &str| (word != "-").then(|| word.into());
        let timestamp = Some(time.parse().expect("a time is a number"));
        driver.pipe(topic, Record { key: word(key), value: word(value), timestamp, ..Record::default() })?;
    }
    Ok(())
}

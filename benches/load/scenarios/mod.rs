//! What is measured. Each scenario checks what the broker answered before its figure counts.

#[cfg(feature = "http")]
mod http;
mod produce;
mod read;
mod resources;

use crate::{
    Options,
    broker::{Broker, Folder},
    client::{self, Ack},
    lines::{Expected, Lines, value},
    measure::{Round, Row},
};
use anyhow::{Result, ensure};
use std::{net::TcpStream, thread};

/// A name on the command line, and what it runs.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Whether it needs brokers of its own: their flags, their start or their memory are what it measures.
    pub(crate) starts_its_own: bool,
    pub(crate) run: fn(&Options) -> Result<Vec<Row>>,
}

/// All of them, in the order of the table.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "produce-100", starts_its_own: false, run: produce::produce_100 },
    Scenario { name: "produce-10k", starts_its_own: false, run: produce::produce_10k },
    Scenario { name: "send", starts_its_own: false, run: produce::send },
    Scenario { name: "connections", starts_its_own: true, run: produce::connections },
    Scenario { name: "ping-pong", starts_its_own: false, run: produce::ping_pong },
    Scenario { name: "commits", starts_its_own: false, run: produce::commits },
    Scenario { name: "read-batched", starts_its_own: false, run: read::read_batched },
    Scenario { name: "read-single", starts_its_own: false, run: read::read_single },
    #[cfg(feature = "http")]
    Scenario { name: "http-get", starts_its_own: false, run: http::get },
    #[cfg(feature = "http")]
    Scenario { name: "http-read", starts_its_own: false, run: http::read },
    #[cfg(feature = "http")]
    Scenario { name: "http-metrics", starts_its_own: true, run: http::metrics },
    Scenario { name: "start", starts_its_own: true, run: resources::start },
    Scenario { name: "memory", starts_its_own: true, run: resources::memory },
];

/// Their names, for a person.
pub(crate) fn names() -> String {
    SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ")
}

/// Runs `work` with a fresh broker, or with the running one that was named.
fn with_broker<T>(options: &Options, flush: &str, work: impl FnOnce(&Broker) -> Result<T>) -> Result<T> {
    let folder = Folder::new()?;
    let broker = match &options.broker {
        Some(address) => Broker::running(address),
        None => Broker::start(options, &folder, flush)?,
    };
    let result = work(&broker)?;
    broker.stop()?;
    Ok(result)
}

/// Sends `count` PRODUCE of `size` bytes without waiting for each ACK.
fn fill(stream: &TcpStream, size: usize, count: u64) -> Result<()> {
    let lines = Lines::new(|_| format!("PRODUCE {}", value(size)));
    let acks = Expected::numbered(count, |offset| format!("ACK offset:{offset}"));
    client::pipeline(stream, |stream| lines.write(stream, count), &acks)
}

/// Produces to a fresh topic from several connections, each one message at a time.
fn together(broker: &Broker, topic: &str, connections: u64, each: u64) -> Result<Round> {
    let (line, count) = (produce_line(), connections * each);
    let streams = (0..connections).map(|_| broker.connect_to(topic)).collect::<Result<Vec<_>>>()?;
    let mut acks: Vec<Ack> = Vec::new();
    let round = Round::with(broker, count, count * line.len() as u64, || {
        thread::scope(|scope| {
            let run = |stream| client::ping_pong(stream, &line, each);
            let running: Vec<_> = streams.iter().map(|stream| scope.spawn(move || run(stream))).collect();
            for one in running {
                acks.extend(one.join().expect("a client does not panic")?);
            }
            Ok(())
        })
    })?;
    acks.sort_by_key(|ack| ack.offset);
    let offsets = acks.iter().map(|ack| ack.offset);
    ensure!(offsets.eq(0..count), "the ACKs are not those of the offsets 0 to {}", count - 1);
    Ok(round.latencies(&acks))
}

fn produce_line() -> Vec<u8> {
    format!("PRODUCE {}\n", value(100)).into_bytes()
}

/// The topic ends at `count` and the record before is there. The topic is dropped.
fn check_end(stream: &TcpStream, topic: &str, count: u64) -> Result<()> {
    let last = client::ask(stream, &format!("CONSUME {}", count - 1))?;
    ensure!(last.contains(&format!(" offset:{} ", count - 1)), "the last record is '{last}'");
    client::ask_for(stream, &format!("CONSUME {count}"), "NO_MESSAGE")?;
    client::ask_for(stream, &format!("DROP {topic}"), "OK")
}

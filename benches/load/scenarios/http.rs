//! HTTP: a small GET beside a verb, records as events, a search through a log, and a scrape of many partitions and groups.

use super::{fill, with_broker};
use crate::{
    Options,
    broker::Broker,
    client::{self, Ack},
    lines::value,
    measure::{Round, Row, median, median_figure},
};
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Instant,
};

/// `GET /health` and `PING`, each one at a time.
pub(super) fn get(options: &Options) -> Result<Vec<Row>> {
    let count = options.amount(50_000, 10);
    with_broker(options, "never", |broker| {
        let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", broker.address);
        let (mut verbs, mut gets) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            verbs.push(one_at_a_time(broker, b"PING\n", b"PONG\n", count)?);
            gets.push(one_at_a_time(broker, request.as_bytes(), b"}\n", count)?);
        }
        Ok(vec![Row::latency("GET /health, one at a time", &median(gets), "PING", &median(verbs))])
    })
}

/// Sends a request and reads until its answer ends so, `count` times.
fn one_at_a_time(broker: &Broker, request: &[u8], end: &[u8], count: u64) -> Result<Round> {
    let (mut stream, mut acks) = (broker.connect()?, Vec::with_capacity(count as usize));
    let round = Round::with(broker, count, count * request.len() as u64, || {
        let mut answer = [0; 4096];
        for offset in 0..count {
            let (start, mut length) = (Instant::now(), 0);
            stream.write_all(request)?;
            while !answer[..length].ends_with(end) {
                let read = stream.read(&mut answer[length..])?;
                ensure!(read > 0, "closed behind '{}'", String::from_utf8_lossy(&answer[..length]));
                length += read;
            }
            acks.push(Ack { offset, taken: start.elapsed() });
        }
        Ok(())
    })?;
    Ok(round.latencies(&acks))
}

/// A log as events, and a search that finds nothing in it, beside a TAIL of the same log.
pub(super) fn read(options: &Options) -> Result<Vec<Row>> {
    let count = options.amount(4_000_000, 100);
    with_broker(options, "never", |broker| {
        let (stream, topic) = broker.fresh_topic()?;
        fill(&stream, 100, count)?;
        let records = format!("/api/topics/{topic}/records?from=earliest");
        let bytes = count * ("offset:1234567 message:".len() as u64 + 100);
        let (mut tails, mut events, mut searches) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            tails.push(Round::with(broker, count, bytes, || {
                let mut tail = broker.connect()?;
                tail.write_all(format!("TAIL {topic} from:earliest until:end\nQUIT\n").as_bytes())?;
                let found = matches_in(tail, b"offset:")?;
                ensure!(found == count, "TAIL gave {found} records instead of {count}");
                Ok(())
            })?);
            events.push(Round::with(broker, count, bytes, || {
                let stream = ask(broker, &format!("{records}&count={count}"), "text/event-stream")?;
                let found = matches_in(stream, b"\ndata: {\"topic\"")?;
                ensure!(found == count, "there were {found} events instead of {count}");
                Ok(())
            })?);
            searches.push(Round::with(broker, count, bytes, || {
                let found = matches_in(
                    ask(broker, &format!("{records}&match=nowhere"), "application/x-ndjson")?,
                    b"\"topic\"",
                )?;
                ensure!(found == 0, "{found} records were found that are not there");
                Ok(())
            })?);
        }
        client::ask_for(&stream, &format!("DROP {topic}"), "OK")?;
        let tail = median(tails);
        Ok(vec![
            Row::rate("a log as server-sent events", &median(events), "TAIL", &tail),
            Row::rate("a search through a log, records passed", &median(searches), "TAIL", &tail),
        ])
    })
}

/// Scrapes of a broker with many partitions and groups.
pub(super) fn metrics(options: &Options) -> Result<Vec<Row>> {
    let (topics, groups) = (options.amount(100, 2), options.amount(1_000, 10));
    with_broker(options, "never", |broker| {
        let stream = broker.connect()?;
        for topic in 0..topics {
            client::ask(&stream, &format!("CREATE load-{topic} partitions:100"))?;
            client::ask(&stream, &format!("SEND load-{topic} message:{}", value(100)))?;
        }
        for group in 0..groups {
            let topic = group % topics;
            client::ask_for(&stream, &format!("RESET group-{group} load-{topic}/0 earliest"), "OK")?;
        }
        let mut took_ms = Vec::new();
        for _ in 0..options.rounds * 10 {
            let start = Instant::now();
            let found =
                matches_in(ask(broker, "/metrics", "*/*")?, b"\nkafka_topic_partition_current_offset{topic=\"load-")?;
            ensure!(found == topics * 100, "{found} partitions instead of {}", topics * 100);
            took_ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let what = format!("GET /metrics, {} partitions and {groups} groups", topics * 100);
        Ok(vec![Row::figure(&what, median_figure(took_ms), "ms", None)])
    })
}

/// Asks for an answer that ends with the connection.
fn ask(broker: &Broker, target: &str, accept: &str) -> Result<TcpStream> {
    let mut stream = broker.connect()?;
    let head = format!("GET {target} HTTP/1.0\r\nHost: {}\r\nAccept: {accept}\r\n\r\n", broker.address);
    stream.write_all(head.as_bytes())?;
    Ok(stream)
}

/// Reads to the end and counts how often these bytes stand there.
fn matches_in(mut stream: TcpStream, wanted: &[u8]) -> Result<u64> {
    let finder = memchr::memmem::Finder::new(wanted);
    let (mut buffer, mut held, mut found) = (vec![0; 1 << 20], 0, 0);
    loop {
        let read = stream.read(&mut buffer[held..]).context("an answer breaks off")?;
        if read == 0 {
            return Ok(found);
        }
        let filled = held + read;
        found += finder.find_iter(&buffer[..filled]).count() as u64;
        // What could be the begin of one more stays.
        held = filled.min(wanted.len() - 1);
        buffer.copy_within(filled - held..filled, 0);
    }
}

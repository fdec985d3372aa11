//! Reading: FETCH, TAIL and CONSUME of what came in large batches, and of what came record by record.

use super::{check_end, fill, together, with_broker};
use crate::{
    Options,
    bare::ReadAndSend,
    broker::Broker,
    client,
    lines::{Expected, value},
    measure::{Round, Row, median},
};
use anyhow::{Result, ensure};
use std::{io::Write, ops::RangeInclusive};

/// Reading what came in large batches.
pub(super) fn read_batched(options: &Options) -> Result<Vec<Row>> {
    let count = options.amount(4_000_000, 100);
    with_broker(options, "never", |broker| {
        let (stream, topic) = broker.fresh_topic()?;
        fill(&stream, 100, count)?;
        let mut rows = read(options, broker, &topic, count, "written in pipelined batches", 1..=count / 10)?;
        rows.push(consume(options, broker, &topic, count.min(options.amount(500_000, 100)))?);
        check_end(&stream, &topic, count)?;
        Ok(rows)
    })
}

/// Reading what came record by record, so that each is a batch of its own.
pub(super) fn read_single(options: &Options) -> Result<Vec<Row>> {
    const WRITERS: u64 = 8;
    let each = options.amount(100_000, 10);
    with_broker(options, "never", |broker| {
        let (stream, topic) = broker.fresh_topic()?;
        together(broker, &topic, WRITERS, each)?;
        let count = WRITERS * each;
        let rows = read(options, broker, &topic, count, "written one record at a time", count..=count)?;
        check_end(&stream, &topic, count)?;
        Ok(rows)
    })
}

/// FETCHes and TAILs a partition of `count` records in so many batches.
fn read(
    options: &Options,
    broker: &Broker,
    topic: &str,
    count: u64,
    how: &str,
    batches: RangeInclusive<u64>,
) -> Result<Vec<Row>> {
    let log = Expected::numbered(count, |offset| format!("offset:{offset} message:{}", value(100)));
    let bytes = log.bytes;
    let ask = format!("TAIL {topic}/0 from:0 until:end\n");
    let tail = log.then(format!("END next:{count}"));
    let limit = ReadAndSend::new(bytes)?;
    let (mut bare, mut fetched, mut tailed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        bare.push(limit.round(count)?);
        let stream = broker.connect()?;
        fetched.push(Round::with(broker, count, bytes, || {
            let answer = client::fetch_all(&stream, topic, count)?;
            ensure!(answer.bytes == bytes, "FETCH answered {} bytes of lines instead of {bytes}", answer.bytes);
            ensure!(batches.contains(&answer.batches), "the log {how} has {} batches", answer.batches);
            Ok(())
        })?);
        tailed.push(Round::with(broker, count, bytes, || {
            client::pipeline(&stream, |mut stream| stream.write_all(ask.as_bytes()), &tail)
        })?);
    }
    let bare = median(bare);
    Ok(vec![
        Row::rate(&format!("FETCH of a log {how}"), &median(fetched), "read and send", &bare),
        Row::rate(&format!("TAIL of a log {how}"), &median(tailed), "read and send", &bare),
    ])
}

/// CONSUMEs the first `count` records of a topic, one line for each, without waiting for the answers.
fn consume(options: &Options, broker: &Broker, topic: &str, count: u64) -> Result<Row> {
    let asked: String = (0..count).map(|offset| format!("CONSUME {offset}\n")).collect();
    let expected = Expected::numbered(count, |offset| format!("MESSAGE offset:{offset} {}", value(100)));
    let limit = ReadAndSend::new(expected.bytes)?;
    let (mut bare, mut rounds) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        bare.push(limit.round(count)?);
        let stream = broker.connect_to(topic)?;
        rounds.push(Round::with(broker, count, expected.bytes, || {
            client::pipeline(&stream, |mut stream| stream.write_all(asked.as_bytes()), &expected)
        })?);
    }
    Ok(Row::rate("CONSUME 100 B, pipelined", &median(rounds), "read and send", &median(bare)))
}

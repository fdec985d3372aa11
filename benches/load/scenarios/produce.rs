//! Producing: without waiting for the answers, one message at a time, and from many connections.

use super::{check_end, produce_line, together, with_broker};
use crate::{
    Options, bare,
    broker::Broker,
    client,
    lines::{Expected, Lines, value},
    measure::{Round, Row, median},
};
use anyhow::{Result, ensure};

/// A line for message `number` of a topic, or the answer to it.
type Line = fn(topic: &str, number: u64) -> String;

pub(super) fn produce_100(options: &Options) -> Result<Vec<Row>> {
    let line: Line = |_, _| format!("PRODUCE {}", value(100));
    pipelined(options, "PRODUCE 100 B, pipelined", options.amount(4_000_000, 100), line, ack)
}

pub(super) fn produce_10k(options: &Options) -> Result<Vec<Row>> {
    let line: Line = |_, _| format!("PRODUCE {}", value(10_000));
    pipelined(options, "PRODUCE 10 KB, pipelined", options.amount(100_000, 100), line, ack)
}

pub(super) fn send(options: &Options) -> Result<Vec<Row>> {
    let line: Line = |topic, number| format!("SEND {topic} key:user-{:04} message:{}", number % 1000, value(100));
    let ack: Line = |topic, offset| format!("ACK topic:{topic} partition:0 offset:{offset}");
    pipelined(options, "SEND 100 B with a key, pipelined", options.amount(3_000_000, 100), line, ack)
}

/// A group's member that commits without waiting for the answers.
pub(super) fn commits(options: &Options) -> Result<Vec<Row>> {
    let count = options.amount(500_000, 100);
    let line = |topic: &str, number: u64| format!("COMMIT {topic}/0 {}", 1_000_000_000 + number);
    let (mut bare, mut rounds) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        bare.push(bare::receive_and_write(&Lines::new(|number| line("load-12345-0", number)), count)?);
        rounds.push(with_broker(options, "never", |broker| {
            let (stream, topic) = broker.fresh_topic()?;
            client::ask_for(&stream, "PRODUCE makes the topic", "ACK offset:0")?;
            let joined = client::ask(&stream, &format!("JOIN {topic} {topic} commit:manual"))?;
            ensure!(joined.ends_with(&format!(" assigned:{topic}/0")), "JOIN was answered with {joined}");
            let lines = Lines::new(|number| line(&topic, number));
            let ok = || "OK".to_string();
            let answers = Expected { lines: count, bytes: count * "OK\n".len() as u64, first: ok(), last: ok() };
            Round::with(broker, count, lines.bytes(count), || {
                client::pipeline(&stream, |stream| lines.write(stream, count), &answers)
            })
        })?);
    }
    let what = flushed(options, "COMMIT, pipelined", "never");
    Ok(vec![Row::rate(&what, &median(rounds), "receive and write", &median(bare))])
}

fn ack(_topic: &str, offset: u64) -> String {
    format!("ACK offset:{offset}")
}

/// Sends without waiting for the answers, on one connection: without syncs, with them, and with no broker.
fn pipelined(options: &Options, what: &str, count: u64, line: Line, ack: Line) -> Result<Vec<Row>> {
    let (mut bare, mut never, mut always) = (Vec::new(), Vec::new(), Vec::new());
    let round = |flush| with_broker(options, flush, |broker| pipelined_round(broker, count, line, ack));
    for _ in 0..options.rounds {
        bare.push(bare::receive_and_write(&Lines::new(|number| line("load-12345-0", number)), count)?);
        never.push(round("never")?);
        if options.broker.is_none() {
            always.push(round("always")?);
        }
    }
    let (bare, never) = (median(bare), median(never));
    let mut rows = vec![Row::rate(&flushed(options, what, "never"), &never, "receive and write", &bare)];
    if !always.is_empty() {
        rows.push(Row::rate(&flushed(options, what, "always"), &median(always), "`never`", &never));
    }
    Ok(rows)
}

fn pipelined_round(broker: &Broker, count: u64, line: Line, ack: Line) -> Result<Round> {
    let (stream, topic) = broker.fresh_topic()?;
    let lines = Lines::new(|number| line(&topic, number));
    let acks = Expected::numbered(count, |offset| ack(&topic, offset));
    let round = Round::with(broker, count, lines.bytes(count), || {
        client::pipeline(&stream, |stream| lines.write(stream, count), &acks)
    })?;
    check_end(&stream, &topic, count)?;
    Ok(round)
}

/// What is measured, with the flush mode if that is known.
fn flushed(options: &Options, what: &str, flush: &str) -> String {
    if options.broker.is_some() { what.to_string() } else { format!("{what}, `--flush {flush}`") }
}

/// Connections that each wait for their ACK before they go on.
pub(super) fn connections(options: &Options) -> Result<Vec<Row>> {
    const CONNECTIONS: u64 = 64;
    let (line, each) = (produce_line(), options.amount(1_000, 5));
    let (mut bare, mut rounds) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        bare.push(bare::write_and_sync(&line, options.amount(1_000, 5))?);
        rounds.push(with_broker(options, "always", |broker| {
            let (stream, topic) = broker.fresh_topic()?;
            let round = together(broker, &topic, CONNECTIONS, each)?;
            check_end(&stream, &topic, CONNECTIONS * each)?;
            Ok(round)
        })?);
    }
    let (round, bare) = (median(rounds), median(bare));
    let what = format!("PRODUCE 100 B, {CONNECTIONS} connections one at a time, `--flush always`");
    Ok(vec![Row::rate(&what, &round, "write and sync, one thread", &bare)])
}

/// One connection, one message at a time.
pub(super) fn ping_pong(options: &Options) -> Result<Vec<Row>> {
    let (line, count) = (produce_line(), options.amount(100_000, 10));
    let (mut bare, mut rounds) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let mut echoes = Vec::new();
        let round = Round::of(count, count * line.len() as u64, || {
            echoes = bare::echo(&line, count)?;
            Ok(())
        })?;
        bare.push(round.latencies(&echoes));
        rounds.push(with_broker(options, "never", |broker| {
            let (stream, topic) = broker.fresh_topic()?;
            let round = together(broker, &topic, 1, count)?;
            check_end(&stream, &topic, count)?;
            Ok(round)
        })?);
    }
    Ok(vec![Row::latency(
        &flushed(options, "PRODUCE 100 B, one at a time", "never"),
        &median(rounds),
        "echo",
        &median(bare),
    )])
}

//! What a broker needs before it does anything: time to start, and memory.

use super::{fill, with_broker};
use crate::{
    Options, bare,
    broker::{Broker, Folder},
    client,
    measure::{Row, median_figure},
};
use anyhow::{Context, Result, ensure};
use std::{thread, time::Duration};

/// From starting the program to its first line.
pub(super) fn start(options: &Options) -> Result<Vec<Row>> {
    // 2 MB in each topic.
    let (topics, messages, size) = (options.amount(1_000, 2), 200, 10_000);
    let full = Folder::new()?;
    let broker = Broker::start(options, &full, "never")?;
    for _ in 0..topics {
        fill(&broker.fresh_topic()?.0, size, messages)?;
    }
    broker.stop()?;
    let bytes = topics * messages * size as u64;
    let (mut bare, mut empty, mut loaded) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        bare.push(bare::start_program(&options.program)? * 1e3);
        empty.push(ready_ms(options, &Folder::new()?, 0)?);
        loaded.push(ready_ms(options, &full, topics)?);
    }
    let bare = Some(("`broker --version`", median_figure(bare)));
    let what = format!("ready, {topics} topics and {:.1} GB of log", bytes as f64 / 1e9);
    Ok(vec![
        Row::figure("ready, empty directory", median_figure(empty), "ms", bare),
        Row::figure(&what, median_figure(loaded), "ms", bare),
    ])
}

/// Starts a broker over a folder that holds so many topics.
fn ready_ms(options: &Options, folder: &Folder, topics: u64) -> Result<f64> {
    let broker = Broker::start(options, folder, "never")?;
    client::ask_for(&broker.connect()?, "TOPICS", &format!("TOPICS count:{topics}"))?;
    let ready_ms = broker.ready_seconds * 1e3;
    broker.stop()?;
    Ok(ready_ms)
}

/// Resident memory of a broker that does nothing.
pub(super) fn memory(options: &Options) -> Result<Vec<Row>> {
    let (mut idle, mut connected) = (Vec::new(), Vec::new());
    let connections = options.amount(2_000, 10);
    for _ in 0..options.rounds {
        with_broker(options, "never", |broker| {
            idle.push(settled_mb(broker)?);
            let (_stream, topic) = broker.fresh_topic()?;
            let streams = (0..connections).map(|_| broker.connect_to(&topic)).collect::<Result<Vec<_>>>()?;
            let mut acks = streams.iter().map(|stream| client::ask(stream, "PRODUCE hello"));
            ensure!(acks.all(|ack| ack.is_ok_and(|ack| ack.starts_with("ACK "))), "not every connection got its ACK");
            connected.push(settled_mb(broker)?);
            Ok(())
        })?;
    }
    let idle = median_figure(idle);
    let what = format!("resident, {connections} idle connections that each produced once");
    Ok(vec![
        Row::figure("resident, just started", idle, "MB", None),
        Row::figure(&what, median_figure(connected), "MB", Some(("just started", idle))),
    ])
}

/// Resident memory once it has stopped falling: buffers are given back some time after their last use.
fn settled_mb(broker: &Broker) -> Result<f64> {
    let (mut least, mut unchanged) = (f64::MAX, 0);
    while unchanged < 6 {
        thread::sleep(Duration::from_millis(500));
        let now = broker.memory_mb("VmRSS").context("the kernel does not tell the broker's memory")?;
        unchanged = if now < least - 0.1 { 0 } else { unchanged + 1 };
        least = least.min(now);
    }
    Ok(least)
}

//! Pages of JSON: the records of all partitions by time, with where the next page begins and the one before ends.
//!
//! ```text
//! partition 0   a     d e            by time   a b c d e f       a page of 4: a b c d
//! partition 1     b c     f          next      0:1,1:2           what is not given yet, in each partition
//!                                    previous  before:0:0,1:0    what stands before this page
//! ```
//!
//! First only offsets, times and sizes are looked at, until the page is chosen. Then its records are read again and shown.

use super::{
    asked::{Asked, Begin, PartitionOffset, named, named_before},
    reading::{Found, Gap, Reading, at_once, unreadable},
};
use crate::{
    backend::PartitionHandle,
    broker::Position,
    log::Line,
    protocol::{
        http::{
            exchange::Exchange,
            refusal::{Refusal, Stop},
            route::JSON,
        },
        record_json,
    },
    security::Quota,
};
use serde_json::json;
use std::{cmp::Reverse, collections::BinaryHeap, ops::Range, time::Instant};

/// How many records a page has, unless it is asked for others.
const COUNT: u64 = 100;
/// How many it can have.
const COUNT_MAX: u64 = 10_000;
/// How many bytes their lines can have together.
const BYTES_MAX: u64 = 4 << 20;

/// A record of a page.
#[derive(Clone, Copy, Debug)]
struct Chosen {
    /// The cursor of its partition.
    index: usize,
    found: Found,
}

/// Answers with a page.
pub(super) fn page(exchange: &mut Exchange<'_, '_>, asked: Asked) -> Result<(), Stop> {
    asked.can_be_named()?;
    let count = asked.count.unwrap_or(COUNT);
    if count > COUNT_MAX {
        let what = format!("count= is at most {COUNT_MAX} in JSON; application/x-ndjson has no limit");
        return Err(Refusal::invalid(what).into());
    }
    let bytes_max = asked.bytes_max.unwrap_or(BYTES_MAX).min(BYTES_MAX);
    let is_back = matches!(asked.from, Some(Begin::Before(_)));
    let wait = asked.wait.filter(|_| !is_back);
    let mut reading = Reading::new(exchange, asked, Position::Earliest)?;
    if is_back {
        reading.cursors.iter_mut().for_each(|cursor| cursor.end = Some(cursor.next));
        reading.go_back(exchange, count, bytes_max)?;
    }
    let begin: Vec<PartitionOffset> = reading.cursors.iter().map(|cursor| cursor.place()).collect();
    let mut chosen = choose(exchange, &mut reading, count, bytes_max)?;
    if let Some(wait) = wait {
        let deadline = Instant::now().checked_add(wait);
        let partitions: Vec<PartitionHandle> = reading.cursors.iter().map(|cursor| cursor.partition.clone()).collect();
        let waiter = exchange.output.waiter.clone();
        let _registered: Vec<_> = partitions.iter().map(|partition| partition.register(&waiter)).collect();
        while chosen.is_empty() && count > 0 && !reading.is_over() {
            chosen = choose(exchange, &mut reading, count, bytes_max)?;
            if !chosen.is_empty() {
                break;
            }
            reading.free();
            exchange.output.flush()?;
            let until = deadline.into_iter().chain(exchange.broker.known_until()).min();
            let goes_on = exchange.output.wait_while_connected(until)?;
            exchange.check_login()?;
            if !goes_on {
                break;
            }
        }
    }
    let next = named(reading.cursors.iter().map(|cursor| cursor.place()));
    let mut is_first = true;
    for (cursor, begin) in reading.cursors.iter().zip(&begin) {
        is_first &= begin.offset <= cursor.partition.start()?;
    }
    let gaps = std::mem::take(&mut reading.gaps);
    let mut body = b"{\"records\":[".to_vec();
    write_records(exchange, &mut reading, &chosen, &mut body)?;
    exchange.output.slow_down(exchange.broker.charge(Quota::FetchedBytes, body.len()));
    let previous = (!is_first).then(|| named_before(begin.into_iter()));
    let mut behind = json!({ "next": next, "previous": previous });
    if !gaps.is_empty() {
        behind["gaps"] = gaps.iter().map(Gap::json).collect();
    }
    body.extend_from_slice(b"],");
    body.extend_from_slice(&behind.to_string().as_bytes()[1..]);
    body.push(b'\n');
    exchange.answer(200, JSON, "", &body)
}

/// The next records by time. The cursors then stand at the first of each partition that is not among them.
fn choose(exchange: &Exchange<'_, '_>, reading: &mut Reading, count: u64, bytes_max: u64) -> Result<Vec<Chosen>, Stop> {
    let at_once = at_once(count, reading.cursors.len());
    let mut ahead = Vec::with_capacity(reading.cursors.len());
    let mut oldest = BinaryHeap::new();
    for index in (0..reading.cursors.len()).filter(|_| count > 0) {
        ahead.push(reading.look_ahead(exchange, index, at_once)?);
        oldest.extend(ahead[index].front().map(|first| Reverse((first.timestamp, index))));
    }
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    while let Some(Reverse((_, index))) = oldest.pop() {
        let found = *ahead[index].front().expect("its time was noted");
        bytes += found.bytes;
        if chosen.len() as u64 == count || bytes > bytes_max && !chosen.is_empty() {
            break;
        }
        chosen.push(Chosen { index, found });
        ahead[index].pop_front();
        if ahead[index].is_empty() && (chosen.len() as u64) < count {
            ahead[index] = reading.look_ahead(exchange, index, at_once)?;
        }
        oldest.extend(ahead[index].front().map(|first| Reverse((first.timestamp, index))));
    }
    for (cursor, ahead) in reading.cursors.iter_mut().zip(&ahead) {
        cursor.next = ahead.front().map_or(cursor.next, |first| first.offset);
    }
    Ok(chosen)
}

/// Reads the records again, partition by partition, and writes them in their order. What was removed meanwhile is missing.
fn write_records(
    exchange: &Exchange<'_, '_>,
    reading: &mut Reading,
    chosen: &[Chosen],
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let (mut text, mut places) = (Vec::new(), vec![Range::default(); chosen.len()]);
    let topic = reading.topic.name().to_string();
    for index in 0..reading.cursors.len() {
        let numbered = chosen.iter().enumerate().filter(|(_, chosen)| chosen.index == index);
        let mut wanted = numbered.map(|(number, chosen)| (chosen.found.offset, number)).peekable();
        let Some(&(first, _)) = wanted.peek() else { continue };
        let last = chosen.iter().rfind(|chosen| chosen.index == index).map_or(first, |chosen| chosen.found.offset);
        let cursor = &mut reading.cursors[index];
        let partition = cursor.partition.index();
        (cursor.next, cursor.end) = (first, Some(last + 1));
        while let Some(&(next, _)) = wanted.peek() {
            // What lies between two of them was looked through before.
            reading.cursors[index].next = reading.cursors[index].next.max(next);
            let show = |line: &Line<'_>| {
                while wanted.next_if(|(offset, _)| *offset < line.offset).is_some() {}
                if let Some((_, number)) = wanted.next_if(|(offset, _)| *offset == line.offset) {
                    let from = text.len();
                    record_json::write_line(&mut text, &topic, partition, line).map_err(unreadable)?;
                    places[number] = from..text.len();
                }
                Ok(wanted.peek().is_some())
            };
            if !reading.read(index, show)? {
                break;
            }
            reading.check_wanted(exchange)?;
        }
    }
    let shown = places.into_iter().filter(|place| !place.is_empty());
    for (number, place) in shown.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&text[place]);
    }
    Ok(())
}

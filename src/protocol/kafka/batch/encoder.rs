//! From the log's lines to a consumer's batch.

use super::{APPEND_TIME, CONTROL, HEADER_BYTES, Header, TRANSACTIONAL};
use crate::{
    broker::Broker,
    log::{
        Lines, Outcome,
        batches::crc32c,
        record::{Fields, Malformed, Value, parse_control, unescape_to},
    },
    protocol::kafka::{
        compression::{Codec, Codecs},
        internal_records::{Binary, binary},
        wire::{prefixed, uvarint_bytes, write_varlong, zigzag},
    },
};
use std::ops::Range;

/// What the log knows of lines that become a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Offset of the first record when the batch was appended; it may be gone by now.
    pub first: u64,
    /// The records have the time at which they were appended.
    pub append_time: bool,
    /// They belong to a transaction.
    pub transactional: bool,
    /// The line is a transaction marker.
    pub control: bool,
    /// The producer, -1: none.
    pub producer_id: i64,
    /// Its epoch, -1: none.
    pub producer_epoch: i16,
    /// Sequence of the record at `first`, -1: none.
    pub base_sequence: i32,
    /// The epoch of the partition's leader.
    pub leader_epoch: i32,
}

impl Facts {
    /// Those of a batch from offset 0 on, of nobody in particular.
    pub const PLAIN: Facts = Facts {
        first: 0,
        append_time: false,
        transactional: false,
        control: false,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        leader_epoch: 0,
    };
}

/// A batch under construction at the end of a response.
#[derive(Debug)]
pub struct Encoder<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    facts: Facts,
    base_offset: u64,
    base_timestamp: i64,
    max_timestamp: i64,
    last_offset: u64,
    count: i32,
    internal: Option<Internal<'o>>,
}

/// A topic of the broker's own, and who knows the ids of others.
#[derive(Clone, Copy, Debug)]
pub struct Internal<'a> {
    /// Its name.
    pub topic: &'a str,
    /// The broker.
    pub broker: &'a Broker,
}

impl Internal<'_> {
    /// The record that Kafka has for a line; `None`: the line is the record. Offsets of a transaction tell no id there.
    fn binary(&self, fields: &Fields<'_>, timestamp_ms: i64, facts: Facts) -> Option<Binary> {
        let id_of = |topic: &str| Some(self.broker.find_topic(topic).ok()?.id());
        binary(self.topic, fields, timestamp_ms, |topic| if facts.transactional { None } else { id_of(topic) })
    }
}

impl<'o> Encoder<'o> {
    /// Begins a batch at the end of `out`.
    pub fn new(out: &'o mut Vec<u8>, facts: Facts) -> Encoder<'o> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        let [base_offset, last_offset] = [facts.first; 2];
        Encoder {
            out,
            start,
            facts,
            base_offset,
            last_offset,
            base_timestamp: -1,
            max_timestamp: -1,
            count: 0,
            internal: None,
        }
    }

    /// The records are those of a topic of the broker's own, whose lines have another form in Kafka.
    pub fn of_internal(self, internal: Option<Internal<'o>>) -> Encoder<'o> {
        Encoder { internal, ..self }
    }

    /// Bytes of the batch so far.
    pub fn size(&self) -> usize {
        self.out.len() - self.start
    }

    /// Adds the records of `lines` until the batch has `bytes_max` bytes, and at least one. Returns whether all of them were
    /// added.
    pub fn lines(&mut self, mut lines: Lines<'_>, bytes_max: usize) -> Result<bool, Malformed> {
        while self.size() < bytes_max || self.count == 0 {
            let Some(line) = lines.next() else { return Ok(true) };
            let line = line?;
            // Most records are nothing but a value.
            let plain = line.fields.strip_prefix(b"message:");
            if self.facts.control {
                self.marker(line.offset, line.fields, line.timestamp)?;
            } else if let Some(value) = plain {
                let (offset_delta, timestamp_delta) = self.deltas(line.offset, line.timestamp)?;
                write_plain(self.out, offset_delta, timestamp_delta, value);
            } else {
                let fields = line.split()?;
                let (offset_delta, timestamp_delta) = self.deltas(line.offset, line.timestamp)?;
                let binary = self.internal.and_then(|internal| internal.binary(&fields, line.timestamp, self.facts));
                match binary {
                    Some(binary) => write_binary(self.out, offset_delta, timestamp_delta, &binary),
                    None => write_record(self.out, line.text.len(), offset_delta, timestamp_delta, &fields)?,
                }
            }
        }
        Ok(lines.rest().is_empty())
    }

    /// Counts a record and returns its deltas. The first record is the base of the batch.
    #[inline]
    fn deltas(&mut self, offset: u64, timestamp: i64) -> Result<(i64, i64), Malformed> {
        if self.count == 0 {
            (self.base_offset, self.base_timestamp) = (offset, timestamp);
        } else if offset <= self.last_offset {
            return Err(Malformed("offsets do not rise".into()));
        }
        self.count += 1;
        self.last_offset = offset;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(((offset - self.base_offset) as i64, timestamp.wrapping_sub(self.base_timestamp)))
    }

    /// A marker's line as Kafka's control record: a version and a type, a version and the coordinator's epoch.
    fn marker(&mut self, offset: u64, fields: &[u8], timestamp: i64) -> Result<(), Malformed> {
        let control = parse_control(fields)?;
        let kind = if control.outcome == Outcome::Commit { 1 } else { 0 };
        let [a, b, c, d] = control.coordinator_epoch.to_be_bytes();
        let (offset_delta, timestamp_delta) = self.deltas(offset, timestamp)?;
        prefixed(
            self.out,
            24,
            |length| zigzag(length as i64),
            |out| {
                write_deltas(out, offset_delta, timestamp_delta);
                out.extend_from_slice(&[8, 0, 0, 0, kind]);
                out.extend_from_slice(&[12, 0, 0, a, b, c, d, 0]);
            },
        );
        Ok(())
    }

    /// Completes the batch, which covers the offsets up to `last_offset` even if their records are gone. A batch without records is
    /// removed again. Returns the number of records.
    pub fn finish(self, last_offset: u64, codec: Codec, codecs: &mut Codecs, scratch: &mut Vec<u8>) -> i32 {
        let Encoder { out, start, facts, .. } = self;
        if self.count == 0 {
            out.truncate(start);
            return 0;
        }
        if codec != Codec::None {
            codecs.compress(codec, &out[start + HEADER_BYTES..], scratch);
            out.truncate(start + HEADER_BYTES);
            out.extend_from_slice(scratch);
        }
        let flag = |set: bool, bit: i16| if set { bit } else { 0 };
        // Sequences wrap around after 2^31-1.
        let trimmed = (self.base_offset - facts.first.min(self.base_offset)) as i64;
        let sequence = (i64::from(facts.base_sequence) + trimmed) & i64::from(i32::MAX);
        let last_delta = last_offset.max(self.last_offset) - self.base_offset;
        let header = Header {
            base_offset: self.base_offset as i64,
            length: (out.len() - start - 12) as i32,
            leader_epoch: facts.leader_epoch,
            magic: 2,
            crc: 0,
            attributes: codec as i16
                | flag(facts.append_time, APPEND_TIME)
                | flag(facts.transactional, TRANSACTIONAL)
                | flag(facts.control, CONTROL | TRANSACTIONAL),
            last_offset_delta: i32::try_from(last_delta).unwrap_or(i32::MAX),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: facts.producer_id,
            producer_epoch: facts.producer_epoch,
            base_sequence: if facts.base_sequence < 0 { -1 } else { sequence as i32 },
            count: self.count,
        };
        out[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
        let crc = crc32c(&out[start + 21..]);
        out[start + 17..start + 21].copy_from_slice(&crc.to_be_bytes());
        self.count
    }
}

/// Writes a batch without records that covers `offsets`. It takes a reader past a hole at the end of the log.
pub fn write_empty(out: &mut Vec<u8>, offsets: Range<u64>, leader_epoch: i32) {
    let start = out.len();
    let last_delta = offsets.end.saturating_sub(offsets.start + 1);
    let header = Header {
        base_offset: offsets.start as i64,
        length: (HEADER_BYTES - 12) as i32,
        leader_epoch,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: i32::try_from(last_delta).unwrap_or(i32::MAX),
        base_timestamp: -1,
        max_timestamp: -1,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        count: 0,
    };
    out.extend_from_slice(&header.encode());
    let crc = crc32c(&out[start + 21..]);
    out[start + 17..start + 21].copy_from_slice(&crc.to_be_bytes());
}

/// Attributes, timestamp delta, offset delta: what every record begins with.
fn write_deltas(out: &mut Vec<u8>, offset_delta: i64, timestamp_delta: i64) {
    out.push(0);
    write_varlong(out, timestamp_delta);
    write_varlong(out, offset_delta);
}

/// The most bytes before a record's value: four numbers and two bytes.
const HEAD_BYTES: usize = 48;

/// Writes a record that is only a value, by far the most common kind.
#[inline]
fn write_plain(out: &mut Vec<u8>, offset_delta: i64, timestamp_delta: i64, value: &[u8]) {
    let [timestamp_delta, offset_delta, length] = [timestamp_delta, offset_delta, value.len() as i64].map(zigzag);
    let numbers = [timestamp_delta, offset_delta, length].map(uvarint_bytes);
    let body = 3 + numbers.iter().sum::<usize>() + value.len();
    let mut head = [0; HEAD_BYTES];
    let mut at = put_uvarint(&mut head, 0, zigzag(body as i64)) + 1;
    at = put_uvarint(&mut head, at, timestamp_delta);
    at = put_uvarint(&mut head, at, offset_delta);
    head[at] = 1;
    at = put_uvarint(&mut head, at + 1, length);
    // A copy of a fixed size takes a few instructions; one of a variable size is a call.
    let start = out.len();
    out.extend_from_slice(&head);
    out.truncate(start + at);
    out.extend_from_slice(value);
    out.push(0);
}

#[inline]
fn put_uvarint(head: &mut [u8; HEAD_BYTES], mut at: usize, mut number: u64) -> usize {
    while number >= 0x80 {
        head[at] = number as u8 | 0x80;
        number >>= 7;
        at += 1;
    }
    head[at] = number as u8;
    at + 1
}

/// Writes any record; `line_bytes` is a guess at its length.
fn write_record(
    out: &mut Vec<u8>,
    line_bytes: usize,
    offset_delta: i64,
    timestamp_delta: i64,
    fields: &Fields<'_>,
) -> Result<(), Malformed> {
    prefixed(
        out,
        line_bytes,
        |length| zigzag(length as i64),
        |out| {
            write_deltas(out, offset_delta, timestamp_delta);
            write_word(out, fields.key)?;
            match fields.value {
                Value::Tombstone => out.push(1),
                Value::Message(value) | Value::Escaped(value) | Value::Base64(value) => {
                    prefixed(out, value.len(), |length| zigzag(length as i64), |out| fields.value.append_to(out))?;
                }
            }
            write_varlong(out, fields.header_count() as i64);
            for (name, value) in fields.headers() {
                write_word(out, Some(name))?;
                write_word(out, value)?;
            }
            Ok(())
        },
    )
}

/// Writes a record of a topic of the broker's own.
fn write_binary(out: &mut Vec<u8>, offset_delta: i64, timestamp_delta: i64, Binary { key, value }: &Binary) {
    let estimate = key.len() + value.as_ref().map_or(0, Vec::len);
    prefixed(
        out,
        estimate,
        |length| zigzag(length as i64),
        |out| {
            write_deltas(out, offset_delta, timestamp_delta);
            for bytes in [Some(key), value.as_ref()] {
                write_varlong(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
                out.extend_from_slice(bytes.map_or(&[], Vec::as_slice));
            }
            write_varlong(out, 0);
        },
    );
}

/// Writes an escaped word, unescaped, behind its length.
fn write_word(out: &mut Vec<u8>, word: Option<&[u8]>) -> Result<(), Malformed> {
    match word {
        None => out.push(1),
        Some(word) => prefixed(out, word.len(), |length| zigzag(length as i64), |out| unescape_to(out, word))?,
    }
    Ok(())
}

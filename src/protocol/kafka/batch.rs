//! Kafka's record batches (v2): from a producer's batch to the log's records, and from the log's lines to a consumer's batch.
//!
//! ```text
//!  0          8       12            16     17       21          23                 27              35
//!  ├──────────┼───────┼─────────────┼──────┼────────┼───────────┼──────────────────┼───────────────┤
//!  │base offset│length│ leader epoch│magic 2│ CRC-32C│ attributes│ last offset delta│ base timestamp│
//!  ├──────────┴───────┼─────────────┼──────┴────────┼───────────┼──────────────────┴───────────────┘
//! 35 max timestamp   43 producer id 51 epoch        53 sequence 57 record count   61 records...
//!
//! attributes   bits 0-2 codec, 3 append time, 4 transactional, 5 control, 6 delete horizon
//! a record     length, attributes i8, timestamp delta, offset delta, key, value, header count, (name, value)...
//!              all numbers zigzag varints; a length of -1 is null
//! ```
//!
//! - The length counts from byte 12 on, and the CRC covers everything from byte 21 on. Both are checked before any record is read.
//! - Batches are refused for the same reasons, in the same order and with the same codes as in Apache Kafka.
//! - Neither direction allocates memory for each record. Records borrow from the request, or from the buffer into which it was
//!   decompressed; lines are encoded straight into the response.
//! - A producer's offset deltas are ignored: records get their offsets in the order in which they stand, as in Kafka.
//! - Control records (transaction markers) are written for consumers and refused from clients.

use super::{
    compression::{self, Codec, Codecs},
    internal_records::{Binary, binary},
    wire::{self, Reader, prefixed, uvarint_bytes, write_varlong, zigzag},
};
use crate::{
    broker::{
        Broker, Code, Rules,
        spans::{Kind, Spans},
    },
    log::{
        Lines, Outcome,
        batches::crc32c,
        record::{Fields, Malformed, Records, Value, parse_control, unescape_to},
    },
};
use std::{borrow::Cow, ops::Range};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// The most that a batch may decompress to: as much as a batch of lines may hold.
pub const DECOMPRESSED_MAX: usize = 64 << 20;
/// The most records in one batch. Kafka has no such limit; here each record takes ten times its seven bytes, or more, while it is
/// in memory.
pub const RECORDS_MAX: i32 = 1 << 20;
/// The most headers in one batch, for the same reason.
const HEADERS_MAX: usize = 1 << 21;
/// The smallest record: its length, and six bytes.
const RECORD_BYTES_MIN: usize = 7;
/// The most invalid records that a refusal names.
pub(super) const NAMED_MAX: usize = 1000;

/// The timestamp of a record that has none.
const NO_TIMESTAMP: i64 = -1;

const APPEND_TIME: i16 = 8;
const TRANSACTIONAL: i16 = 16;
const CONTROL: i16 = 32;

/// Everything before the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the picture above names them")]
pub struct Header {
    pub base_offset: i64,
    pub length: i32,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None`: they are too few.
    pub fn read(bytes: &[u8]) -> Option<Header> {
        Header::read_fields(&mut Reader::new(bytes.first_chunk::<HEADER_BYTES>()?, 0, false)).ok()
    }

    fn read_fields(r: &mut Reader<'_>) -> wire::Result<Header> {
        Ok(Header {
            base_offset: r.i64("base_offset")?,
            length: r.i32("batch_length")?,
            leader_epoch: r.i32("partition_leader_epoch")?,
            magic: r.i8("magic")?,
            crc: r.u32("crc")?,
            attributes: r.i16("attributes")?,
            last_offset_delta: r.i32("last_offset_delta")?,
            base_timestamp: r.i64("base_timestamp")?,
            max_timestamp: r.i64("max_timestamp")?,
            producer_id: r.i64("producer_id")?,
            producer_epoch: r.i16("producer_epoch")?,
            base_sequence: r.i32("base_sequence")?,
            count: r.i32("records_count")?,
        })
    }

    /// The header as it stands before the records.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&self.base_offset.to_be_bytes());
        put(&self.length.to_be_bytes());
        put(&self.leader_epoch.to_be_bytes());
        put(&self.magic.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.attributes.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.to_be_bytes());
        put(&self.max_timestamp.to_be_bytes());
        put(&self.producer_id.to_be_bytes());
        put(&self.producer_epoch.to_be_bytes());
        put(&self.base_sequence.to_be_bytes());
        put(&self.count.to_be_bytes());
        out
    }
}

/// Why a producer's batch is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It was damaged on the way.
    Corrupt(&'static str),
    /// Its fields contradict each other, or say what a client is not allowed to say.
    Invalid(&'static str),
    /// It is beyond a limit.
    TooLarge(&'static str),
    /// Kafka knows no such codec.
    UnknownCodec,
    /// Some of its records are invalid, so that all are refused: [`Code::InvalidRecord`] or [`Code::InvalidTimestamp`], the
    /// reason, and the positions in the batch of the first thousand of them.
    Records(Code, &'static str, Vec<i32>),
}

impl Error {
    /// The code and the message that the producer gets.
    pub fn answer(&self) -> (Code, &'static str) {
        match self {
            Error::Corrupt(why) => (Code::CorruptMessage, why),
            Error::Invalid(why) => (Code::InvalidRecord, why),
            Error::TooLarge(why) => (Code::MessageTooLarge, why),
            Error::UnknownCodec => (Code::UnsupportedCompressionType, "the attributes name an unknown codec"),
            Error::Records(code, why, _) => (*code, why),
        }
    }
}

/// The one batch that a producer sends to a partition.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Everything before the records.
    pub header: Header,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Finds the batch: exactly one, whole, with magic 2.
    pub fn open(bytes: &'a [u8]) -> Result<Batch<'a>, Error> {
        let (batch, rest) = first_batch(bytes)?.ok_or(Error::Invalid("there is no whole record batch"))?;
        if batch[16] != 2 {
            return Err(Error::Invalid("the record batch has not magic 2"));
        }
        if first_batch(rest)?.is_some() {
            return Err(Error::Invalid("there is more than one record batch"));
        }
        let header = Header::read(batch).ok_or(Error::Corrupt("the record batch is shorter than its header"))?;
        Ok(Batch { header, bytes: batch })
    }

    /// How its records are compressed.
    pub fn codec(&self) -> Result<Codec, Error> {
        Codec::of_attributes(self.header.attributes).ok_or(Error::UnknownCodec)
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.header.attributes & TRANSACTIONAL != 0
    }

    /// Makes the checks that need no record, in Kafka's order.
    pub fn check(&self, bytes_max: usize) -> Result<(), Error> {
        let header = &self.header;
        if header.base_offset != 0 {
            return Err(Error::Invalid("the base offset is not 0"));
        }
        if self.bytes.len() > bytes_max {
            return Err(Error::TooLarge("the record batch is larger than max.message.bytes"));
        }
        if crc32c(&self.bytes[21..]) != header.crc {
            return Err(Error::Corrupt("the record batch does not have its CRC"));
        }
        if header.count <= 0 || header.last_offset_delta.checked_add(1) != Some(header.count) {
            return Err(Error::Invalid("the record count is not what the last offset says"));
        }
        if header.attributes & CONTROL != 0 {
            return Err(Error::Invalid("clients may not write control records"));
        }
        if header.producer_id >= 0 && header.base_sequence < 0 {
            return Err(Error::Invalid("a batch with a producer id has a sequence"));
        }
        if header.count > RECORDS_MAX {
            return Err(Error::TooLarge("the record batch has more than 1048576 records"));
        }
        Ok(())
    }

    /// The bytes of its records, decompressed into `scratch` if they are compressed.
    pub fn body<'b>(&self, codecs: &mut Codecs, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], Error>
    where
        'a: 'b,
    {
        let compressed = &self.bytes[HEADER_BYTES..];
        let codec = self.codec()?;
        if codec == Codec::None {
            return Ok(compressed);
        }
        codecs.decompress(codec, compressed, scratch, DECOMPRESSED_MAX).map_err(|error| match error {
            compression::Error::Malformed => Error::Invalid("the records cannot be decompressed"),
            compression::Error::TooLarge => Error::TooLarge("the records are more than 64 MiB"),
        })?;
        Ok(scratch)
    }

    /// Reads the records in its [`body`](Self::body), using the memory of `records` again.
    pub fn records<'b>(&self, body: &'b [u8], rules: &Rules, records: Records<'_>) -> Result<Records<'b>, Error> {
        let mut bytes = body;
        let mut records = records.recycle();
        records.reserve((self.header.count as usize).min(bytes.len() / RECORD_BYTES_MIN));
        let mut seen = Seen::default();
        for _ in 0..self.header.count {
            let rest =
                read_record(bytes, self.header.base_timestamp, rules.append_time, &mut records, &mut seen, &mut ());
            bytes = rest.ok_or(match seen.headers > HEADERS_MAX {
                true => Error::TooLarge("the record batch has more than 2097152 headers"),
                false => Error::Invalid("a record does not have the structure of a record"),
            })?;
        }
        if !bytes.is_empty() {
            return Err(Error::Invalid("there is more behind the last record"));
        }
        match self.breaks(rules, &seen) {
            true => Err(self.broken(rules, &records)),
            false => Ok(records),
        }
    }

    fn breaks(&self, rules: &Rules, seen: &Seen) -> bool {
        let (least, most) = (rules.timestamps.start(), rules.timestamps.end());
        let out_of_range = seen.timestamp_max > *most || seen.timestamp_min < *least;
        let stamped = self.header.attributes & APPEND_TIME != 0;
        rules.key_required && seen.keyless || !rules.append_time && out_of_range || stamped
    }

    /// Names the records that break the rules.
    fn broken(&self, rules: &Rules, records: &Records<'_>) -> Error {
        let indexes = |wrong: &dyn Fn(i64, bool) -> bool| {
            let fields = records.iter().map(|record| (record.timestamp.unwrap_or(-1), record.key.is_none()));
            let wrong = fields.enumerate().filter(|&(_, (timestamp, keyless))| wrong(timestamp, keyless));
            wrong.map(|(index, _)| index as i32).take(NAMED_MAX).collect::<Vec<_>>()
        };
        if self.header.attributes & APPEND_TIME != 0 {
            let why = "a producer may not set the timestamp type to LogAppendTime";
            return Error::Records(Code::InvalidTimestamp, why, indexes(&|_, _| true));
        }
        let out_of_range = |timestamp| timestamp != NO_TIMESTAMP && !rules.timestamps.contains(&timestamp);
        let timestamps = indexes(&|timestamp, _| out_of_range(timestamp));
        match timestamps.is_empty() {
            false => Error::Records(
                Code::InvalidTimestamp,
                "a timestamp is beyond message.timestamp.before.max.ms or message.timestamp.after.max.ms",
                indexes(&|timestamp, keyless| out_of_range(timestamp) || rules.key_required && keyless),
            ),
            true => Error::Records(
                Code::InvalidRecord,
                "a compacted topic cannot take a record without a key",
                indexes(&|_, keyless| keyless),
            ),
        }
    }
}

/// A batch, and what follows it.
type Split<'a> = (&'a [u8], &'a [u8]);

/// The first batch in `bytes` and what follows it; `None` where no whole one is.
fn first_batch(bytes: &[u8]) -> Result<Option<Split<'_>>, Error> {
    /// Length of the smallest message of magic 0: Kafka's own first check.
    const LENGTH_MIN: usize = 14;
    let Some(length) = bytes.get(8..12) else { return Ok(None) };
    let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
    let length = usize::try_from(length).ok().filter(|&length| length >= LENGTH_MIN);
    let length = length.ok_or(Error::Corrupt("the record batch's length is too small"))?;
    match bytes.get(16) {
        Some(0..=2) => Ok(bytes.split_at_checked(12 + length)),
        Some(_) => Err(Error::Corrupt("the record batch has an unknown magic")),
        None => Ok(None),
    }
}

/// What has been seen while reading records, so that the rules need no second pass.
struct Seen {
    timestamp_max: i64,
    timestamp_min: i64,
    keyless: bool,
    headers: usize,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { timestamp_max: i64::MIN, timestamp_min: i64::MAX, keyless: false, headers: 0 }
    }
}

/// Is told of each field of a record, with the bytes before and behind it.
trait Watch {
    fn field(&mut self, name: &'static str, kind: Kind, before: &[u8], behind: &[u8]);
}

/// Nobody watches.
impl Watch for () {
    #[inline]
    fn field(&mut self, _: &'static str, _: Kind, _: &[u8], _: &[u8]) {}
}

impl Watch for Spans {
    fn field(&mut self, name: &'static str, kind: Kind, before: &[u8], behind: &[u8]) {
        Spans::field(self, name, kind, false, before.len() - behind.len());
    }
}

/// Notes the fields of the batches in `bytes`, as far as they can be read: they may have been cut.
pub fn explain(bytes: &[u8], spans: &mut Spans) {
    let (mut rest, mut index) = (bytes, 0);
    while !rest.is_empty() {
        let outer = spans.enter("batches", index);
        let mut r = Reader::new(rest, 0, false);
        r.spans = Some(Box::new(std::mem::take(spans)));
        let header = Header::read_fields(&mut r);
        *spans = *r.spans.take().unwrap_or_default();
        let Ok(header) = header else { return };
        let length = usize::try_from(header.length).unwrap_or(0).saturating_sub(HEADER_BYTES - 12);
        let (body, behind) = r.rest().split_at(length.min(r.rest().len()));
        explain_records(&header, body, spans);
        spans.leave(outer);
        (rest, index) = (behind, index + 1);
    }
}

/// What is no record, and what is behind the last, is noted as one field: the next batch begins behind it.
fn explain_records(header: &Header, mut body: &[u8], spans: &mut Spans) {
    let (mut records, mut seen, end) = (Records::default(), Seen::default(), spans.at() + body.len());
    if Codec::of_attributes(header.attributes) != Some(Codec::None) {
        return Spans::field(spans, "records", Kind::Compressed, false, body.len());
    }
    for index in 0..header.count.max(0) as usize {
        let outer = spans.enter("records", index);
        let rest = read_record(body, header.base_timestamp, false, &mut records, &mut seen, spans);
        spans.leave(outer);
        let Some(rest) = rest else { break };
        body = rest;
    }
    Spans::field(spans, "rest", Kind::Unread, false, end - spans.at());
}

/// Reads one record and returns the bytes behind it; `None`: this is not a record.
#[inline]
fn read_record<'b>(
    bytes: &'b [u8],
    base_timestamp: i64,
    append_time: bool,
    records: &mut Records<'b>,
    seen: &mut Seen,
    watch: &mut impl Watch,
) -> Option<&'b [u8]> {
    let (length, bytes) = watched(watch, "length", Kind::Varint, bytes, varint)?;
    let (body, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    let (_attributes, body) = watched(watch, "attributes", Kind::Int8, body, <[u8]>::split_first)?;
    let (timestamp_delta, body) = watched(watch, "timestamp_delta", Kind::Varlong, body, varint)?;
    let (_offset_delta, body) = watched(watch, "offset_delta", Kind::Varint, body, varint)?;
    let (key, body) = watched(watch, "key", Kind::VarintBytes, body, nullable)?;
    let (value, body) = watched(watch, "value", Kind::VarintBytes, body, nullable)?;
    let (header_count, mut body) = watched(watch, "headers_count", Kind::Varint, body, varint)?;
    let timestamp = base_timestamp.wrapping_add(timestamp_delta);
    seen.timestamp_max = seen.timestamp_max.max(timestamp);
    if timestamp != NO_TIMESTAMP {
        seen.timestamp_min = seen.timestamp_min.min(timestamp);
    }
    seen.keyless |= key.is_none();
    records.push((!append_time).then_some(timestamp), key.map(Cow::Borrowed), value.map(Cow::Borrowed));
    let header_count = usize::try_from(header_count).ok()?;
    seen.headers = seen.headers.saturating_add(header_count);
    if seen.headers > HEADERS_MAX {
        return None;
    }
    // A header takes at least two bytes, so a count that is too large ends with the body.
    for _ in 0..header_count {
        let (name, after) = watched(watch, "header_key", Kind::VarintBytes, body, nullable)?;
        let (value, after) = watched(watch, "header_value", Kind::VarintBytes, after, nullable)?;
        records.header(Cow::Borrowed(name?), value.map(Cow::Borrowed));
        body = after;
    }
    body.is_empty().then_some(rest)
}

/// Reads a field of a record, and tells whoever watches.
#[inline]
fn watched<'b, T>(
    watch: &mut impl Watch,
    name: &'static str,
    kind: Kind,
    bytes: &'b [u8],
    read: impl FnOnce(&'b [u8]) -> Option<(T, &'b [u8])>,
) -> Option<(T, &'b [u8])> {
    let (value, rest) = read(bytes)?;
    watch.field(name, kind, bytes, rest);
    Some((value, rest))
}

/// A length, and that many bytes.
#[inline]
fn nullable(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    match varint(bytes)? {
        (-1, rest) => Some((None, rest)),
        (length, rest) => {
            let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((Some(bytes), rest))
        }
    }
}

/// A zigzag varint of at most ten bytes. [`Reader`] reads them too, but a record has seven, most of them one or
/// two bytes long, and this is faster.
#[inline]
fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let unzigzag = |number: u64| (number >> 1) as i64 ^ -((number & 1) as i64);
    match *bytes {
        [a @ 0..0x80, ref rest @ ..] => Some((unzigzag(a.into()), rest)),
        [a, b @ 0..0x80, ref rest @ ..] => Some((unzigzag(u64::from(a & 0x7f) | u64::from(b) << 7), rest)),
        _ => {
            let length = bytes.iter().take(10).position(|&byte| byte < 0x80)? + 1;
            let (number, rest) = bytes.split_at(length);
            if length == 10 && number[9] > 1 {
                return None;
            }
            let bits = number.iter().rev().fold(0, |bits, byte| bits << 7 | u64::from(byte & 0x7f));
            Some((unzigzag(bits), rest))
        }
    }
}

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

#[cfg(test)]
mod tests;

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

mod encoder;

pub use encoder::{Encoder, Facts, Internal, write_empty};

use super::{
    compression::{self, Codec, Codecs},
    wire::{self, Reader},
};
use crate::{
    broker::{
        Code, Rules,
        spans::{Kind, Spans},
    },
    log::{batches::crc32c, record::Records},
};
use std::borrow::Cow;

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

#[cfg(test)]
mod tests;

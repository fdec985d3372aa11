//! How a record becomes a line of text, and a line a record. No other file knows.
//!
//! ```text
//! offset:7 timestamp:1700000000000 key:user-1 header.trace:a1 message:hello
//! └ where ┘└── where it changes ──┘                         └ last: to the end of the line
//! ```
//!
//! A record has exactly one value field, which ends the line: `message:` (the bytes as they are), `escaped:`,
//! `base64:`, or the word `tombstone` for a null value. What is written is always the canonical form: `message:` if the
//! value is UTF-8 without control characters other than TAB, else `escaped:` if it is UTF-8, else `base64:`. So a log
//! never steers a terminal, and one record is one line.
//!
//! A transaction's marker is a line too, and no record:
//!
//! ```text
//! offset:9 control:commit
//! offset:9 control:abort first:3 coordinator:2
//!                        │       └ epoch of the coordinator that ended it, where that is not 0
//!                        └ the first offset of what is aborted; a marker that ends nothing has its own
//! ```
//!
//! Words (keys, header names and values) escape what a word cannot hold: `\\ \n \r \t \xHH`, a space as `\x20`, and in
//! header names a colon as `\x3a`. `\xHH` is one byte, in lower-case hex.

mod words;

pub use words::{
    Malformed, as_word, first_unprintable, parse_u63, shown, split_word, stands_verbatim, unescape, unescape_to,
    write_header_name, write_i64, write_listed, write_u64, write_visible, write_word,
};

use base64::Engine;
use std::{borrow::Cow, ops::Range, sync::LazyLock};
use words::{escape, parse_i32};

/// Standard base64 with padding, by vector instructions where the library has them.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static BASE64: LazyLock<base64::engine::Simd> =
    LazyLock::new(|| base64::engine::Simd::standard(base64::engine::general_purpose::PAD));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static BASE64: LazyLock<base64::engine::GeneralPurpose> = LazyLock::new(|| base64::engine::general_purpose::STANDARD);

/// A header: its name, and its value (`None` is null).
pub type Header<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

/// One record of a [`Records`]. Its headers are a range of the list's headers.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordRef<'a> {
    /// Milliseconds since 1970-01-01 UTC; `None` takes the time of the append. -1, from Kafka clients only, means none.
    pub timestamp: Option<i64>,
    /// The key; `None` is null, which is not the same as empty.
    pub key: Option<Cow<'a, [u8]>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Cow<'a, [u8]>>,
    headers: Range<u32>,
}

/// Records on their way to the log or from it: two vectors however many records there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records<'a> {
    list: Vec<RecordRef<'a>>,
    headers: Vec<Header<'a>>,
}

impl<'a> Records<'a> {
    /// Adds a record; [`header`](Self::header) adds to the one pushed last.
    pub fn push(&mut self, timestamp: Option<i64>, key: Option<Cow<'a, [u8]>>, value: Option<Cow<'a, [u8]>>) {
        let at = self.headers.len() as u32;
        self.list.push(RecordRef { timestamp, key, value, headers: at..at });
    }

    /// Adds a header to the record pushed last.
    pub fn header(&mut self, name: Cow<'a, [u8]>, value: Option<Cow<'a, [u8]>>) {
        let last = self.list.last_mut().expect("a header follows its record");
        self.headers.push((name, value));
        last.headers.end += 1;
    }

    /// Takes back the record pushed last.
    pub fn pop(&mut self) {
        if let Some(record) = self.list.pop() {
            self.headers.truncate(record.headers.start as usize);
        }
    }

    /// Moves the last record of `other` to the end of these.
    pub fn take_last(&mut self, other: &mut Records<'a>) {
        if let Some(record) = other.list.pop() {
            self.push(record.timestamp, record.key, record.value);
            for (name, value) in other.headers.drain(record.headers.start as usize..) {
                self.header(name, value);
            }
        }
    }

    /// Forgets the first `count` records.
    pub fn remove_first(&mut self, count: usize) {
        self.list.drain(..count);
    }

    /// Forgets the records and keeps the memory, for records that borrow from elsewhere.
    pub fn recycle<'b>(mut self) -> Records<'b> {
        self.list.clear();
        self.headers.clear();
        // An empty vector turned into one of the same layout keeps its allocation.
        let list = self.list.into_iter().map(|_| unreachable!("it was cleared")).collect();
        let headers = self.headers.into_iter().map(|_| unreachable!("it was cleared")).collect();
        Records { list, headers }
    }

    /// Makes room for `count` more records.
    pub fn reserve(&mut self, count: usize) {
        self.list.reserve(count);
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The records in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &RecordRef<'a>> {
        self.list.iter()
    }

    /// The record at `index`, if there are that many.
    pub fn get(&self, index: usize) -> Option<&RecordRef<'a>> {
        self.list.get(index)
    }

    /// The record pushed last.
    pub fn last(&self) -> Option<&RecordRef<'a>> {
        self.list.last()
    }

    /// The headers of one of these records, in order.
    pub fn headers_of(&self, record: &RecordRef<'a>) -> &[Header<'a>] {
        &self.headers[record.headers.start as usize..record.headers.end as usize]
    }

    /// Bytes of key, value and headers as they are, not escaped: what `max.message.bytes` counts in text.
    pub fn size_of(&self, record: &RecordRef<'a>) -> usize {
        let bytes = |field: &Option<Cow<[u8]>>| field.as_ref().map_or(0, |bytes| bytes.len());
        let headers = self.headers_of(record).iter().map(|(name, value)| name.len() + bytes(value));
        bytes(&record.key) + bytes(&record.value) + headers.sum::<usize>()
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its records are there for all to read.
    Commit,
    /// Its records never were.
    Abort,
}

impl Outcome {
    /// `commit` or `abort`, as lines say it.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Commit => "commit",
            Outcome::Abort => "abort",
        }
    }
}

/// A transaction's marker, as its line tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlLine {
    /// How the transaction of the batch's producer ended here.
    pub outcome: Outcome,
    /// Where it began in this partition, which is told of an aborted one only. `None`, of one to be written: it did not, and the
    /// marker's own offset stands there.
    pub first: Option<u64>,
    /// Epoch of the coordinator that ended it.
    pub coordinator_epoch: i32,
}

/// Appends `[timestamp:] [key:] [header.N:]... <value field>`, without a line end.
pub fn write_fields(
    out: &mut Vec<u8>,
    timestamp: Option<i64>,
    key: Option<&[u8]>,
    headers: &[Header<'_>],
    value: Option<&[u8]>,
) {
    if let Some(timestamp) = timestamp {
        out.extend_from_slice(b"timestamp:");
        write_i64(out, timestamp);
        out.push(b' ');
    }
    if let Some(key) = key {
        out.extend_from_slice(b"key:");
        write_word(out, key);
        out.push(b' ');
    }
    for (name, value) in headers {
        out.extend_from_slice(b"header.");
        write_header_name(out, name);
        if let Some(value) = value {
            out.push(b':');
            write_word(out, value);
        }
        out.push(b' ');
    }
    match value {
        None => out.extend_from_slice(b"tombstone"),
        Some(value) if stands_verbatim(value) => {
            out.extend_from_slice(b"message:");
            out.extend_from_slice(value);
        }
        Some(value) if std::str::from_utf8(value).is_ok() => {
            out.extend_from_slice(b"escaped:");
            escape(out, value, b"");
        }
        Some(value) => {
            out.extend_from_slice(b"base64:");
            let at = out.len();
            out.resize(at + value.len().div_ceil(3) * 4, 0);
            BASE64.encode_slice(value, &mut out[at..]).expect("four bytes for each three");
        }
    }
}

/// Appends the log's line of one of `records`, with its line end. `timestamp`: where it changes.
pub fn write_line(
    out: &mut Vec<u8>,
    offset: u64,
    timestamp: Option<i64>,
    records: &Records<'_>,
    record: &RecordRef<'_>,
) {
    out.extend_from_slice(b"offset:");
    write_u64(out, offset);
    out.push(b' ');
    write_fields(out, timestamp, record.key.as_deref(), records.headers_of(record), record.value.as_deref());
    out.push(b'\n');
}

/// Appends the log's line of a transaction's marker, with its line end.
pub fn write_control_line(out: &mut Vec<u8>, offset: u64, control: &ControlLine) {
    out.extend_from_slice(b"offset:");
    write_u64(out, offset);
    match control.outcome {
        Outcome::Commit => out.extend_from_slice(b" control:commit"),
        Outcome::Abort => {
            out.extend_from_slice(b" control:abort first:");
            write_u64(out, control.first.unwrap_or(offset));
        }
    }
    if control.coordinator_epoch != 0 {
        out.extend_from_slice(b" coordinator:");
        write_i64(out, control.coordinator_epoch.into());
    }
    out.push(b'\n');
}

/// Whether what stands behind a line's offset is a marker's, and no record's.
pub fn is_marker(fields: &[u8]) -> bool {
    fields.starts_with(b"control:")
}

/// Reads what stands behind the offset of a marker's line.
pub fn parse_control(fields: &[u8]) -> Result<ControlLine, Malformed> {
    let malformed = || Malformed(format!("'{}' is no transaction's marker", shown(fields)));
    let (word, mut rest) = split_word(fields);
    let (outcome, first) = match word {
        b"control:commit" => (Outcome::Commit, None),
        b"control:abort" => {
            let (word, behind) = split_word(rest.ok_or_else(malformed)?);
            rest = behind;
            (Outcome::Abort, Some(word.strip_prefix(b"first:").and_then(parse_u63).ok_or_else(malformed)?))
        }
        _ => return Err(malformed()),
    };
    let coordinator_epoch = match rest {
        None => 0,
        Some(word) => word.strip_prefix(b"coordinator:").and_then(parse_i32).ok_or_else(malformed)?,
    };
    Ok(ControlLine { outcome, first, coordinator_epoch })
}

/// Splits a log line (without its line end) into its offset and the fields behind it.
pub fn split_offset(line: &[u8]) -> Option<(u64, &[u8])> {
    split_number(line.strip_prefix(b"offset:")?)
}

/// A line's fields as they stand there, words still escaped: what can be read of a line without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    /// The record's own timestamp, where the line has one.
    pub timestamp: Option<i64>,
    /// The key, escaped; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Value<'a>,
    /// From the first header on up to the value, and how many headers are in it.
    words: &'a [u8],
    header_count: usize,
}

/// A line's fields, decoded.
#[derive(Clone, Debug)]
pub struct Decoded<'a> {
    /// The key; `None` is null.
    pub key: Option<Cow<'a, [u8]>>,
    /// The headers, in order.
    pub headers: Vec<Header<'a>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Cow<'a, [u8]>>,
}

/// A value field.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// `message:`, the bytes as they are.
    Message(&'a [u8]),
    /// `escaped:`.
    Escaped(&'a [u8]),
    /// `base64:`.
    Base64(&'a [u8]),
    /// `tombstone`.
    Tombstone,
}

/// Splits `[timestamp:] [key:] [header.N:]... <value field>` to the end of `text`. What is escaped or in base64 is checked
/// by who decodes it.
pub fn split_fields(mut text: &[u8]) -> Result<Fields<'_>, Malformed> {
    let mut fields = Fields { timestamp: None, key: None, value: Value::Tombstone, words: b"", header_count: 0 };
    loop {
        if let Some(value) = split_value(text) {
            // `words` reached to the end of the line; the value is no word.
            fields.words = &fields.words[..fields.words.len().saturating_sub(text.len())];
            return Ok(Fields { value, ..fields });
        }
        let (word, rest) = split_word(text);
        if word.starts_with(b"header.") {
            if fields.header_count == 0 {
                fields.words = text;
            }
            fields.header_count += 1;
        } else {
            take_word(word, &mut fields)?;
        }
        let missing = "the value is missing: end with message:, escaped:, base64: or tombstone";
        text = rest.ok_or_else(|| Malformed(missing.into()))?;
    }
}

/// The value field, if `text` is one.
fn split_value(text: &[u8]) -> Option<Value<'_>> {
    if let Some(value) = text.strip_prefix(b"message:") {
        Some(Value::Message(value))
    } else if let Some(value) = text.strip_prefix(b"escaped:") {
        Some(Value::Escaped(value))
    } else if let Some(value) = text.strip_prefix(b"base64:") {
        Some(Value::Base64(value))
    } else {
        (text == b"tombstone").then_some(Value::Tombstone)
    }
}

/// Takes one word before the value that is no header.
fn take_word<'a>(word: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Malformed> {
    let twice = if let Some(digits) = word.strip_prefix(b"timestamp:") {
        let parsed = if digits == b"-1" { Some(-1) } else { parse_u63(digits).map(|n| n as i64) };
        let parsed = parsed.ok_or_else(|| Malformed(format!("'{}' is no time in milliseconds", shown(digits))))?;
        fields.timestamp.replace(parsed).map(|_| "timestamp: is given twice")
    } else if let Some(text) = word.strip_prefix(b"key:") {
        fields.key.replace(text).map(|_| "key: is given twice")
    } else {
        let known = "timestamp:, key:, header.NAME:, then message:, escaped:, base64: or tombstone";
        return Err(Malformed(format!("'{}' is no field of a record; there are {known}", shown(word))));
    };
    twice.map_or(Ok(()), |why| Err(Malformed(why.into())))
}

impl<'a> Fields<'a> {
    /// How many headers there are.
    pub fn header_count(&self) -> usize {
        self.header_count
    }

    /// Names and values of the headers in order, escaped; a value of `None` is null.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let words = self.words.split(|&byte| byte == b' ').filter_map(|word| word.strip_prefix(b"header."));
        words.map(|text| match memchr::memchr(b':', text) {
            Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
            None => (text, None),
        })
    }

    /// All of them, decoded.
    pub fn decode(&self) -> Result<Decoded<'a>, Malformed> {
        let header = |(name, value): (_, Option<_>)| Ok((unescape(name)?, value.map(unescape).transpose()?));
        Ok(Decoded {
            key: self.key.map(unescape).transpose()?,
            headers: self.headers().map(header).collect::<Result<_, Malformed>>()?,
            value: self.value.bytes()?,
        })
    }
}

impl<'a> Value<'a> {
    /// The value's bytes; `None` is a tombstone.
    pub fn bytes(&self) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
        match *self {
            Value::Message(value) => Ok(Some(Cow::Borrowed(value))),
            Value::Escaped(value) => unescape(value).map(Some),
            Value::Base64(value) => BASE64.decode(value).map(|bytes| Some(Cow::Owned(bytes))).map_err(no_base64),
            Value::Tombstone => Ok(None),
        }
    }

    /// Appends the value's bytes; of a tombstone there are none.
    pub fn append_to(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match *self {
            Value::Message(value) => out.extend_from_slice(value),
            Value::Escaped(value) => unescape_to(out, value)?,
            Value::Base64(value) => BASE64.decode_vec(value, out).map_err(no_base64)?,
            Value::Tombstone => {}
        }
        Ok(())
    }
}

fn no_base64(error: base64::DecodeError) -> Malformed {
    Malformed(format!("the value after base64: is not base64 ({error})"))
}

/// Reads `[timestamp:] [key:] [header.N:]... <value field>` to the end of `text` and pushes it as one record.
pub fn parse_fields<'a>(records: &mut Records<'a>, text: &'a [u8]) -> Result<(), Malformed> {
    let fields = split_fields(text)?;
    records.push(fields.timestamp, fields.key.map(unescape).transpose()?, fields.value.bytes()?);
    for (name, value) in fields.headers() {
        let header = unescape(name).and_then(|name| Ok((name, value.map(unescape).transpose()?)));
        match header {
            Ok((name, value)) => records.header(name, value),
            Err(error) => {
                records.pop();
                return Err(error);
            }
        }
    }
    Ok(())
}

/// The time that a record's fields begin with, if they do, and the fields behind it.
#[inline]
pub fn split_timestamp(fields: &[u8]) -> (Option<i64>, &[u8]) {
    let Some(text) = fields.strip_prefix(b"timestamp:") else { return (None, fields) };
    if let Some(rest) = text.strip_prefix(b"-1 ") {
        return (Some(-1), rest);
    }
    split_number(text).map_or((None, fields), |(number, rest)| (Some(number as i64), rest))
}

/// A number from 0 to 2^63-1 that ends at a space, and what follows that. In one pass: each line of the log has one.
#[inline]
fn split_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut number: u64 = 0;
    // 19 digits fit 64 bits.
    for (at, &byte) in text.iter().enumerate().take(20) {
        match byte {
            b'0'..=b'9' if at < 19 => number = number * 10 + u64::from(byte - b'0'),
            b' ' if at > 0 && number <= i64::MAX as u64 => return Some((number, &text[at + 1..])),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{words::is_control, *};
    use proptest::prelude::*;

    fn line(key: Option<&[u8]>, headers: &[Header<'_>], value: Option<&[u8]>) -> String {
        let mut out = Vec::new();
        write_fields(&mut out, None, key, headers, value);
        String::from_utf8(out).unwrap()
    }

    fn parsed(text: &str) -> Result<Records<'_>, Malformed> {
        let mut records = Records::default();
        parse_fields(&mut records, text.as_bytes()).map(|()| records)
    }

    #[test]
    fn values_take_the_most_readable_form_that_is_exact() {
        assert_eq!(line(None, &[], Some(b"hello w\xc3\xb6rld\t!")), "message:hello wörld\t!");
        assert_eq!(line(None, &[], Some(b"")), "message:");
        assert_eq!(line(None, &[], Some(b"two\nlines \\")), "escaped:two\\nlines \\\\");
        assert_eq!(
            line(None, &[], Some("\u{1b}[2J\u{85}\u{2028}".as_bytes())),
            "escaped:\\x1b[2J\\xc2\\x85\\xe2\\x80\\xa8"
        );
        assert_eq!(line(None, &[], Some(b"\x00\xff")), "base64:AP8=");
        assert_eq!(line(None, &[], None), "tombstone");
    }

    #[test]
    fn words_hold_any_bytes() {
        let headers = [(b"a:b".as_slice().into(), Some(b"1 2".as_slice().into())), (b"n".as_slice().into(), None)];
        assert_eq!(
            line(Some(b"a b\xff"), &headers, None),
            "key:a\\x20b\\xff header.a\\x3ab:1\\x202 header.n tombstone"
        );
        assert_eq!(line(Some(b""), &[], None), "key: tombstone");
    }

    #[test]
    fn what_is_no_record_says_why() {
        for (text, why) in [
            ("key:a", "the value is missing"),
            ("", "'' is no field"),
            ("key:a key:b message:", "key: is given twice"),
            ("timestamp:1 timestamp:1 message:", "timestamp: is given twice"),
            ("timestamp:-2 message:", "'-2' is no time"),
            ("timestamp:9223372036854775808 message:", "is no time"),
            ("escaped:\\q", "'\\q' is no escape"),
            ("escaped:\\xAB", "'\\xAB' is no escape"),
            ("escaped:\\", "'\\' is no escape"),
            ("base64:?", "not base64"),
            ("tombstone ", "'tombstone' is no field"),
            ("key:a  message:x", "'' is no field"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.0.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_marker_is_a_line_that_is_read_back_and_nothing_else_is() {
        let marker = |outcome, first, coordinator_epoch| ControlLine { outcome, first, coordinator_epoch };
        for (control, line) in [
            (marker(Outcome::Commit, None, 0), "offset:9 control:commit\n"),
            (marker(Outcome::Abort, Some(3), 0), "offset:9 control:abort first:3\n"),
            (marker(Outcome::Commit, None, 2), "offset:9 control:commit coordinator:2\n"),
            (marker(Outcome::Abort, Some(3), i32::MIN), "offset:9 control:abort first:3 coordinator:-2147483648\n"),
        ] {
            let mut out = Vec::new();
            write_control_line(&mut out, 9, &control);
            assert_eq!(out, line.as_bytes());
            let (_, fields) = split_offset(line.trim_end().as_bytes()).unwrap();
            assert_eq!(parse_control(fields), Ok(control));
            assert!(parsed(str::from_utf8(fields).unwrap()).is_err(), "it is no record");
        }
        let mut out = Vec::new();
        write_control_line(&mut out, 9, &marker(Outcome::Abort, None, 0));
        assert_eq!(out, b"offset:9 control:abort first:9\n");
        for bad in [
            "message:x",
            "control:",
            "control:abort",
            "control:abort first:",
            "control:abort first:-1",
            "control:abort first:3 ",
            "control:commit first:3",
            "control:commit coordinator:",
            "control:commit coordinator:-",
            "control:commit coordinator:2147483648",
            "control:commit coordinator:1 ",
        ] {
            assert!(parse_control(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_record_may_begin_with_its_time() {
        assert_eq!(split_timestamp(b"timestamp:12 message:x"), (Some(12), b"message:x".as_slice()));
        assert_eq!(split_timestamp(b"timestamp:-1 message:x"), (Some(-1), b"message:x".as_slice()));
        for other in ["timestamp:-2 message:", "timestamp:12", "timestamp:1x message:", "message:timestamp:1 "] {
            assert_eq!(split_timestamp(other.as_bytes()), (None, other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn offsets_end_at_a_space() {
        assert_eq!(split_offset(b"offset:12 message:x"), Some((12, b"message:x".as_slice())));
        assert_eq!(split_offset(b"offset:9223372036854775807 "), Some((i64::MAX as u64, b"".as_slice())));
        for bad in ["offset:12", "offset: message:", "offset:-1 message:", "offset:1x message:", "ofset:1 message:"] {
            assert_eq!(split_offset(bad.as_bytes()), None, "{bad}");
        }
        for large in ["offset:9223372036854775808 ", "offset:99999999999999999999 ", "offset:00000000000000000001 "] {
            assert_eq!(split_offset(large.as_bytes()), None, "{large}");
        }
    }

    #[test]
    fn recycled_records_keep_their_memory() {
        let mut records = Records::default();
        records.reserve(100);
        let text = Vec::from(*b"text");
        records.push(None, Some(Cow::Borrowed(&text)), None);
        let (capacity, at) = (records.list.capacity(), records.list.as_ptr().addr());
        let recycled: Records<'static> = records.recycle();
        assert_eq!((recycled.list.capacity(), recycled.list.as_ptr().addr()), (capacity, at));
        assert!(recycled.is_empty());
    }

    fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
        let plain = "[ -~\t]{0,20}".prop_map(String::into_bytes);
        let text = any::<String>().prop_map(String::into_bytes);
        proptest::option::of(prop_oneof![plain, text, proptest::collection::vec(any::<u8>(), 0..20)])
    }

    proptest! {
        #[test]
        fn every_record_survives_the_round_trip(
            timestamp in proptest::option::of(-1..i64::MAX),
            key in bytes(),
            headers in proptest::collection::vec((bytes(), bytes()), 0..4),
            value in bytes(),
        ) {
            let mut records = Records::default();
            records.push(timestamp, key.map(Cow::Owned), value.map(Cow::Owned));
            for (name, value) in headers {
                records.header(Cow::Owned(name.unwrap_or_default()), value.map(Cow::Owned));
            }
            let mut out = Vec::new();
            write_line(&mut out, 42, timestamp, &records, records.get(0).unwrap());
            prop_assert_eq!(memchr::memchr_iter(b'\n', &out).count(), 1);
            let text = std::str::from_utf8(&out[..out.len() - 1]).unwrap();
            prop_assert!(!text.chars().any(|char| is_control(char) && char != '\t'));
            let (offset, fields) = split_offset(text.as_bytes()).unwrap();
            let mut back = Records::default();
            parse_fields(&mut back, fields).unwrap();
            prop_assert_eq!(offset, 42);
            let mut value = Vec::new();
            split_fields(fields).unwrap().value.append_to(&mut value).unwrap();
            prop_assert_eq!(back.get(0).unwrap().value.clone().unwrap_or_default(), value);
            prop_assert_eq!(back, records);
        }
    }
}

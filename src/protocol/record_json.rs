//! Records as JSON, one object on each line: what `consumer --json` and the API write, `producer --json` and the API read back
//! exactly.
//!
//! ```text
//! {"topic":"t","partition":0,"offset":7,"timestamp":1700000000000,"key":"k","headers":[["a","1"]],"value":"hi"}
//! ```
//!
//! - Bytes that are not UTF-8 are written as base64: `key_base64`, `value_base64`, and in headers `{"base64":"AP8="}`.
//! - A null key, value or header value is `null`. A value of `null` is a tombstone.
//! - When reading, `topic` and `offset` are ignored: a record does not decide where it goes. Any other name is an error.
//! - What is read is never nested deeper than a record is, and takes no more memory than a few times its text.

use crate::log::{
    Line,
    record::{Decoded, Header, Malformed, shown, write_i64, write_u64},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_core::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
};
use std::{borrow::Cow, fmt};

/// A record as an object shows it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// The offset in it.
    pub offset: u64,
    /// Milliseconds since 1970-01-01 UTC; -1: none.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: &'a [Header<'a>],
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

/// Appends a record as one object, without a line end.
pub fn write(out: &mut Vec<u8>, record: &Shown<'_>) {
    out.extend_from_slice(b"{\"topic\":");
    write_text(out, record.topic);
    out.extend_from_slice(b",\"partition\":");
    write_u64(out, record.partition.into());
    out.extend_from_slice(b",\"offset\":");
    write_u64(out, record.offset);
    out.extend_from_slice(b",\"timestamp\":");
    write_i64(out, record.timestamp);
    write_member(out, "key", record.key);
    if !record.headers.is_empty() {
        out.extend_from_slice(b",\"headers\":");
        write_headers(out, record.headers);
    }
    write_member(out, "value", record.value);
    out.push(b'}');
}

/// Appends the record of a log's line as one object, without a line end.
pub fn write_line(out: &mut Vec<u8>, topic: &str, partition: u32, line: &Line<'_>) -> Result<(), Malformed> {
    let Decoded { key, headers, value } = line.split()?.decode()?;
    let (key, value) = (key.as_deref(), value.as_deref());
    let Line { offset, timestamp, .. } = *line;
    write(out, &Shown { topic, partition, offset, timestamp, key, headers: &headers, value });
    Ok(())
}

/// Appends headers as an array of pairs.
pub fn write_headers(out: &mut Vec<u8>, headers: &[Header<'_>]) {
    for (index, (name, value)) in headers.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"[[" } else { b",[" });
        write_word(out, name);
        out.push(b',');
        match value {
            None => out.extend_from_slice(b"null"),
            Some(value) => write_word(out, value),
        }
        out.push(b']');
    }
    out.extend_from_slice(if headers.is_empty() { b"[]" } else { b"]" });
}

/// `,"name":"text"`, or with bytes that are no text `,"name_base64":"AP8="`.
fn write_member(out: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => out.extend_from_slice(b"\":null"),
        Some(Ok(text)) => {
            out.extend_from_slice(b"\":");
            write_text(out, text);
        }
        Some(Err(bytes)) => {
            out.extend_from_slice(b"_base64\":");
            write_base64(out, bytes);
        }
    }
}

/// A name or a value of a header.
fn write_word(out: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => write_text(out, text),
        Err(_) => {
            out.extend_from_slice(b"{\"base64\":");
            write_base64(out, bytes);
            out.push(b'}');
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a vector takes every text");
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let at = out.len();
    out.resize(at + bytes.len().div_ceil(3) * 4, 0);
    BASE64.encode_slice(bytes, &mut out[at..]).expect("four bytes for each three");
    out.push(b'"');
}

/// A record that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The partition, if it names one.
    pub partition: Option<u32>,
    /// Milliseconds since 1970-01-01 UTC; `None`: it is to have the time at which it is stored.
    pub timestamp: Option<i64>,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<Header<'static>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Reads a record. An error is a sentence for the author of the object.
pub fn read(text: &[u8]) -> Result<Record, String> {
    let mut reader = Reader::default();
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = reader.deserialize(&mut json).and_then(|record| json.end().map(|()| record));
    read.map_err(|error| match reader {
        Reader { why: Some(why), .. } => why,
        Reader { member: Some(name), .. } if error.is_data() => {
            format!("'{name}' is not what it should be; `consumer --json` shows how it is written")
        }
        _ => format!("no JSON object: {error}"),
    })
}

/// What a record can have.
const MEMBERS: [&str; 9] =
    ["key", "value", "key_base64", "value_base64", "headers", "timestamp", "partition", "topic", "offset"];

/// Reads an object and remembers what was wrong with it.
#[derive(Default)]
struct Reader {
    /// The member that is being read.
    member: Option<&'static str>,
    why: Option<String>,
}

impl Reader {
    fn refuse<E: Error>(&mut self, why: impl Into<String>) -> E {
        let why = why.into();
        let error = E::custom(&why);
        self.why = Some(why);
        error
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reader {
    type Value = Record;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Record, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Reader {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that is a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Record, A::Error> {
        let mut record = Record::default();
        let mut has_value = false;
        while let Some(name) = members.next_key::<String>()? {
            self.member = MEMBERS.into_iter().find(|member| *member == name);
            let Some(member) = self.member else {
                let (known, name) = (MEMBERS[..7].join(", "), shown(name.as_bytes()));
                let what =
                    format!("'{name}' is no part of a record; there are {known} (topic and offset are read over)");
                return Err(self.refuse(what));
            };
            match member {
                "key" | "key_base64" if record.key.is_some() => return Err(self.refuse("the key stands twice")),
                "value" | "value_base64" if has_value => return Err(self.refuse("the value stands twice")),
                "partition" => record.partition = members.next_value()?,
                "timestamp" => record.timestamp = members.next_value()?,
                "key" => record.key = members.next_value::<Option<String>>()?.map(String::into_bytes),
                "key_base64" => record.key = members.next_value::<Option<Base64>>()?.map(|Base64(bytes)| bytes),
                "headers" => record.headers = members.next_value::<Option<Vec<_>>>()?.map_or(Vec::new(), headers),
                "value" => record.value = members.next_value::<Option<String>>()?.map(String::into_bytes),
                "value_base64" => record.value = members.next_value::<Option<Base64>>()?.map(|Base64(bytes)| bytes),
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
            has_value |= member.starts_with("value");
        }
        self.member = None;
        if has_value { Ok(record) } else { Err(self.refuse("the value is missing; a tombstone is \"value\":null")) }
    }
}

fn headers(pairs: Vec<(Word, Option<Word>)>) -> Vec<Header<'static>> {
    let pairs = pairs.into_iter();
    pairs.map(|(Word(name), value)| (Cow::Owned(name), value.map(|Word(value)| Cow::Owned(value)))).collect()
}

/// Bytes in base64.
struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Base64, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text).map(Base64).map_err(D::Error::custom)
    }
}

/// A name or a value of a header: text, or `{"base64":"AP8="}`.
struct Word(Vec<u8>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Word, D::Error> {
        from.deserialize_any(WordVisitor)
    }
}

struct WordVisitor;

impl<'de> Visitor<'de> for WordVisitor {
    type Value = Word;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, or an object with base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
        Ok(Word(text.as_bytes().to_vec()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Word, A::Error> {
        let word = match members.next_key::<String>()?.as_deref() {
            Some("base64") => members.next_value::<Base64>()?,
            _ => return Err(A::Error::custom("an object here has base64 and nothing else")),
        };
        match members.next_key::<String>()? {
            None => Ok(Word(word.0)),
            Some(_) => Err(A::Error::custom("an object here has base64 and nothing else")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Lines, batches::Flags};
    use proptest::prelude::*;

    fn object(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> String {
        let mut out = Vec::new();
        write(&mut out, &Shown { topic: "t", partition: 2, offset: 7, timestamp: 9, key, headers, value });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_text_and_bytes_are_base64() {
        let start = r#"{"topic":"t","partition":2,"offset":7,"timestamp":9,"#;
        let headers: &[Header<'_>] =
            &[(b"a".into(), Some(b"1".into())), (b"a".into(), None), (b"a".into(), Some([0, 255].as_slice().into()))];
        assert_eq!(
            object(Some(b"k"), Some(b"hi\n"), headers),
            start.to_string() + r#""key":"k","headers":[["a","1"],["a",null],["a",{"base64":"AP8="}]],"value":"hi\n"}"#
        );
        assert_eq!(
            object(Some(b"\x00\xff"), Some(b"\x00\xff"), &[]),
            start.to_string() + r#""key_base64":"AP8=","value_base64":"AP8="}"#
        );
        assert_eq!(object(None, None, &[]), start.to_string() + r#""key":null,"value":null}"#);
    }

    #[test]
    fn a_line_of_the_log_is_shown_as_its_record() {
        let line = |text: &'static [u8]| Lines::new(text, 9, Flags::NONE).next().unwrap().unwrap();
        let shown = |text| {
            let mut out = Vec::new();
            write_line(&mut out, "t", 2, &line(text)).map(|()| String::from_utf8(out).unwrap())
        };
        assert_eq!(
            shown(b"offset:7 timestamp:8 key:a\\x20b header.n header.\\x3a:\\xff escaped:x\\ny\n").unwrap(),
            r#"{"topic":"t","partition":2,"offset":7,"timestamp":8,"key":"a b","headers":[["n",null],[":",{"base64":"/w=="}]],"value":"x\ny"}"#
        );
        assert_eq!(
            shown(b"offset:7 tombstone\n").unwrap(),
            r#"{"topic":"t","partition":2,"offset":7,"timestamp":9,"key":null,"value":null}"#
        );
        assert!(shown(b"offset:7 base64:?\n").is_err());
    }

    #[test]
    fn what_is_no_record_says_why() {
        for (line, why) in [
            ("hello", "no JSON object"),
            ("[]", "no JSON object"),
            ("{}", "the value is missing"),
            (r#"{"value":"a","value_base64":"AP8="}"#, "the value stands twice"),
            (r#"{"key":"a","key_base64":"AP8=","value":null}"#, "the key stands twice"),
            (r#"{"value":1}"#, "'value' is not what it should be"),
            (r#"{"value":"a","key_base64":"?"}"#, "'key_base64' is not what"),
            (r#"{"value":"a","headers":[["a"]]}"#, "'headers' is not what"),
            (r#"{"value":"a","partition":-1}"#, "'partition' is not what"),
            (r#"{"value":"a","timestamp":"now"}"#, "'timestamp' is not what"),
            (r#"{"value":"a","headers":[["a",{"base64":"?"}]]}"#, "'headers' is not what"),
            (r#"{"value":"a","headers":[["a",{"base64":"","b":1}]]}"#, "'headers' is not what"),
            (r#"{"value":"a","vaule":"a"}"#, "'vaule' is no part of a record"),
            (r#"{"value":"a"} {"value":"b"}"#, "no JSON object: trailing"),
            (r#"{"value":"a"#, "no JSON object: EOF"),
            (r#"{"value":"a","key":tru}"#, "no JSON object: expected"),
        ] {
            let error = read(line.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    fn any_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
        let text = any::<String>().prop_map(String::into_bytes);
        proptest::option::of(prop_oneof![text, proptest::collection::vec(any::<u8>(), 0..20)])
    }

    proptest! {
        #[test]
        fn every_message_is_read_back_as_it_was(
            key in any_bytes(),
            value in any_bytes(),
            headers in proptest::collection::vec((any_bytes(), any_bytes()), 0..4),
        ) {
            let headers = headers.into_iter().map(|(name, value)| (name.unwrap_or_default().into(), value.map(Into::into)));
            let headers: Vec<Header<'static>> = headers.collect();
            let text = object(key.as_deref(), value.as_deref(), &headers);
            let expected = Record { value: value.clone(), key: key.clone(), headers, timestamp: Some(9), partition: Some(2) };
            prop_assert_eq!(read(text.as_bytes()), Ok(expected));
        }
    }

    /// A tree of values took 40 times as much memory as its text, and more stack than a connection has.
    #[test]
    fn what_is_nested_deep_is_refused_or_read_over_without_a_stack() {
        let deep = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
        let read = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
            let at = |name: &str| read(format!("{{\"{name}\":{deep},\"value\":null}}").as_bytes());
            assert_eq!(at("topic"), Ok(Record::default()));
            ["key", "value", "headers", "timestamp", "a"].iter().for_each(|name| drop(at(name).unwrap_err()));
        });
        read.unwrap().join().unwrap();
    }
}

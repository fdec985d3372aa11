//! Records to send, messages that were read, and acknowledgements. They own their bytes, so they outlive every buffer.

use super::Error;
use crate::{
    broker::Isolation,
    log::{
        Line,
        record::{Decoded, Malformed, is_marker, split_fields, write_fields, write_u64},
    },
};
use std::{borrow::Cow, fmt, sync::Arc};

/// A header: its name, and its value (`None` is null).
pub type Header = crate::log::record::Header<'static>;

/// A record on its way to a broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The key; `None` is null, which is not the same as empty.
    pub key: Option<Vec<u8>>,
    /// The headers, in order; names may repeat.
    pub headers: Vec<Header>,
    /// Milliseconds since 1970-01-01 UTC; `None` takes the broker's clock.
    pub timestamp: Option<i64>,
    /// The partition; `None` lets the broker choose by key, or spread what has none.
    pub partition: Option<u32>,
}

impl Record {
    /// A record of a value.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Record { value: Some(value.into()), ..Record::default() }
    }

    /// A record without a value: in a compacted topic it deletes its key.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Self {
        Record::default().key(key)
    }

    /// With a key: records of one key are in one partition, in order.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With one more header.
    pub fn header(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into().into(), Some(value.into().into())));
        self
    }

    /// With a time of its own, in milliseconds since 1970-01-01 UTC.
    pub fn timestamp(mut self, ms: i64) -> Self {
        self.timestamp = Some(ms);
        self
    }

    /// To this partition.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Appends the line that sends it to `topic`.
    pub(super) fn write_send(&self, out: &mut Vec<u8>, topic: &str) {
        out.extend_from_slice(b"SEND ");
        out.extend_from_slice(topic.as_bytes());
        if let Some(partition) = self.partition {
            out.push(b'/');
            write_u64(out, partition.into());
        }
        out.push(b' ');
        self.write_line(out);
    }

    /// Appends the line that sends it to `topic` under a number.
    pub(super) fn write_numbered(&self, out: &mut Vec<u8>, topic: &str, number: Number) {
        number.write_send(out, topic);
        self.write_line(out);
    }

    fn write_line(&self, out: &mut Vec<u8>) {
        write_fields(out, self.timestamp, self.key.as_deref(), &self.headers, self.value.as_deref());
        out.push(b'\n');
    }
}

impl From<&str> for Record {
    fn from(value: &str) -> Self {
        Record::new(value)
    }
}

/// Key and value.
impl<K: Into<Vec<u8>>, V: Into<Vec<u8>>> From<(K, V)> for Record {
    fn from((key, value): (K, V)) -> Self {
        Record::new(value).key(key)
    }
}

/// A record's number among those that its producer sends to a partition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number {
    pub(super) partition: u32,
    pub(super) sequence: u32,
}

impl Number {
    /// Appends the begin of the line, up to the record's fields.
    pub(super) fn write_send(self, out: &mut Vec<u8>, topic: &str) {
        out.extend_from_slice(b"SEND ");
        out.extend_from_slice(topic.as_bytes());
        out.push(b'/');
        write_u64(out, self.partition.into());
        out.extend_from_slice(b" sequence:");
        write_u64(out, self.sequence.into());
        out.push(b' ');
    }
}

/// Where a record was stored. `Display` has the words of the text protocol.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ack {
    /// The partition.
    pub partition: u32,
    /// The offset in it; `None` where the record was sent a second time, because the first answer was lost, and the broker knows only
    /// that it is stored.
    pub offset: Option<u64>,
}

impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition:{} offset:", self.partition)?;
        match self.offset {
            Some(offset) => offset.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The offset in it.
    pub offset: u64,
    /// Milliseconds since 1970-01-01 UTC; -1, from Kafka clients only, means none.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<Header>,
}

impl Message {
    /// The message of one record, whose line has these fields.
    pub(super) fn read(
        topic: &Arc<str>,
        partition: u32,
        offset: u64,
        timestamp: i64,
        fields: &[u8],
    ) -> Result<Message, Error> {
        let Decoded { key, headers, value } =
            split_fields(fields).and_then(|fields| fields.decode()).map_err(unreadable)?;
        let owned = |word: Cow<'_, [u8]>| word.into_owned().into();
        Ok(Message {
            topic: topic.clone(),
            partition,
            offset,
            timestamp,
            key: key.map(Cow::into_owned),
            value: value.map(Cow::into_owned),
            headers: headers.into_iter().map(|(name, value)| (owned(name), value.map(owned))).collect(),
        })
    }
}

fn unreadable(why: Malformed) -> Error {
    Error::Answer(why.0)
}

/// Appends the messages of a batch's lines.
pub(super) fn read_lines<'l>(
    topic: &Arc<str>,
    partition: u32,
    lines: impl Iterator<Item = Result<Line<'l>, Malformed>>,
    messages: &mut Vec<Message>,
) -> Result<(), Error> {
    for line in lines {
        let line = line.map_err(unreadable)?;
        // Who reads what is not committed gets the markers too, which are no messages.
        if is_marker(line.fields) {
            continue;
        }
        messages.push(Message::read(topic, partition, line.offset, line.timestamp, line.fields)?);
    }
    Ok(())
}

/// The last word of a line that reads, where it is not what the broker does unasked.
pub(super) fn isolation_word(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::ReadCommitted => "",
        Isolation::ReadUncommitted => " isolation:read_uncommitted",
    }
}

/// Refuses what is no topic's name, before it becomes a word of a line.
pub(crate) fn check_topic(topic: &str) -> Result<(), Error> {
    crate::broker::check_name(topic).map_err(|error| Error::Invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line() {
        let mut out = Vec::new();
        Record::new("hi").write_send(&mut out, "t");
        Record::new("a\nb").key("k 1").header("n", "v").timestamp(7).partition(2).write_send(&mut out, "t");
        Record::tombstone("k").write_send(&mut out, "t");
        let lines =
            "SEND t message:hi\nSEND t/2 timestamp:7 key:k\\x201 header.n:v escaped:a\\nb\nSEND t key:k tombstone\n";
        assert_eq!(String::from_utf8(out).unwrap(), lines);
    }

    #[test]
    fn a_topic_is_one_word() {
        assert!(check_topic("a.b_c-1").is_ok());
        for bad in ["", "a b", "a/0", "a\nQUIT", "ä", &"x".repeat(250)] {
            assert!(matches!(check_topic(bad), Err(Error::Invalid(_))), "{bad}");
        }
    }
}

//! What a broker answers: lines of fields `name:value`, or an `ERROR`.

use crate::{
    broker,
    log::record::{parse_u63, split_word, write_visible},
    protocol::text::Refusal,
};
use std::fmt;

/// Kafka's name for what is not there.
pub(super) const UNKNOWN_TOPIC: &str = "UNKNOWN_TOPIC_OR_PARTITION";

/// Kafka's name for a producer that the broker does not know,
pub(super) const UNKNOWN_PRODUCER: &str = "UNKNOWN_PRODUCER_ID";

/// and for one whose record is not the next.
pub(super) const OUT_OF_ORDER: &str = "OUT_OF_ORDER_SEQUENCE_NUMBER";

/// Kafka's name for a transactional id whose last transaction is still being ended.
pub(super) const CONCURRENT: &str = "CONCURRENT_TRANSACTIONS";

/// What a broker answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The first line, or the only one.
    pub first: String,
    /// The lines that its `count:` announced.
    pub lines: Vec<String>,
}

/// A broker's `ERROR <code> [fields] <sentence>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Kafka's name of the error, or `INVALID_REQUEST`.
    pub code: String,
    /// Fields, if any, and the sentence for a person.
    pub sentence: String,
}

impl Refused {
    /// Reads an answer's line, if it is an `ERROR`.
    pub(super) fn parse(line: &[u8]) -> Option<Refused> {
        let mut text = Vec::new();
        write_visible(&mut text, line.strip_prefix(b"ERROR ")?);
        let text = String::from_utf8(text).expect("visible text is UTF-8");
        let (code, sentence) = text.split_once(' ').unwrap_or((&text, ""));
        Some(Refused { code: code.into(), sentence: sentence.into() })
    }

    /// Whether nobody was let in: the broker asks who one is, and this was not said, or not rightly.
    pub fn is_login(&self) -> bool {
        self.code == "SASL_AUTHENTICATION_FAILED"
    }

    /// A number among the fields in front of the sentence, such as `first:3`.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        field(self.sentence.as_bytes(), name).and_then(parse_u63)
    }
}

/// A broker in this process refuses in the words of the text protocol.
impl From<broker::Error> for Refused {
    fn from(error: broker::Error) -> Refused {
        let Refusal { code, text } = error.into();
        Refused { code: code.name().into(), sentence: text }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR {} {}", self.code, self.sentence)
    }
}

/// The value of the word `name:value` of a line.
///
/// ```
/// use plainlog::client::field;
/// assert_eq!(field(b"OK topic:a partitions:3", "partitions"), Some(b"3".as_slice()));
/// ```
pub fn field<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = Some(line);
    while let Some(text) = rest {
        let (word, tail) = split_word(text);
        if let Some(value) = word.strip_prefix(name.as_bytes()).and_then(|value| value.strip_prefix(b":")) {
            return Some(value);
        }
        rest = tail;
    }
    None
}

/// How many lines follow: an answer of several lines says so in its second word. (A message may contain `count:9`.)
pub(super) fn line_count(first: &[u8]) -> u64 {
    let second = split_word(first).1.map(|rest| split_word(rest).0);
    second.and_then(|word| word.strip_prefix(b"count:")).and_then(parse_u63).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_line_gives_code_fields_and_sentence() {
        let refused = Refused::parse(b"ERROR OFFSET_OUT_OF_RANGE first:3 end:9 offset 1 is gone; try 3").unwrap();
        assert_eq!(refused.code, "OFFSET_OUT_OF_RANGE");
        assert_eq!((refused.number("first"), refused.number("end"), refused.number("next")), (Some(3), Some(9), None));
        assert_eq!(refused.to_string(), "ERROR OFFSET_OUT_OF_RANGE first:3 end:9 offset 1 is gone; try 3");
        assert_eq!(Refused::parse(b"ACK offset:1"), None);
    }

    #[test]
    fn only_the_second_word_counts_lines() {
        assert_eq!(line_count(b"TOPICS count:2"), 2);
        assert_eq!(line_count(b"TOPIC count:1 topic:a"), 1);
        assert_eq!(line_count(b"MESSAGE offset:0 count:5"), 0);
        assert_eq!(line_count(b"PONG"), 0);
    }

    #[test]
    fn a_sentence_steers_no_terminal() {
        assert_eq!(Refused::parse(b"ERROR X \x1b[2J").unwrap().sentence, "\\x1b[2J");
    }
}

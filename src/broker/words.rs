//! Lines of words, `state:empty producer_id:1000 groups:a,b`: the form in which the broker's own logs have what is no record of a
//! client's.
//!
//! Words have one space between them, a name up to the colon, and are escaped where they have to be. They stand in a fixed
//! order, so they are asked for one after the other, by name.

use crate::log::record::{parse_u63, unescape, write_u64, write_word};
use std::{iter::Peekable, str::Split};

/// The longest string of a line, such as the name of a group or a transactional id: the longest that Kafka's protocol can tell.
pub(super) const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Appends a word. The name has its colon.
pub(super) fn push(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    line.extend_from_slice(if line.is_empty() { b"" } else { b" " });
    line.extend_from_slice(name.as_bytes());
    write_word(line, value);
}

/// Appends a word that is a number.
pub(super) fn push_number(line: &mut Vec<u8>, name: &str, number: u64) {
    push(line, name, b"");
    write_u64(line, number);
}

/// The words of a line, which are asked for by name.
pub(super) struct Words<'a>(Peekable<Split<'a, char>>);

impl<'a> Words<'a> {
    pub(super) fn of(line: &'a [u8]) -> Option<Words<'a>> {
        Some(Words(std::str::from_utf8(line).ok()?.split(' ').peekable()))
    }

    /// Whether no word is left.
    pub(super) fn are_over(&mut self) -> bool {
        self.0.peek().is_none()
    }

    pub(super) fn is_next(&mut self, name: &str) -> bool {
        self.0.peek().is_some_and(|word| word.starts_with(name))
    }

    /// The value of the next word, as it stands there, if it has this name.
    pub(super) fn word(&mut self, name: &str) -> Option<&'a str> {
        Some(&self.0.next_if(|word| word.starts_with(name))?[name.len()..])
    }

    pub(super) fn bytes(&mut self, name: &str) -> Option<Vec<u8>> {
        Some(unescape(self.word(name)?.as_bytes()).ok()?.into_owned())
    }

    pub(super) fn string(&mut self, name: &str) -> Option<String> {
        String::from_utf8(self.bytes(name)?).ok().filter(|string| string.len() <= STRING_BYTES_MAX)
    }

    pub(super) fn number(&mut self, name: &str) -> Option<u64> {
        parse_u63(self.word(name)?.as_bytes())
    }

    /// A time in ms, as long as Kafka's protocol can tell.
    pub(super) fn timeout_ms(&mut self, name: &str) -> Option<u64> {
        self.number(name).filter(|&ms| ms <= i32::MAX as u64)
    }

    /// `Some(None)`: the word is not there.
    pub(super) fn optional(&mut self, name: &str) -> Option<Option<String>> {
        if self.is_next(name) { self.string(name).map(Some) } else { Some(None) }
    }

    /// `Some(None)`: the word is not there.
    pub(super) fn optional_number(&mut self, name: &str) -> Option<Option<u64>> {
        if self.is_next(name) { self.number(name).map(Some) } else { Some(None) }
    }

    /// Whether the word is there, which has this value or stands nowhere.
    pub(super) fn flag(&mut self, name: &str, value: &str) -> Option<bool> {
        match self.word(name) {
            None => Some(false),
            Some(word) => (word == value).then_some(true),
        }
    }

    /// The parts of a list, as they stand there; a list that is not there has none.
    pub(super) fn list(&mut self, name: &str) -> Vec<&'a str> {
        self.word(name).map_or(vec![], |list| list.split(',').collect())
    }
}

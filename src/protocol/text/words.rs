//! The words of a request line: separated by one space, named ones as `name:value`, none unknown, none twice.

use super::Refusal;
use crate::{
    broker::{self, Isolation, check_name},
    log::record::{self, parse_u63, shown, unescape},
};

/// The words of a line that are left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Words<'a> {
    /// The words of what follows a verb; `None`: nothing does.
    pub(super) fn new(rest: Option<&'a [u8]>) -> Words<'a> {
        Words { rest }
    }

    /// The next word, if there is one.
    pub(super) fn next(&mut self) -> Option<&'a [u8]> {
        let (word, rest) = record::split_word(self.rest?);
        self.rest = rest;
        Some(word)
    }

    /// The next word, which must be there: `what` names it.
    pub(super) fn expect(&mut self, what: &str) -> Result<&'a [u8], Refusal> {
        let word = self.next().filter(|word| !word.is_empty());
        word.ok_or_else(|| Refusal::invalid(format!("{what} is missing")))
    }

    /// Everything that is left, to the end of the line.
    pub(super) fn rest(self) -> Option<&'a [u8]> {
        self.rest
    }

    /// Whether there is no word left, which the verb asks for.
    pub(super) fn end(mut self) -> Result<(), Refusal> {
        self.next().map_or(Ok(()), |word| Err(Refusal::invalid(format!("'{}' is one word too many", shown(word)))))
    }

    /// What is left as named words, each of `names` at most once: their values in the order of `names`.
    pub(super) fn named<const N: usize>(mut self, names: [&str; N]) -> Result<[Option<&'a [u8]>; N], Refusal> {
        let mut values = [None; N];
        while let Some(word) = self.next() {
            let colon = memchr::memchr(b':', word);
            let at = colon.and_then(|colon| names.iter().position(|name| name.as_bytes() == &word[..colon]));
            let (Some(colon), Some(at)) = (colon, at) else {
                let known = names.map(|name| format!("{name}:")).join(" ");
                let known = if N == 0 { "no more words".into() } else { known };
                return Err(Refusal::invalid(format!("this verb does not take '{}'; it takes {known}", shown(word))));
            };
            if values[at].replace(&word[colon + 1..]).is_some() {
                return Err(Refusal::invalid(format!("{}: is given twice", names[at])));
            }
        }
        Ok(values)
    }
}

/// A decimal number from 0 to 2^63-1, by the name of its word.
pub(super) fn number(name: &str, digits: &[u8]) -> Result<u64, Refusal> {
    let why = || Refusal::invalid(format!("{name} '{}' is no number from 0 to 2^63-1", shown(digits)));
    parse_u63(digits).ok_or_else(why)
}

/// A number with a default.
pub(super) fn number_or(name: &str, digits: Option<&[u8]>, default: u64) -> Result<u64, Refusal> {
    digits.map_or(Ok(default), |digits| number(name, digits))
}

/// A topic, and a partition if the word has one: `orders` or `orders/2`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place<'a> {
    /// The topic's name, which is a legal one.
    pub(super) topic: &'a str,
    /// The partition's number.
    pub(super) partition: Option<u32>,
}

impl<'a> Place<'a> {
    /// Reads `<topic>[/<p>]`.
    pub(super) fn parse(word: &'a [u8]) -> Result<Place<'a>, Refusal> {
        let slash = memchr::memchr(b'/', word);
        let topic = topic_name(&word[..slash.unwrap_or(word.len())])?;
        let partition = slash.map(|slash| {
            let digits = &word[slash + 1..];
            let number = parse_u63(digits).and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| Refusal::invalid(format!("'{}' is not a partition number", shown(digits))))
        });
        Ok(Place { topic, partition: partition.transpose()? })
    }
}

/// A topic's name, checked.
pub(super) fn topic_name(word: &[u8]) -> Result<&str, Refusal> {
    match std::str::from_utf8(word) {
        Ok(name) => Ok(check_name(name).map(|()| name)?),
        Err(_) => {
            Err(broker::Error::InvalidTopic(format!("'{}' is not a topic name: it is not UTF-8", shown(word))).into())
        }
    }
}

/// A group's name: a word, escaped.
pub(super) fn group_name(word: &[u8]) -> Result<String, Refusal> {
    let name = String::from_utf8(unescape(word)?.into_owned());
    name.map_err(|_| {
        broker::Error::InvalidGroup(format!("'{}' is not a group name: it is not UTF-8", shown(word))).into()
    })
}

/// A text by the name of its word, escaped.
#[cfg(feature = "users")]
pub(super) fn text(name: &str, word: &[u8]) -> Result<String, Refusal> {
    let text = String::from_utf8(unescape(word)?.into_owned());
    text.map_err(|_| Refusal::invalid(format!("{name}: '{}' is not UTF-8", shown(word))))
}

pub(super) use crate::broker::Position;

impl Position {
    /// Reads `N`, `-N`, `earliest`, `latest` or `time:<ms>`.
    pub(super) fn parse(word: &[u8]) -> Result<Position, Refusal> {
        let parsed = match word {
            b"earliest" => Some(Position::Earliest),
            b"latest" => Some(Position::Latest),
            [b'-', digits @ ..] => parse_u63(digits).map(Position::BeforeEnd),
            digits => match digits.strip_prefix(b"time:") {
                Some(digits) => parse_u63(digits).map(|time| Position::Time(time as i64)),
                None => parse_u63(digits).map(Position::At),
            },
        };
        let why = || format!("'{}' is no position; it is N, -N, earliest, latest or time:<ms>", shown(word));
        parsed.ok_or_else(|| Refusal::invalid(why()))
    }
}

/// Which records are read, by the word `isolation:`.
pub(super) fn isolation(word: Option<&[u8]>) -> Result<Isolation, Refusal> {
    let bad = || Refusal::invalid("isolation: can be 'read_committed' or 'read_uncommitted'");
    word.map_or(Ok(Isolation::ReadCommitted), |word| Isolation::named(word).ok_or_else(bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_words_are_known_and_stand_once() {
        let named = |text: &'static str| Words::new(Some(text.as_bytes())).named(["wait", "max"]);
        assert_eq!(named("max:2 wait:1").unwrap(), [Some(b"1".as_slice()), Some(b"2".as_slice())]);
        assert!(named("max:1 max:2").unwrap_err().text.contains("is given twice"));
        assert!(named("maxi:1").unwrap_err().text.contains("it takes wait: max:"));
        assert!(named("max").unwrap_err().text.contains("does not take 'max'"));
        assert!(named("max:1  wait:1").unwrap_err().text.contains("does not take ''"));
    }

    #[test]
    fn places_and_positions() {
        assert_eq!(Place::parse(b"a.b/12").unwrap(), Place { topic: "a.b", partition: Some(12) });
        assert_eq!(Place::parse(b"a").unwrap(), Place { topic: "a", partition: None });
        for bad in ["", ".", "a b", "a/", "a/-1", "a/4294967296", "a/1/2", "\u{e9}"] {
            assert!(Place::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(Position::parse(b"-5").unwrap(), Position::BeforeEnd(5));
        assert_eq!(Position::parse(b"time:5").unwrap(), Position::Time(5));
        for bad in ["", "-", "--1", "time:", "Latest", "1x", "9223372036854775808"] {
            assert!(Position::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

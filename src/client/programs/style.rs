//! How a message is printed.
//!
//! ```text
//! Consumed   Consumed: hello (offset: 0)
//! Raw        hello                                    and a delimiter
//! Format     whatever kcat's tokens make of it        %t %p %o %k %s %h %T %S %K, and \n \t \xHH
//! Json       {"topic":"messages","partition":0,...}
//! ```
//!
//! On a terminal, control characters in keys, values and headers are shown escaped, so that a message cannot steer it. `Raw`
//! is an exception: it prints the bytes as they are. `Json` always escapes.

#[cfg(feature = "comfort")]
use crate::protocol::record_json::{self, Shown};
use crate::{
    client::{Header, Message},
    log::record::{write_i64, write_u64, write_visible},
};

/// What is printed of each message.
#[derive(Clone, Debug, PartialEq)]
pub enum Style {
    /// `Consumed: hello (offset: 0)`.
    Consumed,
    /// The value, then these bytes.
    Raw(Vec<u8>),
    /// As a format says.
    Format(Format),
    /// An object a line.
    #[cfg(feature = "comfort")]
    Json,
}

/// Where a message is printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// To a terminal: control characters are shown.
    pub terminal: bool,
    /// Messages of several partitions are printed: each names its own.
    pub several_partitions: bool,
}

impl Style {
    /// An object a line; a build without the feature `comfort` says so.
    pub fn json() -> Result<Style, String> {
        #[cfg(feature = "comfort")]
        return Ok(Style::Json);
        #[cfg(not(feature = "comfort"))]
        Err(super::intake::NO_JSON.into())
    }

    /// Appends a message.
    pub fn write(&self, out: &mut Vec<u8>, message: &Message, place: Place) {
        match self {
            Style::Consumed => consumed(out, message, place),
            Style::Raw(delimiter) => {
                out.extend_from_slice(message.value.as_deref().unwrap_or_default());
                out.extend_from_slice(delimiter);
            }
            Style::Format(format) => format.write(out, message, place.terminal),
            #[cfg(feature = "comfort")]
            Style::Json => {
                let Message { topic, partition, offset, timestamp, key, value, headers } = message;
                let (key, value) = (key.as_deref(), value.as_deref());
                let (partition, offset, timestamp) = (*partition, *offset, *timestamp);
                record_json::write(out, &Shown { topic, partition, offset, timestamp, key, headers, value });
                out.push(b'\n');
            }
        }
    }
}

fn consumed(out: &mut Vec<u8>, message: &Message, place: Place) {
    out.extend_from_slice(b"Consumed: ");
    match &message.value {
        Some(value) => write_bytes(out, value, place.terminal),
        None => out.extend_from_slice(b"(tombstone)"),
    }
    out.extend_from_slice(b" (");
    if place.several_partitions {
        out.extend_from_slice(b"partition: ");
        write_u64(out, message.partition.into());
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(b"offset: ");
    write_u64(out, message.offset);
    out.extend_from_slice(b")\n");
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8], terminal: bool) {
    if terminal {
        write_visible(out, bytes);
    } else {
        out.extend_from_slice(bytes);
    }
}

/// A format with kcat's tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Format(Vec<Token>);

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Headers,
    Timestamp,
    ValueLength,
    KeyLength,
}

impl Format {
    /// Reads a format.
    pub fn parse(text: &str) -> Result<Format, String> {
        let mut tokens = Vec::new();
        let mut parts = text.split('%');
        tokens.push(Token::Text(unescaped(parts.next().unwrap_or_default())?));
        while let Some(part) = parts.next() {
            let Some(name) = part.chars().next() else {
                // `%%`: the next part follows a percent sign.
                let rest = parts.next().ok_or("a format cannot end in '%'; write %% for a percent sign")?;
                tokens.push(Token::Text([b"%".to_vec(), unescaped(rest)?].concat()));
                continue;
            };
            tokens.push(token(name)?);
            tokens.push(Token::Text(unescaped(&part[name.len_utf8()..])?));
        }
        Ok(Format(tokens))
    }

    fn write(&self, out: &mut Vec<u8>, message: &Message, terminal: bool) {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(-1, |bytes| bytes.len() as i64);
        for token in &self.0 {
            match token {
                Token::Text(text) => out.extend_from_slice(text),
                Token::Topic => out.extend_from_slice(message.topic.as_bytes()),
                Token::Partition => write_u64(out, message.partition.into()),
                Token::Offset => write_u64(out, message.offset),
                Token::Key => write_bytes(out, message.key.as_deref().unwrap_or_default(), terminal),
                Token::Value => write_bytes(out, message.value.as_deref().unwrap_or_default(), terminal),
                Token::Headers => write_headers(out, &message.headers, terminal),
                Token::Timestamp => write_i64(out, message.timestamp),
                Token::ValueLength => write_i64(out, length(&message.value)),
                Token::KeyLength => write_i64(out, length(&message.key)),
            }
        }
    }
}

/// `a=1,b=2`; a null value is `NULL`.
fn write_headers(out: &mut Vec<u8>, headers: &[Header], terminal: bool) {
    for (nth, (name, value)) in headers.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_bytes(out, name, terminal);
        out.push(b'=');
        write_bytes(out, value.as_deref().unwrap_or(b"NULL"), terminal);
    }
}

fn token(name: char) -> Result<Token, String> {
    Ok(match name {
        't' => Token::Topic,
        'p' => Token::Partition,
        'o' => Token::Offset,
        'k' => Token::Key,
        's' => Token::Value,
        'h' => Token::Headers,
        'T' => Token::Timestamp,
        'S' => Token::ValueLength,
        'K' => Token::KeyLength,
        _ => return Err(format!("'%{name}' is no token; there are %t %p %o %k %s %h %T %S %K %%")),
    })
}

/// Text as typed on a command line: `\n \r \t \0 \\ \xHH` are bytes.
pub fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let (byte, used) = match escape.as_bytes() {
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [b'0', ..] => (0, 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (u8::from_str_radix(&escape[1..3], 16).expect("two hex digits"), 3)
            }
            _ => return Err(format!("'\\{escape}' begins with no escape; there are \\n \\r \\t \\0 \\\\ \\xHH")),
        };
        out.push(byte);
        rest = &escape[used..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// What separates messages: at least one byte.
pub fn delimiter(text: &str) -> Result<Vec<u8>, String> {
    let bytes = unescaped(text)?;
    if bytes.is_empty() { Err("it cannot be empty".into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Place = Place { terminal: false, several_partitions: false };
    const TERMINAL: Place = Place { terminal: true, several_partitions: true };

    fn message(value: Option<&str>) -> Message {
        Message {
            topic: "t".into(),
            partition: 2,
            offset: 7,
            timestamp: 9,
            key: Some(b"k".to_vec()),
            value: value.map(|value| value.as_bytes().to_vec()),
            headers: vec![(b"a".to_vec().into(), Some(b"1".to_vec().into())), (b"b".to_vec().into(), None)],
        }
    }

    fn printed(style: &Style, value: Option<&str>, place: Place) -> String {
        let mut out = Vec::new();
        style.write(&mut out, &message(value), place);
        String::from_utf8(out).unwrap()
    }

    fn formatted(format: &str, value: Option<&str>, place: Place) -> String {
        printed(&Style::Format(Format::parse(format).unwrap()), value, place)
    }

    #[test]
    fn the_partition_is_told_where_there_are_several() {
        assert_eq!(printed(&Style::Consumed, Some("hello"), FILE), "Consumed: hello (offset: 7)\n");
        assert_eq!(printed(&Style::Consumed, Some("hello"), TERMINAL), "Consumed: hello (partition: 2, offset: 7)\n");
        assert_eq!(printed(&Style::Consumed, None, FILE), "Consumed: (tombstone) (offset: 7)\n");
    }

    #[test]
    fn a_terminal_is_shown_control_characters_and_a_file_gets_them() {
        assert_eq!(printed(&Style::Consumed, Some("a\x1b[2J\n"), FILE), "Consumed: a\x1b[2J\n (offset: 7)\n");
        let shown = printed(&Style::Consumed, Some("a\x1b[2J\n"), TERMINAL);
        assert_eq!(shown, "Consumed: a\\x1b[2J\\n (partition: 2, offset: 7)\n");
        assert_eq!(formatted("%s", Some("\x07"), FILE), "\x07");
        assert_eq!(formatted("%s", Some("\x07"), TERMINAL), "\\x07");
    }

    #[test]
    fn raw_is_the_value_and_the_delimiter() {
        assert_eq!(printed(&Style::Raw(b"\0".to_vec()), Some("a\x1b"), TERMINAL), "a\x1b\0");
        assert_eq!(printed(&Style::Raw(b"\n".to_vec()), None, FILE), "\n");
    }

    #[test]
    fn tokens_are_those_of_kcat() {
        let all = "%t %p %o %k %s %h %T %S %K 100%%%%.\\n\\x41";
        assert_eq!(formatted(all, Some("hey"), FILE), "t 2 7 k hey a=1,b=NULL 9 3 1 100%%.\nA");
        assert_eq!(formatted("[%s] %S", None, FILE), "[] -1");
        assert_eq!(formatted("", None, FILE), "");
    }

    #[test]
    fn what_is_no_format_says_what_is() {
        for (format, why) in [
            ("%q", "'%q' is no token"),
            ("%", "cannot end in '%'"),
            ("a%%%", "cannot end in '%'"),
            ("\\q", "begins with no escape"),
            ("\\", "begins with no escape"),
            ("\\x4", "begins with no escape"),
            ("\\xää", "begins with no escape"),
        ] {
            let error = Format::parse(format).unwrap_err();
            assert!(error.contains(why), "{format}: {error}");
        }
        assert_eq!(delimiter("\\r\\n"), Ok(b"\r\n".to_vec()));
        assert!(delimiter("").is_err());
    }
}

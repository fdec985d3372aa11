//! Exchanges as JSON, for whoever looks at the wire: each message's bytes in hexadecimal, and its fields by position, name, type
//! and value.
//!
//! ```text
//! Kafka   the spans that its reader or writer noted; record batches are read on, by the codec's own reader
//! text    a line explains itself:   SEND │orders │key:user-1 │message:hello│LF
//!                                   verb │word   │key        │message      │end
//! ```
//!
//! Fields have no gap and no overlap. A message that was cut is explained as far as it is there.

#[cfg(feature = "kafka")]
use super::kafka::{batch, wire::Reader};
use crate::{
    broker::wire::{Exchange, Message},
    log::record::{split_word, unescape},
};
#[cfg(feature = "kafka")]
use crate::{
    broker::{
        random,
        spans::{Kind, Span, Spans},
    },
    log::record::write_visible,
};
use serde_json::{Map, Value, json};

/// A field as it is shown.
#[derive(Debug, PartialEq)]
struct Field {
    from: usize,
    to: usize,
    name: String,
    kind: &'static str,
    value: Value,
}

/// An exchange.
pub fn shown(exchange: &Exchange) -> Map<String, Value> {
    let Exchange { asker, version, time_ms, request, response, file, took } = exchange;
    let file = file.as_ref().map(|file| {
        json!({
            "path": file.path.display().to_string(),
            "from": file.positions.start,
            "to": file.positions.end,
            "text": String::from_utf8_lossy(&file.lines),
        })
    });
    let shown = json!({
        "time_ms": time_ms,
        "connection": asker.connection,
        "address": asker.address.to_string(),
        "client": asker.client,
        "protocol": if version.is_some() { "kafka" } else { "text" },
        "api": version.map_or(asker.api.to_string(), |version| format!("{} v{version}", asker.api)),
        "request": message(request, Side::Request),
        "response": message(response, Side::Response),
        "file": file,
        "took_us": took.as_micros() as u64,
    });
    match shown {
        Value::Object(members) => members,
        _ => unreachable!("it is an object"),
    }
}

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq)]
pub enum Side {
    /// From the client.
    Request,
    /// To it.
    Response,
}

/// A message.
pub fn message(message: &Message, side: Side) -> Value {
    let bytes = &message.bytes;
    let fields = match &message.spans {
        #[cfg(feature = "kafka")]
        Some(spans) => of_spans(spans, bytes),
        _ => of_lines(bytes, side),
    };
    let span = |field: &Field| {
        let Field { from, to, name, kind, value } = field;
        json!({ "from": from, "to": to, "name": name, "type": kind, "value": value })
    };
    json!({
        "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "length": message.length,
        "truncated": message.length > bytes.len(),
        "spans": fields.iter().map(span).collect::<Vec<_>>(),
    })
}

/// The fields that were noted, as far as the bytes go, and what is left.
#[cfg(feature = "kafka")]
fn of_spans(spans: &Spans, bytes: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    for span in spans.iter().take_while(|span| span.from < bytes.len()) {
        let path = spans.path(span);
        match span.kind {
            Kind::Records => of_records(&path, span, bytes, &mut fields),
            _ => fields.push(field(path, 0, span, bytes)),
        }
    }
    rest(bytes, &mut fields);
    fields
}

#[cfg(feature = "kafka")]
fn field(name: String, base: usize, span: &Span, bytes: &[u8]) -> Field {
    let (from, to) = (base + span.from, (base + span.to).min(bytes.len()));
    Field { from, to, name, kind: span.type_name(), value: value(span, &bytes[from..to]).unwrap_or_default() }
}

/// What no field is known of: the message was cut there, could not be read on, or has too many fields.
#[cfg(feature = "kafka")]
fn rest(bytes: &[u8], fields: &mut Vec<Field>) {
    let from = fields.last().map_or(0, |last| last.to);
    if from < bytes.len() {
        fields.push(Field { from, to: bytes.len(), name: "rest".into(), kind: "not read", value: Value::Null });
    }
}

/// The length of the records, then the fields of their batches.
#[cfg(feature = "kafka")]
fn of_records(path: &str, span: &Span, bytes: &[u8], fields: &mut Vec<Field>) {
    let whole = &bytes[span.from..span.to.min(bytes.len())];
    let mut r = Reader::new(whole, 0, span.compact);
    let length = match span.compact {
        true => r.uvarint().map(|length| i64::from(length) - 1),
        false => r.i32("length").map(i64::from),
    };
    let begin = span.from + whole.len() - r.rest().len();
    let value = length.map_or(Value::Null, |length| if length < 0 { Value::Null } else { length.into() });
    let of_length = Field { from: span.from, to: begin, name: path.into(), kind: span.type_name(), value };
    fields.extend((begin > span.from).then_some(of_length));
    let mut spans = Spans::new(usize::MAX);
    batch::explain(r.rest(), &mut spans);
    fields.extend(spans.iter().map(|inner| field(format!("{path}.{}", spans.path(inner)), begin, inner, bytes)));
    rest(&bytes[..span.from + whole.len()], fields);
}

/// What a field says; `None`: it was cut.
#[cfg(feature = "kafka")]
fn value(span: &Span, bytes: &[u8]) -> Option<Value> {
    let mut r = Reader::new(bytes, 0, span.compact);
    let name = span.name;
    Some(match span.kind {
        Kind::Boolean => r.bool(name).ok()?.into(),
        Kind::Int8 => r.i8(name).ok()?.into(),
        Kind::Int16 => r.i16(name).ok()?.into(),
        Kind::Int32 => r.i32(name).ok()?.into(),
        Kind::Int64 => r.i64(name).ok()?.into(),
        Kind::Uint16 => r.u16(name).ok()?.into(),
        Kind::Uint32 => r.u32(name).ok()?.into(),
        Kind::Float64 => r.f64(name).ok()?.into(),
        Kind::Uuid => random::shown(&r.uuid(name).ok()?).into(),
        Kind::UnsignedVarint | Kind::Tags => r.uvarint().ok()?.into(),
        Kind::Varint | Kind::Varlong => r.varlong().ok()?.into(),
        Kind::String | Kind::NullableString => r.nullable_string(name).ok()?.into(),
        Kind::Bytes => blob(r.bytes(name).ok()?),
        Kind::VarintBytes => match usize::try_from(r.varlong().ok()?) {
            Ok(length) => blob(r.rest().get(..length)?),
            Err(_) => Value::Null,
        },
        Kind::Array if span.compact => (i64::from(r.uvarint().ok()?) - 1).into(),
        Kind::Array => r.i32(name).ok()?.into(),
        Kind::Records | Kind::Compressed => bytes.len().into(),
        Kind::Unread => Value::Null,
    })
}

/// Bytes as text; what is none is escaped.
#[cfg(feature = "kafka")]
fn blob(bytes: &[u8]) -> Value {
    let mut visible = Vec::new();
    write_visible(&mut visible, bytes);
    String::from_utf8_lossy(&visible).into()
}

/// The words of lines; those of a message of several lines are named by their line, too.
fn of_lines(bytes: &[u8], side: Side) -> Vec<Field> {
    let mut fields = Vec::new();
    let many = memchr::memchr_iter(b'\n', bytes).nth(1).is_some();
    let mut at = 0;
    for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let first = fields.len();
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        of_line(text, at, side, &mut fields);
        let end = at + line.len();
        if text.len() < line.len() {
            fields.push(Field { from: at + text.len(), to: end, name: "end".into(), kind: "end", value: Value::Null });
        }
        for field in fields[first..].iter_mut().filter(|_| many) {
            field.name = format!("lines[{index}].{}", field.name);
        }
        at = end;
    }
    fields
}

/// A line, word by word. A word has the space behind it.
fn of_line(line: &[u8], base: usize, side: Side, fields: &mut Vec<Field>) {
    let (first, mut rest, mut nth) = (split_word(line).0.to_ascii_uppercase(), line, 0);
    while !rest.is_empty() {
        let (word, behind) = split_word(rest);
        let Word { kind, name, whole } = Word::of(word, nth, &first, side);
        let (taken, behind) = if whole { (rest, None) } else { (word, behind) };
        let said = if kind == "field" { &taken[name.len() + 1..] } else { taken };
        // A word is escaped; what goes to the end of the line is not.
        let said = if whole { said.into() } else { unescape(said).unwrap_or(said.into()) };
        let from = base + line.len() - rest.len();
        rest = behind.unwrap_or_default();
        let to = base + line.len() - rest.len();
        let value = String::from_utf8_lossy(&said).into();
        fields.push(Field { from, to, name: name.into(), kind, value });
        nth += 1;
    }
}

/// What a word of a line is.
struct Word<'w> {
    kind: &'static str,
    name: &'w str,
    /// Whether it goes to the end of the line.
    whole: bool,
}

impl<'w> Word<'w> {
    /// The `nth` word of a line whose first one is `first`.
    fn of(word: &'w [u8], nth: usize, first: &[u8], side: Side) -> Word<'w> {
        let of = |kind, name, whole| Word { kind, name, whole };
        match (side, first, nth) {
            (Side::Request, _, 0) => return of("verb", "verb", false),
            (Side::Response, _, 0) if is_answer(word) => return of("answer", "answer", false),
            (Side::Request, b"PRODUCE", _) | (Side::Response, b"MESSAGE", 2) => return of("message", "message", true),
            (Side::Response, b"ERROR", 1) => return of("word", "code", false),
            (Side::Response, b"ERROR", _) => return of("text", "why", true),
            _ => {}
        }
        match name_of(word) {
            Some(name) => of("field", name, name == "message"),
            None if nth == 0 => of("text", "text", true),
            None => of("word", "word", false),
        }
    }
}

/// Whether an answer begins with this word, and is no bare text.
fn is_answer(word: &[u8]) -> bool {
    word.len() > 1 && word.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_')
}

/// The name in `name:value`.
fn name_of(word: &[u8]) -> Option<&str> {
    let name = &word[..memchr::memchr(b':', word)?];
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-%\\".contains(byte);
    let is_name = name.first().is_some_and(u8::is_ascii_lowercase) && name.iter().all(is_name);
    std::str::from_utf8(name).ok().filter(|_| is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(bytes: &[u8], side: Side) -> Vec<(String, String)> {
        let fields = of_lines(bytes, side);
        let mut at = 0;
        for field in &fields {
            assert_eq!(field.from, at, "{field:?}");
            at = field.to;
        }
        assert_eq!(at, bytes.len(), "every byte is a field");
        let told = |value: Value| value.as_str().unwrap_or("-").to_string();
        fields.into_iter().map(|field| (field.name, told(field.value))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_line_is_a_verb_its_words_and_its_fields() {
        let told = seen(b"send orders key:a\\x20b header.trace:1 message:to: the end\r\n", Side::Request);
        let expected = [
            ("verb", "send"),
            ("word", "orders"),
            ("key", "a b"),
            ("header.trace", "1"),
            ("message", "to: the end"),
            ("end", "-"),
        ];
        assert_eq!(told, pairs(&expected));
        assert_eq!(seen(b"PRODUCE key:a b", Side::Request), pairs(&[("verb", "PRODUCE"), ("message", "key:a b")]));
        assert_eq!(seen(b"PING\n", Side::Request), pairs(&[("verb", "PING"), ("end", "-")]));
    }

    #[test]
    fn an_answer_is_its_word_and_what_it_says() {
        let told = seen(b"ACK topic:a offset:-\n", Side::Response);
        assert_eq!(told, pairs(&[("answer", "ACK"), ("topic", "a"), ("offset", "-"), ("end", "-")]));
        let told = seen(b"MESSAGE offset:0 a:b c\n", Side::Response);
        assert_eq!(told, pairs(&[("answer", "MESSAGE"), ("offset", "0"), ("message", "a:b c"), ("end", "-")]));
        let told = seen(b"ERROR INVALID_REQUEST why: so\n", Side::Response);
        assert_eq!(told, pairs(&[("answer", "ERROR"), ("code", "INVALID_REQUEST"), ("why", "why: so"), ("end", "-")]));
        let told = seen(b"TOPICS count:1\nname:a\nA word.\n", Side::Response);
        let expected = [
            ("lines[0].answer", "TOPICS"),
            ("lines[0].count", "1"),
            ("lines[0].end", "-"),
            ("lines[1].name", "a"),
            ("lines[1].end", "-"),
            ("lines[2].text", "A word."),
            ("lines[2].end", "-"),
        ];
        assert_eq!(told, pairs(&expected));
    }

    #[test]
    fn whatever_bytes_there_are_each_is_in_one_field() {
        for bytes in
            [&b"\n\n"[..], b" ", b"  a  b ", b"\xff\x00:\r", b":a b:\n", b"ERROR \n", b"PRODUCE \n", b"MESSAGE a b"]
        {
            seen(bytes, Side::Request);
            seen(bytes, Side::Response);
        }
        assert!(seen(b"", Side::Request).is_empty());
    }
}

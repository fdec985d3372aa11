//! Messages as JSON, one object on each line. What `consumer` writes `producer` reads back exactly.
//!
//! ```text
//! {"topic":"t","partition":0,"offset":7,"timestamp":1700000000000,"key":"k","headers":[["a","1"]],"value":"hi"}
//! ```
//!
//! - Bytes that are not UTF-8 are written as base64: `key_base64`, `value_base64`, and in headers `{"base64":"AP8="}`.
//! - A null key, value or header value is `null`. A value of `null` is a tombstone.
//! - When reading, `topic` and `offset` are ignored: a record does not decide where it goes. Any other name is an error.

use crate::client::{Header, Message, Record};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};

/// Appends a message as one object, without a line end.
pub(super) fn write(out: &mut Vec<u8>, message: &Message) {
    let mut object = Map::new();
    object.insert("topic".into(), (*message.topic).into());
    object.insert("partition".into(), message.partition.into());
    object.insert("offset".into(), message.offset.into());
    object.insert("timestamp".into(), message.timestamp.into());
    insert(&mut object, "key", message.key.as_deref());
    if !message.headers.is_empty() {
        let pair = |(name, value): &Header| json!([word(name), value.as_deref().map_or(Value::Null, word)]);
        object.insert("headers".into(), message.headers.iter().map(pair).collect());
    }
    insert(&mut object, "value", message.value.as_deref());
    serde_json::to_writer(out, &object).expect("a vector takes everything, and the names are text");
}

fn insert(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => object.insert(name.into(), Value::Null),
        Some((Ok(text), _)) => object.insert(name.into(), text.into()),
        Some((Err(_), bytes)) => object.insert(format!("{name}_base64"), BASE64.encode(bytes).into()),
    };
}

fn word(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": BASE64.encode(bytes) }),
    }
}

/// Reads a record. An error is a sentence for the author of the object.
pub(super) fn record(line: &[u8]) -> Result<Record, String> {
    let object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| format!("no JSON object: {error}"))?;
    let mut record = Record::default();
    let mut has_value = false;
    for (name, value) in object {
        match name.as_str() {
            "topic" | "offset" => {}
            "key" | "key_base64" if record.key.is_some() => return Err("the key stands twice".into()),
            "value" | "value_base64" if has_value => return Err("the value stands twice".into()),
            "partition" => record.partition = optional(&name, value, |value| value.as_u64()?.try_into().ok())?,
            "timestamp" => record.timestamp = optional(&name, value, |value| value.as_i64())?,
            "key" => record.key = optional(&name, value, text)?,
            "key_base64" => record.key = optional(&name, value, decoded)?,
            "headers" => record.headers = optional(&name, value, headers)?.unwrap_or_default(),
            "value" => (record.value, has_value) = (optional(&name, value, text)?, true),
            "value_base64" => (record.value, has_value) = (optional(&name, value, decoded)?, true),
            _ => {
                let known = "key, value, key_base64, value_base64, headers, timestamp, partition (topic and offset are read over)";
                return Err(format!("'{name}' is no part of a record; there are {known}"));
            }
        }
    }
    if has_value { Ok(record) } else { Err("the value is missing; a tombstone is \"value\":null".into()) }
}

fn optional<T>(name: &str, value: Value, read: impl Fn(Value) -> Option<T>) -> Result<Option<T>, String> {
    if value.is_null() {
        return Ok(None);
    }
    read(value)
        .map(Some)
        .ok_or_else(|| format!("'{name}' is not what it should be; `consumer --json` shows how it is written"))
}

fn text(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn decoded(value: Value) -> Option<Vec<u8>> {
    BASE64.decode(value.as_str()?).ok()
}

/// A name or a value of a header: text, or `{"base64":"AP8="}`.
fn bytes(mut value: Value) -> Option<Vec<u8>> {
    match value.as_object_mut() {
        Some(object) if object.len() == 1 => decoded(object.remove("base64")?),
        _ => text(value),
    }
}

fn headers(value: Value) -> Option<Vec<Header>> {
    let Value::Array(pairs) = value else { return None };
    pairs.into_iter().map(header).collect()
}

fn header(pair: Value) -> Option<Header> {
    let Value::Array(pair) = pair else { return None };
    let [name, value] = <[Value; 2]>::try_from(pair).ok()?;
    let value = if value.is_null() { None } else { Some(bytes(value)?.into()) };
    Some((bytes(name)?.into(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(message: &Message) -> String {
        let mut out = Vec::new();
        write(&mut out, message);
        String::from_utf8(out).unwrap()
    }

    fn message(key: Option<&[u8]>, value: Option<&[u8]>, headers: Vec<Header>) -> Message {
        let owned = |bytes: &[u8]| bytes.to_vec();
        Message {
            topic: "t".into(),
            partition: 2,
            offset: 7,
            timestamp: 9,
            key: key.map(owned),
            value: value.map(owned),
            headers,
        }
    }

    #[test]
    fn text_is_text_and_bytes_are_base64() {
        let start = r#"{"topic":"t","partition":2,"offset":7,"timestamp":9,"#;
        let headers = vec![
            (b"a".to_vec().into(), Some(b"1".to_vec().into())),
            (b"a".to_vec().into(), None),
            (b"a".to_vec().into(), Some(vec![0, 255].into())),
        ];
        assert_eq!(
            object(&message(Some(b"k"), Some(b"hi\n"), headers)),
            start.to_string() + r#""key":"k","headers":[["a","1"],["a",null],["a",{"base64":"AP8="}]],"value":"hi\n"}"#
        );
        assert_eq!(
            object(&message(Some(b"\x00\xff"), Some(b"\x00\xff"), vec![])),
            start.to_string() + r#""key_base64":"AP8=","value_base64":"AP8="}"#
        );
        assert_eq!(object(&message(None, None, vec![])), start.to_string() + r#""key":null,"value":null}"#);
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
            (r#"{"value":"a","vaule":"a"}"#, "'vaule' is no part of a record"),
        ] {
            let error = record(line.as_bytes()).unwrap_err();
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
            let message = message(key.as_deref(), value.as_deref(), headers.collect());
            let expected = Record {
                value: value.clone(),
                key: key.clone(),
                headers: message.headers.clone(),
                timestamp: Some(9),
                partition: Some(2),
            };
            prop_assert_eq!(record(object(&message).as_bytes()), Ok(expected));
        }
    }
}

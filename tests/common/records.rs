//! Records over HTTP, for tests: stored in short, and read as lines, pages and events.

use super::{
    Broker,
    http::{Answer, Http},
    text,
};
use serde_json::{Value, json};

pub const JSON: &str = "Content-Type: application/json\r\n";
pub const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";
pub const BYTES: &str = "Content-Type: application/octet-stream\r\n";
pub const AS_LINES: &str = "Accept: application/x-ndjson\r\n";
pub const AS_EVENTS: &str = "Accept: text/event-stream\r\n";

pub fn post(broker: &Broker, target: &str, content_type: &str, body: impl AsRef<[u8]>) -> Answer {
    broker.http().ask("POST", target, content_type, body.as_ref())
}

/// A topic with so many partitions.
pub fn topic(broker: &Broker, name: &str, partitions: u32) {
    let answer =
        broker.send_json("POST", "/api/topics", &json!({ "name": name, "partitions": partitions }).to_string());
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// Stores values in a partition.
pub fn store(broker: &Broker, topic: &str, partition: u32, values: &[&str]) {
    let target = format!("/api/topics/{topic}/records?partition={partition}");
    let answer = post(broker, &target, BYTES, values.join("\n"));
    assert_eq!(answer.json()["stored"], values.len(), "{answer:?}");
}

/// Stores a value in a partition, with a time.
pub fn store_at(broker: &Broker, topic: &str, partition: u32, timestamp: u64, value: &str) {
    let record = json!([{ "value": value, "timestamp": timestamp, "partition": partition }]);
    assert_eq!(post(broker, &format!("/api/topics/{topic}/records"), JSON, record.to_string()).status, 200);
}

pub fn values(records: &Value) -> Vec<&str> {
    records.as_array().unwrap().iter().map(|record| record["value"].as_str().unwrap()).collect()
}

pub fn page(broker: &Broker, target: &str) -> Value {
    let answer = broker.get(target);
    assert_eq!(answer.status, 200, "{target}: {answer:?}");
    answer.json()
}

/// The objects of NDJSON.
pub fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A stream of events, as an `EventSource` reads it.
pub struct Events {
    pub http: Http,
    /// What came and was not passed over yet.
    pub text: String,
    /// How much of it was read.
    read: usize,
    pub last_id: String,
}

#[derive(Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub data: Value,
}

impl Events {
    pub fn open(broker: &Broker, target: &str, last_id: &str) -> Events {
        let mut http = broker.http();
        let id = if last_id.is_empty() { String::new() } else { format!("Last-Event-ID: {last_id}\r\n") };
        http.request("GET", target, &format!("{AS_EVENTS}{id}"), b"");
        let head = http.head();
        assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"), "{head:?}");
        Events { http, text: String::new(), read: 0, last_id: last_id.into() }
    }

    /// The next event with data; `None`: the stream has ended.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((event, _)) = self.text[self.read..].split_once("\n\n") {
                let (mut name, mut data) = ("message".to_string(), String::new());
                for line in event.lines().filter(|line| !line.starts_with(':')) {
                    match line.split_once(": ").unwrap() {
                        ("id", id) => self.last_id = id.into(),
                        ("event", event) => name = event.into(),
                        ("data", text) => data.push_str(text),
                        other => panic!("{other:?}"),
                    }
                }
                self.read += event.len() + 2;
                if !data.is_empty() {
                    return Some(Event { name, data: serde_json::from_str(&data).unwrap() });
                }
            }
            self.text.drain(..std::mem::take(&mut self.read));
            self.text += text(&self.http.chunk()?);
        }
    }

    /// Reads until the stream has said where it begins.
    pub fn opened(mut self) -> Events {
        while !self.text.contains("\n\n") {
            self.text += text(&self.http.chunk().unwrap());
        }
        self
    }

    pub fn record(&mut self) -> Value {
        let event = self.next().unwrap();
        assert_eq!(event.name, "message");
        event.data
    }
}

//! Wire and Try it, with a started broker: every byte of a conversation is explained, and who watches slows nobody down.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{
    Broker,
    http::{Answer, Http},
};
use serde_json::{Value, json};

/// A stream of events.
struct Events {
    http: Http,
    text: String,
}

/// One of them.
#[derive(Debug)]
struct Event {
    name: String,
    id: Option<u64>,
    data: Value,
}

impl Events {
    /// Watches, from behind an exchange on.
    fn of(broker: &Broker, headers: &str) -> Events {
        let mut http = broker.http();
        http.request("GET", "/api/wire", headers, b"");
        let head = http.head();
        assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
        assert_eq!(head.header("x-accel-buffering"), "no");
        Events { http, text: String::new() }
    }

    /// The next one.
    fn next(&mut self) -> Event {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                if let Some(event) = Event::parse(&event) {
                    return event;
                }
            }
            self.text += common::text(&self.http.chunk().unwrap());
        }
    }

    /// The next exchange.
    fn exchange(&mut self) -> Value {
        let event = self.next();
        assert_eq!(event.name, "", "{event:?}");
        assert_eq!(event.data["number"].as_u64(), event.id);
        event.data
    }
}

impl Event {
    /// `None`: it is a comment.
    fn parse(text: &str) -> Option<Event> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let data = serde_json::from_str(field("data")?).unwrap();
        let id = field("id").map(|id| id.parse().unwrap());
        Some(Event { name: field("event").unwrap_or_default().into(), id, data })
    }
}

fn switch(broker: &Broker, body: Value) -> Value {
    let answer = broker.send_json("POST", "/api/wire", &body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn attempt(broker: &Broker, body: Value) -> Value {
    let answer = broker.send_json("POST", "/api/try", &body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Fields by name and value; each byte is in one of them.
fn fields(message: &Value) -> Vec<(String, Value)> {
    let mut at = 0;
    let mut told = Vec::new();
    for span in message["spans"].as_array().unwrap() {
        assert_eq!(span["from"], at, "{message}");
        at = span["to"].as_u64().unwrap();
        assert_ne!(span["type"], "not read", "{span}");
        told.push((span["name"].as_str().unwrap().into(), span["value"].clone()));
    }
    assert_eq!(at, message["length"], "{message}");
    assert_eq!(message["hex"].as_str().unwrap().len() as u64, 2 * at);
    assert_eq!(message["truncated"], false);
    told
}

fn value(message: &Value, name: &str) -> Value {
    let fields = fields(message);
    let field = fields.iter().find(|(known, _)| known == name);
    field.unwrap_or_else(|| panic!("{name} is not in {fields:?}")).1.clone()
}

#[test]
fn each_byte_of_a_text_conversation_is_explained() {
    let broker = Broker::on_disk();
    assert_eq!(
        switch(&broker, json!({ "on": true })),
        json!({ "on": true, "connection": null, "client": null, "api": null })
    );
    let mut events = Events::of(&broker, "");
    let event = events.next();
    assert_eq!((event.name.as_str(), &event.data["on"]), ("filter", &json!(true)));
    let lines =
        "PRODUCE hello\nSEND messages key:a header.h:1 message:b c\nCONSUME 0\nTAIL messages from:0 until:end\nNO\n";
    broker.expect(lines, &["ACK", "ACK", "MESSAGE", "partition:0", "partition:0", "END", "ERROR"]);
    let seen: Vec<Value> = (0..5).map(|_| events.exchange()).collect();
    let verbs: Vec<_> = seen.iter().map(|one| one["api"].as_str().unwrap()).collect();
    assert_eq!(verbs, ["PRODUCE", "SEND", "CONSUME", "TAIL", "no verb"]);
    for exchange in &seen {
        assert_eq!(exchange["protocol"], "text");
        fields(&exchange["request"]);
        fields(&exchange["response"]);
    }
    assert_eq!(value(&seen[0]["response"], "offset"), "0");
    assert_eq!(value(&seen[1]["request"], "message"), "b c");
    assert_eq!(value(&seen[2]["response"], "message"), "hello");
    assert_eq!(value(&seen[3]["response"], "lines[1].key"), "a");
    assert_eq!(value(&seen[4]["response"], "code"), "INVALID_REQUEST");
    // The lines that were written and read are those in the file.
    let file = |exchange: &Value| {
        let at = |name: &str| exchange["file"][name].as_u64().unwrap() as usize;
        let log = std::fs::read_to_string(exchange["file"]["path"].as_str().unwrap()).unwrap();
        assert_eq!(exchange["file"]["text"], log[at("from")..at("to")]);
        exchange["file"]["text"].clone()
    };
    assert_eq!(file(&seen[0]), "offset:0 message:hello\n");
    assert_eq!(file(&seen[1]), "offset:1 key:a header.h:1 message:b c\n");
    assert!(file(&seen[2]).as_str().unwrap().starts_with("offset:0 message:hello\n"), "reading ahead is reading, too");
    assert_eq!(seen[4]["file"], json!(null));
}

#[cfg(feature = "kafka")]
#[test]
fn each_byte_of_a_kafka_clients_first_calls_is_explained() {
    let broker = Broker::start();
    switch(&broker, json!({ "on": true, "client": "plainlog-try" }));
    let mut events = Events::of(&broker, "");
    events.next();
    let calls = [
        json!({ "kafka": "ApiVersions" }),
        json!({ "kafka": "Metadata" }),
        json!({ "kafka": "CreateTopics", "topic": "orders", "partitions": 3 }),
        json!({ "kafka": "Metadata", "topic": "orders" }),
        json!({ "kafka": "DescribeTopicPartitions", "topic": "orders" }),
        json!({ "kafka": "Produce", "topic": "orders", "partition": 1, "key": "k", "value": "first" }),
        json!({ "kafka": "Produce", "topic": "orders", "partition": 1, "value": "second" }),
        json!({ "kafka": "Produce", "topic": "orders", "partition": 9, "value": "nowhere" }),
        json!({ "kafka": "Fetch", "topic": "orders", "partition": 1 }),
        json!({ "kafka": "Fetch", "topic": "orders", "partition": 1, "offset": 7 }),
    ];
    for call in &calls {
        let answer = attempt(&broker, call.clone());
        let seen = events.exchange();
        for part in ["request", "response", "api"] {
            assert_eq!(answer[part], seen[part], "{call}");
        }
        assert_eq!((&answer["whole"], &seen["protocol"]), (&json!(true), &json!("kafka")));
        assert!(seen["api"].as_str().unwrap().starts_with(call["kafka"].as_str().unwrap()));
        let size = value(&seen["request"], "size").as_u64().unwrap();
        assert_eq!(size + 4, seen["request"]["length"].as_u64().unwrap());
        assert_eq!(value(&seen["response"], "correlation_id"), 1);
        assert_eq!(value(&seen["request"], "client_id"), "plainlog-try");
    }
    let answer = |call: usize| attempt(&broker, calls[call].clone());
    assert_eq!(value(&answer(0)["response"], "finalized_features[0].name"), "group.version");
    assert_eq!(value(&answer(2)["response"], "topics[0].error_code"), 36);
    assert_eq!(value(&answer(3)["response"], "topics[0].partitions[2].partition_index"), 2);
    assert_eq!(value(&answer(4)["response"], "topics[0].name"), "orders");
    let produced = answer(5);
    let batch = "topic_data[0].partition_data[0].records.batches[0]";
    assert_eq!(value(&produced["request"], &format!("{batch}.records_count")), 1);
    assert_eq!(value(&produced["request"], &format!("{batch}.records[0].key")), "k");
    assert_eq!(value(&produced["request"], &format!("{batch}.records[0].value")), "first");
    assert_eq!(value(&produced["response"], "responses[0].partition_responses[0].base_offset"), 2);
    assert_eq!(value(&answer(7)["response"], "responses[0].partition_responses[0].error_code"), 3);
    let fetched = answer(8);
    let records = "responses[0].partitions[0].records.batches[0].records";
    assert_eq!(value(&fetched["response"], &format!("{records}[1].value")), "second");
    assert_eq!(value(&fetched["response"], &format!("{records}[1].key")), json!(null));
    assert!(fetched["file"]["path"].as_str().unwrap().ends_with(".log"), "{fetched}");
}

#[test]
fn what_streams_is_seen_part_by_part() {
    let broker = Broker::start();
    broker.expect("PRODUCE one\n", &["ACK"]);
    switch(&broker, json!({ "on": true, "api": "TAIL" }));
    let mut events = Events::of(&broker, "");
    events.next();
    let mut reader = broker.connect();
    assert_eq!(reader.say("TAIL messages/0 from:0\n").line(), "offset:0 message:one");
    let first = events.exchange();
    assert_eq!(value(&first["response"], "message"), "one");
    broker.expect("PRODUCE two\n", &["ACK"]);
    let second = events.exchange();
    assert_eq!((value(&second["response"], "message"), &second["request"]), (json!("two"), &first["request"]));
    assert_eq!(second["file"]["text"], "offset:1 message:two\n");
    drop(reader);
    // The end of the reader is no exchange; the next one is another's.
    broker.expect("TAIL nothing\n", &["ERROR"]);
    assert_eq!(value(&events.exchange()["response"], "code"), "UNKNOWN_TOPIC_OR_PARTITION");
}

/// It paid for being watched until it ended, which may be never.
#[test]
fn what_streams_is_watched_no_longer_than_somebody_wants_to_see_it() {
    let broker = Broker::start();
    switch(&broker, json!({ "on": true, "api": "TAIL" }));
    let mut events = Events::of(&broker, "");
    events.next();
    broker.expect("PRODUCE one\n", &["ACK"]);
    let mut reader = broker.connect();
    assert_eq!(reader.say("TAIL messages/0 from:0\n").line(), "offset:0 message:one");
    events.exchange();
    switch(&broker, json!({ "on": false }));
    events.next();
    // Once the second of them has come, what became of the first was done.
    for word in ["two", "three"] {
        broker.expect(&format!("PRODUCE {word}\n"), &["ACK"]);
        assert!(reader.line().ends_with(word));
    }
    switch(&broker, json!({ "on": true, "api": "TAIL" }));
    events.next();
    for word in ["four", "five"] {
        broker.expect(&format!("PRODUCE {word}\n"), &["ACK"]);
        assert!(reader.line().ends_with(word));
    }
    broker.expect("TAIL nothing\n", &["ERROR"]);
    assert_eq!(value(&events.exchange()["response"], "code"), "UNKNOWN_TOPIC_OR_PARTITION");
}

#[test]
fn off_is_off_and_a_filter_lets_through_what_it_names() {
    let broker = Broker::start();
    assert_eq!(switch(&broker, json!({ "on": false }))["on"], false);
    let mut events = Events::of(&broker, "");
    assert_eq!(events.next().data["on"], false);
    broker.expect("PING\n", &["PONG"]);
    switch(&broker, json!({ "on": true, "api": "ping" }));
    assert_eq!(events.next().data, json!({ "on": true, "connection": null, "client": null, "api": "ping" }));
    let (mut one, mut other) = (broker.connect(), broker.connect());
    one.say("INFO extra\nPING\n");
    assert!(one.line().starts_with("ERROR"));
    assert_eq!(one.line(), "PONG");
    let seen = events.exchange();
    assert_eq!((&seen["api"], &seen["number"]), (&json!("PING"), &json!(1)), "neither the first PING nor INFO");
    switch(&broker, json!({ "on": true, "connection": seen["connection"] }));
    events.next();
    other.say("PING\n").line();
    one.say("INFO x\n").line();
    let again = events.exchange();
    assert_eq!((&again["api"], &again["connection"]), (&json!("INFO"), &seen["connection"]));
    // Who comes back reads on where it was.
    let mut late = Events::of(&broker, "Last-Event-ID: 1\r\n");
    late.next();
    assert_eq!(late.exchange(), again);
    switch(&broker, json!({ "on": false }));
    assert_eq!(events.next().data["on"], false);
    assert_eq!(one.say("PING\n").line(), "PONG");
    switch(&broker, json!({ "on": true }));
    assert_eq!(events.next().data["on"], true);
}

#[test]
fn who_watches_and_does_not_read_slows_nobody_down_and_is_told_what_it_missed() {
    let broker = Broker::start();
    switch(&broker, json!({ "on": true }));
    let mut slow = Events::of(&broker, "");
    let mut connection = broker.connect();
    // Far more than the ring holds, and more than sockets buffer.
    let value = "x".repeat(20_000);
    for _ in 0..2500 {
        connection.say(&format!("PRODUCE {value}\n"));
        assert!(connection.line().starts_with("ACK"));
    }
    slow.next();
    let (mut last, mut missed) = (0, 0);
    while last < 2500 {
        let event = slow.next();
        let number = |name: &str| event.data[name].as_u64().unwrap();
        match event.name.as_str() {
            "missed" => {
                missed += number("count");
                last += number("count");
            }
            _ => {
                assert_eq!(number("number"), last + 1);
                last += 1;
            }
        }
    }
    assert!(missed > 0, "the ring has a bound");
}

#[test]
fn what_is_longer_than_what_is_kept_is_cut_and_says_so() {
    let broker = Broker::start();
    let answer = attempt(&broker, json!({ "text": format!("PRODUCE {}", "x".repeat(200_000)) }));
    let request = &answer["request"];
    assert_eq!((&request["truncated"], &request["length"]), (&json!(true), &json!(200_009)));
    assert_eq!(request["hex"].as_str().unwrap().len(), 2 * 65_536);
    assert_eq!(request["spans"][1]["to"], 65_536);
    assert_eq!(answer["response"]["truncated"], false);
}

#[test]
fn a_line_is_tried_and_what_is_no_line_is_refused() {
    let broker = Broker::start();
    let answer = attempt(&broker, json!({ "text": "SEND orders key:a message:hi" }));
    assert_eq!(value(&answer["request"], "key"), "a");
    assert_eq!(value(&answer["response"], "topic"), "orders");
    assert_eq!((&answer["whole"], &answer["api"]), (&json!(true), &json!("SEND")));
    let refused = |body: Value| -> Answer {
        let answer = broker.send_json("POST", "/api/try", &body.to_string());
        assert_eq!(answer.status, 400, "{answer:?}");
        answer
    };
    for line in ["", "PING\nPING", "PING\r", "\u{0}\u{0}", "GET / HTTP/1.1", " PING"] {
        refused(json!({ "text": line }));
    }
    for call in ["Heartbeat", ""] {
        refused(json!({ "kafka": call }));
    }
    refused(json!({ "kafka": "Produce", "topic": "orders" }));
    refused(json!({ "text": "PING", "more": 1 }));
    assert_eq!(broker.get("/api/try").status, 405);
    // Nothing of it stays on: the wire is off.
    broker.expect("PING\n", &["PONG"]);
    let mut events = Events::of(&broker, "");
    assert_eq!(events.next().data["on"], false);
}

#[cfg(feature = "kafka")]
#[test]
fn every_step_of_broker_try_works_and_leaves_nothing_behind() {
    let broker = Broker::start();
    let tried = broker.command(common::BROKER, &["try"]).output().unwrap();
    let told = common::text(&tried.stdout);
    assert!(tried.status.success(), "{tried:?}");
    assert!(told.lines().all(|line| line.starts_with("ok ")), "{told}");
    for name in [
        "ApiVersions v4",
        "Metadata v12",
        "CreateTopics v7",
        "DescribeTopicPartitions v0",
        "Produce v12",
        "Fetch v12",
        "PING",
        "DROP",
    ] {
        assert!(told.contains(name), "{name} in {told}");
    }
    broker.expect("TOPICS\n", &["TOPICS count:0"]);
    let tried = broker.command(common::BROKER, &["try", "--fields"]).output().unwrap();
    let told = common::text(&tried.stdout);
    assert!(told.contains("topic_data[0].partition_data[0].records.batches[0].magic (INT8): 2"), "{told}");
}

#[cfg(feature = "kafka")]
#[test]
fn a_step_that_fails_is_told_with_its_reason_and_the_rest_is_tried() {
    // No record fits, in either protocol.
    let broker = Broker::with(&["--in-memory", "--max-message-bytes", "1"]);
    let tried = broker.command(common::BROKER, &["try"]).output().unwrap();
    assert_eq!(tried.status.code(), Some(1), "{tried:?}");
    let told = common::text(&tried.stdout);
    let failed: Vec<&str> = told.lines().filter(|line| line.starts_with("FAILED ")).collect();
    assert!(failed[0].contains("Produce v12") && failed[0].ends_with("error_code 10 MESSAGE_TOO_LARGE"), "{told}");
    assert!(failed[1].contains("SEND") && failed[1].contains("ERROR MESSAGE_TOO_LARGE"), "{told}");
    assert!(told.lines().last().unwrap().starts_with("ok     DROP"), "{told}");
    broker.expect("TOPICS\n", &["TOPICS count:0"]);
}

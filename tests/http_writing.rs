//! Writing records over HTTP: arrays, objects line by line, values line by line.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{
    Broker,
    records::{AS_LINES, BYTES, Events, JSON, NDJSON, page, post, store, topic, values},
    text,
};
use serde_json::{Value, json};

#[test]
fn an_array_is_answered_record_by_record() {
    let broker = Broker::start();
    topic(&broker, "orders", 2);
    let body = json!([
        { "value": "a", "partition": 1 },
        { "value": "b", "partition": 1, "key": "k", "headers": [["h", "1"], ["h", null]], "timestamp": 1_700_000_000_000_u64 },
        { "value": "c", "partition": 7 },
        { "vaule": "d" },
        { "value": null, "key": "k", "partition": 0 },
        5,
    ]);
    let answer = post(&broker, "/api/topics/orders/records", JSON, body.to_string());
    assert_eq!(answer.status, 422);
    let records = &answer.json()["records"];
    assert_eq!(records[0], json!({ "partition": 1, "offset": 0 }));
    assert_eq!(records[1], json!({ "partition": 1, "offset": 1 }));
    assert_eq!(records[2]["error"], "UNKNOWN_TOPIC_OR_PARTITION");
    assert_eq!(records[3]["error"], "INVALID_REQUEST");
    assert!(records[3]["message"].as_str().unwrap().contains("'vaule' is no part of a record"));
    assert_eq!(records[4], json!({ "partition": 0, "offset": 0 }));
    assert_eq!(records[5]["error"], "INVALID_REQUEST");
    let read = page(&broker, "/api/topics/orders/records?partition=1");
    let expected = json!({
        "topic": "orders", "partition": 1, "offset": 1, "timestamp": 1_700_000_000_000_u64,
        "key": "k", "headers": [["h", "1"], ["h", null]], "value": "b",
    });
    assert_eq!(read["records"][1], expected);
    assert_eq!(page(&broker, "/api/topics/orders/records?partition=0")["records"][0]["value"], Value::Null);
    assert_eq!(post(&broker, "/api/topics/orders/records", JSON, "[]").json(), json!({ "records": [] }));
}

#[test]
fn an_array_that_is_none_stores_nothing() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    let many = format!("[{}0]", "0,".repeat(100_000));
    for body in ["", "{\"value\":\"a\"}", "[{\"value\":\"a\"},", "[{\"value\":\"a\"}]]", "[{\"value\":\"a\"} x]", &many]
    {
        let answer = post(&broker, "/api/topics/orders/records", JSON, body);
        assert_eq!(answer.status, 400, "{}: {answer:?}", &body[..body.len().min(30)]);
    }
    let large = vec![b' '; (16 << 20) + 1];
    assert_eq!(post(&broker, "/api/topics/orders/records", JSON, large).status, 413);
    assert_eq!(page(&broker, "/api/topics/orders/records")["records"], json!([]));
}

#[test]
fn lines_are_values() {
    let broker = Broker::start();
    let answer = post(&broker, "/api/topics/orders/records?key=k%201", BYTES, "a\r\n\nb\rc\n\u{e4}");
    assert_eq!((answer.status, answer.json()), (200, json!({ "stored": 4, "refused": 0, "errors": [] })));
    let read = page(&broker, "/api/topics/orders/records");
    assert_eq!(values(&read["records"]), ["a", "", "b\rc", "\u{e4}"]);
    assert!(read["records"].as_array().unwrap().iter().all(|record| record["key"] == "k 1"));
}

#[test]
fn objects_are_stored_but_for_those_that_are_refused() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    let body = "{\"value\":\"a\"}\n\n{\"value\":1}\r\n  \n{\"value\":\"b\",\"key\":\"own\"}\nno\n{\"value\":\"c\",\"partition\":3}";
    let answer = post(&broker, "/api/topics/orders/records?key=k", NDJSON, body);
    assert_eq!(answer.status, 422);
    let answer = answer.json();
    assert_eq!((&answer["stored"], &answer["refused"]), (&json!(2), &json!(3)));
    let lines: Vec<_> =
        answer["errors"].as_array().unwrap().iter().map(|error| error["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [3, 6, 7]);
    assert_eq!(answer["errors"][2]["error"], "UNKNOWN_TOPIC_OR_PARTITION");
    let read = page(&broker, "/api/topics/orders/records");
    let keys: Vec<_> = read["records"].as_array().unwrap().iter().map(|record| &record["key"]).collect();
    assert_eq!(keys, ["k", "own"]);
    // A partition for all goes before what an object says; of many errors the first are told.
    let answer = post(&broker, "/api/topics/orders/records?partition=0", NDJSON, "{\"value\":\"c\",\"partition\":3}\n");
    assert_eq!(answer.status, 200);
    let answer = post(&broker, "/api/topics/orders/records", NDJSON, "x\n".repeat(250)).json();
    assert_eq!((&answer["refused"], answer["errors"].as_array().unwrap().len()), (&json!(250), 100));
}

#[test]
fn an_address_that_is_no_place_for_records_refuses_all() {
    let broker = Broker::with(&["--in-memory", "--no-auto-create"]);
    topic(&broker, "orders", 1);
    let record = "{\"value\":\"a\"}\n";
    for (target, status) in [
        ("none", 404),
        ("orders?partition=1", 404),
        ("__consumer_offsets", 403),
        ("__transaction_state", 403),
        ("orders?partition=x", 400),
        ("orders?partitions=0", 400),
    ] {
        let (name, query) = target.split_once('?').unwrap_or((target, ""));
        for content_type in [JSON, NDJSON, BYTES] {
            let answer = post(&broker, &format!("/api/topics/{name}/records?{query}"), content_type, record);
            assert_eq!(answer.status, status, "{target}: {answer:?}");
        }
    }
    assert_eq!(post(&broker, "/api/topics/orders/records", "Content-Type: text/plain\r\n", record).status, 415);
    let broker = Broker::start();
    let answer = post(&broker, "/api/topics/new/records?partition=99", BYTES, "a");
    assert_eq!((answer.status, answer.text().contains("no topic 'new'")), (404, true), "{answer:?}");
    assert_eq!(post(&broker, "/api/topics/a%20b/records", BYTES, "a").status, 400);
    assert_eq!(post(&broker, "/api/topics/new/records?partition=0", BYTES, "a").status, 200, "first use makes it");
}

/// Each line is there for readers when it has come, long before the body ends.
#[test]
fn a_body_without_end_is_stored_as_it_comes() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    let mut events = Events::open(&broker, "/api/topics/orders/records?from=earliest", "");
    let mut http = broker.http();
    http.request("POST", "/api/topics/orders/records", &format!("{NDJSON}Transfer-Encoding: chunked\r\n"), b"");
    for number in 0..3 {
        let line = format!("{{\"value\":\"{number}\"}}\n");
        let (begin, rest) = line.split_at(5);
        http.send(format!("{:x}\r\n{begin}\r\n{:x}\r\n{rest}\r\n", begin.len(), rest.len()));
        assert_eq!(events.record()["value"], number.to_string());
    }
    http.send("c;x=y\r\n{\"value\":\"e\"\r\n1\r\n}\r\n0\r\ntrailer: t\r\n\r\n");
    assert_eq!(http.answer("POST").json(), json!({ "stored": 4, "refused": 0, "errors": [] }));
    assert_eq!(events.record()["value"], "e");
    // Where its framing breaks, what came before is told, and stays.
    http.request("POST", "/api/topics/orders/records", &format!("{BYTES}Transfer-Encoding: chunked\r\n"), b"");
    http.send("4\r\nf\ng\n\r\nzz\r\n");
    let answer = http.answer("POST");
    assert_eq!(answer.status, 400);
    assert!(answer.json()["message"].as_str().unwrap().ends_with("2 were stored, 0 refused"), "{answer:?}");
    assert_eq!((events.record()["value"].clone(), events.record()["value"].clone()), (json!("f"), json!("g")));
}

#[test]
fn a_line_that_is_too_long_is_read_over_and_the_others_are_stored() {
    let broker = Broker::start();
    let configs = json!({ "name": "small", "partitions": 1, "configs": { "max.message.bytes": 1000 } });
    broker.send_json("POST", "/api/topics", &configs.to_string());
    let long = "x".repeat(40 << 20);
    let answer = post(&broker, "/api/topics/small/records", BYTES, format!("a\n{long}\nb\n{}\n", "y".repeat(1001)));
    let answer = answer.json();
    assert_eq!((&answer["stored"], &answer["refused"]), (&json!(2), &json!(2)), "{answer}");
    assert_eq!(answer["errors"][0]["error"], "MESSAGE_TOO_LARGE");
    assert_eq!((&answer["errors"][0]["line"], &answer["errors"][1]["line"]), (&json!(2), &json!(4)));
    assert_eq!(values(&page(&broker, "/api/topics/small/records")["records"]), ["a", "b"]);
    let peak = broker.peak_memory();
    assert!(peak < 20 << 20, "{peak} bytes for a line of 40 MiB");
}

#[test]
fn a_copy_is_restored_as_it_was() {
    let broker = Broker::start();
    topic(&broker, "orders", 3);
    topic(&broker, "copy", 3);
    let records: Vec<Value> = (0..50)
        .map(|number| match number % 5 {
            0 => json!({ "value": format!("{number}"), "key": format!("k{number}") }),
            1 => json!({ "value_base64": "AP8=", "key_base64": "/w==", "headers": [["h", { "base64": "AP8=" }], ["", null]] }),
            2 => json!({ "value": null, "key": "k" }),
            3 => json!({ "value": "\u{0}\n\u{1b}[31m\\ \u{2028}", "key": "" }),
            _ => json!({ "value": "", "timestamp": 1_700_000_000_000_u64 + number }),
        })
        .collect();
    assert_eq!(post(&broker, "/api/topics/orders/records", JSON, json!(records).to_string()).status, 200);
    let copy = broker.http().ask("GET", "/api/topics/orders/records", AS_LINES, b"");
    let restored = post(&broker, "/api/topics/copy/records", NDJSON, &copy.body);
    assert_eq!(restored.json(), json!({ "stored": 50, "refused": 0, "errors": [] }));
    let again = broker.http().ask("GET", "/api/topics/copy/records", AS_LINES, b"");
    assert_eq!(again.text().replace("\"topic\":\"copy\"", "\"topic\":\"orders\""), copy.text());
    // It is what the program writes.
    let consumed = broker.consume(&["-t", "orders", "-e", "--json"]);
    let mut expected: Vec<&str> = text(&consumed.stdout).lines().collect();
    let mut lines: Vec<&str> = copy.text().lines().collect();
    expected.sort();
    lines.sort();
    assert_eq!(lines, expected);
}

#[test]
fn a_body_that_breaks_off_has_stored_its_whole_lines() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    let mut events = Events::open(&broker, "/api/topics/orders/records?from=earliest", "");
    let mut http = broker.http();
    http.send("POST /api/topics/orders/records HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n");
    http.send(format!("{BYTES}\r\na\nhal"));
    assert_eq!(events.record()["value"], "a");
    drop(http);
    store(&broker, "orders", 0, &["b"]);
    assert_eq!(events.record()["value"], "b", "half a line is no record");
}

/// A thread that runs out of stack ends the broker.
#[test]
fn a_record_that_is_nested_without_end_is_refused() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    let deep = format!("{{\"value\":{}", "[".repeat(100_000));
    let answer = post(&broker, "/api/topics/orders/records", NDJSON, deep);
    assert_eq!((answer.status, &answer.json()["refused"]), (422, &json!(1)));
    let deep = format!("[{{\"value\":{}{}}}]", "[".repeat(100), "]".repeat(100));
    let answer = post(&broker, "/api/topics/orders/records", JSON, deep);
    assert_eq!((answer.status, &answer.json()["records"][0]["error"]), (422, &json!("INVALID_REQUEST")));
}

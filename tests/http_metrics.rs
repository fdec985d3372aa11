//! What a broker counts, over HTTP: who is connected, and what a scraper gets.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used)]

mod common;

use common::Broker;
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// The rows of `/api/connections` whose protocol is this.
fn connections(broker: &Broker, protocol: &str) -> Vec<Value> {
    let answer = broker.get("/api/connections").json();
    let all = answer["connections"].as_array().unwrap();
    all.iter().filter(|row| row["protocol"] == protocol).cloned().collect()
}

#[test]
fn who_is_connected_is_listed_with_what_was_said_until_it_is_gone() {
    let broker = Broker::start();
    let mut text = broker.connect();
    assert_eq!(text.say("PING\nPING\n").line(), "PONG");
    assert_eq!(text.line(), "PONG");
    let rows = connections(&broker, "text");
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert!(row["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{row}");
    assert!(row["client"].is_null(), "{row}");
    assert_eq!((&row["requests"], &row["bytes_in"], &row["bytes_out"]), (&2.into(), &10.into(), &10.into()), "{row}");
    assert!(row["last_request_ms"].as_i64() >= row["connected_ms"].as_i64(), "{row}");
    assert!(row["connected_ms"].as_i64().unwrap() > 1_700_000_000_000, "{row}");

    text.say("QUIT\n");
    // The last line of a connection is an empty one: its end. The row goes with its thread, a moment later.
    assert_eq!(text.line(), "");
    drop(text);
    while !connections(&broker, "text").is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn an_id_stays_while_the_connection_does_and_is_not_given_again() {
    let broker = Broker::start();
    let mut text = broker.connect();
    assert_eq!(text.say("PING\n").line(), "PONG");
    let id = |rows: Vec<Value>| rows[0]["id"].as_u64().unwrap();
    let first = id(connections(&broker, "text"));
    assert_eq!(id(connections(&broker, "text")), first);
    text.say("QUIT\n");
    assert_eq!(text.line(), "");
    drop(text);
    while !connections(&broker, "text").is_empty() {
        std::thread::yield_now();
    }
    let mut text = broker.connect();
    assert_eq!(text.say("PING\n").line(), "PONG");
    assert!(id(connections(&broker, "text")) > first);
}

#[test]
fn a_client_is_listed_by_the_name_it_gives_itself() {
    let broker = Broker::start();
    let mut browser = broker.http();
    assert_eq!(browser.ask("GET", "/health", "User-Agent: a <b>browser</b>\r\n", b"").status, 200);
    let rows = connections(&broker, "http");
    assert_eq!(rows[0]["client"], "a <b>browser</b>", "{rows:?}");
    assert_eq!(rows[0]["requests"], 1, "{rows:?}");
}

#[cfg(feature = "kafka")]
#[test]
fn a_kafka_client_is_listed_by_its_client_id() {
    let broker = Broker::start();
    let mut kafka = TcpStream::connect(&broker.address).unwrap();
    // ApiVersions, version 0, correlation id 7, from "me".
    kafka.write_all(b"\0\0\0\x0c\0\x12\0\0\0\0\0\x07\0\x02me").unwrap();
    let mut size = [0; 4];
    kafka.read_exact(&mut size).unwrap();
    let mut response = vec![0; u32::from_be_bytes(size) as usize];
    kafka.read_exact(&mut response).unwrap();
    let row = &connections(&broker, "kafka")[0];
    assert_eq!((&row["client"], &row["requests"], &row["bytes_in"]), (&"me".into(), &1.into(), &16.into()), "{row}");
    assert_eq!(row["bytes_out"].as_u64().unwrap(), 4 + response.len() as u64, "{row}");
}

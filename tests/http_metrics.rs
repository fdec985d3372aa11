//! What a broker counts, over HTTP: who is connected, and what a scraper gets.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Broker, until};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
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
    until("the row is gone", || connections(&broker, "text").is_empty());
}

/// A TAIL is a request from when it begins, though it never ends.
#[test]
fn who_only_listens_has_asked_for_it() {
    let broker = Broker::start();
    broker.expect("SEND t message:a\nQUIT\n", &["ACK"]);
    let mut text = broker.connect();
    text.say("TAIL t from:earliest\n").line();
    until("it counts", || connections(&broker, "text").iter().any(|row| row["requests"] == 1));
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
    until("the row is gone", || connections(&broker, "text").is_empty());
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

/// Sends a Kafka request of this API and version, by a client `me`. Answers the response without its size.
#[cfg(feature = "kafka")]
fn ask_kafka(kafka: &mut TcpStream, key: u8, version: u8, body: &[u8]) -> Vec<u8> {
    let head = [0, key, 0, version, 0, 0, 0, 7, 0, 2, b'm', b'e'];
    let frame = [&((head.len() + body.len()) as u32).to_be_bytes(), &head[..], body].concat();
    kafka.write_all(&frame).unwrap();
    let mut size = [0; 4];
    kafka.read_exact(&mut size).unwrap();
    let mut response = vec![0; u32::from_be_bytes(size) as usize];
    kafka.read_exact(&mut response).unwrap();
    response
}

#[cfg(feature = "kafka")]
#[test]
fn kafka_requests_are_counted_by_api_and_those_with_an_error_code_as_errors() {
    let broker = Broker::start();
    let mut kafka = TcpStream::connect(&broker.address).unwrap();
    ask_kafka(&mut kafka, 18, 0, b"");
    ask_kafka(&mut kafka, 18, 0, b"");
    // DeleteTopics, version 1: the topic `gone`, in 1000 ms.
    ask_kafka(&mut kafka, 20, 1, b"\0\0\0\x01\0\x04gone\0\0\x03\xe8");
    for (api, requests, errors) in [("ApiVersions", 2.0, 0.0), ("DeleteTopics", 1.0, 1.0)] {
        let row = format!(r#"{{protocol="kafka",request="{api}"}}"#);
        assert_eq!(value(&broker, &format!("plainlog_requests_total{row}")), Some(requests), "{api}");
        assert_eq!(value(&broker, &format!("plainlog_request_errors_total{row}")), Some(errors), "{api}");
    }
}

#[cfg(feature = "kafka")]
#[test]
fn a_frame_that_is_too_large_counts_as_a_request_of_no_api() {
    let broker = Broker::start();
    let mut kafka = TcpStream::connect(&broker.address).unwrap();
    kafka.write_all(&[6, 0x40, 0, 1]).unwrap();
    assert_eq!(kafka.read(&mut [0]).unwrap(), 0);
    let row = r#"{protocol="kafka",request="none"}"#;
    assert_eq!(value(&broker, &format!("plainlog_request_errors_total{row}")), Some(1.0));
}

#[cfg(feature = "kafka")]
#[test]
fn a_kafka_client_is_listed_by_its_client_id() {
    let broker = Broker::start();
    let mut kafka = TcpStream::connect(&broker.address).unwrap();
    let response = ask_kafka(&mut kafka, 18, 0, b"");
    let row = &connections(&broker, "kafka")[0];
    assert_eq!((&row["client"], &row["requests"], &row["bytes_in"]), (&"me".into(), &1.into(), &16.into()), "{row}");
    assert_eq!(row["bytes_out"].as_u64().unwrap(), 4 + response.len() as u64, "{row}");
}

/// What a scrape says in the form that it asks for, line by line.
fn scrape(broker: &Broker, accept: &str) -> Vec<String> {
    let answer = broker.http().ask("GET", "/metrics", &format!("Accept: {accept}\r\n"), b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().lines().map(String::from).collect()
}

/// The value of a metric with these labels, in Prometheus's classic form; `None`: it has no such row.
fn value(broker: &Broker, metric: &str) -> Option<f64> {
    let lines = scrape(broker, "*/*");
    let row = lines.iter().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    row.map(|number| number.parse().unwrap())
}

#[test]
fn a_scraper_gets_the_form_that_it_asks_for() {
    let broker = Broker::start();
    let ask = |accept: &str| broker.http().ask("GET", "/metrics", &format!("Accept: {accept}\r\n"), b"");
    let classic = ask("text/plain;version=0.0.4;q=0.3,*/*;q=0.2");
    assert_eq!(classic.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let lines: Vec<&str> = classic.text().lines().collect();
    assert!(lines.contains(&"# TYPE plainlog_rebalances_total counter"), "{lines:?}");
    assert!(lines.contains(&"# HELP plainlog_rebalances_total Generations that groups began"), "{lines:?}");
    assert!(!lines.contains(&"# EOF"));
    let open = ask("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3");
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let lines: Vec<&str> = open.text().lines().collect();
    assert!(lines.contains(&"# TYPE plainlog_rebalances counter"), "{lines:?}");
    assert!(lines.contains(&"plainlog_rebalances_total 0"), "{lines:?}");
    assert_eq!(lines.last(), Some(&"# EOF"));
    assert_eq!(ask("*/*").header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
}

#[test]
fn a_metric_is_described_once_and_no_row_comes_twice() {
    let broker = Broker::start();
    broker.expect("SEND a message:x\nSEND b message:x\nRESET g a/0 1\nQUIT\n", &["ACK", "ACK", "OK"]);
    for accept in ["*/*", "application/openmetrics-text"] {
        let lines = scrape(&broker, accept);
        let mut names: Vec<&str> =
            lines.iter().filter_map(|line| line.rsplit_once(' ').map(|(name, _)| name)).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all, "{accept}");
    }
}

#[test]
fn topics_and_groups_are_told_by_the_names_that_dashboards_know() {
    let broker = Broker::start();
    broker.expect(
        "CREATE orders partitions:2\nSEND orders/1 message:a\nSEND orders/1 message:b\nSEND orders/1 message:c\nTRIM orders/1 1\n\
         RESET analytics orders/1 2\nFETCH orders/1 1\n",
        &["OK", "ACK", "ACK", "ACK", "OK", "OK", "RECORDS"],
    );
    let mut member = broker.connect();
    assert!(member.say("JOIN analytics orders\n").line().starts_with("JOINED"));
    for (metric, wanted) in [
        ("kafka_brokers", 1.0),
        (r#"kafka_topic_partitions{topic="orders"}"#, 2.0),
        (r#"kafka_topic_partition_current_offset{topic="orders",partition="1"}"#, 3.0),
        (r#"kafka_topic_partition_oldest_offset{topic="orders",partition="1"}"#, 1.0),
        (r#"kafka_topic_partition_current_offset{topic="orders",partition="0"}"#, 0.0),
        (r#"kafka_consumergroup_current_offset{consumergroup="analytics",topic="orders",partition="1"}"#, 2.0),
        (r#"kafka_consumergroup_lag{consumergroup="analytics",topic="orders",partition="1"}"#, 1.0),
        (r#"kafka_consumergroup_members{consumergroup="analytics"}"#, 1.0),
        (r#"plainlog_topic_records_in_total{topic="orders"}"#, 3.0),
        ("plainlog_rebalances_total", 1.0),
        ("plainlog_open_transactions", 0.0),
    ] {
        assert_eq!(value(&broker, metric), Some(wanted), "{metric}");
    }
    for metric in ["bytes_in_total", "records_out_total", "bytes_out_total", "size_bytes", "segments"] {
        let metric = format!(r#"plainlog_topic_{metric}{{topic="orders"}}"#);
        assert!(value(&broker, &metric).is_some_and(|value| value > 0.0), "{metric}");
    }
}

#[test]
fn lines_are_counted_by_verb_with_their_errors_and_their_time() {
    let broker = Broker::start();
    let mut text = broker.connect();
    text.say(&"PRODUCE a\n".repeat(1000)).say("SEND\nPING\nPING\nPINK\nTOPIC nowhere\nPING\nSEND t message:b\n");
    for _ in 0..1007 {
        text.line();
    }
    // A line without its end is carried out if it is the only one.
    let mut cut = TcpStream::connect(&broker.address).unwrap();
    cut.write_all(b"PING").unwrap();
    cut.shutdown(Shutdown::Write).unwrap();
    cut.read_to_end(&mut Vec::new()).unwrap();
    let metric = |name: &str, verb: &str| format!(r#"plainlog_{name}{{protocol="text",request="{verb}"}}"#);
    for (verb, requests, errors) in
        [("PRODUCE", 1000.0, 0.0), ("SEND", 2.0, 1.0), ("PING", 4.0, 0.0), ("TOPIC", 1.0, 1.0), ("none", 1.0, 1.0)]
    {
        until(verb, || value(&broker, &metric("requests_total", verb)) == Some(requests));
        assert_eq!(value(&broker, &metric("request_errors_total", verb)), Some(errors), "{verb}");
        assert_eq!(value(&broker, &metric("request_duration_seconds_count", verb)), Some(requests), "{verb}");
    }
    let infinity = r#"plainlog_request_duration_seconds_bucket{protocol="text",request="PRODUCE",le="+Inf"}"#;
    assert_eq!(value(&broker, infinity), Some(1000.0));
    assert!(value(&broker, "plainlog_produce_to_sync_duration_seconds_count").unwrap() >= 2.0);
    assert!(value(&broker, "plainlog_sync_duration_seconds_count").unwrap() >= 2.0);
}

#[test]
fn only_what_was_written_counts_for_the_time_until_it_was_synced() {
    let broker = Broker::start();
    let count = || value(&broker, "plainlog_produce_to_sync_duration_seconds_count");
    let lines = "PRODUCER\nSEND t/0 sequence:0 message:a\nPING\n";
    broker.expect(lines, &["OK", "ACK", "PONG"]);
    let once = count();
    assert_eq!(once, Some(1.0));
    let mut text = broker.connect();
    let id = text.say("PRODUCER\n").line();
    for (line, answer) in [("sequence:0", "ACK"), ("sequence:0", "ACK"), ("sequence:7", "ERROR")] {
        let answered = text.say(&format!("SEND t/0 {line} message:a\n")).line();
        assert!(answered.starts_with(answer), "{id}: {line}: {answered}");
    }
    assert_eq!(count(), Some(2.0), "neither what was sent again nor what was refused");
}

#[test]
fn requests_over_http_are_counted_by_route_and_not_by_address() {
    let broker = Broker::start();
    for topic in ["a", "b", "c"] {
        assert_eq!(broker.get(&format!("/api/topics/{topic}")).status, 404);
        assert_eq!(broker.get(&format!("/nowhere/{topic}")).status, 404);
    }
    let lines = scrape(&broker, "*/*");
    let requests = lines.iter().filter(|line| line.starts_with(r#"plainlog_requests_total{protocol="http""#));
    assert_eq!(requests.count(), 2, "{lines:?}");
    for (route, count) in [("GET /api/topics/{topic}", 3.0), ("none", 3.0)] {
        let row = format!(r#"{{protocol="http",request="{route}"}}"#);
        assert_eq!(value(&broker, &format!("plainlog_requests_total{row}")), Some(count), "{route}");
        assert_eq!(value(&broker, &format!("plainlog_request_errors_total{row}")), Some(count), "{route}");
    }
    assert!(value(&broker, r#"plainlog_requests_total{protocol="http",request="GET /metrics"}"#).unwrap() >= 5.0);
}

#[test]
fn names_of_clients_cannot_write_rows_of_their_own() {
    let broker = Broker::start();
    broker.expect("SEND t message:a\nRESET a\"}\\x201\\x0akafka_brokers\\x2099\\x0a t/0 1\nQUIT\n", &["ACK", "OK"]);
    let lines = scrape(&broker, "*/*");
    assert_eq!(lines.iter().filter(|line| line.starts_with("kafka_brokers ")).count(), 1, "{lines:?}");
    let row = r#"kafka_consumergroup_members{consumergroup="a\"} 1\nkafka_brokers 99\n"} 0"#;
    assert!(lines.iter().any(|line| line == row), "{lines:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_scrape_opens_no_log_and_tells_what_was_there_before_the_stop() {
    let mut broker = Broker::on_disk();
    broker.expect(
        "CREATE orders partitions:3\nSEND orders/0 message:a\nSEND orders/2 message:b\nSEND orders/2 message:c\nQUIT\n",
        &["OK", "ACK", "ACK", "ACK"],
    );
    let offsets = |broker: &Broker| -> Vec<String> {
        let of_partitions = |line: &String| line.starts_with("kafka_topic_partition_") || line.contains("_size_bytes");
        scrape(broker, "*/*").into_iter().filter(of_partitions).collect()
    };
    let before = offsets(&broker);
    assert!(before.iter().any(|line| line.ends_with(r#"{topic="orders",partition="2"} 2"#)), "{before:?}");
    assert!(broker.stop().success());
    broker.restart();
    assert_eq!(offsets(&broker), before);
    assert_eq!(broker.get("/api/topics").json()["topics"][0]["records"], 3);
    let files = std::fs::read_dir(format!("/proc/{}/fd", broker.id())).unwrap();
    let open: Vec<_> = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok()).collect();
    let logs: Vec<_> = open.iter().filter(|path| path.to_string_lossy().contains("/orders/")).collect();
    assert!(logs.is_empty(), "{logs:?}");
    broker.expect("SEND orders/0 message:d\nQUIT\n", &["ACK topic:orders partition:0 offset:1"]);
    assert_eq!(value(&broker, r#"kafka_topic_partition_current_offset{topic="orders",partition="0"}"#), Some(2.0));
}

/// After a crash only opening a log tells where it ends.
#[test]
fn what_nobody_can_know_yet_is_not_told() {
    let mut broker = Broker::on_disk();
    broker.expect("SEND orders message:a\nQUIT\n", &["ACK"]);
    broker.kill();
    broker.restart();
    let metric = r#"kafka_topic_partition_current_offset{topic="orders",partition="0"}"#;
    assert_eq!(value(&broker, metric), None);
    broker.expect("CONSUME 0\nFETCH orders/0 0\nQUIT\n", &["", "RECORDS"]);
    assert_eq!(value(&broker, metric), Some(1.0));
}

#[test]
fn the_cluster_and_info_tell_the_same_sums() {
    let broker = Broker::start();
    broker.expect("SEND t message:a\nPINK\nFETCH t/0 0\nQUIT\n", &["ACK", "ERROR", "RECORDS"]);
    assert_eq!(broker.get("/nowhere").status, 404);
    let cluster = broker.get("/api/cluster").json();
    for (name, wanted) in
        [("text_requests", 4), ("errors", 2), ("records_in", 1), ("records_read", 1), ("rebalances", 0)]
    {
        assert_eq!(cluster[name], wanted, "{name}");
    }
    assert!(cluster["resident_bytes"].as_u64().is_none_or(|bytes| bytes > 1 << 20), "{cluster}");
    let mut text = broker.connect();
    let count = text.say("INFO\n").line();
    let count: usize = count.strip_prefix("INFO count:").unwrap().parse().unwrap();
    let told: Vec<String> = (0..count).map(|_| text.line()).collect();
    for name in ["text_requests", "errors", "records_in", "bytes_in", "records_read", "bytes_read", "damaged_batches"] {
        let line = format!("{name}:{}", cluster[name]);
        assert!(told.contains(&line), "{line} {told:?}");
    }
}

#[test]
fn damage_is_counted_when_it_is_met() {
    let mut broker = Broker::on_disk();
    broker.expect("SEND t message:hello\nQUIT\n", &["ACK"]);
    assert_eq!(value(&broker, "plainlog_damaged_batches_total"), Some(0.0));
    assert!(broker.stop().success());
    let log = broker.folder().join("t/0/00000000000000000000.log");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replace("hello", "hollo")).unwrap();
    broker.restart();
    broker.expect("FETCH t/0 0\nQUIT\n", &["ERROR CORRUPT_MESSAGE"]);
    assert!(value(&broker, "plainlog_damaged_batches_total").unwrap() >= 1.0);
}

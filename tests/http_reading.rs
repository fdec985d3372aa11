//! Reading records over HTTP: as pages, as lines and as events; searched, waited for and exported.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{
    Broker,
    http::Http,
    records::{AS_EVENTS, AS_LINES, BYTES, Event, Events, JSON, lines, page, post, store, store_at, topic, values},
    text, until,
};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::Read,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

#[test]
fn pages_lead_both_ways_by_time_and_each_record_is_on_one_of_them() {
    let broker = Broker::start();
    topic(&broker, "orders", 3);
    // Partition 0 has every second one, partition 2 none.
    for number in 0..40_u64 {
        let partition = if number % 2 == 0 { 0 } else { 1 };
        store_at(&broker, "orders", partition, 1_700_000_000_000 + number, &number.to_string());
    }
    let (mut from, mut forth) = ("earliest".to_string(), Vec::new());
    let mut befores = Vec::new();
    loop {
        let read = page(&broker, &format!("/api/topics/orders/records?count=7&from={from}"));
        befores.push(read["previous"].clone());
        if read["records"] == json!([]) {
            break;
        }
        forth.extend(values(&read["records"]).into_iter().map(String::from));
        from = read["next"].as_str().unwrap().to_string();
    }
    let expected: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    assert_eq!(forth, expected);
    assert_eq!(from, "0:20,1:20,2:0");
    assert_eq!(befores[0], Value::Null);
    let (mut before, mut back) = (befores.pop().unwrap(), Vec::new());
    while let Some(from) = before.as_str() {
        let read = page(&broker, &format!("/api/topics/orders/records?count=7&from={from}"));
        let there = values(&read["records"]).into_iter().map(String::from).collect::<Vec<_>>();
        assert!(!there.is_empty() && there.len() <= 7);
        // What stands behind it is the page that led here.
        let behind =
            page(&broker, &format!("/api/topics/orders/records?count=1&from={}", read["next"].as_str().unwrap()));
        assert_eq!(values(&behind["records"]).first().copied(), back.first().map(String::as_str));
        back.splice(0..0, there);
        before = read["previous"].clone();
    }
    assert_eq!(back, expected);
}

#[test]
fn a_page_begins_and_ends_where_it_is_asked_to() {
    let broker = Broker::start();
    topic(&broker, "orders", 2);
    for number in 0..10_u64 {
        store_at(&broker, "orders", (number % 2) as u32, 1_700_000_000_000 + 1_000 * number, &number.to_string());
    }
    let read = |query: &str| {
        let read = page(&broker, &format!("/api/topics/orders/records?{query}"));
        values(&read["records"]).join("")
    };
    assert_eq!(read(""), "0123456789");
    assert_eq!(read("from=-3"), "789", "the newest by time");
    assert_eq!(read("from=-3&partition=0"), "468");
    assert_eq!(read("from=-0"), "");
    assert_eq!(read("from=-100"), "0123456789");
    assert_eq!(read("from=latest"), "");
    assert_eq!(read("from=3"), "6789");
    assert_eq!(read("from=3&partition=1"), "79");
    assert_eq!(read("from=2023-11-14T22:13:24Z"), "456789");
    assert_eq!(read("from=2023-11-14T22:13:24Z&to=2023-11-14T22:13:26Z"), "45");
    assert_eq!(read("from=1&to=3"), "2345");
    assert_eq!(read("from=0:4,1:1&to=latest"), "35789");
    assert_eq!(read("from=1:4"), "024689", "a partition that is not named is read from its start");
    assert_eq!(read("from=before:0:4,1:3&count=3"), "456");
    assert_eq!(read("count=0"), "");
    assert_eq!(read("max_bytes=1"), "0");
    assert_eq!(read("from=before:0:5,1:5&max_bytes=1"), "9");
    for (query, status) in [
        ("from=99&partition=0", 400),
        ("from=soon", 400),
        ("to=0:1", 400),
        ("partition=2", 404),
        ("count=10001", 400),
        ("count=-1", 400),
        ("isolation=none", 400),
        ("wait=soon", 400),
        ("format=csv", 400),
    ] {
        assert_eq!(broker.get(&format!("/api/topics/orders/records?{query}")).status, status, "{query}");
    }
    assert_eq!(broker.get("/api/topics/none/records").status, 404);
    assert_eq!(broker.http().ask("HEAD", "/api/topics/orders/records", "", b"").status, 200);
}

#[test]
fn a_page_of_nothing_is_waited_for() {
    let broker = Broker::start();
    topic(&broker, "orders", 2);
    let mut http = broker.http();
    http.request("GET", "/api/topics/orders/records?from=0:0,1:0&wait=1h", "", b"");
    store(&broker, "orders", 1, &["late"]);
    assert_eq!(values(&http.answer("GET").json()["records"]), ["late"]);
    let none = http.ask("GET", "/api/topics/orders/records?from=latest&wait=1ms", "", b"");
    assert_eq!(none.json()["records"], json!([]));
    http.request("GET", "/api/topics/orders/records?from=latest&wait=1h&count=2", AS_LINES, b"");
    assert_eq!(http.head().status, 200);
    store(&broker, "orders", 0, &["one", "two"]);
    let mut body = Vec::new();
    while let Some(chunk) = http.chunk() {
        body.extend(chunk);
    }
    assert_eq!(text(&body).lines().count(), 2);
}

/// Each write woke it to look anew, and the time was asked only where there was none.
#[test]
fn a_wait_ends_though_others_write_all_the_time() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    let mut writer = broker.connect();
    let are_answered = AtomicBool::new(false);
    thread::scope(|scope| {
        let are_answered = &are_answered;
        let writing = scope.spawn(move || {
            (0..100_000).all(|_| {
                writer.say("SEND orders/0 message:a\n");
                writer.line().starts_with("ACK") && !are_answered.load(Relaxed)
            })
        });
        for (query, accept) in [("match=b", ""), ("match=b", AS_LINES), ("", AS_LINES)] {
            let target = format!("/api/topics/orders/records?from=latest&wait=50ms&{query}");
            assert_eq!(broker.http().ask("GET", &target, accept, b"").status, 200);
        }
        are_answered.store(true, Relaxed);
        assert!(!writing.join().unwrap(), "they were answered only when nothing more was written");
    });
}

/// There was always more to send, so that it was never asked what time it is.
#[test]
fn a_wait_ends_though_its_client_reads_more_slowly_than_others_write() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    let value = "x".repeat(100_000);
    // More than a connection holds unread.
    store(&broker, "orders", 0, &[value.as_str(); 120]);
    let mut http = broker.http();
    http.request("GET", "/api/topics/orders/records?wait=1ms", AS_LINES, b"");
    assert_eq!(http.head().status, 200);
    let mut chunks = 0;
    while http.chunk().is_some() {
        store(&broker, "orders", 0, &[&value]);
        chunks += 1;
        assert!(chunks < 1_000, "it goes on with what is written now");
    }
    assert!(chunks >= 120, "{chunks}: what was there is sent");
}

/// As `nc -N` does: it sends, says that this is all, and reads.
#[test]
fn who_sends_no_more_is_answered_all_the_same() {
    let broker = Broker::start();
    topic(&broker, "orders", 2);
    let body = ("x".repeat(3_999) + "\n").repeat(5_000);
    assert_eq!(post(&broker, "/api/topics/orders/records?partition=0", BYTES, body).json()["stored"], 5_000);
    store(&broker, "orders", 1, &["a", "b"]);
    let ask = |queries: &[&str]| {
        let mut http = broker.http();
        for query in queries {
            http.request("GET", &format!("/api/topics/orders/{query}"), AS_LINES, b"");
        }
        http.end();
        http
    };
    for (query, count) in [
        ("records", 5_002),
        ("records?partition=0&from=4999&wait=1ms", 1),
        ("records?partition=0&from=4999&wait=1h", 1),
        ("records?partition=1&match=b", 1),
        ("records?partition=1&match=none", 0),
        ("export", 5_002),
    ] {
        assert_eq!(lines(&ask(&[query]).answer("GET")).len(), count, "{query}");
    }
    // Where nobody may be waiting for what is not found in much, it is given up; what was answered before is not.
    let mut http = ask(&["records?partition=1&match=b", "records?match=none"]);
    assert_eq!(lines(&http.answer("GET")).len(), 1);
    let page = |query: &str| {
        let mut http = broker.http();
        http.request("GET", &format!("/api/topics/orders/records?{query}"), "", b"");
        http.end();
        http.answer("GET").json()["records"].as_array().unwrap().len()
    };
    assert_eq!(
        (page(""), page("from=-2"), page("partition=1&match=none"), page("match=a&partition=1")),
        (100, 2, 0, 1)
    );
    assert_eq!(page("from=before:0:50,1:1"), 51);
}

#[test]
fn what_is_compressed_is_sent_before_there_is_a_wait() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    let mut http = broker.http();
    let headers = format!("{AS_LINES}Accept-Encoding: gzip\r\n");
    http.request("GET", "/api/topics/orders/records?wait=1h", &headers, b"");
    assert_eq!(http.head().header("content-encoding"), "gzip");
    let value = "x".repeat(70_000);
    store(&broker, "orders", 0, &[&value]);
    let (mut sent, mut shown) = (Vec::new(), Vec::new());
    while !shown.ends_with(b"\n") {
        sent.extend(http.chunk().unwrap());
        shown.clear();
        // Its end has not come.
        let _ = GzDecoder::new(&sent[..]).read_to_end(&mut shown);
    }
    assert_eq!(serde_json::from_slice::<Value>(&shown).unwrap()["value"], value);
}

#[test]
fn lines_go_to_the_end_and_wait_for_more_only_if_asked() {
    let broker = Broker::start();
    topic(&broker, "orders", 2);
    store(&broker, "orders", 0, &["a", "b", "c"]);
    store(&broker, "orders", 1, &["d"]);
    let ask = |query: &str| broker.http().ask("GET", &format!("/api/topics/orders/records?{query}"), AS_LINES, b"");
    assert_eq!(lines(&ask("")).len(), 4);
    assert_eq!(lines(&ask("from=1&partition=0")).len(), 2);
    assert_eq!(lines(&ask("count=3")).len(), 3);
    assert_eq!(lines(&ask("max_bytes=1")).len(), 1);
    assert_eq!(lines(&ask("from=-2&wait=1ms")).len(), 2);
    assert_eq!(ask("from=before:0:1").status, 400);
    let compressed =
        broker.http().ask("GET", "/api/topics/orders/records", &format!("{AS_LINES}Accept-Encoding: gzip\r\n"), b"");
    assert_eq!((compressed.header("content-encoding"), &compressed.body[..2]), ("gzip", &[0x1f, 0x8b][..]));
}

#[test]
fn what_is_sought_is_found_wherever_and_however_it_stands() {
    let broker = Broker::start();
    topic(&broker, "orders", 2);
    let records = json!([
        { "value": "plain needle", "partition": 0 },
        { "value": "nothing", "key": "needle", "partition": 1 },
        { "value": "line\nneedle", "partition": 0 },
        { "value_base64": "AG5lZWRsZf8=", "partition": 1 },
        { "value": "x", "headers": [["needle", null]], "partition": 0 },
        { "value": "x", "headers": [["trace", "a needle"]], "partition": 0 },
        { "value": "x", "key": "a b", "headers": [["trace", "a b"], ["trace", "c:d"]], "partition": 1 },
        { "value": "Needle", "partition": 1 },
        { "value": null, "key": "x", "partition": 1 },
    ]);
    assert_eq!(post(&broker, "/api/topics/orders/records", JSON, records.to_string()).status, 200);
    let count = |query: &str| {
        let target = format!("/api/topics/orders/records?{query}");
        let read = page(&broker, &target)["records"].as_array().unwrap().len();
        let streamed = lines(&broker.http().ask("GET", &target, AS_LINES, b"")).len();
        assert_eq!(read, streamed, "{query}");
        read
    };
    assert_eq!(count("match=needle"), 6);
    assert_eq!(count("match=needle&partition=1"), 2);
    assert_eq!(count("match=%00needle"), 1);
    assert_eq!(count("match=%0aneedle"), 1);
    assert_eq!(count("match=message"), 0);
    assert_eq!(count("key=needle"), 1);
    assert_eq!(count("key=need"), 0);
    assert_eq!(count("key=a+b&header.trace=c:d"), 1);
    assert_eq!(count("header.trace=a+b"), 1);
    assert_eq!(count("header.trace=a"), 0);
    assert_eq!(count("match=needle&match=line"), 1);
    // A search pages both ways, too.
    let first = page(&broker, "/api/topics/orders/records?match=needle&count=4");
    let rest =
        page(&broker, &format!("/api/topics/orders/records?match=needle&from={}", first["next"].as_str().unwrap()));
    assert_eq!(rest["records"].as_array().unwrap().len(), 2);
    let before = rest["previous"].as_str().unwrap();
    let again = page(&broker, &format!("/api/topics/orders/records?match=needle&count=4&from={before}"));
    assert_eq!(again["records"], first["records"]);
    assert_eq!(
        page(&broker, "/api/topics/orders/records?match=needle&from=-1")["records"],
        json!([rest["records"][1]])
    );
}

#[test]
fn a_search_says_how_far_it_is() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    store(&broker, "orders", 0, &["needle", "b", "c"]);
    let mut events = Events::open(&broker, "/api/topics/orders/records?from=earliest&match=needle", "");
    assert_eq!(events.record()["offset"], 0);
    let progress = events.next().unwrap();
    assert_eq!(progress.name, "progress");
    assert!(
        progress.data["bytes"].as_u64().unwrap() > 0 && progress.data["bytes"] == progress.data["of"],
        "{progress:?}"
    );
    assert_eq!(events.last_id, "0:2", "nobody need look there again");
    store(&broker, "orders", 0, &["d", "another needle"]);
    loop {
        let event = events.next().unwrap();
        if event.name == "message" {
            break assert_eq!(event.data["offset"], 4);
        }
    }
}

#[test]
fn events_begin_with_where_they_begin_and_lose_nothing() {
    let broker = Broker::start();
    topic(&broker, "orders", 2);
    store(&broker, "orders", 0, &["a", "b"]);
    let events = Events::open(&broker, "/api/topics/orders/records", "").opened();
    assert_eq!(events.text, "id: 0:1,1:-1\n\n", "from the end");
    let opened = "0:1,1:-1";
    drop(events);
    // Nobody was there when it came.
    store(&broker, "orders", 1, &["c"]);
    let mut events = Events::open(&broker, "/api/topics/orders/records", opened);
    assert_eq!(events.record()["value"], "c");
    assert_eq!(events.last_id, "0:1,1:0");
    store(&broker, "orders", 0, &["d"]);
    assert_eq!(events.record()["value"], "d");
    assert_eq!(events.last_id, "0:2,1:0");
    // The id goes before what the address says, and a partition that it does not name is read from its start.
    let mut events = Events::open(&broker, "/api/topics/orders/records?from=latest", "0:1");
    let mut read = [events.record()["value"].clone(), events.record()["value"].clone()];
    read.sort_by_key(Value::to_string);
    assert_eq!(read, ["c", "d"]);
    // One that is added while somebody reads is read, too.
    let added = broker.send_json("PATCH", "/api/topics/orders", "{\"partitions\":3}");
    assert_eq!(added.status, 200);
    store(&broker, "orders", 2, &["e"]);
    assert_eq!(events.record()["value"], "e");
    assert_eq!(events.last_id, "0:2,1:0,2:0");
    let mut one = Events::open(&broker, "/api/topics/orders/records?partition=0&from=earliest", "");
    one.record();
    assert_eq!(one.last_id, "0:0");
    for bad in ["x", "0:", "end,0:1"] {
        let headers = format!("{AS_EVENTS}Last-Event-ID: {bad}\r\n");
        assert_eq!(broker.http().ask("GET", "/api/topics/orders/records", &headers, b"").status, 400, "{bad}");
    }
    assert_eq!(broker.http().ask("GET", "/api/topics/orders/records?wait=1s", AS_EVENTS, b"").status, 400);
    assert_eq!(broker.http().ask("HEAD", "/api/topics/orders/records", AS_EVENTS, b"").status, 200);
}

#[test]
fn what_is_gone_is_told_as_a_gap_until_a_record_came() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    store(&broker, "orders", 0, &["a", "b", "c", "d"]);
    let trimmed = broker.http().ask("DELETE", "/api/topics/orders/records?partition=0&before=2", "", b"");
    assert_eq!(trimmed.status, 200, "{trimmed:?}");
    for _ in 0..2 {
        let mut events = Events::open(&broker, "/api/topics/orders/records", "0:0");
        let gap = events.next().unwrap();
        assert_eq!((&*gap.name, &gap.data["from"], &gap.data["to"]), ("gap", &json!(1), &json!(2)));
        assert_eq!((gap.data["partition"].clone(), &*events.last_id), (json!(0), "0:0"), "a gap has no id");
        assert_eq!(events.record()["value"], "c");
        assert_eq!(events.last_id, "0:2");
    }
    let mut events = Events::open(&broker, "/api/topics/orders/records", "0:99");
    let gap = events.next().unwrap();
    assert_eq!((&gap.data["from"], &gap.data["to"]), (&json!(100), &json!(4)));
    store(&broker, "orders", 0, &["e"]);
    assert_eq!(events.record()["value"], "e");
    // It is told in the other forms, too.
    let read = page(&broker, "/api/topics/orders/records?from=0:0");
    assert_eq!((values(&read["records"]), &read["gaps"][0]["to"]), (vec!["c", "d", "e"], &json!(2)));
    let read = lines(&broker.http().ask("GET", "/api/topics/orders/records?from=0:0", AS_LINES, b""));
    assert_eq!((&read[0]["gap"]["to"], read.len()), (&json!(2), 4));
    // Who reads on without a break learns of it, too.
    let mut slow = Events::open(&broker, "/api/topics/orders/records?from=earliest", "");
    assert_eq!(slow.record()["offset"], 2);
}

#[test]
fn events_that_are_bounded_end_for_good() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    store(&broker, "orders", 0, &["a", "b", "c"]);
    for (query, count) in [("from=earliest&to=2", 2), ("from=earliest&count=1", 1), ("from=latest&to=latest", 0)] {
        let mut events = Events::open(&broker, &format!("/api/topics/orders/records?{query}"), "");
        (0..count).for_each(|offset| assert_eq!(events.record()["offset"], offset));
        assert_eq!(events.next(), Some(Event { name: "end".into(), data: json!({}) }));
        assert_eq!(events.next(), None);
        assert_eq!(events.last_id, "end");
        let again = format!("{AS_EVENTS}Last-Event-ID: end\r\n");
        // On the same connection, which goes on.
        assert_eq!(events.http.ask("GET", "/api/topics/orders/records", &again, b"").status, 204);
    }
    // What is asked for may be still to come.
    let mut events = Events::open(&broker, "/api/topics/orders/records?to=4", "");
    store(&broker, "orders", 0, &["d", "e"]);
    assert_eq!(events.record()["value"], "d");
    assert_eq!(events.next().unwrap().name, "end");
}

#[test]
fn a_topic_that_is_dropped_cuts_its_readers_off() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    let mut events = Events::open(&broker, "/api/topics/orders/records", "").opened();
    assert_eq!(broker.http().ask("DELETE", "/api/topics/orders", "", b"").status, 200);
    let Event { name, data } = events.next().unwrap();
    assert_eq!((&*name, &data["error"]), ("refused", &json!("UNKNOWN_TOPIC_OR_PARTITION")));
    assert!(events.http.is_closed());
    assert_eq!(
        broker
            .http()
            .ask("GET", "/api/topics/orders/records", &format!("{AS_EVENTS}Last-Event-ID: 0:5\r\n"), b"")
            .status,
        404
    );
}

#[test]
fn nobody_is_waited_for_who_is_gone_and_a_broker_that_stops_lets_its_readers_go() {
    let mut broker = Broker::start();
    topic(&broker, "orders", 2);
    for (query, accept) in [("wait=1h", ""), ("wait=1h", AS_LINES), ("", AS_EVENTS)] {
        let mut http = broker.http();
        http.request("GET", &format!("/api/topics/orders/records?from=latest&{query}"), accept, b"");
    }
    // Each is noticed by itself: the one that asks is left.
    until("they are gone", || page(&broker, "/api/connections")["connections"].as_array().unwrap().len() == 1);
    let mut events = Events::open(&broker, "/api/topics/orders/records", "").opened();
    let mut waiting = broker.http();
    waiting.request("GET", "/api/topics/orders/records?wait=1h", AS_LINES, b"");
    assert_eq!(waiting.head().status, 200);
    assert!(broker.stop().success());
    assert!(events.http.is_closed() && waiting.is_closed());
}

/// A batch that is damaged hides nothing around it.
#[test]
fn what_is_damaged_is_told_as_a_gap_and_read_over() {
    let folder = std::env::temp_dir().join(format!("plainlog-damaged-{}", std::process::id()));
    let options = ["--data-dir", folder.to_str().unwrap()];
    let mut broker = Broker::with(&options);
    topic(&broker, "orders", 1);
    ["a", "b", "c"].iter().for_each(|value| store(&broker, "orders", 0, &[value]));
    assert!(broker.stop().success());
    let log = folder.join("orders/0/00000000000000000000.log");
    let damaged = std::fs::read_to_string(&log).unwrap().replace("message:b", "message:X");
    std::fs::write(&log, damaged).unwrap();
    let broker = Broker::with(&options);
    let gap =
        |gap: &Value| assert_eq!((&gap["partition"], &gap["from"], &gap["to"]), (&json!(0), &json!(1), &json!(2)));
    let read = page(&broker, "/api/topics/orders/records");
    assert_eq!(values(&read["records"]), ["a", "c"]);
    gap(&read["gaps"][0]);
    assert_eq!(values(&page(&broker, "/api/topics/orders/records?from=-3")["records"]), ["a", "c"]);
    let read = lines(&broker.http().ask("GET", "/api/topics/orders/records", AS_LINES, b""));
    assert_eq!((&read[0]["value"], &read[2]["value"]), (&json!("a"), &json!("c")));
    gap(&read[1]["gap"]);
    let mut events = Events::open(&broker, "/api/topics/orders/records?from=earliest", "");
    assert_eq!(events.record()["value"], "a");
    gap(&events.next().unwrap().data);
    assert_eq!(events.record()["value"], "c");
    // A table cannot tell of it, so it breaks off where it is.
    let mut http = broker.http();
    http.request("GET", "/api/topics/orders/export?format=csv", "", b"");
    assert_eq!(http.head().status, 200);
    while !http.is_closed() {
        assert!(!text(&http.chunk().unwrap()).contains(",c,"));
    }
    let errors = "plainlog_request_errors_total{protocol=\"http\",request=\"GET /api/topics/{topic}/export\"} 1\n";
    let counted = broker.get("/metrics");
    assert!(counted.text().contains(errors), "what breaks off is no success: {}", counted.text());
    drop(broker);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn who_reads_slowly_is_waited_for_and_costs_no_memory() {
    let broker = Broker::on_disk();
    topic(&broker, "orders", 2);
    let slow = Events::open(&broker, "/api/topics/orders/records?from=earliest", "").opened();
    let line = "x".repeat(4_000) + "\n";
    let body = line.repeat(3_500);
    for partition in [0, 1] {
        let target = format!("/api/topics/orders/records?partition={partition}");
        assert_eq!(post(&broker, &target, BYTES, &body).json()["stored"], 3_500);
    }
    let mut next = [0, 0];
    let mut events = slow;
    while next != [3_500, 3_500] {
        let record = events.record();
        let next = &mut next[record["partition"].as_u64().unwrap() as usize];
        assert_eq!(record["offset"], *next);
        *next += 1;
    }
    let peak = broker.peak_memory();
    assert!(peak < 16 << 20, "{peak} bytes for a reader of 28 MB");
}

/// As a browser does whose connection breaks again and again.
#[test]
fn a_reader_that_is_cut_off_twenty_times_has_each_record_once() {
    let broker = Broker::start();
    topic(&broker, "orders", 3);
    let address = broker.address.clone();
    let count = 3_000;
    let writer = thread::spawn(move || {
        for begin in (0..count).step_by(50) {
            let records: Vec<Value> = (begin..begin + 50)
                .map(|number| json!({ "value": number.to_string(), "partition": number % 3 }))
                .collect();
            let answer = Http::to(&address).ask(
                "POST",
                "/api/topics/orders/records",
                JSON,
                json!(records).to_string().as_bytes(),
            );
            assert_eq!(answer.status, 200);
        }
    });
    let (mut last_id, mut cut_off) = ("0:-1,1:-1,2:-1".to_string(), 0);
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    while seen.len() < count as usize {
        let mut events = Events::open(&broker, "/api/topics/orders/records", &last_id);
        let until = if cut_off < 20 { seen.len() + 1 + cut_off * 7 } else { count as usize };
        while seen.len() < until.min(count as usize) {
            let record = events.record();
            *seen.entry(record["value"].as_str().unwrap().into()).or_default() += 1;
        }
        last_id = events.last_id.clone();
        cut_off += 1;
    }
    writer.join().unwrap();
    assert!(cut_off > 20 && seen.values().all(|times| *times == 1), "{cut_off}");
}

#[test]
fn more_partitions_than_an_id_can_name_are_refused() {
    let broker = Broker::start();
    topic(&broker, "many", 501);
    let ask = |query: &str, accept: &str| {
        broker.http().ask("GET", &format!("/api/topics/many/records{query}"), accept, b"").status
    };
    assert_eq!(ask("", AS_EVENTS), 400);
    assert_eq!(ask("", ""), 400);
    assert_eq!(ask("?partition=500", ""), 200);
    assert_eq!(ask("", AS_LINES), 200);
}

#[test]
fn hostile_records_are_json_all_the_same() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    let large = "<&\"\u{0}".repeat(255 << 10);
    let records = json!([
        { "value": "<script>alert(1)</script>", "key": "\r\n\r\nid: 7\ndata: x" },
        { "value": "\u{1b}[2J\u{7}\u{85}\u{2028}", "headers": [["\u{0}", "\u{feff}"]] },
        { "value_base64": "gICA", "key_base64": "/v8=" },
        { "value": large },
    ]);
    assert_eq!(post(&broker, "/api/topics/orders/records", JSON, records.to_string()).status, 200);
    let read = page(&broker, "/api/topics/orders/records");
    for (record, sent) in read["records"].as_array().unwrap().iter().zip(records.as_array().unwrap()) {
        sent.as_object().unwrap().iter().for_each(|(name, value)| assert_eq!(&record[name], value));
    }
    let mut events = Events::open(&broker, "/api/topics/orders/records?from=earliest", "");
    for sent in records.as_array().unwrap() {
        let record = events.record();
        sent.as_object().unwrap().iter().for_each(|(name, value)| assert_eq!(&record[name], value));
    }
    assert_eq!(events.last_id, "0:3");
}

#[test]
fn an_export_is_a_file() {
    let broker = Broker::start();
    topic(&broker, "orders", 2);
    store(&broker, "orders", 0, &["a,\"b\"", "c"]);
    store(&broker, "orders", 1, &["d"]);
    let answer = broker.get("/api/topics/orders/export");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"orders.ndjson\"");
    assert_eq!((answer.header("content-type"), lines(&answer).len()), ("application/x-ndjson", 3));
    let answer = broker.get("/api/topics/orders/export?format=csv&partition=0&to=1");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"orders.csv\"");
    let rows: Vec<&str> = answer.text().lines().collect();
    assert_eq!(rows[0], "topic,partition,offset,timestamp,key,key_base64,value,value_base64,headers");
    assert!(rows[1].starts_with("orders,0,0,") && rows[1].ends_with(",,,\"a,\"\"b\"\"\",,"), "{}", rows[1]);
    assert_eq!(rows.len(), 2);
    assert_eq!(lines(&broker.get("/api/topics/orders/export?match=c")).len(), 1);
    assert_eq!(broker.get("/api/topics/orders/export?format=xml").status, 400);
    assert_eq!(broker.get("/api/topics/orders/export?count=1").status, 400);
    assert_eq!(broker.get("/api/topics/none/export").status, 404);
}

#[test]
fn transactions_that_are_open_or_aborted_are_not_shown_unless_asked_for() {
    let broker = Broker::start();
    topic(&broker, "orders", 1);
    broker.expect("BEGIN t1\nSEND orders message:a\nABORT\n", &["OK", "ACK", "OK"]);
    store(&broker, "orders", 0, &["b"]);
    assert_eq!(values(&page(&broker, "/api/topics/orders/records")["records"]), ["b"]);
    let all = page(&broker, "/api/topics/orders/records?isolation=read_uncommitted");
    assert_eq!(values(&all["records"]), ["a", "b"], "a marker is no record");
    let mut events = Events::open(&broker, "/api/topics/orders/records?from=earliest", "");
    assert_eq!(events.record()["value"], "b");
}

//! Acknowledgements that come together share a sync, and each is told the truth.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::Broker;
use plainlog::{
    Config, Server,
    broker::{self, Clock},
    log::disk::{Call, Fault, MemoryDisk},
};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::Arc,
};

#[test]
fn acknowledgements_that_come_together_share_a_sync() {
    let broker = Broker::on_disk();
    let mut connection = broker.connect();
    let lines: String = (0..500).map(|number| format!("SEND orders message:{number}\n")).collect();
    connection.say(&lines);
    (0..500).for_each(|_| assert!(connection.line().starts_with("ACK ")));
    assert!(connection.say("JOIN jobs orders mode:share\n").line().starts_with("JOINED "));
    let syncs = |connection: &mut common::Lines| -> u64 {
        let first = connection.say("INFO\n").line();
        let count: usize = first.strip_prefix("INFO count:").unwrap().parse().unwrap();
        let lines: Vec<_> = (0..count).map(|_| connection.line()).collect();
        lines.iter().find_map(|line| line.strip_prefix("syncs:")).unwrap().parse().unwrap()
    };
    assert_eq!(connection.say("POLL\n").line(), "POLLED count:500 generation:1 assigned:orders/0");
    (0..500).for_each(|_| drop(connection.line()));
    let before = syncs(&mut connection);
    let accepts: String = (0..500).map(|offset| format!("ACCEPT orders/0 {offset}\nACCEPT orders/0 900\n")).collect();
    connection.say(&accepts);
    for offset in 0..500 {
        assert_eq!(connection.line(), "OK", "{offset}");
        assert!(connection.line().starts_with("ERROR INVALID_RECORD_STATE "), "{offset}");
    }
    let shared = syncs(&mut connection) - before;
    assert!(shared < 50, "{shared} syncs");
    let group = connection.say("GROUP jobs\n");
    assert!(group.line().starts_with("GROUP count:2 "));
    group.line();
    assert_eq!(group.line(), "topic:orders partition:0 committed:500 end:500 lag:0 in_flight:0");
}

#[test]
fn a_join_that_is_refused_takes_nothing_away() {
    let broker = Broker::start();
    let mut connection = broker.connect();
    assert!(connection.say("SEND orders message:a\n").line().starts_with("ACK "));
    assert!(connection.say("JOIN jobs orders mode:share\n").line().starts_with("JOINED "));
    assert!(connection.say("POLL\n").line().starts_with("POLLED count:1 "));
    connection.line();
    for refused in
        ["JOIN jobs nosuch mode:share", "JOIN others orders mode:share lock:1", "JOIN jobs orders mode:share lock:5000"]
    {
        assert!(connection.say(&format!("{refused}\n")).line().starts_with("ERROR "), "{refused}");
    }
    let mut others: Vec<_> = (0..200).map(|_| broker.connect()).collect();
    for other in &mut others {
        assert!(other.say("JOIN full orders mode:share\n").line().starts_with("JOINED "));
    }
    let refused = connection.say("JOIN full orders mode:share\n").line();
    assert_eq!(refused, "ERROR GROUP_MAX_SIZE_REACHED the group has 200 members, which is the limit");
    assert_eq!(connection.say("ACCEPT orders/0 0\n").line(), "OK");
}

#[test]
fn what_was_not_synced_is_told_so_instead_of_its_ok() {
    let disk = MemoryDisk::crashable();
    let broker = broker::Broker::open_on(Arc::new(disk.clone()), Config::new("data"), Clock::System).unwrap();
    let server = Server::start(broker, "localhost:0").unwrap();
    let mut stream = TcpStream::connect(("localhost", server.port())).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
    let mut say = |lines: &str, count: usize| -> Vec<String> {
        stream.write_all(lines.as_bytes()).unwrap();
        answers.by_ref().take(count).collect()
    };
    say("SEND orders message:a\nSEND orders message:b\nSEND orders message:c\nJOIN jobs orders mode:share\nPOLL\n", 8);
    assert_eq!(say("ACCEPT orders/0 0\n", 1), ["OK"]);
    disk.fault(Call::Sync, 0, Fault::Error);
    let told = say("ACCEPT orders/0 1\nACCEPT orders/0 9\nACCEPT orders/0 2\nPING\nINFO\n", 5);
    let begins =
        ["ERROR KAFKA_STORAGE_ERROR ", "ERROR INVALID_RECORD_STATE ", "ERROR KAFKA_STORAGE_ERROR ", "PONG", "INFO "];
    assert!(told.iter().zip(begins).all(|(line, begin)| line.starts_with(begin)), "{told:?}");
    assert_eq!(disk.faults_left(), 0);
}

//! The programs on real terminals: the lesson with three of them, and what must not reach one.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]
#![cfg(unix)]

mod common;

use common::{BROKER, Broker, CONSUMER, LONG, PRODUCER};
use rexpect::session::{PtySession, spawn_command};
use std::process::Command;

fn terminal(program: &str, arguments: &[&str]) -> PtySession {
    let mut command = Command::new(program);
    command.args(arguments).env("TERM", "xterm-256color").env_remove("PLAINLOG_BROKER").env_remove("NO_COLOR");
    spawn_command(command, Some(LONG.as_millis() as u64)).unwrap()
}

/// `Broker started on ...`, three programs, two messages.
#[test]
fn the_lesson_with_three_terminals() {
    let mut broker = terminal(BROKER, &["--in-memory", "--listen", "127.0.0.1:0"]);
    broker.exp_string("Broker started on ").unwrap();
    let address = broker.read_line().unwrap().trim().to_string();

    let mut consumer = terminal(CONSUMER, &["-b", &address]);
    consumer.exp_string("Consumer started. Waiting for data...\r\n").unwrap();
    consumer.exp_string(&format!("Connected to broker at {address}\r\n")).unwrap();

    let mut producer = terminal(PRODUCER, &["-b", &address]);
    for (offset, message) in ["hello", "world"].iter().enumerate() {
        producer.exp_string("What do you want to add? (type 'exit' to quit): ").unwrap();
        producer.send_line(message).unwrap();
        producer.exp_string(&format!("Broker response: ACK offset:{offset}\r\n")).unwrap();
        consumer.exp_string(&format!("Consumed: {message} (offset: {offset})\r\n")).unwrap();
    }
    producer.exp_string("What do you want to add? (type 'exit' to quit): ").unwrap();
    producer.send_line("exit").unwrap();
    producer.exp_eof().unwrap();
    ends_well(&producer);

    consumer.send_control('c').unwrap();
    consumer.exp_eof().unwrap();
    ends_well(&consumer);
    broker.send_control('c').unwrap();
    broker.exp_eof().unwrap();
    ends_well(&broker);
}

fn ends_well(session: &PtySession) {
    let status = session.process().wait().unwrap();
    assert!(matches!(status, rexpect::process::WaitStatus::Exited(_, 0)), "{status:?}");
}

#[test]
fn ctrl_c_and_ctrl_d_end_the_conversation() {
    let broker = Broker::start();
    for control in ['c', 'd'] {
        let mut producer = terminal(PRODUCER, &["-b", &broker.address]);
        producer.exp_string("to quit): ").unwrap();
        producer.send_control(control).unwrap();
        producer.exp_eof().unwrap();
        ends_well(&producer);
    }
}

#[test]
fn control_characters_are_shown_and_not_obeyed() {
    let broker = Broker::start();
    broker.expect("SEND messages key:\\x1b[1m escaped:\\x1b[2Jgone\\r\\n\n", &["ACK"]);
    let mut consumer = terminal(CONSUMER, &["-b", &broker.address, "-e"]);
    consumer.exp_string("Consumed: \\x1b[2Jgone\\r\\n (offset: 0)\r\n").unwrap();
    let mut consumer = terminal(CONSUMER, &["-b", &broker.address, "-e", "-f", "%k=%s\\n"]);
    consumer.exp_string("\\x1b[1m=\\x1b[2Jgone\\r\\n\r\n").unwrap();
}

#[cfg(feature = "comfort")]
#[test]
fn a_progress_bar_shows_on_a_terminal_only() {
    let broker = Broker::start();
    let script = format!("(echo one; sleep 0.5; echo two) | {PRODUCER} -b {}", broker.address);
    let mut shell = terminal("sh", &["-c", &script]);
    shell.exp_string("1 messages, ").unwrap();
    let rest = shell.exp_eof().unwrap();
    assert!(rest.contains("2 messages, offsets 0-1; "), "{rest}");
    let piped = broker.produce(&[], "three\n");
    assert!(!common::text(&piped.stderr).contains('\x1b') && common::text(&piped.stderr).lines().count() == 1);
}

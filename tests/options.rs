//! The options of the three programs: a value that cannot be meant is refused at the start, with what would be right.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{BROKER, CONSUMER, PRODUCER, text};
use std::process::{Command, Stdio};

/// Options that each of these programs refuses, and what it says.
fn refused(program: &str, cases: &[(&[&str], &str)]) {
    for (arguments, why) in cases {
        let mut command = Command::new(program);
        command.args(*arguments).env_remove("PLAINLOG_BROKER").stdin(Stdio::null());
        let output = command.output().unwrap();
        let told = text(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.starts_with("error: ") && told.contains(why), "{arguments:?}: {told}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}

/// `--advertise PLAINTEXT://kafka:9092`, as Kafka's own listeners are written, was taken for a host of this name, and
/// every Kafka client was told to connect to it.
#[test]
fn a_broker_refuses_addresses_that_are_none() {
    let cases: &[(&[&str], &str)] = &[
        (&["--advertise", "PLAINTEXT://kafka:9092"], "without 'PLAINTEXT://', such as kafka:9092"),
        (&["--advertise", "kafka"], "the port is missing, such as kafka:9092"),
        (&["--advertise", "kafka:0"], "nobody can connect to port 0"),
        (&["--advertise", "kafka:70000"], "'70000' is not a port"),
        (&["--advertise", "my kafka:9092"], "a host has no ' '"),
        (&["--advertise", "::1:9092"], "in brackets, such as [::1]:9092"),
        (&["--advertise", "0.0.0.0:9092"], "not where it is found"),
        (&["--advertise", ":9092"], "the host is missing"),
        (&["--listen", "9092"], "the port is missing"),
        (&["--listen", ":9092"], "[::]:9092 is every address of this machine"),
        (&["--listen", "http://localhost:9092"], "without 'http://'"),
        (&["--listen", "localhost:99999"], "'99999' is not a port"),
        #[cfg(feature = "http")]
        (&["--http-allow-origin", "shop.example"], "it is http:// or https:// with a host"),
        #[cfg(feature = "http")]
        (&["--http-allow-origin", "https://shop.example/"], "without a path"),
    ];
    refused(BROKER, cases);
}

#[test]
fn a_broker_refuses_quantities_that_cannot_be_meant() {
    let cases: &[(&[&str], &str)] = &[
        (&["--flush", "0"], "for a time of 0 use 'always'"),
        (&["--flush", "sometimes"], "always, never or a time"),
        (&["--flush", "-5"], "always, never or a time"),
        (&["--default-partitions", "0"], "0 is not in 1..="),
        (&["--default-partitions", "many"], "invalid digit"),
        (&["--segment-bytes", "1.5GiB"], "is not a size such as"),
        (&["--segment-bytes", "0"], "segment.bytes"),
        (&["--segment-bytes", "9TiB"], "segment.bytes"),
        (&["--retention-ms", "-2"], "is not a time such as"),
        (&["--retention-ms", "9999999999999999d"], "is too large"),
        (&["--retention-bytes", "lots"], "is not a size such as"),
        (&["--max-message-bytes", "-1"], "is not a size such as"),
        (&["--max-message-bytes", "1TiB"], "max.message.bytes"),
        (&["--max-connections", "0"], "0 is not in 1..="),
        (&["--max-groups", "0"], "0 is not in 1..="),
        (&["--max-connections", "18446744073709551615"], "number too large"),
        (&["--idle-timeout", "0"], "it must be above 0"),
        (&["--idle-timeout", "soon"], "is not a time such as"),
        (&["--fetch-compression", "gzip"], "auto, always or never"),
        (&["--group-min-session", "-1"], "is not a time such as"),
        (&["--retention-check-interval", "0"], "it must be above 0"),
        (&["--retention-check-interval", "-1"], "is not a time such as"),
        (&["--offsets-retention", "1 week"], "is not a time such as"),
        (&["--data-dir", ""], "--data-dir"),
        (&["--in-memory", "--data-dir", "data"], "cannot be used with"),
        (&["--quiet", "--verbose"], "cannot be used with"),
        (&["serve"], "unrecognized subcommand"),
        #[cfg(feature = "comfort")]
        (&["completions", "tcsh"], "'tcsh' is none of bash, elvish, fish, powershell, zsh Usage: broker "),
        #[cfg(not(feature = "comfort"))]
        (&["completions", "bash"], "completions need the feature 'comfort'"),
    ];
    refused(BROKER, cases);
}

/// `broker topic create 'a partitions:9'` made a topic of nine partitions: the name went into the line as it was.
#[test]
fn words_that_would_become_several_are_refused() {
    let cases: &[(&[&str], &str)] = &[
        (&["topic", "create", "a partitions:9"], "is not a topic name"),
        (&["topic", "delete", "a\nDROP b"], "is not a topic name"),
        (&["topic", "describe", ""], "is not a topic name"),
        (&["topic", "alter", "..", "-p", "2"], "is not a topic name"),
        (&["topic", "create", "a", "-c", "retention.ms"], "write NAME=VALUE"),
        (&["topic", "create", "a", "-c", "cleanup.policy=compact, delete"], "a setting has no ' '"),
        (&["topic", "create", "a", "-p", "-1"], "-p"),
        (&["topic", "list", "-b", "http://localhost:9092"], "without 'http://'"),
        (&["group", "describe", ""], "a value is required"),
        (&["group", "reset", "g", "a b", "earliest"], "is not a topic name"),
        (&["group", "reset", "g", "a/b", "earliest"], "'b' is not a partition number"),
        (&["group", "reset", "g", "a", "yesterday"], "is not earliest, latest, an offset"),
        (&["log", "verify"], "required"),
    ];
    refused(BROKER, cases);
}

/// An address with a port out of range was tried again for 30 seconds.
#[test]
fn a_client_refuses_at_once_what_can_never_be_there() {
    for program in [PRODUCER, CONSUMER] {
        let cases: &[(&[&str], &str)] = &[
            (&["-b", "localhost:99999"], "'99999' is not a port"),
            (&["-b", "PLAINTEXT://localhost:9092"], "without 'PLAINTEXT://', such as localhost:9092"),
            (&["-b", "a:9092,b:9092"], "it is one address"),
            (&["-b", ""], "the host is missing"),
            (&["-b", "::1"], "in brackets"),
            (&["-t", "two words"], "is not a topic name"),
            (&["-t", ""], "is not a topic name"),
            (&["-p", "2147483648"], "is not in 0..="),
            (&["-p", "-1"], "-p"),
        ];
        refused(program, cases);
    }
    let of_producer: &[(&[&str], &str)] = &[
        (&["-K", ""], "it cannot be empty"),
        (&["-D", ""], "it cannot be empty"),
        (&["--transaction-timeout", "5s"], "--transactional-id"),
        (&["--transaction-messages", "5"], "--transactional-id"),
    ];
    refused(PRODUCER, of_producer);
    let cases: &[(&[&str], &str)] = &[
        (&["-g", ""], "a value is required"),
        (&["-c", "-1"], "-c"),
        (&["-c", "many"], "invalid digit"),
        (&["--timeout", "1.5s"], "is not a time such as"),
        (&["--from", "tomorrow"], "is not earliest, latest, an offset"),
        (&["-f", "%q"], "is no token"),
        (&["-D", "x"], "--raw"),
    ];
    refused(CONSUMER, cases);
}

/// What has no meaning where a cluster has the records, and what librdkafka does not take, is refused before anything is opened.
#[cfg(feature = "cluster")]
#[test]
fn beside_a_cluster_there_is_no_log_and_its_settings_are_checked() {
    let cases: &[(&[&str], &str)] = &[
        (&["--cluster", "a:1", "--data-dir", "x"], "nothing to be kept here but users"),
        (&["--cluster", "a:1", "--in-memory"], "nothing to be kept here but users"),
        (&["--cluster", "a:1", "--listen", "0.0.0.0:0"], "it takes --users"),
        (&["--cluster", "a:1", "--retention-ms", "1h"], "cannot be used with"),
        (&["--cluster", "a:1,,b:1"], "nodes are HOST:PORT,HOST:PORT"),
        (&["--cluster", "a:1", "--cluster-config", "colour=red"], "No such configuration property"),
        (&["--cluster", "a:1", "--cluster-config", "colour"], "a setting is NAME=VALUE"),
        (
            &["--cluster", "a:1", "--cluster-config", "sasl.password=hush"],
            "sasl.password is a secret, and others on this machine can read a command line; write it into a file for \
             --cluster-config-file",
        ),
        (&["--cluster", "a:1", "--cluster-config-file", "/nowhere/x"], "/nowhere/x: No such file"),
        (&["--cluster-timeout", "3s"], "--cluster <HOST:PORT,...>"),
    ];
    refused(BROKER, cases);
}

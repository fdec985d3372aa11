//! `consumer --group` and `broker group`, run against the real broker.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{BROKER, Broker, CONSUMER, signal, text, until};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout},
};

fn start(broker: &Broker, arguments: &[&str]) -> (Child, std::io::Lines<BufReader<ChildStdout>>) {
    let mut child = broker.command(CONSUMER, arguments).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

fn values(broker: &Broker, arguments: &[&str]) -> String {
    let output = broker.consume(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).to_string()
}

/// What `broker group` answers, and whether it succeeded.
fn group(broker: &Broker, arguments: &[&str]) -> (String, bool) {
    let output = broker.command(BROKER, &[&["group"], arguments].concat()).output().unwrap();
    let answer = if output.status.success() { &output.stdout } else { &output.stderr };
    (text(answer).to_string(), output.status.success())
}

fn send(broker: &Broker, value: &str) {
    let lines: String = (0..3).map(|partition| format!("SEND t/{partition} message:{value}-{partition}\n")).collect();
    broker.expect(&lines, &["ACK", "ACK", "ACK"]);
}

/// Waits until the members of `analytics` have so many partitions each, fewest first.
fn await_shares(broker: &Broker, wanted: &[usize]) {
    let mut connection = broker.connect();
    until(&format!("the shares are {wanted:?}"), || {
        let first = connection.say("GROUP analytics\n").line();
        let lines =
            first.strip_prefix("GROUP count:").map_or(0, |rest| rest.split(' ').next().unwrap().parse().unwrap());
        let lines: Vec<_> = (0..lines).map(|_| connection.line()).collect();
        let assigned = lines.iter().filter_map(|line| line.strip_prefix("member:")?.split_once("assigned:"));
        let mut shares: Vec<_> = assigned
            .map(|(_, all)| all.split(" target:").next().unwrap().split(',').filter(|one| !one.is_empty()).count())
            .collect();
        shares.sort();
        shares == wanted
    });
}

/// Waits until group `g` has committed all of `messages/0`.
fn await_commit(broker: &Broker) {
    let all = "messages  0          1          1    0\n";
    until("it commits", || group(broker, &["describe", "g"]).0.contains(all));
}

#[test]
fn members_share_the_partitions_and_take_over_from_each_other() {
    let mut broker = Broker::on_disk();
    broker.expect("CREATE t partitions:3\n", &["OK"]);
    let member = ["-t", "t", "--group", "analytics", "-f", "%s\\n"];
    let (mut one, mut one_lines) = start(&broker, &member);
    await_shares(&broker, &[3]);
    let (mut two, mut two_lines) = start(&broker, &member);
    await_shares(&broker, &[1, 2]);
    send(&broker, "a");
    let (mut ones, mut twos) = (BTreeSet::new(), BTreeSet::new());
    ones.insert(one_lines.next().unwrap().unwrap());
    twos.insert(two_lines.next().unwrap().unwrap());
    // Interrupted, it commits what it printed and leaves: the other goes on with all three partitions.
    signal(&one, "INT");
    assert!(one.wait().unwrap().success());
    ones.extend(one_lines.map(Result::unwrap));
    twos.extend((0..3 - ones.len() - twos.len()).map(|_| two_lines.next().unwrap().unwrap()));
    assert!(ones.is_disjoint(&twos));
    assert_eq!(ones.union(&twos).cloned().collect::<Vec<_>>(), ["a-0", "a-1", "a-2"]);
    await_shares(&broker, &[3]);
    send(&broker, "b");
    let taken_over: BTreeSet<_> = (0..3).map(|_| two_lines.next().unwrap().unwrap()).collect();
    assert_eq!(Vec::from_iter(taken_over), ["b-0", "b-1", "b-2"]);
    signal(&two, "TERM");
    assert!(two.wait().unwrap().success());
    assert_eq!(values(&broker, &["-t", "t", "-g", "monitoring", "-e", "-f", "."]), "......");

    broker.restart();
    assert_eq!(values(&broker, &["-t", "t", "-g", "analytics", "-e"]), "");
    assert_eq!(values(&broker, &["-t", "t", "-g", "monitoring", "-e"]), "");
    send(&broker, "c");
    assert_eq!(values(&broker, &["-t", "t", "-g", "analytics", "-e", "-f", "."]), "...");
}

#[test]
fn a_running_member_goes_on_after_a_restart_of_the_broker() {
    let mut broker = Broker::on_disk();
    broker.expect("PRODUCE a\n", &["ACK"]);
    let (mut child, mut lines) = start(&broker, &["-g", "g", "-c", "2"]);
    assert_eq!(lines.next().unwrap().unwrap(), "Consumed: a (offset: 0)");
    await_commit(&broker);
    broker.restart();
    broker.expect("PRODUCE b\n", &["ACK offset:1"]);
    assert_eq!(lines.next().unwrap().unwrap(), "Consumed: b (offset: 1)");
    assert!(child.wait().unwrap().success());
}

#[test]
fn count_commits_what_was_printed_and_no_more() {
    let broker = Broker::start();
    broker.produce(&[], "0\n1\n2\n3\n4\n5\n6\n");
    let three = ["-g", "g", "-c", "3", "-f", "%o "];
    assert_eq!(values(&broker, &three), "0 1 2 ");
    assert_eq!(values(&broker, &three), "3 4 5 ");
    assert_eq!(values(&broker, &["-g", "g", "-e", "-f", "%o "]), "6 ");
    assert_eq!(values(&broker, &["-g", "g", "-e", "-f", "%o ", "-o", "earliest"]), "");
    assert_eq!(values(&broker, &["-g", "other", "-e", "-f", "%o ", "-o", "-2"]), "5 6 ");
    let output = broker.consume(&["-g", "g", "-p", "0"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_member_waits_for_its_topic_unless_it_ends_at_the_end() {
    let broker = Broker::start();
    let output = broker.consume(&["-t", "later", "-g", "g", "-e"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no topic 'later'"), "{}", text(&output.stderr));
    let (mut child, mut lines) = start(&broker, &["-t", "later", "-g", "g", "-o", "latest", "-c", "1"]);
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(told.any(|line| line == "Topic 'later' is not there yet; waiting for it"));
    broker.expect("SEND later message:hi\n", &["ACK"]);
    assert_eq!(lines.next().unwrap().unwrap(), "Consumed: hi (offset: 0)");
    assert!(child.wait().unwrap().success());
}

#[test]
fn groups_are_listed_described_reset_and_deleted() {
    let broker = Broker::start();
    broker.expect("CREATE t partitions:2\nSEND t/0 message:a\nSEND t/0 message:b\n", &["OK", "ACK", "ACK"]);
    values(&broker, &["-t", "t", "-g", "two words", "-c", "1"]);
    assert_eq!(broker.connect().say("JOIN jobs t mode:share\n").line().split(' ').next(), Some("JOINED"));
    let listed = "group         state  members  type\njobs          Empty  0        share\ntwo\\x20words  Empty  0        consumer\n";
    until("nobody is in either", || group(&broker, &["list"]).0 == listed);
    let described = "group: two\\x20words\nstate: Empty\ngeneration: 2\nmembers: 0\n\
                     type: consumer\nassignor: uniform\nassignment_epoch: 1\n\
                     topic  partition  committed  end  lag\nt      0          1          2    1\n";
    assert_eq!(group(&broker, &["describe", "two words"]).0, described);
    assert_eq!(group(&broker, &["reset", "two words", "t", "latest"]).0, "");
    let described = group(&broker, &["describe", "two words"]).0;
    assert!(
        described.ends_with("t      0          2          2    0\nt      1          0          0    0\n"),
        "{described}"
    );
    assert_eq!(group(&broker, &["reset", "two words", "t/0", "-1"]).0, "");
    assert_eq!(values(&broker, &["-t", "t", "-g", "two words", "-e", "-f", "%s"]), "b");
    for (arguments, code) in [
        (&["reset", "g", "nothing", "earliest"][..], "UNKNOWN_TOPIC_OR_PARTITION"),
        (&["describe", "nobody"], "GROUP_ID_NOT_FOUND"),
    ] {
        let (told, succeeded) = group(&broker, arguments);
        assert!(!succeeded && told.contains(code), "{told}");
    }
    let mut member = broker.connect();
    assert!(member.say("JOIN busy t\n").line().starts_with("JOINED"));
    assert!(group(&broker, &["delete", "busy"]).0.contains("NON_EMPTY_GROUP"));
    let described = group(&broker, &["describe", "busy"]).0;
    assert!(described.contains("\nmember ") && described.contains("\ntopic  partition  committed"), "{described}");
    assert!(described.contains("t/0,t/1"), "{described}");
    assert_eq!(group(&broker, &["delete", "two words"]), (String::new(), true));
    assert!(!group(&broker, &["list"]).0.contains("two"));
}

#[cfg(feature = "comfort")]
#[test]
fn groups_are_told_in_json_with_the_names_of_kafka() {
    let broker = Broker::start();
    broker.expect("SEND t message:a\nSEND t message:b\n", &["ACK", "ACK"]);
    values(&broker, &["-t", "t", "-g", "7", "-c", "1"]);
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&group(&broker, &[arguments, &["--json"]].concat()).0).unwrap()
    };
    let listed =
        serde_json::json!([{ "groupId": "7", "groupState": "Empty", "memberCount": 0, "groupType": "consumer" }]);
    assert_eq!(json(&["list"]), listed);
    let mut member = broker.connect();
    assert!(member.say("JOIN 7 t\n").line().starts_with("JOINED"));
    let described = json(&["describe", "7"]);
    assert_eq!((&described["groupId"], &described["memberCount"]), (&"7".into(), &1.into()));
    assert_eq!(described["members"][0]["assignment"], "t/0");
    assert_eq!(group(&broker, &["reset", "two words", "t", "latest"]).0, "");
    assert_eq!(json(&["describe", "two words"])["groupId"], "two words");
    let partition = serde_json::json!(
        { "name": "t", "partitionIndex": 0, "committedOffset": 1, "logEndOffset": 2, "lag": 1 });
    assert_eq!(described["partitions"], serde_json::json!([partition]));
}

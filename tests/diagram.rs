//! `broker diagram`: what runs, as a picture.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use common::{BROKER, Broker, text};

fn drawn(broker: &Broker, format: &str) -> String {
    let output = broker.command(BROKER, &["diagram", "--format", format]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout).to_string()
}

#[test]
fn topics_partitions_and_who_reads_them_are_drawn() {
    let broker = Broker::start();
    assert_eq!(drawn(&broker, "mermaid"), "flowchart LR\n");
    let lines =
        "CREATE orders partitions:2\nSEND orders/0 message:a\nSEND orders/0 message:b\nRESET late\"<&> orders/0 1\n";
    broker.expect(lines, &["OK", "ACK", "ACK", "OK"]);
    let mut member = broker.connect();
    assert!(member.say("JOIN now orders from:earliest\nPOLL\n").line().starts_with("JOINED"));
    let expected = [
        "flowchart LR",
        "  subgraph t0 [\"orders\"]",
        "    t0p0[\"0: 2 records\"]",
        "    t0p1[\"1: 0 records\"]",
        "  end",
        "  subgraph g0 [\"late#quot;#lt;&#gt;\"]",
        "    g0m([\"Empty\"])",
        "  end",
        "  subgraph g1 [\"now\"]",
    ];
    let mermaid = drawn(&broker, "mermaid");
    assert_eq!(mermaid.lines().take(expected.len()).collect::<Vec<_>>(), expected);
    let lines: Vec<&str> = mermaid.lines().filter(|line| line.contains("|lag ")).collect();
    assert_eq!(lines, ["  t0p0 -.->|lag 1| g0", "  t0p0 -->|lag -| g1m0", "  t0p1 -->|lag -| g1m0"]);
    let svg = drawn(&broker, "svg");
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.ends_with("</svg>\n"), "{svg}");
    assert_eq!(svg.matches("<path ").count(), 3, "{svg}");
    assert_eq!(svg.matches("stroke-dasharray").count(), 1, "{svg}");
    for told in [">orders<", ">0: 2 records<", ">late\"&lt;&amp;&gt;<", ">orders/0: lag 1<"] {
        assert!(svg.contains(told), "{told} in {svg}");
    }
}

#[test]
fn without_a_broker_there_is_no_picture() {
    let mut broker = Broker::start();
    broker.kill();
    let output = broker.command(BROKER, &["diagram"]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
}

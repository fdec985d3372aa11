//! Joins of streams, of tables, and of both.

use super::{driver, pipe};
use crate::streams::{JoinWindow, TestDriver, Topology};
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn shown(value: Option<&String>) -> String {
    value.cloned().unwrap_or("?".into())
}

/// Pipes lines `topic key=value @time` in.
fn pipe_all(driver: &mut TestDriver, lines: &[&str]) {
    for line in lines {
        let (topic, record) = line.split_once(' ').unwrap();
        pipe(driver, topic, &[record]).unwrap();
    }
}

#[test]
fn near_records_are_joined_and_an_outer_side_waits_for_its_window_to_close() {
    let window = JoinWindow::of(ms(10)).grace(ms(5));
    let mut driver = driver(|topology| {
        let (left, right) = (topology.stream("l"), topology.stream("r"));
        left.join("inner", &right, window, |l, r| format!("{l}{r}")).to("inner");
        left.left_join("left", &right, window, |l, r| format!("{l}{}", shown(r))).to("left");
        left.outer_join("outer", &right, window, |l, r| format!("{}{}", shown(l), shown(r))).to("outer");
    });
    let lines = [
        "l a=1 @0",
        "r a=2 @10",
        "r a=3 @11",
        "l b=4 @12",
        "r c=5 @13",
        "l -=6 @14",
        "r -=7 @14",
        "l a=- @14",
        "l d=8 @40",
    ];
    pipe_all(&mut driver, &lines);
    assert_eq!(driver.lines("inner"), ["a=12 @10"]);
    assert_eq!(driver.lines("left"), ["a=12 @10", "-=6? @14", "b=4? @12"]);
    assert_eq!(driver.lines("outer"), ["a=12 @10", "-=6? @14", "-=?7 @14", "a=?3 @11", "b=4? @12", "c=?5 @13"]);
}

#[test]
fn records_of_one_time_are_joined_without_a_window_or_a_grace() {
    let mut driver = driver(|topology| {
        let window = JoinWindow::of(ms(0));
        topology.stream("l").join("j", &topology.stream("r"), window, |l, r| format!("{l}{r}")).to("out");
    });
    pipe_all(&mut driver, &["l a=1 @5", "r a=2 @5", "l a=3 @6", "r a=4 @5", "r a=5 @6"]);
    assert_eq!(driver.lines("out"), ["a=12 @5", "a=35 @6"]);
}

#[test]
fn a_stream_whose_keys_changed_is_repartitioned_before_it_is_joined() {
    let mut driver = driver(|topology| {
        let by_value = topology.stream("l").select_key(|_, value| value.clone());
        by_value.join_table("users", &topology.table("r", "r"), |l, r| format!("{l}{r}")).to("out");
    });
    pipe_all(&mut driver, &["l x=a @1", "r a=ann @2", "l y=a @3"]);
    assert_eq!(driver.lines("app-users-repartition"), ["a=a @1", "a=a @3"]);
    assert_eq!(driver.lines("out"), ["a=aann @3"]);
}

#[test]
fn records_are_joined_with_what_a_table_has_at_their_turn() {
    let mut driver = driver(|topology| {
        let (stream, table) = (topology.stream("l"), topology.table("r", "r"));
        stream.join_table("inner", &table, |l, r| format!("{l}{r}")).to("inner");
        stream.left_join_table("left", &table, |l, r| format!("{l}{}", shown(r))).to("left");
    });
    pipe_all(&mut driver, &["l a=1 @1", "r a=x @9", "l a=2 @2", "r a=- @9", "l a=3 @3", "l -=4 @4", "l a=- @5"]);
    assert_eq!(driver.lines("inner"), ["a=2x @2"]);
    assert_eq!(driver.lines("left"), ["a=1? @1", "a=2x @2", "a=3? @3", "-=4? @4"]);
}

#[test]
fn a_global_table_is_joined_by_any_key() {
    let mut driver = driver(|topology| {
        let countries = topology.global_table("countries", "countries");
        let key = |_: Option<&String>, value: &String| value.split(' ').nth(1).map(str::to_owned);
        topology.stream("l").join_global(&countries, key, |l, r| format!("{l} {r}")).to("inner");
        topology.stream("l").left_join_global(&countries, key, |l, r| format!("{l} {}", shown(r))).to("left");
    });
    pipe_all(&mut driver, &["countries de=Germany @1", "l a=ann de @2", "l b=bo xx @3", "l c=cy @4"]);
    assert_eq!(driver.lines("inner"), ["a=ann de Germany @2"]);
    assert_eq!(driver.lines("left"), ["a=ann de Germany @2", "b=bo xx ? @3", "c=cy ? @4"]);
}

#[test]
fn tables_are_joined_by_their_keys() {
    let mut driver = driver(|topology| {
        let (left, right) = (topology.table("l", "l"), topology.table("r", "r"));
        left.join("inner", &right, |l, r| format!("{l}{r}")).to("inner");
        left.left_join("left", &right, |l, r| format!("{l}{}", shown(r))).to("left");
        left.outer_join("outer", &right, |l, r| format!("{}{}", shown(l), shown(r))).to("outer");
    });
    pipe_all(&mut driver, &["l a=1 @5", "r a=x @3", "r b=y @4", "l a=- @6", "r a=- @7", "r a=- @8"]);
    assert_eq!(driver.lines("inner"), ["a=1x @5", "a=- @6"]);
    assert_eq!(driver.lines("left"), ["a=1? @5", "a=1x @5", "a=- @6"]);
    assert_eq!(driver.lines("outer"), ["a=1? @5", "a=1x @5", "b=?y @4", "a=?x @6", "a=- @7"]);
}

#[test]
fn tables_are_joined_by_a_key_in_the_values_of_the_left() {
    let mut driver = driver(|topology| {
        let (orders, customers) = (topology.table("l", "l"), topology.table("r", "r"));
        let customer = |_: &String, order: &String| order.split(' ').nth(1).map(str::to_owned);
        orders.join_by("inner", &customers, customer, |l, r| format!("{l}: {r}")).to("inner");
        orders.left_join_by("left", &customers, customer, |l, r| format!("{l}: {}", shown(r))).to("left");
    });
    let lines = [
        "l 1=tea ann @1",
        "r ann=Ann @2",
        "l 2=milk ann @3",
        "l 1=tea bo @4",
        "r ann=Anna @5",
        "l 2=- @6",
        "l 3=jam @7",
    ];
    pipe_all(&mut driver, &lines);
    let inner = ["1=tea ann: Ann @2", "2=milk ann: Ann @3", "1=- @4", "2=milk ann: Anna @5", "2=- @6"];
    assert_eq!(driver.lines("inner"), inner);
    let left = [
        "1=tea ann: ? @1",
        "1=tea ann: Ann @2",
        "2=milk ann: Ann @3",
        "1=tea bo: ? @4",
        "2=milk ann: Anna @5",
        "2=- @6",
        "3=jam: ? @7",
    ];
    assert_eq!(driver.lines("left"), left);
    let subscribed = driver.lines("app-inner-subscriptions-repartition");
    assert!(subscribed[0].starts_with("ann=i1 0#") && subscribed[0].ends_with("k1 1 @1"), "{}", subscribed[0]);
}

#[test]
fn what_is_of_another_topology_cannot_be_joined() {
    let (one, other) = (Topology::new("one"), Topology::new("other"));
    one.stream("l").join_table("both", &other.table("r", "r"), |l, r| format!("{l}{r}")).to("out");
    one.table("a", "a").join("tables", &other.table("b", "b"), |l, r| format!("{l}{r}")).to("out");
    let error = TestDriver::new(&one).map(drop).unwrap_err().to_string();
    let both = "both joins streams and tables of different topologies; tables joins tables of different topologies";
    assert_eq!(error, both);
}

//! The examples that need nothing but themselves: they run to their end and print what they promise.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use std::process::Command;

fn printed(name: &str) -> String {
    let output = Command::new(common::example(name)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_examples_print_what_they_promise() {
    for (example, promised) in [
        ("basic", "and from offset 0 again:\nevents/"),
        ("many_threads", "monitoring: 300\n"),
        ("by_key", "each user in one partition: true, in order: true\n"),
        ("transfer", "10 transfers, sum 0\n"),
    ] {
        let printed = printed(example);
        assert!(printed.contains(promised), "{example}: {printed}");
    }
}

#[cfg(feature = "streams")]
#[test]
fn the_examples_of_stream_processing_print_what_they_promise() {
    for (example, promised) in [
        ("pipeline", "offset 0: LOGIN\noffset 1: CLICK\noffset 2: LOGOUT\n"),
        ("orders_with_customers", "tea for Ann\nmilk for Ann Lee\n"),
        ("click_sessions", "ann@0-2400000: home cart tea\nbob@3000000-3000000: home\nann@12000000-12000000: home\n"),
        ("silent_sensors", "cellar: silent\n"),
    ] {
        let printed = printed(example);
        assert!(printed.ends_with(promised), "{example}: {printed}");
    }
}

//! The examples that need nothing but themselves: they run to their end and print what they promise.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use std::process::Command;

fn printed(example: &str) -> String {
    let mut run = Command::new(env!("CARGO"));
    run.args(["run", "--quiet", "--example", example]);
    // As this was built, so that nothing is built twice.
    if cfg!(not(feature = "comfort")) {
        run.arg("--no-default-features");
    }
    let output = run.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_examples_print_what_they_promise() {
    for (example, promised) in [
        ("basic", "and from offset 0 again:\nevents/"),
        ("many_threads", "monitoring: 300\n"),
        ("pipeline", "offset 0: LOGIN\noffset 1: CLICK\noffset 2: LOGOUT\n"),
        ("by_key", "each user in one partition: true, in order: true\n"),
        ("transfer", "10 transfers, sum 0\n"),
    ] {
        let printed = printed(example);
        assert!(printed.contains(promised), "{example}: {printed}");
    }
}

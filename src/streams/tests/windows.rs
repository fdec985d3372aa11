//! Windows, late records, and suppression.

use super::{driver, pipe};
use crate::streams::{Hopping, Sessions, Sliding, TestDriver, Topology, Tumbling, WindowedStream};
use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn sums(windows: impl FnOnce(&Topology) -> WindowedStream<String, i64>) -> TestDriver {
    driver(|topology| {
        let windowed = windows(topology);
        windowed.reduce("sums", |a, b| a + b).to("sums");
        windowed.count("counts").until_closed("closed").to("closed");
    })
}

#[test]
fn tumbling_windows_close_after_their_grace() {
    let mut driver = sums(|topology| {
        let numbers = topology.stream_of::<String, i64>("in").group_by_key();
        numbers.window(Tumbling::of(ms(10)).grace(ms(5)))
    });
    pipe(&mut driver, "in", &["a=1 @0", "a=2 @9", "b=5 @12", "a=4 @5", "a=1 @15", "a=8 @9", "b=1 @11", "-=1 @90"])
        .unwrap();
    assert_eq!(driver.lines("sums"), ["a@0=1 @0", "a@0=3 @9", "b@10=5 @12", "a@0=7 @9", "a@10=1 @15", "b@10=6 @12"]);
    assert_eq!(driver.lines("closed"), ["a@0=3 @9"]);
    assert_eq!(driver.counts().late, 2, "one for each of the two tables");
    pipe(&mut driver, "in", &["b=1 @25"]).unwrap();
    assert_eq!(driver.lines("closed"), ["a@10=1 @15", "b@10=2 @12"]);
    assert_eq!(driver.lines("app-closed-changelog")[..3], ["time=0 @0", "a@0-10=1 @0", "time=9 @9"]);
}

#[test]
fn a_record_falls_in_several_hopping_windows() {
    let mut driver =
        sums(|topology| topology.stream_of::<String, i64>("in").group_by_key().window(Hopping::of(ms(10), ms(5))));
    pipe(&mut driver, "in", &["a=1 @7", "a=2 @3", "a=4 @12", "a=8 @9"]).unwrap();
    assert_eq!(driver.lines("sums"), ["a@0=1 @7", "a@5=1 @7", "a@0=3 @7", "a@5=5 @12", "a@10=4 @12", "a@5=13 @12"]);
    assert_eq!(driver.lines("closed"), ["a@0=2 @7"]);
}

#[test]
fn sliding_windows_have_all_that_is_near() {
    let mut driver = sums(|topology| {
        topology.stream_of::<String, i64>("in").group_by_key().window(Sliding::of(ms(10)).grace(ms(50)))
    });
    pipe(&mut driver, "in", &["a=1 @100", "a=2 @105", "a=4 @111", "a=8 @103"]).unwrap();
    let expected = [
        "a@90=1 @100",
        // The right window of 100, and the left one of 105.
        "a@101=2 @105",
        "a@95=3 @105",
        // The right one of 105 comes first, then the left one of 111, which is 101's.
        "a@101=6 @111",
        "a@106=4 @111",
        // 103: 101 to 111 has it; the right one of 103 is new; its left one, too; 95 to 105 has it.
        "a@101=14 @111",
        "a@95=11 @105",
        "a@93=9 @103",
        "a@104=6 @111",
    ];
    assert_eq!(driver.lines("sums"), expected);
}

#[test]
fn sessions_grow_together() {
    let mut driver = driver(|topology| {
        let numbers = topology.stream_of::<String, i64>("in").group_by_key();
        let sums = numbers.sessions(Sessions::of(ms(10)).grace(ms(6))).reduce("sums", |a, b| a + b);
        sums.to("sums");
        sums.until_closed("closed").to("closed");
    });
    pipe(&mut driver, "in", &["a=1 @10", "a=2 @25", "a=4 @18", "b=1 @30", "a=9 @14", "a=3 @50", "a=7 @1"]).unwrap();
    let expected = [
        "a@10-10=1 @10",
        "a@25-25=2 @25",
        "a@10-10=- @10",
        "a@25-25=- @25",
        "a@10-25=7 @25",
        "b@30-30=1 @30",
        "a@10-25=- @25",
        "a@10-25=16 @25",
        "a@50-50=3 @50",
    ];
    assert_eq!(driver.lines("sums"), expected);
    assert_eq!(driver.lines("closed"), ["a@10-25=16 @25", "b@30-30=1 @30"]);
    assert_eq!(driver.counts().late, 1);
}

#[test]
fn what_cannot_close_or_has_no_size_is_said() {
    let topology = Topology::new("app");
    topology.stream("in").group_by_key().window(Tumbling::of(ms(0))).count("none").to("out");
    let error = TestDriver::new(&topology).map(drop).unwrap_err().to_string();
    assert_eq!(error, "none has windows of no size");
}

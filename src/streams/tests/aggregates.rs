//! Groups of streams and tables.

use super::{driver, pipe};

#[test]
fn words_are_counted() {
    let mut driver = driver(|topology| {
        let words =
            topology.stream("lines").flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        words.group_by(|_, word| word.clone()).count("counts").to("out");
    });
    pipe(&mut driver, "lines", &["-=a b a @5", "k=b @3", "k=- @9"]).unwrap();
    assert_eq!(driver.lines("out"), ["a=1 @5", "b=1 @5", "a=2 @5", "b=2 @5"]);
    assert_eq!(driver.lines("app-counts-changelog"), ["a=2 @5", "b=1 @5", "b=2 @5"]);
    assert_eq!(driver.lines("app-counts-repartition").len(), 4);
}

#[test]
fn streams_are_reduced_and_aggregated() {
    let mut driver = driver(|topology| {
        let numbers = topology.stream_of::<String, i64>("in").group_by_key();
        numbers.reduce("max", |a, b| *a.max(b)).to("max");
        numbers.aggregate("list", String::new, |key, n, list| format!("{list}{key}{n}")).to("list");
    });
    pipe(&mut driver, "in", &["a=1 @5", "a=3 @2", "b=7 @1", "-=7 @1", "a=- @8", "a=2 @9"]).unwrap();
    assert_eq!(driver.lines("max"), ["a=1 @5", "a=3 @5", "b=7 @1", "a=3 @9"]);
    assert_eq!(driver.lines("list"), ["a=a1 @5", "a=a1a3 @5", "b=b7 @1", "a=a1a3a2 @9"]);
    assert_eq!(driver.counts().skipped, 4);
}

#[test]
fn a_table_has_the_last_value_of_each_key() {
    let mut driver = driver(|topology| {
        let table = topology.table_of::<String, i64>("in", "table");
        table.to("all");
        table.filter(|_, n| *n > 2).to("high");
        table.map_values(|key, n| format!("{key}{n}")).to("text");
        topology.stream("stream").select_key(|_, value| value.clone()).table("by-value").to("by-value");
    });
    pipe(&mut driver, "in", &["a=1 @5", "a=3 @2", "b=1 @6", "a=1 @7", "a=- @8", "a=- @9", "-=1 @9"]).unwrap();
    assert_eq!(driver.lines("all"), ["a=1 @5", "a=3 @2", "b=1 @6", "a=1 @7", "a=- @8", "a=- @9"]);
    assert_eq!(driver.lines("high"), ["a=3 @2", "a=- @7"]);
    assert_eq!(driver.lines("text"), ["a=a1 @5", "a=a3 @2", "b=b1 @6", "a=a1 @7", "a=- @8", "a=- @9"]);
    pipe(&mut driver, "stream", &["k=v @1"]).unwrap();
    assert_eq!(driver.lines("by-value"), ["v=v @1"]);
}

#[test]
fn tables_are_grouped_by_what_their_values_say() {
    let mut driver = driver(|topology| {
        // Users and their region.
        let regions = topology.table("users", "users").group_by(|user, region| (region.clone(), user.len() as i64));
        regions.count("counts").to("counts");
        regions.reduce("sums", |a, b| a + b, |a, b| a - b).to("sums");
    });
    pipe(&mut driver, "users", &["ann=eu @5", "bo=eu @6", "ann=us @3", "bo=eu @9", "bo=- @8"]).unwrap();
    assert_eq!(driver.lines("counts"), ["eu=1 @5", "eu=2 @6", "eu=1 @6", "us=1 @3", "eu=1 @9", "eu=0 @9"]);
    assert_eq!(driver.lines("sums"), ["eu=3 @5", "eu=5 @6", "eu=2 @6", "us=3 @3", "eu=2 @9", "eu=0 @9"]);
    assert_eq!(driver.lines("app-counts-repartition")[..2], ["eu=+1 3 @5", "eu=+1 2 @6"]);
}

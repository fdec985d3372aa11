//! Windows and joins against a plain model: all records in a list, and every result by looking through all of it.
#![cfg(feature = "streams")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use plainlog::{
    Record,
    streams::{Hopping, JoinWindow, Sessions, Sliding, TestDriver, Topology, Tumbling},
};
use proptest::{collection::vec, prelude::*};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A record of one of two topics.
#[derive(Clone, Copy, Debug)]
struct Given {
    right: bool,
    key: u8,
    /// A table's record without a value deletes.
    value: Option<i64>,
    time: i64,
}

/// Records whose times are mostly in order.
fn records(late: i64) -> impl Strategy<Value = Vec<Given>> {
    let lateness = prop_oneof![2 => Just(0i64), 1 => 0..=late];
    vec((any::<bool>(), 0..3u8, 0..20i64, 0..9i64, lateness, 0..8u8), 1..70).prop_map(|steps| {
        let mut now = 0;
        let given = |(right, key, value, step, late, null): (bool, u8, i64, i64, i64, u8)| {
            now += step;
            Given { right, key, value: (null > 0).then_some(value), time: (now - late).max(0) }
        };
        steps.into_iter().map(given).collect()
    })
}

fn with_values(records: Vec<Given>) -> Vec<Given> {
    records.into_iter().map(|one| Given { value: Some(one.value.unwrap_or(7)), ..one }).collect()
}

/// Pipes all records in, those of the right only where the topology reads them; answers with what comes out.
fn run(build: impl FnOnce(&Topology), records: &[Given], both: bool) -> (Vec<String>, TestDriver) {
    let topology = Topology::new("app");
    build(&topology);
    let mut driver = TestDriver::new(&topology).unwrap();
    for one in records {
        let topic = if both && one.right { "right" } else { "left" };
        let value = one.value.map(|value| value.to_string().into_bytes());
        let record = Record { value, ..Record::tombstone(format!("k{}", one.key)) };
        driver.pipe(topic, record.timestamp(one.time)).unwrap();
    }
    (driver.lines("out"), driver)
}

/// The last value of each key among lines, without those that were deleted.
fn last(lines: &[String]) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    for line in lines {
        let (key, value) = line.rsplit_once(" @").unwrap().0.split_once('=').unwrap();
        match value {
            "-" => drop(last.remove(key)),
            value => drop(last.insert(key.to_string(), value.to_string())),
        }
    }
    last
}

/// The last value of each key of a table.
fn table(records: &[Given], right: bool) -> BTreeMap<String, i64> {
    let mut table = BTreeMap::new();
    for one in records.iter().filter(|one| one.right == right) {
        match one.value {
            Some(value) => drop(table.insert(format!("k{}", one.key), value)),
            None => drop(table.remove(&format!("k{}", one.key))),
        }
    }
    table
}

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

/// How many records each window from `start` to `start + size` has, of those that came before it closed.
fn counted(records: &[Given], size: i64, advance: i64, grace: i64) -> (BTreeMap<String, String>, u64) {
    let (mut counts, mut late, mut stream_time) = (BTreeMap::<String, i64>::new(), 0, 0);
    for one in records {
        stream_time = one.time.max(stream_time);
        let starts = (0..=one.time).filter(|start| start % advance == 0 && one.time < start + size);
        for start in starts {
            if start + size + grace <= stream_time {
                late += 1;
            } else {
                *counts.entry(format!("k{}@{start}", one.key)).or_default() += 1;
            }
        }
    }
    (counts.into_iter().map(|(key, count)| (key, count.to_string())).collect(), late)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn aligned_windows_have_the_records_that_were_in_time(
        records in records(40),
        (size, advance) in (1..30i64).prop_flat_map(|size| (Just(size), 1..=size)),
        grace in 0..30i64,
    ) {
        let windows = Hopping::of(ms(size), ms(advance)).grace(ms(grace));
        let records = with_values(records);
        let (lines, driver) =
            run(|topology| topology.stream("left").group_by_key().window(windows).count("c").to("out"), &records, false);
        let (counts, late) = counted(&records, size, advance, grace);
        prop_assert_eq!(last(&lines), counts);
        prop_assert_eq!(driver.counts().late, late);
    }

    #[test]
    fn a_closed_window_is_told_once_and_whole(records in records(40), size in 1..30i64, grace in 0..30i64) {
        let windows = Tumbling::of(ms(size)).grace(ms(grace));
        let mut records = with_values(records);
        let (counts, _) = counted(&records, size, size, grace);
        // Something far ahead closes all windows, but its own.
        records.push(Given { right: false, key: 9, value: Some(1), time: 1_000_000 });
        let count = |topology: &Topology| {
            topology.stream("left").group_by_key().window(windows).count("c").until_closed("u").to("out");
        };
        let (lines, _) = run(count, &records, false);
        prop_assert_eq!(lines.len(), counts.len(), "each once");
        prop_assert_eq!(last(&lines), counts);
    }

    #[test]
    fn sliding_windows_have_all_that_is_near_whatever_the_order(records in records(60), difference in 0..25i64) {
        let windows = Sliding::of(ms(difference)).grace(ms(1_000_000));
        let records = with_values(records);
        let sums = |topology: &Topology| {
            let numbers = topology.stream_of::<String, i64>("left").group_by_key();
            numbers.window(windows).reduce("c", |a, b| a + b).to("out");
        };
        let (lines, _) = run(sums, &records, false);
        let mut expected = BTreeMap::new();
        for one in &records {
            let of_key = || records.iter().filter(|other| other.key == one.key);
            // One that ends with the record, or that all early ones share; and one right behind it, where that has any.
            for start in [(one.time - difference).max(0), one.time + 1] {
                let inside = of_key().filter(|other| (start..=start + difference).contains(&other.time));
                let values: Vec<i64> = inside.filter_map(|other| other.value).collect();
                if !values.is_empty() {
                    expected.insert(format!("k{}@{start}", one.key), values.iter().sum::<i64>().to_string());
                }
            }
        }
        prop_assert_eq!(last(&lines), expected);
    }

    #[test]
    fn sessions_have_no_pause_that_is_longer_than_the_gap(records in records(60), gap in 0..12i64) {
        let sessions = Sessions::of(ms(gap)).grace(ms(1_000_000));
        let records = with_values(records);
        let count = |topology: &Topology| topology.stream("left").group_by_key().sessions(sessions).count("c").to("out");
        let (lines, _) = run(count, &records, false);
        let mut expected = BTreeMap::new();
        for key in 0..3 {
            let mut times: Vec<i64> = records.iter().filter(|one| one.key == key).map(|one| one.time).collect();
            times.sort_unstable();
            for session in times.chunk_by(|a, b| b - a <= gap) {
                let (start, end) = (session[0], session[session.len() - 1]);
                expected.insert(format!("k{key}@{start}-{end}"), session.len().to_string());
            }
        }
        prop_assert_eq!(last(&lines), expected);
    }

    #[test]
    fn each_pair_of_near_records_is_joined_once(records in records(60), before in 0..15i64, after in 0..15i64) {
        let window = JoinWindow::of(ms(0)).before(ms(before)).after(ms(after)).grace(ms(1_000_000));
        let records = with_values(records);
        let join = |topology: &Topology| {
            let (left, right) = (topology.stream("left"), topology.stream("right"));
            left.join("j", &right, window, |l, r| format!("{l}/{r}")).to("out");
        };
        let (mut lines, _) = run(join, &records, true);
        let mut expected = pairs(&records, before, after);
        expected.sort();
        lines.sort();
        prop_assert_eq!(lines, expected);
    }

    #[test]
    fn records_in_order_that_find_no_other_are_told_once(
        records in records(0),
        difference in 0..15i64,
        grace in 0..10i64,
    ) {
        let window = JoinWindow::of(ms(difference)).grace(ms(grace));
        let mut records = with_values(records);
        let mut expected = pairs(&records, difference, difference);
        for one in &records {
            let near = |other: &&Given| other.right != one.right && other.key == one.key;
            if !records.iter().filter(near).any(|other| (other.time - one.time).abs() <= difference) {
                let value = one.value.unwrap();
                let joined = if one.right { format!("-/{value}") } else { format!("{value}/-") };
                expected.push(format!("k{}={joined} @{}", one.key, one.time));
            }
        }
        // Something far ahead, which waits itself.
        records.push(Given { right: false, key: 9, value: Some(1), time: 1_000_000 });
        let shown = |value: Option<&String>| value.cloned().unwrap_or("-".into());
        let join = |topology: &Topology| {
            let (left, right) = (topology.stream("left"), topology.stream("right"));
            left.outer_join("j", &right, window, move |l, r| format!("{}/{}", shown(l), shown(r))).to("out");
        };
        let (mut lines, _) = run(join, &records, true);
        expected.sort();
        lines.sort();
        prop_assert_eq!(lines, expected);
    }

    #[test]
    fn joined_tables_are_the_join_of_their_last_values(records in records(20)) {
        let (left, right) = (table(&records, false), table(&records, true));
        let shown = |value: Option<&i64>| value.map_or("-".into(), i64::to_string);
        for kind in ["inner", "left", "outer"] {
            let join = |topology: &Topology| {
                let l = topology.table_of::<String, i64>("left", "l");
                let r = topology.table_of::<String, i64>("right", "r");
                let joined = match kind {
                    "inner" => l.join("j", &r, |l, r| format!("{l}/{r}")),
                    "left" => l.left_join("j", &r, move |l, r| format!("{l}/{}", shown(r))),
                    _ => l.outer_join("j", &r, move |l, r| format!("{}/{}", shown(l), shown(r))),
                };
                joined.stored("joined").to("out");
            };
            let (lines, driver) = run(join, &records, true);
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            let in_it = |key: &&&String| match kind {
                "inner" => left.contains_key(**key) && right.contains_key(**key),
                "left" => left.contains_key(**key),
                _ => true,
            };
            let value = |key: &String| format!("{}/{}", shown(left.get(key)), shown(right.get(key)));
            let expected: BTreeMap<String, String> =
                keys.iter().filter(in_it).map(|key| (key.to_string(), value(key))).collect();
            prop_assert_eq!(&last(&lines), &expected, "{}", kind);
            let stored = driver.key_value_store::<String, String>("joined").unwrap().all().unwrap();
            let stored: BTreeMap<_, _> = stored.into_iter().map(|entry| (entry.key, entry.stored.value)).collect();
            prop_assert_eq!(stored, expected, "{}", kind);
        }
    }

    #[test]
    fn tables_joined_by_a_foreign_key_are_the_join_of_their_last_values(records in records(20)) {
        let foreign = |value: &i64| (value % 4 != 3).then(|| format!("k{}", value % 4));
        let shown = |value: Option<&i64>| value.map_or("-".into(), i64::to_string);
        let (left, right) = (table(&records, false), table(&records, true));
        for keeps_all in [false, true] {
            let join = |topology: &Topology| {
                let l = topology.table_of::<String, i64>("left", "l");
                let r = topology.table_of::<String, i64>("right", "r");
                match keeps_all {
                    false => l.join_by("j", &r, move |_, v| foreign(v), |l, r| format!("{l}/{r}")).to("out"),
                    true => {
                        let joined = move |l: &i64, r: Option<&i64>| format!("{l}/{}", shown(r));
                        l.left_join_by("j", &r, move |_, v| foreign(v), joined).to("out")
                    }
                }
            };
            let (lines, _) = run(join, &records, true);
            let mut expected = BTreeMap::new();
            for (key, value) in &left {
                let other = foreign(value).and_then(|key| right.get(&key));
                if keeps_all || other.is_some() {
                    expected.insert(key.clone(), format!("{value}/{}", shown(other)));
                }
            }
            prop_assert_eq!(last(&lines), expected, "all of the left: {}", keeps_all);
        }
    }

    #[test]
    fn grouped_tables_have_what_is_in_the_table(records in records(20)) {
        let group = |topology: &Topology| {
            let numbers = topology.table_of::<String, i64>("left", "l");
            numbers.group_by(|_, v| ((v % 3).to_string(), *v)).reduce("sums", |a, b| a + b, |a, b| a - b).to("out");
        };
        let left: Vec<Given> = records.iter().filter(|one| !one.right).copied().collect();
        let (lines, _) = run(group, &left, false);
        let mut expected: BTreeMap<String, i64> = BTreeMap::new();
        for value in table(&left, false).into_values() {
            *expected.entry((value % 3).to_string()).or_default() += value;
        }
        // A group that lost all its values has the rest of them, which is nothing.
        let found: BTreeMap<String, i64> = last(&lines).into_iter().map(|(key, sum)| (key, sum.parse().unwrap())).collect();
        for (key, sum) in &found {
            prop_assert_eq!(*sum, expected.get(key).copied().unwrap_or(0), "{}", key);
        }
        prop_assert!(expected.keys().all(|key| found.contains_key(key)));
    }
}

/// The pairs of records of one key of which that of the right is from so much before to so much after that of the left.
fn pairs(records: &[Given], before: i64, after: i64) -> Vec<String> {
    let mut pairs = Vec::new();
    for left in records.iter().filter(|one| !one.right) {
        for right in records.iter().filter(|one| one.right && one.key == left.key) {
            if (left.time - before..=left.time + after).contains(&right.time) {
                let (l, r) = (left.value.unwrap(), right.value.unwrap());
                pairs.push(format!("k{}={l}/{r} @{}", left.key, left.time.max(right.time)));
            }
        }
    }
    pairs
}

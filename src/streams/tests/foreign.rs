//! Joins by foreign keys whose answers come late: what they were asked for is no longer there.

use super::driver;
use crate::client::Record;

#[test]
fn a_result_goes_though_the_answer_that_ends_it_was_to_a_value_in_between() {
    let cases: [&[&str]; 3] = [
        // Away from the key and back to it: the last one is not told of what is not there.
        &["other 1", "home 2", "home 3"],
        // Away from any key: neither is this one.
        &["- 1", "- 2"],
        &["- 1", "gone"],
    ];
    for values in cases {
        let mut driver = driver(|topology| {
            let (people, homes) = (topology.table("people", "people"), topology.table("homes", "homes"));
            let home =
                |_: &String, value: &String| value.split(' ').next().filter(|home| *home != "-").map(String::from);
            people.join_by("joined", &homes, home, |left, right| format!("{left}+{right}")).to("out");
        });
        let record = |key: &str, value: &str, timestamp| {
            let record = Record { key: Some(key.into()), timestamp: Some(timestamp), ..Record::default() };
            Record { value: (value != "gone").then(|| value.into()), ..record }
        };
        driver.pipe("homes", record("home", "40", 0)).unwrap();
        driver.pipe("people", record("a", "home 0", 1)).unwrap();
        assert_eq!(driver.lines("out"), ["a=home 0+40 @1"]);
        let mut together = vec![("homes", record("home", "gone", 3))];
        together.extend((4..).zip(values).map(|(time, value)| ("people", record("a", value, time))));
        driver.pipe_together(together).unwrap();
        let last = driver.lines("out").pop();
        assert!(last.as_ref().is_some_and(|last| last.starts_with("a=- @")), "{values:?} end as {last:?}");
    }
}

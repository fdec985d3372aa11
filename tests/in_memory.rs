//! A broker in memory leaves nothing behind. Alone in its program, because it looks at the process.
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use plainlog::{Broker, Producer};
use std::fs;

fn names(dir: &str) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_dropped_broker_in_memory_leaves_no_thread_and_no_file() {
    let (files, threads) = (names("."), names("/proc/self/task"));
    let broker = Broker::in_memory();
    Producer::embedded(&broker).send("t", "hello").unwrap();
    assert_ne!(names("/proc/self/task"), threads);
    assert_eq!(names("."), files);
    drop(broker);
    assert_eq!((names("."), names("/proc/self/task")), (files, threads));
}

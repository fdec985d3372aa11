//! Both kinds of state do the same.

use super::{Changes, DiskState, MemoryState, State, StoreSpec};
use std::{collections::BTreeMap, env, fs, path::PathBuf, process};

fn folder(name: &str) -> PathBuf {
    let folder = env::temp_dir().join(format!("plainlog-state-{name}-{}", process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn specs() -> [StoreSpec; 2] {
    ["a", "b"].map(StoreSpec::key_value)
}

fn change(state: &dyn State, store: usize, entries: &[(&str, Option<&str>)], offset: Option<u64>, durable: bool) {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let entries: BTreeMap<_, _> = entries.iter().map(|(key, value)| (bytes(key), value.map(bytes))).collect();
    let time = offset.map_or(-1, |offset| offset as i64);
    state.commit(&[Changes { store, purge: None, entries: &entries, offset }], time, durable).unwrap();
}

fn scanned(state: &dyn State, store: usize, from: &str, to: Option<&str>) -> String {
    let mut found = String::new();
    let each = &mut |key: &[u8], value: &[u8]| {
        found += &format!("{}{} ", String::from_utf8_lossy(key), String::from_utf8_lossy(value));
        true
    };
    state.scan(store, from.as_bytes(), to.map(str::as_bytes), each).unwrap();
    found
}

fn keeps_its_contract(state: &dyn State) {
    change(state, 0, &[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))], Some(7), false);
    change(state, 1, &[("x", Some("9"))], None, true);
    change(state, 0, &[("b", None), ("d", Some("4")), ("e", None)], None, false);
    assert_eq!(state.get(0, b"a").unwrap(), Some(b"1".into()));
    assert_eq!(state.get(0, b"b").unwrap(), None);
    assert_eq!(state.get(1, b"a").unwrap(), None);
    assert_eq!(scanned(state, 0, "", None), "a1 c3 d4 ");
    assert_eq!(scanned(state, 0, "b", Some("d")), "c3 ");
    assert_eq!(scanned(state, 0, "d", Some("b")), "");
    assert_eq!((state.offset(0).unwrap(), state.offset(1).unwrap()), (Some(7), None));
    assert_eq!(state.last(0).unwrap(), Some(b"d".into()));
    let none = BTreeMap::new();
    state.commit(&[Changes { store: 0, purge: Some(b"c"), entries: &none, offset: Some(9) }], 5, false).unwrap();
    assert_eq!(scanned(state, 0, "", None), "c3 d4 ");
    assert_eq!(state.offset(0).unwrap(), Some(9));
    assert_eq!(state.time().unwrap(), 7, "the highest time");
    let mut seen = 0;
    state
        .scan(0, b"", None, &mut |_, _| {
            seen += 1;
            false
        })
        .unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn memory_keeps_the_contract_of_state() {
    keeps_its_contract(&MemoryState::new(2));
}

#[test]
fn the_disk_keeps_the_contract_of_state_and_is_there_when_it_is_opened_again() {
    let folder = folder("contract");
    let path = folder.join("state.redb");
    let state = DiskState::open(&path, &specs(), 1 << 20).unwrap();
    keeps_its_contract(&state);
    change(&state, 1, &[("y", Some("8"))], Some(3), true);
    drop(state);
    let state = DiskState::open(&path, &specs(), 1 << 20).unwrap();
    assert_eq!(scanned(&state, 1, "", None), "x9 y8 ");
    assert_eq!(state.offset(1).unwrap(), Some(3));
    assert!(DiskState::open(&path, &specs(), 1 << 20).is_err(), "it is open");
    drop(state);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_damaged_file_is_an_error() {
    let folder = folder("damaged");
    let path = folder.join("state.redb");
    fs::write(&path, [7; 10_000]).unwrap();
    assert!(DiskState::open(&path, &specs(), 1 << 20).is_err());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn readers_see_what_is_committed_while_more_is_written() {
    let folder = folder("readers");
    let state = DiskState::open(&folder.join("state.redb"), &specs(), 1 << 20).unwrap();
    change(&state, 0, &[("a", Some("1")), ("b", Some("1"))], None, false);
    let mut seen = String::new();
    let each = &mut |key: &[u8], value: &[u8]| {
        // Another commit in the midst of a scan.
        change(&state, 0, &[("b", Some("2")), ("c", Some("2"))], None, false);
        seen += &format!("{}{} ", String::from_utf8_lossy(key), String::from_utf8_lossy(value));
        true
    };
    state.scan(0, b"", None, each).unwrap();
    assert_eq!(seen, "a1 b1 ");
    assert_eq!(scanned(&state, 0, "", None), "a1 b2 c2 ");
    drop(state);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_crash_leaves_what_was_committed_durably() {
    let folder = folder("crash");
    let (path, copy) = (folder.join("state.redb"), folder.join("copy.redb"));
    let state = DiskState::open(&path, &specs(), 1 << 20).unwrap();
    change(&state, 0, &[("x", Some("1")), ("y", Some("1"))], Some(3), true);
    change(&state, 1, &[("x", Some("2"))], Some(9), false);
    change(&state, 0, &[("x", None), ("z", Some("1"))], Some(5), false);
    fs::copy(&path, &copy).unwrap();
    let crashed = DiskState::open(&copy, &specs(), 1 << 20).unwrap();
    assert_eq!((scanned(&crashed, 0, "", None), crashed.offset(0)), ("x1 y1 ".into(), Ok(Some(3))));
    assert_eq!((scanned(&crashed, 1, "", None), crashed.offset(1)), (String::new(), Ok(None)));
    assert_eq!((state.time(), crashed.time()), (Ok(9), Ok(3)));
    let error = DiskState::open(&path, &specs(), 1 << 20).map(drop).unwrap_err();
    assert!(error.contains("another process has it open"), "{error}");
    drop((state, crashed));
    fs::remove_dir_all(folder).unwrap();
}

//! Groups that nobody is in and that commit nothing. What such a group is stands in the log; here is only where. How far a share
//! group has come is kept elsewhere, whether it rests or not.
//!
//! Somebody who joins a new group each time and goes leaves 34 bytes here for each, whatever the names are: for ten minutes, or for a
//! share group until it is deleted.

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::BuildHasher,
};

/// So many groups rest at most; one more is forgotten at once.
const RESTING_MAX: usize = if cfg!(test) { 100 } else { 1_000_000 };

/// The groups that rest, by the hash of their name. It is keyed by a secret of this process, so nobody can make names that
/// collide; of two that do by chance, the second does not rest.
#[derive(Debug, Default)]
pub(super) struct Resting {
    hasher: RandomState,
    groups: BTreeMap<u64, Rest>,
}

/// A group that rests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    /// Offset of its line in the log.
    pub(super) line: u64,
    /// When it is to be forgotten, in ms; `i64::MAX`: never.
    pub(super) until_ms: i64,
}

impl Resting {
    pub(super) fn is_full(&self) -> bool {
        self.groups.len() >= RESTING_MAX
    }

    /// Lets a group rest; false: there is another of the same hash.
    pub(super) fn insert(&mut self, name: &str, rest: Rest) -> bool {
        let hash = self.hasher.hash_one(name);
        if self.groups.contains_key(&hash) {
            return false;
        }
        self.groups.insert(hash, rest);
        true
    }

    /// The group of this name, if its line, which the caller reads, says so.
    pub(super) fn get(&self, name: &str) -> Option<Rest> {
        self.groups.get(&self.hasher.hash_one(name)).copied()
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.groups.remove(&self.hasher.hash_one(name));
    }

    /// The lines of all, in the order of the log.
    pub(super) fn lines(&self) -> Vec<u64> {
        let mut lines: Vec<_> = self.groups.values().map(|rest| rest.line).collect();
        lines.sort_unstable();
        lines
    }

    /// The lines of some that are to be forgotten, in the order of the log: `max` at most.
    pub(super) fn due(&self, now_ms: i64, max: usize) -> Vec<u64> {
        let due = self.groups.values().filter(|rest| rest.until_ms <= now_ms);
        let mut lines: Vec<_> = due.map(|rest| rest.line).take(max).collect();
        lines.sort_unstable();
        lines
    }

    /// Forgets the groups with these lines, which are in order.
    pub(super) fn forget(&mut self, lines: &[u64]) {
        self.groups.retain(|_, rest| lines.binary_search(&rest.line).is_err());
    }

    /// When the next one is to be forgotten, in ms.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.groups.values().map(|rest| rest.until_ms).min().filter(|&until_ms| until_ms < i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name_until_they_are_due() {
        let mut resting = Resting::default();
        for (line, name) in ["c", "a", "b"].into_iter().enumerate() {
            assert!(resting.insert(name, Rest { line: line as u64, until_ms: 10 * line as i64 }));
        }
        assert!(!resting.insert("a", Rest { line: 9, until_ms: 9 }), "it rests already");
        assert_eq!(resting.get("b").map(|rest| (rest.line, rest.until_ms)), Some((2, 20)));
        assert!(resting.get("d").is_none());
        assert_eq!((resting.lines(), resting.next_ms()), (vec![0, 1, 2], Some(0)));
        assert_eq!(resting.due(10, 9), [0, 1]);
        assert_eq!(resting.due(10, 1).len(), 1);
        resting.forget(&[0, 1]);
        assert_eq!((resting.lines(), resting.next_ms()), (vec![2], Some(20)));
        resting.remove("b");
        assert_eq!((resting.lines(), resting.next_ms()), (vec![], None));
    }
}

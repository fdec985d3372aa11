//! A group with all that the coordinator knows of it, under its lock.

use crate::broker::{
    Waiter,
    group::{Answer, Group, Ticket},
    group_offsets::GroupOffsets,
    sync::{Mutex, MutexGuard},
};
use std::{collections::BTreeMap, sync::Arc};

/// A group with its lock.
#[derive(Debug)]
pub(super) struct GroupCell {
    pub(super) name: Arc<str>,
    state: Mutex<GroupState>,
}

#[derive(Debug)]
pub(super) struct GroupState {
    pub(super) group: Group,
    pub(super) offsets: GroupOffsets,
    pub(super) waiting: BTreeMap<Ticket, Waiting>,
    /// Since when there are no members, by the time of day.
    pub(super) empty_since_ms: Option<i64>,
    /// Until when it is kept although it has nothing left; `None`: there is no reason to.
    pub(super) kept_until_ms: Option<i64>,
    pub(super) line: GroupLine,
    /// It is not found here any more, and another may have its name.
    pub(super) gone: bool,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) waiter: Arc<Waiter>,
    pub(super) answer: Option<Answer>,
    /// The group's deadline at which it will look at the clock.
    pub(super) until: Option<u64>,
}

/// What the log has of a group.
#[derive(Debug, Default)]
pub(super) struct GroupLine {
    /// Offset of the last line, if there is one that needs an end one day.
    pub(super) offset: Option<u64>,
    /// The end of what was written and may not be synced yet.
    pub(super) unsynced_to: Option<u64>,
    /// Whether the disk refused the present state.
    pub(super) is_refused: bool,
}

impl GroupCell {
    pub(super) fn new(name: &str, group: Group, now_ms: i64) -> GroupCell {
        let state = GroupState {
            group,
            offsets: GroupOffsets::default(),
            waiting: BTreeMap::new(),
            empty_since_ms: Some(now_ms),
            kept_until_ms: None,
            line: GroupLine::default(),
            gone: false,
        };
        GroupCell { name: name.into(), state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().expect("no panic under a group's lock")
    }
}

impl GroupState {
    /// Whether nobody is in it or about to be, and nothing is committed or pending.
    pub(super) fn has_nothing(&self) -> bool {
        let nothing_due = self.group.empty_since().is_some() && self.group.next_deadline().is_none();
        nothing_due && self.offsets.is_empty() && self.waiting.is_empty()
    }

    /// Whether it is kept for a while though it has nothing left.
    pub(super) fn is_kept(&self, now_ms: i64) -> bool {
        self.kept_until_ms.is_some_and(|until| until > now_ms)
    }

    /// Brings answers to those who wait, and sees to it that one of them watches the clock.
    pub(super) fn deliver(&mut self) {
        for (ticket, answer) in self.group.take_answers() {
            if let Some(waiting) = self.waiting.get_mut(&ticket) {
                waiting.answer = Some(answer);
                waiting.waiter.wake();
            }
        }
        let Some(first) = self.waiting.values().next() else { return };
        let watched = self.waiting.values().filter_map(|waiting| waiting.until).min();
        if self.group.next_deadline().is_some_and(|due| watched.is_none_or(|watched| due < watched)) {
            first.waiter.wake();
        }
    }
}

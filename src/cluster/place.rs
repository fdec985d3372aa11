//! A partition by its name, and who waits for its records.

use crate::broker::Waiters;
use std::sync::Arc;

/// A partition that somebody found. Whoever waits for records of it registers here, and the reader that reads it for them
/// wakes these alone: other connections have places of their own.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    pub(super) index: u32,
    pub(super) waiters: Waiters,
}

/// What tells partitions apart.
pub(super) type Key = (Arc<str>, u32);

impl Place {
    pub(super) fn new(topic: Arc<str>, index: u32) -> Place {
        Place { topic, index, waiters: Waiters::default() }
    }

    pub(super) fn key(&self) -> Key {
        (self.topic.clone(), self.index)
    }
}

//! The wall clock, which tests can set by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::*},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine.
    #[default]
    System,
    /// A number of milliseconds that a test sets.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> i64 {
        match self {
            Clock::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64),
            Clock::Manual(now) => now.load(Acquire),
        }
    }
}

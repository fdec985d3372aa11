//! Counters and gauges of a running broker, one plain struct.

use std::{
    sync::atomic::{AtomicUsize, Ordering::*},
    time::{Duration, Instant},
};

/// What a broker counts.
#[derive(Debug)]
pub struct Metrics {
    started: Instant,
    connections: AtomicUsize,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics { started: Instant::now(), connections: AtomicUsize::new(0) }
    }
}

impl Metrics {
    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Connections there are.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// Counts a connection; answers how many there are with it.
    pub fn connected(&self) -> usize {
        self.connections.fetch_add(1, AcqRel) + 1
    }

    /// A connection ended.
    pub fn disconnected(&self) {
        self.connections.fetch_sub(1, AcqRel);
    }
}

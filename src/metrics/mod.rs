//! What a running broker counts. Counting is cheap; the sums are made when somebody asks.
//!
//! ```text
//! Metrics     rebalances │ from write to sync │ traffic of partitions that are gone
//! Connections who is connected, and what each has said and got
//! Traffic     of each partition, where it is written and read
//! Requests    of each protocol: a row for each row of its table, with a Latency
//! Counter     [ shard ][ shard ][ shard ]...    a thread counts into its own, so no two cores want the same cache line
//! Latency     likewise, by buckets
//! ```
//!
//! Sums never fall while the broker runs: what a partition counted stays counted when its topic is dropped.

mod connections;
mod latency;
mod requests;

pub use connections::{Connection, ConnectionSum, Connections};
pub use latency::{Latency, LatencySum};
pub use requests::{ROWS_MAX, Requested, Requests};

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::*},
    time::{Duration, Instant},
};

/// As many threads count at once without waiting for each other.
const SHARDS: usize = 16;

/// A number that many threads raise.
#[derive(Debug, Default)]
pub struct Counter([Shard; SHARDS]);

/// Two cache lines: the processor fetches them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(AtomicU64);

/// The number of the shard that this thread counts into.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static SHARD: usize = NEXT.fetch_add(1, Relaxed) % SHARDS);
    SHARD.with(|&shard| shard)
}

impl Counter {
    /// Raises it.
    pub fn add(&self, count: u64) {
        if count > 0 {
            self.0[shard()].0.fetch_add(count, Relaxed);
        }
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.iter().map(|shard| shard.0.load(Relaxed)).sum()
    }
}

/// What went through a partition. Its writers and readers meet there anyway.
#[derive(Debug, Default)]
pub struct Traffic {
    records_in: AtomicU64,
    bytes_in: AtomicU64,
    records_read: AtomicU64,
    bytes_read: AtomicU64,
}

/// The same at one moment, or of many partitions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficSum {
    /// Records that were stored.
    pub records_in: u64,
    /// Bytes of their lines.
    pub bytes_in: u64,
    /// Records of the batches that were read for clients.
    pub records_read: u64,
    /// Bytes of lines that were read for clients.
    pub bytes_read: u64,
}

impl Traffic {
    /// Records were stored, and took this many bytes.
    pub fn written(&self, records: u64, bytes: u64) {
        self.records_in.fetch_add(records, Relaxed);
        self.bytes_in.fetch_add(bytes, Relaxed);
    }

    /// Batches of this many records and bytes were read.
    pub fn read(&self, records: u64, bytes: u64) {
        self.records_read.fetch_add(records, Relaxed);
        self.bytes_read.fetch_add(bytes, Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> TrafficSum {
        TrafficSum {
            records_in: self.records_in.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            records_read: self.records_read.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
        }
    }

    /// Takes over what another counted.
    pub fn take_over(&self, other: TrafficSum) {
        self.written(other.records_in, other.bytes_in);
        self.read(other.records_read, other.bytes_read);
    }
}

impl std::iter::Sum for TrafficSum {
    fn sum<I: Iterator<Item = TrafficSum>>(all: I) -> TrafficSum {
        all.fold(TrafficSum::default(), |a, b| TrafficSum {
            records_in: a.records_in + b.records_in,
            bytes_in: a.bytes_in + b.bytes_in,
            records_read: a.records_read + b.records_read,
            bytes_read: a.bytes_read + b.bytes_read,
        })
    }
}

/// What a broker counts.
#[derive(Debug)]
pub struct Metrics {
    started: Instant,
    /// Who is connected.
    pub connections: Connections,
    /// Lines of the text protocol, by verb.
    pub text: Requests,
    /// Requests of Kafka's protocol, by API.
    pub kafka: Requests,
    /// Requests over HTTP, by route.
    pub http: Requests,
    /// From when records began to be written until they were synced, where that is promised.
    pub produce_to_sync: Latency,
    /// Generations that groups began.
    pub rebalances: Counter,
    /// What went through partitions that are gone.
    pub dropped: Traffic,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            started: Instant::now(),
            connections: Connections::default(),
            text: Requests::default(),
            kafka: Requests::default(),
            http: Requests::default(),
            produce_to_sync: Latency::default(),
            rebalances: Counter::default(),
            dropped: Traffic::default(),
        }
    }
}

impl Metrics {
    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Requests of all protocols.
    pub fn requests(&self) -> u64 {
        [&self.text, &self.kafka, &self.http].iter().map(|requests| requests.count()).sum()
    }

    /// Those that were refused, wholly or in part.
    pub fn errors(&self) -> u64 {
        [&self.text, &self.kafka, &self.http].iter().map(|requests| requests.errors()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_that_many_threads_count() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| (0..1000).for_each(|_| counter.add(2)));
            }
        });
        assert_eq!(counter.get(), 2 * 2 * 1000 * SHARDS as u64);
        assert_eq!(align_of::<Shard>(), 128, "no two shards share a cache line");
    }

    #[test]
    fn what_a_partition_counted_is_taken_over() {
        let (one, dropped) = (Traffic::default(), Traffic::default());
        one.written(3, 100);
        one.read(2, 70);
        dropped.written(1, 1);
        dropped.take_over(one.get());
        let sum = TrafficSum { records_in: 4, bytes_in: 101, records_read: 2, bytes_read: 70 };
        assert_eq!(dropped.get(), sum);
        assert_eq!([sum, one.get()].into_iter().sum::<TrafficSum>().records_in, 7);
    }
}

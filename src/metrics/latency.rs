//! How long things take: a histogram of fixed buckets.

use super::{SHARDS, shard};
use std::{
    sync::atomic::{AtomicU64, Ordering::*},
    time::Duration,
};

/// The upper bounds of all buckets but the last, in microseconds.
const BOUNDS_US: [u64; 16] = [
    25, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];
const BUCKETS: usize = BOUNDS_US.len() + 1;

/// How long each of many things took. Many threads tell it.
#[derive(Debug, Default)]
pub struct Latency([Shard; SHARDS]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencySum {
    /// How many there were of each bucket.
    pub buckets: [u64; BUCKETS],
    /// How long they took together.
    pub sum: Duration,
}

impl Latency {
    /// So many things took this long.
    pub fn add(&self, count: u64, took: Duration) {
        if count == 0 {
            return;
        }
        let took_us = took.as_micros() as u64;
        let bucket = BOUNDS_US.iter().position(|&bound| took_us <= bound).unwrap_or(BUCKETS - 1);
        let shard = &self.0[shard()];
        shard.buckets[bucket].fetch_add(count, Relaxed);
        // Lines that waited together each count their wait, so that centuries add up within days; then the sum stands still.
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).saturating_mul(count);
        let _before = shard.sum_ns.fetch_update(Relaxed, Relaxed, |sum| Some(sum.saturating_add(took_ns)));
    }

    /// What it is.
    pub fn get(&self) -> LatencySum {
        let mut sum = LatencySum::default();
        for shard in &self.0 {
            for (sum, bucket) in sum.buckets.iter_mut().zip(&shard.buckets) {
                *sum += bucket.load(Relaxed);
            }
            sum.sum += Duration::from_nanos(shard.sum_ns.load(Relaxed));
        }
        sum
    }

    /// How many things there were.
    pub fn count(&self) -> u64 {
        self.get().count()
    }
}

impl LatencySum {
    /// How many things there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Each bucket's upper bound in seconds, and how many there were of it alone.
    pub fn in_seconds(&self) -> [(f64, u64); BUCKETS] {
        let bound = |index: usize| BOUNDS_US.get(index).map_or(f64::INFINITY, |&us| us as f64 / 1e6);
        std::array::from_fn(|index| (bound(index), self.buckets[index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goes_to_the_bucket_that_it_just_fits() {
        let latency = Latency::default();
        let us = Duration::from_micros;
        for (count, took) in [(2, us(25)), (1, us(26)), (1, us(10_000_000)), (3, us(10_000_001)), (0, us(1))] {
            latency.add(count, took);
        }
        let sum = latency.get();
        let buckets = sum.in_seconds();
        assert_eq!((buckets[0], buckets[1]), ((25e-6, 2), (100e-6, 1)));
        assert_eq!((buckets[BUCKETS - 2], buckets[BUCKETS - 1]), ((10.0, 1), (f64::INFINITY, 3)));
        assert_eq!(sum.count(), 7);
        assert_eq!(sum.sum, us(2 * 25 + 26 + 10_000_000 + 3 * 10_000_001));
    }

    #[test]
    fn a_sum_that_is_full_stands_still() {
        let latency = Latency::default();
        for (count, took) in [(u64::MAX, Duration::from_micros(1)), (1, Duration::from_secs(1)), (1, Duration::MAX)] {
            latency.add(count, took);
            assert_eq!(latency.get().sum, Duration::from_nanos(u64::MAX));
        }
    }

    #[test]
    fn nothing_is_lost_that_many_threads_tell() {
        let latency = Latency::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| (0..1000).for_each(|_| latency.add(1, Duration::from_millis(1))));
            }
        });
        assert_eq!(latency.count(), 2000 * SHARDS as u64);
        assert_eq!(latency.get().sum, Duration::from_secs(2 * SHARDS as u64));
    }
}

//! How fast something goes, and how long to wait once it goes too fast: Kafka's two ways of measuring.
//!
//! ```text
//! Rate     bytes, seconds of work     sums of a second each, eleven of them; a silent second costs nothing
//! Tokens   changes of topics          eleven seconds' worth in hand, refilled all the time; below none there is a debt
//! ```
//!
//! All times are in ms of a clock that the caller looks at.

use std::{collections::VecDeque, time::Duration};

/// How long a sum is gathered, in ms, and how many of them count.
const SAMPLE_MS: i64 = 1000;
const SAMPLES: i64 = 11;
/// Seconds' worth that may be used at once, and so many ms after which nothing is left of what was.
pub(super) const WINDOW_SECONDS: f64 = 10.0;
pub(super) const FORGOTTEN_MS: i64 = SAMPLES * SAMPLE_MS;

/// What was used within the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rate(VecDeque<Sample>);

#[derive(Debug)]
struct Sample {
    begun_ms: i64,
    last_ms: i64,
    sum: f64,
}

impl Rate {
    /// Uses so much; less than nothing takes back what was just used.
    pub(super) fn add(&mut self, amount: f64, now_ms: i64) {
        match self.0.back_mut().filter(|last| now_ms - last.begun_ms < SAMPLE_MS) {
            Some(last) => (last.sum, last.last_ms) = (last.sum + amount, now_ms),
            None => self.0.push_back(Sample { begun_ms: now_ms, last_ms: now_ms, sum: amount }),
        }
    }

    /// How long to wait until what was used is no more than `bound` a second.
    pub(super) fn wait(&mut self, bound: f64, now_ms: i64) -> Duration {
        self.0.retain(|sample| now_ms - sample.last_ms < FORGOTTEN_MS);
        let Some(first) = self.0.front() else { return Duration::ZERO };
        let elapsed = now_ms - first.begun_ms;
        // Who has just begun is measured as if it had been silent before.
        let silent = (SAMPLES - 1 - elapsed / SAMPLE_MS).max(0) * SAMPLE_MS;
        let used: f64 = self.0.iter().map(|sample| sample.sum).sum();
        milliseconds(used / bound * 1000.0 - (elapsed + silent) as f64)
    }

    /// Whether nothing of it counts any more.
    pub(super) fn is_forgotten(&self, now_ms: i64) -> bool {
        self.0.iter().all(|sample| now_ms - sample.last_ms >= FORGOTTEN_MS)
    }
}

/// What is in hand.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// How many, and when that was; `None`: all that fit.
    left: Option<(f64, i64)>,
}

impl Tokens {
    /// Uses so many, of which there come `bound` a second.
    pub(super) fn take(&mut self, amount: f64, bound: f64, now_ms: i64) {
        self.left = Some((self.left(bound, now_ms) - amount, now_ms));
    }

    /// How long to wait until there is no debt.
    pub(super) fn wait(&self, bound: f64, now_ms: i64) -> Duration {
        milliseconds(-self.left(bound, now_ms) / bound * 1000.0)
    }

    fn left(&self, bound: f64, now_ms: i64) -> f64 {
        let all = bound * SAMPLES as f64;
        let Some((left, then_ms)) = self.left else { return all };
        all.min(left + bound * (now_ms - then_ms) as f64 / 1000.0)
    }

    /// Whether all is in hand again.
    pub(super) fn is_full(&self, bound: f64, now_ms: i64) -> bool {
        self.left(bound, now_ms) >= bound * SAMPLES as f64
    }
}

/// As many whole ms, of those that a Kafka client can be told.
fn milliseconds(ms: f64) -> Duration {
    Duration::from_millis(ms.round().clamp(0.0, i32::MAX.into()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(duration: Duration) -> u64 {
        duration.as_millis() as u64
    }

    /// What Apache Kafka 4.3.1 told a producer with a quota of 10,000 bytes that sent 100,110 bytes, each as soon as it was let.
    #[test]
    fn the_waits_are_kafkas() {
        let (mut rate, mut now, mut waits) = (Rate::default(), 5_000_000, Vec::new());
        for _ in 0..3 {
            rate.add(100_110.0, now);
            let wait = ms(rate.wait(10_000.0, now));
            waits.push(wait);
            now += wait as i64 + 10;
        }
        assert_eq!(waits, [11, 10_001, 20_001]);
        assert_eq!(ms(rate.wait(10_000.0, now)), 0, "it was silent for eleven seconds");
        assert!(rate.is_forgotten(now));
    }

    #[test]
    fn what_is_used_evenly_within_the_bound_never_waits_and_above_it_does() {
        for (amount, waits) in [(980.0, false), (1020.0, true)] {
            let (mut rate, mut waited) = (Rate::default(), false);
            for now in (0..100_000).step_by(100) {
                rate.add(amount / 10.0, now);
                waited |= !rate.wait(1000.0, now).is_zero();
                assert!(rate.0.len() <= SAMPLES as usize + 1);
            }
            assert_eq!(waited, waits);
        }
    }

    #[test]
    fn what_is_taken_back_was_never_used() {
        let mut rate = Rate::default();
        for now in [0, 13] {
            rate.add(100_130.0, now);
            assert_eq!(ms(rate.wait(10_000.0, now)), [13, 0][usize::from(now > 0)]);
            if now == 0 {
                rate.add(-100_130.0, now);
            }
        }
    }

    /// Changes of five partitions each, of one a second.
    #[test]
    fn eleven_seconds_worth_is_in_hand_and_below_none_is_a_debt() {
        let mut tokens = Tokens::default();
        let waits = [0, 0, 0, 100].map(|now| {
            tokens.take(5.0, 1.0, now);
            ms(tokens.wait(1.0, now))
        });
        assert_eq!(waits, [0, 0, 4000, 8900]);
        assert_eq!(ms(tokens.wait(1.0, 9000)), 0);
        assert!(!tokens.is_full(1.0, 9000) && tokens.is_full(1.0, 20_001));
        tokens.take(0.0, 1.0, 1_000_000);
        assert_eq!(tokens.left(1.0, 1_000_000), 11.0, "no more than that is saved up");
    }

    #[test]
    fn a_wait_is_what_a_client_can_be_told() {
        let mut rate = Rate::default();
        rate.add(1e300, 0);
        assert_eq!(ms(rate.wait(1e-300, 0)), i32::MAX as u64);
    }
}

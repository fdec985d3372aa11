//! How often somebody may guess: three wrong passwords are free, then each one costs a time that doubles.
//!
//! ```text
//! an address (of IPv6 a /64) ─┐
//!                             ├─ the longer time counts, for whoever has not logged in from there before
//! a name ─────────────────────┘
//! a name at an address that it logged in from ── its own time: others who guess lock nobody out
//! ```
//!
//! - Attempts are checked one after the other: each takes the next turn, and the one behind it waits for what this one costs. So it
//!   is of no use to guess over many connections.
//! - Memory is bounded. Names are kept as hashes under a key of this process.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    time::{Duration, Instant},
};

/// Wrong ones that cost nothing.
const FREE: u32 = 3;
/// What the first one after those costs.
const FIRST: Duration = Duration::from_secs(1);
/// What one costs at most.
const LONGEST: Duration = Duration::from_secs(60);
/// Who has to wait longer than this is refused at once, right or wrong.
const PATIENCE: Duration = Duration::from_secs(5);
/// What was wrong is forgotten after so long without another.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
/// How many addresses, names and pairs are kept.
const KEPT_MAX: usize = 20_000;

/// Who guessed wrongly.
#[derive(Debug, Default)]
pub struct Guessing {
    key: RandomState,
    addresses: Counts,
    names: Counts,
    pairs: Counts,
}

#[derive(Debug, Default)]
struct Counts(HashMap<u64, Count>);

#[derive(Clone, Copy, Debug)]
struct Count {
    wrong: u32,
    /// When the next attempt is checked.
    next: Instant,
    last: Instant,
}

/// An attempt that will be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    address: u64,
    name: u64,
    pair: u64,
    /// Whether the name has logged in from the address before.
    is_known: bool,
}

/// When an attempt is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// After so long; at once, it is to be checked before anybody else's turn is asked for.
    After(Duration, Attempt),
    /// Not at all.
    Never,
}

/// What counts as one address: of IPv6 the network, in which a host can take any.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

impl Guessing {
    /// Somebody at an address wants to log in by this name.
    pub fn attempt(&mut self, address: IpAddr, name: &str, now: Instant) -> Turn {
        let attempt = self.attempt_of(address, name);
        let wait = self.wait(&attempt, now);
        if wait > PATIENCE {
            return Turn::Never;
        }
        for (counts, key) in self.counts(&attempt) {
            counts.take(key, now + wait, now);
        }
        Turn::After(wait, attempt)
    }

    /// Whether an attempt would not be checked at all; nothing comes of asking.
    pub fn refuses(&mut self, address: IpAddr, name: &str, now: Instant) -> bool {
        let attempt = self.attempt_of(address, name);
        self.wait(&attempt, now) > PATIENCE
    }

    fn attempt_of(&self, address: IpAddr, name: &str) -> Attempt {
        let address = network(address);
        let (address, name, pair) =
            (self.key.hash_one(address), self.key.hash_one(name), self.key.hash_one((address, name)));
        Attempt { address, name, pair, is_known: self.pairs.0.contains_key(&pair) }
    }

    /// How long it is until an attempt would be checked.
    fn wait(&mut self, attempt: &Attempt, now: Instant) -> Duration {
        let next = self.counts(attempt).into_iter().filter_map(|(counts, key)| counts.next(key, now)).max();
        next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }

    /// Whose time counts.
    fn counts(&mut self, attempt: &Attempt) -> Vec<(&mut Counts, u64)> {
        match attempt.is_known {
            true => vec![(&mut self.pairs, attempt.pair)],
            false => vec![(&mut self.addresses, attempt.address), (&mut self.names, attempt.name)],
        }
    }

    /// It was wrong.
    pub fn wrong(&mut self, attempt: Attempt, now: Instant) {
        for (counts, key) in self.counts(&attempt) {
            counts.wrong(key, now);
        }
    }

    /// It was right.
    pub fn right(&mut self, attempt: Attempt, now: Instant) {
        self.pairs.insert(attempt.pair, Count { wrong: 0, next: now, last: now }, now, Duration::MAX);
    }
}

impl Counts {
    fn next(&self, key: u64, now: Instant) -> Option<Instant> {
        let count = self.0.get(&key).filter(|count| now.saturating_duration_since(count.last) < FORGOTTEN)?;
        Some(count.next)
    }

    /// An attempt is checked at `at`. Those behind it wait for what it will cost, if it is wrong.
    fn take(&mut self, key: u64, at: Instant, now: Instant) {
        if let Some(count) = self.0.get_mut(&key) {
            if now.saturating_duration_since(count.last) >= FORGOTTEN {
                count.wrong = 0;
            }
            count.next = at + cost(count.wrong);
        }
    }

    fn wrong(&mut self, key: u64, now: Instant) {
        let mut count = self.0.get(&key).copied().unwrap_or(Count { wrong: 0, next: now, last: now });
        count.wrong = count.wrong.saturating_add(1);
        count.last = now;
        count.next = count.next.max(now + cost(count.wrong));
        self.insert(key, count, now, FORGOTTEN);
    }

    /// Keeps a count. Where there is no room, those go that were forgotten, or else any one.
    fn insert(&mut self, key: u64, count: Count, now: Instant, forgotten: Duration) {
        if self.0.len() >= KEPT_MAX && !self.0.contains_key(&key) {
            self.0.retain(|_, count| now.saturating_duration_since(count.last) < forgotten);
            if self.0.len() >= KEPT_MAX {
                let any = self.0.keys().next().copied();
                any.map(|any| self.0.remove(&any));
            }
        }
        self.0.insert(key, count);
    }
}

/// What the attempt after so many wrong ones costs.
fn cost(wrong: u32) -> Duration {
    match wrong.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(more) => FIRST.saturating_mul(1 << more.min(10)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    /// The time until an attempt is checked, in s, and the attempt, which then turns out as `right`.
    fn try_once(guessing: &mut Guessing, address: IpAddr, name: &str, now: &mut Instant, right: bool) -> Option<u64> {
        match guessing.attempt(address, name, *now) {
            Turn::Never => None,
            Turn::After(wait, attempt) => {
                *now += wait;
                if right {
                    guessing.right(attempt, *now)
                } else {
                    guessing.wrong(attempt, *now)
                }
                Some(wait.as_secs())
            }
        }
    }

    #[test]
    fn three_wrong_ones_are_free_and_then_each_costs_twice_as_much() {
        let (mut guessing, mut now) = (Guessing::default(), Instant::now());
        let mut guess = |guessing: &mut Guessing, name| try_once(guessing, A, name, &mut now, false);
        let costs: Vec<_> = (0..7).map(|_| guess(&mut guessing, "alice")).collect();
        assert_eq!(costs, [0, 0, 0, 1, 2, 4].map(Some).into_iter().chain([None]).collect::<Vec<_>>());
        // Neither another name at the address nor another address for the name is cheaper.
        assert_eq!(guess(&mut guessing, "bob"), None);
        assert_eq!(try_once(&mut guessing, B, "alice", &mut now, true), None);
        assert_eq!(try_once(&mut guessing, B, "bob", &mut now, true), Some(0));
        now += Duration::from_secs(60);
        assert_eq!(try_once(&mut guessing, B, "alice", &mut now, true), Some(0));
        now += FORGOTTEN;
        let costs: Vec<_> = (0..4).map(|_| try_once(&mut guessing, A, "alice", &mut now, false)).collect();
        assert_eq!(costs, [0, 0, 0, 1].map(Some));
    }

    #[test]
    fn who_logged_in_before_is_locked_out_by_nobody_and_has_no_more_guesses() {
        let (mut guessing, mut now) = (Guessing::default(), Instant::now());
        assert_eq!(try_once(&mut guessing, A, "alice", &mut now, true), Some(0));
        while try_once(&mut guessing, A, "bob", &mut now, false).is_some() {}
        while try_once(&mut guessing, B, "alice", &mut now, false).is_some() {}
        assert_eq!(try_once(&mut guessing, A, "alice", &mut now, true), Some(0));
        // The name has an allowance of its own there, and no more.
        let costs: Vec<_> = (0..5).map(|_| try_once(&mut guessing, A, "alice", &mut now, false)).collect();
        assert_eq!(costs, [0, 0, 0, 1, 2].map(Some));
    }

    #[test]
    fn many_connections_guess_no_faster_than_one() {
        let (mut guessing, mut now) = (Guessing::default(), Instant::now());
        (0..3).for_each(|_| assert!(try_once(&mut guessing, A, "alice", &mut now, false).is_some()));
        let turns: Vec<_> = (0..100).map(|_| guessing.attempt(A, "alice", now)).collect();
        let checked = turns.iter().filter(|turn| **turn != Turn::Never).count();
        assert!(checked <= 8, "{checked}");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_memory_is_bounded() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), A);
        let (mut guessing, mut now) = (Guessing::default(), Instant::now());
        for number in 0..2 * KEPT_MAX as u32 {
            let address = IpAddr::V4(number.into());
            try_once(&mut guessing, address, &number.to_string(), &mut now, number % 2 == 0);
        }
        let kept = [&guessing.addresses, &guessing.names, &guessing.pairs].map(|counts| counts.0.len());
        assert!(kept.iter().all(|kept| *kept <= KEPT_MAX), "{kept:?}");
    }
}

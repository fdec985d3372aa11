//! Quotas with force: who used how much of what, and how long it is to wait for that.
//!
//! ```text
//! charge(what, by whom, how much) ──► the quota that is nearest to the two ──► its meter ──► how long to wait
//!                                     user and client, user, client, then the defaults; as in Kafka (KIP-55)
//! ```
//!
//! - A quota of a user is one meter for all its clients, one of a client id one for all users, one of both, or of each client of
//!   a user, one for each pair.
//! - Who waits is not refused anything: its answer says for how long, and nothing more of its connection is read until then. Only
//!   changes of topics are refused, to whom can be told so (KIP-599).
//! - What has no quota costs the look at an atomic.
//! - Client ids are whatever clients say: there are at most 10,000 meters, and who comes later shares one.

mod limits;
mod rate;

use limits::Limits;
use rate::{Rate, Tokens};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU8, Ordering::*},
    },
    time::Duration,
};

/// Whom a quota is for: a name for each kind, such as `user` or `ip`; `None` is each that has no quota of its own.
pub type QuotaEntity = BTreeMap<String, Option<String>>;
/// Quotas of an entity, by their names.
pub type QuotaValues = BTreeMap<String, f64>;
/// All quotas.
pub type Quotas = BTreeMap<QuotaEntity, QuotaValues>;

/// How many meters there are at most, and as many of addresses.
const METERS_MAX: usize = 10_000;
/// How often meters that nobody uses are looked for, in ms, when there is no room for another.
const SWEEP_EVERY_MS: i64 = 1000;
/// How far the clock may go back without being put back.
const CLOCK_SLACK_MS: i64 = 1000;
/// How long somebody waits at most for the time that its requests took: Kafka's window of one second.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(1);

/// What quotas limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quota {
    /// Bytes that are written, a second.
    ProducedBytes,
    /// Bytes of records that are read, a second.
    FetchedBytes,
    /// Seconds of a processor's time, a second, in percent.
    RequestTime,
    /// Partitions that are made and dropped, a second.
    Changes,
}

impl Quota {
    /// All of them.
    pub const ALL: [Quota; 4] = [Quota::ProducedBytes, Quota::FetchedBytes, Quota::RequestTime, Quota::Changes];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Quota::ProducedBytes => "producer_byte_rate",
            Quota::FetchedBytes => "consumer_byte_rate",
            Quota::RequestTime => "request_percentage",
            Quota::Changes => "controller_mutation_rate",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The bit of the quotas of addresses.
const CONNECTIONS: u8 = 1 << Quota::ALL.len();

/// Who uses something.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// The name of its principal.
    pub user: &'a str,
    /// What it calls itself.
    pub client_id: &'a str,
}

/// The quotas in force, and what was used of them.
#[derive(Debug, Default)]
pub struct Meters {
    /// A bit for each kind of which there is a quota.
    set: AtomicU8,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    limits: Limits,
    meters: HashMap<Key, Meter>,
    addresses: HashMap<IpAddr, Rate>,
    last_ms: i64,
    swept_ms: i64,
}

/// Whose meter it is; those that a quota does not tell apart are none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    quota: Quota,
    user: Option<Box<str>>,
    client_id: Option<Box<str>>,
}

#[derive(Debug)]
enum Meter {
    Rate(Rate),
    Tokens(Tokens, /* bound: */ f64),
}

impl Meter {
    fn of(quota: Quota, bound: f64) -> Meter {
        match quota {
            Quota::Changes => Meter::Tokens(Tokens::default(), bound),
            _ => Meter::Rate(Rate::default()),
        }
    }

    fn is_idle(&self, now_ms: i64) -> bool {
        match self {
            Meter::Rate(rate) => rate.is_forgotten(now_ms),
            Meter::Tokens(tokens, bound) => tokens.is_full(*bound, now_ms),
        }
    }
}

impl Meters {
    /// From here on the quotas that `newest` answers are in force. It is asked when no other change can come between.
    pub fn replace(&self, newest: impl FnOnce() -> Arc<Quotas>) {
        let mut state = self.state();
        state.limits = Limits::of(&newest());
        self.set.store(state.limits.set(), Release);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while something is measured")
    }

    fn has(&self, bit: u8) -> bool {
        self.set.load(Relaxed) & bit != 0
    }

    /// Whether anybody has such a quota.
    pub fn is_limited(&self, quota: Quota) -> bool {
        self.has(quota.bit())
    }

    /// Somebody uses so much: bytes, seconds or partitions. Answers how long it is to wait for that.
    pub fn charge(&self, quota: Quota, account: Account<'_>, amount: f64, now_ms: i64) -> Duration {
        if !self.is_limited(quota) {
            return Duration::ZERO;
        }
        let mut state = self.state();
        let now_ms = state.at(now_ms);
        let Some((meter, bound)) = state.meter(quota, account, now_ms) else { return Duration::ZERO };
        let wait = match meter {
            Meter::Rate(rate) => {
                rate.add(if quota == Quota::RequestTime { amount * 100.0 } else { amount }, now_ms);
                rate.wait(bound, now_ms)
            }
            Meter::Tokens(tokens, of) => {
                *of = bound;
                tokens.take(amount, bound, now_ms);
                tokens.wait(bound, now_ms)
            }
        };
        if quota == Quota::RequestTime { wait.min(REQUEST_WAIT_MAX) } else { wait }
    }

    /// Somebody would use so much. If it is to wait first, it has used nothing. What will never be free at once is used now, and
    /// waited for afterwards.
    pub fn hold_back(&self, quota: Quota, account: Account<'_>, amount: f64, now_ms: i64) -> HeldBack {
        let wait = self.charge(quota, account, amount, now_ms);
        let at_once = self.at_once(quota, account).unwrap_or(f64::MAX);
        // What is measured reaches a second beyond the window.
        if wait.is_zero() || amount > at_once * (1.0 + 1.0 / rate::WINDOW_SECONDS) {
            return HeldBack::No(wait);
        }
        self.charge(quota, account, -amount, now_ms);
        HeldBack::Yes(wait)
    }

    /// How much somebody may use at once; `None`: any amount.
    pub fn at_once(&self, quota: Quota, account: Account<'_>) -> Option<f64> {
        if !self.is_limited(quota) {
            return None;
        }
        Some(self.state().limits.find(quota, account)?.bound * rate::WINDOW_SECONDS)
    }

    /// Somebody connects from there. Answers how long it is to wait instead of being served.
    pub fn connected(&self, from: IpAddr, now_ms: i64) -> Duration {
        if !self.has(CONNECTIONS) {
            return Duration::ZERO;
        }
        let (mut state, from) = (self.state(), from.to_canonical());
        let now_ms = state.at(now_ms);
        let Some(bound) = state.limits.of_address(from) else { return Duration::ZERO };
        if !state.addresses.contains_key(&from) && state.addresses.len() >= METERS_MAX {
            state.sweep(now_ms);
            if state.addresses.len() >= METERS_MAX {
                // Nobody else's is forgotten for it, and it is no way around the quota.
                return REQUEST_WAIT_MAX;
            }
        }
        let rate = state.addresses.entry(from).or_default();
        rate.add(1.0, now_ms);
        let wait = rate.wait(bound, now_ms);
        if !wait.is_zero() {
            rate.add(-1.0, now_ms);
        }
        wait
    }
}

/// Whether something is to wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBack {
    /// It goes on at once, and waits afterwards.
    No(Duration),
    /// It waits first.
    Yes(Duration),
}

impl State {
    /// The time that is gone by. After a clock that was put back all begins anew.
    fn at(&mut self, now_ms: i64) -> i64 {
        if now_ms < self.last_ms - CLOCK_SLACK_MS {
            self.meters.clear();
            self.addresses.clear();
            (self.last_ms, self.swept_ms) = (now_ms, now_ms);
        }
        self.last_ms = self.last_ms.max(now_ms);
        self.last_ms
    }

    /// The meter of somebody who has such a quota, and how much it may use a second.
    fn meter(&mut self, quota: Quota, account: Account<'_>, now_ms: i64) -> Option<(&mut Meter, f64)> {
        let limit = self.limits.find(quota, account)?;
        let bound = limit.bound;
        let mut key = Key { quota, user: limit.user.map(Box::from), client_id: limit.client_id.map(Box::from) };
        if !self.meters.contains_key(&key) && self.meters.len() >= METERS_MAX {
            self.sweep(now_ms);
            if self.meters.len() >= METERS_MAX {
                key = Key { quota, user: None, client_id: None };
            }
        }
        Some((self.meters.entry(key).or_insert_with(|| Meter::of(quota, bound)), bound))
    }

    /// Makes room.
    fn sweep(&mut self, now_ms: i64) {
        if now_ms - self.swept_ms >= SWEEP_EVERY_MS {
            self.swept_ms = now_ms;
            self.meters.retain(|_, meter| !meter.is_idle(now_ms));
            self.addresses.retain(|_, rate| !rate.is_forgotten(now_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Account<'_> = Account { user: "alice", client_id: "loader" };

    /// An entity, a quota of it, and its value.
    type Set<'a> = (&'a [(&'a str, Option<&'a str>)], &'a str, f64);

    fn quotas(all: &[Set<'_>]) -> Arc<Quotas> {
        let mut quotas = Quotas::new();
        for (entity, name, value) in all {
            let entity = entity.iter().map(|(kind, name)| (kind.to_string(), name.map(String::from))).collect();
            quotas.entry(entity).or_default().insert(name.to_string(), *value);
        }
        quotas.into()
    }

    fn meters(all: &[Set<'_>]) -> Meters {
        let meters = Meters::default();
        meters.replace(|| quotas(all));
        meters
    }

    fn ms(wait: Duration) -> u128 {
        wait.as_millis()
    }

    #[test]
    fn a_users_clients_share_its_quota_and_pairs_have_their_own() {
        let user = [("user", Some("alice"))];
        let all = meters(&[(&user, "producer_byte_rate", 100.0)]);
        let other = Account { client_id: "other", ..ALICE };
        assert_eq!(ms(all.charge(Quota::ProducedBytes, ALICE, 1000.0, 0)), 0);
        assert_eq!(ms(all.charge(Quota::ProducedBytes, other, 10.0, 0)), 100);
        assert_eq!(ms(all.charge(Quota::FetchedBytes, other, 1e9, 0)), 0, "of that there is none");
        assert_eq!(ms(all.charge(Quota::ProducedBytes, Account { user: "bob", ..other }, 1e9, 0)), 0);
        let each = meters(&[(&[("client-id", None), ("user", Some("alice"))], "producer_byte_rate", 100.0)]);
        for client_id in ["a", "b"] {
            let account = Account { client_id, ..ALICE };
            assert_eq!(ms(each.charge(Quota::ProducedBytes, account, 1010.0, 0)), 100);
        }
    }

    #[test]
    fn what_would_be_too_much_waits_unless_it_always_would() {
        let all = meters(&[(&[("user", None)], "consumer_byte_rate", 10_000.0)]);
        assert_eq!(all.at_once(Quota::FetchedBytes, ALICE), Some(100_000.0));
        let fetch = |bytes, now| all.hold_back(Quota::FetchedBytes, ALICE, bytes, now);
        // As Kafka answered: no records and 13 ms, 100 kB, no records and ten seconds.
        assert_eq!(fetch(100_130.0, 0), HeldBack::Yes(Duration::from_millis(13)));
        assert_eq!(fetch(100_130.0, 13), HeldBack::No(Duration::ZERO));
        assert_eq!(fetch(100_130.0, 30), HeldBack::Yes(Duration::from_millis(9996)));
        let later = 1_000_000;
        assert_eq!(fetch(1e6, later), HeldBack::No(Duration::from_secs(90)), "it would never come");
    }

    #[test]
    fn the_time_of_requests_is_in_percent_and_waits_a_second_at_most() {
        let all = meters(&[(&[("client-id", Some("loader"))], "request_percentage", 1.0)]);
        assert_eq!(ms(all.charge(Quota::RequestTime, ALICE, 0.1, 0)), 0);
        assert_eq!(ms(all.charge(Quota::RequestTime, ALICE, 0.002, 0)), 200);
        assert_eq!(ms(all.charge(Quota::RequestTime, ALICE, 5.0, 0)), 1000);
    }

    #[test]
    fn addresses_connect_as_often_as_they_may() {
        let all = meters(&[
            (&[("ip", None)], "connection_creation_rate", 1.0),
            (&[("ip", Some("10.0.0.1"))], "connection_creation_rate", 2.0),
        ]);
        let connected = |from: &str, now| ms(all.connected(from.parse().unwrap(), now));
        for _ in 0..10 {
            assert_eq!(connected("127.0.0.1", 0), 0);
        }
        assert_eq!([connected("127.0.0.1", 0), connected("127.0.0.1", 900)], [1000, 100], "those refused do not count");
        assert_eq!(connected("127.0.0.1", 11_000), 0);
        assert_eq!(connected("10.0.0.2", 11_000), 0);
        for _ in 0..20 {
            assert_eq!(connected("::ffff:10.0.0.1", 11_000), 0);
        }
        assert_eq!(connected("10.0.0.1", 11_000), 500);
    }

    #[test]
    fn clients_that_make_up_names_take_no_memory_and_gain_nothing() {
        let all = meters(&[(&[("client-id", None)], "producer_byte_rate", 1.0)]);
        let charge = |number: usize, bytes, now| {
            let client_id = &number.to_string();
            ms(all.charge(Quota::ProducedBytes, Account { user: "u", client_id }, bytes, now))
        };
        for number in 0..METERS_MAX {
            assert_eq!(charge(number, 1.0, 0), 0);
        }
        assert_eq!([charge(METERS_MAX, 10.0, 0), charge(METERS_MAX + 1, 10.0, 0)], [0, 10_000], "they share one");
        assert!(all.state().meters.len() <= METERS_MAX + Quota::ALL.len());
        assert_eq!(charge(METERS_MAX + 2, 10.0, 20_000), 0, "the others are idle");
        assert!(all.state().meters.len() < 5);
    }

    #[test]
    fn a_clock_that_is_put_back_locks_nobody_out() {
        let all = meters(&[(&[("user", None)], "producer_byte_rate", 1.0)]);
        assert_eq!(ms(all.charge(Quota::ProducedBytes, ALICE, 20.0, 1_000_000_000)), 10_000);
        assert_eq!(ms(all.charge(Quota::ProducedBytes, ALICE, 1.0, 999_999_990)), 11_000, "threads look at it in turn");
        assert_eq!(ms(all.charge(Quota::ProducedBytes, ALICE, 10.0, 1000)), 0);
    }

    #[test]
    fn quotas_that_change_act_at_once_on_what_was_used() {
        let user = [("user", Some("alice"))];
        let all = meters(&[(&user, "producer_byte_rate", 100.0)]);
        assert_eq!(ms(all.charge(Quota::ProducedBytes, ALICE, 1000.0, 0)), 0);
        all.replace(|| quotas(&[(&user, "producer_byte_rate", 50.0)]));
        assert_eq!(ms(all.charge(Quota::ProducedBytes, ALICE, 0.0, 0)), 10_000);
        all.replace(|| quotas(&[]));
        assert!(!all.is_limited(Quota::ProducedBytes));
        assert_eq!(ms(all.charge(Quota::ProducedBytes, ALICE, 1e9, 0)), 0);
    }
}

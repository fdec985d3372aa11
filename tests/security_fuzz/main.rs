//! What anybody may send of logins, TLS, users, rules and quotas, bent at random: nothing panics, nothing grows, and nobody gets in.
//!
//! `CASES=1000000 cargo test --release --test security_fuzz -- --test-threads 1` bends a million conversations; each run of the tests
//! bends some thousands. A case is bent from a seed of its own, which a failure names.
#![cfg(all(feature = "http", feature = "kafka", feature = "tls"))]
#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

#[path = "../common/mod.rs"]
mod common;
mod frames;
mod lines;
mod records;
mod requests;

use common::Random;
use plainlog::{
    Broker, Config,
    security::{Acl, AclFilter, Operation, PatternType, Permission, Quotas, ResourceType, ScramCredentials},
};
use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::{Arc, Mutex, Once},
};

/// The password of alice, who may read her own topic and nothing else.
const PASSWORD: &str = "Bn7sKq2vXw9rTz4mLc8d";
/// What alice may know of.
const HERS: &str = "of-alice";
/// What neither she nor a stranger may know of. No message names them.
const SECRETS: [&str; 2] = ["salaries", "mallory"];
/// How much the process may grow while messages are bent,
const GROWTH_MAX: u64 = 48 << 20;
/// and how much its address space: nothing is set aside for a length that a message only tells.
const SPACE_MAX: u64 = 1 << 30;

/// A broker with users, which makes nobody wait who guesses.
fn config() -> Config {
    let mut config = Config::in_memory();
    (config.security.users, config.security.login_delay) = (true, false);
    config
}

/// The same with what strangers are not to know of.
fn broker(config: Config) -> Broker {
    let broker = Broker::open(config).unwrap();
    broker.begin_with_users("Vd5gYh3jNk6pRb1fQs0t").unwrap();
    broker.add_user("alice", PASSWORD).unwrap();
    broker.add_user(SECRETS[1], "Jm4wZx8cEu2aLo6iGy5h").unwrap();
    [HERS, SECRETS[0]].iter().for_each(|topic| drop(broker.create_topic(topic, 1).unwrap()));
    let rule = Acl {
        resource_type: ResourceType::Topic,
        pattern: PatternType::Literal,
        name: HERS.into(),
        principal: "User:alice".into(),
        host: "*".into(),
        operation: Operation::Read,
        permission: Permission::Allow,
    };
    broker.create_acls(&[rule]).unwrap();
    broker
}

/// All that requests of strangers and alice could have changed.
#[derive(PartialEq)]
struct State {
    users: Arc<ScramCredentials>,
    rules: Vec<Acl>,
    quotas: Arc<Quotas>,
    topics: usize,
}

impl State {
    fn of(broker: &Broker) -> State {
        State {
            users: broker.scram_credentials().unwrap(),
            rules: broker.acls(&AclFilter::default()).unwrap(),
            quotas: broker.quotas().unwrap(),
            topics: broker.describe_topics().len(),
        }
    }
}

/// How many cases a part gets that gets so many of a thousand.
fn cases(of_thousand: u64) -> u64 {
    env::var("CASES").map_or(8_000, |cases| cases.parse().unwrap()) * of_thousand / 1000
}

/// Panics of any thread.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Carries out cases, each with numbers of its own, and looks at what they left of the process.
fn each_case(of_thousand: u64, mut case: impl FnMut(&mut Random)) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            PANICS.lock().unwrap().push(panic.to_string());
            usual(panic);
        }));
    });
    let cases = cases(of_thousand);
    let mut settled = [0; 2];
    for seed in 1..=cases {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let ran = catch_unwind(AssertUnwindSafe(|| case(&mut random)));
        assert!(ran.is_ok(), "seed {seed}");
        if seed == cases.div_ceil(5) {
            settled = [memory("VmRSS:"), memory("VmPeak:")];
        }
    }
    let [grown, space] =
        [("VmRSS:", settled[0]), ("VmPeak:", settled[1])].map(|(kind, settled)| memory(kind).saturating_sub(settled));
    assert!(grown < GROWTH_MAX && space < SPACE_MAX, "{} and {} MB more after {cases} cases", grown >> 20, space >> 20);
    let panics = PANICS.lock().unwrap().clone();
    assert_eq!(panics, Vec::<String>::new());
}

/// How much memory this process has, in bytes, as the kernel calls it.
fn memory(kind: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(kind)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Whether an answer tells what it may not, or that alice got in.
fn holds(answer: &[u8], word: &str) -> bool {
    memchr::memmem::find(answer, word.as_bytes()).is_some()
}

fn tells_no_secret(answer: &[u8]) {
    for secret in SECRETS {
        assert!(!holds(answer, secret), "{}", String::from_utf8_lossy(answer));
    }
}

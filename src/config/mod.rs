//! Every setting of the broker and of its topics: default, unit, meaning.
//!
//! [`Config`] is how a broker runs. [`Settings`] are what each topic has, with Kafka's names:
//!
#![doc = include_str!("settings.md")]

mod address;
mod broker_settings;
mod changes;
mod client_metrics_settings;
mod group_settings;
#[cfg(feature = "users")]
mod security;
mod settings;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "users")]
mod tokens;
mod units;
mod values;

pub use address::Address;
pub use broker_settings::{BROKER_SETTINGS, BrokerSettings, Known, broker_changes, known, of_topics};
pub use changes::{Change, Changes, no_list};
pub use client_metrics_settings::ClientMetricsSettings;
pub use group_settings::{DEAD_LETTERS, DeadLetterTopic, GroupSettings, IsolationLevel, OffsetReset};
#[cfg(feature = "users")]
pub use security::SecurityConfig;
pub use settings::{Described, Overrides, SETTINGS, Setting, Settings, canonical};
#[cfg(feature = "tls")]
pub use tls::TlsConfig;
#[cfg(feature = "users")]
pub use tokens::TokensConfig;
pub use units::{bytes, duration};
pub use values::{CleanupPolicy, CompressionType, ThrottledReplicas, TimestampType, Type};

use std::{path::PathBuf, time::Duration};

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// The record is synced to disk before anybody sees it.
    Always,
    /// The record was handed to the operating system; a sync follows within this time.
    Every(Duration),
    /// The record was handed to the operating system, which writes it when it likes.
    Never,
}

impl std::fmt::Display for Flush {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Flush::Always => f.write_str("always"),
            Flush::Every(time) => write!(f, "{} ms", time.as_millis()),
            Flush::Never => f.write_str("never"),
        }
    }
}

/// Whether Kafka clients get a batch in the codec in which it came, where its topic's `compression.type` is `producer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchCompression {
    /// Those that read from another machine: on this one, bytes are cheaper than the time to compress them.
    Auto,
    /// All of them.
    Always,
    /// None of them.
    Never,
}

/// How a broker runs. `Config::new("data")` is what the program does without options.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the log lives; `None` keeps it in memory.
    pub data_dir: Option<PathBuf>,
    /// What an acknowledgement promises: [`Flush::Always`].
    pub flush: Flush,
    /// Partitions of a topic made on first use: 1.
    pub default_partitions: u32,
    /// Whether first use makes a topic: yes.
    pub auto_create: bool,
    /// Topic settings where a topic has none of its own: Kafka's.
    pub topic_defaults: Settings,
    /// Connections at once: 10,000.
    pub max_connections: usize,
    /// How long a write may be stuck, and a Kafka connection silent: 10 min.
    pub idle_timeout: Duration,
    /// Whether each exchange is explained on stderr: no.
    pub explain: bool,
    /// What is said on stderr besides faults: 0 nothing (`-q`), 1 starts and stops, 2 each connection (`-v`).
    pub verbosity: u8,
    /// The shortest session of a Kafka group member: 6 s.
    pub group_min_session: Duration,
    /// How long the first members of a Kafka group wait for others: not at all (Kafka: 3 s).
    pub group_initial_rebalance_delay: Duration,
    /// Groups with members or committed offsets at once: 250,000, of 1.5 KB each.
    pub groups_max: usize,
    /// How often retention looks for records that are too old, in a topic whose `retention.ms` is not shorter: 5 min.
    pub retention_check_interval: Duration,
    /// How long the offsets of a group without members are kept: 7 days.
    pub offsets_retention: Duration,
    /// The longest time that a transaction may take (Kafka: `transaction.max.timeout.ms`): 15 min.
    pub transaction_max_timeout: Duration,
    /// How long a transactional id is known that nobody uses (Kafka: `transactional.id.expiration.ms`): 7 days.
    pub transactional_id_expiration: Duration,
    /// Where Kafka clients are told to connect to; `None`: where each reached the broker, and over loopback the name by
    /// which it listens, if it does.
    pub advertise: Option<Address>,
    /// Whether a replication factor above 1 is refused instead of taken as 1: no.
    pub strict_replication: bool,
    /// Which Kafka clients get batches in the codec in which these came: [`FetchCompression::Auto`].
    pub fetch_compression: FetchCompression,
    /// Open files that the log keeps at most: 1,024.
    pub open_files_max: usize,
    /// What is asked of callers: nothing.
    #[cfg(feature = "users")]
    pub security: SecurityConfig,
    /// Names by which HTTP clients may call the broker besides `localhost`, its addresses and the name it listens on: none.
    #[cfg(feature = "http")]
    pub http_hosts: Vec<String>,
    /// Origins of pages of other servers that may ask the broker, such as `https://shop.example`: none.
    #[cfg(feature = "http")]
    pub http_allow_origins: Vec<String>,
}

impl Config {
    /// Kafka's `log.dirs`: the folder of the log as it was named, or a word where there is none.
    pub fn log_dir(&self) -> String {
        self.data_dir.as_ref().map_or("memory".into(), |dir| dir.display().to_string())
    }

    /// A broker whose log lives in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Config {
        Config { data_dir: Some(data_dir.into()), ..Config::in_memory() }
    }

    /// A broker that keeps nothing.
    pub fn in_memory() -> Config {
        Config {
            data_dir: None,
            flush: Flush::Always,
            default_partitions: 1,
            auto_create: true,
            topic_defaults: Settings::default(),
            max_connections: 10_000,
            idle_timeout: Duration::from_secs(600),
            explain: false,
            verbosity: 0,
            group_min_session: Duration::from_secs(6),
            group_initial_rebalance_delay: Duration::ZERO,
            groups_max: 250_000,
            retention_check_interval: Duration::from_secs(300),
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
            transaction_max_timeout: Duration::from_secs(15 * 60),
            transactional_id_expiration: Duration::from_secs(7 * 24 * 3600),
            advertise: None,
            strict_replication: false,
            fetch_compression: FetchCompression::Auto,
            open_files_max: 1024,
            #[cfg(feature = "users")]
            security: SecurityConfig::default(),
            #[cfg(feature = "http")]
            http_hosts: Vec::new(),
            #[cfg(feature = "http")]
            http_allow_origins: Vec::new(),
        }
    }
}

/// Whether a topic can have this name.
pub fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.bytes().all(legal)
}

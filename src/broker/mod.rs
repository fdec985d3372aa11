//! The broker: the verbs that all protocols call. It knows no protocol and writes to no socket.
//!
//! ```text
//! Broker ── BrokerState ── topics ── Topic ── partitions ── Partition ── Log
//!    │           └ Env: disk, clock, flush mode, what the flusher and maintenance are to do
//!    └ Caller: on whose behalf it is asked
//! ```
//!
//! # The verbs
//!
//! Whoever asks has a [`Broker`] that acts on behalf of a [`Caller`], and these. They answer with values, handles and
//! sessions; a second form of what answers them, which keeps the records elsewhere, needs no more than this list.
//!
//! | what for | verbs | in |
//! | --- | --- | --- |
//! | topics | `create_topic`, `create_topic_with`, `alter_topic`, `drop_topic`, `trim`, `register` | here |
//! | what there is | `describe_topics`, `describe_topic`, `describe_topic_by_id`, `describe_topic_or_create`, `describe_partition`, `describe_partitions`, `topic_size`, `topic_sizes`, `topic_count`, `nodes`, `observe_topics`, `faults`, `is_ready`, `leader_epoch`, `end_of_epoch` | `describe` |
//! | reading | `find_topic`, `find_topic_by_id`, `find_partition`, `read_session` | `reading` |
//! | writing | `write_session`, `new_producer_id`, `known_producer_id` | `writing`, here |
//! | transactions | `begin_transaction`; `init_producer`, `add_partitions`, `add_group`, `end_transaction` | `transaction_coordinator` |
//! | looking after transactions | `transactions`, `transaction`, `abort_transaction`, `write_marker`, `active_producers` | `transaction_coordinator/summary` |
//! | members of groups | `join`, `may_join`, `commit_offsets_in`; `join_group`, `sync_group`, `heartbeat`, `leave_group`, `commit_offsets`; `consumer_heartbeat`, `may_fetch_offsets`; `share_heartbeat`, `join_share` | `group_coordinator` |
//! | looking after groups | `groups`, `group`, `observe_groups`, `committed_offsets`, `group_offsets`, `lag`, `reset_offsets`, `delete_offsets` and others | `group_coordinator/admin` |
//! | members of share groups | `join_queue`, `may_join_queue`; `share_consumer`; `open_share_session`, `share_session`, `go_on_in_share_session`, `end_share_session`, `end_share_sessions_of` | `share_coordinator` |
//! | looking after share groups | `share_offsets`, `may_change_share_offsets`, `write_share_offset`, `delete_share_offsets`, `shares_in_flight`, `share_counts`, `share_lock_ms` | `share_coordinator/admin` |
//! | settings | `topic_defaults`, `group_settings`, `configs`, `configured`, `alter_configs` | `dynamic_configs` |
//! | quotas | `quotas`, `alter_quotas`; `is_limited`, `charge`, `hold_back`, `at_once`, `may_change_topics`, `connected_from` | `quotas` |
//! | features | `feature_levels`, `needs_feature`, `set_feature_levels` | `features` |
//! | credentials | `scram_credentials`, `alter_scram_credentials` | `scram_credentials` |
//! | rules | `acls`, `create_acls`, `delete_acls`, `operations` | `rules`, `gate` |
//! | users | `has_users`, `begin_with_users`, `users`, `add_user`, `set_password`, `delete_user` | `users` |
//! | logging in | `is_admitted`, `log_in`, `log_in_by_token`, `begin_scram`, `finish_scram`, `password_mark`, `tell_of_deletions` | `logins` |
//! | the broker itself | `config`, `metrics`, `traffic`, `syncs`, `damaged_batches`, `disk_space`, `cluster_id`, `now_ms`, `message_bytes_max` | here |
//!
//! # Locks
//!
//! They are taken in this order, and none is held while a socket is written. Whoever reads or appends in a topic that is there
//! takes the topics' lock only to find it.
//!
//! | lock | guards | held while |
//! | --- | --- | --- |
//! | the share coordinator's `joining` | the settings that a new share group gets | a member of text joins one |
//! | `creating` | which topics there are, and their defaults | a topic is made, altered or dropped, or configs are |
//! | a transactional id's `state` | where it stands | shared: a record of its transaction is written; alone: a line of its state is, or a marker where one hangs, which is synced, too |
//! | the `ids` | which transactional ids there are | their states are read back, at the start, and written anew after a crash |
//! | the coordinator's `groups` | which groups there are | committed offsets are read back, at the first use |
//! | a group's `state` | its members, its offsets | its offsets are written, but not while they are synced; it is deleted, and what a share group has read is |
//! | the `shares` | which groups have read what | what they have is read back, at the first use |
//! | the `share_sessions` | what each of Kafka's members reads | never a call of the disk |
//! | a share partition's `state` | who holds which records | records are read for a member; its line is written, but not while it is synced, unless it is the first one of a group that does not begin with the earliest record, or its end; dead letters are written and synced |
//! | the coordinator's `pending` | which groups open transactions have offsets in | never a call of the disk |
//! | `topics` | topics by name and id | never a call of the disk |
//! | a partition's `opening` | whether its log is open | the log is opened or trimmed |
//! | a partition's `producers` | what producers wrote | a batch of one, or a marker, is written; what is kept of them is read |
//! | a topic's `replacing` | the `topic` file | the file is replaced |
//! | a topic's `state`, its `partitions` | what the file says, the partitions | never a call of the disk |
//! | the gate's `replacing` | the rules that it decides by | it reads those that are kept |
//! | the configs' `state`, the `content` of what is kept | what was set while the broker ran | never a call of the disk |
//! | a reserve's `room` | how large it is | a reserve is written, or takes a file's place |
//! | `changing` of users, rules and quotas, and of the features | the `~security` file, the `~features` file | the file is replaced |
//! | `identity` | the `~broker` file | the file is replaced |
//! | the [log](crate::log)'s | | see there |
//! | what logins share: `guessing`, turns, what is remembered | who may log in when | a password is checked |
//! | the flusher's `queue`, the schedule's `due`, lists of [`Waiters`], the [wire]'s `state` | what is to be done, who waits, what was seen | never a call of the disk |

#[cfg(feature = "users")]
mod audit;
mod caller;
mod clock;
mod code;
mod committed_offsets;
mod describe;
mod dynamic_configs;
mod env;
mod error;
mod features;
mod flusher;
mod gate;
#[cfg(all(test, feature = "users", not(shuttle)))]
mod gate_tests;
pub mod group;
mod group_coordinator;
mod group_offsets;
mod internal_log;
#[cfg(feature = "kafka")]
mod internal_record;
mod kept;
mod leader_epochs;
#[cfg(feature = "users")]
mod logins;
mod maintenance;
mod partition;
mod partitioner;
mod pattern;
mod polled;
mod position;
mod producer_state;
mod quotas;
pub mod random;
mod reading;
mod reserve;
#[cfg(feature = "users")]
mod rules;
mod schedule;
mod scram_credentials;
mod security_file;
mod share_coordinator;
mod share_offset;
pub mod share_partition;
mod small_file;
#[cfg(any(feature = "http", feature = "kafka"))]
pub mod spans;
mod survive;
mod sync;
mod topic;
mod topic_file;
mod topic_metadata;
mod topic_settings;
mod topics;
pub mod transaction;
mod transaction_coordinator;
#[cfg(feature = "users")]
mod users;
mod waiting;
#[cfg(any(feature = "http", feature = "kafka"))]
pub mod wire;
mod words;
mod writing;

pub use caller::{ADMIN, Caller, Protocol};
pub use clock::Clock;
pub use code::Code;
#[cfg(feature = "cluster")]
pub(crate) use committed_offsets::TOPIC as OFFSETS_TOPIC;
pub use describe::{Copies, Node, Nodes, PartitionDescription, TopicDescription, TopicSize};
#[cfg(feature = "http")]
pub use describe::{Fault, ObservedPartition, ObservedTopic};
pub use dynamic_configs::{Resource, ResourceKind};
pub use error::{Error, Result};
pub use features::FeatureLevels;
pub use gate::{Broker, Gate, Permit, ResourceName};
pub use group_coordinator::{
    CommitOutcome, GroupSummary, JoinOptions, Lag, Membership, OffsetCommit, PollWait, ShareSeat, Wait,
};
#[cfg(feature = "http")]
pub use group_coordinator::{ObservedGroup, ObservedOffset};
pub use group_offsets::{Committed, GroupOffsets, Offsets};
pub use internal_log::LogWrite;
#[cfg(feature = "kafka")]
pub use internal_record::InternalRecord;
pub use leader_epochs::EpochEnd;
#[cfg(feature = "users")]
pub use logins::{EndsSessions, Proven, ScramLogin};
pub use partition::{Form, Isolation, Partition, Sequence, Terms, View};
pub use partitioner::{choose, partition_of};
pub use pattern::Pattern;
pub use polled::{PollLimits, PolledRecord};
pub use position::Position;
pub use producer_state::{ActiveProducer, Marker, OpenTransaction};
pub use reading::{Batches, LineAt, PartitionHandle, ReadBatch, ReadSession, TimedOffset, TopicHandle};
#[cfg(feature = "cluster")]
pub(crate) use reading::{Cursor, READ_AHEAD_BYTES};
pub use scram_credentials::ScramChange;
#[cfg(feature = "kafka")]
pub(crate) use share_coordinator::ShareTerms;
#[cfg(feature = "kafka")]
pub use share_coordinator::{SessionChange, SessionPlace, SessionRef, SessionTurn};
pub use share_coordinator::{ShareConsumer, ShareCounts, ShareMembership, ShareOptions, ShareWrite, SharedRecord};
pub use share_offset::ShareOffset;
pub use topic::{Topic, check_name};
pub use topic_file::PARTITIONS_MAX;
pub use topic_settings::Rules;
pub use topics::verify_topic_files;
pub use transaction::{Epochs, LastTransaction, ProducerIdentity};
pub use transaction_coordinator::{
    Begun, IfAbsent, PartitionOfTransaction, TopicPartition, Transaction, TransactionDescription, TransactionSummary,
};
#[cfg(feature = "users")]
pub use users::User;
pub use waiting::{Registered, Waiter, Waiters};
pub use writing::{Gathered, StoredBatch, Target, Ticket, WriteSession};

pub use crate::log::Outcome;
#[cfg(feature = "kafka")]
pub use crate::log::disk::Space;
use crate::{
    config::{Changes, Config, Overrides},
    log::{
        batches::BATCH_BYTES_MAX,
        disk::{self, Disk, FileDisk, MemoryDisk},
    },
    metrics::{LatencySum, Metrics, TrafficSum},
    security::{Operation, Quota},
};
use env::Env;
use group_coordinator::Coordinator;
use share_coordinator::ShareCoordinator;
#[cfg(feature = "kafka")]
use share_coordinator::ShareSessions;
use std::{
    any::Any,
    collections::BTreeSet,
    io,
    path::PathBuf,
    sync::{Arc, RwLock},
    thread::{Builder, JoinHandle},
};
use survive::survive;
use topics::Topics;
use transaction_coordinator::TransactionCoordinator;

#[derive(Debug)]
struct Running {
    state: Arc<BrokerState>,
    threads: Vec<JoinHandle<()>>,
    _lock: Box<dyn Any + Send + Sync>,
}

#[derive(Debug)]
struct BrokerState {
    config: Config,
    gate: Arc<Gate>,
    #[cfg(feature = "users")]
    logins: logins::Logins,
    metrics: Metrics,
    #[cfg(any(feature = "http", feature = "kafka"))]
    wire: wire::Wire,
    env: Arc<Env>,
    topics: RwLock<Topics>,
    /// Held while a topic is made, dropped or altered.
    creating: sync::Mutex<()>,
    /// Those who wait for a topic to be made, to grow or to go.
    topic_waiters: Waiters,
    coordinator: Coordinator,
    transactions: TransactionCoordinator,
    shares: ShareCoordinator,
    #[cfg(feature = "kafka")]
    share_sessions: ShareSessions,
}

impl Broker {
    /// Opens the broker whose log lives in `config.data_dir`, which is made if it is missing, or one that keeps nothing.
    pub fn open(config: Config) -> Result<Broker> {
        match &config.data_dir {
            Some(_) => Broker::open_on(Arc::new(FileDisk), config, Clock::System),
            None => Broker::open_on(Arc::new(MemoryDisk::default()), config, Clock::System),
        }
    }

    /// A broker that keeps nothing: for tests and lessons.
    pub fn in_memory() -> Broker {
        Broker::open(Config::in_memory()).expect("a disk in memory opens")
    }

    /// Opens the broker on a disk and by a clock of the caller's.
    pub fn open_on(disk: Arc<dyn Disk>, config: Config, clock: Clock) -> Result<Broker> {
        let data_dir = config.data_dir.clone().unwrap_or_else(|| PathBuf::from("memory"));
        let storage = |error: io::Error| Error::Storage(format!("{}: {error}", data_dir.display()));
        disk::make_dir(&*disk, &data_dir).map_err(storage)?;
        let lock = disk.lock(&data_dir.join("~lock")).map_err(storage)?;
        let lock = lock.ok_or_else(|| {
            Error::Storage(format!(
                "{}: another broker runs on this data directory; stop it or choose another",
                data_dir.display()
            ))
        })?;
        let env = Arc::new(Env::new(disk, data_dir, &config, clock)?);
        let topics = Topics::read(&env)?;
        if let Err(error) = env.fill_reserves() {
            env.tell(&format!("{}: no room is kept for a full disk: {error}", env.data_dir.display()));
        }
        topics.online().flat_map(|topic| topic.partitions()).for_each(|partition| partition.due_after_start());
        #[cfg(feature = "users")]
        let gate = {
            let failed = |path: &PathBuf, error: io::Error| Error::Storage(format!("{}: {error}", path.display()));
            let open =
                |path: &PathBuf| audit::Audit::open(path, env.clock.clone()).map_err(|error| failed(path, error));
            Gate::new(&config.security).with_audit(config.security.audit.as_ref().map(open).transpose()?)
        };
        #[cfg(feature = "users")]
        gate.replace_acls(|| env.security.get().rules.clone());
        #[cfg(feature = "users")]
        let logins = logins::Logins::open(&config.security)?;
        #[cfg(not(feature = "users"))]
        let gate = Gate::default();
        let state = Arc::new(BrokerState {
            config,
            gate: Arc::new(gate),
            #[cfg(feature = "users")]
            logins,
            metrics: Metrics::default(),
            #[cfg(any(feature = "http", feature = "kafka"))]
            wire: wire::Wire::default(),
            env,
            topics: RwLock::new(topics),
            creating: sync::Mutex::new(()),
            topic_waiters: Waiters::default(),
            coordinator: Coordinator::default(),
            transactions: TransactionCoordinator::default(),
            shares: ShareCoordinator::default(),
            #[cfg(feature = "kafka")]
            share_sessions: ShareSessions::default(),
        });
        state.resume_transactions();
        // The test that brings its own threads has no place for these.
        let threads = if cfg!(all(test, shuttle)) { Vec::new() } else { start_threads(&state)? };
        Ok(Broker::new(Running { state, threads, _lock: lock }))
    }

    /// What does what was permitted: clock, disk, what is kept besides topics.
    fn env(&self, permit: &Permit) -> &Arc<Env> {
        &self.state(permit).env
    }

    /// How it runs.
    pub fn config(&self) -> &Config {
        &self.state(&Permit::for_everybody()).config
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.state(&Permit::for_everybody()).metrics
    }

    /// Its latest exchanges, for whoever watches.
    #[cfg(any(feature = "http", feature = "kafka"))]
    pub fn wire(&self) -> &wire::Wire {
        &self.state(&Permit::for_everybody()).wire
    }

    /// Whether the caller may watch the exchanges of others, with every byte.
    #[cfg(feature = "http")]
    pub fn may_watch(&self) -> Result<()> {
        self.ask_cluster(Operation::Alter).map(drop)
    }

    /// Switches on for whoever looks at exchanges what this wants to see, or (`None`) all off.
    #[cfg(feature = "http")]
    pub fn switch_wire(&self, filter: Option<wire::Filter>) -> Result<()> {
        self.may_watch()?;
        self.note("wire-switched", &[("on", &filter.is_some())]);
        self.wire().switch(filter);
        Ok(())
    }

    /// Whether the caller may see what there is of the whole broker: who is connected, what it counts, where it lives.
    pub fn may_see_cluster(&self) -> Result<()> {
        self.ask_cluster(Operation::Describe).map(drop)
    }

    /// An exchange that somebody wants to see.
    #[cfg(any(feature = "http", feature = "kafka"))]
    pub fn seen(&self, exchange: wire::Exchange) {
        self.wire().record(exchange, Some(self.env(&Permit::for_everybody()).handles.disk()));
    }

    /// What went through all partitions since the start, as far as the caller may see them; through those that are gone, too, if it
    /// may see what the cluster has.
    pub fn traffic(&self) -> TrafficSum {
        let dropped = self.ask_cluster(Operation::Describe).is_ok().then(|| &self.metrics().dropped);
        // Under the lock no topic goes from those that are there to those that are gone.
        let topics = self.state(&Permit::for_everybody()).topics.read().expect("no panic under the topics' lock");
        let seen = topics.online().filter(|topic| self.may_describe(&topic.name));
        let partitions = seen.flat_map(|topic| topic.partitions());
        partitions.map(|partition| partition.traffic.get()).chain(dropped.map(|dropped| dropped.get())).sum()
    }

    /// How often segments were synced, and how long that took.
    pub fn syncs(&self) -> LatencySum {
        self.env(&Permit::for_everybody()).handles.syncs.get()
    }

    /// How much room there is on the volume of its log, if it is on one.
    #[cfg(feature = "kafka")]
    pub fn disk_space(&self) -> Option<Space> {
        let env = self.env(&Permit::for_everybody());
        env.handles.disk().space(&env.data_dir)
    }

    /// How often a batch was met that is not what its checksum says.
    pub fn damaged_batches(&self) -> u64 {
        self.env(&Permit::for_everybody()).handles.damaged.get()
    }

    /// The cluster's id, made at the first start.
    pub fn cluster_id(&self) -> String {
        self.env(&Permit::for_everybody()).cluster_id()
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> i64 {
        self.env(&Permit::for_everybody()).clock.now_ms()
    }

    /// All topics that are not offline, by name, which the caller may do everything to; the broker's own are among them.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics_for(Operation::All)
    }

    /// A topic as it runs, which the caller may do everything to: for tests that look below the verbs.
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        self.topic_for(Operation::All, name)
    }

    /// A topic by name, to which the caller may do this.
    fn topic_for(&self, operation: Operation, name: &str) -> Result<Arc<Topic>> {
        self.state(&self.ask_topic(operation, name)?).topic(name)
    }

    /// All topics that are not offline, by name, to which the caller may do this.
    fn topics_for(&self, operation: Operation) -> Vec<Arc<Topic>> {
        let mut topics = self.state(&Permit::for_everybody()).topics();
        topics.retain(|topic| self.may(operation, ResourceName::topic(&topic.name)).is_ok());
        topics
    }

    /// A topic by its id, to which the caller may do this. One to which it may not is as unknown as one that is not there.
    fn topic_by_id_for(&self, operation: Operation, id: &[u8; 16]) -> Option<Arc<Topic>> {
        let topics = self.state(&Permit::for_everybody()).topics.read().expect("no panic under the topics' lock");
        let found = topics.by_id(id).cloned();
        drop(topics);
        found.filter(|topic| self.may(operation, ResourceName::topic(&topic.name)).is_ok())
    }

    /// An id that no producer had before, in any life of this broker: blocks of them are taken durably.
    pub fn new_producer_id(&self) -> Result<i64> {
        self.ask_to_number()?;
        self.env(&Permit::for_everybody()).new_producer_id()
    }

    /// Goes on with a producer id that this broker gave.
    pub fn known_producer_id(&self, id: i64) -> Result<i64> {
        let permit = self.ask_to_number()?;
        if self.env(&permit).has_given(id) { Ok(id) } else { Err(Error::UnknownProducerId(id)) }
    }

    /// A topic by name, to which the caller may do this, made with the defaults if it is not there and first use makes topics here.
    fn topic_or_create(&self, operation: Operation, name: &str) -> Result<Arc<Topic>> {
        match self.topic_for(operation, name) {
            Err(Error::UnknownTopic(_)) if self.config().auto_create => {
                match self.create_running_topic(name, None, Overrides::new()) {
                    Err(Error::TopicExists(_)) => self.topic_for(operation, name),
                    made => made,
                }
            }
            found => found,
        }
    }

    /// Makes a topic with the default settings.
    pub fn create_topic(&self, name: &str, partitions: u32) -> Result<TopicDescription> {
        self.create_topic_with(name, Some(partitions), Overrides::new())
    }

    /// Makes a topic with settings of its own. It is there durably, or not at all.
    pub fn create_topic_with(
        &self,
        name: &str,
        partitions: Option<u32>,
        overrides: Overrides,
    ) -> Result<TopicDescription> {
        Ok(self.create_running_topic(name, partitions, overrides)?.describe())
    }

    /// Whether there is a topic of this name, for whoever may make one.
    #[cfg(feature = "kafka")]
    pub fn has_topic(&self, name: &str) -> Result<bool> {
        let state = self.state(&self.ask_to_create(name)?);
        Ok(!matches!(state.topic(name), Err(Error::UnknownTopic(_))))
    }

    fn create_running_topic(&self, name: &str, partitions: Option<u32>, overrides: Overrides) -> Result<Arc<Topic>> {
        let permit = self.ask_to_create(name)?;
        writable(name)?;
        if overrides.contains_key(REPLICATION_FACTOR) {
            return Err(Error::NotHere(
                "this is one broker with one copy of each record; without replication.factor: it goes",
            ));
        }
        let partitions = partitions.unwrap_or(self.config().default_partitions);
        if !(1..=PARTITIONS_MAX).contains(&partitions) {
            return Err(Error::InvalidPartitions(format!(
                "{partitions} partitions; a topic has 1 to {PARTITIONS_MAX}"
            )));
        }
        self.begin_change_of_topics()?;
        let topic = self.state(&permit).create(name, partitions, overrides)?;
        self.note("topic-made", &[("topic", &name), ("partitions", &partitions)]);
        self.charge(Quota::Changes, partitions.into());
        Ok(topic)
    }

    /// Changes settings and adds partitions. Changes of one topic do not overlap.
    pub fn alter_topic(&self, name: &str, partitions: Option<u32>, changes: &Changes) -> Result<TopicDescription> {
        let permit = self.ask_to_alter(name, partitions, changes)?;
        writable(name)?;
        let state = self.state(&permit);
        let _one = state.creating.lock().expect("no panic while a topic is made");
        let topic = state.topic(name)?;
        let before = topic.partition_count();
        if partitions.is_some() {
            self.begin_change_of_topics()?;
        }
        topic.alter(partitions, changes)?;
        self.charge(Quota::Changes, (topic.partition_count() - before).into());
        state.topic_waiters.wake();
        topic.settings_changed();
        state.tell_groups(name, topic.partition_count());
        let names = changes.named.keys().map(String::as_str).collect::<Vec<_>>().join(",");
        self.note("topic-altered", &[("topic", &name), ("partitions", &topic.partition_count()), ("settings", &names)]);
        Ok(topic.describe())
    }

    /// Drops a topic: from here on nothing can be appended to it, and who waits on it finds it gone.
    pub fn drop_topic(&self, name: &str) -> Result<()> {
        let permit = self.ask_to_drop(name)?;
        writable(name)?;
        self.begin_change_of_topics()?;
        let state = self.state(&permit);
        let partitions = state.topic(name).map_or(0, |topic| topic.partition_count());
        state.drop_topic(name)?;
        self.note("topic-dropped", &[("topic", &name)]);
        self.charge(Quota::Changes, partitions.into());
        Ok(())
    }

    /// Removes the records of a partition before `offset` for good. Answers the start offset.
    pub fn trim(&self, topic: &str, partition: u32, offset: u64) -> Result<u64> {
        let found = self.topic_for(Operation::Delete, topic)?.partition(partition)?;
        writable(topic)?;
        let start = found.trim(offset)?;
        self.note("records-deleted", &[("topic", &topic), ("partition", &partition), ("before", &start)]);
        Ok(start)
    }

    /// Wakes `waiter` when a topic is made, altered or dropped, until the answer is dropped.
    pub fn register(&self, waiter: &Arc<Waiter>) -> Registered<'_> {
        self.state(&Permit::for_everybody()).topic_waiters.register(waiter)
    }

    /// The largest `max.message.bytes` of any topic that the caller may describe, and of those not made yet, up to what a log takes.
    pub fn message_bytes_max(&self) -> usize {
        let state = self.state(&Permit::for_everybody());
        let default = state.env.topic_defaults().max_message_bytes;
        let topics = state.topics.read().expect("no panic under the topics' lock");
        let larger = topics.online().filter(|topic| topic.settings().max_message_bytes > default);
        let seen = larger.filter(|topic| self.may_describe(&topic.name));
        let largest = seen.map(|topic| topic.settings().max_message_bytes).max().unwrap_or(default);
        (largest as usize).min(BATCH_BYTES_MAX)
    }
}

fn start_threads(state: &Arc<BrokerState>) -> Result<Vec<JoinHandle<()>>> {
    type Run = fn(&BrokerState);
    let start = |name: &str, run: Run| {
        let state = state.clone();
        let thread = Builder::new().name(name.into()).stack_size(256 << 10).spawn(move || run(&state));
        thread.map_err(|error| Error::Storage(format!("cannot start a thread: {error}")))
    };
    let flusher = start("flusher", |state| state.env.flusher.run(|what| state.env.tell(what)))?;
    let maintenance = start("maintenance", maintenance::run).inspect_err(|_| state.env.flusher.stop())?;
    Ok(vec![flusher, maintenance])
}

/// How many copies a new topic is to have: no setting that it keeps, and nothing that one broker can choose.
pub const REPLICATION_FACTOR: &str = "replication.factor";

/// Whether the name is one of the broker's own topics.
pub fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__cluster_metadata" | "__share_group_state")
}

/// Whether clients may make, write, change or drop a topic of this name.
pub fn writable(name: &str) -> Result<()> {
    check_name(name)?;
    if is_internal(name) {
        return Err(Error::InvalidTopic(format!("'{name}' is the broker's own topic; it can be read, not changed")));
    }
    Ok(())
}

impl BrokerState {
    fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().expect("no panic under the topics' lock").online().cloned().collect()
    }
}

impl Drop for Running {
    /// Syncs everything and says so on disk: the next start has nothing to check.
    fn drop(&mut self) {
        let env = &self.state.env;
        env.flusher.stop();
        env.schedule.stop();
        let ended: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        if ended.iter().any(|ended| ended.is_err()) {
            return;
        }
        // A disk that failed failed many.
        const TOLD_MAX: usize = 10;
        let mut told = 0;
        let topics = self.state.topics.read().expect("no panic under the topics' lock");
        let mut unclean: BTreeSet<_> = topics.offline().flat_map(|topic| env.still_unclean(topic)).collect();
        for topic in topics.online() {
            for partition in topic.partitions() {
                let name = partition.name();
                let finished = survive(&name, |what| env.tell(what), || partition.finish());
                if let Err(error) = finished.unwrap_or_else(|| Err(Error::Storage("it panicked".into()))) {
                    if told < TOLD_MAX {
                        env.tell(&format!("{name} could not be synced: {error}"));
                    }
                    told += 1;
                    unclean.insert(name);
                }
            }
        }
        if told > TOLD_MAX {
            env.tell(&format!("nor could {} partitions more", told - TOLD_MAX));
        }
        if let Err(error) = env.end_writing(unclean) {
            env.tell(&error.to_string());
        }
    }
}

//! `broker`: serves clients, and has subcommands for topics, groups, transactions and logs. It turns flags into a `Config`; the
//! library does the work.

mod addressing;
mod allocator;
#[cfg(feature = "cluster")]
mod clustering;
mod common;
mod jobs;
#[cfg(feature = "users")]
mod securing;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use common::say;
#[cfg(feature = "cluster")]
use plainlog::cluster::{Cluster, ClusterOptions};
use plainlog::{
    backend::Backend,
    broker::Broker,
    config::{self, Address, Config, Described, FetchCompression, Flush, Settings},
    server::Server,
};
use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

/// A message broker you talk to with netcat and whose log you read with cat. Without a command it serves
#[derive(Parser)]
#[command(
    name = "broker",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    allow_negative_numbers = true
)]
struct Cli {
    #[command(subcommand)]
    job: Option<Job>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Job {
    /// List and change the topics of a running broker
    #[command(subcommand)]
    Topic(jobs::topic::Job),
    /// List and change the consumer groups of a running broker
    #[command(subcommand)]
    Group(jobs::group::Job),
    /// List, describe and abort the transactions of a running broker
    #[command(subcommand)]
    Transaction(jobs::transaction::Job),
    /// Say who may do what in a running broker with users: list, add and delete rules
    #[cfg(feature = "users")]
    #[command(subcommand)]
    Acl(jobs::acl::Job),
    /// List, add and delete the users of a running broker, and give them passwords
    #[cfg(feature = "users")]
    #[command(subcommand)]
    User(jobs::user::Job),
    /// Draw the topics, partitions and groups of a running broker, and who reads what
    Diagram(jobs::diagram::Job),
    /// Ask a running broker what every client asks first, in both protocols, and tell what came of it (feature http)
    #[cfg(feature = "http")]
    Try(jobs::trial::Job),
    /// Copy topics to a Kafka cluster, or from one, while both run (feature cluster)
    #[cfg(feature = "cluster")]
    Move(jobs::moving::Job),
    /// Check or print a log on disk; no broker is needed
    #[command(subcommand)]
    Log(jobs::log::Job),
    /// Print a completion script for a shell (feature comfort)
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: String,
    },
}

/// More than one machine has ports for.
const CONNECTIONS_MAX: i64 = 1_000_000;

/// How the broker runs.
#[derive(Args)]
struct Serve {
    #[allow(rustdoc::broken_intra_doc_links, reason = "an address, no link")]
    /// Where to listen; [::]:9092 is every address of this machine, IPv4 included, and port 0 any free port
    #[arg(long, default_value = "localhost:9092", value_name = "HOST:PORT", value_parser = Address::to_listen_on)]
    listen: Address,
    /// Folder of the log, created if it is missing [default: data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep the log in memory only; each start is fresh
    #[arg(long, conflicts_with = "data_dir")]
    in_memory: bool,
    /// What an ACK promises: the record is on disk (always), will be within this time (20ms), or is with the operating
    /// system (never)
    #[arg(long, default_value = "always", value_name = "always|never|TIME", value_parser = flush)]
    flush: Flush,
    /// Number of partitions of a topic that its first use creates
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(plainlog::broker::PARTITIONS_MAX)))]
    default_partitions: u32,
    /// Create a topic only when asked to, not when it is first used
    #[arg(long)]
    no_auto_create: bool,
    /// Size at which a segment is sealed (64KiB, 1GiB), unless the topic has its own setting
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = config::bytes)]
    segment_bytes: u64,
    /// Age at which records are removed (500ms, 12h, 7d; -1 is never), unless the topic has its own setting
    #[arg(long, default_value = "7d", value_name = "TIME", allow_hyphen_values = true, value_parser = retention_ms)]
    retention_ms: i64,
    /// Size of a partition above which its oldest records are removed (1GiB; -1 is unlimited), unless the topic has its own
    /// setting
    #[arg(long, default_value = "-1", value_name = "SIZE", allow_hyphen_values = true, value_parser = retention_bytes)]
    retention_bytes: i64,
    /// How often records are looked for that are too old to stay; more often in a topic whose retention.ms is shorter (Kafka:
    /// log.retention.check.interval.ms)
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = some_time)]
    retention_check_interval: Duration,
    /// Size of the largest message, with key and headers, unless the topic has its own setting
    #[arg(long, default_value = "1048588", value_name = "SIZE", value_parser = config::bytes)]
    max_message_bytes: u64,
    /// How many connections there may be at once
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    max_connections: u32,
    /// How long a client may leave its answers unread before it is disconnected
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = some_time)]
    idle_timeout: Duration,
    /// Refuse a replication factor above 1 instead of taking it as 1
    #[arg(long)]
    strict_replication: bool,
    /// Where Kafka clients are told to connect [default: where each of them reached the broker]
    #[arg(long, value_name = "HOST:PORT", value_parser = Address::to_advertise)]
    advertise: Option<Address>,
    /// Which Kafka clients get a batch in the codec its producer chose: those on other machines (auto), all (always) or
    /// none (never). A topic's own compression.type goes before this
    #[arg(long, default_value = "auto", value_name = "auto|always|never", value_parser = fetch_compression)]
    fetch_compression: FetchCompression,
    /// Shortest session that a Kafka group member may ask for
    #[arg(long, default_value = "6s", value_name = "TIME", value_parser = config::duration)]
    group_min_session: Duration,
    /// How long the first members of a Kafka group wait for others to join (Kafka: 3s)
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = config::duration)]
    group_initial_rebalance_delay: Duration,
    /// How many groups with members or committed offsets there may be at once
    #[arg(long, default_value_t = 250_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_groups: u32,
    /// How long the committed offsets of a group without members are kept
    #[arg(long, default_value = "7d", value_name = "TIME", value_parser = config::duration)]
    offsets_retention: Duration,
    /// Longest time that a transaction may take; Flink asks for 1h unless told otherwise (Kafka: transaction.max.timeout.ms)
    #[arg(long, default_value = "15m", value_name = "TIME", value_parser = some_time)]
    transaction_max_timeout_ms: Duration,
    /// How long a transactional id is known that nobody uses (Kafka: transactional.id.expiration.ms)
    #[arg(long, default_value = "7d", value_name = "TIME", value_parser = some_time)]
    transactional_id_expiration_ms: Duration,
    /// Another name by which HTTP clients may call the broker, such as that by which a scraper finds it; may be given more
    /// than once
    #[cfg(feature = "http")]
    #[arg(long, value_name = "NAME")]
    http_host: Vec<String>,
    /// A web page of another server that may ask the broker, by its origin: scheme, host and port; may be given more than
    /// once
    #[cfg(feature = "http")]
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    http_allow_origin: Vec<String>,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    cluster: clustering::Options,
    #[cfg(feature = "users")]
    #[command(flatten)]
    security: securing::Options,
    /// Explain every exchange on stderr, in plain words
    #[arg(long)]
    explain: bool,
    /// Report each connection on stderr too
    #[arg(short, long)]
    verbose: bool,
    /// Report only faults on stderr
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
}

fn flush(text: &str) -> Result<Flush, String> {
    match text {
        "always" => Ok(Flush::Always),
        "never" => Ok(Flush::Never),
        time => match config::duration(time) {
            Ok(Duration::ZERO) => Err("for a time of 0 use 'always'".into()),
            Ok(time) => Ok(Flush::Every(time)),
            Err(why) => Err(format!("always, never or a time: {why}")),
        },
    }
}

fn fetch_compression(text: &str) -> Result<FetchCompression, String> {
    match text {
        "auto" => Ok(FetchCompression::Auto),
        "always" => Ok(FetchCompression::Always),
        "never" => Ok(FetchCompression::Never),
        _ => Err("auto, always or never".into()),
    }
}

/// An origin as browsers send it.
#[cfg(feature = "http")]
fn origin(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_whole = authority.is_some_and(|authority| !authority.is_empty() && !authority.contains('/'));
    if is_whole { Ok(text.into()) } else { Err("it is http:// or https:// with a host, without a path".into()) }
}

/// A time above 0.
fn some_time(text: &str) -> Result<Duration, String> {
    config::duration(text).and_then(|time| if time.is_zero() { Err("it must be above 0".into()) } else { Ok(time) })
}

fn retention_ms(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { config::duration(text).map(|time| time.as_millis() as i64) }
}

fn retention_bytes(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { config::bytes(text).map(|bytes| bytes.min(i64::MAX as u64) as i64) }
}

impl Serve {
    fn config(&self) -> Result<Config, String> {
        let mut topic_defaults = Settings { retention_ms: self.retention_ms, ..Settings::default() };
        topic_defaults.retention_bytes = self.retention_bytes;
        topic_defaults.set("segment.bytes", &self.segment_bytes.to_string())?;
        topic_defaults.set("max.message.bytes", &self.max_message_bytes.to_string())?;
        let config = Config {
            data_dir: (!self.in_memory).then(|| self.data_dir.clone().unwrap_or_else(|| "data".into())),
            flush: self.flush,
            default_partitions: self.default_partitions,
            auto_create: !self.no_auto_create,
            topic_defaults,
            max_connections: self.max_connections as usize,
            idle_timeout: self.idle_timeout,
            group_min_session: self.group_min_session,
            group_initial_rebalance_delay: self.group_initial_rebalance_delay,
            groups_max: self.max_groups as usize,
            retention_check_interval: self.retention_check_interval,
            offsets_retention: self.offsets_retention,
            transaction_max_timeout: self.transaction_max_timeout_ms,
            transactional_id_expiration: self.transactional_id_expiration_ms,
            explain: self.explain,
            strict_replication: self.strict_replication,
            fetch_compression: self.fetch_compression,
            advertise: self.advertise.clone(),
            #[cfg(feature = "http")]
            http_hosts: self.http_host.clone(),
            #[cfg(feature = "http")]
            http_allow_origins: self.http_allow_origin.clone(),
            verbosity: if self.quiet { 0 } else { 1 + u8::from(self.verbose) },
            ..Config::in_memory()
        };
        #[cfg(feature = "users")]
        let config = Config { security: self.security.read(&config, &self.listen)?, ..config };
        Ok(config)
    }
}

impl Serve {
    /// What answers, and in words where its records are.
    fn open(&self, config: Config) -> Result<(Backend, String)> {
        #[cfg(feature = "cluster")]
        if let Some(cluster) = self.cluster.read().unwrap_or_else(|why| common::usage_error::<Cli>(why)) {
            return self.open_in_front(config, cluster);
        }
        let (flush, data_dir) = (config.flush, config.log_dir());
        #[cfg(feature = "users")]
        if config.security.users {
            securing::users::keep_private(&config)?;
        }
        let broker = Broker::open(config)?;
        #[cfg(feature = "users")]
        self.security.begin(&broker)?;
        let topics = broker.topic_count();
        Ok((broker.into(), format!("data in {data_dir}, {topics} topics, flush {flush}")))
    }
}

#[cfg(feature = "cluster")]
impl Serve {
    /// In front of a cluster nothing is kept here but who may come in.
    fn open_in_front(&self, config: Config, cluster: ClusterOptions) -> Result<(Backend, String)> {
        let place = format!("data in the cluster {}", cluster.servers);
        if config.security.users {
            securing::users::keep_private(&config)?;
            let cluster = Cluster::open(config, cluster)?;
            self.security.begin(cluster.door())?;
            return Ok((cluster.into(), place));
        }
        if self.data_dir.is_some() || self.in_memory {
            common::usage_error::<Cli>("with --cluster there is nothing to be kept here but users; --users has them");
        }
        if self.listen.is_open() {
            common::usage_error::<Cli>(
                "whoever reaches this port would have this program's rights on the cluster; on another address than this machine's own it takes --users",
            );
        }
        Ok((Cluster::open(Config { data_dir: None, ..config }, cluster)?.into(), place))
    }
}

fn main() -> ExitCode {
    let begun = Instant::now();
    allocator::use_one_arena();
    let cli = Cli::parse();
    let done = match cli.job {
        None => serve(&cli.serve, begun),
        Some(Job::Topic(job)) => jobs::topic::run(&job),
        Some(Job::Group(job)) => jobs::group::run(&job),
        Some(Job::Transaction(job)) => jobs::transaction::run(&job),
        #[cfg(feature = "users")]
        Some(Job::Acl(job)) => jobs::acl::run(&job),
        #[cfg(feature = "users")]
        Some(Job::User(job)) => jobs::user::run(&job),
        Some(Job::Diagram(job)) => jobs::diagram::run(&job),
        #[cfg(feature = "http")]
        Some(Job::Try(job)) => jobs::trial::run(&job),
        #[cfg(feature = "cluster")]
        Some(Job::Move(job)) => jobs::moving::run(&job),
        Some(Job::Log(job)) => jobs::log::run(&job),
        Some(Job::Completions { shell }) => jobs::completions::<Cli>(&shell),
    };
    match done {
        Ok(code) => code,
        Err(error) if common::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("broker: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Serve, begun: Instant) -> Result<ExitCode> {
    let config = options.config().unwrap_or_else(|why| common::usage_error::<Cli>(why));
    let signals = signals(&config)?;
    let handles = raise_file_limit(&config);
    let config = Config { open_files_max: handles, ..config };
    let verbosity = config.verbosity;
    let (backend, place) = options.open(config)?;
    let server = Server::start(backend.clone(), &options.listen.to_string())
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let started = Address { port: server.port(), ..options.listen.clone() };
    writeln!(std::io::stdout(), "Broker started on {started}")?;
    if verbosity > 0 {
        let (version, ready) = (env!("CARGO_PKG_VERSION"), begun.elapsed().as_secs_f64() * 1000.0);
        say(format_args!("plainlog {version}, {place}, ready in {ready:.1} ms"));
    }
    #[cfg(feature = "users")]
    options.security.tell(backend.config(), &started, server.addresses());
    let mut memory = allocator::Memory::default();
    loop {
        match signals.recv_timeout(allocator::LOOK_EVERY) {
            Err(RecvTimeoutError::Timeout) => {
                memory.look(backend.metrics().requests());
                #[cfg(feature = "users")]
                server.look(false);
            }
            #[cfg(feature = "tls")]
            Ok(Signal::Reload) => server.look(true),
            asked => break asked.map(drop).context("the signal handler is gone")?,
        }
    }
    server.stop();
    Ok(ExitCode::SUCCESS)
}

/// What a signal asks for.
enum Signal {
    Stop,
    #[cfg(feature = "tls")]
    Reload,
}

/// What signals ask for. SIGHUP stops a broker that has no files to read again.
#[cfg_attr(not(feature = "tls"), allow(unused_variables))]
fn signals(config: &Config) -> Result<mpsc::Receiver<Signal>> {
    let (asks, asked) = mpsc::channel();
    #[cfg(feature = "tls")]
    if config.security.tls.is_some() || config.security.tokens.is_some() {
        let reload = asks.clone();
        securing::tls::on_signals(
            move || asks.send(Signal::Stop).unwrap_or_default(),
            move || reload.send(Signal::Reload).unwrap_or_default(),
        )?;
        return Ok(asked);
    }
    common::on_interrupt(move || asks.send(Signal::Stop).unwrap_or_default())?;
    Ok(asked)
}

/// Raises the soft limit of open files to the hard one. Answers how many the log may keep open.
fn raise_file_limit(config: &Config) -> usize {
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let wanted = config.max_connections as u64 + 256;
    if limit < wanted && config.verbosity > 0 {
        say(format_args!(
            "the system allows {limit} open files, which is less than {wanted} for --max-connections; raise it with ulimit -n"
        ));
    }
    (limit.saturating_sub(wanted).max(limit / 8) as usize).clamp(64, 4096)
}

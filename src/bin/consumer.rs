//! `consumer`: reads a topic and prints its messages. This file turns flags into calls of the library and results into an
//! exit status.

mod addressing;
mod common;
mod connecting;
mod working;

use anyhow::{Result, bail};
use clap::{Parser, builder::NonEmptyStringValueParser};
use common::say;
use plainlog::client::programs::style::{self, Format, Place, Style};
use plainlog::client::{Consumer, Error, Isolation, Position};
use plainlog::config;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long to wait for a broker at the start, and how long an outage lasts before it is reported.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// With --exit-at-end: how long a member without partitions waits for some.
const HAND_OVER: Duration = Duration::from_secs(1);

/// How many messages are printed before signals and time are checked again.
const POLL_MAX: u64 = 10_000;

/// Reads messages from a plainlog broker, and waits for more
#[derive(Parser)]
#[command(name = "consumer", version, max_term_width = 100, allow_negative_numbers = true)]
struct Args {
    #[command(flatten)]
    at: addressing::At,
    /// Topic to read; one that is not there yet is waited for
    #[arg(short, long, default_value = "messages", value_parser = common::topic)]
    topic: String,
    /// Only this partition [default: all]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=i32::MAX as i64))]
    partition: Option<u32>,
    /// Where to begin: earliest, latest, an offset N, -N (N messages before the end), 15m (that long ago; ms, s, m, h, d),
    /// or 2026-11-20T12:00:00Z (feature comfort)
    #[arg(short = 'o', long, default_value = "earliest", value_name = "POSITION")]
    #[arg(allow_hyphen_values = true, value_parser = Position::parse)]
    from: Position,
    /// Share the topic's partitions with the other members of this group, starting where the group last committed. What is
    /// printed is committed. --from applies only where nothing was committed
    #[arg(short, long, value_name = "NAME", conflicts_with = "partition", value_parser = NonEmptyStringValueParser::new())]
    group: Option<String>,
    /// Share the topic's messages, not its partitions, with whoever else names this queue: each goes to one of them at a time, and is
    /// done when it was printed, or --exec was successful
    #[arg(short, long, value_name = "NAME", conflicts_with_all = ["partition", "group", "exit_at_end"])]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    queue: Option<String>,
    /// With --queue: run this for each message, by the shell, with the value on its standard input and PLAINLOG_TOPIC, _PARTITION, _OFFSET,
    /// _KEY (a text of at most 100 KiB) and _DELIVERY in its environment. If its exit status is 0 the message is done; otherwise
    /// somebody gets it again
    #[arg(long, value_name = "COMMAND", requires = "queue", conflicts_with_all = ["format", "raw", "json"])]
    exec: Option<String>,
    /// With --queue, if it is new: how long a message is its consumer's, who dies without a word [default: 30s]
    #[arg(long, value_name = "TIME", requires = "queue", value_parser = config::duration)]
    lock: Option<Duration>,
    /// With --queue, if it is new: how often a message is handed out at most [default: 5]
    #[arg(long, value_name = "N", requires = "queue")]
    deliveries: Option<u64>,
    /// With --queue, if it is new: the topic of messages that were handed out too often
    #[arg(long, value_name = "TOPIC", requires = "queue", value_parser = common::topic)]
    dead: Option<String>,
    /// Whether to wait for the end of transactions and leave aborted ones out (read_committed), or to read everything
    /// (read_uncommitted)
    #[arg(long, default_value = "read_committed", value_name = "LEVEL", value_parser = isolation)]
    isolation: Isolation,
    /// Stop after this many messages
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// Stop at the end of the topic instead of waiting for more
    #[arg(short, long)]
    exit_at_end: bool,
    /// Stop after this time (500ms, 30s, 15m; a plain number is ms); the exit status is 1 if fewer than --count came
    #[arg(long, value_name = "TIME", value_parser = config::duration)]
    timeout: Option<Duration>,
    /// Print each message like this: %t topic, %p partition, %o offset, %k key, %s value, %h headers, %T timestamp (ms), %S and %K bytes of
    /// value and key (-1 is null), %% percent, and \n \r \t \0 \\ \xHH
    #[arg(short, long, value_name = "FORMAT")]
    #[arg(allow_hyphen_values = true, value_parser = Format::parse)]
    format: Option<Format>,
    /// Print only values, byte for byte even on a terminal
    #[arg(long, conflicts_with = "format")]
    raw: bool,
    /// What --raw prints after each value; escapes as in --format
    #[arg(short = 'D', long, default_value = "\\n", requires = "raw")]
    #[arg(allow_hyphen_values = true, value_parser = style::delimiter)]
    delimiter: std::vec::Vec<u8>,
    /// Print each message as a JSON object on a line, as `producer --json` reads them (feature comfort)
    #[arg(short = 'J', long, conflicts_with_all = ["format", "raw"])]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let style = style(&args).unwrap_or_else(|why| common::usage_error::<Args>(why));
    match run(&args, &style) {
        Ok(true) => ExitCode::SUCCESS,
        Err(error) if common::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(format_args!("consumer: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn isolation(name: &str) -> Result<Isolation, String> {
    Isolation::named(name.as_bytes()).ok_or_else(|| "it is read_committed or read_uncommitted".into())
}

fn style(args: &Args) -> Result<Style, String> {
    Ok(match &args.format {
        Some(format) => Style::Format(format.clone()),
        None if args.raw => Style::Raw(args.delimiter.clone()),
        None if args.json => Style::json()?,
        None => Style::Consumed,
    })
}

/// Reads until there is a reason to stop; answers whether as many messages came as were asked for.
fn run(args: &Args, style: &Style) -> Result<bool> {
    say("Consumer started. Waiting for data...");
    if let Some(name) = &args.queue {
        return working::run(name, args, style);
    }
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut consumer = open(args)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let (interrupt, wake) = (interrupted.clone(), consumer.waker());
    common::on_interrupt(move || {
        interrupt.store(true, SeqCst);
        wake();
    })?;
    let (mut left, mut text) = (args.count.unwrap_or(u64::MAX), Vec::new());
    let (terminal, mut committed) = (io::stdout().is_terminal(), Ok(()));
    while left > 0 && !interrupted.load(SeqCst) && !(args.exit_at_end && consumer.at_end()) {
        let wait = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        if wait.is_zero() {
            return Ok(args.count.is_none());
        }
        // A member looks for the end itself: what it is given can change with every poll.
        let wait = if args.exit_at_end && args.group.is_some() { wait.min(look(&consumer)) } else { wait };
        let messages = match consumer.poll(wait, left.min(POLL_MAX) as usize) {
            Err(error @ Error::Skipped { .. }) => {
                say(error);
                continue;
            }
            Err(error) if !args.exit_at_end && !matches!(error, Error::Answer(_)) => {
                say(format_args!("{error}; waiting"));
                continue;
            }
            polled => polled?,
        };
        left -= messages.len() as u64;
        let place = Place { terminal, several_partitions: consumer.partitions() > 1 };
        text.clear();
        messages.iter().for_each(|message| style.write(&mut text, message, place));
        io::stdout().write_all(&text)?;
        io::stdout().flush()?;
        if args.group.is_some() && !messages.is_empty() {
            committed = consumer.commit();
            if let Err(error) = &committed {
                say(format_args!("what was printed is not committed and comes again: {error}"));
            }
        }
    }
    committed?;
    consumer.close()?;
    Ok(true)
}

/// How long a member that stops at the end looks for more: a while if others may still hand over partitions.
fn look(consumer: &Consumer) -> Duration {
    if consumer.partitions() > 0 { Duration::ZERO } else { HAND_OVER }
}

fn open(args: &Args) -> Result<Consumer> {
    let patience = args.timeout.map_or(RETRY_FOR, |timeout| timeout.min(RETRY_FOR));
    let consumer =
        connecting::connect(&args.at.target()?, patience, |target, most| Consumer::connect_within(target, most))?;
    say(format_args!("Connected to broker at {}", consumer.address()));
    let consumer = consumer.retry_for(RETRY_FOR).start_at(args.from).isolation(args.isolation);
    let consumer = match args.partition {
        Some(partition) => consumer.assign(&args.topic, partition)?,
        None => match &args.group {
            Some(group) => consumer.group(group).auto_commit(false),
            None => consumer,
        }
        .subscribe(&[&args.topic])?,
    };
    for topic in consumer.missing() {
        if args.exit_at_end {
            bail!("there is no topic '{topic}'");
        }
        say(format_args!("Topic '{topic}' is not there yet; waiting for it"));
    }
    Ok(consumer)
}

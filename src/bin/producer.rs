//! `producer`: sends what is typed or piped in. This file turns flags into calls of the library and results into an exit
//! status.

mod addressing;
mod common;
mod connecting;

use anyhow::{Context, Result};
use clap::Parser;
use common::say;
use plainlog::client::programs::intake::{Intake, header};
use plainlog::client::programs::{
    News, Tally, converse, input::Input, pour, pour_in_transactions, progress::Progress, style,
};
use plainlog::client::{Header, Producer};
use plainlog::config;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs::File, path::PathBuf};

/// Sends messages to a plainlog broker: typed in a conversation, or piped in, each line one message
#[derive(Parser)]
#[command(name = "producer", version, max_term_width = 100, allow_negative_numbers = true)]
struct Args {
    #[command(flatten)]
    at: addressing::At,
    /// Topic to send to
    #[arg(short, long, default_value = "messages", value_parser = common::topic)]
    topic: String,
    /// Partition to send to [default: by key, or any if there is no key]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=i32::MAX as i64))]
    partition: Option<u32>,
    /// Key of every message
    #[arg(short, long, conflicts_with = "json", allow_hyphen_values = true)]
    key: Option<String>,
    /// What separates the key from the value of each message; one without it has no key. Escapes as in --delimiter
    #[arg(short = 'K', long, value_name = "TEXT", conflicts_with_all = ["key", "json"])]
    #[arg(allow_hyphen_values = true, value_parser = style::delimiter)]
    key_separator: Option<std::vec::Vec<u8>>,
    /// Header of every message; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", conflicts_with = "json", value_parser = header)]
    headers: Vec<Header>,
    /// Send an empty value as a tombstone, which deletes its key in a compacted topic
    #[arg(short = 'Z', long, conflicts_with = "json")]
    tombstone: bool,
    /// What ends each message of piped input; \n \r \t \0 \\ \xHH are bytes [default: the end of a line, \n or \r\n]
    #[arg(short = 'D', long, allow_hyphen_values = true, value_parser = style::delimiter)]
    delimiter: Option<std::vec::Vec<u8>>,
    /// Read each message as a JSON object, as `consumer --json` prints them (feature comfort)
    #[arg(long)]
    json: bool,
    /// Send this file instead of standard input
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Ask for each message even if standard input is not a terminal
    #[arg(short, long, conflicts_with_all = ["file", "json", "delimiter"])]
    interactive: bool,
    /// Number the messages, so that none is stored twice when the connection breaks
    #[arg(long)]
    idempotent: bool,
    /// Send the input in a transaction of this id: all of it can be read together, or nothing (not from a conversation)
    #[arg(long, value_name = "ID", conflicts_with_all = ["interactive", "idempotent"])]
    transactional_id: Option<String>,
    /// Make a transaction of each N messages
    #[arg(long, value_name = "N", requires = "transactional_id")]
    transaction_messages: Option<NonZeroUsize>,
    /// How long a transaction may take before the broker aborts it
    #[arg(long, requires = "transactional_id", default_value = "1m", value_name = "TIME", value_parser = config::duration)]
    transaction_timeout: Duration,
    /// How long to try again while the broker is gone (500ms, 30s, 15m; a plain number is ms). What it had not acknowledged
    /// is then sent again, so it can be stored twice (not with --idempotent or --transactional-id)
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = config::duration)]
    retry_for: Duration,
    /// Print each acknowledgement
    #[arg(short, long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.json && cfg!(not(feature = "comfort")) {
        common::usage_error::<Args>("--json needs the feature 'comfort', which this build was made without");
    }
    match run(&args) {
        Ok(status) => ExitCode::from(status),
        Err(error) if common::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("producer: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<u8> {
    let is_typed = args.file.is_none() && !args.json && io::stdin().is_terminal();
    let in_conversation = args.interactive || args.transactional_id.is_none() && is_typed;
    let intake = Intake {
        key: args.key.clone().map(String::into_bytes),
        key_separator: args.key_separator.clone(),
        headers: args.headers.clone(),
        partition: args.partition,
        empty_is_tombstone: args.tombstone,
        json: args.json,
    };
    let (source, bytes): (Box<dyn Read + Send>, _) = match &args.file {
        None => (Box::new(io::stdin()), None),
        Some(path) => {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            let bytes = file.metadata().ok().map(|metadata| metadata.len());
            (Box::new(file), bytes)
        }
    };
    let producer =
        connecting::connect(&args.at.target()?, args.retry_for, |target, most| Producer::connect_within(target, most))?
            .retry_for(args.retry_for);
    let input = Input::open(source, args.delimiter.as_deref());
    common::on_interrupt(input.interrupter())?;
    if in_conversation {
        converse(&args.topic, &intake, input, producer.idempotent(args.idempotent), &mut io::stdout())?;
        return Ok(0);
    }
    send_all(args, &intake, input, producer, bytes)
}

/// Sends all of the input, tells what became of it, and answers the exit status.
fn send_all(args: &Args, intake: &Intake, mut input: Input, producer: Producer, bytes: Option<u64>) -> Result<u8> {
    let (begun, progress, mut tally) = (Instant::now(), Progress::begin(bytes), Tally::default());
    let mut out = BufWriter::new(io::stdout());
    let tell = |news| match news {
        News::Stored(_, ack) => {
            tally.add(ack);
            if args.verbose { writeln!(out, "ACK topic:{} {ack}", args.topic) } else { Ok(()) }
        }
        News::Refused(number, why) => {
            tally.refused += 1;
            progress.say(format_args!("line {number}: {why}"));
            Ok(())
        }
        News::Progress(bytes) => {
            progress.show(bytes, tally.stored);
            out.flush()
        }
    };
    if let Some(id) = &args.transactional_id {
        let mut producer = producer.transactional(id).timeout(args.transaction_timeout);
        let each = args.transaction_messages;
        let poured = pour_in_transactions(&args.topic, intake, &mut input, &mut producer, each, tell);
        progress.end();
        if each.is_some() || poured.is_ok() {
            say(tally.summary(begun.elapsed()));
        }
        poured.and_then(|()| out.flush())?;
        return Ok(0);
    }
    let mut producer = producer.idempotent(args.idempotent);
    let poured = pour(&args.topic, intake, &mut input, &mut producer, tell);
    let poured = poured.and_then(|()| out.flush());
    progress.end();
    say(tally.summary(begun.elapsed()));
    if producer.resent() > 0 {
        let stored = if args.idempotent { "; each is stored once" } else { " and may be stored twice" };
        say(format_args!("{} messages were sent again{stored}", producer.resent()));
    }
    poured?;
    Ok(if input.is_exhausted() { u8::from(tally.refused > 0) } else { 130 })
}

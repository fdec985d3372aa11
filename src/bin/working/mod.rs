//! `consumer --queue`: messages that go to one of several consumers at a time, printed or handed to a command.

use crate::{Args, POLL_MAX, RETRY_FOR, common, common::say, connecting};
use anyhow::{Context, Result};
use plainlog::client::{
    Delivery, Error, Isolation, Position, Queue, ShareOptions,
    programs::style::{Place, Style},
};
use std::{
    io::{self, IsTerminal, Write},
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// The longest key that the command is told, in bytes: Linux starts no program with a variable of 128 KiB.
const KEY_MAX: usize = 100 << 10;
/// How long a consumer waits whose command could not be started.
const START_AGAIN: Duration = Duration::from_secs(1);

/// Works until there is a reason to stop; answers whether as many messages came as were asked for.
pub(super) fn run(name: &str, args: &Args, style: &Style) -> Result<bool> {
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut queue = join(name, args)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let (interrupt, wake) = (interrupted.clone(), queue.waker());
    common::on_interrupt(move || {
        interrupt.store(true, SeqCst);
        wake();
    })?;
    let (mut left, mut told) = (args.count.unwrap_or(u64::MAX), Ok(()));
    while left > 0 && !interrupted.load(SeqCst) {
        let wait = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        if wait.is_zero() {
            return Ok(args.count.is_none());
        }
        // Who works on a message takes no others meanwhile: somebody else may be free.
        let most = if args.exec.is_some() { 1 } else { left.min(POLL_MAX) as usize };
        let deliveries = match queue.poll(wait, most) {
            Err(error) if !matches!(error, Error::Answer(_)) => {
                say(format_args!("{error}; waiting"));
                continue;
            }
            polled => polled?,
        };
        left -= deliveries.len() as u64;
        match &args.exec {
            None if deliveries.is_empty() => {}
            None => told = print(&mut queue, &deliveries, style)?,
            Some(command) => {
                for delivery in deliveries {
                    told = work(&mut queue, command, delivery)?;
                }
            }
        }
    }
    // As for a group: who could not say last what became of a message did not end well.
    told?;
    queue.close()?;
    Ok(true)
}

fn join(name: &str, args: &Args) -> Result<Queue> {
    let patience = args.timeout.map_or(RETRY_FOR, |timeout| timeout.min(RETRY_FOR));
    let queue = connecting::connect(&args.at.target()?, patience, |target, most| Queue::connect_within(target, most))?;
    say(format_args!("Connected to broker at {}", queue.address()));
    let from = match args.from {
        Position::Earliest => None,
        Position::Latest => Some(plainlog::broker::Position::Latest),
        _ => common::usage_error::<Args>("a queue begins at --from earliest or latest"),
    };
    let options = ShareOptions {
        from,
        lock_ms: args.lock.map(|lock| lock.as_millis() as u64),
        deliveries: args.deliveries,
        isolation: (args.isolation == Isolation::ReadUncommitted).then_some(args.isolation),
        dead_letters: args.dead.clone(),
    };
    let queue = queue.retry_for(RETRY_FOR).options(options).join(name, &[&args.topic])?;
    for topic in queue.missing() {
        say(format_args!("Topic '{topic}' is not there yet; waiting for it"));
    }
    Ok(queue)
}

/// Prints messages. They are done once they are written; answers whether that could be said.
fn print(queue: &mut Queue, deliveries: &[Delivery], style: &Style) -> Result<Result<(), Error>> {
    let place = Place { terminal: io::stdout().is_terminal(), several_partitions: queue.partitions() > 1 };
    let mut text = Vec::new();
    deliveries.iter().for_each(|delivery| style.write(&mut text, &delivery.message, place));
    io::stdout().write_all(&text)?;
    io::stdout().flush()?;
    let told = queue.accept_all(deliveries);
    if let Err(error) = &told {
        say(format_args!("what was printed is not accepted and comes again: {error}"));
    }
    Ok(told)
}

/// Runs the command for a message. It is done if the command says so; a command that cannot be started has failed as well, for the
/// next message may be one that it can be started with. Answers whether what became of the message could be said.
fn work(queue: &mut Queue, command: &str, mut delivery: Delivery) -> Result<Result<(), Error>> {
    let ran = execute(queue, command, &mut delivery);
    let message = &delivery.message;
    let at = format!("{}/{} {}", message.topic, message.partition, message.offset);
    let failure = match &ran {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("'{command}' ended with {status}")),
        Err(error) => Some(format!("cannot run '{command}': {error}")),
    };
    let (what, told) = match failure {
        None => ("is done", queue.accept(&delivery)),
        Some(why) => {
            say(format_args!("{at}, delivery {}: {why}", delivery.deliveries));
            ("failed", queue.release(&delivery))
        }
    };
    if let Err(error) = &told {
        say(format_args!("{at} {what}, and comes again: {error}"));
    }
    match ran {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error).context("there is no shell"),
        Err(_) => {
            thread::sleep(START_AGAIN);
            Ok(told)
        }
        Ok(_) => Ok(told),
    }
}

/// Runs the command with the value, which is taken, on its standard input. While it runs, the message stays this consumer's.
fn execute(queue: &mut Queue, command: &str, delivery: &mut Delivery) -> io::Result<ExitStatus> {
    let message = &mut delivery.message;
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::piped());
    shell.env("PLAINLOG_TOPIC", &*message.topic).env("PLAINLOG_PARTITION", message.partition.to_string());
    shell.env("PLAINLOG_OFFSET", message.offset.to_string());
    shell.env("PLAINLOG_DELIVERY", delivery.deliveries.to_string());
    let key = message.key.as_deref().filter(|key| key.len() <= KEY_MAX && !key.contains(&0));
    match key.and_then(|key| std::str::from_utf8(key).ok()) {
        Some(key) => shell.env("PLAINLOG_KEY", key),
        None => shell.env_remove("PLAINLOG_KEY"),
    };
    let mut child = shell.spawn()?;
    let (mut input, value) = (child.stdin.take().expect("it is piped"), message.value.take().unwrap_or_default());
    let (ended, end) = mpsc::channel();
    // A command may read its input late, or never, or leave it to a process that outlives it: nobody waits for this thread.
    thread::spawn(move || input.write_all(&value).is_ok());
    thread::spawn(move || ended.send(child.wait()).is_ok());
    let mut is_held = true;
    loop {
        match end.recv_timeout(queue.lock() / 3) {
            Ok(status) => return status,
            Err(_) if is_held => {
                if let Err(error) = queue.renew(delivery) {
                    say(format_args!("somebody else may get the message that is being worked on: {error}"));
                    is_held = false;
                }
            }
            Err(_) => {}
        }
    }
}

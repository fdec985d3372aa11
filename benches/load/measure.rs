//! Rounds, their median, and the table.

use crate::{Options, broker::Broker, client::Ack};
use anyhow::Result;
use std::{fs, time::Instant};

/// One measurement.
pub(crate) struct Round {
    messages: u64,
    bytes: u64,
    seconds: f64,
    /// Of the broker; None for a bare limit, or if it runs elsewhere.
    cpu_seconds: Option<f64>,
    peak_mb: Option<f64>,
    /// Microseconds of each message, sorted, where messages went one at a time.
    latencies_us: Vec<f64>,
}

impl Round {
    /// How long `messages` messages of `bytes` bytes in all take.
    pub(crate) fn of(messages: u64, bytes: u64, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let start = Instant::now();
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(Self { messages, bytes, seconds, cpu_seconds: None, peak_mb: None, latencies_us: Vec::new() })
    }

    /// The same, and what it costs the broker.
    pub(crate) fn with(broker: &Broker, messages: u64, bytes: u64, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let before = broker.cpu_seconds();
        let mut round = Self::of(messages, bytes, work)?;
        round.cpu_seconds = before.and_then(|before| Some(broker.cpu_seconds()? - before));
        round.peak_mb = broker.memory_mb("VmHWM");
        Ok(round)
    }

    /// Adds the time that each message took.
    pub(crate) fn latencies(mut self, acks: &[Ack]) -> Self {
        self.latencies_us = acks.iter().map(|ack| ack.taken.as_secs_f64() * 1e6).collect();
        self.latencies_us.sort_by(f64::total_cmp);
        self
    }

    fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// The latency that this share of the messages did not exceed.
    fn percentile_us(&self, share: f64) -> f64 {
        let rank = (self.latencies_us.len() as f64 * share).ceil() as usize;
        self.latencies_us[rank.clamp(1, self.latencies_us.len()) - 1]
    }

    fn latency(&self) -> String {
        let [median, p99, p999] = [0.5, 0.99, 0.999].map(|share| self.percentile_us(share));
        format!("median {median:.1} µs, p99 {p99:.0}, p99.9 {p999:.0}")
    }
}

/// The round in the middle, by rate.
pub(crate) fn median(mut rounds: Vec<Round>) -> Round {
    rounds.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    rounds.swap_remove(rounds.len() / 2)
}

/// The figure in the middle.
pub(crate) fn median_figure(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A row of the table.
pub(crate) struct Row([String; 7]);

impl Row {
    /// Messages a second, beside those of a limit; and how long each took, where they went one at a time.
    pub(crate) fn rate(what: &str, round: &Round, limit_name: &str, limit: &Round) -> Self {
        let latency = if round.latencies_us.is_empty() { String::new() } else { format!(", {}", round.latency()) };
        let measured = format!("{}/s{latency}", thousands(round.rate()));
        let beside = format!("{limit_name}: {}/s", thousands(limit.rate()));
        Self::new(what, measured, round, beside, round.rate() / limit.rate())
    }

    /// How long one message takes, beside a limit.
    pub(crate) fn latency(what: &str, round: &Round, limit_name: &str, limit: &Round) -> Self {
        let ratio = round.percentile_us(0.5) / limit.percentile_us(0.5);
        Self::new(what, round.latency(), round, format!("{limit_name}: {}", limit.latency()), ratio)
    }

    fn new(what: &str, measured: String, round: &Round, beside: String, ratio: f64) -> Self {
        let mb = format!("{:.0}", round.bytes as f64 / round.seconds / 1e6);
        let cpu = |cpu: f64| format!("{:.2}", cpu * 1e6 / round.messages as f64);
        let cpu = round.cpu_seconds.map_or(String::new(), cpu);
        let peak = round.peak_mb.map_or(String::new(), |peak| format!("{peak:.0}"));
        Self([what.into(), measured, mb, cpu, peak, beside, format!("{ratio:.2}")])
    }

    /// A plain figure, beside another.
    pub(crate) fn figure(what: &str, figure: f64, unit: &str, beside: Option<(&str, f64)>) -> Self {
        let (limit, ratio) = beside.map_or(Default::default(), |(name, limit)| {
            (format!("{name}: {limit:.1} {unit}"), format!("{:.2}", figure / limit))
        });
        let empty = String::new;
        Self([what.into(), format!("{figure:.1} {unit}"), empty(), empty(), empty(), limit, ratio])
    }
}

/// `1234567` as `1,234,567`.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Prints the rows as a markdown table, of which benches/README.md has the columns that say most.
pub(crate) fn print_table(options: &Options, rows: &[Row]) {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let linux = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{cores} cores shared with the client, Linux {}, medians of {} round(s).", linux.trim(), options.rounds);
    if options.scale != 1.0 {
        println!("**Amounts scaled by {}: these figures say nothing about speed.**", options.scale);
    }
    println!("\n| what | measured | MB/s | broker CPU s per million | peak MB | beside it | ratio |");
    println!("| --- | --- | ---: | ---: | ---: | --- | ---: |");
    for Row(cells) in rows {
        println!("| {} |", cells.join(" | "));
    }
}

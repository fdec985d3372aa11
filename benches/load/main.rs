//! The load program: how fast the broker is, beside what this machine can do at all.
//!
//! ```text
//! cargo bench --bench load                              every scenario; a markdown table on stdout
//! cargo bench --bench load -- produce-100 ping-pong     some, by the start of their names
//! cargo bench --bench load -- --help                    the names, and the options
//! ```
//!
//! Rules that keep the figures honest:
//! - Every answer is accounted for: the number of lines, their bytes, the first and the last. A broker that loses,
//!   repeats or refuses something gives an error, not a fast figure.
//! - A scenario's bare limit (`bare.rs`) is measured in turn with it, so both see the same machine.
//! - A figure is the median of the rounds; CPU seconds and memory are those of that same round.
//! - The client shares the machine with the broker, so it is cheap: lines are built before the clock runs, answers
//!   are counted with memchr.
//!
//! Left out: several topics or machines at once. One connection saturates the two cores this is meant for.

mod bare;
mod broker;
mod client;
mod lines;
mod measure;
mod scenarios;

use anyhow::{Result, bail};
use clap::Parser;
use scenarios::{SCENARIOS, Scenario, names};
use std::{path::PathBuf, process::ExitCode};

/// Measures a broker under load, beside the bare limits of this machine.
#[derive(Parser)]
#[command(name = "load", bin_name = "cargo bench --bench load --")]
pub(crate) struct Options {
    #[arg(help = format!("What to measure, by the start of its name [default: all]: {}", names()))]
    scenarios: Vec<String>,
    /// Rounds of each measurement; the median is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Factor on all amounts: 0.01 is a quick look, which says nothing about speed
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// The broker program to start
    #[arg(long, default_value = env!("CARGO_BIN_EXE_broker"))]
    program: PathBuf,
    /// HOST:PORT of a running broker to measure instead, in the flush mode that it has
    #[arg(long, conflicts_with = "program")]
    broker: Option<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// An amount, scaled; at least `least`.
    fn amount(&self, full: u64, least: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(least)
    }

    fn chosen(&self) -> Result<Vec<&'static Scenario>> {
        for name in &self.scenarios {
            if !SCENARIOS.iter().any(|scenario| scenario.name.starts_with(name.as_str())) {
                bail!("no scenario '{name}'; there are {}", names());
            }
        }
        let named = |scenario: &Scenario| {
            self.scenarios.is_empty() || self.scenarios.iter().any(|name| scenario.name.starts_with(name.as_str()))
        };
        Ok(SCENARIOS.iter().filter(|scenario| named(scenario)).collect())
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if cfg!(debug_assertions) {
        eprintln!("load: a debug build says nothing about speed; nothing measured. Run: cargo bench --bench load");
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs what was chosen and prints the table; false if a scenario failed.
fn run(options: &Options) -> Result<bool> {
    let chosen = options.chosen()?;
    // 2,000 connections from here.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let (mut rows, mut well) = (Vec::new(), true);
    for scenario in chosen {
        if options.broker.is_some() && scenario.starts_its_own {
            eprintln!("{}: left out, it starts brokers of its own", scenario.name);
            continue;
        }
        eprintln!("{}...", scenario.name);
        match (scenario.run)(options) {
            Ok(more) => rows.extend(more),
            Err(error) => {
                eprintln!("{}: FAILED: {error:#}", scenario.name);
                well = false;
            }
        }
    }
    if !rows.is_empty() {
        measure::print_table(options, &rows);
    }
    Ok(well)
}

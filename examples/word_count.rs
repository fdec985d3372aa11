//! Counts words: each change of a word's count is a record, exactly once.
//!
//! Run `cargo run --example word_count` beside a broker, type lines into `producer -t lines`, and see the counts come:
//! `consumer -t counts --format '%k %s\n'`. Kill it and start it again, or start another one with a `--state-dir` of its own: each word still
//! counts once.
//! With `--windowed-to TOPIC` that topic gets each word's count in every ten seconds, too, under the key `word@<begin in ms>`.

use clap::Parser;
use plainlog::streams::{Options, Topology, Tumbling};
use std::{path::PathBuf, time::Duration};

#[derive(Parser)]
struct Arguments {
    /// Where the broker is
    #[arg(long, default_value = "localhost:9092")]
    broker: String,
    /// What all that count together call themselves
    #[arg(long, default_value = "word-count")]
    application_id: String,
    /// The topic of lines
    #[arg(long, default_value = "lines")]
    from: String,
    /// The topic that gets each change of a count
    #[arg(long, default_value = "counts")]
    to: String,
    /// The topic that gets the counts of ten seconds each
    #[arg(long, value_name = "TOPIC")]
    windowed_to: Option<String>,
    /// Where the state is; each process needs a folder of its own
    #[arg(long, default_value = "streams")]
    state_dir: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let topology = Topology::new(&arguments.application_id);
    let words = topology
        .stream(&arguments.from)
        .flat_map_values(|line| line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>())
        .group_by(|_, word: &String| word.clone());
    words.count("counts").to(&arguments.to);
    if let Some(topic) = &arguments.windowed_to {
        let tens = Tumbling::of(Duration::from_secs(10)).grace(Duration::from_secs(3600));
        words.window(tens).count("windowed-counts").to(topic);
    }
    let app = topology.start(&arguments.broker, Options { state_dir: arguments.state_dir, ..Options::default() })?;
    ctrlc::set_handler(app.stopper())?;
    Ok(app.wait()?)
}

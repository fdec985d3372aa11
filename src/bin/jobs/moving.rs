//! `broker move`: copies topics to a Kafka cluster, or from one, and goes on where it was interrupted.

use crate::{
    clustering,
    common::{self, say, topic},
};
use anyhow::{Error, Result};
use clap::Args;
use plainlog::{
    client::programs::progress::Progress,
    cluster::{
        ClusterOptions,
        moving::{Chosen, Compared, Counted, Move, Told, Until},
    },
};
use serde_json::json;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Release},
    },
};

#[derive(Args)]
pub(crate) struct Job {
    /// Nodes of the cluster that gets the records: HOST:PORT, separated by commas
    #[arg(long, value_name = "HOST:PORT,...", value_parser = servers)]
    to: String,
    /// Nodes of the cluster, or the plainlog, that has them
    #[arg(long, env = "PLAINLOG_BROKER", default_value = "localhost:9092", value_name = "HOST:PORT,...", value_parser = servers)]
    from: String,
    /// Topics to move [default: all but the source's own]
    #[arg(long, value_name = "TOPIC,...", value_delimiter = ',', value_parser = topic)]
    topics: Vec<String>,
    /// Topics to leave out
    #[arg(long, value_name = "TOPIC,...", value_delimiter = ',', value_parser = topic)]
    exclude: Vec<String>,
    /// Other names for topics at the target
    #[arg(long, value_name = "TOPIC=NAME,...", value_delimiter = ',', value_parser = renamed)]
    rename: Vec<(String, String)>,
    /// Go on with new records, topics and groups' offsets until interrupted
    #[arg(long)]
    follow: bool,
    /// Go on with new records until the target has all that the source has
    #[arg(long)]
    until_equal: bool,
    /// Move what consumer groups have committed, too, with the target's offsets
    #[arg(long)]
    groups: bool,
    /// Compare both sides, record by record, instead; the exit status is 1 if they differ
    #[arg(long, conflicts_with_all = ["follow", "until_equal", "groups"])]
    verify: bool,
    /// A setting of librdkafka for the target, such as compression.type=zstd; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = clustering::setting)]
    to_config: Vec<(String, String)>,
    /// A file of such settings, one a line; secrets belong there
    #[arg(long, value_name = "FILE")]
    to_config_file: Option<PathBuf>,
    /// A setting of librdkafka for the source; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = clustering::setting)]
    from_config: Vec<(String, String)>,
    /// A file of such settings, one a line; secrets belong there
    #[arg(long, value_name = "FILE")]
    from_config_file: Option<PathBuf>,
    /// Tell progress and result as lines of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(job: &Job) -> Result<ExitCode> {
    let chosen = Chosen {
        topics: job.topics.iter().cloned().collect(),
        exclude: job.exclude.iter().cloned().collect(),
        rename: job.rename.iter().cloned().collect(),
    };
    let until = match (job.until_equal, job.follow) {
        (true, _) => Until::Equal,
        (false, true) => Until::Interrupted,
        (false, false) => Until::Copied,
    };
    let moving = Move {
        from: side(&job.from, &job.from_config, job.from_config_file.as_ref(), "--from-config-file")?,
        to: side(&job.to, &job.to_config, job.to_config_file.as_ref(), "--to-config-file")?,
        chosen,
        until,
        groups: job.groups,
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let interrupted = is_over.clone();
    common::on_interrupt(move || interrupted.store(true, Release))?;
    let bar = Progress::begin(None);
    let mut tell = |told: Told<'_>| match told {
        Told::Progress { counted, left } if job.json => {
            line(&json!({ "event": "progress", "records": counted.records, "bytes": counted.bytes, "lag": left }));
        }
        Told::Progress { counted, left } => {
            bar.show_with(counted.bytes, counted.records, format_args!(", {left} to go"))
        }
        Told::Compared { same } if job.json => line(&json!({ "event": "progress", "same": same })),
        Told::Compared { same } => bar.show(0, same),
        Told::Note(note) if job.json => line(&json!({ "event": "note", "text": note })),
        Told::Note(note) => bar.say(note),
        _ => {}
    };
    if job.verify {
        let compared = moving.verify(&is_over, &mut tell);
        bar.end();
        return verified(&compared?, job.json);
    }
    let counted = moving.run(&is_over, &mut tell);
    bar.end();
    let counted = counted?;
    copied(&counted, job.json)?;
    // Who waits for all to be there is not to go on when it is not.
    if job.follow && !job.until_equal || counted.left == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("interrupted: {} offsets of the source are still to be copied; run it again", counted.left));
    Ok(ExitCode::FAILURE)
}

fn copied(counted: &Counted, is_json: bool) -> Result<()> {
    let Counted { topics, partitions, records, bytes, of_time_0, group_offsets, left, .. } = counted;
    let mut out = io::stdout().lock();
    if is_json {
        let told = json!({
            "event": "copied", "topics": topics, "partitions": partitions, "records": records, "bytes": bytes,
            "recordsOfTime0": of_time_0, "groupOffsets": group_offsets, "lag": left
        });
        writeln!(out, "{told}")?;
        return Ok(());
    }
    writeln!(
        out,
        "{records} records of {partitions} partitions in {topics} topics copied, {group_offsets} offsets of groups"
    )?;
    if *of_time_0 > 0 {
        say(format_args!(
            "{of_time_0} records whose timestamp is 0 have 1 at the target: Kafka's clients cannot send 0"
        ));
    }
    Ok(())
}

fn verified(compared: &Compared, is_json: bool) -> Result<ExitCode> {
    let Compared { partitions, same, only_at_target, only_at_source, differing, differences, is_interrupted } =
        compared;
    let mut out = io::stdout().lock();
    for difference in differences {
        match is_json {
            true => writeln!(
                out,
                "{}",
                json!({
                    "event": "difference", "topic": difference.topic, "partition": difference.partition,
                    "sourceOffset": difference.source_offset, "targetOffset": difference.target_offset
                })
            )?,
            false => writeln!(out, "{difference}")?,
        }
    }
    match is_json {
        true => writeln!(
            out,
            "{}",
            json!({
                "event": "verified", "partitions": partitions, "same": same, "onlyAtTarget": only_at_target,
                "onlyAtSource": only_at_source, "differing": differing, "interrupted": is_interrupted
            })
        )?,
        false => writeln!(
            out,
            "{same} records in {partitions} partitions are the same, {differing} differ; {only_at_target} are at the target only, \
             {only_at_source} at the source only, by retention or compaction"
        )?,
    }
    if *is_interrupted {
        say("interrupted: the rest was not compared");
    }
    Ok(if *differing == 0 && !is_interrupted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line for scripts. Nobody has to read it.
fn line(told: &serde_json::Value) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{told}").and_then(|()| out.flush());
}

/// How one side is reached.
fn side(servers: &str, settings: &[(String, String)], file: Option<&PathBuf>, option: &str) -> Result<ClusterOptions> {
    let settings = clustering::settings(settings, file, option).map_err(Error::msg)?;
    let options = ClusterOptions { settings, ..ClusterOptions::new(servers) };
    options.check()?;
    Ok(options)
}

fn renamed(text: &str) -> Result<(String, String), String> {
    let (from, to) = text.split_once('=').ok_or("write TOPIC=NAME")?;
    Ok((topic(from)?, topic(to)?))
}

/// Addresses with their ports.
fn servers(text: &str) -> Result<String, String> {
    let all: Result<Vec<String>, String> = text.split(',').map(|server| common::address(server.trim())).collect();
    all.map(|all| all.join(","))
}

//! `broker topic`: the topics of a running broker, asked for in its own text protocol.

use anyhow::Result;
use clap::{Args, Subcommand};
use plainlog::client::{Answer, Connection, Error};
use std::{
    io::{self, Write},
    process::ExitCode,
};

#[derive(Subcommand)]
pub(crate) enum Job {
    /// List the topics
    List {
        #[command(flatten)]
        to: To,
        /// The broker's own topics too
        #[arg(long)]
        all: bool,
    },
    /// Make a topic
    Create {
        #[command(flatten)]
        to: To,
        /// Its name
        topic: String,
        /// How many partitions [default: the broker's --default-partitions]
        #[arg(short, long, value_name = "N")]
        partitions: Option<u32>,
        /// A setting, such as retention.ms=1000; may be repeated
        #[arg(short, long = "config", value_name = "NAME=VALUE")]
        configs: Vec<String>,
        /// Succeed if it is there already
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Show a topic's settings and partitions
    Describe {
        #[command(flatten)]
        to: To,
        /// Its name
        topic: String,
    },
    /// Change a topic's settings, or add partitions
    Alter {
        #[command(flatten)]
        to: To,
        /// Its name
        topic: String,
        /// How many partitions it shall have
        #[arg(short, long, value_name = "N")]
        partitions: Option<u32>,
        /// A setting, such as retention.ms=1000; an empty value returns to the default; may be repeated
        #[arg(short, long = "config", value_name = "NAME=VALUE")]
        configs: Vec<String>,
    },
    /// Delete a topic with all its records
    Delete {
        #[command(flatten)]
        to: To,
        /// Its name
        topic: String,
    },
}

/// Which broker, and in which form it answers.
#[derive(Args)]
pub(crate) struct To {
    /// Address of the broker
    #[arg(short, long, env = "PLAINLOG_BROKER", default_value = "localhost:9092", value_name = "HOST:PORT")]
    broker: String,
    /// Answer in JSON, with Kafka's names (feature comfort)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(job: &Job) -> Result<ExitCode> {
    let (to, line) = match job {
        Job::List { to, all } => (to, format!("TOPICS{}", if *all { " all" } else { "" })),
        Job::Create { to, topic, partitions, configs, .. } => (to, wish("CREATE", topic, *partitions, configs)),
        Job::Describe { to, topic } => (to, format!("TOPIC {topic}")),
        Job::Alter { to, topic, partitions, configs } => (to, wish("ALTER", topic, *partitions, configs)),
        Job::Delete { to, topic } => (to, format!("DROP {topic}")),
    };
    if to.json && !cfg!(feature = "comfort") {
        super::super::common::usage_error::<crate::Cli>(
            "--json needs the feature 'comfort', which this build is without",
        );
    }
    let mut broker = Connection::open(&to.broker)?;
    let answer = match (broker.ask(&line), job) {
        (Err(Error::Refused(refused)), Job::Create { topic, if_not_exists: true, .. })
            if refused.code == "TOPIC_ALREADY_EXISTS" =>
        {
            broker.ask(&format!("TOPIC {topic}")).map(|answer| Answer { lines: Vec::new(), ..answer })?
        }
        (answer, _) => answer?,
    };
    let text = if to.json { json(&answer) } else { table(&answer) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn wish(verb: &str, topic: &str, partitions: Option<u32>, configs: &[String]) -> String {
    let partitions = partitions.map(|count| format!(" partitions:{count}")).unwrap_or_default();
    let configs: String = configs.iter().map(|config| format!(" {}", config.replacen('=', ":", 1))).collect();
    format!("{verb} {topic}{partitions}{configs}")
}

/// The fields of a line; the first one may be a word of the protocol without a colon, which is none.
fn fields(line: &str) -> Vec<(&str, &str)> {
    line.split(' ').filter_map(|word| word.split_once(':')).filter(|(name, _)| *name != "count").collect()
}

/// The first line's fields one below the other, the others as a table with their names above.
fn table(answer: &Answer) -> String {
    let first: Vec<String> = fields(&answer.first).iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let rows: Vec<_> = answer.lines.iter().map(|line| fields(line)).collect();
    let Some(head) = rows.first() else { return first.concat() };
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].1.len()).max().unwrap_or(0).max(head[column].0.len()))
        .collect();
    let line = |words: Vec<&str>| {
        let padded: Vec<_> = words.iter().zip(&widths).map(|(word, width)| format!("{word:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let above = line(head.iter().map(|(name, _)| *name).collect());
    let below: String = rows.iter().map(|row| line(row.iter().map(|(_, value)| *value).collect())).collect();
    format!("{}{above}{below}", first.concat())
}

#[cfg(feature = "comfort")]
fn json(answer: &Answer) -> String {
    use serde_json::{Map, Value, json};
    let object = |line: &str| {
        let (mut object, mut configs) = (Map::new(), Map::new());
        for (name, value) in fields(line) {
            let number = value.parse::<i64>().map_or_else(|_| json!(value), |number| json!(number));
            match kafka_name(name) {
                Some(name) => drop(object.insert(name.into(), number)),
                None => drop(configs.insert(name.into(), json!(value))),
            }
        }
        if !configs.is_empty() {
            object.insert("configs".into(), Value::Object(configs));
        }
        Value::Object(object)
    };
    let lines: Vec<Value> = answer.lines.iter().map(|line| object(line)).collect();
    let value = match object(&answer.first) {
        Value::Object(first) if first.is_empty() && answer.first.contains(" count:") => json!(lines),
        Value::Object(mut first) if !lines.is_empty() => {
            first.insert("partitions".into(), json!(lines));
            Value::Object(first)
        }
        first => first,
    };
    format!("{value:#}\n")
}

#[cfg(not(feature = "comfort"))]
fn json(_: &Answer) -> String {
    unreachable!("refused before the broker was asked")
}

/// Kafka's name for a field; `None`: it is a setting, which bears Kafka's name already.
#[cfg(feature = "comfort")]
fn kafka_name(field: &str) -> Option<&'static str> {
    Some(match field {
        "topic" => "name",
        "id" => "topicId",
        "partitions" => "partitionCount",
        "partition" => "partitionIndex",
        "first" => "logStartOffset",
        "end" => "logEndOffset",
        "stable" => "lastStableOffset",
        "records" => "recordCount",
        "bytes" => "size",
        "segments" => "segmentCount",
        _ => return None,
    })
}

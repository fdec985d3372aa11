//! `broker topic`: lists, describes, creates, changes and drops the topics of a running broker, over the text protocol.

use super::show::{Names, To};
use crate::common::topic;
use anyhow::Result;
use clap::Subcommand;
use plainlog::client::{Answer, Error};
use std::process::ExitCode;

#[derive(Subcommand)]
pub(crate) enum Job {
    /// List the topics
    List {
        #[command(flatten)]
        to: To,
        /// List the broker's own topics too
        #[arg(long)]
        all: bool,
    },
    /// Create a topic
    #[command(allow_negative_numbers = true)]
    Create {
        #[command(flatten)]
        to: To,
        /// Its name
        #[arg(value_parser = topic)]
        topic: String,
        /// How many partitions [default: the broker's --default-partitions]
        #[arg(short, long, value_name = "N")]
        partitions: Option<u32>,
        /// A setting, such as retention.ms=1000; may be given several times
        #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = setting)]
        configs: Vec<String>,
        /// Succeed if the topic exists
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Show a topic's settings and partitions
    Describe {
        #[command(flatten)]
        to: To,
        /// Its name
        #[arg(value_parser = topic)]
        topic: String,
    },
    /// Change a topic's settings, or add partitions
    #[command(allow_negative_numbers = true)]
    Alter {
        #[command(flatten)]
        to: To,
        /// Its name
        #[arg(value_parser = topic)]
        topic: String,
        /// How many partitions it will have
        #[arg(short, long, value_name = "N")]
        partitions: Option<u32>,
        /// A setting, such as retention.ms=1000; an empty value restores the default; may be given several times
        #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = setting)]
        configs: Vec<String>,
    },
    /// Delete a topic and all its records
    Delete {
        #[command(flatten)]
        to: To,
        /// Its name
        #[arg(value_parser = topic)]
        topic: String,
    },
}

pub(crate) fn run(job: &Job) -> Result<ExitCode> {
    let (to, line) = match job {
        Job::List { to, all } => (to, format!("TOPICS{}", if *all { " all" } else { "" })),
        Job::Create { to, topic, partitions, configs, .. } => (to, wish("CREATE", topic, *partitions, configs)),
        Job::Describe { to, topic } => (to, format!("TOPIC {topic}")),
        Job::Alter { to, topic, partitions, configs } => (to, wish("ALTER", topic, *partitions, configs)),
        Job::Delete { to, topic } => (to, format!("DROP {topic}")),
    };
    let mut broker = to.connect()?;
    let answer = match (broker.ask(&line), job) {
        (Err(Error::Refused(refused)), Job::Create { topic, if_not_exists: true, .. })
            if refused.code == "TOPIC_ALREADY_EXISTS" =>
        {
            broker.ask(&format!("TOPIC {topic}")).map(|answer| Answer { lines: Vec::new(), ..answer })?
        }
        (answer, _) => answer?,
    };
    to.show(&answer, &NAMES)
}

fn wish(verb: &str, topic: &str, partitions: Option<u32>, configs: &[String]) -> String {
    let partitions = partitions.map(|count| format!(" partitions:{count}")).unwrap_or_default();
    let configs: String = configs.iter().map(|config| format!(" {config}")).collect();
    format!("{verb} {topic}{partitions}{configs}")
}

/// `NAME=VALUE` as a word of a line, `NAME:VALUE`.
fn setting(text: &str) -> Result<String, String> {
    if let Some(char) = text.chars().find(|char| char.is_whitespace() || char.is_control()) {
        return Err(format!("a setting has no {char:?}; write NAME=VALUE, and words of a list as a,b"));
    }
    let (name, value) = text.split_once('=').ok_or("it is no setting; write NAME=VALUE, such as retention.ms=1000")?;
    Ok(format!("{name}:{value}"))
}

/// Settings bear Kafka's names already.
const NAMES: Names = Names {
    fields: &[
        ("topic", "name"),
        ("id", "topicId"),
        ("partitions", "partitionCount"),
        ("partition", "partitionIndex"),
        ("first", "logStartOffset"),
        ("end", "logEndOffset"),
        ("stable", "lastStableOffset"),
        ("records", "recordCount"),
        ("bytes", "size"),
        ("segments", "segmentCount"),
    ],
    others: "configs",
    lines: |_| "partitions",
};

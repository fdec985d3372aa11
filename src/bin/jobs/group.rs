//! `broker group`: lists, describes and changes the consumer groups of a running broker, over the text protocol.

use super::show::{Names, To};
use crate::common::topic;
use anyhow::Result;
use clap::{Subcommand, builder::NonEmptyStringValueParser};
use plainlog::{client::Position, log::record::as_word};
use std::process::ExitCode;

#[derive(Subcommand)]
pub(crate) enum Job {
    /// List the groups
    List {
        #[command(flatten)]
        to: To,
    },
    /// Show a group's members, what it has committed, and its lag (- where nothing is committed)
    Describe {
        #[command(flatten)]
        to: To,
        /// Its name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        group: String,
    },
    /// Set the offsets of a group without members
    Reset {
        #[command(flatten)]
        to: To,
        /// Its name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        group: String,
        /// All partitions of a topic, or one: TOPIC/N
        #[arg(value_parser = topic_or_partition)]
        topic: String,
        /// earliest, latest, an offset N, -N (N messages before the end), 15m (that long ago; ms, s, m, h, d), or
        /// 2026-11-20T12:00:00Z (feature comfort)
        #[arg(allow_hyphen_values = true, value_parser = Position::parse)]
        position: Position,
    },
    /// Delete a group without members and everything it has committed
    Delete {
        #[command(flatten)]
        to: To,
        /// Its name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        group: String,
    },
}

pub(crate) fn run(job: &Job) -> Result<ExitCode> {
    let to = match job {
        Job::List { to } | Job::Describe { to, .. } | Job::Reset { to, .. } | Job::Delete { to, .. } => to,
    };
    let mut broker = to.connect()?;
    let line = match job {
        Job::List { .. } => "GROUPS".to_string(),
        Job::Describe { group, .. } => format!("GROUP {}", as_word(group)),
        Job::Delete { group, .. } => format!("RESET {}", as_word(group)),
        Job::Reset { group, topic, position, .. } => {
            // A topic that is not there is for the broker to refuse.
            let all = if topic.contains('/') { None } else { broker.partitions(topic)? };
            let places = match all {
                Some(count) => (0..count).map(|partition| format!(" {topic}/{partition} {position}")).collect(),
                None => format!(" {topic} {position}"),
            };
            format!("RESET {}{places}", as_word(group))
        }
    };
    to.show(&broker.ask(&line)?, &NAMES)
}

/// `TOPIC` or `TOPIC/N`
fn topic_or_partition(text: &str) -> Result<String, String> {
    let (name, partition) = text.split_once('/').unwrap_or((text, "0"));
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u32>().is_ok();
    if !number(partition) {
        return Err(format!("'{partition}' is not a partition number; write TOPIC or TOPIC/N"));
    }
    topic(name).map(|_| text.into())
}

const NAMES: Names = Names {
    fields: &[
        ("group", "groupId"),
        ("state", "groupState"),
        ("generation", "generationId"),
        ("members", "memberCount"),
        ("type", "groupType"),
        ("assignor", "assignorName"),
        ("assignment_epoch", "assignmentEpoch"),
        ("epoch", "memberEpoch"),
        ("target", "targetAssignment"),
        ("member", "memberId"),
        ("client", "clientId"),
        ("assigned", "assignment"),
        ("topic", "name"),
        ("partition", "partitionIndex"),
        ("committed", "committedOffset"),
        ("end", "logEndOffset"),
        ("lag", "lag"),
    ],
    others: "others",
    lines: |line| if line.starts_with("member:") { "members" } else { "partitions" },
};

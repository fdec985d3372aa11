//! `broker transaction`: lists, describes and aborts the transactions of a running broker, over the text protocol.

use super::show::{Names, To};
use anyhow::Result;
use clap::{Subcommand, builder::NonEmptyStringValueParser};
use plainlog::log::record::as_word;
use std::process::ExitCode;

#[derive(Subcommand)]
pub(crate) enum Job {
    /// List the transactional ids, those with an open transaction first
    List {
        #[command(flatten)]
        to: To,
    },
    /// Show a transactional id and the partitions of its transaction (- where it wrote nothing yet)
    Describe {
        #[command(flatten)]
        to: To,
        /// The transactional id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
    },
    /// Abort the open transaction of a producer that does not end it
    Abort {
        #[command(flatten)]
        to: To,
        /// The transactional id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
    },
}

pub(crate) fn run(job: &Job) -> Result<ExitCode> {
    let (to, line) = match job {
        Job::List { to } => (to, "TRANSACTIONS".to_string()),
        Job::Describe { to, id } => (to, format!("TRANSACTION {}", as_word(id))),
        Job::Abort { to, id } => (to, format!("ABORT {}", as_word(id))),
    };
    to.show(&to.connect()?.ask(&line)?, &NAMES)
}

const NAMES: Names = Names {
    fields: &[
        ("transaction", "transactionalId"),
        ("state", "transactionState"),
        ("producer_id", "producerId"),
        ("epoch", "producerEpoch"),
        ("timeout", "transactionTimeoutMs"),
        ("age", "ageMs"),
        ("partitions", "partitionCount"),
        ("topic", "name"),
        ("partition", "partitionIndex"),
        ("first", "firstOffset"),
    ],
    others: "others",
    lines: |_| "partitions",
};

//! `broker acl`: lists, adds and deletes the rules of a running broker, over the text protocol.

use super::show::{Names, To};
use anyhow::Result;
use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use plainlog::{
    log::record::as_word,
    security::{Operation, ResourceType},
};
use std::process::ExitCode;

#[derive(Subcommand)]
pub(crate) enum Job {
    /// Add a rule: --principal may do --operation to --topic, --group, --cluster or --transactional-id
    Add {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        rule: Rule,
    },
    /// List rules: all, or those with everything that is named
    List {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        rule: Rule,
        /// List the rules that are about what is named: its own, those of prefixes, and those of '*'
        #[arg(long = "match", conflicts_with = "prefixed")]
        matching: bool,
    },
    /// Delete the rules with everything that is named, and show them
    Delete {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        rule: Rule,
    },
}

/// What stands in a rule.
#[derive(Args)]
pub(crate) struct Rule {
    /// Whom it is about, such as User:alice; User:* is everybody
    #[arg(long, value_name = "User:NAME", value_parser = principal)]
    principal: Option<String>,
    /// What it is about: read, write, create, delete, alter, describe, describe-configs, alter-configs, idempotent-write, all
    #[arg(long, value_parser = operation)]
    operation: Option<Operation>,
    /// The topic; '*' is all of them
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), group = "resource")]
    topic: Option<String>,
    /// The group; '*' is all of them
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), group = "resource")]
    group: Option<String>,
    /// The broker itself
    #[arg(long, group = "resource")]
    cluster: bool,
    /// The transactional id; '*' is all of them
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new(), group = "resource")]
    transactional_id: Option<String>,
    /// The name is how names begin
    #[arg(long, requires = "resource")]
    prefixed: bool,
    /// It denies, which counts more than any rule that allows
    #[arg(long)]
    deny: bool,
    /// From where: an IP address
    #[arg(long, value_name = "ADDRESS", value_parser = NonEmptyStringValueParser::new())]
    host: Option<String>,
}

fn principal(text: &str) -> Result<String, String> {
    if text.contains(':') { Ok(text.into()) } else { Err(format!("a type and a name, such as User:{text}")) }
}

fn operation(text: &str) -> Result<Operation, String> {
    let names = || Operation::ALL.iter().map(|operation| operation.name()).collect::<Vec<_>>().join(", ");
    Operation::of_name(text).ok_or_else(|| format!("one of {}", names()))
}

pub(crate) fn run(job: &Job) -> Result<ExitCode> {
    let (to, line) = match job {
        Job::Add { to, rule } => (to, format!("ACL add{}", rule.words())),
        Job::List { to, rule, matching } => {
            (to, format!("ACL list{}{}", rule.words(), if *matching { " pattern:match" } else { "" }))
        }
        Job::Delete { to, rule } => (to, format!("ACL delete{}", rule.words())),
    };
    to.show(&to.connect()?.ask(&line)?, &NAMES)
}

impl Rule {
    /// What was named, as the protocol's words, each with a space before it.
    fn words(&self) -> String {
        let of = |kind: ResourceType, name: &Option<String>| Some((kind, name.clone()?));
        let cluster = self.cluster.then(|| (ResourceType::Cluster, plainlog::security::CLUSTER_NAME.to_string()));
        let resource = of(ResourceType::Topic, &self.topic)
            .or_else(|| of(ResourceType::Group, &self.group))
            .or_else(|| of(ResourceType::TransactionalId, &self.transactional_id))
            .or(cluster);
        let (kind, name) = resource.unzip();
        let fields = [
            ("resource", kind.map(|kind| kind.name().to_string())),
            ("name", name),
            ("pattern", self.prefixed.then(|| "prefixed".into())),
            ("principal", self.principal.clone()),
            ("host", self.host.clone()),
            ("operation", self.operation.map(|operation| operation.name().to_string())),
            ("permission", self.deny.then(|| "deny".into())),
        ];
        let word = |(field, value): (&str, Option<String>)| Some(format!(" {field}:{}", as_word(&value?)));
        fields.into_iter().filter_map(word).collect()
    }
}

const NAMES: Names = Names {
    fields: &[
        ("resource", "resourceType"),
        ("pattern", "patternType"),
        ("name", "resourceName"),
        ("principal", "principal"),
        ("host", "host"),
        ("operation", "operation"),
        ("permission", "permissionType"),
    ],
    others: "others",
    lines: |_| "acls",
};

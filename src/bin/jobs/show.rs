//! What the subcommands that ask a running broker share: which broker, and its answer as a table or as JSON.

use anyhow::Result;
use clap::Args;
use plainlog::client::{Answer, Connection};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Which broker, and in which form it answers.
#[derive(Args)]
pub(crate) struct To {
    #[command(flatten)]
    at: crate::addressing::At,
    /// Answer in JSON, with Kafka's names (feature comfort)
    #[arg(long)]
    json: bool,
}

/// What JSON calls the fields of an answer.
#[cfg_attr(not(feature = "comfort"), expect(dead_code, reason = "only JSON bears Kafka's names"))]
pub(crate) struct Names {
    /// Kafka's names for ours.
    pub(crate) fields: &'static [(&'static str, &'static str)],
    /// Where fields without a name there are gathered, as text.
    pub(crate) others: &'static str,
    /// What a line is one of.
    pub(crate) lines: fn(&str) -> &'static str,
}

impl To {
    /// Connects, unless the answer could not be shown.
    pub(crate) fn connect(&self) -> Result<Connection> {
        if self.json && !cfg!(feature = "comfort") {
            crate::common::usage_error::<crate::Cli>("--json needs the feature 'comfort', which this build is without");
        }
        Ok(Connection::open(self.at.target()?)?)
    }

    /// Prints an answer.
    pub(crate) fn show(&self, answer: &Answer, names: &Names) -> Result<ExitCode> {
        let text = if self.json { json(answer, names) } else { table(answer) };
        io::stdout().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The fields of a line; the first one may be a word of the protocol without a colon, which is none.
pub(super) fn fields(line: &str) -> Vec<(&str, &str)> {
    line.split(' ').filter_map(|word| word.split_once(':')).filter(|(name, _)| *name != "count").collect()
}

/// The first line's fields one below the other; the others as a table for each kind of line, with their names above.
fn table(answer: &Answer) -> String {
    let mut text: String = fields(&answer.first).iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let rows: Vec<_> = answer.lines.iter().map(|line| fields(line)).collect();
    for rows in rows.chunk_by(|a, b| kind(a) == kind(b)) {
        text += &columns(rows);
    }
    text
}

fn kind<'a>(row: &[(&'a str, &str)]) -> Option<&'a str> {
    row.first().map(|(name, _)| *name)
}

fn columns(rows: &[Vec<(&str, &str)>]) -> String {
    let Some(head) = rows.first() else { return String::new() };
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].1.len()).max().unwrap_or(0).max(head[column].0.len()))
        .collect();
    let line = |words: Vec<&str>| {
        let padded: Vec<_> = words.iter().zip(&widths).map(|(word, width)| format!("{word:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let above = line(head.iter().map(|(name, _)| *name).collect());
    let below: String = rows.iter().map(|row| line(row.iter().map(|(_, value)| *value).collect())).collect();
    above + &below
}

/// Fields that are text even where they look like a number.
#[cfg(feature = "comfort")]
const TEXTS: [&str; 12] = [
    "topic",
    "group",
    "member",
    "client",
    "assigned",
    "target",
    "transaction",
    "name",
    "principal",
    "host",
    "user",
    "password",
];

#[cfg(feature = "comfort")]
fn json(answer: &Answer, names: &Names) -> String {
    use plainlog::log::record::unescape;
    use serde_json::{Map, Value, json};
    let object = |line: &str| {
        let (mut object, mut others) = (Map::new(), Map::new());
        for (name, value) in fields(line) {
            let number = match value.parse::<i64>() {
                // The protocol escapes spaces and the like; JSON has its own way.
                _ if TEXTS.contains(&name) => {
                    let text = unescape(value.as_bytes()).unwrap_or_else(|_| value.as_bytes().into());
                    json!(String::from_utf8_lossy(&text))
                }
                Ok(number) => json!(number),
                Err(_) if value == "-" => Value::Null,
                Err(_) => json!(value),
            };
            match names.fields.iter().find(|(ours, _)| *ours == name) {
                Some((_, name)) => drop(object.insert((*name).into(), number)),
                None => drop(others.insert(name.into(), json!(value))),
            }
        }
        if !others.is_empty() {
            object.insert(names.others.into(), Value::Object(others));
        }
        Value::Object(object)
    };
    let value = match object(&answer.first) {
        Value::Object(first) if first.is_empty() && answer.first.contains(" count:") => {
            answer.lines.iter().map(|line| object(line)).collect()
        }
        mut first => {
            for line in &answer.lines {
                let lines = &mut first[(names.lines)(line)];
                match lines {
                    Value::Array(lines) => lines.push(object(line)),
                    _ => *lines = json!([object(line)]),
                }
            }
            first
        }
    };
    format!("{value:#}\n")
}

#[cfg(not(feature = "comfort"))]
fn json(_: &Answer, _: &Names) -> String {
    unreachable!("refused before the broker was asked")
}

//! `broker user`: lists, adds and deletes the users of a running broker, and gives them passwords, over the text protocol.

use super::show::{Names, To};
use crate::addressing::asking;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use plainlog::{client::read_password, log::record::as_word, security::password};
use std::{path::PathBuf, process::ExitCode};

#[derive(Subcommand)]
pub(crate) enum Job {
    /// Add a user
    Add {
        #[command(flatten)]
        to: To,
        /// The user's name
        name: String,
        #[command(flatten)]
        new: New,
    },
    /// List the users
    List {
        #[command(flatten)]
        to: To,
    },
    /// Give a user another password
    Password {
        #[command(flatten)]
        to: To,
        /// The user's name
        name: String,
        #[command(flatten)]
        new: New,
    },
    /// Delete a user, and end the connections that it has
    Delete {
        #[command(flatten)]
        to: To,
        /// The user's name
        name: String,
    },
}

/// The new password.
#[derive(Args)]
#[group(id = "new")]
pub(crate) struct New {
    /// A file whose first line is the new password [default: it is asked for]
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    new_password_file: Option<PathBuf>,
    /// Make one that nobody can guess, and print it
    #[arg(long)]
    generate: bool,
}

impl New {
    /// The password of this user.
    fn password(&self, name: &str) -> Result<String> {
        if let Some(path) = &self.new_password_file {
            return Ok(read_password(path)?);
        }
        if self.generate {
            return Ok(password::generated());
        }
        let password = asking::ask(&format!("New password of {name}"))?;
        if password != asking::ask("The same again")? {
            bail!("these were two passwords; nothing was changed");
        }
        Ok(password)
    }
}

pub(crate) fn run(job: &Job) -> Result<ExitCode> {
    let (to, line) = match job {
        Job::Add { to, name, new } => return set("add", to, name, new),
        Job::Password { to, name, new } => return set("password", to, name, new),
        Job::List { to } => (to, "USER list".into()),
        Job::Delete { to, name } => (to, format!("USER delete {}", as_word(name))),
    };
    to.show(&to.connect()?.ask(&line)?, &NAMES)
}

fn set(what: &str, to: &To, name: &str, new: &New) -> Result<ExitCode> {
    let mut broker = to.connect()?;
    if !broker.is_private() {
        bail!("others could read the new password on the way to the broker; speak TLS with it");
    }
    let password = new.password(name)?;
    let mut answer = broker.ask(&format!("USER {what} {} {password}", as_word(name)))?;
    if new.generate {
        answer.first += &format!(" password:{password}");
    }
    to.show(&answer, &NAMES)
}

const NAMES: Names = Names {
    fields: &[
        ("user", "name"),
        ("mechanisms", "mechanisms"),
        ("super", "super"),
        ("rules", "rules"),
        ("password", "password"),
    ],
    others: "others",
    lines: |_| "users",
};

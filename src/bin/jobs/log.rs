//! `broker log`: checks or prints a log on disk, without a running broker.

use anyhow::{Context, Result};
use clap::Subcommand;
use plainlog::{broker::verify_topic_files, log::inspect};
use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

#[derive(Subcommand)]
pub(crate) enum Job {
    /// Check every batch and topic file in a data directory; the exit status is 1 if one is damaged
    Verify {
        /// The data directory, or the folder of a topic or partition in it
        dir: PathBuf,
    },
    /// Print the batches of a partition and their lines
    Dump {
        /// Folder of a partition, such as data/messages/0
        dir: PathBuf,
    },
}

pub(crate) fn run(job: &Job) -> Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    match job {
        Job::Dump { dir } => {
            inspect::dump(dir, &mut out)?;
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Job::Verify { dir } => {
            let mut verified = inspect::verify(dir).with_context(|| dir.display().to_string())?;
            verified.damages.extend(verify_topic_files(dir).with_context(|| dir.display().to_string())?);
            for damage in &verified.damages {
                writeln!(out, "{damage}")?;
            }
            let (batches, partitions, damages) = (verified.batches, verified.partitions, verified.damages.len());
            writeln!(out, "{batches} batches in {partitions} partitions are whole, {damages} damages")?;
            out.flush()?;
            Ok(if damages == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

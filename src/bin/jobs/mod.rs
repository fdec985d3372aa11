//! The subcommands of `broker`.

#[cfg(feature = "users")]
pub(crate) mod acl;
pub(crate) mod diagram;
pub(crate) mod group;
pub(crate) mod log;
#[cfg(feature = "cluster")]
pub(crate) mod moving;
mod show;
pub(crate) mod topic;
pub(crate) mod transaction;
#[cfg(feature = "http")]
pub(crate) mod trial;
#[cfg(feature = "users")]
pub(crate) mod user;

use anyhow::Result;
use std::process::ExitCode;

/// Prints a completion script.
#[cfg(feature = "comfort")]
pub(crate) fn completions<Cli: clap::CommandFactory>(shell: &str) -> Result<ExitCode> {
    use clap::ValueEnum;
    let Ok(shell) = clap_complete::Shell::from_str(shell, true) else {
        super::common::usage_error::<Cli>(format!("'{shell}' is none of bash, elvish, fish, powershell, zsh"));
    };
    clap_complete::generate(shell, &mut Cli::command(), "broker", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}

/// Says which feature prints a completion script.
#[cfg(not(feature = "comfort"))]
pub(crate) fn completions<Cli: clap::CommandFactory>(_: &str) -> Result<ExitCode> {
    super::common::usage_error::<Cli>("completions need the feature 'comfort', which this build is without");
}

//! What the three programs share.

use clap::{CommandFactory, error::ErrorKind};
use plainlog::{broker::check_name, config::Address};
use std::{
    io::{self, Write},
    process,
};

/// Writes a line to stderr, if that is open.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The address of a broker, with its port.
pub(crate) fn address(text: &str) -> Result<String, String> {
    Address::to_connect_to(text).map(|address| address.to_string())
}

/// The name of a topic.
pub(crate) fn topic(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.into()).map_err(|error| error.to_string())
}

/// Ends the process with status 2 and this sentence.
pub(crate) fn usage_error<Args: CommandFactory>(why: impl std::fmt::Display) -> ! {
    Args::command().error(ErrorKind::InvalidValue, why).exit()
}

/// The first SIGINT or SIGTERM is passed on, the second ends the process.
pub(crate) fn on_interrupt(interrupt: impl Fn() + Send + 'static) -> Result<(), ctrlc::Error> {
    let mut interrupted = false;
    ctrlc::set_handler(move || {
        if std::mem::replace(&mut interrupted, true) {
            process::exit(130);
        }
        interrupt();
    })
}

/// Whether the error is a closed stdout, which is a normal end.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

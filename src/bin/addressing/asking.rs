//! Passwords that are asked for on the terminal, which does not show them.

use anyhow::{Context, Result, bail};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
};

/// Asks for a password, which stands for `what`.
pub(crate) fn ask(what: &str) -> Result<String> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let mut terminal = terminal.context("there is no terminal to ask for a password; give it in a file")?;
    write!(terminal, "{what}: ")?;
    let mut line = String::new();
    let hidden = Hidden::begin(&terminal)?;
    let read = BufReader::new(&terminal).read_line(&mut line);
    drop(hidden);
    writeln!(terminal)?;
    read?;
    let password = line.trim_end_matches(['\n', '\r']);
    // What would interrupt is a letter like others meanwhile, so that the terminal is left as it was.
    if password.is_empty() || password.contains(char::is_control) {
        bail!("that was no password");
    }
    Ok(password.into())
}

/// A terminal that shows nothing, until this is dropped.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl Hidden<'_> {
    fn begin(terminal: &File) -> Result<Hidden<'_>> {
        let before = tcgetattr(terminal)?;
        let mut after = before.clone();
        after.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &after)?;
        Ok(Hidden { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // If it fails there is no terminal any more.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

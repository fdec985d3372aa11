//! Shows how far a long job has come, on stderr if that is a terminal.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// A bar of the bytes of a file, or a count where the end is not known. Nothing if stderr is no terminal, or in a build
/// without the feature `comfort`.
#[derive(Debug)]
pub struct Progress {
    #[cfg(feature = "comfort")]
    bar: indicatif::ProgressBar,
}

#[cfg(feature = "comfort")]
impl Progress {
    /// Begins at 0 of this many bytes.
    pub fn begin(bytes: Option<u64>) -> Progress {
        use indicatif::{ProgressBar, ProgressStyle};
        let template = match bytes {
            Some(_) => "{bar:30} {percent:>3}%  {msg}  {elapsed}",
            None => "{spinner} {msg}  {elapsed}",
        };
        let bar = bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
        Progress { bar }
    }

    /// So far.
    pub fn show(&self, bytes: u64, messages: u64) {
        self.show_with(bytes, messages, "");
    }

    /// The same, with something more behind it.
    pub fn show_with(&self, bytes: u64, messages: u64, more: impl Display) {
        if !self.bar.is_hidden() {
            let rate = messages as f64 / self.bar.elapsed().as_secs_f64().max(1e-3);
            self.bar.set_message(format!("{messages} messages, {rate:.0}/s{more}"));
            self.bar.set_position(bytes);
        }
    }

    /// A line above the bar.
    pub fn say(&self, line: impl Display) {
        self.bar.suspend(|| write_line(line));
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(not(feature = "comfort"))]
#[allow(missing_docs)]
impl Progress {
    pub fn begin(_bytes: Option<u64>) -> Progress {
        Progress {}
    }

    pub fn show(&self, _bytes: u64, _messages: u64) {}

    pub fn show_with(&self, _bytes: u64, _messages: u64, _more: impl Display) {}

    pub fn say(&self, line: impl Display) {
        write_line(line);
    }

    pub fn end(&self) {}
}

/// Nobody has to read it.
fn write_line(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

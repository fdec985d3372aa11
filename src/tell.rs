//! Messages to the operator, on stderr. If stderr is closed they are dropped: that is no reason to fail.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Says one line.
pub(crate) fn tell(line: impl Display) {
    // If the operator does not listen, there is nobody else to tell.
    drop(writeln!(io::stderr(), "{line}"));
}

//! Lines to the operator, on stderr. Nobody has to read them: a stderr that was closed is no reason to fail.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Says one line.
pub(crate) fn tell(line: impl Display) {
    // Where the operator does not listen, there is nobody else to be told.
    drop(writeln!(io::stderr(), "{line}"));
}

//! How it is seen that a file is another than the one that was read.

use std::{fs, path::Path, time::SystemTime};

/// What two files differ in, or one before and after it was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Stamp {
    /// That of a file; `None`: there is none.
    pub(super) fn of(file: &Path) -> Option<Stamp> {
        let metadata = fs::metadata(file).ok()?;
        Some(Stamp { modified: metadata.modified().ok(), length: metadata.len() })
    }
}

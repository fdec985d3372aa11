//! What every part of a broker shares: the disk, the clock, the flush mode, the chores, and the identity that `~broker` keeps.
//!
//! ```text
//! cluster.id:Nk018hRAQFytWskYqtQduw
//! producer.ids:2000
//! clean:yes
//! ```
//!
//! `clean:yes` stands there from a clean stop to the first append: a start that finds it has nothing to check.

use super::{
    Clock, Error, Result,
    chores::Chores,
    random,
    small_file::{Line, Lines, Text},
};
use crate::{
    config::{Flush, Settings},
    log::{
        disk::{self, Disk},
        handles::Handles,
    },
};
use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::*},
    },
};

/// What every part of a broker shares.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) handles: Arc<Handles>,
    pub(super) data_dir: PathBuf,
    pub(super) clock: Clock,
    pub(super) flush: Flush,
    pub(super) topic_defaults: Settings,
    /// Whether the broker that wrote the log last stopped cleanly.
    pub(super) was_clean: bool,
    /// Whether `~broker` says so still; gone before the first append.
    pub(super) says_clean: AtomicBool,
    pub(super) identity: Mutex<Identity>,
    pub(super) chores: Chores,
}

/// What `~broker` keeps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Identity {
    pub(super) cluster_id: String,
    /// The next producer id, and the first that is not in the block taken.
    pub(super) producer_ids: Range<i64>,
}

/// The file's name.
const FILE: &str = "~broker";
/// The largest such file.
const BYTES_MAX: u64 = 64 << 10;
/// Producer ids that are taken at once.
const PRODUCER_IDS: i64 = 1000;

impl Env {
    /// Tells the operator.
    pub(super) fn tell(&self, what: &str) {
        crate::tell::tell(format_args!("{what}"));
    }

    /// From here on the log is being written, and a crash would leave it so.
    pub(super) fn begin_writing(&self) -> Result<()> {
        if self.says_clean.load(Acquire) {
            let identity = self.identity.lock().expect("no panic while ~broker is written");
            if self.says_clean.load(Acquire) {
                self.store(&identity, false).map_err(|error| Error::Storage(format!("~broker: {error}")))?;
                self.says_clean.store(false, Release);
            }
        }
        Ok(())
    }

    pub(super) fn new_producer_id(&self) -> Result<i64> {
        let mut identity = self.identity.lock().expect("no panic while ~broker is written");
        if identity.producer_ids.is_empty() {
            let mut next = identity.clone();
            next.producer_ids.end += PRODUCER_IDS;
            self.store(&next, self.says_clean.load(Acquire))
                .map_err(|error| Error::Storage(format!("~broker: {error}")))?;
            *identity = next;
        }
        Ok(identity.producer_ids.next().expect("a block was taken"))
    }

    pub(super) fn store(&self, identity: &Identity, clean: bool) -> io::Result<()> {
        disk::replace(self.handles.disk(), &self.data_dir.join(FILE), identity.lines(clean).bytes(BYTES_MAX)?)
    }
}

impl Identity {
    fn lines(&self, clean: bool) -> Lines {
        let mut lines = Lines::default();
        lines.push(&[("cluster.id", &self.cluster_id)]);
        lines.push(&[("producer.ids", &self.producer_ids.end)]);
        if clean {
            lines.push(&[("clean", &"yes")]);
        }
        lines
    }

    /// What the lines of a file say, and whether the last stop was clean. An error is the first line that is wrong.
    fn parse(text: &Text) -> std::result::Result<(Identity, bool), Line<'_>> {
        let mut identity = Identity { cluster_id: random::shown(&random::uuid()), producer_ids: 0..0 };
        let mut clean = false;
        for line in text.lines() {
            let (name, value) = line.field().ok_or(line)?;
            match (name.as_str(), value.as_str()) {
                ("cluster.id", id) if !id.is_empty() => identity.cluster_id = value,
                ("producer.ids", end) => {
                    let end = end.parse().ok().filter(|&end: &i64| end >= 0).ok_or(line)?;
                    identity.producer_ids = end..end;
                }
                ("clean", "yes") => clean = true,
                _ => return Err(line),
            }
        }
        Ok((identity, clean))
    }
}

/// What `~broker` says, and whether the last stop was clean. A new data directory gets an identity.
pub(super) fn read_identity(disk: &dyn Disk, data_dir: &Path) -> Result<(Identity, bool)> {
    let path = data_dir.join(FILE);
    let text = Text::read(disk, &path, BYTES_MAX)
        .map_err(|error| Error::Storage(format!("{}: {error}", path.display())))?
        .unwrap_or_default();
    Identity::parse(&text).map_err(|line| {
        let why = "is no line of it; mend it, or remove the file, and the cluster gets a new id";
        Error::Storage(line.error(&path, why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::MemoryDisk;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Result<(Identity, bool)> {
        let disk = MemoryDisk::default();
        disk.create(Path::new(FILE)).unwrap().write_at(text, 0).unwrap();
        read_identity(&disk, Path::new(""))
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for line in ["x", "x:y", "clean:no", "producer.ids:-1", "producer.ids:9223372036854775808", "cluster.id:"] {
            let Err(Error::Storage(why)) = read(format!("cluster.id:a\n{line}\n").as_bytes()) else { panic!("{line}") };
            assert!(
                why.starts_with(&format!("~broker, line 2: '{line}' is no line of it; mend it, or remove")),
                "{why}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_read_back(cluster_id in "\\PC+|[\\s\\S]+", next in 0..i64::MAX, clean: bool) {
            let identity = Identity { cluster_id, producer_ids: next..next };
            let found = read(identity.lines(clean).bytes(BYTES_MAX).unwrap()).unwrap();
            prop_assert_eq!(found, (identity, clean));
        }
    }
}

//! What every part of a broker shares: the disk, the clock, the flush mode, the chores, and the identity that `~broker` keeps.
//!
//! ```text
//! cluster.id:Nk018hRAQFytWskYqtQduw
//! producer.ids:2000
//! clean:yes
//! ```
//!
//! `clean:yes` stands there from a clean stop to the first append: a start that finds it has nothing to check.

use super::{Clock, Error, Result, chores::Chores, random};
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
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) cluster_id: String,
    /// The next producer id, and the first that is not in the block taken.
    pub(super) producer_ids: Range<i64>,
}

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
        let clean = if clean { "clean:yes\n" } else { "" };
        let text = format!("cluster.id:{}\nproducer.ids:{}\n{clean}", identity.cluster_id, identity.producer_ids.end);
        disk::replace(self.handles.disk(), &self.data_dir.join("~broker"), text.as_bytes())
    }
}

/// What `~broker` says, and whether the last stop was clean. A new data directory gets an identity.
pub(super) fn read_identity(disk: &dyn Disk, data_dir: &Path) -> Result<(Identity, bool)> {
    let text = match disk::read_small(disk, &data_dir.join("~broker"), 64 << 10) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::Storage(format!("~broker: {error}"))),
    };
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let producer_ids = field("producer.ids").and_then(|end| end.parse().ok()).unwrap_or(0);
    let cluster_id = field("cluster.id").map_or_else(|| random::shown(&random::uuid()), String::from);
    Ok((Identity { cluster_id, producer_ids: producer_ids..producer_ids }, field("clean") == Some("yes")))
}

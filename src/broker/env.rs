//! What all parts of a broker share: the disk, the clock, the flush mode, the work of the broker's own threads, and what
//! the `~broker` file keeps.
//!
//! ```text
//! cluster.id:Nk018hRAQFytWskYqtQduw
//! producer.ids:2000
//! clean:yes
//! unclean:orders/3
//! ```
//!
//! `clean:yes` stands there from a clean stop until the first append, or the first change of one of the broker's own files. A start
//! that finds it has nothing to check, except for what is named `unclean`: partitions that were offline or could not be synced, and
//! files of which nobody knows what is durable.

use super::{
    Clock, Error, Result,
    dynamic_configs::{self, DynamicConfigs},
    features::FeatureLevels,
    flusher::Flusher,
    kept::{Content, Kept},
    random,
    reserve::Reserve,
    schedule::Schedule,
    security_file::{self, Security},
    small_file::{Line, Lines, OWN_BYTES_MAX, Text, at},
};
use crate::{
    config::{Config, Flush, Settings},
    log::{
        disk::{self, Disk},
        handles::Handles,
    },
    security::Meters,
};
use std::{
    collections::BTreeSet,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::*},
    },
    time::Duration,
};

/// What every part of a broker shares.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) handles: Arc<Handles>,
    pub(super) data_dir: PathBuf,
    pub(super) clock: Clock,
    pub(super) flush: Flush,
    /// What was set while a broker ran.
    pub(super) configs: DynamicConfigs,
    pub(super) features: Kept<FeatureLevels>,
    /// Who may come in, and what for.
    pub(super) security: Kept<Security>,
    /// What was used of the quotas.
    pub(super) meters: Meters,
    /// How the broker ended that wrote the log last.
    stop: Stop,
    /// What the file says.
    identity: Mutex<Identity>,
    /// Whether it has to say something else before the first append.
    stale: AtomicBool,
    /// What must not be called clean at the stop, however that goes: all of these topics, and these files of the broker's own.
    in_doubt: Mutex<BTreeSet<String>>,
    /// Room for a `topic` file, and for a `.producers` file, on a full disk.
    pub(super) topic_reserve: Reserve,
    pub(super) producers_reserve: Reserve,
    pub(super) retention_check_interval: Duration,
    pub(super) flusher: Flusher,
    pub(super) schedule: Schedule,
}

/// What `~broker` says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Identity {
    pub(super) cluster_id: String,
    /// The next producer id, and the first that is not in the block taken.
    pub(super) producer_ids: Range<i64>,
    pub(super) stop: Stop,
}

/// How a broker ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stop {
    /// By a crash, or not yet: every log may have a torn tail.
    Unclean,
    /// With everything synced but these: a partition, as `<topic>/<p>`, all of a topic, or a file of the broker's own.
    CleanBut(BTreeSet<String>),
}

/// The file's name.
const FILE: &str = "~broker";
/// The broker's own files.
const OWN_FILES: [&str; 4] = [FILE, dynamic_configs::FILE, FeatureLevels::FILE, Security::FILE];
/// Those of them that nobody else may read.
const PRIVATE_FILES: [&str; 1] = [Security::FILE];

/// How large one of the broker's own files may be.
fn bytes_max(file: &str) -> u64 {
    if file == Security::FILE { Security::BYTES_MAX } else { OWN_BYTES_MAX }
}
/// When more partitions could not be synced, the stop was not clean.
const UNCLEAN_MAX: usize = 1000;
/// Producer ids that are taken at once.
const PRODUCER_IDS: i64 = 1000;

impl Env {
    /// What the parts of the broker in `config.data_dir` share. A new data directory gets an identity.
    pub(super) fn new(disk: Arc<dyn Disk>, data_dir: PathBuf, config: &Config, clock: Clock) -> Result<Env> {
        let found = Identity::read(&*disk, &data_dir)?;
        let configs = DynamicConfigs::read(&*disk, &data_dir, &config.topic_defaults)?;
        let features = Kept::read(&*disk, &data_dir)?;
        let (security, is_old) = Security::read(&*disk, &data_dir)?;
        // Before anything is written.
        security.get().check(config, &data_dir)?;
        let is_new = found.is_none();
        let identity = found.unwrap_or_else(Identity::new);
        let reserve = |name: &str| Reserve::new(config.data_dir.is_some().then(|| data_dir.join(name)));
        let (topic_reserve, producers_reserve) = (reserve("~reserve-topic"), reserve("~reserve-producers"));
        let env = Env {
            handles: Arc::new(Handles::new(disk, config.open_files_max)),
            data_dir,
            clock,
            flush: config.flush,
            configs,
            features,
            security,
            meters: Meters::default(),
            stop: identity.stop.clone(),
            stale: AtomicBool::new(is_new || identity.stop != Stop::Unclean),
            identity: Mutex::new(identity),
            in_doubt: Mutex::default(),
            topic_reserve,
            producers_reserve,
            retention_check_interval: config.retention_check_interval,
            flusher: Flusher::default(),
            schedule: Schedule::default(),
        };
        env.measure_by_quotas();
        // There may be topics that can be read, whatever fails here.
        let tell = |error: Error| env.tell(&error.to_string());
        if is_new {
            env.begin_writing().unwrap_or_else(tell);
        } else {
            // Each for itself: one that fails says nothing of the others.
            OWN_FILES.iter().for_each(|file| env.remake(file).unwrap_or_else(tell));
        }
        env.take_over(is_old).unwrap_or_else(tell);
        Ok(env)
    }

    /// The quotas that are kept take effect.
    pub(super) fn measure_by_quotas(&self) {
        self.meters.replace(|| self.security.get().quotas.clone());
    }

    /// Takes over what brokers before kept in other files, if it was read from there.
    fn take_over(&self, is_old: bool) -> Result<()> {
        if is_old {
            self.replace(Security::FILE, &self.security.get().lines())?;
        }
        for file in security_file::OLD_FILES {
            let path = self.data_dir.join(file);
            match self.handles.disk().remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::of_disk(&at(&path)(error))),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes one of the broker's own files again that need not be durable after an unclean stop, though what it says is in force:
    /// the broker before may have died, or failed, between the new file's name and the sync of it.
    fn remake(&self, file: &str) -> Result<()> {
        if self.was_file_clean(file) {
            return Ok(());
        }
        let path = self.data_dir.join(file);
        let text = Text::of_broker(self.handles.disk(), &path, bytes_max(file)).inspect_err(|_| self.doubt(file))?;
        match text {
            Some(text) => self.put(file, text.bytes()),
            None => Ok(()),
        }
    }

    /// Replaces one of the broker's own files, durably. After an error it says what it said before.
    pub(super) fn replace(&self, file: &str, lines: &Lines) -> Result<()> {
        let too_large = |why: io::Error| Error::InvalidConfig(format!("{file} would be too large: {why}"));
        let bytes = lines.bytes(bytes_max(file)).map_err(too_large)?;
        // A crash can leave it in doubt.
        self.begin_writing()?;
        self.put(file, bytes)
    }

    /// Changes what one of them keeps, durably. After an error all is as it was.
    pub(super) fn change_kept<T: Content>(&self, kept: &Kept<T>, change: impl FnOnce(&mut T)) -> Result<()> {
        self.try_change_kept(kept, |content| {
            change(content);
            Ok(())
        })
    }

    /// The same of a change that can be refused.
    pub(super) fn try_change_kept<T: Content, R>(
        &self,
        kept: &Kept<T>,
        change: impl FnOnce(&mut T) -> Result<R>,
    ) -> Result<R> {
        kept.change(change, |lines| self.replace(T::FILE, lines))
    }

    fn put(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let path = self.data_dir.join(file);
        let replace = if PRIVATE_FILES.contains(&file) { disk::replace_private } else { disk::replace };
        let put = replace(self.handles.disk(), &path, bytes).inspect_err(|_| self.doubt(file));
        put.map_err(|error| Error::of_disk(&at(&path)(error)))
    }

    /// The settings of a topic that has none of its own.
    pub(super) fn topic_defaults(&self) -> Arc<Settings> {
        self.configs.topic_defaults()
    }

    /// The time of day after this time, in ms.
    pub(super) fn in_ms(&self, time: Duration) -> i64 {
        self.clock.now_ms().saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
    }

    /// How long it is to this time of day; nothing if that is over.
    pub(super) fn until(&self, at_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(at_ms.saturating_sub(self.clock.now_ms())).unwrap_or(0))
    }

    /// Makes the reserves for a full disk whole, as far as there is room.
    pub(super) fn fill_reserves(&self) -> io::Result<()> {
        let disk = self.handles.disk();
        self.topic_reserve.fill(disk).and(self.producers_reserve.fill(disk))
    }

    /// Makes the reserves whole once there may be room again.
    pub(super) fn refill_reserves(&self) {
        // There may be none yet.
        drop(self.fill_reserves());
    }

    /// Tells the operator.
    pub(super) fn tell(&self, what: &str) {
        crate::tell::tell(format_args!("{what}"));
    }

    /// Whether the broker that wrote this topic's file last, or this file of its own, left it durable when it stopped.
    pub(super) fn was_file_clean(&self, name: &str) -> bool {
        matches!(&self.stop, Stop::CleanBut(unclean) if !unclean.contains(name))
    }

    /// Whether the broker that wrote this partition last synced it when it stopped.
    pub(super) fn was_clean(&self, topic: &str, partition: u32) -> bool {
        match &self.stop {
            Stop::Unclean => false,
            Stop::CleanBut(unclean) if unclean.is_empty() => true,
            Stop::CleanBut(unclean) => !unclean.contains(topic) && !unclean.contains(&format!("{topic}/{partition}")),
        }
    }

    /// What of a topic whose partitions nobody could open was not clean, and is not yet.
    pub(super) fn still_unclean(&self, topic: &str) -> BTreeSet<String> {
        let is_of_topic = |name: &&String| name.split('/').next() == Some(topic);
        match &self.stop {
            Stop::Unclean => BTreeSet::from([topic.into()]),
            Stop::CleanBut(unclean) => unclean.iter().filter(is_of_topic).cloned().collect(),
        }
    }

    /// The cluster's id.
    pub(super) fn cluster_id(&self) -> String {
        self.identity().cluster_id.clone()
    }

    fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().expect("no panic while ~broker is written")
    }

    /// From here on the log is being written, and a crash would leave it so.
    pub(super) fn begin_writing(&self) -> Result<()> {
        if self.stale.load(Acquire) {
            let mut identity = self.identity();
            if self.stale.load(Acquire) {
                self.change(&mut identity, |next| next.stop = Stop::Unclean)?;
                self.stale.store(false, Release);
            }
        }
        Ok(())
    }

    /// Nobody knows what the next start finds of this topic, or of this file of the broker's own: it has to look.
    pub(super) fn doubt(&self, name: &str) {
        self.in_doubt.lock().expect("no panic while a name is added").insert(name.into());
    }

    /// All is synced but these partitions, and what is in doubt: the next start has nothing else to check.
    pub(super) fn end_writing(&self, mut unclean: BTreeSet<String>) -> Result<()> {
        unclean.extend(self.in_doubt.lock().expect("no panic while a name is added").iter().cloned());
        let stop = if unclean.len() > UNCLEAN_MAX { Stop::Unclean } else { Stop::CleanBut(unclean) };
        let mut identity = self.identity();
        if identity.stop == stop { Ok(()) } else { self.change(&mut identity, |next| next.stop = stop) }
    }

    pub(super) fn new_producer_id(&self) -> Result<i64> {
        let mut identity = self.identity();
        if identity.producer_ids.is_empty() {
            self.change(&mut identity, |next| next.producer_ids.end += PRODUCER_IDS)?;
        }
        Ok(identity.producer_ids.next().expect("a block was taken"))
    }

    /// Whether a producer has, or had, this id.
    pub(super) fn has_given(&self, producer_id: i64) -> bool {
        (0..self.identity().producer_ids.start).contains(&producer_id)
    }

    fn change(&self, identity: &mut Identity, change: impl FnOnce(&mut Identity)) -> Result<()> {
        let mut next = identity.clone();
        change(&mut next);
        let lines = next.lines();
        self.put(FILE, lines.bytes(OWN_BYTES_MAX).map_err(|error| Error::of_disk(&at(Path::new(FILE))(error)))?)?;
        *identity = next;
        Ok(())
    }
}

impl Identity {
    fn new() -> Identity {
        Identity { cluster_id: random::shown(&random::uuid()), producer_ids: 0..0, stop: Stop::Unclean }
    }

    fn read(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Identity>> {
        let path = data_dir.join(FILE);
        let text = Text::of_broker(disk, &path, OWN_BYTES_MAX)?;
        let parsed = text.as_ref().map(Identity::parse).transpose();
        parsed.map_err(|line| {
            let why = "is no line of it; mend it, or remove the file, and the cluster gets a new id";
            Error::Storage(line.error(&path, why))
        })
    }

    fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        lines.push(&[("cluster.id", &self.cluster_id)]);
        lines.push(&[("producer.ids", &self.producer_ids.end)]);
        if let Stop::CleanBut(unclean) = &self.stop {
            lines.push(&[("clean", &"yes")]);
            unclean.iter().for_each(|partition| lines.push(&[("unclean", partition)]));
        }
        lines
    }

    /// What the lines of a file say. An error is the first line that is wrong.
    fn parse(text: &Text) -> std::result::Result<Identity, Line<'_>> {
        let (mut identity, mut clean, mut unclean) = (Identity::new(), false, BTreeSet::new());
        for line in text.lines() {
            let (name, value) = line.field().ok_or(line)?;
            match (name.as_str(), value.as_str()) {
                ("cluster.id", id) if !id.is_empty() => identity.cluster_id = value,
                ("producer.ids", end) => {
                    let end = end.parse().ok().filter(|&end: &i64| end >= 0).ok_or(line)?;
                    identity.producer_ids = end..end;
                }
                ("clean", "yes") => clean = true,
                ("unclean", _) => drop(unclean.insert(value)),
                _ => return Err(line),
            }
        }
        if clean {
            identity.stop = Stop::CleanBut(unclean);
        }
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::{Call, Fault, MemoryDisk, Survivors};
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Result<Option<Identity>> {
        let disk = MemoryDisk::default();
        disk.create(Path::new(FILE)).unwrap().write_at(text, 0).unwrap();
        Identity::read(&disk, Path::new(""))
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
        assert_eq!(Identity::read(&MemoryDisk::default(), Path::new("")), Ok(None));
    }

    #[test]
    fn after_a_crash_each_own_file_is_durable_or_in_doubt_whatever_becomes_of_the_others() {
        let files = [(FILE, "cluster.id:a\n"), (FeatureLevels::FILE, "epoch:1\n")];
        for call in [Call::Read, Call::Any] {
            for nth in 1.. {
                let (disk, dir) = (MemoryDisk::crashable(), Path::new("memory"));
                disk::make_dir(&disk, dir).unwrap();
                for (file, text) in files {
                    disk.create(&dir.join(file)).unwrap().write_at(text.as_bytes(), 0).unwrap();
                }
                disk.fault(call, nth, Fault::Error);
                let env = Env::new(Arc::new(disk.clone()), dir.into(), &Config::in_memory(), Clock::System);
                // What cannot be read at all refuses the start.
                let Ok(env) = env else { continue };
                let in_doubt = env.in_doubt.lock().unwrap().clone();
                let found = disk.reboot(Survivors::Nothing);
                for (file, text) in files.iter().filter(|(file, _)| !in_doubt.contains(*file)) {
                    let kept = disk::read_small(&found, &dir.join(file), OWN_BYTES_MAX).unwrap();
                    assert_eq!(String::from_utf8(kept).unwrap(), *text, "{file}, {call:?} {nth}");
                }
                assert!(in_doubt.len() <= 1, "{in_doubt:?}, {call:?} {nth}");
                if disk.faults_left() > 0 {
                    assert!(in_doubt.is_empty() && nth > 5, "{call:?} {nth}");
                    break;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_read_back(
            cluster_id in "\\PC+|[\\s\\S]+",
            next in 0..i64::MAX,
            unclean in prop::option::of(prop::collection::btree_set(any::<String>(), 0..5)),
        ) {
            let stop = unclean.map_or(Stop::Unclean, Stop::CleanBut);
            let identity = Identity { cluster_id, producer_ids: next..next, stop };
            prop_assert_eq!(read(identity.lines().bytes(OWN_BYTES_MAX).unwrap()), Ok(Some(identity)));
        }
    }
}

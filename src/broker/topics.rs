//! The topics there are: found on disk, made, dropped.
//!
//! A topic whose `topic` file cannot be read is there, and offline: nothing is read or written, its name is taken, and it
//! can be dropped. If it was the disk that failed, whoever asks for the topic tries again.

use super::{
    BrokerState, Env, Error, Partition, Result, check_name, random,
    small_file::at,
    topic::Topic,
    topic_file::{CannotRead, PARTITIONS_MAX, TopicFile},
};
use crate::{
    config::{Described, Overrides, Settings, canonical},
    log::disk::{Disk, FileDisk},
};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
    sync::Arc,
};

/// The topics, by name and by id.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_name: BTreeMap<String, std::result::Result<Arc<Topic>, Offline>>,
    by_id: HashMap<[u8; 16], Arc<Topic>>,
}

/// Why there is a topic and nothing can be done with it.
#[derive(Debug)]
struct Offline {
    why: String,
    /// Whether reading its file again may mend it.
    is_unread: bool,
}

impl Topics {
    /// The topics on disk: every folder with a legal name. Removes what a crash left of CREATE and DROP.
    pub(super) fn read(env: &Arc<Env>) -> Result<Topics> {
        let disk = env.handles.disk();
        let failed = |error: io::Error| Error::Storage(format!("{}: {error}", env.data_dir.display()));
        let mut topics = Topics::default();
        for name in disk.list(&env.data_dir).map_err(failed)? {
            let path = env.data_dir.join(&name.name);
            if name.name.starts_with("~new-") || name.name.starts_with("~drop-") {
                if let Err(error) = disk.remove_dir(&path) {
                    env.tell(&format!("{}: cannot be removed: {error}", path.display()));
                }
            } else if name.is_dir && check_name(&name.name).is_ok() && !is_of_tls(env, &path) {
                topics.read_one(env, &name.name)?;
            }
        }
        Ok(topics)
    }

    fn read_one(&mut self, env: &Arc<Env>, name: &str) -> Result<()> {
        let (disk, dir) = (env.handles.disk(), env.data_dir.join(name));
        let path = dir.join("topic");
        let mut file = match TopicFile::read(disk, &path, &env.topic_defaults()) {
            Ok(Some(file)) => file,
            Ok(None) => match adopt(env, &dir) {
                Ok(file) => file,
                Err(CannotRead { why, disk_failed: false }) => {
                    env.tell(&format!("{} is left alone: {why}", dir.display()));
                    return Ok(());
                }
                Err(CannotRead { why, .. }) => {
                    self.take_offline(env, name, Offline { why, is_unread: true });
                    return Ok(());
                }
            },
            Err(CannotRead { why, disk_failed: is_unread }) => {
                let advice = "; mend the file and restart the broker, or delete the topic";
                let why = if is_unread { why } else { why + advice };
                self.take_offline(env, name, Offline { why, is_unread });
                return Ok(());
            }
        };
        if let Some(other) = self.by_id.get(&file.id) {
            // Somebody copied a topic's folder. Clients that go by the id must not get one for the other.
            file.id = random::uuid();
            env.tell(&format!("{}: the id is that of topic {}; it gets one of its own", path.display(), other.name));
            if let Err(error) = file.write(disk, &path) {
                env.tell(&format!("{}: {error}", path.display()));
            }
        }
        self.insert(Topic::new(env, name, file, env.was_file_clean(name))?);
        Ok(())
    }

    pub(super) fn insert(&mut self, topic: Arc<Topic>) {
        self.by_id.insert(topic.id, topic.clone());
        self.by_name.insert(topic.name.clone(), Ok(topic));
    }

    fn remove(&mut self, name: &str) {
        if let Some(Ok(topic)) = self.by_name.remove(name) {
            self.by_id.remove(&topic.id);
        }
    }

    fn take_offline(&mut self, env: &Env, name: &str, offline: Offline) {
        env.tell(&format!("topic {name} is offline: {}", offline.why));
        self.remove(name);
        self.by_name.insert(name.into(), Err(offline));
    }

    fn is_unread(&self, name: &str) -> bool {
        matches!(self.by_name.get(name), Some(Err(Offline { is_unread: true, .. })))
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Result<&Arc<Topic>> {
        match self.by_name.get(name) {
            Some(Ok(topic)) => Ok(topic),
            Some(Err(Offline { why, .. })) => Err(Error::Storage(format!("topic '{name}' is offline: {why}"))),
            None => Err(Error::UnknownTopic(crate::log::record::shown(name.as_bytes()))),
        }
    }

    pub(super) fn by_id(&self, id: &[u8; 16]) -> Option<&Arc<Topic>> {
        self.by_id.get(id)
    }

    /// Those that are not offline, by name.
    pub(super) fn online(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values().flatten()
    }

    /// The names of those that are offline.
    pub(super) fn offline(&self) -> impl Iterator<Item = &str> {
        self.by_name.iter().filter_map(|(name, topic)| topic.is_err().then_some(name.as_str()))
    }

    /// All names, with the topic or the error of one that is offline.
    pub(super) fn all(&self) -> BTreeMap<String, Result<Arc<Topic>>> {
        self.by_name.keys().map(|name| (name.clone(), self.get(name).cloned())).collect()
    }
}

/// Whether a folder is that of `--tls-self-signed`, which is no topic's.
fn is_of_tls(env: &Env, dir: &Path) -> bool {
    let names = env.handles.disk().list(dir).unwrap_or_default();
    let has = |wanted: &str| names.iter().any(|name| name.name == wanted);
    dir.ends_with("tls") && has("ca.pem") && !has("topic")
}

/// A folder without a `topic` file was put there by hand, with a folder for each partition.
fn adopt(env: &Env, dir: &Path) -> std::result::Result<TopicFile, CannotRead> {
    let disk = env.handles.disk();
    let names = disk.list(dir).map_err(CannotRead::at(dir))?;
    let is_there = |index: &u32| names.iter().any(|name| name.is_dir && name.name == index.to_string());
    let partitions = (0..PARTITIONS_MAX).take_while(is_there).count() as u32;
    if partitions == 0 {
        return Err("it has neither a topic file nor a folder 0 with a log".to_string().into());
    }
    let (file, path) = (TopicFile::new(partitions, Overrides::new()), dir.join("topic"));
    env.tell(&format!("{}: adopted as a topic of {partitions} partitions", dir.display()));
    if let Err(error) = file.write(disk, &path) {
        // It is read all the same; the next start finds it as this one did.
        env.tell(&format!("{}: {error}", path.display()));
    }
    Ok(file)
}

/// What is wrong with the `topic` files of a data directory, or with the one of a topic's own: a sentence for each.
pub fn verify_topic_files(dir: &Path) -> io::Result<Vec<String>> {
    let names = FileDisk.list(dir)?;
    let folders = names.iter().filter(|name| name.is_dir && check_name(&name.name).is_ok());
    let files = folders.map(|folder| dir.join(&folder.name).join("topic")).chain([dir.join("topic")]);
    let read = |file: &Path| TopicFile::read(&FileDisk, file, &Settings::default());
    Ok(files.filter(|file| file.is_file()).filter_map(|file| Some(read(&file).err()?.why)).collect())
}

/// Why a topic could not be made.
struct NotBuilt {
    error: io::Error,
    /// Whether its folder stands there all the same.
    is_there: bool,
}

impl BrokerState {
    /// A topic by name. One whose file a disk that failed did not let be read is tried again.
    pub(super) fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        let topics = || self.topics.read().expect("no panic under the topics' lock");
        let found = topics().get(name).cloned();
        if found.is_ok() || !topics().is_unread(name) {
            return found;
        }
        // Whoever asks may hold locks that come after `creating`, and so must not wait for it.
        let Ok(_one) = self.creating.try_lock() else { return found };
        self.read_again(name)?;
        topics().get(name).cloned()
    }

    /// Reads a topic's file again. The caller sees to it that no topic is made or dropped meanwhile.
    fn read_again(&self, name: &str) -> Result<()> {
        let known = || self.topics.read().expect("no panic under the topics' lock");
        if !known().is_unread(name) {
            return Ok(());
        }
        let mut found = Topics { by_id: known().by_id.clone(), ..Topics::default() };
        found.read_one(&self.env, name)?;
        let mut topics = self.topics.write().expect("no panic under the topics' lock");
        match found.by_name.remove(name) {
            Some(Ok(topic)) => {
                topic.partitions().iter().for_each(|partition| partition.due_after_start());
                topics.insert(topic);
            }
            Some(Err(offline)) => drop(topics.by_name.insert(name.into(), Err(offline))),
            // There is nothing in the folder.
            None => topics.remove(name),
        }
        drop(topics);
        self.topic_waiters.wake();
        Ok(())
    }

    /// Makes a topic. It is there durably, or not at all.
    pub(super) fn create(&self, name: &str, partitions: u32, overrides: Overrides) -> Result<Arc<Topic>> {
        let _one = self.creating.lock().expect("no panic while a topic is made");
        if self.topics.read().expect("no panic under the topics' lock").contains(name) {
            return Err(Error::TopicExists(name.into()));
        }
        self.env.topic_defaults().with(&overrides).map_err(Error::InvalidConfig)?;
        let file = TopicFile::new(partitions, canonical::<Settings>(&overrides).map_err(Error::InvalidConfig)?);
        // What groups had read of a topic that had the name before is none of this one's. DROP forgets it; a crash or a full
        // disk can have come between.
        self.forget_offsets_of(name)?;
        let dir = self.env.data_dir.join(name);
        let of_disk = |error: io::Error| Error::of_disk(&at(&dir)(error));
        match self.env.handles.disk().list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() != io::ErrorKind::NotADirectory => return Err(of_disk(error)),
            _ => {
                return Err(Error::Storage(format!(
                    "{} exists but does not belong to a topic; move it away",
                    dir.display()
                )));
            }
        }
        let built = match self.build(&file, &dir) {
            Err(NotBuilt { error, is_there: false }) => return Err(of_disk(error)),
            built => built.map_err(|not_built| of_disk(not_built.error)),
        };
        // One that a failing disk neither made durable nor took back is there, so that it can be dropped.
        let topic = Topic::new(&self.env, name, file, true)?;
        self.topics.write().expect("no panic under the topics' lock").insert(topic.clone());
        self.topic_waiters.wake();
        built?;
        self.tell_groups(name, partitions);
        Ok(topic)
    }

    /// Groups that cannot be told cannot be read back: they will look for themselves.
    pub(super) fn tell_groups(&self, topic: &str, partitions: u32) {
        if let Err(error) = self.topic_changed(topic, Some(partitions)) {
            self.env.tell(&format!("groups cannot be read back: {error}"));
        }
    }

    /// Drops a topic: from here on nothing can be appended to it, and who waits on it finds it gone. After an error it is there.
    pub(super) fn drop_topic(&self, name: &str) -> Result<()> {
        let _one = self.creating.lock().expect("no panic while a topic is made");
        let partitions = match self.topics.read().expect("no panic under the topics' lock").get(name) {
            Ok(topic) => topic.partitions(),
            Err(Error::Storage(_)) => Vec::new(),
            Err(unknown) => return Err(unknown),
        };
        let (disk, data_dir) = (self.env.handles.disk(), &self.env.data_dir);
        let (dir, doomed) = (data_dir.join(name), data_dir.join(format!("~drop-{}", random::shown(&random::uuid()))));
        // Opened first: what is renamed can be made durable, or be undone, though no descriptor is free any more.
        let names = disk.open_dir(data_dir).map_err(|error| Error::of_disk(&at(&dir)(error)))?;
        // Closed first: what is acknowledged from here on is acknowledged by another topic of the name.
        partitions.iter().for_each(|partition| partition.close());
        let mut back = Ok(());
        let moved = match disk.rename(&dir, &doomed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => moved.and_then(|()| {
                names.sync().inspect_err(|_| {
                    // Back again, durably: a crash must not carry out what was refused.
                    back = disk.rename(&doomed, &dir).and_then(|()| names.sync());
                })
            }),
        };
        if let Err(error) = moved {
            let why = format!("{}: {error}", dir.display());
            match back {
                Ok(()) => partitions.iter().for_each(|partition| partition.reopen()),
                Err(again) => {
                    let why = format!("{why}; {again}; whether it was dropped is known after a restart of the broker");
                    // What of it is not synced never will be.
                    self.env.doubt(name);
                    let offline = Offline { why, is_unread: false };
                    let mut topics = self.topics.write().expect("no panic under the topics' lock");
                    topics.take_offline(&self.env, name, offline);
                    self.keep_traffic(&partitions);
                    drop(topics);
                    partitions.iter().for_each(|partition| partition.wake());
                }
            }
            return Err(Error::Storage(why));
        }
        let mut topics = self.topics.write().expect("no panic under the topics' lock");
        topics.remove(name);
        self.keep_traffic(&partitions);
        drop(topics);
        partitions.iter().for_each(|partition| partition.wake());
        self.topic_waiters.wake();
        // It is gone. What fails from here on is made up for by the next CREATE of the name, and by the next start. The files go
        // first: on a full disk there is room then for what is to be written.
        match disk.remove_dir(&doomed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.env.tell(&format!("{}: takes room until the next start: {error}", doomed.display()));
            }
            _ => {}
        }
        if let Err(error) = self.topic_changed(name, None) {
            self.env.tell(&format!("{name} was dropped, what groups had read of it is still on disk: {error}"));
        }
        self.env.refill_reserves();
        Ok(())
    }

    /// Keeps what a topic counted that is taken from the topics. Their lock is held, so that no sum is told in between.
    fn keep_traffic(&self, partitions: &[Arc<Partition>]) {
        partitions.iter().for_each(|partition| self.metrics.dropped.take_over(partition.traffic.get()));
    }

    /// One of the broker's own topics, of one partition, made if it is not there.
    pub(super) fn internal_topic(&self, name: &str, settings: &[(&str, &str)]) -> Result<Arc<Topic>> {
        let overrides: Overrides = settings.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        match self.create(name, 1, overrides) {
            Err(Error::TopicExists(_)) => self.topic(name),
            made => made,
        }
    }

    /// Makes a topic's directory with its file and one directory for each partition, durably, under a name of its own,
    /// and gives it the topic's name at the end. After an error none of it is there, as far as the disk lets it.
    fn build(&self, file: &TopicFile, dir: &Path) -> std::result::Result<(), NotBuilt> {
        let (disk, data_dir) = (self.env.handles.disk(), &self.env.data_dir);
        let failed = |error| NotBuilt { error, is_there: false };
        // Opened first: what is renamed can be made durable, or be undone, though no descriptor is free any more.
        let names = disk.open_dir(data_dir).map_err(failed)?;
        let new = data_dir.join(format!("~new-{}", random::shown(&random::uuid())));
        let fill = || {
            disk.create_dir(&new)?;
            (0..file.partitions.len()).try_for_each(|index| disk.create_dir(&new.join(index.to_string())))?;
            file.write(disk, &new.join("topic"))?;
            disk.rename(&new, dir)
        };
        // What cannot be removed now goes at the next start.
        let remove = || drop(disk.remove_dir(&new));
        fill().inspect_err(|_| remove()).map_err(failed)?;
        let Err(error) = names.sync() else { return Ok(()) };
        // The name stands there, but nobody knows whether durably.
        let is_there = disk.rename(dir, &new).is_err();
        remove();
        let error = match names.sync() {
            Ok(()) => error,
            Err(again) => io::Error::new(error.kind(), format!("{error}; {again}")),
        };
        Err(NotBuilt { error, is_there })
    }
}

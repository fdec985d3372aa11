//! Configs that were set while the broker ran, of all that has some but topics, which have files of their own.
//!
//! ```text
//! ~configs    broker: log.retention.ms:100000           of all brokers
//!             broker:1 log.retention.ms:200000          of this one, over that
//!             client-metrics:latency interval.ms:5000
//!             group:workers consumer.session.timeout.ms:50000
//!             joined:jobs share.record.lock.duration.ms:7000   by the first member of a share group
//! ```
//!
//! What a group's first member made of its settings goes with the group, and whoever alters one of them makes it the group's own, which
//! lie over them and stay. Members fill no more than [a part](JOINED_BYTES_MAX) of the file: administrators have the rest.
//!
//! What a broker has of them are its defaults of topics: these are the command line's, with all brokers' configs over them, and
//! this one's over both. A change takes effect in all topics before it is answered, and stands in the file by then. One that does
//! not go together with the settings of a topic is refused.

use super::{
    Broker, BrokerState, Error, Permit, ResourceName, Result,
    small_file::{Lines, OWN_BYTES_MAX, Text},
};
use crate::{
    config::{
        Change, Changes, ClientMetricsSettings, DEAD_LETTERS, DeadLetterTopic, Described, GroupSettings, Overrides,
        Settings, broker_changes,
    },
    log::disk::Disk,
    security::Operation,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, RwLock},
};

/// The file's name.
pub(super) const FILE: &str = "~configs";

/// How much of the file may be what members of share groups made.
const JOINED_BYTES_MAX: u64 = OWN_BYTES_MAX / 2;

/// The kinds of things that have such configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceKind {
    /// A broker, by its id; an empty name is all of them.
    Broker,
    /// A subscription to the metrics of clients (KIP-714), which is kept for whoever makes it: no client is asked for any.
    ClientMetrics,
    /// A group.
    Group,
    /// A share group, as far as its first member made its settings: they lie below those of the group.
    Joined,
}

impl ResourceKind {
    const WORDS: [(ResourceKind, &str); 4] = [
        (ResourceKind::Broker, "broker"),
        (ResourceKind::ClientMetrics, "client-metrics"),
        (ResourceKind::Group, "group"),
        (ResourceKind::Joined, "joined"),
    ];

    fn word(self) -> &'static str {
        let (_, word) = ResourceKind::WORDS.iter().find(|(kind, _)| *kind == self).expect("each kind has a word");
        word
    }
}

/// Something that has such configs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// Its name.
    pub name: String,
}

impl Resource {
    /// What decides over its configs: over a group's the group, over all else's the broker.
    fn asked(&self) -> ResourceName<'_> {
        match self.kind {
            ResourceKind::Group | ResourceKind::Joined => ResourceName::group(&self.name),
            _ => ResourceName::CLUSTER,
        }
    }

    /// What members made of a group's settings.
    pub(super) fn joined(group: &str) -> Resource {
        Resource { kind: ResourceKind::Joined, name: group.into() }
    }

    /// What lies below a thing's own configs.
    fn below(&self) -> Option<Resource> {
        (self.kind == ResourceKind::Group).then(|| Resource::joined(&self.name))
    }
}

/// What the file says.
type Kept = BTreeMap<Resource, Overrides>;

/// All such configs, and the defaults of topics that come of them.
#[derive(Debug)]
pub(super) struct DynamicConfigs {
    state: RwLock<State>,
}

#[derive(Clone, Debug)]
struct State {
    kept: Arc<Kept>,
    topic_defaults: Arc<Settings>,
}

impl DynamicConfigs {
    /// Reads the file, if there is one. An error names it, and the line that is wrong.
    pub(super) fn read(disk: &dyn Disk, data_dir: &Path, command_line: &Settings) -> Result<DynamicConfigs> {
        let path = data_dir.join(FILE);
        let text = Text::of_broker(disk, &path, OWN_BYTES_MAX)?;
        let kept = parse(&text.unwrap_or_default(), &path).map_err(Error::Storage)?;
        let wrong = |why: String| Error::Storage(format!("{}: {why}", path.display()));
        for (Resource { kind, .. }, own) in &kept {
            match kind {
                // Nothing here goes by those of client metrics, whose patterns take time to be checked.
                ResourceKind::Broker | ResourceKind::ClientMetrics => Ok(()),
                ResourceKind::Group | ResourceKind::Joined => GroupSettings::default().with(own).map(drop),
            }
            .map_err(wrong)?;
        }
        let topic_defaults = topic_defaults(kept.iter(), command_line).map_err(wrong)?.into();
        Ok(DynamicConfigs { state: RwLock::new(State { kept: kept.into(), topic_defaults }) })
    }

    fn state(&self) -> State {
        self.state.read().expect("no panic under the configs' lock").clone()
    }

    /// The settings of a topic that has none of its own.
    pub(super) fn topic_defaults(&self) -> Arc<Settings> {
        self.state().topic_defaults
    }

    /// What was set for a thing.
    pub(super) fn of(&self, resource: &Resource) -> Overrides {
        self.state().kept.get(resource).cloned().unwrap_or_default()
    }

    /// The same, with what lies below it.
    fn in_force(&self, resource: &Resource) -> Overrides {
        in_force(&self.state().kept, resource)
    }
}

fn in_force(kept: &Kept, resource: &Resource) -> Overrides {
    let mut configs = resource.below().and_then(|below| kept.get(&below).cloned()).unwrap_or_default();
    configs.extend(kept.get(resource).cloned().unwrap_or_default());
    configs
}

fn parse(text: &Text, path: &Path) -> std::result::Result<Kept, String> {
    let mut kept = Kept::new();
    for line in text.lines() {
        let bad = || line.error(path, "is no config; mend it, or remove the line");
        let fields: [(String, String); 2] = line.all_fields().and_then(|all| all.try_into().ok()).ok_or_else(bad)?;
        let [(word, name), (config, value)] = fields;
        let (kind, _) = ResourceKind::WORDS.into_iter().find(|(_, known)| *known == word).ok_or_else(bad)?;
        kept.entry(Resource { kind, name }).or_default().insert(config, value);
    }
    Ok(kept)
}

fn lines<'k>(kept: impl IntoIterator<Item = (&'k Resource, &'k Overrides)>) -> Lines {
    let mut lines = Lines::default();
    for (Resource { kind, name }, own) in kept {
        own.iter().for_each(|(config, value)| lines.push(&[(kind.word(), name), (config, value)]));
    }
    lines
}

/// The defaults of topics that come of these: a broker without a name is all of them, and comes first.
fn topic_defaults<'k>(
    kept: impl Iterator<Item = (&'k Resource, &'k Overrides)>,
    command_line: &Settings,
) -> std::result::Result<Settings, String> {
    let mut brokers = kept.filter(|(resource, _)| resource.kind == ResourceKind::Broker).map(|(_, own)| own);
    brokers.try_fold(command_line.clone(), |settings, own| settings.with_broker_configs(own))
}

impl Broker {
    /// The settings of a topic that has none of its own.
    pub fn topic_defaults(&self) -> Arc<Settings> {
        self.env(&Permit::for_everybody()).topic_defaults()
    }

    /// The settings of a group.
    pub fn group_settings(&self, group: &str) -> GroupSettings {
        self.state(&Permit::for_everybody()).group_settings(group)
    }

    /// The configs of a thing that were set while the broker ran; none are shown to whoever may not see them.
    pub fn configs(&self, resource: &Resource) -> Overrides {
        let permit = self.may(Operation::DescribeConfigs, resource.asked());
        permit.map(|permit| self.env(&permit).configs.in_force(resource)).unwrap_or_default()
    }

    /// The things of a kind that have such configs.
    pub fn configured(&self, kind: ResourceKind) -> Vec<String> {
        let all = self.env(&Permit::for_everybody()).configs.state().kept;
        let is_of = |other: ResourceKind| match other {
            ResourceKind::Joined => [ResourceKind::Joined, ResourceKind::Group].contains(&kind),
            other => other == kind,
        };
        let names: BTreeSet<_> = all.keys().filter(|resource| is_of(resource.kind)).map(|one| &one.name).collect();
        names.into_iter().cloned().collect()
    }

    /// Changes the configs of a thing, durably, or only says whether they could be. After an error all is as it was.
    pub fn alter_configs(&self, resource: &Resource, changes: &Changes, dry: bool) -> Result<()> {
        let permit = self.ask(Operation::AlterConfigs, resource.asked())?;
        let state = self.state(&permit);
        let may_see = |topic: &str| self.may_describe_configs(topic);
        if let Some(topic) = named_dead_letters(resource, changes)? {
            // No topic is made for what cannot be.
            state.alter_configs(resource, changes, &may_see, true)?;
            if !self.ask_dead_letters(&topic)? && self.config().auto_create && !dry {
                self.topic_or_create(Operation::Write, &topic)?;
            }
        }
        state.alter_configs(resource, changes, &may_see, dry)?;
        if !dry {
            self.note_settings(resource, changes);
        }
        Ok(())
    }

    /// Notes that the caller has changed settings.
    pub(super) fn note_settings(&self, resource: &Resource, changes: &Changes) {
        let names = changes.named.keys().map(String::as_str).collect::<Vec<_>>().join(",");
        let kind = match resource.kind {
            ResourceKind::Joined => "group".into(),
            kind => format!("{kind:?}").to_ascii_lowercase(),
        };
        self.note("settings-changed", &[("of", &kind), ("name", &resource.name), ("settings", &names)]);
    }
}

impl BrokerState {
    /// The settings of a group.
    pub(super) fn group_settings(&self, group: &str) -> GroupSettings {
        let own = self.env.configs.in_force(&Resource { kind: ResourceKind::Group, name: group.into() });
        GroupSettings::default().with(&own).expect("they were checked when they were set or read")
    }

    /// Changes the configs of a thing, or only says whether they could be. `may_see` says of which topics the caller may see what is set.
    pub(super) fn alter_configs(
        &self,
        resource: &Resource,
        changes: &Changes,
        may_see: &dyn Fn(&str) -> bool,
        dry: bool,
    ) -> Result<()> {
        // No topic is made or altered meanwhile: all of them get the defaults that come of this.
        let _one = self.creating.lock().expect("no panic while a topic is made");
        let State { kept, .. } = self.env.configs.state();
        let own = in_force(&kept, resource);
        let mut next = Kept::clone(&kept);
        next.remove(resource);
        let after = match resource.kind {
            ResourceKind::Broker => {
                // Only what comes before it is below it.
                let below = topic_defaults(next.range(..resource), &self.config.topic_defaults);
                let below = below.map_err(Error::InvalidConfig)?;
                broker_changes(changes, &own, &below)
            }
            ResourceKind::ClientMetrics => changes.applied(&own, &ClientMetricsSettings::default()),
            ResourceKind::Group | ResourceKind::Joined => {
                let after = changes.applied(&own, &GroupSettings::default());
                after.and_then(|after| check_dead_letters(&after).map(|()| after))
            }
        };
        let mut after = after.map_err(Error::InvalidConfig)?;
        if let Some((below, mut theirs)) = resource.below().and_then(|below| next.remove_entry(&below)) {
            // What is altered is no more theirs, and what is not stays so.
            theirs.retain(|name, _| !changes.reset_others && !changes.named.contains_key(name));
            after.retain(|name, value| theirs.get(name) != Some(value));
            if !theirs.is_empty() {
                next.insert(below, theirs);
            }
        }
        let adds = resource.kind == ResourceKind::Joined && !after.is_empty();
        if !after.is_empty() {
            next.insert(resource.clone(), after);
        }
        if adds && lines(next.range(Resource::joined("")..)).bytes(JOINED_BYTES_MAX).is_err() {
            return Err(Error::InvalidConfig(format!(
                "the settings that share groups were made with fill the {JOINED_BYTES_MAX} bytes that they may have: one who may alter them \
                 can set this group's, and groups that are deleted make room"
            )));
        }
        let defaults = topic_defaults(next.iter(), &self.config.topic_defaults).map_err(Error::InvalidConfig)?;
        let topics = if resource.kind == ResourceKind::Broker { self.topics() } else { Vec::new() };
        for topic in &topics {
            let together = defaults.with(&topic.overrides());
            let shown = |why| match may_see(&topic.name) {
                true => format!("topic '{}' would be wrong: {why}", topic.name),
                false => "a topic would be wrong, whose own settings you may not see".into(),
            };
            together.map_err(|why| Error::InvalidConfig(shown(why)))?;
        }
        if dry {
            return Ok(());
        }
        self.env.replace(FILE, &lines(&next))?;
        let next = State { kept: next.into(), topic_defaults: defaults.into() };
        *self.env.configs.state.write().expect("no panic under the configs' lock") = next;
        for topic in &topics {
            topic.defaults_changed();
        }
        if !topics.is_empty() {
            self.topic_waiters.wake();
        }
        Ok(())
    }
}

/// The topic for the dead letters of a group that changes name, if they do.
fn named_dead_letters(resource: &Resource, changes: &Changes) -> Result<Option<String>> {
    let is_of_group = matches!(resource.kind, ResourceKind::Group | ResourceKind::Joined);
    let named = changes.named.get(DEAD_LETTERS).filter(|_| is_of_group);
    let Some(Change::Set(topic)) = named else { return Ok(None) };
    let own = Overrides::from([(DEAD_LETTERS.into(), topic.clone())]);
    let DeadLetterTopic(topic) = GroupSettings::default().with(&own).map_err(Error::InvalidConfig)?.dead_letter_topic;
    Ok(Some(topic).filter(|topic| !topic.is_empty()))
}

/// Whether the configs of a group name a topic for its dead letters that can be one, if any.
fn check_dead_letters(own: &Overrides) -> std::result::Result<(), String> {
    let DeadLetterTopic(topic) = GroupSettings::default().with(own)?.dead_letter_topic;
    if topic.is_empty() { Ok(()) } else { super::writable(&topic).map_err(|error| error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::Clock,
        config::Config,
        log::disk::{Call, Fault, MemoryDisk, Survivors},
    };
    use proptest::prelude::*;

    fn resource(kind: ResourceKind, name: &str) -> Resource {
        Resource { kind, name: name.into() }
    }

    fn set(name: &str, value: &str) -> Changes {
        Changes { named: BTreeMap::from([(name.into(), Change::Set(value.into()))]), reset_others: false }
    }

    fn open(disk: &MemoryDisk) -> Result<Broker> {
        Broker::open_on(Arc::new(disk.clone()), Config::in_memory(), Clock::System)
    }

    #[test]
    fn defaults_of_topics_change_at_once_and_outlive_a_restart() {
        let disk = MemoryDisk::default();
        let broker = open(&disk).unwrap();
        broker.create_topic("plain", 1).unwrap();
        broker.create_topic_with("own", None, Overrides::from([("retention.ms".into(), "7".into())])).unwrap();
        let retention =
            |broker: &Broker| ["plain", "own"].map(|topic| broker.topic(topic).unwrap().settings().retention_ms);
        let [all, this] = ["", "1"].map(|name| resource(ResourceKind::Broker, name));
        broker.alter_configs(&all, &set("log.retention.ms", "100"), false).unwrap();
        assert_eq!(retention(&broker), [100, 7]);
        broker.alter_configs(&this, &set("log.retention.ms", "200"), false).unwrap();
        broker.alter_configs(&all, &set("log.retention.ms", "300"), false).unwrap();
        assert_eq!(retention(&broker), [200, 7], "this broker's own is over that of all");
        broker.alter_configs(&this, &set("log.retention.ms", "400"), true).unwrap();
        assert_eq!(retention(&broker), [200, 7], "it was only asked whether it could be");
        drop(broker);
        let broker = open(&disk).unwrap();
        assert_eq!(retention(&broker), [200, 7]);
        let back = Changes { named: BTreeMap::new(), reset_others: true };
        broker.alter_configs(&this, &back, false).unwrap();
        assert_eq!(retention(&broker), [300, 7]);
        assert_eq!(broker.create_topic("new", 1).unwrap().settings.retention_ms, 300);
        assert_eq!(broker.configured(ResourceKind::Broker), [""]);
    }

    /// Those of all brokers were checked as if they lay over this one's.
    #[test]
    fn what_is_set_for_all_brokers_lies_below_what_is_set_for_this_one() {
        let broker = Broker::in_memory();
        let [all, this] = ["", "1"].map(|name| resource(ResourceKind::Broker, name));
        let (least, most) = ("log.cleaner.min.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms");
        broker.alter_configs(&this, &set(most, "20"), false).unwrap();
        broker.alter_configs(&this, &set(least, "10"), false).unwrap();
        broker.alter_configs(&all, &set(most, "5"), false).unwrap();
        let defaults = broker.topic_defaults();
        assert_eq!((defaults.min_compaction_lag_ms, defaults.max_compaction_lag_ms), (10, 20));
        broker.alter_configs(&this, &set("log.cleanup.policy", "compact"), false).unwrap();
        let append = Changes {
            named: BTreeMap::from([("log.cleanup.policy".into(), Change::Append("delete".into()))]),
            reset_others: false,
        };
        broker.alter_configs(&all, &append, false).unwrap();
        assert_eq!(broker.configs(&all)["log.cleanup.policy"], "delete");
    }

    #[test]
    fn what_a_topic_could_not_live_with_is_refused() {
        let broker = Broker::in_memory();
        let own = Overrides::from([("min.compaction.lag.ms".into(), "10".into())]);
        broker.create_topic_with("t", None, own).unwrap();
        let all = resource(ResourceKind::Broker, "");
        let refused = broker.alter_configs(&all, &set("log.cleaner.max.compaction.lag.ms", "5"), false).unwrap_err();
        assert!(refused.to_string().contains("topic 't' would be wrong"), "{refused}");
        assert_eq!(broker.topic_defaults().max_compaction_lag_ms, i64::MAX);
        broker.alter_configs(&all, &set("log.cleaner.max.compaction.lag.ms", "10"), false).unwrap();
    }

    #[test]
    fn groups_have_settings_of_their_own() {
        let broker = Broker::in_memory();
        let group = resource(ResourceKind::Group, "g");
        broker.alter_configs(&group, &set("consumer.session.timeout.ms", "50000"), false).unwrap();
        assert_eq!(broker.group_settings("g").consumer_session_timeout_ms, 50_000);
        assert_eq!(broker.group_settings("h").consumer_session_timeout_ms, 45_000);
        assert!(broker.alter_configs(&group, &set("consumer.session.timeout.ms", "5"), false).is_err());
    }

    #[test]
    fn a_file_that_says_something_else_is_named_with_its_line() {
        let disk = MemoryDisk::default();
        drop(open(&disk).unwrap());
        for (text, why) in [
            ("x\n", "memory/~configs, line 1: 'x' is no config"),
            ("group:g share.isolation.level:read_committed more:1\n", "~configs, line 1: 'group:g share"),
            ("planet:g share.isolation.level:read_committed\n", "~configs, line 1: 'planet:g"),
            ("group:g nonsense:1\n", "~configs: Unknown group config name: nonsense"),
            ("broker: log.retention.ms:x\n", "~configs: retention.ms cannot be 'x'"),
        ] {
            disk.create(Path::new("memory/~configs")).unwrap().write_at(text.as_bytes(), 0).unwrap();
            let refused = open(&disk).unwrap_err().to_string();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn what_is_not_on_disk_is_not_in_force() {
        let all = resource(ResourceKind::Broker, "");
        for (fault, crashes) in
            [Fault::Error, Fault::Full].into_iter().flat_map(|fault| [(fault, true), (fault, false)])
        {
            for nth in 1.. {
                let disk = MemoryDisk::crashable();
                let broker = open(&disk).unwrap();
                broker.create_topic("t", 1).unwrap();
                broker.alter_configs(&all, &set("log.retention.ms", "7"), false).unwrap();
                disk.fault(Call::Any, nth, fault);
                let changed = broker.alter_configs(&all, &set("log.retention.ms", "5"), false).is_ok();
                let retention = if changed { 5 } else { 7 };
                assert_eq!(broker.topic("t").unwrap().settings().retention_ms, retention, "call {nth}");
                let kept = |disk: &MemoryDisk| open(disk).unwrap().topic_defaults().retention_ms;
                let after = if crashes { disk.reboot(Survivors::Nothing) } else { disk };
                drop(broker);
                assert_eq!(kept(&after), retention, "call {nth}, crashes: {crashes}");
                if changed {
                    assert!(nth > 3, "a file is made, written, synced and renamed");
                    break;
                }
            }
        }
    }

    /// A broker died between the new file's name and the sync of it. The next one went by the file, until the power failed.
    #[test]
    fn what_a_start_reads_is_durable_before_anybody_goes_by_it() {
        let disk = MemoryDisk::crashable();
        drop(open(&disk).unwrap());
        let put = |name: &str, text: &str| {
            let [temporary, path] = ["new", name].map(|name| Path::new("memory").join(name));
            let file = disk.create(&temporary).unwrap();
            file.write_at(text.as_bytes(), 0).and_then(|()| file.sync()).unwrap();
            disk.rename(&temporary, &path).unwrap();
        };
        // Not stopped cleanly.
        put("~broker", "cluster.id:a\n");
        disk.sync_dir(Path::new("memory")).unwrap();
        put(FILE, "broker: log.retention.ms:7\n");
        let broker = open(&disk).unwrap();
        assert_eq!(broker.topic_defaults().retention_ms, 7);
        let after = open(&disk.reboot(Survivors::Nothing)).unwrap();
        assert_eq!(after.topic_defaults().retention_ms, 7);
    }

    proptest! {
        #[test]
        fn whatever_names_and_values_there_are_are_read_back(
            all in prop::collection::btree_map((0..4usize, any::<String>()), prop::collection::btree_map(any::<String>(), any::<String>(), 1..4), 0..4),
        ) {
            let named = |((kind, name), own): ((usize, String), Overrides)| (Resource { kind: ResourceKind::WORDS[kind].0, name }, own);
            let kept: Kept = all.into_iter().map(named).collect();
            let disk = MemoryDisk::default();
            disk.create(Path::new(FILE)).unwrap().write_at(lines(&kept).bytes(OWN_BYTES_MAX).unwrap(), 0).unwrap();
            let text = Text::read(&disk, Path::new(FILE), OWN_BYTES_MAX).unwrap().unwrap();
            prop_assert_eq!(parse(&text, Path::new(FILE)), Ok(kept));
        }
    }
}

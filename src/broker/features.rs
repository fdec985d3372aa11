//! The levels of Kafka's features that an administrator has put below the last one that is served here (KIP-584).
//!
//! ```text
//! ~features   epoch:4                   raised by each change
//!             group.version:0           a feature that is not at its last level
//! ```
//!
//! Which features there are the protocol knows. One at level 0 is off: Kafka's clients are refused what takes it. What there is of
//! groups and transactions stays, and is served again when the feature is.

use super::{
    Broker, Error, Permit, Result,
    kept::Content,
    small_file::{Lines, Text},
};
use crate::log::record::parse_u63;
use crate::security::Operation;
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// What the file calls the epoch.
const EPOCH: &str = "epoch";

/// The levels of features.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureLevels {
    /// How often they were changed.
    pub epoch: i64,
    /// Those that are not at their last level, by name.
    pub lowered: BTreeMap<String, i16>,
}

impl Content for FeatureLevels {
    const FILE: &str = "~features";

    fn parse(text: &Text, path: &Path) -> std::result::Result<FeatureLevels, String> {
        let mut levels = FeatureLevels::default();
        for line in text.lines() {
            let bad = || line.error(path, "is no level of a feature; mend it, or remove the line");
            let (name, value) = line.field().ok_or_else(bad)?;
            let value = parse_u63(value.as_bytes()).ok_or_else(bad)?;
            if name == EPOCH {
                levels.epoch = value as i64;
            } else {
                levels.lowered.insert(name, i16::try_from(value).map_err(|_| bad())?);
            }
        }
        Ok(levels)
    }

    fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        lines.push(&[(EPOCH, &self.epoch)]);
        self.lowered.iter().for_each(|(name, level)| lines.push(&[(name, level)]));
        lines
    }
}

impl Broker {
    /// The levels of features.
    pub fn feature_levels(&self) -> Arc<FeatureLevels> {
        self.env(&Permit::for_everybody()).features.get()
    }

    /// An error if a feature is off.
    pub fn needs_feature(&self, name: &'static str) -> Result<()> {
        match self.feature_levels().lowered.get(name) {
            Some(0) => Err(Error::FeatureOff(name)),
            _ => Ok(()),
        }
    }

    /// Puts features at levels, durably; `None` is the last one. After an error all is as it was.
    pub fn set_feature_levels(&self, changes: &BTreeMap<&str, Option<i16>>) -> Result<()> {
        let permit = self.ask_cluster(Operation::Alter)?;
        let env = self.env(&permit);
        env.change_kept(&env.features, |levels| {
            let before = levels.lowered.clone();
            for (&name, level) in changes {
                match level {
                    Some(level) => drop(levels.lowered.insert(name.into(), *level)),
                    None => drop(levels.lowered.remove(name)),
                }
            }
            levels.epoch += i64::from(levels.lowered != before);
        })?;
        changes.keys().for_each(|name| self.note("feature-changed", &[("feature", name)]));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Clock, kept::Kept, small_file::OWN_BYTES_MAX},
        config::Config,
        log::disk::{Call, Disk, Fault, MemoryDisk, Survivors},
    };

    fn open(disk: &MemoryDisk) -> Broker {
        Broker::open_on(Arc::new(disk.clone()), Config::in_memory(), Clock::System).unwrap()
    }

    #[test]
    fn levels_are_lines_that_outlive_a_crash() {
        let disk = MemoryDisk::crashable();
        let broker = open(&disk);
        let set = |broker: &Broker, level| broker.set_feature_levels(&[("group.version", level)].into());
        assert_eq!(broker.needs_feature("group.version"), Ok(()));
        set(&broker, Some(0)).unwrap();
        set(&broker, Some(0)).unwrap();
        assert_eq!(broker.needs_feature("group.version"), Err(Error::FeatureOff("group.version")));
        let disk = disk.reboot(Survivors::Nothing);
        let broker = open(&disk);
        let expected = FeatureLevels { epoch: 1, lowered: [("group.version".into(), 0)].into() };
        assert_eq!(*broker.feature_levels(), expected);
        assert_eq!(expected.lines().bytes(OWN_BYTES_MAX).unwrap(), b"epoch:1\ngroup.version:0\n");
        disk.fault(Call::Any, 1, Fault::Full);
        set(&broker, None).unwrap_err();
        assert_eq!(*broker.feature_levels(), expected);
        set(&broker, None).unwrap();
        assert_eq!(*broker.feature_levels(), FeatureLevels { epoch: 2, lowered: BTreeMap::new() });
    }

    #[test]
    fn what_is_no_level_refuses_the_start_and_is_named() {
        for line in ["x", "group.version:x", "group.version:-1", "group.version:32768", "epoch:-1"] {
            let disk = MemoryDisk::default();
            disk.create(Path::new(FeatureLevels::FILE))
                .unwrap()
                .write_at(format!("epoch:1\n{line}\n").as_bytes(), 0)
                .unwrap();
            let Err(Error::Storage(why)) = Kept::<FeatureLevels>::read(&disk, Path::new("")) else { panic!("{line}") };
            assert!(why.starts_with(&format!("~features, line 2: '{line}' is no level")), "{why}");
        }
    }
}

//! The notes of a move at the target: offsets that its group commits there.

use super::{
    super::{errors::Passes, native::GroupOffset},
    notes::Note,
    sides::{Place, Side},
};
use crate::broker::{Code, Error, Result};
use std::collections::HashMap;

/// As many partitions are committed at once.
const AT_ONCE: usize = 500;

/// What begins the names of groups that note moves.
pub(super) const GROUPS: &str = "plainlog-move-";

/// The notes of moves from one cluster.
pub(super) struct Progress<'s> {
    target: &'s Side,
    group: String,
}

impl<'s> Progress<'s> {
    pub(super) fn of(source_id: &str, target: &'s Side) -> Progress<'s> {
        Progress { target, group: format!("{GROUPS}{source_id}") }
    }

    /// What is noted, by the target's partition.
    pub(super) fn read(&self) -> Result<HashMap<Place, Note>> {
        let what = format!("asking for what group '{}' has committed", self.group);
        let found = self.target.ask(&what, |asking| match asking.group_offsets(&self.group) {
            Err(refused) if refused.number == Code::GroupIdNotFound as i32 => Ok(Vec::new()),
            answer => answer,
        })?;
        let mut notes = HashMap::new();
        for GroupOffset { topic, partition, offset, metadata, .. } in found {
            let note = Note::read(offset, &metadata).ok_or_else(|| Error::OfCluster {
                code: Code::InvalidRequest,
                why: format!(
                    "group '{}' of the target has committed something that no move writes, for '{topic}' partition {partition}: '{metadata}'",
                    self.group
                ),
            })?;
            notes.insert((topic, partition), note);
        }
        Ok(notes)
    }

    /// Notes these. When this returns they are stored.
    pub(super) fn write<'n>(&self, notes: impl Iterator<Item = (&'n Place, &'n Note)>) -> Result<()> {
        let offset = |(place, note): (&Place, &Note)| GroupOffset {
            topic: place.0.clone(),
            partition: place.1,
            offset: note.next,
            leader_epoch: None,
            metadata: note.metadata(),
        };
        let offsets: Vec<GroupOffset> = notes.map(offset).collect();
        offsets.chunks(AT_ONCE).try_for_each(|offsets| commit(self.target, &self.group, offsets))
    }
}

/// Commits offsets of a group without members.
pub(super) fn commit(side: &Side, group: &str, offsets: &[GroupOffset]) -> Result<()> {
    let what = format!("committing offsets of group '{group}'");
    let refused = side.ask(&what, |asking| {
        let refused = asking.alter_offsets(group, offsets)?;
        match refused.iter().filter_map(|at| at.refused.clone()).find(Passes::passes) {
            Some(passing) => Err(passing),
            None => Ok(refused),
        }
    })?;
    match refused.into_iter().find_map(|at| Some((at.refused?, at.topic, at.partition))) {
        Some((refused, topic, partition)) => {
            Err(side.explain(&format!("{what} for '{topic}' partition {partition}"), refused))
        }
        None => Ok(()),
    }
}

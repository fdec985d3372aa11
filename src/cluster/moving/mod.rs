//! Moving: topics from one cluster to another, or between a plainlog and one, while both run.
//!
//! ```text
//! topics.rs    which topics; made at the target
//! progress.rs  what the target has noted ── notes.rs, map.rs
//! resume.rs    where an interrupted move goes on
//! copying.rs   windows of records ── reading.rs ──► sending.rs
//! groups.rs    what consumer groups have committed, with the target's offsets
//! verify.rs    both sides, record by record
//! ```
//!
//! Both sides are spoken to in Kafka's protocol. All that a move knows is at the target: whoever goes on needs nothing else. What a
//! window of records will be is noted before it is sent, so that how many of them the target has tells where to go on, even when the
//! source does not have them any more.

mod copying;
mod groups;
mod map;
mod notes;
mod progress;
mod reading;
mod resume;
mod sending;
mod sides;
mod topics;
mod verify;

pub use verify::{Compared, Difference};

use super::ClusterOptions;
use crate::broker::{Code, Error, Result};
use copying::{Copying, Ended};
use progress::Progress;
use sending::Sending;
use sides::Side;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::AtomicBool,
};
use topics::Topic;

/// From where to where, and what.
#[derive(Clone, Debug)]
pub struct Move {
    /// The source.
    pub from: ClusterOptions,
    /// The target.
    pub to: ClusterOptions,
    /// Its topics.
    pub chosen: Chosen,
    /// When it ends.
    pub until: Until,
    /// Whether what groups have committed is moved, too.
    pub groups: bool,
}

/// Topics of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// These; empty: all, but for the source's own.
    pub topics: BTreeSet<String>,
    /// But not these.
    pub exclude: BTreeSet<String>,
    /// Names at the target, by those at the source, where they differ.
    pub rename: BTreeMap<String, String>,
}

/// When a move ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When what there was at its beginning is copied.
    Copied,
    /// When the target has all that the source has.
    Equal,
    /// When it is told to.
    Interrupted,
}

/// What a move has copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Topics that it moves.
    pub topics: usize,
    /// Their partitions.
    pub partitions: usize,
    /// Records that were copied by this call.
    pub records: u64,
    /// Their size, about.
    pub bytes: u64,
    /// Those of them whose timestamp is 0 and became 1, since 0 cannot be sent.
    pub of_time_0: u64,
    /// Offsets of groups that were committed at the target.
    pub group_offsets: u64,
    /// How many offsets of the source were still to be copied when it ended, as far as was known.
    pub left: u64,
}

/// What a move tells while it goes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Told<'t> {
    /// How far it is.
    Progress {
        /// What was copied.
        counted: &'t Counted,
        /// How many offsets of the source are still to be copied.
        left: i64,
    },
    /// How many records were found to be the same.
    Compared {
        /// So many.
        same: u64,
    },
    /// Something that a user should know.
    Note(String),
}

impl Move {
    /// Moves. What is done stays done whenever this ends, and another call goes on from there.
    ///
    /// # Errors
    /// Whatever either side refuses, with topic, partition and offset; [`Code::InvalidRequest`] where the target has records that no
    /// move from this source has written.
    pub fn run(&self, is_over: &AtomicBool, tell: &mut dyn FnMut(Told<'_>)) -> Result<Counted> {
        let (source, target) = (Side::open("source", &self.from)?, Side::open("target", &self.to)?);
        let source_id = source.cluster_id()?;
        let is_same = target.cluster_id()? == source_id;
        let progress = Progress::of(&source_id, &target);
        let mut counted = Counted::default();
        let (mut live, mut told) = (groups::Live::default(), BTreeSet::new());
        loop {
            // Topics that are found later wait for their settings, too.
            let mut has_settled = false;
            let topics = topics::chosen(&source, &self.chosen)?;
            if let Some(topic) = topics.iter().find(|topic| is_same && topic.from == topic.to) {
                let why = format!("source and target are the same cluster: '{}' would be moved to itself", topic.from);
                return Err(Error::OfCluster { code: Code::InvalidRequest, why });
            }
            let noted = progress.read()?;
            topics::make(&source, &target, &topics, &noted, &mut told, tell)?;
            let pairs = resume::pairs(&topics);
            (counted.topics, counted.partitions) = (topics.len(), pairs.len());
            let notes = resume::positions(&source, &target, &pairs, noted)?;
            let sending = Sending::open(&target, topics::batch_bytes(&target, &topics)?)?;
            let mut copying = Copying::begin(&source, &progress, &pairs, notes, sending, &mut counted)?;
            let (mut ended, mut offsets) = (Ended::Refresh, 0);
            while ended == Ended::Refresh {
                ended = match copying.run(self.until, is_over, tell) {
                    // One that was dropped at the source ends no more than the copy of itself.
                    Err(error) if error.code() == Code::UnknownTopicOrPartition => {
                        match is_changed(&source, &self.chosen, &topics) {
                            Ok(true) => {
                                tell(Told::Note(format!("topics of the source have changed: {error}")));
                                break;
                            }
                            _ => return Err(error),
                        }
                    }
                    ended => ended?,
                };
                let is_there = ended == Ended::CaughtUp || copying.left() == 0;
                if is_there && !has_settled {
                    has_settled = true;
                    topics::settle(&source, &target, &topics, tell)?;
                }
                if self.groups {
                    offsets += groups::commit(&source, &target, &pairs, &copying.notes, &mut live, tell)?;
                }
                if ended == Ended::Refresh && is_changed(&source, &self.chosen, &topics)? {
                    break;
                }
            }
            let left = copying.left().max(0) as u64;
            drop(copying);
            counted.left = left;
            counted.group_offsets += offsets;
            if ended != Ended::Refresh {
                return Ok(counted);
            }
        }
    }

    /// Compares both sides, record by record.
    ///
    /// # Errors
    /// Whatever either side refuses.
    pub fn verify(&self, is_over: &AtomicBool, tell: &mut dyn FnMut(Told<'_>)) -> Result<Compared> {
        let (source, target) = (Side::open("source", &self.from)?, Side::open("target", &self.to)?);
        let notes = Progress::of(&source.cluster_id()?, &target).read()?;
        let topics = topics::chosen(&source, &self.chosen)?;
        verify::compare(&source, &target, &topics, &notes, is_over, tell)
    }
}

/// Whether the source has other topics or partitions than those that are moved. A topic that was made anew is another one.
fn is_changed(source: &Side, chosen: &Chosen, topics: &[Topic]) -> Result<bool> {
    let now = topics::chosen(source, chosen)?;
    let is_same = |(now, then): (&Topic, &Topic)| {
        let is_told_other = now.id.is_some() && now.id != then.id;
        now.from == then.from && now.partitions == then.partitions && !is_told_other
    };
    Ok(now.len() != topics.len() || !now.iter().zip(topics).all(is_same))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::Fixture;
    use std::sync::atomic::Ordering::Release;

    fn moving(from: &Fixture, to: &Fixture) -> Move {
        let [from, to] = [from, to].map(|side| side.options());
        Move { from, to, chosen: Chosen::default(), until: Until::Copied, groups: false }
    }

    #[test]
    fn what_is_interrupted_says_so() {
        let (from, to) = (Fixture::new(), Fixture::new());
        from.broker.create_topic("t", 2).unwrap();
        from.produce("t", 1, &["a", "b", "c"]);
        let (moving, is_over) = (moving(&from, &to), AtomicBool::new(false));
        let counted = moving.run(&is_over, &mut |_| {}).unwrap();
        assert_eq!((counted.records, counted.left), (3, 0));
        let compared = moving.verify(&is_over, &mut |_| {}).unwrap();
        assert_eq!((compared.same, compared.partitions, compared.is_interrupted), (3, 2, false));
        is_over.store(true, Release);
        let compared = moving.verify(&is_over, &mut |_| {}).unwrap();
        assert_eq!(compared, Compared { is_interrupted: true, ..Compared::default() });
        // Before the first look for records it has not begun.
        from.broker.create_topic("u", 1).unwrap();
        from.produce("u", 0, &["a"; 200_000]);
        let counted = moving.run(&is_over, &mut |_| {}).unwrap();
        assert!(counted.left > 0 && counted.records + counted.left == 200_000, "{counted:?}");
    }
}

//! The `topic` file: what must outlast the broker besides a topic's records.
//!
//! ```text
//! id:bWVzc2FnZXMtdG9waWMtaQ
//! partitions:2
//! retention.ms:1000
//! partition:0 start:0 epoch:1
//! epoch:0 partition:0 end:42         epoch 0 of partition 0 ended where its log was cut, at offset 42
//! partition:1 start:7 epoch:0
//! ```
//!
//! The file is replaced as a whole, so a crash leaves the old one or the new one.

use super::{
    leader_epochs::{EpochEnd, LeaderEpochs},
    random,
    reserve::Reserve,
    small_file::{Line, Lines, Text},
};
use crate::{
    config::{Described, Overrides, Settings},
    log::disk::{self, Disk},
};
use std::{io, path::Path};

/// The most partitions that a topic may have.
pub const PARTITIONS_MAX: u32 = 10_000;

/// The largest file: of 10,000 partitions the start, the epoch and all past epochs that are kept, and every setting.
const BYTES_MAX: u64 = 32 << 20;

/// What a `topic` file says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TopicFile {
    pub(super) id: [u8; 16],
    pub(super) overrides: Overrides,
    pub(super) partitions: Vec<PartitionLines>,
}

/// What it says of a partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PartitionLines {
    /// The log start offset.
    pub(super) start: u64,
    pub(super) epochs: LeaderEpochs,
}

/// Why a file cannot be read.
#[derive(Debug, PartialEq)]
pub(super) struct CannotRead {
    /// A sentence, which names the file.
    pub(super) why: String,
    /// Whether the disk did not do what it must, which it may do at the next try. If not, a line is wrong.
    pub(super) disk_failed: bool,
}

impl CannotRead {
    /// For what a disk answers about this file or folder. One that is too large is no fault of the disk.
    pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> CannotRead + use<> {
        let path = path.display().to_string();
        move |error| CannotRead {
            why: format!("{path}: {error}"),
            disk_failed: error.kind() != io::ErrorKind::InvalidData,
        }
    }
}

impl From<String> for CannotRead {
    fn from(why: String) -> CannotRead {
        CannotRead { why, disk_failed: false }
    }
}

impl TopicFile {
    /// What a new topic's file says.
    pub(super) fn new(partitions: u32, overrides: Overrides) -> TopicFile {
        TopicFile { id: random::uuid(), overrides, partitions: vec![PartitionLines::default(); partitions as usize] }
    }

    /// Reads a file, if there is one. An error names the file, and the line that is wrong.
    pub(super) fn read(disk: &dyn Disk, path: &Path, defaults: &Settings) -> Result<Option<TopicFile>, CannotRead> {
        let Some(text) = Text::read(disk, path, BYTES_MAX).map_err(CannotRead::at(path))? else { return Ok(None) };
        let (mut id, mut count, mut scratch) = (None, None, defaults.clone());
        let mut file = TopicFile { id: [0; 16], overrides: Overrides::new(), partitions: Vec::new() };
        for line in text.lines() {
            let bad = || line.error(path, "is no line of a topic file");
            let (name, value) = line.field().ok_or_else(bad)?;
            match name.as_str() {
                "id" => id = Some(random::parse(&value).ok_or_else(bad)?),
                "partitions" => count = Some(value.parse::<u32>().ok().ok_or_else(bad)?),
                "partition" => {
                    let (index, lines) = PartitionLines::parse(&line).ok_or_else(bad)?;
                    if index != file.partitions.len() {
                        let why = format!("stands where partition {} follows", file.partitions.len());
                        return Err(line.error(path, why).into());
                    }
                    file.partitions.push(lines);
                }
                "epoch" => {
                    let (index, past) = EpochEnd::parse(&line).ok_or_else(bad)?;
                    let last = file.partitions.len().checked_sub(1).filter(|&last| last == index);
                    let taken = last.is_some_and(|last| file.partitions[last].epochs.push(past));
                    taken.then_some(()).ok_or_else(bad)?;
                }
                _ => {
                    // Files of earlier versions have some values as clients wrote them.
                    let setting =
                        scratch.set(&name, &value).map_err(|why| line.error(path, format!("is wrong: {why}")))?;
                    file.overrides.insert(name, setting.value(&scratch));
                }
            }
        }
        let whole =
            count.filter(|&count| (1..=PARTITIONS_MAX).contains(&count) && count as usize == file.partitions.len());
        defaults.with(&file.overrides).map_err(|why| format!("{}: {why}", path.display()))?;
        match (id, whole) {
            (Some(id), Some(_)) => Ok(Some(TopicFile { id, ..file })),
            _ => Err(CannotRead::from(format!(
                "{}: it must have the lines id:<id>, partitions:<n> and one for each partition, partition:<p> start:<offset> epoch:<n>",
                path.display()
            ))),
        }
    }

    fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        lines.push(&[("id", &random::shown(&self.id))]);
        lines.push(&[("partitions", &self.partitions.len())]);
        self.overrides.iter().for_each(|(name, value)| lines.push(&[(name, value)]));
        for (index, PartitionLines { start, epochs }) in self.partitions.iter().enumerate() {
            lines.push(&[("partition", &index), ("start", start), ("epoch", &epochs.current())]);
            for EpochEnd { epoch, end } in epochs.past() {
                lines.push(&[("epoch", epoch), ("partition", &index), ("end", end)]);
            }
        }
        lines
    }

    /// Replaces the file, durably. After an error it says what it said before, and so it will after a restart.
    pub(super) fn write(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        disk::replace(disk, path, self.lines().bytes(BYTES_MAX)?)
    }

    /// The same, on a full disk with the room that was reserved.
    pub(super) fn write_with(&self, reserve: &Reserve, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        reserve.replace(disk, path, self.lines().bytes(BYTES_MAX)?)
    }

    /// How large the file is.
    pub(super) fn bytes(&self) -> usize {
        self.lines().bytes(u64::MAX).map_or(0, <[u8]>::len)
    }
}

impl PartitionLines {
    fn parse(line: &Line<'_>) -> Option<(usize, PartitionLines)> {
        let [index, start, epoch] = line.fields(["partition", "start", "epoch"])?;
        let start = start.parse().ok().filter(|&start| start <= i64::MAX as u64)?;
        let epochs = LeaderEpochs::at(epoch.parse().ok().filter(|&epoch| epoch <= i32::MAX as u32)?);
        Some((index.parse().ok()?, PartitionLines { start, epochs }))
    }
}

impl EpochEnd {
    fn parse(line: &Line<'_>) -> Option<(usize, EpochEnd)> {
        let [epoch, index, end] = line.fields(["epoch", "partition", "end"])?;
        Some((index.parse().ok()?, EpochEnd { epoch: epoch.parse().ok()?, end: end.parse().ok()? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{SETTINGS, canonical},
        log::disk::MemoryDisk,
    };
    use proptest::prelude::*;

    const PATH: &str = "topic";

    fn read(text: &[u8]) -> Result<Option<TopicFile>, CannotRead> {
        let disk = MemoryDisk::default();
        disk.create(Path::new(PATH)).unwrap().write_at(text, 0).unwrap();
        TopicFile::read(&disk, Path::new(PATH), &Settings::default())
    }

    #[test]
    fn a_file_is_lines_that_a_person_can_read() {
        let mut file = TopicFile::new(2, Overrides::from([("retention.ms".into(), "1000".into())]));
        file.id = random::parse("bWVzc2FnZXMtdG9waWMtaQ").unwrap();
        file.partitions[0].epochs.cut(42, 0);
        file.partitions[1].start = 7;
        let text = "id:bWVzc2FnZXMtdG9waWMtaQ\npartitions:2\nretention.ms:1000\n\
                    partition:0 start:0 epoch:1\nepoch:0 partition:0 end:42\npartition:1 start:7 epoch:0\n";
        assert_eq!(String::from_utf8(file.lines().bytes(BYTES_MAX).unwrap().into()).unwrap(), text);
        assert_eq!(read(text.as_bytes()), Ok(Some(file)));
    }

    #[test]
    fn what_is_no_topic_file_is_named_by_its_line() {
        let head = "id:bWVzc2FnZXMtdG9waWMtaQ\npartitions:1\n";
        for (lines, why) in [
            ("x\n", "topic, line 3: 'x' is no line of a topic file"),
            ("x:y\n", "topic, line 3: 'x:y' is wrong: Unknown topic config name: x"),
            ("retention.ms:x\n", "topic, line 3: 'retention.ms:x' is wrong: retention.ms cannot be 'x'; "),
            (
                "partition:1 start:0 epoch:0\n",
                "topic, line 3: 'partition:1 start:0 epoch:0' stands where partition 0 follows",
            ),
            (
                "partition:0 start:-1 epoch:0\n",
                "topic, line 3: 'partition:0 start:-1 epoch:0' is no line of a topic file",
            ),
            (
                "partition:0 start:0 epoch:1\nepoch:1 partition:0 end:5\n",
                "topic, line 4: 'epoch:1 partition:0 end:5' is no",
            ),
            ("epoch:0 partition:0 end:5\n", "topic, line 3: 'epoch:0 partition:0 end:5' is no line of a topic file"),
            ("", "topic: it must have the lines id:<id>, partitions:<n> and one for each partition, "),
            ("partition:0 start:0 epoch:0\npartition:1 start:0 epoch:0\n", "topic: it must have the lines id:<id>, "),
        ] {
            let error = read(format!("{head}{lines}").as_bytes()).unwrap_err().why;
            assert!(error.starts_with(why), "{lines}: {error}");
        }
        assert!(read(b"\xff\n").unwrap_err().why.starts_with("topic, line 1: '\\xff' is no line"));
        assert!(read(&[0; 4096]).unwrap_err().why.starts_with("topic, line 1: '\\x00"));
        assert!(read(b"").is_err());
        assert_eq!(TopicFile::read(&MemoryDisk::default(), Path::new(PATH), &Settings::default()), Ok(None));
    }

    /// A value that a client could set, with what a check that trims would overlook.
    fn value() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            Just("compact"),
            Just("delete"),
            Just("producer"),
            Just("CreateTime"),
            Just("1024"),
            Just("0.5")
        ];
        let noise = "[ ,\\t\\n\\r\\x00\\x0b\u{a0}\u{85}\u{2028}:]{0,3}";
        prop_oneof![
            (noise, word.clone(), noise, word, noise).prop_map(|(a, b, c, d, e)| format!("{a}{b}{c}{d}{e}")),
            (noise, "[0-9]{1,10}", noise).prop_map(|(a, b, c)| format!("{a}{b}{c}")),
            any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn whatever_a_client_sets_is_read_back(
            settings in prop::collection::vec((prop::sample::select(SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>()), value()), 0..20),
            partitions in prop::collection::vec((0..i64::MAX as u64, prop::collection::vec(0..i64::MAX as u64, 0..40)), 1..4),
        ) {
            let mut overrides = Overrides::new();
            for (name, value) in settings {
                let mut more = overrides.clone();
                more.insert(name.to_string(), value);
                if Settings::default().with(&more).is_ok() {
                    overrides = canonical::<Settings>(&more).unwrap();
                }
            }
            let mut file = TopicFile::new(partitions.len() as u32, overrides);
            for (lines, (start, cuts)) in file.partitions.iter_mut().zip(partitions) {
                lines.start = start;
                cuts.into_iter().for_each(|cut| lines.epochs.cut(cut, start));
            }
            prop_assert_eq!(read(file.lines().bytes(BYTES_MAX).unwrap()), Ok(Some(file)));
        }
    }
}

//! What a crash leaves of a disk in memory.
//!
//! ```text
//!              what calls see    kept beside it                    what a crash leaves
//! directory    names as of now   names at the last sync_dir,       those names, and of the changes
//!                                changes since: +c  a>b  -d        any: each happened or did not
//! file page 0  aaaa              none: synced                      aaaa
//!      page 1  bbcc              undo: cc was .., bb.. was ....    ....  bb..  or bbcc
//!      length  8                 4 at the last sync, then 4..=8    4, 8, or anything between
//! ```
//!
//! - A page is 4096 bytes. The kernel may write it out at any moment, so each of its versions since the last sync may be
//!   the one found. To go back, a page keeps the old bytes of each write (an undo log): no more than was written.
//! - A change of names moves one inode from nowhere or a name to a name or nowhere. So a rename is one change, and no
//!   inode is ever found under two names. A rename into another directory is a change in each of them: a crash may leave the
//!   file in both, each a file of its own from then on, or in neither.
//! - A failed sync of a file leaves its pages readable and takes them for clean, as Linux does: no later sync makes them
//!   durable until they are written again, and the next sync finds nothing to do and succeeds. The kernel may fail so on its
//!   own ([`MemoryDisk::fail_writeback`]); then each open handle is told once, at its next sync. When the last handle is
//!   closed, an error that was not reported is forgotten.
//! - A failed sync of a directory takes the changes of its names for clean likewise, until another name of it changes.
//!
//! Simpler than life: files keep their modification time; the room of a removed file is free once its removal is durable
//! and its last handle gone.

use super::{
    Dir, Entries, MemoryDisk, Names, Node,
    dice::{Dice, Survivors},
    file::{Content, Inode},
    machine::{Machine, Turn},
    undo::Undo,
};
use std::{
    ffi::{OsStr, OsString},
    sync::{Arc, Mutex},
};

impl MemoryDisk {
    /// Cuts power if it is still on, and answers a disk as it may be found then: all on it durable, capacity and clock as
    /// they were, no fault waiting. It may be asked again, for other survivors; the same ones are the same disk.
    ///
    /// # Panics
    /// If the disk was not made by [`MemoryDisk::crashable`].
    pub fn reboot(&self, survivors: Survivors) -> Self {
        let machine = self.machine().restarted();
        let seed = if let Survivors::Seed(seed) = survivors { seed } else { 0 };
        let root = self.root.survivor(&mut Dice { survivors, state: seed }, &machine);
        Self { root: Arc::new(root), machine: Some(machine) }
    }
}

/// A directory's names at its last sync, and the changes since.
#[derive(Debug)]
pub(super) struct PendingNames {
    durable: Entries,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    node: Node,
    /// The name it went to.
    to: Option<OsString>,
    /// Whether the next sync makes it durable.
    dirty: bool,
}

impl PendingNames {
    pub(super) fn since(durable: &Entries) -> Self {
        Self { durable: durable.clone(), changes: Vec::new() }
    }

    pub(super) fn push(&mut self, node: &Node, to: Option<&OsStr>) {
        // The names stand in one page: what a sync failed on is written again with the next change.
        self.changes.iter_mut().for_each(|old| old.dirty = true);
        self.changes.push(Change { node: node.clone(), to: to.map(OsStr::to_owned), dirty: true });
    }

    /// Makes changes durable; answers what is left. What it fails on counts as clean.
    pub(super) fn sync(mut self, turn: &Turn) -> Option<Self> {
        let synced = turn.share(self.changes.len());
        for Change { node, to, .. } in self.changes.extract_if(..synced, |change| change.dirty) {
            move_node(&mut self.durable, &node, to.as_deref());
        }
        self.changes.iter_mut().for_each(|change| change.dirty &= !turn.fails());
        (!self.changes.is_empty()).then_some(self)
    }

    fn survivor(&self, mut dice: Dice) -> Entries {
        let mut entries = self.durable.clone();
        for Change { node, to, .. } in &self.changes {
            if dice.up_to(1) == 1 {
                move_node(&mut entries, node, to.as_deref());
            }
        }
        entries
    }
}

fn move_node(entries: &mut Entries, node: &Node, to: Option<&OsStr>) {
    entries.retain(|_, other| !other.is(node));
    if let Some(to) = to {
        entries.insert(to.to_owned(), node.clone());
    }
}

impl Dir {
    fn survivor(&self, dice: &mut Dice, machine: &Arc<Machine>) -> Self {
        let names = self.names();
        let of_names = dice.of_one();
        let entries = names.pending.as_ref().map_or_else(|| names.now.clone(), |pending| pending.survivor(of_names));
        let survivors = entries.into_iter().map(|(name, node)| match node {
            Node::Dir(dir) => (name, Node::Dir(Arc::new(dir.survivor(dice, machine)))),
            Node::File(file) => (name, Node::File(Arc::new(file.survivor(dice, machine)))),
        });
        Self(Mutex::new(Names { now: survivors.collect(), pending: None }))
    }
}

impl Inode {
    fn survivor(&self, dice: &mut Dice, machine: &Arc<Machine>) -> Self {
        let content = self.read();
        let undo = content.undo.as_ref().expect("a disk that can crash keeps an undo log for each file");
        let mut chunks = content.chunks.clone();
        let length = undo.take_back(&mut chunks, content.length, dice.of_one());
        machine.use_room(0, length);
        let undo = Some(Undo::none(length));
        let content = Content { chunks, length, modified_ms: content.modified_ms, undo, ..Content::default() };
        Self::new(content, Some(machine.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::*, Call, Fault},
        *,
    };
    use std::{collections::BTreeSet, io, path::Path};

    const ROOT: &str = "";
    const F: &str = "f";

    fn disk_with(files: &[(&str, &[u8])]) -> MemoryDisk {
        let disk = MemoryDisk::crashable();
        for (name, bytes) in files {
            let file = disk.create(Path::new(name)).unwrap();
            file.write_at(bytes, 0).unwrap();
            file.sync().unwrap();
        }
        disk.sync_dir(Path::new(ROOT)).unwrap();
        disk
    }

    /// What a directory holds; runs of a byte in a long file as one letter.
    fn found(disk: &dyn Disk, dir: &Path) -> String {
        let held = |Name { name, is_dir }: &Name| match dir.join(name) {
            path if *is_dir => format!("{name}:({})", found(disk, &path)),
            path => format!("{name}:{}", text(disk, &path)),
        };
        disk.list(dir).unwrap().iter().map(held).collect::<Vec<_>>().join(" ")
    }

    fn text(disk: &dyn Disk, path: &Path) -> String {
        let mut bytes = read_small(disk, path, 1 << 20).unwrap();
        if bytes.len() > 100 {
            bytes.dedup();
        }
        String::from_utf8(bytes).unwrap().replace('\0', ".")
    }

    fn after(disk: &MemoryDisk, survivors: Survivors) -> String {
        found(&disk.reboot(survivors), Path::new(ROOT))
    }

    /// All that many seeds find if power fails now.
    fn outcomes(disk: &MemoryDisk) -> BTreeSet<String> {
        let outcomes: BTreeSet<_> = (0..1000).map(|seed| after(disk, Survivors::Seed(seed))).collect();
        assert!([Survivors::Nothing, Survivors::Everything].iter().all(|end| outcomes.contains(&after(disk, *end))));
        outcomes
    }

    fn set<const N: usize>(expected: [&str; N]) -> BTreeSet<String> {
        expected.map(String::from).into()
    }

    #[test]
    fn each_page_survives_by_itself_in_any_version_since_the_sync() {
        let disk = disk_with(&[(F, &[[b'a'; 4096], [b'b'; 4096]].concat())]);
        let file = disk.open(Path::new(F)).unwrap();
        file.write_at(&[[b'c'; 4096], [b'd'; 4096]].concat(), 0).unwrap();
        file.write_at(&[b'e'; 4096], 4096).unwrap();
        assert_eq!(outcomes(&disk), set(["f:ab", "f:ad", "f:ae", "f:cb", "f:cd", "f:ce"]));
        assert_eq!(after(&disk, Survivors::Nothing), "f:ab");
        assert_eq!(after(&disk, Survivors::Everything), "f:ce");
    }

    #[test]
    fn appended_bytes_survive_by_length_and_by_page() {
        let disk = disk_with(&[(F, b"aa")]);
        disk.open(Path::new(F)).unwrap().write_at(b"bb", 2).unwrap();
        assert_eq!(outcomes(&disk), set(["f:aa", "f:aa.", "f:aa..", "f:aab", "f:aabb"]));
        for rebooted in (0..100).map(|seed| disk.reboot(Survivors::Seed(seed))) {
            let (file, found) = (rebooted.open(Path::new(F)).unwrap(), text(&rebooted, Path::new(F)));
            file.set_len(5).unwrap();
            assert_eq!(text(&rebooted, Path::new(F)), format!("{found:.<5}"));
        }
    }

    #[test]
    fn cut_bytes_may_come_back() {
        let disk = disk_with(&[(F, b"aaaa")]);
        disk.open(Path::new(F)).unwrap().set_len(2).unwrap();
        assert_eq!(outcomes(&disk), set(["f:aa", "f:aa.", "f:aa..", "f:aaa", "f:aaaa"]));
    }

    #[test]
    fn synced_bytes_survive() {
        let disk = disk_with(&[(F, b"aa")]);
        let file = disk.open(Path::new(F)).unwrap();
        file.write_at(b"bb", 2).unwrap();
        file.sync().unwrap();
        assert_eq!(outcomes(&disk), set(["f:aabb"]));
    }

    #[test]
    fn each_change_of_names_survives_by_itself() {
        let disk = disk_with(&[("a", b"1"), ("b", b"2"), ("d", b"4")]);
        disk.create(Path::new("c")).unwrap();
        disk.rename(Path::new("a"), Path::new("b")).unwrap();
        disk.remove_file(Path::new("d")).unwrap();
        let renamed = ["b:1", "b:1 c:", "b:1 d:4", "b:1 c: d:4"];
        let old = ["a:1 b:2", "a:1 b:2 c:", "a:1 b:2 d:4", "a:1 b:2 c: d:4"];
        assert_eq!(outcomes(&disk), &set(renamed) | &set(old));
    }

    #[test]
    fn synced_names_survive() {
        let disk = disk_with(&[("a", b"1")]);
        disk.rename(Path::new("a"), Path::new("b")).unwrap();
        disk.sync_dir(Path::new(ROOT)).unwrap();
        disk.create(Path::new("c")).unwrap();
        assert_eq!(outcomes(&disk), set(["b:1", "b:1 c:"]));
    }

    #[test]
    fn file_is_never_found_under_two_names() {
        let disk = disk_with(&[("a", b"1")]);
        disk.rename(Path::new("a"), Path::new("b")).unwrap();
        disk.rename(Path::new("b"), Path::new("c")).unwrap();
        assert_eq!(outcomes(&disk), set(["a:1", "b:1", "c:1"]));
    }

    #[test]
    fn made_directory_may_be_gone_and_removed_tree_partly_there() {
        let disk = MemoryDisk::crashable();
        ["d", "d/e"].into_iter().for_each(|dir| disk.create_dir(Path::new(dir)).unwrap());
        disk.create(Path::new("d/e/f")).unwrap();
        disk.sync_dir(Path::new("d/e")).unwrap();
        disk.sync_dir(Path::new("d")).unwrap();
        assert_eq!(outcomes(&disk), set(["", "d:(e:(f:))"]));
        let disk = disk.reboot(Survivors::Everything);
        disk.remove_dir(Path::new("d")).unwrap();
        assert_eq!(outcomes(&disk), set(["", "d:()", "d:(e:())", "d:(e:(f:))"]));
    }

    #[test]
    fn what_a_sync_failed_on_is_durable_only_when_written_again() {
        for (syncs, again, durable) in [(0, false, "f:a"), (1, false, "f:a."), (1, true, "f:ab")] {
            let disk = disk_with(&[(F, b"a")]);
            let file = disk.open(Path::new(F)).unwrap();
            file.write_at(b"b", 1).unwrap();
            disk.fault(Call::Sync, 1, Fault::Error);
            file.sync().unwrap_err();
            assert_eq!(found(&disk, Path::new(ROOT)), "f:ab");
            if again {
                file.write_at(b"b", 1).unwrap();
            }
            (0..syncs).for_each(|_| file.sync().unwrap());
            assert_eq!(after(&disk, Survivors::Nothing), durable);
            assert_eq!(after(&disk, Survivors::Everything), "f:ab");
        }
    }

    #[test]
    fn names_that_a_sync_failed_on_are_durable_only_when_one_changes_again() {
        for (syncs, again, durable) in [(0, false, ""), (1, false, ""), (1, true, "f:")] {
            let disk = MemoryDisk::crashable();
            disk.create(Path::new(F)).unwrap();
            disk.fault(Call::Sync, 1, Fault::Error);
            disk.sync_dir(Path::new(ROOT)).unwrap_err();
            if again {
                disk.create(Path::new("g")).unwrap();
                disk.remove_file(Path::new("g")).unwrap();
            }
            (0..syncs).for_each(|_| disk.sync_dir(Path::new(ROOT)).unwrap());
            assert_eq!(outcomes(&disk), set([durable, "f:"]));
        }
    }

    #[test]
    fn each_handle_is_told_once_of_a_write_back_that_failed() {
        let disk = disk_with(&[(F, b"a")]);
        let (one, other) = (disk.open(Path::new(F)).unwrap(), disk.open(Path::new(F)).unwrap());
        one.write_at(b"b", 1).unwrap();
        disk.fail_writeback(Path::new(F));
        let late = disk.open(Path::new(F)).unwrap();
        one.sync().unwrap_err();
        // Who opens it when somebody was told hears nothing; who had opened it before does.
        disk.open(Path::new(F)).unwrap().sync().unwrap();
        for handle in [&other, &late] {
            handle.sync().unwrap_err();
            handle.sync().unwrap();
        }
        one.sync().unwrap();
        assert_eq!(after(&disk, Survivors::Nothing), "f:a.");
    }

    #[test]
    fn what_nobody_was_told_is_forgotten_with_the_last_handle() {
        let disk = disk_with(&[(F, b"a")]);
        let file = disk.open(Path::new(F)).unwrap();
        file.write_at(b"b", 1).unwrap();
        disk.fail_writeback(Path::new(F));
        drop(file);
        disk.open(Path::new(F)).unwrap().sync().unwrap();
        assert_eq!(after(&disk, Survivors::Nothing), "f:a.");
    }

    /// Runs `change` into a crash at each call; answers what is found of the file `s` then.
    fn every_crash(change: impl Fn(&MemoryDisk) -> io::Result<()>) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for fault in [Fault::CrashBefore, Fault::CrashMidway, Fault::CrashAfter] {
            for nth in 1.. {
                let disk = disk_with(&[("s", b"old")]);
                disk.fault(Call::Any, nth, fault);
                let done = change(&disk);
                assert_eq!(disk.crashed(), done.is_err());
                let crashed = disk.crashed();
                all.extend((0..200).map(|seed| text(&disk.reboot(Survivors::Seed(seed)), Path::new("s"))));
                if !crashed {
                    break;
                }
            }
        }
        all
    }

    #[test]
    fn replaced_file_is_old_or_new_after_every_crash() {
        assert_eq!(every_crash(|disk| replace(disk, Path::new("s"), b"new")), set(["new", "old"]));
    }

    #[test]
    fn crash_finds_a_sync_that_comes_too_late() {
        let careless = |disk: &MemoryDisk| {
            let file = disk.create(Path::new("t"))?;
            file.write_at(b"new", 0)?;
            disk.rename(Path::new("t"), Path::new("s"))?;
            file.sync()
        };
        assert!(every_crash(careless).is_superset(&set(["", ".", "..", "...", "n", "ne", "new", "old"])));
    }

    #[test]
    fn seed_decides_what_is_found() {
        let disk = disk_with(&[(F, &[b'a'; 30 * 4096])]);
        disk.open(Path::new(F)).unwrap().write_at(&[b'b'; 30 * 4096], 0).unwrap();
        let find = |seed| after(&disk, Survivors::Seed(seed));
        assert!((0..50).all(|seed| find(seed) == find(seed)));
        assert!(outcomes(&disk).len() > 10);
    }
}

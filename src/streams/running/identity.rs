//! Who this process is to the broker: the same whenever it is started on the same folder, so that what it left open when it was killed
//! ends as soon as it is back, and not with the time that a transaction may take.

use crate::{broker::random, streams::error::Error};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::Path,
};

/// The number of a process. The folder of its state is its own for as long as it has this.
pub(super) struct Identity {
    pub(super) number: u64,
    _lock: Option<File>,
}

impl Identity {
    /// That of the folder; a new one without a folder.
    pub(super) fn of(state_dir: Option<&Path>, application: &str) -> Result<Identity, Error> {
        let Some(dir) = state_dir else { return Ok(Identity { number: random::number(), _lock: None }) };
        let path = dir.join(format!("{application}.process"));
        let failed = |error: io::Error| Error::State(format!("{}: {error}", path.display()));
        fs::create_dir_all(dir).map_err(failed)?;
        let options = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = options.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let why = format!("{} is the folder of another process that runs {application}", dir.display());
                return Err(Error::State(why));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // What is no number is of a process that was killed while it wrote it.
        let mut text = Vec::new();
        (&file).take(LENGTH).read_to_end(&mut text).map_err(failed)?;
        let known = str::from_utf8(&text).ok().and_then(|text| u64::from_str_radix(text.strip_suffix('\n')?, 16).ok());
        let number = known.unwrap_or_else(random::number);
        if known.is_none() {
            file.set_len(0).map_err(failed)?;
            io::Seek::rewind(&mut file).map_err(failed)?;
            file.write_all(format!("{number:016x}\n").as_bytes()).map_err(failed)?;
        }
        Ok(Identity { number, _lock: Some(file) })
    }
}

/// The length of the file, in bytes.
const LENGTH: u64 = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_process_and_it_is_the_same_again() {
        let dir = std::env::temp_dir().join(format!("plainlog-identity-{}", std::process::id()));
        let first = Identity::of(Some(&dir), "a").unwrap();
        let other = Identity::of(Some(&dir), "b").unwrap();
        assert_ne!(first.number, other.number);
        let refused = Identity::of(Some(&dir), "a").err().unwrap().to_string();
        assert!(refused.contains("is the folder of another process that runs a"), "{refused}");
        let number = first.number;
        drop(first);
        assert_eq!(Identity::of(Some(&dir), "a").unwrap().number, number);
        fs::write(dir.join("a.process"), "12").unwrap();
        let new = Identity::of(Some(&dir), "a").unwrap().number;
        assert_eq!(Identity::of(Some(&dir), "a").unwrap().number, new);
        fs::remove_dir_all(&dir).unwrap();
    }
}

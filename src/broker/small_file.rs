//! The small files beside the log, `topic`, `~broker`, `~configs`, `~features` and `~security`: lines of fields, which a person
//! can read and mend.
//!
//! ```text
//! id:bWVzc2FnZXMtdG9waWMtaQ
//! retention.ms:1000
//! partition:0 start:42 epoch:1
//! ```
//!
//! - A value is a word of the record format: whatever would end the word or its line is escaped. So what a client names or
//!   sets is read back as it was, and never becomes a line of its own.
//! - A line that a person has no reason to change may end with a field `crc`, the CRC-32C of what stands before it.
//! - No file is written that its reader would refuse as too large.
//! - An error names the file and the line.

use super::{Error, Result};
use crate::log::{
    batches::crc32c,
    disk::{self, Disk},
    record::{shown, unescape, write_header_name, write_word},
};
use std::{fmt::Display, io, path::Path};

/// The largest of the broker's own files, which stand in the data directory.
pub(super) const OWN_BYTES_MAX: u64 = 1 << 20;

/// Says which file an error is about.
pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> io::Error + use<> {
    let path = path.display().to_string();
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}

/// What such a file will say.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// Adds a line of fields: their names and values.
    pub(super) fn push(&mut self, fields: &[(&str, &dyn Display)]) {
        self.fields(fields);
        self.0.push(b'\n');
    }

    fn fields(&mut self, fields: &[(&str, &dyn Display)]) {
        for (index, (name, value)) in fields.iter().enumerate() {
            if index > 0 {
                self.0.push(b' ');
            }
            write_header_name(&mut self.0, name.as_bytes());
            self.0.push(b':');
            write_word(&mut self.0, value.to_string().as_bytes());
        }
    }

    /// Adds a line of a kind, whose name stands before the fields, with the CRC of the line as its last field.
    pub(super) fn push_kind(&mut self, kind: &str, fields: &[(&str, &dyn Display)]) {
        let start = self.0.len();
        self.0.extend_from_slice(kind.as_bytes());
        self.0.push(b' ');
        self.fields(fields);
        let crc = crc32c(&self.0[start..]);
        self.0.extend_from_slice(format!(" crc:{crc:08x}\n").as_bytes());
    }

    /// The bytes of the file, if its reader takes so many.
    pub(super) fn bytes(&self, bytes_max: u64) -> io::Result<&[u8]> {
        if self.0.len() as u64 > bytes_max {
            let why = format!("{} bytes, where at most {bytes_max} are read back", self.0.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(&self.0)
    }
}

/// What such a file says.
#[derive(Debug, Default)]
pub(super) struct Text(Vec<u8>);

impl Text {
    /// Reads a file. `None`: there is none.
    pub(super) fn read(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Option<Text>> {
        match disk::read_small(disk, path, bytes_max) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(Text(read?))),
        }
    }

    /// Reads one of the broker's own files. `None`: there is none.
    pub(super) fn of_broker(disk: &dyn Disk, path: &Path, bytes_max: u64) -> Result<Option<Text>> {
        Text::read(disk, path, bytes_max).map_err(|error| Error::of_disk(&at(path)(error)))
    }

    /// The bytes of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The lines in order. An editor may have ended them with CR LF.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let bytes = self.0.strip_suffix(b"\n").unwrap_or(&self.0);
        let lines = bytes.split(|&byte| byte == b'\n').zip(1..).filter(|_| !bytes.is_empty());
        lines.map(|(text, number)| Line { number, text: text.strip_suffix(b"\r").unwrap_or(text) })
    }
}

/// A line, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    number: usize,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    /// The first field's name, and as its value the rest of the line: an editor may have put spaces there.
    pub(super) fn field(&self) -> Option<(String, String)> {
        let (name, value) = split(self.text)?;
        Some((text(name)?, text(value)?))
    }

    /// The names and values of all its fields.
    pub(super) fn all_fields(&self) -> Option<Vec<(String, String)>> {
        let fields = self.text.split(|&byte| byte == b' ').map(split);
        fields.map(|field| field.and_then(|(name, value)| Some((text(name)?, text(value)?)))).collect()
    }

    /// The values of a line that has fields of these names, in this order and no others.
    pub(super) fn fields<const N: usize>(&self, names: [&str; N]) -> Option<[String; N]> {
        let words = self.text.split(|&byte| byte == b' ').collect::<Vec<_>>();
        let words: [&[u8]; N] = words.try_into().ok()?;
        let mut values = [const { String::new() }; N];
        for ((word, name), value) in words.iter().zip(names).zip(&mut values) {
            let (found, escaped) = split(word)?;
            *value = text(escaped).filter(|_| found == name.as_bytes())?;
        }
        Some(values)
    }

    /// The line without its last field, which is its CRC; `None`: it has none, or another.
    pub(super) fn checked(&self) -> Option<Self> {
        let (text, crc) = self.text.split_at(memchr::memrchr(b' ', self.text)?);
        (crc == format!(" crc:{:08x}", crc32c(text)).as_bytes()).then_some(Line { text, ..*self })
    }

    /// The kind of a line that was checked, and what stands behind it.
    pub(super) fn kind(&self) -> Option<(&'a [u8], Self)> {
        let (kind, text) = self.text.split_at(memchr::memchr(b' ', self.text)?);
        Some((kind, Line { text: &text[1..], ..*self }))
    }

    /// What is wrong with this line of the file at `path`.
    pub(super) fn error(&self, path: &Path, why: impl Display) -> String {
        format!("{}, line {}: '{}' {why}", path.display(), self.number, shown(self.text))
    }

    /// The same of a line that nobody may read.
    pub(super) fn secret_error(&self, path: &Path, why: impl Display) -> String {
        format!("{}, line {} {why}", path.display(), self.number)
    }
}

fn split(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', field)?;
    Some((&field[..colon], &field[colon + 1..]))
}

fn text(escaped: &[u8]) -> Option<String> {
    String::from_utf8(unescape(escaped).ok()?.into_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(lines: &Lines) -> Text {
        Text(lines.0.clone())
    }

    #[test]
    fn lines_of_an_editor_are_read_too() {
        let text = Text(b"cleanup.policy:compact, delete\r\npartition:0 start:1\n\nstart:1 partition:0".to_vec());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0].field(), Some(("cleanup.policy".into(), "compact, delete".into())));
        assert_eq!(lines[1].fields(["partition", "start"]), Some(["0".into(), "1".into()]));
        assert_eq!((lines[2].field(), lines[2].fields(["partition"])), (None, None));
        assert_eq!(lines[3].fields(["partition", "start"]), None);
        let expected = "data/t/topic, line 2: 'partition:0 start:1' is odd";
        assert_eq!(lines[1].error(Path::new("data/t/topic"), "is odd"), expected);
        assert_eq!(Text(Vec::new()).lines().count(), 0);
    }

    #[test]
    fn a_line_with_a_crc_is_read_as_it_was_written_or_not_at_all() {
        let mut lines = Lines::default();
        lines.push_kind("user", &[("name", &"al ice"), ("key", &"k")]);
        let bytes = lines.bytes(100).unwrap();
        let read =
            |bytes: &[u8]| Text(bytes.to_vec()).lines().next().and_then(|line| line.checked()?.kind()?.1.all_fields());
        let fields = [("name", "al ice"), ("key", "k")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(read(bytes), Some(fields.into()));
        for at in 0..bytes.len() - 1 {
            let mut bent = bytes.to_vec();
            bent[at] ^= 1;
            assert_eq!(read(&bent), None, "{at}");
        }
    }

    #[test]
    fn a_file_that_its_reader_would_refuse_is_not_written() {
        let mut lines = Lines::default();
        lines.push(&[("name", &"value")]);
        assert_eq!(lines.bytes(11).unwrap(), b"name:value\n");
        assert_eq!(lines.bytes(10).unwrap_err().to_string(), "11 bytes, where at most 10 are read back");
    }

    proptest! {
        #[test]
        fn any_name_and_value_is_read_back_as_it_was(all in prop::collection::vec((any::<String>(), any::<String>()), 1..4)) {
            let mut lines = Lines::default();
            all.iter().for_each(|(name, value)| lines.push(&[(name, value)]));
            let fields: Vec<(&str, &dyn Display)> = all.iter().map(|(name, value)| (name.as_str(), value as _)).collect();
            lines.push(&fields);
            let text = read(&lines);
            let found: Vec<_> = text.lines().collect();
            prop_assert_eq!(found.len(), all.len() + 1);
            for (line, field) in found.iter().zip(&all) {
                prop_assert_eq!(&line.field().unwrap(), field);
            }
        }
    }
}

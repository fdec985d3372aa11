//! How a message of the input becomes a record.

use crate::client::{Header, Record};
#[cfg(feature = "comfort")]
use crate::protocol::record_json;
use memchr::memmem;

/// What each message is, and what all records have in common.
#[derive(Clone, Debug, Default)]
pub struct Intake {
    /// The key of every record.
    pub key: Option<Vec<u8>>,
    /// What stands between key and value; a message without it has no key.
    pub key_separator: Option<Vec<u8>>,
    /// The headers of every record.
    pub headers: Vec<Header>,
    /// The partition of every record; it goes before what a JSON object says.
    pub partition: Option<u32>,
    /// Whether an empty value is a tombstone.
    pub empty_is_tombstone: bool,
    /// Whether each message is a JSON object, as `consumer --json` writes them.
    pub json: bool,
}

impl Intake {
    /// Makes `record` what `message` says; its allocations are used again.
    pub fn fill(&self, record: &mut Record, message: &[u8]) -> Result<(), String> {
        if self.json {
            *record = from_json(message)?;
            record.partition = self.partition.or(record.partition);
            return Ok(());
        }
        let (key, value) = self.divide(message);
        replace(&mut record.key, key);
        replace(&mut record.value, if self.empty_is_tombstone && value.is_empty() { None } else { Some(value) });
        if record.headers != self.headers {
            record.headers.clone_from(&self.headers);
        }
        record.partition = self.partition;
        Ok(())
    }

    fn divide<'a>(&'a self, message: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
        let Some(separator) = &self.key_separator else { return (self.key.as_deref(), message) };
        match memmem::find(message, separator) {
            Some(at) => (Some(&message[..at]), &message[at + separator.len()..]),
            None => (None, message),
        }
    }
}

fn replace(field: &mut Option<Vec<u8>>, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes else {
        *field = None;
        return;
    };
    let field = field.get_or_insert_default();
    field.clear();
    field.extend_from_slice(bytes);
}

#[cfg(feature = "comfort")]
fn from_json(message: &[u8]) -> Result<Record, String> {
    let record_json::Record { partition, timestamp, key, headers, value } = record_json::read(message)?;
    Ok(Record { value, key, headers, timestamp, partition })
}

/// Why a build without the feature refuses JSON.
#[cfg(not(feature = "comfort"))]
pub(super) const NO_JSON: &str = "JSON needs the feature 'comfort', which this build was made without";

#[cfg(not(feature = "comfort"))]
fn from_json(_message: &[u8]) -> Result<Record, String> {
    Err(NO_JSON.into())
}

/// `NAME=VALUE`; the name ends at the first `=`.
pub fn header(text: &str) -> Result<Header, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is no header; write NAME=VALUE"))?;
    Ok((name.as_bytes().to_vec().into(), Some(value.as_bytes().to_vec().into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(intake: &Intake, message: &str) -> Record {
        let mut record = Record::new("old").key("old").header("old", "old").partition(9);
        intake.fill(&mut record, message.as_bytes()).unwrap();
        record
    }

    #[test]
    fn a_message_is_a_value() {
        assert_eq!(filled(&Intake::default(), "a:b"), Record::new("a:b"));
        assert_eq!(filled(&Intake::default(), ""), Record::new(""));
    }

    #[test]
    fn all_records_have_what_was_given_for_all() {
        let headers = vec![header("a=1=2").unwrap()];
        let intake = Intake { key: Some(b"k".into()), headers, partition: Some(3), ..Intake::default() };
        assert_eq!(filled(&intake, "v"), Record::new("v").key("k").header("a", "1=2").partition(3));
        assert!(header("a").is_err());
    }

    #[test]
    fn a_separator_divides_key_and_value() {
        let intake = Intake { key_separator: Some(b"::".into()), empty_is_tombstone: true, ..Intake::default() };
        assert_eq!(filled(&intake, "k::v::w"), Record::new("v::w").key("k"));
        assert_eq!(filled(&intake, "::v"), Record::new("v").key(""));
        assert_eq!(filled(&intake, "v"), Record::new("v"));
        assert_eq!(filled(&intake, "k::"), Record::tombstone("k"));
        assert_eq!(filled(&intake, ""), Record::default());
    }

    #[cfg(feature = "comfort")]
    #[test]
    fn a_partition_for_all_goes_before_that_of_an_object() {
        let json = r#"{"value":"v","partition":1}"#;
        let intake = Intake { json: true, ..Intake::default() };
        assert_eq!(filled(&intake, json), Record::new("v").partition(1));
        assert_eq!(filled(&Intake { partition: Some(0), ..intake }, json), Record::new("v").partition(0));
    }

    #[cfg(not(feature = "comfort"))]
    #[test]
    fn json_names_the_feature_that_reads_it() {
        let intake = Intake { json: true, ..Intake::default() };
        assert!(intake.fill(&mut Record::default(), b"{}").unwrap_err().contains("feature 'comfort'"));
    }
}

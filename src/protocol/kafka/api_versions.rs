//! What is served: ApiVersions (KIP-511), with the features that clients may count on (KIP-584).
//!
//! ```text
//! code │ key, first and last version of each API │ throttle │ tags   0 supported    name, first, last level
//!                                                                   1 epoch        of the finalized ones
//!                                                                   2 finalized    name, last, first level
//! ```
//!
//! The one feature is `transaction.version`. Level 2 is the second protocol of transactions (KIP-890): a client that sees it
//! finalized adds partitions by producing to them, and gets a new epoch from every EndTxn.

use super::{
    APIS, Call, Code, Stop, tell,
    wire::{Reader, Writer, prefixed, write_uvarint},
};

/// The level of `transaction.version` that is in force, which is the last of those supported.
const TRANSACTION_VERSION: i16 = 2;
/// Features cannot be changed here, so their epoch never rises.
const FEATURES_EPOCH: i64 = 0;

/// ApiVersions (key 18).
pub(super) fn api_versions(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let mut code = Code::None;
    if r.version >= 3 {
        let (name, version) = (r.string()?, r.string()?);
        r.tags()?;
        if !is_software_word(name) || !is_software_word(version) {
            code = Code::InvalidRequest;
        }
        tell(call.explained, || format!("which APIs are served here; the client is {name} {version}"));
    }
    write(&mut call.respond(), code);
    Ok(())
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_word(word: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = word.as_bytes();
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|byte| ends(Some(byte)) || b"-.".contains(byte))
}

/// Writes the answer. As in Kafka: nothing for a client whose name is invalid, everything for one that is too new.
pub(super) fn write(w: &mut Writer<'_>, code: Code) {
    w.i16(code.into());
    let told = if code == Code::InvalidRequest { &[] } else { APIS };
    w.array(told.iter(), |w, api| {
        w.i16(api.key);
        w.i16(*api.versions.start());
        w.i16(*api.versions.end());
        w.tags();
    });
    if w.version >= 1 {
        w.i32(0);
    }
    if code == Code::InvalidRequest {
        w.tags();
    } else if w.flexible {
        write_features(w);
    }
}

/// Writes the features as tagged fields. Clients before version 4 cannot read a supported one whose first level is 0 (KIP-1022).
fn write_features(w: &mut Writer<'_>) {
    let supports_zero = w.version >= 4;
    w.uvarint(2 + u32::from(supports_zero));
    let feature = |w: &mut Writer<'_>, levels: [i16; 2]| {
        w.array([levels].iter(), |w, levels| {
            w.string("transaction.version");
            levels.iter().for_each(|&level| w.i16(level));
            w.tags();
        });
    };
    if supports_zero {
        tagged(w, 0, |w| feature(w, [0, TRANSACTION_VERSION]));
    }
    tagged(w, 1, |w| w.i64(FEATURES_EPOCH));
    tagged(w, 2, |w| feature(w, [TRANSACTION_VERSION, TRANSACTION_VERSION]));
}

/// Writes a tagged field: its tag, its length, its value.
fn tagged(w: &mut Writer<'_>, tag: u64, value: impl FnOnce(&mut Writer<'_>)) {
    let (version, flexible) = (w.version, w.flexible);
    write_uvarint(w.out, tag);
    prefixed(w.out, 0, |length| length as u64, |out| value(&mut Writer { out, version, flexible }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_software_is_named_in_plain_letters() {
        for (word, known) in [("ok-1.x", true), ("2", true), ("", false), ("-x", false), ("1_2", false), ("x.", false)]
        {
            assert_eq!(is_software_word(word), known, "{word}");
        }
    }
}

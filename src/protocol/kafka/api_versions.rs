//! What is served: ApiVersions (KIP-511), with the features that clients may count on (KIP-584).
//!
//! ```text
//! code │ key, first and last version of each API │ throttle │ tags   0 supported    name, first, last level
//!                                                                   1 epoch        of the finalized ones
//!                                                                   2 finalized    name, last, first level
//! ```
//!
//! [`FEATURES`] are those whose APIs are served, each at its last level unless UpdateFeatures has put it to another; one at level 0 is
//! not among the finalized ones, and its APIs answer UNSUPPORTED_VERSION, though they are told here. `group.version` 1 is the groups
//! whose partitions the broker assigns (KIP-848), `share.version` 1 share groups (KIP-932). `transaction.version` 2 is the second
//! protocol of transactions (KIP-890), which is served at every level but 0: a client that sees it finalized adds partitions by
//! producing to them, and gets a new epoch from every EndTxn.

use super::{
    APIS, Call, Code, Stop, tell,
    wire::{Reader, Writer},
};
use crate::broker::FeatureLevels;

/// A feature of Kafka's, and the levels that Kafka 4.3 has of it.
#[derive(Debug)]
pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) first: i16,
    pub(super) last: i16,
}

/// Groups whose partitions the broker assigns.
pub(super) const GROUP_VERSION: &str = "group.version";
/// What holds together that Kafka's controllers keep.
pub(super) const METADATA_VERSION: &str = "metadata.version";
/// Share groups.
pub(super) const SHARE_VERSION: &str = "share.version";
/// The second protocol of transactions.
pub(super) const TRANSACTION_VERSION: &str = "transaction.version";

/// The features of this broker.
pub(super) static FEATURES: &[Feature] = &[
    Feature { name: GROUP_VERSION, first: 0, last: 1 },
    Feature { name: METADATA_VERSION, first: 7, last: 30 },
    Feature { name: SHARE_VERSION, first: 0, last: 1 },
    Feature { name: TRANSACTION_VERSION, first: 0, last: 2 },
];

impl Feature {
    /// The level that it is at.
    pub(super) fn level(&self, levels: &FeatureLevels) -> i16 {
        levels.lowered.get(self.name).copied().unwrap_or(self.last)
    }
}

/// ApiVersions (key 18).
pub(super) fn api_versions(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let mut code = if call.session.login.is_chosen() { Code::IllegalSaslState } else { Code::None };
    if r.version >= 3 {
        let (name, version) = (r.string("client_software_name")?, r.string("client_software_version")?);
        r.tags()?;
        if !is_software_word(name) || !is_software_word(version) {
            code = Code::InvalidRequest;
        }
        tell(call.explained, || format!("which APIs are served here; the client is {name} {version}"));
    }
    if code == Code::None {
        call.session.login.greeted();
    }
    let levels = call.broker.feature_levels();
    write(&mut call.respond(), code, &levels);
    Ok(())
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_word(word: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = word.as_bytes();
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|byte| ends(Some(byte)) || b"-.".contains(byte))
}

/// Writes the answer. As in Kafka: nothing for a client whose name is invalid or whose login goes on, everything for one that is too new.
pub(super) fn write(w: &mut Writer<'_>, code: Code, levels: &FeatureLevels) {
    w.i16("error_code", code.into());
    let is_refused = matches!(code, Code::InvalidRequest | Code::IllegalSaslState);
    let told = if is_refused { &[] } else { APIS };
    w.array("api_keys", told.iter(), |w, api| {
        w.i16("api_key", api.key);
        w.i16("min_version", *api.versions.start());
        w.i16("max_version", *api.versions.end());
        w.tags();
    });
    if w.version >= 1 {
        w.throttle_time();
    }
    if is_refused {
        w.tags();
    } else if w.flexible {
        write_features(w, levels);
    }
}

/// Writes the features as tagged fields. Clients before version 4 cannot read a supported one whose first level is 0 (KIP-1022).
fn write_features(w: &mut Writer<'_>, levels: &FeatureLevels) {
    let supported: Vec<&Feature> = FEATURES.iter().filter(|feature| w.version >= 4 || feature.first > 0).collect();
    let finalized: Vec<&Feature> = FEATURES.iter().filter(|feature| feature.level(levels) > 0).collect();
    w.uvarint("_tagged_fields", 3);
    w.tagged(0, |w| {
        w.array("supported_features", supported.iter(), |w, feature| {
            w.string("name", feature.name);
            w.i16("min_version", feature.first);
            w.i16("max_version", feature.last);
            w.tags();
        });
    });
    w.tagged(1, |w| w.i64("finalized_features_epoch", levels.epoch));
    w.tagged(2, |w| {
        w.array("finalized_features", finalized.iter(), |w, feature| {
            w.string("name", feature.name);
            w.i16("max_version_level", feature.level(levels));
            w.i16("min_version_level", feature.level(levels));
            w.tags();
        });
    });
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

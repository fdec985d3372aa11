//! What a cluster's controllers are asked: DescribeQuorum, UpdateFeatures, UnregisterBroker.
//!
//! This node is the whole cluster, and its own controller. It keeps no log of metadata: what Kafka has there stands in files
//! beside the topics, so the offsets of that log are 0.

use super::{
    Call, Code, NODE_ID, Refusal, Stop,
    api_versions::{FEATURES, Feature, METADATA_VERSION},
    configs::security_protocol,
    shown_list, tell,
    wire::Reader,
    write_code,
};
use crate::{
    broker::{FeatureLevels, ResourceName},
    security::Operation,
};
use std::collections::BTreeMap;

/// The log of Kafka's controllers.
const METADATA: &str = "__cluster_metadata";

/// DescribeQuorum (key 55).
pub(super) fn describe_quorum(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let topics = r.array("topics", |r| {
        let name = r.string("topic_name")?;
        let partitions = r.array("partitions", |r| {
            let partition = r.i32("partition_index")?;
            r.tags()?;
            Ok(partition)
        })?;
        r.tags()?;
        Ok((name, partitions))
    })?;
    r.tags()?;
    tell(call.explained, || "which controllers there are".into());
    if let Err(error) = call.broker.ask(Operation::Describe, ResourceName::CLUSTER) {
        let mut w = call.respond();
        w.i16("error_code", error.code().into());
        if w.version >= 2 {
            w.nullable_string("error_message", Some(&error.to_string()));
        }
        w.empty_array("topics");
        if w.version >= 2 {
            w.empty_array("nodes");
        }
        w.tags();
        return Ok(());
    }
    // As in Kafka: asked about anything besides its log, a controller answers about nothing.
    let is_known = matches!(&topics[..], [(METADATA, partitions)] if partitions[..] == [0]);
    let ((host, port), listener) = (call.advertised()?, security_protocol(&call.broker.config().security));
    let now_ms = call.broker.now_ms();
    let code = if is_known { Code::None } else { Code::UnknownTopicOrPartition };
    let mut w = call.respond();
    w.i16("error_code", Code::None.into());
    if w.version >= 2 {
        w.nullable_string("error_message", None);
    }
    w.array("topics", topics.iter(), |w, (name, partitions)| {
        w.string("topic_name", name);
        w.array("partitions", partitions.iter(), |w, &partition| {
            w.i32("partition_index", partition);
            w.i16("error_code", code.into());
            if w.version >= 2 {
                w.nullable_string("error_message", (!is_known).then_some("it is no log of controllers"));
            }
            w.i32("leader_id", if is_known { NODE_ID } else { 0 });
            w.i32("leader_epoch", 0);
            w.i64("high_watermark", 0);
            let voters = if is_known { &[NODE_ID][..] } else { &[] };
            w.array("current_voters", voters.iter(), |w, &id| {
                w.i32("replica_id", id);
                if w.version >= 2 {
                    w.uuid("replica_directory_id", &[0; 16]);
                }
                w.i64("log_end_offset", 0);
                if w.version >= 1 {
                    w.i64("last_fetch_timestamp", now_ms);
                    w.i64("last_caught_up_timestamp", now_ms);
                }
                w.tags();
            });
            w.empty_array("observers");
            w.tags();
        });
        w.tags();
    });
    if w.version >= 2 {
        let nodes = if is_known { &[NODE_ID][..] } else { &[] };
        w.array("nodes", nodes.iter(), |w, &id| {
            w.i32("node_id", id);
            w.array("listeners", [()].iter(), |w, ()| {
                w.string("name", listener);
                w.string("host", &host);
                w.u16("port", port as u16);
                w.tags();
            });
            w.tags();
        });
    }
    w.tags();
    Ok(())
}

/// A feature that is to be at another level.
struct Update<'a> {
    feature: &'a str,
    level: i16,
    kind: i8,
}

/// How a feature may change.
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

impl Update<'_> {
    /// Why this cannot be, where features are at these levels. The checks are in Kafka's order.
    fn check(&self, levels: &FeatureLevels) -> Result<&'static Feature, String> {
        let Update { feature, level, kind } = *self;
        let invalid = |why: String| format!("Invalid update version {level} for feature {feature}. {why}");
        if !(UPGRADE..=UNSAFE_DOWNGRADE).contains(&kind) {
            return Err(invalid("The controller does not support the given upgrade type.".into()));
        }
        if level < 0 {
            return Err(invalid("A feature version cannot be less than 0.".into()));
        }
        let known = FEATURES.iter().find(|known| known.name == feature);
        let known =
            known.ok_or_else(|| invalid(format!("Local controller {NODE_ID} does not support this feature.")))?;
        if !(known.first..=known.last).contains(&level) {
            let (first, last) = (known.first, known.last);
            return Err(invalid(format!("Local controller {NODE_ID} only supports versions {first}-{last}")));
        }
        let now = known.level(levels);
        if level < now && kind == UPGRADE {
            let why = "Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                       unsafe downgrade.";
            return Err(invalid(why.into()));
        }
        if level > now && kind != UPGRADE {
            return Err(invalid("Can't downgrade to a newer version.".into()));
        }
        if level < now && feature == METADATA_VERSION {
            return Err(format!("Unsupported {feature} downgrade from {now} to {level}."));
        }
        Ok(known)
    }
}

/// UpdateFeatures (key 57): all of it is done, durably, or nothing.
pub(super) fn update_features(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    r.i32("timeout_ms")?;
    let updates = r.array("feature_updates", |r| {
        let (feature, level) = (r.string("feature")?, r.i16("max_version_level")?);
        let kind = if r.version >= 1 {
            r.i8("upgrade_type")?
        } else if r.bool("allow_downgrade")? {
            SAFE_DOWNGRADE
        } else {
            UPGRADE
        };
        r.tags()?;
        Ok(Update { feature, level, kind })
    })?;
    let dry = r.version >= 1 && r.bool("validate_only")?;
    r.tags()?;
    tell(call.explained, || {
        let level = |update: &Update<'_>| format!("{} at level {}", update.feature, update.level);
        format!("features: {}", shown_list(updates.iter().map(level)))
    });
    let levels = call.broker.feature_levels();
    let checked = |update: &Update<'_>| {
        let known = update.check(&levels)?;
        Ok((known.name, Some(update.level).filter(|&level| level != known.last)))
    };
    let checked: Result<BTreeMap<_, _>, String> = updates.iter().map(checked).collect();
    let done = match (call.broker.ask(Operation::Alter, ResourceName::CLUSTER), checked) {
        (Err(error), _) => Err(error.into()),
        (Ok(_), checked) => match checked {
            Ok(_) if dry => Ok(()),
            Ok(changes) => call.broker.set_feature_levels(&changes).map_err(Refusal::from),
            Err(why) => {
                let all = "The update failed for all features since the following feature had an error: ";
                Err(Refusal::new(Code::InvalidUpdateVersion, format!("{all}{why}")))
            }
        },
    };
    let mut w = call.respond();
    w.throttle_time();
    write_code(&mut w, done.as_ref().err());
    if w.version <= 1 {
        // As in Kafka: where one is refused none is told by itself.
        let done = if done.is_ok() { &updates[..] } else { &[] };
        w.array("results", done.iter(), |w, update| {
            w.string("feature", update.feature);
            w.i16("error_code", Code::None.into());
            w.nullable_string("error_message", None);
            w.tags();
        });
    }
    w.tags();
    Ok(())
}

/// UnregisterBroker (key 64). The one that is there answers, and so cannot be forgotten.
pub(super) fn unregister_broker(call: &mut Call<'_, '_>, r: &mut Reader<'_>) -> Result<(), Stop> {
    let id = r.i32("broker_id")?;
    r.tags()?;
    tell(call.explained, || format!("to forget broker {id}"));
    let may = call.broker.ask(Operation::Alter, ResourceName::CLUSTER);
    let mut w = call.respond();
    w.throttle_time();
    let (code, why) = match id {
        _ if may.is_err() => {
            (Code::ClusterAuthorizationFailed, may.map_or_else(|error| error.to_string(), |_| String::new()))
        }
        NODE_ID => (Code::InvalidRequest, format!("broker {id} is the whole cluster; stop it instead")),
        _ => (Code::BrokerIdNotRegistered, format!("Broker ID {id} is not currently registered")),
    };
    w.i16("error_code", code.into());
    w.nullable_string("error_message", Some(&why));
    w.tags();
    Ok(())
}

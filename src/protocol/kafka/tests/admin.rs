//! What administrators' tools ask of the node itself. What is expected was asked of Apache Kafka 4.3.1.

use super::*;
use kafka_protocol::messages::{describe_quorum_request as quorum, update_features_request as features};

#[test]
fn features_stay_at_their_last_level() {
    let talk = Talk::new();
    let update = |name: &str, level, kind, dry| {
        let update = features::FeatureUpdateKey::default().with_feature(s(name)).with_max_version_level(level);
        let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update.with_upgrade_type(kind)]);
        let (response, _) = talk.ask(57, 2, &encoded(request.with_validate_only(dry), 2)).unwrap();
        UpdateFeaturesResponse::decode(&mut &response[..], 2).unwrap().error_code
    };
    let transactions = |level, kind, dry| update("transaction.version", level, kind, dry);
    for dry in [true, false] {
        assert_eq!(transactions(2, 1, dry), 0, "that is where it is");
        for (level, kind) in [(99, 1), (-1, 1), (1, 1), (2, 9)] {
            assert_eq!(transactions(level, kind, dry), 95, "{level} {kind}");
        }
        assert_eq!([update("nonsense", 1, 1, dry), update("metadata.version", 29, 3, dry)], [95, 95]);
    }
    assert_eq!([transactions(1, 2, true), transactions(0, 3, true)], [0, 0], "that could be");
    assert_eq!(transactions(1, 2, false), 95, "but is not");
}

#[test]
fn the_quorum_is_this_node_and_has_one_log() {
    let talk = Talk::new();
    let describe = |name: &str, partitions: &[i32]| {
        let partition = |&index: &i32| quorum::PartitionData::default().with_partition_index(index);
        let topic = quorum::TopicData::default().with_topic_name(s(name).into());
        let topic = topic.with_partitions(partitions.iter().map(partition).collect());
        let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
        let (response, _) = talk.ask(55, 2, &encoded(request, 2)).unwrap();
        let response = DescribeQuorumResponse::decode(&mut &response[..], 2).unwrap();
        let voters = |partition: &describe_quorum_response::PartitionData| {
            let voters = partition.current_voters.iter().map(|voter| voter.replica_id.0).collect::<Vec<_>>();
            (partition.error_code, voters)
        };
        (response.topics[0].partitions.iter().map(voters).collect::<Vec<_>>(), response.nodes.len())
    };
    assert_eq!(describe("__cluster_metadata", &[0]), (vec![(0, vec![1])], 1));
    assert_eq!(describe("__cluster_metadata", &[0, 1]), (vec![(3, vec![]), (3, vec![])], 0));
    assert_eq!(describe("there", &[0]), (vec![(3, vec![])], 0));
}

#[test]
fn a_directory_on_a_volume_says_how_much_room_there_is() {
    let folder = std::env::temp_dir().join(format!("plainlog-space-{}", std::process::id()));
    let room = |config| {
        let talk = Talk::with(config);
        let (response, _) = talk.ask(35, 4, &encoded(DescribeLogDirsRequest::default(), 4)).unwrap();
        let response = DescribeLogDirsResponse::decode(&mut &response[..], 4).unwrap();
        (response.results[0].total_bytes, response.results[0].usable_bytes)
    };
    let (total, usable) = room(Config::new(&folder));
    assert!(0 < usable && usable < total, "{usable} of {total}");
    assert_eq!(room(Config::in_memory()), (-1, -1));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn nobody_logs_in_and_no_broker_is_forgotten() {
    let talk = Talk::new();
    let handshake = SaslHandshakeRequest::default().with_mechanism(s("PLAIN"));
    let (response, _) = talk.ask(17, 1, &encoded(handshake, 1)).unwrap();
    assert_eq!(SaslHandshakeResponse::decode(&mut &response[..], 1).unwrap().error_code, 34);
    let (response, _) = talk.ask(41, 3, &encoded(DescribeDelegationTokenRequest::default(), 3)).unwrap();
    assert_eq!(DescribeDelegationTokenResponse::decode(&mut &response[..], 3).unwrap().error_code, 64);
    let user = describe_user_scram_credentials_request::UserName::default().with_name(s("alice"));
    let known = |users| {
        let request = DescribeUserScramCredentialsRequest::default().with_users(users);
        let (response, _) = talk.ask(50, 0, &encoded(request, 0)).unwrap();
        let response = DescribeUserScramCredentialsResponse::decode(&mut &response[..], 0).unwrap();
        response.results.iter().map(|user| user.error_code).collect::<Vec<_>>()
    };
    assert_eq!(
        [known(None), known(Some(vec![user.clone()])), known(Some(vec![user; 2]))],
        [vec![], vec![91], vec![92]]
    );
    let forget = |id: i32| {
        let (response, _) =
            talk.ask(64, 0, &encoded(UnregisterBrokerRequest::default().with_broker_id(id.into()), 0)).unwrap();
        UnregisterBrokerResponse::decode(&mut &response[..], 0).unwrap().error_code
    };
    assert_eq!([forget(1), forget(2)], [42, 102]);
}

mod quotas {
    use super::*;
    use kafka_protocol::messages::{alter_client_quotas_request as alter, describe_client_quotas_request as describe};

    /// Kinds and names.
    type Entity<'a> = &'a [(&'a str, Option<&'a str>)];

    fn set(talk: &Talk, entity: Entity<'_>, quotas: &[(&str, Option<f64>)], dry: bool) -> i16 {
        let of = |&(kind, name): &(&str, Option<&str>)| {
            alter::EntityData::default().with_entity_type(s(kind)).with_entity_name(name.map(s))
        };
        let quota = |&(name, value): &(&str, Option<f64>)| {
            let quota = alter::OpData::default().with_key(s(name)).with_value(value.unwrap_or(0.0));
            quota.with_remove(value.is_none())
        };
        let entry = alter::EntryData::default().with_entity(entity.iter().map(of).collect());
        let entry = entry.with_ops(quotas.iter().map(quota).collect());
        let request = AlterClientQuotasRequest::default().with_entries(vec![entry]).with_validate_only(dry);
        let (response, _) = talk.ask(49, 1, &encoded(request, 1)).unwrap();
        AlterClientQuotasResponse::decode(&mut &response[..], 1).unwrap().entries[0].error_code
    }

    /// Code, and the quotas of each entity that is found.
    fn found(talk: &Talk, components: &[(&str, i8, Option<&str>)], strict: bool) -> (i16, Option<Vec<usize>>) {
        let component = |&(kind, how, name): &(&str, i8, Option<&str>)| {
            let component = describe::ComponentData::default().with_entity_type(s(kind)).with_match_type(how);
            component.with_match(name.map(s))
        };
        let request = DescribeClientQuotasRequest::default().with_strict(strict);
        let request = request.with_components(components.iter().map(component).collect());
        let (response, _) = talk.ask(48, 1, &encoded(request, 1)).unwrap();
        let response = DescribeClientQuotasResponse::decode(&mut &response[..], 1).unwrap();
        let quotas = response.entries.map(|entries| entries.iter().map(|entry| entry.values.len()).collect());
        (response.error_code, quotas)
    }

    #[test]
    fn quotas_are_found_by_whom_they_are_for() {
        let talk = Talk::new();
        let (alice, client) = (("user", Some("alice")), ("client-id", Some("c")));
        let rates = [("producer_byte_rate", Some(1000.0)), ("consumer_byte_rate", Some(2000.0))];
        assert_eq!(set(&talk, &[alice], &rates, false), 0);
        assert_eq!(set(&talk, &[alice, client], &[("request_percentage", Some(50.0))], false), 0);
        assert_eq!(set(&talk, &[("user", None)], &[("request_percentage", Some(5.0))], false), 0);
        assert_eq!(set(&talk, &[alice], &[("request_percentage", Some(7.0))], true), 0);
        let exact = ("user", 0, Some("alice"));
        assert_eq!(found(&talk, &[exact], false), (0, Some(vec![1, 2])));
        assert_eq!(found(&talk, &[exact], true), (0, Some(vec![2])));
        assert_eq!(found(&talk, &[exact, ("client-id", 2, None)], false), (0, Some(vec![1])));
        assert_eq!(found(&talk, &[exact, ("client-id", 1, None)], false), (0, Some(vec![])));
        assert_eq!(found(&talk, &[("user", 1, None)], false), (0, Some(vec![1])));
        assert_eq!(found(&talk, &[], false), (0, Some(vec![1, 1, 2])));
        for (refused, code) in [
            (&[("planet", 2, None)][..], 35),
            (&[("user", 7, None)], 42),
            (&[("user", 0, None)], 42),
            (&[("user", 1, Some("x"))], 42),
            (&[exact, exact], 42),
            (&[exact, ("ip", 2, None)], 42),
        ] {
            assert_eq!(found(&talk, refused, false), (code, None), "{refused:?}");
        }
        let gone = rates.map(|(name, _)| (name, None));
        assert_eq!(set(&talk, &[alice], &gone, false), 0);
        assert_eq!(found(&talk, &[exact], true), (0, Some(vec![])));
    }

    #[test]
    fn what_is_no_quota_is_refused_and_changes_nothing() {
        let talk = Talk::new();
        let (alice, ip) = (("user", Some("alice")), ("ip", Some("10.1.2.3")));
        let rate = ("producer_byte_rate", Some(1.0));
        for (entity, quotas) in [
            (&[alice][..], &[("nonsense", Some(1.0))][..]),
            (&[alice], &[("producer_byte_rate", Some(0.0))]),
            (&[alice], &[("producer_byte_rate", Some(1.5))]),
            (&[alice], &[("producer_byte_rate", Some(1e30))]),
            (&[alice], &[("request_percentage", Some(f64::NAN))]),
            (&[alice], &[("connection_creation_rate", Some(5.0))]),
            (&[alice], &[rate, rate]),
            (&[("planet", Some("x"))], &[rate]),
            (&[], &[rate]),
            (&[("user", Some(""))], &[rate]),
            (&[ip], &[rate]),
            (&[("ip", Some("not an address"))], &[("connection_creation_rate", Some(5.0))]),
            (&[ip, alice], &[("connection_creation_rate", Some(5.0))]),
        ] {
            assert_eq!(set(&talk, entity, quotas, false), 42, "{entity:?} {quotas:?}");
        }
        assert_eq!(found(&talk, &[], false), (0, Some(vec![])));
        assert_eq!(set(&talk, &[ip], &[("connection_creation_rate", Some(5.0))], false), 0);
    }
}

//! What administrators' tools ask of the node itself. What is expected was asked of Apache Kafka 4.3.1.

use super::*;
use kafka_protocol::messages::{describe_quorum_request as quorum, update_features_request as features};

/// The code of an UpdateFeatures of one feature.
fn update(talk: &Talk, name: &str, level: i16, kind: i8, dry: bool) -> i16 {
    let update = features::FeatureUpdateKey::default().with_feature(s(name)).with_max_version_level(level);
    let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update.with_upgrade_type(kind)]);
    let (response, _) = talk.ask(57, 2, &encoded(request.with_validate_only(dry), 2)).unwrap();
    UpdateFeaturesResponse::decode(&mut &response[..], 2).unwrap().error_code
}

/// The finalized features, as `name level`, and their epoch.
fn finalized(talk: &Talk) -> (Vec<String>, i64) {
    let request = ApiVersionsRequest::default().with_client_software_name(s("t")).with_client_software_version(s("1"));
    let (response, _) = talk.ask(18, 4, &encoded(request, 4)).unwrap();
    let response = ApiVersionsResponse::decode(&mut &response[..], 4).unwrap();
    let told = response.finalized_features.iter().map(|it| format!("{} {}", it.name, it.max_version_level));
    (told.collect(), response.finalized_features_epoch)
}

#[test]
fn features_go_to_the_levels_that_kafka_has_of_them() {
    let talk = Talk::new();
    let transactions = |level, kind, dry| update(&talk, "transaction.version", level, kind, dry);
    for dry in [true, false] {
        assert_eq!(transactions(2, 1, dry), 0, "that is where it is");
        for (level, kind) in [(99, 1), (-1, 1), (1, 1), (2, 9)] {
            assert_eq!(transactions(level, kind, dry), 95, "{level} {kind}");
        }
        assert_eq!([update(&talk, "nonsense", 1, 1, dry), update(&talk, "metadata.version", 29, 3, dry)], [95, 95]);
    }
    assert_eq!([transactions(1, 2, true), transactions(0, 3, true)], [0, 0], "that could be");
    let all = ["group.version 1", "metadata.version 30", "share.version 1", "transaction.version 2"];
    assert_eq!(finalized(&talk), (all.map(String::from).into(), 0));
    assert_eq!([transactions(1, 2, false), update(&talk, "share.version", 0, 3, false)], [0, 0]);
    let some = ["group.version 1", "metadata.version 30", "transaction.version 1"];
    assert_eq!(finalized(&talk), (some.map(String::from).into(), 2), "one at level 0 is not there");
    assert_eq!([transactions(2, 2, false), transactions(2, 3, false)], [95, 95], "that is no downgrade");
    assert_eq!([transactions(2, 1, false), update(&talk, "share.version", 1, 1, false)], [0, 0]);
    assert_eq!(finalized(&talk), (all.map(String::from).into(), 4));
}

#[test]
fn what_takes_a_feature_that_is_off_is_refused_until_it_is_on_again() {
    let talk = Talk::new();
    let (id, epoch) = (talk.broker.init_producer("t", 60_000, None).unwrap(), 5);
    macro_rules! code {
        ($key:literal $version:literal $request:ident $response:ident $change:expr) => {{
            let mut request = $request::default();
            $change(&mut request);
            let (response, _) = talk.ask($key, $version, &encoded(request, $version)).unwrap();
            $response::decode(&mut &response[..], $version).unwrap()
        }};
    }
    let codes = || {
        let group = |name: &'static str| -> GroupId { s(name).into() };
        let of_groups = [
            code!(68 1 ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse |_: &mut _| ()).error_code,
            code!(69 1 ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse
                |it: &mut ConsumerGroupDescribeRequest| it.group_ids = vec![group("g")])
            .groups[0]
                .error_code,
        ];
        let of_shares = [
            code!(76 1 ShareGroupHeartbeatRequest ShareGroupHeartbeatResponse |_: &mut _| ()).error_code,
            code!(77 1 ShareGroupDescribeRequest ShareGroupDescribeResponse
                |it: &mut ShareGroupDescribeRequest| it.group_ids = vec![group("g")]).groups[0].error_code,
            code!(78 1 ShareFetchRequest ShareFetchResponse |_: &mut _| ()).error_code,
            code!(79 1 ShareAcknowledgeRequest ShareAcknowledgeResponse |_: &mut _| ()).error_code,
            code!(90 0 DescribeShareGroupOffsetsRequest DescribeShareGroupOffsetsResponse
                |it: &mut DescribeShareGroupOffsetsRequest| {
                    it.groups = vec![describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup::default()];
                }).groups[0].error_code,
            code!(91 0 AlterShareGroupOffsetsRequest AlterShareGroupOffsetsResponse |_: &mut _| ()).error_code,
            code!(92 0 DeleteShareGroupOffsetsRequest DeleteShareGroupOffsetsResponse |_: &mut _| ()).error_code,
        ];
        let of_transactions = code!(26 5 EndTxnRequest EndTxnResponse |it: &mut EndTxnRequest| {
            (it.transactional_id, it.producer_id, it.producer_epoch) = (s("t").into(), id.id.into(), epoch);
        });
        (of_groups, of_shares, of_transactions.error_code)
    };
    let on = codes();
    assert!(on.0.iter().chain(&on.1).all(|code| *code != 35) && on.2 != 35, "{on:?}");
    for name in ["group.version", "share.version", "transaction.version"] {
        assert_eq!(update(&talk, name, 0, 3, false), 0);
    }
    assert_eq!(codes(), ([35; 2], [35; 7], 35));
    for (name, last) in [("group.version", 1), ("share.version", 1), ("transaction.version", 2)] {
        assert_eq!(update(&talk, name, last, 1, false), 0);
    }
    assert_eq!(codes(), on);
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
fn the_quorum_is_told_with_the_protocol_that_its_port_speaks() {
    for (users, protocol) in [(false, "PLAINTEXT"), (true, "SASL_PLAINTEXT")] {
        let mut config = Config::in_memory();
        config.security.users = users;
        let talk = Talk::with(config);
        let partition = quorum::PartitionData::default();
        let topic = quorum::TopicData::default().with_topic_name(s("__cluster_metadata").into());
        let request = DescribeQuorumRequest::default().with_topics(vec![topic.with_partitions(vec![partition])]);
        let (response, _) = talk.ask(55, 2, &encoded(request, 2)).unwrap();
        let response = DescribeQuorumResponse::decode(&mut &response[..], 2).unwrap();
        assert_eq!(response.nodes[0].listeners[0].name.as_str(), protocol);
    }
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
    let forget = |id: i32| {
        let (response, _) =
            talk.ask(64, 0, &encoded(UnregisterBrokerRequest::default().with_broker_id(id.into()), 0)).unwrap();
        UnregisterBrokerResponse::decode(&mut &response[..], 0).unwrap().error_code
    };
    assert_eq!([forget(1), forget(2)], [42, 102]);
}

mod scram {
    use super::*;
    use kafka_protocol::messages::{
        alter_user_scram_credentials_request as alter, describe_user_scram_credentials_request as describe,
    };

    /// User and mechanism.
    type Deletion<'a> = (&'a str, i8);
    /// User, mechanism, iterations, salted password.
    type Upsertion<'a> = (&'a str, i8, i32, &'a str);

    fn request(upsertions: &[Upsertion<'_>], deletions: &[Deletion<'_>]) -> Vec<u8> {
        let upsertion = |&(user, mechanism, iterations, password): &Upsertion<'_>| {
            let upsertion = alter::ScramCredentialUpsertion::default().with_name(s(user)).with_mechanism(mechanism);
            upsertion
                .with_iterations(iterations)
                .with_salt("salt".into())
                .with_salted_password(password.to_owned().into())
        };
        let deletion = |&(user, mechanism): &Deletion<'_>| {
            alter::ScramCredentialDeletion::default().with_name(s(user)).with_mechanism(mechanism)
        };
        let request = AlterUserScramCredentialsRequest::default();
        let request = request.with_upsertions(upsertions.iter().map(upsertion).collect());
        encoded(request.with_deletions(deletions.iter().map(deletion).collect()), 0)
    }

    /// Users and codes.
    fn change(talk: &Talk, upsertions: &[Upsertion<'_>], deletions: &[Deletion<'_>]) -> Vec<(String, i16)> {
        let (response, _) = talk.ask(51, 0, &request(upsertions, deletions)).unwrap();
        let response = AlterUserScramCredentialsResponse::decode(&mut &response[..], 0).unwrap();
        response.results.iter().map(|user| (user.user.to_string(), user.error_code)).collect()
    }

    /// A user, a code, and mechanisms with their iterations.
    type Told = (String, i16, Vec<(i8, i32)>);

    fn known(talk: &Talk, users: Option<&[&str]>) -> Vec<Told> {
        let user = |&user: &&str| describe::UserName::default().with_name(s(user));
        let request = DescribeUserScramCredentialsRequest::default();
        let request = request.with_users(users.map(|users| users.iter().map(user).collect()));
        let (response, _) = talk.ask(50, 0, &encoded(request, 0)).unwrap();
        let response = DescribeUserScramCredentialsResponse::decode(&mut &response[..], 0).unwrap();
        let infos = |user: &describe_user_scram_credentials_response::DescribeUserScramCredentialsResult| {
            user.credential_infos.iter().map(|info| (info.mechanism, info.iterations)).collect()
        };
        response.results.iter().map(|user| (user.user.to_string(), user.error_code, infos(user))).collect()
    }

    #[test]
    fn credentials_are_set_told_and_removed() {
        let talk = Talk::new();
        assert_eq!(change(&talk, &[("alice", 1, 4096, "p"), ("bob", 2, 16_384, "q")], &[]).len(), 2);
        assert_eq!(change(&talk, &[("alice", 2, 8192, "p")], &[]), [("alice".into(), 0)]);
        let alice = ("alice".to_string(), 0, vec![(1, 4096), (2, 8192)]);
        let bob = ("bob".to_string(), 0, vec![(2, 16_384)]);
        for all in [None, Some(&[][..])] {
            assert_eq!(known(&talk, all), [alice.clone(), bob.clone()]);
        }
        let asked = known(&talk, Some(&["bob", "eve", "alice", "eve", "mallory"]));
        assert_eq!(asked, [alice, bob, ("eve".into(), 92, vec![]), ("mallory".into(), 91, vec![])]);
        assert_eq!(change(&talk, &[("eve", 1, 4096, "p")], &[("alice", 1), ("bob", 2)]).len(), 3);
        let left = [("alice".to_string(), 0, vec![(2, 8192)]), ("eve".into(), 0, vec![(1, 4096)])];
        assert_eq!(known(&talk, None), left);
    }

    #[test]
    fn what_is_refused_is_refused_as_by_kafka_and_the_rest_is_done() {
        let talk = Talk::new();
        assert_eq!(change(&talk, &[("a", 1, 4096, "p")], &[]), [("a".into(), 0)]);
        type Case<'a> = (&'a [Upsertion<'a>], &'a [Deletion<'a>], i16);
        let cases: [Case<'_>; 20] = [
            (&[("", 3, 1, "p")], &[], 93),
            (&[("a", 3, 1, "p")], &[], 33),
            (&[("a", 0, 4096, "p")], &[], 33),
            (&[("a", -1, 4096, "p")], &[], 33),
            (&[("a", 1, 4095, "p")], &[], 93),
            (&[("a", 1, 16_385, "p")], &[], 93),
            (&[("a", 1, -1, "")], &[], 93),
            (&[("a", 1, 4096, "")], &[], -1),
            (&[], &[("", 3)], 93),
            (&[], &[("a", 3)], 33),
            (&[], &[("a", 2)], 91),
            (&[], &[("b", 1)], 91),
            // A user stands there once, and the first reason counts.
            (&[("a", 1, 4096, "p"), ("a", 2, 4096, "p")], &[], 92),
            (&[("a", 1, 4096, "p"), ("a", 1, 1, "p")], &[], 92),
            (&[("a", 1, 1, "p"), ("a", 1, 4096, "p")], &[], 93),
            (&[("a", 1, 4096, ""), ("a", 1, 4096, "")], &[], 92),
            (&[("a", 1, 4096, "p")], &[("a", 1)], 92),
            (&[("a", 1, 4096, "p")], &[("a", 2)], 91),
            (&[], &[("b", 1), ("b", 1)], 91),
            (&[], &[("a", 3), ("a", 1)], 33),
        ];
        for (upsertions, deletions, code) in cases {
            let user = upsertions.first().map_or_else(|| deletions[0].0, |upsertion| upsertion.0);
            let all = [upsertions, &[("other", 2, 5000, "p")]].concat();
            let expected = [(user.to_string(), code), ("other".into(), 0)];
            assert_eq!(change(&talk, &all, deletions), expected, "{upsertions:?} {deletions:?}");
        }
        assert_eq!(known(&talk, Some(&["a"])), [("a".into(), 0, vec![(1, 4096)])]);
        assert_eq!(change(&talk, &[], &[]), []);
    }

    #[test]
    fn admin_keeps_a_credential_and_nobody_gets_a_name_that_is_no_users() {
        let mut config = Config::in_memory();
        config.security.users = true;
        let talk = Talk::with(config);
        talk.broker.begin_with_users("secret").unwrap();
        let both = |admin, other: &str| [("admin".to_string(), admin), (other.to_string(), 0)];
        assert_eq!(change(&talk, &[("alice", 1, 4096, "p")], &[("admin", 1)]), both(0, "alice"));
        assert_eq!(change(&talk, &[("bob", 1, 4096, "p")], &[("admin", 2)]), both(93, "bob"));
        assert!(talk.broker.log_in("admin", b"secret").is_ok());
        for name in ["ANONYMOUS", "a\nb", &"x".repeat(1025)] {
            assert_eq!(change(&talk, &[(name, 1, 4096, "p")], &[]), [(name.to_string(), 93)]);
        }
    }

    /// With the salted password one can log in. A request that breaks off before it was read has it somewhere, too.
    #[test]
    fn whoever_watches_sees_no_salted_password() {
        let talk = Talk::new();
        talk.broker.wire().switch(Some(broker::wire::Filter::default()));
        let whole = request(&[("alice", 1, 4096, "SECRET")], &[]);
        // The mechanism of a deletion that is not there.
        let bent = [&[9][..], &whole].concat();
        for body in [&whole[..], &bent, &whole[..whole.len() - 3]] {
            let _answered = talk.ask(51, 0, body);
        }
        // A version that is not served.
        let _closed = talk.ask(51, 1, &whole);
        for number in 0..4 {
            let seen = talk.broker.wire().next(number).unwrap().exchange;
            let bytes = String::from_utf8_lossy(&seen.request.bytes).into_owned();
            assert!(!bytes.contains("SEC") && bytes.contains("**"), "{number}: {bytes}");
            assert!(number > 0 || bytes.contains("alice") && bytes.contains("salt"), "{bytes}");
        }
    }
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

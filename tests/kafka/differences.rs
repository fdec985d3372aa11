//! Where a broker with users answers otherwise than Apache Kafka 4.3.1, and means to. All else about logins and rights it answers alike.

use super::{common::scram::SHA_256, *};
use base64::{Engine, engine::general_purpose::STANDARD};
use kafka_protocol::messages::{
    alter_share_group_offsets_request as altered, alter_user_scram_credentials_request as credentials,
    create_acls_request::AclCreation, delete_topics_request::DeleteTopicState, metadata_request::MetadataRequestTopic,
    metadata_response::MetadataResponseTopic, share_fetch_request as shared,
};

/// The connection was closed instead of an answer.
const CLOSED: i16 = i16::MIN;

/// A difference.
struct Difference {
    asked: &'static str,
    /// The codes that Kafka answers.
    kafka: &'static [i16],
    /// The codes here.
    here: &'static [i16],
    /// Why they are others.
    why: &'static str,
    ask: fn(&World) -> Vec<i16>,
}

const HIDDEN: &str = "what one may not describe is not there: a code of its own would tell that it is";
const RFC_5802: &str = "RFC 5802, section 6, has it so";

/// Of topics by their ids those that are hidden come first, then one that is gone.
const DIFFERENCES: &[Difference] = &[
    Difference {
        asked: "Metadata by id",
        kafka: &[29, 100],
        here: &[100, 100],
        why: HIDDEN,
        ask: |world| {
            let topics = [0, 1].map(|which| {
                MetadataRequestTopic::default().with_name(None).with_topic_id(world.topic(which).topic_id)
            });
            let request = MetadataRequest::default().with_topics(Some(topics.into()));
            let response: MetadataResponse = world.alice().ask(ApiKey::Metadata, 12, &request);
            response.topics.iter().map(|topic| topic.error_code).collect()
        },
    },
    Difference {
        asked: "Produce by id",
        kafka: &[29, 100],
        here: &[100, 100],
        why: HIDDEN,
        ask: |world| world.produce_by_id(&[0, 1]),
    },
    Difference {
        asked: "Fetch by id",
        kafka: &[29, 100],
        here: &[100, 100],
        why: HIDDEN,
        ask: |world| world.fetch_by_id(&[0, 1]),
    },
    Difference {
        asked: "DeleteTopics by id",
        kafka: &[29, 100],
        here: &[100, 100],
        why: HIDDEN,
        ask: |world| {
            let topics = [0, 1]
                .map(|which| DeleteTopicState::default().with_name(None).with_topic_id(world.topic(which).topic_id));
            let request = DeleteTopicsRequest::default().with_topics(topics.into());
            let response: DeleteTopicsResponse = world.alice().ask(ApiKey::DeleteTopics, 6, &request);
            response.responses.iter().map(|topic| topic.error_code).collect()
        },
    },
    Difference {
        asked: "ShareFetch of a topic that one may not describe: the code of all, then of its partition",
        kafka: &[0, 29],
        here: &[100],
        why: HIDDEN,
        ask: |world| world.share_fetch(0),
    },
    Difference {
        asked: "AlterShareGroupOffsets of a topic that one may not describe: its code, and 1 if its id is told beside",
        kafka: &[29, 1],
        here: &[29, 0],
        why: HIDDEN,
        ask: |world| {
            let partition = altered::AlterShareGroupOffsetsRequestPartition::default();
            let topic = altered::AlterShareGroupOffsetsRequestTopic::default().with_topic_name(s("hidden").into());
            let topic = topic.with_partitions(vec![partition]);
            let request = AlterShareGroupOffsetsRequest::default().with_group_id(s("group").into());
            let request = request.with_topics(vec![topic]);
            let response: AlterShareGroupOffsetsResponse =
                world.alice().ask(ApiKey::AlterShareGroupOffsets, 0, &request);
            let topic = &response.responses[0];
            vec![topic.partitions[0].error_code, (topic.topic_id == world.topic(0).topic_id).into()]
        },
    },
    Difference {
        asked: "CreateAcls with 0 as type, pattern, operation, permission",
        kafka: &[CLOSED; 4],
        here: &[42; 4],
        why: "who sends what is no rule is told so, as with any other number that is none",
        ask: |world| {
            let rule = AclCreation::default().with_resource_type(2).with_resource_name(s("t"));
            let rule = rule.with_resource_pattern_type(3).with_principal(s("User:alice")).with_host(s("*"));
            let rule = rule.with_operation(3).with_permission_type(3);
            let wrong = [
                rule.clone().with_resource_type(0),
                rule.clone().with_resource_pattern_type(0),
                rule.clone().with_operation(0),
                rule.with_permission_type(0),
            ];
            let create = |rule: AclCreation| {
                let mut admin = world.logged_in("admin", "admin-secret");
                admin.send(ApiKey::CreateAcls, 3, &CreateAclsRequest::default().with_creations(vec![rule]));
                let response: Option<CreateAclsResponse> = admin.receive(3);
                response.map_or(CLOSED, |response| response.results[0].error_code)
            };
            wrong.map(create).into()
        },
    },
    Difference {
        asked: "PLAIN by a user whose credentials are SCRAM's",
        kafka: &[58],
        here: &[0],
        why: "a user has one password, whatever it is shown by",
        ask: |world| {
            // As Kafka's own clients make a user.
            let upsertion = credentials::ScramCredentialUpsertion::default().with_name(s("carol")).with_mechanism(1);
            let upsertion = upsertion.with_iterations(4096).with_salt(b"salt".as_slice().into());
            let upsertion = upsertion.with_salted_password(SHA_256.salted("carol-secret", b"salt", 4096).into());
            let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![upsertion]);
            let mut admin = world.logged_in("admin", "admin-secret");
            let response: AlterUserScramCredentialsResponse = admin.ask(ApiKey::AlterUserScramCredentials, 0, &request);
            assert_eq!(response.results[0].error_code, 0);
            let mut carol = Client::connect(&world.broker);
            shake(&mut carol, "PLAIN");
            vec![authenticate(&mut carol, b"\0carol\0carol-secret").error_code]
        },
    },
    Difference {
        asked: "SCRAM by a user whom there is not: the codes of its two messages",
        kafka: &[58],
        here: &[0, 58],
        why: "who there is would show in the first one",
        ask: |world| world.scram("nobody", "n,,", "n,,"),
    },
    Difference {
        asked: "SCRAM by a client that could bind the login to its channel (y) and sees that the server does not offer it",
        kafka: &[58],
        here: &[0, 0],
        why: RFC_5802,
        ask: |world| world.scram("alice", "y,,", "y,,"),
    },
    Difference {
        asked: "SCRAM by a client that says at the end (c=) something else of its channel than at first",
        kafka: &[0, 0],
        here: &[0, 58],
        why: RFC_5802,
        ask: |world| world.scram("alice", "n,,", "y,,"),
    },
    Difference {
        asked: "Fetch in the session that a Fetch began",
        kafka: &[0],
        here: &[70],
        why: "no sessions are kept (the id is 0), so nobody goes on in one; clients begin anew at once",
        ask: |world| {
            let mut alice = world.alice();
            let request = fetch("seen", &[0], 1).with_session_epoch(0);
            let begun: FetchResponse = alice.ask(ApiKey::Fetch, 12, &request);
            let request = FetchRequest::default().with_session_id(begun.session_id).with_session_epoch(1);
            let response: FetchResponse = alice.ask(ApiKey::Fetch, 12, &request);
            vec![response.error_code]
        },
    },
    Difference {
        asked: "Produce by the producer of an open transaction, under another transactional id, by who may write with that only",
        kafka: &[0],
        here: &[49],
        why: "it would be committed with the transaction of somebody else",
        ask: |world| {
            let mut admin = world.logged_in("admin", "admin-secret");
            let request = InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(s("theirs"))));
            let request = request.with_transaction_timeout_ms(60_000);
            let given: InitProducerIdResponse = admin.ask(ApiKey::InitProducerId, 4, &request);
            let (producer_id, producer_epoch) = (given.producer_id.into(), given.producer_epoch);
            let write = |client: &mut Client, id: &str, base_sequence| {
                let facts = Facts { transactional: true, producer_id, producer_epoch, base_sequence, ..Facts::PLAIN };
                let request = produce("shared", -1, batch_of(facts, &["a"], Codec::None));
                let request = request.with_transactional_id(Some(TransactionalId(s(id))));
                let response: ProduceResponse = client.ask(ApiKey::Produce, 12, &request);
                response.responses[0].partition_responses[0].error_code
            };
            assert_eq!(write(&mut admin, "theirs", 0), 0);
            vec![write(&mut world.alice(), "hers", 1)]
        },
    },
    Difference {
        asked: "DescribeConfigs of all brokers: how many are set",
        kafka: &[1],
        here: &[0],
        why: "a cluster of 4.3 sets min.insync.replicas for itself, for its eligible leader replicas; here is one replica, and what nobody has set is not set",
        ask: |world| {
            let request = DescribeConfigsRequest::default();
            let request = request.with_resources(vec![DescribeConfigsResource::default().with_resource_type(4)]);
            let mut admin = world.logged_in("admin", "admin-secret");
            let response: DescribeConfigsResponse = admin.ask(ApiKey::DescribeConfigs, 4, &request);
            vec![response.results[0].configs.len() as i16]
        },
    },
];

/// A broker with the topics `hidden`, `seen` and `shared`, one that is gone, and alice, who may do all with the group `group`, describe
/// `seen`, and write to `shared`, also in transactions of the id `hers`.
struct World {
    broker: Broker,
    /// What Metadata told of each of them: hidden, gone, seen.
    named: [MetadataResponse; 3],
}

impl World {
    fn new(name: &str) -> World {
        let password = std::env::temp_dir().join(format!("plainlog-differences-{name}-{}", std::process::id()));
        fs::write(&password, "admin-secret\n").unwrap();
        let at = password.to_str().unwrap();
        let broker = Broker::with(&["--in-memory", "--users", "--login-delay", "off", "--admin-password-file", at]);
        fs::remove_file(&password).unwrap();
        let mut lines = broker.connect();
        for line in [
            "AUTH admin admin-secret",
            "USER add alice alice-secret",
            "CREATE hidden",
            "CREATE gone",
            "CREATE seen",
            "CREATE shared",
            "ACL add resource:group name:group principal:User:alice operation:all",
            "ACL add resource:topic name:seen principal:User:alice operation:describe",
            "ACL add resource:topic name:shared principal:User:alice operation:write",
            "ACL add resource:transactional-id name:hers principal:User:alice operation:write",
        ] {
            assert!(lines.say(&format!("{line}\n")).line().starts_with("OK"), "{line}");
        }
        let mut admin = log_in(&broker, "admin", "admin-secret");
        let named = ["hidden", "gone", "seen"].map(|topic| admin.ask(ApiKey::Metadata, 12, &metadata(topic)));
        assert!(lines.say("DROP gone\n").line().starts_with("OK"));
        World { broker, named }
    }

    /// What was told of a topic by its place among them.
    fn topic(&self, which: usize) -> &MetadataResponseTopic {
        &self.named[which].topics[0]
    }

    fn logged_in(&self, user: &str, password: &str) -> Client {
        log_in(&self.broker, user, password)
    }

    fn alice(&self) -> Client {
        self.logged_in("alice", "alice-secret")
    }

    fn produce_by_id(&self, which: &[usize]) -> Vec<i16> {
        let topic = |&which: &usize| {
            let records = batch(&["a"], None, Codec::None);
            let partition = PartitionProduceData::default().with_records(Some(records.into()));
            TopicProduceData::default().with_topic_id(self.topic(which).topic_id).with_partition_data(vec![partition])
        };
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(9000);
        let request = request.with_topic_data(which.iter().map(topic).collect());
        let response: ProduceResponse = self.alice().ask(ApiKey::Produce, 13, &request);
        response.responses.iter().map(|topic| topic.partition_responses[0].error_code).collect()
    }

    fn fetch_by_id(&self, which: &[usize]) -> Vec<i16> {
        let topic = |&which: &usize| {
            FetchTopic::default()
                .with_topic_id(self.topic(which).topic_id)
                .with_partitions(vec![FetchPartition::default()])
        };
        let request = FetchRequest::default().with_topics(which.iter().map(topic).collect());
        let response: FetchResponse = self.alice().ask(ApiKey::Fetch, 13, &request);
        response.responses.iter().map(|topic| topic.partitions[0].error_code).collect()
    }

    /// The code of the answer, then those of its partitions.
    fn share_fetch(&self, which: usize) -> Vec<i16> {
        let topic = shared::FetchTopic::default().with_topic_id(self.topic(which).topic_id);
        let topic = topic.with_partitions(vec![shared::FetchPartition::default()]);
        let request = ShareFetchRequest::default().with_group_id(Some(s("group").into())).with_member_id(Some(s("m")));
        let response: ShareFetchResponse = self.alice().ask(ApiKey::ShareFetch, 1, &request.with_topics(vec![topic]));
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        [response.error_code].into_iter().chain(partitions.map(|partition| partition.error_code)).collect()
    }

    /// The codes of a login by SCRAM with alice's password, whose client says this of its channel at first and at the end.
    fn scram(&self, user: &str, header: &str, header_at_the_end: &str) -> Vec<i16> {
        let mut client = Client::connect(&self.broker);
        shake(&mut client, SHA_256.name);
        let bare = format!("n={user},r=abc");
        let first = authenticate(&mut client, format!("{header}{bare}").as_bytes());
        if first.error_code != 0 {
            return vec![first.error_code];
        }
        let challenge = String::from_utf8(first.auth_bytes.to_vec()).unwrap();
        let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        let salt = STANDARD.decode(part("s=")).unwrap();
        let salted = SHA_256.salted("alice-secret", &salt, part("i=").parse().unwrap());
        let unproven = format!("c={},r={}", STANDARD.encode(header_at_the_end), part("r="));
        let last = format!("{unproven},p={}", SHA_256.proof(&salted, &bare, &challenge, &unproven));
        vec![first.error_code, authenticate(&mut client, last.as_bytes()).error_code]
    }
}

fn shake(client: &mut Client, mechanism: &str) {
    let request = SaslHandshakeRequest::default().with_mechanism(s(mechanism));
    let response: SaslHandshakeResponse = client.ask(ApiKey::SaslHandshake, 1, &request);
    assert_eq!(response.error_code, 0);
}

fn authenticate(client: &mut Client, message: &[u8]) -> SaslAuthenticateResponse {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(message.to_vec().into());
    client.ask(ApiKey::SaslAuthenticate, 2, &request)
}

fn log_in(broker: &Broker, user: &str, password: &str) -> Client {
    let mut client = Client::connect(broker);
    shake(&mut client, "PLAIN");
    assert_eq!(authenticate(&mut client, format!("\0{user}\0{password}").as_bytes()).error_code, 0);
    client
}

#[test]
fn each_difference_from_kafka_is_meant() {
    let world = World::new("meant");
    for Difference { asked, kafka, here, why, ask } in DIFFERENCES {
        assert_eq!(ask(&world), *here, "{asked}, of which Kafka says {kafka:?}: {why}");
        assert_ne!(kafka, here, "{asked}");
    }
}

/// A client that may see a topic and is told that it is unknown asks for ever: it is refused, as in Kafka.
#[test]
fn what_one_may_describe_is_refused_by_its_id_as_in_kafka() {
    let world = World::new("by-id");
    assert_eq!(world.produce_by_id(&[2]), [29]);
    assert_eq!(world.fetch_by_id(&[2]), [29]);
    assert_eq!(world.share_fetch(2), [0, 29]);
}

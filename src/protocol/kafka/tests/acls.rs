//! Rules, and what one may do, as Kafka's clients ask and are told.

use super::{
    transactions::{encode, put},
    *,
};
use crate::security::{Principal, Proof};
use kafka_protocol::messages::{
    create_acls_request::AclCreation, create_topics_request::CreatableTopic, delete_acls_request::DeleteAclsFilter,
    describe_acls_response::DescribeAclsResource, offset_for_leader_epoch_request as epochs,
};
use std::{env, fs, process};

/// What the admin and alice ask of a broker with users.
fn with_users() -> [Talk; 2] {
    with_users_and(Config::in_memory())
}

fn with_users_and(mut config: Config) -> [Talk; 2] {
    config.security.users = true;
    let broker = Broker::open(config).unwrap();
    broker.create_topic("there", 2).unwrap();
    ["admin", "alice"].map(|name| {
        let principal = Principal::new(name, Proof::Password);
        let protocol = broker::Protocol::Kafka;
        let address = Some("127.0.0.1:1".parse().unwrap());
        Talk::to(broker.on_behalf_of(Caller { principal, protocol, address, client_id: String::new() }))
    })
}

fn creation(name: &str, operation: i8) -> AclCreation {
    let creation =
        AclCreation::default().with_resource_type(2).with_resource_name(s(name)).with_resource_pattern_type(3);
    creation.with_principal(s("User:alice")).with_host(s("*")).with_operation(operation).with_permission_type(3)
}

fn create(talk: &Talk, creations: Vec<AclCreation>) -> Vec<i16> {
    let request = CreateAclsRequest::default().with_creations(creations);
    let (response, _) = talk.ask(30, 3, &encoded(request, 3)).unwrap();
    let response = CreateAclsResponse::decode(&mut &response[..], 3).unwrap();
    response.results.iter().map(|result| result.error_code).collect()
}

fn any() -> DescribeAclsRequest {
    let any = DescribeAclsRequest::default().with_resource_type_filter(1).with_pattern_type_filter(1);
    any.with_resource_name_filter(None)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(1)
        .with_permission_type(1)
}

fn describe(talk: &Talk, filter: DescribeAclsRequest) -> Result<Vec<DescribeAclsResource>, i16> {
    let (response, _) = talk.ask(29, 3, &encoded(filter, 3)).unwrap();
    let response = DescribeAclsResponse::decode(&mut &response[..], 3).unwrap();
    if response.error_code == 0 { Ok(response.resources) } else { Err(response.error_code) }
}

/// How many rules each filter deletes by its type of pattern and name.
fn delete(talk: &Talk, filters: &[(i8, &str)]) -> Result<Vec<usize>, i16> {
    let filter = |&(pattern, name): &(i8, &str)| {
        let any = DeleteAclsFilter::default().with_resource_type_filter(1).with_pattern_type_filter(pattern);
        let any = any.with_principal_filter(None).with_host_filter(None).with_operation(1).with_permission_type(1);
        any.with_resource_name_filter(Some(s(name)))
    };
    let request = DeleteAclsRequest::default().with_filters(filters.iter().map(filter).collect());
    let (response, _) = talk.ask(31, 3, &encoded(request, 3)).unwrap();
    let response = DeleteAclsResponse::decode(&mut &response[..], 3).unwrap();
    let count = |result: &delete_acls_response::DeleteAclsFilterResult| match result.error_code {
        0 => Ok(result.matching_acls.len()),
        code => Err(code),
    };
    response.filter_results.iter().map(count).collect()
}

#[test]
fn rules_are_made_found_and_deleted() {
    let [admin, alice] = with_users();
    let wrong = creation("there", 3).with_principal(s("alice"));
    assert_eq!(
        create(&admin, vec![creation("there", 3), wrong, creation("there", 99), creation("there", 4)]),
        [0, 42, 42, 0]
    );
    assert_eq!(create(&admin, vec![creation("there", 3), creation("t", 3).with_resource_pattern_type(4)]), [0, 0]);
    let found = describe(&admin, any()).unwrap();
    let shown =
        found.iter().map(|of| (&*of.resource_name, of.pattern_type, of.acls.iter().map(|acl| acl.operation).collect()));
    assert_eq!(shown.collect::<Vec<(&str, i8, Vec<i8>)>>(), [("there", 3, vec![3, 4]), ("t", 4, vec![3])]);
    assert_eq!(describe(&admin, any().with_operation(99)), Ok(Vec::new()));
    assert!(admin.ask(29, 3, &encoded(any().with_operation(0), 3)).is_err());
    assert_eq!(describe(&alice, any()), Err(31));
    assert_eq!(create(&alice, vec![creation("there", 3), creation("there", 99)]), [31, 31]);
    assert_eq!(delete(&alice, &[(3, "there"), (9, "t")]), Err(31));
    assert_eq!(delete(&admin, &[(3, "there"), (9, "there"), (2, "there")]), Ok(vec![2, 0, 3]));
    assert_eq!(describe(&admin, any()), Ok(Vec::new()));
}

#[test]
fn without_users_there_are_no_rules() {
    let talk = Talk::new();
    assert_eq!(create(&talk, vec![creation("there", 3), creation("there", 99)]), [54, 54]);
    assert_eq!(describe(&talk, any()), Err(54));
    assert_eq!(delete(&talk, &[(3, "there")]), Err(54));
}

#[test]
fn answers_tell_what_one_may_do() {
    let [admin, alice] = with_users();
    let cluster = creation("kafka-cluster", 8).with_resource_type(4);
    let group = creation("g", 3).with_resource_type(3);
    assert_eq!(create(&admin, vec![creation("there", 4), cluster, group]), [0, 0, 0]);
    let told = |talk: &Talk, asks: bool| {
        let request = MetadataRequest::default().with_include_topic_authorized_operations(asks);
        let request = request.with_include_cluster_authorized_operations(asks);
        let (response, _) = talk.ask(3, 10, &encoded(request.with_topics(None), 10)).unwrap();
        let metadata = MetadataResponse::decode(&mut &response[..], 10).unwrap();
        let request = DescribeGroupsRequest::default().with_groups(vec![s("g").into()]);
        let request = request.with_include_authorized_operations(asks);
        let (response, _) = talk.ask(15, 5, &encoded(request, 5)).unwrap();
        let groups = DescribeGroupsResponse::decode(&mut &response[..], 5).unwrap();
        let topic = metadata.topics[0].topic_authorized_operations;
        [topic, metadata.cluster_authorized_operations, groups.groups[0].authorized_operations]
    };
    assert_eq!(told(&admin, true), [3576, 8096, 3400]);
    assert_eq!(told(&alice, true), [1 << 4 | 1 << 8, 1 << 8, 1 << 3 | 1 << 8]);
    assert_eq!(told(&alice, false), [i32::MIN; 3]);
}

/// It has so many lines a second.
#[test]
fn what_another_right_lets_one_do_is_no_refusal_in_the_audit() {
    let path = env::temp_dir().join(format!("plainlog-no-refusals-{}", process::id()));
    let mut config = Config::in_memory();
    config.security.audit = Some(path.clone());
    let [admin, alice] = with_users_and(config);
    assert_eq!(create(&admin, [3, 4, 6].map(|operation| creation("there", operation)).to_vec()), [0, 0, 0]);
    assert_eq!(create(&admin, vec![creation("new", 5)]), [0]);
    let refused = || {
        let audit = fs::read_to_string(&path).unwrap();
        let lines = audit.lines().filter(|line| line.contains(" refused ")).map(|line| line.split_once("operation:"));
        lines.map(|line| line.unwrap().1.to_string()).collect::<Vec<_>>()
    };
    let partition = epochs::OffsetForLeaderPartition::default();
    let topic = epochs::OffsetForLeaderTopic::default().with_topic(s("there").into()).with_partitions(vec![partition]);
    let (response, _) =
        alice.ask(23, 4, &encoded(OffsetForLeaderEpochRequest::default().with_topics(vec![topic]), 4)).unwrap();
    let ends = OffsetForLeaderEpochResponse::decode(&mut &response[..], 4).unwrap();
    assert_eq!(ends.topics[0].partitions[0].error_code, 0);
    assert_eq!(put(&alice, 9, Some("transfer"), encode(batch::Facts::PLAIN)), 0);
    let topic = CreatableTopic::default().with_name(s("new").into()).with_num_partitions(1).with_replication_factor(1);
    let (response, _) = alice.ask(19, 7, &encoded(CreateTopicsRequest::default().with_topics(vec![topic]), 7)).unwrap();
    let made = CreateTopicsResponse::decode(&mut &response[..], 7).unwrap();
    assert_eq!((made.topics[0].error_code, made.topics[0].topic_config_error_code), (0, 29));
    let drop_topic = |name| {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![s(name).into()]);
        let (response, _) = alice.ask(20, 5, &encoded(request, 5)).unwrap();
        DeleteTopicsResponse::decode(&mut &response[..], 5).unwrap().responses[0].error_code
    };
    assert_eq!(drop_topic("there"), 0);
    assert_eq!(refused(), [""; 0]);
    assert_eq!((drop_topic("new"), drop_topic("hidden")), (29, 29));
    let in_transaction = encode(batch::Facts { transactional: true, producer_id: 0, ..batch::Facts::PLAIN });
    assert_eq!(put(&alice, 9, Some("transfer"), in_transaction), 53);
    let told = ["delete topic:new", "delete topic:hidden", "write transactional-id:transfer"];
    assert_eq!(refused(), told);
    fs::remove_file(path).unwrap();
}

/// The error named the topic, and one that a member only subscribes to was told without a look.
#[test]
fn a_group_is_described_only_to_who_may_see_all_of_its_topics_and_names_none_to_others() {
    let [admin, alice] = with_users();
    let of_group = |name: &str| creation(name, 8).with_resource_type(3).with_resource_pattern_type(4);
    assert_eq!(create(&admin, vec![creation("there", 8), of_group("g")]), [0, 0]);
    admin.broker.create_topic("salaries", 1).unwrap();
    // The last is not there, so that nobody is assigned it.
    for topics in [vec!["there"], vec!["there", "salaries"], vec!["there", "nothings"]] {
        let group = format!("g-{}", topics.last().unwrap());
        let names = || Some(topics.iter().map(|topic| s(topic).into()).collect::<Vec<TopicName>>());
        let mut beat = ConsumerGroupHeartbeatRequest::default().with_group_id(s(&group).into());
        (beat.member_id, beat.rebalance_timeout_ms, beat.topic_partitions) = (s("m"), 60_000, Some(vec![]));
        beat.subscribed_topic_names = names();
        admin.ask(68, 1, &encoded(beat, 1)).unwrap();
        let shared = format!("{group}-q");
        let mut beat = ShareGroupHeartbeatRequest::default().with_group_id(s(&shared).into());
        (beat.member_id, beat.subscribed_topic_names) = (s("m"), names());
        admin.ask(76, 1, &encoded(beat, 1)).unwrap();
        let described = |talk: &Talk| {
            let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![s(&group).into()]);
            let (answer, _) = talk.ask(69, 1, &encoded(request, 1)).unwrap();
            let of_consumers = ConsumerGroupDescribeResponse::decode(&mut &answer[..], 1).unwrap().groups.remove(0);
            let request = ShareGroupDescribeRequest::default().with_group_ids(vec![s(&shared).into()]);
            let (answer, _) = talk.ask(77, 1, &encoded(request, 1)).unwrap();
            let shares = ShareGroupDescribeResponse::decode(&mut &answer[..], 1).unwrap().groups.remove(0);
            [
                (of_consumers.error_code, of_consumers.members.len(), format!("{:?}", of_consumers.error_message)),
                (shares.error_code, shares.members.len(), format!("{:?}", shares.error_message)),
            ]
        };
        assert!(described(&admin).iter().all(|(code, members, _)| (*code, *members) == (0, 1)), "{topics:?}");
        let (code, members) = if topics.len() == 1 { (0, 1) } else { (29, 0) };
        for (told, shown, why) in described(&alice) {
            assert_eq!((told, shown), (code, members), "{topics:?}");
            assert!(!why.contains("salaries") && !why.contains("nothings"), "{why}");
        }
    }
}

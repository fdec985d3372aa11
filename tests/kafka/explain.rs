//! What `broker --explain` tells, and that the documentation shows it.

use super::*;

#[test]
fn explain_tells_what_is_asked_and_steers_no_terminal() {
    let mut child = Command::new(BROKER)
        .args(["--listen", "127.0.0.1:0", "--in-memory", "--explain"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let mut client = Client(TcpStream::connect(line.trim().rsplit(' ').next().unwrap()).unwrap());
    let address = client.0.local_addr().unwrap();
    let request = HeartbeatRequest::default().with_group_id(s("\x1b[31mg").into()).with_member_id(s("m"));
    client.send(ApiKey::Heartbeat, 4, &request);
    assert_eq!(client.receive::<HeartbeatResponse>(4).unwrap().error_code, 25);
    child.kill().unwrap();
    let told = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    let steps = told.lines().filter_map(|line| line.strip_prefix(&format!("{address} ")));
    let steps: Vec<&str> = steps.collect();
    let [asks, step, answers] = steps[..] else { panic!("{told}") };
    assert!(asks.starts_with("asks: Heartbeat version 4, request 0 of 'rdkafka', "), "{asks}");
    assert!(step.starts_with("  m of group \\x1b[31mg: "), "{step}");
    assert_eq!(answers, "  answers: 16 bytes");
}

/// What `broker --explain` prints, without what differs from run to run: ports, numbers of requests, member ids, sizes of frames.
fn without_chance(told: &str) -> Vec<String> {
    let line = |line: &str| {
        let (_, rest) = line.split_once(' ').unwrap();
        let words = rest.split(' ').collect::<Vec<_>>();
        let word = |(index, word): (usize, &&str)| match word {
            _ if words.get(index + 1).is_some_and(|next| next.starts_with("bytes")) => "<size>".into(),
            _ if index > 0 && words[index - 1] == "request" => "<number>".into(),
            _ if word.starts_with("rdkafka-") => "<member>".into(),
            word => word.to_string(),
        };
        words.iter().enumerate().map(word).collect::<Vec<String>>().join(" ")
    };
    told.lines().filter(|line| line.starts_with("127.0.0.1:")).map(line).collect()
}

/// What a broker explains of such a conversation, and what its documentation shows: the text of this number in it.
fn explained(documented: usize, talk: impl FnOnce(&mut Client)) -> [Vec<String>; 2] {
    let documentation = include_str!("../../src/protocol/kafka/clients.md");
    let documented_text = documentation.split("```text\n").nth(documented).unwrap().split("```").next().unwrap();
    let folder = std::env::temp_dir().join(format!("plainlog-explained-{}-{documented}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let mut child = Command::new(BROKER)
        .current_dir(&folder)
        .args(["--listen", "127.0.0.1:0", "-q", "--explain"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    talk(&mut Client::to(line.trim().rsplit(' ').next().unwrap()));
    child.kill().unwrap();
    let told = without_chance(std::str::from_utf8(&child.wait_with_output().unwrap().stderr).unwrap());
    fs::remove_dir_all(folder).unwrap();
    [told, without_chance(documented_text)]
}

#[test]
fn the_documentation_shows_what_explain_tells_of_a_client() {
    let [told, documented] = explained(1, |client| {
        let (topic, group) = (TopicName::from(s("greetings")), GroupId::from(s("readers")));

        let software = ("confluent-kafka-python", "2.16.1-rdkafka-2.16.0");
        let request = ApiVersionsRequest::default().with_client_software_name(s(software.0));
        client.ask::<_, ApiVersionsResponse>(
            ApiKey::ApiVersions,
            3,
            &request.with_client_software_version(s(software.1)),
        );
        client.ask::<_, MetadataResponse>(ApiKey::Metadata, 12, &metadata("greetings"));
        client.ask::<_, ProduceResponse>(
            ApiKey::Produce,
            10,
            &produce("greetings", -1, batch(&["hello"], None, Codec::None)),
        );
        let request = FindCoordinatorRequest::default().with_key(s("readers"));
        client.ask::<_, FindCoordinatorResponse>(ApiKey::FindCoordinator, 2, &request);
        let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(s("range"));
        let request = JoinGroupRequest::default().with_group_id(group.clone()).with_session_timeout_ms(45_000);
        let request = request.with_rebalance_timeout_ms(300_000).with_protocol_type(s("consumer"));
        let request = request.with_protocols(vec![protocol]);
        let joined: JoinGroupResponse = client.ask(ApiKey::JoinGroup, 5, &request);
        let member = joined.member_id;
        let request = request.with_member_id(member.clone());
        let joined: JoinGroupResponse = client.ask(ApiKey::JoinGroup, 5, &request);
        let assignment = sync_group_request::SyncGroupRequestAssignment::default().with_member_id(member.clone());
        let request = SyncGroupRequest::default().with_group_id(group.clone()).with_member_id(member);
        let request = request.with_generation_id(joined.generation_id);
        let request = request.with_assignments(vec![assignment.with_assignment(vec![0; 29].into())]);
        client.ask::<_, SyncGroupResponse>(ApiKey::SyncGroup, 3, &request);
        let request = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group);
        let request = OffsetFetchRequest::default().with_groups(vec![request.with_topics(None)]);
        client.ask::<_, OffsetFetchResponse>(ApiKey::OffsetFetch, 8, &request);
        let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-2);
        let partition =
            list_offsets_request::ListOffsetsTopic::default().with_name(topic).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_topics(vec![partition]);
        client.ask::<_, ListOffsetsResponse>(ApiKey::ListOffsets, 7, &request);
        let greetings: MetadataResponse = client.ask(ApiKey::Metadata, 12, &metadata("greetings"));
        let mut request = fetch("greetings", &[0], 1 << 20);
        request.topics[0].topic_id = greetings.topics[0].topic_id;
        client.ask::<_, FetchResponse>(ApiKey::Fetch, 16, &request);
    });
    // The client knew the topic's id; this one asked for it once more.
    let again = told.iter().rposition(|line| line.starts_with("asks: Metadata")).unwrap();
    let told = [&told[..again], &told[again + 3..]].concat();
    assert_eq!(told, documented, "src/protocol/kafka/clients.md");
}

#[test]
fn the_documentation_shows_what_explain_tells_of_a_transaction() {
    let [told, documented] = explained(2, |client| {
        let (id, group) = (TransactionalId(s("copier")), GroupId::from(s("readers")));
        client.ask::<_, MetadataResponse>(ApiKey::Metadata, 12, &metadata("greetings"));
        let request = FindCoordinatorRequest::default().with_key(s("copier")).with_key_type(1);
        client.ask::<_, FindCoordinatorResponse>(ApiKey::FindCoordinator, 2, &request);
        let request = InitProducerIdRequest::default().with_transactional_id(Some(id.clone()));
        let request = request.with_transaction_timeout_ms(60_000);
        client.ask::<_, InitProducerIdResponse>(ApiKey::InitProducerId, 4, &request);
        let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default();
        let topic = topic.with_name(s("greetings").into()).with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default().with_v3_and_below_transactional_id(id.clone());
        let request = request.with_v3_and_below_topics(vec![topic]);
        client.ask::<_, AddPartitionsToTxnResponse>(ApiKey::AddPartitionsToTxn, 0, &request);
        let facts = Facts { transactional: true, producer_id: 0, producer_epoch: 0, base_sequence: 0, ..Facts::PLAIN };
        let request = produce("greetings", -1, batch_of(facts, &["hello"], Codec::None));
        let request = request.with_transactional_id(Some(id.clone()));
        client.ask::<_, ProduceResponse>(ApiKey::Produce, 10, &request);
        let request = AddOffsetsToTxnRequest::default().with_transactional_id(id.clone());
        client.ask::<_, AddOffsetsToTxnResponse>(ApiKey::AddOffsetsToTxn, 0, &request.with_group_id(group.clone()));
        let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default();
        let partition = partition.with_committed_offset(1).with_committed_metadata(Some(s("")));
        let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default();
        let topic = topic.with_name(s("greetings").into()).with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default().with_transactional_id(id.clone()).with_group_id(group);
        let request = request.with_topics(vec![topic]);
        client.ask::<_, TxnOffsetCommitResponse>(ApiKey::TxnOffsetCommit, 3, &request);
        let request = EndTxnRequest::default().with_transactional_id(id).with_committed(true);
        client.ask::<_, EndTxnResponse>(ApiKey::EndTxn, 1, &request);
    });
    let begins = told.iter().position(|line| line.starts_with("asks: FindCoordinator")).unwrap();
    assert_eq!(told[begins..], documented, "src/protocol/kafka/clients.md");
}

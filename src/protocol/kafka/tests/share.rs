//! Share groups as Kafka's clients see them. What is expected was asked of Apache Kafka 4.3.1.

use super::*;

fn code(code: Code) -> i16 {
    code.into()
}

/// Sets a config of the group.
fn set(talk: &Talk, name: &str, value: &str) {
    let group = broker::Resource { kind: broker::ResourceKind::Group, name: "g".into() };
    let named = [(name.to_owned(), crate::config::Change::Set(value.into()))].into();
    talk.broker.alter_configs(&group, &crate::config::Changes { named, reset_others: false }, false).unwrap();
}

/// A heartbeat of a member that joins, as these tests change it; its code, epoch, interval and partitions.
fn beat(talk: &Talk, change: impl FnOnce(&mut ShareGroupHeartbeatRequest)) -> (i16, i32, i32, Option<Vec<i32>>) {
    let mut request = ShareGroupHeartbeatRequest::default().with_group_id(s("g").into()).with_member_id(s("m"));
    request.subscribed_topic_names = Some(vec![s("there").into()]);
    change(&mut request);
    let (response, _) = talk.ask(76, 1, &encoded(request, 1)).unwrap();
    let response = ShareGroupHeartbeatResponse::decode(&mut &response[..], 1).unwrap();
    let partitions = |assigned: share_group_heartbeat_response::Assignment| {
        assigned.topic_partitions.into_iter().flat_map(|topic| topic.partitions).collect()
    };
    let interval_ms = response.heartbeat_interval_ms;
    (response.error_code, response.member_epoch, interval_ms, response.assignment.map(partitions))
}

#[test]
fn heartbeats_are_checked_before_the_group_looks_at_them() {
    let talk = Talk::new();
    type Change = fn(&mut ShareGroupHeartbeatRequest);
    let wrong: [(Code, Change); 9] = [
        (Code::InvalidRequest, |it| it.group_id = s("").into()),
        (Code::InvalidRequest, |it| it.member_id = s("")),
        (Code::InvalidRequest, |it| it.rack_id = Some(s(""))),
        (Code::InvalidRequest, |it| it.subscribed_topic_names = None),
        (Code::InvalidRequest, |it| it.subscribed_topic_names = Some(vec![])),
        (Code::InvalidRequest, |it| it.member_epoch = -2),
        (Code::InvalidRequest, |it| it.subscribed_topic_names = Some(vec![s("").into(); 1 << 16 | 1])),
        (Code::GroupIdNotFound, |it| it.member_epoch = 1),
        (Code::GroupIdNotFound, |it| it.member_epoch = -1),
    ];
    for (expected, change) in wrong {
        assert_eq!(beat(&talk, change), (code(expected), 0, 0, None));
    }
    assert_eq!(beat(&talk, |_| ()), (0, 3, 5000, Some(vec![0, 1])));
    assert_eq!(beat(&talk, |it| (it.member_epoch, it.subscribed_topic_names) = (3, None)), (0, 3, 5000, None));
    assert_eq!(beat(&talk, |it| it.member_epoch = 7), (code(Code::FencedMemberEpoch), 0, 0, None));
    assert_eq!(beat(&talk, |it| it.member_epoch = -1), (0, -1, 0, None));
}

#[test]
fn members_beat_as_often_as_the_settings_of_their_group_say() {
    let talk = Talk::new();
    set(&talk, "share.heartbeat.interval.ms", "7000");
    assert_eq!(beat(&talk, |_| ()).2, 7000);
    assert_eq!(beat(&talk, |it| it.group_id = s("other").into()).2, 5000, "the settings are of one group");
}

#[test]
fn share_groups_are_described_with_their_members() {
    let talk = Talk::new();
    beat(&talk, |it| it.rack_id = Some(s("r")));
    let _member = talk.broker.join("other", &["there"], Default::default()).unwrap();
    let described = |group: &str| {
        let request = ShareGroupDescribeRequest::default().with_group_ids(vec![s(group).into()]);
        let request = request.with_include_authorized_operations(true);
        let (answer, _) = talk.ask(77, 1, &encoded(request, 1)).unwrap();
        ShareGroupDescribeResponse::decode(&mut &answer[..], 1).unwrap().groups.remove(0)
    };
    for (group, expected) in
        [("other", Code::GroupIdNotFound), ("no", Code::GroupIdNotFound), ("", Code::InvalidGroupId)]
    {
        let refused = described(group);
        assert_eq!((refused.error_code, refused.members), (code(expected), vec![]), "{group}");
    }
    let group = described("g");
    assert_eq!((group.error_code, &*group.group_state, &*group.assignor_name), (0, "Stable", "simple"));
    assert_eq!((group.group_epoch, group.assignment_epoch, group.authorized_operations), (3, 3, 3400));
    let member = &group.members[0];
    assert_eq!((&*member.member_id, member.member_epoch, member.rack_id.as_deref()), ("m", 3, Some("r")));
    assert_eq!((&*member.client_id, &*member.client_host), ("test", "/127.0.0.1"));
    assert_eq!(member.subscribed_topic_names[0].as_str(), "there");
    let read = &member.assignment.topic_partitions[0];
    assert_eq!((read.topic_name.as_str(), &read.partitions[..]), ("there", &[0, 1][..]));
    assert_eq!(read.topic_id.into_bytes(), talk.broker.find_topic("there").unwrap().id());
}

/// A ShareFetch of a member of one partition, which waits for nothing, as these tests change it.
fn fetch(talk: &Talk, epoch: i32, change: impl FnOnce(&mut ShareFetchRequest)) -> ShareFetchResponse {
    let partition = share_fetch_request::FetchPartition::default();
    let id = of_bytes(talk.broker.find_topic("there").unwrap().id());
    let topic = share_fetch_request::FetchTopic::default().with_topic_id(id).with_partitions(vec![partition]);
    let request = ShareFetchRequest::default().with_group_id(Some(s("g").into())).with_member_id(Some(s("m")));
    let mut request = request.with_share_session_epoch(epoch).with_max_bytes(1 << 20).with_topics(vec![topic]);
    (request.max_records, request.batch_size) = (500, 500);
    change(&mut request);
    let (response, _) = talk.ask(78, 1, &encoded(request, 1)).unwrap();
    ShareFetchResponse::decode(&mut &response[..], 1).unwrap()
}

/// First, last and how often, of what was acquired in the only partition that is answered; none: none is.
fn acquired(response: &ShareFetchResponse) -> Vec<(i64, i64, i16)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let runs = partitions.flat_map(|partition| &partition.acquired_records);
    runs.map(|run| (run.first_offset, run.last_offset, run.delivery_count)).collect()
}

/// The first and the last of some offsets, and what became of all or of each.
type Said<'a> = (i64, i64, &'a [i8]);

/// The codes of a ShareAcknowledge of ranges, each with its types: the whole's, and the partition's if it is answered.
fn acknowledge(talk: &Talk, epoch: i32, said: &[Said<'_>]) -> (i16, Option<i16>) {
    use share_acknowledge_request as ack;
    let range = |&(first, last, types): &Said<'_>| {
        let range = ack::AcknowledgementBatch::default().with_first_offset(first).with_last_offset(last);
        range.with_acknowledge_types(types.to_vec())
    };
    let partition = ack::AcknowledgePartition::default();
    let partition = partition.with_acknowledgement_batches(said.iter().map(range).collect());
    let id = of_bytes(talk.broker.find_topic("there").unwrap().id());
    let topic = ack::AcknowledgeTopic::default().with_topic_id(id).with_partitions(vec![partition]);
    let request = ShareAcknowledgeRequest::default().with_group_id(Some(s("g").into())).with_member_id(Some(s("m")));
    let request = request.with_share_session_epoch(epoch).with_topics(vec![topic]);
    let (response, _) = talk.ask(79, 1, &encoded(request, 1)).unwrap();
    let response = ShareAcknowledgeResponse::decode(&mut &response[..], 1).unwrap();
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    (response.error_code, partitions.map(|partition| partition.error_code).next())
}

/// A broker whose groups begin with the first of these batches of so many records.
fn with_batches(batches: &[usize]) -> Talk {
    let talk = Talk::new();
    set(&talk, "share.auto.offset.reset", "earliest");
    talk.broker.may_change_share_offsets("g", true).unwrap();
    let partition = talk.broker.topic("there").unwrap().partition(0).unwrap();
    for &count in batches {
        let mut records = Records::default();
        (0..count).for_each(|number| records.push(None, None, Some(format!("{number}").into_bytes().into())));
        partition.make_durable(&partition.write(&records, broker::Terms::default()).unwrap()).unwrap();
    }
    talk
}

#[test]
fn records_are_acquired_in_batches_and_come_again_until_they_are_accepted() {
    let talk = with_batches(&[4, 4]);
    let first = fetch(&talk, 0, |it| it.max_records = 3);
    assert_eq!((first.error_code, first.acquisition_lock_timeout_ms, acquired(&first)), (0, 30_000, vec![(0, 3, 1)]));
    let sent = first.responses[0].partitions[0].records.clone().unwrap();
    assert!(sent.ends_with(b"\x023\0") && !sent.is_empty(), "{sent:?}");
    assert_eq!(acknowledge(&talk, 1, &[(0, 1, &[1]), (2, 3, &[2, 3])]), (0, Some(0)));
    assert_eq!(acquired(&fetch(&talk, 2, |_| ())), [(2, 2, 2), (4, 7, 1)]);
    let nothing = fetch(&talk, 3, |_| ());
    assert_eq!((nothing.error_code, nothing.responses.len()), (0, 0), "only what has news is answered");
    assert_eq!(acknowledge(&talk, -1, &[(2, 2, &[1])]), (0, Some(0)), "the rest is released");
    assert_eq!(acquired(&fetch(&talk, 0, |_| ())), [(4, 7, 2)]);
}

#[test]
fn nothing_is_handed_out_to_groups_that_are_not_there() {
    let talk = with_batches(&[1]);
    for group in ["", "other"] {
        let response = fetch(&talk, 0, |it| it.group_id = Some(s(group).into()));
        let partition = &response.responses[0].partitions[0];
        assert_eq!((response.error_code, partition.error_code), (0, -1), "{group}");
        assert!(partition.acquired_records.is_empty());
    }
}

#[test]
fn a_share_session_goes_from_epoch_to_epoch() {
    let talk = with_batches(&[1]);
    let codes = |epoch| fetch(&talk, epoch, |_| ()).error_code;
    assert_eq!((codes(1), codes(-1)), (code(Code::ShareSessionNotFound), code(Code::ShareSessionNotFound)));
    assert_eq!(fetch(&talk, 0, |it| it.member_id = Some(s(""))).error_code, code(Code::InvalidRequest));
    assert_eq!(fetch(&talk, 0, |it| it.member_id = None).error_code, code(Code::InvalidRequest));
    let nothing_to_say = |it: &mut ShareFetchRequest| {
        let said = share_fetch_request::AcknowledgementBatch::default().with_acknowledge_types(vec![1]);
        it.topics[0].partitions[0].acknowledgement_batches = vec![said];
    };
    assert_eq!(fetch(&talk, 0, nothing_to_say).error_code, code(Code::InvalidRequest));
    assert_eq!(fetch(&talk, 0, |it| it.topics[0].topic_id = of_bytes([7; 16])).error_code, code(Code::UnknownTopicId));
    assert_eq!((codes(0), codes(2)), (0, code(Code::InvalidShareSessionEpoch)));
    assert_eq!(acknowledge(&talk, 0, &[(0, 0, &[1])]).0, code(Code::InvalidShareSessionEpoch));

    let unknown = fetch(&talk, 1, |it| it.topics[0].partitions[0].partition_index = 7);
    let partition = &unknown.responses[0].partitions[0];
    assert_eq!((partition.partition_index, partition.error_code), (7, code(Code::UnknownTopicOrPartition)));
    let still = fetch(&talk, 2, |it| it.topics.clear());
    assert_eq!(
        still.responses[0].partitions[0].error_code,
        code(Code::UnknownTopicOrPartition),
        "until it is forgotten"
    );
    let forgets = |it: &mut ShareFetchRequest| {
        let topic = share_fetch_request::ForgottenTopic::default().with_topic_id(it.topics[0].topic_id);
        it.forgotten_topics_data = vec![topic.with_partitions(vec![7])];
        it.topics.clear();
    };
    assert_eq!(fetch(&talk, 3, forgets).responses, []);
    assert_eq!(codes(-1), 0);
    assert_eq!(codes(4), code(Code::ShareSessionNotFound));
}

#[test]
fn what_is_said_of_records_is_looked_at_before_the_records() {
    let talk = with_batches(&[8]);
    fetch(&talk, 0, |_| ());
    let wrong: [(Code, &[Said<'_>]); 9] = [
        (Code::InvalidRequest, &[(0, 1, &[])]),
        (Code::InvalidRequest, &[(0, 2, &[1, 1])]),
        (Code::InvalidRequest, &[(0, 0, &[9])]),
        (Code::InvalidRequest, &[(0, 0, &[-1])]),
        (Code::InvalidRequest, &[(0, 0, &[4])]),
        (Code::InvalidRequest, &[(1, 0, &[1])]),
        (Code::InvalidRequest, &[(-1, 0, &[1])]),
        (Code::InvalidRequest, &[(2, 2, &[1]), (0, 0, &[1])]),
        (Code::InvalidRecordState, &[(0, 2, &[1]), (2, 3, &[1])]),
    ];
    for (epoch, (expected, said)) in (1..).zip(wrong) {
        assert_eq!(acknowledge(&talk, epoch, said), (0, Some(code(expected))), "{said:?}");
    }
    assert_eq!(acknowledge(&talk, 10, &[(0, i64::MAX, &[1])]).1, Some(code(Code::InvalidRequest)));
    assert_eq!(acknowledge(&talk, 11, &[]), (0, None));
    assert_eq!(acknowledge(&talk, 12, &[(0, 2, &[1, 2, 1]), (3, 7, &[1])]), (0, Some(0)), "nothing was taken before");
    assert_eq!(acquired(&fetch(&talk, 13, |_| ())), [(1, 1, 2)]);
}

/// Each time the state of the partition was copied.
#[test]
fn of_a_partition_that_stands_twice_in_a_request_the_last_counts() {
    use share_acknowledge_request as ack;
    let talk = with_batches(&[8]);
    fetch(&talk, 0, |_| ());
    let partition = |first| {
        let range = ack::AcknowledgementBatch::default().with_first_offset(first).with_last_offset(first);
        ack::AcknowledgePartition::default().with_acknowledgement_batches(vec![range.with_acknowledge_types(vec![1])])
    };
    let id = of_bytes(talk.broker.find_topic("there").unwrap().id());
    let topic = |partitions| ack::AcknowledgeTopic::default().with_topic_id(id).with_partitions(partitions);
    let topics = vec![topic(vec![partition(99), partition(1)]), topic(vec![partition(2)])];
    let request = ShareAcknowledgeRequest::default().with_group_id(Some(s("g").into())).with_member_id(Some(s("m")));
    let request = request.with_share_session_epoch(1).with_topics(topics);
    let (response, _) = talk.ask(79, 1, &encoded(request, 1)).unwrap();
    let response = ShareAcknowledgeResponse::decode(&mut &response[..], 1).unwrap();
    let codes = response.responses.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [0]);
    assert_eq!(fetch(&talk, -1, |_| ()).error_code, 0);
    assert_eq!(acquired(&fetch(&talk, 0, |_| ())), [(0, 1, 2), (3, 7, 2)]);
}

/// What stood there first was left out.
#[test]
fn how_far_a_group_is_in_a_topic_is_asked_in_as_many_places_as_one_likes() {
    use describe_share_group_offsets_request as ask;
    let talk = with_batches(&[8]);
    let topic = |indices: &[i32]| {
        let topic = ask::DescribeShareGroupOffsetsRequestTopic::default().with_topic_name(s("there").into());
        topic.with_partitions(indices.to_vec())
    };
    let group = |topics| {
        ask::DescribeShareGroupOffsetsRequestGroup::default().with_group_id(s("g").into()).with_topics(Some(topics))
    };
    let groups = vec![group(vec![topic(&[1]), topic(&[0, 1])]), group(vec![topic(&[])])];
    let request = DescribeShareGroupOffsetsRequest::default().with_groups(groups);
    let (response, _) = talk.ask(90, 0, &encoded(request, 0)).unwrap();
    let response = DescribeShareGroupOffsetsResponse::decode(&mut &response[..], 0).unwrap();
    let partitions = response.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions);
    assert_eq!(partitions.map(|partition| partition.partition_index).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn how_far_a_share_group_is_can_be_set_while_nobody_is_in_it() {
    let talk = with_batches(&[8]);
    let describe = || {
        use describe_share_group_offsets_request as ask;
        let topic = ask::DescribeShareGroupOffsetsRequestTopic::default().with_topic_name(s("there").into());
        let topic = topic.with_partitions(vec![0, 9]);
        let group = ask::DescribeShareGroupOffsetsRequestGroup::default().with_group_id(s("g").into());
        let request =
            DescribeShareGroupOffsetsRequest::default().with_groups(vec![group.with_topics(Some(vec![topic]))]);
        let (response, _) = talk.ask(90, 0, &encoded(request, 0)).unwrap();
        let mut response = DescribeShareGroupOffsetsResponse::decode(&mut &response[..], 0).unwrap();
        let partitions = response.groups.remove(0).topics.remove(0).partitions;
        partitions.into_iter().map(|partition| (partition.partition_index, partition.start_offset)).collect::<Vec<_>>()
    };
    let alter = |partition_index, start_offset| {
        use alter_share_group_offsets_request as ask;
        let partition = ask::AlterShareGroupOffsetsRequestPartition::default().with_partition_index(partition_index);
        let partition = partition.with_start_offset(start_offset);
        let topic = ask::AlterShareGroupOffsetsRequestTopic::default().with_topic_name(s("there").into());
        let topic = topic.with_partitions(vec![partition]);
        let request = AlterShareGroupOffsetsRequest::default().with_group_id(s("g").into()).with_topics(vec![topic]);
        let (response, _) = talk.ask(91, 0, &encoded(request, 0)).unwrap();
        let response = AlterShareGroupOffsetsResponse::decode(&mut &response[..], 0).unwrap();
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        (response.error_code, partitions.map(|partition| partition.error_code).next())
    };
    let delete = || {
        use delete_share_group_offsets_request as ask;
        let topic = ask::DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(s("there").into());
        let request = DeleteShareGroupOffsetsRequest::default().with_group_id(s("g").into()).with_topics(vec![topic]);
        let (response, _) = talk.ask(92, 0, &encoded(request, 0)).unwrap();
        let response = DeleteShareGroupOffsetsResponse::decode(&mut &response[..], 0).unwrap();
        (response.error_code, response.responses.first().map(|topic| topic.error_code))
    };
    assert_eq!(describe(), [(0, -1)], "what there is not is left out");
    assert_eq!(alter(0, 3), (0, Some(0)), "which makes the group");
    assert_eq!(talk.broker.groups().unwrap()[0].state, "Empty");
    assert_eq!((describe(), alter(9, 3)), (vec![(0, 3)], (0, Some(code(Code::UnknownTopicOrPartition)))));
    beat(&talk, |_| ());
    assert_eq!(acquired(&fetch(&talk, 0, |_| ())), [(3, 7, 1)]);
    assert_eq!((alter(0, 5), delete()), ((code(Code::NonEmptyGroup), None), (code(Code::NonEmptyGroup), None)));
    beat(&talk, |it| it.member_epoch = -1);
    assert_eq!((delete(), describe()), ((0, Some(0)), vec![(0, -1)]));
    assert_eq!(delete(), (0, Some(code(Code::UnknownTopicOrPartition))));
}

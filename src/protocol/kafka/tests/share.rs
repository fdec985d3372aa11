//! Share groups as Kafka's clients see them. What is expected was asked of Apache Kafka 4.3.1.

use super::*;

fn code(code: Code) -> i16 {
    code.into()
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
    let group = broker::Resource { kind: broker::ResourceKind::Group, name: "g".into() };
    let named = ("share.heartbeat.interval.ms".to_owned(), crate::config::Change::Set("7000".into()));
    let changes = crate::config::Changes { named: [named].into(), reset_others: false };
    talk.broker.alter_configs(&group, &changes, false).unwrap();
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

//! Share sessions over sockets: who waits for what others hold, and what a connection leaves behind.

use super::*;
use kafka_protocol::messages::{
    alter_share_group_offsets_request as altered, delete_share_group_offsets_request as deleted,
    share_acknowledge_request as acknowledged, share_fetch_request as fetched,
};

/// A broker with a topic of these records, which the group `jobs` reads from the first on, and the topic as a ShareFetch names it.
fn queue(values: &[&str]) -> (Broker, fetched::FetchTopic) {
    let broker = Broker::start();
    let mut client = Client::connect(&broker);
    let response: MetadataResponse = client.ask(ApiKey::Metadata, 12, &metadata("t"));
    if !values.is_empty() {
        assert_eq!(client.produce("t", batch(values, None, Codec::None)).0, 0);
    }
    assert!(text(&broker, "JOIN jobs t mode:share").starts_with("JOINED"));
    let topic = fetched::FetchTopic::default().with_topic_id(response.topics[0].topic_id);
    (broker, topic.with_partitions(vec![fetched::FetchPartition::default()]))
}

fn share_fetch(topic: &fetched::FetchTopic, member: &str, epoch: i32, max_wait_ms: i32) -> ShareFetchRequest {
    let request = ShareFetchRequest::default().with_group_id(Some(s("jobs").into())).with_member_id(Some(s(member)));
    let request = request.with_share_session_epoch(epoch).with_max_wait_ms(max_wait_ms).with_min_bytes(1);
    let request = request.with_max_bytes(1 << 20).with_max_records(500).with_batch_size(500);
    request.with_topics(vec![topic.clone()])
}

/// First, last and how often, of what was acquired.
fn acquired(response: ShareFetchResponse) -> Vec<(i64, i64, i16)> {
    assert_eq!(response.error_code, 0);
    let partitions = response.responses.into_iter().flat_map(|topic| topic.partitions);
    let runs = partitions.flat_map(|partition| partition.acquired_records);
    runs.map(|run| (run.first_offset, run.last_offset, run.delivery_count)).collect()
}

#[test]
fn what_a_connection_holds_is_free_when_it_ends_and_who_waits_gets_it() {
    let (broker, topic) = queue(&["a", "b"]);
    let (mut one, mut other) = (Client::connect(&broker), Client::connect(&broker));
    assert_eq!(acquired(one.ask(ApiKey::ShareFetch, 1, &share_fetch(&topic, "one", 0, 0))), [(0, 1, 1)]);
    assert_eq!(acquired(other.ask(ApiKey::ShareFetch, 1, &share_fetch(&topic, "other", 0, 0))), []);
    other.send(ApiKey::ShareFetch, 1, &share_fetch(&topic, "other", 1, 60_000));
    drop(one);
    assert_eq!(acquired(other.receive(1).unwrap()), [(0, 1, 2)]);
}

/// What a Fetch acquired after its session had ended on another connection was locked, and held by nobody.
#[test]
fn who_waits_when_the_session_ends_acquires_nothing_more() {
    let (broker, topic) = queue(&[]);
    let (mut opens, mut waits) = (Client::connect(&broker), Client::connect(&broker));
    assert_eq!(acquired(opens.ask(ApiKey::ShareFetch, 1, &share_fetch(&topic, "m", 0, 0))), []);
    waits.send(ApiKey::ShareFetch, 1, &share_fetch(&topic, "m", 1, 60_000));
    // The Fetch has come once another is the next one.
    until("the Fetch waits", || {
        let response: ShareFetchResponse = opens.ask(ApiKey::ShareFetch, 1, &share_fetch(&topic, "m", 2, 0));
        response.error_code == 0
    });
    drop(opens);
    assert_eq!(acquired(waits.receive(1).unwrap()), [], "it hears of the end at once");
    let mut other = Client::connect(&broker);
    assert_eq!(other.produce("t", batch(&["a"], None, Codec::None)).0, 0);
    assert_eq!(acquired(other.ask(ApiKey::ShareFetch, 1, &share_fetch(&topic, "other", 0, 0))), [(0, 0, 1)]);
}

#[test]
fn a_member_says_on_one_connection_what_became_of_records_while_it_waits_on_another() {
    let (broker, topic) = queue(&["a", "b"]);
    let (mut waits, mut says) = (Client::connect(&broker), Client::connect(&broker));
    assert_eq!(acquired(waits.ask(ApiKey::ShareFetch, 1, &share_fetch(&topic, "m", 0, 0))), [(0, 1, 1)]);
    waits.send(ApiKey::ShareFetch, 1, &share_fetch(&topic, "m", 1, 60_000));
    let range = acknowledged::AcknowledgementBatch::default().with_last_offset(1).with_acknowledge_types(vec![1, 2]);
    let partition = acknowledged::AcknowledgePartition::default().with_acknowledgement_batches(vec![range]);
    let of_topic =
        acknowledged::AcknowledgeTopic::default().with_topic_id(topic.topic_id).with_partitions(vec![partition]);
    let request = ShareAcknowledgeRequest::default().with_group_id(Some(s("jobs").into()));
    let request = request.with_member_id(Some(s("m"))).with_topics(vec![of_topic]);
    // It is the next one once the Fetch has come.
    let request = request.with_share_session_epoch(2);
    let code = wait_for("the Fetch waits", || {
        let response: ShareAcknowledgeResponse = says.ask(ApiKey::ShareAcknowledge, 1, &request);
        (response.error_code == 0).then(|| response.responses[0].partitions[0].error_code)
    });
    assert_eq!(code, 0);
    assert_eq!(acquired(waits.receive(1).unwrap()), [(1, 1, 2)], "it is released, and comes to who waits");
}

/// It was woken for what was released where the group had read before, and not where it read anew.
#[test]
fn who_waits_hears_of_what_becomes_of_the_group_after_its_offsets_were_deleted() {
    let (broker, topic) = queue(&["a", "b"]);
    assert!(text(&broker, "JOIN late t mode:share from:latest").starts_with("JOINED"));
    let of_late = |epoch, wait_ms| share_fetch(&topic, "m", epoch, wait_ms).with_group_id(Some(s("late").into()));
    let (mut waits, mut other) = (Client::connect(&broker), Client::connect(&broker));
    assert_eq!(acquired(waits.ask(ApiKey::ShareFetch, 1, &of_late(0, 0))), []);
    waits.send(ApiKey::ShareFetch, 1, &of_late(1, i32::MAX));
    // The Fetch has come once another is the next one.
    until("the Fetch waits", || {
        other.ask::<_, ShareFetchResponse>(ApiKey::ShareFetch, 1, &of_late(2, 0)).error_code == 0
    });
    let of_topic = deleted::DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(s("t").into());
    let delete = DeleteShareGroupOffsetsRequest::default().with_group_id(s("late").into()).with_topics(vec![of_topic]);
    let delete = |client: &mut Client| -> DeleteShareGroupOffsetsResponse {
        client.ask(ApiKey::DeleteShareGroupOffsets, 0, &delete)
    };
    // Who joined may still be there.
    until("the offsets are deleted", || delete(&mut other).error_code == 0);
    // The Fetch has looked again once there is a line of where the group begins.
    until("the Fetch has looked again", || text(&broker, "GROUP late").starts_with("GROUP count:1 "));
    let partition = altered::AlterShareGroupOffsetsRequestPartition::default();
    let of_topic = altered::AlterShareGroupOffsetsRequestTopic::default().with_topic_name(s("t").into());
    let of_topic = of_topic.with_partitions(vec![partition]);
    let alter = AlterShareGroupOffsetsRequest::default().with_group_id(s("late").into()).with_topics(vec![of_topic]);
    let altered: AlterShareGroupOffsetsResponse = other.ask(ApiKey::AlterShareGroupOffsets, 0, &alter);
    assert_eq!(altered.error_code, 0);
    assert_eq!(acquired(waits.receive(1).unwrap()), [(0, 1, 1)]);
}

/// A Fetch whose client was gone went round without a wait until its time was over.
#[test]
fn a_client_that_is_gone_is_not_waited_for() {
    let (broker, topic) = queue(&[]);
    let mut gone = Client::connect(&broker);
    gone.ask::<_, ShareFetchResponse>(ApiKey::ShareFetch, 1, &share_fetch(&topic, "gone", 0, 0));
    gone.send(ApiKey::ShareFetch, 1, &share_fetch(&topic, "gone", 1, i32::MAX));
    gone.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(acquired(gone.receive(1).unwrap()), []);
    assert!(gone.is_closed());
}

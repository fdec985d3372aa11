//! How to ask each API by another codec of the protocol, and how that reads the answers.

use super::*;

/// A topic's id, which is a name where the other codec writes one: it knows no requests of OffsetCommit and OffsetFetch with ids.
const AN_ID: &[u8; 16] = b"\x10topic_id: known";

/// An API, how to ask it, how to read what it says, and what it is asked, with the names of its fields.
pub(super) type Oracle = (i16, fn(&Values, i16) -> Vec<u8>, fn(&[u8], i16) -> String, fn(&Values, i16) -> String);

macro_rules! oracle {
    ($key:literal $request:ident $response:ident |$v:ident, $version:ident| $fill:expr) => {
        (
            $key,
            |$v: &Values, $version: i16| {
                let fill = |request: $request| -> $request { ($fill)(request) };
                encoded(fill($request::default()), $version)
            },
            decoded::<$response>,
            |$v: &Values, $version: i16| {
                let fill = |request: $request| -> $request { ($fill)(request) };
                format!("{:?}", fill($request::default()))
            },
        )
    };
}

fn topic(values: &Values) -> TopicName {
    s(&values.topic).into()
}

/// Since version 10 the bytes of the name are an id's.
fn topic_or_id(values: &Values, version: i16) -> TopicName {
    if version < 10 { topic(values) } else { s(std::str::from_utf8(&AN_ID[1..]).unwrap()).into() }
}

fn transactional_id(values: &Values) -> TransactionalId {
    TransactionalId(s(&values.text))
}

fn group(values: &Values) -> GroupId {
    s(&values.text).into()
}

fn maybe(values: &Values, since: bool) -> Option<StrBytes> {
    values.maybe.as_deref().filter(|_| since).map(s)
}

#[rustfmt::skip]
fn oracles() -> Vec<Oracle> {
    use kafka_protocol::messages::{
        add_partitions_to_txn_request as add, alter_configs_request as alter, alter_partition_reassignments_request as reassign, consumer_group_heartbeat_request as beat, create_partitions_request as grow, create_topics_request as create, delete_records_request as trim,
        delete_topics_request as drop_, describe_configs_request as configs, describe_log_dirs_request as dirs, describe_producers_request as producers,
        describe_topic_partitions_request as partitions, fetch_request as fetch, incremental_alter_configs_request as incremental,
        join_group_request as join, leave_group_request as leave, list_offsets_request as list, metadata_request as metadata,
        offset_commit_request as commit, offset_delete_request as forget, offset_fetch_request as committed,
        offset_for_leader_epoch_request as epochs, produce_request as produce, sync_group_request as sync, txn_offset_commit_request as pending,
        alter_client_quotas_request as alter_quotas, alter_user_scram_credentials_request as scram, create_delegation_token_request as create_token, describe_client_quotas_request as quotas, describe_delegation_token_request as tokens, describe_quorum_request as quorum,
        update_features_request as features, write_txn_markers_request as markers,
        alter_share_group_offsets_request as alter_share, delete_share_group_offsets_request as delete_share, describe_share_group_offsets_request as share_offsets,
        share_acknowledge_request as share_ack, share_fetch_request as share_fetch,
    };
    vec![
        oracle!(0 ProduceRequest ProduceResponse |v, version| |r: ProduceRequest| {
            let topic_ = produce::TopicProduceData::default().with_partition_data(vec![
                produce::PartitionProduceData::default().with_index(v.number).with_records(Some(v.bytes.clone().into()))]);
            let topic_ = if version < 13 { topic_.with_name(topic(v)) } else { topic_.with_topic_id(uuid(v)) };
            r.with_transactional_id(maybe(v, true).map(TransactionalId)).with_acks(-1).with_timeout_ms(v.number).with_topic_data(vec![topic_])
        }),
        oracle!(1 FetchRequest FetchResponse |v, version| |r: FetchRequest| {
            let partition = fetch::FetchPartition::default().with_partition(v.number).with_fetch_offset(v.long).with_partition_max_bytes(v.number)
                .with_current_leader_epoch(if version >= 9 { v.number } else { -1 });
            let topic_ = fetch::FetchTopic::default().with_partitions(vec![partition]);
            let topic_ = if version < 13 { topic_.with_topic(topic(v)) } else { topic_.with_topic_id(uuid(v)) };
            let forgotten = fetch::ForgottenTopic::default().with_partitions(vec![v.number]);
            let forgotten = if version < 13 { forgotten.with_topic(topic(v)) } else { forgotten.with_topic_id(uuid(v)) };
            let r = r.with_max_wait_ms(v.number).with_min_bytes(v.number).with_max_bytes(v.number).with_isolation_level(v.flag.into()).with_topics(vec![topic_]);
            let r = if version < 15 { r.with_replica_id(v.number.into()) } else { r };
            let r = if version >= 7 { r.with_session_epoch(-1).with_forgotten_topics_data(vec![forgotten]) } else { r };
            if version >= 11 { r.with_rack_id(s(&v.text)) } else { r }
        }),
        oracle!(2 ListOffsetsRequest ListOffsetsResponse |v, version| |r: ListOffsetsRequest| r.with_isolation_level(if version >= 2 { v.flag.into() } else { 0 }).with_topics(vec![
            list::ListOffsetsTopic::default().with_name(topic(v)).with_partitions(vec![list::ListOffsetsPartition::default().with_partition_index(v.number)
                .with_timestamp(v.long).with_current_leader_epoch(if version >= 4 { v.number } else { -1 })])])),
        oracle!(3 MetadataRequest MetadataResponse |v, version| |r: MetadataRequest| {
            let asked = metadata::MetadataRequestTopic::default().with_name(Some(topic(v)));
            let r = r.with_topics(Some(vec![if version >= 10 { asked.with_topic_id(uuid(v)) } else { asked }])).with_allow_auto_topic_creation(version < 4 || v.flag);
            if version >= 8 { r.with_include_topic_authorized_operations(v.flag) } else { r }
        }),
        oracle!(8 OffsetCommitRequest OffsetCommitResponse |v, version| |r: OffsetCommitRequest| {
            let partition = commit::OffsetCommitRequestPartition::default().with_partition_index(v.number).with_committed_offset(v.long)
                .with_committed_leader_epoch(if version >= 6 { v.number } else { -1 }).with_committed_metadata(maybe(v, true));
            let r = r.with_group_id(group(v)).with_generation_id_or_member_epoch(if v.flag { -1 } else { v.number })
                .with_group_instance_id(maybe(v, version >= 7 && !v.flag))
                .with_topics(vec![commit::OffsetCommitRequestTopic::default().with_name(topic_or_id(v, version)).with_partitions(vec![partition])]);
            if version <= 4 { r.with_retention_time_ms(v.long) } else { r }
        }),
        oracle!(9 OffsetFetchRequest OffsetFetchResponse |v, version| |r: OffsetFetchRequest| {
            let r = if version >= 7 { r.with_require_stable(v.flag) } else { r };
            if version < 8 {
                return r.with_group_id(group(v)).with_topics((!v.flag || version < 2).then(|| vec![committed::OffsetFetchRequestTopic::default().with_name(topic(v)).with_partition_indexes(vec![v.number])]));
            }
            let asked = committed::OffsetFetchRequestGroup::default().with_group_id(group(v)).with_topics(
                (!v.flag).then(|| vec![committed::OffsetFetchRequestTopics::default().with_name(topic_or_id(v, version)).with_partition_indexes(vec![v.number])]));
            let asked = if version >= 9 { asked.with_member_id(maybe(v, true)).with_member_epoch(v.number) } else { asked };
            r.with_groups(vec![asked])
        }),
        oracle!(10 FindCoordinatorRequest FindCoordinatorResponse |v, version| |r: FindCoordinatorRequest| {
            let r = if version >= 1 { r.with_key_type(v.flag.into()) } else { r };
            if version >= 4 { r.with_coordinator_keys(vec![s(&v.text), s(&v.topic)]) } else { r.with_key(s(&v.text)) }
        }),
        oracle!(11 JoinGroupRequest JoinGroupResponse |v, version| |r: JoinGroupRequest| r.with_group_id(group(v)).with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(if version >= 1 { v.number } else { -1 }).with_member_id(s(if v.flag { "" } else { &v.text })).with_group_instance_id(maybe(v, version >= 5))
            .with_protocol_type(s("consumer")).with_reason(maybe(v, version >= 8))
            .with_protocols(vec![join::JoinGroupRequestProtocol::default().with_name(s(&v.text)).with_metadata(v.bytes.clone().into())])),
        oracle!(12 HeartbeatRequest HeartbeatResponse |v, version| |r: HeartbeatRequest| r.with_group_id(group(v)).with_generation_id(v.number).with_member_id(s(&v.text))
            .with_group_instance_id(maybe(v, version >= 3))),
        oracle!(13 LeaveGroupRequest LeaveGroupResponse |v, version| |r: LeaveGroupRequest| {
            let r = r.with_group_id(group(v));
            if version < 3 { return r.with_member_id(s(&v.text)) }
            r.with_members(vec![leave::MemberIdentity::default().with_member_id(s(&v.text)).with_group_instance_id(maybe(v, true)).with_reason(maybe(v, version >= 5))])
        }),
        oracle!(14 SyncGroupRequest SyncGroupResponse |v, version| |r: SyncGroupRequest| r.with_group_id(group(v)).with_generation_id(v.number).with_member_id(s(&v.text))
            .with_group_instance_id(maybe(v, version >= 3)).with_protocol_type(maybe(v, version >= 5)).with_protocol_name(maybe(v, version >= 5))
            .with_assignments(vec![sync::SyncGroupRequestAssignment::default().with_member_id(s(&v.text)).with_assignment(v.bytes.clone().into())])),
        oracle!(15 DescribeGroupsRequest DescribeGroupsResponse |v, version| |r: DescribeGroupsRequest| r.with_groups(vec![group(v), s("").into()]).with_include_authorized_operations(version >= 3 && v.flag)),
        oracle!(16 ListGroupsRequest ListGroupsResponse |v, version| |r: ListGroupsRequest| {
            let r = r.with_states_filter(if version >= 4 { vec![s(&v.text)] } else { vec![] });
            if version >= 5 { r.with_types_filter(vec![s(&v.text)]) } else { r }
        }),
        oracle!(17 SaslHandshakeRequest SaslHandshakeResponse |v, _version| |r: SaslHandshakeRequest| r.with_mechanism(s(&v.text))),
        oracle!(18 ApiVersionsRequest ApiVersionsResponse |v, version| |r: ApiVersionsRequest| if version >= 3 { r.with_client_software_name(s(&v.text)).with_client_software_version(s("1.0")) } else { r }),
        oracle!(19 CreateTopicsRequest CreateTopicsResponse |v, _version| |r: CreateTopicsRequest| r.with_timeout_ms(v.number).with_validate_only(v.flag).with_topics(vec![
            create::CreatableTopic::default().with_name(s(&v.text).into()).with_num_partitions(v.number).with_replication_factor(1)
                .with_configs(vec![create::CreatableTopicConfig::default().with_name(s(&v.text)).with_value(maybe(v, true))]),
            create::CreatableTopic::default().with_name(s("by-hand").into()).with_num_partitions(-1).with_replication_factor(-1)
                .with_assignments(vec![create::CreatableReplicaAssignment::default().with_partition_index(0).with_broker_ids(vec![v.number.into()])])])),
        oracle!(20 DeleteTopicsRequest DeleteTopicsResponse |v, version| |r: DeleteTopicsRequest| {
            let r = r.with_timeout_ms(v.number);
            if version < 6 { return r.with_topic_names(vec![s(&v.text).into(), topic(v)]) }
            r.with_topics(vec![drop_::DeleteTopicState::default().with_name(Some(topic(v))), drop_::DeleteTopicState::default().with_name(None).with_topic_id(uuid(v))])
        }),
        oracle!(21 DeleteRecordsRequest DeleteRecordsResponse |v, _version| |r: DeleteRecordsRequest| r.with_timeout_ms(v.number).with_topics(vec![
            trim::DeleteRecordsTopic::default().with_name(topic(v)).with_partitions(vec![trim::DeleteRecordsPartition::default().with_partition_index(v.number).with_offset(v.long)])])),
        oracle!(22 InitProducerIdRequest InitProducerIdResponse |v, version| |r: InitProducerIdRequest| {
            let r = r.with_transactional_id(maybe(v, true).map(TransactionalId)).with_transaction_timeout_ms(v.number);
            if version >= 3 { r.with_producer_id(v.long.into()).with_producer_epoch(v.number as i16) } else { r }
        }),
        oracle!(23 OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse |v, version| |r: OffsetForLeaderEpochRequest| r.with_replica_id(if version >= 3 { v.number.into() } else { (-2).into() }).with_topics(vec![
            epochs::OffsetForLeaderTopic::default().with_topic(topic(v)).with_partitions(vec![epochs::OffsetForLeaderPartition::default()
                .with_partition(v.number).with_current_leader_epoch(v.number).with_leader_epoch(v.number)])])),
        oracle!(24 AddPartitionsToTxnRequest AddPartitionsToTxnResponse |v, version| |r: AddPartitionsToTxnRequest| {
            let topics = vec![add::AddPartitionsToTxnTopic::default().with_name(topic(v)).with_partitions(vec![v.number, 0])];
            if version < 4 {
                return r.with_v3_and_below_transactional_id(transactional_id(v)).with_v3_and_below_producer_id(v.long.into())
                    .with_v3_and_below_producer_epoch(v.number as i16).with_v3_and_below_topics(topics);
            }
            let one = add::AddPartitionsToTxnTransaction::default().with_transactional_id(transactional_id(v)).with_producer_id(v.long.into());
            let one = one.with_producer_epoch(v.number as i16).with_verify_only(v.flag).with_topics(topics);
            r.with_transactions(vec![one.clone(), one.with_transactional_id(TransactionalId(s("other")))])
        }),
        oracle!(25 AddOffsetsToTxnRequest AddOffsetsToTxnResponse |v, _version| |r: AddOffsetsToTxnRequest| r.with_transactional_id(transactional_id(v))
            .with_producer_id(v.long.into()).with_producer_epoch(v.number as i16).with_group_id(group(v))),
        oracle!(26 EndTxnRequest EndTxnResponse |v, _version| |r: EndTxnRequest| r.with_transactional_id(transactional_id(v))
            .with_producer_id(v.long.into()).with_producer_epoch(v.number as i16).with_committed(v.flag)),
        (27, |v, version| {
            let topic = markers::WritableTxnMarkerTopic::default().with_name(topic(v)).with_partition_indexes(vec![v.number]);
            let marker = markers::WritableTxnMarker::default().with_producer_id(v.long.into()).with_producer_epoch(v.number as i16);
            let marker = marker.with_transaction_result(v.flag).with_topics(vec![topic]).with_coordinator_epoch(v.number);
            let mut request = encoded(WriteTxnMarkersRequest::default().with_markers(vec![marker]), 1);
            // The other codec does not know version 2, in which the transaction's version stands before the tagged fields.
            if version == 2 { request.insert(request.len() - 2, 2) }
            request
        }, |response, _version| decoded::<WriteTxnMarkersResponse>(response, 1), |v, _version| {
            let (marker, topic) = (markers::WritableTxnMarker::default(), markers::WritableTxnMarkerTopic::default());
            let request = WriteTxnMarkersRequest::default().with_markers(vec![marker.with_topics(vec![topic.with_name(self::topic(v))])]);
            format!("{request:?} transaction_version: 2")
        }),
        oracle!(28 TxnOffsetCommitRequest TxnOffsetCommitResponse |v, version| |r: TxnOffsetCommitRequest| {
            let partition = pending::TxnOffsetCommitRequestPartition::default().with_partition_index(v.number).with_committed_offset(v.long)
                .with_committed_leader_epoch(if version >= 2 { v.number } else { -1 }).with_committed_metadata(maybe(v, true));
            let r = r.with_transactional_id(transactional_id(v)).with_group_id(group(v)).with_producer_id(v.long.into()).with_producer_epoch(v.number as i16)
                .with_topics(vec![pending::TxnOffsetCommitRequestTopic::default().with_name(topic(v)).with_partitions(vec![partition])]);
            if version < 3 { return r }
            r.with_generation_id(if v.flag { -1 } else { v.number }).with_member_id(s(&v.text)).with_group_instance_id(maybe(v, !v.flag))
        }),
        oracle!(29 DescribeAclsRequest DescribeAclsResponse |v, _version| |r: DescribeAclsRequest| r.with_resource_type_filter(1).with_pattern_type_filter(3)
            .with_resource_name_filter(maybe(v, true)).with_principal_filter(maybe(v, true)).with_host_filter(maybe(v, true)).with_operation(1).with_permission_type(1)),
        oracle!(30 CreateAclsRequest CreateAclsResponse |v, _version| |r: CreateAclsRequest| r.with_creations(vec![
            kafka_protocol::messages::create_acls_request::AclCreation::default().with_resource_type(2).with_resource_name(s(&v.text)).with_principal(s(&v.topic))
                .with_host(s("*")).with_operation(v.number as i8).with_permission_type(3)])),
        oracle!(31 DeleteAclsRequest DeleteAclsResponse |v, _version| |r: DeleteAclsRequest| r.with_filters(vec![
            kafka_protocol::messages::delete_acls_request::DeleteAclsFilter::default().with_resource_type_filter(1).with_pattern_type_filter(3)
                .with_resource_name_filter(maybe(v, true)).with_operation(1).with_permission_type(1)])),
        oracle!(32 DescribeConfigsRequest DescribeConfigsResponse |v, version| |r: DescribeConfigsRequest| r.with_include_synonyms(v.flag).with_include_documentation(version >= 3 && v.flag).with_resources(vec![
            configs::DescribeConfigsResource::default().with_resource_type(2).with_resource_name(s(&v.topic)).with_configuration_keys(v.flag.then(|| vec![s(&v.text)])),
            configs::DescribeConfigsResource::default().with_resource_type(4).with_resource_name(s("1")).with_configuration_keys(None)])),
        oracle!(33 AlterConfigsRequest AlterConfigsResponse |v, _version| |r: AlterConfigsRequest| r.with_validate_only(v.flag).with_resources(vec![
            alter::AlterConfigsResource::default().with_resource_type(2).with_resource_name(s(&v.topic))
                .with_configs(vec![alter::AlterableConfig::default().with_name(s(&v.text)).with_value(maybe(v, true))])])),
        oracle!(34 AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse |v, _version| |r: AlterReplicaLogDirsRequest| r.with_dirs(vec![
            kafka_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDir::default().with_path(s(&v.text)).with_topics(vec![
                kafka_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default().with_name(topic(v)).with_partitions(vec![v.number])])])),
        (35, |v, version| {
            let topic = dirs::DescribableLogDirTopic::default().with_topic(topic(v)).with_partitions(vec![v.number]);
            encoded(DescribeLogDirsRequest::default().with_topics((!v.flag).then(|| vec![topic])), version)
        }, |response, version| {
            // The other codec does not know version 5, in which a directory ends with whether it is cordoned off.
            let response = if version < 5 { response } else { response.strip_suffix(&[0]).unwrap() };
            let cordoned = if version < 5 { "" } else { " is_cordoned: false" };
            decoded::<DescribeLogDirsResponse>(response, version) + cordoned
        }, |_, _version| {
            let topic = dirs::DescribableLogDirTopic::default();
            format!("{:?}", DescribeLogDirsRequest::default().with_topics(Some(vec![topic])))
        }),
        oracle!(36 SaslAuthenticateRequest SaslAuthenticateResponse |v, _version| |r: SaslAuthenticateRequest| r.with_auth_bytes(v.bytes.clone().into())),
        oracle!(37 CreatePartitionsRequest CreatePartitionsResponse |v, _version| |r: CreatePartitionsRequest| r.with_timeout_ms(v.number).with_validate_only(v.flag).with_topics(vec![
            grow::CreatePartitionsTopic::default().with_name(topic(v)).with_count(v.number)
                .with_assignments((!v.flag).then(|| vec![grow::CreatePartitionsAssignment::default().with_broker_ids(vec![v.number.into()])]))])),
        oracle!(38 CreateDelegationTokenRequest CreateDelegationTokenResponse |v, version| |r: CreateDelegationTokenRequest| {
            let r = r.with_max_lifetime_ms(v.long).with_renewers(vec![create_token::CreatableRenewers::default().with_principal_type(s("User")).with_principal_name(s(&v.text))]);
            if version >= 3 { r.with_owner_principal_type(maybe(v, true)).with_owner_principal_name(maybe(v, true)) } else { r }
        }),
        oracle!(39 RenewDelegationTokenRequest RenewDelegationTokenResponse |v, _version| |r: RenewDelegationTokenRequest| r.with_hmac(v.bytes.clone().into()).with_renew_period_ms(v.long)),
        oracle!(40 ExpireDelegationTokenRequest ExpireDelegationTokenResponse |v, _version| |r: ExpireDelegationTokenRequest| r.with_hmac(v.bytes.clone().into()).with_expiry_time_period_ms(v.long)),
        oracle!(41 DescribeDelegationTokenRequest DescribeDelegationTokenResponse |v, _version| |r: DescribeDelegationTokenRequest| r.with_owners((!v.flag).then(|| vec![
            tokens::DescribeDelegationTokenOwner::default().with_principal_type(s("User")).with_principal_name(s(&v.text))]))),
        oracle!(42 DeleteGroupsRequest DeleteGroupsResponse |v, _version| |r: DeleteGroupsRequest| r.with_groups_names(vec![group(v)])),
        oracle!(43 ElectLeadersRequest ElectLeadersResponse |v, version| |r: ElectLeadersRequest| r.with_election_type(if version >= 1 { v.number as i8 } else { 0 }).with_timeout_ms(v.number)
            .with_topic_partitions((!v.flag).then(|| vec![kafka_protocol::messages::elect_leaders_request::TopicPartitions::default().with_topic(topic(v)).with_partitions(vec![v.number])]))),
        oracle!(44 IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse |v, _version| |r: IncrementalAlterConfigsRequest| r.with_validate_only(v.flag).with_resources(vec![
            incremental::AlterConfigsResource::default().with_resource_type(2).with_resource_name(s(&v.topic))
                .with_configs(vec![incremental::AlterableConfig::default().with_name(s(&v.text)).with_config_operation(v.number as i8).with_value(maybe(v, true))])])),
        oracle!(45 AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse |v, version| |r: AlterPartitionReassignmentsRequest| r.with_timeout_ms(v.number)
            .with_allow_replication_factor_change(version < 1 || v.flag).with_topics(vec![reassign::ReassignableTopic::default().with_name(topic(v))
                .with_partitions(vec![reassign::ReassignablePartition::default().with_partition_index(v.number).with_replicas((!v.flag).then(|| vec![v.number.into()]))])])),
        oracle!(46 ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse |v, _version| |r: ListPartitionReassignmentsRequest| r.with_timeout_ms(v.number)
            .with_topics((!v.flag).then(|| vec![kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics::default()
                .with_name(topic(v)).with_partition_indexes(vec![v.number])]))),
        oracle!(47 OffsetDeleteRequest OffsetDeleteResponse |v, _version| |r: OffsetDeleteRequest| r.with_group_id(group(v)).with_topics(vec![
            forget::OffsetDeleteRequestTopic::default().with_name(topic(v)).with_partitions(vec![forget::OffsetDeleteRequestPartition::default().with_partition_index(v.number)])])),
        oracle!(48 DescribeClientQuotasRequest DescribeClientQuotasResponse |v, _version| |r: DescribeClientQuotasRequest| r.with_strict(v.flag).with_components(vec![
            quotas::ComponentData::default().with_entity_type(s("user")).with_match_type(v.number as i8).with_match(maybe(v, true))])),
        oracle!(49 AlterClientQuotasRequest AlterClientQuotasResponse |v, _version| |r: AlterClientQuotasRequest| r.with_validate_only(v.flag).with_entries(vec![
            alter_quotas::EntryData::default().with_entity(vec![alter_quotas::EntityData::default().with_entity_type(s("user")).with_entity_name(maybe(v, true))])
                .with_ops(vec![alter_quotas::OpData::default().with_key(s(&v.text)).with_value(f64::from(v.number)).with_remove(!v.flag)])])),
        oracle!(50 DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse |v, _version| |r: DescribeUserScramCredentialsRequest| r.with_users((!v.flag).then(|| vec![
            kafka_protocol::messages::describe_user_scram_credentials_request::UserName::default().with_name(s(&v.text))]))),
        oracle!(51 AlterUserScramCredentialsRequest AlterUserScramCredentialsResponse |v, _version| |r: AlterUserScramCredentialsRequest| {
            let upsertion = scram::ScramCredentialUpsertion::default().with_name(s(&v.text)).with_mechanism(1).with_iterations(v.number);
            let upsertion = upsertion.with_salt(v.bytes.clone().into()).with_salted_password(v.bytes.clone().into());
            r.with_deletions(vec![scram::ScramCredentialDeletion::default().with_name(topic(v).0).with_mechanism(v.number as i8)]).with_upsertions(vec![upsertion])
        }),
        oracle!(55 DescribeQuorumRequest DescribeQuorumResponse |v, _version| |r: DescribeQuorumRequest| {
            let of = |name: &str, index| quorum::TopicData::default().with_topic_name(s(name).into()).with_partitions(vec![quorum::PartitionData::default().with_partition_index(index)]);
            r.with_topics(if v.flag { vec![of("__cluster_metadata", 0)] } else { vec![of(&v.topic, v.number), of(&v.text, 0)] })
        }),
        oracle!(57 UpdateFeaturesRequest UpdateFeaturesResponse |v, version| |r: UpdateFeaturesRequest| {
            let update = features::FeatureUpdateKey::default().with_feature(s("transaction.version")).with_max_version_level(v.number as i16);
            let update = if version < 1 { update.with_allow_downgrade(v.flag) } else { update.with_upgrade_type(v.long as i8) };
            let r = r.with_timeout_ms(v.number).with_feature_updates(vec![update, features::FeatureUpdateKey::default().with_feature(s(&v.text))]);
            if version >= 1 { r.with_validate_only(v.flag) } else { r }
        }),
        oracle!(60 DescribeClusterRequest DescribeClusterResponse |v, version| |r: DescribeClusterRequest| r.with_include_cluster_authorized_operations(v.flag)
            .with_endpoint_type(if version >= 1 { v.number as i8 } else { 1 }).with_include_fenced_brokers(version >= 2 && v.flag)),
        oracle!(61 DescribeProducersRequest DescribeProducersResponse |v, _version| |r: DescribeProducersRequest| r.with_topics(vec![
            producers::TopicRequest::default().with_name(topic(v)).with_partition_indexes(vec![v.number, 0])])),
        oracle!(64 UnregisterBrokerRequest UnregisterBrokerResponse |v, _version| |r: UnregisterBrokerRequest| r.with_broker_id(v.number.into())),
        oracle!(65 DescribeTransactionsRequest DescribeTransactionsResponse |v, _version| |r: DescribeTransactionsRequest| r.with_transactional_ids(vec![
            transactional_id(v), TransactionalId(s("other"))])),
        oracle!(66 ListTransactionsRequest ListTransactionsResponse |v, version| |r: ListTransactionsRequest| r.with_state_filters(vec![s("Ongoing"), s(&v.text)])
            .with_producer_id_filters(vec![v.long.into()]).with_duration_filter(if version >= 1 { v.long } else { -1 })
            .with_transactional_id_pattern(if version >= 2 { maybe(v, true) } else { None })),
        oracle!(68 ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse |v, version| |r: ConsumerGroupHeartbeatRequest| {
            let owned = beat::TopicPartitions::default().with_topic_id(uuid(v)).with_partitions(vec![v.number]);
            let r = r.with_group_id(group(v)).with_member_id(s(&v.text)).with_member_epoch(if v.flag { 0 } else { v.number }).with_rack_id(maybe(v, true))
                .with_rebalance_timeout_ms(v.number).with_subscribed_topic_names(Some(vec![topic(v)])).with_server_assignor(Some(s("range")))
                .with_instance_id(maybe(v, !v.flag)).with_topic_partitions(Some(if v.flag { vec![] } else { vec![owned] }));
            if version >= 1 { r.with_subscribed_topic_regex(maybe(v, true)) } else { r }
        }),
        oracle!(69 ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse |v, _version| |r: ConsumerGroupDescribeRequest| r.with_include_authorized_operations(v.flag)
            .with_group_ids(vec![group(v), s("").into()])),
        oracle!(74 ListConfigResourcesRequest ListConfigResourcesResponse |v, version| |r: ListConfigResourcesRequest|
            if version >= 1 { r.with_resource_types(if v.flag { vec![] } else { vec![v.number as i8] }) } else { r }),
        oracle!(75 DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse |v, _version| |r: DescribeTopicPartitionsRequest| r.with_response_partition_limit(v.number)
            .with_topics(vec![partitions::TopicRequest::default().with_name(topic(v)), partitions::TopicRequest::default().with_name(s(&v.text).into())])
            .with_cursor(v.flag.then(|| partitions::Cursor::default().with_topic_name(topic(v)).with_partition_index(v.number)))),
        oracle!(76 ShareGroupHeartbeatRequest ShareGroupHeartbeatResponse |v, _version| |r: ShareGroupHeartbeatRequest| r.with_group_id(group(v)).with_member_id(s(&v.text))
            .with_member_epoch(if v.flag { 0 } else { v.number }).with_rack_id(maybe(v, true)).with_subscribed_topic_names(Some(vec![topic(v)]))),
        oracle!(77 ShareGroupDescribeRequest ShareGroupDescribeResponse |v, _version| |r: ShareGroupDescribeRequest| r.with_include_authorized_operations(v.flag)
            .with_group_ids(vec![group(v), s("").into()])),
        // The other codec does not know version 2 of these two, in which a few bytes more stand before the topics.
        (78, |v, version| {
            let said = share_fetch::AcknowledgementBatch::default().with_first_offset(v.long).with_last_offset(v.long).with_acknowledge_types(vec![v.number as i8]);
            let partition = share_fetch::FetchPartition::default().with_partition_index(v.number).with_acknowledgement_batches(if v.flag { vec![] } else { vec![said] });
            let topic = share_fetch::FetchTopic::default().with_topic_id(uuid(v)).with_partitions(vec![partition]);
            let forgotten = share_fetch::ForgottenTopic::default().with_topic_id(uuid(v)).with_partitions(vec![v.number]);
            let request = ShareFetchRequest::default().with_group_id(Some(group(v))).with_member_id(Some(s("m"))).with_share_session_epoch(if v.flag { 0 } else { v.number })
                .with_max_records(v.number).with_batch_size(v.number).with_topics(vec![topic]).with_forgotten_topics_data(vec![forgotten]);
            let before = encoded(request.clone().with_topics(vec![]).with_forgotten_topics_data(vec![]), 1).len() - 3;
            let mut request = encoded(request, 1);
            if version == 2 { drop(request.splice(before..before, [1, 0])) }
            request
        }, |response, _version| decoded::<ShareFetchResponse>(response, 1), |_v, _version| {
            let said = share_fetch::AcknowledgementBatch::default();
            let partition = share_fetch::FetchPartition::default().with_acknowledgement_batches(vec![said]);
            let topic = share_fetch::FetchTopic::default().with_partitions(vec![partition]);
            let request = ShareFetchRequest::default().with_topics(vec![topic]).with_forgotten_topics_data(vec![share_fetch::ForgottenTopic::default()]);
            format!("{request:?} share_acquire_mode: 1 is_renew_ack: false")
        }),
        (79, |v, version| {
            let said = share_ack::AcknowledgementBatch::default().with_first_offset(v.long).with_last_offset(v.long).with_acknowledge_types(vec![v.number as i8]);
            let partition = share_ack::AcknowledgePartition::default().with_partition_index(v.number).with_acknowledgement_batches(vec![said]);
            let topic = share_ack::AcknowledgeTopic::default().with_topic_id(uuid(v)).with_partitions(vec![partition]);
            let request = ShareAcknowledgeRequest::default().with_group_id(Some(group(v))).with_member_id(Some(s("m"))).with_share_session_epoch(v.number);
            let before = encoded(request.clone(), 1).len() - 2;
            let mut request = encoded(request.with_topics(vec![topic]), 1);
            if version == 2 { request.insert(before, v.flag.into()) }
            request
        }, |response, version| {
            let mut response = response.to_vec();
            if version == 2 {
                // How long the lock is, behind the message.
                let at = 7 + usize::from(response[6].saturating_sub(1));
                response.drain(at..at + 4);
            }
            format!("{} acquisition_lock_timeout_ms: 0", decoded::<ShareAcknowledgeResponse>(&response, 1))
        }, |_v, _version| {
            let partition = share_ack::AcknowledgePartition::default().with_acknowledgement_batches(vec![share_ack::AcknowledgementBatch::default()]);
            let topic = share_ack::AcknowledgeTopic::default().with_partitions(vec![partition]);
            format!("{:?} is_renew_ack: true", ShareAcknowledgeRequest::default().with_topics(vec![topic]))
        }),
        (90, |v, _version| {
            let topic = share_offsets::DescribeShareGroupOffsetsRequestTopic::default().with_topic_name(topic(v)).with_partitions(vec![v.number, 0]);
            let group = share_offsets::DescribeShareGroupOffsetsRequestGroup::default().with_group_id(group(v)).with_topics(v.flag.then(|| vec![topic]));
            encoded(DescribeShareGroupOffsetsRequest::default().with_groups(vec![group]), 0)
        }, |response, version| {
            let response = if version == 1 { without_lag(response) } else { response.to_vec() };
            format!("{} lag: 0", decoded::<DescribeShareGroupOffsetsResponse>(&response, 0))
        }, |_v, _version| {
            let topic = share_offsets::DescribeShareGroupOffsetsRequestTopic::default();
            let group = share_offsets::DescribeShareGroupOffsetsRequestGroup::default().with_topics(Some(vec![topic]));
            format!("{:?}", DescribeShareGroupOffsetsRequest::default().with_groups(vec![group]))
        }),
        oracle!(91 AlterShareGroupOffsetsRequest AlterShareGroupOffsetsResponse |v, _version| |r: AlterShareGroupOffsetsRequest| {
            let partition = alter_share::AlterShareGroupOffsetsRequestPartition::default().with_partition_index(v.number).with_start_offset(v.long);
            r.with_group_id(group(v)).with_topics(vec![alter_share::AlterShareGroupOffsetsRequestTopic::default().with_topic_name(topic(v)).with_partitions(vec![partition])])
        }),
        oracle!(92 DeleteShareGroupOffsetsRequest DeleteShareGroupOffsetsResponse |v, _version| |r: DeleteShareGroupOffsetsRequest| r.with_group_id(group(v))
            .with_topics(vec![delete_share::DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(topic(v))])),
    ]
}

/// A DescribeShareGroupOffsets response of version 1 as one of version 0: its lists and strings are short.
fn without_lag(response: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (vec![], 0);
    let mut take = |count: usize, keep: bool| {
        let taken = &response[at..at + count];
        at += count;
        out.extend_from_slice(if keep { taken } else { &[] });
        usize::from(taken.first().copied().unwrap_or(0)).saturating_sub(1)
    };
    take(4, true);
    for _group in 0..take(1, true) {
        let name = take(1, true);
        take(name, true);
        for _topic in 0..take(1, true) {
            let name = take(1, true);
            take(name + 16, true);
            for _partition in 0..take(1, true) {
                take(16, true);
                take(8, false);
                take(2, true);
                let why = take(1, true);
                take(why + 1, true);
            }
            take(1, true);
        }
        take(2, true);
        let why = take(1, true);
        take(why + 1, true);
    }
    take(1, true);
    out
}

/// A topic's id, of the other codec's type for it, which it does not name.
fn uuid<U: std::str::FromStr<Err: std::fmt::Debug>>(values: &Values) -> U {
    of_bytes((values.long as u128 & 0xffff_ffff_ffff).to_be_bytes())
}

/// Each API of the table in each version that is answered.
pub(super) fn all() -> Vec<(Oracle, i16)> {
    let oracles = oracles();
    let keys: Vec<i16> = oracles.iter().map(|(key, ..)| *key).collect();
    assert_eq!(keys, APIS.iter().map(|api| api.key).collect::<Vec<_>>(), "each API of the table has its oracle");
    let versions = |api: &Api| if api.key == 0 { 3..=*api.versions.end() } else { api.versions.clone() };
    let each = oracles.into_iter().zip(APIS);
    each.flat_map(|(oracle, api)| versions(api).map(move |version| (oracle, version))).collect()
}

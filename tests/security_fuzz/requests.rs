//! Requests as another codec of Kafka's protocol writes them.

use kafka_protocol::{
    messages::{
        create_acls_request::AclCreation, create_delegation_token_request::CreatableRenewers,
        delete_acls_request::DeleteAclsFilter, describe_user_scram_credentials_request::UserName, *,
    },
    protocol::{Encodable, HeaderVersion, StrBytes},
};
use parts::{acl, credential, quota};

pub(crate) fn s(text: &str) -> StrBytes {
    StrBytes::from(text.to_string())
}

/// A request without its size.
pub(crate) fn frame<R: Encodable + HeaderVersion>(key: ApiKey, version: i16, request: &R) -> Vec<u8> {
    let header = RequestHeader::default().with_request_api_key(key as i16).with_request_api_version(version);
    let header = header.with_correlation_id(7).with_client_id(Some(s("bent")));
    let mut frame = Vec::new();
    header.encode(&mut frame, R::header_version(version)).unwrap();
    request.encode(&mut frame, version).unwrap();
    frame
}

pub(crate) fn handshake(version: i16, mechanism: &str) -> Vec<u8> {
    frame(ApiKey::SaslHandshake, version, &SaslHandshakeRequest::default().with_mechanism(s(mechanism)))
}

pub(crate) fn authenticate(version: i16, message: &[u8]) -> Vec<u8> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(message.to_vec().into());
    frame(ApiKey::SaslAuthenticate, version, &request)
}

/// All topics.
pub(crate) fn metadata() -> Vec<u8> {
    frame(ApiKey::Metadata, 9, &MetadataRequest::default().with_topics(None))
}

/// What administrators ask for, in every version.
pub(crate) fn of_administrators() -> Vec<Vec<u8>> {
    let mut all = vec![metadata(), frame(ApiKey::ApiVersions, 3, &ApiVersionsRequest::default())];
    for version in 1..=3 {
        let found = DescribeAclsRequest::default().with_resource_type_filter(1).with_operation(1);
        let found = found.with_pattern_type_filter(1).with_permission_type(1);
        let named = found.clone().with_resource_type_filter(2).with_resource_name_filter(Some(s("orders")));
        let named = named.with_pattern_type_filter(2).with_principal_filter(Some(s("User:bob")));
        all.extend([found, named].map(|request| frame(ApiKey::DescribeAcls, version, &request)));
        let made = CreateAclsRequest::default().with_creations(vec![acl("orders", 3), acl("bill", 4)]);
        all.push(frame(ApiKey::CreateAcls, version, &made));
        let filter = DeleteAclsFilter::default().with_resource_type_filter(2).with_operation(1);
        let filter = filter.with_pattern_type_filter(1).with_permission_type(1);
        let one = filter.clone().with_resource_name_filter(Some(s("orders"))).with_host_filter(Some(s("*")));
        let gone =
            DeleteAclsRequest::default().with_filters(vec![one, filter.with_principal_filter(Some(s("User:bob")))]);
        all.push(frame(ApiKey::DeleteAcls, version, &gone));
    }
    for users in [None, Some(vec![UserName::default().with_name(s("bob"))])] {
        let request = DescribeUserScramCredentialsRequest::default().with_users(users);
        all.push(frame(ApiKey::DescribeUserScramCredentials, 0, &request));
    }
    for version in 0..=1 {
        all.extend(quota().map(|request| frame(ApiKey::AlterClientQuotas, version, &request)));
        all.push(frame(ApiKey::DescribeClientQuotas, version, &parts::quotas()));
        all.push(handshake(version, "PLAIN"));
        all.push(handshake(version, "SCRAM-SHA-512"));
    }
    all.extend(credential().map(|request| frame(ApiKey::AlterUserScramCredentials, 0, &request)));
    for version in 0..=2 {
        all.push(authenticate(version, b"\0bob\0wrong"));
        all.push(authenticate(version, b"n,,n=bob,r=fyko+d2lbbFgONRv9qkxdawL"));
    }
    let renewer = CreatableRenewers::default().with_principal_type(s("User")).with_principal_name(s("bob"));
    let token = CreateDelegationTokenRequest::default().with_renewers(vec![renewer]);
    all.push(frame(ApiKey::CreateDelegationToken, 3, &token));
    let hmac = || vec![7_u8; 32].into();
    all.push(frame(ApiKey::RenewDelegationToken, 2, &RenewDelegationTokenRequest::default().with_hmac(hmac())));
    all.push(frame(ApiKey::ExpireDelegationToken, 2, &ExpireDelegationTokenRequest::default().with_hmac(hmac())));
    all.push(frame(ApiKey::DescribeDelegationToken, 3, &DescribeDelegationTokenRequest::default()));
    all
}

/// The parts of requests.
mod parts {
    use super::{AclCreation, s};
    use kafka_protocol::messages::{
        AlterClientQuotasRequest, AlterUserScramCredentialsRequest, DescribeClientQuotasRequest,
        alter_client_quotas_request::{EntityData, EntryData, OpData},
        alter_user_scram_credentials_request::{ScramCredentialDeletion, ScramCredentialUpsertion},
        describe_client_quotas_request::ComponentData,
    };

    pub(super) fn acl(name: &str, pattern: i8) -> AclCreation {
        let acl = AclCreation::default().with_resource_type(2).with_resource_name(s(name));
        let acl = acl.with_resource_pattern_type(pattern).with_principal(s("User:bob")).with_host(s("*"));
        acl.with_operation(3).with_permission_type(3)
    }

    pub(super) fn quota() -> [AlterClientQuotasRequest; 2] {
        let of = |kind: &str, name: Option<&str>| {
            EntityData::default().with_entity_type(s(kind)).with_entity_name(name.map(s))
        };
        let to = |key: &str, value: f64| OpData::default().with_key(s(key)).with_value(value);
        let user = EntryData::default().with_entity(vec![of("user", Some("bob")), of("client-id", None)]);
        let user = user.with_ops(vec![to("producer_byte_rate", 1e6), to("request_percentage", 0.5)]);
        let address = EntryData::default().with_entity(vec![of("ip", Some("10.0.0.1"))]);
        let address = address.with_ops(vec![to("connection_creation_rate", 5.0).with_remove(true)]);
        [vec![user.clone()], vec![user, address]].map(|all| AlterClientQuotasRequest::default().with_entries(all))
    }

    pub(super) fn quotas() -> DescribeClientQuotasRequest {
        let mut part = ComponentData::default().with_entity_type(s("user"));
        part._match = Some(s("bob"));
        DescribeClientQuotasRequest::default().with_components(vec![part]).with_strict(true)
    }

    pub(super) fn credential() -> [AlterUserScramCredentialsRequest; 2] {
        let set = ScramCredentialUpsertion::default().with_name(s("bob")).with_mechanism(1).with_iterations(4096);
        let set = set.with_salt(vec![1; 16].into()).with_salted_password(vec![2; 32].into());
        let gone = ScramCredentialDeletion::default().with_name(s("bob")).with_mechanism(1);
        let request = AlterUserScramCredentialsRequest::default();
        [request.clone().with_upsertions(vec![set]), request.with_deletions(vec![gone])]
    }
}

use kafka_protocol::{
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, InitProducerIdRequest, InitProducerIdResponse,
        MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader,
        SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
        api_versions_response::{ApiVersion, SupportedFeatureKey},
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        produce_response::{
            BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
            TopicProduceResponse,
        },
    },
    protocol::{Encodable, StrBytes, decode_request_header_from_buffer},
};
use proptest::prelude::*;

use super::*;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn encoded<M: Encodable>(message: &M, header: Option<i16>, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    if header == Some(1) {
        // The correlation id is not part of what is kept.
        ResponseHeader::default().encode(&mut bytes, 1).unwrap();
        bytes.advance(4);
    }
    message.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

fn response(api: ApiKey, version: i16, bytes: Bytes) -> Response {
    Response { id: CorrelationId(1), api, version, bytes }
}

fn metadata(version: i16) -> MetadataResponse {
    let partition = MetadataResponsePartition::default()
        .with_leader_id(2.into())
        .with_leader_epoch(7)
        .with_replica_nodes(vec![1.into(), 2.into()])
        .with_isr_nodes(vec![2.into()]);
    let topic = MetadataResponseTopic::default()
        .with_name(Some(text("orders").into()))
        .with_partitions(vec![partition.clone(), partition.with_partition_index(1)]);
    let topic = if version >= 10 { topic.with_topic_id(uuid::Uuid::from_u128(9)) } else { topic };
    let broker =
        MetadataResponseBroker::default().with_node_id(2.into()).with_host(text("b2")).with_port(9092);
    MetadataResponse::default()
        .with_cluster_id(Some(text("cluster")))
        .with_brokers(vec![broker.clone().with_rack(Some(text("a"))), broker])
        .with_topics(vec![topic])
        .with_unknown_tagged_field(77, Bytes::from_static(b"later"))
}

fn produced(version: i16) -> ProduceResponse {
    let partition = PartitionProduceResponse::default()
        .with_error_code(87)
        .with_base_offset(-1)
        .with_record_errors(vec![BatchIndexAndErrorMessage::default().with_batch_index(3)])
        .with_error_message(Some(text("no")));
    let leader = LeaderIdAndEpoch::default().with_leader_id(3.into()).with_leader_epoch(8);
    let partition = if version >= 10 { partition.with_current_leader(leader) } else { partition };
    let topic = TopicProduceResponse::default().with_partition_responses(vec![partition]);
    let topic = if version >= 13 {
        topic.with_topic_id(uuid::Uuid::from_u128(9))
    } else {
        topic.with_name(text("orders").into())
    };
    let response = ProduceResponse::default().with_responses(vec![topic]).with_throttle_time_ms(5);
    let endpoint = NodeEndpoint::default().with_node_id(3.into()).with_host(text("b3")).with_port(9092);
    if version >= 10 { response.with_node_endpoints(vec![endpoint]) } else { response }
}

/// Every response in every version that is spoken, with its API.
fn all() -> Vec<(ApiKey, i16, Bytes)> {
    let mut all = Vec::new();
    for version in 9..=13 {
        all.push((ApiKey::Metadata, version, encoded(&metadata(version), Some(1), version)));
        all.push((ApiKey::Produce, version, encoded(&produced(version), Some(1), version)));
    }
    for version in 3..=5 {
        let response = InitProducerIdResponse::default().with_producer_id(7.into());
        all.push((ApiKey::InitProducerId, version, encoded(&response, Some(1), version)));
    }
    let versions = ApiVersionsResponse::default().with_api_keys(vec![
        ApiVersion::default()
            .with_api_key(0)
            .with_max_version(13);
        3
    ]);
    all.push((ApiKey::ApiVersions, 0, encoded(&versions, None, 0)));
    let feature = SupportedFeatureKey::default().with_name(text("metadata.version"));
    all.push((ApiKey::ApiVersions, 3, encoded(&versions.with_supported_features(vec![feature]), None, 3)));
    let handshake = SaslHandshakeResponse::default().with_mechanisms(vec![text("PLAIN"), text("GSSAPI")]);
    all.push((ApiKey::SaslHandshake, 1, encoded(&handshake, None, 1)));
    for version in 1..=2 {
        let response = SaslAuthenticateResponse::default()
            .with_auth_bytes(Bytes::from_static(b"v=x"))
            .with_session_lifetime_ms(10_000);
        all.push((
            ApiKey::SaslAuthenticate,
            version,
            encoded(&response, (version == 2).then_some(1), version),
        ));
    }
    all
}

/// Decodes with whatever API it is; only whether it can.
fn decodes((api, version, bytes): (ApiKey, i16, Bytes)) -> Result<(), WireError> {
    let response = response(api, version, bytes);
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other API is asked")]
    match api {
        ApiKey::Metadata => response.decode::<MetadataRequest>().map(drop),
        ApiKey::Produce => response.decode::<ProduceRequest>().map(drop),
        ApiKey::InitProducerId => response.decode::<InitProducerIdRequest>().map(drop),
        ApiKey::ApiVersions => response.decode::<ApiVersionsRequest>().map(drop),
        ApiKey::SaslHandshake => response.decode::<SaslHandshakeRequest>().map(drop),
        ApiKey::SaslAuthenticate => response.decode::<SaslAuthenticateRequest>().map(drop),
        _ => panic!("{api:?} is not asked"),
    }
}

#[test]
fn what_brokers_say_is_read_in_every_version() {
    for (api, version, bytes) in all() {
        decodes((api, version, bytes)).unwrap_or_else(|error| panic!("{api:?} {version}: {error}"));
    }
    let bytes = encoded(&produced(13), Some(1), 13);
    let read = response(ApiKey::Produce, 13, bytes).decode::<ProduceRequest>().unwrap();
    assert_eq!(read, produced(13));
    let bytes = encoded(&metadata(12), Some(1), 12);
    assert_eq!(response(ApiKey::Metadata, 12, bytes).decode::<MetadataRequest>().unwrap(), metadata(12));
}

#[test]
fn what_is_cut_anywhere_is_refused() {
    for (api, version, bytes) in all() {
        for end in 0..bytes.len() {
            assert!(decodes((api, version, bytes.slice(..end))).is_err(), "{api:?} {version} cut at {end}");
        }
    }
}

#[test]
fn a_count_of_two_thousand_million_allocates_nothing() {
    // An array of i32::MAX elements, flexible and not; the decoder would ask for more memory than there is.
    let flexible = [&[0, 0, 0, 0, 0][..], &[0xff, 0xff, 0xff, 0xff, 0x07]].concat();
    let refused = decodes((ApiKey::Metadata, 12, flexible.into())).unwrap_err();
    assert!(matches!(refused, WireError::Protocol(_)), "{refused}");
    let fixed = [&[0, 0][..], &i32::MAX.to_be_bytes()].concat();
    assert!(decodes((ApiKey::ApiVersions, 0, fixed.clone().into())).is_err());
    assert!(decodes((ApiKey::SaslHandshake, 1, fixed.into())).is_err());
    // Within a tag that the decoder knows.
    let tagged = [&[0, 0, 1, 0, 0, 0, 0, 1, 0, 1][..], &[0xff, 0xff, 0xff, 0xff, 0x07]].concat();
    assert!(decodes((ApiKey::ApiVersions, 3, tagged.into())).is_err());
}

#[test]
fn an_answer_to_another_question_is_refused() {
    let bytes = encoded(&metadata(12), Some(1), 12);
    assert!(response(ApiKey::Metadata, 12, bytes).decode::<ProduceRequest>().is_err());
}

#[test]
fn a_request_has_its_length_and_header() {
    let begin = |api, version| RequestBuffer::begin(BytesMut::new(), api, version, "sidecar");
    let mut request = begin(ApiKey::Metadata, 12);
    request.encode(&MetadataRequest::default()).unwrap();
    assert!(request.encode(&ProduceRequest::default()).is_err());
    let mut frame = request.finish(CorrelationId(0x0102_0304)).unwrap();
    assert_eq!(usize::try_from(frame.get_i32()).unwrap(), frame.len());
    let header = decode_request_header_from_buffer(&mut frame).unwrap();
    let expected = RequestHeader::default()
        .with_request_api_key(ApiKey::Metadata as i16)
        .with_request_api_version(12)
        .with_correlation_id(0x0102_0304)
        .with_client_id(Some(text("sidecar")));
    assert_eq!(header, expected);
    // Not flexible: no tags behind the header.
    let frame = begin(ApiKey::SaslHandshake, 1).finish(CorrelationId(1)).unwrap();
    assert_eq!(frame.len(), 4 + 8 + 2 + "sidecar".len());
}

proptest! {
    /// Whatever a lying broker changes: an answer is read or refused, with no more memory than its bytes account for.
    #[test]
    fn changed_bytes_are_read_or_refused(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let all = all();
        let (api, version, bytes) = which.get(&all);
        let mut bytes = bytes.to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        drop(decodes((*api, *version, bytes.into())));
    }

    #[test]
    fn random_bytes_are_read_or_refused(
        which in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let all = all();
        let (api, version, _) = which.get(&all);
        drop(decodes((*api, *version, bytes.into())));
    }
}

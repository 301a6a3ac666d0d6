//! Owns the names of OpenTelemetry's semantic conventions that spans use: version 1.44.0, `docs/rpc/grpc.md`,
//! `docs/messaging/messaging-spans.md` and `docs/messaging/kafka.md`.
//! Must never hold a name of our own but where the conventions have none, which is then said.

/// The remote system of a call; `grpc`.
pub const RPC_SYSTEM_NAME: &str = "rpc.system.name";
/// The fully qualified method, or `_OTHER`.
pub const RPC_METHOD: &str = "rpc.method";
/// The name of the call's status code, such as `OK`.
pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";
/// What went wrong: for a call the status code, for a record Kafka's name of the error, else our reason.
pub const ERROR_TYPE: &str = "error.type";
/// The messaging system; `kafka`.
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// What is done: `send`, or `commit`, for which the conventions have no name yet.
pub const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
/// What kind of operation that is; none for `commit`.
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
/// The topic.
pub const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";
/// The partition, as text.
pub const MESSAGING_DESTINATION_PARTITION_ID: &str = "messaging.destination.partition.id";
/// The offset.
pub const MESSAGING_KAFKA_OFFSET: &str = "messaging.kafka.offset";
/// Whether the record has no value; only set where it has none.
pub const MESSAGING_KAFKA_MESSAGE_TOMBSTONE: &str = "messaging.kafka.message.tombstone";
/// How many records are sent together; only where several may be.
pub const MESSAGING_BATCH_MESSAGE_COUNT: &str = "messaging.batch.message_count";
/// The client's id (`kafka.client_id`).
pub const MESSAGING_CLIENT_ID: &str = "messaging.client.id";
/// The consumer group whose offsets are committed.
pub const MESSAGING_CONSUMER_GROUP_NAME: &str = "messaging.consumer.group.name";

/// The value of [`RPC_SYSTEM_NAME`].
pub const GRPC: &str = "grpc";
/// The value of [`MESSAGING_SYSTEM`].
pub const KAFKA: &str = "kafka";
/// The value of [`MESSAGING_OPERATION_NAME`] and of [`MESSAGING_OPERATION_TYPE`] for records.
pub const SEND: &str = "send";
/// The value of [`MESSAGING_OPERATION_NAME`] for a transaction.
pub const COMMIT: &str = "commit";
/// The value of [`RPC_METHOD`] for methods that are not known.
pub const OTHER: &str = "_OTHER";

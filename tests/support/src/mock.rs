//! librdkafka's mock cluster as a broker that answers with any error code, also with one that no client knows.
//!
//! Owns the cluster; unsafe because rust-rdkafka takes codes as an enum, which lacks the ones of interest. It stands for how a
//! client reads codes, and for no claim about delivery: it keeps no promise of a real broker.
#![expect(unsafe_code, reason = "rust-rdkafka's mock cluster takes only codes that its enum has")]

use std::ffi::{CString, c_char, c_int};

use rdkafka::{
    ClientConfig,
    bindings::{rd_kafka_handle_mock_cluster, rd_kafka_mock_cluster_t},
    producer::{BaseProducer, Producer as _},
};

use crate::proxy::ApiKey;

// SAFETY: the signatures are those of rdkafka_mock.h; C passes an enum as the `int` that it is.
unsafe extern "C" {
    fn rd_kafka_mock_push_request_errors_array(
        cluster: *mut rd_kafka_mock_cluster_t,
        api_key: i16,
        count: usize,
        codes: *const c_int,
    );
    fn rd_kafka_mock_clear_request_errors(cluster: *mut rd_kafka_mock_cluster_t, api_key: i16);
    fn rd_kafka_mock_topic_set_error(
        cluster: *mut rd_kafka_mock_cluster_t,
        topic: *const c_char,
        code: c_int,
    );
    fn rd_kafka_mock_topic_create(
        cluster: *mut rd_kafka_mock_cluster_t,
        topic: *const c_char,
        partitions: c_int,
        replicas: c_int,
    ) -> c_int;
}

/// A mock cluster of one broker, until dropped.
pub struct MockKafka {
    owner: BaseProducer,
}

impl MockKafka {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// When librdkafka cannot.
    pub fn start() -> Self {
        let owner = ClientConfig::new().set("test.mock.num.brokers", "1").create();
        Self { owner: owner.expect("librdkafka can make a mock cluster") }
    }

    /// Its host and port; PLAINTEXT.
    ///
    /// # Panics
    ///
    /// Never: it was made with a cluster.
    pub fn bootstrap(&self) -> String {
        self.owner.client().mock_cluster().expect("it is there").bootstrap_servers()
    }

    /// Makes a topic.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        let name = CString::new(name).expect("no NUL");
        // SAFETY: the cluster lives for as long as its owner; the name is copied.
        unsafe { rd_kafka_mock_topic_create(self.cluster(), name.as_ptr(), partitions, 1) };
    }

    /// Has the next requests of a type answered with these codes, one each.
    pub fn answer_next(&self, key: ApiKey, codes: &[i32]) {
        // SAFETY: as above; the codes are copied.
        unsafe {
            rd_kafka_mock_push_request_errors_array(self.cluster(), key as i16, codes.len(), codes.as_ptr());
        }
    }

    /// Takes back what [`MockKafka::answer_next`] asked for and nobody has been answered with.
    pub fn answer_well(&self, key: ApiKey) {
        // SAFETY: as above.
        unsafe { rd_kafka_mock_clear_request_errors(self.cluster(), key as i16) };
    }

    /// Says this code of a topic whenever its metadata are asked for; 0 is none.
    pub fn topic_error(&self, name: &str, code: i32) {
        let name = CString::new(name).expect("no NUL");
        // SAFETY: as above.
        unsafe { rd_kafka_mock_topic_set_error(self.cluster(), name.as_ptr(), code) };
    }

    fn cluster(&self) -> *mut rd_kafka_mock_cluster_t {
        // SAFETY: the client lives.
        unsafe { rd_kafka_handle_mock_cluster(self.owner.client().native_ptr()) }
    }
}

impl std::fmt::Debug for MockKafka {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("MockKafka").finish_non_exhaustive()
    }
}

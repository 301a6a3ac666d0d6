//! Owns the choice of each API's version: the highest that the broker and we know.
//! Must never let a broker pass that lacks what we need: it would fail later, in the middle of a request.

use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};
use smallvec::SmallVec;

use crate::kafka::wire::error::WireError;

/// The APIs that are asked, with the lowest and highest version that we speak. The lowest is known to Kafka 2.8: the records'
/// requests are all flexible (KIP-482). Produce 13 names topics by id (KIP-516), 10 brings the new leader (KIP-951).
const SPOKEN: &[(ApiKey, i16, i16)] =
    &[(ApiKey::Produce, 9, 13), (ApiKey::Metadata, 9, 13), (ApiKey::InitProducerId, 3, 5)];
/// Those that are asked besides if we have credentials to show; a broker that takes none may lack them.
const SPOKEN_FOR_CREDENTIALS: &[(ApiKey, i16, i16)] =
    &[(ApiKey::SaslHandshake, 1, 1), (ApiKey::SaslAuthenticate, 1, 2)];

/// The version in which brokers are asked for theirs first, and the one that every broker knows.
pub const API_VERSIONS_FIRST: i16 = 3;
/// See [`API_VERSIONS_FIRST`].
pub const API_VERSIONS_LOWEST: i16 = 0;

/// The oldest Kafka that is supported, for people.
const OLDEST: &str = "Kafka 2.8";

/// The version of each API on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreedVersions(SmallVec<[(ApiKey, i16); 5]>);

impl AgreedVersions {
    /// Chooses from what a broker says that it knows.
    ///
    /// # Errors
    /// [`WireError::UnsupportedBroker`] with a sentence on the first API that has no version in common.
    pub fn choose(response: &ApiVersionsResponse, has_credentials: bool) -> Result<Self, WireError> {
        let for_credentials = if has_credentials { SPOKEN_FOR_CREDENTIALS } else { &[] };
        let agreed = SPOKEN.iter().chain(for_credentials).map(|(api, lowest, highest)| {
            let known = response.api_keys.iter().find(|known| known.api_key == *api as i16);
            let Some(known) = known else {
                return Err(unsupported(format!("it has no {api:?}; {OLDEST} or later is needed")));
            };
            if known.max_version < *lowest {
                return Err(unsupported(format!(
                    "it has {api:?} up to version {}, and {lowest} is needed; {OLDEST} or later has it",
                    known.max_version
                )));
            }
            if known.min_version > *highest {
                return Err(unsupported(format!(
                    "it has {api:?} from version {} on, and the sidecar up to {highest}: the sidecar is too old for it",
                    known.min_version
                )));
            }
            Ok((*api, known.max_version.min(*highest)))
        });
        agreed.collect::<Result<_, _>>().map(Self)
    }

    /// Returns the version of an API, or none if it is not among those that are asked on this connection.
    #[must_use]
    pub fn of(&self, api: ApiKey) -> Option<i16> {
        self.0.iter().find(|(known, _)| *known == api).map(|(_, version)| *version)
    }
}

const fn unsupported(sentence: String) -> WireError {
    WireError::UnsupportedBroker(sentence)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::api_versions_response::ApiVersion;

    use super::*;

    fn broker(ranges: &[(ApiKey, i16, i16)]) -> ApiVersionsResponse {
        let ranges = ranges.iter().map(|(api, min, max)| {
            ApiVersion::default().with_api_key(*api as i16).with_min_version(*min).with_max_version(*max)
        });
        ApiVersionsResponse::default().with_api_keys(ranges.collect())
    }

    /// Kafka 2.8.0, as its ApiVersions says.
    const OLDEST_BROKER: [(ApiKey, i16, i16); 5] = [
        (ApiKey::Produce, 0, 9),
        (ApiKey::Metadata, 0, 11),
        (ApiKey::InitProducerId, 0, 4),
        (ApiKey::SaslHandshake, 0, 1),
        (ApiKey::SaslAuthenticate, 0, 2),
    ];

    #[test]
    fn the_highest_of_both_is_chosen() {
        let agreed = AgreedVersions::choose(&broker(&OLDEST_BROKER), true).unwrap();
        assert_eq!(agreed.of(ApiKey::Produce), Some(9));
        assert_eq!(agreed.of(ApiKey::Metadata), Some(11));
        assert_eq!(agreed.of(ApiKey::Fetch), None);
        let newest = OLDEST_BROKER.map(|(api, min, _)| (api, min, 99));
        assert_eq!(AgreedVersions::choose(&broker(&newest), false).unwrap().of(ApiKey::Produce), Some(13));
    }

    #[test]
    fn another_broker_is_refused_with_a_sentence() {
        let refused = |changed: (ApiKey, i16, i16)| {
            let ranges = OLDEST_BROKER.map(|range| if range.0 == changed.0 { changed } else { range });
            AgreedVersions::choose(&broker(&ranges), true).unwrap_err().to_string()
        };
        let old = refused((ApiKey::Produce, 0, 8));
        assert!(old.contains("Produce up to version 8, and 9 is needed; Kafka 2.8 or later"), "{old}");
        let new = refused((ApiKey::Metadata, 14, 20));
        assert!(new.contains("the sidecar is too old"), "{new}");
        let none = AgreedVersions::choose(&broker(&[]), false).unwrap_err().to_string();
        assert!(none.contains("it has no Produce"), "{none}");
        // A broker without SASL serves those who have nothing to show.
        let without = broker(&OLDEST_BROKER[..3]);
        assert_eq!(AgreedVersions::choose(&without, false).unwrap().of(ApiKey::SaslHandshake), None);
        let refused = AgreedVersions::choose(&without, true).unwrap_err().to_string();
        assert!(refused.contains("it has no SaslHandshake"), "{refused}");
    }
}

//! Owns what a caller hears of its record's dead letter.
//! Must never say that there is one before Kafka has it.

use super::Reason;
use crate::record::{Receipt, Topic};

/// What became of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LetterEnd {
    /// It is in Kafka.
    Written {
        /// The partition.
        partition: i32,
        /// The offset; unset where the broker did not say it.
        offset: Option<i64>,
    },
    /// It is not in Kafka, or may not be.
    Failed(Reason),
    /// It is on its way, and the caller's deadline has come.
    Open,
}

impl LetterEnd {
    /// Says it in words that follow the failure's own.
    pub(super) fn sentence(&self, topic: &Topic) -> String {
        match self {
            Self::Written { .. } => format!("; its dead letter is in topic {topic}"),
            Self::Failed(reason) => {
                format!("; its dead letter could not be written to topic {topic}: {}", reason.name())
            }
            Self::Open => format!("; its dead letter is on its way to topic {topic}"),
        }
    }

    /// Says it for machines.
    pub(super) fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Written { partition, offset } => {
                let offset = offset.map(|offset| ("deadLetterOffset", offset.to_string()));
                [("deadLetterPartition", partition.to_string())].into_iter().chain(offset).collect()
            }
            Self::Failed(reason) => vec![("deadLetterError", reason.name().to_owned())],
            Self::Open => Vec::new(),
        }
    }
}

impl From<&Receipt> for LetterEnd {
    fn from(receipt: &Receipt) -> Self {
        Self::Written { partition: receipt.partition, offset: receipt.offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn a_failure_says_where_the_dead_letter_is_or_why_there_is_none() {
        let failure = |end| {
            let failure =
                Failure::new(Reason::RecordRejected, "no").dead_letter(Topic::parse("d").unwrap(), end);
            (failure.message().to_owned(), failure.metadata())
        };
        let pair = |name, value: &str| (name, value.to_owned());
        let (sentence, metadata) = failure(LetterEnd::Written { partition: 3, offset: Some(9) });
        assert_eq!(sentence, "no; its dead letter is in topic d");
        let said =
            [pair("deadLetterTopic", "d"), pair("deadLetterPartition", "3"), pair("deadLetterOffset", "9")];
        assert_eq!(metadata[1..], said);
        let (sentence, metadata) = failure(LetterEnd::Failed(Reason::TopicNotFound));
        assert_eq!(sentence, "no; its dead letter could not be written to topic d: TOPIC_NOT_FOUND");
        assert_eq!(metadata[2], pair("deadLetterError", "TOPIC_NOT_FOUND"));
        assert_eq!(failure(LetterEnd::Open).1.len(), 2);
    }
}

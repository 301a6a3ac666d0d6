//! Owns the names under which a dead letter keeps the headers of its record that look like the letter's own.
//! Must never let a caller's header pass for the letter's, nor give one back under another name than it had.

use super::HEADER_PREFIX;
use crate::record::Header;

/// What stands before the name of a caller's header that begins with [`HEADER_PREFIX`]. It begins so itself: one that a caller
/// had already set aside is set aside once more, and each replay takes off one.
const ASIDE_PREFIX: &str = "dlq-caller-";

/// Returns a caller's header as its dead letter keeps it.
pub(super) fn set_aside(header: &Header) -> Header {
    let value = header.value.clone();
    let name = if header.name.starts_with(HEADER_PREFIX) {
        format!("{ASIDE_PREFIX}{}", header.name)
    } else {
        header.name.clone()
    };
    Header { name, value }
}

/// Returns the caller's header that a dead letter keeps; none if it is one of the letter's own.
pub(super) fn give_back(header: Header) -> Option<Header> {
    if let Some(name) = header.name.strip_prefix(ASIDE_PREFIX) {
        return Some(Header { name: name.to_owned(), value: header.value });
    }
    Some(header).filter(|header| !header.name.starts_with(HEADER_PREFIX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(name: &str) -> Header {
        Header { name: name.to_owned(), value: None }
    }

    #[test]
    fn a_callers_header_is_never_the_letters() {
        let cases = [
            ("x", "x"),
            ("", ""),
            ("dlq", "dlq"),
            ("DLQ-cut", "DLQ-cut"),
            ("dlq-", "dlq-caller-dlq-"),
            ("dlq-cut", "dlq-caller-dlq-cut"),
            ("dlq-caller-", "dlq-caller-dlq-caller-"),
            ("dlq-caller-dlq-cut", "dlq-caller-dlq-caller-dlq-cut"),
        ];
        for (given, kept) in cases {
            assert_eq!(set_aside(&named(given)), named(kept));
            assert_eq!(give_back(named(kept)), Some(named(given)));
        }
        assert_eq!(give_back(named("dlq-cut")), None);
    }

    proptest! {
        #[test]
        fn what_was_set_aside_comes_back(name in "(dlq-|caller-|x|cut){0,6}") {
            let kept = set_aside(&named(&name));
            prop_assert!(!kept.name.starts_with(HEADER_PREFIX) || kept.name.starts_with(ASIDE_PREFIX));
            prop_assert_eq!(give_back(kept), Some(named(&name)));
        }
    }
}

//! Owns the W3C Trace Context (Recommendation of 2021, and the random flag of Level 2): parsing, rendering, new ids.
//! Must stay pure: no random source (the caller hands in the numbers), no tonic, no OpenTelemetry types.

use std::sync::Arc;

/// The name of the header that carries trace id, parent id and flags.
pub const TRACEPARENT: &str = "traceparent";
/// The name of the header that carries the vendors' list.
pub const TRACESTATE: &str = "tracestate";
/// The longest `tracestate` that is passed on, in bytes; the Recommendation asks for at least this much.
pub const TRACESTATE_BYTES_MAX: usize = 512;

const TRACEPARENT_BYTES: usize = 55;
const FLAG_SAMPLED: u8 = 0x01;
/// The flags that have a meaning; the Recommendation asks to clear the others.
const FLAGS_KNOWN: u8 = 0x03;

/// Where a record or a call stands in a trace; neither id is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// Starts a trace from random numbers; a zero, which is no valid id, is read as one.
    #[must_use]
    pub fn start(trace_random: u128, span_random: u64, sampled: bool) -> Self {
        Self {
            trace_id: trace_random.max(1),
            parent_id: span_random.max(1),
            flags: if sampled { FLAG_SAMPLED } else { 0 },
            state: None,
        }
    }

    /// Makes the context of a span that is recorded; a `tracestate` that is empty is none.
    #[must_use]
    pub fn recorded(trace_id: u128, span_id: u64, flags: u8, tracestate: &str) -> Self {
        let state = join_states([tracestate]);
        Self { state, flags: (flags & FLAGS_KNOWN) | FLAG_SAMPLED, ..Self::start(trace_id, span_id, true) }
    }

    /// Parses a `traceparent`; `None` where the Recommendation says to treat it as absent.
    ///
    /// Of a version later than 00 only the fields of 00 are read, and what follows them is dropped.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        let (head, rest) = bytes.split_at_checked(TRACEPARENT_BYTES)?;
        if [head[2], head[35], head[52]] != [b'-'; 3] {
            return None;
        }
        let version = hex(&head[0..2])?;
        let later = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        if !later {
            return None;
        }
        let trace_id = hex(&head[3..35]).filter(|id| *id != 0)?;
        let parent_id = u64::try_from(hex(&head[36..52])?).ok().filter(|id| *id != 0)?;
        let flags = u8::try_from(hex(&head[53..55])?).ok()? & FLAGS_KNOWN;
        Some(Self { trace_id, parent_id, flags, state: None })
    }

    /// Reads a call's or a message's context from the values of its headers; several `tracestate` are one list.
    #[must_use]
    pub fn from_headers<'a>(
        traceparent: Option<&str>,
        tracestates: impl IntoIterator<Item = &'a str>,
    ) -> Option<Self> {
        let mut context = Self::parse(traceparent?)?;
        context.state = join_states(tracestates);
        Some(context)
    }

    /// Renders the `traceparent`, in version 00.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }

    /// Returns the `tracestate` to pass on, at most [`TRACESTATE_BYTES_MAX`] bytes.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Returns the trace id.
    #[must_use]
    pub const fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// Renders the trace id: 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn trace_id_text(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// Returns the id of the span that the next one has as its parent.
    #[must_use]
    pub const fn parent_id(&self) -> u64 {
        self.parent_id
    }

    /// Returns the flags, those alone that have a meaning.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Returns whether the caller may have recorded the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & FLAG_SAMPLED != 0
    }
}

/// Returns the trace id of a `traceparent` that can be read and says that its trace is sampled; quick where it does not.
#[must_use]
pub fn sampled_trace_id(traceparent: &[u8]) -> Option<u128> {
    // The flag is the lowest bit of the last digit: most are turned away by one look.
    let flags = traceparent.get(TRACEPARENT_BYTES - 1).and_then(|digit| hex(&[*digit]))?;
    if flags & u128::from(FLAG_SAMPLED) == 0 {
        return None;
    }
    let context = TraceContext::parse(std::str::from_utf8(traceparent).ok()?)?;
    context.is_sampled().then(|| context.trace_id())
}

/// Reads lower-case hexadecimal digits, at most 32 of them; upper case is not valid in a `traceparent`.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(value))
    })
}

/// Joins the lists, dropping members from the end (the oldest) until the rest fits; text that no header may hold is dropped whole.
fn join_states<'a>(tracestates: impl IntoIterator<Item = &'a str>) -> Option<Arc<str>> {
    let mut joined = String::new();
    let members = tracestates.into_iter().flat_map(|list| list.split(','));
    for member in members.map(str::trim).filter(|member| !member.is_empty()) {
        if !member.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return None;
        }
        if joined.len() + 1 + member.len() > TRACESTATE_BYTES_MAX {
            break;
        }
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(member);
    }
    (!joined.is_empty()).then(|| joined.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_recommendations_example_is_read_and_written_back() {
        let context = TraceContext::parse(EXAMPLE).unwrap();
        assert_eq!(context.trace_id_text(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.parent_id(), 0xb7ad_6b71_6920_3331);
        assert!(context.is_sampled());
        assert_eq!(context.traceparent(), EXAMPLE);
    }

    #[test]
    fn what_is_not_valid_counts_as_absent() {
        let cases = [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0ä",
        ];
        for case in cases {
            assert_eq!(TraceContext::parse(case), None, "{case:?}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in [
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-what",
        ] {
            let context = TraceContext::parse(later).unwrap();
            assert_eq!(context.traceparent(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03");
        }
    }

    #[test]
    fn tracestate_is_joined_and_cut_between_members() {
        let read =
            |states: &[&str]| TraceContext::from_headers(Some(EXAMPLE), states.iter().copied()).unwrap();
        assert_eq!(read(&["a=1, b=2", "c=3,"]).tracestate(), Some("a=1,b=2,c=3"));
        assert_eq!(read(&[]).tracestate(), None);
        assert_eq!(read(&["a=ä"]).tracestate(), None);
        let long = format!("k={}", "v".repeat(300));
        let both = format!("{long},{long}");
        assert_eq!(read(&[&both]).tracestate(), Some(long.as_str()));
        assert_eq!(TraceContext::from_headers(None, ["a=1"]), None);
    }

    proptest! {
        #[test]
        fn the_quick_look_at_the_flag_agrees_with_the_long_one(trace: u128, span: u64, flags in "[0-9a-f]{2}(-x)?") {
            let text = format!("00-{trace:032x}-{span:016x}-{flags}");
            let parsed = TraceContext::parse(&text).filter(TraceContext::is_sampled);
            prop_assert_eq!(sampled_trace_id(text.as_bytes()), parsed.map(|context| context.trace_id()));
        }

        #[test]
        fn what_is_rendered_is_read_back(trace: u128, span: u64, sampled: bool) {
            let context = TraceContext::start(trace, span, sampled);
            prop_assert_eq!(TraceContext::parse(&context.traceparent()), Some(context));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}", near in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,3}") {
            prop_assert_eq!(TraceContext::from_headers(Some(&text), [text.as_str()]), None);
            if let Some(context) = TraceContext::from_headers(Some(&near), [text.as_str()]) {
                prop_assert!(context.tracestate().is_none_or(|state| state.len() <= TRACESTATE_BYTES_MAX));
            }
        }
    }
}

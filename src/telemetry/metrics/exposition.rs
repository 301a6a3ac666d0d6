//! Owns the text formats of the metrics, and which of them a scraper gets, pure.
//! Must never change a sample: both formats have the same names, labels and values.

use super::table::Kind;

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.0, with units and exemplars: for scrapers that ask for it.
    OpenMetrics,
    /// Prometheus' text format 0.0.4: for all others, as Prometheus' own client libraries do. Whoever does not say what it
    /// reads knows the older format, if any.
    Prometheus,
}

/// One range of an `Accept` header (RFC 9110, 12.5.1).
#[derive(Debug, Clone, Copy)]
struct Range<'a> {
    media: &'a str,
    version: Option<&'a str>,
    /// Thousandths, so that they compare.
    quality: u16,
}

impl Exposition {
    /// Returns the format for an `Accept` header: OpenMetrics if it is named and not liked less than `text/plain`.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let ranges: Vec<_> = accept.split(',').filter_map(Range::parse).collect();
        // The most exact range that fits says how much a format is liked.
        let quality = |media: &str, versions: &[&str]| {
            let fits = |range: &&Range<'_>| {
                range.media == media && range.version.is_none_or(|version| versions.contains(&version))
            };
            ranges.iter().filter(fits).map(|range| range.quality).max()
        };
        let any = |media: &str| ranges.iter().find(|range| range.media == media).map(|range| range.quality);
        let open = quality("application/openmetrics-text", &["1.0.0", "0.0.1"]).unwrap_or(0);
        let plain = quality("text/plain", &["0.0.4"]).or_else(|| any("text/*")).or_else(|| any("*/*"));
        if open > 0 && open >= plain.unwrap_or(0) { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns its content type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Makes the format of an OpenMetrics text.
    pub(super) fn of(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Prometheus => prometheus(&open_metrics),
        }
    }
}

impl<'a> Range<'a> {
    /// Reads one range; none if it is empty. A quality that is no number counts as the least.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().filter(|media| !media.is_empty())?;
        let mut range = Self { media, version: None, quality: 1_000 };
        for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "version" => range.version = Some(value.trim().trim_matches('"')),
                "q" => range.quality = thousandths(value.trim()),
                _ => {}
            }
        }
        Some(range)
    }
}

/// Reads `0`, `0.5` or `1.000`: one digit and at most three behind a point.
fn thousandths(text: &str) -> u16 {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    match (whole, format!("{rest:0<3}").parse::<u16>()) {
        ("0", Ok(thousandths)) if rest.len() <= 3 => thousandths,
        ("1", Ok(0)) if rest.len() <= 3 => 1_000,
        _ => 0,
    }
}

/// Turns OpenMetrics' text into that of Prometheus: a family has the name of its samples, and there is no unit, exemplar or end.
fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), sentence) => {
                help = Some((name, sentence.unwrap_or_default()));
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = family(kind);
                if let Some((_, sentence)) = help.take().filter(|(helped, _)| *helped == name) {
                    push(&mut text, &["# HELP ", name, suffix, " ", sentence]);
                }
                push(&mut text, &["# TYPE ", name, suffix, " ", kind]);
            }
            (Some("#"), ..) => {}
            _ => push(&mut text, &[without_exemplar(line)]),
        }
    }
    text
}

fn push(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied().chain(["\n"]));
}

/// Returns what a family's samples have behind its name, and what Prometheus calls its kind.
fn family(kind: &str) -> (&'static str, &str) {
    if kind == Kind::Counter.name() {
        ("_total", kind)
    } else if kind == Kind::Info.name() {
        ("_info", "gauge")
    } else {
        ("", kind)
    }
}

/// Cuts what stands behind a sample's value; a label's value may hold the mark of an exemplar.
fn without_exemplar(sample: &str) -> &str {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let end = sample.char_indices().find_map(|(at, letter)| {
        let was_escaped = is_escaped;
        is_escaped = is_quoted && letter == '\\' && !was_escaped;
        match letter {
            '"' if !was_escaped => is_quoted = !is_quoted,
            '#' if !is_quoted => return Some(at),
            _ => {}
        }
        None
    });
    end.and_then(|at| sample.get(..at)).unwrap_or(sample).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_what_it_reads() {
        use Exposition::{OpenMetrics, Prometheus};
        // Prometheus 3, in its own order.
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/plain", Prometheus),
            ("text/plain;version=0.0.4", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", OpenMetrics),
            ("application/openmetrics-text; version=\"0.0.1\"", OpenMetrics),
            ("application/openmetrics-text; version=2.0.0", Prometheus),
            (prometheus_3, OpenMetrics),
            ("text/plain;q=0.5,application/openmetrics-text;q=0.4", Prometheus),
            ("text/plain;q=0.5, application/openmetrics-text;q=0.5", OpenMetrics),
            ("application/openmetrics-text;q=0", Prometheus),
            ("application/openmetrics-text;q=much", Prometheus),
            ("application/openmetrics-text;q=0.2,*/*;q=0.1", OpenMetrics),
            ("application/vnd.google.protobuf;q=0.7,text/html", Prometheus),
            (",;,=;q", Prometheus),
        ] {
            assert_eq!(Exposition::accepted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn families_have_the_names_of_their_samples_and_no_more_than_the_older_format_knows() {
        let open_metrics = "# HELP calls_seconds Calls.\n# TYPE calls_seconds counter\n# UNIT calls_seconds seconds\n\
            calls_seconds_total{a=\"x # {\\\"y\"} 5 # {trace_id=\"1\"} 0.5 1.0\n\
            # HELP build The build.\n# TYPE build info\nbuild_info{v=\"1\"} 1\n\
            # HELP age Age.\n# TYPE age gauge\nage 3\n# EOF\n";
        let expected = "# HELP calls_seconds_total Calls.\n# TYPE calls_seconds_total counter\n\
            calls_seconds_total{a=\"x # {\\\"y\"} 5\n\
            # HELP build_info The build.\n# TYPE build_info gauge\nbuild_info{v=\"1\"} 1\n\
            # HELP age Age.\n# TYPE age gauge\nage 3\n";
        assert_eq!(Exposition::Prometheus.of(open_metrics.to_owned()), expected);
        assert_eq!(Exposition::OpenMetrics.of(open_metrics.to_owned()), open_metrics);
    }
}

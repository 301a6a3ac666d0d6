//! Owns what the system says of this process, read from `/proc` at each scrape under the names that Prometheus' clients share.
//! Must never fail a scrape: what cannot be read is left out, all of it where there is no `/proc`.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::table::{
    Definition, PROCESS_CPU, PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RESIDENT_MEMORY, PROCESS_START_TIME,
    PROCESS_THREADS, PROCESS_VIRTUAL_MEMORY,
};

/// The unit of times in `/proc`, in ticks a second: the kernel's `USER_HZ`, the same on all architectures that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the process's own numbers.
#[derive(Debug)]
pub struct Process {
    /// In seconds since the epoch.
    started: Option<f64>,
}

/// What `/proc/self/status` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    virtual_bytes: Option<u64>,
    resident_bytes: Option<u64>,
    threads: Option<u64>,
}

/// What `/proc/self/stat` says, in ticks.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    /// Processor time, by the user and by the system.
    spent: u64,
    /// Between the system's start and the process's.
    started: u64,
}

impl Process {
    /// Reads when the process started, which does not change.
    #[must_use]
    pub fn new() -> Self {
        let started = || {
            let booted = number_after(&fs::read_to_string("/proc/stat").ok()?, "btime ")?;
            Some(booted as f64 + times(&own("stat")?)?.started as f64 / TICKS_PER_SECOND)
        };
        Self { started: started() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let spent = own("stat").and_then(|text| times(&text)).map(|times| times.spent);
        if let Some(ticks) = spent {
            put(&mut encoder, &PROCESS_CPU, &ConstCounter::new(ticks as f64 / TICKS_PER_SECOND))?;
        }
        let status = own("status").map(|text| status(&text)).unwrap_or_default();
        let max_fds = own("limits").and_then(|text| number_after(&text, "Max open files "));
        let numbers = [
            (&PROCESS_RESIDENT_MEMORY, status.resident_bytes),
            (&PROCESS_VIRTUAL_MEMORY, status.virtual_bytes),
            (&PROCESS_THREADS, status.threads),
            (&PROCESS_OPEN_FDS, open_fds()),
            (&PROCESS_MAX_FDS, max_fds),
        ];
        for (metric, value) in numbers {
            if let Some(value) = value {
                put(&mut encoder, metric, &ConstGauge::new(value))?;
            }
        }
        match self.started {
            Some(seconds) => put(&mut encoder, &PROCESS_START_TIME, &ConstGauge::new(seconds)),
            None => Ok(()),
        }
    }
}

fn put(encoder: &mut DescriptorEncoder<'_>, metric: &Definition, value: &impl EncodeMetric) -> fmt::Result {
    let (name, unit) = metric.parts();
    let help = format!("{}.", metric.help);
    value.encode(encoder.encode_descriptor(name, &help, unit.as_ref(), metric.kind.metric_type())?)
}

fn own(file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/self/{file}")).ok()
}

/// Counts the open file descriptors, without the one that the counting itself has open.
fn open_fds() -> Option<u64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(count).ok()?.checked_sub(1)
}

fn status(text: &str) -> Status {
    let bytes = |name| number_after(text, name).map(|kibibytes| kibibytes * 1024);
    Status {
        virtual_bytes: bytes("VmSize:"),
        resident_bytes: bytes("VmRSS:"),
        threads: number_after(text, "Threads:"),
    }
}

/// Reads fields 14, 15 and 22; the program's name, the second, may hold blanks and parentheses.
fn times(stat: &str) -> Option<Times> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    // The first behind the name is field 3.
    let field = |number: usize| behind_name.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
    Some(Times { spent: field(14)? + field(15)?, started: field(22)? })
}

/// Returns the first number of the line that begins so; none where it is no number, such as `unlimited`.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_a_name_with_parentheses() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 9 0 123456 5000 700";
        assert_eq!(times(stat), Some(Times { spent: 300, started: 123_456 }));
        assert_eq!(times("7 (a) S 1"), None);
        assert_eq!(times(""), None);
    }

    #[test]
    fn status_is_in_bytes_and_leaves_out_what_is_not_there() {
        let text = "Name:\ta\nVmSize:\t    2048 kB\nVmRSS:\t 512 kB\nThreads:\t9\n";
        let expected =
            Status { virtual_bytes: Some(2_097_152), resident_bytes: Some(524_288), threads: Some(9) };
        assert_eq!(status(text), expected);
        assert_eq!(status("Name:\ta\n"), Status::default());
    }

    #[test]
    fn a_limit_that_is_none_is_left_out() {
        let limits =
            |soft: &str| format!("Limit  Soft Limit  Hard Limit\nMax open files   {soft}   4096   files\n");
        assert_eq!(number_after(&limits("1024"), "Max open files "), Some(1024));
        assert_eq!(number_after(&limits("unlimited"), "Max open files "), None);
    }
}

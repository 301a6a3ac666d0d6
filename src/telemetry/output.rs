//! Owns a writer that never blocks: a queue bounded in lines and bytes, and the one thread that writes them to a pipe.
//! Must never hold up whoever writes a line, nor the end of the process, however long the pipe is not read.
//!
//! A line that finds no room is dropped and counted; the thread says how many, once the pipe can be written again.
//! tracing-appender's `non_blocking` bounds lines alone, says nothing of what it dropped, and prints when it cannot end.

use std::{
    cell::Cell,
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::config::LogQueue;

/// How often the thread looks whether there is something to say, in milliseconds.
const LOOK_MS: u64 = 1_000;
/// How long the thread waits before it tries a pipe again that would block, in milliseconds.
const RETRY_MS: u64 = 20;

thread_local! {
    /// Whether this thread's lines are queued even if there is no room.
    static IS_URGENT: Cell<bool> = const { Cell::new(false) };
}

/// The queue before a pipe; cheap to clone.
#[derive(Debug, Clone)]
pub struct Output {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bounds: LogQueue,
    queue: Mutex<Queue>,
    /// A line was queued.
    queued: Condvar,
    /// Every line was written.
    emptied: Condvar,
    /// Lines that found no room, or could not be written, since the start.
    dropped: AtomicU64,
}

/// Written by all threads, under its lock.
#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Whether the thread is writing a line that is no longer in the queue.
    is_writing: bool,
}

/// Queues one line a call.
#[derive(Debug)]
pub struct LineWriter(Output);

// === impl Output ===

impl Output {
    /// Starts the thread of a pipe. Now and then, and only while the pipe can be written, it calls `look` with how many lines
    /// were dropped since the last call; what `look` logs is queued in any case.
    ///
    /// # Errors
    /// If the thread cannot be started, or the system has no descriptor left.
    pub fn start(
        name: &str,
        pipe: &impl AsFd,
        bounds: LogQueue,
        look: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        // A descriptor of its own: the standard library's has a lock, which is held while a write blocks.
        let pipe = File::from(pipe.as_fd().try_clone_to_owned()?);
        Self::over(name, pipe, bounds, look)
    }

    fn over(
        name: &str,
        pipe: impl Write + Send + 'static,
        bounds: LogQueue,
        look: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            bounds,
            queue: Mutex::default(),
            queued: Condvar::new(),
            emptied: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let writing = Arc::clone(&shared);
        thread::Builder::new().name(name.to_owned()).spawn(move || writing.write_to(pipe, look))?;
        Ok(Self { shared })
    }

    /// Queues lines that end with a line feed; drops them if there is no room. Never blocks.
    pub fn push(&self, lines: &[u8]) {
        self.shared.push(lines);
    }

    /// Returns how many lines were dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything was written, but no longer than `limit`; returns whether it was.
    #[must_use]
    pub fn flush(&self, limit: Duration) -> bool {
        let by = Instant::now() + limit;
        let mut queue = self.shared.queue.lock();
        let is_left = |queue: &mut Queue| queue.is_writing || !queue.lines.is_empty();
        !self.shared.emptied.wait_while_until(&mut queue, is_left, by).timed_out()
    }

    /// Returns a writer of one line.
    #[must_use]
    pub fn line(&self) -> LineWriter {
        LineWriter(self.clone())
    }
}

/// Runs something of which each line is queued even if there is no room: a last word, of which there are few.
pub fn urgently<T>(say: impl FnOnce() -> T) -> T {
    IS_URGENT.set(true);
    let said = say();
    IS_URGENT.set(false);
    said
}

/// Returns whether this thread says a last word.
#[must_use]
pub fn is_urgent() -> bool {
    IS_URGENT.get()
}

impl Shared {
    fn push(&self, line: &[u8]) {
        let mut queue = self.queue.lock();
        let has_room = queue.lines.len() < self.bounds.lines_max
            && line.len() <= self.bounds.bytes_max.saturating_sub(queue.bytes);
        if has_room || is_urgent() {
            queue.bytes += line.len();
            queue.lines.push_back(line.into());
            drop(queue);
            self.queued.notify_one();
        } else {
            drop(queue);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes for as long as the process runs.
    fn write_to(&self, mut pipe: impl Write, look: impl Fn(u64)) {
        let (mut looked, mut said, mut is_broken) = (Instant::now(), 0, false);
        loop {
            if let Some(line) = self.next_line() {
                is_broken = write_all(&mut pipe, &line).is_err();
                self.dropped.fetch_add(u64::from(is_broken), Ordering::Relaxed);
            }
            // What is said of a broken pipe would be lost with it.
            if !is_broken && looked.elapsed() >= Duration::from_millis(LOOK_MS) {
                looked = Instant::now();
                let dropped = self.dropped.load(Ordering::Relaxed);
                urgently(|| look(dropped - said));
                said = dropped;
            }
        }
    }

    /// Takes the next line, or none if there is none for a while.
    fn next_line(&self) -> Option<Box<[u8]>> {
        let mut queue = self.queue.lock();
        queue.is_writing = false;
        if queue.lines.is_empty() {
            self.emptied.notify_all();
            self.queued.wait_for(&mut queue, Duration::from_millis(LOOK_MS));
        }
        let line = queue.lines.pop_front()?;
        queue.bytes -= line.len();
        queue.is_writing = true;
        Some(line)
    }
}

/// Writes a line as a whole, also to a pipe that somebody set to not block.
fn write_all(pipe: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match pipe.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(RETRY_MS));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, PipeReader},
        sync::mpsc,
    };

    use super::*;

    const LINES_MAX: usize = 10;
    const BYTES_MAX: usize = 64 * 1024;
    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(20);

    /// Fills a pipe that is not read, so that the next lines wait.
    fn fill(output: &Output, line: &[u8]) -> u64 {
        let mut pushed = 0;
        while output.flush(SHORT) {
            output.push(line);
            pushed += 1;
        }
        pushed
    }

    /// An output before a pipe that is not read, how many lines it said were dropped, and the pipe.
    fn unread(lines_max: usize) -> (Output, mpsc::Receiver<u64>, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let (send, said) = mpsc::channel();
        let look = move |dropped| {
            if dropped > 0 {
                send.send(dropped).unwrap();
            }
        };
        let bounds = LogQueue { lines_max, bytes_max: BYTES_MAX };
        (Output::start("test", &writer, bounds, look).unwrap(), said, reader)
    }

    fn read_all(reader: PipeReader) -> mpsc::Receiver<String> {
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(reader).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        lines
    }

    #[test]
    fn lines_that_find_no_room_are_dropped_counted_and_said() {
        let (output, said, reader) = unread(LINES_MAX);
        let line = [[b'x'; 4095].as_slice(), b"\n"].concat();
        let before = fill(&output, &line);
        for _ in 0..LINES_MAX + 20 {
            output.push(&line);
        }
        urgently(|| output.push(b"last\n"));
        let dropped = output.dropped();
        assert_eq!(dropped, 20);
        let lines = read_all(reader);
        assert!(output.flush(LONG));
        assert_eq!(said.recv_timeout(LONG), Ok(dropped));
        let written: Vec<_> =
            (0..=before + LINES_MAX as u64).map(|_| lines.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(written.last().map(String::as_str), Some("last"));
        assert!(lines.try_recv().is_err());
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (output, _said, _reader) = unread(usize::MAX);
        let line = [[b'x'; 9_999].as_slice(), b"\n"].concat();
        fill(&output, &line);
        for _ in 0..100 {
            output.push(&line);
        }
        assert_eq!(output.dropped(), 100 - (BYTES_MAX / line.len()) as u64);
        assert!(output.shared.queue.lock().bytes <= BYTES_MAX);
    }

    #[test]
    fn a_pipe_that_nobody_reads_any_more_costs_its_lines() {
        let (output, _said, reader) = unread(LINES_MAX);
        drop(reader);
        output.push(b"lost\n");
        assert!(output.flush(LONG));
        assert_eq!(output.dropped(), 1);
    }
}

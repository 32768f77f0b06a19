//! What a person sees while a push runs, on standard error: a bar on a terminal, a line every few seconds elsewhere, or
//! nothing.
//!
//! Only shows; nothing depends on it. Whoever wants to print while a bar is up goes through [`Progress::say`]. Counts that
//! matter are kept by whoever counts for the summary.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use snowbank_core::units::Bytes;

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// What a bar is drawn as: NAR bytes of all, their rate, the time left, and the message below.
const TEMPLATE: &str = "{wide_bar:.cyan} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left\n{msg}";

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A bar that is redrawn: for terminals.
    Bar,
    /// A line every few seconds: for logs.
    Lines,
    /// Nothing.
    Silent,
}

impl Style {
    /// What suits standard error.
    #[must_use]
    pub fn of_stderr(quiet: bool) -> Self {
        if quiet {
            Self::Silent
        } else if io::stderr().is_terminal() {
            Self::Bar
        } else {
            Self::Lines
        }
    }
}

/// The progress of one push. Counts may be added from any thread.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    bar: ProgressBar,
    started: Instant,
    /// Milliseconds from `started` to the next plain line.
    next_line_ms: AtomicU64,
    counts: Counts,
}

/// What was counted so far.
#[derive(Debug, Default)]
struct Counts {
    paths_total: AtomicU64,
    paths_done: AtomicU64,
    nar_bytes_total: AtomicU64,
    nar_bytes: AtomicU64,
    deduplicated_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Progress {
    /// A display that shows nothing until [`Progress::begin`].
    #[must_use]
    pub fn new(style: Style) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let next_line_ms = AtomicU64::new(millis(LINE_EVERY));
        Self { style, bar, started: Instant::now(), next_line_ms, counts: Counts::default() }
    }

    /// Starts to show, or goes on: so many paths with so many bytes of NAR are to be pushed.
    pub fn begin(&self, paths: u64, nar_bytes: u64) {
        self.counts.paths_total.fetch_add(paths, Ordering::Relaxed);
        let nar_bytes = self.counts.nar_bytes_total.fetch_add(nar_bytes, Ordering::Relaxed) + nar_bytes;
        if self.style == Style::Bar {
            // The template is a constant; were it wrong, the bar would be plain.
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                self.bar.set_style(style);
            }
            self.bar.set_length(nar_bytes);
            self.bar.reset();
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Bytes of NAR were read.
    pub fn read(&self, nar_bytes: u64) {
        self.counts.nar_bytes.fetch_add(nar_bytes, Ordering::Relaxed);
    }

    /// Bytes of NAR need not be sent.
    pub fn deduplicated(&self, nar_bytes: u64) {
        self.counts.deduplicated_bytes.fetch_add(nar_bytes, Ordering::Relaxed);
    }

    /// Bytes were sent.
    pub fn sent(&self, bytes: u64) {
        self.counts.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One path is done with, well or not.
    pub fn path_done(&self) {
        self.counts.paths_done.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows how things are, if it is time to. Called several times a second.
    pub fn tick(&self) {
        match self.style {
            Style::Bar => {
                self.bar.set_message(self.counts.to_string());
                self.bar.set_position(self.counts.nar_bytes.load(Ordering::Relaxed));
            }
            Style::Lines => self.line(self.started.elapsed()),
            Style::Silent => {}
        }
    }

    fn line(&self, elapsed: Duration) {
        if millis(elapsed) < self.next_line_ms.load(Ordering::Relaxed) {
            return;
        }
        self.next_line_ms.store(millis(elapsed + LINE_EVERY), Ordering::Relaxed);
        let done = self.counts.nar_bytes.load(Ordering::Relaxed);
        let total = self.counts.nar_bytes_total.load(Ordering::Relaxed);
        self.say(&format!("{} s: {} of {}, {}", elapsed.as_secs(), Bytes(done), Bytes(total), self.counts));
    }

    /// Prints a line without disturbing the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| {
            // Where standard error is closed, nobody reads.
            let _ = writeln!(io::stderr().lock(), "{line}");
        });
    }

    /// Stops to show.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        write!(
            f,
            "{} of {} paths, {} deduplicated, {} sent",
            get(&self.paths_done),
            get(&self.paths_total),
            Bytes(get(&self.deduplicated_bytes)),
            Bytes(get(&self.sent_bytes))
        )
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_shown_in_a_line() {
        let progress = Progress::new(Style::Silent);
        progress.begin(3, 1000);
        progress.read(10);
        progress.deduplicated(2048);
        progress.sent(5);
        progress.path_done();
        assert_eq!(progress.counts.to_string(), "1 of 3 paths, 2.00 KiB deduplicated, 5 B sent");
    }

    #[test]
    fn plain_lines_come_every_few_seconds() {
        let progress = Progress::new(Style::Lines);
        progress.line(Duration::from_secs(1));
        assert_eq!(progress.next_line_ms.load(Ordering::Relaxed), 5000);
        progress.line(Duration::from_secs(6));
        assert_eq!(progress.next_line_ms.load(Ordering::Relaxed), 11_000);
    }
}

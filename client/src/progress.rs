//! The progress of a push on standard error: a bar on a terminal, a line every few seconds
//! elsewhere, or nothing.
//!
//! The bar has a rate and the time left as long as NARs are read. The phases after that have a name
//! only. While a failed request waits for its repetition, the display says so.
//!
//! Nothing depends on the display. Other modules print through [`Progress::say`] while a bar is up.
//! The counts for the summary are left to the ledger.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use snowbank_core::units::Bytes;

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Time between two plain lines that say the same.
const SAME_LINE_EVERY: Duration = Duration::from_secs(30);
/// A shorter wait for a repetition is not worth a line.
const MIN_WAIT: Duration = Duration::from_millis(700);
/// The template of the bar while NARs are read: their bytes, the rate, the time left, and the
/// message below.
const READING: &str = "{wide_bar:.cyan} {binary_bytes}/{binary_total_bytes} \
    {binary_bytes_per_sec}, {eta} left\n{msg}";
/// The template when the time left is unknown.
const WAITING: &str = "{wide_bar:.cyan} {binary_bytes}/{binary_total_bytes}\n{msg}";

/// The phase of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// NARs are read, and their new chunks are sent.
    #[default]
    Uploading,
    /// All NARs are read, and the last chunks are sent.
    Sending,
    /// The server verifies the paths.
    Verifying,
}

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
    /// The style for standard error.
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
    state: Mutex<DisplayState>,
}

/// The state of the display.
#[derive(Debug, Default)]
struct DisplayState {
    /// A bar is up, or lines are printed.
    has_begun: bool,
    /// Until when a failed request waits, and why.
    wait: Option<(Instant, String)>,
    /// The last plain line but for its time, and milliseconds from `started` to when it may come
    /// again.
    last_line: (String, u64),
    /// The template of the bar.
    template: &'static str,
}

/// The counts so far.
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
        Self {
            style,
            bar,
            started: Instant::now(),
            next_line_ms,
            counts: Counts::default(),
            state: Mutex::default(),
        }
    }

    /// Starts to show, or goes on: so many paths with so many bytes of NAR are to be pushed.
    pub fn begin(&self, paths: u64, nar_bytes: u64) {
        self.counts.paths_total.fetch_add(paths, Ordering::Relaxed);
        let nar_bytes =
            self.counts.nar_bytes_total.fetch_add(nar_bytes, Ordering::Relaxed) + nar_bytes;
        self.with_state(|state| state.has_begun = true);
        if self.style == Style::Bar {
            self.bar.set_length(nar_bytes);
            self.bar.reset();
            self.redraw(Phase::Uploading);
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

    /// A failed request waits for so long until it is repeated; `cause` says in a few words why.
    pub fn waits(&self, delay: Duration, cause: &str) {
        if self.style == Style::Silent || delay < MIN_WAIT {
            return;
        }
        let line = self.with_state(|state| {
            let is_news = state.waiting().is_none();
            let is_shown = self.style == Style::Bar && state.has_begun;
            state.wait = Some((Instant::now() + delay, cause.to_owned()));
            (is_news && !is_shown).then(|| state.waiting()).flatten()
        });
        if let Some(line) = line {
            self.say(&line);
        }
    }

    /// Shows how things are, if it is time to. Called several times a second.
    pub fn tick(&self, phase: Phase) {
        match self.style {
            Style::Bar => self.redraw(phase),
            Style::Lines => self.line(self.started.elapsed(), phase),
            Style::Silent => {}
        }
    }

    fn redraw(&self, phase: Phase) {
        let message = self.with_state(|state| {
            let waiting = state.waiting();
            let template =
                if waiting.is_none() && phase == Phase::Uploading { READING } else { WAITING };
            // The template is a constant; were it wrong, the bar would be plain.
            if state.template != template
                && let Ok(style) = ProgressStyle::with_template(template)
            {
                state.template = template;
                self.bar.set_style(style);
            }
            waiting.unwrap_or_else(|| format!("{phase}: {}", self.counts))
        });
        self.bar.set_message(message);
        self.bar.set_position(self.counts.nar_bytes.load(Ordering::Relaxed));
    }

    fn line(&self, elapsed: Duration, phase: Phase) {
        let elapsed_ms = millis(elapsed);
        if elapsed_ms < self.next_line_ms.load(Ordering::Relaxed) {
            return;
        }
        self.next_line_ms.store(millis(elapsed + LINE_EVERY), Ordering::Relaxed);
        let done = self.counts.nar_bytes.load(Ordering::Relaxed);
        let total = self.counts.nar_bytes_total.load(Ordering::Relaxed);
        let text = format!("{phase}: {} of {}, {}", Bytes(done), Bytes(total), self.counts);
        let is_news = self.with_state(|state| {
            // Of a request that waits there is a line already.
            let is_news = state.waiting().is_none()
                && (state.last_line.0 != text || elapsed_ms >= state.last_line.1);
            if is_news {
                state.last_line = (text.clone(), millis(elapsed + SAME_LINE_EVERY));
            }
            is_news
        });
        if is_news {
            self.say(&format!("{} s: {text}", elapsed.as_secs()));
        }
    }

    fn with_state<T>(&self, change: impl FnOnce(&mut DisplayState) -> T) -> T {
        // A thread that panicked with the lock left a state that can be shown, at worst an old one.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
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

impl DisplayState {
    /// The message while a failed request waits.
    fn waiting(&self) -> Option<String> {
        let (until, cause) = self.wait.as_ref()?;
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        Some(format!("retrying in {:.0} s ({cause})", left.as_secs_f32().ceil()))
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uploading => "uploading",
            Self::Sending => "sending the last chunks",
            Self::Verifying => "the server verifies",
        })
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
        progress.line(Duration::from_secs(1), Phase::Uploading);
        assert_eq!(progress.next_line_ms.load(Ordering::Relaxed), 5000);
        progress.line(Duration::from_secs(6), Phase::Uploading);
        assert_eq!(progress.next_line_ms.load(Ordering::Relaxed), 11_000);
    }

    #[test]
    fn a_line_that_says_the_same_comes_rarely() {
        let progress = Progress::new(Style::Lines);
        let last = || progress.with_state(|state| state.last_line.clone());
        progress.line(Duration::from_secs(6), Phase::Uploading);
        let first = last();
        assert!(first.0.starts_with("uploading: 0 B of 0 B") && first.1 == 36_000, "{first:?}");
        progress.line(Duration::from_secs(12), Phase::Uploading);
        assert_eq!(last(), first);
        progress.line(Duration::from_secs(18), Phase::Verifying);
        assert!(last().0.starts_with("the server verifies: "), "{:?}", last());
        progress.line(Duration::from_secs(50), Phase::Verifying);
        assert_eq!(last().1, 80_000);
    }

    #[test]
    fn a_request_that_waits_is_shown_and_no_time_left() {
        let progress = Progress::new(Style::Bar);
        progress.begin(1, 1000);
        progress.tick(Phase::Uploading);
        assert_eq!(progress.with_state(|state| state.template), READING);
        progress.waits(Duration::from_millis(300), "a hiccup");
        assert_eq!(progress.with_state(|state| state.waiting()), None);
        progress.waits(Duration::from_secs(400), "connection refused");
        progress.tick(Phase::Uploading);
        let waiting = progress.with_state(|state| state.waiting()).unwrap();
        assert!(
            waiting.starts_with("retrying in ") && waiting.ends_with(" s (connection refused)"),
            "{waiting}"
        );
        assert_eq!(
            (progress.bar.message(), progress.with_state(|state| state.template)),
            (waiting, WAITING)
        );
        progress.with_state(|state| state.wait = None);
        progress.tick(Phase::Sending);
        assert!(
            progress.bar.message().starts_with("sending the last chunks: 0 of 1 paths"),
            "{}",
            progress.bar.message()
        );
        assert_eq!(progress.with_state(|state| state.template), WAITING);
    }
}

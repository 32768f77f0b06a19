//! Numbers about the process, under the names that Prometheus' own client libraries use. They are
//! read from procfs when somebody asks; where there is none, they are absent.

use std::fmt::Write as _;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};

/// The kernel tells programs times in hundredths of a second, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process {
    started_at: f64,
}

impl Process {
    pub(super) fn started_now() -> Self {
        Self {
            started_at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64(),
        }
    }

    /// Appends the numbers in Prometheus' text format.
    pub(super) fn render(self, page: &mut String) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |key| field(&status, key).map(|kib| kib * 1024.0);
        #[expect(clippy::cast_precision_loss, reason = "a number of file descriptors")]
        let max_fds = getrlimit(Resource::Nofile).current.map(|most| most as f64);
        for (name, kind, help, value) in [
            (
                "process_cpu_seconds_total",
                "counter",
                "CPU time that the process has used",
                cpu_seconds(),
            ),
            (
                "process_resident_memory_bytes",
                "gauge",
                "Memory that the process holds",
                kib("VmRSS:"),
            ),
            (
                "process_virtual_memory_bytes",
                "gauge",
                "Addresses that the process has mapped",
                kib("VmSize:"),
            ),
            ("process_threads", "gauge", "Threads of the process", field(&status, "Threads:")),
            ("process_open_fds", "gauge", "File descriptors that are open", open_fds()),
            ("process_max_fds", "gauge", "File descriptors that may be open", max_fds),
            (
                "process_start_time_seconds",
                "gauge",
                "When the process started, in Unix seconds",
                Some(self.started_at),
            ),
        ] {
            let Some(value) = value else { continue };
            // Writing to a String cannot fail.
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
    }
}

/// The number behind `key` in `/proc/self/status`.
fn field(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time, of all threads.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in brackets, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

#[expect(clippy::cast_precision_loss, reason = "a number of file descriptors")]
fn open_fds() -> Option<f64> {
    // The listing itself holds one.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_this_process_make_sense() {
        assert!(cpu_seconds().unwrap() >= 0.0);
        assert!(open_fds().unwrap() >= 3.0);
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(
            field(&status, "VmRSS:").unwrap() > 100.0 && field(&status, "Threads:").unwrap() >= 1.0
        );
        let mut page = String::new();
        Process::started_now().render(&mut page);
        assert_eq!(page.matches("# HELP process_").count(), 7, "{page}");
        assert!(!page.lines().any(|line| line.contains("e+") || line.ends_with("NaN")), "{page}");
    }
}

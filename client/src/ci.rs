//! What a CI system shows of a push: a section of its log that can be folded, and a table on the
//! page of the run.
//!
//! GitHub Actions, Forgejo and Gitea set `GITHUB_ACTIONS` and fold lines between `::group::` and
//! `::endgroup::`. They show the Markdown that a step appends to the file in `GITHUB_STEP_SUMMARY`.
//! GitLab sets `GITLAB_CI`, folds lines between two markers with a time and a name, and has no page
//! for a job's Markdown. Sources: GitHub's "Workflow commands", GitLab's "Custom collapsible
//! sections".
//!
//! Everything goes to standard error, because standard output may be read by a program. Text from
//! outside is stripped of control characters, so that it cannot begin a command of its own.

use std::env;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The CI system that runs this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    /// GitHub Actions, or one that does the same.
    GitHub,
    GitLab,
}

/// The log of a CI job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CiLog {
    system: Option<System>,
    summary_file: Option<PathBuf>,
}

/// An open section. It is closed by [`Section::close`].
#[derive(Debug)]
#[must_use = "an open section swallows the rest of the log"]
pub struct Section(Option<(System, String)>);

impl CiLog {
    /// The log that the environment describes. Outside of CI, it shows nothing.
    #[must_use]
    pub fn of_environment() -> Self {
        Self::of(|name| env::var(name).ok())
    }

    /// A log that shows nothing.
    #[must_use]
    pub const fn silent() -> Self {
        Self { system: None, summary_file: None }
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let is_set = |name| variable(name).is_some_and(|value| value == "true");
        let system = if is_set("GITHUB_ACTIONS") {
            Some(System::GitHub)
        } else if is_set("GITLAB_CI") {
            Some(System::GitLab)
        } else {
            None
        };
        let summary_file = variable("GITHUB_STEP_SUMMARY")
            .filter(|file| system == Some(System::GitHub) && !file.is_empty())
            .map(PathBuf::from);
        Self { system, summary_file }
    }

    /// Opens a section of the log.
    ///
    /// # Errors
    /// When standard error cannot be written.
    pub fn open_section(&self, title: &str) -> io::Result<Section> {
        let Some(system) = self.system else { return Ok(Section(None)) };
        let title = plain(title);
        // A name of letters, digits and underscores, that no other section of the job has.
        let id = format!("snowbank_{}", std::process::id());
        let mut err = io::stderr().lock();
        match system {
            System::GitHub => writeln!(err, "::group::{title}")?,
            System::GitLab => writeln!(
                err,
                "\x1b[0Ksection_start:{}:{id}[collapsed=true]\r\x1b[0K{title}",
                unix_seconds()
            )?,
        }
        Ok(Section(Some((system, id))))
    }

    /// Appends a table of two columns to the page of the run, where there is one. A file that
    /// cannot be written is a warning: the push itself has ended well by then.
    ///
    /// # Errors
    /// When standard error cannot be written.
    pub fn append_table(&self, title: &str, rows: &[(&str, String)]) -> io::Result<()> {
        let Some(file) = &self.summary_file else { return Ok(()) };
        if let Err(error) = append(file, &table(title, rows)) {
            writeln!(
                io::stderr(),
                "snowbank: warning: the summary cannot be written to {}: {error}",
                file.display()
            )?;
        }
        Ok(())
    }
}

impl Section {
    /// Closes the section.
    ///
    /// # Errors
    /// When standard error cannot be written.
    pub fn close(self) -> io::Result<()> {
        match self.0 {
            None => Ok(()),
            Some((System::GitHub, _)) => writeln!(io::stderr(), "::endgroup::"),
            Some((System::GitLab, id)) => {
                let mut err = io::stderr().lock();
                writeln!(err, "\x1b[0Ksection_end:{}:{id}\r\x1b[0K", unix_seconds())
            }
        }
    }
}

fn append(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(file)?.write_all(text.as_bytes())
}

fn table(title: &str, rows: &[(&str, String)]) -> String {
    let mut text = format!("### {}\n\n| | |\n|---|---|\n", cell(title));
    for (name, value) in rows {
        let _ = writeln!(text, "| {} | {} |", cell(name), cell(value));
    }
    text.push('\n');
    text
}

/// Text as Markdown shows it in a cell: no markup, no new line, no end of the cell.
fn cell(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain(text).chars() {
        if matches!(c, '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '#' | '!' | '~')
        {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Text without control characters.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(variables: &[(&str, &str)]) -> CiLog {
        CiLog::of(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_system_is_the_one_that_the_environment_names() {
        assert_eq!(log(&[]), CiLog::silent());
        assert_eq!(log(&[("GITHUB_STEP_SUMMARY", "/x")]), CiLog::silent());
        assert_eq!(log(&[("GITLAB_CI", "true")]).system, Some(System::GitLab));
        let github = log(&[("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", "/x")]);
        assert_eq!(github.system, Some(System::GitHub));
        assert_eq!(github.summary_file.as_deref(), Some(Path::new("/x")));
        assert_eq!(log(&[("GITHUB_ACTIONS", "false")]), CiLog::silent());
    }

    #[test]
    fn a_table_takes_no_markup_from_its_values() {
        let text = table("a|b\n::error::x", &[("name", "<img src=x>`|`".to_owned())]);
        assert_eq!(
            text,
            "### a\\|b ::error::x\n\n| | |\n|---|---|\n| name | \\<img src=x\\>\\`\\|\\` |\n\n"
        );
    }
}

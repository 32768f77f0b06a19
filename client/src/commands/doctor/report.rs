//! What the checks found: a line each, as it is found, or all as JSON at the end.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde::Serialize;
use snowbank_core::token::hide_tokens;

use crate::exit::{Exit, Failure};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    Ok,
    Warn,
    Problem,
    Skipped,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub check: &'static str,
    pub status: Status,
    /// What is so, or for a check that was skipped why.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The code to exit with, for a problem.
    #[serde(skip)]
    pub exit: Exit,
}

impl Finding {
    fn new(check: &'static str, status: Status, message: impl Into<String>) -> Self {
        let message = hide_tokens(&message.into()).into_owned();
        Self { check, status, message, advice: None, exit: Exit::Success }
    }

    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Status::Ok, message)
    }

    pub(super) fn warn(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Status::Warn, message)
    }

    pub(super) fn problem(check: &'static str, exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, ..Self::new(check, Status::Problem, message) }
    }

    pub(super) fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, Status::Skipped, why)
    }

    /// The problem that a failure is.
    pub(super) fn of_failure(check: &'static str, failure: impl Into<Failure>) -> Self {
        let failure = failure.into();
        Self::problem(check, failure.exit, failure.to_string())
    }

    /// Says what to do as well.
    pub(super) fn advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    fn line(&self) -> String {
        let status = match self.status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Problem => "problem",
            Status::Skipped => "skipped",
        };
        let mut text = format!("{status:<8} {:<14}  {}\n", self.check, self.message);
        for line in self.advice.iter().flat_map(|advice| advice.lines()) {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:<24} {line}", "");
        }
        text
    }
}

/// How findings are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Lines,
    /// Problems only.
    Quiet,
    Json,
}

/// All findings of a run.
pub(super) struct Report {
    style: Style,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) const fn new(style: Style) -> Self {
        Self { style, findings: Vec::new() }
    }

    /// Adds findings, and shows them if they are shown one by one.
    pub(super) fn add(&mut self, findings: impl IntoIterator<Item = Finding>) -> io::Result<()> {
        for finding in findings {
            let shown = match self.style {
                Style::Lines => true,
                Style::Quiet => finding.status == Status::Problem,
                Style::Json => false,
            };
            if shown {
                io::stdout().write_all(finding.line().as_bytes())?;
            }
            self.findings.push(finding);
        }
        Ok(())
    }

    /// The code to exit with: that of the first problem.
    pub(super) fn exit(&self) -> Exit {
        let first = self.findings.iter().find(|finding| finding.status == Status::Problem);
        first.map_or(Exit::Success, |finding| finding.exit)
    }

    /// Shows the end.
    pub(super) fn finish(self) -> io::Result<Exit> {
        let exit = self.exit();
        let count =
            |status| self.findings.iter().filter(|finding| finding.status == status).count();
        let text = match self.style {
            Style::Lines => {
                format!(
                    "Problems: {}, warnings: {}.\n",
                    count(Status::Problem),
                    count(Status::Warn)
                )
            }
            Style::Quiet => String::new(),
            Style::Json => {
                let value =
                    serde_json::json!({ "checks": self.findings, "exit_code": exit.code() });
                format!("{value:#}\n")
            }
        };
        io::stdout().write_all(text.as_bytes())?;
        Ok(exit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_problem_gives_the_exit_code() {
        let mut report = Report::new(Style::Json);
        report
            .add([Finding::ok("a", "x"), Finding::warn("b", "y"), Finding::skipped("c", "z")])
            .unwrap();
        assert_eq!(report.exit(), Exit::Success);
        report
            .add([
                Finding::problem("d", Exit::NotFound, "n"),
                Finding::problem("e", Exit::Config, "m"),
            ])
            .unwrap();
        assert_eq!(report.exit(), Exit::NotFound);
    }

    #[test]
    fn a_line_has_the_status_first_and_the_advice_below() {
        let finding = Finding::warn("token", "it expires").advice("ask for one\nsoon");
        let lines: Vec<String> = finding.line().lines().map(str::to_owned).collect();
        assert!(
            lines[0].starts_with("warn     token") && lines[0].ends_with("it expires"),
            "{lines:?}"
        );
        assert!(lines[1].ends_with(" ask for one") && lines[2].ends_with(" soon"), "{lines:?}");
    }
}

//! The messages as people read them: tables and short sheets, without a line end at the end.

mod audit;
mod caches;
mod collection;
mod paths;
mod pins;
mod tokens;

use std::fmt;

use serde::Serialize;

use crate::table::plain;

/// An answer that people read. The types are those of the wire, which have no text of their own.
pub trait Render {
    /// Writes the text, without a line end after its last line.
    ///
    /// # Errors
    /// Only those of the formatter.
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// The text, for `format!` and its like.
    fn text(&self) -> Text<'_, Self> {
        Text(self)
    }
}

/// The text of an answer; see [`Render::text`].
#[derive(Debug)]
pub struct Text<'a, T: ?Sized>(&'a T);

impl<T: Render + ?Sized> fmt::Display for Text<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.render(f)
    }
}

/// An answer for programs, as JSON, or for people, as text.
///
/// # Errors
/// Those of `serde_json`, which no message of the wire causes.
pub fn format_answer<T: Render + Serialize>(
    as_json: bool,
    answer: &T,
) -> Result<String, serde_json::Error> {
    if as_json { serde_json::to_string_pretty(answer) } else { Ok(answer.text().to_string()) }
}

/// Who did something, where that may be seen.
fn by(subject: Option<&str>) -> String {
    subject.map_or_else(String::new, |subject| format!(" by {}", plain(subject)))
}

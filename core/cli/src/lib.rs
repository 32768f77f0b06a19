//! The command line that `snowbank` and `snowbankd` have in common: arguments for clap, the tables
//! and sheets that their commands print, dates, and questions on the terminal.
//!
//! The messages themselves are in [`snowbank_core::wire::admin`], which knows neither clap nor any
//! text for people. [`args`] turns a command line into a message, [`render`] an answer into text.
//! Each program keeps the subcommands that it alone has, and everything that sends or stores.
//!
//! ```
//! use snowbank_cli::Render as _;
//! use snowbank_core::wire::admin::DeletedPaths;
//!
//! let path = "1b9p07z77phvv2hf6gm9f28syp39f1ag-hello".to_owned();
//! let answer = DeletedPaths { deleted: vec![path], nar_bytes: 2048, dry_run: true };
//! let text = answer.text().to_string();
//! assert!(text.ends_with("1 path(s) with 2.00 KiB of NARs would be deleted."));
//! ```

#![warn(clippy::missing_errors_doc)]

pub mod args;
mod confirm;
pub mod date;
pub mod render;
mod table;
mod usage;

pub use confirm::{ConfirmError, confirm};
pub use render::{Render, Text, format_answer};
pub use usage::hide_in_usage;

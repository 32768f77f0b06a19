//! Logs: to standard error, as text or JSON, so that standard output stays free for what commands
//! print.

use std::io::{self, IsTerminal, Write};

use snowbank_core::token::hide_tokens;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogConfig, LogFormat};

/// Starts logging, once per process. `RUST_LOG`, where it is set, wins over the configured level.
///
/// # Errors
/// When `RUST_LOG` is no filter, or logging was started before.
pub fn init(config: &LogConfig) -> anyhow::Result<()> {
    let filter: Targets = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.trim().is_empty() => {
            directives.trim().parse().map_err(|error| {
                anyhow::anyhow!(
                    "RUST_LOG is not a filter such as `info,snowbank_server=debug`: {error}"
                )
            })?
        }
        _ => default_directives(config).parse()?,
    };
    // What cannot be wanted by any of the directives is not even asked about.
    let most = filter
        .iter()
        .map(|(_, level)| level)
        .chain(filter.default_level())
        .max()
        .unwrap_or(LevelFilter::OFF);
    let builder =
        tracing_subscriber::fmt().with_max_level(most).with_writer(|| WithoutTokens(io::stderr()));
    match config.format {
        LogFormat::Text => {
            let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(color).finish().with(filter).try_init()?;
        }
        LogFormat::Json => builder.json().flatten_event(true).finish().with(filter).try_init()?,
    }
    Ok(())
}

/// Leaves tokens out of what is written through it, an event at a time.
struct WithoutTokens<W>(W);

impl<W: Write> Write for WithoutTokens<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(event) {
            Ok(text) => self.0.write_all(hide_tokens(text).as_bytes())?,
            Err(_) => self.0.write_all(event)?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The configured level for this program, and no more than warnings from the libraries below it.
fn default_directives(config: &LogConfig) -> String {
    let level = config.level.as_str();
    match level {
        "error" => "error".to_owned(),
        "trace" => "trace".to_owned(),
        _ => format!("warn,snowbank_server={level},snowbank_core={level},snowbankd={level}"),
    }
}

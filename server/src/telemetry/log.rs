//! Logs: to standard error, as text or JSON, so that standard output stays free for what commands print.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// Starts logging, once per process. `RUST_LOG`, where it is set, wins over the configured level.
///
/// # Errors
/// When `RUST_LOG` is no filter, or logging was started before.
pub fn init(config: &LogConfig) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.trim().is_empty() => EnvFilter::try_new(&directives).map_err(|error| {
            anyhow::anyhow!("RUST_LOG is not a filter such as `info,snowbank_server=debug`: {error}")
        })?,
        _ => EnvFilter::try_new(default_directives(config))?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match config.format {
        LogFormat::Text => {
            let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(color).finish().try_init()?;
        }
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
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

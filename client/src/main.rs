//! `snowbank`: parses the command line, sets up messages and signals, runs the subcommand, prints
//! what went wrong.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use clap::Parser;
use snowbank_cli::hide_in_usage;
use snowbank_client::cli::{Cli, GlobalArgs};
use snowbank_client::commands;
use snowbank_client::exit::{Exit, Failure};
use snowbank_core::token::hide_tokens;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The system's allocator keeps what many threads free in pieces too small to give back: memory
/// would grow to twice what is in use.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| hide_in_usage(error).exit());
    set_up_messages(&cli.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(Err(error.into())),
    };
    let outcome = runtime.block_on(async {
        if commands::handles_signals(&cli.command) {
            return commands::run(cli).await;
        }
        let (mut interrupt, mut terminate) = signals()?;
        // The subcommand's future is dropped at a signal, and with it what it holds: requests,
        // files, the terminal.
        tokio::select! {
            outcome = commands::run(cli) => outcome,
            _ = interrupt.recv() => Ok(Exit::Interrupted.into()),
            _ = terminate.recv() => Ok(Exit::Terminated.into()),
        }
    });
    // A thread that reads a file or waits for input is not waited for.
    runtime.shutdown_background();
    report(outcome)
}

fn signals() -> io::Result<(Signal, Signal)> {
    Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
}

fn report(outcome: Result<ExitCode, Failure>) -> ExitCode {
    outcome.unwrap_or_else(|failure| {
        // Where standard error is closed, the code still tells.
        let _ = writeln!(io::stderr(), "snowbank: error: {}", hide_tokens(&failure.to_string()));
        failure.exit.into()
    })
}

/// Messages go to standard error, plainly: `WARN text`. `-q` leaves errors, `-v` and `-vv` add
/// more.
fn set_up_messages(global: &GlobalArgs) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    // Other crates' messages are for -vv only: what fails in them is said once, in this program's
    // own words.
    let theirs = if global.verbose > 1 { LevelFilter::INFO } else { LevelFilter::OFF };
    let filter = Targets::new()
        .with_default(theirs)
        .with_target("snowbank_client", level)
        .with_target("snowbank", level);
    let has_colors = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_writer(|| TokenRedactor(io::stderr()))
        .with_ansi(has_colors)
        .with_max_level(level.max(theirs))
        .without_time()
        .with_target(false)
        .finish()
        .with(filter)
        .init();
}

/// Leaves tokens out of what is written through it, a message at a time.
struct TokenRedactor<W>(W);

impl<W: Write> Write for TokenRedactor<W> {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        self.0.write_all(hide_tokens(&String::from_utf8_lossy(message)).as_bytes())?;
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

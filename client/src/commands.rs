//! The subcommands: each takes its arguments, calls what does the work, and prints the outcome.

pub mod doctor;
pub mod exec;
pub mod fetch;
pub mod gc;
pub mod hook;
pub mod login;
pub mod operator;
pub mod pages;
pub mod pin;
pub mod push;
pub mod queue;
mod receipts;
mod signals;
pub mod use_cache;
pub mod verify_receipts;
pub mod watch_store;
pub mod whoami;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::exit::Failure;

/// Whether the subcommand has something to do after a signal that ends other programs.
#[must_use]
pub const fn handles_signals(command: &Command) -> bool {
    matches!(command, Command::WatchStore(_) | Command::Exec(_) | Command::Fetch(_))
}

/// Runs the subcommand that was asked for.
///
/// # Errors
/// What made it fail, with the code to exit with.
pub async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { global, command } = cli;
    let exit = match command {
        Command::Exec(args) => return Box::pin(exec::run(&global, args)).await,
        Command::Login(args) => login::run(&global, args).await,
        Command::Push(args) => push::run(&global, args).await,
        Command::Hook(args) => hook::run(args).await,
        Command::Queue(command) => queue::run(&global, command).await,
        Command::WatchStore(args) => Box::pin(watch_store::run(&global, args)).await,
        Command::Fetch(args) => Box::pin(fetch::run(&global, args)).await,
        Command::Use(args) => use_cache::run(&global, args).await,
        Command::WhoAmI(args) => whoami::run(&global, args).await,
        Command::Doctor(args) => doctor::run(&global, args).await,
        Command::VerifyReceipts(args) => verify_receipts::run(&global, args).await,
        Command::Cache(command) => operator::cache(&global, command).await,
        Command::Token(command) => operator::token(&global, command).await,
        Command::Path(command) => operator::path(&global, command).await,
        Command::Pin(args) => pin::run(&global, args).await,
        Command::Delete(args) => operator::delete(&global, args).await,
        Command::Gc(args) => gc::run(&global, args).await,
        Command::Audit(args) => operator::audit(&global, args).await,
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::man(&args),
    };
    exit.map(ExitCode::from)
}

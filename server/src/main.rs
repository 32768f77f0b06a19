//! `snowbankd`: parses the command line, runs the command, and says in one line why it failed.

use std::process::ExitCode;

use snowbank_server::commands;

/// The system's allocator keeps what many threads free in pieces too small to give back: memory
/// would grow to twice what is in use.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    commands::main()
}

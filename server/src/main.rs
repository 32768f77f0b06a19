//! `snowbankd`: parses the command line, runs the command, and says in one line why it failed.

use std::process::ExitCode;

use snowbank_server::commands;

fn main() -> ExitCode {
    commands::main()
}

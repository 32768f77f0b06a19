//! `snowbank completions` and `snowbank man`: made from the very definitions that parse the command
//! line.

use std::fs;
use std::io::{self, Write};

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::exit::{Exit, Failure};

/// Runs `snowbank completions`.
pub fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    // Into memory first: the generator panics where a pipe is closed.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "snowbank", &mut text);
    io::stdout().write_all(&text)?;
    Ok(Exit::Success)
}

/// Runs `snowbank man`.
///
/// # Errors
/// Standard output or the folder cannot be written.
pub fn man(args: &ManArgs) -> Result<Exit, Failure> {
    match &args.output {
        Some(folder) => {
            let write = || {
                fs::create_dir_all(folder)?;
                clap_mangen::generate_to(Cli::command(), folder)
            };
            write().map_err(|error| {
                Failure::from(error).context(format!("cannot write to {}", folder.display()))
            })?;
        }
        None => clap_mangen::Man::new(Cli::command()).render(&mut io::stdout())?,
    }
    Ok(Exit::Success)
}

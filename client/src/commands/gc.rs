//! `snowbank gc`: has the server collect, and shows what it is doing.

use std::io::{self, Write as _};

use super::operator::{confirm, print, server_api};
use crate::cli::GlobalArgs;
use crate::cli::operator::GcCommandArgs;
use crate::exit::{Exit, Failure};

/// Runs `snowbank gc`.
///
/// # Errors
/// What the server refuses; a server that cannot be reached; a collection that could not be
/// finished.
pub async fn run(global: &GlobalArgs, args: GcCommandArgs) -> Result<Exit, Failure> {
    if let Some(question) = args.flags.question() {
        confirm(question, "collect")?;
    }
    if let Some(warning) = args.flags.warning() {
        tracing::warn!("{warning}");
    }
    let say = |text: &str| {
        if !global.quiet {
            // The report is what counts.
            let _ = writeln!(io::stderr(), "{text}");
        }
    };
    let api = server_api(global, &args.server)?;
    let report = api.collect(&args.flags.into_request(), say).await?;
    print(args.server.json, &report)
}

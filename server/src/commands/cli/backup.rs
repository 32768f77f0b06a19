//! The command line of `snowbankd backup` and `snowbankd restore`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  snowbankd backup /backup/snowbank.db --with-secrets\n\n\
    With PostgreSQL, prints the commands that make and restore a backup, and exits with 2: nothing \
    was written.")]
pub(in crate::commands) struct BackupArgs {
    /// The file to write, of mode 0600.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Put the server key and the other secret files into it. Who has such a backup has everything.
    #[arg(long)]
    pub with_secrets: bool,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  snowbankd restore /backup/snowbank.db\n  snowbankd restore \
        --in-place\n\n\
    Collection is off afterwards, until `snowbankd repair` has been run.")]
pub(in crate::commands) struct RestoreArgs {
    /// The backup.
    #[arg(value_name = "FILE", required_unless_present = "in_place")]
    pub file: Option<PathBuf>,
    /// The database is in its place already, by `pg_restore` for instance, or is the one that
    /// counts of several copies: mark it as restored, and take over the storage.
    #[arg(long, conflicts_with = "file")]
    pub in_place: bool,
    /// Put it in the place of a database that is there, which is moved aside, and take over a
    /// storage to which another backup was restored since; or let a database count again that was
    /// moved away from.
    #[arg(long)]
    pub force: bool,
    /// Do not ask, which is done where a database is there.
    #[arg(long)]
    pub yes: bool,
}

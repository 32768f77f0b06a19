//! The commands of `snowbankd`: entry points, which read the settings, open what they need and call
//! what does the work.
//!
//! Standard output has what a command is asked for (for `token create` the token and nothing else);
//! logs and errors go to standard error.

mod backup;
mod banner;
mod cache;
mod check;
mod cli;
mod gc;
mod migrate_database;
mod pages;
mod paths;
mod pin;
mod repair;
mod serve;
mod token;
mod token_key;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use rustix::fs::Mode;
use serde::Serialize;
use snowbank_cli::{Render, format_answer};
use snowbank_core::token::hide_tokens;

use crate::admin::{self, Admin};
use crate::auth::{AuthError, LegacyKeys, TokenKey};
use crate::chain::Chain;
use crate::clock::unix_now;
use crate::config::{Config, Overrides};
use crate::db::Db;
use crate::listen::PassedSockets;
use crate::secrets::Sealer;
use crate::storage::Storage;
use cli::{Cli, Command};

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::from_command_line();
    // Whatever this process makes is its user's alone: the database has tokens' ids, the storage
    // private caches.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("snowbankd: error: {}", hide_tokens(&explain(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // Before there are threads that could read the environment.
    let passed = PassedSockets::from_environment();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads that serve requests")?;
    let overrides = cli.overrides();
    let result = runtime.block_on(async {
        match cli.command.unwrap_or_default() {
            Command::Serve(_) => serve::serve(&overrides, passed).await,
            Command::Token(command) => token::run(&overrides, command).await,
            Command::Cache(command) => cache::run(&overrides, command).await,
            Command::Path(command) => paths::run(&overrides, command).await,
            Command::Pin(args) => pin::run(&overrides, args).await,
            Command::Delete(args) => paths::delete(&overrides, args).await,
            Command::Audit(args) => paths::audit(&overrides, args).await,
            Command::TokenKey(command) => token_key::run(&overrides, command).await,
            Command::MigrateDatabase(args) => migrate_database::migrate(&overrides, args).await,
            Command::Check(args) => check::check(&overrides, args).await,
            Command::Gc(args) => gc::gc(&overrides, args).await,
            Command::Backup(args) => backup::backup(&overrides, args).await,
            Command::Restore(args) => backup::restore_backup(&overrides, args).await,
            Command::Repair(args) => repair::repair(&overrides, args).await,
            Command::Completions { shell } => pages::completions(shell),
            Command::Man { output } => pages::man(output.as_deref()),
        }
    });
    // A command has ended what it began; after a second signal nobody waits for blocking threads.
    runtime.shutdown_background();
    result
}

/// What a command needs that works beside a running server.
struct CommandContext {
    config: Config,
    db: Db,
    sealer: Sealer,
}

impl CommandContext {
    async fn open(overrides: &Overrides) -> anyhow::Result<Self> {
        let config = Config::load(overrides)?;
        let sealer = Sealer::for_command(config.server_key_file.as_deref(), &config.data_dir)?;
        let db = Db::open_existing(&config.database).await?;
        admin::check_server_key(&db, &sealer).await?;
        Ok(Self { config, db, sealer })
    }

    /// The storage, found to be this database's: everything would be missing from another one.
    async fn chain(&self) -> anyhow::Result<Chain> {
        let storage = Storage::attach(&self.config.storage).await?;
        let chain = Chain::new(self.db.clone(), Arc::new(storage));
        chain.confirm().await?;
        Ok(chain)
    }

    /// As [`Self::chain`], for what removes or adds.
    async fn joined_chain(&self) -> anyhow::Result<Chain> {
        let storage = Storage::attach(&self.config.storage).await?;
        let chain = Chain::new(self.db.clone(), Arc::new(storage));
        chain.join(unix_now()).await?;
        Ok(chain)
    }

    fn admin(&self) -> Result<Admin, AuthError> {
        let legacy_keys = LegacyKeys::from_config(&self.config.auth.legacy_keys)?;
        let key_files = self.token_key_files()?;
        let admin = Admin::new(self.db.clone(), self.sealer.clone(), key_files, &self.config);
        Ok(admin.with_legacy_keys(legacy_keys))
    }

    /// The token keys in files that the settings name.
    fn token_key_files(&self) -> Result<Vec<TokenKey>, AuthError> {
        TokenKey::from_config(&self.config.auth.token_keys)
    }
}

/// Prints an answer for people or for programs.
fn print<T: Render + Serialize>(as_json: bool, answer: &T) -> anyhow::Result<()> {
    let text = format_answer(as_json, answer)?;
    // A pipe that nobody reads any more is no failure of the command.
    let _ = writeln!(io::stdout(), "{text}");
    Ok(())
}

/// A path as one word of a POSIX shell.
fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The error and its causes in one line; a cause that the error names already is not said twice.
fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_spaces_can_be_pasted() {
        assert_eq!(shell_quoted(Path::new("/home/a/root-token")), "/home/a/root-token");
        assert_eq!(shell_quoted(Path::new("/my data/it's")), r"'/my data/it'\''s'");
    }
}

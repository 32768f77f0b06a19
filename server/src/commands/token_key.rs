//! `snowbankd token-key …`

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::bail;
use snowbank_cli::date::utc;

use super::CommandContext;
use super::cli::{TokenKeyAddArgs, TokenKeyCommand, TokenKeyRemoveArgs};
use crate::admin::token_keys::{self, End, KeySource, Outlook, TokenKeyInfo};
use crate::auth::TokenKey;
use crate::clock::unix_now;
use crate::config::{Overrides, TokenAlgorithm};

pub(super) async fn run(
    overrides: &Overrides,
    command: TokenKeyCommand,
) -> anyhow::Result<ExitCode> {
    let context = CommandContext::open(overrides).await?;
    let files = context.token_key_files()?;
    match command {
        TokenKeyCommand::Add(args) => add(&context, &files, args).await?,
        TokenKeyCommand::List => {
            for key in token_keys::list(&context.db, &context.sealer, &files, unix_now()).await? {
                println!("{}", line(&key));
            }
        }
        TokenKeyCommand::Retire { kid } => {
            let outlook = token_keys::describe_end(
                &context.db,
                &context.sealer,
                &files,
                &kid,
                End::Retire,
                unix_now(),
            )
            .await?;
            println!("{}", consequence(&outlook));
            token_keys::end(&context.db, &context.sealer, &files, &kid, End::Retire, unix_now())
                .await?;
            println!("Retired the token key `{kid}`: within 5 s no server believes it any more.");
        }
        TokenKeyCommand::Remove(args) => remove(&context, &files, args).await?,
    }
    context.db.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn add(
    context: &CommandContext,
    files: &[TokenKey],
    args: TokenKeyAddArgs,
) -> anyhow::Result<()> {
    let key = match &args.from {
        Some(file) => TokenKey::from_file(file, args.algorithm, args.kid)?,
        None => TokenKey::generate_for(args.algorithm.unwrap_or(TokenAlgorithm::Hs256), args.kid)?,
    };
    token_keys::add(&context.db, &context.sealer, files, &key, unix_now()).await?;
    println!("Added the token key `{}` ({}).", key.kid(), key.algorithm());
    if key.can_sign() {
        println!(
            "New tokens are signed with it. Those that older keys have signed stay valid until \
             their key is retired."
        );
    } else {
        println!(
            "It is a public key: tokens that its other half has signed are believed; new tokens \
             are signed as before."
        );
    }
    Ok(())
}

async fn remove(
    context: &CommandContext,
    files: &[TokenKey],
    args: TokenKeyRemoveArgs,
) -> anyhow::Result<()> {
    let outlook = token_keys::describe_end(
        &context.db,
        &context.sealer,
        files,
        &args.kid,
        End::Remove,
        unix_now(),
    )
    .await?;
    println!("{}", consequence(&outlook));
    if !args.yes && !confirmed(&format!("Remove the token key `{}` for good?", args.kid))? {
        println!("Nothing was removed.");
        return Ok(());
    }
    token_keys::end(&context.db, &context.sealer, files, &args.kid, End::Remove, unix_now())
        .await?;
    println!("Removed the token key `{}`.", args.kid);
    Ok(())
}

/// Asks on the terminal. Where there is none, nobody could answer.
fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!(
            "this asks for confirmation, and there is no terminal to ask on. Say --yes to do it \
             without"
        );
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What ending a key does to those who have its tokens.
fn consequence(outlook: &Outlook) -> String {
    let Outlook { kid, live_tokens, is_retired } = outlook;
    match live_tokens {
        _ if *is_retired => format!("`{kid}` is retired; its tokens are refused already."),
        0 => format!("No unexpired token that is known here was signed with `{kid}`."),
        1 => format!("1 unexpired token was signed with `{kid}`; who has it needs a new one."),
        many => format!(
            "{many} unexpired tokens were signed with `{kid}`; who has them needs new ones."
        ),
    }
}

fn line(key: &TokenKeyInfo) -> String {
    let source = match key.source {
        KeySource::Database { created } => format!("made {}", utc(created)),
        KeySource::ConfigFile => "config file".to_owned(),
    };
    let state = match key.retired {
        Some(when) => format!("retired {}", utc(when)),
        None if key.signs_new => "signs new tokens".to_owned(),
        None if key.can_sign => "verifies".to_owned(),
        None => "verifies (public key)".to_owned(),
    };
    let tokens = if key.live_tokens == 1 { "token" } else { "tokens" };
    format!("{}  {}  {source}  {state}  {} {tokens}", key.kid, key.algorithm, key.live_tokens)
}

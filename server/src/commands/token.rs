//! `snowbankd token …`

use std::process::ExitCode;

use snowbank_cli::Render as _;
use snowbank_cli::args::{RotatedToken, only_valid_token};
use snowbank_core::wire::admin::TokenList;

use super::cli::TokenCommand;
use super::{CommandContext, print};
use crate::admin::{self, Actor, Admin};
use crate::clock::unix_now;
use crate::config::Overrides;

/// Runs one of the commands.
pub(super) async fn run(overrides: &Overrides, command: TokenCommand) -> anyhow::Result<ExitCode> {
    let context = CommandContext::open(overrides).await?;
    let (admin, actor, now) = (context.admin()?, Actor::host(), unix_now());
    match command {
        // The token alone on standard output.
        TokenCommand::Create(args) => {
            println!("{}", admin::create_token(&admin, &actor, &args.into(), now).await?.token.0);
        }
        TokenCommand::Rotate(args) => {
            let (which, request) = args.into_request();
            let id = match which {
                RotatedToken::Id(id) => id,
                RotatedToken::OnlyOf(subject) => {
                    only_valid_token(&all(&admin).await?, &subject, now)?.id.clone()
                }
            };
            println!("{}", admin::rotate_token(&admin, &actor, &id, &request, now).await?.token.0);
        }
        TokenCommand::List(output) => {
            print(output.json, &all(&admin).await?)?;
        }
        TokenCommand::Show { id, output } => {
            print(output.json, &admin::show_token(&admin, &id).await?)?;
        }
        TokenCommand::Revoke(args) => {
            let revoked =
                admin::revoke_tokens(&admin, &actor, &args.into_request(now), now).await?;
            println!("{}", revoked.text());
        }
    }
    context.db.close().await;
    Ok(ExitCode::SUCCESS)
}

/// All tokens that were issued here.
async fn all(admin: &Admin) -> anyhow::Result<TokenList> {
    let mut list = admin::list_tokens(admin, None).await?;
    while let Some(next) = list.next.take() {
        let more = admin::list_tokens(admin, Some(&next)).await?;
        list.tokens.extend(more.tokens);
        list.next = more.next;
    }
    Ok(list)
}

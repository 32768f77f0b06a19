//! `snowbankd path …`, `snowbankd delete` and `snowbankd audit`.

use std::process::ExitCode;

use snowbank_cli::{Render as _, confirm};
use snowbank_core::cache_name::CacheName;
use snowbank_core::wire::admin::withdrawn::{WithdrawnPage, WithdrawnQuery};
use snowbank_core::wire::admin::{AuditPage, PathPage, PathQueryText};

use super::cli::{AuditArgs, DeleteArgs, PathCommand};
use super::{CommandContext, print};
use crate::admin::{self, Actor, AdminError};
use crate::clock::unix_now;
use crate::config::Overrides;
use crate::db;
use crate::db::caches::Cache;

/// `snowbankd path …`
pub(super) async fn run(overrides: &Overrides, command: PathCommand) -> anyhow::Result<ExitCode> {
    let context = CommandContext::open(overrides).await?;
    match command {
        PathCommand::List { name, pattern, output } => {
            let cache = cache(&context, &name).await?;
            let mut all = PathPage::default();
            let mut query = PathQueryText { pattern, after: None };
            loop {
                let page = admin::list_paths(&context.db, &cache, &query, true, unix_now()).await?;
                all.paths.extend(page.paths);
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            print(output.json, &all)?;
        }
        PathCommand::Withdrawn { name, output } => {
            let cache = cache(&context, &name).await?;
            let mut all = WithdrawnPage::default();
            let mut query = WithdrawnQuery::default();
            loop {
                let page = admin::list_withdrawn(&context.db, &cache, &query).await?;
                all.paths.extend(page.paths);
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            print(output.json, &all)?;
        }
        PathCommand::Info { name, path, output } => {
            let cache = cache(&context, &name).await?;
            print(
                output.json,
                &admin::show_path(&context.db, &cache, &path, true, unix_now()).await?,
            )?;
        }
    }
    context.db.close().await;
    Ok(ExitCode::SUCCESS)
}

/// `snowbankd delete`
pub(super) async fn delete(overrides: &Overrides, args: DeleteArgs) -> anyhow::Result<ExitCode> {
    let context = CommandContext::open(overrides).await?;
    let (admin, actor, now) = (context.admin()?, Actor::host(), unix_now());
    let cache = cache(&context, &args.name).await?;
    let mut request = args.flags.into_request(args.paths);
    let mut answer = admin::delete_paths(&admin, &actor, &cache, &request, now).await?;
    if args.flags.asks() {
        eprintln!("{}", answer.text());
        confirm("Nobody can fetch these paths any more then.", cache.name.as_str())?;
        request.dry_run = false;
        answer = admin::delete_paths(&admin, &actor, &cache, &request, now).await?;
    }
    print(args.output.json, &answer)?;
    context.db.close().await;
    Ok(ExitCode::SUCCESS)
}

/// `snowbankd audit`
pub(super) async fn audit(overrides: &Overrides, args: AuditArgs) -> anyhow::Result<ExitCode> {
    let context = CommandContext::open(overrides).await?;
    let (mut query, mut all) = (args.query.into_query(), AuditPage::default());
    loop {
        let page = admin::list_audit(&context.db, &query).await?;
        if !all.take(page, &mut query) {
            break;
        }
    }
    print(args.output.json, &all)?;
    context.db.close().await;
    Ok(ExitCode::SUCCESS)
}

/// The cache of that name.
pub(super) async fn cache(context: &CommandContext, name: &CacheName) -> anyhow::Result<Cache> {
    let found = db::caches::lookup(context.db.reader().await?.exec(), name).await?;
    Ok(found.ok_or_else(|| AdminError::NoCache(name.clone()))?)
}

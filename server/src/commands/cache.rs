//! `snowbankd cache …`

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use snowbank_cli::{Render as _, confirm};
use snowbank_core::cache_name::CacheName;
use snowbank_core::wire::admin::{
    CacheDetails, CacheList, CopiedPaths, CreateCache, RotateKey, SecretText,
};

use super::cli::{CacheCommand, CacheCreateArgs};
use super::{CommandContext, print};
use crate::admin::{self, Actor, AdminError};
use crate::admission::{self, Budgets};
use crate::auth::{MayPull, MayPush};
use crate::clock::unix_now;
use crate::config::{Overrides, PublicUrl, read_secret_file};
use crate::damage::Inspector;
use crate::directory::Directory;
use crate::ingest::{self, Ingest, IngestLimits};
use crate::pack::Packs;

/// Runs one of the commands.
pub(super) async fn run(overrides: &Overrides, command: CacheCommand) -> anyhow::Result<ExitCode> {
    let context = CommandContext::open(overrides).await?;
    let (admin, actor, now) = (context.admin()?, Actor::host(), unix_now());
    match command {
        CacheCommand::Create(args) => {
            let created = admin::create_cache(&admin, &actor, &request(args)?, now).await?;
            println!("{}", how_to_use(&context, &created));
        }
        CacheCommand::Ensure(args) => {
            let details = admin::ensure_cache(&admin, &actor, &request(args)?, now).await?;
            println!("{}", how_to_use(&context, &details));
        }
        CacheCommand::List(output) => {
            let mut all = CacheList::default();
            loop {
                let page = admin::list_caches(&admin, all.next.as_deref(), |_| true).await?;
                all.caches.extend(page.caches);
                all.next = page.next;
                if all.next.is_none() {
                    break;
                }
            }
            print(output.json, &all)?;
        }
        CacheCommand::Info { name, output } => {
            print(output.json, &admin::show_cache(&admin, &name).await?)?;
        }
        CacheCommand::Configure { name, changes } => {
            let settings = changes.into_settings();
            anyhow::ensure!(
                !settings.is_empty(),
                "say what to change; `snowbankd cache configure --help` lists it"
            );
            let details = admin::configure_cache(&admin, &actor, &name, &settings, now).await?;
            println!("{}", details.text());
        }
        CacheCommand::Rename { name, new } => {
            let details = admin::rename_cache(&admin, &actor, &name, &new, now).await?;
            println!(
                "`{name}` is now `{}`. Its old address is gone within 5 s; its keys stay.",
                details.name
            );
        }
        CacheCommand::Destroy { name, yes } => {
            if !yes {
                confirm(
                    &format!("This takes the cache `{name}` out of sight for everybody."),
                    name.as_str(),
                )?;
            }
            admin::destroy_cache(&admin, &actor, &name, now).await?;
            println!(
                "`{name}` is gone from every server within 5 s. For 7 days, `snowbankd cache \
                 restore {name}` undoes this, and its room stays taken; `snowbankd cache purge \
                 {name}` ends that."
            );
        }
        CacheCommand::Restore { name } => {
            admin::restore_cache(&admin, &actor, &name, now).await?;
            println!("`{name}` is back.");
        }
        CacheCommand::Purge { name, yes, output } => {
            if !yes {
                let what =
                    format!("This removes the destroyed cache `{name}` and its keys for good.");
                confirm(&what, name.as_str())?;
            }
            let grace = context.config.gc.grace;
            let purged =
                admin::purge_cache(&admin, &actor, &name, grace, Duration::MAX, now).await?;
            print(output.json, &purged)?;
        }
        CacheCommand::RotateKey { name, overlap, signing_key_file } => {
            let signing_key = signing_key_file.as_deref().map(signing_key).transpose()?;
            let request = RotateKey { overlap, signing_key };
            let details = admin::rotate_signing_key(&admin, &actor, &name, &request, now).await?;
            println!("{}", details.text());
        }
        CacheCommand::ExportKey { name } => {
            for key in admin::export_signing_keys(&admin, &actor, &name, now).await? {
                println!("{}", *key);
            }
        }
        CacheCommand::Copy { from, to, paths, output } => {
            print(output.json, &copy(&context, &actor, &from, &to, &paths, now).await?)?;
        }
    }
    context.db.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn copy(
    context: &CommandContext,
    actor: &Actor,
    from: &CacheName,
    to: &CacheName,
    paths: &[String],
    now: i64,
) -> anyhow::Result<CopiedPaths> {
    let directory = Directory::new(context.db.clone(), context.sealer.clone());
    let no_cache = |name: &CacheName| AdminError::NoCache(name.clone());
    let source = MayPull::on_host(directory.lookup(from).await?.ok_or_else(|| no_cache(from))?);
    let target = MayPush::on_host(directory.lookup(to).await?.ok_or_else(|| no_cache(to))?);
    let hash = |path: &String| admin::hash_part(&source.target.cache.store_dir, path);
    let roots = paths.iter().map(hash).collect::<Result<Vec<_>, _>>()?;
    let limits = &context.config.limits;
    let bounds = IngestLimits {
        verify_threads: limits.effective_verify_threads(),
        max_nar_size: limits.max_nar_size.bytes(),
        read_back: limits.memory.bytes() / 8,
        retention: context.config.gc.retention,
        pins_per_cache: limits.pins_per_cache,
        bundle_bytes: limits.bundle_size.bytes(),
    };
    let shared = admission::Limits {
        memory_bytes: limits.memory.bytes() / 2,
        share_percent: limits.client_share,
    };
    let chain = context.joined_chain().await?;
    let packs = Packs::new(context.db.clone(), Arc::clone(chain.storage()), 0);
    let inspector = Inspector::new(chain.clone(), packs.clone());
    let ingest = Ingest::new(chain, packs, inspector, Arc::new(Budgets::new(shared)), bounds);
    let entry = |copied: &CopiedPaths| actor.copied(from, to, copied, now);
    Ok(ingest::copy(&ingest, &source, &target, &roots, &entry, now).await?)
}

fn request(args: CacheCreateArgs) -> anyhow::Result<CreateCache> {
    Ok(CreateCache {
        name: args.name.to_string(),
        isolated: args.new.isolated,
        store_dir: args.new.store_dir,
        signing_key: args.new.signing_key_file.as_deref().map(signing_key).transpose()?,
        settings: args.changes.into_settings(),
    })
}

fn signing_key(file: &Path) -> anyhow::Result<SecretText> {
    let secret = read_secret_file(file).context("the signing key")?;
    Ok(SecretText(secret.expose().to_owned()))
}

/// The lines for nix.conf. Where the server listens is its own affair, and may have been said on
/// its command line.
fn how_to_use(context: &CommandContext, cache: &CacheDetails) -> String {
    let base = context.config.public_url.as_ref().map_or("http://SERVER", PublicUrl::as_str);
    let kind = if cache.public { "public" } else { "private" };
    let keys: Vec<&str> = cache.keys.iter().map(|key| key.public_key.as_str()).collect();
    format!(
        "The {kind} cache `{0}` is there. In nix.conf on machines that use \
         it:\n  extra-substituters = {base}/{0}\n  \
         extra-trusted-public-keys = {1}",
        cache.name,
        keys.join(" ")
    )
}

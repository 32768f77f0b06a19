//! `snowbankd pin …`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use snowbank_core::store_path::StorePath;
use snowbank_core::wire::admin::pins::{HistoryQuery, PinList, RollbackPin, SetPin};

use super::cli::{PinArgs, PinCommand, SetPinArgs};
use super::paths::cache;
use super::{CommandContext, print};
use crate::admin::{self, Actor};
use crate::clock::unix_now;
use crate::config::Overrides;

/// As many symbolic links are followed as Linux follows.
const MAX_LINKS: usize = 40;

/// Runs one of the commands.
pub(super) async fn run(overrides: &Overrides, args: PinArgs) -> anyhow::Result<ExitCode> {
    let context = CommandContext::open(overrides).await?;
    let (db, actor, now) = (&context.db, Actor::host(), unix_now());
    match command(args)? {
        PinCommand::Set(SetPinArgs { cache: name, name: pin, path, keep, output }) => {
            let cache = cache(&context, &name).await?;
            let request = SetPin { path: resolved(path), keep: keep.keep, expires: keep.expires };
            let max_pins = context.config.limits.pins_per_cache;
            print(
                output.json,
                &admin::set_pin(db, &actor, &cache, &pin, &request, max_pins, now).await?,
            )?;
        }
        PinCommand::List { cache: name, output } => {
            let cache = cache(&context, &name).await?;
            let mut all = PinList::default();
            loop {
                let page = admin::list_pins(db, &cache, all.next.as_deref(), now).await?;
                all.pins.extend(page.pins);
                all.next = page.next;
                if all.next.is_none() {
                    break;
                }
            }
            print(output.json, &all)?;
        }
        PinCommand::Show(pin) => {
            let cache = cache(&context, &pin.cache).await?;
            let mut details =
                admin::show_pin(db, &cache, &pin.name, &HistoryQuery::default(), now).await?;
            while let Some(before) = details.next.take() {
                let query = HistoryQuery { before: Some(before) };
                let more = admin::show_pin(db, &cache, &pin.name, &query, now).await?;
                details.history.extend(more.history);
                details.next = more.next;
            }
            print(pin.output.json, &details)?;
        }
        PinCommand::Rm(pin) => {
            let cache = cache(&context, &pin.cache).await?;
            let removed = admin::remove_pin(db, &actor, &cache, &pin.name, now).await?;
            if pin.output.json {
                print(true, &removed)?;
            } else {
                println!("`{}` is no pin of `{}` any more.", pin.name, cache.name);
            }
        }
        PinCommand::Rollback { pin, to } => {
            let cache = cache(&context, &pin.cache).await?;
            let request = RollbackPin { to };
            let back = admin::rollback_pin(db, &actor, &cache, &pin.name, &request, now).await?;
            print(pin.output.json, &back)?;
        }
    }
    context.db.close().await;
    Ok(ExitCode::SUCCESS)
}

/// What is meant: `pin CACHE NAME PATH` is `pin set CACHE NAME PATH`.
fn command(args: PinArgs) -> anyhow::Result<PinCommand> {
    let PinArgs { command, cache, name, path, keep, output } = args;
    match (command, cache, name, path) {
        (Some(command), ..) => Ok(command),
        (None, Some(cache), Some(name), Some(path)) => {
            Ok(PinCommand::Set(SetPinArgs { cache, name, path, keep, output }))
        }
        _ => anyhow::bail!("say what to pin: snowbankd pin CACHE NAME PATH"),
    }
}

/// For a symlink such as `./result`, the base name of the store path that it leads to; any other
/// text as it is.
fn resolved(path: String) -> String {
    let mut place = PathBuf::from(&path);
    for _ in 0..MAX_LINKS {
        // A path in the store may be a symlink itself, and is the one that is meant.
        if let Some(store_path) = store_path_in(&place) {
            return store_path.base_name();
        }
        let Ok(target) = fs::read_link(&place) else { break };
        place = place.parent().unwrap_or(Path::new("")).join(target);
    }
    path
}

fn store_path_in(place: &Path) -> Option<StorePath> {
    place.components().find_map(|part| part.as_os_str().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symlink_stands_for_the_store_path_that_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let base = "0123456789abcdfghijklmnpqrsvwxyz-website";
        let [one, two] = ["result", "result-2"].map(|name| folder.path().join(name));
        std::os::unix::fs::symlink(format!("/nix/store/{base}"), &one).unwrap();
        std::os::unix::fs::symlink("result", &two).unwrap();
        for link in [one, two] {
            assert_eq!(resolved(link.to_str().unwrap().to_owned()), base);
        }
        for text in [&base[..32], "no-such-file", "/nix/store/x"] {
            assert_eq!(resolved(text.to_owned()), text);
        }
    }
}

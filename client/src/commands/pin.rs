//! `snowbank pin`: names for paths that are to stay.

use std::io::{self, Write as _};

use reqwest::Method;
use snowbank_core::wire::admin::AfterQuery;
use snowbank_core::wire::admin::pins::{HistoryQuery, PinDetails, PinList, RollbackPin, SetPin};

use super::operator::{cache_api, print, resolved};
use crate::api::Api;
use crate::cli::GlobalArgs;
use crate::cli::operator::CacheArgs;
use crate::cli::pin::{NamedPinArgs, PinArgs, PinCommand, SetPinArgs};
use crate::exit::{Exit, Failure};

/// Runs `snowbank pin`.
///
/// # Errors
/// What the server refuses; a server that cannot be reached.
pub async fn run(global: &GlobalArgs, args: PinArgs) -> Result<Exit, Failure> {
    match command(args)? {
        PinCommand::Set(SetPinArgs { target, name, path, keep }) => {
            let request = SetPin { path: resolved(&path), keep: keep.keep, expires: keep.expires };
            print(target.json, &cache_api(global, &target)?.set_pin(&name, &request).await?)
        }
        PinCommand::List(target) => {
            let api = cache_api(global, &target)?;
            let (mut all, mut query) = (PinList::default(), AfterQuery::default());
            loop {
                let page: PinList =
                    api.ask_with(&format!("caches/{}/pins", api.cache()), &query).await?;
                all.pins.extend(page.pins);
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            print(target.json, &all)
        }
        PinCommand::Show(pin) => {
            let api = cache_api(global, &pin.target)?;
            let mut details: PinDetails = api.ask(&address(&api, &pin)).await?;
            while let Some(before) = details.next.take() {
                let query = HistoryQuery { before: Some(before) };
                let more: PinDetails = api.ask_with(&address(&api, &pin), &query).await?;
                details.history.extend(more.history);
                details.next = more.next;
            }
            print(pin.target.json, &details)
        }
        PinCommand::Rm(pin) => {
            let api = cache_api(global, &pin.target)?;
            let removed: PinDetails = api.change(Method::DELETE, &address(&api, &pin), &()).await?;
            if pin.target.json {
                return print(true, &removed);
            }
            writeln!(io::stdout(), "`{}` is no pin of `{}` any more.", pin.name, api.cache())?;
            Ok(Exit::Success)
        }
        PinCommand::Rollback { pin, to } => {
            let api = cache_api(global, &pin.target)?;
            let path = format!("{}/rollback", address(&api, &pin));
            let back: PinDetails = api.change(Method::POST, &path, &RollbackPin { to }).await?;
            print(pin.target.json, &back)
        }
    }
}

fn address(api: &Api, pin: &NamedPinArgs) -> String {
    format!("caches/{}/pins/{}", api.cache(), pin.name)
}

/// What is meant: `pin CACHE NAME PATH` is `pin set CACHE NAME PATH`.
fn command(args: PinArgs) -> Result<PinCommand, Failure> {
    let PinArgs { command, cache, name, path, keep, json } = args;
    match (command, cache, name, path) {
        (Some(command), ..) => Ok(command),
        (None, Some(cache), Some(name), Some(path)) => {
            Ok(PinCommand::Set(SetPinArgs { target: CacheArgs { cache, json }, name, path, keep }))
        }
        _ => Err(Failure::new(
            Exit::Usage,
            anyhow::anyhow!("say what to pin: snowbank pin CACHE NAME PATH"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parsed(args: &[&str]) -> Result<PinCommand, clap::Error> {
        let cli = Cli::try_parse_from([&["snowbank", "pin"], args].concat())?;
        let Command::Pin(args) = cli.command else { panic!("not `pin`") };
        Ok(command(args).unwrap())
    }

    #[test]
    fn a_path_is_pinned_with_and_without_a_command() {
        for args in [&["main", "list", "./result"][..], &["set", "main", "list", "./result"]] {
            let PinCommand::Set(set) =
                parsed(&[args, &["--keep", "7", "--expires", "30d"]].concat()).unwrap()
            else {
                panic!("{args:?}")
            };
            assert_eq!(
                (set.target.cache.as_str(), set.name.as_str(), set.path.as_str()),
                ("main", "list", "./result")
            );
            assert_eq!(
                (set.keep.keep, set.keep.expires.map(|time| time.to_string())),
                (Some(7), Some("30d".to_owned()))
            );
        }
        let Ok(PinCommand::List(target)) = parsed(&["list", "main"]) else { panic!("no list") };
        assert_eq!(target.cache, "main");
        let history = parsed(&["history", "main", "a", "--json"]);
        let Ok(PinCommand::Show(pin)) = history else { panic!("no history") };
        assert!(pin.target.json);
        assert!(matches!(
            parsed(&["rollback", "main", "a", "--to", "3"]),
            Ok(PinCommand::Rollback { to: Some(3), .. })
        ));
        assert!(matches!(parsed(&["rm", "main", "a"]), Ok(PinCommand::Rm(_))));
    }

    #[test]
    fn what_is_no_pin_is_refused_at_once() {
        for args in [
            &[][..],
            &["main"],
            &["main", "latest"],
            &["main", "a/b", "x"],
            &["main", "latest", "x", "--keep", "0"],
            &["main", "latest", "x", "--expires", "0s"],
            &["list"],
        ] {
            assert!(parsed(args).is_err(), "{args:?}");
        }
    }
}

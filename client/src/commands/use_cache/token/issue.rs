//! A token for Nix alone, made with one that may administrate the server.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use reqwest::Method;
use snowbank_cli::date;
use snowbank_core::units::Seconds;
use snowbank_core::wire::admin::{CreateToken, CreatedToken, TokenGrants};

use super::{CacheAddress, Candidate, HostToken, Rules, target};
use crate::api::Api;
use crate::config::Secret;
use crate::exit::{Exit, Failure};

/// For how long a token is made.
const LIFETIME: Seconds = Seconds::new(365 * 86_400);
/// The longest host name that goes into a token's subject, in characters.
const MAX_HOST_CHARS: usize = 100;

/// A new token, made with one that may administrate the server of these private caches.
pub(super) async fn issued(
    host_name: String,
    candidate: &Candidate,
    private: &[CacheAddress],
    rules: Rules,
) -> Result<HostToken, Failure> {
    let names: Vec<&str> = private.iter().map(|(_, cache)| cache.as_str()).collect();
    let names = names.join(", ");
    let source = format!("a new one that may pull from {names} and do nothing else");
    if rules.is_dry_run {
        // Shown by its source alone.
        return Ok(HostToken {
            host: host_name,
            token: candidate.token.clone(),
            source,
            note: None,
        });
    }
    let Some((server_url, cache)) = private.first() else {
        let text = format!(
            "cannot tell which private caches of {host_name} a new token is for; try again"
        );
        return Err(Failure::new(Exit::Unreachable, anyhow::anyhow!(text)));
    };
    let pull = |(_, cache): &CacheAddress| (cache.to_string(), vec!["pull".to_owned()]);
    let grants =
        TokenGrants { caches: private.iter().map(pull).collect::<BTreeMap<_, _>>(), admin: false };
    let here = own_host_name();
    let label = format!("for Nix on {here}, made by `snowbank use`");
    let request = CreateToken { subject: format!("nix-{here}"), label, grants, expires: LIFETIME };
    let api = Api::new(&target(server_url, cache, candidate))?;
    let created: CreatedToken =
        api.change(Method::POST, "tokens", &request).await.map_err(|error| {
            Failure::from(error).context(format!(
                "the token from {} may administrate the server, and is not put into netrc without \
             --this-token; a token that may only pull cannot be made with it",
                candidate.source
            ))
        })?;
    let info = created.info;
    let token = Secret::from_text(&created.token.0).ok_or_else(|| {
        Failure::new(
            Exit::Unexpected,
            anyhow::anyhow!("{server_url} answered with a token that is none"),
        )
    })?;
    let note = format!(
        "Nix shows {server_url} a token of its own, which may pull from {names} and do nothing \
         else: {}, until {}. Take it back with `snowbank token revoke {}`.",
        info.subject,
        date::utc(info.expires),
        info.id
    );
    Ok(HostToken { host: host_name, token, source, note: Some(note) })
}

/// This machine's name, as far as a token's subject may have it.
fn own_host_name() -> String {
    let name = fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
    let name: String =
        name.trim().chars().filter(char::is_ascii_graphic).take(MAX_HOST_CHARS).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

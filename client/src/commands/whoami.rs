//! `snowbank whoami`: which server and which token would be used, and what the server makes of that
//! token.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::json;
use snowbank_cli::date;
use snowbank_core::wire::WhoAmI;

use crate::api::Api;
use crate::cli::{GlobalArgs, WhoAmIArgs};
use crate::config::{TargetServer, resolve_server};
use crate::exit::{Exit, Failure};

/// Runs `snowbank whoami`.
///
/// # Errors
/// No such server, no token, a server that cannot be reached or refuses the token.
pub async fn run(global: &GlobalArgs, args: WhoAmIArgs) -> Result<Exit, Failure> {
    let server = resolve_server(global, args.server.as_deref())?;
    let whoami = Api::of_server(&server)?.whoami().await?;
    let text =
        if args.json { as_json(&server, &whoami) } else { as_text(&server, &whoami, date::now()) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Success)
}

fn as_text(server: &TargetServer, whoami: &WhoAmI, now: i64) -> String {
    let name = server.name.as_ref().map_or("SNOWBANK_URL", |name| name.as_str());
    let expires = whoami.expires.map_or_else(
        || "never".to_owned(),
        |expires| format!("{}, {}", date::utc(expires), date::distance(now, expires)),
    );
    let mut text = format!(
        "server   {name} ({}), Snowbank {}\ntoken    {} (id {}), from \
         {}\nexpires  {expires}\nadmin    {}\n",
        server.url,
        whoami.server_version,
        whoami.subject,
        whoami.token_id,
        server.token_source,
        if whoami.admin { "yes" } else { "no" }
    );
    let mut label = "may";
    for (pattern, permissions) in &whoami.caches {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{label:<8} {pattern}: {}", permissions.join(", "));
        label = "";
    }
    text
}

fn as_json(server: &TargetServer, whoami: &WhoAmI) -> String {
    let days =
        whoami.expires.map(|expires| expires.saturating_sub(date::now()).div_euclid(24 * 3600));
    let value = json!({
        "server": {
            "name": server.name.as_ref().map(ToString::to_string),
            "url": server.url,
            "version": whoami.server_version,
        },
        "token": {
            "subject": whoami.subject,
            "id": whoami.token_id,
            "source": server.token_source,
            "expires": whoami.expires,
            "expires_utc": whoami.expires.map(date::utc),
            "expires_in_days": days,
        },
        "admin": whoami.admin,
        "caches": whoami.caches,
    });
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_says_who_where_until_when_and_what() {
        let server = TargetServer {
            name: Some("work".parse().unwrap()),
            url: "https://h".to_owned(),
            token: None,
            token_source: "/t".to_owned(),
            client_certificate: None,
            filter: crate::config::PathFilter::NONE,
        };
        let both = vec!["pull".to_owned(), "push".to_owned()];
        let whoami = WhoAmI {
            subject: "ci".to_owned(),
            token_id: "17".to_owned(),
            issued: None,
            expires: Some(1_772_366_400),
            admin: false,
            caches: BTreeMap::from([
                ("blog-*".to_owned(), both),
                ("x".to_owned(), vec!["pull".to_owned()]),
            ]),
            server_version: "0.1.0".to_owned(),
        };
        let text = as_text(&server, &whoami, 1_772_366_400 - 3 * 24 * 3600);
        assert_eq!(
            text,
            "server   work (https://h), Snowbank 0.1.0\ntoken    ci (id 17), from \
             /t\nexpires  2026-03-01 12:00:00 UTC, \
             in 3 days\nadmin    no\nmay      blog-*: pull, push\n         x: pull\n"
        );
    }
}

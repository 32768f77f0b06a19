//! What Nix on this machine was told of the cache: substituter, keys, netrc, and whether its daemon
//! heeds it.

use std::fs;
use std::path::PathBuf;

use zeroize::Zeroizing;

use snowbank_cli::date;
use snowbank_core::wire::CacheInfo;

use super::Subject;
use super::report::Finding;
use super::server::EXPIRY_WARNING_SECONDS;
use crate::api::Api;
use crate::config::{Secret, Target};
use crate::exit::Exit;
use crate::nix::{
    self, NixSettings, User, is_allowed_to_untrusted, is_served_by_daemon, same_substituter,
};

const NIX_CONF: &str = "nix.conf";
const KEYS: &str = "keys";
const NETRC: &str = "netrc";
const DAEMON: &str = "daemon";

/// All of it.
pub(super) async fn check(subject: &Subject, info: &CacheInfo) -> Vec<Finding> {
    let settings = match subject.nix.settings() {
        Ok(settings) => settings,
        Err(error) => return vec![Finding::of_failure(NIX_CONF, error)],
    };
    let url = &subject.substituter;
    if !settings.has_substituter(url) {
        let use_it = format!("to fetch from it: snowbank use {}", subject.reference);
        let mut findings =
            vec![Finding::warn(NIX_CONF, format!("{url} is no substituter here")).advice(use_it)];
        findings.extend(
            [KEYS, NETRC, DAEMON]
                .map(|check| Finding::skipped(check, "nix.conf does not name the cache")),
        );
        return findings;
    }
    let files: Vec<String> =
        files_with(subject, url).iter().map(|file| file.display().to_string()).collect();
    let named = if files.is_empty() {
        "NIX_CONFIG or an included file".to_owned()
    } else {
        files.join(", ")
    };
    vec![
        Finding::ok(NIX_CONF, format!("{url} is a substituter ({named})")),
        keys(subject, info, &settings),
        netrc(subject, info, &settings).await,
        daemon(subject, info),
    ]
}

/// The files that name the substituter themselves.
fn files_with(subject: &Subject, url: &str) -> Vec<PathBuf> {
    let all =
        [subject.nix.system_conf()].into_iter().chain(subject.nix.user_confs().iter().cloned());
    all.filter(|file| {
        let mut settings = NixSettings::default();
        settings.add_file(file).is_ok() && settings.has_substituter(url)
    })
    .collect()
}

fn keys(subject: &Subject, info: &CacheInfo, settings: &NixSettings) -> Finding {
    let trusted = settings.trusted_keys();
    let (known, unknown): (Vec<_>, Vec<_>) =
        info.public_keys.iter().partition(|key| trusted.contains(key));
    let advice = format!("snowbank use {}", subject.reference);
    if unknown.is_empty() {
        return Finding::ok(KEYS, format!("nix.conf trusts {}", names(&known)));
    }
    if known.is_empty() {
        let text = format!(
            "nix.conf trusts no key of the cache ({}): Nix refuses its paths",
            names(&unknown)
        );
        return Finding::problem(KEYS, Exit::Config, text).advice(advice);
    }
    let text = format!(
        "nix.conf trusts {}, but not {}, which the cache signs with too",
        names(&known),
        names(&unknown)
    );
    Finding::warn(KEYS, text).advice(advice)
}

fn names(keys: &[&String]) -> String {
    let names: Vec<&str> =
        keys.iter().map(|key| key.split(':').next().unwrap_or_default()).collect();
    names.join(", ")
}

/// Whether the token that Nix would show is one that may fetch. A bad one hurts with public caches
/// too: it is shown to them.
async fn netrc(subject: &Subject, info: &CacheInfo, settings: &NixSettings) -> Finding {
    let path =
        settings.text("netrc-file").map_or_else(|| subject.nix.system_netrc(), PathBuf::from);
    let shown = path.display();
    let host =
        subject.url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let advice = format!("snowbank use {}", subject.reference);
    let text = match fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Zeroizing::default(),
        Err(error) => {
            return Finding::skipped(
                NETRC,
                format!("{shown} cannot be read ({error}); try as root"),
            );
        }
    };
    let password = match nix::netrc::password(&text, host) {
        Ok(password) => password,
        Err(error) => {
            return Finding::problem(NETRC, Exit::Config, format!("{shown}: {error}"))
                .advice("correct that line");
        }
    };
    let Some(token) = password.and_then(|password| Secret::from_text(&password)) else {
        return if info.public {
            Finding::ok(NETRC, "a public cache needs no entry")
        } else {
            let text =
                format!("{shown} has no entry for {host}: Nix cannot fetch from a private cache");
            Finding::problem(NETRC, Exit::Unauthenticated, text).advice(advice)
        };
    };
    let target =
        Target { token: Some(token), token_source: shown.to_string(), ..subject.target.clone() };
    let asked = async { Api::new(&target)?.cache_info().await };
    match asked.await {
        Ok(info) if info.public || info.permissions.iter().any(|one| one == "pull") => {
            let text = format!("{shown} has a token for {host} that may fetch");
            match ending(&target).await {
                Some(end) => Finding::warn(NETRC, format!("{text}, and ends {end}")).advice(advice),
                None => Finding::ok(NETRC, text),
            }
        }
        Ok(_) => {
            let text = format!("the token for {host} in {shown} may not fetch from {}", info.name);
            Finding::problem(NETRC, Exit::Forbidden, text).advice(advice)
        }
        Err(error) => Finding::of_failure(NETRC, error).advice(advice),
    }
}

/// When a token ends, if that is soon.
async fn ending(target: &Target) -> Option<String> {
    let expires = Api::new(target).ok()?.whoami().await.ok()?.expires?;
    let now = date::now();
    (expires.saturating_sub(now) < EXPIRY_WARNING_SECONDS)
        .then(|| format!("{}, {}", date::utc(expires), date::distance(now, expires)))
}

/// Whether the daemon that fetches for this user goes by the user's files.
fn daemon(subject: &Subject, info: &CacheInfo) -> Finding {
    if !is_served_by_daemon(None) {
        return Finding::skipped(DAEMON, "this user's Nix works on the store without one");
    }
    let Some(user) = User::current() else {
        return Finding::skipped(DAEMON, "the system does not tell this user's name");
    };
    let settings = match subject.nix.system_settings() {
        Ok(settings) => settings,
        Err(error) => return Finding::skipped(DAEMON, error.to_string()),
    };
    if user.is_trusted(&settings) {
        return Finding::ok(
            DAEMON,
            format!("{} is trusted: it heeds this user's settings", user.name),
        );
    }
    // The address as this user's nix.conf has it: a daemon compares the whole of it with those that
    // it allows.
    let own = subject.nix.settings().map(|settings| settings.substituters()).unwrap_or_default();
    let own = own
        .iter()
        .find(|url| same_substituter(url, &subject.substituter))
        .unwrap_or(&subject.substituter);
    let is_known = is_allowed_to_untrusted(&settings, own);
    let trusted = settings.trusted_keys();
    let conf = subject.nix.system_conf();
    if is_known && info.public_keys.iter().any(|key| trusted.contains(key)) {
        return Finding::ok(DAEMON, format!("{} has the cache and its key", conf.display()));
    }
    let text = format!(
        "{} is not among its trusted-users, and {} does not allow {own}",
        user.name,
        conf.display()
    );
    Finding::problem(DAEMON, Exit::Config, text).advice(format!(
        "an administrator runs `sudo snowbank use --system {}`, or adds to \
         {}:\n  extra-substituters = {}\n  \
         extra-trusted-public-keys = {}",
        subject.reference,
        conf.display(),
        subject.substituter,
        info.public_keys.join(" ")
    ))
}

//! Nix itself, asked for a path of the cache: certificates, netrc and proxies are then those that
//! Nix goes by.
//!
//! Nix remembers for an hour (`narinfo-cache-negative-ttl`) that a cache did not have a path, also
//! when it has it by now, and for a month (`narinfo-cache-positive-ttl`) its answer about one.
//! Either shows when Nix gives another answer if told to disregard what it remembers.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use snowbank_core::wire::CacheInfo;

use super::Subject;
use super::report::Finding;
use crate::exit::Exit;
use crate::nix::program::{NixRunError, run, version};
use crate::nix::{is_served_by_daemon, same_substituter};

const FETCH: &str = "fetch";
const MISS: &str = "misses";
/// Options by which Nix disregards what it remembers of a cache.
const ASK_ANEW: [&str; 6] =
    ["--option", "narinfo-cache-negative-ttl", "0", "--option", "narinfo-cache-positive-ttl", "0"];
/// The first version of Nix that wants to be told the format of its JSON.
const HAS_JSON_FORMATS: (u32, u32) = (2, 34);
/// The most of what Nix says that is repeated, in characters.
const MAX_QUOTED_CHARS: usize = 300;

/// Has Nix ask the cache for `path`, which is there: as it would by itself, then disregarding what
/// it remembers.
pub(super) async fn check(subject: &Subject, info: &CacheInfo, path: &str) -> Vec<Finding> {
    if subject.nix.settings().is_ok_and(|settings| !settings.has_substituter(&subject.substituter))
    {
        return skipped("nix.conf does not name the cache");
    }
    if let Some(netrc) = netrc_of_daemon(subject).filter(|_| !info.public) {
        let text = format!(
            "Nix's daemon fetches for this user with the token in {}, which this user may not \
             read; `sudo snowbank doctor` can",
            netrc.display()
        );
        return skipped(&text);
    }
    // In this order: the second question replaces what Nix remembers of the path.
    let both = async {
        let remembered = path_info(subject, path, &[]).await?;
        Ok::<_, NixRunError>((remembered, path_info(subject, path, &ASK_ANEW).await?))
    };
    let (remembered, asked) = match both.await {
        Ok(both) => both,
        Err(trouble) => return skipped(&trouble.to_string()),
    };
    let Some(hash) = nar_hash(&asked) else {
        let last_error = if asked.status.success() {
            "it says that there is no such path".to_owned()
        } else {
            last_error(&asked)
        };
        let text = format!("Nix does not find {path} in the cache: {last_error}");
        let advice = "what Nix goes by and this program does not: netrc-file, ssl-cert-file, \
            http_proxy in lower case";
        return vec![
            Finding::problem(FETCH, Exit::Config, text).advice(advice),
            Finding::skipped(MISS, "Nix did not get as far as that"),
        ];
    };
    let found = Finding::ok(FETCH, format!("Nix finds {path} in the cache"));
    vec![found, miss(subject, path, nar_hash(&remembered).as_ref(), &hash)]
}

fn skipped(why: &str) -> Vec<Finding> {
    [FETCH, MISS].map(|check| Finding::skipped(check, why)).into()
}

/// The netrc file that a daemon reads for this user, who may not read it.
fn netrc_of_daemon(subject: &Subject) -> Option<PathBuf> {
    let named = subject.nix.settings().ok()?.text("netrc-file").map(PathBuf::from);
    let netrc = named.unwrap_or_else(|| subject.nix.system_netrc());
    let is_denied =
        File::open(&netrc).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    (is_denied && is_served_by_daemon(None)).then_some(netrc)
}

fn miss(subject: &Subject, path: &str, remembered: Option<&Value>, hash: &Value) -> Finding {
    let text = match remembered {
        Some(remembered) if remembered == hash => {
            let text = "Nix remembers none for this path, as this user (a daemon remembers its \
                own: `sudo snowbank doctor`)";
            return Finding::ok(MISS, text);
        }
        Some(_) => format!(
            "Nix remembered {path} with another NAR hash than the cache has for it by now, and \
             would have refused its NAR"
        ),
        None => format!("Nix remembered that the cache does not have {path}, which it has by now"),
    };
    let kept = if remembered.is_some() { "a month" } else { "an hour" };
    Finding::warn(MISS, text).advice(format!(
        "for this path that is mended by this check; others are asked for again after {kept}.\nSet \
         the time for paths that are not there to a minute: snowbank use {} --negative-ttl \
         60\nForget all at once: rm ~/.cache/nix/binary-cache-v*.sqlite* (root's too, for a \
         daemon)",
        subject.reference
    ))
}

async fn path_info(subject: &Subject, path: &str, options: &[&str]) -> Result<Output, NixRunError> {
    let format: &[&str] =
        if version() >= Some(HAS_JSON_FORMATS) { &["--json-format", "1"] } else { &[] };
    // With the parameters that nix.conf gives it.
    let configured = subject.nix.settings().map(|settings| settings.substituters());
    let configured = configured.unwrap_or_default();
    let is_it = |url: &&String| same_substituter(url, &subject.substituter);
    let store = configured.iter().find(is_it).unwrap_or(&subject.substituter);
    run(|command| {
        command
            .args(["path-info", "--json", "--store", store])
            .args(format)
            .args(options)
            .arg(path);
    })
    .await
}

/// The path's NAR hash in what Nix answered, in whichever form; `None` where it does not know the
/// path.
fn nar_hash(output: &Output) -> Option<Value> {
    fn find(value: &Value) -> Option<&Value> {
        match value {
            Value::Object(fields) => {
                fields.get("narHash").or_else(|| fields.values().find_map(find))
            }
            Value::Array(values) => values.iter().find_map(find),
            _ => None,
        }
    }
    let answer: Value =
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())?;
    find(&answer).cloned()
}

/// The last error of Nix, in a line and without colors. The body of an answer may stand behind it.
fn last_error(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<String> = text.lines().map(plain).filter(|line| !line.is_empty()).collect();
    let error = lines
        .iter()
        .rev()
        .find(|line| line.strip_prefix("error:").is_some_and(|rest| !rest.is_empty()));
    let line = error.or(lines.last()).map_or("it says nothing", String::as_str);
    line.chars().take(MAX_QUOTED_CHARS).collect()
}

/// A line without colors, control characters, and white space at its ends.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut in_escape = false;
    for c in line.chars() {
        match c {
            '\u{1b}' => in_escape = true,
            _ if in_escape => in_escape = !c.is_ascii_alphabetic(),
            c if !c.is_control() => plain.push(c),
            _ => {}
        }
    }
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        let status = std::process::ExitStatus::from_raw(code << 8);
        Output { status, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn what_nix_said_is_repeated_without_colors() {
        let error = "error: path '/nix/store/y' is not valid";
        let text = "warning: x\n\x1b[31;1merror:\x1b[0m path '/nix/store/y' is not valid\n\n";
        assert_eq!(last_error(&output(1, "", text)), error);
        let with_body = format!(
            "error:\n       … while x\n\n       {error}\n\n       response \
             body:\n\n       {{\"a\": 1}}\n"
        );
        assert_eq!(last_error(&output(1, "", &with_body)), error);
        assert_eq!(last_error(&output(1, "", "killed\n")), "killed");
    }

    #[test]
    fn the_nar_hash_is_read_from_every_form() {
        for text in [
            r#"[{"path": "/nix/store/y", "narHash": "sha256:1"}]"#,
            r#"{"/nix/store/y": {"narHash": "sha256:1"}}"#,
            r#"{"info": {"y": {"narHash": "sha256:1"}}, "version": 2}"#,
        ] {
            assert_eq!(nar_hash(&output(0, text, "")), Some("sha256:1".into()), "{text}");
        }
        for text in
            [r#"[{"path": "/nix/store/y", "valid": false}]"#, r#"{"/nix/store/y": null}"#, ""]
        {
            assert_eq!(nar_hash(&output(0, text, "")), None, "{text}");
        }
        assert_eq!(nar_hash(&output(1, r#"{"y": {"narHash": "1"}}"#, "")), None);
    }
}

//! `snowbank hook`: appends the paths of a build to the queue.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use snowbank_core::store_path::StorePath;

use super::push::store_of_nix_conf;
use crate::cli::HookArgs;
use crate::config::split_cache_reference;
use crate::exit::{Exit, Failure};
use crate::queue::roots::{Roots, with_roots};
use crate::queue::{Database, NewEntry, QueueError, QueueFolder};
use crate::store::StoreOptions;
use snowbank_cli::date;

/// Runs `snowbank hook`.
///
/// # Errors
/// With `--strict`, a queue that cannot be written. Without it, that is a warning.
pub async fn run(args: HookArgs) -> Result<Exit, Failure> {
    split_cache_reference(&args.cache)?;
    if let Some(file) = &args.write {
        return write_script(&args, file);
    }
    let store = StoreOptions { uri: store_of_nix_conf() };
    let drv_path = env::var("DRV_PATH").ok().filter(|path| !path.is_empty());
    let out_paths = env::var("OUT_PATHS").unwrap_or_default();
    let (mut paths, others): (Vec<String>, Vec<String>) =
        out_paths.split_whitespace().map(str::to_owned).partition(|path| is_store_path(path));
    for other in &others {
        tracing::warn!("{other:?} in OUT_PATHS is no store path");
    }
    if let Some(drv_path) = drv_path.as_ref().filter(|_| paths.is_empty() && others.is_empty()) {
        // Nix 2.8.0 leaves OUT_PATHS empty (NixOS/nix#6446).
        paths = store.built_outputs(drv_path);
    }
    if paths.is_empty() {
        return Ok(Exit::Success);
    }
    match accept(&args, store, drv_path, &paths).await {
        Ok(()) => Ok(Exit::Success),
        Err(error) if args.strict => Err(error.into()),
        Err(error) => {
            let later = format!("snowbank push {} {}", args.cache, paths.join(" "));
            let failure = Failure::from(error);
            // Where standard error is closed, nobody reads, and the build goes on all the same.
            let _ = writeln!(
                io::stderr(),
                "snowbank: warning: {failure}\nNothing was queued. To push it later, run: {later}"
            );
            Ok(Exit::Success)
        }
    }
}

fn is_store_path(path: &str) -> bool {
    let path = Path::new(path);
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    path.is_absolute() && StorePath::from_base_name(name).is_ok()
}

async fn accept(
    args: &HookArgs,
    store: StoreOptions,
    drv_path: Option<String>,
    paths: &[String],
) -> Result<(), QueueError> {
    let folder = QueueFolder::find(args.folder.queue.as_deref())?;
    folder.create()?;
    let roots = (!args.no_gc_roots).then(|| Roots::new(&folder, store));
    let entries = with_roots(roots.as_ref(), &args.cache, drv_path.as_deref(), paths).await?;
    let added = add(&folder, &entries, args.max_entries).await;
    if let Some(roots) = roots {
        roots.remove_unused(&entries, &added);
    }
    added.map(|_| ())
}

async fn add(
    folder: &QueueFolder,
    entries: &[NewEntry],
    max_entries: u64,
) -> Result<Vec<String>, QueueError> {
    let mut database = Database::open(folder).await?;
    let unused = database.add(entries, date::now(), max_entries).await;
    database.leave_open();
    unused
}

/// Writes the script that Nix can call: it gives a hook no arguments.
fn write_script(args: &HookArgs, file: &Path) -> Result<Exit, Failure> {
    let folder = QueueFolder::find(args.folder.queue.as_deref())?;
    let file = std::path::absolute(file)?;
    let program = quoted(&own_program()?)?;
    let command = queue_command(&folder, args.max_entries)?;
    let flags = [(args.strict, " --strict"), (args.no_gc_roots, " --no-gc-roots")];
    let flags: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
    let command = format!("exec {command}{flags} {}", args.cache);
    let missing = if args.strict {
        String::new()
    } else {
        // A program that was removed should not fail every build.
        format!("[ -x {program} ] || exit 0\n")
    };
    let written = || {
        fs::write(&file, format!("#!/bin/sh\n{missing}{command}\n"))?;
        fs::set_permissions(&file, Permissions::from_mode(0o755))
    };
    written().map_err(|error| {
        let doing = format!("cannot write {}", file.display());
        Failure::from(error).context(doing)
    })?;
    writeln!(
        io::stdout(),
        "Wrote {}. For every build of this machine, add this line to /etc/nix/nix.conf and restart \
         the Nix daemon:\n\npost-build-hook = {}",
        file.display(),
        file.display()
    )?;
    Ok(Exit::Success)
}

/// `snowbank hook` for a queue, as a command of a shell that lacks the cache.
pub(super) fn queue_command(folder: &QueueFolder, max_entries: u64) -> Result<String, Failure> {
    let program = quoted(&own_program()?)?;
    let queue = quoted(folder.path())?;
    Ok(format!("{program} hook --queue {queue} --max-entries {max_entries}"))
}

/// The program as it was called. A link that leads to it, such as a profile's, is kept: its target
/// may be collected.
fn own_program() -> io::Result<PathBuf> {
    let called = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if called.components().count() > 1 {
        return std::path::absolute(called);
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&folders).map(|folder| folder.join(&called));
    let found = in_path.filter(|path| path.is_absolute()).find(|path| path.is_file());
    found.map_or_else(env::current_exe, Ok)
}

/// A path as a word of a shell.
pub(super) fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().ok_or_else(|| anyhow::anyhow!("{} is not UTF-8", path.display()))?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Ok(format!("'{}'", text.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_paths_are_told_from_other_words() {
        let hash = "0".repeat(32);
        assert!(is_store_path(&format!("/nix/store/{hash}-a")));
        assert!(is_store_path(&format!("/gnu/store/{hash}-a")));
        for other in ["", "/", "./a", "/nix/store", "/nix/store/short-a", &format!("{hash}-a")] {
            assert!(!is_store_path(other), "{other}");
        }
    }

    #[test]
    fn words_of_a_shell_are_quoted() {
        for (path, word) in [("/a/b-c.d", "/a/b-c.d"), ("/a b", "'/a b'"), ("/it's", "'/it'\\''s'")]
        {
            assert_eq!(quoted(Path::new(path)).unwrap(), word);
        }
    }
}

//! From what a user writes to store paths: store paths, files in them, symlinks to them, a
//! derivation's outputs.

use std::collections::{HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use snowbank_core::store_path::StorePath;

use super::location::Location;
use super::{Store, StoreError};

/// As many symbolic links are followed as Linux follows.
const MAX_LINKS: usize = 40;

/// The store path that a file lies in, or that symbolic links lead to from it, in the store that
/// the environment names. Nix is not asked, so that it need not be there, nor the path.
///
/// # Errors
/// [`StoreError::Installable`] for what leads to no path, [`StoreError::Address`] for an
/// environment that names no store of this machine.
pub fn store_path_of(file: &str) -> Result<StorePath, StoreError> {
    let location = Location::find(None)?;
    locate(&location, Path::new(file))
        .map_err(|reason| StoreError::Installable { argument: file.to_owned(), reason })
}

/// The store paths that arguments name.
#[derive(Debug, Default)]
pub struct Resolution {
    /// Store paths that Nix knows, each once, in the order of the arguments.
    pub paths: Vec<StorePath>,
    /// Arguments that name none, each with the reason, in their order.
    pub refused: Vec<(String, String)>,
}

impl Store {
    /// The store paths that `args` name: a path in the store, or anything that a chain of symbolic
    /// links leads into it (`./result`, `./result/bin/x`), or `PATH.drv^out,dev` and `PATH.drv^*`
    /// for outputs.
    ///
    /// # Errors
    /// The connection broke, or Nix answered with an error.
    pub async fn resolve_each(&self, args: &[String]) -> Result<Resolution, StoreError> {
        let mut named: Vec<(StorePath, &String)> = Vec::with_capacity(args.len());
        let mut refused = Vec::new();
        for arg in args {
            match self.resolve_one(arg).await {
                Ok(paths) => named.extend(paths.into_iter().map(|path| (path, arg))),
                Err(ResolveError::Reason(reason)) => refused.push((arg.clone(), reason)),
                Err(ResolveError::Store(error)) => return Err(error),
            }
        }
        let mut seen = HashSet::with_capacity(named.len());
        named.retain(|(path, _)| seen.insert(path.clone()));

        let paths: Vec<StorePath> = named.iter().map(|(path, _)| path.clone()).collect();
        let valid = self.valid_paths(&paths).await?;
        for (path, arg) in named.iter().filter(|(path, _)| !valid.contains(path)) {
            let reason = format!(
                "{} is not a valid path of the Nix store; it was never built or fetched here, or \
                 was garbage-collected since. Build it with a result link (`nix build` without \
                 `--no-link`), which keeps it",
                path.full(self.store_dir())
            );
            refused.push(((*arg).clone(), reason));
        }
        Ok(Resolution {
            paths: paths.into_iter().filter(|path| valid.contains(path)).collect(),
            refused,
        })
    }

    /// As [`Store::resolve_each`], where each argument has to name something.
    ///
    /// # Errors
    /// [`StoreError::Installable`] for the first that does not; the connection broke, or Nix
    /// answered with an error.
    pub async fn resolve(&self, args: &[String]) -> Result<Vec<StorePath>, StoreError> {
        let Resolution { paths, refused } = self.resolve_each(args).await?;
        match refused.into_iter().next() {
            None => Ok(paths),
            Some((argument, reason)) => Err(StoreError::Installable { argument, reason }),
        }
    }

    /// The store path that a file lies in, or that symbolic links lead to from it, also if Nix does
    /// not know it.
    ///
    /// # Errors
    /// [`StoreError::Installable`] for what leads to no path.
    pub fn locate(&self, file: &str) -> Result<StorePath, StoreError> {
        locate(&self.shared.location, Path::new(file))
            .map_err(|reason| StoreError::Installable { argument: file.to_owned(), reason })
    }

    async fn resolve_one(&self, arg: &str) -> Result<Vec<StorePath>, ResolveError> {
        let location = &self.shared.location;
        let Some((base, outputs)) = arg.rsplit_once('^') else {
            return Ok(vec![locate(location, Path::new(arg)).map_err(|reason| hint(arg, reason))?]);
        };
        let derivation = locate(location, Path::new(base)).map_err(|reason| hint(arg, reason))?;
        if derivation.name().strip_suffix(".drv").is_none() {
            return Err(ResolveError::Reason(format!(
                "{} is no derivation, so it has no outputs",
                derivation.base_name()
            )));
        }
        let known = self.derivation_outputs(&derivation).await.map_err(|error| match error {
            StoreError::Nix(message) => ResolveError::Reason(message),
            other => ResolveError::Store(other),
        })?;
        let wanted: HashSet<&str> = outputs.split(',').map(str::trim).collect();
        let mut paths = Vec::new();
        for (name, path) in &known {
            if wanted.contains("*") || wanted.contains(name.as_str()) {
                let path = path.clone();
                paths.push(path.ok_or_else(|| {
                    ResolveError::Reason(format!("its output {name:?} is not built"))
                })?);
            }
        }
        match wanted.iter().find(|name| **name != "*" && !known.contains_key(**name)) {
            None => Ok(paths),
            Some(name) => {
                let known: Vec<&str> = known.keys().map(String::as_str).collect();
                Err(ResolveError::Reason(format!(
                    "it has no output {name:?}; it has {}",
                    known.join(", ")
                )))
            }
        }
    }
}

/// An argument that names no path, with the reason, or a store that does not answer.
enum ResolveError {
    Reason(String),
    Store(StoreError),
}

/// People try what other tools take.
fn hint(arg: &str, reason: String) -> ResolveError {
    let is_flake_reference = arg.contains('#') && !Path::new(arg).exists();
    ResolveError::Reason(if is_flake_reference {
        format!(
            "it looks like a flake reference; build it first, and give what `nix build \
             --print-out-paths '{arg}'` prints"
        )
    } else {
        reason
    })
}

/// The store path that `path` lies in, or that symbolic links lead to from it. Once inside the
/// store nothing is followed: a path that only is there by name, in a store at another root, is
/// found as well.
fn locate(location: &Location, path: &Path) -> Result<StorePath, String> {
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    let mut walked = PathBuf::from("/");
    let mut left: VecDeque<OsString> = VecDeque::new();
    push_front(&mut left, &absolute);
    let mut links = 0;
    loop {
        if let Some(base_name) = below_store(location, &walked, &left) {
            let base_name = base_name.to_str().ok_or("the name in the store is not UTF-8")?;
            return StorePath::from_base_name(base_name).map_err(|error| error.to_string());
        }
        let Some(part) = left.pop_front() else {
            let what = if walked == Path::new(location.store_dir.as_str()) {
                "the store itself, not a path"
            } else {
                "not"
            };
            return Err(format!("{} is {what} in {}", walked.display(), location.store_dir));
        };
        if part == ".." {
            walked.pop();
            continue;
        }
        walked.push(part);
        match fs::read_link(&walked) {
            Ok(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(format!(
                        "too many symbolic links, the last of them {}",
                        walked.display()
                    ));
                }
                walked.pop();
                if target.is_absolute() {
                    walked = PathBuf::from("/");
                }
                push_front(&mut left, &target);
            }
            // Not a link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(format!("{}: {error}", walked.display())),
        }
    }
}

/// The name below the store directory, if `walked` followed by `left` is in it.
fn below_store<'a>(
    location: &Location,
    walked: &Path,
    left: &'a VecDeque<OsString>,
) -> Option<&'a OsStr> {
    [Path::new(location.store_dir.as_str()), &location.real_dir, &location.canonical_dir]
        .into_iter()
        .find_map(|dir| {
            let missing = dir.strip_prefix(walked).ok()?;
            let mut rest = left.iter();
            for part in missing.components() {
                if rest.next()?.as_os_str() != part.as_os_str() {
                    return None;
                }
            }
            let name = rest.next()?;
            // A `..` after the name would lead out again; then the walk decides.
            (name != ".." && rest.all(|part| part != "..")).then_some(name.as_os_str())
        })
}

fn push_front(left: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => left.push_front(name.to_owned()),
            Component::ParentDir => left.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

//! The symlinks of `--out-link`: each is a root of Nix.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use snowbank_core::store_path::StorePath;

use crate::exit::{Exit, Failure};
use crate::store::Store;

/// The names of the symlinks, as Nix numbers those of `result`.
pub(super) fn links(link: &Path, count: usize) -> impl Iterator<Item = PathBuf> + '_ {
    (1..=count).map(move |number| {
        if number == 1 {
            return link.to_owned();
        }
        let mut name = link.as_os_str().to_owned();
        name.push(format!("-{number}"));
        name.into()
    })
}

/// A link replaces a symlink, and nothing else.
pub(super) fn check_link(link: &Path) -> Result<(), Failure> {
    match link.symlink_metadata() {
        Ok(metadata) if !metadata.is_symlink() => {
            let text = format!(
                "--out-link {} is there and is no symlink; name another, or remove it",
                link.display()
            );
            Err(Failure::new(Exit::Conflict, anyhow!(text)))
        }
        _ => Ok(()),
    }
}

/// Makes the symlink, or changes it, in one step.
fn replace_link(link: &Path, target: &str) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(link.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let new = link.with_file_name(name);
    symlink(target, &new)?;
    fs::rename(&new, link).inspect_err(|_| {
        // What matters is why it could not be renamed.
        let _ = fs::remove_file(&new);
    })
}

/// Makes the symlinks to `roots`, and has Nix heed them.
pub(super) async fn link_all(
    store: &Store,
    link: &Path,
    roots: &[StorePath],
) -> Result<(), Failure> {
    for (link, root) in links(link, roots.len()).zip(roots) {
        let link = std::path::absolute(&link)?;
        replace_link(&link, &root.full(store.store_dir())).map_err(|error| {
            Failure::from(error).context(format!("cannot make the link {}", link.display()))
        })?;
        store.add_indirect_root(&link).await?;
    }
    Ok(())
}

//! A test's own folder: removed when the test is over, kept and named when it failed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// A folder that lives as long as this value.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty folder; `what` becomes part of its name.
    #[must_use]
    pub fn new(what: &str) -> Self {
        let folder = tempfile::Builder::new().prefix(&format!("snowbank-{what}-")).tempdir();
        Self {
            path: folder.unwrap_or_else(|e| panic!("no temporary folder for {what}: {e}")).keep(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it; nothing is made.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a folder inside it, or finds it there.
    #[must_use]
    pub fn folder(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(&path)
            .unwrap_or_else(|e| panic!("cannot create {}: {e}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.path.display());
        } else if let Err(error) = remove(&self.path) {
            eprintln!("left behind: {} ({error})", self.path.display());
        }
    }
}

/// Removes a tree, folders that nobody may write to (as in a Nix store) included.
pub fn remove(path: &Path) -> std::io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        make_writable(path)?;
    }
    fs::remove_dir_all(path)
}

fn make_writable(folder: &Path) -> std::io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

/// Bytes of all regular files beneath a folder; files that vanish meanwhile count nothing.
#[must_use]
pub fn bytes_beneath(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_beneath(&entry.path()),
            Ok(meta) if meta.is_file() => meta.len(),
            _ => 0,
        })
        .sum()
}

/// How many regular files there are beneath a folder.
#[must_use]
pub fn files_beneath(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => files_beneath(&entry.path()),
            Ok(meta) => usize::from(meta.is_file()),
            Err(_) => 0,
        })
        .sum()
}

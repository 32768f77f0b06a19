//! Files replaced whole: a reader sees the old content or the new one, whatever happens meanwhile.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::ConfigError;

/// Replaces `path` by a file with `content`. A file that is there keeps its mode, a symbolic link stays one and what it
/// leads to is replaced; missing folders are made.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<(), ConfigError> {
    let target = link_target(path).map_err(|source| ConfigError::Write { path: path.to_owned(), source })?;
    let mode = fs::metadata(&target).map_or(0o644, |metadata| metadata.permissions().mode() & 0o7777);
    replace(&target, content, mode, 0o755)
}

/// Replaces `path` by a file with `content` that only its owner can read, in a folder that only its owner can enter if
/// the folder has to be made.
pub(crate) fn write_secret(path: &Path, content: &[u8]) -> Result<(), ConfigError> {
    let target = link_target(path).map_err(|source| ConfigError::Write { path: path.to_owned(), source })?;
    replace(&target, content, 0o600, 0o700)
}

fn replace(path: &Path, content: &[u8], mode: u32, folder_mode: u32) -> Result<(), ConfigError> {
    let write = || -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(folder_mode).create(folder)?;
        // tempfile makes its files with mode 0600: a secret is never readable, not even for a moment.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|source| ConfigError::Write { path: path.to_owned(), source })
}

/// Where a chain of symbolic links that starts at `path` ends: `path` itself when it is none.
fn link_target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_the_owners_alone_and_other_files_keep_their_mode() {
        let root = tempfile::tempdir().unwrap();
        let secret = root.path().join("tokens/a");
        write_secret(&secret, b"x").unwrap();
        assert_eq!((mode(&secret), mode(secret.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
        write_secret(&secret, b"y").unwrap();
        assert_eq!(mode(&secret), 0o600);

        let plain = root.path().join("plain");
        write_atomically(&plain, b"1").unwrap();
        assert_eq!(mode(&plain), 0o644);
        fs::set_permissions(&plain, Permissions::from_mode(0o640)).unwrap();
        write_atomically(&plain, b"2").unwrap();
        assert_eq!((mode(&plain), fs::read(&plain).unwrap()), (0o640, b"2".to_vec()));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn a_symbolic_link_stays_one() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dotfiles")).unwrap();
        let link = root.path().join("nix.conf");
        std::os::unix::fs::symlink("dotfiles/nix.conf", &link).unwrap();
        write_atomically(&link, b"a").unwrap();
        write_atomically(&link, b"b").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read(root.path().join("dotfiles/nix.conf")).unwrap(), b"b");
    }
}

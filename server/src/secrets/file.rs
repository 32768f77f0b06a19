//! Writing secret files: mode 0600, one secret each.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::{SecretError, SecretString};

/// Writes a secret and a line end to a file of mode 0600: whole or not at all, and durably. What
/// was there is replaced.
pub fn write_secret_file(path: &Path, secret: &SecretString) -> Result<(), SecretError> {
    let failed = |source| SecretError::Write { path: path.to_owned(), source };
    let file = prepare(path, &line(secret)).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    sync_parent(path).map_err(failed)
}

/// As [`write_secret_file`], for a file that is put back as it was, with the mode that it had;
/// nobody but its owner and group gets to it.
pub fn restore_secret_file(path: &Path, contents: &[u8], mode: u32) -> Result<(), SecretError> {
    let failed = |source| SecretError::Write { path: path.to_owned(), source };
    let file = prepare(path, contents).map_err(failed)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode & 0o640)).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    sync_parent(path).map_err(failed)
}

/// As [`write_secret_file`], but what was there stays; gives whether this call wrote the file.
pub(super) fn write_secret_file_if_absent(
    path: &Path,
    secret: &SecretString,
) -> Result<bool, SecretError> {
    let failed = |source| SecretError::Write { path: path.to_owned(), source };
    let file = prepare(path, &line(secret)).map_err(failed)?;
    let written = match file.persist_noclobber(path) {
        Ok(_) => true,
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(failed(error.error)),
    };
    sync_parent(path).map_err(failed)?;
    Ok(written)
}

/// A secret as it stands in its file.
fn line(secret: &SecretString) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([secret.expose().as_bytes(), b"\n"].concat())
}

/// A synced file beside `path`, of mode 0600 from its first moment.
fn prepare(path: &Path, contents: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mode = fs::Permissions::from_mode(0o600);
    let mut file =
        tempfile::Builder::new().prefix(".secret-").permissions(mode).tempfile_in(parent(path))?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

//! Files and folders of the server's own: opened without following a link and without changing what
//! is there, and found not to be everybody's.
//!
//! Invariant: a name that the server expects to be its own may be anything when others can write
//! beside it. A lock file is opened as it is and never written to; a folder whose files are removed
//! is a folder, and no link to one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

/// Something that everybody may change.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what} {} can be changed by every user of this machine (mode {mode:04o}), and with it what \
     the server keeps and serves. Run: chmod {advice} {}",
    path.display(), path.display()
)]
pub struct OpenToAll {
    what: &'static str,
    path: PathBuf,
    mode: u32,
    advice: &'static str,
}

/// Opens a lock file, made with mode 0600 where it is not there.
///
/// # Errors
/// When it cannot be opened, or is a link or no plain file.
pub fn open_lock(path: &Path) -> io::Result<File> {
    open_own(path, OFlags::RDWR | OFlags::CREATE)
}

/// As [`open_lock`], for a file that is there.
///
/// # Errors
/// As [`open_lock`]; [`io::ErrorKind::NotFound`].
pub fn open_existing_lock(path: &Path) -> io::Result<File> {
    open_own(path, OFlags::RDONLY)
}

/// The file with its lock, unless another process has that. It is not to be removed, so that all
/// lock the same one.
pub fn try_lock(file: File) -> io::Result<Option<File>> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a plain file of the server's own, as it is.
///
/// # Errors
/// As [`open_lock`].
pub fn open_own(path: &Path, flags: OFlags) -> io::Result<File> {
    // A pipe in the file's place would be waited for otherwise.
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let strange = |what: &str| {
        let message =
            format!("{} is {what}, not a file of the server's; remove it", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    let file = match open(path, flags, Mode::RUSR | Mode::WUSR) {
        Err(Errno::LOOP) => return Err(strange("a symbolic link")),
        file => File::from(file?),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(strange("something else")) }
}

/// Removes the files in a folder that `is_ours` says are left from before.
///
/// # Errors
/// When the folder is a link, or a file cannot be removed.
pub fn remove_leftovers(folder: &Path, is_ours: impl Fn(&str) -> bool) -> io::Result<()> {
    if !fs::symlink_metadata(folder)?.is_dir() {
        let message = format!("{} is not a folder; remove it", folder.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is_ours) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Refuses a file or folder that everybody may change, and warns of one that is open to others in a
/// lesser way. One that is not there is nobody's.
pub fn check_private(what: &'static str, path: &Path) -> Result<(), OpenToAll> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let mode = metadata.permissions().mode() & 0o7777;
    let advice = if metadata.is_dir() { "700" } else { "600" };
    if mode & 0o002 != 0 {
        return Err(OpenToAll { what, path: path.to_owned(), mode, advice });
    }
    warn_of_readers(what, path, mode, advice);
    Ok(())
}

/// Warns of a file or folder that others may read or change, where that is no reason to refuse.
pub fn warn_if_open(what: &'static str, path: &Path) {
    if let Err(OpenToAll { mode, advice, .. }) = check_private(what, path) {
        let path = path.display();
        tracing::warn!(
            "{what} {path} can be changed by every user of this machine (mode {mode:04o}); run: \
             chmod {advice} {path}"
        );
    }
}

fn warn_of_readers(what: &str, path: &Path, mode: u32, advice: &str) {
    let path = path.display();
    if mode & 0o020 != 0 {
        tracing::warn!(
            "{what} {path} can be changed by its group (mode {mode:04o}); if that is not meant, \
             run: chmod {advice} {path}"
        );
    } else if mode & 0o005 != 0 {
        tracing::warn!(
            "{what} {path} can be read by every user of this machine (mode {mode:04o}); run: chmod \
             {advice} {path}"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_lock_file_is_opened_as_it_is_and_never_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (lock, link, other) = (
            folder.path().join("lock"),
            folder.path().join("link"),
            folder.path().join("precious"),
        );
        let held = try_lock(open_lock(&lock).unwrap()).unwrap().unwrap();
        assert_eq!(held.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(try_lock(open_existing_lock(&lock).unwrap()).unwrap().is_none(), "it is locked");
        drop(held);
        fs::write(&lock, "as it was").unwrap();
        drop(try_lock(open_lock(&lock).unwrap()).unwrap().unwrap());
        assert_eq!(fs::read_to_string(&lock).unwrap(), "as it was");

        fs::write(&other, "precious").unwrap();
        symlink(&other, &link).unwrap();
        assert!(open_lock(&link).unwrap_err().to_string().contains("symbolic link"));
        assert!(open_existing_lock(&link).is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
        fs::remove_file(&other).unwrap();
        assert!(
            open_lock(&link).is_err() && !other.exists(),
            "nothing is made at the end of a link"
        );
        assert!(
            open_existing_lock(folder.path()).unwrap_err().to_string().contains("something else")
        );
        assert_eq!(open_existing_lock(&other).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn leftovers_are_removed_from_a_folder_and_not_from_where_a_link_leads() {
        let folder = tempfile::tempdir().unwrap();
        let (other, link) = (folder.path().join("other"), folder.path().join("link"));
        fs::create_dir(&other).unwrap();
        for name in ["a.tmp", "b"] {
            fs::write(other.join(name), name).unwrap();
        }
        symlink(&other, &link).unwrap();
        remove_leftovers(&link, |_| true).unwrap_err();
        assert!(other.join("a.tmp").exists());
        remove_leftovers(&other, |name| name == "a.tmp").unwrap();
        assert!(!other.join("a.tmp").exists() && other.join("b").exists());
    }

    #[test]
    fn what_everybody_may_change_is_refused_with_the_command_that_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        check_private("the data folder", &path).unwrap();
        fs::create_dir(&path).unwrap();
        for (mode, is_fine) in [
            (0o700, true),
            (0o750, true),
            (0o755, true),
            (0o775, true),
            (0o777, false),
            (0o1777, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check_private("the data folder", &path).is_ok(), is_fine, "{mode:o}");
        }
        let message = check_private("the data folder", &path).unwrap_err().to_string();
        assert!(
            message.contains(&format!("chmod 700 {}", path.display())) && message.contains("1777"),
            "{message}"
        );
    }
}

//! Files replaced whole: a reader sees the old content or the new one, whatever happens meanwhile.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::attributes::Attributes;

/// Replaces `path` by a file with `content`. A file that is there keeps its owner, group, mode and
/// extended attributes; a symbolic link stays one, and the file that it leads to is replaced;
/// missing folders are made.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<(), ConfigError> {
    written(path, |target| {
        let attributes = attributes(target)?.unwrap_or(Attributes::new(0o644));
        replace(target, content, &attributes, 0o755)
    })
}

/// Replaces `path` by a file with `content` that not everybody can read: a new one is its owner's
/// alone, in a folder that only its owner can enter if the folder has to be made. One that is there
/// keeps what [`write_atomically`] keeps, unless everybody could read it.
pub(crate) fn write_secret(path: &Path, content: &[u8]) -> Result<(), ConfigError> {
    written(path, |target| {
        let attributes = match attributes(target)? {
            Some(attributes) if attributes.is_open_to_all() => attributes.owner_only(),
            Some(attributes) => attributes,
            None => Attributes::new(0o600),
        };
        replace(target, content, &attributes, 0o700)
    })
}

/// Writes `content` to `copy`, as a file of the same owner, group, mode and extended attributes as
/// `original` has.
pub(crate) fn write_copy(copy: &Path, content: &[u8], original: &Path) -> Result<(), ConfigError> {
    written(copy, |target| {
        let attributes = attributes(original)?.unwrap_or(Attributes::new(0o600));
        replace(target, content, &attributes, 0o755)
    })
}

fn written(path: &Path, write: impl Fn(&Path) -> io::Result<()>) -> Result<(), ConfigError> {
    link_target(path)
        .and_then(|target| write(&target))
        .map_err(|source| ConfigError::Write { path: path.to_owned(), source })
}

/// Those of a file that is there. A file that this process may not read is not one to replace.
fn attributes(path: &Path) -> io::Result<Option<Attributes>> {
    match File::open(path) {
        Ok(file) => Attributes::of(&file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn replace(
    path: &Path,
    content: &[u8],
    attributes: &Attributes,
    folder_mode: u32,
) -> io::Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(folder_mode).create(folder)?;
    // tempfile makes its files with mode 0600: a secret is never readable, not even for a moment.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    attributes.apply(file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Where a chain of symbolic links that starts at `path` ends: `path` itself when it is none.
pub(super) fn link_target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::NotFound
                ) =>
            {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    use rustix::fs::{XattrFlags, getxattr, setxattr};

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
        fs::set_permissions(&secret, Permissions::from_mode(0o640)).unwrap();
        write_secret(&secret, b"z").unwrap();
        assert_eq!(mode(&secret), 0o640, "a group that was let in stays in");

        let plain = root.path().join("plain");
        write_atomically(&plain, b"1").unwrap();
        assert_eq!(mode(&plain), 0o644);
        fs::set_permissions(&plain, Permissions::from_mode(0o640)).unwrap();
        write_atomically(&plain, b"2").unwrap();
        assert_eq!((mode(&plain), fs::read(&plain).unwrap()), (0o640, b"2".to_vec()));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn owner_and_group_stay() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root may give files away");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("netrc");
        fs::write(&file, "1").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        chown(&file, Some(12_345), Some(23_456)).unwrap();
        let copy = root.path().join("copy");
        write_copy(&copy, b"1", &file).unwrap();
        write_atomically(&file, b"2").unwrap();
        for (file, text) in [(&file, "2"), (&copy, "1")] {
            let metadata = fs::metadata(file).unwrap();
            assert_eq!((metadata.uid(), metadata.gid(), mode(file)), (12_345, 23_456, 0o640));
            assert_eq!(fs::read_to_string(file).unwrap(), text);
        }
    }

    #[test]
    fn extended_attributes_and_access_control_lists_stay() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("netrc");
        fs::write(&file, "1").unwrap();
        // rw- for the owner, r-- for user 12345, nothing for the group, a mask of r--, nothing for
        // others.
        let none = u32::MAX;
        let entries =
            [(1_u16, 6_u16, none), (2, 4, 12_345), (4, 0, none), (16, 4, none), (32, 0, none)];
        let entry = |(tag, bits, id): (u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let list = [2_u32.to_le_bytes().to_vec(), entries.map(entry).concat()].concat();
        for (name, value) in [("system.posix_acl_access", list.as_slice()), ("user.note", b"mine")]
        {
            if setxattr(&file, name, value, XattrFlags::empty()).is_err() {
                eprintln!("SKIPPED: this file system has no {name}");
                continue;
            }
            write_atomically(&file, b"2").unwrap();
            write_secret(&file, b"3").unwrap();
            let mut kept = vec![0; 256];
            let length =
                getxattr(&file, name, &mut kept[..]).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(&kept[..length], value, "{name}");
        }
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

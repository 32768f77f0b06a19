//! Whom a file belongs to and who may read it: owner, group, mode, and extended attributes, among
//! which are access control lists (`system.posix_acl_access`) and the label of `SELinux`
//! (`security.selinux`).

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;

const ACCESS_LIST: &str = "system.posix_acl_access";

/// What a file that takes another's place has to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub mode: u32,
    owner: Option<(u32, u32)>,
    extended: Vec<(String, Vec<u8>)>,
}

impl Attributes {
    /// Those of a new file.
    pub(super) const fn new(mode: u32) -> Self {
        Self { mode, owner: None, extended: Vec::new() }
    }

    /// Those of a file that is there.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            mode: metadata.mode() & 0o7777,
            owner: Some((metadata.uid(), metadata.gid())),
            extended: extended(file)?,
        })
    }

    /// Whether everybody may do anything with the file.
    pub(super) const fn is_open_to_all(&self) -> bool {
        self.mode & 0o007 > 0
    }

    /// Leaves the file to its owner alone: another mode, and no access control list.
    pub(super) fn owner_only(mut self) -> Self {
        self.mode = 0o600;
        self.extended.retain(|(name, _)| name != ACCESS_LIST);
        self
    }

    /// Gives them to a file of this process.
    pub(super) fn apply(&self, file: &File) -> io::Result<()> {
        let metadata = file.metadata()?;
        if let Some((user, group)) = self.owner
            && (metadata.uid(), metadata.gid()) != (user, group)
        {
            fchown(file, Some(user), Some(group)).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!(
                        "it belongs to user {user} and group {group}, which would not stay so \
                         ({error}); run this as that user or as root"
                    ),
                )
            })?;
        }
        // After the change of owner, which takes away some bits, and before the access control
        // list, which changes others.
        file.set_permissions(Permissions::from_mode(self.mode))?;
        for (name, value) in &self.extended {
            match fsetxattr(file, name.as_str(), value, XattrFlags::empty()) {
                Err(error) if name == ACCESS_LIST => return Err(error.into()),
                // The label is set by rules of the system where it cannot be set by hand; others
                // say nothing of who may read.
                _ => {}
            }
        }
        Ok(())
    }
}

/// All extended attributes that this process may read; none where the file system has none.
fn extended(file: &File) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let length = match flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found = Vec::new();
    for name in names.filter_map(|name| std::str::from_utf8(name).ok()) {
        let mut value = vec![0; 64 << 10];
        if let Ok(length) = fgetxattr(file, name, &mut value[..]) {
            value.truncate(length);
            found.push((name.to_owned(), value));
        }
    }
    Ok(found)
}

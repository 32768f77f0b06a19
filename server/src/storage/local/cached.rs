//! Reading what the system has in memory, without ever waiting for a disk.

use std::path::Path;

/// Whether `dir` is on a file system of this machine: to open a file on another's takes a question
/// over the network, however much of it is in memory here.
#[cfg(target_os = "linux")]
pub(super) fn is_possible(dir: &Path) -> bool {
    /// ext4, XFS, Btrfs, tmpfs, F2FS, bcachefs, ZFS and overlays of these, as in `linux/magic.h`.
    const HERE: [u32; 8] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x0102_1994,
        0xf2f5_2010,
        0xca45_1a4e,
        0x2fc1_2fc1,
        0x794c_7630,
    ];
    let magic = |kind| u32::try_from(i128::from(kind) & 0xffff_ffff).unwrap_or_default();
    rustix::fs::statfs(dir).is_ok_and(|stat| HERE.contains(&magic(stat.f_type)))
}

/// Other systems do not say what they have in memory.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_possible(_: &Path) -> bool {
    false
}

/// Up to `len` bytes from `offset` on, fewer where the file ends; `None` where anything would have
/// to be waited for, or is not as it should be: whoever waits finds out what it is.
#[cfg(target_os = "linux")]
pub(super) fn read(path: &Path, offset: u64, len: u64) -> Option<Vec<u8>> {
    use std::io::IoSliceMut;

    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2};
    use rustix::io::{ReadWriteFlags, preadv2};

    let file =
        openat2(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::CACHED)
            .ok()?;
    let size = u64::try_from(fstat(&file).ok()?.st_size).ok()?;
    let wanted = usize::try_from(size.saturating_sub(offset).min(len)).ok()?;
    let mut bytes = vec![0; wanted];
    let mut done = 0;
    while done < wanted {
        let rest = &mut [IoSliceMut::new(&mut bytes[done..])];
        match preadv2(&file, rest, offset + done as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) | Err(_) => return None,
            Ok(read) => done += read,
        }
    }
    Some(bytes)
}

/// See [`is_possible`].
#[cfg(not(target_os = "linux"))]
pub(super) fn read(_: &Path, _: u64, _: u64) -> Option<Vec<u8>> {
    None
}

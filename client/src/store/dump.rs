//! A path of the store as a NAR, read straight from the disk.
//!
//! The NAR is that of `nix-store --dump`, byte for byte. What Nix has registered is not looked at:
//! whether the bytes are those of the path, their hash tells. Memory is one buffer, plus the names
//! of the folders that are open.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileType};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::OFlags;
use rustix::io::Errno;
use snowbank_core::nar::encode;

/// What is handed out at a time is at least this long (but for the last piece), so that per-piece
/// costs vanish.
const PIECE_BYTES: usize = 256 * 1024;
/// The buffer: what is read from a file at a time, at most.
const BUFFER_BYTES: usize = 1024 * 1024;
/// What Nix appends, with a number, to names that differ from another only in case, on file systems
/// that ignore case.
const CASE_HACK_SUFFIX: &[u8] = b"~nix~case~hack~";

/// How to read a tree.
#[derive(Debug, Clone, Copy)]
pub struct DumpOptions {
    /// Undo Nix's case hack: an entry `name~nix~case~hack~N` is `name`. On where Nix's
    /// `use-case-hack` is by default.
    pub case_hack: bool,
}

impl DumpOptions {
    /// As Nix does by default on this system: the case hack is macOS's.
    pub const NATIVE: Self = Self { case_hack: cfg!(target_os = "macos") };
}

/// A tree that could not be read whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// There is nothing at the path.
    #[error("{} is missing from the disk", .path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// A file, folder or link could not be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file was changed while it was being read.
    #[error("{} changed its size while it was being read ({expected} bytes at \
        first)", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its size when it was opened, in bytes.
        expected: u64,
    },
    /// A socket, pipe or device, which no NAR can hold.
    #[error("{} is a {kind}, which a store path cannot hold", .path.display())]
    Special {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Two entries of a folder have one name once the case hack is undone.
    #[error("{} and another entry of its folder have the same name without the case \
        hack", .path.display())]
    Collision {
        /// One of them.
        path: PathBuf,
    },
    /// Whoever takes the bytes wants no more.
    #[error(transparent)]
    Stopped(io::Error),
}

/// Writes the NAR of `root` to `out`, a piece at a time. Blocks.
///
/// # Errors
/// What cannot be read, by name; an error of `out`.
pub fn dump_nar(
    root: &Path,
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), DumpError> {
    dump_nar_with(root, DumpOptions::NATIVE, out)
}

/// [`dump_nar`], with options.
///
/// # Errors
/// As [`dump_nar`].
pub fn dump_nar_with(
    root: &Path,
    options: DumpOptions,
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), DumpError> {
    let mut dumper =
        Dumper { options, path: root.to_owned(), buffer: Vec::with_capacity(BUFFER_BYTES), out };
    encode::magic(&mut dumper.buffer);
    let kind = match fs::symlink_metadata(root) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DumpError::Missing { path: root.to_owned() });
        }
        Err(source) => return Err(dumper.failed(source)),
    };
    dumper.node(kind)?;
    dumper.hand_out()
}

struct Dumper<'a> {
    options: DumpOptions,
    /// Where the walk is.
    path: PathBuf,
    /// What is not yet handed out; never grows beyond its first capacity but for a name or link
    /// target.
    buffer: Vec<u8>,
    out: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
}

impl Dumper<'_> {
    fn node(&mut self, kind: FileType) -> Result<(), DumpError> {
        if kind.is_file() {
            self.regular()
        } else if kind.is_dir() {
            self.directory()
        } else if kind.is_symlink() {
            let target = fs::read_link(&self.path).map_err(|source| self.failed(source))?;
            encode::symlink(&mut self.buffer, target.as_os_str().as_bytes());
            self.hand_out_if_full()
        } else {
            Err(DumpError::Special { path: self.path.clone(), kind: special_kind(kind) })
        }
    }

    /// Four calls to the system for a small file: open, stat, read, close.
    fn regular(&mut self) -> Result<(), DumpError> {
        // A file replaced by a link or a pipe since its folder was read must neither be followed
        // nor waited for.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&self.path)
            .map_err(|source| self.failed(source))?;
        let metadata = file.metadata().map_err(|source| self.failed(source))?;
        if !metadata.is_file() {
            return Err(DumpError::Special {
                path: self.path.clone(),
                kind: special_kind(metadata.file_type()),
            });
        }
        let size = metadata.len();
        let executable = metadata.mode() & 0o100 != 0;
        encode::regular_start(&mut self.buffer, executable, size);
        let mut left = size;
        while left > 0 {
            // Room for one byte more than is left: that one read also shows whether the file has
            // grown.
            let wanted = usize::try_from(left.saturating_add(1)).unwrap_or(usize::MAX);
            if self.buffer.capacity() - self.buffer.len() < wanted.min(PIECE_BYTES) {
                self.hand_out()?;
            }
            match self.read_some(&file)? {
                ControlFlow::Continue(read) if (read as u64) <= left => left -= read as u64,
                _ => {
                    return Err(DumpError::Changed { path: self.path.clone(), expected: size });
                }
            }
            self.hand_out_if_full()?;
        }
        encode::regular_end(&mut self.buffer, size);
        self.hand_out_if_full()
    }

    /// One read into the room that the buffer has; `Break` at the file's end.
    fn read_some(&mut self, file: &File) -> Result<ControlFlow<(), usize>, DumpError> {
        loop {
            match rustix::io::read(file, spare_capacity(&mut self.buffer)) {
                Ok(0) => return Ok(ControlFlow::Break(())),
                Ok(read) => return Ok(ControlFlow::Continue(read)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed(error.into())),
            }
        }
    }

    fn directory(&mut self) -> Result<(), DumpError> {
        let entries = self.entries()?;
        encode::directory_start(&mut self.buffer);
        for Entry { name, on_disk, kind } in entries {
            encode::entry_start(&mut self.buffer, &name);
            self.path.push(on_disk.as_deref().unwrap_or(OsStr::from_bytes(&name)));
            self.node(kind)?;
            self.path.pop();
            encode::entry_end(&mut self.buffer);
        }
        encode::directory_end(&mut self.buffer);
        self.hand_out_if_full()
    }

    /// The entries of the folder at `path`, sorted by their names' bytes.
    fn entries(&self) -> Result<Vec<Entry>, DumpError> {
        let failed = |source| self.failed(source);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let on_disk = entry.file_name();
            entries.push(
                match self
                    .options
                    .case_hack
                    .then(|| without_case_hack(on_disk.as_bytes()))
                    .flatten()
                {
                    Some(name) => Entry { name: name.to_vec(), on_disk: Some(on_disk), kind },
                    None => Entry { name: on_disk.into_vec(), on_disk: None, kind },
                },
            );
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        match entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => {
                Err(DumpError::Collision { path: self.path.join(OsStr::from_bytes(&pair[0].name)) })
            }
            None => Ok(entries),
        }
    }

    fn hand_out_if_full(&mut self) -> Result<(), DumpError> {
        if self.buffer.len() >= PIECE_BYTES { self.hand_out() } else { Ok(()) }
    }

    fn hand_out(&mut self) -> Result<(), DumpError> {
        (self.out)(&self.buffer).map_err(DumpError::Stopped)?;
        self.buffer.clear();
        Ok(())
    }

    fn failed(&self, source: io::Error) -> DumpError {
        DumpError::Read { path: self.path.clone(), source }
    }
}

struct Entry {
    /// The name in the NAR.
    name: Vec<u8>,
    /// The name on the disk, where it is another.
    on_disk: Option<OsString>,
    kind: FileType,
}

/// The part of `name` before the case hack's suffix, if it has that.
fn without_case_hack(name: &[u8]) -> Option<&[u8]> {
    let at = name.windows(CASE_HACK_SUFFIX.len()).position(|window| window == CASE_HACK_SUFFIX)?;
    Some(&name[..at])
}

fn special_kind(kind: FileType) -> &'static str {
    if kind.is_socket() {
        "socket"
    } else if kind.is_fifo() {
        "named pipe"
    } else if kind.is_block_device() || kind.is_char_device() {
        "device"
    } else {
        "file of an unknown kind"
    }
}

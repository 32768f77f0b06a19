//! The cache's folder: private, of one server, and nothing in it is needed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::block::{self, BlockId};
use crate::files;

/// What stays free of the disk: this part of it, and at most so much.
const MIN_FREE_PART: u64 = 10;
const MAX_LEAST_FREE: u64 = 1 << 30;

const INCOMING: &str = "incoming";
/// A file's time of last change says when its block was last used, to within this.
const USE_RECORDED_EVERY: Duration = Duration::from_mins(10);

/// The folder, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    _lock: File,
}

/// What reading a block's file gave.
pub(super) enum BlockRead {
    Block(Vec<u8>),
    Nothing,
    /// It is not what was written.
    Damaged,
}

impl Files {
    /// Makes the folder where it is not there, and takes it for this server.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        create_private(root)?;
        let Some(lock) = files::try_lock(files::open_lock(&root.join("lock"))?)? else {
            return Err(io::Error::other(
                "another server uses it; every server needs a read cache of its own",
            ));
        };
        let incoming = root.join(INCOMING);
        create_private(&incoming)?;
        files::remove_leftovers(&incoming, |_| true)?;
        // One file written now is worth more than a warning at the first read.
        tempfile::tempfile_in(&incoming)?.write_all(b"probe")?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// The blocks that are there and the bytes of disk that each takes, the one that was used
    /// longest ago first.
    pub(super) fn scan(&self) -> io::Result<Vec<(BlockId, u64)>> {
        let mut found = Vec::new();
        for folder in fs::read_dir(&self.root)? {
            let folder = folder?;
            let Ok(name) = folder.file_name().into_string() else { continue };
            if name.len() != 2 || !folder.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(folder.path())? {
                let file = file?;
                // What has another name is not ours, and stays.
                let id = file.file_name().to_str().and_then(|file| BlockId::parse(&name, file));
                let (Some(id), Ok(metadata)) = (id, file.metadata()) else { continue };
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((used, id, block::disk_bytes_of_file(metadata.len())));
            }
        }
        found.sort_unstable_by_key(|(used, ..)| *used);
        Ok(found.into_iter().map(|(_, id, bytes)| (id, bytes)).collect())
    }

    pub(super) fn read(&self, id: BlockId) -> BlockRead {
        match self.try_read(id) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => BlockRead::Nothing,
            Err(_) => BlockRead::Damaged,
        }
    }

    fn try_read(&self, id: BlockId) -> io::Result<BlockRead> {
        let mut file = File::open(self.root.join(id.file_name()))?;
        let metadata = file.metadata()?;
        if metadata.len() > block::MAX_FILE_LEN {
            return Ok(BlockRead::Damaged);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
        (&mut file).take(block::MAX_FILE_LEN).read_to_end(&mut bytes)?;
        let Some(block) = block::parse(id, &bytes) else {
            return Ok(BlockRead::Damaged);
        };
        let now = SystemTime::now();
        let used = metadata.modified().unwrap_or(now);
        if now.duration_since(used).is_ok_and(|age| age > USE_RECORDED_EVERY) {
            // Only the order after the next start depends on it.
            let _ = file.set_modified(now);
        }
        let header = bytes.len() - block.len();
        bytes.drain(..header);
        Ok(BlockRead::Block(bytes))
    }

    /// Not synced: after a power cut the checksum says what is whole.
    pub(super) fn write(&self, id: BlockId, bytes: &[u8]) -> io::Result<()> {
        match self.try_write(id, bytes) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // A new folder, or one that somebody has cleared away.
                let path = self.root.join(id.file_name());
                create_private(&self.root.join(INCOMING))?;
                create_private(path.parent().unwrap_or(&self.root))?;
                self.try_write(id, bytes)
            }
            result => result,
        }
    }

    fn try_write(&self, id: BlockId, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix("").tempfile_in(self.root.join(INCOMING))?;
        file.write_all(&block::header(id, bytes))?;
        file.write_all(bytes)?;
        file.persist(self.root.join(id.file_name())).map_err(|error| error.error)?;
        Ok(())
    }

    /// Whether the disk has so little left that others than a cache should have it. One that does
    /// not say has enough.
    pub(super) fn is_disk_nearly_full(&self) -> bool {
        rustix::fs::statvfs(&self.root).is_ok_and(|said| {
            let bytes = |blocks: u64| blocks.saturating_mul(said.f_frsize);
            bytes(said.f_bavail) < (bytes(said.f_blocks) / MIN_FREE_PART).min(MAX_LEAST_FREE)
        })
    }

    pub(super) fn remove(&self, id: BlockId) -> io::Result<()> {
        match fs::remove_file(self.root.join(id.file_name())) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

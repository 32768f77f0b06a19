//! A Unix socket at a path.
//!
//! Invariant: only a socket on which nobody listens is ever removed, and no other program can
//! connect before the file has its permissions. Both hold because the folder stays locked from the
//! look at the old file until the new socket listens, and because a bound socket refuses
//! connections until it listens.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use super::BACKLOG;
use crate::config::SocketMode;

/// A socket file that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum UnixError {
    /// A server that runs has it.
    #[error(
        "another server listens on unix:{}. Stop that one, or choose another path with --listen \
         unix:/PATH", .0.display()
    )]
    Live(PathBuf),
    /// Something that is no socket lies there.
    #[error(
        "cannot listen on unix:{}: there is something else than a socket, which Snowbank does not \
         remove. Move it away, or choose another path with --listen unix:/PATH", .0.display()
    )]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error(
        "cannot listen on unix:{}: {source}. The folder has to exist, and this user has to be \
         allowed to write to it", path.display()
    )]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket file that this server made.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Removes it, once this server listens there no more, unless another server has put its own
    /// in its place. That may have the number of the old inode, and is known by its listening. A
    /// file that stays does no harm: the next start replaces it.
    pub fn remove(self) {
        let remove = || {
            let _lock = lock_folder(&self.path)?;
            let found = fs::symlink_metadata(&self.path)?;
            let is_same = (found.dev(), found.ino()) == (self.device, self.inode);
            if is_same && !is_live(&self.path)? {
                fs::remove_file(&self.path)?;
            }
            Ok::<(), io::Error>(())
        };
        if let Err(error) = remove() {
            tracing::debug!(%error, path = %self.path.display(), "the socket file stays");
        }
    }
}

/// Makes the socket, in the place of one that a server has left.
pub(super) fn open(
    path: &Path,
    SocketMode(mode): SocketMode,
) -> Result<(UnixListener, SocketFile), UnixError> {
    let failed = |source| UnixError::Io { path: path.to_owned(), source };
    let _lock = lock_folder(path).map_err(failed)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(UnixError::NoSocket(path.to_owned()));
        }
        Ok(_) if is_live(path).map_err(failed)? => return Err(UnixError::Live(path.to_owned())),
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let make = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        socket.listen(BACKLOG.cast_signed())?;
        socket.set_nonblocking(true)?;
        let listener = UnixListener::from_std(socket.into())?;
        let metadata = fs::symlink_metadata(path)?;
        let file =
            SocketFile { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() };
        Ok((listener, file))
    };
    make().map_err(failed)
}

/// Keeps other servers from looking at the same file, until it is dropped.
fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
    flock(&folder, FlockOperation::LockExclusive)?;
    Ok(folder)
}

/// Whether a program listens there. One whose queue is full does as well.
fn is_live(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as StdListener;

    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http.sock");
        drop(StdListener::bind(&path).unwrap());
        let (listener, file) = open(&path, SocketMode(0o666)).unwrap();
        assert_eq!(mode_of(&path), 0o666);
        let message = open(&path, SocketMode::default()).unwrap_err().to_string();
        assert!(message.starts_with("another server listens on unix:/"), "{message}");
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok(), "it is still there");
        drop(listener);
        let (_second, _) = open(&path, SocketMode::default()).unwrap();
        assert_eq!(mode_of(&path), 0o660);
        file.remove();
        assert!(path.exists(), "it is another server's by now");
    }

    #[tokio::test]
    async fn what_is_no_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, socket) = (folder.path().join("precious"), folder.path().join("dead"));
        fs::write(&path, "precious").unwrap();
        let message = open(&path, SocketMode::default()).unwrap_err().to_string();
        assert!(message.contains("something else than a socket"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        drop(StdListener::bind(&socket).unwrap());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        assert!(matches!(open(&link, SocketMode::default()), Err(UnixError::NoSocket(_))));
        assert!(socket.exists() && link.is_symlink());
        let message = open(&folder.path().join("no/a"), SocketMode::default()).unwrap_err();
        assert!(message.to_string().contains("has to exist"), "{message}");
    }
}

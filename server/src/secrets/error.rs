//! What can be wrong with the data folder and the secrets in it.

use std::io;
use std::path::PathBuf;

use crate::config::SecretFileError;
use crate::files::OpenToAll;

/// Why a secret, or the folder for secrets, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The data folder cannot be made.
    #[error("cannot create the data folder {}: {source}. Choose another with --data-dir \
        DIR", path.display())]
    CreateDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The data folder is something else.
    #[error("{} is not a folder. Choose another data folder with --data-dir DIR", .0.display())]
    NotADir(PathBuf),
    /// The data folder cannot be written to.
    #[error(
        "cannot write to the data folder {}: {source}. Make it writable for the user that runs \
         snowbankd, or choose another with --data-dir DIR", path.display()
    )]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A command was started before the server ever was.
    #[error("there is no Snowbank data in {}. Start `snowbankd` once, or say where it is with \
        --data-dir DIR", .0.display())]
    NoDataDir(PathBuf),
    /// Another server uses the data folder.
    #[error("another snowbankd is serving from {}. Stop it, or choose another data folder with \
        --data-dir DIR", .0.display())]
    InUse(PathBuf),
    /// Everybody may change the data folder.
    #[error(transparent)]
    Open(#[from] OpenToAll),
    /// A secret file cannot be used.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A secret file cannot be written.
    #[error("cannot write the secret file {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server key that the settings name is not there.
    #[error(
        "there is no server key at {}, which `server-key-file` names. Servers that share a \
         database share this file; for a new database make it: head -c 32 /dev/urandom | base64 > \
         {} && chmod 600 {}", .0.display(), .0.display(), .0.display()
    )]
    NoServerKey(PathBuf),
    /// The server key is no key.
    #[error("{} is not a server key (32 bytes in base64). Restore it from a backup", .0.display())]
    BadServerKey(PathBuf),
    /// A sealed secret was sealed with another server key, or for something else, or is damaged.
    #[error(
        "cannot open the sealed {0}: it was sealed with another server key. Restore the \
         `server-key` file that belongs to this database into the data folder"
    )]
    Sealed(String),
    /// The system gives no random bytes.
    #[error("the system's random number generator failed: {0}")]
    Random(getrandom::Error),
}

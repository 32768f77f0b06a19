//! From a store's address to where its files are and how to reach the Nix that keeps it.
//!
//! Source: Nix's manual, "Store types", and `openStore` in its `store-api.cc`: parameters after
//! `?`, `root`, `store`, `state` and `real`; the environment's `NIX_REMOTE`, `NIX_STORE_DIR`,
//! `NIX_STATE_DIR`, `NIX_LOG_DIR`, `NIX_DAEMON_SOCKET_PATH`.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use snowbank_core::store_path::StoreDir;

use super::StoreError;

/// A store, located but not yet opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// Where its paths say that they are.
    pub store_dir: StoreDir,
    /// Where they are.
    pub real_dir: PathBuf,
    /// `real_dir` without symbolic links, where that is another path.
    pub canonical_dir: PathBuf,
    /// How to reach Nix.
    pub access: Access,
    /// Where Nix keeps its state, garbage collection roots among it.
    pub state_dir: PathBuf,
    /// Where Nix keeps build logs.
    pub log_dir: PathBuf,
    /// Where a Nix of our own keeps what it knows of a store at another root; it would make one
    /// that is not there.
    database: Option<PathBuf>,
}

/// How to reach the Nix that keeps a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// A daemon listens on this socket.
    Socket(PathBuf),
    /// A `nix-daemon --stdio` of our own, with this store address.
    Stdio(String),
    /// The socket if somebody listens there, else a `nix-daemon --stdio`.
    SocketOrStdio(PathBuf, String),
}

/// The variables of the environment that name a store. A parameter, so that tests need not change
/// the process's.
#[derive(Default)]
struct StoreEnvironment {
    remote: Option<String>,
    store_dir: Option<String>,
    state_dir: Option<PathBuf>,
    log_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    data_home: Option<PathBuf>,
    working_dir: PathBuf,
    is_root: bool,
}

impl Location {
    /// The store at `uri`, or the one that the environment names.
    pub(super) fn find(uri: Option<&str>) -> Result<Self, StoreError> {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let text = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let environment = StoreEnvironment {
            remote: text("NIX_REMOTE"),
            store_dir: text("NIX_STORE_DIR").or_else(|| text("NIX_STORE")),
            state_dir: path("NIX_STATE_DIR"),
            log_dir: path("NIX_LOG_DIR"),
            socket: path("NIX_DAEMON_SOCKET_PATH"),
            data_home: path("XDG_DATA_HOME")
                .or_else(|| path("HOME").map(|home| home.join(".local/share"))),
            working_dir: env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            is_root: rustix::process::geteuid().is_root(),
        };
        Self::from_parts(uri, &environment)
    }

    fn from_parts(uri: Option<&str>, environment: &StoreEnvironment) -> Result<Self, StoreError> {
        let uri = uri.or(environment.remote.as_deref()).unwrap_or("auto");
        let invalid =
            |reason: &str| StoreError::Address { uri: uri.to_owned(), reason: reason.to_owned() };
        let (base, query) = uri.split_once('?').unwrap_or((uri, ""));
        let mut parameters = parameters(query);

        let access = match base {
            "" | "auto" if query.is_empty() => {
                if let Some(root) = environment.unprivileged_root() {
                    parameters.insert("root".to_owned(), root.into_os_string());
                }
                Access::SocketOrStdio(environment.socket(), "auto".to_owned())
            }
            "" | "auto" | "local" => Access::Stdio(uri.to_owned()),
            "daemon" => Access::Socket(environment.socket()),
            _ => match base.split_once("://") {
                Some(("unix", "")) => Access::Socket(environment.socket()),
                Some(("unix", socket)) => {
                    Access::Socket(PathBuf::from(OsString::from_vec(percent_decoded(socket))))
                }
                Some(("local", "")) => Access::Stdio(uri.to_owned()),
                Some(("local", root)) => {
                    parameters.insert("root".to_owned(), root.into());
                    Access::Stdio(uri.to_owned())
                }
                Some((kind, _)) => return Err(invalid(&format!("{kind}:// is another machine's"))),
                None if base.contains('/') => {
                    parameters.insert("root".to_owned(), base.into());
                    Access::Stdio(uri.to_owned())
                }
                None => return Err(invalid("no store is called so")),
            },
        };

        let store_dir = match parameters.get("store") {
            Some(dir) => dir.to_str().ok_or_else(|| invalid("its `store` is not UTF-8"))?,
            None => environment.store_dir.as_deref().unwrap_or("/nix/store"),
        };
        let store_dir = StoreDir::new(store_dir).map_err(|error| invalid(&error.to_string()))?;
        let path =
            |name: &str| parameters.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // Below another root the files are always in nix/store, whatever the store directory is
        // called.
        let real_dir = path("real")
            .or_else(|| path("root").map(|root| root.join("nix/store")))
            .unwrap_or_else(|| PathBuf::from(store_dir.as_str()));
        let real_dir = environment.working_dir.join(real_dir);
        let canonical_dir = real_dir.canonicalize().unwrap_or_else(|_| real_dir.clone());
        let state = path("state").or_else(|| path("root").map(|root| root.join("nix/var/nix")));
        let database = state
            .as_ref()
            .filter(|_| matches!(access, Access::Stdio(_)))
            .map(|state| environment.working_dir.join(state).join("db"));
        let state = state.unwrap_or_else(|| environment.state_dir());
        let state_dir = environment.working_dir.join(state);
        let log_dir = path("log")
            .or_else(|| path("root").map(|root| root.join("nix/var/log/nix")))
            .or_else(|| environment.log_dir.clone())
            .unwrap_or_else(|| PathBuf::from("/nix/var/log/nix"));
        let log_dir = environment.working_dir.join(log_dir);
        Ok(Self { store_dir, real_dir, canonical_dir, access, state_dir, log_dir, database })
    }

    /// That the store at `uri` is there: Nix makes one where there is none.
    pub(super) fn assert_exists(&self, uri: &str) -> Result<(), StoreError> {
        match &self.database {
            Some(database) if !database.exists() => {
                Err(StoreError::Nowhere { uri: uri.to_owned(), database: database.clone() })
            }
            _ => Ok(()),
        }
    }
}

impl StoreEnvironment {
    fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| PathBuf::from("/nix/var/nix"))
    }

    /// The socket of the daemon.
    fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.state_dir().join("daemon-socket/socket"))
    }

    /// The root of the store that Nix makes up for a user on a machine without `/nix`.
    fn unprivileged_root(&self) -> Option<PathBuf> {
        let applies = cfg!(target_os = "linux")
            && !self.is_root
            && self.store_dir.is_none()
            && self.state_dir.is_none()
            && !self.state_dir().exists()
            && !self.socket().exists();
        self.data_home.as_ref().filter(|_| applies).map(|home| home.join("nix/root"))
    }
}

/// The parameters of an address: `a=b&c=d`, percent-encoded.
fn parameters(query: &str) -> HashMap<String, OsString> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), OsString::from_vec(percent_decoded(value))))
        .collect()
}

/// `%41` is `A`; a `%` without two hex digits stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match (byte, digit(bytes.get(at)), digit(bytes.get(at + 1))) {
            (b'%', Some(high), Some(low)) => {
                decoded.extend(u8::try_from(high * 16 + low));
                at += 2;
            }
            _ => decoded.push(byte),
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn environment() -> StoreEnvironment {
        StoreEnvironment {
            working_dir: PathBuf::from("/work dir"),
            is_root: true,
            ..StoreEnvironment::default()
        }
    }

    fn find(uri: &str) -> Location {
        Location::from_parts(Some(uri), &environment()).unwrap()
    }

    #[test]
    fn a_store_at_another_root_has_its_files_there() {
        for uri in ["/x", "local?root=/x", "local://?root=/x", "local?root=%2fx", "auto?root=/x"] {
            let location = find(uri);
            assert_eq!(location.real_dir, Path::new("/x/nix/store"), "{uri}");
            assert_eq!(location.store_dir.as_str(), "/nix/store");
            assert_eq!(location.access, Access::Stdio(uri.to_owned()));
        }
        assert_eq!(find("./x").real_dir, Path::new("/work dir/./x/nix/store"));
        assert_eq!(find("/x").state_dir, Path::new("/x/nix/var/nix"));
        assert_eq!(find("local?root=/x&state=/s").state_dir, Path::new("/s"));
        assert_eq!(find("daemon").state_dir, Path::new("/nix/var/nix"));
        assert_eq!(find("local?real=/r&root=/x").real_dir, Path::new("/r"));
        let location = find("local?store=/gnu/store");
        assert_eq!(
            (location.store_dir.as_str(), location.real_dir.as_path()),
            ("/gnu/store", Path::new("/gnu/store"))
        );
    }

    #[test]
    fn daemons_are_found_at_their_sockets() {
        let default = Access::Socket("/nix/var/nix/daemon-socket/socket".into());
        assert_eq!(find("daemon").access, default);
        assert_eq!(find("unix://").access, default);
        assert_eq!(find("unix:///run/s").access, Access::Socket("/run/s".into()));
        let location = find("unix:///run/s?root=/x");
        assert_eq!(
            (location.access, location.real_dir),
            (Access::Socket("/run/s".into()), "/x/nix/store".into())
        );
    }

    #[test]
    fn the_environment_is_honoured() {
        let mut environment = environment();
        environment.remote = Some("daemon".to_owned());
        environment.state_dir = Some("/state".into());
        environment.store_dir = Some("/other/store".to_owned());
        let location = Location::from_parts(None, &environment).unwrap();
        assert_eq!(location.access, Access::Socket("/state/daemon-socket/socket".into()));
        assert_eq!(location.real_dir, Path::new("/other/store"));
        environment.socket = Some("/sock".into());
        let location = Location::from_parts(Some("auto"), &environment).unwrap();
        assert_eq!(location.access, Access::SocketOrStdio("/sock".into(), "auto".to_owned()));
    }

    #[test]
    fn stores_elsewhere_are_refused() {
        for uri in ["ssh-ng://host", "s3://bucket", "https://cache.nixos.org", "dummy"] {
            let error = Location::from_parts(Some(uri), &environment()).unwrap_err().to_string();
            assert!(error.contains(uri) && error.contains("on this machine"), "{error}");
        }
    }
}

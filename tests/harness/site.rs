//! What several replicas share: a PostgreSQL database, a bucket, and the server key.
//!
//! `SNOWBANK_TEST_SITE` says on what the tests run that do not say so themselves: unset, on one
//! server with `SQLite` and a local folder; `strict`, on three replicas with PostgreSQL and
//! [`S3Server`]; `rclone`, the same with [`Rclone`].

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    Random, Scratch,
    loopback::lock,
    postgres::Postgres,
    process,
    rclone::Rclone,
    s3::{ACCESS_KEY_ID, BUCKET, S3Server, SECRET_ACCESS_KEY},
    storage_faults::StorageFaults,
};

/// Where everything lies within the bucket.
const PREFIX: &str = "snow/bank";

/// On what tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One server, `SQLite`, a local folder.
    Local,
    /// Replicas, PostgreSQL, an S3 server that refuses all that some service refuses.
    Strict,
    /// Replicas, PostgreSQL, `rclone serve s3`.
    Rclone,
}

impl Kind {
    /// What `SNOWBANK_TEST_SITE` says.
    #[must_use]
    pub fn of_environment() -> Self {
        match std::env::var("SNOWBANK_TEST_SITE").as_deref() {
            Err(_) | Ok("" | "local") => Self::Local,
            Ok("strict") => Self::Strict,
            Ok("rclone") => Self::Rclone,
            Ok(other) => {
                panic!("SNOWBANK_TEST_SITE={other}: there are `local`, `strict` and `rclone`")
            }
        }
    }

    /// Whether it is replicas on a shared database and bucket.
    #[must_use]
    pub const fn is_site(self) -> bool {
        !matches!(self, Self::Local)
    }
}

#[derive(Debug)]
enum ObjectStorage {
    Strict(S3Server),
    Rclone(Rclone),
}

/// A database server, an object storage and a server key. All ends when it is dropped.
#[derive(Debug)]
pub struct Site {
    faults: Option<StorageFaults>,
    storage: ObjectStorage,
    postgres: Mutex<Postgres>,
    databases: Mutex<Vec<String>>,
    scratch: Scratch,
}

impl Site {
    /// The site that the environment asks for; `None` for a local server.
    #[must_use]
    pub fn of_environment() -> Option<Arc<Self>> {
        let kind = Kind::of_environment();
        kind.is_site().then(|| Self::of(kind))
    }

    /// A site for tests about replicas: of the environment's kind, and strict where it asks for no
    /// site.
    #[must_use]
    pub fn start() -> Arc<Self> {
        Self::of(Self::kind())
    }

    /// As [`Self::start`], with a proxy before the storage that can make it fail.
    #[must_use]
    pub fn with_faults(random: Random) -> Arc<Self> {
        let mut site = Self::new(Self::kind(), Postgres::start());
        site.faults = Some(StorageFaults::before(site.s3_address(), random));
        Arc::new(site)
    }

    /// As [`Self::start`], with a database server that may be killed.
    #[must_use]
    pub fn durable() -> Arc<Self> {
        Arc::new(Self::new(Self::kind(), Postgres::start_durable()))
    }

    /// A site of this kind.
    #[must_use]
    pub fn of(kind: Kind) -> Arc<Self> {
        Arc::new(Self::new(kind, Postgres::start()))
    }

    fn kind() -> Kind {
        let kind = Kind::of_environment();
        if kind.is_site() { kind } else { Kind::Strict }
    }

    fn new(kind: Kind, postgres: Postgres) -> Self {
        let storage = match kind {
            Kind::Rclone => ObjectStorage::Rclone(Rclone::start()),
            Kind::Strict | Kind::Local => ObjectStorage::Strict(S3Server::start()),
        };
        let scratch = Scratch::new("site");
        make_server_key(&scratch.join("server-key"));
        Self {
            faults: None,
            storage,
            postgres: Mutex::new(postgres),
            databases: Mutex::default(),
            scratch,
        }
    }

    /// Its database server.
    pub fn postgres(&self) -> MutexGuard<'_, Postgres> {
        lock(&self.postgres)
    }

    /// The address of one of its databases, password included.
    #[must_use]
    pub fn database_url(&self, name: &str) -> String {
        self.postgres().url(name)
    }

    /// Its S3 server, for tests that look into it.
    #[must_use]
    pub fn s3(&self) -> &S3Server {
        match &self.storage {
            ObjectStorage::Strict(server) => server,
            ObjectStorage::Rclone(_) => {
                panic!("rclone serves this site; the test is for SNOWBANK_TEST_SITE=strict")
            }
        }
    }

    /// Its `rclone serve s3`, for tests that kill it.
    #[must_use]
    pub fn rclone(&self) -> &Rclone {
        match &self.storage {
            ObjectStorage::Rclone(server) => server,
            ObjectStorage::Strict(_) => {
                panic!("no rclone serves this site; make it with `Site::of(Kind::Rclone)`")
            }
        }
    }

    /// The proxy before its storage.
    #[must_use]
    pub fn faults(&self) -> &StorageFaults {
        self.faults
            .as_ref()
            .unwrap_or_else(|| panic!("this site has no proxy; start it with `with_faults`"))
    }

    /// Where its object storage listens, whatever proxy is before it.
    #[must_use]
    pub fn s3_address(&self) -> SocketAddr {
        match &self.storage {
            ObjectStorage::Strict(server) => server.address(),
            ObjectStorage::Rclone(server) => server.address(),
        }
    }

    /// The file with the key that seals its secrets.
    #[must_use]
    pub fn server_key_file(&self) -> PathBuf {
        self.scratch.join("server-key")
    }

    /// The folder in which the objects of a server lie that has these keys in `[storage]`.
    pub(crate) fn objects(&self, storage: &[(String, String)]) -> PathBuf {
        let folder = match &self.storage {
            ObjectStorage::Strict(server) => server.folder().to_path_buf(),
            ObjectStorage::Rclone(server) => server.folder(),
        };
        let value = |key: &str, default: &str| {
            let given = storage.iter().find(|(name, _)| name == key);
            given
                .map_or_else(|| default.to_owned(), |(_, value)| value.trim_matches('"').to_owned())
        };
        folder.join(value("bucket", BUCKET)).join(value("prefix", PREFIX))
    }

    /// The config of a server on this site: `own` lines, and what it shares. The database is made
    /// when it is not there.
    pub(crate) fn config(&self, own: &str, database: &str, storage: &[(String, String)]) -> String {
        let mut known = lock(&self.databases);
        if !known.iter().any(|name| name == database) {
            let _ = self.postgres().create_database(database);
            known.push(database.to_owned());
        }
        let address =
            self.faults.as_ref().map_or_else(|| self.s3_address(), StorageFaults::address);
        let mut keys = vec![
            ("bucket".to_owned(), format!("\"{BUCKET}\"")),
            ("prefix".to_owned(), format!("\"{PREFIX}\"")),
            ("endpoint".to_owned(), format!("\"http://{address}\"")),
            ("access-key-id".to_owned(), format!("\"{ACCESS_KEY_ID}\"")),
            ("secret-access-key".to_owned(), format!("\"{SECRET_ACCESS_KEY}\"")),
        ];
        for (key, value) in storage {
            keys.retain(|(name, _)| name != key);
            keys.push((key.clone(), value.clone()));
        }
        let mut config =
            format!("server-key-file = \"{}\"\n{own}\n", self.server_key_file().display());
        // Writing to a String cannot fail.
        let _ = writeln!(
            config,
            "[database]\nurl = \"{}\"\n\n[storage]\ntype = \"s3\"",
            self.database_url(database)
        );
        for (key, value) in keys.iter().filter(|(_, value)| !value.is_empty()) {
            let _ = writeln!(config, "{key} = {value}");
        }
        config
    }
}

/// Makes a new server key.
pub fn make_server_key(file: &Path) {
    let mut key = [0; 32];
    getrandom::fill(&mut key).unwrap_or_else(|e| panic!("the system gives no random bytes: {e}"));
    process::write(file, STANDARD.encode(key) + "\n");
    let private = fs::set_permissions(file, fs::Permissions::from_mode(0o600));
    private.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

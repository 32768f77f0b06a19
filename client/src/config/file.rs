//! `client.toml`: its keys, and how the system's and the user's are merged.
//!
//! ```toml
//! default-server = "work"
//!
//! [servers.work]
//! url = "https://cache.example.org"
//! token-file = "/run/secrets/snowbank"   # default: tokens/work beside this file, if it is there
//! client-certificate-file = "me.pem"     # shown to a server that asks for one, with
//! client-key-file = "me.key"             # its key
//! exclude = ["-debug$"]                  # names that are not pushed there
//! only = ["^blog-"]                      # if given, no other names are pushed there
//! max-path-size = "2GiB"                 # larger NARs are not pushed there
//! ```
//!
//! Unknown keys and bad values are errors that name the file, the line and the key. The user's
//! entry for a server replaces the system's whole, so that a token of one file never goes to an
//! address of the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, fs, io};

use serde::Deserialize;
use snowbank_core::units::Size;

use super::ConfigError;
use super::client_certificate::ClientCertificate;
use super::path_filter::{NamePattern, PathFilter, PatternError};
use super::paths::{config_home, system_config};
use crate::cli::GlobalArgs;

/// A server's short name: `[A-Za-z0-9][A-Za-z0-9_.-]{0,63}`, so that it can name a file too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerName(String);

impl ServerName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerName {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        let valid = name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if valid {
            Ok(Self(name.to_owned()))
        } else {
            Err(ConfigError::BadServerName { name: name.to_owned() })
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A configured server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its address, without a slash at the end.
    pub url: String,
    /// The file with its token, if there is one.
    pub token_file: Option<PathBuf>,
    /// The certificate that is shown there.
    pub client_certificate: Option<ClientCertificate>,
    /// The paths that are not pushed there.
    pub filter: PathFilter,
}

/// The configuration, of one file or of several merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientConfig {
    /// The server meant when none is named.
    pub default_server: Option<ServerName>,
    /// The servers by name.
    pub servers: BTreeMap<ServerName, Server>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawConfig {
    default_server: Option<String>,
    #[serde(default)]
    servers: BTreeMap<String, RawServer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawServer {
    url: String,
    token_file: Option<PathBuf>,
    client_certificate_file: Option<PathBuf>,
    client_key_file: Option<PathBuf>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    only: Vec<String>,
    max_path_size: Option<Size>,
}

impl RawServer {
    /// The filter of the server `name`.
    fn filter(&self, name: &str) -> Result<PathFilter, PatternError> {
        let compile = |patterns: &[String], key: &str| -> Result<Vec<NamePattern>, PatternError> {
            let origin = format!("servers.{name}.{key}");
            patterns.iter().map(|pattern| NamePattern::new(pattern, &origin)).collect()
        };
        Ok(PathFilter {
            exclude: compile(&self.exclude, "exclude")?,
            only: compile(&self.only, "only")?,
            max_path_size: self.max_path_size,
        })
    }
}

impl ClientConfig {
    /// The file that `login` writes: `--config`, else the user's.
    ///
    /// # Errors
    /// [`ConfigError::NoHome`].
    pub fn user_file(global: &GlobalArgs) -> Result<PathBuf, ConfigError> {
        match &global.config {
            Some(path) => Ok(path.clone()),
            None => Ok(config_home()?.join("snowbank/client.toml")),
        }
    }

    /// Reads the system's file and, over it, the user's (or `--config`'s). Files that are not there
    /// count as empty, except one that was named.
    ///
    /// # Errors
    /// A file that cannot be read, or is not a configuration.
    pub fn load(global: &GlobalArgs) -> Result<Self, ConfigError> {
        let mut config = Self::read(&system_config())?.unwrap_or_default();
        match Self::user_file(global) {
            Ok(path) => match Self::read(&path)? {
                Some(user) => config.merge(user),
                None if global.config.is_some() => {
                    return Err(ConfigError::Read { path, source: io::ErrorKind::NotFound.into() });
                }
                None => {}
            },
            // A service without a home has the system's file and the environment.
            Err(ConfigError::NoHome) => {}
            Err(error) => return Err(error),
        }
        config.check_default()?;
        Ok(config)
    }

    /// Reads one file; `None` when it is not there.
    ///
    /// # Errors
    /// As [`ClientConfig::load`].
    pub fn read(path: &Path) -> Result<Option<Self>, ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text).map(Some),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// Parses the text of the file `path`, against whose folder relative files are taken.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let invalid = |message: String| ConfigError::Invalid { path: path.to_owned(), message };
        let raw: RawConfig = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut servers = BTreeMap::new();
        for (name, server) in raw.servers {
            let key: ServerName =
                name.parse().map_err(|error: ConfigError| invalid(error.to_string()))?;
            let url = normalized_url(&server.url)
                .map_err(|error| invalid(format!("servers.{name}.url: {error}")))?;
            let filter = server.filter(&name).map_err(|error| invalid(error.to_string()))?;
            let token_file = match server.token_file {
                Some(file) => Some(folder.join(file)),
                None => Some(folder.join("tokens").join(&name)).filter(|file| file.exists()),
            };
            let beside = |file: Option<PathBuf>| file.map(|file| folder.join(file));
            let client_certificate = ClientCertificate::of_pair(
                beside(server.client_certificate_file),
                beside(server.client_key_file),
            )
            .map_err(|_| {
                invalid(format!(
                    "servers.{name}: `client-certificate-file` and `client-key-file` go together; \
                     add the other one"
                ))
            })?;
            servers.insert(key, Server { url, token_file, client_certificate, filter });
        }
        let default_server = raw
            .default_server
            .map(|name| name.parse())
            .transpose()
            .map_err(|error: ConfigError| invalid(format!("default-server: {error}")))?;
        Ok(Self { default_server, servers })
    }

    /// Puts `above` over this one.
    pub fn merge(&mut self, above: Self) {
        self.servers.extend(above.servers);
        self.default_server = above.default_server.or(self.default_server.take());
    }

    /// The default server must be one of the servers, in either file.
    fn check_default(&self) -> Result<(), ConfigError> {
        match &self.default_server {
            Some(name) if !self.servers.contains_key(name) => Err(ConfigError::UnknownServer {
                name: name.to_string(),
                known: "it is the `default-server` of client.toml".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// An address as it is kept and compared: http or https, a host, no user, query or fragment, no
/// slash at the end.
///
/// # Errors
/// [`ConfigError::BadUrl`].
pub fn normalized_url(url: &str) -> Result<String, ConfigError> {
    let bad = |reason| ConfigError::BadUrl { url: url.to_owned(), reason };
    let parsed = reqwest::Url::parse(url.trim()).map_err(|_| bad("it cannot be parsed"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(bad("it begins with neither http:// nor https://"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        // Not echoed: what stands there may be a secret.
        let reason = "it has a user or password; the token is given to `snowbank login`";
        return Err(ConfigError::BadUrl { url: format!("{}://…", parsed.scheme()), reason });
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(bad("it has a query or a fragment"));
    }
    Ok(parsed.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ClientConfig, ConfigError> {
        ClientConfig::parse(Path::new("/c/client.toml"), text)
    }

    #[test]
    fn the_users_entries_replace_the_systems_whole() {
        let mut config = parse(
            "default-server = 'a'\n[servers.a]\nurl = 'https://a.example/'\ntoken-file = \
             '/t'\n[servers.s]\nurl = 'http://s'\n",
        )
        .unwrap();
        config.merge(parse("[servers.a]\nurl = 'https://other.example'\n").unwrap());
        let a = &config.servers[&"a".parse().unwrap()];
        assert_eq!((a.url.as_str(), &a.token_file), ("https://other.example", &None));
        assert_eq!(config.servers.len(), 2);
        assert_eq!(config.default_server.unwrap().as_str(), "a");
    }

    #[test]
    fn a_relative_token_file_lies_beside_the_configuration() {
        let config = parse("[servers.a]\nurl = 'http://a'\ntoken-file = 'x/t'\n").unwrap();
        assert_eq!(config.servers[&"a".parse().unwrap()].token_file, Some("/c/x/t".into()));
    }

    #[test]
    fn a_client_certificate_has_its_key_beside_it() {
        let text = "[servers.a]\nurl = 'https://a'\nclient-certificate-file = 'me.pem'\n";
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("servers.a") && error.contains("`client-key-file`"), "{error}");
        let config = parse(&format!("{text}client-key-file = '/k/me.key'\n")).unwrap();
        let expected = ClientCertificate {
            certificate_file: "/c/me.pem".into(),
            key_file: "/k/me.key".into(),
        };
        assert_eq!(config.servers[&"a".parse().unwrap()].client_certificate, Some(expected));
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let error =
            parse("[servers.a]\nurl = 'http://a'\ntoken_file = 'x'\n").unwrap_err().to_string();
        for want in ["/c/client.toml", "line 3", "token_file", "token-file"] {
            assert!(error.contains(want), "{want} in {error}");
        }
        let error = parse("[servers.a]\nurl = 'ftp://a'\n").unwrap_err().to_string();
        assert!(error.contains("servers.a.url") && error.contains("https://"), "{error}");
        assert!(parse("[servers.'../a']\nurl = 'http://a'\n").is_err());
        assert!(parse("servers = 3\n").is_err());
    }

    #[test]
    fn a_filter_belongs_to_its_server() {
        let text = "[servers.a]\nurl = 'http://a'\nexclude = ['x']\nmax-path-size = '2GiB'\n\
            [servers.b]\nurl = 'http://b'\n";
        let config = parse(text).unwrap();
        let a = &config.servers[&"a".parse().unwrap()].filter;
        let shown: Vec<String> = a.exclude.iter().map(ToString::to_string).collect();
        assert_eq!((shown, a.only.len()), (vec!["servers.a.exclude x".to_owned()], 0));
        assert_eq!(a.max_path_size.unwrap().bytes(), 2 << 30);
        assert_eq!(config.servers[&"b".parse().unwrap()].filter, PathFilter::NONE);
        let bad = parse("[servers.a]\nurl = 'http://a'\nonly = ['(']\n").unwrap_err().to_string();
        for want in ["/c/client.toml", "servers.a.only", "\"(\"", "unclosed group"] {
            assert!(bad.contains(want), "{want} in {bad}");
        }
    }

    #[test]
    fn a_default_that_is_no_server_is_an_error() {
        let config = parse("default-server = 'gone'\n").unwrap();
        assert!(config.check_default().unwrap_err().to_string().contains("gone"));
    }

    #[test]
    fn addresses_are_normalized() {
        assert_eq!(normalized_url(" http://127.0.0.1:8080/ ").unwrap(), "http://127.0.0.1:8080");
        assert_eq!(
            normalized_url("HTTPS://Cache.Example.org/nix//").unwrap(),
            "https://cache.example.org/nix"
        );
        for bad in ["cache.example.org", "http://", "https://h/?q", "https://h/#f", "", "file:///x"]
        {
            assert!(normalized_url(bad).is_err(), "{bad}");
        }
        let error = normalized_url("https://me:s3cret@h").unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}

//! Top-level keys: where data lives, under which address clients see the server, and which proxies
//! it believes.

use std::env;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use axum::http::Uri;
use ipnet::IpNet;
use serde::Deserialize;

use super::ConfigError;

/// An IP address and a port.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct TcpAddress(pub SocketAddr);

impl TryFrom<String> for TcpAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| {
            format!(
                "`{text}` is not an IP address and a port, such as \"127.0.0.1:8080\", \
                \"0.0.0.0:8080\" or \"[::]:8080\""
            )
        })
    }
}

/// `public-url`: the address under which clients reach the server, without a slash at its end.
///
/// It is shown and used in names; it is never stored, so that it can change at any time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicUrl {
    url: String,
    host: String,
}

impl PublicUrl {
    /// The address, such as `https://cache.example.org`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The host in it, such as `cache.example.org`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = text.trim().trim_end_matches('/');
        let problem = || {
            format!(
                "`{text}` is not an http or https address without query and user, such as \
                 \"https://cache.example.org\""
            )
        };
        let uri: Uri = url.parse().map_err(|_| problem())?;
        let http = matches!(uri.scheme_str(), Some("http" | "https"));
        match uri.host() {
            Some(host)
                if http && !host.is_empty() && uri.query().is_none() && !url.contains('@') =>
            {
                Ok(Self { host: host.to_owned(), url: url.to_owned() })
            }
            _ => Err(problem()),
        }
    }
}

impl TryFrom<String> for PublicUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// `trusted-proxies`: whose word is taken for where a request came from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    has_unix: bool,
}

impl TrustedProxies {
    /// Whether this is the address of one of them.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether whoever connects to the Unix socket is one of them.
    #[must_use]
    pub fn contain_unix(&self) -> bool {
        self.has_unix
    }
}

impl TryFrom<Vec<String>> for TrustedProxies {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, Self::Error> {
        let mut proxies = Self::default();
        for text in &texts {
            if text == "unix" {
                proxies.has_unix = true;
                continue;
            }
            let network =
                text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            proxies.networks.push(network.map_err(|_| {
                format!(
                    "`{text}` is no address or network, such as \"10.0.0.7\" or \"10.0.0.0/8\", \
                     and not \"unix\", which stands for the Unix socket"
                )
            })?);
        }
        Ok(proxies)
    }
}

/// The data folder when nothing is said: `$XDG_DATA_HOME/snowbank`, or `~/.local/share/snowbank`.
///
/// A relative `XDG_DATA_HOME` is ignored, as the XDG Base Directory Specification asks.
///
/// # Errors
/// When neither variable is of use.
pub fn default_data_dir() -> Result<PathBuf, ConfigError> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|data_home| data_home.join("snowbank"))
        .ok_or(ConfigError::NoDataDir)
}

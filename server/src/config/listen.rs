//! `listen` and `socket-mode`: where clients connect, by TCP or by a Unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

/// The longest path that the system takes for a socket.
const MAX_PATH_BYTES: usize = 107;

/// An address and a port, or the path of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ListenAddress {
    /// TCP; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A socket file, by its absolute path.
    Unix(PathBuf),
}

impl Default for ListenAddress {
    fn default() -> Self {
        Self::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)))
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "`{text}` is not an IP address and a port, such as \"127.0.0.1:8080\", \
                     \"0.0.0.0:8080\" or \"[::]:8080\", and no Unix socket, such as \
                     \"unix:/run/snowbank/http.sock\""
                )
            });
        };
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
            return Err(format!(
                "`{text}` does not name a socket by its absolute path, such as \
                 \"unix:/run/snowbank/http.sock\""
            ));
        }
        if path.len() > MAX_PATH_BYTES {
            return Err(format!(
                "the path in `{text}` has {} bytes, and the system takes {MAX_PATH_BYTES} for a \
                 socket; choose a shorter one",
                path.len()
            ));
        }
        Ok(Self::Unix(Path::new(path).to_owned()))
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The permissions of the socket file, as `chmod` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SocketMode(pub u32);

impl Default for SocketMode {
    fn default() -> Self {
        Self(0o660)
    }
}

impl TryFrom<String> for SocketMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if digits && mode <= 0o777 && mode & 0o600 == 0o600 => Ok(Self(mode)),
            _ => Err(format!(
                "`{text}` is not a mode in octal that lets the owner connect, such as \"0660\" or \
                 \"0666\""
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_tcp_or_an_absolute_path() {
        let parse = |text: &str| text.parse::<ListenAddress>();
        assert_eq!(parse("[::1]:80").unwrap().to_string(), "[::1]:80");
        assert_eq!(parse("unix:/run/a.sock").unwrap().to_string(), "unix:/run/a.sock");
        let long = format!("unix:/{}", "a".repeat(MAX_PATH_BYTES));
        assert!(parse(&long).unwrap_err().contains("108 bytes"));
        for wrong in ["", "localhost:80", "unix:", "unix:a.sock", "unix:/run/", "/run/a.sock"] {
            assert!(parse(wrong).unwrap_err().contains("unix:/run/snowbank"), "{wrong}");
        }
    }

    #[test]
    fn a_mode_is_octal_and_leaves_the_owner_in() {
        let parse = |text: &str| SocketMode::try_from(text.to_owned());
        assert_eq!(parse("0666").unwrap(), SocketMode(0o666));
        for wrong in ["", "660 ", "+660", "0888", "1666", "0060", "rw"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

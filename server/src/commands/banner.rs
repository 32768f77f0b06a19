//! The first lines that a server prints: where it is, and what to do next. No secret is among them:
//! the root token's file is, and `snowbank login` reads that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::shell_quoted;
use crate::admin::FirstStart;
use crate::config::{Config, ListenAddress, PublicUrl};
use crate::secrets::DataDir;

/// Under which addresses the server is reached.
#[derive(Debug)]
pub(super) struct SiteAddress {
    public: Option<PublicUrl>,
    scheme: &'static str,
    tcp: Option<SocketAddr>,
    /// As the configuration names them.
    listening: Vec<String>,
}

impl SiteAddress {
    pub(super) fn new(config: &Config, listening: &[ListenAddress]) -> Self {
        let tcp = listening.iter().find_map(|address| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        });
        Self {
            public: config.public_url.clone(),
            scheme: if config.tls.is_some() { "https" } else { "http" },
            tcp,
            listening: listening.iter().map(ToString::to_string).collect(),
        }
    }

    /// The server's address for programs on this machine: the public one, or the listening one as
    /// this machine reaches it. A Unix socket alone has none.
    pub(super) fn base_url(&self) -> Option<String> {
        if let Some(url) = &self.public {
            return Some(url.to_string());
        }
        let address = self.tcp?;
        let ip = match address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Some(format!("{}://{}", self.scheme, SocketAddr::new(ip, address.port())))
    }

    /// Whether the addresses may not be those that the certificate is for.
    fn needs_public_url(&self) -> bool {
        self.public.is_none() && self.scheme == "https"
    }

    /// Where the server listens, for a person.
    pub(super) fn shown(&self) -> String {
        self.base_url().unwrap_or_else(|| self.listening.join(", "))
    }

    /// The server's address in a nix.conf, and on which machines that holds.
    fn substituter(&self) -> Option<(String, String)> {
        let base = self.base_url()?;
        let Some(address) = self.tcp.filter(|_| self.public.is_none()) else {
            return Some((base, "Substitute on any machine, in nix.conf:".to_owned()));
        };
        Some(if address.ip().is_unspecified() {
            let host = host_name();
            let text = format!("Substitute on machines that know this one as {host}, in nix.conf:");
            (format!("{}://{host}:{}", self.scheme, address.port()), text)
        } else if address.ip().is_loopback() {
            (
                base,
                format!(
                    "Substitute on this machine, in nix.conf (for others: snowbankd --listen \
                     0.0.0.0:{}):",
                    address.port()
                ),
            )
        } else {
            (base, "Substitute on any machine that reaches this address, in nix.conf:".to_owned())
        })
    }
}

/// This machine's name, as its own system has it.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_name = |name: &&str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
    };
    Some(name.trim())
        .filter(|name| !name.is_empty())
        .filter(is_name)
        .unwrap_or("THIS-HOST")
        .to_owned()
}

/// A few lines that can be pasted.
pub(super) fn banner(site: &SiteAddress, data_dir: &DataDir, found: &FirstStart) -> String {
    let token_file = data_dir.root_token();
    let mut lines = vec![
        format!("Snowbank is listening on {}", site.shown()),
        format!("  data        {}", data_dir.path().display()),
    ];
    if token_file.exists() {
        lines.push(format!("  root token  {}", token_file.display()));
    }
    match (&found.main, site.base_url(), site.substituter()) {
        (Some((main, key)), Some(base), Some((url, machines))) => {
            lines.push("Push from this machine:".to_owned());
            if token_file.exists() {
                let file = shell_quoted(&token_file);
                lines.push(format!("  snowbank login local {base} < {file}"));
            }
            lines.push(format!("  snowbank push {main} ./result"));
            lines.push(machines);
            lines.push(format!("  extra-substituters = {url}/{main}"));
            lines.push(format!("  extra-trusted-public-keys = {key}"));
            if site.needs_public_url() {
                lines.push(
                    "The host in these addresses has to be one that the certificate is for. Set \
                     `public-url` to that address."
                        .to_owned(),
                );
            }
        }
        (Some(_), ..) => lines.push(
            "Clients reach it through a proxy in front of this socket. Set `public-url` to the \
             proxy's address."
                .to_owned(),
        ),
        (None, ..) => {}
    }
    lines.push(String::new());
    lines.join("\n")
}

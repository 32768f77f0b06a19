//! Where a request came from, and under which address it reached the server.
//!
//! A proxy's headers are believed only where the connection comes from a configured proxy; anybody
//! else could write anything into them. No address is ever stored but in the audit log.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, Uri, header};

use crate::app::App;
use crate::config::{Config, TrustedProxies};

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// Its address; whoever comes through a Unix socket has none.
    pub(super) address: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub(super) is_tls: bool,
}

impl Peer {
    /// Whether it is a proxy that is believed.
    pub(super) fn is_trusted(self, proxies: &TrustedProxies) -> bool {
        self.address.map_or_else(|| proxies.contain_unix(), |address| proxies.contain(address))
    }

    /// The address that its connections are counted for; `None` where it stands for many clients:
    /// a proxy does, and so does whatever is on this machine.
    pub(super) fn counted_address(self, proxies: &TrustedProxies) -> Option<IpAddr> {
        let address = self.address?.to_canonical();
        (!address.is_loopback() && !proxies.contain(address)).then_some(address)
    }
}

/// Who asks, for handlers; see [`remote_name`].
#[derive(Debug, Clone)]
pub(super) struct Remote(pub(super) String);

impl FromRequestParts<Arc<App>> for Remote {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self(remote_name(&app.config, &parts.extensions, &parts.headers)))
    }
}

/// The address of whoever asks as text: `unix` where a Unix socket is all that is known.
pub(super) fn remote_name(config: &Config, extensions: &Extensions, headers: &HeaderMap) -> String {
    let without = || if extensions.get::<Peer>().is_some() { "unix" } else { "unknown" };
    remote(config, extensions, headers)
        .map_or_else(|| without().to_owned(), |address| address.to_string())
}

/// The address of whoever asks: the connection's, or the last one in `X-Forwarded-For` that is no
/// proxy of ours.
pub(super) fn remote(
    config: &Config,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Option<IpAddr> {
    extensions.get::<Peer>().and_then(|peer| remote_of(config, *peer, headers))
}

/// The same for a connection from `peer`.
pub(super) fn remote_of(config: &Config, peer: Peer, headers: &HeaderMap) -> Option<IpAddr> {
    let mut client = peer.address.map(|address| address.to_canonical());
    if peer.is_trusted(&config.trusted_proxies) {
        let forwarded =
            headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
        for hop in hops.iter().rev() {
            let Ok(address) = hop.trim_matches(['[', ']']).parse::<IpAddr>() else { break };
            client = Some(address.to_canonical());
            if !config.trusted_proxies.contain(address) {
                break;
            }
        }
    }
    client
}

/// The server's address as the client knows it, without a slash at its end: the configured one,
/// else the one that this request was sent to.
pub(super) fn base_url(
    config: &Config,
    extensions: &Extensions,
    headers: &HeaderMap,
    uri: &Uri,
) -> Option<String> {
    if let Some(url) = &config.public_url {
        return Some(url.to_string());
    }
    let peer = extensions.get::<Peer>();
    let is_proxied = peer.is_some_and(|peer| peer.is_trusted(&config.trusted_proxies));
    let first = |name: HeaderName| {
        let value = headers.get(name)?.to_str().ok()?;
        value.split(',').next().map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let forwarded =
        |name: &'static str| is_proxied.then(|| first(HeaderName::from_static(name))).flatten();
    // HTTP/2 has the host in the address of the request.
    let authority = || uri.authority().map(ToString::to_string);
    let host = forwarded("x-forwarded-host").or_else(|| first(header::HOST)).or_else(authority)?;
    let is_https = forwarded("x-forwarded-proto")
        .map_or_else(|| peer.is_some_and(|peer| peer.is_tls), |scheme| scheme == "https");
    let scheme = if is_https { "https" } else { "http" };
    // What is no host and port is not shown to anybody.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    host.bytes().all(plain).then(|| format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn config(proxies: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, format!("data-dir = \"d\"\ntrusted-proxies = {proxies}\n")).unwrap();
        Config::load(&Overrides { config: Some(file), ..Overrides::default() }).unwrap()
    }

    fn request(peer: &str, headers: &[(&'static str, &str)]) -> (Extensions, HeaderMap) {
        let mut extensions = Extensions::new();
        extensions.insert(Peer { address: peer.parse().ok(), is_tls: false });
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        (extensions, headers.collect())
    }

    #[test]
    fn only_a_configured_proxy_is_believed() {
        let forged = [
            ("host", "127.0.0.1:8080"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-host", "cache.example.org"),
            ("x-forwarded-proto", "https"),
        ];
        let (extensions, headers) = request("9.9.9.9", &forged);
        let config_ = config("[\"10.0.0.0/8\", \"::1\"]");
        let remote =
            |config, extensions, headers| remote(config, extensions, headers).unwrap().to_string();
        assert_eq!(remote(&config_, &extensions, &headers), "9.9.9.9");
        assert_eq!(
            base_url(&config_, &extensions, &headers, &Uri::default()).unwrap(),
            "http://127.0.0.1:8080"
        );
        let (extensions, headers) = request("::ffff:10.1.1.1", &forged);
        assert_eq!(remote(&config_, &extensions, &headers), "1.2.3.4");
        assert_eq!(
            base_url(&config_, &extensions, &headers, &Uri::default()).unwrap(),
            "https://cache.example.org"
        );
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_proxy() {
        let config = config("[\"10.0.0.0/8\"]");
        let remote =
            |config, extensions, headers| remote(config, extensions, headers).unwrap().to_string();
        let (extensions, headers) =
            request("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.2")]);
        assert_eq!(remote(&config, &extensions, &headers), "1.2.3.4");
        let (extensions, headers) = request("10.0.0.1", &[("x-forwarded-for", "nonsense")]);
        assert_eq!(remote(&config, &extensions, &headers), "10.0.0.1");
    }

    #[test]
    fn a_peer_of_the_unix_socket_is_believed_where_that_is_a_trusted_proxy() {
        let forged = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")];
        let (extensions, headers) = request("no address", &forged);
        let peer = *extensions.get::<Peer>().unwrap();
        for (proxies, expected) in [("[\"10.0.0.0/8\"]", "unix"), ("[\"unix\"]", "1.2.3.4")] {
            let config = config(proxies);
            assert_eq!(remote_name(&config, &extensions, &headers), expected, "{proxies}");
            assert_eq!(peer.counted_address(&config.trusted_proxies), None);
        }
        assert_eq!(remote_name(&config("[\"unix\"]"), &extensions, &HeaderMap::new()), "unix");
    }

    #[test]
    fn an_encrypted_connection_is_known_by_https() {
        let (mut extensions, headers) = request("9.9.9.9", &[("host", "cache.example.org")]);
        extensions.insert(Peer { address: None, is_tls: true });
        let url = base_url(&config("[]"), &extensions, &headers, &Uri::default());
        assert_eq!(url.as_deref(), Some("https://cache.example.org"));
    }

    #[test]
    fn over_http_2_the_host_is_in_the_address_of_the_request() {
        let (mut extensions, headers) = request("9.9.9.9", &[]);
        extensions.insert(Peer { address: None, is_tls: true });
        let uri = Uri::from_static("https://cache.example.org:8443/api/v1/caches/main");
        let url = base_url(&config("[]"), &extensions, &headers, &uri);
        assert_eq!(url.as_deref(), Some("https://cache.example.org:8443"));
    }

    #[test]
    fn a_host_that_is_none_is_not_shown() {
        let (extensions, headers) = request("1.1.1.1", &[("host", "x\"><script>")]);
        assert_eq!(base_url(&config("[]"), &extensions, &headers, &Uri::default()), None);
    }
}

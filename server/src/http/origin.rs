//! Where a request came from, and under which address it reached the server.
//!
//! A proxy's headers are believed only where the connection comes from a configured proxy; anybody
//! else could write anything into them. No address is ever stored but in the audit log.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, header};

use crate::app::App;
use crate::config::Config;

/// The address at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// The address of whoever asks, for handlers; see [`remote`].
#[derive(Debug, Clone)]
pub(super) struct Remote(pub(super) String);

impl FromRequestParts<Arc<App>> for Remote {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let address = remote(&app.config, &parts.extensions, &parts.headers);
        Ok(Self(address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())))
    }
}

/// The address of whoever asks: the connection's, or the last one in `X-Forwarded-For` that is no
/// proxy of ours.
pub(super) fn remote(
    config: &Config,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Option<IpAddr> {
    extensions.get::<Peer>().map(|peer| remote_of(config, *peer, headers))
}

/// The same for a connection from `peer`.
pub(super) fn remote_of(config: &Config, Peer(peer): Peer, headers: &HeaderMap) -> IpAddr {
    let mut client = peer.to_canonical();
    if config.trusted_proxies.contain(client) {
        let forwarded =
            headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
        for hop in hops.iter().rev() {
            let Ok(address) = hop.trim_matches(['[', ']']).parse::<IpAddr>() else { break };
            client = address.to_canonical();
            if !config.trusted_proxies.contain(client) {
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
) -> Option<String> {
    if let Some(url) = &config.public_url {
        return Some(url.to_string());
    }
    let is_proxied =
        extensions.get::<Peer>().is_some_and(|Peer(peer)| config.trusted_proxies.contain(*peer));
    let first = |name: HeaderName| {
        let value = headers.get(name)?.to_str().ok()?;
        value.split(',').next().map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let forwarded =
        |name: &'static str| is_proxied.then(|| first(HeaderName::from_static(name))).flatten();
    let host = forwarded("x-forwarded-host").or_else(|| first(header::HOST))?;
    let scheme = forwarded("x-forwarded-proto")
        .filter(|scheme| scheme == "https")
        .map_or("http", |_| "https");
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
        extensions.insert(Peer(peer.parse().unwrap()));
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
        assert_eq!(base_url(&config_, &extensions, &headers).unwrap(), "http://127.0.0.1:8080");
        let (extensions, headers) = request("::ffff:10.1.1.1", &forged);
        assert_eq!(remote(&config_, &extensions, &headers), "1.2.3.4");
        assert_eq!(base_url(&config_, &extensions, &headers).unwrap(), "https://cache.example.org");
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
    fn a_host_that_is_none_is_not_shown() {
        let (extensions, headers) = request("1.1.1.1", &[("host", "x\"><script>")]);
        assert_eq!(base_url(&config("[]"), &extensions, &headers), None);
    }
}

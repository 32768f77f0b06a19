//! Whether a proxy stands between, by the variables that this program and Nix go by.
//!
//! Nix fetches with curl, which reads `http_proxy` in lower case only.

use std::env;

use reqwest::Url;

use super::report::Finding;
use crate::api::is_exception;

const PROXY: &str = "proxy";

/// The proxy that the environment names for an address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proxy {
    variable: String,
    /// Without user and password.
    address: String,
}

/// The finding about proxies for `url`, and the proxy in effect.
pub(super) fn check(url: &Url) -> (Finding, Option<Proxy>) {
    find_proxy(url, &|name| env::var(name).ok().filter(|value| !value.is_empty()))
}

fn find_proxy(url: &Url, variable: &dyn Fn(&str) -> Option<String>) -> (Finding, Option<Proxy>) {
    let scheme = url.scheme();
    let names = [format!("{scheme}_proxy"), "all_proxy".to_owned()];
    let mut spellings = names.iter().flat_map(|name| [name.clone(), name.to_uppercase()]);
    let set = spellings.find_map(|name| variable(&name).map(|value| (name, value)));
    let Some((name, value)) = set else {
        return (Finding::ok(PROXY, "none"), None);
    };
    let proxy = Proxy { variable: name, address: without_secrets(&value) };
    let exceptions = variable("no_proxy").or_else(|| variable("NO_PROXY")).unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    if is_exception(host, &exceptions) {
        let text =
            format!("{} is set, but NO_PROXY ({exceptions}) leaves {host} out", proxy.variable);
        return (Finding::ok(PROXY, text), None);
    }
    let text = format!("requests go through {} ({})", proxy.address, proxy.variable);
    if proxy.variable == "HTTP_PROXY" {
        let finding =
            Finding::warn(PROXY, format!("{text}, but Nix reads http_proxy in lower case only"))
                .advice("set http_proxy as well");
        return (finding, Some(proxy));
    }
    (Finding::ok(PROXY, text), Some(proxy))
}

/// The address as it may be shown.
fn without_secrets(value: &str) -> String {
    let Some((before, address)) = value.rsplit_once('@') else { return value.to_owned() };
    let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
    if scheme.is_empty() { address.to_owned() } else { format!("{scheme}://{address}") }
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    fn found(url: &str, variables: &[(&str, &str)]) -> (Finding, Option<Proxy>) {
        let get = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        find_proxy(&url.parse().unwrap(), &get)
    }

    #[test]
    fn the_proxy_in_effect_is_shown_without_its_password() {
        let (finding, proxy) =
            found("https://h.example/", &[("HTTPS_PROXY", "http://me:s3cret@proxy:3128")]);
        assert_eq!(proxy.unwrap().address, "http://proxy:3128");
        assert!(
            finding.message.contains("HTTPS_PROXY") && !finding.message.contains("s3cret"),
            "{finding:?}"
        );
        assert!(found("http://h.example/", &[("https_proxy", "http://proxy")]).1.is_none());
        assert_eq!(
            found("http://h.example/", &[("HTTP_PROXY", "http://proxy")]).0.status,
            Status::Warn
        );
    }

    #[test]
    fn hosts_that_need_no_proxy_are_left_out() {
        for exceptions in ["h.example", ".example", "a, example", "*"] {
            let set = [("all_proxy", "socks5://p"), ("NO_PROXY", exceptions)];
            assert!(found("https://h.example/", &set).1.is_none(), "{exceptions}");
        }
        assert!(
            found("https://h.example/", &[("all_proxy", "socks5://p"), ("NO_PROXY", "ample")])
                .1
                .is_some()
        );
        assert!(
            found("https://10.0.0.1/", &[("all_proxy", "socks5://p"), ("NO_PROXY", "*")])
                .1
                .is_none()
        );
    }
}

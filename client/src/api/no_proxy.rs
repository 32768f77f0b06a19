//! Hosts that are reached without a proxy, by the rules of curl, which Nix fetches with.
//!
//! `no_proxy`, else `NO_PROXY`, is a list of names and addresses: `*` stands for every host, a name
//! for itself and for all names below it, an address or a network (`10.0.0.0/8`) for addresses.

use std::env;
use std::net::IpAddr;

/// Whether the environment leaves `host` out of what goes through a proxy.
pub(super) fn is_direct(host: &str) -> bool {
    let exceptions = env::var("no_proxy")
        .ok()
        .filter(|list| !list.is_empty())
        .or_else(|| env::var("NO_PROXY").ok());
    exceptions.is_some_and(|exceptions| is_exception(host, &exceptions))
}

/// Whether `host` is one of the names and addresses in the list, or lies below or within one of
/// them.
pub(crate) fn is_exception(host: &str, exceptions: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let mut exceptions = exceptions.split([',', ' ', '\t']).filter(|one| !one.is_empty());
    match host.parse::<IpAddr>() {
        Ok(address) => exceptions.any(|one| one == "*" || is_in_network(address, one)),
        Err(_) => exceptions.any(|one| one == "*" || is_name_below(host, one)),
    }
}

fn is_name_below(host: &str, exception: &str) -> bool {
    let name = exception.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
    let Some(start) =
        host.len().checked_sub(name.len()).filter(|start| host.is_char_boundary(*start))
    else {
        return false;
    };
    let (above, end) = host.split_at(start);
    !name.is_empty() && end.eq_ignore_ascii_case(name) && (above.is_empty() || above.ends_with('.'))
}

fn is_in_network(address: IpAddr, exception: &str) -> bool {
    let (network, bits) = exception
        .split_once('/')
        .map_or((exception, None), |(network, bits)| (network, Some(bits)));
    let Ok(network) = network.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>()
    else {
        return false;
    };
    let Some(bits) = bits else { return network == address };
    let (own, theirs, most) = match (address, network) {
        (IpAddr::V4(own), IpAddr::V4(theirs)) => {
            (u128::from(own.to_bits()), u128::from(theirs.to_bits()), 32)
        }
        (IpAddr::V6(own), IpAddr::V6(theirs)) => (own.to_bits(), theirs.to_bits(), 128),
        _ => return false,
    };
    match bits.parse::<u32>() {
        Ok(bits) if bits <= most => (own ^ theirs).checked_shr(most - bits).unwrap_or(0) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_networks_are_told_apart() {
        for (host, exceptions) in [
            ("h.example", "*"),
            ("10.1.2.3", "*"),
            ("[::1]", "*"),
            ("h.example", "a, h.example"),
            ("H.example", "EXAMPLE"),
            ("h.example.", ".example"),
            ("h.example", "*.example"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3", "10.0.0.0/8"),
            ("10.1.2.3", "0.0.0.0/0"),
            ("[fe80::1]", "fe80::/16"),
            ("[::1]", "[::1]"),
        ] {
            assert!(is_exception(host, exceptions), "{host} by {exceptions}");
        }
        for (host, exceptions) in [
            ("h.example", ""),
            ("h.example", "ample"),
            ("h.example", "x.h.example"),
            ("10.1.2.3", "10.1.2.4"),
            ("10.1.2.3", "2.3"),
            ("10.1.2.3", "10.1.3.0/24"),
            ("10.1.2.3", "10.0.0.0/99"),
            ("10.1.2.3", "::/0"),
        ] {
            assert!(!is_exception(host, exceptions), "{host} by {exceptions}");
        }
    }
}

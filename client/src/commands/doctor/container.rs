//! A loopback address inside a container is the container itself, not the machine that it runs on.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one address is tried.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);
/// Names that container engines give the machine they run on.
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "host.containers.internal"];

/// What to try instead of `url`; `None` where it is no loopback address, or this is no container.
pub(super) async fn advice(url: &Url) -> Option<String> {
    if !is_loopback(url) || !is_container(Path::new("/")) {
        return None;
    }
    let port = url.port_or_known_default().unwrap_or(80);
    let gateway = fs::read_to_string("/proc/net/route").ok().and_then(|table| gateway(&table));
    let mut lines =
        vec![format!("this is a container, where {} is the container itself; try:", host(url))];
    for name in
        HOST_NAMES.map(str::to_owned).into_iter().chain(gateway.map(|address| address.to_string()))
    {
        let answers = matches!(
            timeout(COMMAND_TIMEOUT, TcpStream::connect((name.as_str(), port))).await,
            Ok(Ok(_))
        );
        let word = if answers { "something listens there" } else { "does not answer" };
        lines.push(format!("  {}://{name}:{port} ({word})", url.scheme()));
    }
    lines.push(
        "the server must listen on more than loopback for that: snowbankd --listen 0.0.0.0:PORT"
            .to_owned(),
    );
    Some(lines.join("\n"))
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

fn is_loopback(url: &Url) -> bool {
    let host = host(url).trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Whether the system whose root is `root` runs in a container.
fn is_container(root: &Path) -> bool {
    let marked =
        ["/.dockerenv", "/run/.containerenv"].iter().any(|file| root.join(&file[1..]).exists());
    let groups = fs::read_to_string(root.join("proc/1/cgroup")).unwrap_or_default();
    marked
        || ["docker", "containerd", "kubepods", "libpod", "lxc"]
            .iter()
            .any(|engine| groups.contains(engine))
}

/// The default route's gateway, from the text of `/proc/net/route`: addresses in hex, the first
/// byte last.
fn gateway(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "00000000", gateway, ..] = fields[..] else { return None };
        let address = Ipv4Addr::from(u32::from_str_radix(gateway, 16).ok()?.swap_bytes());
        (!address.is_unspecified()).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_known_by_what_their_engines_leave() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_container(root.path()));
        fs::create_dir_all(root.path().join("proc/1")).unwrap();
        fs::write(root.path().join("proc/1/cgroup"), "0::/\n").unwrap();
        assert!(!is_container(root.path()));
        fs::write(root.path().join("proc/1/cgroup"), "0::/kubepods/pod1\n").unwrap();
        assert!(is_container(root.path()));
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(".dockerenv"), "").unwrap();
        assert!(is_container(root.path()));
    }

    #[test]
    fn the_gateway_is_the_default_routes() {
        let table = "Iface\tDestination\tGateway \tFlags\n\
                     eth0\t0011AC0A\t00000000\t0001\n\
                     eth0\t00000000\t010011AC\t0003\n";
        assert_eq!(gateway(table), Some(Ipv4Addr::new(172, 17, 0, 1)));
        assert_eq!(gateway("Iface\tDestination\tGateway\n"), None);
    }

    #[test]
    fn loopback_is_known_by_name_and_number() {
        for (url, loopback) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.3.2.1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("https://cache.example.org", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), loopback, "{url}");
        }
    }
}

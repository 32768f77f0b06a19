//! The way to the server: its name, a connection, and whether both sides' clocks agree.

use std::time::{Duration, SystemTime};

use reqwest::Url;
use snowbank_cli::date;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::container;
use super::proxy::Proxy;
use super::report::Finding;
use crate::api::{Api, Probe};
use crate::exit::Exit;

/// Above this, tokens and certificates are judged wrongly.
const MAX_SKEW: Duration = Duration::from_mins(1);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the server's name has an address.
pub(super) async fn name(url: &Url, proxy: Option<&Proxy>) -> Finding {
    const NAME: &str = "name";
    let host = url.host_str().unwrap_or_default();
    if proxy.is_some() {
        return Finding::skipped(NAME, "the proxy looks it up");
    }
    if host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok() {
        return Finding::ok(NAME, format!("{host} is an address"));
    }
    match timeout(LOOKUP_TIMEOUT, lookup_host((host, url.port_or_known_default().unwrap_or(443))))
        .await
    {
        Ok(Ok(addresses)) => {
            let addresses: Vec<String> =
                addresses.map(|address| address.ip().to_string()).collect();
            Finding::ok(NAME, format!("{host} is {}", addresses.join(", ")))
        }
        Ok(Err(error)) => {
            Finding::problem(NAME, Exit::Unreachable, format!("{host} has no address ({error})"))
                .advice("is the name right, and does this machine's DNS know it?")
        }
        Err(_) => Finding::problem(
            NAME,
            Exit::Unreachable,
            format!("the look-up of {host} takes too long"),
        )
        .advice("is the network up, and do the name servers in /etc/resolv.conf answer?"),
    }
}

/// Whether the server answers; its answer.
pub(super) async fn connection(api: &Api, url: &Url) -> (Finding, Option<Probe>) {
    const CONNECTION: &str = "connection";
    let server = api.server_url();
    match api.probe().await {
        Err(error) => {
            let finding = Finding::problem(CONNECTION, error.exit(), error.to_string());
            match container::advice(url).await {
                Some(advice) => (finding.advice(advice), None),
                None => (finding, None),
            }
        }
        Ok(probe) => {
            let finding = match probe.status {
                200 => Finding::ok(CONNECTION, format!("{server} answers")),
                500.. => Finding::problem(
                    CONNECTION,
                    Exit::Server,
                    format!(
                        "{server} answers with status {}: the server, or a proxy before it, has \
                         trouble",
                        probe.status
                    ),
                )
                .advice("ask the operator; /readyz says whether its database and storage answer"),
                status => Finding::warn(
                    CONNECTION,
                    format!("{server} answers, but with status {status} at /healthz"),
                )
                .advice("is it the address of a Snowbank server, without a cache?"),
            };
            (finding, Some(probe))
        }
    }
}

/// Whether the server's clock and this machine's agree.
pub(super) fn clock(probe: &Probe, now: SystemTime) -> Finding {
    const CLOCK: &str = "clock";
    let Some(theirs) = probe.date else {
        return Finding::skipped(CLOCK, "the server does not tell its time");
    };
    let (theirs, ours) = (date::seconds(theirs), date::seconds(now));
    let skew = ours.abs_diff(theirs);
    if skew <= MAX_SKEW.as_secs() {
        return Finding::ok(CLOCK, format!("within {skew} s of the server's"));
    }
    let relation = if ours > theirs { "ahead of" } else { "behind" };
    let text =
        format!("this machine's is {skew} s {relation} the server's ({} there)", date::utc(theirs));
    Finding::problem(CLOCK, Exit::Config, text).advice(
        "set the clock that is wrong (timedatectl shows this machine's): tokens and certificates \
         are judged by it",
    )
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::report::Status;
    use super::*;

    #[test]
    fn clocks_may_differ_by_a_minute() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
        let probe = Probe { status: 200, date: Some(at(0)) };
        assert_eq!(clock(&probe, at(60)).status, Status::Ok);
        let ahead = clock(&probe, at(61));
        assert!(
            ahead.status == Status::Problem && ahead.message.contains("61 s ahead of"),
            "{ahead:?}"
        );
        let probe = Probe { status: 200, date: Some(at(500)) };
        assert!(clock(&probe, at(0)).message.contains("500 s behind"));
        assert_eq!(clock(&Probe { status: 200, date: None }, at(0)).status, Status::Skipped);
    }
}

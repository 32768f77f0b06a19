//! `snowbank doctor`: why pushing or fetching does not work, told check by check from the nearest
//! to the farthest.
//!
//! Each check says ok, warn, problem or skipped (and why), and what to do. A check that another
//! one's problem makes meaningless is skipped. Nothing is written, here or on the server.

mod configuration;
mod container;
mod network;
mod nix;
mod nix_conf;
mod proxy;
mod report;
mod root;
mod sample;
mod server;

use std::time::{Duration, SystemTime};

use reqwest::Url;
use snowbank_core::cache_name::CacheName;

use crate::api::{Api, Timeouts};
use crate::cli::{DoctorArgs, GlobalArgs};
use crate::config::{Target, TargetServer, resolve_server, split_cache_reference};
use crate::exit::{Exit, Failure};
use crate::nix::NixFiles;

use report::{Finding, Report, Style};

/// Shorter than for a push: a person waits.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(5), stall: Duration::from_secs(15) };
/// The checks that need a cache.
const OF_A_CACHE: [&str; 5] = ["cache", "nix.conf", "root and user", "path", "fetch"];

/// What is looked at.
struct Subject {
    target: Target,
    /// The server's address.
    url: Url,
    /// The cache's address, as nix.conf has it.
    substituter: String,
    /// The cache as an argument: `SERVER:CACHE` or `CACHE`.
    reference: String,
    nix: NixFiles,
}

/// Runs `snowbank doctor`.
///
/// # Errors
/// An argument of another form; standard output cannot be written. What the checks find is in the
/// code to exit with.
pub async fn run(global: &GlobalArgs, args: DoctorArgs) -> Result<Exit, Failure> {
    let style = match (args.json, global.quiet) {
        (true, _) => Style::Json,
        (false, true) => Style::Quiet,
        (false, false) => Style::Lines,
    };
    let mut report = Report::new(style);
    examine(global, &args, &mut report).await?;
    Ok(report.finish()?)
}

async fn examine(
    global: &GlobalArgs,
    args: &DoctorArgs,
    report: &mut Report,
) -> Result<(), Failure> {
    let (server_name, cache) = reference(args.cache.as_deref())?;
    report.add(configuration::files(global))?;
    let server = match resolve_server(global, server_name.as_deref()) {
        Ok(server) => server,
        Err(error) => return Ok(report.add([configuration::no_server(error)])?),
    };
    let name = server.name.as_ref().map_or("SNOWBANK_URL", |name| name.as_str());
    report.add([
        Finding::ok("server", format!("{name} is {}", server.url)),
        configuration::token(&server),
    ])?;

    let nix = NixFiles::of_environment();
    let cache = cache.or_else(|| first_in_use(&nix, &server));
    let target = cache.clone().map_or_else(|| server.without_cache(), |cache| server.cache(cache));
    let (api, url) = match (Api::with_timeouts(&target, TIMEOUTS), server.url.parse::<Url>()) {
        (Ok(api), Ok(url)) => (api, url),
        (Err(error), _) => return Ok(report.add([Finding::of_failure("connection", error)])?),
        (_, Err(error)) => {
            return Ok(report.add([Finding::problem(
                "connection",
                Exit::Config,
                error.to_string(),
            )])?);
        }
    };
    if !reach(&api, &url, &server, report).await? {
        return Ok(());
    }
    let Some(cache) = cache else {
        let why =
            "no cache was named, and nix.conf names none of this server; snowbank doctor CACHE";
        return Ok(report.add(OF_A_CACHE.map(|check| Finding::skipped(check, why)))?);
    };
    let subject = Subject {
        substituter: format!("{}/{cache}", server.url),
        reference: server
            .name
            .as_ref()
            .map_or_else(|| cache.to_string(), |server| format!("{server}:{cache}")),
        target,
        url,
        nix,
    };
    fetch(&subject, &api, args.path.as_deref(), report).await
}

/// `[SERVER:]CACHE`, in parts.
fn reference(given: Option<&str>) -> Result<(Option<String>, Option<CacheName>), Failure> {
    let Some(given) = given else { return Ok((None, None)) };
    let (server, cache) = split_cache_reference(given)?;
    Ok((server.map(str::to_owned), Some(cache)))
}

/// The first cache of `server` that nix.conf names.
fn first_in_use(nix: &NixFiles, server: &TargetServer) -> Option<CacheName> {
    let substituters = nix.settings().ok()?.substituters();
    let mut caches =
        substituters.iter().filter_map(|url| url.split('?').next()?.strip_prefix(&server.url));
    caches.find_map(|cache| cache.trim_matches('/').parse().ok())
}

/// The way to the server and what it makes of the token; whether there is any point in going on.
async fn reach(
    api: &Api,
    url: &Url,
    server: &TargetServer,
    report: &mut Report,
) -> Result<bool, Failure> {
    let (finding, proxy) = proxy::check(url);
    report.add([finding])?;
    report.add([network::name(url, proxy.as_ref()).await])?;
    let (finding, probe) = network::connection(api, url).await;
    report.add([finding])?;
    let Some(probe) = probe else {
        let skipped = ["clock", "version", "token's rights"].into_iter().chain(OF_A_CACHE);
        report.add(
            skipped.map(|check| Finding::skipped(check, "there is no connection to the server")),
        )?;
        return Ok(false);
    };
    report.add([network::clock(&probe, SystemTime::now())])?;
    if server.token.is_some() {
        report.add(server::whoami(api).await)?;
    }
    Ok(true)
}

/// The cache, and whether Nix here can fetch from it.
async fn fetch(
    subject: &Subject,
    api: &Api,
    path: Option<&str>,
    report: &mut Report,
) -> Result<(), Failure> {
    let has_token = subject.target.token.is_some();
    let (finding, info) = server::cache(api, has_token).await;
    report.add([finding])?;
    let Some(info) = info else {
        let skipped = OF_A_CACHE.into_iter().skip(1);
        return Ok(report
            .add(skipped.map(|check| Finding::skipped(check, "the cache cannot be asked")))?);
    };
    if !has_token {
        report.add([server::version(&info.server_version)])?;
    }
    report.add(nix_conf::check(subject, &info).await)?;
    report.add([root::check(subject)])?;

    let (finding, store) = sample::store().await;
    report.add([finding])?;
    let Some(store) = store else {
        let why = "the Nix store cannot be asked";
        return Ok(report.add(["path", "fetch"].map(|check| Finding::skipped(check, why)))?);
    };
    match sample::find(&store, api, &info, path).await {
        Ok(sample) => {
            report.add([sample::signature(subject, &info, &sample, &store)])?;
            report.add(nix::check(subject, &info, &sample.full).await)?;
        }
        Err(finding) => {
            let skipped = ["signature", "fetch", "misses"]
                .map(|check| Finding::skipped(check, "there is no path to try it on"));
            report.add([finding].into_iter().chain(skipped))?;
        }
    }
    Ok(())
}

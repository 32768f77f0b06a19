//! The figures, in the order in which they are measured.

mod again;
mod closure;
mod download;
mod full;
mod hook;
mod idle;
mod latency;
mod link;
mod memory;
mod narinfo;
mod postgres;
mod push;
mod rebuild;
mod stored;

use anyhow::Result;

use super::Suite;

/// One figure, or a few that are measured together.
#[derive(Debug)]
pub(crate) struct Figure {
    /// What `--only` calls it.
    pub(crate) id: &'static str,
    /// What it is, in a few words.
    pub(crate) about: &'static str,
    /// Programs that it needs.
    pub(crate) tools: &'static [&'static str],
    /// Measures it.
    pub(crate) run: fn(&Suite) -> Result<()>,
}

const NIX: &[&str] = &["nix", "nix-store"];
const NIX_AND_NGINX: &[&str] = &["nix", "nix-store", "nginx"];

const fn figure(
    id: &'static str,
    about: &'static str,
    tools: &'static [&'static str],
    run: fn(&Suite) -> Result<()>,
) -> Figure {
    Figure { id, about, tools, run }
}

/// All of them.
pub(crate) const ALL: &[Figure] = &[
    figure("push-trees", "push (a), empty cache", NIX, push::trees),
    figure("push-tiny", "push (c), tiny paths, empty cache", NIX, push::tiny),
    figure("push-full", "push (c) into a cache that holds a great deal", NIX, full::push),
    figure("push-again", "push again, nothing new", NIX_AND_NGINX, again::run),
    figure("push-rebuild", "push of a rebuild of (b)", NIX_AND_NGINX, rebuild::run),
    figure("push-link", "push over a slow link", NIX, link::run),
    figure("stored", "bytes stored", NIX, stored::run),
    figure("nar-download", "NAR download, warm", NIX_AND_NGINX, download::trees),
    figure("nar-tiny", "tiny NARs, 16 connections", NIX_AND_NGINX, download::tiny),
    figure("narinfo", "narinfo, hit and miss, 64 connections", NIX_AND_NGINX, narinfo::run),
    figure(
        "closure",
        "closures into an empty store by nix copy --from",
        NIX_AND_NGINX,
        closure::run,
    ),
    figure("narinfo-full", "narinfo with a great many paths stored", NIX, full::narinfo),
    figure("latency", "storage latency 30 ms, cold", NIX_AND_NGINX, latency::run),
    figure("memory", "peak memory", NIX, memory::run),
    figure("idle", "idle memory, start-up, binary", NIX, idle::run),
    figure("hook", "a post-build hook, the server away", NIX, hook::run),
    figure("postgres", "PostgreSQL instead of SQLite", NIX, postgres::run),
];

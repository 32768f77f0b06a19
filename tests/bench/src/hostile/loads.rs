//! The loads, at their real size.

use std::sync::Arc;

use snowbank_harness::hostile::{Attack, Ground, Reading, Silence, get};

/// As many connections as a server takes by default.
const PLACES: usize = 1024;
/// Connections of clients that do not read; some places are left.
const MANY: usize = 900;
/// Connections and streams of HTTP/2.
const CONNECTIONS: usize = 10;
const STREAMS: usize = 200;
/// All paths that there are, a page at a time.
const LISTING: &str = "/api/v1/caches/main/paths?pattern=*";

/// One load.
#[derive(Debug)]
pub(super) struct Load {
    /// What `--only` calls it.
    pub(super) id: &'static str,
    /// What it is, in a few words.
    pub(super) about: &'static str,
    /// Sends in the attackers.
    pub(super) begin: fn(&Attack, &Ground),
}

const fn load(id: &'static str, about: &'static str, begin: fn(&Attack, &Ground)) -> Load {
    Load { id, about, begin }
}

/// All of them.
pub(super) const ALL: &[Load] = &[
    load("silent", "1,024 sockets that send nothing", |attack, _| {
        attack.silent(PLACES, Silence::Nothing);
    }),
    load("silent-head", "1,024 sockets with a head that drips, a byte a second", |attack, _| {
        attack.silent(PLACES, Silence::DrippedHead);
    }),
    load("silent-preface", "1,024 sockets with part of an HTTP/2 preface", |attack, _| {
        attack.silent(PLACES, Silence::PartOfPreface);
    }),
    load(
        "silent-after",
        "1,024 sockets silent after one request, half of them HTTP/2 without a stream",
        |attack, _| {
            attack.silent(PLACES / 2, Silence::AfterOneRequest);
            attack.silent(PLACES / 2, Silence::NoStream);
        },
    ),
    load(
        "nar-window-0",
        "unread NARs: 10 HTTP/2 connections of 200 streams, window 0",
        |attack, ground| {
            attack.unread_streams(CONNECTIONS, STREAMS, 0, &ground.large);
        },
    ),
    load(
        "nar-window-1",
        "unread NARs: 10 HTTP/2 connections of 200 streams, window 1",
        |attack, ground| {
            attack.unread_streams(CONNECTIONS, STREAMS, 1, &ground.large);
        },
    ),
    load(
        "nar-window-64k",
        "unread NARs: 10 HTTP/2 connections of 200 streams, window 65,535",
        |attack, ground| {
            attack.unread_streams(CONNECTIONS, STREAMS, 65_535, &ground.large);
        },
    ),
    load("nar-unread", "unread NARs: 900 HTTP/1 connections", |attack, ground| {
        attack.unread(MANY, &gets(&ground.large), Reading::NothingForLong);
    }),
    load("nar-slow", "slowly read NARs: 900 HTTP/1 connections at 1 KB/s", |attack, ground| {
        attack.unread(MANY, &gets(&ground.large), Reading::Rate(1000));
    }),
    load("listing-unread", "unread listings: 900 HTTP/1 connections", |attack, _| {
        attack.unread(MANY, &Arc::new(vec![get(LISTING)]), Reading::NothingForLong);
    }),
    load(
        "listing-window-0",
        "unread listings: 10 HTTP/2 connections of 200 streams, window 0",
        |attack, _| {
            attack.unread_streams(CONNECTIONS, STREAMS, 0, &Arc::new(vec![LISTING.to_owned()]));
        },
    ),
    load("listers", "256 listers of `nosuch*` without a token", |attack, _| {
        attack.asking(256, &Arc::new(get("/api/v1/caches/main/paths?pattern=nosuch*")));
    }),
    load(
        "commit-unread",
        "one token, 32 commits of 16 MiB whose answers are not read",
        |attack, ground| {
            attack.unread(32, &ground.long_commits(), Reading::Nothing);
        },
    ),
    load("body-drip", "one token, 64 bodies of 16 MiB at 1.1 KB/s", |attack, ground| {
        attack.dripping(64, &ground.drips(1126));
    }),
    load(
        "manifest-chunks",
        "64 commits of 89 KB that name manifests sent as chunks, unread",
        |attack, ground| {
            attack.unread(64, &ground.manifests_as_chunks(), Reading::Nothing);
        },
    ),
    load("references", "8 commits of 16 MiB of empty references", |attack, ground| {
        attack.unread(8, &ground.empty_references(), Reading::Nothing);
    }),
    load(
        "questions-unread",
        "60 questions of 11 MiB with answers as long, unread",
        |attack, ground| {
            attack.unread(60, &ground.long_questions(), Reading::Nothing);
        },
    ),
    load("claim", "one token, 8 commits that claim 1.25 TiB each", |attack, ground| {
        attack.unread(8, &ground.claims(), Reading::Nothing);
    }),
];

fn gets(targets: &[String]) -> Arc<Vec<Vec<u8>>> {
    Arc::new(targets.iter().map(|target| get(target)).collect())
}

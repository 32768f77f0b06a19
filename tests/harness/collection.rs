//! Collections, asked for over HTTP or by `snowbankd gc`, and what they report.
//!
//! The report is read by the names of its fields, all of them here, so that a test names what it
//! means and not how it is spelled.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::{
    Api, Replica, Server, database,
    process::{self, Running},
    scratch,
};

/// How long a collection may wait for another one.
const PATIENCE: Duration = Duration::from_mins(2);

/// How a collection is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gc {
    dry_run: bool,
    grace: Option<u64>,
    no_compact: bool,
    trust_clock: bool,
}

impl Gc {
    /// One with the server's settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that leaves nothing alone for being young.
    #[must_use]
    pub fn without_grace() -> Self {
        Self::default().grace(0)
    }

    /// Another grace period, in seconds.
    #[must_use]
    pub const fn grace(mut self, seconds: u64) -> Self {
        self.grace = Some(seconds);
        self
    }

    /// Only says what would go.
    #[must_use]
    pub const fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Rewrites no packs.
    #[must_use]
    pub const fn without_compaction(mut self) -> Self {
        self.no_compact = true;
        self
    }

    /// Believes a clock that has jumped.
    #[must_use]
    pub const fn trusting_the_clock(mut self) -> Self {
        self.trust_clock = true;
        self
    }

    /// The arguments of `snowbankd gc` that ask for it.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let mut args = vec!["gc".to_owned(), "--json".to_owned()];
        let flags = [
            ("--dry-run", self.dry_run),
            ("--no-compact", self.no_compact),
            ("--trust-clock", self.trust_clock),
        ];
        args.extend(flags.into_iter().filter(|(_, on)| *on).map(|(flag, _)| flag.to_owned()));
        if let Some(seconds) = self.grace {
            args.extend(["--grace".to_owned(), format!("{seconds}s")]);
        }
        if !self.dry_run {
            args.push("--yes".to_owned());
        }
        args
    }

    /// Asks for it over HTTP, once.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub fn ask(&self, api: &Api) -> anyhow::Result<Answered> {
        let mut body = json!({
            "dry_run": self.dry_run,
            "no_compact": self.no_compact,
            "trust_clock": self.trust_clock,
        });
        if let Some(seconds) = self.grace {
            body["grace"] = json!(format!("{seconds}s"));
        }
        let headers = [(CONTENT_TYPE.as_str(), "application/json")];
        let answer = api.try_send(Method::POST, "/api/v1/gc", &headers, body.to_string().into())?;
        let text = answer.text();
        if answer.status.is_success() {
            Ok(Answered::read(&text))
        } else {
            Ok(Answered::refused(text))
        }
    }

    /// Asks for it over HTTP, and waits for others that collect.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, api: &Api) -> Collected {
        let began = Instant::now();
        loop {
            match self.ask(api) {
                Ok(Answered::Done(done)) => return done,
                Ok(Answered::Busy(_)) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Ok(Answered::Busy(why) | Answered::Failed(why)) => {
                    panic!("a collection failed: {why}")
                }
                Err(error) => panic!("a collection got no answer: {error:#}"),
            }
        }
    }

    /// Runs `snowbankd gc` to its end.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn command(&self, server: &Server) -> Collected {
        let args = self.args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = server.command(&args).success();
        Collected::parse(&output.stdout).unwrap_or_else(|| panic!("no report: {output}"))
    }

    /// Starts `snowbankd gc` that pauses at these steps (see `SNOWBANKD_TEST_PAUSE`).
    #[must_use]
    pub fn start(&self, replica: &Replica, pauses: &str) -> Running {
        let args = self.args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        replica.start_command(&args, &[(PAUSE, pauses)])
    }
}

/// The variable that makes a debug build wait at a step.
pub const PAUSE: &str = "SNOWBANKD_TEST_PAUSE";

/// Whether a program whose standard error this is has come to a step at which it was asked to wait.
#[must_use]
pub fn has_come_to(step: &str, stderr: &str) -> bool {
    stderr.contains(&format!("{PAUSE}: {step} begins"))
}

/// Waits until a command has come to a step; whether it has, or ended without.
#[must_use]
pub fn comes_to(step: &str, running: &mut Running) -> bool {
    let mut came = false;
    process::wait_until(&format!("the command comes to {step}"), Duration::from_secs(30), || {
        let done = running.is_done();
        came = has_come_to(step, &running.stderr_so_far());
        came || done
    });
    came
}

/// How a collection was answered.
#[derive(Debug)]
pub enum Answered {
    /// It is done.
    Done(Collected),
    /// Another one is under way.
    Busy(String),
    /// It failed.
    Failed(String),
}

impl Answered {
    fn read(text: &str) -> Self {
        Collected::parse(text).map_or_else(|| Self::refused(text.to_owned()), Self::Done)
    }

    fn refused(text: String) -> Self {
        if is_busy(&text) { Self::Busy(text) } else { Self::Failed(text) }
    }
}

/// Whether a message says that another collection is under way.
#[must_use]
pub fn is_busy(message: &str) -> bool {
    let message = message.to_lowercase();
    ["already", "another", "under way", "busy"].iter().any(|word| message.contains(word))
}

/// What a collection did, or would do.
#[derive(Clone, Debug)]
pub struct Collected(Value);

impl Collected {
    /// The report in an answer: JSON, or lines of JSON whose last one is it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let whole = serde_json::from_str(text).ok();
        let last =
            || serde_json::from_str(text.lines().rfind(|line| !line.trim().is_empty())?).ok();
        let value: Value = whole.or_else(last)?;
        value.get("freed_bytes").is_some().then_some(Self(value))
    }

    fn number(&self, field: &str) -> u64 {
        self.0[field]
            .as_u64()
            .unwrap_or_else(|| panic!("the report has no number `{field}`: {}", self.0))
    }

    fn list(&self, field: &str) -> &[Value] {
        self.0[field]
            .as_array()
            .unwrap_or_else(|| panic!("the report has no list `{field}`: {}", self.0))
    }

    /// How many paths go.
    pub fn paths(&self) -> u64 {
        self.number("paths")
    }

    /// The paths that go: cache and base name, with the reason.
    ///
    /// # Panics
    /// When the report names only some of them.
    #[track_caller]
    pub fn going(&self) -> BTreeMap<(String, String), String> {
        let text = |path: &Value, field: &str| {
            path[field]
                .as_str()
                .unwrap_or_else(|| panic!("a path without `{field}`: {path}"))
                .to_owned()
        };
        let one =
            |path: &Value| ((text(path, "cache"), text(path, "store_path")), text(path, "reason"));
        let going: BTreeMap<_, _> = self.list("going").iter().map(one).collect();
        assert_eq!(going.len() as u64, self.paths(), "the report names all paths that go");
        going
    }

    /// The base names of the paths that go, of every cache.
    #[track_caller]
    pub fn names(&self) -> BTreeSet<String> {
        self.going().into_keys().map(|(_, name)| name).collect()
    }

    /// NARs that went.
    pub fn nars(&self) -> u64 {
        self.number("nars")
    }

    /// Chunks that went.
    pub fn chunks(&self) -> u64 {
        self.number("chunks")
    }

    /// Packs that went because nothing in them was needed.
    pub fn packs(&self) -> u64 {
        self.number("packs")
    }

    /// Packs that were rewritten.
    pub fn compacted(&self) -> u64 {
        self.number("compacted_packs")
    }

    /// Objects that were removed from the storage.
    pub fn objects(&self) -> u64 {
        self.number("objects")
    }

    /// Objects that could not be removed.
    pub fn failed_objects(&self) -> u64 {
        self.number("failed_objects")
    }

    /// Objects that no row names.
    pub fn unnamed_objects(&self) -> u64 {
        self.number("unnamed_objects")
    }

    /// Bytes of all packs afterwards.
    pub fn stored_bytes(&self) -> u64 {
        self.number("stored_bytes")
    }

    /// What an operator should know, as one text.
    pub fn notes(&self) -> String {
        let notes = self.list("notes").iter().map(|note| note.as_str().unwrap_or_default());
        notes.collect::<Vec<_>>().join("\n")
    }

    /// How long it took, in seconds.
    pub fn seconds(&self) -> f64 {
        self.0["milliseconds"].as_f64().unwrap_or_default() / 1_000.0
    }

    /// The longest time for which it says that it kept others from committing, in milliseconds.
    pub fn longest_lock_milliseconds(&self) -> u64 {
        self.number("longest_lock_milliseconds")
    }

    /// Logical, stored and own bytes of a cache.
    #[track_caller]
    pub fn sizes(&self, cache: &str) -> [u64; 3] {
        let found = self.list("caches").iter().find(|one| one["name"] == *cache);
        let found = found.unwrap_or_else(|| panic!("the report has no cache {cache}: {}", self.0));
        ["logical_bytes", "stored_bytes", "own_bytes"]
            .map(|field| found[field].as_u64().unwrap_or(u64::MAX))
    }

    /// Whether it changed anything.
    pub fn did_something(&self) -> bool {
        let fields = ["paths", "nars", "chunks", "packs", "compacted_packs", "objects"];
        fields.iter().any(|field| self.number(field) > 0)
    }
}

impl std::fmt::Display for Collected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Collects without a grace period until nothing is left to remove.
///
/// # Panics
/// When there is no end of it.
#[track_caller]
pub fn collect_all(api: &Api) -> Vec<Collected> {
    const MAX_COLLECTIONS: usize = 8;
    let mut done: Vec<Collected> = Vec::new();
    while done.last().is_none_or(|last| last.did_something() || last.unnamed_objects() > 0) {
        assert!(
            done.len() < MAX_COLLECTIONS,
            "{MAX_COLLECTIONS} collections did not come to an end: {done:?}"
        );
        done.push(Gc::without_grace().run(api));
    }
    done
}

/// Packs in the storage, by the storage's own account.
#[must_use]
pub fn objects(server: &Server) -> i64 {
    i64::try_from(scratch::files_beneath(&server.objects().join("packs"))).unwrap_or(i64::MAX)
}

/// Rows of packs that are in use, and of packs that chunks once named and that wait to be removed.
#[must_use]
pub fn packs(server: &Server) -> [i64; 2] {
    [
        database::number(server, "SELECT count(*) FROM packs WHERE state = 0"),
        database::number(server, "SELECT count(*) FROM packs WHERE state = 1 AND chunk_count > 0"),
    ]
}

/// Asserts that nothing is stored that nothing needs, and nothing else is missing: as many objects
/// as packs in use, none of them waiting.
#[track_caller]
pub fn assert_no_pack_is_left_over(server: &Server) {
    let [live, dead] = packs(server);
    assert_eq!((objects(server), 0), (live, dead), "objects and live packs, dead packs");
}

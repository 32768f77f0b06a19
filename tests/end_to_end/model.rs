//! A random walk: pushes of overlapping closures into several caches, reads, pins, deletes,
//! settings, time that passes, collections, compactions, copies, restarts and crashes. After each
//! step a model and the server agree on what is served, and every few steps `check --read-data`
//! finds nothing.
//!
//! `SNOWBANK_MODEL_SEED` repeats a walk's choices, `SNOWBANK_MODEL_STEPS` makes it longer or
//! shorter. What a failed walk did is in its output, step by step.

mod agree;
mod crashes;
mod state;
mod steps;
mod universe;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use snowbank_harness::{
    Api, Random, Server, ageing::DAY, count, oracle, oracle::Oracle, site::Kind,
};

use self::{
    state::{Cache, Time},
    universe::{Member, Universe, pick},
};

/// How long the server keeps unused paths of caches that do not say it themselves. Ages are whole
/// days and some minutes; all periods end half a day from there.
const DEFAULT_RETENTION: Time = 300 * 3_600;
/// Steps between two looks at all data.
const BETWEEN_CHECKS: usize = 75;
/// Paths in the universe at most.
const MAX_PATHS: usize = 160;
/// For so long after it was read, a path may be served from memory although it has gone.
const KEPT_ANSWER: Duration = Duration::from_secs(6);

/// A server, the model of it, and what it takes to go on.
struct Walk {
    server: Server,
    api: Api,
    oracles: BTreeMap<String, Oracle>,
    random: Random,
    universe: Universe,
    caches: Vec<Cache>,
    began: Instant,
    /// Seconds that were skipped, a day at a time.
    skipped: Time,
    /// When a path was last seen in an answer.
    seen: BTreeMap<(usize, Member), Instant>,
    /// What has happened how often.
    done: BTreeMap<&'static str, usize>,
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")))
}

#[test]
fn the_server_has_what_the_model_has() {
    let seed = number("SNOWBANK_MODEL_SEED").unwrap_or_else(|| Random::announced("model").next());
    let few = if Kind::of_environment().is_site() { [250, 3_000] } else { [2_000, 20_000] };
    let steps = number("SNOWBANK_MODEL_STEPS").and_then(|steps| usize::try_from(steps).ok());
    let steps = steps.unwrap_or_else(|| count(few[0], few[1]));
    eprintln!(
        "SNOWBANK_MODEL_SEED={seed} SNOWBANK_MODEL_STEPS={steps} repeats this walk's choices"
    );
    let mut walk = Walk::begin(seed);
    for step in 0..steps {
        walk.step(step);
        walk.agree();
        if step % BETWEEN_CHECKS == BETWEEN_CHECKS - 1 {
            oracle::assert_check_is_clean(&walk.server);
        }
    }
    walk.nothing_is_left_over();
    walk.agree_on_everything();
    let took = walk.began.elapsed();
    eprintln!(
        "{steps} steps in {took:?}, {} days, {} paths: {:?}",
        walk.skipped / DAY,
        walk.universe.len(),
        walk.done
    );
    // A walk that never came to what it is about shows nothing. A short one may miss what is rare.
    let often = ["push", "read", "pin", "retention", "days", "collect", "gone paths"];
    let rarely = ["rollback", "delete", "copy"];
    for what in
        often.iter().filter(|_| steps >= 250).chain(rarely.iter().filter(|_| steps >= 1_000))
    {
        assert!(walk.done.contains_key(what), "no step was `{what}`: {:?}", walk.done);
    }
}

impl Walk {
    fn begin(seed: u64) -> Self {
        let hours = DEFAULT_RETENTION / 3_600;
        let server = Server::options()
            .config(&format!("[gc]\ninterval = \"never\"\nretention = \"{hours}h\"\n"))
            .start();
        let mut caches = vec![Cache::new("main", 1, Some(DEFAULT_RETENTION))];
        for (name, isolation) in [("team", None), ("nightly", None), ("vault", Some("--isolated"))]
        {
            let args: Vec<&str> =
                ["cache", "create", name, "--public"].into_iter().chain(isolation).collect();
            server.command(&args).succeeds();
            let domain = isolation.map_or(1, |_| 2);
            caches.push(Cache::new(name, domain, Some(DEFAULT_RETENTION)));
        }
        let api = Api::root(&server);
        let mut walk = Self {
            server,
            api,
            oracles: BTreeMap::new(),
            random: Random::fixed(seed),
            universe: Universe::default(),
            caches,
            began: Instant::now(),
            skipped: 0,
            seen: BTreeMap::new(),
            done: BTreeMap::new(),
        };
        walk.reconnect();
        walk
    }

    /// The time of the walk.
    fn now(&self) -> Time {
        i64::try_from(self.began.elapsed().as_secs()).unwrap_or(i64::MAX) + self.skipped
    }

    /// Connections to a server that was started again.
    fn reconnect(&mut self) {
        self.api = Api::root(&self.server);
        let oracle = |cache: &Cache| {
            (cache.name.clone(), Oracle::new(&self.server, &cache.name, self.api.clone()))
        };
        self.oracles = self.caches.iter().map(oracle).collect();
    }

    fn note(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn any_cache(&mut self) -> usize {
        pick(&mut self.random, self.caches.len()).unwrap_or(0)
    }

    /// A path that a cache has.
    fn any_held(&mut self, cache: usize) -> Option<Member> {
        let place = pick(&mut self.random, self.caches[cache].held.len())?;
        self.caches[cache].held.keys().nth(place).copied()
    }

    /// A path, new or known.
    fn any_path(&mut self) -> Member {
        let known = pick(&mut self.random, self.universe.len());
        match known {
            Some(member) if self.universe.len() >= MAX_PATHS || self.random.below(10) < 7 => member,
            _ => self.universe.grow(&mut self.random),
        }
    }

    /// True so many times out of a hundred.
    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }
}

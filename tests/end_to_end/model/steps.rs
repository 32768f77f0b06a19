//! What a step may be, done to the server and to the model alike.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::json;
use snowbank_harness::{
    Gc, Pusher,
    ageing::{DAY, age_everything},
    collection::{self, Collected},
    craft::{Deposit, narinfo},
    database, oracle,
    pins::Pins,
};

use super::{
    DEFAULT_RETENTION, Walk,
    state::{Kept, Time},
    universe::{Member, pick},
};

const PIN_NAMES: [&str; 4] = ["latest", "release", "v1.0", "nightly+2"];
/// For how long something may be kept: half a day off whole days.
const TIMES: [Time; 3] = [36 * 3_600, 132 * 3_600, 324 * 3_600];

/// One step.
type Step = fn(&mut Walk);

/// The kinds of steps and how often they come, of 1,000.
static KINDS: [(u64, Step); 18] = [
    (230, Walk::push),
    (60, Walk::upload),
    (170, Walk::read),
    (70, Walk::pin),
    (25, Walk::roll_back),
    (20, Walk::unpin),
    (60, Walk::delete),
    (40, Walk::set_retention),
    (100, Walk::pass_days),
    (60, Walk::copy),
    (50, Walk::collect),
    (45, Walk::collect_without_grace),
    (25, Walk::plan_only),
    (8, Walk::collect_by_command),
    (12, Walk::nothing_is_left_over),
    (10, Walk::restart),
    (8, Walk::kill_in_a_push),
    (7, Walk::kill_in_a_collection),
];

impl Walk {
    /// Makes a step.
    pub(super) fn step(&mut self, number: usize) {
        let wall = self.began.elapsed();
        self.caches.iter_mut().for_each(|cache| cache.write_reads(wall));
        let mut drawn = self.random.below(KINDS.iter().map(|(weight, _)| weight).sum());
        let kind = KINDS.iter().find(|(weight, _)| {
            let found = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            found
        });
        eprint!("{number}: ");
        let (_, make) = kind.unwrap_or(&KINDS[0]);
        make(self);
    }

    pub(super) fn deposits(&self, members: &BTreeSet<Member>) -> Vec<&Deposit> {
        members.iter().map(|member| &self.universe.path(*member).deposit).collect()
    }

    fn any_time(&mut self) -> Time {
        TIMES[pick(&mut self.random, TIMES.len()).unwrap_or(0)]
    }

    fn push(&mut self) {
        let (cache, root) = (self.any_cache(), self.any_path());
        let time = if self.chance(15) { Some(self.any_time()) } else { None };
        let pin = if self.chance(10) {
            pick(&mut self.random, PIN_NAMES.len()).map(|name| PIN_NAMES[name])
        } else {
            None
        };
        let closure = self.universe.closure([root]);
        let name = self.caches[cache].name.clone();
        eprintln!(
            "push {} and {} more to {name}, for {time:?}, pinned as {pin:?}",
            self.universe.store_path(root),
            closure.len() - 1
        );
        let mut pusher = Pusher::new(&self.api, &name);
        if let Some(time) = time {
            pusher = pusher.expiring(time.unsigned_abs());
        }
        if let Some(pin) = pin {
            pusher = pusher.pinning(pin);
        }
        let pushed = pusher.push(&self.deposits(&closure));
        let new =
            closure.iter().filter(|member| !self.caches[cache].held.contains_key(member)).count();
        // One pin more may mean that the last path is committed again, as present.
        assert_eq!(pushed.uploaded(), new, "of {closure:?}, {new} were not there");
        let now = self.now();
        for member in closure {
            self.caches[cache].push(member, (now, self.began.elapsed()), time);
        }
        if let Some(pin) = pin {
            self.caches[cache].set_pin(pin, root, None, None, now);
        }
        self.note("push");
    }

    /// Uploads a closure as Nix does: NARs, then narinfos, each in any order.
    fn upload(&mut self) {
        let (cache, root) = (self.any_cache(), self.any_path());
        let mut closure: Vec<Member> = self.universe.closure([root]).into_iter().collect();
        let name = self.caches[cache].name.clone();
        eprintln!("upload {} and {} more", self.universe.store_path(root), closure.len() - 1);
        for is_narinfo in [false, true] {
            for left in (1..closure.len()).rev() {
                closure.swap(left, pick(&mut self.random, left + 1).unwrap_or(0));
            }
            for &member in &closure {
                let deposit = &self.universe.path(member).deposit;
                let file = format!("{member}.nar");
                let answer = if is_narinfo {
                    let text = deposit.narinfo_text(&file).into_bytes();
                    self.api.put(&narinfo(&name, &deposit.store_path), &[], text)
                } else {
                    self.api.put(&format!("/{name}/nar/{file}"), &[], deposit.nar.clone())
                };
                assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
            }
        }
        let now = self.now();
        for member in closure {
            self.caches[cache].push(member, (now, self.began.elapsed()), None);
        }
        self.note("upload");
    }

    fn read(&mut self) {
        let cache = self.any_cache();
        let Some(member) = self.any_held(cache) else { return eprintln!("nothing to read") };
        let whole = self.chance(35);
        eprintln!(
            "read {} of {}, the NAR: {whole}",
            self.universe.store_path(member),
            self.caches[cache].name
        );
        if whole {
            self.read_whole(cache, member);
        } else {
            self.read_narinfo(cache, member);
        }
        self.note("read");
    }

    fn pins(&self, cache: usize) -> Pins {
        Pins::of(&self.api, &self.caches[cache].name)
    }

    fn any_pin_name(&mut self) -> &'static str {
        PIN_NAMES[pick(&mut self.random, PIN_NAMES.len()).unwrap_or(0)]
    }

    fn pin(&mut self) {
        let (cache, name) = (self.any_cache(), self.any_pin_name());
        let Some(member) = self.any_held(cache) else { return eprintln!("nothing to pin") };
        let keep = pick(&mut self.random, 6).filter(|keep| (1..4).contains(keep));
        let time = if self.chance(35) { Some(self.any_time()) } else { None };
        let path = self.universe.store_path(member).to_owned();
        eprintln!(
            "pin {path} of {} as {name}, keep {keep:?}, for {time:?}",
            self.caches[cache].name
        );
        let kept = keep.and_then(|keep| u32::try_from(keep).ok());
        let answer = self.pins(cache).set(name, &path, kept, time.map(Time::unsigned_abs));
        assert!(answer.status.is_success(), "{}", answer.text());
        let now = self.now();
        self.caches[cache].set_pin(name, member, keep, time.map(|time| now + time), now);
        self.note("pin");
    }

    fn roll_back(&mut self) {
        let (cache, name) = (self.any_cache(), self.any_pin_name());
        eprintln!("roll back {name} of {}", self.caches[cache].name);
        let answer = self.pins(cache).rollback(name);
        let now = self.now();
        let expected = self.caches[cache].roll_back(name, now);
        assert_eq!(answer.status.is_success(), expected.is_some(), "{}", answer.text());
        if expected.is_some() {
            self.note("rollback");
        }
    }

    fn unpin(&mut self) {
        let (cache, name) = (self.any_cache(), self.any_pin_name());
        eprintln!("remove the pin {name} of {}", self.caches[cache].name);
        let answer = self.pins(cache).remove(name);
        let expected = self.caches[cache].pin(name, self.now()).is_some();
        assert_eq!(answer.status.is_success(), expected, "{}", answer.text());
        if expected {
            self.caches[cache].pins.remove(name);
        }
    }

    fn delete(&mut self) {
        let cache = self.any_cache();
        let Some(member) = self.any_held(cache) else { return eprintln!("nothing to delete") };
        let referrers = self.chance(50);
        let (path, name) = (self.universe.store_path(member), self.caches[cache].name.clone());
        eprintln!("delete {path} of {name}, with referrers: {referrers}");
        let body = json!({ "paths": [path], "referrers": referrers });
        let answer = self.api.post_json(&format!("/api/v1/caches/{name}/delete"), &body);
        match self.caches[cache].deletion(&self.universe, member, referrers, self.now()) {
            Ok(going) => {
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                for member in going {
                    self.caches[cache].held.remove(&member);
                    self.note("gone paths");
                }
                self.note("delete");
            }
            Err(why) => {
                assert!(answer.status.is_client_error(), "{why:?}: {}", answer.text());
                assert!(
                    why != Kept::Pinned || answer.text().contains("pinned"),
                    "{}",
                    answer.text()
                );
            }
        }
    }

    fn set_retention(&mut self) {
        let cache = self.any_cache();
        let (text, retention) = match self.random.below(6) {
            0 => ("never".to_owned(), None),
            1 | 2 => ("default".to_owned(), Some(DEFAULT_RETENTION)),
            _ => {
                let time = self.any_time();
                (format!("{}h", time / 3_600), Some(time))
            }
        };
        eprintln!("{} keeps unused paths for {text}", self.caches[cache].name);
        let address = format!("/api/v1/caches/{}", self.caches[cache].name);
        let answer = self.api.json(Method::PATCH, &address, &json!({ "retention": text }));
        assert!(answer.status.is_success(), "{}", answer.text());
        self.caches[cache].retention = retention;
        self.note("retention");
    }

    fn pass_days(&mut self) {
        let days =
            if self.chance(75) { 1 + self.random.below(3) } else { 4 + self.random.below(9) };
        eprintln!("{days} days pass");
        let seconds = i64::try_from(days).unwrap_or(1) * DAY;
        age_everything(&self.server, seconds);
        self.skipped += seconds;
        let now = self.now();
        for cache in &mut self.caches {
            cache.pass_to(&self.universe, now);
        }
        self.note("days");
    }

    fn copy(&mut self) {
        let (from, to) = (self.any_cache(), self.any_cache());
        let Some(root) = self.any_held(from).filter(|_| from != to) else {
            return eprintln!("nothing to copy");
        };
        let [source, target] = [from, to].map(|cache| self.caches[cache].name.clone());
        eprintln!("copy {} from {source} to {target}", self.universe.store_path(root));
        let closure = self.universe.closure([root]);
        let body = json!({ "from": source, "paths": [self.universe.store_path(root)] });
        let answer = self.api.post_json(&format!("/api/v1/caches/{target}/copy"), &body);
        assert!(answer.status.is_success(), "{}", answer.text());
        let copied = answer.json::<serde_json::Value>()["copied"].as_array().map_or(0, Vec::len);
        let new =
            closure.iter().filter(|member| !self.caches[to].held.contains_key(member)).count();
        assert_eq!(copied, new, "{}", answer.text());
        let now = self.now();
        for member in closure {
            self.caches[to].push(member, (now, self.began.elapsed()), None);
        }
        self.note("copy");
    }

    fn collect(&mut self) {
        eprintln!("collect");
        let report = Gc::new().run(&self.api);
        self.take_in(&[report]);
    }

    fn collect_without_grace(&mut self) {
        eprintln!("collect without a grace period");
        let report = Gc::without_grace().run(&self.api);
        self.take_in(&[report]);
    }

    fn collect_by_command(&mut self) {
        eprintln!("snowbankd gc");
        let report = Gc::without_grace().command(&self.server);
        self.take_in(&[report]);
    }

    /// Compares what collections have left and what they say with the model, which has it so from
    /// then on.
    pub(super) fn take_in(&mut self, reports: &[Collected]) {
        let now = self.now();
        let mut gone = BTreeSet::new();
        for cache in 0..self.caches.len() {
            let left = self.listed(cache);
            let name = &self.caches[cache].name;
            let going = self.caches[cache].held.keys().filter(|member| !left.contains(member));
            gone.extend(going.map(|member| (name.clone(), self.base_name(*member))));
            let taken_in = self.caches[cache].collected(&self.universe, &left, now);
            taken_in.unwrap_or_else(|why| panic!("{why}; the reports: {reports:?}"));
        }
        let said: BTreeSet<_> =
            reports.iter().flat_map(|report| report.going().into_keys()).collect();
        assert_eq!(said, gone, "the reports name what has gone");
        for _ in gone {
            self.note("gone paths");
        }
        self.note("collect");
    }

    fn base_name(&self, member: Member) -> String {
        self.universe.path(member).deposit.base_name().to_owned()
    }

    fn plan_only(&mut self) {
        eprintln!("a dry run");
        let state = |walk: &Self| {
            let rows = [database::paths, database::nars, database::chunks]
                .map(|count| count(&walk.server));
            (rows, collection::packs(&walk.server), collection::objects(&walk.server))
        };
        let before = state(self);
        let report = Gc::new().dry_run().run(&self.api);
        assert_eq!(state(self), before, "a dry run changes nothing");
        let now = self.now();
        let going = report.going();
        for cache in &self.caches {
            let [must, may] = cache.staying(&self.universe, now);
            for member in cache.held.keys() {
                let key = (cache.name.clone(), self.base_name(*member));
                match going.get(&key) {
                    Some(reason) => {
                        let expected =
                            if cache.held[member].expires.is_some() { "expired" } else { "unused" };
                        assert!(
                            !must.contains(member) && reason == expected,
                            "{key:?} goes: {reason}"
                        );
                    }
                    None => {
                        assert!(may.contains(member), "{key:?} is not among what goes: {report}");
                    }
                }
            }
        }
    }

    /// Collects until there is an end of it, and compares all rows and objects that are left with
    /// what the model needs.
    pub(super) fn nothing_is_left_over(&mut self) {
        eprintln!("collect all that is to be collected");
        let reports = collection::collect_all(&self.api);
        self.take_in(&reports);
        let (mut nars, mut chunks) = (BTreeSet::new(), BTreeSet::new());
        for cache in &self.caches {
            for member in cache.held.keys() {
                let path = self.universe.path(*member);
                nars.insert((cache.domain, path.nar_hash));
                chunks.extend(path.chunks.iter().map(|name| (cache.domain, *name)));
            }
        }
        let rows = [database::nars(&self.server), database::chunks(&self.server)];
        let needed = [nars.len(), chunks.len()].map(|count| i64::try_from(count).unwrap());
        assert_eq!(rows, needed, "NARs and chunks: as many as are needed");
        collection::assert_no_pack_is_left_over(&self.server);
        self.note("nothing left over");
    }

    fn restart(&mut self) {
        eprintln!("restart");
        self.server.restart();
        self.reconnect();
        // A server that ends in peace writes what it has noted.
        for cache in &mut self.caches {
            cache.write_reads(std::time::Duration::MAX);
        }
        oracle::assert_check_is_clean(&self.server);
        self.note("restart");
    }
}

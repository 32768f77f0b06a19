//! Where the model and the server are compared: what a cache lists after every step, what it serves
//! by samples and at the end as a whole.
//!
//! Listing is no use of a path, while reading is one. So the lists are compared whole each time,
//! and reads are few, and known to the model.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::Value;
use snowbank_harness::{craft, oracle, pins::Pins};

use super::{
    KEPT_ANSWER, Walk,
    state::Time,
    universe::{Member, pick},
};

/// How far a time that the server tells may be from that of the model: what happens between the
/// two.
const CLOSE: Time = 900;
/// A use may be written with so much of a delay, or not be written again.
const GRAIN: Time = 4_500;

fn unix_now() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

impl Walk {
    /// Compares both after a step.
    pub(super) fn agree(&mut self) {
        for cache in 0..self.caches.len() {
            let listed = self.listed(cache);
            let held = &self.caches[cache].held;
            assert!(
                listed.iter().eq(held.keys()),
                "{}: {listed:?} on the server, {:?} in the model",
                self.caches[cache].name,
                held.keys()
            );
        }
        let cache = self.any_cache();
        // Of what is there, one narinfo in two steps and one NAR in four.
        if let Some(member) = self.any_held(cache).filter(|_| self.chance(50)) {
            if self.chance(50) {
                self.read_whole(cache, member);
            } else {
                self.read_narinfo(cache, member);
            }
        }
        for _ in 0..3 {
            if let Some(member) = pick(&mut self.random, self.universe.len()) {
                self.agree_on_absence(cache, member);
            }
        }
        self.agree_on_pins(cache);
    }

    /// The paths that a cache lists; what it says of each is compared with the model, where that
    /// has it.
    pub(super) fn listed(&self, cache: usize) -> BTreeSet<Member> {
        let model = &self.caches[cache];
        let page: Value = self.api.get(&format!("/api/v1/caches/{}/paths", model.name)).json();
        assert!(page["next"].is_null(), "all paths are on one page");
        let (now, unix) = (self.now(), unix_now());
        let listed = page["paths"].as_array().unwrap_or_else(|| panic!("no list of paths: {page}"));
        let check = |path: &Value| {
            let store_path = path["store_path"].as_str().unwrap_or_default();
            let member =
                self.universe.find(store_path).unwrap_or_else(|| panic!("nobody pushed {path}"));
            // As the walk counts.
            let time = |field: &str| path[field].as_i64().map(|time| time - unix + now);
            if let Some(held) = model.held.get(&member) {
                let used = time("last_used").max(time("created")).unwrap_or_default();
                // Reads of NARs count for every path that has that NAR when they are written, which
                // the model does not follow.
                if !self.universe.is_twin(member) {
                    let range = held.used - GRAIN..=held.perhaps + CLOSE;
                    assert!(
                        range.contains(&used),
                        "{} of {} was used at {used}, not in {range:?}",
                        store_path,
                        model.name
                    );
                }
                let off = time("expires").unwrap_or(-1) - held.expires.unwrap_or(-1);
                assert!(
                    off.abs() < CLOSE,
                    "{store_path}: {:?} and {:?}",
                    time("expires"),
                    held.expires
                );
            }
            let pins = path["pins"].as_array().map(Vec::as_slice).unwrap_or_default();
            let pins: BTreeSet<String> =
                pins.iter().filter_map(|pin| pin.as_str().map(str::to_owned)).collect();
            assert_eq!(
                pins,
                model.names_of(member, now),
                "the pins of {store_path} in {}",
                model.name
            );
            member
        };
        listed.iter().map(check).collect()
    }

    /// Reads the narinfo of a path that is there.
    pub(super) fn read_narinfo(&mut self, cache: usize, member: Member) {
        let path = self.universe.path(member);
        let oracle = &self.oracles[&self.caches[cache].name];
        let info = oracle.narinfo(&path.deposit.store_path);
        let info = info.unwrap_or_else(|| {
            panic!("{} has no {}", self.caches[cache].name, path.deposit.store_path)
        });
        let references: BTreeSet<String> =
            info.references.iter().map(snowbank_core::store_path::StorePath::base_name).collect();
        assert_eq!(info.nar_hash, path.nar_hash);
        assert_eq!(references, path.deposit.references.iter().cloned().collect());
        self.was_read(cache, member);
    }

    /// Reads a path that is there, every byte.
    pub(super) fn read_whole(&mut self, cache: usize, member: Member) {
        let path = self.universe.path(member);
        let info = self.oracles[&self.caches[cache].name].assert_whole(&path.deposit.store_path);
        assert_eq!(info.nar_hash, path.nar_hash);
        let (now, wall) = (self.now(), self.began.elapsed());
        self.caches[cache].read_nar(&self.universe, member, now, wall);
        self.was_read(cache, member);
    }

    fn was_read(&mut self, cache: usize, member: Member) {
        let (now, wall) = (self.now(), self.began.elapsed());
        self.caches[cache].read(member, now, wall);
        self.seen.insert((cache, member), Instant::now());
    }

    /// A path that is not there is not served, unless it was seconds ago.
    fn agree_on_absence(&mut self, cache: usize, member: Member) {
        let is_kept =
            self.seen.get(&(cache, member)).is_some_and(|seen| seen.elapsed() < KEPT_ANSWER);
        if self.caches[cache].held.contains_key(&member) || is_kept {
            return;
        }
        let address = craft::narinfo(&self.caches[cache].name, self.universe.store_path(member));
        assert_eq!(
            self.api.get(&address).status,
            StatusCode::NOT_FOUND,
            "{address} is served and has gone"
        );
    }

    fn agree_on_pins(&self, cache: usize) {
        let (model, now) = (&self.caches[cache], self.now());
        for (name, pin) in &model.pins {
            let answer = Pins::of(&self.api, &model.name).resolve(name);
            if pin.is_over(now) {
                assert_eq!(
                    answer.status,
                    StatusCode::NOT_FOUND,
                    "{name} is over: {}",
                    answer.text()
                );
            } else {
                let path = self.universe.store_path(pin.stands_for());
                assert_eq!(
                    (answer.status, answer.text().trim()),
                    (StatusCode::OK, path),
                    "{name} of {}",
                    model.name
                );
                assert!(model.held.contains_key(&pin.stands_for()), "{path} is pinned");
            }
        }
    }

    /// Every path ever pushed, in every cache: served whole, or not at all. No time passes after
    /// this.
    pub(super) fn agree_on_everything(&mut self) {
        std::thread::sleep(KEPT_ANSWER + Duration::from_secs(1));
        self.seen.clear();
        for cache in 0..self.caches.len() {
            for member in 0..self.universe.len() {
                if self.caches[cache].held.contains_key(&member) {
                    self.read_whole(cache, member);
                } else {
                    self.agree_on_absence(cache, member);
                }
            }
            self.agree_on_pins(cache);
        }
        oracle::assert_check_is_clean(&self.server);
    }
}

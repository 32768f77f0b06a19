//! What the server has to have at a moment, and what may have gone: the rules of retention, pins
//! and expiry, with nothing of how the server goes about it.
//!
//! Times are the walk's own seconds. Only of reads is something unsure for a while: the server
//! writes them seconds later, and forgets those that it had not written when it is killed.
//! Everything else is known exactly; retention periods and ages are chosen so that no age is near a
//! boundary.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use snowbank_core::hash::NarHash;

use super::{
    KEPT_ANSWER,
    universe::{Member, Universe},
};

/// Seconds of the walk.
pub(super) type Time = i64;

/// So near to a boundary nothing is certain: uses are written with a grain, and paths go with some
/// slack.
const NEAR: Time = 2 * 3_600;
const LONG_BEFORE: Time = -NEAR;
/// A push that finds a path present writes nothing when it was used so lately.
const GRAIN: Time = 3_600;
/// After this time a read is written, on a busy machine too.
const WRITTEN_AFTER: Duration = Duration::from_secs(25);

/// Whether something stays when the server collects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Unsure,
    Goes,
}

/// Whether a time is over that ends at `end`.
fn ends(now: Time, end: Time) -> Fate {
    match now - end {
        ..=LONG_BEFORE => Fate::Stays,
        NEAR.. => Fate::Goes,
        _ => Fate::Unsure,
    }
}

/// A read of a path.
#[derive(Clone, Copy, Debug)]
struct Read {
    at: Time,
    /// When that was by the wall clock.
    wall: Duration,
    /// Whether it counts for this path. The answer may have been kept from before the path went and
    /// came again; then its use is that of the one that went.
    counts: bool,
}

/// A path that a cache has.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// When it was used last, for certain.
    pub(super) used: Time,
    /// When it was used last, at the latest.
    pub(super) perhaps: Time,
    /// Until when it is kept, where it was pushed for a time.
    pub(super) expires: Option<Time>,
    /// When it came, by the wall clock.
    came: Duration,
    /// Reads that may not be written yet.
    unwritten: Vec<Read>,
}

impl Held {
    fn fate(&self, now: Time, retention: Option<Time>) -> Fate {
        match (self.expires, retention) {
            (Some(end), _) => ends(now, end),
            (None, None) => Fate::Stays,
            (None, Some(retention)) => {
                match (ends(now, self.used + retention), ends(now, self.perhaps + retention)) {
                    (certain, perhaps) if certain == perhaps => certain,
                    _ => Fate::Unsure,
                }
            }
        }
    }
}

/// A name for a path.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    pub(super) current: u64,
    pub(super) keep: usize,
    pub(super) expires: Option<Time>,
    pub(super) history: BTreeMap<u64, Member>,
}

impl Pin {
    pub(super) fn is_over(&self, now: Time) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    pub(super) fn stands_for(&self) -> Member {
        self.history[&self.current]
    }
}

/// Why a path is not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Referred,
    Pinned,
}

/// A cache.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    pub(super) name: String,
    /// Caches of one domain share chunks.
    pub(super) domain: i64,
    pub(super) retention: Option<Time>,
    pub(super) held: BTreeMap<Member, Held>,
    pub(super) pins: BTreeMap<String, Pin>,
    /// NARs whose reads may not be written yet, and when they were read last. Such a read becomes
    /// one of all paths with the NAR that are there when it is written, those among them that came
    /// after it.
    nar_reads: BTreeMap<NarHash, Duration>,
}

impl Cache {
    pub(super) fn new(name: &str, domain: i64, retention: Option<Time>) -> Self {
        let name = name.to_owned();
        Self {
            name,
            domain,
            retention,
            held: BTreeMap::new(),
            pins: BTreeMap::new(),
            nar_reads: BTreeMap::new(),
        }
    }

    /// A path is pushed, or found present by a push, to be kept for `time`, or as long as the cache
    /// keeps paths.
    pub(super) fn push(
        &mut self,
        member: Member,
        (now, wall): (Time, Duration),
        time: Option<Time>,
    ) {
        let end = time.map(|time| now + time);
        let new =
            || Held { used: now, perhaps: now, expires: end, came: wall, unwritten: Vec::new() };
        let held = self.held.entry(member).or_insert_with(new);
        held.used = held.used.max(now - GRAIN);
        held.perhaps = now;
        held.expires = held.expires.and_then(|own| end.map(|end| own.max(end)));
    }

    /// A path is read.
    pub(super) fn read(&mut self, member: Member, now: Time, wall: Duration) {
        if let Some(held) = self.held.get_mut(&member) {
            held.perhaps = now;
            let counts = wall.saturating_sub(held.came) > KEPT_ANSWER;
            held.unwritten.push(Read { at: now, wall, counts });
        }
    }

    /// The NAR of a path is read.
    pub(super) fn read_nar(
        &mut self,
        universe: &Universe,
        member: Member,
        now: Time,
        wall: Duration,
    ) {
        let hash = universe.path(member).nar_hash;
        let twins: Vec<Member> = self
            .held
            .keys()
            .copied()
            .filter(|other| universe.path(*other).nar_hash == hash)
            .collect();
        for twin in twins {
            self.read(twin, now, wall);
        }
        self.nar_reads.insert(hash, wall);
    }

    /// Time has passed, whether or not reads were written before.
    pub(super) fn pass_to(&mut self, universe: &Universe, now: Time) {
        for (member, held) in &mut self.held {
            if !held.unwritten.is_empty()
                || self.nar_reads.contains_key(&universe.path(*member).nar_hash)
            {
                held.perhaps = now;
            }
        }
    }

    /// What was read long enough before `wall` has been written.
    pub(super) fn write_reads(&mut self, wall: Duration) {
        for held in self.held.values_mut() {
            let is_written = |read: &Read| wall.saturating_sub(read.wall) > WRITTEN_AFTER;
            let written = held
                .unwritten
                .iter()
                .filter(|read| is_written(read) && read.counts)
                .map(|read| read.at)
                .max();
            held.used = held.used.max(written.unwrap_or(held.used));
            held.unwritten.retain(|read| !is_written(read));
        }
        self.nar_reads.retain(|_, read| wall.saturating_sub(*read) <= WRITTEN_AFTER);
    }

    /// The server was killed: what it had not written is lost, if there was any.
    pub(super) fn lose_reads(&mut self) {
        self.held.values_mut().for_each(|held| held.unwritten.clear());
        self.nar_reads.clear();
    }

    /// A push that was cut off may have noted that it found this path.
    pub(super) fn perhaps_use(&mut self, member: Member, now: Time) {
        if let Some(held) = self.held.get_mut(&member) {
            held.perhaps = now;
        }
    }

    /// Whether a name's pin holds.
    pub(super) fn pin(&self, name: &str, now: Time) -> Option<&Pin> {
        self.pins.get(name).filter(|pin| !pin.is_over(now))
    }

    /// Pins a path.
    pub(super) fn set_pin(
        &mut self,
        name: &str,
        member: Member,
        keep: Option<usize>,
        end: Option<Time>,
        now: Time,
    ) {
        // A name whose time is over starts anew.
        self.pins.retain(|_, pin| !pin.is_over(now));
        let new = || Pin { current: 0, keep: 5, expires: None, history: BTreeMap::new() };
        let pin = self.pins.entry(name.to_owned()).or_insert_with(new);
        (pin.keep, pin.expires) = (keep.unwrap_or(pin.keep), end);
        if pin.history.get(&pin.current) != Some(&member) {
            pin.current = pin.history.keys().next_back().map_or(1, |newest| newest + 1);
            pin.history.insert(pin.current, member);
        }
        let newest: BTreeSet<u64> = pin.history.keys().rev().take(pin.keep).copied().collect();
        let current = pin.current;
        pin.history.retain(|generation, _| *generation == current || newest.contains(generation));
    }

    /// Lets a name stand for what it stood for before; what that is now, if there is such a thing.
    pub(super) fn roll_back(&mut self, name: &str, now: Time) -> Option<Member> {
        let pin = self.pins.get_mut(name).filter(|pin| !pin.is_over(now))?;
        pin.current = *pin.history.range(..pin.current).next_back()?.0;
        Some(pin.stands_for())
    }

    /// The names by which a path is kept.
    pub(super) fn names_of(&self, member: Member, now: Time) -> BTreeSet<String> {
        let keeps =
            |pin: &Pin| !pin.is_over(now) && pin.history.values().any(|kept| *kept == member);
        self.pins.iter().filter(|(_, pin)| keeps(pin)).map(|(name, _)| name.clone()).collect()
    }

    /// What goes when this path is deleted, or why it does not.
    pub(super) fn deletion(
        &self,
        universe: &Universe,
        member: Member,
        referrers: bool,
        now: Time,
    ) -> Result<BTreeSet<Member>, Kept> {
        let mut going = BTreeSet::from([member]);
        // Referrers have higher places than what they refer to.
        for other in self.held.keys().filter(|other| **other > member) {
            if universe.references(*other).iter().any(|reference| going.contains(reference)) {
                going.insert(*other);
            }
        }
        if going.len() > 1 && !referrers {
            return Err(Kept::Referred);
        }
        let is_pinned = going.iter().any(|going| !self.names_of(*going, now).is_empty());
        if is_pinned { Err(Kept::Pinned) } else { Ok(going) }
    }

    /// What a collection has to leave, and what it may leave.
    pub(super) fn staying(&self, universe: &Universe, now: Time) -> [BTreeSet<Member>; 2] {
        let pin_fate = |pin: &Pin| pin.expires.map_or(Fate::Stays, |end| ends(now, end));
        // When a path was used that shares its NAR is not followed.
        let fate = |member: Member, held: &Held| match held.fate(now, self.retention) {
            _ if held.expires.is_none() && self.retention.is_some() && universe.is_twin(member) => {
                Fate::Unsure
            }
            fate => fate,
        };
        let closure = |wanted: fn(Fate) -> bool| {
            let pinned = self
                .pins
                .values()
                .filter(|pin| wanted(pin_fate(pin)))
                .flat_map(|pin| pin.history.values().copied());
            let own = self
                .held
                .iter()
                .filter(|(member, held)| wanted(fate(**member, held)))
                .map(|(member, _)| *member);
            universe.closure(pinned.chain(own))
        };
        let mut staying = [closure(|fate| fate == Fate::Stays), closure(|fate| fate != Fate::Goes)];
        // What was kept is there, whatever it is kept by.
        for set in &mut staying {
            set.retain(|member| self.held.contains_key(member));
        }
        staying
    }

    /// Takes in what a collection has left; says what is wrong with it.
    pub(super) fn collected(
        &mut self,
        universe: &Universe,
        left: &BTreeSet<Member>,
        now: Time,
    ) -> Result<(), String> {
        let [must, may] = self.staying(universe, now);
        let name = |members: Vec<&Member>| {
            members.iter().map(|one| universe.store_path(**one)).collect::<Vec<_>>().join(" ")
        };
        let lost: Vec<&Member> = must.difference(left).collect();
        if !lost.is_empty() {
            return Err(format!("{} lost what it needs: {}", self.name, name(lost)));
        }
        let spared: Vec<&Member> = left.difference(&may).collect();
        if !spared.is_empty() {
            return Err(format!("{} has what nothing keeps: {}", self.name, name(spared)));
        }
        let broken = universe.closure(left.iter().copied());
        let broken: Vec<&Member> = broken.difference(left).collect();
        if !broken.is_empty() {
            return Err(format!(
                "{} has paths whose references are gone: {}",
                self.name,
                name(broken)
            ));
        }
        self.held.retain(|member, _| left.contains(member));
        self.pins.retain(|_, pin| !pin.is_over(now));
        Ok(())
    }

    /// The same of a collection that was cut off: what goes may be there still.
    pub(super) fn partly_collected(
        &mut self,
        universe: &Universe,
        left: &BTreeSet<Member>,
        now: Time,
    ) -> Result<(), String> {
        let [must, _] = self.staying(universe, now);
        let before: BTreeSet<Member> = self.held.keys().copied().collect();
        let whole = universe.closure(left.iter().copied()).is_subset(left);
        if !must.is_subset(left) || !left.is_subset(&before) || !whole {
            return Err(format!(
                "{}: {left:?} is left of {before:?}, {must:?} has to be",
                self.name
            ));
        }
        self.held.retain(|member, _| left.contains(member));
        Ok(())
    }
}

//! Who holds how much of a pool, and who may have more of it: the rules, without waiting.
//!
//! A hold *grows* while its client sends, or until it was given all that it wants, and is *settled*
//! from then on: what is settled ends by itself. `largest` is the most that one hold may have, and
//! that much is kept back as a *lane*: a hold that finds no room besides takes the lane, if nobody
//! has it, and keeps it until it settles or ends. The eldest that waits takes it first. The holds
//! of one subject have a lane of their own within what that subject may have, and so have those of
//! one address.
//!
//! **Nobody waits for ever.** All but the lane's holder have `total - largest` together when they
//! last grew. So its holder waits only for what has settled since, which ends by itself. When it
//! waits for its client, that client's deadlines end it. If nobody has the lane, the eldest that
//! waits takes it. Within a subject or an address the argument is the same, and the pool's lane is
//! stronger: its holder minds no other rule.
//!
//! **Nobody shuts the others out.** While somebody else holds or wants something, a subject may
//! have `largest` or its share, whichever is more, and an address may have `largest` beside that,
//! since others may share it. Whoever is above that takes no lane for which others wait. The pool
//! has room for three times `largest`: so one subject, or one address, leaves the lane or as much
//! beside it to others. What somebody had before company came is taken back, youngest first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Client;

/// The order in which holds came.
pub(super) type Age = u64;

/// Bounds of a pool, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) total: u64,
    /// What one hold has at most.
    pub(super) largest: u64,
    /// What one subject, or one address, has at most while it has company; no less than `largest`.
    pub(super) share: u64,
    /// What others of its holds may have beyond that: a small request goes on beside a large one of
    /// the same client.
    pub(super) slack: u64,
}

/// The state of a pool.
#[derive(Debug)]
pub(super) struct Shares {
    bounds: Bounds,
    holds: BTreeMap<Age, Entry>,
    bytes: u64,
    lane: Option<Age>,
    subjects: HashMap<Arc<str>, Account>,
    addresses: HashMap<Arc<str>, Account>,
    waiting: BTreeMap<Age, Request>,
    next_age: Age,
}

#[derive(Debug)]
struct Entry {
    client: Client,
    bytes: u64,
    is_growing: bool,
    revoked: CancellationToken,
}

/// What some holds have together.
#[derive(Debug, Default)]
struct Account {
    holds: usize,
    bytes: u64,
    settled_bytes: u64,
    waiting: usize,
    lane: Option<Age>,
}

#[derive(Debug)]
struct Request {
    target: u64,
    granted: oneshot::Sender<()>,
}

impl Shares {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            holds: BTreeMap::new(),
            bytes: 0,
            lane: None,
            subjects: HashMap::new(),
            addresses: HashMap::new(),
            waiting: BTreeMap::new(),
            next_age: 0,
        }
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a hold of nothing. The token is cancelled when its memory is taken back.
    pub(super) fn open(&mut self, client: &Client) -> (Age, CancellationToken) {
        let age = self.next_age;
        self.next_age += 1;
        let revoked = CancellationToken::new();
        let entry =
            Entry { client: client.clone(), bytes: 0, is_growing: true, revoked: revoked.clone() };
        self.for_accounts(client, |account| account.holds += 1);
        self.holds.insert(age, entry);
        (age, revoked)
    }

    /// Asks for `target` bytes in all. Gives nothing when they are granted at once, else what tells
    /// that they are.
    pub(super) fn ask(&mut self, age: Age, target: u64) -> Option<oneshot::Receiver<()>> {
        let target = target.min(self.bounds.largest);
        if let Some(lanes) = self.may_have(age, target) {
            self.give(age, target, lanes);
            return None;
        }
        let (granted, told) = oneshot::channel();
        self.waiting.insert(age, Request { target, granted });
        self.count_waiting(age, 1);
        Some(told)
    }

    /// Takes a request back.
    pub(super) fn forget(&mut self, age: Age) {
        if self.waiting.remove(&age).is_some() {
            self.count_waiting(age, -1);
            self.grant();
        }
    }

    /// Gives back what is beyond `bytes`.
    pub(super) fn shrink(&mut self, age: Age, bytes: u64) {
        if self.holds.get(&age).is_some_and(|entry| entry.bytes > bytes) {
            self.set(age, bytes);
            self.grant();
        }
    }

    /// The hold grows no more.
    pub(super) fn settle(&mut self, age: Age) {
        let Some(entry) = self.holds.get_mut(&age).filter(|entry| entry.is_growing) else { return };
        entry.is_growing = false;
        let (client, bytes) = (entry.client.clone(), entry.bytes);
        self.for_accounts(&client, |account| account.settled_bytes += bytes);
        self.leave_lanes(age, &client);
        self.grant();
    }

    /// Ends a hold.
    pub(super) fn close(&mut self, age: Age) {
        if self.waiting.remove(&age).is_some() {
            self.count_waiting(age, -1);
        }
        let Some(Entry { client, bytes, is_growing, .. }) = self.holds.remove(&age) else { return };
        self.bytes -= bytes;
        self.leave_lanes(age, &client);
        self.for_accounts(&client, |account| {
            account.holds -= 1;
            account.bytes -= bytes;
            if !is_growing {
                account.settled_bytes -= bytes;
            }
        });
        for (accounts, key) in
            [(&mut self.subjects, &client.subject), (&mut self.addresses, &client.address)]
        {
            if accounts.get(key).is_some_and(|account| account.holds == 0) {
                accounts.remove(key);
            }
        }
        self.grant();
    }

    /// Takes the youngest hold back of somebody who has more than they may, since a hold of
    /// somebody else waits. Whether there was one.
    pub(super) fn revoke_for(&mut self, age: Age) -> bool {
        let Some(Client { subject, address }) =
            self.holds.get(&age).map(|entry| entry.client.clone())
        else {
            return false;
        };
        let over = |accounts: &HashMap<Arc<str>, Account>, own: &Arc<str>, most: u64| {
            let over = accounts.iter().filter(|(key, account)| *key != own && account.bytes > most);
            over.max_by_key(|(_, account)| account.bytes)
                .map(|(key, account)| (Arc::clone(key), account.lane))
        };
        let found = if let Some((key, lane)) =
            over(&self.subjects, &subject, self.most_of_subject())
        {
            self.youngest(lane, |client| client.subject == key)
        } else if let Some((key, lane)) = over(&self.addresses, &address, self.most_of_address()) {
            self.youngest(lane, |client| client.address == key)
        } else {
            None
        };
        let Some(entry) = found.and_then(|age| self.holds.get(&age)) else { return false };
        entry.revoked.cancel();
        true
    }

    /// The youngest hold of somebody that has something, grows, and is in no lane.
    fn youngest(&self, own_lane: Option<Age>, is_theirs: impl Fn(&Client) -> bool) -> Option<Age> {
        let mut holds = self.holds.iter().rev();
        let is_in_lane = |age: &Age| self.lane == Some(*age) || own_lane == Some(*age);
        let (age, _) = holds.find(|(age, entry)| {
            entry.is_growing && entry.bytes > 0 && is_theirs(&entry.client) && !is_in_lane(age)
        })?;
        Some(*age)
    }

    /// What a subject may have while it has company.
    fn most_of_subject(&self) -> u64 {
        self.bounds.share + self.bounds.slack
    }

    /// What an address may have while it has company: another subject may be there.
    fn most_of_address(&self) -> u64 {
        self.bounds.share + self.bounds.largest + self.bounds.slack
    }

    /// Grants what can be granted, elder ones first.
    fn grant(&mut self) {
        let asked: Vec<(Age, u64)> =
            self.waiting.iter().map(|(age, request)| (*age, request.target)).collect();
        for (age, target) in asked {
            let Some(lanes) = self.may_have(age, target) else { continue };
            self.give(age, target, lanes);
            if let Some(request) = self.waiting.remove(&age) {
                self.count_waiting(age, -1);
                // One that has stopped waiting gives it back when it is closed.
                let _ = request.granted.send(());
            }
        }
    }

    /// Whether a hold may have `target` bytes in all, and which lanes it takes for that.
    fn may_have(&self, age: Age, target: u64) -> Option<Lanes> {
        let entry = self.holds.get(&age)?;
        let mut lanes = Lanes::default();
        let Some(more) = target.checked_sub(entry.bytes).filter(|more| *more > 0) else {
            return Some(lanes);
        };
        let Bounds { total, largest, .. } = self.bounds;
        if self.bytes + more > total {
            return None;
        }
        if self.lane == Some(age) {
            return Some(lanes);
        }
        let Client { subject, address } = &entry.client;
        let subject = (&self.subjects, subject, self.most_of_subject(), &mut lanes.of_subject);
        let address = (&self.addresses, address, self.most_of_address(), &mut lanes.of_address);
        let mut is_fair = true;
        for (accounts, key, most, takes_lane) in [subject, address] {
            let account = accounts.get(key)?;
            let most = if has_company(accounts, key) { most.min(total) } else { total };
            if account.lane != Some(age) && !self.fits(account.bytes, account.lane, more, most) {
                *takes_lane = true;
                if account.lane.is_some() {
                    return None;
                }
            }
            if (account.lane == Some(age) || *takes_lane) && account.settled_bytes + target > most {
                return None;
            }
            is_fair &= account.bytes - entry.bytes + largest <= most;
        }
        if !self.fits(self.bytes, self.lane, more, total) {
            if self.lane.is_some() || !(is_fair || self.nobody_else_waits(&entry.client)) {
                return None;
            }
            lanes.of_all = true;
        }
        Some(lanes)
    }

    /// Whether a hold that is in no lane may have `more`, of `most` for all of these, who have
    /// `bytes`.
    fn fits(&self, bytes: u64, lane: Option<Age>, more: u64, most: u64) -> bool {
        let in_lane = lane.and_then(|age| self.holds.get(&age)).map_or(0, |entry| entry.bytes);
        bytes - in_lane + more <= most.saturating_sub(self.bounds.largest)
    }

    fn nobody_else_waits(&self, client: &Client) -> bool {
        let mut waiting = self.waiting.keys().filter_map(|age| self.holds.get(age));
        waiting.all(|entry| {
            entry.client.subject == client.subject || entry.client.address == client.address
        })
    }

    fn give(&mut self, age: Age, bytes: u64, lanes: Lanes) {
        self.set(age, bytes);
        let Some(Client { subject, address }) =
            self.holds.get(&age).map(|entry| entry.client.clone())
        else {
            return;
        };
        if lanes.of_all {
            self.lane = Some(age);
        }
        for (accounts, key, takes_lane) in [
            (&mut self.subjects, subject, lanes.of_subject),
            (&mut self.addresses, address, lanes.of_address),
        ] {
            if let Some(account) = accounts.get_mut(&key).filter(|_| takes_lane) {
                account.lane = Some(age);
            }
        }
    }

    fn leave_lanes(&mut self, age: Age, client: &Client) {
        self.lane = self.lane.filter(|lane| *lane != age);
        self.for_accounts(client, |account| {
            account.lane = account.lane.filter(|lane| *lane != age);
        });
    }

    fn set(&mut self, age: Age, bytes: u64) {
        let Some(entry) = self.holds.get_mut(&age) else { return };
        let (was, is_growing) = (std::mem::replace(&mut entry.bytes, bytes), entry.is_growing);
        let client = entry.client.clone();
        self.bytes = self.bytes - was + bytes;
        self.for_accounts(&client, |account| {
            account.bytes = account.bytes - was + bytes;
            if !is_growing {
                account.settled_bytes = account.settled_bytes - was + bytes;
            }
        });
    }

    fn count_waiting(&mut self, age: Age, change: isize) {
        if let Some(client) = self.holds.get(&age).map(|entry| entry.client.clone()) {
            self.for_accounts(&client, |account| {
                account.waiting = account.waiting.saturating_add_signed(change);
            });
        }
    }

    fn for_accounts(&mut self, client: &Client, mut change: impl FnMut(&mut Account)) {
        change(self.subjects.entry(Arc::clone(&client.subject)).or_default());
        change(self.addresses.entry(Arc::clone(&client.address)).or_default());
    }
}

/// The lanes that a hold takes to have what it asks for.
#[derive(Debug, Clone, Copy, Default)]
struct Lanes {
    of_all: bool,
    of_subject: bool,
    of_address: bool,
}

/// Whether somebody else holds or wants something.
fn has_company(accounts: &HashMap<Arc<str>, Account>, own: &Arc<str>) -> bool {
    accounts.iter().any(|(key, account)| key != own && (account.bytes > 0 || account.waiting > 0))
}

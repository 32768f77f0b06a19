//! Who holds how much of a pool, and who may have more of it: the rules, without waiting.
//!
//! A hold *grows* while its client sends, or until it was given all that it wants, and is *settled* from then on: what is
//! settled ends by itself. `largest` is the most that one hold may have, and is kept back for the eldest that grows:
//!
//! - The eldest may have all that is free. Any other one gets no more than leaves `largest` to the eldest.
//! - The same holds among the holds of one subject, and of one address, within their share. A share counts only while
//!   somebody else holds or wants something; without company it is the whole pool.
//!
//! So nobody waits for ever. The holds that are not the eldest were within `total - largest` together when they last grew;
//! when the eldest waits, then for holds that have settled since, which end by themselves. When it has what it wants it settles,
//! or its client's deadlines end it, and the next one is the eldest. Within a share the argument is the same.
//!
//! And nobody shuts the others out: with company, one subject has `largest` or its share, whichever is more, and a little
//! beside it. The pool has room for three times that: for the eldest, for that subject, and for somebody else. What somebody
//! had beyond their share before company came is taken back, youngest first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    /// What others of its holds may have beyond that: a small request goes on beside a large one of the same client.
    pub(super) slack: u64,
}

/// The state of a pool.
#[derive(Debug)]
pub(super) struct Shares {
    bounds: Bounds,
    holds: HashMap<Age, Entry>,
    all: Account,
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
    growing: BTreeSet<Age>,
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
            holds: HashMap::new(),
            all: Account::default(),
            subjects: HashMap::new(),
            addresses: HashMap::new(),
            waiting: BTreeMap::new(),
            next_age: 0,
        }
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.all.bytes
    }

    /// Adds a hold of nothing. The token is cancelled when its memory is taken back.
    pub(super) fn open(&mut self, client: &Client) -> (Age, CancellationToken) {
        let age = self.next_age;
        self.next_age += 1;
        let revoked = CancellationToken::new();
        let entry = Entry { client: client.clone(), bytes: 0, is_growing: true, revoked: revoked.clone() };
        self.for_accounts(client, |account| {
            account.holds += 1;
            account.growing.insert(age);
        });
        self.holds.insert(age, entry);
        (age, revoked)
    }

    /// Asks for `target` bytes in all. Gives nothing when they are granted at once, else what tells that they are.
    pub(super) fn ask(&mut self, age: Age, target: u64) -> Option<oneshot::Receiver<()>> {
        let target = target.min(self.bounds.largest);
        if self.may_have(age, target) {
            self.set(age, target);
            return None;
        }
        let (granted, told) = oneshot::channel();
        self.waiting.insert(age, Request { target, granted });
        Some(told)
    }

    /// Takes a request back.
    pub(super) fn forget(&mut self, age: Age) {
        self.waiting.remove(&age);
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
        self.for_accounts(&client, |account| {
            account.growing.remove(&age);
            account.settled_bytes += bytes;
        });
        self.grant();
    }

    /// Ends a hold.
    pub(super) fn close(&mut self, age: Age) {
        self.waiting.remove(&age);
        let Some(Entry { client, bytes, is_growing, .. }) = self.holds.remove(&age) else { return };
        self.for_accounts(&client, |account| {
            account.holds -= 1;
            account.bytes -= bytes;
            account.growing.remove(&age);
            if !is_growing {
                account.settled_bytes -= bytes;
            }
        });
        for (accounts, key) in [(&mut self.subjects, &client.subject), (&mut self.addresses, &client.address)] {
            if accounts.get(key).is_some_and(|account| account.holds == 0) {
                accounts.remove(key);
            }
        }
        self.grant();
    }

    /// Takes the youngest hold back of somebody who has more than their share, if a hold that waits could have it. Whether
    /// there was one.
    pub(super) fn revoke_for(&mut self, age: Age) -> bool {
        let Some(entry) = self.holds.get(&age) else { return false };
        let Client { subject, address } = entry.client.clone();
        let youngest = |accounts: &HashMap<Arc<str>, Account>, own: &Arc<str>| {
            let over = accounts.iter().filter(|(key, account)| *key != own && account.bytes > self.bounds.share);
            let account = over.max_by_key(|(_, account)| account.bytes)?.1;
            // Its eldest may have what it has in any case.
            let has_some = |age: &&Age| self.holds.get(*age).is_some_and(|entry| entry.bytes > 0);
            account.growing.iter().skip(1).rfind(has_some).copied()
        };
        let found = youngest(&self.subjects, &subject).or_else(|| youngest(&self.addresses, &address));
        let Some(entry) = found.and_then(|age| self.holds.get(&age)) else { return false };
        entry.revoked.cancel();
        true
    }

    /// Grants what can be granted, elder ones first.
    fn grant(&mut self) {
        let asked: Vec<(Age, u64)> = self.waiting.iter().map(|(age, request)| (*age, request.target)).collect();
        for (age, target) in asked {
            if !self.may_have(age, target) {
                continue;
            }
            self.set(age, target);
            if let Some(request) = self.waiting.remove(&age) {
                // One that has stopped waiting gives it back when it is closed.
                let _ = request.granted.send(());
            }
        }
    }

    fn may_have(&self, age: Age, target: u64) -> bool {
        let Some(entry) = self.holds.get(&age) else { return false };
        let Some(more) = target.checked_sub(entry.bytes).filter(|more| *more > 0) else { return true };
        let Bounds { total, share, slack, .. } = self.bounds;
        if self.all.bytes + more > total || (!is_eldest(&self.all, age) && !self.fits(&self.all, more, total)) {
            return false;
        }
        let accounts = [(&self.subjects, &entry.client.subject), (&self.addresses, &entry.client.address)];
        accounts.into_iter().all(|(accounts, key)| {
            let Some(account) = accounts.get(key) else { return false };
            let most = if accounts.len() > 1 { share } else { total };
            if is_eldest(account, age) {
                account.settled_bytes + target <= most
            } else {
                self.fits(account, more, total.min(most + slack))
            }
        })
    }

    /// Whether a hold that is not the eldest of `account` may have `more`, of `most` that the account may have.
    fn fits(&self, account: &Account, more: u64, most: u64) -> bool {
        let eldest = account.growing.first().and_then(|age| self.holds.get(age)).map_or(0, |entry| entry.bytes);
        account.bytes - eldest + more <= most.saturating_sub(self.bounds.largest)
    }

    fn set(&mut self, age: Age, bytes: u64) {
        let Some(entry) = self.holds.get_mut(&age) else { return };
        let (was, is_growing) = (std::mem::replace(&mut entry.bytes, bytes), entry.is_growing);
        let client = entry.client.clone();
        self.for_accounts(&client, |account| {
            account.bytes = account.bytes - was + bytes;
            if !is_growing {
                account.settled_bytes = account.settled_bytes - was + bytes;
            }
        });
    }

    fn for_accounts(&mut self, client: &Client, mut change: impl FnMut(&mut Account)) {
        change(&mut self.all);
        change(self.subjects.entry(Arc::clone(&client.subject)).or_default());
        change(self.addresses.entry(Arc::clone(&client.address)).or_default());
    }
}

fn is_eldest(account: &Account, age: Age) -> bool {
    account.growing.first() == Some(&age)
}

//! Steps in which the server is killed in the middle of something: what was promised holds, and the
//! model takes in what of the rest has happened.

use std::{collections::BTreeSet, thread, time::Duration};

use snowbank_harness::{
    Gc, Pusher,
    collection::Answered,
    oracle,
    pusher::{PushFailed, Pushed},
};

use super::{Walk, universe::Member};

/// What a step that is cut off may take at most.
const MAX_MICROSECONDS: u64 = 120_000;

impl Walk {
    /// Kills the server a moment after `action` has begun, and starts it again; gives what `action`
    /// came to.
    fn kill_during<T: Send>(&mut self, action: impl FnOnce(&Self) -> T + Send) -> T {
        let moment = Duration::from_micros(self.random.below(MAX_MICROSECONDS));
        let ids: Vec<u32> =
            self.server.replicas().iter().filter_map(snowbank_harness::Replica::id).collect();
        let this = &*self;
        let came_to = thread::scope(|scope| {
            let running = scope.spawn(move || action(this));
            thread::sleep(moment);
            for id in ids {
                kill(id);
            }
            running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        self.server.kill9();
        self.server.start_again();
        self.reconnect();
        self.caches.iter_mut().for_each(super::state::Cache::lose_reads);
        oracle::assert_check_is_clean(&self.server);
        came_to
    }

    pub(super) fn kill_in_a_push(&mut self) {
        let (cache, root) = (self.any_cache(), self.any_path());
        let closure = self.universe.closure([root]);
        let ends = |member: &Member| {
            self.caches[cache].held.get(member).is_some_and(|held| held.expires.is_some())
        };
        if closure.iter().any(ends) {
            // Whether it has become permanent could not be told.
            return eprintln!("nothing to push");
        }
        eprintln!("kill the server during a push of {closure:?} to {}", self.caches[cache].name);
        let came_to = self.kill_during(|walk| {
            Pusher::new(&walk.api, &walk.caches[cache].name).try_push(&walk.deposits(&closure))
        });
        let pushed = match came_to {
            Ok(pushed) | Err(PushFailed::Unavailable(_, pushed)) => pushed,
            Err(PushFailed::Refused(why)) => panic!("the push was refused: {why}"),
        };
        self.take_in_part(cache, &closure, &pushed);
        self.note("killed in a push");
    }

    /// What has a receipt is there; of the rest some may be, each with all that it refers to, and
    /// nothing else.
    fn take_in_part(&mut self, cache: usize, closure: &BTreeSet<Member>, pushed: &Pushed) {
        let now = self.now();
        // Those that were there may have been found, and count as used then.
        for member in closure {
            self.caches[cache].perhaps_use(*member, now);
        }
        let listed = self.listed(cache);
        for path in pushed.receipts.keys() {
            let member = self.universe.find(path).unwrap_or_else(|| panic!("a receipt for {path}"));
            assert!(listed.contains(&member), "{path} had a receipt");
        }
        let wall = self.began.elapsed();
        let model = &mut self.caches[cache];
        let before: BTreeSet<Member> = model.held.keys().copied().collect();
        assert!(before.is_subset(&listed), "a push takes nothing away");
        assert!(
            listed.iter().all(|member| before.contains(member) || closure.contains(member)),
            "nobody pushed others"
        );
        assert!(
            self.universe.closure(listed.iter().copied()).is_subset(&listed),
            "references come before referrers"
        );
        for member in closure {
            if !before.contains(member) && listed.contains(member) {
                model.push(*member, (now, wall), None);
            }
        }
    }

    pub(super) fn kill_in_a_collection(&mut self) {
        eprintln!("kill the server during a collection");
        let came_to = self.kill_during(|walk| Gc::without_grace().ask(&walk.api));
        if let Ok(Answered::Failed(why)) = came_to {
            eprintln!("it said: {why}");
        }
        let now = self.now();
        for cache in 0..self.caches.len() {
            let left = self.listed(cache);
            let taken_in = self.caches[cache].partly_collected(&self.universe, &left, now);
            taken_in.unwrap_or_else(|why| panic!("{why}"));
        }
        self.note("killed in a collection");
    }
}

/// Sends SIGKILL; the server's owner collects its end.
fn kill(id: u32) {
    let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // It may have ended already.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
    }
}

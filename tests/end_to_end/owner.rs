//! A storage belongs to one database at a time: copies, older states, frozen holders and moves to
//! another database.

mod local;
mod moved;
mod ready;
mod site;

use std::{
    collections::BTreeSet,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use snowbank_harness::{
    Api, Gc, Pusher, Random, Server,
    collection::{self, Answered},
    craft::{Deposit, Node},
    process,
    pusher::{PushFailed, Pushed},
};

/// What every refusal names.
const ADVICE: &str = "snowbankd restore --in-place";
const LIMIT: Duration = Duration::from_mins(1);

fn deposit(random: &mut Random, name: &str) -> Deposit {
    let node = Node::File(random.bytes(300 << 10));
    Deposit::of(random, name, &node)
}

fn delete(api: &Api, path: &Deposit) {
    let answer = api
        .post_json("/api/v1/caches/main/delete", &json!({ "paths": [path.store_path.as_str()] }));
    assert!(answer.status.is_success(), "{}", answer.text());
}

/// The objects of packs.
fn objects(storage: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in std::fs::read_dir(storage.join("packs")).unwrap().map(Result::unwrap) {
        for file in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            found.insert(file.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

impl Woken {
    /// Neither was acknowledged, and no object went.
    #[track_caller]
    fn assert_nothing_was_done(&self) {
        assert!(
            self.push.as_ref().is_err_and(|failed| failed.to_string().contains("taken over")),
            "{:?}",
            self.push
        );
        assert!(self.collection.contains("taken over"), "{}", self.collection);
    }
}

/// What a server said that was under way with a push and a collection when it was frozen, and
/// another one took over.
#[derive(Debug)]
struct Woken {
    push: Result<Pushed, PushFailed>,
    collection: String,
}

/// Freezes `server` in the middle of a commit and before the collector removes objects; lets
/// `take_over` happen; wakes it up, and gives what came of both. The server is to pause at both
/// steps.
fn freeze_and_wake(server: &Server, random: &mut Random, take_over: impl FnOnce()) -> Woken {
    // Not through a load balancer, which would give up.
    let api = Api::new(&server.replicas()[0].url(), Some(&server.root_token()));
    let gone = deposit(random, "gone");
    let _ = Pusher::new(&api, "main").push(&[&gone]);
    delete(&api, &gone);
    let late = deposit(random, "late");
    let come_to = |step: &str, times: usize| {
        let line = format!("{}: {step} begins", collection::PAUSE);
        process::wait_until(&format!("the server sleeps at {step}"), LIMIT, || {
            server.log().matches(&line).count() >= times
        });
    };
    let replica = &server.replicas()[0];
    thread::scope(|scope| {
        let collector = scope.spawn(|| {
            // What died within this second goes with the next collection.
            loop {
                match Gc::without_grace().ask(&api) {
                    Ok(Answered::Done(_)) if !has_slept(server, "gc-before-object-delete") => {
                        thread::sleep(Duration::from_secs(1));
                    }
                    answer => return format!("{answer:?}"),
                }
            }
        });
        come_to("gc-before-object-delete", 1);
        let pusher = scope.spawn(|| Pusher::new(&api, "main").try_push(&[&late]));
        come_to("commit-before-tx", 2);
        replica.freeze();
        take_over();
        // For longer than a server believes its last look at the marker of a bucket.
        thread::sleep(Duration::from_secs(11));
        replica.wake();
        Woken { push: pusher.join().unwrap(), collection: collector.join().unwrap() }
    })
}

/// The steps at which [`freeze_and_wake`] wants the server to pause: the first commit makes what
/// the collection removes.
fn pauses() -> String {
    "gc-before-object-delete:20000:1,commit-before-tx:4000:2".to_owned()
}

fn has_slept(server: &Server, step: &str) -> bool {
    collection::has_come_to(step, &server.log())
}

/// Waits until the server says that it is not ready because of this, and gives what it says.
fn wait_red_because(server: &Server, because: &str, limit: Duration) -> String {
    let mut why = String::new();
    process::wait_until(&format!("/readyz says {because}"), limit, || {
        why = wait_red(server, limit);
        why.contains(because)
    });
    why
}

/// Waits until the server says that it is not ready, and gives why.
fn wait_red(server: &Server, limit: Duration) -> String {
    let (api, began) = (Api::new(&server.replicas()[0].url(), None), Instant::now());
    loop {
        let answer = api.get("/readyz");
        if !answer.status.is_success() {
            assert_eq!(answer.status.as_u16(), 503, "{}", answer.text());
            return answer.text();
        }
        assert!(began.elapsed() < limit, "/readyz stays green");
        thread::sleep(Duration::from_millis(100));
    }
}

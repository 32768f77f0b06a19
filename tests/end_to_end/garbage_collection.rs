//! Garbage collections beside a push: what is pushed stays until the push is over, as it does for
//! `nix copy`. A path that is gone all the same is called collected, not damaged.

use std::{
    fs, io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use snowbank_harness::{
    Client, NixStore, Server,
    nix::NixDaemon,
    oracle::Oracle,
    process::{self, Running},
    trees,
};

/// How long a push may take to make its roots.
const PATIENCE: Duration = Duration::from_mins(1);

/// A relay to a server that holds everything back until it is opened.
struct Gate {
    url: String,
    is_open: Arc<AtomicBool>,
}

impl Gate {
    fn before(server: &Server) -> Self {
        let address = process::own_address();
        let listener = TcpListener::bind(address).unwrap();
        let is_open = Arc::new(AtomicBool::new(false));
        let (open, server) = (Arc::clone(&is_open), server.address());
        // Ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let open = Arc::clone(&open);
                thread::spawn(move || relay(&client, server, &open));
            }
        });
        Self { url: format!("http://{address}"), is_open }
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::Release);
    }
}

fn relay(client: &TcpStream, server: SocketAddr, is_open: &AtomicBool) {
    while !is_open.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(10));
    }
    let Ok(server) = TcpStream::connect(server) else { return };
    // A side that closes ends the copy.
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*client, &mut &server);
            let _ = server.shutdown(Shutdown::Write);
        });
        let _ = io::copy(&mut &server, &mut &*client);
        let _ = client.shutdown(Shutdown::Write);
    });
}

/// Starts a push that gets no answer until the gate is opened, and waits until it has made a root
/// of `path`.
fn held_push(
    server: &Server,
    store: &NixStore,
    gate: &Gate,
    args: &[&str],
    path: &str,
) -> (Running, Client) {
    let client = Client::new(store);
    let mut command = client.command(&["push", "main"]);
    command.args(args).env("SNOWBANK_URL", &gate.url).env("SNOWBANK_TOKEN", server.root_token());
    let push = Running::start(command, &[]);
    process::wait_until("a temporary root", PATIENCE, || temporary_roots(store).contains(path));
    (push, client)
}

/// What processes that run have asked Nix to keep.
fn temporary_roots(store: &NixStore) -> String {
    let folder = store.root().join("nix/var/nix/temproots");
    let files = fs::read_dir(folder)
        .map(|entries| entries.flatten().collect::<Vec<_>>())
        .unwrap_or_default();
    files
        .iter()
        .map(|file| {
            String::from_utf8_lossy(&fs::read(file.path()).unwrap_or_default()).into_owned()
        })
        .collect()
}

fn stays_while_it_is_pushed(server: &Server, store: &NixStore, options: &[&str]) {
    let closure = trees::build_graph(store, 6, 3, "kept");
    let top = closure.iter().find(|path| path.ends_with("kept-5")).unwrap();
    let (closure, other) = (store.closure(&[top]), trees::add_tiny(store, 1, "other").remove(0));
    let gate = Gate::before(server);
    let (push, _client) =
        held_push(server, store, &gate, &[&[top.as_str()], options].concat(), top);

    let _ = store.run("nix-store", &["--gc"]).success();
    assert!(!store.has(&other), "the collection collects");
    for path in &closure {
        assert!(store.has(path), "{path} is needed");
        let refused = store.run("nix-store", &["--delete", path]);
        assert!(!refused.status.success() && refused.stderr.contains("alive"), "{refused}");
    }
    gate.open();
    let _ = push.wait().success();
    Oracle::main(server).assert_mirrors(store, &closure);
    // It was kept for the push alone.
    let _ = store.run("nix-store", &["--gc"]).success();
    assert!(!store.has(top));
}

#[test]
fn nothing_of_a_push_is_collected_before_it_is_over() {
    let (server, store) = (Server::start(), NixStore::new());
    stays_while_it_is_pushed(&server, &store, &[]);
}

#[test]
fn nothing_of_a_push_is_collected_before_it_is_over_through_a_daemon() {
    let (server, store) = (Server::start(), NixStore::new());
    let daemon = NixDaemon::of(&store);
    stays_while_it_is_pushed(&server, &store, &["--store", &daemon.uri(&store)]);
}

#[test]
fn a_path_that_was_collected_is_not_called_damaged_and_the_rest_is_pushed() {
    let (server, store) = (Server::start(), NixStore::new());
    let paths = trees::add_tiny(&store, 3, "tiny");
    let gate = Gate::before(&server);
    let args: Vec<&str> = paths.iter().map(String::as_str).collect();
    let (push, _client) = held_push(&server, &store, &gate, &args, &paths[2]);
    // Its roots are forgotten, as by somebody who cleans up below /nix/var.
    for entry in fs::read_dir(store.root().join("nix/var/nix/temproots")).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    let _ = store.run("nix-store", &["--delete", &paths[1]]).success();
    gate.open();
    let said = push.wait().ended_with(4).stderr;
    let line =
        said.lines().find(|line| line.contains(&paths[1])).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("garbage-collected") && line.contains("--no-link"), "{line}");
    assert!(!said.contains("--repair-path") && said.contains("2 uploaded"), "{said}");
    Oracle::main(&server).assert_mirrors(&store, &[paths[0].clone(), paths[2].clone()]);
}

#[test]
fn a_path_that_was_collected_before_the_push_is_told() {
    let (server, store) = (Server::start(), NixStore::new());
    let path = trees::add_tiny(&store, 1, "early").remove(0);
    let _ = store.run("nix-store", &["--delete", &path]).success();
    let push = Client::of(&server, &store).push(&[&path]).ended_with(4);
    assert!(push.output.stderr.contains("was garbage-collected since"), "{}", push.output);
}

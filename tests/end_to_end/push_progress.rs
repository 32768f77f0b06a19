//! While a server is away, a push says that it waits, for what, and for how long; then it goes on.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use snowbank_harness::{
    Client, NixStore, Random, Server,
    loopback::lock,
    oracle::Oracle,
    process::{self, Running},
    trees,
};

/// A way to a server that can be cut, so that connections are refused, and mended.
struct Way {
    address: SocketAddr,
    server: SocketAddr,
    /// Bytes that have gone to the server.
    sent: Arc<AtomicU64>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    is_cut: Arc<AtomicBool>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl Way {
    fn to(server: &Server) -> Self {
        let mut way = Self {
            address: process::own_address(),
            server: server.address(),
            sent: Arc::default(),
            streams: Arc::default(),
            is_cut: Arc::default(),
            accepting: None,
        };
        way.mend();
        way
    }

    fn mend(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.is_cut = Arc::default();
        let (server, sent, streams, is_cut) = (
            self.server,
            Arc::clone(&self.sent),
            Arc::clone(&self.streams),
            Arc::clone(&self.is_cut),
        );
        self.accepting = Some(thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_cut.load(Ordering::Acquire) {
                    return;
                }
                let Ok(server) = TcpStream::connect(server) else { continue };
                lock(&streams).extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                let sent = Arc::clone(&sent);
                // Ends with its streams.
                thread::spawn(move || relay(&client, &server, &sent));
            }
        }));
    }

    fn cut(&mut self) {
        self.is_cut.store(true, Ordering::Release);
        // Wakes what accepts, which then stops listening.
        drop(TcpStream::connect(self.address));
        self.accepting.take().unwrap().join().unwrap();
        for stream in lock(&self.streams).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Copies both ways until a side closes.
fn relay(client: &TcpStream, server: &TcpStream, sent: &AtomicU64) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*server, &mut &*client);
            let _ = client.shutdown(Shutdown::Write);
        });
        let mut piece = [0; 16 << 10];
        while let Ok(length @ 1..) = io::Read::read(&mut &*client, &mut piece) {
            if io::Write::write_all(&mut &*server, &piece[..length]).is_err() {
                break;
            }
            sent.fetch_add(length as u64, Ordering::Relaxed);
        }
        let _ = server.shutdown(Shutdown::Write);
    });
}

#[test]
fn a_server_that_is_away_is_waited_for_with_a_word() {
    let (server, store) = (Server::start(), NixStore::new());
    let mut random = Random::fixed(2_900);
    let paths: Vec<String> = (0..6)
        .map(|number| trees::add_noise(&store, &mut random, &format!("noise-{number}"), 6 << 20))
        .collect();
    let client = Client::new(&store);
    let mut way = Way::to(&server);
    let mut command = client.command(&["push", "main"]);
    command.args(&paths).env("SNOWBANK_URL", format!("http://{}", way.address));
    let push = Running::start(
        {
            command.env("SNOWBANK_TOKEN", server.root_token());
            command
        },
        &[],
    );
    process::wait_until("the first bytes", Duration::from_mins(1), || {
        way.sent.load(Ordering::Relaxed) > 1 << 20
    });
    way.cut();
    process::wait_until("a word", Duration::from_mins(1), || {
        push.stderr_so_far().contains("connection refused")
    });
    let said = push.stderr_so_far();
    let line = said.lines().find(|line| line.contains("connection refused")).unwrap_or_default();
    assert!(line.starts_with("retrying in ") && line.contains(" s ("), "{said}");
    way.mend();
    let output = push.wait().success();
    assert!(output.stderr.contains("6 uploaded"), "{output}");
    Oracle::main(&server).assert_mirrors(&store, &paths);
}

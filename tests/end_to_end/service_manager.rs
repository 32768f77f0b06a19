//! A server under systemd, which the test plays: it is told when the server serves, stops and is
//! alive, and it keeps the sockets while one server takes the place of another.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use snowbank_harness::{Scratch, process};

const LIMIT: Duration = Duration::from_mins(1);

/// What systemd has of a service: its messages, and the sockets that it keeps open for it.
struct Manager {
    messages: UnixDatagram,
    tcp: TcpListener,
    unix: UnixListener,
    scratch: Scratch,
}

impl Manager {
    fn new() -> Self {
        let scratch = Scratch::new("manager");
        let messages = UnixDatagram::bind(scratch.join("notify")).unwrap();
        messages.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self {
            messages,
            tcp: TcpListener::bind((process::own_address().ip(), 0)).unwrap(),
            unix: UnixListener::bind(scratch.join("http.sock")).unwrap(),
            scratch,
        }
    }

    fn address(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.scratch.join("http.sock")
    }

    /// Starts the service with both sockets, as descriptors 3 and 4.
    fn start(&self, environment: &[(&str, &str)]) -> Service<'_> {
        let script = "exec 3<&0 4<&1 0</dev/null 1>&2; export LISTEN_PID=$$ LISTEN_FDS=2; \
                      exec \"$@\"";
        let log = self.scratch.join("log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command: Command = process::command("sh", self.scratch.path());
        command
            .args(["-c", script, "sh"])
            .arg(process::binary("snowbankd"))
            // Not listened on: the sockets are systemd's.
            .args(["--listen", "127.0.0.1:1", "--data-dir"])
            .arg(self.scratch.join("data"))
            .env("NOTIFY_SOCKET", self.scratch.join("notify"))
            .envs(environment.iter().copied())
            .stdin(Stdio::from(OwnedFd::from(self.tcp.try_clone().unwrap())))
            .stdout(Stdio::from(OwnedFd::from(self.unix.try_clone().unwrap())))
            .stderr(log);
        Service { child: command.spawn().unwrap(), manager: self }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }
}

/// A service that runs. Ended (with SIGKILL) when dropped.
struct Service<'a> {
    child: Child,
    manager: &'a Manager,
}

impl Service<'_> {
    /// Waits for a message with this line, and gives the lines of all messages up to it.
    fn wait_for(&mut self, line: &str) -> Vec<String> {
        let (began, mut lines) = (Instant::now(), Vec::new());
        let mut message = [0; 4096];
        loop {
            match self.manager.messages.recv(&mut message) {
                Ok(length) => {
                    let text = String::from_utf8(message[..length].to_vec()).unwrap();
                    lines.extend(text.lines().map(str::to_owned));
                    if text.lines().any(|one| one == line) {
                        return lines;
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}, {lines:?}: {}", self.manager.log());
            assert!(began.elapsed() < LIMIT, "no {line} in {lines:?}: {}", self.manager.log());
        }
    }

    fn end(mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.manager.log());
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        // Harmless when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const REQUEST: &str =
    "GET /main/nix-cache-info HTTP/1.1\r\nhost: cache\r\nconnection: close\r\n\r\n";

/// Reads an answer to its end.
fn answer(mut stream: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(REQUEST.as_bytes())?;
    answer(stream)
}

#[test]
fn systemd_is_told_that_the_server_serves_lives_and_stops() {
    let manager = Manager::new();
    let mut service = manager.start(&[("WATCHDOG_USEC", "1000000")]);
    let told = service.wait_for("READY=1");
    assert!(ask(manager.address()).unwrap().starts_with("HTTP/1.1 200"));
    let status = told.iter().find(|line| line.starts_with("STATUS=")).unwrap().clone();
    assert!(status.contains(&manager.address().to_string()), "{status}");
    assert!(status.contains(manager.socket().to_str().unwrap()), "{status}");
    // Often enough that one that is late is no reason to restart.
    let began = Instant::now();
    for _ in 0..4 {
        let _ = service.wait_for("WATCHDOG=1");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    process::send(&service.child, Signal::TERM);
    let _ = service.wait_for("STOPPING=1");
    service.end();
}

#[test]
fn no_sign_of_life_is_sent_where_none_is_asked_for() {
    let manager = Manager::new();
    let mut service = manager.start(&[]);
    let _ = service.wait_for("READY=1");
    process::send(&service.child, Signal::TERM);
    let told = service.wait_for("STOPPING=1");
    assert!(!told.iter().any(|line| line == "WATCHDOG=1"), "{told:?}");
    service.end();
}

#[test]
fn a_server_that_cannot_start_is_never_ready() {
    let manager = Manager::new();
    let mut first = manager.start(&[]);
    let _ = first.wait_for("READY=1");
    let mut second = manager.start(&[]);
    let status = second.child.wait().unwrap();
    assert_eq!(status.code(), Some(1), "{}", manager.log());
    let mut message = [0; 4096];
    let heard = manager.messages.recv(&mut message);
    assert!(heard.is_err(), "{}", String::from_utf8_lossy(&message));
}

#[test]
fn an_upgrade_refuses_no_connection_and_ends_what_is_under_way() {
    let manager = Manager::new();
    let mut old = manager.start(&[]);
    let _ = old.wait_for("READY=1");
    let (address, socket) = (manager.address(), manager.socket());
    let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !is_over.load(SeqCst) {
                        let text = ask(address).unwrap_or_else(|e| panic!("{e}"));
                        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
                        asked.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        // A request whose body is on its way when the server is told to stop.
        let token = fs::read_to_string(manager.scratch.join("data/root-token")).unwrap();
        let body = r#"{"name":"team"}"#;
        let head = format!(
            "POST /api/v1/caches HTTP/1.1\r\nhost: cache\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            token.trim(),
            body.len()
        );
        let mut under_way = TcpStream::connect(address).unwrap();
        under_way.write_all(head.as_bytes()).unwrap();
        under_way.write_all(&body.as_bytes()[..4]).unwrap();
        // Requests on it have been read once others that came later are answered.
        let before = asked.load(SeqCst);
        process::wait_until("requests are answered", LIMIT, || asked.load(SeqCst) > before + 20);

        process::send(&old.child, Signal::TERM);
        let _ = old.wait_for("STOPPING=1");
        // Nobody accepts these.
        let queued: Vec<_> = (0..64)
            .map(|_| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(REQUEST.as_bytes()).unwrap();
                stream
            })
            .collect();
        let mut local = UnixStream::connect(&socket).unwrap();
        local.write_all(REQUEST.as_bytes()).unwrap();
        assert!(old.child.try_wait().unwrap().is_none(), "a request is under way");
        under_way.write_all(&body.as_bytes()[4..]).unwrap();
        let made = answer(&mut under_way).unwrap();
        assert!(made.starts_with("HTTP/1.1 201") || made.starts_with("HTTP/1.1 200"), "{made}");
        old.end();

        let mut new = manager.start(&[]);
        let _ = new.wait_for("READY=1");
        for stream in queued {
            assert!(answer(stream).unwrap().starts_with("HTTP/1.1 200"));
        }
        assert!(answer(local).unwrap().starts_with("HTTP/1.1 200"));
        let before = asked.load(SeqCst);
        process::wait_until("requests are answered", LIMIT, || asked.load(SeqCst) > before + 20);
        is_over.store(true, SeqCst);
        for client in clients {
            client.join().unwrap();
        }
        process::send(&new.child, Signal::TERM);
        new.end();
    });
    assert!(socket.exists(), "systemd's socket file is not the server's to remove");
    assert!(manager.log().contains("the sockets are systemd's"), "{}", manager.log());
}

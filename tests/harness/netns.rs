//! A network namespace of its own, which reaches one server and nothing else: a virtual cable leads
//! to this process, which hands connections on.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use crate::process::{self, Running};

/// A network namespace with a cable to this one. It ends when dropped, and the cable with it.
#[derive(Debug)]
pub struct NetworkNamespace {
    // Ends when this value does. The namespace is its own.
    holder: Running,
    address: SocketAddr,
}

impl NetworkNamespace {
    /// Makes one from which `server` is reached at [`Self::url`]. `None`, and a line that says why,
    /// where this process may not.
    #[must_use]
    pub fn with(server: SocketAddr) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root may make a network namespace");
            return None;
        }
        // Of 198.18.0.0/15, which is for tests of networks, four addresses are this process's.
        let process = std::process::id();
        let number = (process + NEXT.fetch_add(1, Ordering::Relaxed) * 4_099) % 32_768;
        let [_, high, middle, low] = (number * 4).to_be_bytes();
        let [here, there] = [1, 2].map(|end| format!("198.{}.{middle}.{}", 18 + high, low + end));
        let [near, far] = ["a", "b"].map(|end| format!("sb{number}{end}"));
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "infinity"]);
        let holder = Running::start(command, &[]);
        let id = holder.id().to_string();
        let namespace = |id: &str| std::fs::read_link(format!("/proc/{id}/ns/net")).ok();
        process::wait_until("the namespace is there", Duration::from_secs(20), || {
            namespace(&id).is_some_and(|other| Some(other) != namespace("self"))
        });
        for line in [
            format!("ip link add {near} type veth peer name {far} netns {id}"),
            format!("ip address add {here}/30 dev {near}"),
            format!("ip link set {near} up"),
            format!("nsenter --net=/proc/{id}/ns/net ip address add {there}/30 dev {far}"),
            format!("nsenter --net=/proc/{id}/ns/net ip link set {far} up"),
            format!("nsenter --net=/proc/{id}/ns/net ip link set lo up"),
        ] {
            let mut words = line.split(' ');
            let output = Command::new(words.next().unwrap_or_default()).args(words).output();
            let output = output.unwrap_or_else(|e| panic!("{line}: {e}"));
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                eprintln!("SKIPPED: {line}: {why}");
                return None;
            }
        }
        let listener =
            TcpListener::bind((here.as_str(), 0)).unwrap_or_else(|e| panic!("{here}: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("{here}: {e}"));
        // Ends with this process.
        thread::spawn(move || hand_on(&listener, server));
        Some(Self { holder, address })
    }

    /// The server's address from inside the namespace.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The namespace, as a file.
    #[must_use]
    pub fn file(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }
}

fn hand_on(listener: &TcpListener, server: SocketAddr) {
    for connection in listener.incoming().flatten() {
        let Ok(other) = TcpStream::connect(server) else { continue };
        for (from, to) in [(connection.try_clone(), other.try_clone()), (Ok(other), Ok(connection))]
        {
            thread::spawn(move || copy(from?, to?));
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    to.shutdown(std::net::Shutdown::Write)
}

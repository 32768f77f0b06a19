//! nginx before a server, as a proxy with a body limit and an independent witness of what was
//! asked; and nginx as the server of a folder, which is what others use for a binary cache.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{Scratch, Server, process};

/// One request, as nginx logged it.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path asked for.
    pub path: String,
    /// The answer's status.
    pub status: u16,
    /// Bytes of the request, head included.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub answer_bytes: u64,
}

/// An nginx in the foreground. Ended when dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    address: SocketAddr,
    scratch: Scratch,
}

impl Nginx {
    /// Starts one that hands everything on to `server`. `body_limit` is a `client_max_body_size`:
    /// `None` leaves nginx's default (1 MiB), `Some("0")` means none.
    #[must_use]
    pub fn before(server: &Server, body_limit: Option<&str>) -> Self {
        let scratch = Scratch::new("nginx");
        let limit =
            body_limit.map(|limit| format!("client_max_body_size {limit};")).unwrap_or_default();
        let folder = scratch.path().display();
        // One process: the witness is no part of what is measured.
        let main = "master_process off;\nevents { worker_connections 512; }\n";
        let http = format!(
            "{limit}\nlog_format plain '$request_method $uri $status $request_length \
             $body_bytes_sent';\n\
             access_log {folder}/access.log plain;\n"
        );
        let location = format!("proxy_pass {}; proxy_http_version 1.1;", server.url());
        Self::start(scratch, main, &http, &location)
    }

    /// Starts one that serves the files of `folder`, with the settings of Debian's own
    /// configuration (a worker for each processor, `sendfile`, `tcp_nopush`), but no logs and no
    /// end to a connection's requests.
    #[must_use]
    pub fn serving(folder: &Path) -> Self {
        let scratch = Scratch::new("nginx");
        // Otherwise its workers are someone who may not read a test's folders.
        let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
        let main = format!("{user}worker_processes auto;\nevents {{ worker_connections 768; }}\n");
        let http = "access_log off;\nlog_not_found off;\nsendfile on;\ntcp_nopush \
            on;\nkeepalive_requests 100000000;\n";
        Self::start(scratch, &main, http, &format!("root {};", folder.display()))
    }

    fn start(scratch: Scratch, main: &str, http: &str, location: &str) -> Self {
        let address = process::own_address();
        let folder = scratch.path().display();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n{main}\
             http {{\n{temp}{http}server {{ listen {address}; location / {{ {location} }} }}\n}}\n"
        );
        process::write(&scratch.join("nginx.conf"), config);
        let errors = fs::File::create(scratch.join("stderr"))
            .unwrap_or_else(|e| panic!("nginx's stderr: {e}"));
        let mut command = process::command("nginx", scratch.path());
        command.arg("-c").arg(scratch.join("nginx.conf")).arg("-p").arg(scratch.path());
        let child = command.stdout(Stdio::null()).stderr(errors).spawn();
        let child = child
            .unwrap_or_else(|e| panic!("cannot start nginx (tests/run installs nginx-light): {e}"));
        let mut nginx = Self { child, address, scratch };
        process::wait_until("nginx listens", Duration::from_secs(20), || {
            if let Ok(Some(status)) = nginx.child.try_wait() {
                panic!("nginx ended at its start, {status}: {}", nginx.errors());
            }
            TcpStream::connect(address).is_ok()
        });
        nginx
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time that it has taken, its workers included.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        process::tree_cpu_time(self.child.id())
    }

    /// `http://127.…:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn errors(&self) -> String {
        let read = |name| fs::read_to_string(self.scratch.join(name)).unwrap_or_default();
        read("stderr") + &read("error.log")
    }

    /// Every request that it has answered so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        let log = fs::read_to_string(self.scratch.join("access.log")).unwrap_or_default();
        log.lines().filter_map(parse).collect()
    }

    /// The requests to the push protocol's `endpoint` (`chunks`, `paths`, …).
    #[must_use]
    pub fn requests_to(&self, endpoint: &str) -> Vec<Request> {
        let end = format!("/{endpoint}");
        self.requests()
            .into_iter()
            .filter(|one| one.path.starts_with("/api/") && one.path.ends_with(&end))
            .collect()
    }
}

fn parse(line: &str) -> Option<Request> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [method, path, status, request_bytes, answer_bytes] = fields[..] else {
        return None;
    };
    Some(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        status: status.parse().ok()?,
        request_bytes: request_bytes.parse().ok()?,
        answer_bytes: answer_bytes.parse().ok()?,
    })
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // With workers, SIGKILL would leave them behind.
        process::send(&self.child, Signal::TERM);
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < Duration::from_secs(5)
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        // Harmless when it has ended already; `wait` collects it either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- nginx at {}\n{}\n---", self.url(), process::tail(&self.errors(), 4_000));
        }
    }
}

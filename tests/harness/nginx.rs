//! nginx before a server: a proxy with a body limit, and an independent witness of what was asked.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
    time::Duration,
};

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

/// An nginx in the foreground, as one process. Ended when dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    address: SocketAddr,
    scratch: Scratch,
}

impl Nginx {
    /// Starts one that hands everything on to `server`. `body_limit` is a `client_max_body_size`: `None` leaves nginx's
    /// default (1 MiB), `Some("0")` means none.
    #[must_use]
    pub fn before(server: &Server, body_limit: Option<&str>) -> Self {
        let scratch = Scratch::new("nginx");
        let address = process::own_address();
        let folder = scratch.path().display();
        let limit = body_limit.map(|limit| format!("client_max_body_size {limit};")).unwrap_or_default();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n{temp}{limit}\n\
             log_format plain '$request_method $uri $status $request_length $body_bytes_sent';\n\
             access_log {folder}/access.log plain;\n\
             server {{ listen {address}; location / {{ proxy_pass {upstream}; proxy_http_version 1.1; }} }}\n}}\n",
            upstream = server.url()
        );
        process::write(&scratch.join("nginx.conf"), config);
        let errors = fs::File::create(scratch.join("stderr")).unwrap_or_else(|e| panic!("nginx's stderr: {e}"));
        let mut command = process::command("nginx", scratch.path());
        command.arg("-c").arg(scratch.join("nginx.conf")).arg("-p").arg(scratch.path());
        let child = command.stdout(Stdio::null()).stderr(errors).spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot start nginx (tests/run installs nginx-light): {e}"));
        let mut nginx = Self { child, address, scratch };
        process::wait_until("nginx listens", Duration::from_secs(20), || {
            if let Ok(Some(status)) = nginx.child.try_wait() {
                panic!("nginx ended at its start, {status}: {}", nginx.errors());
            }
            TcpStream::connect(address).is_ok()
        });
        nginx
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
        self.requests().into_iter().filter(|one| one.path.starts_with("/api/") && one.path.ends_with(&end)).collect()
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
        // Harmless when it has ended already; `wait` collects it either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- nginx at {}\n{}\n---", self.url(), process::tail(&self.errors(), 4_000));
        }
    }
}

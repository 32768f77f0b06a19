//! The certificate is renewed while requests run, as certbot and Kubernetes do it, and a pair that
//! does not fit is named while the old one stays.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use snowbank_harness::{
    Authority, Server,
    authority::Pair,
    process::{self, Running},
};

use super::{LIMIT, start};

/// The serial number of the certificate that the server shows to a new connection.
fn shown(server: &Server) -> String {
    let mut command = process::command("openssl", server.data_dir());
    command.args(["s_client", "-connect", &server.address().to_string()]);
    let output = Running::start(command, &[]).wait_for(LIMIT).success();
    let mut command = process::command("openssl", server.data_dir());
    command.args(["x509", "-noout", "-serial"]);
    Running::start(command, output.stdout.as_bytes()).wait_for(LIMIT).success().stdout
}

fn serial(certificate: &Path) -> String {
    let mut command = process::command("openssl", certificate.parent().unwrap());
    command.args(["x509", "-noout", "-serial", "-in"]).arg(certificate);
    process::run(command).success().stdout
}

#[track_caller]
fn assert_comes(server: &Server, pair: &Pair) {
    let expected = serial(&pair.certificate);
    process::wait_until("the new certificate is shown", LIMIT, || shown(server) == expected);
}

/// Clients that ask on a connection that stays, and on a new one each time.
struct Busy {
    is_over: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Busy {
    fn begin(server: &Server, authority: &Authority) -> Self {
        let (is_over, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..4).map(|number| {
            let is_kept = usize::from(number < 2);
            let builder = authority.http(None).pool_max_idle_per_host(is_kept);
            let http = if number % 2 == 0 { builder.http1_only() } else { builder };
            let http = http.build().unwrap();
            let url = format!("{}/main/nix-cache-info", server.url());
            let (is_over, answers) = (Arc::clone(&is_over), Arc::clone(&answers));
            thread::spawn(move || {
                while !is_over.load(Relaxed) {
                    let answer = http.get(&url).send().unwrap();
                    assert!(answer.text().unwrap().contains("StoreDir"));
                    answers.fetch_add(1, Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Self { is_over, answers, threads }
    }

    /// Ends them; none may have failed.
    fn end(self) {
        self.is_over.store(true, Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let answers = self.answers.load(Relaxed);
        assert!(answers > 50, "{answers} answers");
    }
}

#[test]
fn a_new_pair_is_in_use_within_seconds_and_no_request_fails() {
    let (authority, server) = start("");
    let own = server.replicas()[0].certificate().clone();
    let folder = server.replicas()[0].folder().to_owned();
    let issue =
        |name: &str| authority.issue_server(&folder, name, &server.address().ip().to_string());
    assert_eq!(shown(&server), serial(&own.certificate));
    let busy = Busy::begin(&server, &authority);

    let second = issue("second");
    second.replace(&own);
    assert_comes(&server, &second);

    // As Kubernetes does it: links to files in a folder that is itself a link.
    let versions = ["..1", "..2"].map(|version| folder.join(version));
    for (version, name) in versions.iter().zip(["third", "fourth"]) {
        fs::create_dir(version).unwrap();
        let pair = issue(name);
        fs::copy(&pair.certificate, version.join("server.pem")).unwrap();
        fs::copy(&pair.key, version.join("server.key")).unwrap();
    }
    let data = folder.join("..data");
    std::os::unix::fs::symlink("..1", &data).unwrap();
    for file in ["server.pem", "server.key"] {
        let link = folder.join("link");
        std::os::unix::fs::symlink(Path::new("..data").join(file), &link).unwrap();
        fs::rename(&link, folder.join(file)).unwrap();
    }
    let of = |version: &Path| Pair {
        certificate: version.join("server.pem"),
        key: version.join("server.key"),
    };
    assert_comes(&server, &of(&versions[0]));
    let link = folder.join("link");
    std::os::unix::fs::symlink("..2", &link).unwrap();
    fs::rename(&link, &data).unwrap();
    assert_comes(&server, &of(&versions[1]));

    busy.end();
    let log = server.log();
    assert_eq!(log.matches("the certificate has changed and is in use").count(), 3, "{log}");
    assert!(!log.contains("cannot be used"), "half a pair was never tried: {log}");
    let reloads = server.counted("snowbank_tls_reloads_total", &[("result", "ok")]);
    assert!((reloads - 3.0).abs() < 0.5, "{reloads}");
}

#[test]
fn a_pair_that_does_not_fit_is_named_once_and_the_old_one_stays() {
    let (authority, server) = start("");
    let own = server.replicas()[0].certificate().clone();
    let folder = server.replicas()[0].folder().to_owned();
    let old = serial(&own.certificate);
    let busy = Busy::begin(&server, &authority);
    let new = authority.issue_server(&folder, "new", &server.address().ip().to_string());

    let failed = || server.counted("snowbank_tls_reloads_total", &[("result", "failed")]);
    // A certificate whose key does not come.
    fs::copy(&new.certificate, &own.certificate).unwrap();
    process::wait_until("the pair is refused", LIMIT, || failed() >= 1.0);
    assert_eq!(shown(&server), old);
    // A key that is cut off, and one that is not there at all.
    fs::write(&own.key, "-----BEGIN PRIVATE KEY-----\n").unwrap();
    process::wait_until("half a key is refused", LIMIT, || failed() >= 2.0);
    fs::remove_file(&own.key).unwrap();
    process::wait_until("no key is refused", LIMIT, || failed() >= 3.0);
    thread::sleep(Duration::from_secs(3));
    assert!(shown(&server) == old && failed() < 3.5, "each is tried once: {}", failed());
    busy.end();

    let log = server.log();
    for part in ["is not that of the first certificate", "The certificate from before stays in use"]
    {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(log.matches("have changed and cannot be used").count(), 3, "{log}");
    new.replace(&own);
    assert_comes(&server, &new);
}

//! The reader of netrc files says what curl does, of files made at random from the pieces on which readers differ.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use snowbank_client::nix::netrc;

const FILES: u32 = 300;

/// A generator of numbers (xorshift), the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
}

/// A file of entries, macros, comments and words in the wrong places.
fn file(numbers: &mut Numbers) -> String {
    let hosts = ["localhost", "LocalHost", "other", "\"localhost\"", "default", "machine", "local"];
    let values =
        ["x", "y1", "default", "login", "password", "machine", "\"a b\"", "\"q\\\"\\\\\\t\"", "localhost", "\"\""];
    let breaks = [" ", "\n", "  ", "\t", "\n\n", " \n", "\n  ", "\r\n"];
    let mut text = String::new();
    for _ in 0..1 + numbers.below(5) {
        let mut words: Vec<&str> = match numbers.below(9) {
            0 => vec!["default"],
            1 => vec![numbers.one(&["account", "x", "macdeff", "login"])],
            2 => vec!["macdef", "init"],
            3 => {
                text.push_str(numbers.one(&["# machine localhost password no\n", "  # default\n", "\n\n", "\n"]));
                continue;
            }
            _ => vec![numbers.one(&["machine", "MACHINE"]), numbers.one(&hosts)],
        };
        // A password without a login counts otherwise in older releases of curl: such entries are left out.
        words.extend([numbers.one(&["login", "Login"]), numbers.one(&values)]);
        if numbers.below(6) > 0 {
            words.extend([numbers.one(&["password", "PASSWORD"]), numbers.one(&values)]);
        }
        for word in words {
            text.push_str(word);
            text.push_str(numbers.one(&breaks));
        }
        text.push_str(numbers.one(&["\n", "\n", "\n\n", " # end\n"]));
    }
    text
}

/// Sends what each request has for `Authorization`.
fn serve() -> (u16, mpsc::Receiver<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = mpsc::channel();
    // Ends with the process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let head: Vec<String> =
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let credentials = head.iter().find_map(|line| line.strip_prefix("Authorization: Basic "));
            let decode = |text: &str| String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap();
            let password = credentials.map(|text| decode(text).split_once(':').unwrap().1.to_owned());
            sender.send(password).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        }
    });
    (port, receiver)
}

#[test]
fn files_are_read_as_curl_reads_them() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: there is no curl on this machine");
        return;
    }
    let (port, receiver) = serve();
    let folder = tempfile::tempdir().unwrap();
    let netrc_file = folder.path().join("netrc");
    let mut numbers = Numbers(0x5eed);
    let mut with_password = 0;
    for _ in 0..FILES {
        let text = file(&mut numbers);
        fs::write(&netrc_file, &text).unwrap();
        let status = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--netrc-optional", "--netrc-file"])
            .arg(&netrc_file)
            .arg(format!("http://localhost:{port}/"))
            .status()
            .unwrap();
        // curl asks for nothing where it refuses the file.
        let curl = if status.success() { Ok(receiver.recv().unwrap()) } else { Err(()) };
        let own = netrc::password(&text, "localhost").map(|password| password.map(|password| password.to_string()));
        with_password += u32::from(matches!(own, Ok(Some(_))));
        // No password and an empty one are the same to a server.
        let curl = curl.map(|password| password.filter(|password| !password.is_empty()));
        assert_eq!(own.map_err(|_| ()), curl, "{text:?}");
    }
    assert!(with_password > FILES / 4, "{with_password} files have a password for the host");
}

//! The reader of netrc files says what curl does, of files made at random from the pieces on which
//! readers differ.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use snowbank_client::nix::netrc;

const FILES: u32 = 150;

/// Files in which a value is a keyword, and the like.
const FIXED: [&str; 8] = [
    "machine a login x password default\nmachine localhost login y password z\n",
    "machine a login x password default\n login q password w\nmachine localhost login y password \
     z\n",
    "machine a login machine password localhost\n login q password w\n",
    "machine a login \"x\nmachine localhost login y password z\n",
    "machine localhost account login login y password z\n",
    "machine localhost login \"a\"b password z\n",
    "macdef init\nmachine localhost login m password n\n\nmachine localhost login y password z\n",
    "default login d\nmachine localhost login y password z\n",
];

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
        ["x", "y1", "login", "password", "\"a b\"", "\"q\\\"\\\\\\t\"", "localhost", "\"\""];
    let breaks = [" ", "\n", "  ", "\t", "\n  "];
    let mut text = String::new();
    for _ in 0..=numbers.below(5) {
        let mut words: Vec<&str> = match numbers.below(9) {
            0 => vec!["default"],
            1 => vec![numbers.one(&["account", "x", "macdeff", "machin"])],
            2 => vec!["macdef", "init"],
            3 => {
                text.push_str(numbers.one(&[
                    "# machine localhost password no\n",
                    "  # default\n",
                    "\n\n",
                    "\n",
                ]));
                continue;
            }
            _ => vec![numbers.one(&["machine", "MACHINE"]), numbers.one(&hosts)],
        };
        // A password without a login counts otherwise in older releases of curl: such entries are
        // left out.
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
    // Releases up to 7.88 at least take blanks and a carriage return at the end of a line, and an
    // empty line, for an empty word.
    let lines: Vec<&str> =
        text.split('\n').map(|line| line.trim_end_matches([' ', '\t'])).collect();
    lines.join("\n")
}

/// Sends what each request has for `Authorization`.
fn serve() -> (u16, mpsc::Receiver<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = mpsc::channel();
    // Ends with the process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let head: Vec<String> = BufReader::new(&stream)
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let credentials =
                head.iter().find_map(|line| line.strip_prefix("Authorization: Basic "));
            let decode =
                |text: &str| String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap();
            let password =
                credentials.map(|text| decode(text).split_once(':').unwrap().1.to_owned());
            sender.send(password).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
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
    for text in FIXED.map(str::to_owned).into_iter().chain((0..FILES).map(|_| file(&mut numbers))) {
        fs::write(&netrc_file, &text).unwrap();
        let status = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--netrc-optional", "--netrc-file"])
            .arg(&netrc_file)
            .arg(format!("http://localhost:{port}/"))
            .status()
            .unwrap();
        // curl asks for nothing where it refuses the file.
        let curl = if status.success() { Ok(receiver.recv().unwrap()) } else { Err(()) };
        let own = netrc::password(&text, "localhost")
            .map(|password| password.map(|password| password.to_string()));
        with_password += u32::from(matches!(own, Ok(Some(_))));
        // No password and an empty one are the same to a server.
        let curl = curl.map(|password| password.filter(|password| !password.is_empty()));
        assert_eq!(own.map_err(|_| ()), curl, "{text:?}");
    }
    assert!(with_password > FILES / 4, "{with_password} files have a password for the host");
}

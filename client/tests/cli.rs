//! The `snowbank` program as a user calls it, but for `push`: what it writes, prints, and exits
//! with.
//!
//! Each test has a home folder and a server of its own; the server is a thread that plays the few
//! answers needed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use snowbank_core::cut::CutParams;
use snowbank_core::hash::NarHash;
use snowbank_core::receipt::{Receipt, ReceiptStatus};
use snowbank_core::signing::SecretKey;
use snowbank_core::wire::{CacheInfo, Limits, WhoAmI};
use tempfile::TempDir;

const TOKEN: &str = "eyJ.t0ken.x";

/// Answers by path; `whoami` and everything private want the token.
#[derive(Clone, Default)]
struct Answers {
    open: BTreeMap<String, String>,
    guarded: BTreeMap<String, String>,
}

struct Server {
    url: String,
    answers: Arc<Mutex<Answers>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let whoami = WhoAmI {
            subject: "ci".to_owned(),
            token_id: "1".to_owned(),
            issued: None,
            expires: None,
            admin: false,
            caches: BTreeMap::from([(
                "main*".to_owned(),
                vec!["pull".to_owned(), "push".to_owned()],
            )]),
            server_version: "0".to_owned(),
        };
        let mut answers = Answers::default();
        answers
            .guarded
            .insert("/api/v1/whoami".to_owned(), serde_json::to_string(&whoami).unwrap());
        for (name, public) in [("main", true), ("secret", false)] {
            let info = serde_json::to_string(&cache_info(name, public)).unwrap();
            let answers = if public { &mut answers.open } else { &mut answers.guarded };
            answers.insert(format!("/api/v1/caches/{name}"), info);
        }
        let answers = Arc::new(Mutex::new(answers));
        let shared = Arc::clone(&answers);
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let answers = shared.lock().unwrap().clone();
                std::thread::spawn(move || answer(stream.unwrap(), &answers));
            }
        });
        Self { url, answers }
    }
}

fn answer(mut stream: TcpStream, answers: &Answers) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut line) = (Vec::new(), String::new());
    while reader.read_line(&mut line).is_ok_and(|len| len > 2) {
        head.push(std::mem::take(&mut line));
    }
    let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else { return };
    let authorized = head
        .iter()
        .any(|line| line.to_lowercase().starts_with("authorization:") && line.contains(TOKEN));
    let (status, body) = match (answers.open.get(path), answers.guarded.get(path)) {
        (Some(body), _) => ("200 OK", body.as_str()),
        (_, Some(body)) if authorized => ("200 OK", body.as_str()),
        (_, Some(_)) => {
            ("401 Unauthorized", r#"{"error":{"code":"unauthenticated","message":"who are you?"}}"#)
        }
        _ => ("404 Not Found", r#"{"error":{"code":"not-found","message":"nothing here"}}"#),
    };
    let len = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{body}"
    );
}

fn key() -> SecretKey {
    SecretKey::from_seed("host-main-1", [7; 32]).unwrap()
}

fn cache_info(name: &str, public: bool) -> CacheInfo {
    CacheInfo {
        name: name.to_owned(),
        public,
        store_dir: "/nix/store".to_owned(),
        public_keys: vec![key().public().to_string()],
        priority: 41,
        upstream_keys: Vec::new(),
        cut: CutParams::DEFAULT,
        compression_level: 3,
        limits: Limits {
            bundle_bytes: 1,
            bundle_entries: 1,
            names_per_request: 1,
            paths_per_request: 1,
            paths_per_query: 1,
            manifest_bytes: 1,
            commit_nar_bytes: u64::MAX,
        },
        permissions: if public { Vec::new() } else { vec!["pull".to_owned()] },
        retired_keys: Vec::new(),
        url: None,
        server_version: "0".to_owned(),
    }
}

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn snowbank(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_snowbank"));
        command.args(args).env_clear().env("HOME", self.0.path()).env("NO_PROXY", "127.0.0.1");
        command.env("NIX_CONF_DIR", self.path("etc-nix")).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.snowbank(args).output().unwrap()
    }

    fn login(&self, name: &str, server: &Server) {
        let file = self.write("token", TOKEN);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let output =
            self.run(&["login", name, &server.url, "--token-file", file.to_str().unwrap()]);
        assert_exit(&output, 0);
    }
}

/// Checks the exit code, and that the token was not printed; returns what was written to standard
/// error.
#[track_caller]
fn assert_exit(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(
        !stderr.contains(TOKEN) && !String::from_utf8_lossy(&output.stdout).contains(TOKEN),
        "{stderr}"
    );
    stderr
}

fn with_input(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_token_is_taken_from_wherever_it_is() {
    let server = Server::start();
    for place in ["stdin", "file", "variable", "variable's file"] {
        let home = Home::new();
        let file = home.write("t", &format!(" {TOKEN}\r\n"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = home.snowbank(&["login", "local", &server.url]);
        let output = match place {
            "stdin" => with_input(command, &format!("\n{TOKEN}\n")),
            "file" => command.arg("--token-file").arg(&file).output().unwrap(),
            "variable" => command.env("SNOWBANK_TOKEN", format!("{TOKEN}\n")).output().unwrap(),
            _ => command.env("SNOWBANK_TOKEN_FILE", &file).output().unwrap(),
        };
        let said = assert_exit(&output, 0);
        assert!(
            said.contains("as ci, the default server") && said.contains("main*: pull, push"),
            "{said}"
        );
        assert_eq!(home.read(".config/snowbank/tokens/local"), format!("{TOKEN}\n"), "{place}");
        let config = home.read(".config/snowbank/client.toml");
        assert!(
            config.contains("default-server = \"local\"") && config.contains(&server.url),
            "{config}"
        );
    }
}

#[test]
fn what_is_wrong_with_a_login_is_said_and_nothing_written() {
    let server = Server::start();
    let home = Home::new();
    let empty = home.write("empty", " \n");
    let empty = empty.to_str().unwrap();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["login", "a", &server.url], 3, "standard input is empty"),
        (&["login", "a", &server.url, "--token-file", empty], 3, empty),
        (&["login", "a", &server.url, "--token-file", "/nowhere/t"], 3, "/nowhere/t"),
        (&["login", "a/b", &server.url], 2, "a/b"),
        (&["login", "a", "cache.example.org"], 2, "https://"),
        (&["login", "a"], 2, "<URL>"),
    ];
    for (args, code, want) in cases {
        let said = assert_exit(&home.run(args), code);
        assert!(said.contains(want), "{args:?}: {said}");
    }
    let said =
        assert_exit(&with_input(home.snowbank(&["login", "a", &server.url]), "wrong.token"), 9);
    assert!(!said.contains("wrong.token"), "{said}");
    assert!(!home.path(".config").exists());

    assert_exit(
        &with_input(home.snowbank(&["login", "a", "http://127.0.0.1:9", "--offline"]), TOKEN),
        0,
    );
}

#[test]
fn a_token_file_that_everybody_can_read_is_warned_of() {
    let server = Server::start();
    let home = Home::new();
    home.login("local", &server);
    let file = home.path(".config/snowbank/tokens/local");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let said = assert_exit(&home.run(&["use", "secret", "--print"]), 0);
    assert!(said.contains(&format!("chmod 600 {}", file.display())), "{said}");
}

#[test]
fn using_a_public_cache_comes_and_goes() {
    let server = Server::start();
    let home = Home::new();
    home.login("local", &server);
    let before = "# mine\nsandbox = false";
    home.write(".config/nix/nix.conf", before);

    let printed = home.run(&["use", "main", "--print"]);
    assert_exit(&printed, 0);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains(&format!("extra-substituters = {}/main\n", server.url)), "{printed}");
    assert!(
        printed.contains(&format!("extra-trusted-public-keys = {}\n", key().public())),
        "{printed}"
    );
    assert_eq!(home.read(".config/nix/nix.conf"), before);

    for _twice in 0..2 {
        assert_exit(&home.run(&["use", "local:main"]), 0);
        assert_eq!(home.read(".config/nix/nix.conf"), format!("{before}\n{printed}"));
    }
    assert!(!home.path(".config/nix/netrc").exists());
    assert!(nix_settings(&home).contains(&format!("{}/main", server.url)));
    assert_exit(&home.run(&["use", "main", "--remove"]), 0);
    assert_eq!(home.read(".config/nix/nix.conf"), format!("{before}\n"));
    assert_exit(&home.run(&["use", "main", "--remove"]), 0);
    let said = assert_exit(&home.run(&["use", "nosuch"]), 11);
    assert!(said.contains("nosuch"), "{said}");
}

/// What Nix itself makes of the files.
fn nix_settings(home: &Home) -> String {
    let output = Command::new("nix")
        .args(["--extra-experimental-features", "nix-command", "show-config"])
        .env("XDG_CONFIG_HOME", home.path(".config"))
        .env("NIX_CONF_DIR", home.path("etc-nix"))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn using_a_private_cache_writes_a_netrc() {
    let server = Server::start();
    let home = Home::new();
    home.login("local", &server);
    home.write(".config/nix/netrc", "machine other login me password x\n");
    assert_exit(&home.run(&["use", "secret"]), 0);
    assert_exit(&home.run(&["use", "secret"]), 0);
    let netrc = home.path(".config/nix/netrc");
    assert_eq!(
        fs::read_to_string(&netrc).unwrap(),
        format!(
            "machine other login me password x\nmachine 127.0.0.1 login snowbank password {TOKEN}\n"
        )
    );
    assert_eq!(fs::metadata(&netrc).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(nix_settings(&home).contains(&format!("netrc-file = {}", netrc.display())));

    let printed = home.run(&["use", "secret", "--print"]);
    assert_exit(&printed, 0);
    assert!(String::from_utf8(printed.stdout).unwrap().contains("password TOKEN"));
    assert_exit(&home.run(&["use", "secret", "--remove"]), 0);
    assert_eq!(fs::read_to_string(&netrc).unwrap(), "machine other login me password x\n");
    assert_eq!(home.read(".config/nix/nix.conf"), "");
}

#[test]
fn a_netrc_that_is_set_already_is_used() {
    let server = Server::start();
    let home = Home::new();
    home.login("local", &server);
    let netrc = home.path("my-netrc");
    let before = format!("netrc-file = {}\n", netrc.display());
    home.write(".config/nix/nix.conf", &before);
    assert_exit(&home.run(&["use", "secret"]), 0);
    assert!(home.read("my-netrc").contains(TOKEN) && !home.path(".config/nix/netrc").exists());
    assert_eq!(home.read(".config/nix/nix.conf").matches("netrc-file").count(), 1);
    assert_exit(&home.run(&["use", "secret", "--remove"]), 0);
    assert_eq!((home.read(".config/nix/nix.conf"), home.read("my-netrc")), (before, String::new()));
}

#[test]
fn the_environment_names_a_server_without_any_configuration() {
    let server = Server::start();
    let home = Home::new();
    let mut command = home.snowbank(&["use", "secret", "--print"]);
    command.env("SNOWBANK_URL", format!("{}/", server.url)).env("SNOWBANK_TOKEN", TOKEN);
    assert_exit(&command.output().unwrap(), 0);
    let said = assert_exit(&home.run(&["use", "main"]), 3);
    assert!(said.contains("snowbank login") && said.contains("SNOWBANK_URL"), "{said}");
}

fn receipt(name: &str, nar_size: u64) -> Receipt {
    let mut receipt = Receipt {
        status: ReceiptStatus::Uploaded,
        store_path: format!("/nix/store/{}-{name}", "1".repeat(32)),
        nar_hash: NarHash::from_bytes([1; 32]),
        nar_size,
        cache: "main".to_owned(),
        time: 1_700_000_000,
        signatures: Vec::new(),
        stats: None,
    };
    receipt.sign(&key());
    receipt
}

/// Makes the server serve what `receipt` says.
fn serve(server: &Server, receipt: &Receipt) {
    let narinfo = format!(
        "StorePath: {}\nURL: nar/x.nar.zst\nCompression: zstd\nNarHash: {}\nNarSize: \
         {}\nReferences: \n",
        receipt.store_path, receipt.nar_hash, receipt.nar_size
    );
    let path = format!(
        "/main/{}.narinfo",
        &Path::new(&receipt.store_path).file_name().unwrap().to_str().unwrap()[..32]
    );
    server.answers.lock().unwrap().open.insert(path, narinfo);
}

#[test]
fn receipts_that_hold_are_told_from_those_that_do_not() {
    let server = Server::start();
    let home = Home::new();
    home.login("local", &server);
    let good = receipt("good", 120);
    serve(&server, &good);
    let line = |receipt: &Receipt| serde_json::to_string(receipt).unwrap();
    let failed = r#"{"status":"failed","store_path":"/nix/store/x","reason":"no"}"#;
    let verify = |text: String, more: &[&str]| {
        let file = home.write("receipts", &text);
        home.run(&[&["verify-receipts", file.to_str().unwrap()], more].concat())
    };

    let said = assert_exit(&verify(format!("{}\n{failed}\n\n", line(&good)), &[]), 0);
    assert!(said.contains("hold: 1, that do not: 0, 1 failed"), "{said}");
    assert_exit(&with_input(home.snowbank(&["verify-receipts", "-"]), &line(&good)), 0);

    let mut altered = good.clone();
    altered.nar_size = 121;
    let other = receipt("good", 999);
    let gone = receipt("gone", 120);
    let mut unsigned = good.clone();
    unsigned.signatures.clear();
    for (bad, want) in [
        (line(&altered), "no valid signature"),
        (line(&other), "serves other contents"),
        (line(&gone), "no longer serves"),
        (line(&unsigned), "not signed"),
        ("{}".to_owned(), "line 2"),
    ] {
        let said = assert_exit(&verify(format!("{}\n{bad}\n", line(&good)), &[]), 14);
        assert!(said.contains(want) && said.contains("hold: 1, that do not: 1"), "{said}");
    }

    let other_key = SecretKey::from_seed("host-main-1", [8; 32]).unwrap().public().to_string();
    assert_exit(&verify(line(&good), &["--public-key", &other_key]), 14);
    assert_exit(&verify(line(&good), &["--public-key", &key().public().to_string()]), 0);
    let output = verify(line(&gone), &["--json", "--server", "local"]);
    assert_exit(&output, 14);
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((&lines[0]["holds"], &lines[1]["summary"]["failing"]), (&false.into(), &1.into()));
    assert_exit(&verify(line(&good), &["--server", "nosuch"]), 3);
}

#[test]
fn a_signal_ends_it_with_its_own_code() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let home = Home::new();
        let mut command = home.snowbank(&["login", "a", "http://127.0.0.1:9"]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It waits for a token that never comes.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let kill = Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status()
            .unwrap();
        assert!(kill.success());
        let stdin = child.stdin.take();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        drop(stdin);
    }
}

#[test]
fn help_says_how_and_lists_the_exit_codes() {
    let home = Home::new();
    let help = home.run(&["--help"]);
    assert_exit(&help, 0);
    let help = String::from_utf8(help.stdout).unwrap();
    for want in [
        "Exit codes:",
        "130",
        "snowbank push main ./result",
        "SNOWBANK_TOKEN_FILE",
        "SNOWBANK_SYSTEM_CONFIG",
    ] {
        assert!(help.contains(want), "{help}");
    }
    for command in
        ["login", "push", "use", "whoami", "doctor", "verify-receipts", "completions", "man"]
    {
        let help = home.run(&[command, "--help"]);
        assert_exit(&help, 0);
        assert!(String::from_utf8(help.stdout).unwrap().contains("Examples:"), "{command}");
    }
    let mut nothing = String::new();
    let output = home.run(&[]);
    (&output.stdout[..]).read_to_string(&mut nothing).unwrap();
    assert_exit(&output, 2);
}

#[test]
fn completions_and_manual_pages_come_from_the_command_line_itself() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = home.run(&["completions", shell]);
        assert_exit(&output, 0);
        let text = String::from_utf8(output.stdout).unwrap();
        for word in ["verify-receipts", "check-upstream", "doctor"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
    }
    let output = home.run(&["man"]);
    assert_exit(&output, 0);
    assert!(String::from_utf8(output.stdout).unwrap().contains(".TH snowbank 1"));
    let folder = home.path("share/man1");
    assert_exit(&home.run(&["man", "--output", folder.to_str().unwrap()]), 0);
    for page in ["snowbank.1", "snowbank-push.1", "snowbank-doctor.1", "snowbank-use.1"] {
        assert!(
            fs::read_to_string(folder.join(page)).is_ok_and(|text| text.contains(".TH")),
            "{page}"
        );
    }
    assert!(!folder.join("snowbank-man.1").exists(), "hidden commands have no page");
}

#[test]
fn a_copy_of_nix_conf_from_before_is_kept_with_its_mode() {
    let server = Server::start();
    let home = Home::new();
    home.login("local", &server);
    let file = home.write(".config/nix/nix.conf", "access-tokens = github.com=x\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_exit(&home.run(&["use", "main"]), 0);
    assert_exit(&home.run(&["use", "secret"]), 0);
    let copy = home.path(".config/nix/nix.conf.before-snowbank");
    assert_eq!(fs::read_to_string(&copy).unwrap(), "access-tokens = github.com=x\n");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert_exit(&home.run(&["use", "main", "secret", "--remove"]), 0);
    assert_eq!(home.read(".config/nix/nix.conf"), "access-tokens = github.com=x\n");
}

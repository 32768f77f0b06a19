//! The Nix files and the systemd unit: they parse, they say what `config.example.toml` says, and
//! the programs take what they make.
//!
//! There is no nixpkgs here: `nix/tests` evaluates the modules with a stand-in for its `lib`. What
//! only a build or a NixOS machine can show is the flake's to show.

mod example;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use snowbank_harness::{
    NixStore, Scratch, postgres::Postgres, process, s3, s3::S3Server, site::make_server_key,
};

/// Where the module has a unit's credentials.
const CREDENTIALS: &str = "/run/credentials/snowbankd.service";

fn root() -> PathBuf {
    // Where the crate is now, not where it was built: a target folder may serve several clones.
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn evaluate(path: &str) -> Value {
    evaluate_expression(&format!("import (/. + \"{}\")", root().join(path).display()))
}

fn evaluate_expression(expression: &str) -> Value {
    let args = ["--eval", "--strict", "--json", "--expr", expression];
    serde_json::from_str(&NixStore::new().run("nix-instantiate", &args).success().stdout).unwrap()
}

fn nix_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            nix_files(&entry.path(), found);
        } else if entry.path().extension().is_some_and(|extension| extension == "nix") {
            found.push(entry.path());
        }
    }
}

#[test]
fn every_file_parses() {
    let mut files = vec![root().join("flake.nix")];
    nix_files(&root().join("nix"), &mut files);
    assert!(files.len() >= 8, "{files:?}");
    let store = NixStore::new();
    for file in files {
        let _ = store.run("nix-instantiate", &["--parse", file.to_str().unwrap()]).success();
    }
}

#[test]
fn options_and_the_example_have_the_same_keys_defaults_and_values() {
    let found = example::differences(&read("config.example.toml"), &evaluate("nix/options.nix"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_difference_between_options_and_the_example_is_found() {
    let tree = serde_json::json!({
        "same": { "type": "size", "default": "1MiB", "description": "" },
        "log": { "level": { "type": { "enum": ["a", "b"] }, "default": "a", "description": "" } },
        "list": { "type": { "tables": { "kid": { "type": "str", "description": "" } } }, "default": [], "description": "" },
    });
    let good = "#: same = \"1MiB\"\n[log]\n# Allowed: \"a\", \"b\".\n#: level = \"a\"\n# \
        [[list]]\n# kid = \"x\"\n";
    assert_eq!(example::differences(good, &tree), Vec::<String>::new());
    for (from, to, says) in [
        ("1MiB", "2MiB", "`same`: the default"),
        ("#: same", "# same", "the example has none"),
        ("\"1MiB\"", "1", "`same`: the default"),
        (", \"b\"", "", "`log.level`: allowed"),
        ("Allowed: \"a\", \"b\"", "a or else", "does not name the value `b`"),
        ("# kid", "# kit", "`list.kit` is in the example"),
        ("# kid = \"x\"", "", "`list.kid` is an option"),
    ] {
        let found = example::differences(&good.replace(from, to), &tree).join("\n");
        assert!(found.contains(says), "`{says}` is not in: {found}");
    }
}

/// Writes an example's settings as the config file that NixOS would make of them, with these
/// changes, readable for all as what is in the Nix store.
fn config_file(scratch: &Scratch, example: &Value, changes: &[(&str, String)]) -> PathBuf {
    assert_eq!(example["problems"], serde_json::json!([]));
    let mut table: toml::Table = serde_json::from_value(example["toml"].clone()).unwrap();
    for (path, value) in changes {
        let mut keys: Vec<&str> = path.split('.').collect();
        let last = keys.pop().unwrap();
        let section =
            keys.into_iter().fold(&mut table, |table, key| table[key].as_table_mut().unwrap());
        section.insert(last.to_owned(), toml::Value::String(value.clone()));
    }
    let folder = scratch.path().to_str().unwrap();
    let file = scratch.join("snowbankd.toml");
    process::write(&file, toml::to_string(&table).unwrap().replace(CREDENTIALS, folder));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    file
}

/// Writes a credential as systemd does, under the name that the unit's `LoadCredential` gives it.
fn credential(scratch: &Scratch, example: &Value, source: &str, contents: &str) {
    let all = example["credentials"].as_array().unwrap().iter().filter_map(Value::as_str);
    let name =
        all.filter_map(|one| one.split_once(':')).find(|(_, file)| *file == source).unwrap().0;
    process::write(&scratch.join(name), contents);
    fs::set_permissions(scratch.join(name), fs::Permissions::from_mode(0o440)).unwrap();
}

fn snowbankd(scratch: &Scratch, config: &Path, args: &[&str]) -> process::Running {
    let mut command = process::command(process::binary("snowbankd"), scratch.path());
    command.arg("--config").arg(config).args(args);
    process::Running::start(command, &[])
}

/// Serves until it is ready and `then` is done, and expects a good end.
fn serve(scratch: &Scratch, config: &Path, address: SocketAddr, then: impl FnOnce()) {
    let mut server = snowbankd(scratch, config, &[]);
    let url = format!("http://{address}/readyz");
    let (started, mut ready) = (Instant::now(), false);
    while !ready && !server.is_done() && started.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(20));
        ready = reqwest::blocking::get(&url).is_ok_and(|answer| answer.status().is_success());
    }
    if ready {
        then();
    }
    server.signal(Signal::TERM);
    let output = server.wait();
    assert!(ready && output.status.success(), "{}\n{output}", fs::read_to_string(config).unwrap());
}

#[test]
fn the_server_starts_with_what_the_module_writes_and_makes_the_caches() {
    let team = &evaluate("nix/tests")["examples"]["team"];
    let (scratch, address) = (Scratch::new("module"), process::own_address());
    let data = scratch.join("data").to_str().unwrap().to_owned();
    let file = config_file(&scratch, team, &[("listen", address.to_string()), ("data-dir", data)]);
    let script = team["caches"].as_str().unwrap();
    assert_eq!(script.lines().count(), 2, "{script}");
    let program = process::binary("snowbankd");
    let runnable = |script: &str| {
        script
            .replace("/stand-in/snowbank/bin/snowbankd", program.to_str().unwrap())
            .replace("/stand-in/snowbankd-caches.toml", file.to_str().unwrap())
    };
    let script = runnable(script);
    serve(&scratch, &file, address, || {
        let help = snowbankd(&scratch, &file, &["cache", "ensure", "--help"]).wait();
        if help.stderr.contains("unrecognized subcommand") {
            eprintln!("SKIPPED: this snowbankd has no `cache ensure` to declare caches with");
            return;
        }
        for _ in 0..2 {
            let mut command = process::command("sh", scratch.path());
            command.args(["-ec", &script]);
            let _ = process::run(command).success();
        }
        let info = reqwest::blocking::get(format!("http://{address}/team/nix-cache-info"))
            .unwrap()
            .text()
            .unwrap();
        assert!(info.contains("Priority: 30"), "{info}");
        let secret =
            reqwest::blocking::get(format!("http://{address}/secret/nix-cache-info")).unwrap();
        assert_eq!(secret.status(), 401);

        // Declared with less, they keep what the declaration does not name.
        let before = ["team", "secret", "main"].map(|name| details(&scratch, &file, name));
        let again =
            evaluate("nix/tests")["examples"]["again"]["caches"].as_str().unwrap().to_owned();
        let mut command = process::command("sh", scratch.path());
        command.args(["-ec", &runnable(&again)]);
        let _ = process::run(command).success();
        let after = ["team", "secret", "main"].map(|name| details(&scratch, &file, name));
        assert_eq!(after[0], before[0]);
        let mut expected = before[1].clone();
        expected["upstream_keys"] = serde_json::json!([]);
        expected["max_size"] = "200GB".into();
        assert_eq!(after[1], expected);
        assert_eq!(after[2], before[2]);
        assert_eq!(
            (&after[1]["public"], &after[1]["isolated"]),
            (&Value::Bool(false), &Value::Bool(true))
        );
        assert_eq!(
            (&after[2]["public"], &after[2]["retention"]),
            (&Value::Bool(true), &"default".into())
        );
    });
}

/// What the server has of a cache.
fn details(scratch: &Scratch, config: &Path, name: &str) -> Value {
    let output = snowbankd(scratch, config, &["cache", "info", name, "--json"]).wait().success();
    serde_json::from_str(&output.stdout).unwrap()
}

#[test]
fn the_server_starts_with_postgresql_a_bucket_and_secrets_as_credentials() {
    let replica = &evaluate("nix/tests")["examples"]["replica"];
    let (postgres, bucket, scratch) =
        (Postgres::start(), S3Server::start(), Scratch::new("module"));
    let address = process::own_address();
    credential(
        &scratch,
        replica,
        "/run/secrets/database-url",
        &postgres.create_database("snowbank"),
    );
    let keys = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        s3::ACCESS_KEY_ID,
        s3::SECRET_ACCESS_KEY
    );
    credential(&scratch, replica, "/run/secrets/s3", &keys);
    make_server_key(&scratch.join("key"));
    credential(
        &scratch,
        replica,
        "/run/secrets/server-key",
        &fs::read_to_string(scratch.join("key")).unwrap(),
    );
    let within = |name| scratch.join(name).to_str().unwrap().to_owned();
    let changes = [
        ("listen", address.to_string()),
        ("data-dir", within("data")),
        ("storage.endpoint", format!("http://{}", bucket.address())),
        ("storage.cache.path", within("cache")),
    ];
    let file = config_file(&scratch, replica, &changes);
    serve(&scratch, &file, address, || {});
}

#[test]
fn keys_of_tokens_issuers_and_proxies_are_accepted() {
    let ahead = &evaluate("nix/tests")["examples"]["ahead"];
    let scratch = Scratch::new("module");
    credential(
        &scratch,
        ahead,
        "/run/secrets/old",
        "a-shared-secret-of-more-than-thirty-two-bytes\n",
    );
    let public_key = "-----BEGIN PUBLIC \
        KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                      -----END PUBLIC KEY-----\n";
    credential(&scratch, ahead, "/etc/snowbank/ci.pem", public_key);
    let file = config_file(
        &scratch,
        ahead,
        &[("data-dir", scratch.join("data").to_str().unwrap().to_owned())],
    );
    // It fails, since there is no database; before that come the settings, which are what this is
    // about.
    let output = snowbankd(&scratch, &file, &["check"]).wait();
    assert!(
        !output.stderr.contains("snowbankd.toml"),
        "{}\n{output}",
        fs::read_to_string(file).unwrap()
    );
}

#[test]
fn what_cannot_be_is_refused_when_the_module_is_evaluated() {
    let all = evaluate("nix/tests");
    for (says, problems) in
        ["refused", "clientRefused"].iter().flat_map(|group| all[group].as_object().unwrap())
    {
        let problems: Vec<&str> =
            problems.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(problems.iter().any(|problem| problem.contains(says)), "`{says}`: {problems:?}");
    }
    let passwords = all["refused"]["the Nix store; use `databaseUrlFile`"].as_array().unwrap();
    assert_eq!(passwords.len(), 3, "each address has one");
    assert!(
        all["accepted"].as_array().unwrap().iter().all(|one| *one == serde_json::json!([])),
        "{}",
        all["accepted"]
    );
    let mistyped = all["mistyped"].as_array().unwrap();
    assert!(mistyped.len() >= 12 && mistyped.iter().all(|passed| *passed == false), "{mistyped:?}");
}

#[test]
fn options_take_effect_where_they_should() {
    let all = evaluate("nix/tests");
    let examples = &all["examples"];
    assert_eq!(
        examples["plain"]["toml"],
        serde_json::json!({"data-dir": "/var/lib/snowbank"}),
        "defaults are left out"
    );
    assert_eq!(examples["team"]["ports"], serde_json::json!([8765]));
    assert_eq!(examples["plain"]["ports"], serde_json::json!([]));
    let url = &examples["local"]["toml"]["database"]["url"];
    assert_eq!(url, "postgres:///snowbank?host=/run/postgresql&user=snowbank");
    assert_eq!(examples["local"]["postgresql"]["ensureDatabases"], serde_json::json!(["snowbank"]));
    assert_eq!(examples["local"]["unit"]["requires"], serde_json::json!(["postgresql.target"]));
    let service = &examples["elsewhere"]["service"];
    assert_eq!(service["ReadWritePaths"], serde_json::json!(["/srv/packs", "/srv/database"]));
    assert_eq!(service["DynamicUser"], false);
    assert_eq!(service["User"], "nix-cache");
    let https = &examples["https"];
    let credentials = "/run/credentials/snowbankd.service";
    assert_eq!(
        https["toml"]["tls"],
        serde_json::json!({
            "certificate-file": format!("{credentials}/tls-certificate-file"),
            "private-key-file": format!("{credentials}/tls-private-key-file"),
        })
    );
    assert_eq!(https["problems"], serde_json::json!([]));
    // No secret file is named where a unit would read it as it lies, and all units have the same.
    let replica = &examples["replica"];
    assert!(!replica["toml"].to_string().contains("/run/secrets"), "{}", replica["toml"]);
    for one in replica["credentials"].as_array().unwrap().iter().filter_map(Value::as_str) {
        let command = replica["command"].as_str().unwrap();
        assert!(
            command.contains(&format!("'--property=LoadCredential={one}'")),
            "{one}: {command}"
        );
    }
    assert_eq!(all["machine"]["problems"], serde_json::json!([]));
    let substituters =
        ["https://cache.example.org/team?priority=30", "http://lab.example.org:8080/main"];
    assert_eq!(all["machine"]["nix"]["extra-substituters"], serde_json::json!(substituters));
    assert_eq!(
        all["machine"]["nix"]["connect-timeout"],
        Value::Null,
        "what is null is Nix's own affair"
    );
    let by_hand = &all["machineByHand"]["nix"];
    assert_eq!(
        (&by_hand["connect-timeout"], &by_hand["fallback"]),
        (&serde_json::json!(15), &Value::Bool(false))
    );
    assert_eq!(by_hand["download-attempts"], 3, "the rest are defaults");
    assert_eq!(by_hand["extra-substituters"], serde_json::json!(["https://other.example.org"]));
}

#[test]
fn what_a_machine_builds_is_queued_by_a_hook_and_pushed_by_a_service() {
    let all = evaluate("nix/tests");
    let builder = &all["builder"];
    assert_eq!(builder["problems"], serde_json::json!([]));
    assert_eq!(builder["users"], serde_json::json!(["snowbank-queue"]));
    let folder = "d /var/lib/snowbank-queue 2770 snowbank-queue snowbank-queue -";
    assert_eq!(builder["tmpfiles"], serde_json::json!([folder]));
    let hook = builder["nix"]["post-build-hook"].to_string();
    assert!(hook.contains("snowbank-hook"), "{hook}");
    let service = &builder["queue"]["serviceConfig"];
    let token = "token-work:/run/secrets/snowbank";
    assert_eq!(service["LoadCredential"], serde_json::json!([token]));
    assert_eq!(service["User"], "snowbank-queue");
    let command = service["ExecStart"].as_str().unwrap();
    assert!(command.ends_with("queue run --queue /var/lib/snowbank-queue"), "{command}");
    assert!(!command.contains("/run/secrets"), "the service reads a credential: {command}");
    for machine in ["machine", "machineByHand"] {
        assert_eq!(all[machine]["queue"], Value::Null, "only where `push` says so");
        assert_eq!(all[machine]["nix"]["post-build-hook"], Value::Null);
    }
}

#[test]
fn the_configurations_in_the_documentation_are_good() {
    let text = read("docs/installing.md");
    let blocks: Vec<&str> =
        text.split("```nix\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        // A key that is no option, or a value that is none for it, is an error of the evaluation.
        let evaluator = root().join("nix/tests/evaluate.nix");
        let problems = evaluate_expression(&format!(
            "let all = import (/. + \"{}\"); block = {block}; in (if block ? services then \
             all.server block.services.snowbank else all.client block.programs.snowbank).problems",
            evaluator.display()
        ));
        assert_eq!(problems, serde_json::json!([]), "{block}");
    }
}

#[test]
fn the_client_takes_what_its_module_writes() {
    let client = &evaluate("nix/tests")["machine"];
    let scratch = Scratch::new("module");
    let table: toml::Table = serde_json::from_value(client["toml"].clone()).unwrap();
    process::write(&scratch.join("client.toml"), toml::to_string(&table).unwrap());
    let mut command = process::command(process::binary("snowbank"), scratch.path());
    command.arg("--config").arg(scratch.join("client.toml")).args([
        "use",
        "elsewhere:main",
        "--print",
    ]);
    let output = process::run(command);
    // A server that is not there is told with those that are.
    assert_eq!(output.code(), Some(3), "{output}");
    for name in ["elsewhere", "work", "lab"] {
        assert!(output.stderr.contains(name), "{output}");
    }
}

/// What a unit's `[Service]` says, key by key; several lines of one key are one.
fn service_of(text: &str) -> BTreeMap<String, String> {
    let (_, section) = text.split_once("\n[Service]\n").unwrap();
    let section = section.split("\n[").next().unwrap();
    let mut found = BTreeMap::<String, String>::new();
    for line in section.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let entry = found.entry(key.to_owned()).or_default();
        if !entry.is_empty() {
            entry.push(' ');
        }
        entry.push_str(value);
    }
    found
}

fn as_systemd_writes(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(as_systemd_writes).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[test]
fn the_plain_unit_is_as_confined_as_the_modules() {
    // What they start, and as whom, is each one's own.
    let own = ["ExecStart", "DynamicUser", "User", "Group"];
    let plain = &evaluate("nix/tests")["examples"]["plain"];
    let of_module = plain["service"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.clone(), as_systemd_writes(value)));
    let mut of_module: BTreeMap<String, String> = of_module.collect();
    let mut of_file = service_of(&read("dist/snowbankd.service"));
    for key in own {
        of_module.remove(key);
        of_file.remove(key);
    }
    assert_eq!(of_file, of_module);
    assert_eq!(of_file["CapabilityBoundingSet"], "");
    for call in ["openat2", "preadv2"] {
        assert!(of_file["SystemCallFilter"].contains(call));
    }
    assert!(of_file.len() > 25, "{of_file:?}");
    // What declares caches is confined in the same way.
    let team = &evaluate("nix/tests")["examples"]["team"];
    let beside = team["cachesService"].as_object().unwrap();
    let kept = beside.iter().filter(|(key, _)| !matches!(key.as_str(), "Type" | "RemainAfterExit"));
    assert!(
        kept.clone().count() > 25
            && kept.into_iter().all(|(key, value)| team["service"][key] == *value)
    );
}

#[test]
fn the_queues_unit_is_as_confined_as_the_servers() {
    let [server, queue] = ["snowbankd", "snowbank-queue"]
        .map(|name| service_of(&read(&format!("dist/{name}.service"))));
    // The client needs fewer calls than the server.
    let own = ["SystemCallFilter", "ReadWritePaths"];
    let confines = |key: &str| {
        !own.contains(&key)
            && ["Capabilit", "Lock", "Memory", "NoNew", "Private", "Protect", "Restrict", "System"]
                .iter()
                .any(|start| key.starts_with(start))
            && key != "RestartSec"
    };
    let confined: Vec<_> = server.iter().filter(|(key, _)| confines(key)).collect();
    assert!(confined.len() > 15, "{confined:?}");
    for (key, value) in confined {
        assert_eq!(queue.get(key), Some(value), "{key}");
    }
}

/// The units as they are installed, but with the programs of this build.
fn installed_units(scratch: &Scratch) -> Vec<PathBuf> {
    let units = [
        ("snowbankd.service", Some("snowbankd")),
        ("snowbankd.socket", None),
        ("snowbank-queue.service", Some("snowbank")),
    ];
    let install = |(unit, name): (&str, Option<&str>)| {
        let (file, mut text) = (scratch.join(unit), read(&format!("dist/{unit}")));
        if let Some(name) = name {
            let installed = format!("/usr/local/bin/{name} ");
            assert!(text.contains(&installed));
            text = text.replace(&installed, &format!("{} ", process::binary(name).display()));
        }
        process::write(&file, text);
        file
    };
    units.into_iter().map(install).collect()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_plain_units() {
    let scratch = Scratch::new("unit");
    for file in installed_units(&scratch) {
        let mut command = process::command("systemd-analyze", scratch.path());
        command.args(["verify", "--man=no"]).arg(&file);
        let output = process::run(command).success();
        let unit = file.file_name().unwrap().to_str().unwrap();
        assert!(!output.said().contains(unit), "{output}");
    }
}

#[test]
fn systemd_finds_little_that_the_services_could_do_to_the_machine() {
    let scratch = Scratch::new("unit");
    let units = installed_units(&scratch);
    for file in units.iter().filter(|file| file.extension().unwrap() == "service") {
        let mut command = process::command("systemd-analyze", scratch.path());
        // In tenths of its scale, on which a service that may do everything has 96.
        command.args(["security", "--offline=true", "--no-pager", "--threshold=20"]).arg(file);
        let _ = process::run(command).success();
    }
}

#[test]
fn the_modules_socket_is_the_servers_and_takes_its_permissions() {
    let socket = &evaluate("nix/tests")["examples"]["socket"];
    assert_eq!(socket["problems"], serde_json::json!([]));
    let unit = &socket["socket"];
    assert_eq!(unit["listenStreams"], serde_json::json!(["/run/snowbank/http.sock"]));
    assert_eq!(unit["socketConfig"]["SocketMode"], "0666");
    assert_eq!(socket["toml"]["listen"], "unix:/run/snowbank/http.sock");
    assert_eq!(socket["toml"]["trusted-proxies"], serde_json::json!(["unix"]));
    assert_eq!(socket["service"]["Type"], "notify");
    assert!(evaluate("nix/tests")["examples"]["plain"]["socket"].is_null());
}

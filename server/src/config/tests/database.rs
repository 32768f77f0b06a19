//! `[database]`: addresses, where they may stand, and what goes with which engine.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

const URL: &str = "postgres://u:hunter2@db.example/snow";

/// A config file of mode 0600 in a folder with the file `url`, and what comes of it.
fn load_private(text: &str, from_environment: Option<&str>) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snowbankd.toml");
    for (path, text) in [(&file, text), (&folder.path().join("url"), &format!("  {URL}\n\n"))] {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    Config::load(&Overrides {
        config: Some(file),
        data_dir: Some("/data".into()),
        database_url: from_environment.map(SecretString::new),
        ..Overrides::default()
    })
}

fn assert_refused(text: &str, parts: &[&str]) {
    let message = load_private(text, None).expect_err(text).to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(!message.contains("hunter2") && !message.contains('\n'), "{message}");
}

fn postgres() -> DatabaseUrl {
    DatabaseUrl::Postgres(SecretString::new(URL))
}

#[test]
fn an_address_stands_in_the_file_in_one_of_its_own_or_in_the_environment() {
    let inline = format!("[database]\nurl = \"{URL}\"\n");
    assert_eq!(load_private(&inline, None).unwrap().database.url, postgres());
    let beside = "[database]\nurl-file = \"url\"\n";
    assert_eq!(load_private(beside, None).unwrap().database.url, postgres());
    for text in ["", beside, "[database]\nurl = \"sqlite:other.db\"\n"] {
        assert_eq!(load_private(text, Some(URL)).unwrap().database.url, postgres());
    }
    let sqlite = load_private(&inline, Some("sqlite:x.db")).unwrap().database.url;
    assert_eq!(sqlite, DatabaseUrl::Sqlite("/data/x.db".into()));
}

#[test]
fn postgresql_has_defaults_and_bounds() {
    let config = load_private("[database]\nurl-file = \"url\"\n", None).unwrap().database.postgres;
    assert_eq!((config.connections, config.statement_timeout.get(), config.tls), (16, 30, None));
    assert_eq!(config.idle_timeout.get(), 5);
    let all = "[database]\nurl-file = \"url\"\nconnections = 2\nstatement-timeout = \"5m\"\ntls \
        = \"verify-full\"\n\
               tls-ca-file = \"ca.pem\"\n";
    let config = load_private(all, None).unwrap().database.postgres;
    assert_eq!((config.connections, config.tls), (2, Some(TlsMode::VerifyFull)));
    assert!(config.tls_ca_file.unwrap().is_absolute());
    let head = "[database]\nurl-file = \"url\"\n";
    assert_refused(
        &format!("{head}connections = 1\n"),
        &[":3: ", "`database.connections`", "2 to 1000"],
    );
    assert_refused(
        &format!("{head}statement-timeout = \"2h\"\n"),
        &[":3: ", "statement-timeout", "1h"],
    );
    assert_refused(&format!("{head}idle-timeout = \"6m\"\n"), &[":3: ", "idle-timeout", "5m"]);
    assert_refused(
        &format!("{head}tls = \"maybe\"\n"),
        &[":3: ", "`database.tls`", "`verify-full`"],
    );
    assert_refused(&format!("{head}tls-ca-file = \"ca.pem\"\n"), &[":3: ", "verify-full"]);
}

#[test]
fn what_contradicts_itself_is_refused() {
    assert_refused(
        &format!("[database]\nurl = \"{URL}\"\nurl-file = \"url\"\n"),
        &[":3: ", "`url`", "one of the two"],
    );
    let head = "[database]\nurl-file = \"url\"\n";
    assert_refused(&format!("{head}reserve = \"16MiB\"\n"), &[":3: ", "reserve", "SQLite"]);
    assert_refused("[database]\nreserve = \"1MiB\"\n", &[":2: ", "reserve", "4MiB to 1GiB"]);
    assert_eq!(
        load_private("[database]\nreserve = \"0B\"\n", None).unwrap().database.reserve.bytes(),
        0
    );
    for key in [
        "connections = 4",
        "idle-timeout = \"9s\"",
        "statement-timeout = \"9s\"",
        "tls = \"require\"",
        "tls-ca-file = \"x\"",
    ] {
        assert_refused(
            &format!("[database]\n{key}\n"),
            &[":2: ", key.split(' ').next().unwrap(), "SQLite"],
        );
    }
}

#[test]
fn a_missing_empty_or_readable_secret_file_is_named() {
    assert_refused(
        "[database]\nurl-file = \"absent\"\n",
        &[":2: ", "`database.url-file`", "absent"],
    );
    assert_refused(
        "[database]\nurl-file = \"snowbankd.toml\"\n",
        &["snowbankd.toml", "postgres://USER"],
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    let text = format!("[database]\nurl-file = \"{}\"\n", file.display());
    fs::write(&file, " \n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_refused(&text, &["is empty"]);
    fs::write(&file, URL).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_refused(&text, &["0644", "chmod 600"]);
}

#[test]
fn a_password_in_a_config_file_that_others_can_read_is_refused() {
    let message = error(&format!("[database]\nurl = \"{URL}\"\n"));
    for part in [":2: ", "password", "chmod 600", "url-file", "SNOWBANKD_DATABASE_URL"] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    for url in
        ["postgres://h/d?password=hunter2", "postgres://u:hun/ter2@h/d", "postgresql://u:hunter2@h"]
    {
        assert!(error(&format!("[database]\nurl = \"{url}\"\n")).contains("password"), "{url}");
    }
    for url in ["postgres://u@h:5432/d", "postgres://h/d?host=/run/a:b", "postgres:///d"] {
        load(&format!("[database]\nurl = \"{url}\"\n")).1.expect(url);
    }
}

#[test]
fn no_error_and_no_debug_text_shows_a_password() {
    for text in [
        format!("[database]\nurl = \"{URL}\"\n"),
        "[database]\nurl = \"mysql://u:hunter2@h/d\"\n".to_owned(),
    ] {
        assert!(!error(&text).contains("hunter2"));
    }
    let environment = load_private("", Some("mysql://u:hunter2@h/d")).unwrap_err().to_string();
    assert!(
        environment.contains("SNOWBANKD_DATABASE_URL") && !environment.contains("hunter2"),
        "{environment}"
    );
    let config = load_private(&format!("[database]\nurl = \"{URL}\"\n"), Some(URL)).unwrap();
    assert!(!format!("{config:?} {:?}", SecretString::new("hunter2")).contains("hunter2"));
}

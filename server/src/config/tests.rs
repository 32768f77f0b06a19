//! Settings: what wins, and how errors read.

use std::path::Path;

use super::*;

mod auth;
mod database;
mod gc;

fn load(text: &str) -> (tempfile::TempDir, Result<Config, ConfigError>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snowbankd.toml");
    std::fs::write(&file, text).unwrap();
    let data_dir = Some(folder.path().join("data"));
    let config = Config::load(&Overrides { config: Some(file), data_dir, ..Overrides::default() });
    (folder, config)
}

fn error(text: &str) -> String {
    load(text).1.expect_err(text).to_string()
}

fn assert_names(text: &str, parts: &[&str]) {
    let message = error(text);
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn without_a_file_everything_has_a_default() {
    let data_dir = Some(Path::new("/data").to_owned());
    let config = Config::load(&Overrides { data_dir, ..Overrides::default() }).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.database.url, DatabaseUrl::Sqlite("/data/snowbank.db".into()));
    assert_eq!(config.storage, StorageConfig::Local { path: "/data/storage".into() });
    assert_eq!(
        (config.limits.memory, config.limits.bundle_size),
        (Size::from_mib(96), Size::from_mib(8))
    );
    assert_eq!((config.log.level, config.log.format), (LogLevel::Info, LogFormat::Text));
}

#[test]
fn an_empty_file_is_the_same_as_none() {
    assert_eq!(load("").1.unwrap().limits.memory, Size::from_mib(96));
}

#[test]
fn flags_win_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:1\"\ndata-dir = \"here\"\n").unwrap();
    let from_file =
        Config::load(&Overrides { config: Some(file.clone()), ..Overrides::default() }).unwrap();
    assert_eq!(from_file.data_dir, folder.path().join("here"), "relative to the config file");
    assert_eq!(from_file.listen.to_string(), "127.0.0.1:1");
    let overrides = Overrides {
        config: Some(file),
        data_dir: Some("/flag".into()),
        listen: Some("[::1]:2".parse().unwrap()),
        ..Overrides::default()
    };
    let config = Config::load(&overrides).unwrap();
    assert_eq!(
        (config.data_dir, config.listen.to_string()),
        ("/flag".into(), "[::1]:2".to_owned())
    );
}

#[test]
fn the_documented_example_is_valid_and_shows_the_defaults() {
    let text = include_str!("../../../config.example.toml");
    load(text).1.unwrap();
    // Every key that is commented out has to be a key, with a value that is allowed.
    let all: String = text
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n");
    let (_folder, config) = load(&all);
    let (config, default) = (config.unwrap(), load("").1.unwrap());
    assert_eq!(format!("{:?}", config.limits), format!("{:?}", default.limits));
    assert_eq!(format!("{:?}", config.log), format!("{:?}", default.log));
    assert_eq!(format!("{:?}", config.gc), format!("{:?}", default.gc));
    assert_eq!(config.compression.level, default.compression.level);
    assert_eq!(config.listen, default.listen);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_keys_that_there_are() {
    assert_names(
        "\nlisten = \"127.0.0.1:1\"\nlisen = 1\n",
        &["snowbankd.toml:3: unknown key `lisen`", "`listen`", "`data-dir`"],
    );
    assert_names(
        "[limits]\nmemroy = \"1GiB\"\n",
        &[":2: ", "`memroy`", "`memory`", "`bundle-size`"],
    );
    assert_names("[limit]\n", &[":1: ", "`limit`", "`limits`"]);
    assert_names(
        "[storage]\ntype = \"local\"\nbuket = \"x\"\n",
        &[":3: ", "`buket`", "`bucket`", "`path`"],
    );
    assert_names(
        "[storage]\ntype = \"local\"\nbucket = \"x\"\n",
        &[":3: ", "`storage.bucket`", "`type = \"s3\"`"],
    );
}

#[test]
fn a_bad_value_is_named_with_its_key_its_line_and_what_is_allowed() {
    assert_names("[limits]\n\nmemory = \"1XB\"\n", &[":3: ", "`limits.memory`", "`1XB`", "GiB"]);
    assert_names("[limits]\nmemory = 5\n", &[":2: ", "`limits.memory`", "MiB"]);
    assert_names(
        "[log]\nformat = \"xml\"\n",
        &[":2: ", "`log.format`", "`xml`", "`text`", "`json`"],
    );
    assert_names("[log]\nlevel = \"loud\"\n", &["`log.level`", "`error`", "`trace`"]);
    assert_names(
        "listen = \"localhost\"\n",
        &[":1: ", "`listen`", "`localhost`", "127.0.0.1:8080"],
    );
    assert_names("public-url = \"cache.example.org\"\n", &["`public-url`", "https://"]);
    assert_names(
        "[compression]\nlevel = 22\n",
        &[":2: ", "`compression.level`", "22", "1 (fast) to 19"],
    );
    assert_names("[storage]\ntype = \"tape\"\n", &["`tape`", "`local`"]);
    assert_names(
        "[limits]\nbody-timeout = \"1w\"\n",
        &[":2: ", "`limits.body-timeout`", "s, m, h, d"],
    );
}

#[test]
fn a_value_out_of_bounds_is_named_with_its_line() {
    assert_names(
        "[limits]\nbundle-size = \"32MiB\"\n",
        &[":2: ", "`limits.bundle-size`", "32MiB", "512KiB to 16MiB"],
    );
    assert_names("[limits]\nmemory = \"1MiB\"\n", &[":2: ", "`limits.memory`", "64MiB"]);
    assert_names("limits = { connections = 0 }\n", &[":1: ", "`limits.connections`", "1 to 65536"]);
}

#[test]
fn what_is_not_toml_or_not_there_is_told_apart() {
    assert_names("listen = \n", &["snowbankd.toml:1: "]);
    assert_names("listen = \"a\"\nlisten = \"b\"\n", &[":2: ", "duplicate"]);
    let missing = Overrides { config: Some("/nonexistent/c.toml".into()), ..Overrides::default() };
    let message = Config::load(&missing).unwrap_err().to_string();
    assert!(message.contains("/nonexistent/c.toml") && message.contains("--config"), "{message}");
}

#[test]
fn sizes_and_times_read_back_as_they_are_written() {
    for text in ["0B", "1B", "512KiB", "128MiB", "3GiB", "1TiB"] {
        assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
    }
    for text in ["30s", "5m", "12h", "90d"] {
        assert_eq!(text.parse::<Seconds>().unwrap().to_string(), text);
    }
    assert_eq!("90 s".parse::<Seconds>().unwrap().get(), 90);
    for text in ["", "MiB", "5", "-1B", "1.5GiB", "1mib", "99999999999TiB"] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
}

#[test]
fn a_public_url_has_a_host_and_no_slash_at_its_end() {
    let url: PublicUrl = "https://cache.example.org:8443/nix/".parse().unwrap();
    assert_eq!(
        (url.as_str(), url.host()),
        ("https://cache.example.org:8443/nix", "cache.example.org")
    );
    for text in ["", "ftp://a", "https://", "https://u:p@host", "https://h/?q=1", "h:80"] {
        assert!(text.parse::<PublicUrl>().is_err(), "{text}");
    }
}

#[test]
fn a_storage_path_alone_is_a_local_folder_beside_the_config_file() {
    let (folder, config) = load("[storage]\npath = \"packs\"\n");
    assert_eq!(config.unwrap().storage, StorageConfig::Local { path: folder.path().join("packs") });
}

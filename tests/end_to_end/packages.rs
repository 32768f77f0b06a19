//! What `dist/` hands out: tarballs, the image, and files for other systems. They hold what they
//! promise, the programs take what they say, and the same inputs make the same bytes.
//!
//! The programs are those of the tests, so that no test builds a release. The image's own start is
//! one in a folder with a read-only root; no test has a container engine or a cluster.

mod image;
mod manifests;
mod release;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use snowbank_harness::{Scratch, process};
use yaml_rust2::{Yaml, YamlLoader};

fn root() -> PathBuf {
    // Where the crate is now, not where it was built: a target folder may serve several clones.
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A script of `dist/`, with the clone's Rust and without the network.
fn script(name: &str, scratch: &Scratch) -> Command {
    let mut command = process::command(root().join("dist").join(name), scratch.path());
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    for (variable, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        command.env(variable, std::env::var_os(variable).unwrap_or(home.join(folder).into()));
    }
    command.env("CARGO_NET_OFFLINE", "true").env("SOURCE_DATE_EPOCH", "1700000000");
    command
}

/// The only document of a YAML file.
fn yaml(path: &str) -> Yaml {
    let mut documents =
        YamlLoader::load_from_str(&read(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0)
}

/// The items of a list.
fn items(list: &Yaml) -> &[Yaml] {
    list.as_vec().unwrap_or_else(|| panic!("no list: {list:?}"))
}

/// The text of a value.
fn text(value: &Yaml) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value:?}"))
}

/// The item of a list with this `name`.
fn named<'y>(list: &'y Yaml, name: &str) -> &'y Yaml {
    items(list)
        .iter()
        .find(|item| item["name"].as_str() == Some(name))
        .unwrap_or_else(|| panic!("no {name} in {list:?}"))
}

/// The output of a program that must succeed.
fn output(program: &str, args: &[&str], scratch: &Scratch) -> String {
    let mut command = process::command(program, scratch.path());
    command.args(args);
    process::run(command).success().stdout
}

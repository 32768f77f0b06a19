//! Inside each crate, arrows only fall: no layer imports one above it, and no files import one
//! another in a circle.

mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sources::Sources;

/// The layers of the server's top-level modules, lowest first.
const SERVER: &[&[&str]] = &[
    &["clock", "config", "fault", "files", "listen", "systemd", "telemetry"],
    &["admission", "db", "storage", "secrets"],
    &["chain", "directory"],
    &["auth", "pack"],
    &["damage"],
    &["ingest", "serving", "gc", "admin"],
    &["integrity"],
    &["app"],
    &["http"],
    &["commands"],
];

/// The layers of the client's.
const CLIENT: &[&[&str]] = &[
    &["cli", "exit"],
    &["config"],
    &["api", "ci", "nix", "store", "progress"],
    &["push"],
    &["queue"],
    &["watch"],
    &["commands"],
    &["fuzzing"],
];

/// Where a crate is now, not where it was built: a target folder may serve several clones.
fn source_folder(name: &str) -> PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("..").join(name).join("src")
}

#[track_caller]
fn assert_arrows_fall(name: &str, layers: &[&[&str]]) {
    let layer_of: BTreeMap<&str, usize> = layers
        .iter()
        .enumerate()
        .flat_map(|(layer, names)| names.iter().map(move |name| (*name, layer)))
        .collect();
    let sources = Sources::read(&source_folder(name));
    let mut rising = Vec::new();
    for (from, files) in sources.arrows() {
        // The crate's root names all of it.
        if from == "lib.rs" {
            continue;
        }
        let layer = |file: &str| {
            let module = file.split('/').next().unwrap().trim_end_matches(".rs");
            let place = layer_of.get(module).copied();
            place.unwrap_or_else(|| panic!("{name}'s `{module}` is in no layer; name its place"))
        };
        let own = layer(from);
        rising.extend(
            files
                .into_iter()
                .filter(|to| *to != "lib.rs" && layer(to) > own)
                .map(|to| format!("{from} imports {to}")),
        );
    }
    assert!(rising.is_empty(), "arrows of {name} that rise:\n{}", rising.join("\n"));
}

/// Whether `file` is in the folder of the module whose file `module` is. The two are one room: a
/// module's parts know its types, and it calls its parts.
fn is_part_of(file: &str, module: &str) -> bool {
    file.strip_prefix(module.trim_end_matches(".rs")).is_some_and(|rest| rest.starts_with('/'))
}

#[track_caller]
fn assert_no_circles(name: &str) {
    let sources = Sources::read(&source_folder(name));
    let mut arrows = sources.arrows();
    assert!(arrows.values().map(BTreeSet::len).sum::<usize>() > arrows.len(), "{name} is read");
    for (file, to) in &mut arrows {
        to.retain(|to| *to != "lib.rs" && !is_part_of(file, to));
    }
    let circles = circles(&arrows);
    assert!(circles.is_empty(), "files of {name} import one another: {circles:#?}");
}

/// Circles of files; at least one where there is any.
fn circles<'f>(arrows: &BTreeMap<&'f str, BTreeSet<&'f str>>) -> Vec<Vec<&'f str>> {
    let (mut done, mut trail, mut found) = (BTreeSet::new(), Vec::new(), Vec::new());
    for file in arrows.keys() {
        follow(file, arrows, &mut done, &mut trail, &mut found);
    }
    found
}

fn follow<'f>(
    file: &'f str,
    arrows: &BTreeMap<&'f str, BTreeSet<&'f str>>,
    done: &mut BTreeSet<&'f str>,
    trail: &mut Vec<&'f str>,
    found: &mut Vec<Vec<&'f str>>,
) {
    if let Some(first) = trail.iter().position(|passed| *passed == file) {
        found.push(trail[first..].to_vec());
    } else if done.insert(file) {
        trail.push(file);
        for to in &arrows[file] {
            follow(to, arrows, done, trail, found);
        }
        trail.pop();
    }
}

#[test]
fn a_circle_is_found() {
    let arrows = BTreeMap::from([
        ("a", BTreeSet::from(["b", "d"])),
        ("b", BTreeSet::from(["c"])),
        ("c", BTreeSet::from(["d", "b"])),
        ("d", BTreeSet::new()),
    ]);
    assert_eq!(circles(&arrows), [["b", "c"]]);
    assert!(is_part_of("gc/mark.rs", "gc.rs") && !is_part_of("gc_mark.rs", "gc.rs"));
}

#[test]
fn arrows_of_the_server_fall() {
    assert_arrows_fall("server", SERVER);
}

#[test]
fn arrows_of_the_client_fall() {
    assert_arrows_fall("client", CLIENT);
}

#[test]
fn no_files_import_one_another() {
    for name in ["core", "client", "server"] {
        assert_no_circles(name);
    }
}

//! `dist/release` with programs that are there already: the tarball, its checksum and its SBOM.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use snowbank_harness::{Scratch, process};

use super::{output, root, script};

/// The tests' programs without symbols, which would only be more to compress.
fn programs(scratch: &Scratch) -> PathBuf {
    let folder = scratch.folder("programs");
    for name in ["snowbank", "snowbankd"] {
        let to = folder.join(name);
        let from = process::binary(name);
        let _ = output("strip", &["-o", to.to_str().unwrap(), from.to_str().unwrap()], scratch);
    }
    folder
}

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Packs the programs into the folder `into`.
fn pack(scratch: &Scratch, programs: &Path, into: &str) -> PathBuf {
    let folder = scratch.join(into);
    let mut command = script("release", scratch);
    command.args(["--allow-dynamic", "--target", &target(), "--binaries"]).arg(programs);
    command.arg("--output").arg(&folder);
    process::run(command).succeeds();
    folder
}

#[test]
fn a_tarball_has_what_it_promises_and_is_the_same_each_time() {
    let scratch = Scratch::new("release");
    let programs = programs(&scratch);
    let [first, second] = ["first", "second"].map(|into| pack(&scratch, &programs, into));

    let name = format!("snowbank-{}-{}", env!("CARGO_PKG_VERSION"), target());
    let files: BTreeSet<_> =
        fs::read_dir(&first).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let expected = [format!("{name}.tar.gz"), format!("{name}.cdx.json"), "SHA256SUMS".to_owned()];
    assert_eq!(files, expected.iter().map(Into::into).collect());
    for file in &expected {
        assert!(fs::read(first.join(file)).unwrap() == fs::read(second.join(file)).unwrap());
    }

    let check = format!("cd '{}' && sha256sum --check --strict SHA256SUMS", first.display());
    let checked = output("sh", &["-ec", &check], &scratch);
    assert_eq!(checked.matches(": OK").count(), 2, "{checked}");
    assert_tarball(&scratch, &first.join(format!("{name}.tar.gz")), &programs);
    assert_bill(&fs::read_to_string(first.join(format!("{name}.cdx.json"))).unwrap());
}

/// Unpacks it as the documentation says, and looks at it.
fn assert_tarball(scratch: &Scratch, tarball: &Path, programs: &Path) {
    let prefix = scratch.folder("prefix");
    let (tarball, into) = (tarball.to_str().unwrap(), prefix.to_str().unwrap());
    let args = ["--extract", "--gzip", "--file", tarball, "--strip-components", "1"];
    let _ = output("tar", &[&args[..], &["--directory", into]].concat(), scratch);
    for name in ["snowbank", "snowbankd"] {
        let program = prefix.join("bin").join(name);
        assert!(fs::read(&program).unwrap() == fs::read(programs.join(name)).unwrap());
        let version = output(program.to_str().unwrap(), &["--version"], scratch);
        assert!(version.starts_with(&format!("{name} {}", env!("CARGO_PKG_VERSION"))), "{version}");
        for page in [
            format!("share/man/man1/{name}.1"),
            format!("share/bash-completion/completions/{name}"),
            format!("share/zsh/site-functions/_{name}"),
            format!("share/fish/vendor_completions.d/{name}.fish"),
        ] {
            let text =
                fs::read_to_string(prefix.join(&page)).unwrap_or_else(|e| panic!("{page}: {e}"));
            assert!(text.contains(name) && text.len() > 500, "{page}: {text}");
        }
    }
    assert!(prefix.join("share/man/man1/snowbank-push.1").is_file());
    for entry in fs::read_dir(root().join("dist")).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|kind| kind == "service" || kind == "socket") {
            let unit = prefix.join("lib/systemd/system").join(entry.file_name());
            assert!(fs::read(unit).unwrap() == fs::read(entry.path()).unwrap());
        }
    }
    let documents = prefix.join("share/doc/snowbank");
    for file in
        ["LICENSE", "README.md", "config.example.toml", "docs/operating.md", "dist/compose.yaml"]
    {
        assert!(fs::read(documents.join(file)).unwrap() == fs::read(root().join(file)).unwrap());
    }

    // Whoever unpacks it as root gets files that only root may change.
    let listed = output(
        "tar",
        &["--list", "--verbose", "--numeric-owner", "--gzip", "--file", tarball],
        scratch,
    );
    for line in listed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((words[1], words[3]), ("0/0", "2023-11-14"), "{line}");
        assert!(["drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"].contains(&words[0]), "{line}");
    }
}

/// The SBOM names what is linked, and apart from it what only builds.
fn assert_bill(text: &str) {
    let bill: Value = serde_json::from_str(text).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let components = bill["components"].as_array().unwrap();
    let scope = |name: &str| {
        components.iter().find(|one| one["name"] == name).map(|one| one["scope"].as_str().unwrap())
    };
    assert_eq!(scope("tokio"), Some("required"));
    assert_eq!(scope("aws-lc-sys"), Some("required"));
    assert_eq!(scope("serde_derive"), Some("excluded"));
    assert_eq!(scope("proptest"), None, "only tests have it");
    let references: BTreeSet<&str> =
        components.iter().map(|one| one["bom-ref"].as_str().unwrap()).collect();
    assert_eq!(references.len(), components.len(), "each once");
    for edges in bill["dependencies"].as_array().unwrap() {
        for to in edges["dependsOn"].as_array().unwrap() {
            assert!(references.contains(to.as_str().unwrap()), "{to} is no component");
        }
    }
    for crates in
        components.iter().filter(|one| one["purl"].as_str().unwrap().starts_with("pkg:cargo/"))
    {
        let own = crates["name"].as_str().unwrap().starts_with("snowbank-");
        assert_eq!(crates["hashes"].is_null(), own, "{crates}");
        assert!(!crates["licenses"][0]["expression"].is_null(), "{crates}");
    }
}

#[test]
fn wrong_arguments_and_missing_things_are_named_with_a_remedy() {
    let scratch = Scratch::new("release");
    let refuse = |args: &[&str], says: &str| {
        let mut command = script("release", &scratch);
        command.args(args).arg("--output").arg(scratch.join("out"));
        let output = process::run(command);
        assert!(!output.status.success() && output.stderr.contains(says), "{args:?}: {output}");
    };
    refuse(&["--tarred"], "unknown option --tarred; dist/release --help");
    refuse(&["--target", "sparrow"], "rustc knows no target sparrow");
    refuse(
        &["--target", "s390x-unknown-linux-gnu"],
        "run: rustup target add s390x-unknown-linux-gnu",
    );
    let empty = scratch.folder("empty");
    refuse(&["--binaries", empty.to_str().unwrap()], "has no program snowbank;");
    refuse(&["--allow-dynamic"], "goes with --binaries");
    if output("readelf", &["--dynamic", process::binary("snowbank").to_str().unwrap()], &scratch)
        .contains("(NEEDED)")
    {
        let folder = process::binary("snowbank").with_file_name("");
        refuse(&["--binaries", folder.to_str().unwrap()], "needs shared libraries");
    }
    let mut command = script("release", &scratch);
    // bash and the other tools, but no Rust.
    command.env("PATH", "/usr/bin:/bin");
    if !Path::new("/usr/bin/cargo").exists() {
        let output = process::run(command).ended_with(1);
        assert!(output.stderr.contains("no cargo on the PATH; install Rust"), "{output}");
    }
    let help = output(root().join("dist/release").to_str().unwrap(), &["--help"], &scratch);
    assert!(help.contains("--binaries FOLDER") && !help.contains("set -"), "{help}");
}

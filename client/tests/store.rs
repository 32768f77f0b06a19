//! The store access against real Nix: what it says of paths, closures and outputs, and NARs byte
//! for byte.
//!
//! Each test owns a store in a folder of its own.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use snowbank_client::store::dump::{DumpError, DumpOptions, dump_nar, dump_nar_with};
use snowbank_client::store::{Store, StoreError, StoreOptions};
use snowbank_core::hash::Sha256;
use snowbank_core::store_path::StorePath;
use tempfile::TempDir;

/// A Nix store below a root of its own.
struct NixRoot {
    folder: TempDir,
}

impl NixRoot {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn uri(&self) -> String {
        format!("local?root={}", self.root().display())
    }

    fn nix(&self, program: &str, args: &[&str]) -> String {
        let output =
            Command::new(program).arg("--store").arg(self.uri()).args(args).output().unwrap();
        text(&output)
    }

    fn add(&self, path: &Path) -> String {
        self.nix("nix-store", &["--add", path.to_str().unwrap()])
    }

    /// Evaluates to one string: a store path that `builtins.toFile` made.
    fn evaluate(&self, expression: &str) -> String {
        self.nix("nix-instantiate", &["--eval", "--strict", "--read-write-mode", "-E", expression])
            .trim_matches('"')
            .to_owned()
    }

    async fn open(&self) -> Store {
        Store::open(StoreOptions { uri: Some(self.uri()) }).await.unwrap()
    }
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

fn path(store: &Store, full: &str) -> StorePath {
    StorePath::parse(store.store_dir(), full).unwrap()
}

fn dump(root: &Path) -> Result<Vec<u8>, DumpError> {
    let mut nar = Vec::new();
    dump_nar(root, &mut |piece| {
        nar.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(nar)
}

fn nix_dump(root: &Path) -> Vec<u8> {
    let output = Command::new("nix-store").arg("--dump").arg(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A tree with everything that a NAR can hold, and sizes around the dumper's buffers.
fn odd_tree(root: &Path) {
    fs::create_dir_all(root.join("deep/er/and/deeper")).unwrap();
    fs::create_dir(root.join("empty folder")).unwrap();
    for size in
        [0, 1, 7, 8, 9, 4096, 262_143, 262_144, 262_145, 1_048_575, 1_048_576, 1_048_577, 5_000_003]
    {
        let bytes: Vec<u8> =
            (0..size).map(|at: usize| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect();
        fs::write(root.join(format!("deep/size-{size}")), bytes).unwrap();
    }
    for name in [
        &b"\xff\xfe"[..],
        b"a b",
        b"a",
        b"A",
        b"a.b",
        b"a-b",
        b"~nix~case~hack~1",
        "\u{e9}".as_bytes(),
        b"\n",
    ] {
        fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    for (number, mode) in [0o444, 0o555, 0o755, 0o100, 0o611, 0o454].into_iter().enumerate() {
        let file = root.join(format!("mode-{number}"));
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("../nowhere", root.join("deep/dangling")).unwrap();
    symlink("/nix/store", root.join("absolute")).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), root.join("deep/er/bytes")).unwrap();
    symlink("x".repeat(4000), root.join("long")).unwrap();
}

#[test]
fn dumps_are_those_of_nix() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    odd_tree(&tree);
    for root in
        [tree.clone(), tree.join("deep/size-5000003"), tree.join("mode-2"), tree.join("absolute")]
    {
        assert!(dump(&root).unwrap() == nix_dump(&root), "{}", root.display());
    }
}

#[test]
fn memory_is_bounded_by_the_piece() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("big"), vec![7; 20_000_000]).unwrap();
    let (mut longest, mut pieces) = (0, 0);
    dump_nar(folder.path(), &mut |piece| {
        longest = longest.max(piece.len());
        pieces += 1;
        Ok(())
    })
    .unwrap();
    assert!(longest <= 1 << 20 && pieces < 100, "{pieces} pieces, the longest of {longest} bytes");
}

#[test]
fn what_cannot_be_dumped_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = dump(&folder.path().join("gone")).unwrap_err();
    assert!(matches!(&error, DumpError::Missing { path } if path.ends_with("gone")), "{error}");

    fs::create_dir(folder.path().join("sub")).unwrap();
    let _socket =
        std::os::unix::net::UnixListener::bind(folder.path().join("sub/listener")).unwrap();
    let error = dump(folder.path()).unwrap_err().to_string();
    assert!(error.contains("sub/listener is a socket"), "{error}");

    let stopped = dump_nar(Path::new("/dev/null"), &mut |_| Ok(())).unwrap_err().to_string();
    assert!(stopped.contains("/dev/null is a device"), "{stopped}");
    fs::remove_file(folder.path().join("sub/listener")).unwrap();
    let refused =
        dump_nar(folder.path(), &mut |_| Err(std::io::Error::other("enough"))).unwrap_err();
    assert!(matches!(refused, DumpError::Stopped(_)));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_named() {
    for new_len in [3_000_000, 9_000_000] {
        let folder = tempfile::tempdir().unwrap();
        let big = folder.path().join("big");
        fs::write(&big, vec![1; 8_000_000]).unwrap();
        let mut pieces = 0;
        let error = dump_nar(folder.path(), &mut |_| {
            pieces += 1;
            if pieces == 2 {
                fs::File::options().write(true).open(&big).unwrap().set_len(new_len).unwrap();
            }
            Ok(())
        })
        .unwrap_err();
        assert!(
            matches!(&error, DumpError::Changed { path, expected: 8_000_000 } if *path == big),
            "{error}"
        );
    }
}

#[test]
fn the_case_hack_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, hacked) = (folder.path().join("plain"), folder.path().join("hacked"));
    for (root, names) in [
        (&plain, ["README", "ReadMe", "readme", "readme.d/x"]),
        (
            &hacked,
            [
                "README",
                "ReadMe~nix~case~hack~1",
                "readme~nix~case~hack~2",
                "readme.d/x~nix~case~hack~1",
            ],
        ),
    ] {
        fs::create_dir_all(root.join("readme.d")).unwrap();
        for name in names {
            fs::write(root.join(name), name.split('~').next().unwrap()).unwrap();
        }
    }
    let dump = |root: &Path| {
        let mut nar = Vec::new();
        let mut out = |piece: &[u8]| {
            nar.extend_from_slice(piece);
            Ok(())
        };
        dump_nar_with(root, DumpOptions { case_hack: true }, &mut out).map(|()| nar)
    };
    assert_eq!(dump(&hacked).unwrap(), nix_dump(&plain));
    fs::write(hacked.join("README~nix~case~hack~9"), "").unwrap();
    assert!(
        matches!(dump(&hacked), Err(DumpError::Collision { path }) if path.ends_with("README"))
    );
}

#[tokio::test]
async fn infos_are_those_of_nix_and_dumps_have_the_registered_hash() {
    let nix = NixRoot::new();
    let tree = nix.folder.path().join("tree");
    odd_tree(&tree);
    let added = nix.add(&tree);
    let store = nix.open().await;
    let added = path(&store, &added);
    let missing = StorePath::from_base_name(&format!("{}-no", "0".repeat(32))).unwrap();
    let infos = store.path_infos(&[added.clone(), missing.clone(), added.clone()]).await.unwrap();
    assert!(infos[1].is_none() && infos[0] == infos[2]);
    assert!(store.is_valid(&added).await.unwrap() && !store.is_valid(&missing).await.unwrap());

    let info = infos[0].as_ref().unwrap();
    let nar = dump(&store.real_path(&added)).unwrap();
    assert_eq!(info.nar_size, nar.len() as u64);
    assert_eq!(info.nar_hash.as_bytes(), Sha256::of(&nar).as_bytes());
    let full = added.full(store.store_dir());
    assert_eq!(
        nix.nix("nix-store", &["--query", "--hash", &full]),
        format!("sha256:{}", info.nar_hash.to_nix32())
    );
    assert!(info.ca.as_ref().unwrap().starts_with("fixed:r:sha256:"), "{:?}", info.ca);
    assert!(info.registration_time > 1_600_000_000 && info.references.is_empty());
}

#[tokio::test]
async fn every_way_to_name_a_store_at_another_root_works() {
    let nix = NixRoot::new();
    fs::write(nix.folder.path().join("f"), "hello").unwrap();
    let added = nix.add(&nix.folder.path().join("f"));
    let root = nix.root().display().to_string();
    for uri in [root.clone(), format!("local?root={root}"), format!("auto?root={root}")] {
        let store = Store::open(StoreOptions { uri: Some(uri.clone()) }).await.unwrap();
        let paths = store.resolve(std::slice::from_ref(&added)).await.unwrap();
        assert_eq!(fs::read_to_string(store.real_path(&paths[0])).unwrap(), "hello", "{uri}");
    }
    // Nix would make a store there.
    let typo = nix.folder.path().join("typo").display().to_string();
    for uri in [
        typo.clone(),
        format!("local?root={typo}"),
        format!("auto?root={typo}&want-mass-query=true"),
    ] {
        let error = Store::open(StoreOptions { uri: Some(uri) }).await.err().unwrap();
        assert!(
            matches!(error, StoreError::Nowhere { .. }) && error.to_string().contains(&typo),
            "{error}"
        );
        assert!(!Path::new(&typo).exists());
    }
    // What a Nix that cannot go on says is quoted.
    fs::write(nix.root().join("nix/var/nix/db/schema"), "999").unwrap();
    let error = Store::open(StoreOptions { uri: Some(nix.uri()) }).await.err().unwrap().to_string();
    assert!(error.contains("it said") && error.contains("999"), "{error}");
}

#[tokio::test]
async fn what_is_in_a_closure_is_kept_while_the_store_is_open() {
    let nix = NixRoot::new();
    fs::write(nix.folder.path().join("f"), "hello").unwrap();
    let added = nix.add(&nix.folder.path().join("f"));
    let store = nix.open().await;
    let gone = StorePath::from_base_name(&format!("{}-gone", "0".repeat(32))).unwrap();
    let closure = store.closure(&[path(&store, &added), gone.clone()]).await.unwrap();
    assert_eq!((closure.infos.len(), closure.absent), (1, vec![gone]));
    nix.nix("nix-store", &["--gc"]);
    assert!(store.is_still_valid(&path(&store, &added)).await.unwrap());
    drop(store);
    for _ in 0..200 {
        // The daemon that holds it is ended, not waited for.
        nix.nix("nix-store", &["--gc"]);
        if !nix.root().join(&added[1..]).exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{added} is still kept");
}

#[tokio::test]
async fn closures_of_ten_thousand_paths_come_references_first() {
    let nix = NixRoot::new();
    // Each refers to two others; the last leads to all.
    let last = nix.evaluate(
        r#"let
             text = n: if n < 2 then "leaf ${toString n}"
               else "${builtins.elemAt f (n - 1)} ${builtins.elemAt f (n / 2)}";
             f = builtins.genList (n: builtins.toFile "f${toString n}" (text n)) 10000;
             numbers = builtins.genList (n: n) 10000;
           in builtins.deepSeq (map (n: builtins.stringLength (builtins.elemAt f n)) numbers)
             builtins.elemAt f 9999"#,
    );
    let store = nix.open().await;
    let last = path(&store, &last);
    let closure = store.closure(&[last.clone(), last.clone()]).await.unwrap().infos;
    assert_eq!(closure.last().unwrap().path, last);
    let mut seen = HashSet::new();
    for info in &closure {
        assert!(info.references.iter().all(|reference| seen.contains(reference)), "{}", info.path);
        assert!(seen.insert(info.path.clone()));
    }
    // f1 is a leaf that f2 and f3 need; f0 is not referred to (n / 2 is 1 from 2 on).
    assert_eq!(closure.len(), 9999);

    let all: Vec<StorePath> = closure.into_iter().map(|info| info.path).collect();
    assert_eq!(store.path_infos(&all).await.unwrap().iter().flatten().count(), 9999);
    assert_eq!(store.valid_paths(&all).await.unwrap().len(), 9999);
    let names: Vec<String> = all.iter().map(|path| path.full(store.store_dir())).collect();
    assert_eq!(store.resolve(&names).await.unwrap(), all);
}

#[tokio::test]
async fn arguments_of_every_kind_resolve() {
    let nix = NixRoot::new();
    let folder = nix.folder.path();
    fs::create_dir_all(folder.join("tree/bin")).unwrap();
    fs::write(folder.join("tree/bin/x"), "").unwrap();
    let added = nix.add(&folder.join("tree"));
    symlink(&added, folder.join("result")).unwrap();
    symlink("result", folder.join("result-2")).unwrap();
    symlink("loop", folder.join("loop")).unwrap();
    fs::write(folder.join("plain"), "").unwrap();
    let store = nix.open().await;
    let expected = [path(&store, &added)];

    let real = store.real_path(&expected[0]).display().to_string();
    let at = |name: &str| folder.join(name).display().to_string();
    for arg in [
        added.clone(),
        format!("{added}/bin/x"),
        format!("{added}/"),
        at("result"),
        at("result-2"),
        at("tree/../result"),
        at("result/bin/x"),
        real.clone(),
        format!("{real}/bin"),
    ] {
        assert_eq!(store.resolve(&[arg.clone(), added.clone()]).await.unwrap(), expected, "{arg}");
    }
    for (arg, want) in [
        (at("plain"), "is not in /nix/store"),
        (at("gone"), "No such file"),
        (at("loop"), "too many symbolic links"),
        (format!("/nix/store/{}-gone", "0".repeat(32)), "not a valid path"),
        ("/nix/store".to_owned(), "the store itself"),
        ("/nix/store/x".to_owned(), "names no store path"),
        ("nixpkgs#hello".to_owned(), "nix build --print-out-paths 'nixpkgs#hello'"),
        (format!("{added}^out"), "is no derivation"),
    ] {
        let error = store.resolve(&[added.clone(), arg.clone()]).await.unwrap_err();
        assert!(matches!(error, StoreError::Installable { .. }), "{arg}: {error:?}");
        let error = error.to_string();
        assert!(error.contains(want) && error.contains(&arg), "{arg}: {error}");
    }
}

#[tokio::test]
async fn outputs_of_derivations_resolve() {
    let nix = NixRoot::new();
    let file = nix.folder.path().join("f");
    fs::write(&file, "contents").unwrap();
    let hash = Sha256::of(b"contents").to_hex();
    // A fixed output's path follows from its hash, so that adding the file makes the output valid
    // without a build.
    let fixed = nix.nix(
        "nix-instantiate",
        &[
            "-E",
            &format!(
                r#"derivation {{ name = "f"; system = "x"; builder = "x"; outputHashMode = "flat";
             outputHashAlgo = "sha256"; outputHash = "{hash}"; }}"#
            ),
        ],
    );
    let two = nix.nix(
        "nix-instantiate",
        &[
            "-E",
            r#"derivation { name = "two"; system = "x"; builder = "x";
        outputs = [ "out" "dev" ]; }"#,
        ],
    );
    let store = nix.open().await;
    let unbuilt = store.resolve(&[format!("{fixed}^out")]).await.unwrap_err().to_string();
    assert!(unbuilt.contains("not a valid path"), "{unbuilt}");
    let output = nix.nix("nix-store", &["--add-fixed", "sha256", file.to_str().unwrap()]);
    for arg in ["^out", "^*", "^out,*"] {
        assert_eq!(
            store.resolve(&[format!("{fixed}{arg}")]).await.unwrap(),
            [path(&store, &output)]
        );
    }
    assert_eq!(store.resolve(std::slice::from_ref(&fixed)).await.unwrap(), [path(&store, &fixed)]);

    assert_eq!(store.derivation_outputs(&path(&store, &two)).await.unwrap().len(), 2);
    let error = store.resolve(&[format!("{two}^lib")]).await.unwrap_err().to_string();
    assert!(error.contains("no output \"lib\"; it has dev, out"), "{error}");
    // After Nix answered with an error, the next question goes through a new connection.
    let gone = format!("/nix/store/{}-gone.drv^out", "0".repeat(32));
    assert!(matches!(store.resolve(&[gone]).await, Err(StoreError::Installable { .. })));
    assert_eq!(store.resolve(&[format!("{fixed}^out")]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_registered_path_without_files_is_found_missing_by_the_dumper() {
    let nix = NixRoot::new();
    fs::write(nix.folder.path().join("f"), "hello").unwrap();
    let added = nix.add(&nix.folder.path().join("f"));
    let store = nix.open().await;
    let added = path(&store, &added);
    fs::remove_file(store.real_path(&added)).unwrap();
    assert!(store.path_infos(std::slice::from_ref(&added)).await.unwrap()[0].is_some());
    assert!(matches!(dump(&store.real_path(&added)), Err(DumpError::Missing { .. })));
}

/// A `nix-daemon` that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn a_daemon_is_asked_over_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let (store_dir, state_dir) = (folder.path().join("store"), folder.path().join("var/nix"));
    let socket = folder.path().join("socket");
    let uri = format!("unix://{}?store={}", socket.display(), store_dir.display());
    let error = Store::open(StoreOptions { uri: Some(uri.clone()) }).await.err().unwrap();
    assert!(error.to_string().contains(socket.to_str().unwrap()), "{error}");

    let nix = |program: &str| {
        let mut command = Command::new(program);
        command
            .env("NIX_STORE_DIR", &store_dir)
            .env("NIX_STATE_DIR", &state_dir)
            .env("NIX_DAEMON_SOCKET_PATH", &socket);
        command.env("NIX_LOG_DIR", folder.path().join("log")).env("NIX_REMOTE", "");
        command
    };
    fs::write(folder.path().join("f"), "hello").unwrap();
    let added = text(&nix("nix-store").arg("--add").arg(folder.path().join("f")).output().unwrap());
    let _daemon = Daemon(nix("nix-daemon").stderr(std::process::Stdio::null()).spawn().unwrap());
    for _ in 0..200 {
        // Its file is there a moment before it listens.
        if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let store = Store::open(StoreOptions { uri: Some(uri) }).await.unwrap();
    let paths = store.resolve(&[added]).await.unwrap();
    let info = store.closure(&paths).await.unwrap().infos.remove(0);
    let nar = dump(&store.real_path(&info.path)).unwrap();
    assert_eq!(info.nar_hash.as_bytes(), Sha256::of(&nar).as_bytes());
}

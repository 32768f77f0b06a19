//! `dist/image`: the layout's digests, what the image holds, and its server in a folder with a
//! read-only root.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::process::Signal;
use serde_json::Value;
use snowbank_harness::{Scratch, process, site::make_server_key};

use super::{items, output, read, script, text, yaml};

/// The user of the image.
const USER: u32 = 65_532;

/// A PEM file with something in it: the tests' machine may have no certificates.
fn certificates(scratch: &Scratch) -> PathBuf {
    let file = scratch.join("authorities.pem");
    let body = STANDARD.encode("an authority");
    fs::write(&file, format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"))
        .unwrap();
    file
}

/// Some small program, for what does not depend on the program.
const SMALL: &str = "/bin/sh";

/// Makes the image of a program in the folder `into`.
fn make(scratch: &Scratch, program: &Path, into: &str) -> PathBuf {
    let folder = scratch.join(into);
    let mut command = script("image", scratch);
    command.arg("--allow-dynamic").args(["--tag", "1.2.3", "--revision", "abc"]);
    command.arg("--binary").arg(program).arg("--output").arg(&folder);
    command.arg("--ca-certificates").arg(certificates(scratch));
    process::run(command).succeeds();
    folder
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    hash.as_ref().iter().fold("sha256:".to_owned(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// The blob that a descriptor names, compared with it.
fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let name = descriptor["digest"].as_str().unwrap();
    let bytes = fs::read(layout.join("blobs").join(name.replace(':', "/"))).unwrap();
    assert_eq!(
        (digest(&bytes).as_str(), Some(bytes.len() as u64)),
        (name, descriptor["size"].as_u64())
    );
    bytes
}

/// The config and the layer's tar file of a layout whose every descriptor is right.
fn open(scratch: &Scratch, layout: &Path) -> (Value, PathBuf) {
    let index = json(&fs::read(layout.join("index.json")).unwrap());
    let version = json(&fs::read(layout.join("oci-layout")).unwrap());
    assert_eq!(version["imageLayoutVersion"], "1.0.0");
    let named = &index["manifests"][0];
    assert_eq!(named["annotations"]["org.opencontainers.image.ref.name"], "1.2.3");
    let manifest = json(&blob(layout, named));
    let config = json(&blob(layout, &manifest["config"]));
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1);
    let packed = scratch.join("layer.tar.gz");
    fs::write(&packed, blob(layout, &layers[0])).unwrap();
    let _ = output("gzip", &["--decompress", "--force", packed.to_str().unwrap()], scratch);
    let tar = scratch.join("layer.tar");
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([digest(&fs::read(&tar).unwrap())]));
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 3, "nothing that no descriptor names");
    (config, tar)
}

/// All files of a folder with their contents.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(contents(&entry.path()));
        } else {
            found.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn every_digest_and_size_is_right_and_the_same_each_time() {
    let scratch = Scratch::new("image");
    let [first, second] = ["first", "second"].map(|into| make(&scratch, Path::new(SMALL), into));
    let (config, tar) = open(&scratch, &first);
    let relative = |folder: &Path| -> Vec<_> {
        let all = contents(folder).into_iter();
        all.map(|(path, bytes)| (path.strip_prefix(folder).unwrap().to_owned(), bytes)).collect()
    };
    assert!(relative(&first) == relative(&second));

    let expected = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!(config["architecture"], expected);
    let labels = &config["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(labels["org.opencontainers.image.revision"], "abc");
    let listed = output("tar", &["-tvf", tar.to_str().unwrap(), "--numeric-owner"], &scratch);
    let line = |name: &str| {
        let found = listed.lines().find(|line| line.ends_with(&format!(" {name}")));
        found.unwrap_or_else(|| panic!("no {name}: {listed}")).to_owned()
    };
    assert!(line("data/").starts_with("drwx------ 65532/65532 "), "{listed}");
    assert!(line("tmp/").starts_with("drwxrwxrwt 0/0 "), "{listed}");
    assert!(line("usr/bin/snowbankd").starts_with("-rwxr-xr-x 0/0 "), "{listed}");
    assert!(line("etc/ssl/certs/ca-certificates.crt").starts_with("-rw-r--r-- 0/0 "), "{listed}");
}

/// The last stage of `dist/Containerfile`: each instruction with its words.
fn last_stage() -> BTreeMap<String, String> {
    let file = read("dist/Containerfile").replace("\\\n", "");
    let (_, stage) = file.split_once("\nFROM scratch\n").unwrap();
    let lines = stage.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(word, rest)| (word.to_owned(), rest.trim().to_owned())).collect()
}

#[test]
fn the_containerfile_makes_the_same_image() {
    let scratch = Scratch::new("image");
    let layout = make(&scratch, Path::new(SMALL), "image");
    let (config, tar) = open(&scratch, &layout);
    let (config, stage) = (&config["config"], last_stage());
    assert_eq!(config["User"], stage["USER"]);
    assert_eq!(config["WorkingDir"], stage["WORKDIR"]);
    assert_eq!(config["StopSignal"], stage["STOPSIGNAL"]);
    assert_eq!(config["ExposedPorts"], serde_json::json!({ &stage["EXPOSE"]: {} }));
    assert_eq!(config["Volumes"], serde_json::json!({ &stage["VOLUME"]: {} }));
    assert_eq!(config["Entrypoint"], json(stage["ENTRYPOINT"].as_bytes()));
    let variables: Vec<&str> = stage["ENV"].split_whitespace().collect();
    assert_eq!(config["Env"], serde_json::json!(variables));
    for label in stage["LABEL"].split("\" ").map(|label| label.trim().trim_end_matches('"')) {
        let (name, value) = label.split_once("=\"").unwrap();
        assert_eq!(config["Labels"][name], value);
    }
    // The Containerfile makes every file of the layer too, and the short ones with these bytes.
    let containerfile = read("dist/Containerfile").replace("\\\n", " ");
    let containerfile = containerfile.split_whitespace().collect::<Vec<_>>().join(" ");
    let unpacked = scratch.folder("unpacked");
    let folder = unpacked.to_str().unwrap();
    let _ = output("tar", &["-xf", tar.to_str().unwrap(), "-C", folder], &scratch);
    for (path, bytes) in contents(&unpacked) {
        let path = path.strip_prefix(&unpacked).unwrap().to_str().unwrap().to_owned();
        assert!(containerfile.contains(path.rsplit('/').next().unwrap()), "{path}");
        if bytes.len() < 200 && path != "etc/ssl/certs/ca-certificates.crt" {
            let lines = String::from_utf8(bytes).unwrap();
            let settings: String = lines
                .lines()
                .filter(|line| !line.starts_with('#'))
                .flat_map(|line| [line, "\\n"])
                .collect();
            assert!(
                containerfile.contains(&format!("'{settings}' > /root/image/{path}")),
                "{settings}"
            );
        }
    }
}

/// Puts the libraries of a dynamic program into `root`, as its image would not have them.
fn add_libraries(root: &Path, program: &Path, scratch: &Scratch) {
    let mut command = process::command("ldd", scratch.path());
    command.arg(program);
    for library in
        process::run(command).stdout.split_whitespace().filter(|word| word.starts_with('/'))
    {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, to).unwrap();
    }
}

/// What Kubernetes mounts, as the manifests say: the config file with other addresses, and the
/// Secret's files with their mode, of a group that the server is in.
fn mount_manifests(root: &Path, address: SocketAddr) {
    let config = text(&yaml("dist/kubernetes/configmap.yaml")["data"]["snowbankd.toml"]).to_owned();
    let own = config
        .replace("[::]:8080", &address.to_string())
        .replace("[::]:9180", &process::own_address().to_string());
    fs::write(root.join("etc/snowbank/snowbankd.toml"), own).unwrap();
    let deployment = yaml("dist/kubernetes/deployment.yaml");
    let pod = &deployment["spec"]["template"]["spec"];
    let mode = super::named(&pod["volumes"], "secrets")["secret"]["defaultMode"].as_i64().unwrap();
    let mounts = &items(&pod["containers"])[0]["volumeMounts"];
    let secrets =
        root.join(text(&super::named(mounts, "secrets")["mountPath"]).trim_start_matches('/'));
    fs::create_dir_all(&secrets).unwrap();
    let key = secrets.join("server-key");
    make_server_key(&key);
    fs::set_permissions(&key, fs::Permissions::from_mode(mode.try_into().unwrap())).unwrap();
    chown(&key, Some(0), Some(USER)).unwrap();
}

#[test]
fn its_server_runs_as_its_user_on_a_read_only_root_with_kubernetes_files() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root may change the root folder of a program");
        return;
    }
    let (scratch, address) = (Scratch::new("image"), process::own_address());
    // Symbols would only be more to compress.
    let (stripped, program) = (scratch.join("snowbankd"), process::binary("snowbankd"));
    let _ =
        output("strip", &["-o", stripped.to_str().unwrap(), program.to_str().unwrap()], &scratch);
    let layout = make(&scratch, &stripped, "image");
    let (config, tar) = open(&scratch, &layout);
    let root = scratch.folder("root");
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let _ = output(
        "tar",
        &["-xpf", tar.to_str().unwrap(), "--numeric-owner", "-C", root.to_str().unwrap()],
        &scratch,
    );
    add_libraries(&root, &process::binary("snowbankd"), &scratch);
    mount_manifests(&root, address);
    // A volume as `fsGroup` leaves it.
    let data = scratch.folder("volume");
    chown(&data, Some(0), Some(USER)).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o2775)).unwrap();

    let mut command = process::command("unshare", scratch.path());
    command.args(["--mount", "sh", "-ec"]).arg(
        "root=$1 data=$2; shift 2
        mount --bind \"$root\" \"$root\"
        mount --bind \"$data\" \"$root/data\"
        mount -o remount,bind,ro \"$root\"
        exec env -i \"$@\"",
    );
    command.arg("sh").arg(&root).arg(&data);
    command
        .args(config["config"]["Env"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()));
    command
        .args(["/usr/sbin/chroot", &format!("--userspec={USER}:{USER}"), "--groups="])
        .arg(&root);
    command.arg(config["config"]["Entrypoint"][0].as_str().unwrap());
    let mut server = process::Running::start(command, &[]);

    let deployment = yaml("dist/kubernetes/deployment.yaml");
    let container = &items(&deployment["spec"]["template"]["spec"]["containers"])[0];
    let (started, mut waiting) =
        (Instant::now(), vec!["startupProbe", "livenessProbe", "readinessProbe"]);
    while !waiting.is_empty() && !server.is_done() && started.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(20));
        waiting.retain(|probe| {
            let url = format!("http://{address}{}", text(&container[*probe]["httpGet"]["path"]));
            !reqwest::blocking::get(url).is_ok_and(|answer| answer.status().is_success())
        });
    }
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap_or_default();
    server.signal(Signal::TERM);
    let ended = server.wait();
    assert!(waiting.is_empty() && ended.status.success(), "{waiting:?}\n{ended}");
    assert!(!ended.stderr.contains("\"WARN\""), "{ended}");
    for line in [format!("Uid:\t{USER}\t{USER}"), "CapEff:\t0000000000000000".to_owned()] {
        assert!(status.contains(&line), "{status}");
    }
    let made = fs::metadata(data.join("snowbank")).unwrap();
    assert_eq!((made.uid(), made.permissions().mode() & 0o777), (USER, 0o700));
    assert!(!data.join("snowbank/server-key").exists(), "the key is the Secret's");
}

#[test]
fn what_cannot_be_an_image_is_refused_with_a_remedy() {
    let scratch = Scratch::new("image");
    let refuse = |args: &[&str], says: &str| {
        let mut command = script("image", &scratch);
        command.args(args).arg("--output").arg(scratch.join("out"));
        let output = process::run(command);
        assert!(!output.status.success() && output.stderr.contains(says), "{args:?}: {output}");
        assert!(!output.stderr.contains("Traceback"), "{output}");
    };
    let page = super::root().join("README.md");
    let page = page.to_str().unwrap();
    refuse(&["--binary", page], "is no 64-bit little-endian ELF program");
    refuse(
        &["--binary", "/nowhere/snowbankd"],
        "No such file or directory; build it with dist/release",
    );
    let program = process::binary("snowbankd");
    let mut start = [0; 1];
    fs::File::open(&program).unwrap().read_exact(&mut start).unwrap();
    assert_eq!(start[0], 0x7f);
    let program = program.to_str().unwrap();
    refuse(
        &["--binary", program, "--allow-dynamic", "--ca-certificates", page],
        "has no certificate in PEM",
    );
    fs::create_dir_all(scratch.join("out/blobs/sha256")).unwrap();
    let pem = certificates(&scratch);
    let pem = pem.to_str().unwrap();
    refuse(
        &["--binary", program, "--allow-dynamic", "--ca-certificates", pem],
        "name a new folder",
    );
}

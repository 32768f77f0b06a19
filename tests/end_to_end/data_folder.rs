//! Who else may get at the data folder: what is open to others is refused, and no link in it is
//! followed.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    time::Duration,
};

use snowbank_harness::{Scratch, Server, process::Output};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A data folder that a server has used, and no server.
fn used(scratch: &Scratch) -> std::path::PathBuf {
    let data = scratch.join("data");
    let mut server = Server::options().data_dir(&data).start();
    assert!(server.terminate().success());
    data
}

fn start_in_vain(data: &Path) -> Output {
    Server::options().data_dir(data).start_in_vain(Duration::from_secs(20))
}

#[test]
fn what_others_may_change_or_read_is_refused_with_the_command_that_mends_it() {
    let scratch = Scratch::new("modes");
    let data = used(&scratch);
    for (name, open, right) in [
        ("", 0o777, 0o700),
        ("", 0o1777, 0o700),
        ("root-token", 0o644, 0o600),
        ("root-token", 0o660, 0o600),
        ("server-key", 0o604, 0o600),
        ("snowbank.db", 0o666, 0o600),
    ] {
        let path = if name.is_empty() { data.clone() } else { data.join(name) };
        set_mode(&path, open);
        let output = start_in_vain(&data);
        let command = format!("chmod {right:o} {}", path.display());
        assert!(
            !output.status.success() && output.stderr.contains(&command),
            "{name} {open:o}: {output}"
        );
        set_mode(&path, right);
    }
    set_mode(&data, 0o777);
    let output = Server::options().data_dir(&data).command(&["token", "list"]);
    assert!(
        !output.status.success() && output.stderr.contains("chmod 700"),
        "commands refuse it as well: {output}"
    );

    // What is less bad is said, and what a group may read is not.
    for (mode, says) in
        [(0o755, "can be read by every user"), (0o770, "can be changed by its group"), (0o750, "")]
    {
        set_mode(&data, mode);
        let mut server = Server::options().data_dir(&data).start();
        assert!(server.terminate().success());
        let log = server.log();
        assert_eq!(log.contains("chmod 700"), !says.is_empty(), "{mode:o}: {log}");
        assert!(log.contains(says), "{mode:o}: {log}");
    }
}

#[test]
fn no_link_in_the_place_of_a_lock_or_of_leftovers_is_followed() {
    let scratch = Scratch::new("links");
    let data = used(&scratch);
    let precious = scratch.join("precious");
    fs::write(&precious, "precious").unwrap();
    let lock = data.join("snowbankd.lock");
    fs::remove_file(&lock).unwrap();
    symlink(&precious, &lock).unwrap();
    let output = start_in_vain(&data);
    assert!(!output.status.success() && output.stderr.contains("symbolic link"), "{output}");
    assert_eq!(
        fs::read_to_string(&precious).unwrap(),
        "precious",
        "it is neither truncated nor written to"
    );
    fs::remove_file(&lock).unwrap();
    symlink(scratch.join("nothing"), &lock).unwrap();
    assert!(!start_in_vain(&data).status.success());
    assert!(!scratch.join("nothing").exists(), "nothing is made at the end of a link");
    fs::remove_file(&lock).unwrap();

    // A folder that is emptied at the start.
    let folder = scratch.join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("kept.tmp"), "kept").unwrap();
    let incoming = data.join("storage/.incoming");
    fs::remove_dir_all(&incoming).unwrap();
    symlink(&folder, &incoming).unwrap();
    let output = start_in_vain(&data);
    assert!(!output.status.success() && output.stderr.contains(".incoming"), "{output}");
    assert!(folder.join("kept.tmp").exists());
    fs::remove_file(&incoming).unwrap();

    let collecting = data.join("snowbank.db-collecting");
    let _ = fs::remove_file(&collecting);
    symlink(&precious, &collecting).unwrap();
    let mut server = Server::options().data_dir(&data).start();
    let output = server.command(&["gc"]);
    assert!(!output.status.success() && output.stderr.contains("symbolic link"), "{output}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    assert!(server.terminate().success());
}

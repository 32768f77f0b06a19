//! A small file system, for a disk that is full.

use std::{path::Path, process::Command};

use crate::Scratch;

/// A mounted tmpfs of a fixed size. Unmounted when dropped. Mounting needs root (or `sudo` without
/// a password); without it the test fails.
#[derive(Debug)]
pub struct Tmpfs {
    scratch: Scratch,
}

impl Tmpfs {
    /// Mounts one of `mebibytes`.
    #[must_use]
    pub fn mount(mebibytes: u32) -> Self {
        let scratch = Scratch::new("tmpfs");
        let options = format!("size={mebibytes}m,mode=0777");
        as_root(
            "mount",
            &["-t", "tmpfs", "-o", &options, "snowbank-test", &scratch.path().to_string_lossy()],
        );
        Self { scratch }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Gives it another size, its contents staying.
    pub fn resize(&self, mebibytes: u32) {
        let options = format!("remount,size={mebibytes}m");
        as_root("mount", &["-o", &options, &self.scratch.path().to_string_lossy()]);
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process of a failed test may still hold a file. Its own output says what went
        // wrong.
        let _ = privileged("umount", &["--lazy", &self.scratch.path().to_string_lossy()]).status();
    }
}

fn privileged(program: &str, args: &[&str]) -> Command {
    let root = rustix::process::geteuid().is_root();
    let mut command = Command::new(if root { program } else { "sudo" });
    if !root {
        command.args(["--non-interactive", program]);
    }
    command.args(args);
    command
}

fn as_root(program: &str, args: &[&str]) {
    let output =
        privileged(program, args).output().unwrap_or_else(|e| panic!("{program} {args:?}: {e}"));
    assert!(
        output.status.success(),
        "{program} {args:?} failed, and this test needs it (run as root, or allow sudo without a \
         password): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

//! What was measured on: the machine and the versions of the peers.

use std::{fs, path::Path, process::Command, thread};

/// A list of what a reader has to know of the machine, in Markdown.
pub(crate) fn describe() -> String {
    let facts = [
        ("processor", processor()),
        (
            "cores",
            thread::available_parallelism().map_or_else(|_| unknown(), |cores| cores.to_string()),
        ),
        ("memory", memory()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("file system of the temporary folder", file_system(&std::env::temp_dir())),
        ("Nix", version("nix", "--version")),
        ("nginx", version("nginx", "-v")),
        ("PostgreSQL", version("pgbench", "--version")),
    ];
    facts.map(|(what, value)| format!("- {what}: {value}\n")).concat()
}

/// Whether a program is on the PATH.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn read(file: &str) -> String {
    fs::read_to_string(file).map_or_else(|_| unknown(), |text| text.trim().to_owned())
}

fn processor() -> String {
    let text = read("/proc/cpuinfo");
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(unknown, |(_, model)| model.trim().to_owned())
}

fn memory() -> String {
    let text = read("/proc/meminfo");
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    kibibytes.map_or_else(unknown, |kibibytes: u64| format!("{} MiB", kibibytes >> 10))
}

/// Type of the file system that holds `folder`: that of the mount point which is the longest
/// beginning of it.
fn file_system(folder: &Path) -> String {
    let mounts = read("/proc/self/mounts");
    let holds = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        folder.starts_with(point).then(|| (point.len(), kind.to_owned()))
    };
    mounts.lines().filter_map(holds).max().map_or_else(unknown, |(_, kind)| kind)
}

/// What a program says of its version, on either stream.
fn version(program: &str, option: &str) -> String {
    let Ok(output) = Command::new(program).arg(option).output() else {
        return "not installed".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
}

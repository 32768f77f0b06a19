//! A limit on a process's memory that the system enforces, as a container has one.

use std::{
    fs,
    io::{Error, Result},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::process;

/// How often the removal of a group is tried whose process has just ended.
const REMOVALS: u32 = 50;

/// A control group of its own with a limit, or where none can be made a limit on the data of one
/// process. Must outlive the process that it limits.
#[derive(Debug)]
pub struct MemoryLimit {
    kind: Kind,
    bytes: u64,
}

#[derive(Debug)]
enum Kind {
    /// A folder of the memory controller of control groups, version 1.
    First(PathBuf),
    /// A folder of control groups, version 2.
    Second(PathBuf),
    /// `RLIMIT_DATA`.
    Data,
}

impl MemoryLimit {
    /// A limit of `bytes`; the best kind that can be had here.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let kind = first(bytes).or_else(|_| second(bytes)).unwrap_or(Kind::Data);
        Self { kind, bytes }
    }

    /// What kind of limit it is, for a report.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.kind {
            Kind::First(_) => "control group, version 1",
            Kind::Second(_) => "control group, version 2",
            Kind::Data => "RLIMIT_DATA",
        }
    }

    /// Limits a process that runs. What it holds already counts.
    pub fn take_in(&self, id: u32) -> Result<()> {
        // A group counts what its processes take from now on.
        let left = self.bytes.saturating_sub(process::rss(id));
        match &self.kind {
            Kind::First(folder) => {
                fs::write(folder.join("memory.limit_in_bytes"), left.to_string())?;
                fs::write(folder.join("cgroup.procs"), id.to_string())
            }
            Kind::Second(folder) => {
                fs::write(folder.join("memory.max"), left.to_string())?;
                fs::write(folder.join("cgroup.procs"), id.to_string())
            }
            Kind::Data => {
                let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
                let limit = Rlimit { current: Some(self.bytes), maximum: Some(self.bytes) };
                prlimit(pid, Resource::Data, limit).map(drop).map_err(Error::from)
            }
        }
    }

    /// How often the system has killed a process of the group for its memory; `None` where nobody
    /// counts.
    #[must_use]
    pub fn kills(&self) -> Option<u64> {
        let file = match &self.kind {
            Kind::First(folder) => folder.join("memory.oom_control"),
            Kind::Second(folder) => folder.join("memory.events"),
            Kind::Data => return None,
        };
        let text = fs::read_to_string(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let (Kind::First(folder) | Kind::Second(folder)) = &self.kind else { return };
        for _ in 0..REMOVALS {
            if fs::remove_dir(folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        eprintln!("left behind: {}", folder.display());
    }
}

fn first(bytes: u64) -> Result<Kind> {
    let folder = made(&mounted("cgroup", "memory")?)?;
    let kind = Kind::First(folder.clone());
    written(&folder, "memory.limit_in_bytes", bytes)?;
    Ok(kind)
}

fn second(bytes: u64) -> Result<Kind> {
    let root = mounted("cgroup2", "")?;
    let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
    if !controllers.split_whitespace().any(|name| name == "memory") {
        return Err(Error::other("there is no memory controller"));
    }
    fs::write(root.join("cgroup.subtree_control"), "+memory")?;
    let folder = made(&root)?;
    written(&folder, "memory.max", bytes)?;
    // Not everywhere is there any.
    let _ = fs::write(folder.join("memory.swap.max"), "0");
    Ok(Kind::Second(folder))
}

fn made(parent: &Path) -> Result<PathBuf> {
    let folder = parent.join(format!("snowbank-test-{}", std::process::id()));
    fs::create_dir(&folder)?;
    Ok(folder)
}

/// Writes a limit into a group that has just been made; one that does not take it is removed.
fn written(folder: &Path, name: &str, bytes: u64) -> Result<()> {
    fs::write(folder.join(name), bytes.to_string()).inspect_err(|_| {
        // Empty, or else it is not ours.
        let _ = fs::remove_dir(folder);
    })
}

/// Where a file system of this type is mounted that has this option.
fn mounted(kind: &str, option: &str) -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, its_kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let has_option = option.is_empty() || options.split(',').any(|one| one == option);
        (its_kind == kind && has_option).then(|| PathBuf::from(point))
    });
    found.ok_or_else(|| Error::other(format!("no {kind} is mounted")))
}

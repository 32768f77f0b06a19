//! A clock that a test sets, for the server's processes only: `libfaketime` between them and the
//! system's.
//!
//! What measures how long something takes goes on as it is; only the time of day is another one.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Scratch, process};

/// How long processes go on with the time that they know: `libfaketime` reads the file once a
/// second.
const UNTIL_SEEN: Duration = Duration::from_millis(2_200);

/// A clock. Give [`Self::environment`] to a server.
#[derive(Debug)]
pub struct FakeClock {
    library: PathBuf,
    scratch: Scratch,
}

impl FakeClock {
    /// One that is as far ahead of the machine's as `days`.
    #[must_use]
    pub fn ahead(days: i64) -> Self {
        let clock = Self { library: library(), scratch: Scratch::new("clock") };
        clock.write(days);
        clock
    }

    /// The variables that make a process go by it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let file = self.file();
        let pairs = [
            ("LD_PRELOAD", self.library.as_path()),
            ("FAKETIME_TIMESTAMP_FILE", file.as_path()),
            ("FAKETIME_CACHE_DURATION", Path::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
            ("NO_FAKE_STAT", Path::new("1")),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.display().to_string())).into()
    }

    /// Sets it, and waits until every process has seen that.
    pub fn set_ahead(&self, days: i64) {
        self.write(days);
        std::thread::sleep(UNTIL_SEEN);
    }

    fn file(&self) -> PathBuf {
        self.scratch.join("offset")
    }

    fn write(&self, days: i64) {
        let new = self.scratch.join("offset.new");
        process::write(&new, format!("{days:+}d\n"));
        fs::rename(&new, self.file()).unwrap_or_else(|e| panic!("{}: {e}", new.display()));
    }
}

/// Where Debian, and others, have the library for programs with threads.
fn library() -> PathBuf {
    const NAME: &str = "faketime/libfaketimeMT.so.1";
    let listed = fs::read_dir("/usr/lib")
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    let folders: Vec<PathBuf> = listed.unwrap_or_default();
    let mut places =
        folders.into_iter().chain(["/usr/lib", "/usr/local/lib", "/usr/lib64"].map(PathBuf::from));
    let found = places.find_map(|folder| Some(folder.join(NAME)).filter(|file| file.is_file()));
    found.unwrap_or_else(|| {
        panic!("{NAME} is in no folder of /usr/lib; tests/run installs it (Debian: faketime)")
    })
}

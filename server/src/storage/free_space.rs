//! How much room there is on the disks that packs and a SQLite database lie on, and how much of it
//! has to stay.
//!
//! A disk that is full fails commits and what the database writes for itself, and mends slowly; so
//! whoever is about to write asks here first. The system is asked at most once a second, and what
//! was let in since counts as written; where that leaves no room, the system is asked again: less
//! may have been written, and room may have been made. What is still on its way then can go below
//! the limit, never by more than requests may hold in memory.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use snowbank_core::units::Bytes;

use crate::config::{DatabaseConfig, DatabaseUrl, Size, StorageConfig};
use crate::db::reserve::Reserve;

/// How long an answer of the system is believed.
const ANSWER_FRESH_FOR: Duration = Duration::from_secs(1);
/// How often the metrics are brought up to date when nobody pushes.
const SHOWN_EVERY: Duration = Duration::from_secs(10);
/// What has to stay free where nothing is said: this part of the disk, and at most so much.
const RESERVE_PART: u64 = 20;
const MAX_DEFAULT_RESERVE: u64 = 1 << 30;

/// A pack of fewer bytes is not worth rewriting.
const MIN_REWRITTEN: u64 = 1 << 20;

/// The disks that this server fills; of no disk, everything fits. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct FreeSpace(Arc<Vec<Disk>>);

#[derive(Debug)]
struct Disk {
    /// What lies there.
    of: &'static str,
    folder: PathBuf,
    /// Whether the bodies of requests end up there.
    takes_packs: bool,
    least: Option<Size>,
    /// What is kept for a database there.
    reserve: Option<Reserve>,
    known: Mutex<Option<RoomEstimate>>,
}

/// What the system said, and what was let in since.
#[derive(Debug, Clone, Copy)]
struct RoomEstimate {
    asked: Instant,
    room: Room,
    admitted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    free: u64,
    total: u64,
}

/// A disk has too little room for what is to be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct NoRoom {
    /// What lies there: `storage` or `database`.
    pub of: &'static str,
    /// The folder.
    pub folder: PathBuf,
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that have to stay free.
    pub least: u64,
    /// Bytes that are to be written.
    pub wanted: u64,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, folder, free, least, wanted } = self;
        write!(
            f,
            "the disk with the {of}, {}, has {} free, and {} ",
            folder.display(),
            Bytes(*free),
            Bytes(*least)
        )?;
        if free >= least {
            write!(f, "have to stay beside the {} that this may take", Bytes(*wanted))?;
        } else {
            write!(f, "have to stay")?;
        }
        write!(
            f,
            " (`[storage] min-free`); nothing of this request was kept. The operator has to make \
             room: `snowbankd gc` takes away what is kept no longer, and works on a full disk. \
             Then push again, and only what is missing is sent"
        )
    }
}

impl FreeSpace {
    /// The disks of a local storage and of a SQLite database. `least` is what has to stay free on
    /// each; 0 for any.
    #[must_use]
    pub fn new(storage: &StorageConfig, database: &DatabaseConfig, least: Option<Size>) -> Self {
        let disk = |of, folder: &Path, takes_packs| Disk {
            of,
            reserve: None,
            folder: folder.to_owned(),
            takes_packs,
            least,
            known: Mutex::default(),
        };
        let mut disks = Vec::new();
        if let StorageConfig::Local { path } = storage {
            disks.push(disk("storage", path, true));
        }
        if let DatabaseUrl::Sqlite(path) = &database.url
            && let Some(folder) = path.parent()
        {
            disks.push(Disk { reserve: Reserve::of(database), ..disk("database", folder, false) });
        }
        Self(Arc::new(disks))
    }

    /// Whether `bytes` of packs, or rows about them, may be written.
    ///
    /// # Errors
    /// [`NoRoom`] names the disk. One about which the system says nothing is no reason to refuse.
    pub async fn check(&self, bytes: u64) -> Result<(), NoRoom> {
        for disk in self.0.iter() {
            if disk.admit(bytes) {
                continue;
            }
            if let Some(room) = disk.ask().await {
                disk.judge(room, bytes)?;
                // Counts until the next answer.
                disk.admit(bytes);
            }
        }
        Ok(())
    }

    /// How large a pack may be rewritten now. That frees room in the end, so it may use half of
    /// what pushes leave.
    ///
    /// # Errors
    /// [`NoRoom`] names a disk that has no room for a pack of a size that is worth it.
    pub async fn room_to_rewrite(&self) -> Result<u64, NoRoom> {
        let mut most = u64::MAX;
        for disk in self.0.iter() {
            let Some(room) = disk.ask().await else { continue };
            let least = disk.least(room) / 2;
            disk.judge_by(least, room, MIN_REWRITTEN)?;
            if disk.takes_packs {
                most = most.min(room.free.saturating_sub(least).max(MIN_REWRITTEN));
            }
        }
        Ok(most)
    }

    /// Keeps the metrics up to date, and makes the database's reserve where there is room for it.
    /// Never ends.
    pub async fn watch(self) {
        loop {
            for disk in self.0.iter() {
                // A folder that has gone is the storage's to tell.
                if let Some(room) = disk.ask().await {
                    disk.make_reserve(room).await;
                }
            }
            tokio::time::sleep(SHOWN_EVERY).await;
        }
    }
}

impl Disk {
    fn known(&self) -> MutexGuard<'_, Option<RoomEstimate>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `bytes` in where what is known leaves room for them.
    fn admit(&self, bytes: u64) -> bool {
        let mut known = self.known();
        let Some(known) = known.as_mut().filter(|known| known.asked.elapsed() < ANSWER_FRESH_FOR)
        else {
            return false;
        };
        let left = Room { free: known.room.free.saturating_sub(known.admitted), ..known.room };
        let fits = self.judge(left, bytes).is_ok();
        if fits && self.takes_packs {
            known.admitted = known.admitted.saturating_add(bytes);
        }
        fits
    }

    /// What the system says now.
    async fn ask(&self) -> Option<Room> {
        let (folder, asked) = (self.folder.clone(), Instant::now());
        let answer = tokio::task::spawn_blocking(move || ask(&folder))
            .await
            .unwrap_or_else(|e| Err(io::Error::other(e)));
        match answer {
            Ok(room) => {
                *self.known() = Some(RoomEstimate { asked, room, admitted: 0 });
                record_gauge(self.of, room);
                Some(room)
            }
            Err(error) => {
                tracing::debug!(%error, folder = %self.folder.display(), "the system does not say \
                    how much room there is");
                None
            }
        }
    }

    /// What pushes have to leave: beside what is configured, the room for a reserve that is to be
    /// made again.
    fn judge(&self, room: Room, bytes: u64) -> Result<(), NoRoom> {
        let reserve =
            self.reserve.as_ref().filter(|reserve| reserve.is_missing()).map_or(0, Reserve::bytes);
        self.judge_by(self.least(room).saturating_add(reserve), room, bytes)
    }

    fn least(&self, room: Room) -> u64 {
        self.least.map_or_else(|| (room.total / RESERVE_PART).min(MAX_DEFAULT_RESERVE), Size::bytes)
    }

    /// Makes the reserve where so much is left then that it is not given away at once.
    async fn make_reserve(&self, room: Room) {
        let Some(reserve) = self.reserve.as_ref().filter(|reserve| reserve.is_missing()).cloned()
        else {
            return;
        };
        if room.free < self.least(room).saturating_add(2 * reserve.bytes()) {
            return;
        }
        let made = tokio::task::spawn_blocking(move || reserve.make()).await;
        if let Err(error) = made.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(%error, folder = %self.folder.display(), "the database's reserve could \
                not be made");
        }
    }

    fn judge_by(&self, least: u64, room: Room, bytes: u64) -> Result<(), NoRoom> {
        let wanted = if self.takes_packs { bytes } else { 0 };
        if room.free >= least.saturating_add(if least == 0 { 0 } else { wanted }) {
            return Ok(());
        }
        Err(NoRoom { of: self.of, folder: self.folder.clone(), free: room.free, least, wanted })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; beyond 2^53 the last digits say nothing"
)]
fn record_gauge(of: &'static str, room: Room) {
    metrics::gauge!("snowbank_disk_free_bytes", "of" => of).set(room.free as f64);
}

fn ask(folder: &Path) -> io::Result<Room> {
    let said = statvfs(folder)?;
    // What is reserved for root is not for us, whoever we are.
    let bytes = |blocks: u64| blocks.saturating_mul(said.f_frsize);
    Ok(Room { free: bytes(said.f_bavail), total: bytes(said.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(least: Option<Size>, takes_packs: bool) -> Disk {
        Disk {
            of: "storage",
            folder: "/srv".into(),
            takes_packs,
            least,
            reserve: None,
            known: Mutex::default(),
        }
    }

    #[test]
    fn a_part_of_a_small_disk_and_a_gibibyte_of_a_large_one_stay() {
        let small = Room { free: 5 << 20, total: 100 << 20 };
        disk(None, true).judge(small, 0).unwrap();
        disk(None, true).judge(Room { free: (5 << 20) - 1, ..small }, 0).unwrap_err();
        let large = Room { free: 1 << 30, total: 1 << 50 };
        disk(None, true).judge(large, 0).unwrap();
        assert_eq!(disk(None, true).judge(large, 1).unwrap_err().least, 1 << 30);
        disk(None, false).judge(large, 1).unwrap();
        disk(Some(Size::from_bytes(0)), true).judge(Room { free: 0, total: 1 }, 1 << 20).unwrap();
    }

    #[test]
    fn what_was_let_in_counts_until_the_system_is_asked_again() {
        let disk = disk(Some(Size::from_mib(10)), true);
        assert!(!disk.admit(1), "nothing is known yet");
        let room = Room { free: 30 << 20, total: 100 << 20 };
        *disk.known() = Some(RoomEstimate { asked: Instant::now(), room, admitted: 0 });
        let let_in = (0..10).filter(|_| disk.admit(8 << 20)).count();
        assert_eq!(let_in, 2, "of 20 MiB above the limit");
        assert!(disk.admit(1 << 20));
    }

    #[tokio::test]
    async fn a_refusal_names_the_folder_the_numbers_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let storage = StorageConfig::Local { path: folder.path().to_owned() };
        let database = DatabaseConfig::new(DatabaseUrl::Sqlite(folder.path().join("snowbank.db")));
        let all = FreeSpace::new(&storage, &database, Some(Size::from_bytes(1 << 62)));
        let text = all.check(0).await.unwrap_err().to_string();
        for part in [
            folder.path().to_str().unwrap(),
            "free",
            "4.00 EiB",
            "`[storage] min-free`",
            "`snowbankd gc`",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        FreeSpace::new(&storage, &database, None).check(0).await.unwrap();
        let gone = StorageConfig::Local { path: folder.path().join("gone") };
        FreeSpace::new(&gone, &database, Some(Size::from_bytes(1))).check(0).await.unwrap();
    }
}

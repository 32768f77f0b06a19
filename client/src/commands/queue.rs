//! `snowbank queue`: pushes what the hook has queued, and shows and changes what waits.

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use super::operator::{print, resolved};
use super::push::{path_filter, push_options, store_of_nix_conf, upstreams};
use crate::cli::GlobalArgs;
use crate::cli::queue::{QueueCommand, QueueFolderArgs, QueueRunArgs};
use crate::exit::{Exit, Failure};
use crate::push::PushOptions;
use crate::queue::database::Settlement;
use crate::queue::drain::{Drain, DrainOptions, Report, Until};
use crate::queue::roots::Roots;
use crate::queue::{Database, Entry, EntryState, QueueFolder};
use crate::store::StoreOptions;
use snowbank_cli::{Render, date};

/// Time between two looks of `queue wait`.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs `snowbank queue`.
///
/// # Errors
/// A queue that cannot be used; a path that is not in it.
pub async fn run(global: &GlobalArgs, command: QueueCommand) -> Result<Exit, Failure> {
    match command {
        QueueCommand::Run(args) => push_queue(global, args).await,
        QueueCommand::List { json, folder } => {
            let folder = find(&folder)?;
            let entries = match open(&folder).await? {
                Some(mut database) => database.list().await?,
                None => Vec::new(),
            };
            print(json, &QueueList { queue: folder.path().to_owned(), entries })
        }
        QueueCommand::Retry { paths, folder } => {
            let Some((mut database, entries)) = chosen(&find(&folder)?, &paths).await? else {
                return Ok(Exit::Success);
            };
            database.retry(&entries).await?;
            say(global, &format!("{} due at once.", counted(entries.len())))
        }
        QueueCommand::Drop { paths, all: _, folder } => {
            let folder = find(&folder)?;
            let Some((mut database, entries)) = chosen(&folder, &paths).await? else {
                return Ok(Exit::Success);
            };
            let count = entries.len();
            let settled: Vec<_> =
                entries.into_iter().map(|entry| (entry, Settlement::Done)).collect();
            let roots = Roots::new(&folder, StoreOptions::default());
            for root in database.settle(&settled).await? {
                roots.remove(&root);
            }
            say(global, &format!("{} dropped.", counted(count)))
        }
        QueueCommand::Wait { timeout, folder } => {
            let limit = timeout.map(|timeout| Duration::from_secs(timeout.get()));
            wait(&find(&folder)?, limit).await
        }
    }
}

async fn push_queue(global: &GlobalArgs, args: QueueRunArgs) -> Result<Exit, Failure> {
    let folder = find(&args.folder)?;
    folder.create()?;
    let _lock = folder.lock()?;
    let options = DrainOptions {
        report: Report::EachPush,
        store: StoreOptions { uri: args.flags.store.clone().or_else(store_of_nix_conf) },
        upstreams: upstreams(&args.flags.selection.check_upstream)?,
        push: PushOptions {
            filter: path_filter(&args.flags.selection)?,
            ..push_options(&args.flags)
        },
    };
    let end = if args.once { Until::NothingDue } else { Until::Stopped };
    let (_end, until) = watch::channel(end);
    Ok(Drain::open(&folder, global, &options).await?.run(until).await?)
}

fn find(args: &QueueFolderArgs) -> Result<QueueFolder, Failure> {
    Ok(QueueFolder::find(args.queue.as_deref())?)
}

/// The queue, if there is one.
async fn open(folder: &QueueFolder) -> Result<Option<Database>, Failure> {
    if folder.database().exists() { Ok(Some(Database::open(folder).await?)) } else { Ok(None) }
}

/// The entries that `paths` name, or all. `None` for a queue without any, where none is named.
async fn chosen(
    folder: &QueueFolder,
    paths: &[String],
) -> Result<Option<(Database, Vec<Entry>)>, Failure> {
    let database = open(folder).await?;
    let (mut database, entries) = match database {
        Some(mut database) => {
            let entries = database.list().await?;
            (Some(database), entries)
        }
        None => (None, Vec::new()),
    };
    let mut named = Vec::new();
    for path in paths {
        let base_name = resolved(path);
        let is_named = |entry: &&Entry| {
            entry.store_path == *path || entry.store_path.rsplit('/').next() == Some(&base_name)
        };
        let before = named.len();
        named.extend(entries.iter().filter(is_named).cloned());
        if named.len() == before {
            let message = format!("{path} is not in the queue {}", folder.path().display());
            return Err(Failure::new(Exit::Absent, anyhow::anyhow!(message)));
        }
    }
    let entries = if paths.is_empty() { entries } else { named };
    Ok(database.take().map(|database| (database, entries)))
}

async fn wait(folder: &QueueFolder, limit: Option<Duration>) -> Result<Exit, Failure> {
    let Some(mut database) = open(folder).await? else { return Ok(Exit::Success) };
    let started = Instant::now();
    loop {
        let (waiting, aside) = database.counts().await?;
        if waiting == 0 && aside == 0 {
            return Ok(Exit::Success);
        }
        if waiting == 0 {
            let message = format!(
                "{} set aside; `snowbank queue list` shows the reasons",
                counted(usize::try_from(aside).unwrap_or(usize::MAX))
            );
            return Err(Failure::new(Exit::Refused, anyhow::anyhow!(message)));
        }
        if limit.is_some_and(|limit| started.elapsed() >= limit) {
            let message = format!(
                "{waiting} paths still wait; is `snowbank queue run` running? `snowbank queue \
                 list` shows why they wait"
            );
            return Err(Failure::new(Exit::Unreachable, anyhow::anyhow!(message)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn say(global: &GlobalArgs, line: &str) -> Result<Exit, Failure> {
    if !global.quiet {
        writeln!(io::stdout(), "{line}")?;
    }
    Ok(Exit::Success)
}

fn counted(paths: usize) -> String {
    if paths == 1 { "1 path is".to_owned() } else { format!("{paths} paths are") }
}

/// What is in a queue.
#[derive(Debug, Serialize)]
struct QueueList {
    queue: PathBuf,
    entries: Vec<Entry>,
}

impl Render for QueueList {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = date::now();
        let of_state = |state| self.entries.iter().filter(move |entry| entry.state == state);
        for entry in of_state(EntryState::Aside).chain(of_state(EntryState::Waiting)) {
            let Entry { cache, store_path, added_at, attempts, next_at, reason, state, .. } = entry;
            let queued = date::distance(now.max(*added_at + 1), *added_at);
            write!(f, "{store_path} for {cache}, queued {queued}")?;
            match state {
                EntryState::Aside => write!(f, ", set aside")?,
                EntryState::Waiting if *next_at > now => {
                    let next = date::distance(now, *next_at);
                    write!(f, ", {attempts} failed, next {next}")?;
                }
                EntryState::Waiting => write!(f, ", due")?,
            }
            if let Some(reason) = reason {
                write!(f, ": {reason}")?;
            }
            writeln!(f)?;
        }
        let [waiting, aside] =
            [EntryState::Waiting, EntryState::Aside].map(|state| of_state(state).count());
        write!(f, "{waiting} waiting, {aside} set aside in {}", self.queue.display())
    }
}

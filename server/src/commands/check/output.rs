//! The output of a check, while it goes on and at its end, and the file that says how far it is.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::integrity::Sample;
use crate::integrity::check::{
    CONTENT, CheckError, CheckOptions, CheckStats, Finding, Observer, PACK_DATA, Place,
};

/// Findings that are kept for the report and the file; all are counted, and printed as they are
/// made.
const MAX_KEPT: usize = 10_000;
const SAVE_INTERVAL: Duration = Duration::from_secs(3);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// How far a check is, as it stands in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    /// Of which instance, and with which options: with others it would be another check.
    instance: String,
    options: String,
    sample: Option<Sample>,
    place: Place,
    stats: CheckStats,
    found: u64,
    findings: Vec<Finding>,
    notes: Vec<String>,
}

/// The report as JSON.
#[derive(Serialize)]
struct Report<'r> {
    finished: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    found: u64,
    findings: &'r [Finding],
    notes: &'r [String],
    stats: &'r CheckStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<Sample>,
    /// The command that says what can be done about the findings.
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<String>,
}

/// Prints, keeps and saves.
pub(super) struct CheckOutput {
    as_json: bool,
    file: Option<PathBuf>,
    options: CheckOptions,
    saved: Checkpoint,
    saved_at: Instant,
    shown_at: Instant,
    shows_progress: bool,
}

impl CheckOutput {
    /// Reads the file, if it is there, and finds that it can be written.
    pub(super) fn new(
        as_json: bool,
        file: Option<&Path>,
        instance: &str,
        mut options: CheckOptions,
    ) -> anyhow::Result<Self> {
        let share = options.read_data.map(|sample| sample.share.to_string()).unwrap_or_default();
        let paths = options.paths.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut saved = Checkpoint {
            instance: instance.to_owned(),
            options: format!("read-data={share} paths={paths}"),
            sample: options.read_data,
            place: Place::START,
            stats: CheckStats::default(),
            found: 0,
            findings: Vec::new(),
            notes: Vec::new(),
        };
        if let Some(file) = file {
            if let Some(earlier) = read(file)? {
                if (&earlier.instance, &earlier.options) != (&saved.instance, &saved.options) {
                    bail!(
                        "{} is of a check with other options ({}), or of another server; remove it \
                         to begin anew",
                        file.display(),
                        earlier.options
                    );
                }
                options.read_data = earlier.sample;
                saved = earlier;
            }
            write(file, &saved)?;
        }
        let (now, shows_progress) = (Instant::now(), io::stderr().is_terminal());
        Ok(Self {
            as_json,
            file: file.map(Path::to_owned),
            options,
            saved,
            saved_at: now,
            shown_at: now,
            shows_progress,
        })
    }

    /// What is looked at: of a check that goes on, what it looked at before.
    pub(super) fn options(&self) -> &CheckOptions {
        &self.options
    }

    /// Says what was found before, and gives where to go on and what was counted.
    pub(super) fn begin(&mut self) -> (Place, CheckStats) {
        if !self.as_json {
            if let Some(Sample { share, seed }) = self.options.read_data
                && share != Sample::ALL.share
            {
                say(&format!("reading {share} of the packs, those that --seed {seed} draws"));
            }
            self.saved.findings.iter().for_each(|finding| say(&finding.to_string()));
        }
        (self.saved.place, self.saved.stats)
    }

    /// The end of a check; whether nothing was found.
    pub(super) fn end(&mut self, stats: &CheckStats) -> anyhow::Result<bool> {
        if let Some(file) = &self.file {
            fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
        let found = self.saved.found;
        if self.as_json {
            self.print_json(true, None, stats)?;
        } else {
            self.saved.notes.iter().for_each(|note| say(&format!("note: {note}")));
            say(&summary(stats, found, self.repair().as_deref()));
        }
        Ok(found == 0)
    }

    /// A check that cannot go on now.
    pub(super) fn break_off(&mut self, error: &CheckError) -> anyhow::Result<()> {
        if let Some(file) = &self.file {
            write(file, &self.saved)?;
        }
        if self.as_json {
            let stats = self.saved.stats;
            self.print_json(false, Some(error.to_string()), &stats)?;
        }
        Ok(())
    }

    /// The command that finds what this check has found, and says what can be done about it.
    fn repair(&self) -> Option<String> {
        let Checkpoint { found, findings, .. } = &self.saved;
        // Of more findings than are kept, any may be of any kind.
        let may_be = |kind: &str| {
            findings.iter().any(|finding| finding.invariant == kind)
                || *found > findings.len() as u64
        };
        let mut command = "snowbankd repair".to_owned();
        if let Some(sample) = self.options.read_data.filter(|_| may_be(PACK_DATA)) {
            command = format!("{command} {sample}");
        }
        if let Some(paths) = self.options.paths.as_ref().filter(|_| may_be(CONTENT)) {
            command = format!("{command} --paths '{paths}'");
        }
        (*found > 0).then(|| format!("{command} --dry-run"))
    }

    fn print_json(
        &self,
        finished: bool,
        error: Option<String>,
        stats: &CheckStats,
    ) -> anyhow::Result<()> {
        let Checkpoint { found, findings, notes, sample, .. } = &self.saved;
        let (found, sample, repair) = (*found, *sample, self.repair());
        let report = Report { finished, error, found, findings, notes, stats, sample, repair };
        say(&serde_json::to_string_pretty(&report)?);
        Ok(())
    }
}

impl Observer for CheckOutput {
    fn found(&mut self, finding: Finding) {
        if !self.as_json {
            say(&finding.to_string());
        }
        self.saved.found += 1;
        if self.saved.findings.len() < MAX_KEPT {
            self.saved.findings.push(finding);
        }
    }

    fn noted(&mut self, note: String) {
        if self.saved.notes.len() < MAX_KEPT {
            self.saved.notes.push(note);
        }
    }

    fn reached(&mut self, place: Place, stats: &CheckStats) {
        (self.saved.place, self.saved.stats) = (place, *stats);
        if let Some(file) = self.file.as_ref().filter(|_| self.saved_at.elapsed() >= SAVE_INTERVAL)
        {
            self.saved_at = Instant::now();
            if let Err(error) = write(file, &self.saved) {
                eprintln!("snowbankd: warning: {error:#}; the check goes on");
            }
        }
        if self.shows_progress && self.shown_at.elapsed() >= PROGRESS_INTERVAL {
            self.shown_at = Instant::now();
            let CheckStats { packs, chunks, nars, paths, read_bytes, .. } = stats;
            eprintln!(
                "checking {}: {packs} packs, {chunks} chunks, {nars} NARs, {paths} paths, \
                 {read_bytes} bytes read",
                place.phase.name()
            );
        }
    }
}

/// A pipe that nobody reads any more is no failure of the check.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn read(file: &Path) -> anyhow::Result<Option<Checkpoint>> {
    let text = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read {}", file.display()))?,
    };
    let saved = serde_json::from_slice(&text);
    saved.map(Some).with_context(|| {
        format!("{} is no place of a check; remove it to begin anew", file.display())
    })
}

/// Whole or not at all: a check may be killed at any moment.
fn write(file: &Path, saved: &Checkpoint) -> anyhow::Result<()> {
    let folder =
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || -> anyhow::Result<()> {
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        new.write_all(&serde_json::to_vec(saved)?)?;
        new.persist(file)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", file.display()))
}

fn summary(stats: &CheckStats, findings: u64, repair: Option<&str>) -> String {
    let CheckStats {
        packs, chunks, nars, paths, unnamed_objects, unnamed_bytes, read_bytes, ..
    } = stats;
    let verdict = match findings {
        0 => "no problem found".to_owned(),
        1 => "1 problem found".to_owned(),
        many => format!("{many} problems found"),
    };
    let mut text = format!(
        "{verdict}: {packs} packs, {chunks} chunks, {nars} NARs, {paths} paths; {unnamed_objects} \
         objects without rows, of {unnamed_bytes} bytes (harmless; a stopped push leaves them); {} \
         packs and {} NARs read, {read_bytes} bytes",
        stats.read_packs, stats.decoded_nars
    );
    if stats.damaged_chunks > 0 || stats.withdrawn_paths > 0 {
        text = format!(
            "{text}\n{} chunks are known to be damaged, {} paths are withdrawn, {} paths refer to \
             one of these",
            stats.damaged_chunks, stats.withdrawn_paths, stats.incomplete_closures
        );
    }
    if let Some(repair) = repair {
        text = format!("{text}\n`{repair}` says what can be done about it");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integrity::Percent;
    use crate::integrity::check::Phase;

    fn output(file: &Path, options: &CheckOptions) -> anyhow::Result<CheckOutput> {
        CheckOutput::new(true, Some(file), "instance 1", options.clone())
    }

    #[test]
    fn a_check_that_was_cut_off_goes_on_where_it_was_with_what_it_had_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("place");
        let read_data = Some(Sample { share: "5%".parse::<Percent>().unwrap(), seed: 17 });
        let options = CheckOptions { read_data, ..CheckOptions::default() };
        let mut first = output(&file, &options).unwrap();
        assert_eq!(first.begin(), (Place::START, CheckStats::default()));
        first.found(Finding {
            invariant: "W1".to_owned(),
            subject: "x".to_owned(),
            detail: "y".to_owned(),
        });
        let (place, stats) = (
            Place { phase: Phase::Packs, after: 40 },
            CheckStats { packs: 7, ..CheckStats::default() },
        );
        first.saved_at = Instant::now().checked_sub(SAVE_INTERVAL).unwrap();
        first.reached(place, &stats);
        drop(first);

        let other = Some(Sample { share: "5%".parse().unwrap(), seed: 99 });
        let mut second =
            output(&file, &CheckOptions { read_data: other, ..CheckOptions::default() }).unwrap();
        assert_eq!(second.begin(), (place, stats));
        assert_eq!(second.options().read_data, read_data, "the same packs are drawn");
        assert!(!second.end(&stats).unwrap(), "what was found before counts");
        assert!(!file.exists(), "the next check begins anew");
    }

    #[test]
    fn a_place_of_another_check_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("place");
        drop(output(&file, &CheckOptions::default()).unwrap());
        let options = CheckOptions { paths: Some("*".parse().unwrap()), ..CheckOptions::default() };
        assert!(output(&file, &options).err().unwrap().to_string().contains("other options"));
        fs::write(&file, "{}").unwrap();
        assert!(output(&file, &options).err().unwrap().to_string().contains("remove it"));
        let nowhere = folder.path().join("no/such/folder");
        assert!(output(&nowhere, &options).is_err(), "it is said at once");
    }
}

//! `chunk-sweep`: chunk sizes, normalisation and zstd levels over neighbouring releases of real
//! software and their rebuilds.
//!
//! Its tables are the ground for `CutParams::DEFAULT` and the default compression level;
//! `docs/chunking.md` holds them with the decision. It measures formats, not the system: nothing is
//! pushed, and times are CPU times of the encoder alone.

mod measure;
mod report;

use std::{
    num::NonZero,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use snowbank_core::cut::CutParams;

use self::measure::{Blind, Cuts, Frames};
use crate::{
    plant::Streams,
    releases::{self, Pair},
};

/// Sweep chunk sizes over neighbouring releases of real software.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Average chunk sizes in KiB; the least is a quarter and the most four times that.
    #[arg(long, value_delimiter = ',', default_value = "32,64,128,256,512")]
    avg: Vec<u32>,
    /// Levels of `FastCDC`'s normalisation; those behind the first are measured at the first zstd
    /// level only.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    normalization: Vec<u16>,
    /// Levels of zstd.
    #[arg(long, value_delimiter = ',', default_value = "3,4,5,6,7,8,9")]
    levels: Vec<i32>,
    /// Pairs measured at a time; each takes several times its NARs' size in memory.
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
    /// Where the corpus is, or will be after it was fetched [default: snowbank/corpus in the XDG
    /// cache home].
    #[arg(long)]
    corpus: Option<PathBuf>,
}

/// One choice of parameters, over one pair or summed over all.
struct Masked {
    params: CutParams,
    cuts: Cuts,
    frames: Vec<(i32, Frames)>,
}

/// All that was measured over one pair.
struct PairResult {
    pair: Pair,
    nar_bytes: [u64; 2],
    blind: Blind,
    masked: Vec<Masked>,
}

/// Fetches the corpus where it is missing, measures, and prints the tables.
///
/// # Errors
/// When the corpus cannot be had, or parameters are refused.
pub fn run(args: &Args) -> Result<()> {
    let choices = choices(args)?;
    let folder = match &args.corpus {
        Some(folder) => folder.clone(),
        None => releases::default_folder()?,
    };
    let pairs = releases::load(&folder)?;
    let jobs = args.jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(pair) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = measure_pair(pair, &choices)
                        .with_context(|| format!("cannot measure {}", pair.name));
                    eprintln!("measured {}", pair.name);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                }
            });
        }
    });
    let results = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut results = results.into_iter().collect::<Result<Vec<_>>>()?;
    results.sort_by(|one, other| one.pair.name.cmp(&other.pair.name));
    print!("{}", report::tables(&results));
    Ok(())
}

fn choices(args: &Args) -> Result<Vec<(CutParams, Vec<i32>)>> {
    let mut choices = Vec::new();
    for (at, &id) in args.normalization.iter().enumerate() {
        for &kib in &args.avg {
            let avg = kib << 10;
            let params = CutParams { id, min: avg / 4, avg, max: avg * 4 };
            params.validate()?;
            let levels = if at == 0 { args.levels.len() } else { 1 };
            choices.push((params, args.levels.iter().copied().take(levels).collect()));
        }
    }
    Ok(choices)
}

fn measure_pair(pair: &Pair, choices: &[(CutParams, Vec<i32>)]) -> Result<PairResult> {
    let streams = Streams::make(pair)?;
    let mut masked = Vec::new();
    for (params, levels) in choices {
        let (cuts, frames) = measure::masked(&streams, *params, levels)?;
        masked.push(Masked {
            params: *params,
            cuts,
            frames: levels.iter().copied().zip(frames).collect(),
        });
    }
    Ok(PairResult {
        pair: pair.clone(),
        nar_bytes: streams.nar_bytes(),
        blind: measure::blind(&streams)?,
        masked,
    })
}

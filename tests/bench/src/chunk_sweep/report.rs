//! The sweep's tables, in Markdown.

use std::fmt::Write;

use super::{
    Masked, PairResult,
    measure::{Blind, Stored},
};

/// All tables. Results are in the order of the pairs, and each has the same parameters and levels.
pub fn tables(results: &[PairResult]) -> String {
    let blind: Blind = results.iter().map(|result| result.blind).sum();
    let nar: [u64; 2] =
        [0, 1].map(|side| results.iter().map(|result| result.nar_bytes[side]).sum());
    let rows = rows(results);
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = corpus(&mut out, results)
        .and_then(|()| totals(&mut out, &rows, &blind, nar))
        .and_then(|()| cutting(&mut out, &rows, &blind))
        .and_then(|()| slots(&mut out, &rows))
        .and_then(|()| trees(&mut out, results));
    out
}

/// The choices that all pairs have in common, summed over them.
fn rows(results: &[PairResult]) -> Vec<Masked> {
    let shape = results.first().map_or(&[][..], |result| &result.masked[..]);
    shape
        .iter()
        .enumerate()
        .map(|(at, one)| Masked {
            params: one.params,
            cuts: results.iter().map(|result| result.masked[at].cuts).sum(),
            frames: one
                .frames
                .iter()
                .enumerate()
                .map(|(level_at, &(level, _))| {
                    let frames =
                        results.iter().map(|result| result.masked[at].frames[level_at].1).sum();
                    (level, frames)
                })
                .collect(),
        })
        .collect()
}

fn corpus(out: &mut String, results: &[PairResult]) -> std::fmt::Result {
    writeln!(out, "## Corpus\n\n| pair | old | new | NAR MB |\n|---|---|---|---|")?;
    for result in results {
        let pair = &result.pair;
        let megabytes = mb(result.nar_bytes[0]);
        writeln!(
            out,
            "| {} | {} | {} | {megabytes:.1} |",
            pair.name, pair.old.version, pair.new.version
        )?;
    }
    Ok(())
}

fn totals(out: &mut String, rows: &[Masked], blind: &Blind, nar: [u64; 2]) -> std::fmt::Result {
    writeln!(out, "\n## Stored MB, and in brackets relative to blind\n")?;
    writeln!(out, "NAR MB: {:.1} and {:.1}.\n", mb(nar[0]), mb(nar[1]))?;
    writeln!(
        out,
        "| avg KiB | normalization | level | first | next | rebuild | CPU s/GB |\n\
         |---|---|---|---|---|---|---|"
    )?;
    let speed = |nanos: u64| ratio(nanos, nar[0]);
    let stored = &blind.stored;
    writeln!(
        out,
        "| blind 64 | 1 | 8 | {:.1} | {:.1} | {:.1} | {:.1} |",
        mb(stored.first),
        mb(stored.next),
        mb(stored.rebuild),
        speed(blind.cpu_nanos)
    )?;
    for row in rows {
        for (level, frames) in &row.frames {
            let ours = &frames.stored;
            writeln!(
                out,
                "| {} | {} | {level} | {:.1} ({:.3}) | {:.1} ({:.3}) | {:.2} ({:.4}) | {:.1} |",
                row.params.avg >> 10,
                row.params.id,
                mb(ours.first),
                ratio(ours.first, stored.first),
                mb(ours.next),
                ratio(ours.next, stored.next),
                mb(ours.rebuild),
                ratio(ours.rebuild, stored.rebuild),
                speed(frames.cpu_nanos),
            )?;
        }
    }
    Ok(())
}

fn cutting(out: &mut String, rows: &[Masked], blind: &Blind) -> std::fmt::Result {
    writeln!(out, "\n## Chunks and rows\n")?;
    writeln!(
        out,
        "| avg KiB | normalization | chunks | mean KiB | million rows per TB of NAR | new chunks \
         of next |\n\
         |---|---|---|---|---|---|"
    )?;
    let raw = rows.first().map_or(0, |row| row.cuts.raw);
    writeln!(
        out,
        "| blind 64 | 1 | {} | {:.0} | {:.1} | |",
        blind.chunks,
        ratio(raw, blind.chunks) / 1024.0,
        ratio(blind.chunks * 1_000_000, raw)
    )?;
    for Masked { params, cuts, .. } in rows {
        writeln!(
            out,
            "| {} | {} | {} | {:.0} | {:.1} | {} |",
            params.avg >> 10,
            params.id,
            cuts.chunks,
            ratio(cuts.raw, cuts.chunks) / 1024.0,
            ratio(cuts.chunks * 1_000_000, cuts.raw),
            cuts.next_chunks
        )?;
    }
    Ok(())
}

fn slots(out: &mut String, rows: &[Masked]) -> std::fmt::Result {
    writeln!(out, "\n## Slots of the first release\n")?;
    writeln!(
        out,
        "Open frames are compared with plain zstd frames of the same true bytes.\n\n\
         | avg KiB | normalization | slots | bytes in open chunks | bytes closed by density | \
         level | open frames / plain | gave up |\n\
         |---|---|---|---|---|---|---|---|"
    )?;
    for Masked { params, cuts, frames } in rows {
        for (level, frames) in frames {
            writeln!(
                out,
                "| {} | {} | {} | {:.1} % | {:.3} % | {level} | {:.4} | {} |",
                params.avg >> 10,
                params.id,
                cuts.slots,
                100.0 * ratio(cuts.open_raw, cuts.raw),
                100.0 * ratio(cuts.closed_raw, cuts.raw),
                ratio(frames.open, frames.open_plain),
                frames.gave_up,
            )?;
        }
    }
    Ok(())
}

/// Each pair at the first normalization and level alone.
fn trees(out: &mut String, results: &[PairResult]) -> std::fmt::Result {
    let Some(shape) = results.first() else { return Ok(()) };
    let normalization = shape.masked.first().map(|masked| masked.params.id);
    let shown = |masked: &&Masked| Some(masked.params.id) == normalization;
    writeln!(out, "\n## By pair: stored MB, first / next / rebuild\n")?;
    write!(out, "| pair | blind, level 8 |")?;
    for Masked { params, frames, .. } in shape.masked.iter().filter(shown) {
        let level = frames.first().map_or(0, |(level, _)| *level);
        write!(out, " {} KiB, level {level} |", params.avg >> 10)?;
    }
    let columns = 2 + shape.masked.iter().filter(shown).count();
    writeln!(out, "\n|{}", "---|".repeat(columns))?;
    for PairResult { pair, blind, masked, .. } in results {
        write!(out, "| {} | {} |", pair.name, triple(&blind.stored))?;
        for (_, frames) in masked.iter().filter(shown).filter_map(|masked| masked.frames.first()) {
            write!(out, " {} |", triple(&frames.stored))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn triple(stored: &Stored) -> String {
    format!("{:.2} / {:.2} / {:.3}", mb(stored.first), mb(stored.next), mb(stored.rebuild))
}

fn mb(bytes: u64) -> f64 {
    ratio(bytes, 1_000_000)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, of fewer than 2^52 bytes")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

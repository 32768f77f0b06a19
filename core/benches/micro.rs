//! What each format costs by itself, in bytes per second, beside memcpy, SHA-256, BLAKE3 and zstd
//! on the same data:
//!
//! `cargo bench -p snowbank-core --bench micro [-- NAME]`
//!
//! The data is a NAR of 16 MiB in files of 16 KiB: this program's own machine code, text, and noise
//! that does not compress, with a store path every 512 KiB, so that chunks with slots and without
//! meet as in real trees. Rates are of NAR bytes unless the data is a narinfo or a manifest.

use std::{fs, hint::black_box};

use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use snowbank_core::{
    chunk::{Chunk, ChunkName},
    cut::{Chunker, CutParams},
    frame::{
        EncodedChunk, FrameDecoder, FrameEncoder, FrameError, FrameSampler, FrameVerifier, fill,
    },
    hash::{FileHash, NarHash, Sha256},
    manifest::{Segment, SegmentEntry, WireManifest},
    mask::Masker,
    nar::{
        decode::{Decoder, Event},
        encode,
    },
    narinfo::NarInfo,
    signing::SecretKey,
    store_path::{StoreDir, StorePath, StorePathHash},
};

const LEVEL: i32 = 3;
/// Bytes of each of the three kinds of data.
const KIND: usize = 16 * MIB / 3;
const MIB: usize = 1 << 20;
/// Bytes of a file.
const FILE: usize = 16 << 10;
/// Files from one store path to the next.
const BETWEEN_PATHS: usize = 32;
/// Bytes that a NAR is fed in.
const PIECE: usize = 64 << 10;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let files = files();
    let nar = nar(&files);
    let chunks = chunks(&nar);
    yardsticks(&mut criterion, &nar);
    nars(&mut criterion, &files, &nar);
    cutting(&mut criterion, &nar, &chunks);
    frames(&mut criterion, &chunks);
    narinfos(&mut criterion);
    manifests(&mut criterion);
    criterion.final_summary();
}

/// Bytes that follow from `label` alone and do not compress.
fn noise(label: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn hash(number: usize) -> StorePathHash {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&noise(&format!("hash {number}"), 20));
    StorePathHash::from_bytes(bytes)
}

fn store_path(number: usize) -> StorePath {
    let hash = hash(number).to_chars();
    let name = format!("{}-package-{number}", String::from_utf8_lossy(&hash));
    StorePath::from_base_name(&name).expect("a hash, a dash and a name are a base name")
}

fn files() -> Vec<Vec<u8>> {
    let own = std::env::current_exe().and_then(fs::read).expect("this program can be read");
    let code: Vec<u8> = own.iter().copied().cycle().take(KIND).collect();
    let drawn = noise("words", KIND);
    let words = ["store", "path", "chunk", "pack", "manifest", "closure", "narinfo", "cache\n"];
    let text = drawn
        .iter()
        .flat_map(|byte| format!("{}{} ", words[usize::from(byte % 8)], byte / 8).into_bytes());
    let kinds = [code, text.take(KIND).collect(), noise("noise", KIND)];
    let mut files: Vec<Vec<u8>> =
        kinds.iter().flat_map(|kind| kind.chunks_exact(FILE)).map(<[u8]>::to_vec).collect();
    for (number, file) in files.iter_mut().step_by(BETWEEN_PATHS).enumerate() {
        let path = store_path(number).full(&StoreDir::default());
        file[..path.len()].copy_from_slice(path.as_bytes());
    }
    files
}

fn nar(files: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::magic(&mut out);
    encode::directory_start(&mut out);
    for (number, file) in files.iter().enumerate() {
        encode::entry_start(&mut out, format!("file-{number:04}").as_bytes());
        encode::regular_start(&mut out, false, file.len() as u64);
        out.extend_from_slice(file);
        encode::regular_end(&mut out, file.len() as u64);
        encode::entry_end(&mut out);
    }
    encode::directory_end(&mut out);
    out
}

fn chunks(nar: &[u8]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut chunker =
        Chunker::new(&StoreDir::default(), CutParams::DEFAULT).expect("the default is valid");
    for piece in nar.chunks(PIECE) {
        chunker.feed(piece, &mut |chunk| chunks.push(chunk));
    }
    chunker.finish(&mut |chunk| chunks.push(chunk));
    chunks
}

fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
    bytes: usize,
) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes as u64)).sample_size(20);
    group
}

fn yardsticks(criterion: &mut Criterion, nar: &[u8]) {
    let mut group = group(criterion, "yardstick", nar.len());
    let mut copy = vec![0; nar.len()];
    group.bench_function("memcpy", |bencher| {
        bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(nar)));
    });
    group.bench_function("sha256", |bencher| bencher.iter(|| Sha256::of(black_box(nar))));
    group.bench_function("blake3", |bencher| bencher.iter(|| blake3::hash(black_box(nar))));
    let mut zstd = zstd::bulk::Compressor::new(LEVEL).expect("zstd has this level");
    group.bench_function("zstd-3", |bencher| bencher.iter(|| zstd.compress(black_box(nar))));
    let packed = zstd.compress(nar).expect("zstd compresses");
    let mut zstd = zstd::bulk::Decompressor::new().expect("zstd decompresses");
    group.bench_function("zstd-decode", |bencher| {
        bencher.iter(|| zstd.decompress(black_box(&packed), nar.len()));
    });
}

fn nars(criterion: &mut Criterion, files: &[Vec<u8>], whole: &[u8]) {
    let mut group = group(criterion, "nar", whole.len());
    group.bench_function("encode", |bencher| bencher.iter(|| nar(black_box(files))));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let (mut decoder, mut events) = (Decoder::new(), 0_u64);
            let mut count =
                |event: Event<'_>| events += u64::from(black_box(event) != Event::Directory);
            for piece in whole.chunks(PIECE) {
                decoder.feed(piece, &mut count).expect("the NAR is good");
            }
            events
        });
    });
}

fn cutting(criterion: &mut Criterion, nar: &[u8], chunks: &[Chunk]) {
    let mut group = group(criterion, "cut", nar.len());
    let masker = Masker::new(&StoreDir::default());
    group.bench_function("mask", |bencher| {
        let mask = |mut bytes: Vec<u8>| {
            masker.mask(&mut bytes, 0, true, |place, value| {
                black_box((place, value));
            })
        };
        bencher.iter_batched(|| nar.to_vec(), mask, BatchSize::LargeInput);
    });
    group.bench_function("mask-and-cut", |bencher| {
        bencher.iter(|| {
            let chunker = Chunker::new(&StoreDir::default(), CutParams::DEFAULT);
            let mut chunker = chunker.expect("the default is valid");
            for piece in nar.chunks(PIECE) {
                chunker.feed(piece, &mut |chunk| drop(black_box(chunk)));
            }
            chunker.finish(&mut |chunk| drop(black_box(chunk)));
        });
    });
    group.bench_function("name", |bencher| {
        bencher.iter(|| chunks.iter().map(Chunk::name).collect::<Vec<ChunkName>>());
    });
}

fn frames(criterion: &mut Criterion, chunks: &[Chunk]) {
    let (open, closed): (Vec<&Chunk>, Vec<&Chunk>) =
        chunks.iter().partition(|chunk| chunk.is_open());
    let closed_bytes = closed.iter().map(|chunk| chunk.bytes.len()).sum::<usize>();
    let open_bytes = open.iter().map(|chunk| chunk.bytes.len()).sum::<usize>();
    let mut encoder = FrameEncoder::new(LEVEL);
    for (name, chunks, bytes) in [("open", &open, open_bytes), ("closed", &closed, closed_bytes)] {
        if chunks.is_empty() {
            continue;
        }
        let mut group = group(criterion, &format!("frame-{name}"), bytes);
        let named: Vec<(&Chunk, ChunkName)> =
            chunks.iter().map(|chunk| (*chunk, chunk.name())).collect();
        group.bench_function("encode", |bencher| {
            bencher.iter(|| {
                named
                    .iter()
                    .map(|(chunk, name)| encoder.encode(chunk, name).is_ok())
                    .collect::<Vec<bool>>()
            });
        });
        let travelling: Vec<(&Chunk, EncodedChunk)> = named
            .iter()
            .filter_map(|(chunk, name)| match encoder.encode(chunk, name) {
                Ok(one) => Some((*chunk, one)),
                Err(FrameError::WillNotStayOpen) => None,
                Err(error) => panic!("a chunk does not encode: {error}"),
            })
            .collect();
        let mut verifier = FrameVerifier::new();
        group.bench_function("verify", |bencher| {
            bencher.iter(|| {
                for (_, one) in &travelling {
                    verifier.verify(&one.header, &one.frame, &[7; 32]).expect("the frame is good");
                }
            });
        });
        let mut sampler = FrameSampler::new();
        group.bench_function("sample", |bencher| {
            bencher.iter(|| {
                let suspects = |(chunk, one): &&(&Chunk, EncodedChunk)| {
                    sampler.suspects(&one.header, &chunk.bytes, &[7; 32])
                };
                travelling.iter().filter(suspects).count()
            });
        });
        let (mut decoder, mut out) = (FrameDecoder::new(), Vec::new());
        group.bench_function("decode", |bencher| {
            bencher.iter(|| {
                for (_, one) in &travelling {
                    out.clear();
                    decoder
                        .decode_into(&one.frame, one.header.raw_len, &mut out)
                        .expect("the frame is good");
                }
            });
        });
        if name == "open" {
            group.bench_function("fill-slots", |bencher| fill_all(bencher, &travelling));
        }
    }
}

/// What serving does: a copy of the stored frame, and the path's own hashes in it.
fn fill_all(bencher: &mut criterion::Bencher<'_>, encoded: &[(&Chunk, EncodedChunk)]) {
    let mut copy = Vec::new();
    bencher.iter(|| {
        for (chunk, one) in encoded {
            copy.clear();
            copy.extend_from_slice(&one.frame);
            fill(&mut copy, &one.header.slots, &chunk.values)
                .expect("there is a value for each slot");
            black_box(&copy);
        }
    });
}

fn narinfos(criterion: &mut Criterion) {
    let store_dir = StoreDir::default();
    let key = SecretKey::from_seed("bench-1", [7; 32]).expect("the name is good");
    let mut narinfo = NarInfo {
        store_path: store_path(0),
        url: "nar/0000000000000000000000000000000000000000000000000000.nar.zst".to_owned(),
        compression: "zstd".to_owned(),
        file_hash: Some(FileHash::from_bytes([1; 32])),
        file_size: Some(123_456),
        nar_hash: NarHash::from_bytes([2; 32]),
        nar_size: 345_678,
        references: (1..9).map(store_path).collect(),
        deriver: Some(store_path(9)),
        system: None,
        signatures: Vec::new(),
        ca: None,
        extra: Vec::new(),
    };
    narinfo.references.sort();
    let fingerprint = narinfo.fingerprint(&store_dir);
    narinfo.signatures.push(key.sign(fingerprint.as_bytes()));
    let text = narinfo.render(&store_dir);
    let mut group = group(criterion, "narinfo", text.len());
    group.bench_function("render", |bencher| {
        bencher.iter(|| black_box(&narinfo).render(&store_dir));
    });
    group.bench_function("parse", |bencher| {
        bencher.iter(|| NarInfo::parse(&store_dir, black_box(&text)));
    });
    group.bench_function("sign", |bencher| {
        bencher.iter(|| key.sign(black_box(fingerprint.as_bytes())));
    });
}

/// Of as many chunks as a segment has at most, every fourth with a slot.
fn manifests(criterion: &mut Criterion) {
    let values: Vec<StorePathHash> = (0..256).map(hash).collect();
    let name = |number: u64| ChunkName::of(&number.to_le_bytes(), []);
    let wire =
        WireManifest { names: (0..1024).map(name).collect(), values: values.clone() }.encode();
    let entry = |id| SegmentEntry {
        id,
        raw_len: 160_000,
        frame_len: 80_000,
        slots: u32::from(id % 4 == 0),
    };
    let stored =
        Segment { entries: (0..1024).map(entry).collect(), values, ..Segment::default() }.encode();
    let mut one = group(criterion, "manifest-wire", wire.len());
    one.bench_function("decode", |bencher| bencher.iter(|| WireManifest::decode(black_box(&wire))));
    one.finish();
    let mut other = group(criterion, "manifest-stored", stored.len());
    other.bench_function("decode", |bencher| bencher.iter(|| Segment::decode(black_box(&stored))));
}

//! Golden vectors: what is in `tests/golden` was written once, and every later version must read
//! and write the same.
//!
//! `SNOWBANK_BLESS=1` writes the files anew, which is a change of format unless a file is new.
//! Frames are read and verified but not compared, since another version of zstd may compress
//! otherwise.

use std::{fmt::Write as _, fs, path::PathBuf};

use snowbank_core::{
    bundle::{BundleReader, BundleWriter},
    chunk::{Chunk, CutParams},
    frame::{EncodedChunk, FrameDecoder, FrameEncoder, FrameVerifier, fill},
    hash::{NarHash, Sha256},
    manifest::{Segment, SegmentBuilder, SegmentEntry, WireManifest},
    pack::{PackIndex, PackKey, PackWriter},
    receipt::{Receipt, ReceiptLine, ReceiptStats, ReceiptStatus, UpstreamReason},
    signing::{PublicKey, SecretKey},
    wire::{CommitLine, CommitRequest, ManifestSource, PathCommit},
};

use crate::sample::{Numbers, cut};

fn path(file: &str) -> PathBuf {
    // Where the crate is now, not where it was built: a target folder may serve several clones.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden").join(file)
}

fn blessing() -> bool {
    std::env::var_os("SNOWBANK_BLESS").is_some()
}

fn assert_golden(file: &str, actual: &[u8]) {
    if blessing() {
        fs::write(path(file), actual).unwrap();
    }
    let wanted = fs::read(path(file)).unwrap();
    assert!(
        wanted == actual,
        "{file} is another: {} bytes instead of {}",
        actual.len(),
        wanted.len()
    );
}

/// A stream with open and closed chunks at the default sizes.
fn stream() -> Vec<u8> {
    let mut numbers = Numbers::new(2026);
    [numbers.text(700_000, 3000), numbers.binary(400_000, 4000), numbers.text(200_000, 100)]
        .concat()
}

/// A few small chunks of all kinds.
fn small_chunks() -> Vec<Chunk> {
    let mut numbers = Numbers::new(2027);
    let hash = numbers.hash();
    let ends = Chunk {
        bytes: [&[b'0'; 32][..], b" between ", &[b'0'; 32]].concat(),
        slots: vec![0, 41],
        values: vec![hash, numbers.hash()],
    };
    let text = crate::sample::one_chunk(&numbers.text(2000, 300));
    vec![ends, text, Chunk::closed(b"closed".to_vec()), Chunk::closed(vec![0; 5000])]
}

/// Their frames, as they were when the vectors were made.
fn small_frames() -> Vec<EncodedChunk> {
    if blessing() {
        let mut encoder = FrameEncoder::new(3);
        let mut writer = BundleWriter::new();
        for chunk in small_chunks() {
            let made = encoder.encode(&chunk, &chunk.name()).unwrap();
            writer.add(&made.header, &made.frame);
        }
        fs::write(path("bundle.bin"), writer.finish()).unwrap();
    }
    let mut reader = BundleReader::new();
    reader.feed(&fs::read(path("bundle.bin")).unwrap());
    let frames = std::iter::from_fn(|| reader.next().unwrap())
        .map(|(header, frame)| EncodedChunk { header, frame });
    let frames = frames.collect();
    reader.finish().unwrap();
    frames
}

#[test]
fn cuts_and_names() {
    let mut lines = String::new();
    for chunk in cut(&stream(), CutParams::DEFAULT) {
        writeln!(lines, "{} {} {}", chunk.name(), chunk.bytes.len(), chunk.slots.len()).unwrap();
    }
    assert_golden("names.txt", lines.as_bytes());
}

#[test]
fn bundles_and_frames() {
    let (frames, chunks) = (small_frames(), small_chunks());
    assert_eq!(frames.len(), chunks.len());
    let mut again = BundleWriter::new();
    for (EncodedChunk { header, frame }, chunk) in frames.iter().zip(&chunks) {
        assert_eq!(header.name, chunk.name());
        FrameVerifier::new().verify(header, frame, &[9; 32]).unwrap();
        let mut filled = frame.clone();
        fill(&mut filled, &header.slots, &chunk.values).unwrap();
        let mut bytes = Vec::new();
        FrameDecoder::new().decode_into(&filled, header.raw_len, &mut bytes).unwrap();
        assert_eq!(bytes, chunk.true_bytes());
        again.add(header, frame);
    }
    assert_eq!(again.finish(), fs::read(path("bundle.bin")).unwrap());
}

#[test]
fn packs() {
    let mut writer = PackWriter::new(
        3,
        PackKey::from_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap())),
    );
    for (id, EncodedChunk { header, frame }) in (500..).zip(small_frames()) {
        writer.add(id, &header, &frame).unwrap();
    }
    let bytes = writer.finish();
    assert_golden("pack.bin", &bytes);
    assert_eq!(PackIndex::parse(&bytes).unwrap().entries.len(), 4);
}

#[test]
fn manifests() {
    let chunks = small_chunks();
    let manifest = WireManifest {
        names: chunks.iter().map(Chunk::name).collect(),
        values: chunks.iter().flat_map(|chunk| chunk.values.clone()).collect(),
    };
    let bytes = manifest.encode();
    assert_golden("wire-manifest.bin", &bytes);
    assert_eq!(WireManifest::decode(&bytes), Ok(manifest.clone()));
    assert_golden("content-digest.txt", manifest.content_digest().to_string().as_bytes());

    let mut builder = SegmentBuilder::new();
    for (id, (chunk, encoded)) in
        [500, 501, 77, 78].into_iter().zip(chunks.iter().zip(small_frames()))
    {
        let header = encoded.header;
        let slots = u32::try_from(header.slots.len()).unwrap();
        let entry =
            SegmentEntry { id, raw_len: header.raw_len, frame_len: header.frame_len, slots };
        assert!(builder.push(entry, &chunk.values).is_none());
    }
    let segment = builder.finish().unwrap();
    let bytes = segment.encode();
    assert_golden("segment.bin", &bytes);
    assert_eq!(Segment::decode(&bytes), Ok(segment));
}

fn receipt() -> (Receipt, SecretKey) {
    let key = SecretKey::from_seed("cache.example.org-main-1", [1; 32]).unwrap();
    let mut receipt = Receipt {
        status: ReceiptStatus::Uploaded,
        store_path: "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12.1".to_owned(),
        nar_hash: NarHash::from_bytes(*Sha256::of(b"a NAR").as_bytes()),
        nar_size: 226_560,
        cache: "main".to_owned(),
        time: 1_790_000_000,
        signatures: vec![],
        stats: None,
    };
    receipt.sign(&key);
    (receipt, key)
}

#[test]
fn receipts() {
    let (receipt, key) = receipt();
    assert_golden("receipt.txt", receipt.signed_text().as_bytes());
    let stats = ReceiptStats {
        chunks_total: 2,
        chunks_new: 1,
        chunks_sent: 1,
        bytes_total: 226_560,
        ..ReceiptStats::default()
    };
    let store_path = receipt.store_path.clone();
    let lines = [
        ReceiptLine::Receipt(receipt.clone()),
        ReceiptLine::Receipt(Receipt {
            status: ReceiptStatus::Present,
            stats: Some(stats),
            ..receipt.clone()
        }),
        ReceiptLine::Different {
            store_path: store_path.clone(),
            nar_hash: receipt.nar_hash,
            cache_nar_hash: None,
        },
        ReceiptLine::SkippedUpstream {
            store_path: store_path.clone(),
            nar_hash: receipt.nar_hash,
            reason: UpstreamReason::SignedBy("cache.nixos.org-1".to_owned()),
        },
        ReceiptLine::Failed { store_path, reason: "no such file".to_owned() },
    ];
    let text: String =
        lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
    assert_golden("receipts.jsonl", text.as_bytes());
    for (line, wanted) in text.lines().zip(&lines) {
        assert!(
            line.starts_with("{\"status\":\"") && line.contains("\",\"store_path\":\"/nix/store/"),
            "{line}"
        );
        assert_eq!(&serde_json::from_str::<ReceiptLine>(line).unwrap(), wanted);
        assert_eq!(wanted.store_path(), receipt.store_path);
    }
    assert!(receipt.verify(&[key.public()]));
}

#[test]
fn a_receipt_holds_for_what_it_says_alone() {
    let (receipt, key) = receipt();
    let keys = [SecretKey::from_seed("other-1", [2; 32]).unwrap().public(), key.public()];
    assert_eq!(receipt.signed_by(&keys).map(PublicKey::name), Some("cache.example.org-main-1"));
    assert!(!receipt.verify(&keys[..1]));
    for changed in [
        Receipt { status: ReceiptStatus::Present, ..receipt.clone() },
        Receipt { cache: "other".to_owned(), ..receipt.clone() },
        Receipt { store_path: format!("{}x", receipt.store_path), ..receipt.clone() },
        Receipt { nar_hash: NarHash::from_bytes([0; 32]), ..receipt.clone() },
        Receipt { nar_size: 1, ..receipt.clone() },
        Receipt { time: 0, ..receipt.clone() },
        Receipt { signatures: vec![], ..receipt.clone() },
    ] {
        assert!(!changed.verify(&keys));
    }
}

#[test]
fn commit_messages() {
    let (receipt, _) = receipt();
    let manifest =
        WireManifest { names: small_chunks().iter().map(Chunk::name).collect(), values: vec![] };
    let path = PathCommit {
        store_path: receipt.store_path.clone(),
        nar_hash: receipt.nar_hash,
        nar_size: receipt.nar_size,
        references: vec!["0123456789abcdfghijklmnpqrsvwxyz-hello-2.12.1".to_owned()],
        upstream: vec![],
        deriver: None,
        signatures: vec![],
        ca: None,
        cut: None,
        manifest: ManifestSource::inline(&manifest.encode()),
    };
    let ManifestSource::Inline(text) = &path.manifest else { panic!("not inline") };
    assert_eq!(ManifestSource::decode_inline(text), Ok(manifest.clone()));
    let in_chunks = PathCommit {
        upstream: path.references.clone(),
        manifest: ManifestSource::Chunks(manifest.names.clone()),
        ..path.clone()
    };
    let request = CommitRequest { paths: vec![path, in_chunks], ..CommitRequest::default() };
    let text = serde_json::to_string_pretty(&request).unwrap();
    assert_golden("commit-request.json", text.as_bytes());
    assert_eq!(serde_json::from_str::<CommitRequest>(&text).unwrap(), request);

    let store_path = receipt.store_path.clone();
    let lines = [
        CommitLine::Heartbeat,
        CommitLine::Receipt(receipt),
        CommitLine::ChunksMissing { store_path: store_path.clone(), missing: manifest.names },
        CommitLine::Different { store_path: store_path.clone(), nar_hash: None },
        CommitLine::Error {
            store_path,
            code: "nar-mismatch".to_owned(),
            message: "why".to_owned(),
        },
        CommitLine::End { paths: 4, pin: None },
    ];
    let text: String =
        lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
    assert_golden("commit-lines.jsonl", text.as_bytes());
    let back: Vec<CommitLine> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, lines);
}

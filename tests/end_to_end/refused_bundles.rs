//! Bundles and manifests that are broken, or made to be expensive: refused quickly, naming the
//! limit.

use std::time::{Duration, Instant};

use snowbank_core::{
    bundle::{BundleWriter, MAX_BUNDLE_BYTES, MAX_BUNDLE_ENTRIES},
    chunk::Chunk,
    frame::EncodedChunk,
    manifest::WireManifest,
    wire::{CommitLine, ManifestSource},
};
use snowbank_harness::{
    Api, Random, Server, craft,
    craft::{Deposit, Node},
    database,
};

/// What a hostile request may cost at most, on a slow machine.
const SOON: Duration = Duration::from_secs(30);

#[track_caller]
fn assert_nothing_stored(server: &Server) {
    assert_eq!(
        (database::chunks(server), database::paths(server), server.stored_bytes()),
        (0, 0, 0)
    );
}

fn tiny(number: u32) -> EncodedChunk {
    craft::encode(Chunk::closed(number.to_le_bytes().to_vec()), 1).1
}

#[test]
fn a_quarter_of_a_million_entries() {
    let server = Server::options()
        .config("[limits]\nbundle-size = \"16MiB\"\nmemory = \"256MiB\"\n")
        .start();
    let one = tiny(1);
    let mut record = Vec::new();
    one.header.encode_into(&mut record);
    record.extend_from_slice(&one.frame);
    let bundle = record.repeat((MAX_BUNDLE_BYTES / record.len()).min(250_000));
    let started = Instant::now();
    let message = Api::root(&server).send_bundle(bundle).refused(422, "bundle-invalid");
    assert!(message.contains(&MAX_BUNDLE_ENTRIES.to_string()), "names the limit: {message}");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert_nothing_stored(&server);
}

#[test]
fn more_raw_bytes_than_a_bundle_may_decode_to() {
    let server = Server::start();
    let mut writer = BundleWriter::new();
    for number in 0..140_u32 {
        let mut bytes = vec![0; 4 << 20];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        let (_, encoded) = craft::encode(Chunk::closed(bytes), 1);
        writer.add(&encoded.header, &encoded.frame);
    }
    let started = Instant::now();
    let message = Api::root(&server).send_bundle(writer.finish()).refused(422, "bundle-invalid");
    assert!(
        message.contains("536870912") || message.contains("512 MiB"),
        "names the limit: {message}"
    );
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert_nothing_stored(&server);
}

#[test]
fn one_chunk_many_times_in_a_bundle_is_stored_once() {
    let server = Server::start();
    let one = tiny(1);
    let answer = Api::root(&server).send_bundle(craft::bundle(std::iter::repeat_n(&one, 1_000)));
    assert!(answer.status.as_u16() < 500, "{}", answer.text());
    assert!(database::chunks(&server) <= 1);
}

#[test]
fn a_bundle_that_is_cut_off_or_is_no_bundle() {
    let server = Server::start();
    let api = Api::root(&server);
    let whole = craft::bundle(&[tiny(1), tiny(2), tiny(3)]);
    for len in [whole.len() - 1, whole.len() / 2, 40, 1] {
        api.send_bundle(whole[..len].to_vec()).refused(422, "bundle-invalid");
    }
    let noise = api.send_bundle(Random::fixed(41).bytes(10_000)).error();
    assert!(["bundle-invalid", "chunk-invalid"].contains(&noise.code.as_str()), "{noise:?}");
    assert_nothing_stored(&server);
    assert_eq!(api.send_bundle(Vec::new()).status.as_u16() / 100, 2, "an empty bundle is harmless");
}

/// Commits one path, and gives the code and message of its refusal.
#[track_caller]
fn refusal(server: &Server, path: snowbank_core::wire::PathCommit) -> (String, String) {
    let answer = Api::root(server).commit(vec![path]);
    if !answer.status.is_success() {
        let error = answer.error();
        return (error.code, error.message);
    }
    match answer.commit_lines().remove(0) {
        CommitLine::Error { code, message, .. } => (code, message),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// A NAR that begins well and goes on as one file of zeros.
fn zeros(random: &mut Random) -> (Server, Deposit, EncodedChunk) {
    let server = Server::options().config("[limits]\nmax-nar-size = \"64MiB\"\n").start();
    let deposit = Deposit::of(random, "zeros", &Node::File(vec![0; 4 << 20]));
    let (_, zeros) = craft::encode(Chunk::closed(vec![0; 4 << 20]), 1);
    let api = Api::root(&server);
    assert!(api.send_bundle(deposit.bundle()).status.is_success());
    assert!(api.send_bundle(craft::bundle([&zeros])).status.is_success());
    (server, deposit, zeros)
}

#[test]
fn a_manifest_that_repeats_one_chunk_to_a_huge_nar() {
    let (mut server, deposit, zeros) = zeros(&mut Random::fixed(43));
    for times in [100, 100_000, 2_000_000] {
        let mut names = deposit.manifest.names.clone();
        names.extend(std::iter::repeat_n(zeros.header.name, times - names.len()));
        let encoded = WireManifest { names, values: Vec::new() }.encode();
        let mut path = deposit.commit();
        path.nar_size = times as u64 * (4 << 20);
        path.manifest =
            ManifestSource::inline(&encoded[..encoded.len().min(ManifestSource::MAX_INLINE_BYTES)]);
        let started = Instant::now();
        let (code, message) = refusal(&server, path);
        assert!(
            ["limit-exceeded", "manifest-invalid"].contains(&code.as_str()),
            "{times} times: {code}: {message}"
        );
        assert!(started.elapsed() < SOON, "{times} times took {:?}", started.elapsed());
    }
    assert!(server.peak_rss_bytes() < 256 << 20, "{} bytes", server.peak_rss_bytes());
    assert_eq!(database::paths(&server), 0);
}

#[test]
fn a_manifest_that_is_broken_or_says_more_than_there_is() {
    let server = Server::start();
    let mut random = Random::fixed(47);
    let deposit = Deposit::of(&mut random, "broken", &Node::folder(&[("file", "contents")]));
    assert!(Api::root(&server).send_bundle(deposit.bundle()).status.is_success());
    let encoded = deposit.manifest.encode();
    let bent = [
        encoded[..encoded.len() - 1].to_vec(),
        [encoded.as_slice(), &[0]].concat(),
        random.bytes(1_000),
        vec![0xff; 64],
        Vec::new(),
        // A version, then counts far beyond the bytes that follow.
        [&[encoded[0]][..], &[0xff, 0xff, 0xff, 0x7f], &[0xff, 0xff, 0xff, 0x7f], &[0; 32]]
            .concat(),
    ];
    for (number, bytes) in bent.into_iter().enumerate() {
        let mut path = deposit.commit();
        path.manifest = ManifestSource::inline(&bytes);
        let (code, message) = refusal(&server, path);
        assert_eq!(code, "manifest-invalid", "{number}: {message}");
    }
    let mut path = deposit.commit();
    path.manifest = ManifestSource::Inline("this is not base64!".to_owned());
    assert_eq!(refusal(&server, path).0, "manifest-invalid");
    assert_eq!(database::paths(&server), 0);
}

#[test]
fn a_manifest_with_values_that_its_chunks_have_no_slots_for() {
    let server = Server::start();
    let mut random = Random::fixed(53);
    let text = format!(
        "/nix/store/{}-one and /nix/store/{}-two",
        random.hash_chars(),
        random.hash_chars()
    );
    let deposit = Deposit::of(&mut random, "slots", &Node::folder(&[("file", &text)]));
    assert!(Api::root(&server).send_bundle(deposit.bundle()).status.is_success());
    assert_eq!(deposit.manifest.values.len(), 2);
    let mut fewer = deposit.manifest.clone();
    fewer.values.pop();
    let mut more = deposit.manifest.clone();
    more.values.push(more.values[0]);
    let mut swapped = deposit.manifest.clone();
    swapped.values.swap(0, 1);
    for manifest in [fewer, more, swapped] {
        let mut path = deposit.commit();
        path.manifest = ManifestSource::inline(&manifest.encode());
        let (code, message) = refusal(&server, path);
        assert_eq!(code, "nar-mismatch", "{message}");
        let real = deposit.commit().nar_hash.to_string();
        assert!(
            message.matches("sha256:").count() <= message.matches(&real).count(),
            "no computed hash: {message}"
        );
    }
    assert_eq!(database::paths(&server), 0);
}

#[test]
fn a_manifest_that_names_chunks_which_never_came() {
    let server = Server::start();
    let deposit =
        Deposit::of(&mut Random::fixed(59), "absent", &Node::folder(&[("file", "contents")]));
    let lines = Api::root(&server).commit(vec![deposit.commit()]).commit_lines();
    let [CommitLine::ChunksMissing { missing, .. }] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(missing, &deposit.manifest.names);
    assert_nothing_stored(&server);
}

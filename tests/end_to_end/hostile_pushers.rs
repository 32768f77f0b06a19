//! Whoever may push, and means harm: one token keeps no memory, no place and no disk from the
//! others.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use snowbank_core::{
    bundle::BundleWriter,
    chunk::{Chunk, ChunkName},
    frame::{ChunkHeader, EncodedChunk, Slot},
    hash::NarHash,
    manifest::WireManifest,
    wire::{CommitLine, CommitRequest, ManifestSource, MissingPathsRequest, PathCommit, PathQuery},
};
use snowbank_harness::{
    Api, Client, NixStore, Pusher, Random, Server,
    craft::{self, Deposit, Node},
    oracle::Oracle,
    trees,
};

const MIB: usize = 1 << 20;

/// A request to `endpoint` of `main`, as far as its head.
fn head(server: &Server, token: &str, endpoint: &str, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /api/v1/caches/main/{endpoint} HTTP/1.1\r\nHost: snowbank\r\nAuthorization: Bearer \
         {token}\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Bodies that have nearly arrived and drip from then on, for as long as this lives; one that is
/// refused is begun anew.
struct Drips {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drips {
    fn start(server: &Server, token: &str, bodies: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..bodies).map(|number| {
            let (address, token, stop) = (server.address(), token.to_owned(), Arc::clone(&stop));
            let endpoint = if number % 2 == 0 { "paths" } else { "missing-paths" };
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    drip(address, &token, endpoint, &stop);
                    thread::sleep(Duration::from_millis(200));
                }
            })
        });
        let threads = threads.collect();
        Self { stop, threads }
    }
}

fn drip(address: std::net::SocketAddr, token: &str, endpoint: &str, stop: &AtomicBool) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let length = 5 * MIB;
    let head = format!(
        "POST /api/v1/caches/main/{endpoint} HTTP/1.1\r\nHost: snowbank\r\nAuthorization: Bearer \
         {token}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    // A server that makes it wait leaves it no more than this for one write.
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let text = [b"{\"paths\":[\"", &vec![b'a'; length][..]].concat();
    let mut left = [head.as_bytes(), &text[..length - 4096]].concat();
    while !stop.load(Ordering::Relaxed) {
        let piece = if left.is_empty() { &b"a"[..] } else { &left[..left.len().min(256 << 10)] };
        match stream.write(piece) {
            Ok(written) if !left.is_empty() => drop(left.drain(..written)),
            Ok(_) => thread::sleep(Duration::from_millis(100)),
            Err(error)
                if [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut]
                    .contains(&error.kind()) => {}
            Err(_) => return,
        }
    }
}

impl Drop for Drips {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[test]
fn bodies_that_drip_hold_nobody_up() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let client = Client::of(&server, &store);
    let hostile = server.token("hostile", &["main"], &["main"]);
    let drips = Drips::start(&server, &hostile, 24);
    thread::sleep(Duration::from_secs(1));
    let mut random = Random::fixed(701);
    let large = trees::add_noise(&store, &mut random, "large", 40 * MIB);
    let small = trees::add_tiny(&store, 60, "small");
    let started = Instant::now();
    let _ = client.push(&[&large]).success();
    let _ = client.push(&small).success();
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
    Oracle::main(&server).assert_mirrors(&store, &small);
    drop(drips);
    assert!(server.peak_rss_bytes() < 192 << 20, "{} MiB", server.peak_rss_bytes() >> 20);
}

#[test]
fn an_honest_slow_uplink_goes_on_beside_them() {
    struct Slow(std::io::Cursor<Vec<u8>>);
    impl std::io::Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            thread::sleep(Duration::from_millis(20));
            let most = into.len().min(8 << 10);
            self.0.read(&mut into[..most])
        }
    }
    let server = Server::start();
    let hostile = server.token("hostile", &["main"], &["main"]);
    let _drips = Drips::start(&server, &hostile, 24);
    let mut random = Random::fixed(702);
    let noise = random.bytes(2 * MIB);
    let deposit = Deposit::of(&mut random, "slow", &Node::File(noise));
    // 400 kB, or 3.2 Mbit, per second.
    let body = reqwest::blocking::Body::new(Slow(std::io::Cursor::new(deposit.bundle())));
    let api = Api::root(&server);
    let answer =
        api.try_send(reqwest::Method::POST, "/api/v1/caches/main/chunks", &[], body).unwrap();
    assert!(answer.status.is_success(), "{}", answer.text());
}

#[test]
fn a_body_has_a_deadline_however_it_drips() {
    let server = Server::options().config("[limits]\nbody-deadline = \"3s\"\n").start();
    let mut stream = head(&server, &server.root_token(), "paths", 100_000);
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let started = Instant::now();
    let mut answer = Vec::new();
    while answer.is_empty() {
        assert!(started.elapsed() < Duration::from_secs(20), "a body may take as long as it likes");
        let _ = stream.write_all(b" ");
        let _ = stream.read_to_end(&mut answer);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-deadline"), "{answer}");
}

/// Paths whose manifests name chunks that nobody has.
fn paths_of_missing_chunks(random: &mut Random, paths: usize, chunks: usize) -> Vec<PathCommit> {
    let path = |_| {
        let mut name = || ChunkName::from_bytes(random.bytes(32).try_into().unwrap());
        let manifest =
            WireManifest { names: (0..chunks).map(|_| name()).collect(), values: Vec::new() };
        PathCommit {
            store_path: format!("/nix/store/{}-missing", random.hash_chars()),
            nar_hash: NarHash::from_bytes([7; 32]),
            nar_size: 1 << 30,
            references: Vec::new(),
            upstream: Vec::new(),
            deriver: None,
            signatures: Vec::new(),
            ca: None,
            cut: None,
            manifest: ManifestSource::inline(&manifest.encode()),
        }
    };
    (0..paths).map(path).collect()
}

#[test]
fn answers_that_nobody_reads_hold_nobody_up_and_end() {
    let config = "[limits]\nanswer-timeout = \"2s\"\n";
    let (mut server, store) = (Server::options().config(config).start(), NixStore::new());
    let hostile = server.token("hostile", &["main"], &["main"]);
    let mut random = Random::fixed(703);
    // What is not read of it fills the buffers of both systems, and then the server's.
    let paths = paths_of_missing_chunks(&mut random, 60, 1_500);
    let request = serde_json::to_vec(&CommitRequest { paths, ..CommitRequest::default() }).unwrap();
    let silent: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = head(&server, &hostile, "paths", request.len());
            stream.write_all(&request).unwrap();
            stream
        })
        .collect();
    let client = Client::of(&server, &store);
    let noise = trees::add_noise(&store, &mut random, "noise", 24 * MIB);
    let started = Instant::now();
    let _ = client.push(&[&noise]).success();
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    // The places of that token are free again, although nothing was read.
    let deposit = Deposit::of(&mut random, "after", &Node::File(b"after".to_vec()));
    let api = Api::new(&server.url(), Some(&hostile));
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        match Pusher::new(&api, "main").try_push(&[&deposit]) {
            Ok(pushed) if pushed.uploaded() == 1 => break,
            _ => assert!(Instant::now() < deadline, "unread answers keep their token's places"),
        }
    }
    drop(silent);
    assert!(server.peak_rss_bytes() < 192 << 20, "{} MiB", server.peak_rss_bytes() >> 20);
}

#[test]
fn lists_of_nothing_are_refused_before_they_are_made() {
    let mut server = Server::start();
    let api = Api::root(&server);
    let before = server.peak_rss_bytes();
    let empty = |count: usize| format!("\"\"{}", ",\"\"".repeat(count));
    let commit = |field: &str, count| {
        format!(
            "{{\"paths\":[{{\"store_path\":\"/nix/store/00000000000000000000000000000000-a\",\"nar_hash\":\"{}\",\
             \"nar_size\":112,\"references\":[],\"manifest\":{{\"inline\":\"\"}},\"{field}\":[{}]}}]}}",
            NarHash::from_bytes([7; 32]),
            empty(count)
        )
    };
    let many = 2_000_000;
    for field in ["upstream", "signatures", "unknown"] {
        let answer = api.post_bytes("/api/v1/caches/main/paths", commit(field, many).into_bytes());
        let message = answer.refused(400, "limit-exceeded");
        assert!(message.contains("memory"), "{message}");
    }
    let query = format!("{{\"paths\":[{}]}}", empty(many));
    api.post_bytes("/api/v1/caches/main/missing-paths", query.into_bytes())
        .refused(400, "limit-exceeded");
    let small = 300_000;
    for (endpoint, field) in
        [("caches/main/delete", "paths"), ("caches/main/copy", "paths"), ("tokens/revoke", "ids")]
    {
        let body = format!("{{\"{field}\":[{}]}}", empty(small));
        api.post_bytes(&format!("/api/v1/{endpoint}"), body.into_bytes())
            .refused(400, "limit-exceeded");
    }
    let grown = server.peak_rss_bytes() - before;
    assert!(grown < 48 << 20, "{} MiB", grown >> 20);
    // One that is long, and one of many references, is refused with the rest left alone.
    let long = PathQuery { store_path: "x".repeat(10_000), nar_hash: NarHash::from_bytes([7; 32]) };
    let request = MissingPathsRequest { paths: vec![long], ..MissingPathsRequest::default() };
    api.post_json("/api/v1/caches/main/missing-paths", &request).refused(400, "limit-exceeded");
}

#[test]
fn manifests_that_are_sent_as_chunks_take_their_turn() {
    let (mut server, store) = (Server::start(), NixStore::new());
    let mut random = Random::fixed(704);
    // 16 MiB of manifest that rest in some kilobytes: half a million times the same chunk, which is
    // there.
    let (filler, encoded) = craft::encode(Chunk::closed(b"filler".to_vec()), 3);
    let manifest =
        WireManifest { names: vec![filler.name(); 524_000], values: Vec::new() }.encode();
    let pieces: Vec<EncodedChunk> = manifest
        .chunks(MIB)
        .map(|piece| craft::encode(Chunk::closed(piece.to_vec()), 3).1)
        .collect();
    let api = Api::root(&server);
    assert!(api.send_bundle(craft::bundle(pieces.iter().chain([&encoded]))).status.is_success());
    let names: Vec<ChunkName> = pieces.iter().map(|piece| piece.header.name).collect();
    let path = PathCommit {
        nar_size: 32 << 30,
        manifest: ManifestSource::Chunks(names),
        ..paths_of_missing_chunks(&mut random, 1, 1).remove(0)
    };
    let request =
        serde_json::to_vec(&CommitRequest { paths: vec![path], ..CommitRequest::default() })
            .unwrap();
    let hostile: Vec<TcpStream> = (0..8)
        .flat_map(|number| {
            vec![server.token(&format!("hostile {number}"), &["main"], &["main"]); 8]
        })
        .map(|token| {
            let mut stream = head(&server, &token, "paths", request.len());
            stream.write_all(&request).unwrap();
            stream
        })
        .collect();
    let small = trees::add_tiny(&store, 60, "small");
    let started = Instant::now();
    let _ = Client::of(&server, &store).push(&small).success();
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
    drop(hostile);
    assert!(server.peak_rss_bytes() < 192 << 20, "{} MiB", server.peak_rss_bytes() >> 20);
}

/// A path whose NAR is cut into chunks of 64 bytes, so that its manifest is a large one.
fn shredded(random: &mut Random, name: &str) -> Deposit {
    let noise = random.bytes(900_000);
    let mut deposit = Deposit::of(random, name, &Node::File(noise));
    deposit.encoded = deposit
        .nar
        .chunks(64)
        .map(|piece| craft::encode(Chunk::closed(piece.to_vec()), 1).1)
        .collect();
    let names = deposit.encoded.iter().map(|one| one.header.name).collect();
    deposit.manifest = WireManifest { names, values: Vec::new() };
    deposit
}

#[test]
fn large_manifests_of_one_commit_do_not_wait_for_each_other() {
    let server = Server::options().config("[limits]\nmemory = \"64MiB\"\n").start();
    let (api, mut random) = (Api::root(&server), Random::fixed(707));
    let deposits = [
        shredded(&mut random, "one"),
        shredded(&mut random, "two"),
        shredded(&mut random, "three"),
    ];
    for deposit in &deposits {
        for bundle in deposit.encoded.chunks(8_000) {
            let answer = api.send_bundle(craft::bundle(bundle));
            assert!(answer.status.is_success(), "{}", answer.text());
        }
    }
    let lines = api.commit(deposits.iter().map(Deposit::commit).collect()).commit_lines();
    assert!(
        matches!(
            lines[..],
            [CommitLine::Receipt(_), CommitLine::Receipt(_), CommitLine::Receipt(_)]
        ),
        "{lines:?}"
    );
    for deposit in &deposits {
        let _ = Oracle::main(&server).assert_whole(&deposit.store_path);
    }
}

#[test]
fn a_commit_has_no_more_bytes_of_nars_than_a_nar_may() {
    let (server, store) =
        (Server::options().config("[limits]\nmax-nar-size = \"1MiB\"\n").start(), NixStore::new());
    let api = Api::root(&server);
    let mut random = Random::fixed(705);
    let paths = |sizes: &[u64], random: &mut Random| {
        let mut paths = paths_of_missing_chunks(random, sizes.len(), 1);
        paths.iter_mut().zip(sizes).for_each(|(path, size)| path.nar_size = *size);
        paths
    };
    let message =
        api.commit(paths(&[600_000, 600_000], &mut random)).refused(400, "limit-exceeded");
    assert!(message.contains("max-nar-size") && message.contains("1200000"), "{message}");
    // One that is too large by itself is its own fault, and nobody else's.
    let lines = api.commit(paths(&[2 << 20, 600_000], &mut random)).commit_lines();
    let too_large = |line: &CommitLine| matches!(line, CommitLine::Error { code, .. } if code == "limit-exceeded");
    assert_eq!(lines.iter().filter(|line| too_large(line)).count(), 1, "{lines:?}");
    // The client is told, and sends several commits.
    assert_eq!(api.cache_info("main").limits.commit_nar_bytes, 1 << 20);
    let many: Vec<String> = (0..6)
        .map(|number| trees::add_noise(&store, &mut random, &format!("noise-{number}"), 600_000))
        .collect();
    let push = Client::of(&server, &store).push(&many).success();
    assert_eq!(push.uploaded(), 6);
}

/// A frame of raw blocks alone, with a block for each slot: as large as a frame may be.
fn raw_frame(bytes: &[u8], slots: &[u32]) -> (Vec<u8>, Vec<Slot>) {
    let mut frame =
        [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &u32::try_from(bytes.len()).unwrap().to_le_bytes()]
            .concat();
    let mut places = Vec::new();
    let put = |frame: &mut Vec<u8>, payload: &[u8], is_last| {
        let header = u32::from(is_last) | u32::try_from(payload.len()).unwrap() << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.extend_from_slice(payload);
    };
    let mut done = 0;
    for &raw in slots {
        let start = raw as usize;
        bytes[done..start].chunks(100_000).for_each(|piece| put(&mut frame, piece, false));
        places.push(Slot { raw, frame: u32::try_from(frame.len() + 3).unwrap() });
        done = start + 32;
        put(&mut frame, &bytes[start..done], false);
    }
    bytes[done..].chunks(100_000).for_each(|piece| put(&mut frame, piece, false));
    put(&mut frame, &[], true);
    (frame, places)
}

/// The same chunks, each as large as it can be.
fn wasteful(deposit: &Deposit) -> Vec<u8> {
    let mut writer = BundleWriter::new();
    for chunk in craft::cut(&deposit.nar) {
        let name = chunk.name();
        let (frame, slots) = raw_frame(&chunk.bytes, &chunk.slots);
        let [raw_len, frame_len] =
            [chunk.bytes.len(), frame.len()].map(|len| u32::try_from(len).unwrap());
        writer.add(&ChunkHeader { name, raw_len, frame_len, slots }, &frame);
    }
    writer.finish()
}

#[test]
fn nobody_makes_a_chunk_larger_for_all_others() {
    let server = Server::start();
    let (api, oracle) = (Api::root(&server), Oracle::main(&server));
    let mut random = Random::fixed(706);
    let mut text = random.text(150_000);
    text.extend_from_slice(&trees::list_of_paths(&mut random, 4));
    text.extend_from_slice(&random.text(150_000));
    let files = [("zeros", vec![0; 200_000]), ("text", text)];
    for (name, file) in files {
        let deposit = Deposit::of(&mut random, name, &Node::File(file));
        let slots: usize = craft::cut(&deposit.nar).iter().map(|chunk| chunk.slots.len()).sum();
        assert_eq!(name == "text", slots > 0, "{name} has open chunks");
        let bundle = wasteful(&deposit);
        assert!(bundle.len() > deposit.nar.len());
        assert!(api.send_bundle(bundle).status.is_success());
        let lines = api.commit(vec![deposit.commit()]).commit_lines();
        assert!(matches!(lines[..], [CommitLine::Receipt(_)]), "{lines:?}");
        let narinfo = oracle.assert_whole(&deposit.store_path);
        let honest: usize = deposit.encoded.iter().map(|one| one.frame.len()).sum();
        let file_size = narinfo.file_size.unwrap();
        assert!(
            file_size < 3 * honest as u64 / 2 + 64,
            "{name}: {file_size} bytes rather than {honest}"
        );
    }
    // What an honest client sends stays as it is.
    let noise = random.bytes(MIB);
    let deposit = Deposit::of(&mut random, "noise", &Node::File(noise));
    assert!(api.send_bundle(deposit.bundle()).status.is_success());
    assert!(matches!(
        api.commit(vec![deposit.commit()]).commit_lines()[..],
        [CommitLine::Receipt(_)]
    ));
    let sent: usize = deposit.encoded.iter().map(|one| one.frame.len()).sum();
    assert_eq!(oracle.assert_whole(&deposit.store_path).file_size, Some(sent as u64));
}

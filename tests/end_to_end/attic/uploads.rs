//! Single uploads: each form, and everything that may be wrong with one.

use std::{
    io::{self, Read, Write as _},
    net::TcpStream,
};

use reqwest::{Method, blocking::Body};
use serde_json::{Value, json};
use snowbank_core::{
    hash::{NarHash, Sha256, Sha256Hasher},
    nar::encode,
};
use snowbank_harness::{
    Api, Random, Server, count,
    craft::{Deposit, Node},
    oracle,
    oracle::Oracle,
};

use super::{ALL, api, claims, hex, info, missing, refused, send, server, sign, upload};

fn deposit(seed: u64, name: &str, kibibytes: usize) -> Deposit {
    let mut random = Random::fixed(seed);
    let contents = random.bytes(kibibytes << 10);
    Deposit::of(&mut random, name, &Node::File(contents))
}

#[test]
fn the_info_comes_in_a_header_or_before_the_nar() {
    let (server, _scratch) = server();
    let (own, oracle) = (api(&server, &[("main", &ALL)]), Oracle::main(&server));
    for (number, prefix) in ["X-Attic", "X-Celler"].iter().enumerate() {
        let seed = number as u64 * 2;
        let first = deposit(seed, "header", 700);
        let header = format!("{prefix}-Nar-Info");
        let answer = send(&own, &[(&header, &info(&first).to_string())], first.nar.clone());
        let answer: Value = answer.json();
        assert_eq!(answer["kind"], "Uploaded", "{answer}");
        assert!(answer["file_size"].as_u64().unwrap() > 700_000, "{answer}");
        assert_eq!(answer["frac_deduplicated"], 0.0, "{answer}");
        let _ = oracle.assert_whole(&first.store_path);

        // Longer than a header may be: a path with many references, all of them its own.
        let mut second = deposit(seed + 1, "preamble", 3);
        second.references = vec![second.base_name().to_owned(); 3_000];
        let text = info(&second).to_string();
        assert!(text.len() > 100_000);
        let size = text.len().to_string();
        let body = [text.as_bytes(), &second.nar].concat();
        let answer = send(&own, &[(&format!("{prefix}-Nar-Info-Preamble-Size"), &size)], body);
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
        let _ = oracle.assert_whole(&second.store_path);
    }
    oracle::assert_check_is_clean(&server);
}

#[test]
fn an_upload_that_lies_or_is_cut_off_leaves_nothing_visible() {
    let (server, _scratch) = server();
    let (own, oracle) = (api(&server, &[("main", &ALL)]), Oracle::main(&server));
    let (good, other) = (deposit(1, "good", 900), deposit(2, "other", 900));
    let with = |field: &str, value: Value| {
        let mut info = info(&good);
        info[field] = value;
        info
    };
    let nar = &good.nar;
    let size = nar.len();
    for (info, body, status, why) in [
        (info(&good), other.nar.clone(), 422, "declared"),
        (with("nar_hash", json!(hex(&other.nar_hash()))), nar.clone(), 422, "declared"),
        (with("nar_size", json!(size + 8)), nar.clone(), 422, "declared"),
        (with("nar_size", json!(size - 8)), nar.clone(), 413, "more than"),
        (with("nar_size", json!(1_u64 << 60)), nar.clone(), 413, "max-nar-size"),
        (with("nar_size", json!(0)), nar.clone(), 422, "nar_size"),
        (info(&good), nar[..size - 8].to_vec(), 422, ""),
        (info(&good), nar[..size / 2].to_vec(), 422, ""),
        (info(&good), Vec::new(), 422, ""),
        (info(&good), b"no archive at all".to_vec(), 422, ""),
        // It is no door for compressed NARs.
        (info(&good), zstd::encode_all(&nar[..], 1).unwrap(), 422, ""),
        (with("store_path_hash", json!("0".repeat(32))), nar.clone(), 422, "store_path_hash"),
        (with("store_path", json!("/gnu/store/x")), nar.clone(), 422, "store_path"),
        (with("references", json!(["nothing"])), nar.clone(), 422, "references"),
        (with("system", json!("a\nSig: b:c")), nar.clone(), 422, "system"),
        (with("sigs", json!(["none"])), nar.clone(), 422, "sigs"),
        (with("nar_hash", json!("sha256:00")), nar.clone(), 400, "parse"),
        (with("references", json!("none")), nar.clone(), 400, "parse"),
        (json!([]), nar.clone(), 400, "parse"),
    ] {
        let answer = upload(&own, &info, body);
        let message = refused(&answer, status, "RequestError");
        assert!(message.contains(why), "{why}: {message}");
        assert!(!oracle.visible(&good.store_path), "{message}");
    }
    for (headers, body) in [
        (&[][..], nar.clone()),
        (&[("X-Attic-Nar-Info-Preamble-Size", "many")], nar.clone()),
        (&[("X-Attic-Nar-Info-Preamble-Size", "2000000")], nar.clone()),
        (&[("X-Attic-Nar-Info-Preamble-Size", "5000")], b"{}".to_vec()),
        (&[("X-Attic-Nar-Info-Preamble-Size", "0")], nar.clone()),
        (&[("X-Attic-Nar-Info-Preamble-Size", "4")], b"{}  more".to_vec()),
    ] {
        let _ = refused(&send(&own, headers, body), 400, "RequestError");
    }
    assert_eq!(missing(&own, &[&good]).len(), 1);
    // And then as it is.
    let answer = upload(&own, &info(&good), nar.clone());
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let _ = oracle.assert_whole(&good.store_path);
    // Another content for the same path: the first one stays.
    let mut another = info(&other);
    another["store_path"] = json!(good.store_path);
    another["store_path_hash"] = info(&good)["store_path_hash"].clone();
    let _ = refused(&upload(&own, &another, other.nar.clone()), 409, "RequestError");
    let _ = oracle.assert_whole(&good.store_path);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn an_upload_that_ends_in_the_middle_is_made_again() {
    let (server, _scratch) = server();
    let deposit = deposit(5, "aborted", 3_000);
    let token = sign(&claims("meow", &[("main", &ALL)]));
    for part in [0, 100, 1 << 20, deposit.nar.len()] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        write!(
            stream,
            "PUT /_api/v1/upload-path HTTP/1.1\r\nHost: x\r\nAuthorization: bearer {token}\r\n\
             X-Attic-Nar-Info: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            info(&deposit)
        )
        .unwrap();
        for piece in deposit.nar[..part].chunks(65_536) {
            write!(stream, "{:x}\r\n", piece.len()).unwrap();
            stream.write_all(piece).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
        // Without the last chunk, which would say that it is whole.
        drop(stream);
        assert!(!Oracle::main(&server).visible(&deposit.store_path), "after {part} bytes");
    }
    let own = api(&server, &[("main", &ALL)]);
    assert_eq!(upload(&own, &info(&deposit), deposit.nar.clone()).status.as_u16(), 200);
    let _ = Oracle::main(&server).assert_whole(&deposit.store_path);
    oracle::assert_check_is_clean(&server);
}

#[test]
fn a_body_without_an_end_stops_at_the_size_that_was_declared() {
    let (server, _scratch) = server();
    let own = api(&server, &[("main", &ALL)]);
    let zeros = Deposit::of(&mut Random::fixed(6), "zeros", &Node::File(vec![0; 1 << 20]));
    let before = server.stored_bytes();
    let mut info = info(&zeros);
    info["nar_size"] = json!(2 << 20);
    // 24 MiB of them, of which 2 are looked at. The answer reaches a client that sends no more
    // than a server reads before it.
    let nar = Node::File(vec![0; 24 << 20]).nar();
    let _ = refused(&upload(&own, &info, nar), 413, "RequestError");
    assert!(server.stored_bytes() < before + (1 << 20));
}

/// A NAR of one file of noise, made while it is read.
struct Noise {
    head: Vec<u8>,
    pages: u64,
    tail: Vec<u8>,
    page: [u8; PAGE],
    next: u64,
    ready: Vec<u8>,
    at: usize,
}

const PAGE: usize = 4096;

impl Noise {
    fn new(pages: u64) -> Self {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        encode::magic(&mut head);
        encode::regular_start(&mut head, false, pages * PAGE as u64);
        encode::regular_end(&mut tail, pages * PAGE as u64);
        let page = Random::fixed(9).bytes(PAGE).try_into().unwrap();
        let ready = head.clone();
        Self { head, pages, tail, page, next: 0, ready, at: 0 }
    }

    fn len(&self) -> u64 {
        self.head.len() as u64 + self.pages * PAGE as u64 + self.tail.len() as u64
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.ready.len() {
            (self.ready, self.at) = (Vec::new(), 0);
            if self.next < self.pages {
                // Pages differ, so that no chunk is like another.
                let stamp = Sha256::of(&self.next.to_le_bytes());
                self.page[..32].copy_from_slice(stamp.as_bytes());
                self.ready = self.page.to_vec();
            } else if self.next == self.pages {
                self.ready = self.tail.clone();
            }
            self.next += 1;
        }
        let some = &self.ready[self.at..];
        let len = some.len().min(buffer.len());
        buffer[..len].copy_from_slice(&some[..len]);
        self.at += len;
        Ok(len)
    }
}

#[test]
fn a_large_nar_in_chunks_takes_no_more_memory_than_a_small_one() {
    let (mut server, _scratch) = server();
    let mebibytes = count(200, 1024) as u64;
    let mut hasher = Sha256Hasher::new();
    let mut noise = Noise::new(mebibytes * 256);
    let (size, mut buffer) = (noise.len(), vec![0; 1 << 16]);
    loop {
        let len = noise.read(&mut buffer).unwrap();
        if len == 0 {
            break;
        }
        hasher.update(&buffer[..len]);
    }
    let hash = NarHash::from(hasher.finish());
    let base_name = format!("{}-large", "0123456789abcdfghijklmnpqrsvwxyz");
    let info = json!({
        "cache": "main", "store_path_hash": &base_name[..32],
        "store_path": format!("/nix/store/{base_name}"), "references": [], "sigs": [],
        "nar_hash": hex(&hash), "nar_size": size,
    });
    let before = server.rss_bytes();
    let token = sign(&claims("meow", &[("main", &ALL)]));
    let limit = std::time::Duration::from_mins(20);
    let own = Api::from_address(&server.url(), Some(&token), [127, 0, 0, 1].into(), limit);
    let began = std::time::Instant::now();
    let headers = [("X-Attic-Nar-Info", &*info.to_string())];
    let body = Body::new(Noise::new(mebibytes * 256));
    let answer = own.try_send(Method::PUT, "/_api/v1/upload-path", &headers, body).unwrap();
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let peak = server.peak_rss_bytes();
    println!(
        "{mebibytes} MiB in {:?}, {} MiB of memory",
        began.elapsed(),
        peak.saturating_sub(before) >> 20
    );
    assert!(peak < before + (160 << 20), "{} MiB before, {} MiB", before >> 20, peak >> 20);
    assert!(Oracle::main(&server).visible(&format!("/nix/store/{base_name}")));
    assert_nothing_else(&server);
}

/// The push of one path is in the audit log as such, with its cache.
fn assert_nothing_else(server: &Server) {
    let is_noted =
        || {
            let log: Value = Api::root(server).get("/api/v1/audit").json();
            log["entries"].as_array().unwrap().iter().any(|entry| {
                entry["action"] == json!("push.attic") && entry["cache"] == json!("main")
            })
        };
    let limit = std::time::Duration::from_secs(10);
    snowbank_harness::process::wait_until("the push is in the audit log", limit, is_noted);
}

//! Chunks that are not what they say: each is refused, and nothing of its bundle's is stored.

use snowbank_core::{
    bundle::BundleWriter,
    chunk::{Chunk, ChunkName},
    cut::{Chunker, CutParams},
    frame::{ChunkHeader, EncodedChunk, Slot},
    store_path::StoreDir,
};
use snowbank_harness::{Api, Random, Server, craft, database};

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const RAW: u32 = 0;
const RLE: u32 = 1;

/// A bundle of one chunk.
fn bundle(header: &ChunkHeader, frame: &[u8]) -> Vec<u8> {
    let mut writer = BundleWriter::new();
    writer.add(
        &ChunkHeader { frame_len: u32::try_from(frame.len()).unwrap(), ..header.clone() },
        frame,
    );
    writer.finish()
}

#[track_caller]
fn assert_refused(server: &Server, bundle: Vec<u8>) -> String {
    let answer = Api::root(server).send_bundle(bundle);
    let error = answer.error();
    // A header that no chunk can have is the bundle's fault already.
    let expected = ["chunk-invalid", "bundle-invalid"].contains(&error.code.as_str());
    assert!(answer.status.as_u16() == 422 && expected, "{error:?}");
    assert_eq!((database::chunks(server), server.stored_bytes()), (0, 0), "nothing is stored");
    error.message
}

/// A chunk of text with `slots` store paths in it.
fn chunk(slots: usize) -> Chunk {
    let mut random = Random::fixed(31);
    let mut text = random.text(3_000);
    for number in 0..slots {
        text.extend_from_slice(
            format!("/nix/store/{}-package-{number} ", random.hash_chars()).as_bytes(),
        );
        text.extend_from_slice(&random.text(2_000));
    }
    let mut chunks = Vec::new();
    let mut chunker = Chunker::new(&StoreDir::default(), CutParams::DEFAULT).unwrap();
    chunker.feed(&text, &mut |chunk| chunks.push(chunk));
    chunker.finish(&mut |chunk| chunks.push(chunk));
    let chunk = chunks.remove(0);
    assert_eq!((chunks.len(), chunk.slots.len()), (0, slots));
    chunk
}

fn encoded(slots: usize) -> EncodedChunk {
    craft::encode(chunk(slots), 3).1
}

/// A header for a closed chunk of these bytes.
fn closed_header(bytes: &[u8]) -> ChunkHeader {
    let name = ChunkName::of(bytes, []);
    ChunkHeader {
        name,
        raw_len: u32::try_from(bytes.len()).unwrap(),
        frame_len: 0,
        slots: Vec::new(),
    }
}

fn block(last: bool, kind: u32, size: usize, payload: &[u8]) -> Vec<u8> {
    let header = u32::from(last) | kind << 1 | u32::try_from(size).unwrap() << 3;
    [&header.to_le_bytes()[..3], payload].concat()
}

/// A frame header with a single segment and this content size.
fn head(content_size: u32) -> Vec<u8> {
    [&MAGIC[..], &[0xa0], &content_size.to_le_bytes()].concat()
}

/// An honest frame of these bytes, as one raw block.
fn raw_frame(bytes: &[u8]) -> Vec<u8> {
    [head(u32::try_from(bytes.len()).unwrap()), block(true, RAW, bytes.len(), bytes)].concat()
}

#[test]
fn the_frames_made_here_are_honest_but_for_what_each_test_bends() {
    let server = Server::start();
    let frame = raw_frame(b"an honest chunk");
    let answer = Api::root(&server).send_bundle(bundle(&closed_header(b"an honest chunk"), &frame));
    assert!(answer.status.is_success(), "{}", answer.text());
    let open = encoded(3);
    let answer = Api::root(&server).send_bundle(bundle(&open.header, &open.frame));
    assert!(answer.status.is_success(), "{}", answer.text());
    assert_eq!(database::chunks(&server), 2);
}

#[test]
fn a_hash_that_is_wrong() {
    let server = Server::start();
    for slots in [0, 3] {
        let EncodedChunk { mut header, frame } = encoded(slots);
        let mut name = *header.name.as_bytes();
        name[0] ^= 1;
        header.name = ChunkName::from_bytes(name);
        let message = assert_refused(&server, bundle(&header, &frame));
        let real = encoded(slots).header.name.to_string();
        assert!(
            !message.contains(&real),
            "a refusal never says what the server computed: {message}"
        );
    }
}

#[test]
fn a_good_chunk_beside_a_bad_one_is_not_stored_either() {
    let server = Server::start();
    let (good, mut bad) = (encoded(2), encoded(3));
    bad.header.name = good.header.name;
    assert_refused(&server, craft::bundle([&good, &bad]));
}

#[test]
fn a_frame_that_decodes_to_more_than_it_says() {
    let mut server = Server::start();
    // The content size says what the header says, and the blocks hold a thousand times more.
    let mut bomb = head(1_024);
    for number in 0..200 {
        bomb.extend(block(number == 199, RLE, 128 << 10, &[0]));
    }
    assert_refused(&server, bundle(&closed_header(&[0; 1_024]), &bomb));

    // The same as zstd would write it, the content size bent afterwards.
    for len in [1 << 20, 64 << 20] {
        let mut bomb = zstd::bulk::compress(&vec![0; len], 19).unwrap();
        for said in [1_024, 500_000] {
            let header = closed_header(&vec![0; said]);
            assert_refused(&server, bundle(&header, &bomb));
            assert_eq!(bomb[4] >> 6, 2, "four bytes of content size");
            let at = if bomb[4] & 0x20 == 0 { 6 } else { 5 };
            bomb[at..at + 4].copy_from_slice(&header.raw_len.to_le_bytes());
            assert_refused(&server, bundle(&header, &bomb));
        }
    }
    assert!(server.peak_rss_bytes() < 256 << 20, "{} bytes", server.peak_rss_bytes());
}

#[test]
fn a_frame_that_decodes_to_less_than_it_says() {
    let server = Server::start();
    let frame = [head(100), block(true, RAW, 50, &[7; 50])].concat();
    assert_refused(&server, bundle(&closed_header(&[7; 100]), &frame));
}

/// Where the payload of the raw block of `content` begins.
fn raw_block_of(frame: &[u8], content: &[u8]) -> usize {
    let fcs = [usize::from(frame[4] & 0x20 != 0), 2, 4, 8][usize::from(frame[4] >> 6)];
    let mut at = 5 + usize::from(frame[4] & 0x20 == 0) + fcs;
    loop {
        let header = u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], 0]);
        let (kind, size) = (header >> 1 & 3, (header >> 3) as usize);
        if kind == RAW && &frame[at + 3..at + 3 + size] == content {
            return at + 3;
        }
        at += 3 + if kind == RLE { 1 } else { size };
    }
}

#[test]
fn a_frame_whose_bytes_depend_on_its_slots() {
    use std::io::Write as _;
    let server = Server::start();
    let mut random = Random::fixed(37);
    let (before, filler, after) = (random.text(2_000), random.bytes(32), random.text(2_000));
    // The slot is a raw block as it should be, and what follows is copied from it.
    let decoded = [before.as_slice(), &filler, &after, &filler, &after].concat();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.set_pledged_src_size(Some(decoded.len() as u64)).unwrap();
    encoder.include_checksum(false).unwrap();
    for part in [before.as_slice(), &filler, &[after.as_slice(), &filler, &after].concat()] {
        encoder.write_all(part).unwrap();
        encoder.flush().unwrap();
    }
    let frame = encoder.finish().unwrap();
    let slot = Slot {
        raw: u32::try_from(before.len()).unwrap(),
        frame: u32::try_from(raw_block_of(&frame, &filler)).unwrap(),
    };
    let mut masked = decoded.clone();
    masked[before.len()..before.len() + 32].fill(b'0');
    let name = ChunkName::of(&masked, [slot.raw]);
    let raw_len = u32::try_from(decoded.len()).unwrap();
    let message = assert_refused(
        &server,
        bundle(&ChunkHeader { name, raw_len, frame_len: 0, slots: vec![slot] }, &frame),
    );
    eprintln!("{message}");
}

#[test]
fn one_slot_more_or_fewer_than_its_name_says() {
    let server = Server::start();
    let EncodedChunk { header, frame } = encoded(3);
    let mut fewer = header.clone();
    fewer.slots.remove(1);
    assert_refused(&server, bundle(&fewer, &frame));

    let mut more = header.clone();
    let last = more.slots[2];
    more.slots.push(Slot { raw: last.raw + 100, frame: last.frame + 40 });
    assert_refused(&server, bundle(&more, &frame));

    // Named by the right slots, in the wrong place in the chunk.
    let mut moved = header;
    moved.slots[1].raw += 1;
    assert_refused(&server, bundle(&moved, &frame));
}

#[test]
fn a_large_window_a_dictionary_a_checksum_or_no_content_size() {
    let server = Server::start();
    let bytes = [b'a'; 600];
    let (header, body) = (closed_header(&bytes), block(true, RAW, 600, &bytes));
    let size = 600_u32.to_le_bytes();
    let variants: [(&str, Vec<u8>); 6] = [
        ("window", [&MAGIC[..], &[0x80, 20 << 3], &size, &body].concat()),
        ("dictionary", [&MAGIC[..], &[0xa1, 7], &size, &body].concat()),
        ("checksum", [&MAGIC[..], &[0xa4], &size, &body, &[1, 2, 3, 4]].concat()),
        ("reserved bit", [&MAGIC[..], &[0xa8], &size, &body].concat()),
        ("no content size", [&MAGIC[..], &[0x00, 0x50], &body].concat()),
        ("another content size", [head(601), body].concat()),
    ];
    for (what, frame) in variants {
        eprintln!("{what}: {}", assert_refused(&server, bundle(&header, &frame)));
    }
}

#[test]
fn a_legacy_or_skippable_frame() {
    let server = Server::start();
    let bytes = b"some bytes";
    let (header, honest) = (closed_header(bytes), raw_frame(bytes));
    for version in 0x22..=0x27 {
        let mut legacy = honest.clone();
        legacy[0] = version;
        assert_refused(&server, bundle(&header, &legacy));
    }
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
    assert_refused(&server, bundle(&header, &[skippable.as_slice(), &honest].concat()));
    assert_refused(&server, bundle(&header, &[honest.as_slice(), &skippable].concat()));
}

#[test]
fn empty_blocks_or_anything_appended() {
    let server = Server::start();
    let bytes = [b'x'; 100];
    let header = closed_header(&bytes);
    let body = block(true, RAW, 100, &bytes);
    let empty = [head(100), block(false, RAW, 0, &[]).repeat(3), body.clone()].concat();
    assert_refused(&server, bundle(&header, &empty));
    let empty_run = [head(100), block(false, RLE, 0, &[0]), body.clone()].concat();
    assert_refused(&server, bundle(&header, &empty_run));
    let honest = raw_frame(&bytes);
    assert_refused(&server, bundle(&header, &[honest.as_slice(), b"more"].concat()));
    assert_refused(&server, bundle(&header, &honest.repeat(2)));
    assert_refused(&server, bundle(&header, &[honest, raw_frame(b"")].concat()));
}

#[test]
fn a_frame_that_is_longer_than_its_content_explains() {
    let server = Server::start();
    let bytes = vec![b'y'; 40_000];
    let mut frame = head(40_000);
    for (number, byte) in bytes.iter().enumerate() {
        frame.extend(block(number == 39_999, RAW, 1, &[*byte]));
    }
    let writer = bundle(&closed_header(&bytes), &frame);
    let error = Api::root(&server).send_bundle(writer).error();
    assert!(["chunk-invalid", "bundle-invalid"].contains(&error.code.as_str()), "{error:?}");
    assert_eq!(database::chunks(&server), 0);
}

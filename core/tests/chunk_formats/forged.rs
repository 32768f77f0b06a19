//! Frames that no honest encoder makes.

use snowbank_core::{
    chunk::{Chunk, ChunkName},
    frame::{ChunkHeader, FrameEncoder, FrameError, FrameVerifier, HeaderError, Slot},
};
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use crate::sample::{Numbers, one_chunk};

const RAW: u32 = 0;
const RLE: u32 = 1;
const COMPRESSED: u32 = 2;
const RESERVED: u32 = 3;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A frame, block by block: single segment, content size in four bytes.
struct Forge(Vec<u8>);

impl Forge {
    fn new(content_size: u32) -> Self {
        Self::with_header(&[&[0xa0], &content_size.to_le_bytes()[..]].concat())
    }

    fn with_header(header: &[u8]) -> Self {
        Self([&MAGIC, header].concat())
    }

    fn block(mut self, last: bool, kind: u32, size: usize, content: &[u8]) -> Self {
        let header = u32::from(last) | kind << 1 | u32::try_from(size).unwrap() << 3;
        self.0.extend_from_slice(&header.to_le_bytes()[..3]);
        self.0.extend_from_slice(content);
        self
    }

    fn raw(self, content: &[u8]) -> Self {
        self.block(false, RAW, content.len(), content)
    }

    fn last(self, content: &[u8]) -> Self {
        self.block(true, RAW, content.len(), content)
    }
}

fn header_of(chunk: &Chunk, frame: &[u8], frame_slots: &[u32]) -> ChunkHeader {
    let slots =
        chunk.slots.iter().zip(frame_slots).map(|(&raw, &frame)| Slot { raw, frame }).collect();
    let raw_len = u32::try_from(chunk.bytes.len()).unwrap();
    ChunkHeader {
        name: chunk.name(),
        raw_len,
        frame_len: u32::try_from(frame.len()).unwrap(),
        slots,
    }
}

fn verify(header: &ChunkHeader, frame: &[u8]) -> Result<(), FrameError> {
    FrameVerifier::new().verify(header, frame, &[3; 32])
}

/// `head`, a slot, `tail`.
fn open_chunk() -> Chunk {
    let bytes = [&b"head"[..], &[b'0'; 32], b"tail"].concat();
    Chunk { bytes, slots: vec![4], values: Numbers::new(1).hashes(1) }
}

/// Where [`open_frame`] has its slot.
const SLOT: u32 = 9 + 3 + 4 + 3;

fn open_frame() -> Vec<u8> {
    Forge::new(40).raw(b"head").raw(&[b'x'; 32]).last(b"tail").0
}

/// Verifies the frame of a closed chunk of `content`.
fn verify_closed(content: &[u8], frame: &Forge) -> Result<(), FrameError> {
    verify(&header_of(&Chunk::closed(content.to_vec()), &frame.0, &[]), &frame.0)
}

fn assert_block(outcome: Result<(), FrameError>, wanted: &str) {
    match outcome {
        Err(FrameError::Block { reason, .. }) => assert!(reason.contains(wanted), "{reason}"),
        other => panic!("{other:?} instead of: {wanted}"),
    }
}

#[test]
fn the_forge_makes_frames_that_pass() {
    let frame = open_frame();
    assert_eq!(verify(&header_of(&open_chunk(), &frame, &[SLOT]), &frame), Ok(()));
    assert_eq!(verify_closed(b"abcd", &Forge::new(4).raw(b"ab").last(b"cd")), Ok(()));
    assert_eq!(verify_closed(&[7; 1000], &Forge::new(1000).block(true, RLE, 1000, &[7])), Ok(()));
    assert_eq!(verify_closed(b"abcd", &Forge::new(4).raw(b"abcd").last(b"")), Ok(()));
}

#[test]
fn other_magic_numbers() {
    let legacy = [0x27, 0xb5, 0x2f, 0xfd];
    let skippable = [0x50, 0x2a, 0x4d, 0x18];
    for magic in [legacy, skippable, *b"\x1f\x8b\x08\0"] {
        let mut frame = Forge::new(4).last(b"abcd");
        frame.0[..4].copy_from_slice(&magic);
        assert_eq!(verify_closed(b"abcd", &frame), Err(FrameError::NotZstd));
    }
}

#[test]
fn frame_headers_with_more_than_a_size() {
    // Descriptor: content size flag 2 bits, single segment, unused, reserved, checksum, dictionary
    // id 2 bits.
    for (header, wanted) in [
        (&[0xa4, 4, 0, 0, 0][..], "checksum"),
        (&[0xa1, 9, 4, 0, 0, 0], "dictionary"),
        (&[0xa8, 4, 0, 0, 0], "reserved"),
        (&[0xb0, 4, 0, 0, 0], "reserved"),
        (&[0x00, 0x50], "size"),
    ] {
        match verify_closed(b"abcd", &Forge::with_header(header).last(b"abcd")) {
            Err(FrameError::FrameHeader(reason)) => assert!(reason.contains(wanted), "{reason}"),
            other => panic!("{other:?} instead of: {wanted}"),
        }
    }
}

#[test]
fn windows_up_to_eight_mebibytes() {
    // Window descriptor: exponent 5 bits (of 1 KiB), mantissa 3 bits (of eighths).
    let with_window = |byte| Forge::with_header(&[0x80, byte, 4, 0, 0, 0]).last(b"abcd");
    assert_eq!(verify_closed(b"abcd", &with_window(13 << 3)), Ok(()));
    let over = verify_closed(b"abcd", &with_window(13 << 3 | 1));
    assert_eq!(over, Err(FrameError::Window { window: 9 << 20, limit: 8 << 20 }));
    assert!(matches!(verify_closed(b"abcd", &with_window(0xff)), Err(FrameError::Window { .. })));
}

#[test]
fn lengths_that_lie() {
    let content_size = verify_closed(b"abcd", &Forge::new(5).last(b"abcde"));
    assert_eq!(content_size, Err(FrameError::ContentSize { declared: 5, raw_len: 4 }));
    assert!(matches!(
        verify_closed(b"abcd", &Forge::new(4).last(b"abc")),
        Err(FrameError::Decode(_))
    ));
    // A bomb: more comes out than was declared.
    let bomb = (0..20)
        .fold(Forge::new(200_000), |forge, _| forge.block(false, RLE, 131_072, &[0]))
        .last(b"");
    assert_block(verify_closed(&vec![0; 200_000], &bomb), "more than");
    let mut bomb = zstd::bulk::compress(&vec![0; 1 << 20], 3).unwrap();
    // Single segment with a content size of four bytes, as the forge writes it.
    assert_eq!(bomb[4], 0xa0);
    bomb[5..9].copy_from_slice(&200_000_u32.to_le_bytes());
    assert!(verify_closed(&vec![0; 200_000], &Forge(bomb)).is_err());
    let frame = open_frame();
    let header = header_of(&open_chunk(), &frame, &[SLOT]);
    assert_eq!(verify(&header, &frame[1..]), Err(FrameError::Length { declared: 58, actual: 57 }));
    let long = ChunkHeader { frame_len: 10_000, ..header };
    assert!(matches!(
        verify(&long, &vec![0; 10_000]),
        Err(FrameError::Header(HeaderError::FrameLen { .. }))
    ));
}

#[test]
fn blocks_that_are_empty_reserved_too_many_or_followed() {
    assert_block(verify_closed(b"abcd", &Forge::new(4).raw(b"").last(b"abcd")), "empty");
    assert_block(
        verify_closed(b"abcd", &Forge::new(4).raw(b"abcd").block(true, RLE, 0, b"x")),
        "empty",
    );
    for nothing in [
        &[][..],
        &[0],
        &[0, 0],
        &[1, 7, 0],
        &[4, 0, 0],
        &[12, 0, 0, 0],
        &[2, 0, 0, 0],
        &[3, 0, 0, 0],
    ] {
        let forge =
            Forge::new(4).raw(b"ab").block(false, COMPRESSED, nothing.len(), nothing).last(b"cd");
        assert_block(verify_closed(b"abcd", &forge), "empty");
    }
    assert_block(
        verify_closed(b"abcd", &Forge::new(4).block(true, RESERVED, 4, b"abcd")),
        "reserved",
    );
    assert_block(verify_closed(b"abcd", &Forge::new(4).raw(b"abcd")), "ends inside");
    assert_block(
        verify_closed(
            b"abcd",
            &Forge(Forge::new(4).last(b"abcd").0.into_iter().chain(*b"x").collect()),
        ),
        "follow",
    );
    let two = [Forge::new(4).last(b"abcd").0, Forge::new(4).last(b"abcd").0].concat();
    assert_block(verify_closed(b"abcd", &Forge(two)), "follow");
    let content = [7; 8192];
    let many =
        (0..8192).fold(Forge::new(8192), |forge, _| forge.block(false, RLE, 1, &[7])).last(b"");
    assert!(verify_closed(&content, &many).is_err());
    let tiny = (0..30).fold(Forge::new(30), |forge, _| forge.block(false, RLE, 1, &[7])).last(b"");
    assert_block(verify_closed(&[7; 30], &tiny), "more blocks");
    let large = Forge::new(200_000).block(true, RLE, 200_000, &[0]);
    assert_block(verify_closed(&vec![0; 200_000], &large), "larger");
}

#[test]
fn slots_elsewhere_than_in_a_raw_block_of_their_own() {
    let chunk = open_chunk();
    let frame = open_frame();
    for place in [SLOT - 1, SLOT + 1, 9, 12, 26] {
        let outcome = verify(&header_of(&chunk, &frame, &[place]), &frame);
        assert_eq!(outcome, Err(FrameError::SlotBlock(0)), "{place}");
    }
    let one_block = Forge::new(40).last(&chunk.bytes).0;
    assert_eq!(
        verify(&header_of(&chunk, &one_block, &[9 + 3 + 4]), &one_block),
        Err(FrameError::SlotBlock(0))
    );
    let longer = Forge::new(40).raw(b"head").raw(&chunk.bytes[4..37]).last(b"ail").0;
    assert_eq!(
        verify(&header_of(&chunk, &longer, &[SLOT]), &longer),
        Err(FrameError::SlotBlock(0))
    );
    let twice = Forge::new(40)
        .raw(b"head")
        .raw(&chunk.bytes[4..20])
        .raw(&chunk.bytes[20..36])
        .last(b"tail")
        .0;
    assert_eq!(verify(&header_of(&chunk, &twice, &[SLOT]), &twice), Err(FrameError::SlotBlock(0)));
}

#[test]
fn slots_at_other_places_in_the_chunk() {
    let frame = open_frame();
    for raw in [3, 5, 0, 8] {
        let chunk = Chunk { slots: vec![raw], ..open_chunk() };
        assert_eq!(
            verify(&header_of(&chunk, &frame, &[SLOT]), &frame),
            Err(FrameError::SlotPlace(0))
        );
    }
}

#[test]
fn one_slot_more_or_fewer_than_the_name_says() {
    let bytes = [b'0'; 64];
    let values = Numbers::new(1).hashes(2);
    let both = Chunk { bytes: bytes.to_vec(), slots: vec![0, 32], values };
    let frame = Forge::new(64).raw(&bytes[..32]).last(&bytes[32..]).0;
    let header = header_of(&both, &frame, &[12, 12 + 32 + 3]);
    assert_eq!(verify(&header, &frame), Ok(()));
    let fewer = ChunkHeader { slots: header.slots[..1].to_vec(), ..header.clone() };
    assert!(matches!(verify(&fewer, &frame), Err(FrameError::Name { .. })));
    let first_only = Chunk { slots: vec![0], ..both.clone() };
    let more = ChunkHeader { name: first_only.name(), ..header.clone() };
    assert!(matches!(verify(&more, &frame), Err(FrameError::Name { .. })));
    let closed = ChunkHeader { slots: vec![], ..header };
    assert!(matches!(verify(&closed, &frame), Err(FrameError::Name { .. })));
}

#[test]
fn slots_that_do_not_ascend_or_overlap() {
    let frame = open_frame();
    let header = header_of(&open_chunk(), &frame, &[SLOT]);
    for slots in [
        vec![Slot { raw: 4, frame: SLOT }; 2],
        vec![Slot { raw: 5, frame: SLOT }, Slot { raw: 4, frame: 0 }],
        vec![Slot { raw: 9, frame: SLOT }],
        vec![Slot { raw: u32::MAX, frame: SLOT }],
        vec![Slot { raw: 4, frame: u32::MAX - 3 }],
    ] {
        let outcome = verify(&ChunkHeader { slots, ..header.clone() }, &frame);
        assert!(
            matches!(outcome, Err(FrameError::Header(HeaderError::SlotBounds(_)))),
            "{outcome:?}"
        );
    }
}

/// Encodes head, slot filler and tail as zstd likes it, with a flush on either side of the slot.
fn compress(head: &[u8], filler: &[u8; 32], tail: &[u8]) -> (Vec<u8>, u32) {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(19)).unwrap();
    context.set_pledged_src_size(Some((head.len() + 32 + tail.len()) as u64)).unwrap();
    let mut frame = Vec::with_capacity(1000);
    let mut slot = 0;
    for piece in [head, filler, tail] {
        let at = frame.len();
        let mut output = OutBuffer::around_pos(&mut frame, at);
        context.compress_stream(&mut output, &mut InBuffer::around(piece)).unwrap();
        assert_eq!(context.flush_stream(&mut output).unwrap(), 0);
        if piece == filler {
            slot = u32::try_from(frame.len() - 32).unwrap();
        }
    }
    let at = frame.len();
    let mut output = OutBuffer::around_pos(&mut frame, at);
    assert_eq!(context.end_stream(&mut output).unwrap(), 0);
    (frame, slot)
}

#[test]
fn one_byte_that_depends_on_a_slot_is_found_whatever_the_entropy() {
    let mut numbers = Numbers::new(40);
    let head = numbers.bytes(60);
    let filler: [u8; 32] = numbers.bytes(32).try_into().unwrap();
    // The tail repeats the head and one byte of the filler, so that one match covers both.
    let other = Numbers::new(41).bytes(20);
    let tail = [&head[..], &filler[..1], &other].concat();
    let (frame, slot) = compress(&head, &filler, &tail);
    let bytes = [&head[..], &[b'0'; 32], &tail].concat();
    let chunk = Chunk { bytes, slots: vec![60], values: Numbers::new(1).hashes(1) };
    let header = header_of(&chunk, &frame, &[slot]);
    let mut verifier = FrameVerifier::new();
    for attempt in 0..2000_u32 {
        let entropy = blake3::hash(&attempt.to_le_bytes());
        assert_eq!(
            verifier.verify(&header, &frame, entropy.as_bytes()),
            Err(FrameError::DependsOnSlots)
        );
    }
    // The same bytes made by the encoder are fine.
    FrameEncoder::new(19).encode(&chunk, &chunk.name()).unwrap();
}

#[test]
fn a_frame_under_another_name() {
    let frame = open_frame();
    let header = ChunkHeader {
        name: ChunkName::from_bytes([0; 32]),
        ..header_of(&open_chunk(), &frame, &[SLOT])
    };
    assert!(matches!(verify(&header, &frame), Err(FrameError::Name { .. })));
}

#[test]
fn a_verifier_is_as_good_after_a_refusal_as_before() {
    let chunk = one_chunk(&Numbers::new(42).text(20_000, 500));
    let good = FrameEncoder::new(3).encode(&chunk, &chunk.name()).unwrap();
    let mut bad = good.clone();
    let middle = bad.frame.len() / 2;
    bad.frame[middle..].fill(0xff);
    let mut verifier = FrameVerifier::new();
    for _ in 0..3 {
        assert!(verifier.verify(&bad.header, &bad.frame, &[1; 32]).is_err());
        assert_eq!(verifier.verify(&good.header, &good.frame, &[1; 32]), Ok(()));
    }
}

//! Packs, bundles, manifests and receipts: round trips, and whatever else may come in.

use proptest::prelude::*;
use snowbank_core::{
    bundle::{BundleError, BundleReader, BundleWriter, MAX_BUNDLE_ENTRIES},
    chunk::{Chunk, ChunkName, MAX_CHUNK_RAW_LEN},
    frame::{ChunkHeader, EncodedChunk, FrameEncoder, Slot},
    manifest::{
        ContentDigester, MAX_MANIFEST_BYTES, ManifestError, SEGMENT_CHUNKS, SEGMENT_SLOTS, Segment,
        SegmentBuilder, SegmentEntry, WireManifest,
    },
    pack::{
        FOOTER_LEN, Footer, HEAD_LEN, MAX_PACK_BYTES, PackError, PackIndex, PackKey, PackWriter,
        Record, RecordSpan, rekey,
    },
    store_path::StorePathHash,
};

use crate::sample::{Numbers, SMALL, cut};

const KEY: PackKey = PackKey::from_bytes([0xab; 16]);

fn encoded(seed: u64, len: usize) -> Vec<EncodedChunk> {
    let mut encoder = FrameEncoder::new(3);
    let chunks = cut(&Numbers::new(seed).text(len, 400), SMALL);
    chunks.iter().map(|chunk| encoder.encode(chunk, &chunk.name()).unwrap()).collect()
}

fn pack(chunks: &[EncodedChunk]) -> (Vec<u8>, Vec<RecordSpan>) {
    let mut writer = PackWriter::new(7, KEY);
    let mut spans = Vec::new();
    for (index, EncodedChunk { header, frame }) in chunks.iter().enumerate() {
        let expected = writer.bytes_if_added(header);
        spans.push(writer.add(1000 + index as u64, header, frame).unwrap());
        assert_eq!(writer.len(), expected);
    }
    let len = writer.len();
    let bytes = writer.finish();
    assert_eq!(bytes.len(), len);
    (bytes, spans)
}

/// A header and frame of the wanted lengths, whose bytes mean nothing.
fn dummy(raw_len: u32, frame_len: u32) -> (ChunkHeader, Vec<u8>) {
    let header =
        ChunkHeader { name: ChunkName::from_bytes([5; 32]), raw_len, frame_len, slots: vec![] };
    (header, vec![0; frame_len as usize])
}

#[test]
fn a_pack_gives_back_its_records_and_its_index() {
    let chunks = encoded(50, 40_000);
    let (bytes, spans) = pack(&chunks);
    let index = PackIndex::parse(&bytes).unwrap();
    assert_eq!((index.domain, index.key, index.entries.len()), (7, KEY, chunks.len()));
    for (number, (entry, chunk)) in index.entries.iter().zip(&chunks).enumerate() {
        assert_eq!(
            (entry.id, entry.span, &entry.header),
            (1000 + number as u64, spans[number], &chunk.header)
        );
        let span = &bytes[entry.span.offset as usize..usize::try_from(entry.span.end()).unwrap()];
        let record = Record::parse(span).unwrap();
        assert_eq!(
            (record.id, &record.header, record.frame),
            (entry.id, &chunk.header, &chunk.frame[..])
        );
        assert_eq!(&span[record.frame_range], chunk.frame);
        assert_eq!(
            Record::parse_prefix(&bytes[entry.span.offset as usize..]).unwrap().1,
            span.len()
        );
        assert!(Record::parse(&span[..span.len() - 1]).is_err());
    }
}

#[test]
fn a_pack_is_read_by_its_ends_alone() {
    let (bytes, _) = pack(&encoded(51, 10_000));
    let footer = Footer::parse(bytes.last_chunk::<FOOTER_LEN>().unwrap()).unwrap();
    assert_eq!(footer.pack_len(), bytes.len() as u64);
    let table = &bytes[footer.table_offset as usize..][..footer.table_len as usize];
    let index =
        PackIndex::parse_parts(bytes.first_chunk::<HEAD_LEN>().unwrap(), table, &footer).unwrap();
    assert_eq!(index, PackIndex::parse(&bytes).unwrap());
}

#[test]
fn an_empty_pack_is_one() {
    let (bytes, _) = pack(&[]);
    assert_eq!(bytes.len(), HEAD_LEN + FOOTER_LEN);
    assert_eq!(PackIndex::parse(&bytes).unwrap().entries, []);
}

#[test]
fn a_pack_takes_no_more_than_its_limit() {
    let mut writer = PackWriter::new(1, KEY);
    let (header, frame) = dummy(MAX_CHUNK_RAW_LEN, MAX_CHUNK_RAW_LEN);
    for id in 0..3 {
        writer.add(id, &header, &frame).unwrap();
    }
    let before = writer.len();
    assert!(matches!(writer.add(3, &header, &frame), Err(PackError::Full { .. })));
    assert_eq!(writer.len(), before);
    let rest = u32::try_from(MAX_PACK_BYTES - before - 2 * header.encoded_len() - 16 - 12).unwrap();
    let (header, frame) = dummy(MAX_CHUNK_RAW_LEN, rest);
    writer.add(3, &header, &frame).unwrap();
    let bytes = writer.finish();
    assert_eq!(bytes.len(), MAX_PACK_BYTES);
    assert_eq!(PackIndex::parse(&bytes).unwrap().entries.len(), 4);
}

#[test]
fn a_pack_with_another_key_is_the_same_pack() {
    let (bytes, _) = pack(&encoded(54, 5000));
    let other = PackKey::from_bytes([0x17; 16]);
    let mut changed = bytes.clone();
    rekey(&mut changed, other).unwrap();
    let index = PackIndex::parse(&changed).unwrap();
    assert_eq!(index, PackIndex { key: other, ..PackIndex::parse(&bytes).unwrap() });
    rekey(&mut changed, KEY).unwrap();
    assert_eq!(changed, bytes);
    for len in 0..bytes.len() {
        let mut part = bytes[..len].to_vec();
        assert!(rekey(&mut part, other).is_err());
        assert_eq!(part, bytes[..len], "what is no pack stays as it is");
    }
    let mut damaged = bytes;
    damaged[HEAD_LEN - 1] ^= 1;
    assert_eq!(rekey(&mut damaged, other), Err(PackError::Table), "damage is not covered up");
}

#[test]
fn every_flipped_bit_of_a_pack_is_noticed() {
    let (bytes, spans) = pack(&encoded(52, 3000));
    let records = spans[0].offset as usize..usize::try_from(spans.last().unwrap().end()).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        if records.contains(&at) {
            let span = spans.iter().find(|span| (at as u64) < span.end()).unwrap();
            let record = &damaged[span.offset as usize..usize::try_from(span.end()).unwrap()];
            assert!(Record::parse(record).is_err(), "record byte {at}");
        } else {
            assert!(PackIndex::parse(&damaged).is_err(), "byte {at}");
        }
    }
    for len in 0..bytes.len() {
        assert!(PackIndex::parse(&bytes[..len]).is_err());
    }
}

#[test]
fn pack_keys_are_hex() {
    assert_eq!(KEY.to_string(), "ab".repeat(16));
    assert_eq!(KEY.to_string().parse(), Ok(KEY));
    for text in ["", "AB", &"AB".repeat(16), &"a".repeat(31), &"+".repeat(32), &"ü".repeat(16)] {
        assert!(text.parse::<PackKey>().is_err());
    }
}

fn read_bundle(bytes: &[u8], step: usize) -> Result<Vec<EncodedChunk>, BundleError> {
    let mut reader = BundleReader::new();
    let mut chunks = Vec::new();
    for piece in bytes.chunks(step) {
        reader.feed(piece);
        while let Some((header, frame)) = reader.next()? {
            chunks.push(EncodedChunk { header, frame });
        }
    }
    reader.finish()?;
    Ok(chunks)
}

#[test]
fn a_bundle_comes_back_however_it_arrives() {
    let chunks = encoded(53, 30_000);
    let mut writer = BundleWriter::new();
    for EncodedChunk { header, frame } in &chunks {
        assert!(writer.fits(header));
        writer.add(header, frame);
    }
    assert_eq!(writer.entries(), chunks.len());
    let bytes = writer.finish();
    for step in [1, 7, 1000, 1 << 20] {
        assert_eq!(read_bundle(&bytes, step), Ok(chunks.clone()));
    }
    let last = chunks.len() - 1;
    assert_eq!(
        read_bundle(&bytes[..bytes.len() - 1], 100),
        Err(BundleError::Truncated { index: last })
    );
    assert_eq!(
        read_bundle(&[&bytes[..], b"x"].concat(), 100),
        Err(BundleError::Truncated { index: last + 1 })
    );
    assert_eq!(read_bundle(b"", 1), Ok(vec![]));
}

#[test]
fn a_bundle_stops_at_each_limit() {
    for (raw_len, frame_len, limit, accepted) in [
        (1, 10, BundleError::Entries, MAX_BUNDLE_ENTRIES),
        (MAX_CHUNK_RAW_LEN, 10, BundleError::RawBytes, 128),
        (MAX_CHUNK_RAW_LEN, 3 << 20, BundleError::Bytes, 5),
    ] {
        let (header, frame) = dummy(raw_len, frame_len);
        let mut writer = BundleWriter::new();
        while writer.fits(&header) {
            writer.add(&header, &frame);
        }
        assert_eq!(writer.entries(), accepted);
        writer.add(&header, &frame);
        assert_eq!(read_bundle(&writer.finish(), 1 << 20), Err(limit));
    }
}

#[test]
fn a_wire_manifest_above_a_limit_is_refused() {
    let many =
        WireManifest { names: vec![], values: vec![StorePathHash::from_bytes([1; 20]); 2_000_001] };
    assert_eq!(WireManifest::decode(&many.encode()), Err(ManifestError::Entries(2_000_001)));
    let large = vec![1; MAX_MANIFEST_BYTES + 1];
    assert_eq!(WireManifest::decode(&large), Err(ManifestError::Bytes(large.len())));
    assert_eq!(WireManifest::decode(&[2, 0, 0, 0]), Err(ManifestError::Version(2)));
    // No chunk is empty, and each slot has 32 bytes of its own.
    let names = vec![ChunkName::from_bytes([1; 32]), ChunkName::from_bytes([2; 32])];
    let fits = WireManifest { names, values: many.values[..3].to_vec() };
    assert_eq!(WireManifest::decode_for(&fits.encode(), 96).as_ref(), Ok(&fits));
    assert_eq!(WireManifest::decode_for(&fits.encode(), 95), Err(ManifestError::Room(95)));
    let chunks = WireManifest { values: Vec::new(), ..fits };
    assert_eq!(WireManifest::decode_for(&chunks.encode(), 2).as_ref(), Ok(&chunks));
    assert_eq!(WireManifest::decode_for(&chunks.encode(), 1), Err(ManifestError::Room(1)));
    // Counts that the bytes behind them cannot hold.
    for bytes in
        [&[1, 0xff, 0xff, 0xff, 0x7f, 0, 0][..], &[1, 0, 100, 1], &[1, 0, 3, 100, 1, 2], &[1]]
    {
        assert_eq!(WireManifest::decode(bytes), Err(ManifestError::Truncated));
    }
}

#[test]
fn a_manifest_has_one_form() {
    let table = |first: u8, second: u8| [[first; 20], [second; 20]].concat();
    let with =
        |values: &[u8], table: Vec<u8>, indexes: &[u8]| [&[1, 0], values, &table, indexes].concat();
    assert!(WireManifest::decode(&with(&[3, 2], table(8, 9), &[0, 1, 0])).is_ok());
    for bytes in [
        with(&[3, 2], table(8, 9), &[1, 0, 0]),
        with(&[3, 2], table(8, 8), &[0, 1, 0]),
        with(&[3, 2], table(8, 9), &[0, 0, 0]),
        with(&[3, 2], table(8, 9), &[0, 1, 2]),
        with(&[3, 2], table(8, 9), &[0, 1, 0, 0]),
        with(&[3, 2], table(8, 9), &[0, 1, 0x80, 0]),
    ] {
        assert!(matches!(WireManifest::decode(&bytes), Err(ManifestError::NotCanonical(_))));
    }
}

#[test]
fn segments_are_full_and_follow_one_another() {
    let mut numbers = Numbers::new(60);
    let pool = numbers.hashes(50);
    let mut builder = SegmentBuilder::new();
    let (mut segments, mut entries, mut values) = (vec![], vec![], vec![]);
    for index in 0..5000_u64 {
        let slots = if index == 2500 { 20_000 } else { numbers.below(30) };
        let here: Vec<_> = (0..slots).map(|_| pool[numbers.below(pool.len())]).collect();
        let id = if index % 97 == 0 { numbers.below(1 << 30) as u64 } else { index };
        let entry = SegmentEntry {
            id,
            raw_len: 100_000,
            frame_len: 30_000,
            slots: u32::try_from(slots).unwrap(),
        };
        segments.extend(builder.push(entry, &here));
        entries.push(entry);
        values.extend(here);
    }
    segments.extend(builder.finish());
    let (mut raw, mut stored) = (0, 0);
    for segment in &segments {
        assert_eq!((segment.first_raw, segment.first_stored), (raw, stored));
        assert!(segment.entries.len() <= SEGMENT_CHUNKS);
        assert!(segment.values.len() <= SEGMENT_SLOTS || segment.entries.len() == 1);
        assert_eq!(Segment::decode(&segment.encode()).as_ref(), Ok(segment));
        (raw, stored) = (segment.end_raw(), segment.end_stored());
    }
    assert!(
        segments.iter().map(|segment| segment.encode().len()).sum::<usize>()
            < 5000 * 9 + values.len() * 2
    );
    assert_eq!(
        segments.iter().flat_map(|segment| segment.entries.clone()).collect::<Vec<_>>(),
        entries
    );
    assert_eq!(
        segments.iter().flat_map(|segment| segment.values.clone()).collect::<Vec<_>>(),
        values
    );
    assert!(SegmentBuilder::new().finish().is_none());
}

#[test]
fn the_content_digest_takes_names_and_values_in_turns() {
    let mut numbers = Numbers::new(61);
    let names: Vec<_> =
        (0..20).map(|_| ChunkName::from_bytes(numbers.bytes(32).try_into().unwrap())).collect();
    let manifest = WireManifest { names, values: numbers.hashes(20) };
    let mut digester = ContentDigester::new();
    for (name, value) in manifest.names.iter().zip(&manifest.values) {
        digester.value(value);
        digester.name(name);
    }
    assert_eq!(digester.finish(), manifest.content_digest());
    let fewer = WireManifest { values: manifest.values[1..].to_vec(), ..manifest.clone() };
    assert_ne!(fewer.content_digest(), manifest.content_digest());
}

fn wire_manifest() -> impl Strategy<Value = WireManifest> {
    let names = proptest::collection::vec(any::<[u8; 32]>().prop_map(ChunkName::from_bytes), 0..40);
    (names, values(0..300)).prop_map(|(names, values)| WireManifest { names, values })
}

fn values(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<StorePathHash>> {
    let value = prop_oneof![
        (0_u8..10).prop_map(|byte| StorePathHash::from_bytes([byte; 20])),
        any::<[u8; 20]>().prop_map(StorePathHash::from_bytes)
    ];
    proptest::collection::vec(value, count)
}

fn segment() -> impl Strategy<Value = Segment> {
    let id = prop_oneof![0_u64..20, any::<u64>(), Just(u64::MAX), Just(0)];
    let runs = proptest::collection::vec((id, 1_u64..20), 0..12);
    (runs, any::<u32>(), any::<u32>(), values(0..100)).prop_map(
        |(runs, first_raw, first_stored, values)| {
            let ids = runs
                .iter()
                .flat_map(|&(first, len)| (0..len).map(move |step| first.wrapping_add(step)));
            let mut left = u32::try_from(values.len()).unwrap();
            let mut entries: Vec<_> = ids
                .map(|id| {
                    let slots = left.min(u32::try_from(id % 7).unwrap());
                    left -= slots;
                    SegmentEntry { id, raw_len: 1 + slots * 100, frame_len: 9 + slots, slots }
                })
                .collect();
            let values = if let Some(last) = entries.last_mut() {
                last.slots += left;
                values
            } else {
                vec![]
            };
            Segment {
                first_raw: first_raw.into(),
                first_stored: first_stored.into(),
                entries,
                values,
            }
        },
    )
}

proptest! {
    #[test]
    fn wire_manifests_round_trip(manifest in wire_manifest()) {
        prop_assert_eq!(WireManifest::decode(&manifest.encode()), Ok(manifest));
    }

    #[test]
    fn segments_round_trip(segment in segment()) {
        prop_assert_eq!(Segment::decode(&segment.encode()), Ok(segment));
    }

    #[test]
    fn mutated_manifests_are_refused_or_canonical(
        manifest in wire_manifest(),
        segment in segment(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut bytes = manifest.encode();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        if let Ok(decoded) = WireManifest::decode(&bytes) {
            prop_assert_eq!(decoded.encode(), bytes);
        }
        let mut bytes = segment.encode();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        if let Ok(decoded) = Segment::decode(&bytes) {
            prop_assert_eq!(decoded.encode(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, step in 1_usize..100) {
        let versioned = [&[1], &bytes[..]].concat();
        let _ = WireManifest::decode(&versioned);
        let _ = Segment::decode(&versioned);
        let _ = Record::parse(&bytes);
        let _ = PackIndex::parse(&bytes);
        let _ = PackIndex::parse(&[&bytes[..], &[0; 44], &[1, 0, 0, 0], b"SNOWTAIL"].concat());
        let _ = read_bundle(&bytes, step);
    }

    #[test]
    fn mutated_packs_never_panic(
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let chunk = Chunk::closed(b"some bytes".to_vec());
        let encoded = FrameEncoder::new(3).encode(&chunk, &chunk.name()).unwrap();
        let (mut bytes, _) = pack(&[encoded.clone(), encoded]);
        for (at, byte) in mutations {
            let place = at.index(bytes.len());
            bytes[place] ^= byte;
        }
        let _ = PackIndex::parse(&bytes);
        for at in 0..bytes.len() {
            let _ = Record::parse_prefix(&bytes[at..]);
        }
    }

    #[test]
    fn records_of_any_header_round_trip(
        id: u64,
        name: [u8; 32],
        gaps in proptest::collection::vec(0_u32..200, 0..50),
    ) {
        let mut end = 0;
        let slots: Vec<_> = gaps
            .iter()
            .map(|gap| {
                let slot = Slot { raw: end + gap, frame: end + gap };
                end = slot.raw + 32;
                slot
            })
            .collect();
        let name = ChunkName::from_bytes(name);
        let header = ChunkHeader { name, raw_len: end + 1, frame_len: end + 1, slots };
        let frame = vec![3; header.frame_len as usize];
        let mut writer = PackWriter::new(1, KEY);
        let span = writer.add(id, &header, &frame).unwrap();
        let bytes = writer.finish();
        let record =
            Record::parse(&bytes[span.offset as usize..][..span.len as usize]).unwrap();
        prop_assert_eq!((record.id, record.header, record.frame), (id, header, &frame[..]));
    }
}

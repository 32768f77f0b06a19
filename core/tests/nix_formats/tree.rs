//! A tree of files in memory, to and from NAR by way of the crate's encoder and decoder.

use std::collections::BTreeMap;

use proptest::prelude::*;
use snowbank_core::nar::decode::{Decoder, Event, NarError};
use snowbank_core::nar::encode;

/// What a NAR can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Regular { executable: bool, contents: Vec<u8> },
    Symlink(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Node>),
}

impl Node {
    pub fn file(contents: &str) -> Self {
        Self::Regular { executable: false, contents: contents.into() }
    }

    pub fn executable(contents: &str) -> Self {
        Self::Regular { executable: true, contents: contents.into() }
    }

    pub fn symlink(target: &[u8]) -> Self {
        Self::Symlink(target.to_vec())
    }

    pub fn directory<const N: usize>(entries: [(&[u8], Self); N]) -> Self {
        Self::Directory(entries.into_iter().map(|(name, node)| (name.to_vec(), node)).collect())
    }

    /// The NAR of this node.
    pub fn to_nar(&self) -> Vec<u8> {
        let mut out = Vec::new();
        encode::magic(&mut out);
        self.encode(&mut out);
        out
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Regular { executable, contents } => {
                encode::regular_start(out, *executable, contents.len() as u64);
                out.extend_from_slice(contents);
                encode::regular_end(out, contents.len() as u64);
            }
            Self::Symlink(target) => encode::symlink(out, target),
            Self::Directory(entries) => {
                encode::directory_start(out);
                for (name, node) in entries {
                    encode::entry_start(out, name);
                    node.encode(out);
                    encode::entry_end(out);
                }
                encode::directory_end(out);
            }
        }
    }

    /// The size of this node's NAR, by the encoder's own account.
    pub fn nar_len(&self) -> u64 {
        encode::MAGIC_LEN + self.len()
    }

    fn len(&self) -> u64 {
        match self {
            Self::Regular { executable, contents } => {
                encode::regular_len(*executable, contents.len() as u64)
            }
            Self::Symlink(target) => encode::symlink_len(target.len() as u64),
            Self::Directory(entries) => {
                let entry = |(name, node): (&Vec<u8>, &Self)| {
                    encode::entry_len(name.len() as u64) + node.len()
                };
                encode::DIRECTORY_LEN + entries.iter().map(entry).sum::<u64>()
            }
        }
    }

    /// Reads a NAR.
    pub fn from_nar(bytes: &[u8]) -> Result<Self, NarError> {
        let (log, result) = decode([bytes]);
        result?;
        let mut steps = log.into_iter();
        Ok(Self::build(&mut steps))
    }

    fn build(steps: &mut impl Iterator<Item = Step>) -> Self {
        match steps.next().unwrap() {
            Step::Symlink(target) => Self::Symlink(target),
            Step::Regular { executable, size } => {
                let contents = match steps.next().unwrap() {
                    Step::Data(contents) => {
                        assert_eq!(steps.next(), Some(Step::RegularEnd));
                        contents
                    }
                    end => {
                        assert_eq!(end, Step::RegularEnd);
                        Vec::new()
                    }
                };
                assert_eq!(contents.len() as u64, size);
                Self::Regular { executable, contents }
            }
            Step::Directory => {
                let mut entries = BTreeMap::new();
                loop {
                    match steps.next().unwrap() {
                        Step::Entry(name) => {
                            assert_eq!(entries.insert(name, Self::build(steps)), None);
                            assert_eq!(steps.next(), Some(Step::EntryEnd));
                        }
                        end => {
                            assert_eq!(end, Step::DirectoryEnd);
                            break Self::Directory(entries);
                        }
                    }
                }
            }
            step => panic!("{step:?} is not the beginning of a node"),
        }
    }
}

/// An [`Event`] that owns its bytes; neighbouring pieces of data are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Directory,
    Entry(Vec<u8>),
    Regular { executable: bool, size: u64 },
    Data(Vec<u8>),
    RegularEnd,
    Symlink(Vec<u8>),
    EntryEnd,
    DirectoryEnd,
}

/// What the decoder says to a NAR that comes in these pieces.
pub fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Step>, Result<(), NarError>) {
    let mut log: Vec<Step> = Vec::new();
    let mut on_event = |event: Event<'_>| {
        let step = match event {
            Event::Directory => Step::Directory,
            Event::Entry { name } => Step::Entry(name.to_vec()),
            Event::Regular { executable, size } => Step::Regular { executable, size },
            Event::Data(data) => Step::Data(data.to_vec()),
            Event::RegularEnd => Step::RegularEnd,
            Event::Symlink { target } => Step::Symlink(target.to_vec()),
            Event::EntryEnd => Step::EntryEnd,
            Event::DirectoryEnd => Step::DirectoryEnd,
        };
        assert_ne!(step, Step::Data(Vec::new()));
        match (log.last_mut(), step) {
            (Some(Step::Data(before)), Step::Data(data)) => before.extend(data),
            (_, step) => log.push(step),
        }
    };
    let mut decoder = Decoder::new();
    let result = pieces.into_iter().try_for_each(|piece| decoder.feed(piece, &mut on_event));
    let complete = decoder.is_complete();
    let finished = decoder.finish();
    if result.is_err() {
        assert_eq!(result, finished, "an error stays");
    }
    assert_eq!(finished.is_ok(), complete);
    (log, finished)
}

/// Any name that a file can have, short ones mostly, so that some are alike.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        8 => prop::collection::vec(any::<u8>().prop_filter("no file has \
            it", |byte| !matches!(byte, b'/' | 0)), 1..5),
        1 => (1_usize..=255).prop_map(|len| vec![b'n'; len]),
    ];
    name.prop_filter("names of directories", |name| !matches!(name.as_slice(), b"." | b".."))
}

/// Any tree, of a few dozen nodes at most.
pub fn node() -> impl Strategy<Value = Node> {
    let contents = || prop::collection::vec(any::<u8>(), 0..40);
    let target =
        prop_oneof![1_usize..20, Just(4_095)].prop_map(|len| Node::Symlink(vec![b't'; len]));
    let leaf = prop_oneof![
        4 => (any::<bool>(), contents())
            .prop_map(|(executable, contents)| Node::Regular { executable, contents }),
        1 => target,
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop::collection::btree_map(name(), inner, 0..6).prop_map(Node::Directory)
    })
}

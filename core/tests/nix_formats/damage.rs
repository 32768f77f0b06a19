//! Ways to damage bytes: the small changes that find what a parser takes for granted.

use proptest::prelude::*;
use proptest::sample::Index;

/// One change of a byte string.
#[derive(Clone, Debug)]
pub enum Damage {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Truncate(Index),
    Append(Vec<u8>),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |index: &Index| index.index(bytes.len() + 1);
        match self {
            Self::Flip(index, bit) => {
                let at = place(index);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << (bit % 8));
            }
            Self::Set(index, value) => {
                let at = place(index);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = *value);
            }
            Self::Insert(index, inserted) => {
                let at = place(index);
                bytes.splice(at..at, inserted.iter().copied());
            }
            Self::Remove(index, len) => {
                let at = place(index);
                let end = bytes.len().min(at + len);
                bytes.drain(at..end);
            }
            Self::Repeat(index, len) => {
                let at = place(index);
                let end = bytes.len().min(at + len);
                let repeated = bytes[at..end].to_vec();
                bytes.splice(at..at, repeated);
            }
            Self::Truncate(index) => bytes.truncate(place(index)),
            Self::Append(appended) => bytes.extend_from_slice(appended),
        }
    }
}

/// `bytes` after each of the changes in turn.
pub fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        damage.apply(&mut bytes);
    }
    bytes
}

/// One to three changes.
pub fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let len = prop_oneof![Just(8_usize), Just(16), 1_usize..200];
    let bytes = prop::collection::vec(any::<u8>(), 1..20);
    let damage = prop_oneof![
        3 => (any::<Index>(), any::<u8>()).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Damage::Set(at, value)),
        1 => (any::<Index>(), bytes.clone())
            .prop_map(|(at, inserted)| Damage::Insert(at, inserted)),
        2 => (any::<Index>(), len.clone()).prop_map(|(at, len)| Damage::Remove(at, len)),
        2 => (any::<Index>(), len).prop_map(|(at, len)| Damage::Repeat(at, len)),
        1 => any::<Index>().prop_map(Damage::Truncate),
        1 => bytes.prop_map(Damage::Append),
    ];
    prop::collection::vec(damage, 1..4)
}

//! Slot values as both manifests hold them: a table of the distinct ones in order of first
//! appearance, then for each slot its index in the table.
//!
//! ```text
//! values varint | distinct varint | distinct × 20 bytes | values × varint
//! ```

use std::collections::{HashMap, HashSet};

use super::{ManifestError, read::Fields};
use crate::{store_path::StorePathHash, varint};

pub(super) fn encode(out: &mut Vec<u8>, values: &[StorePathHash]) {
    let mut table = Vec::new();
    let mut places = HashMap::new();
    let mut indexes = Vec::with_capacity(values.len());
    for value in values {
        let index = *places.entry(*value).or_insert_with(|| {
            table.extend_from_slice(value.as_bytes());
            table.len() as u64 / 20 - 1
        });
        varint::put(&mut indexes, index);
    }
    varint::put(out, values.len() as u64);
    varint::put(out, places.len() as u64);
    out.extend_from_slice(&table);
    out.extend_from_slice(&indexes);
}

pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Vec<StorePathHash>, ManifestError> {
    let count = fields.count(1)?;
    let distinct = fields.count(20)?;
    let table = fields.arrays::<20>(distinct)?;
    if table.iter().collect::<HashSet<_>>().len() != distinct {
        return Err(ManifestError::NotCanonical("a slot value is in the table twice"));
    }
    if count > fields.0.len() {
        return Err(ManifestError::Truncated);
    }
    let mut values = Vec::with_capacity(count);
    let mut known = 0;
    for _ in 0..count {
        let index = usize::try_from(fields.varint()?).unwrap_or(usize::MAX);
        let value = table.get(index).filter(|_| index <= known);
        let value = value
            .ok_or(ManifestError::NotCanonical("slot values are not in order of appearance"))?;
        known += usize::from(index == known);
        values.push(StorePathHash::from_bytes(*value));
    }
    if known == distinct {
        Ok(values)
    } else {
        Err(ManifestError::NotCanonical("a slot value is never used"))
    }
}

//! Values and rows apart from either engine, and the digest that compares two databases.

/// A column's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Int(_) => 8,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
        }
    }

    /// One way to write it as bytes, the same for both engines, that no other value has.
    fn hash_into(&self, hasher: &mut blake3::Hasher) {
        let (tag, bytes) = match self {
            Self::Null => (0, &[][..]),
            Self::Int(number) => (1, &number.to_le_bytes()[..]),
            Self::Text(text) => (2, text.as_bytes()),
            Self::Blob(bytes) => (3, &bytes[..]),
        };
        hasher.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }
}

/// A row: a value per column.
pub type Row = Vec<Value>;

/// How many rows a table has, and BLAKE3 over all of them in the order of their keys.
#[derive(Debug, Default, Clone)]
pub struct Digest {
    /// Rows.
    pub rows: u64,
    hasher: Box<blake3::Hasher>,
}

impl Digest {
    /// Takes in a row.
    pub fn add(&mut self, row: &[Value]) {
        self.rows += 1;
        for value in row {
            value.hash_into(&mut self.hasher);
        }
    }

    /// The checksum of what was taken in.
    #[must_use]
    pub fn checksum(&self) -> blake3::Hash {
        self.hasher.finalize()
    }
}

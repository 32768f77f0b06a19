//! The directories that a decoder is in, and the order of names in each. A name is taken once it is
//! known to stay in its directory and to be above the one before it.

use super::MAX_DEPTH;
use super::error::NarErrorKind;
use crate::hash::excerpt;

/// The last name in each open directory, one behind the other.
#[derive(Debug)]
pub(super) struct Directories {
    names: Vec<u8>,
    /// Where in `names` each directory's last name begins; it ends where the next begins.
    starts: Vec<usize>,
}

impl Directories {
    pub(super) const fn new() -> Self {
        Self { names: Vec::new(), starts: Vec::new() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub(super) fn enter(&mut self) -> Result<(), NarErrorKind> {
        if self.starts.len() == MAX_DEPTH {
            return Err(NarErrorKind::TooDeep);
        }
        self.starts.push(self.names.len());
        Ok(())
    }

    /// Makes `name` the innermost directory's last, if it is above the one before.
    pub(super) fn advance(&mut self, name: &[u8]) -> Result<(), NarErrorKind> {
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return Err(NarErrorKind::BadName(lossy(name)));
        }
        let start = self.starts.last().copied().unwrap_or_default();
        if name <= &self.names[start..] {
            return Err(NarErrorKind::Unsorted(lossy(name)));
        }
        self.names.truncate(start);
        self.names.extend_from_slice(name);
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        if let Some(start) = self.starts.pop() {
            self.names.truncate(start);
        }
    }
}

fn lossy(name: &[u8]) -> String {
    excerpt(&String::from_utf8_lossy(name))
}

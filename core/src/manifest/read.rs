//! Reading fields off the front of an encoded manifest.

use super::ManifestError;
use crate::varint::{self, VarintError};

/// What is left to read.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], ManifestError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(ManifestError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// `count` pieces of `N` bytes.
    pub(super) fn arrays<const N: usize>(
        &mut self,
        count: usize,
    ) -> Result<&'a [[u8; N]], ManifestError> {
        let len = count.checked_mul(N).ok_or(ManifestError::Truncated)?;
        Ok(self.bytes(len)?.as_chunks().0)
    }

    pub(super) fn version(&mut self, known: u8) -> Result<(), ManifestError> {
        match self.bytes(1)? {
            [version] if *version == known => Ok(()),
            other => Err(ManifestError::Version(other.first().copied().unwrap_or(0))),
        }
    }

    pub(super) fn varint(&mut self) -> Result<u64, ManifestError> {
        varint::take(&mut self.0).map_err(|error| match error {
            VarintError::Truncated => ManifestError::Truncated,
            VarintError::NotCanonical => {
                ManifestError::NotCanonical("a number is not in its shortest form")
            }
        })
    }

    pub(super) fn varint_u32(&mut self) -> Result<u32, ManifestError> {
        u32::try_from(self.varint()?)
            .map_err(|_| ManifestError::NotCanonical("a number is above 32 bits"))
    }

    /// A count of things of at least `each` bytes, all of which are yet to be read.
    pub(super) fn count(&mut self, each: usize) -> Result<usize, ManifestError> {
        let count = usize::try_from(self.varint()?).map_err(|_| ManifestError::Truncated)?;
        if count.checked_mul(each).is_some_and(|len| len <= self.0.len()) {
            Ok(count)
        } else {
            Err(ManifestError::Truncated)
        }
    }

    pub(super) const fn end(&self) -> Result<(), ManifestError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ManifestError::NotCanonical("bytes follow its end"))
        }
    }
}

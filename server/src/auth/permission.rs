//! What a token can allow on a cache.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Something that a token can allow on a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Reading a private cache.
    Pull,
    /// Adding paths.
    Push,
    /// Taking paths out of sight.
    Delete,
    /// Changing a cache's settings, name and keys, and destroying it.
    Configure,
    /// Creating a cache of that name.
    Create,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Pull, Self::Push, Self::Delete, Self::Configure, Self::Create];

    /// The permission's name, as in a token.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::Configure => "configure",
            Self::Create => "create",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no permission of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a permission; there are `pull`, `push`, `delete`, `configure` and `create`")]
pub struct UnknownPermission;

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|permission| permission.as_str() == text)
            .ok_or(UnknownPermission)
    }
}

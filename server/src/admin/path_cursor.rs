//! How a listing goes through a cache's paths: in the order in which they were pushed, or, for a
//! pattern that begins with a literal text, through the names that begin so and then through the
//! hash parts that do.
//!
//! A cursor is where an answer ended. Clients give it back as they got it; one that nobody was
//! given leads to some page of the same cache.

use std::fmt;
use std::str::FromStr;

use snowbank_core::pattern::{fits, literal_prefix};
use snowbank_core::store_path::StorePathHash;

use super::AdminError;
use crate::db::caches::CacheId;
use crate::db::path_pages::{self, PathKey};
use crate::db::paths::PathId;
use crate::db::{DbError, Exec};

const HASH_CHARS: usize = 32;
/// Longer than Nix lets a name be.
const MAX_NAME_CHARS: usize = 250;

/// Where a listing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathCursor {
    /// Behind the path with this id, in the order of ids.
    Pushed(PathId),
    /// Behind the path with this name and id, in the order of names.
    Named(String, PathId),
    /// Behind this hash part, in the order of hash parts.
    Hashed(String),
}

impl fmt::Display for PathCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pushed(id) => id.fmt(f),
            Self::Named(name, id) => write!(f, "n.{id}.{name}"),
            Self::Hashed(hash) => write!(f, "h.{hash}"),
        }
    }
}

impl FromStr for PathCursor {
    type Err = AdminError;

    fn from_str(text: &str) -> Result<Self, AdminError> {
        let parse = || match text.split_once('.') {
            None => Some(Self::Pushed(PathId(text.parse().ok()?))),
            Some(("h", hash)) => is_of_names(hash).then(|| Self::Hashed(hash.to_owned())),
            Some(("n", rest)) => {
                let (id, name) = rest.split_once('.')?;
                is_of_names(name).then_some(Self::Named(name.to_owned(), PathId(id.parse().ok()?)))
            }
            Some(_) => None,
        };
        parse().ok_or_else(|| {
            AdminError::BadSetting(
                "`after` is not the `next` of an earlier answer; list from the beginning"
                    .to_owned(),
            )
        })
    }
}

/// Whether a text consists of characters that names of paths have.
fn is_of_names(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
    text.len() <= MAX_NAME_CHARS && text.bytes().all(allowed)
}

/// What is wanted of a cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameFilter<'p> {
    pattern: Option<&'p str>,
    prefix: &'p str,
}

impl<'p> NameFilter<'p> {
    pub(super) fn new(pattern: Option<&'p str>) -> Self {
        Self { pattern, prefix: pattern.map_or("", literal_prefix) }
    }

    /// Where to begin; `None` where nothing can fit.
    pub(super) fn start(&self) -> Option<PathCursor> {
        if self.prefix.is_empty() && self.pattern.is_none_or(|pattern| !pattern.is_empty()) {
            return Some(PathCursor::Pushed(PathId(0)));
        }
        is_of_names(self.prefix).then(|| PathCursor::Named(self.prefix.to_owned(), PathId(0)))
    }

    /// Where to go on when nothing is left behind `cursor`.
    pub(super) fn next_part(&self, cursor: &PathCursor) -> Option<PathCursor> {
        let PathCursor::Named(..) = cursor else { return None };
        let (hash, rest) = self.prefix.split_at(self.prefix.len().min(HASH_CHARS));
        let is_hash =
            StorePathHash::from_chars(format!("{hash:0<HASH_CHARS$}").as_bytes()).is_some();
        // The start is excluded: one character less of a whole hash part.
        let start = &hash[..hash.len().min(HASH_CHARS - 1)];
        (is_hash && (rest.is_empty() || rest.starts_with('-')))
            .then(|| PathCursor::Hashed(start.to_owned()))
    }

    /// Up to `limit` keys behind a cursor, in its order.
    pub(super) async fn keys(
        &self,
        exec: Exec<'_>,
        cache: CacheId,
        cursor: &PathCursor,
        limit: u32,
    ) -> Result<Vec<PathKey>, DbError> {
        // No character of a name is below the one or above the other of these ends.
        let is_whole = self.pattern == Some(self.prefix);
        let end = |prefix: &str| format!("{prefix}{}", if is_whole { ' ' } else { '\x7f' });
        match cursor {
            PathCursor::Pushed(id) => path_pages::in_order(exec, cache, *id, limit).await,
            PathCursor::Named(name, id) => {
                path_pages::by_name(exec, cache, (name, *id), &end(self.prefix), limit).await
            }
            PathCursor::Hashed(hash) => {
                let end = format!("{}\x7f", &self.prefix[..self.prefix.len().min(HASH_CHARS)]);
                path_pages::by_hash(exec, cache, hash, &end, limit).await
            }
        }
    }

    /// Whether a path that was found behind `cursor` is wanted, and was not found before.
    pub(super) fn fits(&self, cursor: &PathCursor, key: &PathKey) -> bool {
        let Some(pattern) = self.pattern else { return true };
        let (by_name, by_base) =
            (fits(pattern, key.store_path.name()), || fits(pattern, &key.store_path.base_name()));
        match cursor {
            PathCursor::Pushed(_) => by_name || by_base(),
            PathCursor::Named(..) => by_name,
            PathCursor::Hashed(_) => !by_name && by_base(),
        }
    }
}

impl PathCursor {
    /// Behind a path, in the same order.
    pub(super) fn behind(&self, key: &PathKey) -> Self {
        match self {
            Self::Pushed(_) => Self::Pushed(key.id),
            Self::Named(..) => Self::Named(key.store_path.name().to_owned(), key.id),
            Self::Hashed(_) => Self::Hashed(key.store_path.hash().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went_out() {
        let named = PathCursor::Named("hello-2.12+x?=".to_owned(), PathId(7));
        for cursor in [PathCursor::Pushed(PathId(12)), named, PathCursor::Hashed("0abc".to_owned())]
        {
            assert_eq!(cursor.to_string().parse::<PathCursor>().unwrap(), cursor);
        }
        for text in ["", "x", "n.", "n.x.y", "h.a\0", "n.1.a b", "x.1", "99999999999999999999"] {
            assert!(text.parse::<PathCursor>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_says_where_to_look() {
        let hash = "0123456789abcdfghijklmnpqrsvwxyz";
        let start = |pattern| NameFilter::new(pattern).start();
        assert_eq!(start(None), Some(PathCursor::Pushed(PathId(0))));
        assert_eq!(start(Some("*-2.12")), Some(PathCursor::Pushed(PathId(0))));
        assert_eq!(start(Some("abc*")), Some(PathCursor::Named("abc".to_owned(), PathId(0))));
        assert_eq!(start(Some("a b*")), None, "no name has a space");
        let part = |pattern: &str| {
            let wanted = NameFilter::new(Some(pattern));
            wanted.next_part(&wanted.start().unwrap()).map(|cursor| cursor.to_string())
        };
        assert_eq!(part("abc*").as_deref(), Some("h.abc"));
        assert_eq!(part("hello*"), None, "there is no e in a hash part");
        assert_eq!(part(&format!("{hash}-hello")).as_deref(), Some(&*format!("h.{}", &hash[..31])));
        assert_eq!(part(&format!("{hash}hello")), None);
        assert_eq!(NameFilter::new(None).next_part(&PathCursor::Pushed(PathId(9))), None);
    }
}

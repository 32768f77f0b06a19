//! Checked conversions between rows and domain types: what does not convert is a damaged row,
//! named.

use std::fmt::Display;
use std::str::FromStr;

use super::DbError;

/// A number as the database keeps it.
pub(super) fn to_db(number: u64) -> Result<i64, DbError> {
    i64::try_from(number).map_err(|_| DbError::TooLarge(number))
}

/// A number that cannot be negative or too large for where it goes.
pub(super) fn number<T: TryFrom<i64>>(column: &str, value: i64) -> Result<T, DbError> {
    T::try_from(value).map_err(|_| DbError::corrupt(format!("{column} is {value}")))
}

/// Bytes of a fixed length.
pub(super) fn bytes<const N: usize>(column: &str, value: &[u8]) -> Result<[u8; N], DbError> {
    value
        .try_into()
        .map_err(|_| DbError::corrupt(format!("{column} has {} bytes, not {N}", value.len())))
}

/// A text with a grammar.
pub(super) fn text<T>(column: &str, value: &str) -> Result<T, DbError>
where
    T: FromStr,
    T::Err: Display,
{
    value.parse().map_err(|error: T::Err| DbError::corrupt(format!("{column}: {error}")))
}

/// Texts with a grammar and spaces between them; the empty text is no texts.
pub(super) fn words<T>(column: &str, value: &str) -> Result<Vec<T>, DbError>
where
    T: FromStr,
    T::Err: Display,
{
    value.split_ascii_whitespace().map(|word| text(column, word)).collect()
}

/// The opposite of [`words`].
pub(super) fn join<T: Display>(words: &[T]) -> String {
    words.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

//! Lists of any length, in statements of few shapes.
//!
//! Both engines bound the variables of a statement (32,766 and 65,535), and both prepare a
//! statement once per text. So a list is cut into batches of 1, 8, 64 or 512: for an `IN` list the
//! last batch is filled up with its last element, which changes nothing; for `VALUES` it is cut
//! into smaller batches that fit exactly.

use std::fmt::Write;

use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};

/// The sizes that batches have, largest first.
const SIZES: [usize; 4] = [512, 64, 8, 1];

/// A batch for an `IN` list: the elements, and how many placeholders to write.
pub(super) struct PaddedBatch<'a, T> {
    items: &'a [T],
    size: usize,
}

impl<'a, T> PaddedBatch<'a, T> {
    /// As many elements as placeholders; the last element repeats.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a T> + use<'a, T> {
        self.items.iter().chain(self.items.last().into_iter().cycle()).take(self.size)
    }

    /// Placeholders from `$first` on, such as `$2,$3,$4`.
    pub(super) fn placeholders(&self, first: usize) -> String {
        placeholders(first, self.size)
    }

    /// How many placeholders there are.
    pub(super) const fn len(&self) -> usize {
        self.size
    }

    /// A row for each element, from `$first` on, such as `($1),($2)`.
    pub(super) fn values(&self, first: usize) -> String {
        let mut values = String::with_capacity(self.size * 7);
        for number in first..first + self.size {
            let comma = if number == first { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(values, "{comma}(${number})");
        }
        values
    }

    /// A query for the ids of `table` under the elements, bound from `$first` on: those of the rows
    /// `x` that fulfil `scope` and whose `key` is the element; NULL where there is none.
    ///
    /// An index over what `scope` names and `key` answers one element after the other, whatever the
    /// engine knows of the table: with an `IN` list over `key`, PostgreSQL reads all that is in
    /// scope until its statistics say how much that is.
    pub(super) fn ids(&self, table: &str, scope: &str, key: &str, first: usize) -> String {
        let values = self.values(first);
        format!(
            "SELECT (SELECT x.id FROM {table} x WHERE {scope} AND x.{key} = q.column1) FROM \
             (VALUES {values}) AS q"
        )
    }
}

/// Cuts a list into batches for `IN` lists.
pub(super) fn padded<T>(items: &[T]) -> impl Iterator<Item = PaddedBatch<'_, T>> {
    items.chunks(SIZES[0]).map(|items| {
        let size = SIZES.into_iter().rev().find(|size| *size >= items.len()).unwrap_or(SIZES[0]);
        PaddedBatch { items, size }
    })
}

/// Cuts a list into batches for `VALUES`, each exactly of one of the sizes.
pub(super) fn exact<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= items.len())?;
        let (batch, rest) = items.split_at(size);
        items = rest;
        Some(batch)
    })
}

/// `count` placeholders from `$first` on.
fn placeholders(first: usize, count: usize) -> String {
    let mut out = String::with_capacity(count * 5);
    for number in first..first + count {
        let comma = if number == first { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(out, "{comma}${number}");
    }
    out
}

/// `rows` rows of placeholders for `VALUES`, each of `columns`: `($1,$2),($3,$4)`.
pub(super) fn rows(columns: usize, rows: usize) -> String {
    (0..rows)
        .map(|row| format!("({})", placeholders(1 + row * columns, columns)))
        .collect::<Vec<_>>()
        .join(",")
}

/// All rows that `$select`, a statement that ends in `… IN`, gives for the ids of `$table` under
/// `$keys`, within the scope that `$owner` (bound as `$1`) names; see [`PaddedBatch::ids`]. For the
/// body of `on_either!`.
macro_rules! rows_by_key {
    (
        $conn:ident, $select:expr, $table:literal, $scope:expr, $owner:expr, $column:literal,
        $keys:expr, |$key:ident| $value:expr
    ) => {{
        let mut rows = Vec::new();
        for batch in $crate::db::batch::padded($keys) {
            let sql = format!("{} ({})", $select, batch.ids($table, $scope, $column, 2));
            let mut query = sqlx::query_as($conn.text(sql)).bind($owner);
            for $key in batch.iter() {
                query = query.bind($value);
            }
            rows.extend(query.fetch_all(&mut *$conn).await?);
        }
        rows
    }};
}
pub(super) use rows_by_key;

/// How an engine likes the text of a long statement.
pub(super) trait Engine {
    /// `sql`, whose placeholders count from `$1` on in the order of the text.
    fn text(&self, sql: String) -> AssertSqlSafe<String>;
}

impl Engine for PgConnection {
    fn text(&self, sql: String) -> AssertSqlSafe<String> {
        AssertSqlSafe(sql)
    }
}

impl Engine for SqliteConnection {
    /// To SQLite `$1` is a name, and names are searched from the first one on: in a statement of
    /// thousands that takes longer than the statement.
    fn text(&self, sql: String) -> AssertSqlSafe<String> {
        AssertSqlSafe(without_numbers(&sql).unwrap_or(sql))
    }
}

/// `sql` with `?` for each placeholder; `None` when they do not count up one by one, and so need
/// their numbers.
fn without_numbers(sql: &str) -> Option<String> {
    let mut parts = sql.split('$');
    let mut out = String::with_capacity(sql.len());
    out.push_str(parts.next()?);
    for (part, expected) in parts.zip(1_usize..) {
        let rest = part.trim_start_matches(|character: char| character.is_ascii_digit());
        if part[..part.len() - rest.len()].parse() != Ok(expected) {
            return None;
        }
        out.push('?');
        out.push_str(rest);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_placeholders_in_order_can_do_without_numbers() {
        assert_eq!(without_numbers("a = $1 AND b IN ($2,$3)").unwrap(), "a = ? AND b IN (?,?)");
        assert_eq!(without_numbers("SELECT 1").unwrap(), "SELECT 1");
        for needs_them in ["$2", "$1 $1", "$1 $3", "$2 $1", "$", "$1 $x"] {
            assert_eq!(without_numbers(needs_them), None, "{needs_them}");
        }
        let items: Vec<u32> = (0..20).collect();
        let ids = padded(&items).next().unwrap().ids("nars", "x.domain_id = $1", "nar_hash", 2);
        assert!(!without_numbers(&ids).unwrap().contains('$'));
        assert!(!without_numbers(&rows(13, 64)).unwrap().contains('$'));
    }

    #[test]
    fn a_padded_batch_repeats_its_last_element() {
        let items: Vec<u32> = (0..70).collect();
        let batches: Vec<_> = padded(&items).collect();
        assert_eq!(batches.len(), 1);
        let sent: Vec<u32> = batches[0].iter().copied().collect();
        assert_eq!(sent.len(), 512);
        assert_eq!(sent[..70], items[..]);
        assert!(sent[70..].iter().all(|item| *item == 69));
        assert_eq!(padded::<u32>(&[]).count(), 0);
    }

    #[test]
    fn exact_batches_hold_every_element_once() {
        let items: Vec<u32> = (0..1_097).collect();
        let sizes: Vec<usize> = exact(&items).map(<[u32]>::len).collect();
        assert_eq!(sizes, [512, 512, 64, 8, 1]);
        assert_eq!(exact(&items).flatten().copied().collect::<Vec<_>>(), items);
    }

    #[test]
    fn placeholders_count_on() {
        assert_eq!(padded(&[1, 2]).next().unwrap().placeholders(2), "$2,$3,$4,$5,$6,$7,$8,$9");
        assert_eq!(rows(2, 2), "($1,$2),($3,$4)");
        assert_eq!(
            padded(&[1]).next().unwrap().ids("nars", "x.domain_id = $1", "nar_hash", 2),
            "SELECT (SELECT x.id FROM nars x WHERE x.domain_id = $1 AND x.nar_hash = q.column1) \
             FROM (VALUES ($2)) AS q"
        );
    }
}

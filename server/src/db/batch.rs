//! Lists of any length, in statements of few shapes.
//!
//! Both engines bound the variables of a statement (32,766 and 65,535), and both prepare a statement once per text. So a
//! list is cut into batches of 1, 8, 64 or 512: for an `IN` list the last batch is filled up with its last element, which
//! changes nothing; for `VALUES` it is cut into smaller batches that fit exactly.

use std::fmt::Write;

/// The sizes that batches have, largest first.
const SIZES: [usize; 4] = [512, 64, 8, 1];

/// A batch for an `IN` list: the elements, and how many placeholders to write.
pub(super) struct Padded<'a, T> {
    items: &'a [T],
    size: usize,
}

impl<'a, T> Padded<'a, T> {
    /// As many elements as placeholders; the last element repeats.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a T> + use<'a, T> {
        self.items.iter().chain(self.items.last().into_iter().cycle()).take(self.size)
    }

    /// Placeholders from `$first` on, such as `$2,$3,$4`.
    pub(super) fn placeholders(&self, first: usize) -> String {
        placeholders(first, self.size)
    }
}

/// Cuts a list into batches for `IN` lists.
pub(super) fn padded<T>(items: &[T]) -> impl Iterator<Item = Padded<'_, T>> {
    items.chunks(SIZES[0]).map(|items| {
        let size = SIZES.into_iter().rev().find(|size| *size >= items.len()).unwrap_or(SIZES[0]);
        Padded { items, size }
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
    (0..rows).map(|row| format!("({})", placeholders(1 + row * columns, columns))).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}

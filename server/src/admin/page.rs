//! How long one answer of a listing may be: its JSON, whatever stands in the rows; and how many
//! rows listings look at.

use std::io;

use serde::Serialize;

/// Bytes of JSON of the items of one page.
pub(super) const MAX_PAGE_BYTES: usize = 1000 << 10;

/// How many of `items`, from the first on, fit into one page; the first one always does.
pub(super) fn fitting<'i, T: Serialize + 'i>(items: impl IntoIterator<Item = &'i T>) -> usize {
    let mut room = Room(MAX_PAGE_BYTES);
    let fits = |item: &T| serde_json::to_writer(&mut room, item).is_ok();
    items.into_iter().map(fits).take_while(|fits| *fits).count().max(1)
}

/// Cuts a page to what fits; whether something was cut off.
pub(super) fn cut<T: Serialize>(items: &mut Vec<T>) -> bool {
    let fitting = fitting(&*items);
    let is_cut = fitting < items.len();
    items.truncate(fitting);
    is_cut
}

/// Counts rows that were looked at for a listing.
pub(super) fn count_rows(rows: usize) {
    metrics::counter!("snowbank_listing_rows_total").increment(rows as u64);
}

/// Counts what is written to it, and takes no more than there is room for.
struct Room(usize);

impl io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_where_its_json_is_too_long() {
        // A control character is six in JSON.
        let mut items = vec!["\u{1}".repeat(MAX_PAGE_BYTES / 29); 10];
        assert!(cut(&mut items));
        assert_eq!(items.len(), 4, "five of them and their quotes are too long");
        assert!(!cut(&mut items));
        let mut one = vec!["x".repeat(2 * MAX_PAGE_BYTES)];
        assert!(!cut(&mut one), "a page that is not empty goes on");
        assert!(!cut(&mut Vec::<String>::new()));
    }
}

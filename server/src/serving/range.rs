//! The `Range` header for one representation of known length (RFC 9110, part 14).

use std::ops::Range;

/// What a `Range` header asks of a body of known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeRequest {
    /// No range, one that is not understood, or several: the whole body, as the RFC allows.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// A range that lies outside of the body.
    Unsatisfiable,
}

/// Reads `header` (the value of `Range`) for a body of `length` bytes.
#[must_use]
pub fn parse_range(header: Option<&str>, length: u64) -> RangeRequest {
    let Some(spec) = header.and_then(|value| value.trim().strip_prefix("bytes=")) else {
        return RangeRequest::Whole;
    };
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else {
        return RangeRequest::Whole;
    };
    let number = |text: &str| -> Option<Option<u64>> {
        let text = text.trim();
        if text.is_empty() {
            return Some(None);
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // More digits than a u64 has are beyond every length.
        Some(Some(text.parse().unwrap_or(u64::MAX)))
    };
    match (number(first), number(last)) {
        (Some(Some(first)), Some(last)) => {
            if last.is_some_and(|last| last < first) {
                return RangeRequest::Whole;
            }
            if first >= length {
                return RangeRequest::Unsatisfiable;
            }
            let end = last.map_or(length, |last| last.saturating_add(1).min(length));
            RangeRequest::Part(first..end)
        }
        (Some(None), Some(Some(suffix))) => {
            if suffix == 0 || length == 0 {
                return RangeRequest::Unsatisfiable;
            }
            RangeRequest::Part(length.saturating_sub(suffix)..length)
        }
        _ => RangeRequest::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::RangeRequest::{Part, Unsatisfiable, Whole};
    use super::parse_range;

    #[test]
    fn ranges_within_the_body_are_taken() {
        assert_eq!(parse_range(Some("bytes=0-0"), 10), Part(0..1));
        assert_eq!(parse_range(Some("bytes=3-"), 10), Part(3..10));
        assert_eq!(parse_range(Some("bytes=3-99"), 10), Part(3..10));
        assert_eq!(parse_range(Some("bytes=-4"), 10), Part(6..10));
        assert_eq!(parse_range(Some("bytes=-40"), 10), Part(0..10));
    }

    #[test]
    fn ranges_outside_are_refused() {
        assert_eq!(parse_range(Some("bytes=10-"), 10), Unsatisfiable);
        assert_eq!(parse_range(Some("bytes=99999999999999999999-"), 10), Unsatisfiable);
        assert_eq!(parse_range(Some("bytes=-0"), 10), Unsatisfiable);
        assert_eq!(parse_range(Some("bytes=0-"), 0), Unsatisfiable);
    }

    #[test]
    fn what_is_not_one_range_gives_the_whole_body() {
        for header in [
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=0-1,3-4",
            "lines=1-2",
            "bytes=+1-2",
        ] {
            assert_eq!(parse_range(Some(header), 10), Whole, "{header}");
        }
        assert_eq!(parse_range(None, 10), Whole);
    }
}

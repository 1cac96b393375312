//! Page tokens: where the next page begins, and for which filters it was asked.

use crate::api::status::ServiceError;
use crate::domain::digest::Digest;

/// Where a page begins: a number that grows along the list, and a second one among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cursor(pub(super) i64, pub(super) u64);

fn fingerprint(filters: &[u8]) -> String {
    Digest::of(filters).to_string().get(..16).unwrap_or_default().to_owned()
}

/// The token of the page that begins after a cursor. `filters` are the request's bytes without its paging.
pub(super) fn token(after: Cursor, filters: &[u8]) -> String {
    format!("{}.{}.{}", after.0, after.1, fingerprint(filters))
}

/// The cursor of a token; `None` for the first page.
pub(super) fn cursor(token: &str, filters: &[u8]) -> Result<Option<Cursor>, ServiceError> {
    if token.is_empty() {
        return Ok(None);
    }
    let mut parts = token.splitn(3, '.');
    let first = parts.next().and_then(|text| text.parse().ok());
    let second = parts.next().and_then(|text| text.parse().ok());
    // Only what was given is taken: numbers can be written in other ways, too.
    let cursor = first.zip(second).map(|(first, second)| Cursor(first, second));
    let given = cursor.filter(|cursor| self::token(*cursor, filters) == token);
    given.map(Some).ok_or(ServiceError::BadPageToken)
}

/// The page size asked for, within limits.
pub(super) fn size(asked: u32, most: usize) -> usize {
    match asked {
        0 => 100,
        asked => most.min(asked as usize),
    }
}

/// Cuts a list, of which one more than the page was taken, to the page; its last, if more follow.
pub(super) fn cut<T>(found: &mut Vec<T>, size: usize) -> Option<&T> {
    let more = found.len() > size;
    found.truncate(size);
    found.last().filter(|_| more)
}

#[cfg(test)]
#[path = "../../fuzz/pages.rs"]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_that_was_given_is_taken() {
        let given = token(Cursor(-5, 17), b"filters");
        assert!(matches!(cursor(&given, b"filters"), Ok(Some(Cursor(-5, 17)))));
        for other in [given.replace("17", "+17"), given.replace("-5", "-05"), given.replace(".17", "")] {
            assert!(matches!(cursor(&other, b"filters"), Err(ServiceError::BadPageToken)), "{other}");
        }
        assert!(cursor(&given, b"others").is_err());
    }
}

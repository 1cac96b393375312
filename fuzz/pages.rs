//! Page tokens: one that is taken is the one that was given.

use super::{cursor, fingerprint, token};

crate::fuzz::target!(pages, check);

fn check(bytes: &[u8]) {
    let Some([text, filters]) = crate::fuzz::parts(bytes) else { return };
    let filters = filters.as_bytes();
    for token_given in [text.clone(), format!("{text}.{}", fingerprint(filters))] {
        match cursor(&token_given, filters) {
            Ok(None) => assert!(token_given.is_empty()),
            Ok(Some(after)) => {
                assert_eq!(token(after, filters), token_given);
                assert!(cursor(&token_given, b"other filters").is_err());
            }
            Err(_) => assert!(!token_given.is_empty()),
        }
    }
}

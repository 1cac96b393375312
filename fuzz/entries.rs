//! Journal entries: what is read as one is written as the same bytes would be, and nothing of it is lost.

use prost::Message as _;

use super::{DecodeError, decode, encode, pb};

crate::fuzz::target!(entries, check);

fn check(bytes: &[u8]) {
    let entry = match decode(bytes) {
        Ok(entry) => entry,
        Err(DecodeError::Malformed(_)) => return assert!(pb::Entry::decode(bytes).is_err()),
        Err(DecodeError::Field(field)) => return assert!(!field.is_empty()),
    };
    let again = encode(&entry);
    assert_eq!(decode(&again).as_ref(), Ok(&entry));
    let (read, written) = (pb::Entry::decode(bytes).unwrap(), pb::Entry::decode(&*again).unwrap());
    // Before 1970 a part of a second was once written as a negative one.
    if !format!("{read:?}").contains("nanos: -") {
        assert_eq!(read, written);
    }
}

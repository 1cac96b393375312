//! Journal entries: what is read as one is written as the same bytes would be, and nothing of it is lost.

use prost::Message as _;

use super::{DecodeError, decode, encode, pb};

crate::fuzz::target!(entries, check);

fn check(bytes: &[u8]) {
    let entry = match decode(bytes) {
        Ok(entry) => entry,
        Err(DecodeError::Malformed(_)) => return assert!(pb::Entry::decode(bytes).is_err()),
        // Longer with what is not known; shorter if it is spelled in another way, as a list that is not packed.
        Err(DecodeError::Newer) => return assert_ne!(pb::Entry::decode(bytes).unwrap().encoded_len(), bytes.len()),
        Err(DecodeError::Field(field)) => return assert!(!field.is_empty()),
    };
    let again = encode(&entry);
    assert_eq!(decode(&again).as_ref(), Ok(&entry));
    let (read, written) = (pb::Entry::decode(bytes).unwrap(), pb::Entry::decode(&*again).unwrap());
    // Before 1970 a part of a second was once written as a negative one.
    if !format!("{read:?}").contains("nanos: -") {
        assert_eq!(spelled_out(read), spelled_out(written));
    }
}

/// With its items column by column, and all locators, however they were stored.
fn spelled_out(mut entry: pb::Entry) -> pb::Entry {
    use pb::entry::Event;
    let items = match &mut entry.event {
        Some(Event::ItemsStaged(staged)) => staged.items.as_mut(),
        Some(Event::OrderApplied(order)) => order.items.as_mut(),
        Some(Event::OrderProposed(proposed)) => proposed.order.as_mut().and_then(|order| order.items.as_mut()),
        _ => None,
    };
    if let Some(items) = items {
        for run in items.runs.drain(..) {
            items.lines.extend((0..run.count).map(|more| run.line.wrapping_add(more)));
            items.locator_types.extend((0..run.count).map(|_| run.locator_type.clone()));
            items.resolutions.extend((0..run.count).map(|_| run.resolution));
        }
        items.locators.resize(items.ids.len(), String::new());
        let digits = |(locator, id): (&mut String, &u64)| *locator = id.to_string();
        items
            .locators
            .iter_mut()
            .zip(&items.ids)
            .filter(|(locator, id)| locator.is_empty() && **id != 0)
            .for_each(digits);
    }
    entry
}

//! Lists of items and of ids, as CSV.

use super::{ListFile, TYPES, items};
use crate::pb::v1 as pb;

crate::fuzz::target!(lists, check);

fn read(bytes: &[u8]) -> Result<Vec<pb::Item>, String> {
    items(&ListFile::of(bytes.to_vec(), &[&["locator_type", "locator"], TYPES.as_slice()].concat())?)
}

/// The same as another program would write them.
fn written(items: &[pb::Item]) -> Vec<u8> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["locator_type", "locator", "decline_reason"]).unwrap();
    for item in items {
        csv.write_record([&item.locator_type, &item.locator, &item.decline_reason]).unwrap();
    }
    csv.into_inner().unwrap()
}

fn check(bytes: &[u8]) {
    let items = match read(bytes) {
        Ok(items) => items,
        Err(why) => return assert!(!why.is_empty()),
    };
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.split('\n').collect();
    let ends = items.iter().skip(1).map(|item| item.line as usize - 1).chain([lines.len()]);
    // Quotation marks may be taken out, and between bytes that are no characters they make of them others than without.
    let plain = |text: &str| text.chars().filter(|char| char.is_ascii() && *char != '"').collect::<String>();
    for (item, end) in items.iter().zip(ends) {
        // A locator begins in its row, which is where it is said to begin and ends before the next.
        let row = plain(&lines[item.line as usize - 1..end].join("\n"));
        let locator = plain(&item.locator.replace('\r', "\n"));
        let locator = locator.split('\n').next().unwrap_or_default();
        assert!(row.contains(locator), "`{locator}` is not in line {}: `{row}`", item.line);
    }
    // A row that is too wide is kept as one locator, which may have the end of a line within.
    if items.iter().any(|item| item.locator.trim_ascii().contains(['\r', '\n'])) {
        return;
    }
    // A row that has something only where no column has a name is an item without locator; written, it is a blank line.
    let blank =
        |item: &pb::Item| [&item.locator_type, &item.locator, &item.decline_reason].map(|t| t.trim_ascii()) == [""; 3];
    if items.iter().any(blank) {
        return;
    }
    assert_eq!(read(&written(&items)).map(without_lines), Ok(without_lines(items)));
}

fn without_lines(items: Vec<pb::Item>) -> Vec<pb::Item> {
    items.into_iter().map(|item| pb::Item { line: 0, ..item }).collect()
}

//! Reads lists: `locator_type,locator[,decline_reason]` with a header, or one locator a line.
//!
//! Lists come through people and spreadsheets. What is odd is sent as it is, with its line number, for the service to
//! record as unresolved; only a file that is no text at all is refused.

use std::path::Path;

use super::error::CliError;
use crate::pb::v1 as pb;

/// The items of a list file.
pub(super) fn read(path: &Path) -> Result<Vec<pb::Item>, CliError> {
    let bytes = std::fs::read(path)
        .map_err(|error| CliError::usage(format!("the list `{}` cannot be read: {error}", path.display())))?;
    let items = parse(&bytes).map_err(|why| CliError::usage(format!("the list `{}` {why}", path.display())))?;
    if items.is_empty() {
        return Err(CliError::usage(format!("the list `{}` has no items", path.display())));
    }
    Ok(items)
}

fn parse(bytes: &[u8]) -> Result<Vec<pb::Item>, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("is UTF-16: save it as CSV in UTF-8".to_owned());
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let (mut items, mut columns, mut first) = (Vec::new(), false, true);
    let mut lines = Lines { bytes, seen: 0, line: 1 };
    for row in reader.byte_records() {
        let row = row.map_err(|error| format!("is not CSV: {error}"))?;
        let line = lines.of(row.position().map_or(0, csv::Position::byte));
        let field = |at: usize| String::from_utf8_lossy(row.get(at).unwrap_or_default()).into_owned();
        if std::mem::take(&mut first) && field(0).trim() == "locator_type" {
            if field(1).trim() != "locator" {
                return Err("begins with `locator_type`, but its second column is not `locator`".to_owned());
            }
            columns = true;
            continue;
        }
        if row.iter().all(|field| field.trim_ascii().is_empty()) {
            continue;
        }
        let (locator_type, locator, decline_reason) = if columns {
            (field(0), field(1), field(2))
        } else {
            (guess(&field(0)).to_owned(), field(0), String::new())
        };
        items.push(pb::Item { locator_type, locator, line, decline_reason });
    }
    Ok(items)
}

/// Finds the line a row begins at: the reader's own count is that of the blank lines before it.
struct Lines<'a> {
    bytes: &'a [u8],
    seen: usize,
    line: u32,
}

impl Lines<'_> {
    fn of(&mut self, byte: u64) -> u32 {
        let from = usize::try_from(byte).unwrap_or(usize::MAX);
        let blank = self.bytes.iter().skip(from).take_while(|b| matches!(b, b'\r' | b'\n')).count();
        let start = from.saturating_add(blank);
        let passed = self.bytes.get(self.seen..start).unwrap_or_default();
        let lines = passed.iter().filter(|b| **b == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.seen = start;
        self.line
    }
}

/// The type of a bare locator, by its looks; the service still decides what it names.
fn guess(locator: &str) -> &'static str {
    let locator = locator.trim();
    match locator.as_bytes() {
        [b'@', ..] => "handle",
        [b'#', ..] => "hashtag",
        _ if locator.contains("://") => "url",
        _ => "account_id",
    }
}

/// Rows of `account_id[,…]` by line, every bad one named.
pub(super) fn accounts(path: &Path) -> Result<Vec<(u64, u64, String)>, CliError> {
    ids(path, &["account_id"]).map(|list| list.rows)
}

/// A list of ids: what its header says they are, and its rows by line, each with the second column.
pub(super) struct Ids {
    pub(super) header: Option<&'static str>,
    pub(super) rows: Vec<(u64, u64, String)>,
}

/// Rows whose first column is an id, every bad one named; a header is one of `headers`.
pub(super) fn ids(path: &Path, headers: &[&'static str]) -> Result<Ids, CliError> {
    let shown = path.display();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_path(path)
        .map_err(|error| CliError::usage(format!("the list `{shown}` cannot be read: {error}")))?;
    let (mut header, mut rows, mut bad) = (None, Vec::new(), Vec::new());
    for (at, row) in reader.records().enumerate() {
        let row = row.map_err(|error| CliError::usage(format!("the list `{shown}` is not CSV: {error}")))?;
        let line = row.position().map_or(0, csv::Position::line);
        let field =
            |at: usize| row.get(at).unwrap_or_default().trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        if at == 0 {
            header = headers.iter().copied().find(|header| field(0) == *header);
        }
        if (at == 0 && header.is_some()) || row.iter().all(|field| field.trim().is_empty()) {
            continue;
        }
        // Accounts' and posts' ids are written alike.
        match field(0).parse::<crate::domain::ids::AccountId>() {
            Ok(id) => rows.push((line, id.get(), field(1).to_owned())),
            Err(why) => bad.push(format!("line {line}: `{}`: {why}", field(0))),
        }
    }
    match (bad.is_empty(), rows.is_empty()) {
        (false, _) => Err(CliError::usage(format!("the list `{shown}` is not used:\n  {}", bad.join("\n  ")))),
        (true, true) => Err(CliError::usage(format!("the list `{shown}` has no ids"))),
        (true, false) => Ok(Ids { header, rows }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hurried_list_is_read_line_by_line() {
        let items = parse(include_bytes!("../../tests/scenario/hurried.items.csv")).unwrap();
        assert_eq!(items.len(), 14);
        assert_eq!(items[0].locator, " 700000000000000001 ");
        assert_eq!((items[13].line, items[13].locator.as_str()), (15, "#"));
    }

    #[test]
    fn odd_files_are_read_as_they_are_or_refused() {
        let read = |text: &[u8]| {
            parse(text).map(|items| items.into_iter().map(|i| (i.line, i.locator_type, i.locator)).collect::<Vec<_>>())
        };
        let row = |line, kind: &str, locator: &str| (line, kind.to_owned(), locator.to_owned());
        assert_eq!(
            read(b"\xef\xbb\xbf7\r\n\r\n@someone\r\nhttps://x.com/i/user/8\n#tag\n"),
            Ok(vec![
                row(1, "account_id", "7"),
                row(3, "handle", "@someone"),
                row(4, "url", "https://x.com/i/user/8"),
                row(5, "hashtag", "#tag"),
            ])
        );
        assert_eq!(
            read(b"locator_type,locator\naccount_id\nurl,a,b,c\n"),
            Ok(vec![row(2, "account_id", ""), row(3, "url", "a")])
        );
        assert!(read(b"\xff\xfe7\0").unwrap_err().contains("UTF-16"));
        assert!(read(b"locator_type,id\n").unwrap_err().contains("second column"));
    }

    #[test]
    fn the_header_of_a_list_of_ids_says_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let file = dir.path().join("list.csv");
            std::fs::write(&file, text).unwrap();
            let list = ids(&file, &["account_id", "post_id"]).map_err(|error| format!("{error:?}"))?;
            Ok::<_, String>((list.header, list.rows.into_iter().map(|(_, id, _)| id).collect::<Vec<_>>()))
        };
        assert_eq!(read("post_id\n7\n8\n"), Ok((Some("post_id"), vec![7, 8])));
        assert_eq!(read("\u{feff}account_id,category\n7,journalist\n"), Ok((Some("account_id"), vec![7])));
        assert_eq!(read("7\n"), Ok((None, vec![7])));
        assert!(read("handle\n7\n").unwrap_err().contains("line 1: `handle`"));
        assert!(read("post_id\n").unwrap_err().contains("has no ids"));
    }
}

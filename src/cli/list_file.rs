//! Reads a list file as people and spreadsheets save it: with a header or without, columns between commas, semicolons or
//! tabs, and lines ended in any way. Knows nothing of what the columns mean.

use std::path::Path;

use super::error::CliError;

/// A list file, its header understood.
#[derive(Debug)]
pub(super) struct ListFile {
    bytes: Vec<u8>,
    separator: u8,
    header: Option<Vec<String>>,
}

/// A line with something in it.
pub(super) struct Row {
    /// Its number in the file, from 1.
    pub(super) line: u32,
    separator: char,
    fields: csv::ByteRecord,
}

impl ListFile {
    /// A file; its first line is a header if it has a column of a `known` name.
    pub(super) fn read(path: &Path, known: &[&str]) -> Result<Self, CliError> {
        let bytes = std::fs::read(path)
            .map_err(|error| CliError::usage(format!("the list `{}` cannot be read: {error}", path.display())))?;
        Self::of(bytes, known).map_err(|why| CliError::usage(format!("the list `{}` {why}", path.display())))
    }

    /// The same of its bytes.
    pub(super) fn of(mut bytes: Vec<u8>, known: &[&str]) -> Result<Self, String> {
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err("is UTF-16: save it as CSV in UTF-8".to_owned());
        }
        if bytes.contains(&0) {
            return Err("is no text: save it as CSV in UTF-8".to_owned());
        }
        if bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        let first = bytes.split(|b| matches!(b, b'\r' | b'\n')).find(|line| !line.trim_ascii().is_empty());
        let first = String::from_utf8_lossy(first.unwrap_or_default()).into_owned();
        let header = b",;\t".iter().find_map(|separator| Some((*separator, header(&first, *separator, known)?)));
        Ok(match header {
            Some((separator, header)) => Self { bytes, separator, header: Some(header) },
            None => Self { bytes, separator: b',', header: None },
        })
    }

    /// The names of the columns, in lower case with `_` between words.
    pub(super) fn header(&self) -> Option<&[String]> {
        self.header.as_deref()
    }

    /// The first line with something in it that is not UTF-8.
    pub(super) fn not_utf8(&self) -> Option<u32> {
        let error = std::str::from_utf8(&self.bytes).err()?;
        Some(Lines { bytes: &self.bytes, seen: 0, line: 1 }.of(error.valid_up_to()))
    }

    /// The lines below the header; those with nothing in them are left out.
    pub(super) fn rows(&self) -> impl Iterator<Item = Result<Row, String>> {
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.separator)
            .from_reader(self.bytes.as_slice());
        let mut lines = Lines { bytes: &self.bytes, seen: 0, line: 1 };
        let rows = reader.into_byte_records().skip(usize::from(self.header.is_some()));
        rows.filter_map(move |fields| {
            let fields = match fields {
                Ok(fields) => fields,
                Err(error) => return Some(Err(format!("is not CSV: {error}"))),
            };
            let from = fields.position().map_or(0, csv::Position::byte);
            let line = lines.of(usize::try_from(from).unwrap_or(usize::MAX));
            if fields.iter().all(|field| field.trim_ascii().is_empty()) {
                return None;
            }
            // A quotation mark that is never closed would swallow every line below it.
            if fields.iter().any(|field| field.trim_ascii().iter().any(|b| matches!(b, b'\r' | b'\n'))) {
                return Some(Err(format!("opens a quotation mark in line {line} that this line does not close")));
            }
            Some(Ok(Row { line, separator: self.separator.into(), fields }))
        })
    }
}

impl Row {
    /// A field as it is in the file; empty if there is none.
    pub(super) fn field(&self, at: usize) -> String {
        String::from_utf8_lossy(self.fields.get(at).unwrap_or_default()).into_owned()
    }

    /// How many fields it has, without empty ones at its end.
    pub(super) fn width(&self) -> usize {
        let mut fields = self.fields.iter();
        fields.rposition(|field| !field.trim_ascii().is_empty()).map_or(0, |at| at + 1)
    }

    /// From a field on to the end, as one.
    pub(super) fn rest(&self, from: usize) -> String {
        let fields: Vec<_> = (from..self.width()).map(|at| self.field(at)).collect();
        fields.join(&self.separator.to_string())
    }
}

/// The names in a header; `None` if the line is none: a header has a known name, and nothing but words.
fn header(line: &str, separator: u8, known: &[&str]) -> Option<Vec<String>> {
    let name = |field: &str| {
        let name = field.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\u{feff}'));
        name.to_lowercase().replace([' ', '-'], "_")
    };
    let names: Vec<String> = line.split(char::from(separator)).map(name).collect();
    let words = names.iter().all(|name| name.chars().all(|c| c.is_alphabetic() || c == '_'));
    (words && names.iter().any(|name| known.contains(&name.as_str()))).then_some(names)
}

/// Finds the line a row begins at: the reader's own count is that of the blank lines before it.
struct Lines<'a> {
    bytes: &'a [u8],
    seen: usize,
    line: u32,
}

impl Lines<'_> {
    fn of(&mut self, byte: usize) -> u32 {
        let blank = self.bytes.iter().skip(byte).take_while(|b| matches!(b, b'\r' | b'\n')).count();
        let start = byte.saturating_add(blank);
        let passed = self.bytes.get(self.seen..start).unwrap_or_default();
        let next = passed.iter().skip(1).chain(std::iter::once(&b' '));
        let lines =
            passed.iter().zip(next).filter(|(b, next)| **b == b'\n' || (**b == b'\r' && **next != b'\n')).count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.seen = start;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &[u8]) -> Result<Vec<(u32, Vec<String>)>, String> {
        let file = ListFile::of(text.to_vec(), &["id"])?;
        let fields = |row: Row| (row.line, (0..row.width()).map(|at| row.field(at)).collect());
        file.rows().map(|row| row.map(fields)).collect()
    }

    fn row(line: u32, fields: &[&str]) -> (u32, Vec<String>) {
        (line, fields.iter().map(|field| (*field).to_owned()).collect())
    }

    #[test]
    fn lines_are_counted_however_they_end() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["id,word", "", "7,a", "", "", "8,b", ""].join(end);
            assert_eq!(rows(text.as_bytes()), Ok(vec![row(3, &["7", "a"]), row(6, &["8", "b"])]), "{end:?}");
        }
    }

    #[test]
    fn a_header_is_known_by_its_names_and_tells_what_is_between_columns() {
        for text in
            ["id,word\n7,a\n", "\u{feff}ID;Word\n7;a\n", "\"id\"\t\"word\"\n7\ta\n", " Id , other word \n7,a,,\n"]
        {
            assert_eq!(rows(text.as_bytes()), Ok(vec![row(2, &["7", "a"])]), "{text}");
        }
        assert_eq!(rows(b"id,7\n"), Ok(vec![row(1, &["id", "7"])]));
        assert_eq!(rows(b"word\n7;8\n"), Ok(vec![row(1, &["word"]), row(2, &["7;8"])]));
    }

    #[test]
    fn what_is_no_text_or_swallows_lines_is_refused() {
        assert!(rows(b"\xff\xfe7\0").unwrap_err().contains("UTF-16"));
        assert!(rows(b"PK\x03\x04\0\0").unwrap_err().contains("no text"));
        assert!(rows(b"id,word\n7,\"a\n8,b\n9,c\n").unwrap_err().contains("in line 2"));
        assert_eq!(rows(b"id,word\n7,\"a, b\"\n"), Ok(vec![row(2, &["7", "a, b"])]));
        let not_utf8 = |text: &[u8]| ListFile::of(text.to_vec(), &["id"]).unwrap().not_utf8();
        assert_eq!((not_utf8(b"id\n7\n\xfc\n"), not_utf8("id\n7\nü\n".as_bytes())), (Some(3), None));
    }
}

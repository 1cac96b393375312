//! CSV that a spreadsheet can be trusted with.
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula, rounds long numbers and loses leading
//! zeros. So text as received that does not begin with a letter from A to Z gets an apostrophe in front. Whoever reads it
//! back takes one apostrophe off again where there is one: no text as received begins with one without having got another.

use crate::cli::error::CliError;
use crate::cli::output::Output;

/// Text as received, for a cell.
pub(super) fn received(text: &str) -> String {
    match text.chars().next() {
        None => String::new(),
        Some(first) if first.is_ascii_alphabetic() => text.to_owned(),
        Some(_) => format!("'{text}"),
    }
}

/// Prints records.
pub(super) fn print(records: impl IntoIterator<Item = Vec<String>>, out: &mut Output) -> Result<(), CliError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for record in records {
        writer.write_record(&record).map_err(CliError::runtime)?;
    }
    let text = writer.into_inner().map_err(|error| CliError::failed(error.to_string()))?;
    out.bytes(&text)
}

#[cfg(test)]
mod tests {
    use super::received;

    #[test]
    fn nothing_received_is_a_formula_or_a_number_and_all_of_it_can_be_read_back() {
        for text in [
            "=cmd|' /C calc'!A0",
            "+1",
            "-1",
            "@handle",
            "\t=1",
            "\r=1",
            "\n=1",
            " =1",
            "＝1",
            "'quoted",
            "''",
            "'",
            "1022611122105425723",
            "007",
            "1.36E+18",
            "#hashtag",
            "\u{feff}=1",
            "https://example.org/,\"x\"",
            "a;=1",
            "word",
            "",
        ] {
            let cell = received(text);
            assert_eq!(cell.strip_prefix('\'').unwrap_or(&cell), text);
            assert!(cell.is_empty() || cell.starts_with(|c: char| c == '\'' || c.is_ascii_alphabetic()), "{cell}");
        }
    }
}

//! Reads lists: items by `locator_type,locator[,decline_reason]` or one locator a line, and ids.
//!
//! Lists come through people and spreadsheets. What is odd is sent as it is, with its line number, for the service to
//! record as unresolved. **Never-guess**: a list of which it is not clear what its columns are is refused.

use std::path::Path;

use super::error::CliError;
use super::list_file::{ListFile, Row};
use super::output::say;
use crate::pb::v1 as pb;

/// What a locator may be; as the only column of a list, each says that of all its lines.
const TYPES: [&str; 5] = ["account_id", "post_id", "url", "handle", "hashtag"];

/// The items of a list file.
pub(super) fn read(path: &Path) -> Result<Vec<pb::Item>, CliError> {
    let shown = path.display();
    let file = ListFile::read(path, &[&["locator_type", "locator"], TYPES.as_slice()].concat())?;
    let items = items(&file).map_err(|why| CliError::usage(format!("the list `{shown}` {why}")))?;
    if items.is_empty() {
        return Err(CliError::usage(format!("the list `{shown}` has no items")));
    }
    if let Some(line) = file.not_utf8() {
        say(format!(
            "warning: the list `{shown}` is not UTF-8, first in line {line}: what cannot be read becomes `\u{fffd}`"
        ));
    }
    Ok(items)
}

/// Where an item's type is said.
#[derive(Clone, Copy)]
enum Kind {
    /// In a column.
    At(usize),
    /// In the header, for all items.
    Always(&'static str),
    /// Nowhere: by the locator's looks. The service still decides what it names.
    ByLooks,
}

/// Which column is which.
struct Columns {
    kind: Kind,
    locator: usize,
    decline_reason: Option<usize>,
    width: usize,
}

impl Columns {
    fn of(header: &[String]) -> Result<Self, String> {
        let at = |name: &str| header.iter().position(|column| column == name);
        let typed = TYPES.iter().find_map(|kind| Some((Kind::Always(kind), at(kind)?)));
        let located = at("locator").map(|locator| (at("locator_type").map_or(Kind::ByLooks, Kind::At), locator));
        let Some((kind, locator)) = located.or(typed) else {
            return Err("has a column `locator_type`, but none called `locator`".to_owned());
        };
        let columns = Self { kind, locator, decline_reason: at("decline_reason"), width: header.len() };
        let read = |at: usize| {
            at == columns.locator || columns.decline_reason == Some(at) || matches!(kind, Kind::At(kind) if at == kind)
        };
        match (0..).zip(header).find(|(at, name)| !name.is_empty() && !read(*at)) {
            None => Ok(columns),
            Some((_, name)) => Err(format!(
                "has a column `{name}`, which is none of locator_type, locator and decline_reason: rename it or take it out"
            )),
        }
    }

    /// A line with more fields than the header is kept whole, as a locator that names nothing.
    fn item(&self, row: &Row) -> pb::Item {
        let whole = row.width() > self.width;
        let locator = if whole { row.rest(self.locator) } else { row.field(self.locator) };
        let locator_type = match self.kind {
            Kind::At(at) => row.field(at),
            Kind::Always(kind) => kind.to_owned(),
            Kind::ByLooks => looks(&locator).to_owned(),
        };
        let decline_reason = self.decline_reason.filter(|_| !whole).map(|at| row.field(at)).unwrap_or_default();
        pb::Item { locator_type, locator, line: row.line, decline_reason }
    }
}

fn items(file: &ListFile) -> Result<Vec<pb::Item>, String> {
    if let Some(header) = file.header() {
        let columns = Columns::of(header)?;
        return file.rows().map(|row| Ok(columns.item(&row?))).collect();
    }
    let bare = Columns { kind: Kind::ByLooks, locator: 0, decline_reason: None, width: 1 };
    let item = |row: Row| match row.width() {
        0 | 1 => Ok(bare.item(&row)),
        _ => Err(format!(
            "has several columns in line {}, but no header: begin it with the line `locator_type,locator`",
            row.line
        )),
    };
    file.rows().map(|row| item(row?)).collect()
}

/// The type of a bare locator, by its looks.
fn looks(locator: &str) -> &'static str {
    let locator = locator.trim();
    match locator.as_bytes() {
        [b'@', ..] => "handle",
        [b'#', ..] => "hashtag",
        _ if locator.contains("://") => "url",
        _ => "account_id",
    }
}

/// Rows of `account_id[,category]` by line, every bad one named.
pub(super) fn accounts(path: &Path) -> Result<Vec<(u32, u64, String)>, CliError> {
    ids(path, &["account_id"]).map(|list| list.rows)
}

/// A list of ids: what its header says they are, and its rows by line, each with its category if it has one.
pub(super) struct Ids {
    pub(super) header: Option<&'static str>,
    pub(super) rows: Vec<(u32, u64, String)>,
}

/// Rows of ids, in the column called one of `subjects` or else in the first, every bad one named.
pub(super) fn ids(path: &Path, subjects: &[&'static str]) -> Result<Ids, CliError> {
    let refused = |why: String| CliError::usage(format!("the list `{}` {why}", path.display()));
    let file = ListFile::read(path, subjects)?;
    let at = |name: &str| file.header().and_then(|header| header.iter().position(|column| column == name));
    let subject = subjects.iter().find_map(|name| Some((*name, at(name)?)));
    let (id_at, category_at) = match subject {
        Some((_, id_at)) => (id_at, at("category")),
        None => (0, Some(1)),
    };
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    for row in file.rows() {
        let row = row.map_err(refused)?;
        let (id, category) = (row.field(id_at), category_at.map(|at| row.field(at)).unwrap_or_default());
        // Accounts' and posts' ids are written alike.
        match id.trim().parse::<crate::domain::ids::AccountId>() {
            Ok(id) => rows.push((row.line, id.get(), category.trim().to_owned())),
            Err(why) => bad.push(format!("line {}: `{}`: {why}", row.line, id.trim())),
        }
    }
    match (bad.is_empty(), rows.is_empty()) {
        (false, _) => Err(refused(format!("is not used:\n  {}", bad.join("\n  ")))),
        (true, true) => Err(refused("has no ids".to_owned())),
        (true, false) => Ok(Ids { header: subject.map(|(name, _)| name), rows }),
    }
}

#[cfg(test)]
#[path = "../../fuzz/lists.rs"]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    type Items = Vec<(u32, String, String, String)>;

    fn read(text: impl AsRef<[u8]>) -> Result<Items, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("list.csv");
        std::fs::write(&file, text).unwrap();
        let items = super::read(&file).map_err(|error| format!("{error:?}"))?;
        Ok(items.into_iter().map(|i| (i.line, i.locator_type, i.locator, i.decline_reason)).collect())
    }

    fn item(line: u32, kind: &str, locator: &str, reason: &str) -> (u32, String, String, String) {
        (line, kind.to_owned(), locator.to_owned(), reason.to_owned())
    }

    #[test]
    fn the_hurried_list_is_read_line_by_line() {
        let items = read(include_bytes!("../../tests/scenario/hurried.items.csv")).unwrap();
        assert_eq!(items.len(), 14);
        assert_eq!(items[0], item(2, "account_id", " 700000000000000001 ", ""));
        assert_eq!(items[13], item(15, "hashtag", "#", ""));
    }

    #[test]
    fn locators_one_a_line_are_typed_by_their_looks() {
        let expected = vec![
            item(1, "account_id", "7", ""),
            item(3, "handle", "@someone", ""),
            item(4, "url", "https://x.com/i/user/8", ""),
            item(5, "hashtag", "#tag", ""),
        ];
        assert_eq!(read(b"\xef\xbb\xbf7\r\n\r\n@someone\r\nhttps://x.com/i/user/8\n#tag\n"), Ok(expected));
    }

    #[test]
    fn a_header_says_what_the_columns_are_in_any_order_and_spelling() {
        for text in [
            "locator_type,locator\naccount_id,7\n",
            "Locator Type;LOCATOR\naccount_id;7\n",
            "locator\tlocator_type\n7\taccount_id\n",
            "\"locator-type\",\"locator\",\n\"account_id\",\"7\",\n",
            "account_id\n7\n",
            "locator\n7\n",
        ] {
            assert_eq!(read(text), Ok(vec![item(2, "account_id", "7", "")]), "{text}");
        }
        // Posts are not accounts because nobody says what they are.
        assert_eq!(read("post_id\n7\n"), Ok(vec![item(2, "post_id", "7", "")]));
        let declined = vec![item(2, "account_id", "7", "a, b")];
        assert_eq!(read("decline_reason,locator,locator_type\n\"a, b\",7,account_id\n"), Ok(declined));
    }

    #[test]
    fn an_odd_line_is_kept_as_it_is() {
        let expected = vec![item(2, "account_id", "", ""), item(3, "url", "a,b,c", "")];
        assert_eq!(read("locator_type,locator\naccount_id\nurl,a,b,c\n"), Ok(expected));
        let whole = vec![item(2, "account_id", "7,press, see memo", "")];
        assert_eq!(read("locator_type,locator,decline_reason\naccount_id,7,press, see memo\n"), Ok(whole));
        let latin = vec![item(2, "handle", "@m\u{fffd}ller", "")];
        assert_eq!(read(b"locator_type,locator\nhandle,@m\xfcller\n"), Ok(latin));
    }

    #[test]
    fn a_list_of_which_the_columns_are_not_clear_is_refused() {
        for (text, says) in [
            // Row numbers and thousands are no accounts.
            ("no,locator_type,locator\n1,account_id,7\n", "`no`"),
            ("1,account_id,7\n", "no header"),
            ("7\n1,022,611\n", "line 2"),
            // Notes are no reasons to decline, and a reason that is not read would be a withholding.
            ("locator_type,locator,notes\naccount_id,7,see page 3\n", "`notes`"),
            ("locator_type,locator,decline_resaon\naccount_id,7,press\n", "`decline_resaon`"),
            ("account_id,category\n7,journalist\n", "`category`"),
            ("locator_type,id\naccount_id,7\n", "none called `locator`"),
            ("locator_type,locator\naccount_id,\"7\naccount_id,8\n", "line 2"),
            ("locator_type,locator\n", "has no items"),
            ("", "has no items"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn the_header_of_a_list_of_ids_says_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let file = dir.path().join("list.csv");
            std::fs::write(&file, text).unwrap();
            let list = ids(&file, &["account_id", "post_id"]).map_err(|error| format!("{error:?}"))?;
            let rows = list.rows.into_iter().map(|(_, id, category)| (id, category)).collect::<Vec<_>>();
            Ok::<_, String>((list.header, rows))
        };
        let row = |id, category: &str| (id, category.to_owned());
        assert_eq!(read("post_id\n7\n8 \n"), Ok((Some("post_id"), vec![row(7, ""), row(8, "")])));
        let journalist = || Ok((Some("account_id"), vec![row(7, "journalist")]));
        assert_eq!(read("\u{feff}account_id,category\n7,journalist\n"), journalist());
        assert_eq!(read("Category;Account ID\njournalist;7\n"), journalist());
        assert_eq!(read("account_id,name,category\n7,somebody,journalist\n"), journalist());
        assert_eq!(read("7,journalist\n"), Ok((None, vec![row(7, "journalist")])));
        assert!(read("handle\n7\n").unwrap_err().contains("line 1: `handle`"));
        assert!(read("post_id\n").unwrap_err().contains("has no ids"));
    }
}

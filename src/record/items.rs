//! Lists as they are stored: column by column, and what is alike in them at once.
//!
//! Lists have up to a million lines, most of them an account's id in digits. So an id is stored once, and what most lines
//! have in common once for all of them: ten million take 92 MB of a journal instead of 460, and a start reads them in a
//! fraction of the time. Reads what was stored before that, too, and makes the same of it.

use super::{DecodeError, pb};
use crate::domain::ids::{AccountId, PostId, Subject};
use crate::domain::item::{Item, ItemChunk, Locator};
use crate::domain::locator::{Cause, Resolution, Unsupported};

type Result<T> = std::result::Result<T, DecodeError>;

/// The columns of a list.
pub(super) fn encode<'a>(list: impl Iterator<Item = Item<'a>>) -> pb::Items {
    let mut columns = pb::Items::default();
    for (at, item) in (0_u32..).zip(list) {
        let (resolution, id) = named(item.resolution);
        let resolution = i32::from(resolution);
        match columns.runs.last_mut() {
            Some(run)
                if run.line.wrapping_add(run.count) == item.line
                    && run.locator_type == item.locator_type
                    && run.resolution == resolution =>
            {
                run.count += 1;
            }
            _ => {
                let locator_type = item.locator_type.to_owned();
                columns.runs.push(pb::ItemRun { count: 1, line: item.line, locator_type, resolution });
            }
        }
        columns.ids.push(id);
        columns.locators.push(match item.locator {
            Locator::Digits(_) => String::new(),
            Locator::Text(text) => text.to_owned(),
        });
        if let Some(reason) = item.decline_reason {
            columns.decline_reasons.insert(at, reason.to_owned());
        }
    }
    if columns.locators.iter().all(String::is_empty) {
        columns.locators = Vec::new();
    }
    columns
}

fn named(resolution: Resolution) -> (pb::Resolution, u64) {
    use pb::Resolution as Pb;
    match resolution {
        Resolution::Subject(Subject::Account(id)) => (Pb::Account, id.get()),
        Resolution::Subject(Subject::Post(id)) => (Pb::Post, id.get()),
        Resolution::Unsupported(Unsupported::Hashtag) => (Pb::UnsupportedHashtag, 0),
        Resolution::Unresolved(cause) => (
            match cause {
                Cause::EmptyLocator => Pb::Empty,
                Cause::NotAnId => Pb::NotAnId,
                Cause::RoundedId => Pb::RoundedId,
                Cause::ZeroId => Pb::ZeroId,
                Cause::IdTooLarge => Pb::IdTooLarge,
                Cause::HandleNotResolvable => Pb::Handle,
                Cause::ForeignLink => Pb::ForeignLink,
                Cause::LinkNotUnderstood => Pb::LinkNotUnderstood,
                Cause::NotALink => Pb::NotALink,
                Cause::UnknownLocatorType => Pb::UnknownLocatorType,
            },
            0,
        ),
    }
}

/// A list from its columns.
///
/// # Errors
/// If they do not belong together.
pub(super) fn decode(columns: pb::Items) -> Result<ItemChunk> {
    if columns.decline_reasons.last_key_value().is_some_and(|(at, _)| *at as usize >= columns.ids.len()) {
        return Err(DecodeError::Field("decline_reasons"));
    }
    let chunk = if columns.runs.is_empty() { as_first(&columns)? } else { by_runs(&columns)? };
    Ok(chunk.complete())
}

fn by_runs(columns: &pb::Items) -> Result<ItemChunk> {
    let bad = || DecodeError::Field("items");
    let len = columns.ids.len();
    let first = [columns.lines.len(), columns.locator_types.len(), columns.resolutions.len()];
    if first != [0; 3] || !(columns.locators.is_empty() || columns.locators.len() == len) {
        return Err(bad());
    }
    let (mut chunk, mut at) = (ItemChunk::default(), 0);
    for run in &columns.runs {
        let ids = columns.ids.get(at..).and_then(|ids| ids.get(..run.count as usize));
        let ids = ids.filter(|ids| !ids.is_empty()).ok_or_else(bad)?;
        if columns.locators.is_empty() && columns.decline_reasons.is_empty() {
            let like = resolution(run.resolution, *ids.first().ok_or_else(bad)?)?;
            chunk.push_run(run.line, &run.locator_type, like, ids).ok_or(DecodeError::Field("ids"))?;
        } else {
            for (id, line) in ids.iter().zip(0..) {
                let line = run.line.wrapping_add(line);
                push(&mut chunk, columns, line, &run.locator_type, resolution(run.resolution, *id)?);
            }
        }
        at += ids.len();
    }
    if at == len { Ok(chunk) } else { Err(bad()) }
}

/// As they were written before there were runs.
fn as_first(columns: &pb::Items) -> Result<ItemChunk> {
    let lengths = [columns.locator_types.len(), columns.locators.len(), columns.resolutions.len(), columns.ids.len()];
    if lengths != [columns.lines.len(); 4] {
        return Err(DecodeError::Field("items"));
    }
    let mut chunk = ItemChunk::default();
    let resolved = columns.resolutions.iter().zip(&columns.ids);
    for ((line, locator_type), (code, id)) in columns.lines.iter().zip(&columns.locator_types).zip(resolved) {
        push(&mut chunk, columns, *line, locator_type, resolution(*code, *id)?);
    }
    Ok(chunk)
}

/// Adds the next item, with the locator and the reason that the columns have at its place.
fn push(chunk: &mut ItemChunk, columns: &pb::Items, line: u32, locator_type: &str, resolution: Resolution) {
    let at = chunk.len();
    let locator = Locator::of(columns.locators.get(at).map_or("", String::as_str), resolution);
    let reason = u32::try_from(at).ok().and_then(|at| columns.decline_reasons.get(&at));
    chunk.push(Item { line, locator_type, locator, resolution, decline_reason: reason.map(String::as_str) });
}

fn resolution(code: i32, id: u64) -> Result<Resolution> {
    use pb::Resolution as Pb;
    let bad = || DecodeError::Field("resolutions");
    let code = Pb::try_from(code).map_err(|_| bad())?;
    if id != 0 && !matches!(code, Pb::Account | Pb::Post) {
        return Err(DecodeError::Field("ids"));
    }
    let cause = match code {
        Pb::Unspecified => return Err(bad()),
        Pb::Account => return Ok(Resolution::Subject(Subject::Account(AccountId::try_from(id).map_err(|_| bad())?))),
        Pb::Post => return Ok(Resolution::Subject(Subject::Post(PostId::try_from(id).map_err(|_| bad())?))),
        Pb::UnsupportedHashtag => return Ok(Resolution::Unsupported(Unsupported::Hashtag)),
        Pb::Empty => Cause::EmptyLocator,
        Pb::NotAnId => Cause::NotAnId,
        Pb::RoundedId => Cause::RoundedId,
        Pb::ZeroId => Cause::ZeroId,
        Pb::IdTooLarge => Cause::IdTooLarge,
        Pb::Handle => Cause::HandleNotResolvable,
        Pb::ForeignLink => Cause::ForeignLink,
        Pb::LinkNotUnderstood => Cause::LinkNotUnderstood,
        Pb::NotALink => Cause::NotALink,
        Pb::UnknownLocatorType => Cause::UnknownLocatorType,
    };
    Ok(Resolution::Unresolved(cause))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::locator::Links;

    #[test]
    fn locators_that_are_ids_in_digits_are_not_written_twice() {
        let links = Links::builtin();
        let digits = [("account_id", "7"), ("account_id", "8"), ("post_id", "9")];
        let others = [("account_id", "007"), ("account_id", ""), ("url", "https://x.com/i/user/7"), ("handle", "7")];
        for (texts, written) in [
            (digits.to_vec(), vec![]),
            (others.to_vec(), vec!["007", "", "https://x.com/i/user/7", "7"]),
            ([digits, digits].concat(), vec![]),
            (digits.into_iter().chain(others).collect(), vec!["", "", "", "007", "", "https://x.com/i/user/7", "7"]),
        ] {
            let mut chunk = ItemChunk::default();
            for ((kind, text), line) in texts.iter().zip(u32::MAX - 1..=u32::MAX).chain(texts.iter().skip(2).zip(1..)) {
                chunk.receive(line, kind, text, None, &links);
            }
            let columns = encode(chunk.iter());
            assert_eq!(columns.locators, written);
            let read = decode(columns).unwrap();
            assert_eq!(read, chunk.complete());
            let received: Vec<_> = read.iter().map(|item| (item.locator_type, item.locator.to_string())).collect();
            assert_eq!(received, texts.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect::<Vec<_>>());
        }
    }

    #[test]
    fn columns_that_do_not_belong_together_are_refused_and_not_left_out() {
        let line = || pb::Items {
            lines: vec![1],
            locator_types: vec!["handle".to_owned()],
            locators: vec!["@a".to_owned()],
            resolutions: vec![pb::Resolution::Handle.into()],
            ids: vec![0],
            decline_reasons: [(0, "press".to_owned())].into(),
            runs: Vec::new(),
        };
        assert!(decode(line()).is_ok());
        let run = |count| pb::ItemRun {
            count,
            line: 1,
            locator_type: "handle".to_owned(),
            resolution: pb::Resolution::Handle.into(),
        };
        let in_runs = |counts: &[u32]| pb::Items {
            runs: counts.iter().map(|count| run(*count)).collect(),
            lines: Vec::new(),
            locator_types: Vec::new(),
            resolutions: Vec::new(),
            ..line()
        };
        assert_eq!(decode(in_runs(&[1])), decode(line()));
        let bare = |ids: &[u64]| pb::Items {
            ids: ids.to_vec(),
            locators: Vec::new(),
            decline_reasons: BTreeMap::new(),
            ..in_runs(&[1])
        };
        assert!(decode(bare(&[0])).is_ok());
        assert_eq!(decode(bare(&[7])), Err(DecodeError::Field("ids")));
        let twice = pb::Items { lines: vec![1], ..in_runs(&[1]) };
        let more = pb::Items { locators: vec![String::new(); 2], ..in_runs(&[1]) };
        for bad in [in_runs(&[2]), in_runs(&[1, 0]), in_runs(&[]), in_runs(&[1, u32::MAX]), bare(&[0, 0]), twice, more]
        {
            assert_eq!(decode(bad), Err(DecodeError::Field("items")));
        }
        let elsewhere = pb::Items { decline_reasons: [(1, "press".to_owned())].into(), ..line() };
        assert_eq!(decode(elsewhere), Err(DecodeError::Field("decline_reasons")));
        assert_eq!(decode(pb::Items { ids: vec![7], ..line() }), Err(DecodeError::Field("ids")));
    }
}

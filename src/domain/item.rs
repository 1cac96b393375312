//! The items of an order: what each line said, what it resolved to, and what was done about it.
//!
//! Lists have up to a million lines, so items are kept column by column and shared, never copied. **Never-guess**: a
//! line that does not resolve is kept as it was received.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::ids::{AccountId, PostId, Subject};
use super::locator::{Cause, Links, Resolution, Unsupported};
use super::protection::Category;
use super::share::Share;

/// Many short texts in one allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Texts {
    text: String,
    ends: Vec<u32>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    fn get(&self, at: usize) -> Option<&str> {
        let end = *self.ends.get(at)? as usize;
        let start = match at.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.text.get(start..end)
    }

    /// Adds empty ones until there are so many.
    fn fill(&mut self, len: usize) {
        let end = self.ends.last().copied().unwrap_or(0);
        self.ends.resize(len.max(self.ends.len()), end);
    }

    fn shrink_to_fit(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

/// A locator as it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locator<'a> {
    /// The id that it resolved to, in digits and nothing else.
    Digits(u64),
    /// Any other text.
    Text(&'a str),
}

impl<'a> Locator<'a> {
    /// This text, which resolved so. What resolved to an id has a text: none stands for its digits.
    #[must_use]
    pub fn of(text: &'a str, resolution: Resolution) -> Self {
        let may_be_digits = text.bytes().next().is_none_or(|first| matches!(first, b'1'..=b'9'));
        match subject_of(resolution).map(Subject::id) {
            Some(id) if may_be_digits && (text.is_empty() || text.parse() == Ok(id)) => Self::Digits(id),
            _ => Self::Text(text),
        }
    }
}

impl fmt::Display for Locator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digits(id) => id.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What a locator names, but for the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Account,
    Post,
    Unresolved(Cause),
    Unsupported(Unsupported),
}

impl Kind {
    const fn of(resolution: Resolution) -> Self {
        match resolution {
            Resolution::Subject(Subject::Account(_)) => Self::Account,
            Resolution::Subject(Subject::Post(_)) => Self::Post,
            Resolution::Unresolved(cause) => Self::Unresolved(cause),
            Resolution::Unsupported(what) => Self::Unsupported(what),
        }
    }

    /// With the id it has, if it has one.
    fn with(self, id: u64) -> Resolution {
        // Ids came out of subjects, so they are none.
        let none = |_| Resolution::Unresolved(Cause::ZeroId);
        match self {
            Self::Account => AccountId::try_from(id).map_or_else(none, |id| Resolution::Subject(Subject::Account(id))),
            Self::Post => PostId::try_from(id).map_or_else(none, |id| Resolution::Subject(Subject::Post(id))),
            Self::Unresolved(cause) => Resolution::Unresolved(cause),
            Self::Unsupported(what) => Resolution::Unsupported(what),
        }
    }
}

/// Lines one after another that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    /// The position of the first.
    from: u32,
    /// The line of the first; those of the others follow.
    line: u32,
    locator_type: Box<str>,
    kind: Kind,
}

impl Run {
    /// The line of a position that is in it.
    const fn line_at(&self, at: u32) -> u32 {
        self.line.wrapping_add(at.wrapping_sub(self.from))
    }
}

/// One line of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its line in the list as received.
    pub line: u32,
    /// As received.
    pub locator_type: &'a str,
    /// As received.
    pub locator: Locator<'a>,
    /// What it names.
    pub resolution: Resolution,
    /// Why the desk declines it, if it does.
    pub decline_reason: Option<&'a str>,
}

/// A part of a list, as it was uploaded together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemChunk {
    runs: Vec<Run>,
    /// Of those that resolved; 0 for the others.
    ids: Vec<u64>,
    /// Those that are not digits, up to the last of them; the others are empty, as only what does not resolve can be.
    locators: Texts,
    decline_reasons: BTreeMap<u32, String>,
}

impl ItemChunk {
    /// Adds a line as received, resolving it by what the platform's links look like.
    pub fn receive(&mut self, line: u32, locator_type: &str, locator: &str, decline: Option<&str>, links: &Links) {
        let resolution = links.resolve(locator_type, locator);
        let locator = Locator::of(locator, resolution);
        self.push(Item { line, locator_type, locator, resolution, decline_reason: decline });
    }

    /// Adds a line that was resolved before.
    pub fn push(&mut self, item: Item<'_>) {
        let at = self.len();
        if let (Some(reason), Ok(at)) = (item.decline_reason, u32::try_from(at)) {
            self.decline_reasons.insert(at, reason.to_owned());
        }
        if let Locator::Text(text) = item.locator
            && !text.is_empty()
        {
            self.locators.fill(at);
            self.locators.push(text);
        }
        self.begin(item.line, item.locator_type, Kind::of(item.resolution));
        self.ids.push(subject_of(item.resolution).map_or(0, Subject::id));
    }

    /// Adds lines that follow one another, of one type, that resolved alike, to these ids and in digits; those that did not
    /// resolve to 0, without a text. `None`, and nothing is added, if that cannot be.
    #[must_use]
    pub fn push_run(&mut self, line: u32, locator_type: &str, like: Resolution, ids: &[u64]) -> Option<()> {
        let resolved = subject_of(like).is_some();
        if ids.iter().any(|id| (*id != 0) != resolved) {
            return None;
        }
        self.begin(line, locator_type, Kind::of(like));
        self.ids.extend_from_slice(ids);
        Some(())
    }

    /// What comes next is so, if it is not like what is there.
    fn begin(&mut self, line: u32, locator_type: &str, kind: Kind) {
        let from = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        let like = |run: &Run| run.line_at(from) == line && *run.locator_type == *locator_type && run.kind == kind;
        if !self.runs.last().is_some_and(like) {
            self.runs.push(Run { from, line, locator_type: locator_type.into(), kind });
        }
    }

    /// Gives back the memory that was meant for more lines.
    #[must_use]
    pub fn complete(mut self) -> Self {
        self.runs.shrink_to_fit();
        self.ids.shrink_to_fit();
        self.locators.shrink_to_fit();
        self
    }

    /// How many lines it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The line at a position from 0.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<Item<'_>> {
        let id = *self.ids.get(at)?;
        let place = u32::try_from(at).ok()?;
        let run = self.runs.get(self.runs.partition_point(|run| run.from <= place).checked_sub(1)?)?;
        Some(Item {
            line: run.line_at(place),
            locator_type: &run.locator_type,
            locator: match self.locators.get(at).unwrap_or_default() {
                "" if id != 0 => Locator::Digits(id),
                text => Locator::Text(text),
            },
            resolution: run.kind.with(id),
            decline_reason: self.decline_reasons.get(&place).map(String::as_str),
        })
    }

    /// Each run: the position of its first line, what its lines name but for the ids, and those.
    fn runs(&self) -> impl Iterator<Item = (usize, Kind, &[u64])> + Clone {
        let ends = self.runs.iter().skip(1).map(|run| run.from as usize).chain([self.ids.len()]);
        self.runs.iter().zip(ends).map(|(run, end)| {
            let from = run.from as usize;
            (from, run.kind, self.ids.get(from..end).unwrap_or_default())
        })
    }

    /// All lines.
    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

/// A whole list: its parts, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Items {
    chunks: Vec<Arc<ItemChunk>>,
    len: usize,
}

impl Items {
    /// Adds a part at the end.
    pub fn push(&mut self, chunk: Arc<ItemChunk>) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push(chunk);
        }
    }

    /// How many lines it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The parts.
    pub fn chunks(&self) -> impl Iterator<Item = &Arc<ItemChunk>> {
        self.chunks.iter()
    }

    /// All lines.
    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    fn runs(&self) -> impl Iterator<Item = (usize, Kind, &[u64])> + Clone {
        let placed = self.chunks.iter().scan(0, |end, chunk| {
            let from = *end;
            *end += chunk.len();
            Some((from, chunk))
        });
        placed.flat_map(|(from, chunk)| chunk.runs().map(move |(at, kind, ids)| (from + at, kind, ids)))
    }

    /// What each line names, in order: for scans, which are quickest by `for_each` and what is made of it.
    pub fn resolutions(&self) -> impl Iterator<Item = Resolution> + Clone {
        self.runs().flat_map(|(_, kind, ids)| ids.iter().map(move |id| kind.with(*id)))
    }

    /// The same, each with whether the desk declines it.
    pub(super) fn with_declined(&self) -> impl Iterator<Item = (Resolution, bool)> {
        self.chunks.iter().flat_map(|chunk| {
            chunk.runs().flat_map(|(from, kind, ids)| {
                let declines = |at| chunk.decline_reasons.contains_key(&at);
                ids.iter().zip(from as u32..).map(move |(id, at)| (kind.with(*id), declines(at)))
            })
        })
    }

    /// The positions and ids of those lines of a share that name an account and were dealt with so that it is dark.
    pub(super) fn dark_accounts<'a>(
        &'a self,
        done: &'a [Disposition],
        share: Share,
    ) -> impl Iterator<Item = (u32, u64)> + Clone {
        self.dark_ids(Some(Kind::Account), done, share).map(|(position, _, id)| (position, id))
    }

    /// The same of posts.
    pub(super) fn dark_posts<'a>(
        &'a self,
        done: &'a [Disposition],
        share: Share,
    ) -> impl Iterator<Item = (u32, u64)> + Clone {
        self.dark_ids(Some(Kind::Post), done, share).map(|(position, _, id)| (position, id))
    }

    /// The positions and subjects of both, of all lines.
    pub(super) fn dark<'a>(&'a self, done: &'a [Disposition]) -> impl Iterator<Item = (u32, Subject)> + Clone {
        let subject = |(position, kind, id): (u32, Kind, u64)| Some((position, subject_of(kind.with(id))?));
        self.dark_ids(None, done, Share::ALL).filter_map(subject)
    }

    fn dark_ids<'a>(
        &'a self,
        only: Option<Kind>,
        done: &'a [Disposition],
        share: Share,
    ) -> impl Iterator<Item = (u32, Kind, u64)> + Clone {
        self.runs().filter(move |(_, kind, _)| only.is_none_or(|only| *kind == only)).flat_map(
            move |(from, kind, ids)| {
                let (before, ids) = share.after(from).of(ids);
                let from = from + before;
                let done = done.get(from..).unwrap_or_default();
                let dealt_with = ids.iter().zip(done).zip(from as u32..);
                dealt_with
                    .filter_map(move |((id, done), position)| done.takes_effect().then_some((position, kind, *id)))
            },
        )
    }

    /// The line at a position from 0.
    #[must_use]
    pub fn get(&self, mut at: usize) -> Option<Item<'_>> {
        for chunk in &self.chunks {
            if at < chunk.len() {
                return chunk.get(at);
            }
            at -= chunk.len();
        }
        None
    }
}

/// What was done about an item when its order was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disposition {
    /// Withheld in the order's territory.
    Withheld,
    /// Removed under the platform's own rules.
    RemovedOwnRules,
    /// Declined by the desk, for the reason the item carries.
    DeclinedByDesk,
    /// Declined because the account is protected.
    DeclinedProtected(Category),
    /// No action: it did not resolve.
    Unresolved,
    /// No action: it is nothing that can be withheld.
    Unsupported,
    /// No action: an earlier item names the same subject.
    Duplicate,
    /// Withheld although the account is protected, by the order's override.
    WithheldByOverride,
}

impl Disposition {
    /// Whether it makes its subject dark while the order is in force.
    #[must_use]
    pub const fn takes_effect(self) -> bool {
        matches!(self, Self::Withheld | Self::RemovedOwnRules | Self::WithheldByOverride)
    }
}

/// The subject of a resolution, if it has one.
#[must_use]
pub const fn subject_of(resolution: Resolution) -> Option<Subject> {
    match resolution {
        Resolution::Subject(subject) => Some(subject),
        Resolution::Unresolved(_) | Resolution::Unsupported(_) => None,
    }
}
